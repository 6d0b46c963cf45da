//! The accounts of a partition. There may be a million, nearly all of which have two figures that
//! are no larger than a word: these are packed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{MeterName, Quantity, Scale, TenantId};

use super::account::{Account, AccountKey};
use super::state::pairs;
use crate::fold::names::Names;
use crate::fold::packed::reserve;

/// The accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Accounts {
    meters: Names<MeterName>,
    /// Of each tenant those that can be packed, in the order of meters' numbers and scales.
    packed: BTreeMap<TenantId, Vec<Packed>>,
    /// All others.
    #[serde(with = "pairs")]
    whole: BTreeMap<AccountKey, Account>,
}

/// A tenant with so many accounts has no more of them put between the packed ones.
const PUT_BETWEEN_MAX: usize = 4096;

/// An account of which nothing was refused, lost or corrected.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Packed {
    accepted: i64,
    counted: i64,
    meter: u32,
    scale: Scale,
}

impl Packed {
    /// `None` if the account does not fit.
    fn of(meter: u32, scale: Scale, account: &Account) -> Option<Self> {
        let others = [account.refused, account.lost, account.corrected];
        if others.iter().any(|figure| !figure.is_zero()) {
            return None;
        }
        Some(Self {
            accepted: account.accepted.units().try_into().ok()?,
            counted: account.counted.units().try_into().ok()?,
            meter,
            scale,
        })
    }

    fn account(&self) -> Account {
        Account {
            accepted: Quantity::new(self.accepted.into()),
            counted: Quantity::new(self.counted.into()),
            ..Account::default()
        }
    }
}

impl Accounts {
    /// The account, if anything was ever booked to it.
    #[cfg(test)]
    pub(super) fn get(&self, key: &AccountKey) -> Option<Account> {
        if let Some(account) = self.whole.get(key) {
            return Some(account.clone());
        }
        let (tenant, meter, scale) = key;
        let (meter, own) = (self.meters.find(meter)?, self.packed.get(tenant)?);
        let at = place(own, meter, *scale).ok()?;
        Some(own[at].account())
    }

    /// Changes an account, which is there from now on; what it is then.
    pub(super) fn change(
        &mut self,
        (tenant, meter, scale): &AccountKey,
        change: impl FnOnce(&mut Account),
    ) -> Account {
        self.of(tenant).change(meter, *scale, change)
    }

    /// The accounts of a tenant, several of which are to be changed.
    pub(super) fn of<'a>(&'a mut self, tenant: &'a TenantId) -> Own<'a> {
        Own {
            tenant,
            meters: &mut self.meters,
            packed: self.packed.entry(tenant.clone()).or_default(),
            whole: &mut self.whole,
            next: 0,
        }
    }

    /// Those of one tenant alone.
    pub(super) fn excerpt(&self, tenant: &TenantId) -> Self {
        let own = self.packed.get_key_value(tenant);
        let whole = self.whole.iter().filter(|(key, _)| key.0 == *tenant);
        Self {
            meters: self.meters.clone(),
            packed: own
                .map(|(name, own)| (name.clone(), own.clone()))
                .into_iter()
                .collect(),
            whole: whole
                .map(|(key, account)| (key.clone(), account.clone()))
                .collect(),
        }
    }
}

/// The accounts of one tenant.
pub(super) struct Own<'a> {
    tenant: &'a TenantId,
    meters: &'a mut Names<MeterName>,
    packed: &'a mut Vec<Packed>,
    whole: &'a mut BTreeMap<AccountKey, Account>,
    /// Where the next one that is asked for stands, if they are asked for in their order.
    next: usize,
}

