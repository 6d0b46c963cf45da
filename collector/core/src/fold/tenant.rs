//! The tenant fold: the usage of one partition's tenants becomes periods, lines and ledger
//! entries.
//!
//! - *Window*: a rollup changes its series' usage in a window of the projections.
//! - *Period*: it counts into the billing period in which its window begins, by the tenant's
//!   calendar. Calendar periods never cut a window; where a short fixed period does, the
//!   rollup counts where it begins and the line says so.
//! - *Rate*: a closing rates the cumulative usage of the period and books how the lines
//!   differ from what is booked. What has no price is booked as unrated with its reason, so
//!   that the quantities of all entries add up to what was counted.
//!
//! State is bounded by series × periods seen. Closed periods stay, because late usage is
//! rated with all the usage of its period.

mod account;
mod accrual;
mod book;
mod closable;
mod close;
mod due;
mod loss;
mod state;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Aggregation, Detail, Quantity, Rollup, TenantId, Timestamp, Window, WindowWidth,
};

pub use accrual::{Accrual, AccrualLine};
pub use book::UnratedReason;
pub use closable::CloseRefused;

use self::account::{Account, AccountKey};
use self::loss::LossKey;
use self::state::{Catalogs, pairs};
use self::usage::{PeriodBook, ROLLUP_UNITS_MAX};
use super::{Rows, TenantInput};
use crate::catalog::Catalog;
use crate::effect::{Effect, PeriodState, PeriodStatus, UsageChange};
use crate::entry::{Digest, Opened, RefusedReason};
use crate::ledger::{Certainty, Chain, EntryKind, EntryRef, Posting};
use crate::period::{Calendar, Calendars, Period};
use crate::policy::Policy;
use crate::position::Position;

/// Settlement time before the journal has named one: a day.
const SETTLEMENT_MILLIS_DEFAULT: i64 = 86_400_000;

/// The fold of one tenant partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantFold {
    partition: u16,
    chain: Chain,
    /// Width of the projections' windows; agents' own windows until the journal names one.
    usage_window: Option<WindowWidth>,
    settlement_millis: i64,
    catalogs: Catalogs,
    /// Canonical text of the policy, and what it says.
    policy_text: Option<String>,
    #[serde(skip)]
    policy: Option<Arc<Policy>>,
    watermarks: BTreeMap<AgentId, Timestamp>,
    tenants: BTreeMap<TenantId, Tenant>,
    /// Periods that a closing would change, by end.
    waiting: BTreeSet<(Timestamp, TenantId, Timestamp)>,
    #[serde(with = "pairs")]
    accounts: BTreeMap<AccountKey, Account>,
    /// Entries of losses that were not taken back.
    #[serde(with = "pairs")]
    losses: BTreeMap<LossKey, Vec<EntryRef>>,
    oddities: Oddities,
    /// Number of tenant partitions; 0 while it is not known.
    #[serde(default)]
    partitions: u16,
    /// When to look next for periods that something is due for.
    #[serde(default)]
    due_next: Timestamp,
    /// When the catalog in force came; `None` if there is none, or a former version did not say.
    #[serde(default)]
    catalog_since: Option<Timestamp>,
}

/// Inputs that had no effect because they did not fit the state. They stay at zero unless
/// somebody writes to the journal by hand or another version did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oddities {
    /// Catalogs that this version cannot read.
    pub catalogs_ignored: u64,
    /// Policies that this version cannot read.
    pub policies_ignored: u64,
    /// Closings of no period, of one that is not over, of another round, or by an unknown
    /// catalog. Also closings that were decided twice at the same time.
    pub closings_ignored: u64,
}

/// What is known of a tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tenant {
    calendars: Calendars,
    /// By start.
    #[serde(with = "pairs")]
    books: BTreeMap<Timestamp, PeriodBook>,
    /// Periods from here on are still to be looked at for what is due without usage.
    #[serde(default)]
    due_from: Option<Timestamp>,
    /// Periods count from here on; `None` where a former version did not say.
    #[serde(default)]
    due_since: Option<Timestamp>,
    /// The period that was used last: nearly every rollup belongs to it.
    #[serde(skip)]
    recent: Option<Period>,
}

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not a tenant fold of this version.
    #[error("snapshot of the tenant fold: {0}; delete the snapshots to replay the journal instead")]
    Malformed(#[from] serde_json::Error),
    /// The policy in it is not valid.
    #[error(
        "snapshot of the tenant fold: its policy is not valid; delete the snapshots to replay the journal instead"
    )]
    Policy,
}

