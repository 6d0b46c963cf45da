//! What a writer finds again of its series in a region that was written before.

use std::collections::BTreeSet;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use tollgate::cell::sum;
use tollgate_common::Aggregation;

use super::index::Index;
use super::{Block, Scratch, Table, key_of};
use crate::aggregate::Region;
use crate::aggregate::layout::WIDE_UNIT;
use crate::aggregate::room::FreeRoom;
use crate::aggregate::shared::Shared;
use crate::aggregate::slot::{SlotHead, State, is_wide};
use crate::aggregate::tenants::Tenants;
use crate::aggregate::wide;

impl Table {
    /// Finds again the series of a region that may have been written before. A damaged slot is
    /// left out; the series that it was gets a new one, if it is counted again.
    pub(in crate::aggregate) fn take_over<R: Region>(shared: &Shared<R>, writer: u32) -> Self {
        let layout = shared.layout();
        let block = Block::of(shared, writer);
        // The incarnation is random, so nobody outside can aim at collisions.
        let random = shared.identity().incarnation;
        let seed: [u8; 8] = std::array::from_fn(|at| random.as_bytes()[at]);
        let (keys_end, heap_end) = (layout.arena(), layout.wide_words());
        let mut table = Self {
            places: Vec::new(),
            slots: Index::new(layout.series()),
            hasher: FixedState::with_seed(u64::from_le_bytes(seed)),
            count: shared.published(writer),
            free: Vec::new(),
            retired: Vec::new(),
            keys: FreeRoom::new(0, keys_end, 1),
            heap: FreeRoom::new(WIDE_UNIT, heap_end, WIDE_UNIT),
            tenants: Tenants::default(),
            scratch: Scratch::default(),
            ended: BTreeSet::new(),
            levels: HashMap::default(),
        };
        // A writer that was had before has its series accounted for.
        let first = shared.begin(writer);
        let (mut keys, mut heap) = (Vec::new(), Vec::new());
        let mut damaged = !table.tenants.take_over(shared, writer, &mut heap);
        for slot in 0..table.count {
            let words = block.slot(slot);
            // The room of the key of a free one may be another's by now.
            let is_good = |h: &SlotHead| h.state == State::Free || h.is_whole(words, block.keys);
            let Some(head) = SlotHead::parse(layout, words).filter(is_good) else {
                // Nothing is known of where its key and cell are, so no free room is.
                damaged = true;
                continue;
            };
            if !head.agrees(block.generation(slot)) {
                SlotHead::set_state(words, State::Free);
                if shared.settled(writer, slot) {
                    table.free.push(slot);
                }
                continue;
            }
            let place = head.place(block.keys);
            if is_wide(head.aggregation) {
                let used = wide::room_used(block.heap, place, head.aggregation);
                let inside = |&(at, words): &(u32, u32)| {
                    at >= WIDE_UNIT && at % WIDE_UNIT == 0 && at.saturating_add(words) <= heap_end
                };
                if !used.iter().all(inside) {
                    damaged = true;
                    continue;
                }
                heap.extend(used);
            }
            keys.push((head.key_at, head.room()));
            if head.state == State::Retired {
                if block.generation(slot) == head.generation {
                    sum::hand_over(block.sum(slot), head.generation + 1);
                }
                table.retired.push((slot, shared.changes(writer)));
            } else {
                if first {
                    shared.count_series(key_of(head, block.keys).as_ref(), 1);
                }
                table.put_place(slot, head, place);
                table.insert(shared, writer, slot, head);
                table.join_level((shared, writer), slot, head);
                if head.aggregation == Aggregation::Last {
                    let words = block.heap.get(place as usize..).unwrap_or(&[]);
                    shared.sets_made(wide::newest_set(words));
                }
            }
        }
        if damaged {
            table.keys = FreeRoom::new(keys_end, keys_end, 1);
            table.heap = FreeRoom::new(heap_end, heap_end, WIDE_UNIT);
        } else {
            table.keys = FreeRoom::around(0, keys_end, 1, keys);
            table.heap = FreeRoom::around(WIDE_UNIT, heap_end, WIDE_UNIT, heap);
        }
        table.tenants.reserve((shared, writer), &mut table.heap);
        table.tell_live(shared, writer);
        table
    }
}
