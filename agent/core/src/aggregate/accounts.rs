//! Reading accounts: of inputs, and of tenants.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use serde::Serialize;
use tollgate::cell::sum;
use tollgate_common::{SeriesKey, TenantId};

use super::account::{self, ACCOUNT_WORDS, Account, AccountWords, Counts, InputLoss};
use super::header::AT_RETIRED;
use super::pairs::is_overflow;
use super::slot::SlotUse;
use super::tenants::{self, TenantRecord};
use super::{CellCut, Cells, Region, Rejection};

/// The account of one tenant, at all inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantAccount {
    /// Whose; `None` for those beyond the number of tenants that are told apart.
    pub tenant: Option<TenantId>,
    /// Series in use that have counted something.
    pub series: u64,
    /// Of these, series without dimensions that stand for those beyond a limit.
    pub overflow_series: u64,
    /// Events of series that had lost their dimensions to a limit, since the state directory
    /// was made. They inform: a kill within two stores of giving away the room of such a series
    /// may count its events twice here, and nowhere else.
    pub overflow_events: u64,
    /// Lookups of series that lost their dimensions: the number of such series, and again each
    /// time that a cache had forgotten one.
    pub overflow_lookups: u64,
    /// What became of the events.
    #[serde(flatten)]
    pub account: Account,
}

/// How often a reading that a seal has overtaken is made again.
const ATTEMPTS: usize = 64;

/// Most tenants that are told apart in one look; those that come later are lumped together.
pub(crate) const TENANTS_SEEN_MAX: usize = 1 << 14;

/// The accounts of tenants: the busiest, and all others as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantAccounts {
    /// How many tenants have an account.
    pub tenants: u64,
    /// Series in use, of all tenants.
    pub series: u64,
    /// Of these, series without dimensions that stand for those beyond a limit.
    pub overflow_series: u64,
    /// Events counted on these, of all tenants, as in [`TenantAccount::overflow_events`].
    pub overflow_events: u64,
    /// The busiest first.
    pub busiest: Vec<TenantAccount>,
    /// The rest; `None` if there is none.
    pub others: Option<TenantAccount>,
}

#[derive(Default)]
struct Tenant {
    counts: Counts,
    series: u64,
    overflow_series: u64,
    record: TenantRecord,
}

type Tenants = BTreeMap<Option<TenantId>, Tenant>;

/// The entry of a tenant, or of those who are not told apart.
fn entry(tenants: &mut Tenants, of: Option<TenantId>) -> &mut Tenant {
    let apart = tenants.len() < TENANTS_SEEN_MAX || tenants.contains_key(&of);
    tenants.entry(of.filter(|_| apart)).or_default()
}

impl Tenant {
    fn received(&self) -> u64 {
        let rejected = self.record.rejected.iter();
        let counts = [
            &self.record.accepted,
            &self.counts.sealed,
            &self.counts.open,
        ];
        counts
            .into_iter()
            .chain(rejected)
            .fold(0, |sum, &n| sum.saturating_add(n))
    }

    fn add(&mut self, other: &Self) {
        let (own, more) = (&mut self.counts, other.counts);
        own.sealed = own.sealed.saturating_add(more.sealed);
        own.open = own.open.saturating_add(more.open);
        self.series += other.series;
        self.overflow_series += other.overflow_series;
        self.record.add(&other.record);
    }

    fn account(&self, of: Option<TenantId>) -> TenantAccount {
        let record = &self.record;
        let mut words = AccountWords::default();
        words.set_carried(record.accepted, record.sealed, record.rejected);
        TenantAccount {
            tenant: of,
            series: self.series,
            overflow_series: self.overflow_series,
            overflow_events: record.overflow_events,
            overflow_lookups: record.overflowed,
            account: words.to_account(self.counts),
        }
    }
}

impl<R: Region> Cells<R> {
    /// Reads while no batch is applied, so that what is sealed and what is open are of the same
    /// instant.
    fn steady<T>(&self, read: impl Fn(u64) -> T) -> T {
        for _ in 0..ATTEMPTS {
            let applied = self.applied();
            let found = read(applied);
            fence(Acquire);
            if self.applied() == applied {
                return found;
            }
        }
        read(self.applied())
    }

    /// Events that this incarnation counted for a writer.
    fn counts(&self, writer: u32) -> Counts {
        self.steady(|applied| {
            let mut counts = Counts::default();
            for slot in 0..self.published(writer) {
                let base = self.base(writer, slot, applied);
                let now = self.now(writer, slot).unwrap_or(base);
                counts.sealed = counts.sealed.wrapping_add(base.done);
                counts.open = counts.open.wrapping_add(now.since(base).1);
            }
            counts
        })
    }

    fn account_words(&self, writer: u32) -> AccountWords {
        AccountWords::read(self.shared().account(writer))
    }

    /// Events that inputs know to be lost by this cause, over all writers of this life and
    /// those carried into it.
    pub(crate) fn events_lost(&self, cause: InputLoss) -> u64 {
        self.sum_of(account::lost_word(cause))
    }

    /// Events that inputs have rejected for this reason, likewise.
    pub(crate) fn events_rejected(&self, reason: Rejection) -> u64 {
        self.sum_of(account::rejected_word(reason))
    }

    fn sum_of(&self, word: usize) -> u64 {
        (0..self.layout().writers()).fold(0, |sum, writer| {
            sum.wrapping_add(self.shared().account(writer)[word].load(Relaxed))
        })
    }

