//! Which version of the catalog is in force when, and for whom.
//!
//! A version that is applied is in force from the next multiple of 900 s on ([`takes_effect`]),
//! where no window of usage is cut, until another one is. A version may be limited to some
//! tenants; it stands above older ones for them and does not concern the others. The first
//! version that concerns a tenant is in force since ever, because before it there was none.
//!
//! What is closed stays: the slices of a closed period are asked for with the number of versions
//! that were known when it was closed ([`Timeline::known`]), so that no later version, not even
//! the first of all, changes what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_common::{TenantId, Timestamp};

use super::{Billed, Card, Catalog, Families, Profile};
use crate::bill;
use crate::entry::Digest;
use crate::period::{Period, Zone};

/// Versions take effect at multiples of so many seconds since 1970. Windows of usage divide it,
/// and days of all zones begin at such instants (since 1972).
pub const EFFECT_SECS: i64 = 900;

/// From when on a version is in force whose journal entry has this stamp: the first multiple of
/// [`EFFECT_SECS`] that is not before it.
pub fn takes_effect(stamp: Timestamp) -> Timestamp {
    let millis = EFFECT_SECS * 1000;
    let behind = stamp.millis() % millis;
    if behind == 0 {
        stamp
    } else {
        stamp.plus_millis(millis - behind)
    }
}

/// A catalog that was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The stamp of its journal entry.
    pub stamp: Timestamp,
    /// What was applied.
    pub catalog: Arc<Catalog>,
    /// Whom it concerns; `None` for everybody.
    pub tenants: Option<Arc<BTreeSet<TenantId>>>,
}

impl Version {
    /// From when on it is in force for those who had another one before.
    pub fn from(&self) -> Timestamp {
        takes_effect(self.stamp)
    }

    /// True if it says what is in force for `tenant`.
    pub fn concerns(&self, tenant: &TenantId) -> bool {
        let tenants = self.tenants.as_ref();
        tenants.is_none_or(|tenants| tenants.contains(tenant))
    }

    /// Who pays for a tenant by this version, and from when on: never before it takes effect, not
    /// even where it is the first one, because usage was counted as the tenant's own.
    fn payer_of(&self, tenant: &TenantId) -> Option<(&TenantId, Timestamp)> {
        let (payer, from) = self.catalog.payer_of(tenant)?;
        Some((payer, Ord::max(from, self.from())))
    }
}

/// A stretch of a period in which nothing changes by which a tenant is rated.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// First instant.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
    /// The version in force when the slice begins; `None` if no catalog was ever applied. Where
    /// the next version says the same of the tenant, the slice goes on: what stands in other
    /// files than its card, its profile and the meters is to be looked up in the newest version
    /// that is known ([`Timeline::newest_for`]).
    pub catalog: Option<Arc<Catalog>>,
    /// What is agreed with the tenant; `None` if it has no profile and there is no default one.
    pub profile: Option<Arc<Profile>>,
    /// The version of its card that is in force; `None` if all of them begin later, or another
    /// tenant pays.
    pub card: Option<Arc<Card>>,
}

impl Slice {
    /// The slice as bills are worked out from it.
    pub fn for_bill(&self) -> bill::Slice<'_> {
        bill::Slice {
            span: Period {
                start: self.from,
                end: self.to,
            },
            catalog: self.catalog.as_deref(),
            profile: self.profile.as_deref(),
            card: self.card.as_deref(),
        }
    }

    /// What is agreed, with the version of the card that is in force.
    pub fn agreed(&self) -> Option<(&Profile, &Card)> {
        Some((self.profile.as_deref()?, self.card.as_deref()?))
    }

    /// True if `instant` lies in it.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && instant < self.to
    }

    /// True if something of it may be due without usage.
    pub fn is_due_unused(&self) -> bool {
        self.agreed().is_some_and(|(profile, card)| {
            let agreement = &profile.agreement;
            agreement.card(card).is_due_unused() || agreement.around.is_due_unused()
        })
    }

    /// True if a bill by it may leave something to the bills of later periods: how far a commitment
    /// has come, what a grant has paid, a fee in advance, where tiers go on.
    pub fn leaves(&self) -> bool {
        self.agreed().is_some_and(|(profile, card)| {
            let agreement = &profile.agreement;
            let card = agreement.card(card);
            let mut prices = card.prices.iter();
            !agreement.grants.is_empty()
                || !agreement.around.commitments.is_empty()
                || !card.around.commitments.is_empty()
                || prices.any(|price| {
                    price.terms.billed == Billed::InAdvance || price.long_term.is_some()
                })
        })
    }

    /// The digest of the version in force.
    pub fn digest(&self) -> Option<Digest> {
        self.catalog.as_ref().map(|catalog| catalog.digest())
    }

    /// True if the tenant is rated in the same way in both.
    fn is_like(&self, other: &Self) -> bool {
        let same_meters = match (&self.catalog, &other.catalog) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs) || ours.meters == theirs.meters,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        // `Arc` compares what it points to, and first where.
        same_meters && self.profile == other.profile && self.card == other.card
    }
}

