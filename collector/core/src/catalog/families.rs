//! Who pays for whom.
//!
//! Usage that another tenant pays for is counted into that tenant's periods, which may belong to
//! another partition: so the intake has to know who might pay, before anybody knows when. That is
//! [`Families`]: of all versions that were ever applied, whoever pays for whom in any of them. When
//! it does, the [`Timeline`](super::timeline::Timeline) says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use super::Catalog;
use super::timeline::takes_effect;

/// Payers and those for whom they paid at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Families {
    /// Whoever ever paid for a tenant.
    payers: BTreeMap<TenantId, BTreeSet<TenantId>>,
    /// Whoever ever paid for those without a profile of their own.
    of_others: BTreeSet<TenantId>,
    /// For whom somebody ever paid, by name.
    children: BTreeMap<TenantId, BTreeSet<TenantId>>,
}

impl Families {
    /// Takes up a version.
    pub(crate) fn learn(&mut self, catalog: &Catalog) {
        for profile in catalog.profiles() {
            let Some(payer) = &profile.agreement.payer else {
                continue;
            };
            let payer = payer.tenant.clone();
            match &profile.tenant {
                Some(child) => {
                    let of_child = self.payers.entry(child.clone()).or_default();
                    of_child.insert(payer.clone());
                    self.children
                        .entry(payer)
                        .or_default()
                        .insert(child.clone());
                }
                None => {
                    self.of_others.insert(payer);
                }
            }
        }
    }

    /// True if nobody ever paid for anybody.
    pub fn is_empty(&self) -> bool {
        self.payers.is_empty() && self.of_others.is_empty()
    }

    /// Whoever ever paid for a tenant, by name.
    pub fn payers_of(&self, tenant: &TenantId) -> BTreeSet<&TenantId> {
        let named = self.payers.get(tenant).into_iter().flatten();
        let mut payers: BTreeSet<&TenantId> = named.collect();
        if !tenant.is_unattributed() {
            let others = self.of_others.iter().filter(|payer| *payer != tenant);
            payers.extend(others);
        }
        payers
    }

    /// True if anybody ever paid for a tenant.
    pub fn is_child(&self, tenant: &TenantId) -> bool {
        !self.is_empty() && !self.payers_of(tenant).is_empty()
    }

    /// True if a tenant ever paid for anybody.
    pub fn is_payer(&self, tenant: &TenantId) -> bool {
        self.children.contains_key(tenant) || self.of_others.contains(tenant)
    }

    /// For whom a tenant ever paid, as far as they have profiles of their own.
    pub fn children_of(&self, payer: &TenantId) -> impl Iterator<Item = &TenantId> {
        self.children.get(payer).into_iter().flatten()
    }
}

impl Catalog {
    /// Who pays for a tenant by this version, and from when on; `None` if it pays for itself.
    ///
    /// The day from which somebody pays begins by the payer's clocks, on a quarter of an hour.
    pub fn payer_of(&self, tenant: &TenantId) -> Option<(&TenantId, Timestamp)> {
        if tenant.is_unattributed() {
            return None;
        }
        let payer = self.profile(tenant)?.agreement.payer.as_ref()?;
        if payer.tenant == *tenant {
            return None;
        }
        let zone = self.profile(&payer.tenant)?.calendar.zone;
        let begin = |day| takes_effect(zone.start_of_day(day));
        let from = payer.from.map_or(Timestamp::EPOCH, begin);
        Some((&payer.tenant, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{sound_files, tenant};

    fn with(path: &str, text: &str) -> Catalog {
        let mut files = sound_files();
        files.insert(path.to_owned(), text.to_owned());
        Catalog::parse(&files).expect("sound")
    }

    #[test]
    fn knows_who_ever_paid_for_whom() {
        let mut families = Families::default();
        assert!(families.is_empty() && !families.is_child(&tenant("shop")));
        families.learn(&with(
            "profiles/shop.toml",
            "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\n",
        ));
        assert!(families.is_child(&tenant("shop")) && !families.is_child(&tenant("acme")));
        assert_eq!(
            families.children_of(&tenant("acme")).collect::<Vec<_>>(),
            [&tenant("shop")]
        );
        families.learn(&with(
            "profiles/default.toml",
            "tenant = \"*\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\n",
        ));
        assert!(families.is_child(&tenant("nobody")), "others are paid for");
        assert!(
            !families.is_child(&tenant("acme")),
            "nobody pays for itself"
        );
        assert!(!families.is_child(&TenantId::unattributed()));
    }
}
