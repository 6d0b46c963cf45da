//! How maps with compound keys and catalogs stand in a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::{TenantId, Timestamp};

use super::book::Terms;
use super::rare::Nothing;
use super::usage::PeriodBook;
use crate::bill::{self, Carried};
use crate::catalog::timeline::{Slice, Timeline};
use crate::catalog::{Catalog, TAXES_MAX};
use crate::entry::{CatalogChange, Digest};
use crate::period::{Period, Zone};

/// A map as a list of pairs, because JSON has only text for keys.
pub(super) mod pairs {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::fold::tenant) fn serialize<K, V, S>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(in crate::fold::tenant) fn deserialize<'de, K, V, D>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(BTreeMap::from_iter)
    }
}

/// A value as JSON text: for what leaves fields out that say nothing.
pub(super) mod text {
    use serde::de::DeserializeOwned;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::fold::tenant) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(value).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(in crate::fold::tenant) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map_err(serde::de::Error::custom)
    }
}

/// All catalogs that ever were in force, and since when for whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Catalogs(Timeline);

impl Catalogs {
    /// The one that was applied to everybody last.
    pub(super) fn current(&self) -> Option<&Arc<Catalog>> {
        self.0.newest().map(|version| &version.catalog)
    }

    /// The one that was applied last of those that concern a tenant.
    pub(super) fn current_for(&self, tenant: &TenantId) -> Option<&Arc<Catalog>> {
        self.0.newest_for(tenant).map(|version| &version.catalog)
    }

    /// The digest of the catalog in force for a tenant; zeros while there is none.
    pub(super) fn digest_for(&self, tenant: &TenantId) -> Digest {
        self.current_for(tenant)
            .map_or(NO_CATALOG, |catalog| catalog.digest())
    }

    /// True if any of them ever had something that is due without usage.
    pub(super) fn ever_due_unused(&self) -> bool {
        let mut versions = self.0.versions().iter();
        versions.any(|version| version.catalog.is_due_unused())
    }

    /// True if any profile of any of them ever had a threshold.
    pub(super) fn ever_thresholds(&self) -> bool {
        let mut versions = self.0.versions().iter();
        versions.any(|version| version.catalog.has_thresholds())
    }

    /// The largest part of an amount that all taxes of one line could ever come to, by any of them: no
    /// line has more than [`TAXES_MAX`], and each may be of those before it too.
    pub(super) fn tax_rate_max(&self) -> Decimal {
        let mut highest: BTreeMap<&str, Decimal> = BTreeMap::new();
        let versions = self.0.versions().iter();
        for tax in versions.flat_map(|version| version.catalog.taxes()) {
            let percent = tax.rates.iter().map(|rate| rate.percent).max();
            let known = highest.entry(&tax.code).or_default();
            *known = Ord::max(*known, percent.unwrap_or_default());
        }
        let mut highest: Vec<Decimal> = highest.into_values().collect();
        highest.sort_unstable_by(|a, b| b.cmp(a));
        let factors = highest.iter().take(TAXES_MAX);
        let factors = factors.map(|percent| Decimal::ONE + percent / Decimal::ONE_HUNDRED);
        let all = factors.fold(Decimal::ONE, Decimal::saturating_mul);
        all.saturating_sub(Decimal::ONE)
    }