/// All versions that were applied, oldest first.
///
/// They stay, because late usage is rated by the versions of its time. Catalogs change by an
/// operator's hand, so there are few; one that is applied again is kept once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    catalogs: BTreeMap<Digest, Arc<Catalog>>,
    versions: Vec<Version>,
    /// Who paid for whom by any of them.
    families: Families,
}

impl Timeline {
    /// Before the first version.
    pub fn new() -> Self {
        Self::default()
    }

    /// A catalog that is in force for ever, and by which everybody pays for what was counted as its
    /// own: for rating that anew.
    pub fn alone(catalog: Arc<Catalog>) -> Self {
        let version = Version {
            stamp: Timestamp::EPOCH,
            catalog: Arc::clone(&catalog),
            tenants: None,
        };
        Self {
            catalogs: BTreeMap::from([(catalog.digest(), catalog)]),
            versions: vec![version],
            families: Families::default(),
        }
    }

    /// Adds a version; stamps never go back.
    pub fn apply(
        &mut self,
        stamp: Timestamp,
        catalog: Arc<Catalog>,
        tenants: Option<BTreeSet<TenantId>>,
    ) {
        self.families.learn(&catalog);
        let known = self.catalogs.entry(catalog.digest()).or_insert(catalog);
        let newest = self.versions.last().map_or(stamp, |last| last.stamp);
        self.versions.push(Version {
            stamp: Ord::max(stamp, newest),
            catalog: Arc::clone(known),
            tenants: tenants.map(Arc::new),
        });
    }

