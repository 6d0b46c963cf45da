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
mod accounts;
mod accrual;
mod anew;
mod aside;
mod beside;
mod billing;
mod book;
mod books;
mod changed;
mod closable;
mod close;
mod count;
mod crowd;
mod digest;
mod due;
mod dues;
mod family;
mod interim;
mod late;
mod loss;
mod manual;
mod meters;
mod operated;
mod rare;
mod reason;
mod rework;
mod series;
mod shares;
mod split;
mod standing;
mod state;
mod tied;
mod unprofiled;
mod usage;
mod usage_shares;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{AgentId, TenantId, Timestamp, WindowWidth};

pub use accrual::{Accrual, AccrualLine};
pub use book::UnratedReason;
pub use closable::CloseRefused;
pub use crowd::CrowdAccount;
pub use dues::{
    Due, Dues, IssueRefused, IssueWish, IssuedDocument, Issuer, NegativePolicy, WishedDocument,
    ZeroPolicy,
};
pub use interim::InterimRefused;
pub use manual::ManualRefused;
pub(super) use operated::is_possible;
pub use operated::{OpenChange, OperatedRefused, Preview};
pub use standing::{MissingAgent, PeriodStanding, WaitsFor};
pub use usage_shares::{Amounts, MeterShares, Share, Shares, Standing};

use self::accounts::Accounts;
use self::books::Books;
use self::changed::Changed;
use self::loss::LossKey;
use self::rare::Rare;
use self::series::Agents;
use self::state::{Catalogs, pairs};
use self::usage::PeriodBook;
use super::TenantInput;
use super::packed::halves;
use super::planted::Planted;
use crate::bill::Carried;
use crate::catalog::{Catalog, Families};
use crate::effect::{Effect, PeriodState, PeriodStatus};
use crate::entry::{CatalogChange, Digest, Opened};
use crate::ledger::{Chain, EntryRef, Posting, check_balance};
use crate::period::{Calendar, Calendars, Period};
use crate::policy::Policy;
use crate::position::Position;

/// Settlement time before the journal has named one: a day.
const SETTLEMENT_MILLIS_DEFAULT: i64 = 86_400_000;

/// Periods that a closing would change, by end, tenant and start.
type Waiting = BTreeSet<(Timestamp, TenantId, Timestamp)>;

/// There may be a hundred thousand: a tree keeps room for half as many again, which is little for
/// pointers.
type Tenants = BTreeMap<TenantId, Box<Tenant>>;

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
    /// Agents that periods do not wait for, because an operator said that they are gone.
    retired: BTreeSet<AgentId>,
    tenants: Tenants,
    waiting: Waiting,
    accounts: Accounts,
    /// Entries of losses that were not taken back.
    #[serde(with = "pairs")]
    losses: BTreeMap<LossKey, Vec<EntryRef>>,
    oddities: Oddities,
    /// Who has reported levels.
    reporters: Agents,
    /// Seed of hashes: of the journal's life, which nobody knows who could choose names of series.
    seed: u64,
    /// Number of tenant partitions; 0 while it is not known.
    partitions: u16,
    /// When to look next for periods that something is due for.
    due_next: Timestamp,
    /// When the catalog in force came.
    catalog_since: Option<Timestamp>,
    /// Breaks the rules on purpose.
    planted: Planted,
    /// Who has changed since somebody looked.
    #[serde(skip)]
    changed: Changed,
    /// See [`TenantFold::changes`].
    #[serde(skip)]
    changes: u64,
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
    /// Interims of no open period, that were decided twice, or of what cannot be rated.
    pub interims_ignored: u64,
    /// Manual entries that are not sound, were made before, or name a line that does not wait.
    pub manual_ignored: u64,
    /// What operators did that does not fit the state, or was done twice.
    pub operated_ignored: u64,
}

