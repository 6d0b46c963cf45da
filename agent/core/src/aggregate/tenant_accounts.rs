//! Reading the accounts of tenants, at all inputs and at each.
//!
//! What is received for a tenant is counted by every input for itself. What is accepted is in the
//! cells and running totals, and what is rejected in words of its own, so that the account of
//! a tenant is checked like that of an input (see [`super::account`]), and the two share nothing
//! but the cells. Running totals do not tell inputs apart. What an input has accepted for one
//! tenant is therefore what it received less what it rejected and has in its hands; the sums of
//! these figures over the tenants and over the inputs are what the two checks are made of.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate::cell::{receipt, sum};
use tollgate_common::{SeriesKey, TenantId};

use super::account::{self, Account, AccountWords, Counts};
use super::pairs::is_overflow;
use super::slot::SlotUse;
use super::tenants::{self, TenantRecord};
use super::{CellCut, Cells, Region, Rejection};

/// The name of inputs that are no longer configured.
pub const EARLIER_INPUTS: &str = "(earlier inputs)";
/// Stands for them where writers have numbers.
const EARLIER: u32 = u32::MAX;

/// The account of one tenant at one input, or of those events of an input that are no tenant's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputAccount {
    /// The name of the input's writer, or [`EARLIER_INPUTS`].
    pub input: String,
    /// What became of the events.
    #[serde(flatten)]
    pub account: Account,
}

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
    /// The same at each input that received any.
    pub inputs: Vec<InputAccount>,
}

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
    /// At each input that has any, events that are no tenant's: malformed ones, and those lost
    /// before anybody saw whose they were.
    pub nobody: Vec<InputAccount>,
}

/// Whose series have lost their dimensions to a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantOverflow {
    /// Whose; `None` for those beyond the number of tenants that are told apart.
    pub tenant: Option<TenantId>,
    /// As in [`TenantAccount::overflow_lookups`].
    pub overflow_lookups: u64,
}

/// What one input knows of a tenant.
#[derive(Default)]
struct AtInput {
    record: TenantRecord,
    /// Events in its cells beyond the last cut.
    open: u64,
}

#[derive(Default)]
struct Tenant {
    counts: Counts,
    series: u64,
    overflow_series: u64,
    record: TenantRecord,
    /// Events known to be decided on when the reading began.
    settled: u64,
    /// By the number of the writer.
    inputs: BTreeMap<u32, AtInput>,
}

type Tenants = BTreeMap<Option<TenantId>, Tenant>;

/// The entry of a tenant, or of those who are not told apart.
fn entry(tenants: &mut Tenants, of: Option<TenantId>) -> &mut Tenant {
    let apart = tenants.len() < TENANTS_SEEN_MAX || tenants.contains_key(&of);
    tenants.entry(of.filter(|_| apart)).or_default()
}

impl AtInput {
    /// Events accepted in this life, if so many received ones are under way.
    fn accepted(&self, under_way: u64) -> u64 {
        let decided = self.record.rejected().saturating_add(under_way);
        let all = self.record.received.saturating_sub(decided);
        all.saturating_sub(self.record.accepted)
    }

    fn counts(&self, under_way: u64) -> Counts {
        Counts {
            sealed: self.accepted(under_way).saturating_sub(self.open),
            open: self.open,
        }
    }
}

