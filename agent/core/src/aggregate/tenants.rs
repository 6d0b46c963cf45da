//! What is known of tenants beside their cells: rejected events, and series that overflowed.
//!
//! A record for each tenant lies among the writer's wide cells, so that it outlives the
//! process. The records are a list: each names the one made before it, and the block's head
//! names the newest, which is stored when the record is complete. Their number is bounded;
//! tenants beyond it share the record with the empty name, and what does not even find room
//! for that is in the account of the input all the same.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use tollgate::cell::Room;
use tollgate_common::TenantId;
use tollgate_common::limits::TENANT_BYTES_MAX;

use super::account::bump;
use super::layout::WIDE_UNIT;
use super::room::FreeRoom;
use super::shared::{AT_TENANTS, Shared};
use super::words::{Put, get_bytes, put_bytes, words_for};
use super::{Region, Rejection};

/// Most tenants with a record of their own, for each writer.
pub(crate) const TENANTS_MAX: usize = 1024;

const AT_NEXT: usize = 0;
const AT_LENGTH: usize = 1;
const AT_NAME: usize = 2;
const AT_OVERFLOWED: usize = AT_NAME + words_for(TENANT_BYTES_MAX);
const AT_ACCEPTED: usize = AT_OVERFLOWED + 1;
const AT_SEALED: usize = AT_ACCEPTED + 1;
const AT_REJECTED: usize = AT_SEALED + 1; // plus the reason's code, which starts at 1
const AT_OVERFLOW_EVENTS: usize = WORDS as usize - 1;
/// Words of a record.
const WORDS: u32 = 40;
const _: () = assert!(AT_REJECTED + Rejection::ALL.len() < AT_OVERFLOW_EVENTS);

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TenantRecord {
    /// `None` for those without a record of their own.
    pub(crate) tenant: Option<TenantId>,
    /// Lookups of series that were counted without their dimensions.
    pub(crate) overflowed: u64,
    /// Events of series without their dimensions whose slots have gone to others since, and of
    /// those in earlier incarnations.
    pub(crate) overflow_events: u64,
    /// Events accepted by earlier incarnations.
    pub(crate) accepted: u64,
    /// Events sealed by them.
    pub(crate) sealed: u64,
    /// Rejected events, by the reason's code less one.
    pub(crate) rejected: [u64; Rejection::ALL.len()],
}

impl TenantRecord {
    /// Adds what another writer knows of the same tenant.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tenant.clone_from(&other.tenant);
        self.overflowed = self.overflowed.saturating_add(other.overflowed);
        self.overflow_events = self.overflow_events.saturating_add(other.overflow_events);
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.sealed = self.sealed.saturating_add(other.sealed);
        for (n, more) in self.rejected.iter_mut().zip(other.rejected) {
            *n = n.saturating_add(more);
        }
    }
}

fn parse(words: &[AtomicU64]) -> Option<TenantRecord> {
    let length = usize::try_from(words[AT_LENGTH].load(Relaxed)).ok()?;
    let name = (length <= TENANT_BYTES_MAX).then(|| get_bytes(&words[AT_NAME..], length))?;
    let name = String::from_utf8(name).ok()?;
    let word = |at: usize| words[at].load(Relaxed);
    Some(TenantRecord {
        tenant: match name.as_str() {
            "" => None,
            name => Some(TenantId::new(name).ok()?),
        },
        overflowed: word(AT_OVERFLOWED),
        overflow_events: word(AT_OVERFLOW_EVENTS),
        accepted: word(AT_ACCEPTED),
        sealed: word(AT_SEALED),
        rejected: std::array::from_fn(|code| word(AT_REJECTED + 1 + code)),
    })
}

/// The records of a writer, newest first; a damaged one ends the list.
pub(crate) fn records<R: Region>(
    shared: &Shared<R>,
    writer: u32,
) -> impl Iterator<Item = TenantRecord> {
    places(shared, writer).map(|(_, record)| record)
}

fn places<R: Region>(shared: &Shared<R>, writer: u32) -> impl Iterator<Item = (u32, TenantRecord)> {
    let heap = &shared.words()[shared.layout().wide(writer)];
    let mut next = shared.head(writer)[AT_TENANTS].load(Acquire);
    std::iter::from_fn(move || {
        let at = u32::try_from(next).ok().filter(|&at| at > 0)?;
        let words = heap.get(at as usize..at.checked_add(WORDS)? as usize)?;
        next = words[AT_NEXT].load(Relaxed);
        Some((at, parse(words)?))
    })
    .take(TENANTS_MAX + 1)
}

