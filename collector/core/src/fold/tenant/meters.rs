//! The usage of a period, meter by meter. There are a handful of meters; but who reports invents their
//! names, so that a million of them must not take longer for each than a handful does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crowd::METERS_MAX;
use super::usage::{Usage, UsageKey};
use crate::fold::packed::reserve;
use crate::fold::rows::Run;

/// So many are looked through one by one, because they are mostly met in their order.
const FEW: usize = 16;
/// A period with usage of so many has no more of them put between those that are listed.
const PUT_BETWEEN_MAX: usize = 4096;

/// Usage in the order of its keys. In a snapshot it is one list.
#[derive(Clone, Debug, Default)]
pub(super) struct Meters {
    listed: Vec<Usage>,
    /// What would have moved too much of the list: none of it is in there.
    between: BTreeMap<UsageKey, Usage>,
}

impl Meters {
    /// What the rows of a run are counted into, made if there is none; `None` if there are too many
    /// already, and it is not declared.
    pub(super) fn of(
        &mut self,
        run: &Run<'_>,
        is_declared: impl FnOnce() -> bool,
    ) -> Option<&mut Usage> {
        let is_full = self.listed.len() + self.between.len() >= METERS_MAX;
        let listed = &mut self.listed;
        let few = (listed.len() <= FEW).then(|| listed.iter().position(|usage| usage.is_of(run)));
        let found = match few {
            Some(Some(at)) => Ok(at),
            _ => listed.binary_search_by(|usage| usage.order_to(run)),
        };
        match found {
            Ok(at) => Some(&mut listed[at]),
            Err(at) if at == listed.len() || listed.len() < PUT_BETWEEN_MAX => {
                if is_full && !is_declared() {
                    return None;
                }
                reserve(listed, 1);
                listed.insert(at, Usage::new(UsageKey::of(run)));
                Some(&mut listed[at])
            }
            Err(_) => match self.between.entry(UsageKey::of(run)) {
                Entry::Occupied(known) => Some(known.into_mut()),
                Entry::Vacant(_) if is_full && !is_declared() => None,
                Entry::Vacant(place) => Some(place.insert(Usage::new(UsageKey::of(run)))),
            },
        }
    }

    /// In the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Usage> {
        let mut listed = self.listed.iter().peekable();
        let mut between = self.between.iter().peekable();
        std::iter::from_fn(move || {
            let is_listed = match (listed.peek(), between.peek()) {
                (Some(usage), Some((key, _))) => usage.key() < **key,
                (_, None) => true,
                (None, Some(_)) => false,
            };
            if is_listed {
                listed.next()
            } else {
                between.next().map(|(_, usage)| usage)
            }
        })
    }

    /// In no particular order; their keys stay as they are.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Usage> {
        self.listed.iter_mut().chain(self.between.values_mut())
    }

    /// Takes no more memory than it needs: hardly anything is to come.
    pub(super) fn shrink(&mut self) {
        if !self.between.is_empty() {
            self.listed
                .extend(std::mem::take(&mut self.between).into_values());
            self.listed.sort_by_cached_key(Usage::key);
        }
        self.listed.shrink_to_fit();
    }
}

impl PartialEq for Meters {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Meters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.between.is_empty() {
            return self.listed.serialize(serializer);
        }
        let all: Vec<&Usage> = self.iter().collect();
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Meters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            listed: Vec::deserialize(deserializer)?,
            between: BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_common::{
        Aggregation, Detail, Dimensions, MeterName, Quantity, Rollup, Scale, SeriesKey, TenantId,
        Timestamp, Window, WindowWidth,
    };

    use super::*;
    use crate::fold::RowSet;

    fn row(meter: usize) -> Rollup {
        let tenant = TenantId::new("acme").expect("valid");
        let meter = MeterName::new(&format!("m{meter:05}")).expect("valid");
        let series = SeriesKey::new(tenant, meter, Dimensions::default()).expect("valid");
        let width = WindowWidth::from_secs(60).expect("valid");
        Rollup {
            series: Arc::new(series),
            aggregation: Aggregation::Sum,
            scale: Scale::ZERO,
            window: Window::containing(Timestamp::EPOCH, width),
            value: Quantity::new(1),
            events: 1,
            detail: Detail::None,
        }
    }

    #[test]
    fn many_invented_meters_are_found_again_and_stand_in_order() {
        let mut meters = Meters::default();
        // The even ones first, which make the list; the others come between them.
        let count = 3 * PUT_BETWEEN_MAX;
        let evens = (0..count).step_by(2);
        let odds = (1..count).step_by(2).rev();
        let rows = evens
            .clone()
            .chain(odds)
            .chain(evens)
            .map(|n| (row(n), None));
        let rows = RowSet::new(rows);
        for run in rows.runs() {
            assert!(meters.of(&run, || true).is_some());
        }
        // Of more only those that are declared have a place of their own, and those that have one.
        assert!(count > METERS_MAX);
        for (meter, is_declared) in [(count, false), (count, true), (count, false), (7, false)] {
            let one = RowSet::new([(row(meter), None)]);
            let run = one.runs().next().expect("one");
            let has_place =
                is_declared || meter == 7 || meters.listed.len() + meters.between.len() > count;
            assert_eq!(meters.of(&run, || is_declared).is_some(), has_place);
        }
        let count = count + 1;
        assert!(!meters.between.is_empty());
        let names = |meters: &Meters| -> Vec<UsageKey> { meters.iter().map(Usage::key).collect() };
        let all = names(&meters);
        assert_eq!(all.len(), count);
        assert!(all.is_sorted_by(|a, b| a < b));
        let bytes = postcard::to_allocvec(&meters).expect("it can be written");
        let read: Meters = postcard::from_bytes(&bytes).expect("it can be read");
        assert_eq!(read, meters);
        meters.shrink();
        assert!(meters.between.is_empty());
        assert_eq!((names(&meters), &read), (all, &meters));
    }
}
