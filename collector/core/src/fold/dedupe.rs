//! Sets of sequence numbers as intervals: what has been received, without a word per batch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of `u64` kept as disjoint, non-adjacent, closed intervals.
///
/// A contiguous chain of any length is one interval; the size grows only with the holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct IntervalSet {
    /// First member to last member of each interval.
    intervals: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Number of intervals, which is what the set costs.
    pub fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// Number of members; saturates at 2^64 - 1.
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |sum: u64, (from, to)| {
            sum.saturating_add((to - from).saturating_add(1))
        })
    }

    /// The intervals in ascending order, first and last member of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.intervals.iter().map(|(&from, &to)| (from, to))
    }

    /// The largest member.
    pub fn last(&self) -> Option<u64> {
        self.intervals.last_key_value().map(|(_, &to)| to)
    }

    /// The interval that holds `member`.
    pub fn interval_of(&self, member: u64) -> Option<(u64, u64)> {
        let (&from, &to) = self.intervals.range(..=member).next_back()?;
        (to >= member).then_some((from, to))
    }

    /// True if `member` is in the set.
    pub fn contains(&self, member: u64) -> bool {
        self.interval_of(member).is_some()
    }

    /// Adds one member; true if it was not there.
    pub fn insert(&mut self, member: u64) -> bool {
        if self.contains(member) {
            return false;
        }
        self.insert_range(member, member);
        true
    }

    /// Adds `from` to `to`, both included; nothing if `from` is above `to`.
    pub fn insert_range(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let (mut first, mut last) = (from, to);
        // Everything that overlaps or touches becomes one interval.
        while let Some((&other_from, &other_to)) =
            self.intervals.range(..=last.saturating_add(1)).next_back()
        {
            if other_to < first.saturating_sub(1) {
                break;
            }
            first = first.min(other_from);
            last = last.max(other_to);
            self.intervals.remove(&other_from);
        }
        self.intervals.insert(first, last);
    }

    /// Removes one member; true if it was there.
    pub fn remove(&mut self, member: u64) -> bool {
        let Some((from, to)) = self.interval_of(member) else {
            return false;
        };
        self.intervals.remove(&from);
        if from < member {
            self.intervals.insert(from, member - 1);
        }
        if member < to {
            self.intervals.insert(member + 1, to);
        }
        true
    }

    /// The members between `from` and `to`, both included, that are *not* in the set, as
    /// ascending intervals.
    pub fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut next = from;
        let start = self.interval_of(from).map_or(from, |(first, _)| first);
        for (&first, &last) in self.intervals.range(start..) {
            if first > to || next > to {
                break;
            }
            if first > next {
                holes.push((next, first - 1));
            }
            let Some(after) = last.checked_add(1) else {
                return holes;
            };
            next = next.max(after);
        }
        if next <= to {
            holes.push((next, to));
        }
        holes
    }

    /// True if a member lies strictly between `after` and `before`.
    pub fn any_between(&self, after: u64, before: u64) -> bool {
        self.first_between(after, before).is_some()
    }

    /// The smallest member strictly between `after` and `before`.
    pub fn first_between(&self, after: u64, before: u64) -> Option<u64> {
        let from = after.checked_add(1)?;
        let first = if self.contains(from) {
            from
        } else {
            *self.intervals.range(from..).next()?.0
        };
        (first < before).then_some(first)
    }

    /// The largest member strictly between `after` and `before`.
    pub fn last_between(&self, after: u64, before: u64) -> Option<u64> {
        let (_, &to) = self.intervals.range(..before).next_back()?;
        let last = to.min(before.checked_sub(1)?);
        (last > after).then_some(last)
    }
}

impl From<Vec<(u64, u64)>> for IntervalSet {
    fn from(intervals: Vec<(u64, u64)>) -> Self {
        let mut set = Self::new();
        for (from, to) in intervals {
            set.insert_range(from, to);
        }
        set
    }
}

impl From<IntervalSet> for Vec<(u64, u64)> {
    fn from(set: IntervalSet) -> Self {
        set.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one_interval() {
        let mut set = IntervalSet::new();
        assert!(set.insert(1) && set.insert(3) && set.insert(2));
        assert!(!set.insert(2));
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 3)]);
        set.insert_range(10, u64::MAX);
        set.insert_range(0, 0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, 3), (10, u64::MAX)]);
        assert_eq!(set.missing(0, u64::MAX), [(4, 9)]);
        assert_eq!(set.count(), u64::MAX - 5);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64),
        Remove(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u64..60, 0u64..8).prop_map(|(from, width)| Step::Insert(from, from + width)),
            (0u64..60).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(steps in steps(), from in 0u64..70, to in 0u64..70) {
            let (mut set, mut model) = (IntervalSet::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(from, to) if from == to => prop_assert_eq!(set.insert(from), model.insert(from)),
                    Step::Insert(from, to) => {
                        set.insert_range(from, to);
                        model.extend(from..=to);
                    }
                    Step::Remove(member) => prop_assert_eq!(set.remove(member), model.remove(&member)),
                }
            }
            let members: BTreeSet<u64> = set.iter().flat_map(|(from, to)| from..=to).collect();
            prop_assert_eq!(&members, &model);
            let intervals: Vec<_> = set.iter().collect();
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "not minimal");
            let missing: BTreeSet<u64> = set.missing(from, to).into_iter().flat_map(|(a, b)| a..=b).collect();
            let expected: BTreeSet<u64> = (from..=to).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(missing, expected);
            let between = || (from + 1..to).filter(|n| model.contains(n));
            prop_assert_eq!(set.first_between(from, to), between().next());
            prop_assert_eq!(set.last_between(from, to), between().next_back());
            let text = serde_json::to_string(&set).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<IntervalSet>(&text).expect("parses"), set);
        }
    }
}
