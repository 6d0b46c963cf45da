//! What is known of tenants beside their cells: rejected events, and series that overflowed.
//!
//! A record for each tenant lies among the writer's wide cells, so that it outlives the
//! process. The records are a list: each names the one made before it, and the block's head
//! names the newest, which is stored when the record is complete. Their number is bounded;
//! tenants beyond it share the record with the empty name, and so do those that come when wide
//! cells have taken all the room: the shared record is made before there are any. Once a tenant
//! counts there, all that come later do, because one that got a record of its own after that
//! would have only a part of its events in it.
//!
//! A writer is an input's, so its records are the accounts of tenants at that input. What was
//! received for a tenant is counted there, before it is counted into a cell or rejected.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use tollgate::cell::{Room, receipt};
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
/// What was received is read last: an input counts it before it decides on an event.
pub(super) const AT_RECEIVED: usize = AT_OVERFLOW_EVENTS - 1;
const AT_INTERRUPTED: usize = AT_RECEIVED - 1;
/// 1 in a record of inputs that are no longer configured.
const AT_EARLIER: usize = AT_INTERRUPTED - 1;
/// 1 in the record without a name once it is a tenant's.
const AT_SHARED: usize = AT_EARLIER - 1;
const AT_OVERFLOW_EVENTS: usize = WORDS as usize - 1;
/// Words of a record.
pub(super) const WORDS: u32 = 40;
const _: () = assert!(AT_REJECTED + Rejection::ALL.len() < AT_SHARED);

/// A tenant's record among those of one writer, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u16);

impl Row {
    /// No record: only the account of the input tells.
    pub const NONE: Self = Self(u16::MAX);

    /// The number, for tables that keep numbers.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The row with a number. Any number is one; what is no row of a writer is left out by it.
    #[inline]
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }
}

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
    /// Events received, counted before they are decided on; without those below.
    pub(crate) received: u64,
    /// Events that were under way when earlier incarnations were killed.
    pub(crate) interrupted: u64,
    /// True for what inputs counted that are no longer configured.
    pub(crate) earlier: bool,
}

impl TenantRecord {
    /// Events rejected.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
            .iter()
            .fold(0, |n, &more| n.saturating_add(more))
    }

    /// Events rejected for this reason.
    pub(crate) fn rejected_for(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize - 1]
    }

    /// Adds what another writer knows of the same tenant.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tenant.clone_from(&other.tenant);
        self.overflowed = self.overflowed.saturating_add(other.overflowed);
        self.overflow_events = self.overflow_events.saturating_add(other.overflow_events);
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.sealed = self.sealed.saturating_add(other.sealed);
        self.received = self.received.saturating_add(other.received);
        self.interrupted = self.interrupted.saturating_add(other.interrupted);
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
        interrupted: word(AT_INTERRUPTED),
        earlier: word(AT_EARLIER) == 1,
        // Last, see there.
        received: receipt::read(&words[AT_RECEIVED]),
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
    .take(2 * (TENANTS_MAX + 1))
}

/// The rows of one kind.
#[derive(Default)]
struct Rows {
    of: HashMap<TenantId, Row, RandomState>,
    others: Option<Row>,
    /// Tenants count in the record of the others: nobody gets one of its own any more.
    shared: bool,
}

