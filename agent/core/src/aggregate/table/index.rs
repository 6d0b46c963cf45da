//! Finding a slot by the hash of its key: four bytes a place, and never a stall.
//!
//! A table with linear probing, made once for all slots that there can be: it never grows, and
//! so a writer never waits for a million keys to be hashed again. Its memory comes zeroed from
//! the operating system, which gives it as it is used. A place has the slot and ten bits of the
//! hash, so that a key is hardly ever looked at in vain. What follows a place that becomes free
//! moves up, so that nothing is left that lookups would have to pass.

/// Low bits of a place: the slot plus one. Zero is an empty place.
const SLOT_BITS: u32 = 22;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const _: () = assert!(2 * crate::aggregate::SERIES_MAX < SLOT_MASK);

/// Slots by the hashes of their keys.
#[derive(Debug)]
pub(super) struct Index {
    places: Vec<u32>,
    mask: usize,
    live: usize,
}

/// The bits of a hash that a place has beside the slot; a slot's place comes from other ones.
fn mark(hash: u64) -> u32 {
    ((hash >> (32 + SLOT_BITS)) as u32) << SLOT_BITS
}

impl Index {
    /// Room for `slots` slots, of which a quarter of the places stays empty.
    pub(super) fn new(slots: u32) -> Self {
        let places = Self::places(slots);
        Self {
            places: vec![0; places],
            mask: places - 1,
            live: 0,
        }
    }

    /// Places of an index for `slots` slots.
    fn places(slots: u32) -> usize {
        let slots = slots as usize;
        (slots + slots.div_ceil(3) + 1).next_power_of_two()
    }

    /// Bytes of an index for `slots` slots.
    pub(in crate::aggregate) fn bytes(slots: u32) -> usize {
        Self::places(slots) * size_of::<u32>()
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// All slots, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().filter_map(|&place| slot_of(place))
    }

    #[expect(clippy::cast_possible_truncation, reason = "only low bits are used")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// The slot with this hash that is the one looked for.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is).map(|(_, slot)| slot)
    }

    fn position(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mark = mark(hash);
        let mut at = self.home(hash);
        loop {
            // At least a place is empty, so this ends.
            let slot = slot_of(self.places[at])?;
            if self.places[at] & !SLOT_MASK == mark && is(slot) {
                return Some((at, slot));
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds a slot that is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        while self.places[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.live += 1;
        assert!(
            self.live < self.places.len(),
            "made for every slot there is"
        );
        self.places[at] = mark(hash) | (slot + 1);
    }

    /// Takes out a slot with this hash; false if it is not there. `hash_of` gives the hashes of
    /// the others.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let Some((mut hole, _)) = self.position(hash, |other| other == slot) else {
            return false;
        };
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let Some(other) = slot_of(self.places[at]) else {
                break;
            };
            let home = self.home(hash_of(other));
            // It may move up if the hole lies between its home and where it is.
            let way = |from: usize| at.wrapping_sub(from) & self.mask;
            if way(home) >= way(hole) {
                self.places[hole] = self.places[at];
                hole = at;
            }
        }
        self.places[hole] = 0;
        self.live -= 1;
        true
    }
}

fn slot_of(place: u32) -> Option<u32> {
    (place & SLOT_MASK).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A bad hash: many share their home, and many their mark.
    fn hash(slot: u32) -> u64 {
        u64::from(slot % 5) | u64::from(slot % 3) << 62
    }

    proptest! {
        /// The index holds what a map would, however slots come and go.
        #[test]
        fn slots_are_found_until_they_are_taken_out(
            acts in proptest::collection::vec((0..40u32, any::<bool>()), 0..400),
        ) {
            let mut index = Index::new(40);
            let mut model = BTreeSet::new();
            for (slot, add) in acts {
                if add && !model.contains(&slot) {
                    index.insert(hash(slot), slot);
                    model.insert(slot);
                } else if !add {
                    let removed = index.remove(hash(slot), slot, hash);
                    prop_assert_eq!(removed, model.remove(&slot));
                }
                prop_assert_eq!(index.len(), model.len());
                for slot in 0..40 {
                    let found = index.find(hash(slot), |other| other == slot);
                    prop_assert_eq!(found.is_some(), model.contains(&slot));
                }
            }
            let mut all: Vec<u32> = index.iter().collect();
            all.sort_unstable();
            prop_assert!(all.iter().eq(&model));
        }
    }

    #[test]
    fn the_largest_slot_of_a_full_index_is_found() {
        let slots = 2 * crate::aggregate::SERIES_MAX;
        let mut index = Index::new(3);
        index.insert(u64::MAX, slots - 1);
        assert_eq!(index.find(u64::MAX, |_| true), Some(slots - 1));
        assert_eq!(index.find(0, |_| true), None);
        assert!(Index::bytes(slots) <= slots as usize * 8);
    }
}