impl TenantFold {
    /// An empty fold.
    pub fn new(partition: u16) -> Self {
        Self {
            partition,
            chain: Chain::new(partition),
            usage_window: None,
            settlement_millis: SETTLEMENT_MILLIS_DEFAULT,
            catalogs: Catalogs::default(),
            policy_text: None,
            policy: None,
            watermarks: BTreeMap::new(),
            tenants: BTreeMap::new(),
            waiting: BTreeSet::new(),
            accounts: BTreeMap::new(),
            losses: BTreeMap::new(),
            oddities: Oddities::default(),
            partitions: 0,
            due_next: Timestamp::EPOCH,
            catalog_since: None,
        }
    }

    /// The same with the number of partitions, which states of former versions do not know.
    pub(super) fn among(&mut self, partitions: u16) {
        if self.partitions == 0 {
            self.partitions = partitions;
        }
    }

    /// Applies one input that the journal entry at `position` caused, and says what changed.
    ///
    /// Deterministic: the same inputs in the same order give the same effects and state.
    pub fn apply(
        &mut self,
        position: Position,
        stamp: Timestamp,
        input: &TenantInput,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            TenantInput::Opened(opened) => self.handle_opened(opened),
            TenantInput::Catalog(change) => match Catalog::parse(&change.files) {
                Ok(catalog) => {
                    // What began before is due by the catalog before.
                    self.open_all_due(stamp, &mut effects);
                    self.handle_catalog(stamp, Arc::new(catalog));
                    self.restart_due(stamp);
                }
                Err(_) => self.oddities.catalogs_ignored += 1,
            },
            TenantInput::Policy(change) => self.handle_policy(&change.text),
            TenantInput::Rows(rows) => self.handle_rows(position, stamp, rows, &mut effects),
            TenantInput::Accepted(accepted) => {
                let key = (
                    accepted.tenant.clone(),
                    accepted.meter.clone(),
                    accepted.scale,
                );
                let account = self.accounts.entry(key.clone()).or_default();
                account::add(&mut account.accepted, accepted.quantity);
                effects.push(Effect::Account(account.state(&key)));
            }
            TenantInput::Loss(declared) => {
                self.handle_loss(position, stamp, declared, &mut effects);
            }
            TenantInput::LossReversed(declared) => {
                self.handle_loss_reversed(position, stamp, declared, &mut effects);
            }
            TenantInput::Watermarks(moved) => {
                for (agent, watermark) in moved.iter() {
                    let known = self.watermarks.entry(agent.clone()).or_insert(*watermark);
                    *known = Ord::max(*known, *watermark);
                }
            }
            TenantInput::Close(closing) => {
                // Time may have jumped over the period that is closed.
                self.open_due(stamp, &mut effects);
                if !self.handle_close(position, stamp, closing, &mut effects) {
                    self.oddities.closings_ignored += 1;
                }
            }
            TenantInput::Clock => {}
        }
        self.open_due(stamp, &mut effects);
        effects
    }

    fn handle_opened(&mut self, opened: &Opened) {
        self.usage_window = WindowWidth::from_secs(opened.usage_window_secs).ok();
        self.settlement_millis = opened.settlement_millis.max(0);
        self.partitions = opened.partitions;
    }

    fn handle_catalog(&mut self, stamp: Timestamp, catalog: Arc<Catalog>) {
        for (name, tenant) in &mut self.tenants {
            // Usage may run ahead of the stamp a little; its period counts as open too.
            let ahead = tenant
                .books
                .last_key_value()
                .map_or(stamp, |(start, _)| *start);
            let now = Ord::max(stamp, ahead);
            tenant
                .calendars
                .change(now, calendar_of(Some(&catalog), name));
            tenant.recent = None;
        }
        self.catalogs.set(catalog);
    }

    fn handle_policy(&mut self, text: &str) {
        match Policy::parse(text) {
            Ok(policy) => {
                self.policy = Some(Arc::new(policy));
                self.policy_text = Some(text.to_owned());
            }
            Err(_) => self.oddities.policies_ignored += 1,
        }
    }

    fn handle_rows(
        &mut self,
        position: Position,
        stamp: Timestamp,
        rows: &Rows,
        effects: &mut Vec<Effect>,
    ) {
        let mut touched: BTreeSet<AccountKey> = BTreeSet::new();
        let allowed = rows.allowed.iter().map(|row| (row, None));
        let refused = rows
            .refused
            .iter()
            .map(|(row, reason)| (row, Some(*reason)));
        for (row, refused) in allowed.chain(refused) {
            if row.aggregation.adds_up() {
                let (tenant, meter) = (row.series.tenant(), row.series.meter());
                let key = (tenant.clone(), meter.clone(), row.scale);
                let account = self.accounts.entry(key.clone()).or_default();
                let figure = match refused {
                    None => &mut account.counted,
                    Some(_) => &mut account.refused,
                };
                account::add(figure, row.value);
                touched.insert(key);
            }
            // What is too large to be added to anything stands in the ledger alone: no table of
            // usage has to add it either, and a few such rows cannot overflow one.
            if row.value.units().unsigned_abs() > ROLLUP_UNITS_MAX {
                self.book_too_large(position, stamp, row, refused, effects);
            } else {
                effects.push(Effect::Usage(self.usage_change(&rows.agent, row, refused)));
                self.count(position, stamp, &rows.agent, row, refused, effects);
            }
        }
        for key in touched {
            if let Some(account) = self.accounts.get(&key) {
                effects.push(Effect::Account(account.state(&key)));
            }
        }
    }

    fn usage_change(
        &self,
        agent: &AgentId,
        row: &Rollup,
        refused: Option<RefusedReason>,
    ) -> UsageChange {
        let window = match self.usage_window {
            Some(width) if width.secs() > row.window.width().secs() => {
                Window::containing(row.window.start(), width)
            }
            _ => row.window,
        };
        let order = (row.aggregation == Aggregation::Last)
            .then(|| format!("{:015}/{agent}", row.window.start().millis()));
        UsageChange {
            series: Arc::clone(&row.series),
            aggregation: row.aggregation,
            scale: row.scale,
            window,
            refused,
            quantity: match &row.detail {
                Detail::Unique(sketch) => Quantity::new(sketch.estimate().into()),
                Detail::None | Detail::Distribution(_) => row.value,
            },
            detail: row.detail.clone(),
            events: row.events,
            order,
        }
    }

    /// Counts a rollup into its period.
    fn count(
        &mut self,
        position: Position,
        stamp: Timestamp,
        agent: &AgentId,
        row: &Rollup,
        refused: Option<RefusedReason>,
        effects: &mut Vec<Effect>,
    ) {
        let name = row.series.tenant();
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, name, stamp);
        let start = row.window.start();
        let reached_back = refused.is_none() && tenant.reach_back(start, self.catalog_since);
        let period = match tenant.recent {
            Some(period) if period.contains(start) => period,
            _ => tenant.calendars.period_containing(start),
        };
        tenant.recent = Some(period);
        let is_new = !tenant.books.contains_key(&period.start);
        if is_new {
            let book = PeriodBook::new(period);
            open_book(tenant, name, book, &mut self.waiting, effects);
        }
        if is_new || reached_back {
            // A tenant that is new may have periods that end sooner than all others.
            let due = tenant.due_from.unwrap_or(self.due_next);
            self.due_next = Ord::min(self.due_next, due);
        }
        let Some(book) = tenant.books.get_mut(&period.start) else {
            return;
        };
        let was_waiting = book.is_waiting();
        book.count(position, stamp, agent, row, refused);
        if !was_waiting && book.is_waiting() {
            self.waiting
                .insert((book.period.end, name.clone(), book.period.start));
        }
    }

    /// Books a rollup that is too large to be added to anything.
    fn book_too_large(
        &mut self,
        position: Position,
        stamp: Timestamp,
        row: &Rollup,
        refused: Option<RefusedReason>,
        effects: &mut Vec<Effect>,
    ) {
        let reason = UnratedReason::RollupTooLarge;
        let (kind, line) = match refused {
            None => (EntryKind::Unrated, reason.as_str()),
            Some(refused) => (EntryKind::Refused, refused.as_str()),
        };
        let posting = Posting {
            kind,
            tenant: Some(row.series.tenant().clone()),
            start: row.window.start(),
            end: row.window.end(),
            line: line.to_owned(),
            meter: Some(row.series.meter().clone()),
            quantity: row.value,
            scale: row.scale,
            certainty: Certainty::Exact,
            amount: None,
            currency: None,
            catalog: None,
            arithmetic: reason.explain().to_owned(),
            refers_to: None,
            agent: None,
            incarnation: None,
            sequences: None,
            journal_from: position,
            journal_to: position,
        };
        self.post(stamp, posting, effects);
    }

    /// Chains a posting.
    fn post(&mut self, stamp: Timestamp, posting: Posting, effects: &mut Vec<Effect>) -> EntryRef {
        let entry = self.chain.append(stamp, posting);
        let at = entry.at;
        effects.push(Effect::Ledger(Box::new(entry)));
        at
    }

    /// Number of this partition.
    pub fn partition(&self) -> u16 {
        self.partition
    }

    /// The catalog in force, `None` before the first.
    pub fn catalog_digest(&self) -> Option<Digest> {
        self.catalogs.current().map(|catalog| catalog.digest())
    }

    /// The policy in force, `None` before the first.
    pub fn policy_digest(&self) -> Option<Digest> {
        self.policy.as_ref().map(|policy| policy.digest())
    }

    /// The end of the ledger chain.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Inputs that had no effect.
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// The state, for a snapshot.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("all maps with compound keys are written as lists")
    }

    /// The state of a snapshot.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut fold: Self = serde_json::from_slice(bytes)?;
        if let Some(text) = &fold.policy_text {
            let policy = Policy::parse(text).map_err(|_| SnapshotError::Policy)?;
            fold.policy = Some(Arc::new(policy));
        }
        Ok(fold)
    }
}

