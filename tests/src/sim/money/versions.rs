//! Which version of the catalog says what for whom, and who pays.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::period::{Period, Zone};
use tollgate_common::{TenantId, Timestamp};

use super::super::options::Options;
use super::super::tariff::{self, Tariff};
use super::super::workload;

/// A version of the catalog.
#[derive(Debug)]
pub(super) struct Version {
    /// Since when it is in force.
    pub(super) from: Timestamp,
    pub(super) number: u64,
    pub(super) tenants: Option<BTreeSet<TenantId>>,
}

/// A stretch of a period with what prices it; with nothing where another tenant pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) span: Period,
    pub(super) tariff: Option<Tariff>,
}

/// Somebody with a profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Which tenant it is.
    pub(super) index: u64,
    pub(super) zone: Zone,
}

/// All versions in their order.
#[derive(Debug)]
pub struct Versions {
    options: Options,
    known: BTreeMap<TenantId, Known>,
    all: Vec<Version>,
}

impl Versions {
    /// Before the first one.
    pub(super) fn new(options: &Options) -> Self {
        let known = tariff::known_tenants(options).iter().zip(tariff::ZONES);
        let known = (0..).zip(known).map(|(index, (name, zone))| {
            let tenant = TenantId::new(name).expect("a plain name");
            let zone = zone.parse().expect("a zone of the database");
            (tenant, Known { index, zone })
        });
        Self {
            options: options.clone(),
            known: known.collect(),
            all: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, version: Version) {
        self.all.push(version);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Who the tenant is; `None` without a profile.
    pub(super) fn find(&self, tenant: &TenantId) -> Option<Known> {
        self.known.get(tenant).copied()
    }

    /// True if a version of this number was applied.
    pub(super) fn had(&self, number: u64) -> bool {
        self.all.iter().any(|version| version.number == number)
    }

    /// The first `known` versions, as far as they say something of the tenant.
    fn concerned(&self, tenant: &TenantId, known: usize) -> Vec<&Version> {
        let concerns = |version: &&Version| {
            let tenants = version.tenants.as_ref();
            tenants.is_none_or(|tenants| tenants.contains(tenant))
        };
        self.all.iter().take(known).filter(concerns).collect()
    }

    /// Who pays for a tenant at an instant, by the first `known` versions: nobody but itself before a
    /// version is in force that names another one.
    pub(super) fn payer_by(
        &self,
        tenant: &TenantId,
        instant: Timestamp,
        known: usize,
    ) -> Option<TenantId> {
        let index = self.find(tenant)?.index;
        let mut newest_first = self.concerned(tenant, known).into_iter().rev();
        let version = newest_first.find(|version| version.from <= instant)?;
        let is_paid = tariff::is_paid(&self.options, version.number, index);
        is_paid.then(|| workload::tenant(workload::TENANTS[0]))
    }

    /// The same by all versions.
    pub fn payer(&self, tenant: &TenantId, instant: Timestamp) -> Option<TenantId> {
        self.payer_by(tenant, instant, self.count())
    }

    /// What a version says of a tenant.
    pub(super) fn tariff(&self, tenant: &TenantId, number: u64) -> Tariff {
        let index = self.find(tenant).map_or(0, |known| known.index);
        Tariff::of(&self.options, number, index)
    }

    /// The stretches of a period, by the first `known` versions.
    pub(super) fn slices(&self, tenant: &TenantId, period: Period, known: usize) -> Vec<Slice> {
        let concerned = self.concerned(tenant, known);
        let index = self.find(tenant).map_or(0, |known| known.index);
        let mut slices: Vec<Slice> = Vec::new();
        for (place, version) in concerned.iter().enumerate() {
            // The first is in force since ever, but lets nobody pay before it came.
            let start = if place == 0 {
                period.start
            } else {
                Ord::max(version.from, period.start)
            };
            let mut later = concerned[place + 1..].iter().map(|version| version.from);
            let end = Ord::min(later.next().unwrap_or(period.end), period.end);
            let paid_from = if tariff::is_paid(&self.options, version.number, index) {
                Ord::max(version.from, start).min(end)
            } else {
                end
            };
            let tariff = self.tariff(tenant, version.number);
            for (start, end, tariff) in [(start, paid_from, Some(tariff)), (paid_from, end, None)] {
                if start < end {
                    let span = Period { start, end };
                    slices.push(Slice { span, tariff });
                }
            }
        }
        slices
    }
}
