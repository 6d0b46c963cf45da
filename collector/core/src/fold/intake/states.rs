//! What is known of the accounts of a life, packed: there may be many thousands, nearly all of
//! which have one figure that is no larger than a word, and are of one of a few batches.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{MeterName, Quantity, Scale, TenantId, Timestamp};

use super::totals::Key;
use crate::fold::names::Names;
use crate::fold::packed::reserve;

/// What is known of one account of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// What has been accepted up to and including batch `at`: its running total, unless the
    /// agent's figures contradict each other.
    pub(super) total: Quantity,
    /// The last batch with a running total for the account; the life's base before any.
    pub(super) at: u64,
    /// When that batch was cut.
    pub(super) cut: Timestamp,
    /// Rows since `at` in batches that broke the rule and had no total.
    pub(super) unlisted: Quantity,
}

/// The states of a life's accounts, in the order of the accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct States {
    packed: Vec<Packed>,
    /// In the order in which they came up.
    tenants: Vec<TenantId>,
    meters: Names<MeterName>,
    /// Totals and rows without a total of accounts that cannot be packed.
    wide: BTreeMap<(u32, u32, Scale), (Quantity, Quantity)>,
    /// Batches, with when they were cut.
    cuts: Vec<(u64, Timestamp)>,
}

/// A state without rows that have no total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Packed {
    /// Without meaning if it is wide.
    total: i64,
    tenant: u32,
    meter: u32,
    /// Which of the cuts.
    cut: u32,
    scale: Scale,
    is_wide: bool,
}

impl Packed {
    fn name(&self) -> (u32, u32, Scale) {
        (self.tenant, self.meter, self.scale)
    }
}

/// Cuts that are looked through for one that is there already.
const NEWEST_CUTS: usize = 4;
/// So many cuts are kept without asking whether they are needed.
const CUTS_KEPT: usize = 64;

impl States {
    /// Where an account stands, or would.
    pub(super) fn find(&self, key: &Key) -> Result<usize, usize> {
        self.packed
            .binary_search_by(|packed| self.order_of(packed, key))
    }

    /// The same where the account is probably the one at `expected`.
    pub(super) fn find_near(&self, key: &Key, expected: usize) -> Result<usize, usize> {
        match self.packed.get(expected) {
            Some(packed) if self.is_of(packed, key) => Ok(expected),
            _ => self.find(key),
        }
    }

    /// Quicker than comparing: what is equal is mostly the very same name.
    fn is_of(&self, packed: &Packed, key: &Key) -> bool {
        packed.scale == key.scale
            && self.meters.get(packed.meter) == Some(&key.meter)
            && self.tenants.get(packed.tenant as usize) == Some(&key.tenant)
    }

    fn order_of(&self, packed: &Packed, key: &Key) -> Ordering {
        let tenant = self.tenants.get(packed.tenant as usize);
        tenant
            .cmp(&Some(&key.tenant))
            .then_with(|| self.meters.get(packed.meter).cmp(&Some(&key.meter)))
            .then_with(|| packed.scale.cmp(&key.scale))
    }

    /// The state of the account that stands there.
    pub(super) fn get(&self, index: usize) -> State {
        let packed = &self.packed[index];
        let (at, cut) = self.cuts[packed.cut as usize];
        let (total, unlisted) = match self.wide.get(&packed.name()) {
            Some(wide) if packed.is_wide => *wide,
            _ => (Quantity::new(packed.total.into()), Quantity::ZERO),
        };
        State {
            total,
            at,
            cut,
            unlisted,
        }
    }

    /// Changes the state of the account that stands there.
    pub(super) fn set(&mut self, index: usize, state: State) {
        let cut = self.cut((state.at, state.cut));
        let packed = &mut self.packed[index];
        packed.cut = cut;
        let short = i64::try_from(state.total.units()).ok();
        if let Some(total) = short.filter(|_| state.unlisted.is_zero()) {
            packed.total = total;
            if std::mem::take(&mut packed.is_wide) {
                self.wide.remove(&packed.name());
            }
        } else {
            packed.is_wide = true;
            let wide = (state.total, state.unlisted);
            self.wide.insert(packed.name(), wide);
        }
    }

    /// Makes room for accounts, each where [`States::find`] says that it would stand, in the order
    /// of the accounts, and each once.
    ///
    /// They are put in together: what is there already is moved once, however many there are.
    pub(super) fn insert_all(&mut self, fresh: &[(usize, &Key, State)]) {
        let mut tenant: Option<u32> = None;
        let packed: Vec<Packed> = fresh
            .iter()
            .map(|(index, key, _)| {
                let number = self.number_of(&key.tenant, *index, tenant);
                tenant = Some(number);
                Packed {
                    total: 0,
                    tenant: number,
                    meter: self.meters.number(&key.meter),
                    cut: 0,
                    scale: key.scale,
                    is_wide: false,
                }
            })
            .collect();
        let mut end = self.packed.len();
        reserve(&mut self.packed, packed.len());
        // Room, in which each is put in its place, from the last one on.
        self.packed.extend_from_slice(&packed);
        for (before, (packed, (index, ..))) in packed.iter().zip(fresh).enumerate().rev() {
            self.packed.copy_within(*index..end, index + before + 1);
            self.packed[index + before] = *packed;
            end = *index;
        }
        for (before, (index, _, state)) in fresh.iter().enumerate() {
            self.set(index + before, *state);
        }
    }