impl Tenant {
    /// Events decided on, in this life and earlier ones.
    fn decided(&self) -> u64 {
        let counts = [
            self.record.accepted,
            self.counts.sealed,
            self.counts.open,
            self.record.rejected(),
        ];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    fn is_seen(&self) -> bool {
        self.decided() > 0 || self.record.received > 0 || self.record.overflowed > 0
    }

    fn add(&mut self, other: &Self) {
        let (own, more) = (&mut self.counts, other.counts);
        own.sealed = own.sealed.saturating_add(more.sealed);
        own.open = own.open.saturating_add(more.open);
        self.series += other.series;
        self.overflow_series += other.overflow_series;
        self.settled = self.settled.saturating_add(other.settled);
        self.record.add(&other.record);
        for (writer, more) in &other.inputs {
            let input = self.inputs.entry(*writer).or_default();
            input.record.add(&more.record);
            input.open = input.open.saturating_add(more.open);
        }
    }

    /// What is under way at each input. All of it together is known; where it is, as far as
    /// inputs have something in their hands, and else at the first that received as much.
    fn under_way(&self, in_hand: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
        let mut left = self.record.received.saturating_sub(self.decided());
        let mut shares = BTreeMap::new();
        for by_hand in [true, false] {
            for (writer, input) in &self.inputs {
                let share: &mut u64 = shares.entry(*writer).or_default();
                let most = input.accepted(*share).saturating_sub(input.open);
                let held = in_hand.get(writer).copied().unwrap_or(0);
                let more = if by_hand { most.min(held) } else { most }.min(left);
                *share += more;
                left -= more;
            }
        }
        shares
    }

    fn account(&self, of: Option<TenantId>, names: &[String], read: &Read) -> TenantAccount {
        let shares = self.under_way(&read.in_hand);
        let inputs = self.inputs.iter().map(|(writer, input)| {
            let share = shares.get(writer).copied().unwrap_or(0);
            let words = AccountWords::of_tenant(&input.record);
            InputAccount {
                input: name_of(names, *writer).to_owned(),
                account: words.to_account(input.counts(share), 0),
            }
        });
        let settled = if read.complete { self.settled } else { 0 };
        TenantAccount {
            tenant: of,
            series: self.series,
            overflow_series: self.overflow_series,
            overflow_events: self.record.overflow_events,
            overflow_lookups: self.record.overflowed,
            account: AccountWords::of_tenant(&self.record).to_account(self.counts, settled),
            inputs: inputs.filter(|input| input.account.received > 0).collect(),
        }
    }

    /// What the next incarnation keeps of the tenant, by writer.
    fn carried(self, of: Option<&TenantId>, read: &Read) -> Vec<(u32, TenantRecord)> {
        let mut shares = self.under_way(&read.in_hand);
        let surplus = self.decided().saturating_sub(self.record.received);
        let (overflow_events, lookups) = (self.record.overflow_events, self.record.overflowed);
        let mut inputs = self.inputs;
        if inputs.is_empty() {
            inputs.insert(EARLIER, AtInput::default());
        }
        let mut first = true;
        let each = inputs.into_iter().map(|(writer, input)| {
            let share = shares.remove(&writer).unwrap_or(0);
            let counts = input.counts(share);
            let mut record = input.record;
            record.tenant = of.cloned();
            record.received = record.received.saturating_sub(share);
            if !read.again.contains(&writer) {
                record.interrupted = record.interrupted.saturating_add(share);
            }
            let accepted = counts.sealed.saturating_add(counts.open);
            record.accepted = record.accepted.saturating_add(accepted);
            record.sealed = record.sealed.saturating_add(counts.sealed);
            (record.overflow_events, record.overflowed) = (0, 0);
            if std::mem::take(&mut first) {
                // What was decided on without having been received stays to be seen.
                record.accepted = record.accepted.saturating_add(surplus);
                record.sealed = record.sealed.saturating_add(surplus);
                (record.overflow_events, record.overflowed) = (overflow_events, lookups);
            }
            (writer, record)
        });
        each.collect()
    }

    /// The same where an older agent did not tell inputs apart, nor count what it received.
    fn carried_whole(self, of: Option<TenantId>) -> (u32, TenantRecord) {
        let (received, mut record) = (self.decided(), self.record);
        let accepted = self.counts.sealed.saturating_add(self.counts.open);
        record.accepted = record.accepted.saturating_add(accepted);
        record.sealed = record.sealed.saturating_add(self.counts.sealed);
        (record.tenant, record.received) = (of, received);
        (EARLIER, record)
    }
}

fn name_of(names: &[String], writer: u32) -> &str {
    names
        .get(writer as usize)
        .map_or(EARLIER_INPUTS, String::as_str)
}

/// One reading of all tenants.
#[derive(Default)]
struct Read {
    tenants: Tenants,
    /// Events that the inputs had in their hands at the end, by writer.
    in_hand: BTreeMap<u32, u64>,
    /// Writers that receive again what they had in their hands.
    again: Vec<u32>,
    /// False if running totals had no room for every tenant and meter.
    complete: bool,
}

impl<R: Region> Cells<R> {
    /// Events that an input has in its hands: what it had settled is read first, and what it has
    /// received after `between`.
    fn in_hand<T>(&self, writer: u32, between: impl FnOnce() -> T) -> (u64, T) {
        let settled = self.settled_events(writer);
        let found = between();
        let received = &self.shared().account(writer)[account::received_word()];
        let held = receipt::under_way(settled, receipt::read(received));
        (held, found)
    }