    /// The digests of all that ever were in force.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        let versions = self.0.versions().iter();
        let digests: BTreeSet<Digest> = versions.map(|version| version.catalog.digest()).collect();
        digests.into_iter()
    }

    /// True if something that is in force for a tenant in a period is due without usage.
    pub(super) fn is_due_unused(&self, tenant: &TenantId, period: Period) -> bool {
        let slices = self.0.slices(tenant, period, self.0.known());
        slices.iter().any(Slice::is_due_unused)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Arc<Catalog>> {
        self.0.catalog(digest)
    }

    /// Which version is in force when.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.0
    }

    /// What is in force when in a period: by all versions, or by those that were known when it was
    /// closed first. Of a period that is rated anew by another catalog: by that one. By the clocks
    /// of the period's zone.
    pub(super) fn in_force(&self, zone: Zone, tenant: &TenantId, book: &PeriodBook) -> InForce {
        let other = book.rerated.and_then(|digest| self.get(&digest));
        let known = book.known.map_or(self.0.known(), |known| known as usize);
        if let Some(catalog) = other {
            let paid = self.0.paid(tenant, book.period, known);
            return Self::by_alone(catalog, zone, tenant, book.period).unless_paid(&paid);
        }
        let newest = self.0.newest_known(tenant, known);
        InForce {
            slices: bill::cut_by_grants(self.0.slices_by(Some(zone), tenant, book.period, known)),
            newest: newest.map(|version| Arc::clone(&version.catalog)),
            anew: None,
        }
    }

    /// A catalog is in force for all of a period.
    pub(super) fn by_alone(
        catalog: &Arc<Catalog>,
        zone: Zone,
        tenant: &TenantId,
        period: Period,
    ) -> InForce {
        let alone = Timeline::alone(Arc::clone(catalog));
        // Usage was not kept apart for its grants, so lines are divided by time.
        let slices = alone.slices_by(Some(zone), tenant, period, 1);
        InForce {
            anew: Some(vec![false; slices.len()]),
            slices,
            newest: Some(Arc::clone(catalog)),
        }
    }

    /// What is in force for a tenant when the period behind one begins, for fees in advance: by the
    /// versions by which that period is rated itself, where it is closed or rated anew, so that what is
    /// charged before it is what it costs.
    pub(super) fn next(
        &self,
        tenant: &TenantId,
        start: Timestamp,
        book: Option<&PeriodBook>,
    ) -> Option<Slice> {
        let begins = beginning(start);
        match book.and_then(|book| self.rerated(book)) {
            Some(alone) if !self.is_paid(tenant, begins, book) => {
                alone.slices(tenant, begins, 1).pop()
            }
            _ => self.0.slices(tenant, begins, self.known(book)).pop(),
        }
    }

    /// What is in force for a tenant behind a period, by what the period is rated by.
    pub(super) fn after(&self, tenant: &TenantId, book: &PeriodBook) -> Option<Slice> {
        let behind = beginning(book.period.end);
        match self.rerated(book) {
            Some(alone) if !self.is_paid(tenant, behind, Some(book)) => {
                alone.slices(tenant, behind, 1).pop()
            }
            _ => self.0.slices(tenant, behind, self.known(Some(book))).pop(),
        }
    }

    /// How many versions count for a period: those that were known when it was closed first, else all.
    fn known(&self, book: Option<&PeriodBook>) -> usize {
        let known = book.and_then(|book| book.known);
        known.map_or(self.0.known(), |known| known as usize)
    }

    /// Whether another tenant pays then.
    fn is_paid(&self, tenant: &TenantId, when: Period, book: Option<&PeriodBook>) -> bool {
        !self.0.paid(tenant, when, self.known(book)).is_empty()
    }

    /// The catalog alone by which an operator had a period rated anew.
    fn rerated(&self, book: &PeriodBook) -> Option<Timeline> {
        let catalog = book.rerated.and_then(|digest| self.get(&digest))?;
        Some(Timeline::alone(Arc::clone(catalog)))
    }

    pub(super) fn apply(&mut self, stamp: Timestamp, change: &CatalogChange, catalog: Catalog) {
        self.0
            .apply(stamp, Arc::new(catalog), change.tenants.clone());
    }
}

/// The first moment from an instant on.
fn beginning(start: Timestamp) -> Period {
    Period {
        start,
        end: start.plus_millis(1),
    }
}

/// By what a period is rated.
pub(super) struct InForce {
    pub(super) slices: Vec<Slice>,
    newest: Option<Arc<Catalog>>,
    /// Of a period that is rated anew by another catalog: for which slices another tenant pays.
    anew: Option<Vec<bool>>,
}

impl InForce {
    /// Where another tenant pays its usage is not here, and no card is in force.
    fn unless_paid(mut self, paid: &[Period]) -> Self {
        if paid.is_empty() {
            return self;
        }
        let (mut slices, mut marks) = (Vec::new(), Vec::new());
        for slice in self.slices {
            let mut from = slice.from;
            for span in paid {
                let start = span.start.clamp(from, slice.to);
                let end = span.end.clamp(from, slice.to);
                for (start, end, is_paid) in [(from, start, false), (start, end, true)] {
                    if start < end {
                        let card = slice.card.clone().filter(|_| !is_paid);
                        slices.push(Slice {
                            from: start,
                            to: end,
                            card,
                            ..slice.clone()
                        });
                        marks.push(is_paid);
                        from = end;
                    }
                }
            }
            if from < slice.to {
                slices.push(Slice { from, ..slice });
                marks.push(false);
            }
        }
        self.slices = slices;
        self.anew = Some(marks);
        self
    }

    pub(super) fn terms<'a>(&'a self, tenant: &'a TenantId, period: Period) -> Terms<'a> {
        Terms {
            tenant,
            period,
            slices: &self.slices,
            newest: self.newest.as_deref(),
            anew: self.anew.as_deref(),
        }
    }
}

impl Nothing for Carried {
    const NOTHING: &'static Self = &Self {
        commitments: BTreeMap::new(),
        grants: BTreeMap::new(),
        credit: Decimal::ZERO,
        credit_used: BTreeMap::new(),
        advance: BTreeMap::new(),
        reached: BTreeMap::new(),
    };
}

/// What closings name while no catalog was ever in force.
pub(super) const NO_CATALOG: Digest = Digest([0; 32]);
