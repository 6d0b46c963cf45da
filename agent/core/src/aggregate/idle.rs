//! Which series have been idle, so that their writers may retire them.
//!
//! The sealer notes at every cut whether a slot has counted. It keeps four bytes for each:
//! the second since which it has not.

use tollgate_common::Timestamp;

/// Since when slots have been idle, by writer and slot.
#[derive(Default)]
pub(crate) struct Idle {
    writers: Vec<Vec<u32>>,
}

impl Idle {
    /// Makes room for so many slots of a writer, those that are new idle since `now`. The room
    /// for the next sixteenth comes with it, and no more.
    pub(crate) fn make_room(&mut self, writer: u32, slots: u32, now: Timestamp) {
        let (writer, slots) = (writer as usize, slots as usize);
        if self.writers.len() <= writer {
            self.writers.resize_with(writer + 1, Vec::new);
        }
        let since = &mut self.writers[writer];
        if since.len() < slots {
            if since.capacity() < slots {
                since.reserve_exact(slots + slots / 16 - since.len());
            }
            since.resize(slots, u32::try_from(now.secs()).unwrap_or(0));
        }
    }

    /// Notes what a cut at `now` has found of a slot that there is room for; true if it has been
    /// idle for longer than `longest` milliseconds. Then it has to be idle so long again before this says so again.
    #[inline]
    pub(crate) fn note(
        &mut self,
        (writer, slot): (u32, u32),
        counted: bool,
        now: Timestamp,
        longest: i64,
    ) -> bool {
        let secs = u32::try_from(now.secs()).unwrap_or(0);
        let slots = self.writers.get_mut(writer as usize);
        let Some(since) = slots.and_then(|slots| slots.get_mut(slot as usize)) else {
            return false;
        };
        let idle = i64::from(secs) - i64::from(*since);
        // A clock that went back must not make series idle for longer than they were.
        if counted || idle < 0 {
            *since = secs;
            return false;
        }
        let over = idle.saturating_mul(1000) > longest;
        if over {
            *since = secs;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_not_idle_and_what_is_idle_is_named_once_in_a_while() {
        let mut idle = Idle::default();
        idle.make_room(1, 3, Timestamp::from_secs(100));
        let mut note =
            |secs, counted| idle.note((1, 2), counted, Timestamp::from_secs(secs), 10_000);
        assert!(!note(100, true));
        assert!(!note(110, false));
        assert!(note(111, false));
        assert!(!note(112, false));
        assert!(note(122, false));
        assert!(!note(130, true));
        assert!(!note(50, false), "the clock went back");
        assert!(!note(60, false));
        assert!(note(61, false));
    }
}