impl Own<'_> {
    /// As [`Accounts::change`].
    pub(super) fn change(
        &mut self,
        meter: &MeterName,
        scale: Scale,
        change: impl FnOnce(&mut Account),
    ) -> Account {
        if !self.whole.is_empty() {
            let key = (self.tenant.clone(), meter.clone(), scale);
            if let Some(account) = self.whole.get_mut(&key) {
                change(account);
                return account.clone();
            }
        }
        let (number, at) = self.place(meter, scale);
        let own = &mut *self.packed;
        let mut account = at.map_or_else(|_| Account::default(), |at| own[at].account());
        change(&mut account);
        match (Packed::of(number, scale, &account), at) {
            (Some(packed), Ok(at)) => own[at] = packed,
            // Each that is put between others moves those behind it.
            (Some(packed), Err(at)) if at == own.len() || own.len() < PUT_BETWEEN_MAX => {
                reserve(own, 1);
                own.insert(at, packed);
            }
            (_, at) => {
                if let Ok(at) = at {
                    own.remove(at);
                }
                let key = (self.tenant.clone(), meter.clone(), scale);
                self.whole.insert(key, account.clone());
            }
        }
        account
    }

    /// The number of a meter, and where the account stands, or would.
    fn place(&mut self, meter: &MeterName, scale: Scale) -> (u32, Result<usize, usize>) {
        let expected = self.packed.get(self.next);
        let is_it = |packed: &&Packed| {
            packed.scale == scale && self.meters.get(packed.meter) == Some(meter)
        };
        let (number, at) = if let Some(packed) = expected.filter(is_it) {
            (packed.meter, Ok(self.next))
        } else {
            let number = self.meters.number(meter);
            (number, place(self.packed, number, scale))
        };
        let (Ok(found) | Err(found)) = at;
        self.next = found + 1;
        (number, at)
    }
}

/// Where an account stands among those of its tenant.
fn place(own: &[Packed], meter: u32, scale: Scale) -> Result<usize, usize> {
    own.binary_search_by_key(&(meter, scale), |packed| (packed.meter, packed.scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, meter: &str, scale: u8) -> AccountKey {
        (
            TenantId::new(tenant).expect("valid"),
            MeterName::new(meter).expect("valid"),
            Scale::new(scale).expect("valid"),
        )
    }

    #[test]
    fn many_accounts_of_a_tenant_are_not_put_between_each_other() {
        let mut accounts = Accounts::default();
        let names: Vec<_> = (0..3 * PUT_BETWEEN_MAX)
            .map(|number| format!("m{number}"))
            .collect();
        // The meters get their numbers in one order, and come in the other.
        for name in &names {
            accounts.change(&key("rival", name, 0), |account| {
                account.accepted = Quantity::new(1);
            });
        }
        for name in names.iter().rev() {
            accounts.change(&key("acme", name, 0), |account| {
                account.accepted = Quantity::new(2);
            });
        }
        let packed = |name: &str| accounts.packed[&TenantId::new(name).expect("valid")].len();
        assert_eq!(packed("rival"), names.len());
        assert_eq!(packed("acme"), PUT_BETWEEN_MAX);
        for name in &names {
            let account = accounts.get(&key("acme", name, 0)).expect("is there");
            assert_eq!(account.accepted, Quantity::new(2));
        }
    }

    #[test]
    fn accounts_are_the_same_packed_and_whole() {
        let keys = [
            key("acme", "b", 0),
            key("acme", "a", 0),
            key("acme", "a", 3),
            key("rival", "a", 0),
        ];
        let changes: [fn(&mut Account); 6] = [
            |account| account.accepted = Quantity::new(7),
            |account| account.counted = Quantity::new(i64::MAX.into()),
            |account| account.lost = Quantity::new(1),
            |account| account.counted = Quantity::new(i128::from(i64::MAX) + 1),
            |account| account.refused = Quantity::new(-3),
            |account| account.corrected = Quantity::new(i128::MAX),
        ];
        let (mut accounts, mut plain) = (Accounts::default(), BTreeMap::new());
        for (number, change) in changes.iter().cycle().take(40).enumerate() {
            let key = &keys[number * number % keys.len()];
            let expected: &mut Account = plain.entry(key.clone()).or_default();
            change(expected);
            assert_eq!(accounts.change(key, change), *expected);
            for key in &keys {
                assert_eq!(accounts.get(key), plain.get(key).cloned());
            }
        }
        let bytes = postcard::to_allocvec(&accounts).expect("it can be written");
        let read: Accounts = postcard::from_bytes(&bytes).expect("it can be read");
        let excerpt = read.excerpt(&keys[3].0);
        for key in &keys {
            assert_eq!(read.get(key), plain.get(key).cloned());
            let own = plain.get(key).filter(|_| key.0 == keys[3].0);
            assert_eq!(excerpt.get(key), own.cloned());
        }
    }
}
