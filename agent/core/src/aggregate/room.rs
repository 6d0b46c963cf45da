//! Free room: which words of an area a writer may use next.
//!
//! Only the writer knows; nothing of it is in the region. Who takes over a region finds the
//! free room between what is in use.

use std::collections::BTreeMap;

use tollgate::cell::Room;

/// The free room of one area.
#[derive(Debug)]
pub(super) struct FreeRoom {
    /// Nothing from here on has ever been used.
    next: u32,
    end: u32,
    /// Every range is a multiple of this, and starts at one.
    unit: u32,
    /// Free places by their words.
    free: BTreeMap<u32, Vec<u32>>,
    /// Words in `free`.
    free_words: u64,
    /// Something was given back since neighbours were last joined.
    loose: bool,
}

impl FreeRoom {
    /// Room for words `from` to `end`.
    pub(super) fn new(from: u32, end: u32, unit: u32) -> Self {
        Self {
            next: from.min(end),
            end,
            unit,
            free: BTreeMap::new(),
            free_words: 0,
            loose: false,
        }
    }

    /// Joins free places that lie side by side, so that pieces of series with short keys make
    /// room for one with a long key again.
    #[cold]
    fn join(&mut self) {
        self.loose = false;
        let mut places: Vec<(u32, u32)> = std::mem::take(&mut self.free)
            .into_iter()
            .flat_map(|(words, places)| places.into_iter().map(move |at| (at, words)))
            .collect();
        places.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (at, words) in places {
            match joined.last_mut() {
                Some(last) if last.0 + last.1 == at => last.1 += words,
                _ => joined.push((at, words)),
            }
        }
        if let Some(&(at, words)) = joined.last()
            && at + words == self.next
        {
            joined.pop();
            self.next = at;
            self.free_words -= u64::from(words);
        }
        for (at, words) in joined {
            self.free.entry(words).or_default().push(at);
        }
    }

    fn take_as_it_is(&mut self, words: u32) -> Option<u32> {
        let exact = self.free.get_mut(&words).and_then(Vec::pop);
        if let Some(at) = exact {
            self.free_words -= u64::from(words);
            return Some(at);
        }
        if self.end - self.next >= words {
            let at = self.next;
            self.next += words;
            return Some(at);
        }
        let (&larger, places) = self
            .free
            .range_mut(words..)
            .find(|(_, places)| !places.is_empty())?;
        let at = places.pop().expect("just found not empty");
        self.free_words -= u64::from(larger);
        self.put(at + words, larger - words);
        Some(at)
    }

    fn put(&mut self, at: u32, words: u32) {
        if words > 0 {
            self.free.entry(words).or_default().push(at);
            self.free_words += u64::from(words);
        }
    }

    /// The room that these places and lengths leave.
    pub(super) fn around(from: u32, end: u32, unit: u32, mut used: Vec<(u32, u32)>) -> Self {
        used.sort_unstable();
        let mut room = Self::new(from, end, unit);
        for (at, words) in used {
            if at > room.next {
                room.give(room.next, at - room.next);
            }
            let words = words.next_multiple_of(unit);
            room.next = room.next.max(at.saturating_add(words)).min(end);
        }
        room
    }

    /// Words that can still be taken, if in small pieces.
    pub(super) fn left(&self) -> u64 {
        self.free_words + u64::from(self.end - self.next)
    }

    /// Takes `words` if `spare` words are left after that.
    pub(super) fn take_sparing(&mut self, words: u32, spare: u32) -> Option<u32> {
        (self.left() >= u64::from(words) + u64::from(spare))
            .then(|| self.take(words))
            .flatten()
    }
}

impl Room for FreeRoom {
    fn take(&mut self, words: u32) -> Option<u32> {
        let words = words.next_multiple_of(self.unit);
        let taken = self.take_as_it_is(words);
        if taken.is_some() || !self.loose {
            return taken;
        }
        self.join();
        self.take_as_it_is(words)
    }

    fn give(&mut self, at: u32, words: u32) {
        self.loose = true;
        self.put(at, words.next_multiple_of(self.unit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_short_pieces_make_room_for_a_long_one() {
        let mut room = FreeRoom::new(0, 100, 1);
        let pieces: Vec<u32> = (0..20).map(|_| room.take(5).expect("room")).collect();
        assert_eq!(room.take(1), None);
        for at in pieces.into_iter().rev() {
            room.give(at, 5);
        }
        assert_eq!(room.take(100), Some(0));
        assert_eq!((room.left(), room.take(1)), (0, None));
    }

    proptest! {
        /// What is taken overlaps nothing, stays inside and is aligned; what is given back or
        /// found between what is used can be taken again.
        #[test]
        fn room_is_given_out_once(
            acts in proptest::collection::vec((1..40u32, any::<bool>()), 1..200),
        ) {
            let mut room = FreeRoom::new(8, 1000, 8);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (words, take) in acts {
                if take {
                    if let Some(at) = room.take(words) {
                        let end = at + words.next_multiple_of(8);
                        prop_assert!(at >= 8 && end <= 1000 && at % 8 == 0);
                        let apart = held.iter().all(|&(other, words)| {
                            end <= other || other + words.next_multiple_of(8) <= at
                        });
                        prop_assert!(apart);
                        held.push((at, words));
                    } else {
                        prop_assert!(room.left() < 992);
                    }
                } else if !held.is_empty() {
                    let (at, words) = held.swap_remove(words as usize % held.len());
                    room.give(at, words);
                }
                let used: u64 = held.iter().map(|(_, w)| u64::from(w.next_multiple_of(8))).sum();
                prop_assert_eq!(room.left() + used, 992);
                room = if words % 7 == 0 { FreeRoom::around(8, 1000, 8, held.clone()) } else { room };
            }
        }
    }
}