    fn records(&self, writer: u32) -> impl Iterator<Item = (u32, TenantRecord)> {
        tenants::records(self.shared(), writer).map(move |record| {
            let of = if record.earlier { EARLIER } else { writer };
            (of, record)
        })
    }

    fn tenants(&self) -> Read {
        self.steady(|applied| {
            let mut read = Read {
                complete: self.pairs() < self.layout().pairs(),
                ..Read::default()
            };
            let tenants = &mut read.tenants;
            for writer in 0..self.layout().writers() {
                let (held, records) =
                    self.in_hand(writer, || self.records(writer).collect::<Vec<_>>());
                for (of, record) in records {
                    let held = if of == EARLIER { 0 } else { held };
                    let tenant = entry(tenants, record.tenant);
                    let settled = record.received.saturating_sub(held);
                    tenant.settled = tenant.settled.saturating_add(settled);
                }
            }
            for pair in 0..self.pairs() {
                let names = self.pair(pair).map(|(names, _)| names);
                let key = names.and_then(|names| SeriesKey::from_canonical(&names).ok());
                let tenant = entry(tenants, key.map(|key| key.tenant().clone()));
                let sealed = &mut tenant.counts.sealed;
                *sealed = sealed.wrapping_add(self.pair_total(pair, applied).events);
            }
            for writer in 0..self.layout().writers() {
                for slot in 0..self.published(writer) {
                    let base = self.base(writer, slot, applied);
                    let now = self.now(writer, slot).unwrap_or(base);
                    self.add_open(tenants, (writer, slot), now, base);
                }
            }
            // What was received comes last.
            let mut shared = Vec::new();
            for writer in 0..self.layout().writers() {
                let (held, records) =
                    self.in_hand(writer, || self.records(writer).collect::<Vec<_>>());
                read.in_hand.insert(writer, held);
                for (of, record) in records {
                    if record.tenant.is_none() && record.received > 0 {
                        shared.push(of);
                    }
                    let tenant = entry(tenants, record.tenant.clone());
                    tenant.record.add(&record);
                    tenant.inputs.entry(of).or_default().record.add(&record);
                }
            }
            lump(tenants, &shared);
            read
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
        let input = tenant.inputs.entry(writer).or_default();
        input.open = input.open.wrapping_add(events);
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
        let mut read = self.tenants();
        let nobody = self.nobody(&read.tenants);
        let tenants = std::mem::take(&mut read.tenants).into_iter();
        let mut tenants: Vec<_> = tenants.filter(|(_, tenant)| tenant.is_seen()).collect();
        tenants.sort_by(|(a, left), (b, right)| {
            let busier = right.decided().cmp(&left.decided());
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
        let names = &self.identity().writers;
        TenantAccounts {
            tenants: number as u64,
            series: all.series,
            overflow_series: all.overflow_series,
            overflow_events: all.record.overflow_events,
            busiest: tenants
                .into_iter()
                .map(|(of, tenant)| tenant.account(of, names, &read))
                .collect(),
            others: (number > limit).then(|| others.account(None, names, &read)),
            nobody,
        }
    }

    /// The `limit` tenants with most lookups of series that lost their dimensions. Reads the
    /// records of tenants, and no slot.
    pub(crate) fn overflowing(&self, limit: usize) -> Vec<TenantOverflow> {
        let mut lookups: BTreeMap<Option<TenantId>, u64> = BTreeMap::new();
        for writer in 0..self.layout().writers() {
            for record in tenants::records(self.shared(), writer) {
                if record.overflowed > 0 {
                    let sum = lookups.entry(record.tenant).or_default();
                    *sum = sum.saturating_add(record.overflowed);
                }
            }
        }
        let mut all: Vec<_> = lookups
            .into_iter()
            .map(|(tenant, overflow_lookups)| TenantOverflow {
                tenant,
                overflow_lookups,
            })
            .collect();
        all.sort_by_key(|of| std::cmp::Reverse(of.overflow_lookups));
        all.truncate(limit);
        all
    }

    /// Events that all inputs have rejected for this reason, of each tenant that has any and has
    /// records of its own. Reads these records, and no slot.
    pub(crate) fn rejected_of_tenants(&self, reason: Rejection) -> BTreeMap<TenantId, u64> {
        let mut events: BTreeMap<TenantId, u64> = BTreeMap::new();
        for writer in 0..self.layout().writers() {
            for record in tenants::records(self.shared(), writer) {
                let rejected = record.rejected_for(reason);
                if let Some(tenant) = record.tenant.filter(|_| rejected > 0) {
                    let sum = events.entry(tenant).or_default();
                    *sum = sum.wrapping_add(rejected);
                }
            }
        }
        events
    }

    /// What the inputs account for beyond what they do for tenants.
    fn nobody(&self, tenants: &Tenants) -> Vec<InputAccount> {
        let inputs = (0..).zip(&self.identity().writers).map(|(writer, name)| {
            let mut known = TenantRecord::default();
            for input in tenants.values().filter_map(|of| of.inputs.get(&writer)) {
                known.add(&input.record);
            }
            InputAccount {
                input: name.clone(),
                account: self.account_words(writer).beyond(&known),
            }
        });
        inputs.filter(|of| of.account.received > 0).collect()
    }

    /// What a next incarnation keeps of tenants, each with the number of the writer that goes on
    /// with it, the busiest tenants first: where not all find room, they do.
    pub(super) fn carried_tenants(&self, writers: &[String]) -> Vec<(usize, TenantRecord)> {
        let mut read = self.tenants();
        let all = 0..self.layout().writers();
        read.again = all.filter(|&writer| self.receives_again(writer)).collect();
        let tenants = std::mem::take(&mut read.tenants).into_iter();
        let mut tenants: Vec<_> = tenants.filter(|(_, tenant)| tenant.is_seen()).collect();
        tenants.sort_by_key(|(_, tenant)| std::cmp::Reverse(tenant.decided()));
        let receipts = self.has_receipts();
        let names = &self.identity().writers;
        let carried = tenants.into_iter().flat_map(|(of, tenant)| {
            if receipts {
                tenant.carried(of.as_ref(), &read)
            } else {
                vec![tenant.carried_whole(of)]
            }
        });
        carried
            .map(|(writer, mut record)| {
                let name = names.get(writer as usize);
                let to = name.and_then(|name| writers.iter().position(|next| next == name));
                record.earlier = to.is_none();
                (to.unwrap_or(0), record)
            })
            .collect()
    }
}

/// Makes one of all tenants that share a row at one of these inputs: what was received for each of
/// them is not known. A tenant without a row at one of the inputs may be one of those who share it,
/// or may never have used the input; it is one of all in either case.
fn lump(tenants: &mut Tenants, shared: &[u32]) {
    if shared.is_empty() {
        return;
    }
    let without_row = |tenant: &Tenant| {
        shared.iter().any(|writer| {
            let input = tenant.inputs.get(writer);
            input.is_none_or(|input| input.record.tenant.is_none())
        })
    };
    let lumped = tenants
        .extract_if(.., |of, tenant| of.is_some() && without_row(tenant))
        .map(|(_, tenant)| tenant)
        .collect::<Vec<_>>();
    let others = tenants.entry(None).or_default();
    for tenant in lumped {
        others.add(&tenant);
    }
}

#[cfg(test)]
#[path = "tenant_accounts_tests.rs"]
mod checks;