/// What is known of a tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tenant {
    calendars: Calendars,
    books: Books,
    /// Periods from here on are still to be looked at for what is due without usage.
    due_from: Option<Timestamp>,
    /// Periods count from here on.
    due_since: Option<Timestamp>,
    /// What documents are decided from.
    dues: Rare<Dues>,
    /// What the bills of its periods have to know of each other.
    #[serde(with = "state::text")]
    carried: Rare<Carried>,
    /// Keys of the corrections that operators made.
    corrections: BTreeSet<String>,
    /// The period that was used last: nearly every rollup belongs to it.
    #[serde(skip)]
    recent: Option<Period>,
    /// It is among those that have changed.
    #[serde(skip)]
    changed: bool,
    /// What [`TenantFold::changes`] was when something last changed what its periods cost.
    #[serde(skip)]
    changed_at: u64,
}

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not a tenant fold of this version.
    #[error("snapshot of the tenant fold: {0}; delete the snapshots to replay the journal instead")]
    Malformed(#[from] postcard::Error),
    /// There is more than a tenant fold.
    #[error(
        "snapshot of the tenant fold: {0} bytes too many; delete the snapshots to replay the journal instead"
    )]
    Rest(usize),
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
            retired: BTreeSet::new(),
            tenants: BTreeMap::new(),
            waiting: BTreeSet::new(),
            accounts: Accounts::default(),
            losses: BTreeMap::new(),
            oddities: Oddities::default(),
            reporters: Agents::default(),
            seed: 0,
            partitions: 0,
            due_next: Timestamp::EPOCH,
            catalog_since: None,
            planted: Planted::default(),
            changed: Changed::default(),
            changes: 0,
        }
    }

    /// Breaks the rules on purpose, for showing that tests find it.
    pub(super) fn plant(&mut self, bug: Planted) {
        if bug != Planted::default() {
            self.planted = bug;
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
        self.changes += 1;
        match input {
            TenantInput::Opened(opened) => self.handle_opened(opened),
            TenantInput::Catalog(change) => match Catalog::parse(&change.files) {
                Ok(catalog) => {
                    // What began before is due by the catalog before.
                    self.open_all_due(stamp, &mut effects);
                    self.handle_catalog(stamp, change, catalog);
                    self.restart_due(stamp);
                    self.changed_all(stamp);
                }
                Err(_) => self.oddities.catalogs_ignored += 1,
            },
            TenantInput::Policy(change) => self.handle_policy(&change.text),
            TenantInput::Rows(rows) => self.handle_rows(position, stamp, rows, &mut effects),
            TenantInput::ChildRows(rows) => {
                self.handle_child_rows(position, stamp, rows, &mut effects);
            }
            TenantInput::ChildLoss(declared) => self.handle_child_loss(stamp, declared),
            TenantInput::ChildOperated(operated) => {
                self.handle_child_operated(position, stamp, operated, &mut effects);
            }
            TenantInput::Accepted(accepted) => self.handle_accepted(accepted),
            TenantInput::Loss(declared) => {
                self.handle_loss(position, stamp, declared, &mut effects);
            }
            TenantInput::LossReversed(declared) => {
                self.handle_loss_reversed(position, stamp, declared, &mut effects);
            }
            TenantInput::Watermarks(moved) => {
                for (agent, watermark) in moved.iter() {
                    // Who reports again is there again.
                    self.retired.remove(agent);
                    let known = self.watermarks.entry(agent.clone()).or_insert(*watermark);
                    *known = Ord::max(*known, *watermark);
                }
            }
            TenantInput::Close(closing) => {
                // Time may have jumped over the period that is closed.
                self.open_due(stamp, &mut effects);
                if self.handle_close(position, stamp, closing, &mut effects) {
                    // What it carries on, and the next period that late usage may have opened.
                    self.changed_one(stamp, &closing.tenant);
                } else {
                    self.oddities.closings_ignored += 1;
                }
            }
            TenantInput::Interim(interim) => {
                if self.handle_interim(position, stamp, interim, &mut effects) {
                    self.changed_one(stamp, &interim.tenant);
                } else {
                    self.oddities.interims_ignored += 1;
                }
            }
            TenantInput::Manual(manual) => {
                if !self.handle_manual(position, stamp, manual, &mut effects) {
                    self.oddities.manual_ignored += 1;
                }
            }
            TenantInput::Issue(issue, sequence) => {
                self.handle_issue(position, stamp, issue, *sequence, &mut effects);
            }
            TenantInput::Operated(operated) => {
                let done = self.handle_operated(position, stamp, operated, &mut effects);
                if done.is_err() {
                    self.oddities.operated_ignored += 1;
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
        [self.seed, _] = halves(*opened.lineage.as_bytes());
    }

    fn handle_catalog(&mut self, stamp: Timestamp, change: &CatalogChange, catalog: Catalog) {
        self.catalogs.apply(stamp, change, catalog);
        for (name, tenant) in &mut self.tenants {
            let catalog = self.catalogs.current_for(name).map(|catalog| &**catalog);
            // Usage may run ahead of the stamp a little; its period counts as open too.
            let ahead = tenant.books.last().map_or(stamp, |book| book.period.start);
            let now = Ord::max(stamp, ahead);
            tenant.calendars.change(now, calendar_of(catalog, name));
            tenant.recent = None;
            tenant.changed_at = self.changes;
        }
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

    /// Chains a posting.
    fn post(&mut self, stamp: Timestamp, posting: Posting, effects: &mut Vec<Effect>) -> EntryRef {
        debug_assert_eq!(check_balance(&posting.legs), Ok(()), "{posting:?}");
        let entry = self.chain.append(stamp, posting);
        let at = entry.at;
        if entry.posting.kind.is_line()
            && let Some(name) = &entry.posting.tenant
            && let Some(tenant) = self.tenants.get_mut(name)
        {
            tenant.dues.take(&entry);
        }
        effects.push(Effect::Ledger(Box::new(entry)));
        at
    }

    /// The same with one tenant alone, to try what would become of it.
    fn excerpt(&self, tenant: &TenantId) -> Self {
        let tenants = self.tenants.get_key_value(tenant);
        let of_tenant = |waiting: &&(_, TenantId, _)| waiting.1 == *tenant;
        Self {
            partition: self.partition,
            chain: self.chain,
            usage_window: self.usage_window,
            settlement_millis: self.settlement_millis,
            catalogs: self.catalogs.clone(),
            policy_text: self.policy_text.clone(),
            policy: self.policy.clone(),
            watermarks: self.watermarks.clone(),
            retired: self.retired.clone(),
            tenants: tenants
                .map(|(name, known)| (name.clone(), known.clone()))
                .into_iter()
                .collect(),
            waiting: self.waiting.iter().filter(of_tenant).cloned().collect(),
            accounts: self.accounts.excerpt(tenant),
            losses: BTreeMap::new(),
            oddities: self.oddities,
            reporters: self.reporters.clone(),
            seed: self.seed,
            partitions: self.partitions,
            due_next: self.due_next,
            catalog_since: self.catalog_since,
            planted: self.planted,
            changed: Changed::default(),
            changes: self.changes,
        }
    }

    /// Number of this partition.
    pub fn partition(&self) -> u16 {
        self.partition
    }

    /// The catalog in force, `None` before the first.
    pub fn catalog_digest(&self) -> Option<Digest> {
        self.catalogs.current().map(|catalog| catalog.digest())
    }

    /// The catalog in force, `None` before the first.
    pub fn catalog(&self) -> Option<&Catalog> {
        self.catalogs.current().map(|catalog| &**catalog)
    }

    /// Every catalog that ever was in force.
    pub fn catalog_digests(&self) -> impl Iterator<Item = Digest> {
        self.catalogs.digests()
    }

    /// The largest part of an amount that all taxes of a line could come to, by any catalog that was
    /// in force.
    pub fn tax_rate_max(&self) -> Decimal {
        self.catalogs.tax_rate_max()
    }

    /// Who ever paid for whom.
    pub fn families(&self) -> &Families {
        self.catalogs.timeline().families()
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
    ///
    /// Its form names no fields: whatever is in the state must always be written, so that nothing in
    /// it may be skipped, flattened or tagged.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("every length in the state is known")
    }

    /// The state of a snapshot.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (mut fold, rest): (Self, _) = postcard::take_from_bytes(bytes)?;
        if !rest.is_empty() {
            return Err(SnapshotError::Rest(rest.len()));
        }
        if let Some(text) = &fold.policy_text {
            let policy = Policy::parse(text).map_err(|_| SnapshotError::Policy)?;
            fold.policy = Some(Arc::new(policy));
        }
        let mut meters = BTreeSet::new();
        for tenant in fold.tenants.values_mut() {
            for book in tenant.books.values_mut() {
                book.share_names(&mut meters);
            }
        }
        Ok(fold)
    }
}

/// A tenant, described by the catalog in force when it is seen first, at `stamp`.
fn tenant_of<'t>(
    tenants: &'t mut Tenants,
    catalogs: &Catalogs,
    name: &TenantId,
    stamp: Timestamp,
) -> &'t mut Tenant {
    match tenants.entry(name.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let tenant = place.insert(Tenant::bare(catalogs, name));
            tenant.begin_due(stamp);
            tenant
        }
    }
}