/// Where the records are.
#[derive(Default)]
pub(super) struct Tenants {
    current: Rows,
    /// Of inputs that are no longer configured.
    earlier: Rows,
    /// First word of each row's record, in the area of wide cells.
    places: Vec<u32>,
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
            let row = self.number(at);
            let rows = self.kind(record.earlier);
            if let Some(tenant) = record.tenant {
                rows.of.insert(tenant, row);
            } else {
                rows.others = Some(row);
                rows.shared = heap[at as usize + AT_SHARED].load(Relaxed) == 1;
            }
            last = heap[at as usize + AT_NEXT].load(Relaxed);
        }
        last == 0
    }

    /// Makes the record that tenants without one of their own share, while there is room.
    pub(super) fn reserve<R: Region>(&mut self, of: (&Shared<R>, u32), room: &mut FreeRoom) {
        if self.current.others.is_none() {
            self.current.others = self.make(of, room, "", false);
        }
    }

    fn kind(&mut self, earlier: bool) -> &mut Rows {
        if earlier {
            &mut self.earlier
        } else {
            &mut self.current
        }
    }

    /// Makes a record, and then its place known; says which row it is.
    fn make<R: Region>(
        &mut self,
        (shared, writer): (&Shared<R>, u32),
        room: &mut FreeRoom,
        name: &str,
        earlier: bool,
    ) -> Option<Row> {
        let at = room.take(WORDS)?;
        let heap = &shared.words()[shared.layout().wide(writer)];
        let words = &heap[at as usize..][..WORDS as usize];
        let head = &shared.head(writer)[AT_TENANTS];
        for word in words {
            word.put(0, Relaxed);
        }
        words[AT_NEXT].put(head.load(Relaxed), Relaxed);
        words[AT_LENGTH].put(name.len() as u64, Relaxed);
        words[AT_EARLIER].put(earlier.into(), Relaxed);
        put_bytes(&words[AT_NAME..], name.as_bytes());
        head.put(at.into(), Release);
        Some(self.number(at))
    }

    /// The number of the record at a place.
    fn number(&mut self, at: u32) -> Row {
        let row = u16::try_from(self.places.len()).map_or(Row::NONE, Row);
        self.places.push(at);
        row
    }

    /// The row of a tenant, made if it is new: that of the others where there is no room or was
    /// none before, and [`Row::NONE`] where there is not even room for theirs.
    pub(super) fn row<R: Region>(
        &mut self,
        of: (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: Option<&TenantId>,
        earlier: bool,
    ) -> Row {
        let rows = self.kind(earlier);
        if let Some(tenant) = tenant {
            if let Some(&row) = rows.of.get(tenant) {
                return row;
            }
            if !rows.shared
                && rows.of.len() < TENANTS_MAX
                && let Some(row) = self.make(of, room, tenant.as_str(), earlier)
            {
                self.kind(earlier).of.insert(tenant.clone(), row);
                return row;
            }
        }
        if self.kind(earlier).others.is_none() {
            let made = self.make(of, room, "", earlier);
            self.kind(earlier).others = made;
        }
        let Some(others) = self.kind(earlier).others else {
            return Row::NONE;
        };
        if tenant.is_some() && !std::mem::replace(&mut self.kind(earlier).shared, true) {
            self.put_in(of, others, (AT_SHARED, 1));
        }
        others
    }

    /// First word of the record of each row, in the area of wide cells.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    fn add<R: Region>(
        &mut self,
        (shared, writer): (&Shared<R>, u32),
        room: &mut FreeRoom,
        tenant: &TenantId,
        (at, n): (usize, u64),
    ) {
        let row = self.row((shared, writer), room, Some(tenant), false);
        self.add_in((shared, writer), row, (at, n));
    }

    fn add_in<R: Region>(
        &self,
        (shared, writer): (&Shared<R>, u32),
        row: Row,
        (at, n): (usize, u64),
    ) {
        if let Some(&place) = self.places.get(usize::from(row.0)) {
            let heap = &shared.words()[shared.layout().wide(writer)];
            bump(&heap[place as usize + at], n);
        }
    }

    fn put_in<R: Region>(
        &self,
        (shared, writer): (&Shared<R>, u32),
        row: Row,
        (at, value): (usize, u64),
    ) {
        if let Some(&place) = self.places.get(usize::from(row.0)) {
            let heap = &shared.words()[shared.layout().wide(writer)];
            heap[place as usize + at].put(value, Relaxed);
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
    pub(super) fn rejected_in<R: Region>(
        &self,
        of: (&Shared<R>, u32),
        row: Row,
        (reason, n): (Rejection, u64),
    ) {
        self.add_in(of, row, (AT_REJECTED + reason as usize, n));
    }

    /// Puts a record of the life before at the start of a new one.
    pub(super) fn carry<R: Region>(
        &mut self,
        of: (&Shared<R>, u32),
        room: &mut FreeRoom,
        record: &TenantRecord,
    ) {
        let row = self.row(of, room, record.tenant.as_ref(), record.earlier);
        let rejected = (AT_REJECTED + 1..).zip(record.rejected);
        let others = [
            (AT_OVERFLOWED, record.overflowed),
            (AT_OVERFLOW_EVENTS, record.overflow_events),
            (AT_ACCEPTED, record.accepted),
            (AT_SEALED, record.sealed),
            (AT_INTERRUPTED, record.interrupted),
            (AT_RECEIVED, record.received),
        ];
        for (at, n) in rejected.chain(others).filter(|&(_, n)| n > 0) {
            self.add_in(of, row, (at, n));
        }
    }
}