    /// The number of a tenant of which an account would stand at `index`, behind one of the tenant
    /// numbered `last` that is not there yet; a new one if it has none.
    fn number_of(&mut self, tenant: &TenantId, index: usize, last: Option<u32>) -> u32 {
        let before = index.checked_sub(1).and_then(|at| self.packed.get(at));
        // All accounts of a tenant are neighbours.
        let neighbours = [before, self.packed.get(index)].into_iter().flatten();
        let mut numbers = last
            .into_iter()
            .chain(neighbours.map(|packed| packed.tenant));
        let number = numbers.find(|number| self.tenants.get(*number as usize) == Some(tenant));
        number.unwrap_or_else(|| {
            reserve(&mut self.tenants, 1);
            self.tenants.push(tenant.clone());
            u32::try_from(self.tenants.len() - 1).expect("fewer than 2^32 tenants")
        })
    }

    /// The number of a cut. Those that no account is of any more are forgotten now and then.
    fn cut(&mut self, cut: (u64, Timestamp)) -> u32 {
        let mut newest = self.cuts.iter().enumerate().rev().take(NEWEST_CUTS);
        if let Some((at, _)) = newest.find(|(_, known)| **known == cut) {
            return u32::try_from(at).expect("no more cuts than accounts, about");
        }
        if self.cuts.len() >= CUTS_KEPT + 2 * self.packed.len() {
            let mut kept = BTreeMap::new();
            let cuts = std::mem::take(&mut self.cuts);
            for packed in &mut self.packed {
                let cut = cuts[packed.cut as usize];
                packed.cut = *kept.entry(cut).or_insert_with(|| {
                    self.cuts.push(cut);
                    u32::try_from(self.cuts.len() - 1).expect("no more cuts than accounts")
                });
            }
        }
        self.cuts.push(cut);
        u32::try_from(self.cuts.len() - 1).expect("no more cuts than accounts, about")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(tenant: u8, meter: u8, scale: u8) -> Key {
        Key {
            tenant: TenantId::new(&format!("t{tenant}")).expect("valid"),
            meter: MeterName::new(&format!("m{meter}")).expect("valid"),
            scale: Scale::new(scale).expect("valid"),
        }
    }

    fn figures() -> impl Strategy<Value = i128> {
        prop_oneof![0i128..5, Just(i128::from(i64::MAX) + 1), any::<i128>()]
    }

    fn state(number: i128) -> State {
        State {
            total: Quantity::new(number),
            at: 1,
            cut: Timestamp::EPOCH,
            unlisted: Quantity::ZERO,
        }
    }

    #[test]
    fn many_accounts_are_put_before_and_between_many_others_at_once() {
        let name = |number: u32| Key {
            tenant: TenantId::new(&format!("t{:06}", number / 2)).expect("valid"),
            meter: MeterName::new(&format!("m{}", number % 2)).expect("valid"),
            scale: Scale::ZERO,
        };
        // One by one, each of the later ones would move all of the first.
        let all: Vec<Key> = (0..60_000).map(name).collect();
        let mut states = States::default();
        for third in [2, 0, 1] {
            let keys = all.iter().enumerate().filter(|(n, _)| n % 3 == third);
            let fresh: Vec<_> = keys
                .map(|(n, key)| (states.find(key).expect_err("new"), key, state(n as i128)))
                .collect();
            states.insert_all(&fresh);
        }
        assert_eq!(states.packed.len(), all.len());
        assert_eq!(states.tenants.len(), all.len() / 2, "each name once");
        for (n, key) in all.iter().enumerate() {
            assert_eq!(states.find(key), Ok(n));
            assert_eq!(states.get(n), state(n as i128));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_as_a_map(changes in proptest::collection::vec(
            ((0u8..4, 0u8..3, 0u8..2), (figures(), 0u64..3, prop_oneof![3 => Just(0i128), 1 => figures()])),
            0..300,
        )) {
            let (mut states, mut map) = (States::default(), BTreeMap::new());
            for (number, ((tenant, meter, scale), (total, at, unlisted))) in (0u64..).zip(changes) {
                let key = key(tenant, meter, scale);
                let state = State {
                    total: Quantity::new(total),
                    at: number + at,
                    cut: Timestamp::from_secs((number + at).cast_signed()),
                    unlisted: Quantity::new(unlisted),
                };
                match states.find_near(&key, usize::from(meter)) {
                    Ok(index) => states.set(index, state),
                    Err(index) => states.insert_all(&[(index, &key, state)]),
                }
                map.insert(key, state);
            }
            prop_assert_eq!(states.packed.len(), map.len());
            prop_assert!(states.cuts.len() <= CUTS_KEPT + 2 * map.len() + 1);
            let bytes = postcard::to_allocvec(&states).expect("it can be written");
            let read: States = postcard::from_bytes(&bytes).expect("it can be read");
            prop_assert_eq!(&read, &states);
            for (index, (key, state)) in map.iter().enumerate() {
                prop_assert_eq!(read.find(key), Ok(index));
                prop_assert_eq!(read.get(index), *state);
            }
        }
    }
}