    /// How many versions there are.
    pub fn known(&self) -> usize {
        self.versions.len()
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Who ever paid for whom.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// Who pays for what a tenant uses at `instant`; `None` if it does.
    pub fn payer(&self, tenant: &TenantId, instant: Timestamp) -> Option<&TenantId> {
        if !self.families.is_child(tenant) {
            return None;
        }
        // Nobody pays before the version that says so takes effect, not even the first one.
        let mut concerned = self.versions.iter().rev().filter(|v| v.concerns(tenant));
        let version = concerned.find(|version| version.from() <= instant)?;
        let (payer, from) = version.payer_of(tenant)?;
        (from <= instant).then_some(payer)
    }

    /// The stretches of a period for which another tenant pays, by the first `known` versions.
    pub fn paid(&self, tenant: &TenantId, period: Period, known: usize) -> Vec<Period> {
        if !self.families.is_child(tenant) {
            return Vec::new();
        }
        let stretches = self.stretches(tenant, period, known).into_iter();
        let paid = stretches.filter_map(|(version, stretch)| {
            let (_, from) = version?.payer_of(tenant)?;
            let start = Ord::max(from, stretch.start);
            (start < stretch.end).then_some(Period { start, ..stretch })
        });
        paid.collect()
    }

    /// For whom a tenant pays at some time in a period, as far as they have profiles of their own.
    pub fn children(&self, payer: &TenantId, period: Period) -> Vec<&TenantId> {
        let pays = |child: &&TenantId| {
            let mut slices = self.stretches(child, period, self.known()).into_iter();
            slices.any(|(version, stretch)| {
                let paid = version.and_then(|version| version.payer_of(child));
                paid.is_some_and(|(by, from)| by == payer && from < stretch.end)
            })
        };
        self.families.children_of(payer).filter(pays).collect()
    }

    /// A catalog that was applied at some time.
    pub fn catalog(&self, digest: &Digest) -> Option<&Arc<Catalog>> {
        self.catalogs.get(digest)
    }

    /// The version that was applied to everybody last.
    pub fn newest(&self) -> Option<&Version> {
        let mut versions = self.versions.iter().rev();
        versions.find(|version| version.tenants.is_none())
    }

    /// The version that was applied last of those that concern a tenant.
    pub fn newest_for(&self, tenant: &TenantId) -> Option<&Version> {
        self.newest_known(tenant, self.known())
    }

    /// The same of the first `known` versions: where taxes and exchange rates are looked up.
    pub fn newest_known(&self, tenant: &TenantId, known: usize) -> Option<&Version> {
        let mut versions = self.versions.iter().take(known).rev();
        versions.find(|version| version.concerns(tenant))
    }

    /// The slices of `period` for a tenant, by the first `known` versions: [`Timeline::known`]
    /// for an open period, and what that was at the closing for a closed one. They follow each
    /// other without gap and fill the period, and each differs from the one before.
    pub fn slices(&self, tenant: &TenantId, period: Period, known: usize) -> Vec<Slice> {
        self.slices_by(None, tenant, period, known)
    }

    /// The same by the clocks of a zone, whatever a profile says: those of the period, which a
    /// change of zone within it does not move.
    pub fn slices_by(
        &self,
        zone: Option<Zone>,
        tenant: &TenantId,
        period: Period,
        known: usize,
    ) -> Vec<Slice> {
        let mut slices = Vec::with_capacity(1);
        let is_child = self.families.is_child(tenant);
        for (version, stretch) in self.stretches(tenant, period, known) {
            let paid_from = version
                .filter(|_| is_child)
                .and_then(|version| version.payer_of(tenant))
                .map_or(stretch.end, |(_, from)| {
                    from.clamp(stretch.start, stretch.end)
                });
            let agreed = version.and_then(|version| version.catalog.shared_profile(tenant));
            let agreed = agreed.map(|profile| by_clocks(profile, zone));
            cut_by_cards(version, agreed.as_ref(), stretch, paid_from, &mut slices);
        }
        slices
    }

    /// The stretches of a period in which one version is in force for a tenant.
    fn stretches(
        &self,
        tenant: &TenantId,
        period: Period,
        known: usize,
    ) -> Vec<(Option<&Version>, Period)> {
        let mut concerned = self
            .versions
            .iter()
            .take(known)
            .filter(|version| version.concerns(tenant));
        let mut stretches = Vec::with_capacity(1);
        let mut start = period.start;
        let mut current = concerned.next();
        for next in concerned {
            let end = Ord::min(next.from(), period.end);
            if start < end {
                stretches.push((current, Period { start, end }));
                start = end;
            }
            // Of versions that take effect together the last one does.
            current = Some(next);
        }
        let end = period.end;
        if start < end {
            stretches.push((current, Period { start, end }));
        }
        stretches
    }

    /// The slice of all time in which `instant` lies, as far as versions cut it: what is in force
    /// then.
    pub fn at(&self, tenant: &TenantId, instant: Timestamp) -> Slice {
        let end = instant.plus_millis(1);
        let period = Period {
            start: instant,
            end,
        };
        let mut slices = self.slices(tenant, period, self.known());
        slices.pop().unwrap_or(Slice {
            from: instant,
            to: end,
            catalog: None,
            profile: None,
            card: None,
        })
    }
}

/// A profile by the clocks of a zone.
fn by_clocks(profile: &Arc<Profile>, zone: Option<Zone>) -> Arc<Profile> {
    match zone {
        Some(zone) if zone != profile.calendar.zone => {
            let mut moved = Profile::clone(profile);
            moved.calendar.zone = zone;
            Arc::new(moved)
        }
        _ => Arc::clone(profile),
    }
}

/// Adds the slices of a stretch in which one version is in force, and no card from `paid_from` on.
fn cut_by_cards(
    version: Option<&Version>,
    agreed: Option<&Arc<Profile>>,
    stretch: Period,
    paid_from: Timestamp,
    slices: &mut Vec<Slice>,
) {
    let catalog = version.map(|version| &version.catalog);
    let valid = agreed.map(|profile| profile.validity());
    let inside = valid.and_then(|valid| valid.overlap(stretch));
    let (Some(profile), Some(inside)) = (agreed, inside) else {
        cut_by_versions((catalog, None), stretch, paid_from, slices);
        return;
    };
    for (start, end, profile) in [
        (stretch.start, inside.start, None),
        (inside.start, inside.end, Some(profile)),
        (inside.end, stretch.end, None),
    ] {
        if start < end {
            let paid_from = paid_from.clamp(start, end);
            cut_by_versions((catalog, profile), Period { start, end }, paid_from, slices);
        }
    }
}

/// Adds the slices of a stretch in which one profile is in force, or none.
fn cut_by_versions(
    (catalog, profile): (Option<&Arc<Catalog>>, Option<&Arc<Profile>>),
    stretch: Period,
    paid_from: Timestamp,
    slices: &mut Vec<Slice>,
) {
    let mut push = |from, to, card: Option<&Arc<Card>>| {
        let slice = Slice {
            from,
            to,
            catalog: catalog.map(Arc::clone),
            profile: profile.map(Arc::clone),
            card: card.map(Arc::clone),
        };
        match slices.last_mut() {
            Some(before) if before.is_like(&slice) => before.to = to,
            _ => slices.push(slice),
        }
    };
    let (Some(catalog), Some(profile)) = (catalog, profile) else {
        push(stretch.start, stretch.end, None);
        return;
    };
    if stretch.start == paid_from {
        push(stretch.start, stretch.end, None);
        return;
    }
    let begins = |card: &Arc<Card>| profile.calendar.zone.start_of_day(card.from);
    let cards = catalog.versions_for(profile);
    let later = cards.partition_point(|card| begins(card) <= stretch.start);
    let mut from = stretch.start;
    let mut current = later.checked_sub(1).map(|at| &cards[at]);
    for card in &cards[later..] {
        let to = Ord::min(begins(card), paid_from);
        if from < to {
            push(from, to, current);
            from = to;
        }
        if to == paid_from {
            break;
        }
        current = Some(card);
    }
    if from < paid_from {
        push(from, paid_from, current);
    }
    if paid_from < stretch.end {
        push(paid_from, stretch.end, None);
    }
}

mod state;
#[cfg(test)]
mod tests;