/// The same without anything that is due: no period of it counts before it has usage, or a profile
/// of its own.
fn bare_tenant<'t>(
    tenants: &'t mut Tenants,
    catalogs: &Catalogs,
    name: &TenantId,
) -> &'t mut Tenant {
    let bare = || Tenant::bare(catalogs, name);
    tenants.entry(name.clone()).or_insert_with(bare)
}

impl Tenant {
    /// One of whom nothing is known.
    fn bare(catalogs: &Catalogs, name: &TenantId) -> Box<Self> {
        let catalog = catalogs.current_for(name).map(|catalog| &**catalog);
        Box::new(Self {
            calendars: Calendars::new(calendar_of(catalog, name)),
            books: Books::default(),
            due_from: Some(Timestamp::MAX),
            due_since: None,
            dues: Rare::default(),
            carried: Rare::default(),
            corrections: BTreeSet::new(),
            recent: None,
            changed: false,
            changed_at: 0,
        })
    }
}

/// Opens the book of a period by adding it to the tenant's.
fn open_book(
    tenant: &mut Tenant,
    name: &TenantId,
    book: PeriodBook,
    waiting: &mut Waiting,
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
    tenant.books.insert(book);
}

/// The calendar of a tenant: its profile's, else calendar months in UTC.
fn calendar_of(catalog: Option<&Catalog>, tenant: &TenantId) -> Calendar {
    let profile = catalog.and_then(|catalog| catalog.profile(tenant));
    profile.map_or(Calendar::DEFAULT, |profile| profile.calendar)
}

#[cfg(test)]
mod tests;