/// A tenant, described by the catalog in force when it is seen first, at `stamp`.
fn tenant_of<'t>(
    tenants: &'t mut BTreeMap<TenantId, Tenant>,
    catalogs: &Catalogs,
    name: &TenantId,
    stamp: Timestamp,
) -> &'t mut Tenant {
    tenants.entry(name.clone()).or_insert_with(|| {
        let mut tenant = Tenant {
            calendars: Calendars::new(calendar_of(catalogs.current().map(|c| &**c), name)),
            books: BTreeMap::new(),
            due_from: None,
            due_since: None,
            recent: None,
        };
        tenant.begin_due(stamp);
        tenant
    })
}

/// Opens the book of a period by adding it to the tenant's.
fn open_book(
    tenant: &mut Tenant,
    name: &TenantId,
    book: PeriodBook,
    waiting: &mut BTreeSet<(Timestamp, TenantId, Timestamp)>,
    effects: &mut Vec<Effect>,
) {
    let period = book.period;
    effects.push(Effect::Period(PeriodState {
        tenant: name.clone(),
        start: period.start,
        end: period.end,
        status: PeriodStatus::Open,
        rounds: 0,
        closing: None,
    }));
    waiting.insert((period.end, name.clone(), period.start));
    tenant.books.insert(period.start, book);
}

/// The calendar of a tenant: its profile's, else calendar months in UTC.
fn calendar_of(catalog: Option<&Catalog>, tenant: &TenantId) -> Calendar {
    let profile = catalog.and_then(|catalog| catalog.profile(tenant));
    profile.map_or(Calendar::DEFAULT, |profile| profile.calendar)
}

#[cfg(test)]
mod tests;