/// Where the records are.
#[derive(Default)]
pub(super) struct Tenants {
    places: HashMap<TenantId, u32, RandomState>,
    others: Option<u32>,
}

impl Tenants {
    /// Finds the records again; false if the list is damaged.
    pub(super) fn take_over<R: Region>(
        &mut self,
        shared: &Shared<R>,
        writer: u32,
        used: &mut Vec<(u32, u32)>,
    ) -> bool {
        let mut last = shared.head(writer)[AT_TENANTS].load(Relaxed);
        let heap = &shared.words()[shared.layout().wide(writer)];
        for (at, record) in places(shared, writer) {
            used.push((at, WORDS));
            if at % WIDE_UNIT != 0 {
                return false;
            }
            match record.tenant {
                Some(tenant) => drop(self.places.insert(tenant, at)),
                None => self.others = Some(at),
            }
            last = heap[at as usize + AT_NEXT].load(Relaxed);
        }
        last == 0
    }

    /// Makes a record, and then its place known.
    fn make<R: Region>(
        shared: &Shared<R>,
        writer: u32,
        room: &mut FreeRoom,
        name: &str,
    ) -> Option<u32> {
        let at = room.take(WORDS)?;
        let heap = &shared.words()[shared.layout().wide(writer)];
        let words = &heap[at as usize..][..WORDS as usize];
        let head = &shared.head(writer)[AT_TENANTS];
        for word in words {
            word.put(0, Relaxed);
        }
        words[AT_NEXT].put(head.load(Relaxed), Relaxed);
        words[AT_LENGTH].put(name.len() as u64, Relaxed);
        put_bytes(&words[AT_NAME..], name.as_bytes());
        head.put(at.into(), Release);
        Some(at)
    }

    fn place<R: Region>(
        &mut self,
        shared: &Shared<R>,
        writer: u32,
        room: &mut FreeRoom,
        tenant: &TenantId,
    ) -> Option<u32> {
        if let Some(&at) = self.places.get(tenant) {
            return Some(at);
        }
        if self.places.len() < TENANTS_MAX
            && let Some(at) = Self::make(shared, writer, room, tenant.as_str())
        {
            self.places.insert(tenant.clone(), at);
            return Some(at);
        }
        if self.others.is_none() {
            self.others = Self::make(shared, writer, room, "");
        }
        self.others
    }

    fn add<R: Region>(
        &mut self,
        (shared, writer): (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
        (at, n): (usize, u64),
    ) {
        if let Some(place) = self.place(shared, writer, room, tenant) {
            let heap = &shared.words()[shared.layout().wide(writer)];
            bump(&heap[place as usize + at], n);
        }
    }

    /// A series was looked up that has no slot of its own.
    pub(super) fn overflowed<R: Region>(
        &mut self,
        of: (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
    ) {
        self.add(of, room, tenant, (AT_OVERFLOWED, 1));
    }

    /// A series without its dimensions gives up its slot, in which it has counted `events`.
    pub(super) fn overflow_ended<R: Region>(
        &mut self,
        of: (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
        events: u64,
    ) {
        self.add(of, room, tenant, (AT_OVERFLOW_EVENTS, events));
    }

    /// Events of a tenant were rejected.
    pub(super) fn rejected<R: Region>(
        &mut self,
        of: (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
        (reason, n): (Rejection, u64),
    ) {
        self.add(of, room, tenant, (AT_REJECTED + reason as usize, n));
    }

    /// Puts a record of the life before at the start of a new one.
    pub(super) fn carry<R: Region>(
        &mut self,
        (shared, writer): (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
        record: &TenantRecord,
    ) {
        let rejected = (AT_REJECTED + 1..).zip(record.rejected);
        let others = [
            (AT_OVERFLOWED, record.overflowed),
            (AT_OVERFLOW_EVENTS, record.overflow_events),
            (AT_ACCEPTED, record.accepted),
            (AT_SEALED, record.sealed),
        ];
        for (at, n) in rejected.chain(others).filter(|&(_, n)| n > 0) {
            self.add((shared, writer), room, tenant, (at, n));
        }
    }
}
