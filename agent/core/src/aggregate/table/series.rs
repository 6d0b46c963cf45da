//! What others ask of a writer's series: the slot of one, mirrors of pages, letting go of idle
//! ones, and whose they are.

use std::sync::atomic::Ordering::Relaxed;

use tollgate_common::{Aggregation, Scale, SeriesKey, TenantId, Timestamp};

use super::super::account::bump;
use super::super::owner::{MIRRORED_KEY_BYTES_MAX, Owner, PageKey};
use super::super::pairs::is_overflow;
use super::super::shared::Retire;
use super::super::slot::SlotHead;
use super::super::tenants::{Row, TenantRecord};
use super::super::writer::{SeriesFull, Slot, Writer};
use super::super::{Region, Rejection};
use super::{Block, handle, key_of, known, series_of};

impl<R: Region> Writer<R> {
    /// The slot that mirrors a cell of a page, made if it is new. Beyond a limit, or where room
    /// is short, the cell counts for the same tenant and meter with `overflow=true` in place of
    /// the dimensions. `None` if there is not even room for that.
    ///
    /// A cell counts for the series that it was first mirrored for, as long as its page is
    /// known: what it holds is not counted again for another one, whatever the page or the
    /// configuration say later.
    pub fn mirror(
        &mut self,
        key: &SeriesKey,
        owner: Owner,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Option<Slot> {
        self.mirror_from(key, owner, (aggregation, scale), [0; 2])
    }

    /// The same for a cell of which an earlier life has counted a sum and events.
    pub(in crate::aggregate) fn mirror_from(
        &mut self,
        key: &SeriesKey,
        owner: Owner,
        (aggregation, scale): (Aggregation, Scale),
        counted: [u64; 2],
    ) -> Option<Slot> {
        let kind = (aggregation, scale);
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        // A page that was done with before anything was copied from it may come again. As long
        // as it does, its idle mirrors stay: without them it would count from its beginning.
        table.ended.remove(&owner.page);
        if let Some((slot, head)) = table.find_mirror(shared, index, owner) {
            return ((head.aggregation, head.scale) == kind).then_some(slot);
        }
        let length = key.canonical_len();
        let mut made = None;
        if length <= MIRRORED_KEY_BYTES_MAX && shared.admit(key, length) {
            table.scratch.set_mirror(key, owner);
            made = table.publish(shared, index, kind, true, counted);
        }
        if made.is_none() {
            let key = key.to_overflow();
            // A tenant takes at most as much room again as its limit gives.
            let room = shared.admit_overflow(key.tenant());
            if !room || key.canonical_len() > MIRRORED_KEY_BYTES_MAX {
                return None;
            }
            table.scratch.set_mirror(&key, owner);
            // Others need what is kept for overflow, too: it goes to mirrors by half.
            let spare = table.free_slots(shared) <= shared.layout().reserve().0 / 2;
            made = table.publish(shared, index, kind, spare, counted);
            if made.is_some() {
                bump(&shared.cardinality(index).overflowed, 1);
                let of = (shared, index);
                table.tenants.overflowed(of, &mut table.heap, key.tenant());
            }
        }
        if made.is_some() {
            shared.count_series(Some(key.tenant()), 1);
        }
        made
    }

    /// Whom the series of a slot counts for; `None` for a stale slot.
    pub fn tenant_of(&self, slot: Slot) -> Option<TenantId> {
        let at = u32::try_from(slot.at()).ok();
        let at = at.filter(|&at| at < self.table.count)?;
        let block = Block::of(&self.shared, self.index);
        let head = SlotHead::parse(self.shared.layout(), block.slot(at))?;
        let current = handle(self.index, at, head) == slot;
        key_of(head, block.keys).filter(|_| current)
    }

    /// Most series that this writer has room for, those without dimensions included.
    pub fn series_max(&self) -> u32 {
        self.layout.series()
    }

    /// What this writer's slots mirror, with their series.
    pub fn mirrors(&self) -> Vec<(Owner, SeriesKey)> {
        let block = Block::of(&self.shared, self.index);
        let live = self.table.slots.iter();
        live.filter_map(|slot| {
            let head = known(&self.shared, &block, slot);
            Some((head.owner(block.keys)?, series_of(head, block.keys)?))
        })
        .collect()
    }

    /// The mirrors of a page are not needed any more: nobody will write to it again. Levels
    /// end with it; their slots are retired like those of other idle series, all others at
    /// once, the one that `first` mirrors before the rest.
    pub fn end_mirrors(&mut self, page: PageKey, first: u32, now: Timestamp) {
        self.end_those((page, first), |_| true, now);
    }

    /// The same for one mirror that is all that is needed of its page.
    pub fn end_mirror(&mut self, owner: Owner, now: Timestamp) {
        self.end_those((owner.page, owner.slot), |slot| slot == owner.slot, now);
    }

    fn end_those(
        &mut self,
        (page, first): (PageKey, u32),
        wanted: impl Fn(u32) -> bool,
        now: Timestamp,
    ) {
        self.table.ended.insert(page);
        let mut slots = Vec::new();
        {
            let block = Block::of(&self.shared, self.index);
            for slot in self.table.slots.iter() {
                let head = known(&self.shared, &block, slot);
                let owner = head.owner(block.keys).filter(|owner| owner.page == page);
                if let Some(owner) = owner.filter(|owner| wanted(owner.slot)) {
                    let handle = handle(self.index, slot, head);
                    let done = block.sum(slot)[1].load(Relaxed);
                    slots.push((owner.slot != first, slot, handle, head.aggregation, done));
                }
            }
        }
        slots.sort_unstable();
        for (_, slot, handle, aggregation, done) in slots {
            if aggregation == Aggregation::TimeWeighted {
                self.end_level(handle, now);
            } else {
                let (shared, table) = (&*self.shared, &mut self.table);
                table.retire(shared, self.index, Retire { slot, done });
            }
        }
    }

    /// Ends a level that holds, which is an event of its own; a stale slot has none.
    fn end_level(&mut self, slot: Slot, now: Timestamp) {
        if self.level(slot) == Some(0) {
            return;
        }
        let Some(tenant) = self.tenant_of(slot) else {
            return;
        };
        let row = self.row(&tenant);
        self.received(1);
        self.received_for(row, 1);
        // It is not stale: it has a tenant.
        let _ = self.set_level(slot, now, 0);
        self.settle();
    }

    /// The slot of a series, made if it is new.
    ///
    /// Where there is no room for another series, or a limit does not allow it, the slot of
    /// the same tenant and meter with `overflow=true` in place of the dimensions. A level is
    /// refused then: of several levels in one cell the last would stand for all of them.
    pub fn resolve(
        &mut self,
        key: &SeriesKey,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<Slot, SeriesFull> {
        let resolved = self.resolve_telling(key, aggregation, scale);
        resolved.map(|(slot, _)| slot)
    }

    /// Like [`resolve`](Self::resolve); says besides whether the dimensions had to go. Once
    /// other series are retired the same key may have a slot of its own.
    pub fn resolve_telling(
        &mut self,
        key: &SeriesKey,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<(Slot, bool), SeriesFull> {
        let kind = (aggregation, scale);
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let alone = aggregation == Aggregation::TimeWeighted;
        if alone && is_overflow(key) {
            return Err(SeriesFull);
        }
        table.scratch.set(key);
        if let Some(slot) = table.find(shared, index, kind) {
            return Ok((slot, false));
        }
        let length = table.scratch.bytes.len();
        if shared.admit(key, length)
            && let Some(slot) = table.publish(shared, index, kind, true, [0; 2])
        {
            shared.count_series(Some(key.tenant()), 1);
            return Ok((slot, false));
        }
        if alone {
            return Err(SeriesFull);
        }
        bump(&shared.cardinality(index).overflowed, 1);
        table
            .tenants
            .overflowed((shared, index), &mut table.heap, key.tenant());
        table.scratch.set(&key.to_overflow());
        if let Some(slot) = table.find(shared, index, kind) {
            return Ok((slot, true));
        }
        let slot = table.publish(shared, index, kind, false, [0; 2]);
        if slot.is_some() {
            shared.count_series(Some(key.tenant()), 1);
        }
        slot.map(|slot| (slot, true)).ok_or(SeriesFull)
    }

    /// Retires series that the sealer has found idle, unless something was counted on them
    /// since. True if any was: handles to it are stale from then on and must not be used.
    ///
    /// To be called now and then, and never while a slot is looked up and not yet counted on.
    pub fn poll_retired(&mut self) -> bool {
        self.poll_retired_into(|_| {})
    }

    /// Like [`poll_retired`](Self::poll_retired); names every slot that is stale now.
    pub fn poll_retired_into(&mut self, mut gone: impl FnMut(Slot)) -> bool {
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let mut any = false;
        while let Some(request) = shared.retire_queue(index).pop() {
            if let Some(slot) = table.retire(shared, index, request) {
                any = true;
                gone(slot);
            }
        }
        if !table.retired.is_empty() {
            table.reclaim(shared, index);
        }
        any
    }

    /// Puts what earlier lives knew of a tenant at the start of this one.
    pub(in crate::aggregate) fn carry_tenant(&mut self, record: &TenantRecord) {
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let of = (shared, index);
        table.tenants.carry(of, &mut table.heap, record);
    }

    /// Accounts for `n` received events of the tenant of `row` that are not counted.
    pub fn rejected_in(&mut self, row: Row, reason: Rejection, n: u64) {
        self.rejected(reason, n);
        let of = (&*self.shared, self.index);
        self.table.tenants.rejected_in(of, row, (reason, n));
    }

    /// Accounts for `n` received events of a known tenant that are not counted.
    pub fn rejected_for(&mut self, tenant: &TenantId, reason: Rejection, n: u64) {
        let row = self.row(tenant);
        self.rejected_in(row, reason, n);
    }
}