    /// The accounts of all writers by name, as they stand.
    pub(crate) fn accounts(&self) -> Vec<(&str, Account)> {
        let names = self.identity().writers.iter();
        (0..)
            .zip(names)
            .map(|(writer, name)| {
                let counts = self.counts(writer);
                let account = self.account_words(writer).to_account(counts);
                (name.as_str(), account)
            })
            .collect()
    }

    /// The account of writers that are no longer configured.
    pub(crate) fn retired_account(&self) -> Account {
        AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS])
            .to_account(Counts::default())
    }

    /// The accounts that a next incarnation with these writers starts from, and the one of
    /// writers that it does not have.
    pub(crate) fn carried_accounts(&self, writers: &[String]) -> (Vec<AccountWords>, AccountWords) {
        let mut retired = AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS]);
        let mut carried = vec![AccountWords::default(); writers.len()];
        for (index, name) in (0..).zip(&self.identity().writers) {
            let mut words = self.account_words(index);
            words.carry(self.counts(index));
            match writers.iter().position(|writer| writer == name) {
                Some(at) => carried[at] = words,
                None => retired.merge(&words),
            }
        }
        (carried, retired)
    }

    fn tenants(&self) -> Tenants {
        self.steady(|applied| {
            let mut tenants = Tenants::new();
            for pair in 0..self.pairs() {
                let names = self.pair(pair).map(|(names, _)| names);
                let key = names.and_then(|names| SeriesKey::from_canonical(&names).ok());
                let tenant = entry(&mut tenants, key.map(|key| key.tenant().clone()));
                let sealed = &mut tenant.counts.sealed;
                *sealed = sealed.wrapping_add(self.pair_total(pair, applied).events);
            }
            for writer in 0..self.layout().writers() {
                for record in tenants::records(self.shared(), writer) {
                    entry(&mut tenants, record.tenant.clone())
                        .record
                        .add(&record);
                }
                for slot in 0..self.published(writer) {
                    let base = self.base(writer, slot, applied);
                    let now = self.now(writer, slot).unwrap_or(base);
                    self.add_open(&mut tenants, (writer, slot), now, base);
                }
            }
            tenants
        })
    }

    fn add_open(
        &self,
        tenants: &mut Tenants,
        (writer, slot): (u32, u32),
        now: CellCut,
        base: CellCut,
    ) {
        let (_, events) = now.since(base);
        if sum::events(now.done) == 0 {
            return;
        }
        let found = self.slot(writer, slot, now.generation());
        let (of, overflow) = match found {
            SlotUse::Series(of) => {
                let overflow = is_overflow(&of.key);
                (Some(of.key.tenant().clone()), overflow.then_some(of.before))
            }
            SlotUse::Free | SlotUse::Damaged => (None, None),
        };
        if events == 0 && of.is_none() {
            return;
        }
        let series = u64::from(of.is_some());
        let tenant = entry(tenants, of);
        tenant.counts.open = tenant.counts.open.wrapping_add(events);
        tenant.series += series;
        if let Some(before) = overflow {
            tenant.overflow_series += series;
            let all = sum::events_between(now.done, before);
            tenant.record.overflow_events = tenant.record.overflow_events.saturating_add(all);
        }
    }

    /// The accounts of tenants: the busiest `limit` of them, and the rest as one.
    ///
    /// Reads every slot; for a page that somebody looks at, not for every event.
    pub(crate) fn tenant_accounts(&self, limit: usize) -> TenantAccounts {
        let seen = |tenant: &Tenant| tenant.received() > 0 || tenant.record.overflowed > 0;
        let tenants = self.tenants().into_iter();
        let mut tenants: Vec<_> = tenants.filter(|(_, tenant)| seen(tenant)).collect();
        tenants.sort_by(|(a, left), (b, right)| {
            let busier = right.received().cmp(&left.received());
            busier.then_with(|| a.cmp(b))
        });
        let mut all = Tenant::default();
        let mut others = Tenant::default();
        for (at, (_, tenant)) in tenants.iter().enumerate() {
            all.add(tenant);
            if at >= limit {
                others.add(tenant);
            }
        }
        let number = tenants.len();
        tenants.truncate(limit);
        let busiest = tenants.into_iter();
        TenantAccounts {
            tenants: number as u64,
            series: all.series,
            overflow_series: all.overflow_series,
            overflow_events: all.record.overflow_events,
            busiest: busiest.map(|(of, tenant)| tenant.account(of)).collect(),
            others: (number > limit).then(|| others.account(None)),
        }
    }

    /// What a next incarnation keeps of tenants.
    pub(super) fn carried_tenants(&self) -> Vec<(TenantId, TenantRecord)> {
        let mut tenants: Vec<_> = self
            .tenants()
            .into_iter()
            .filter_map(|(of, tenant)| {
                let (mut record, counts) = (tenant.record, tenant.counts);
                let accepted = counts.sealed.saturating_add(counts.open);
                record.accepted = record.accepted.saturating_add(accepted);
                record.sealed = record.sealed.saturating_add(counts.sealed);
                Some((of?, record))
            })
            .collect();
        // Where not all find room, the busiest do.
        tenants.sort_by_key(|(_, record)| std::cmp::Reverse(record.accepted));
        tenants.truncate(tenants::TENANTS_MAX);
        tenants
    }
}

impl AccountWords {
    /// The account of a tenant's earlier lives and rejections.
    fn set_carried(&mut self, accepted: u64, sealed: u64, rejected: [u64; Rejection::ALL.len()]) {
        self.carry(Counts {
            sealed,
            open: accepted.saturating_sub(sealed),
        });
        for (reason, n) in Rejection::ALL.into_iter().zip(rejected) {
            self.0[super::account::rejected_word(reason)] = n;
        }
    }
}
