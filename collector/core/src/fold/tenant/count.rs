//! Rows are counted: into the accounts, the projections and their periods.

use tollgate_common::{Rollup, TenantId, Timestamp};

use super::account;
use super::accounts::{Accounts, Own};
use super::book::UnratedReason;
use super::family::by_payer;
use super::series::Reporter;
use super::usage::PeriodBook;
use super::{Tenant, TenantFold, Waiting, open_book, tenant_of};
use crate::catalog::timeline::Timeline;
use crate::effect::{AccountState, Effect};
use crate::entry::RefusedReason;
use crate::fold::Rows;
use crate::fold::rows::{Run, UsageRows, is_countable};
use crate::ledger::{EntryKind, Posting};
use crate::period::Period;
use crate::position::Position;

impl TenantFold {
    pub(super) fn handle_rows(
        &mut self,
        position: Position,
        stamp: Timestamp,
        rows: &Rows,
        effects: &mut Vec<Effect>,
    ) {
        let changes = UsageRows::new(rows.agent.clone(), rows.rows.clone(), self.usage_window);
        effects.push(Effect::Rows(changes));
        let agent = self.reporters.number(&rows.agent);
        let mut touched: Vec<AccountState> = Vec::new();
        let mut is_countable_all = true;
        let mut runs = rows.rows.runs().peekable();
        while let Some(first) = runs.peek().copied() {
            let name = first.first().series.tenant();
            let is_own = |run: &Run<'_>| run.first().series.tenant() == name;
            let counts =
                |run: Run<'_>| run.extent.is_countable || run.rows.iter().any(is_countable);
            if !runs.clone().take_while(is_own).any(counts) {
                // Nobody becomes known by what stands in the ledger alone.
                is_countable_all = false;
                let mut accounts = self.accounts.of(name);
                while let Some(run) = runs.next_if(is_own) {
                    account_for(&mut accounts, name, &run, &mut touched);
                }
                continue;
            }
            let (mut counter, accounts) = self.counter((position, stamp), name, None, agent);
            let mut accounts = accounts.of(name);
            let timeline = counter.timeline;
            let is_child = timeline.families().is_child(name);
            while let Some(run) = runs.next_if(is_own) {
                is_countable_all &= run.extent.is_countable;
                if is_child {
                    for (payer, part) in by_payer(timeline, name, &run) {
                        // What another tenant pays for is counted there.
                        if payer.is_none() {
                            counter.count(&part, effects);
                        }
                    }
                } else {
                    counter.count(&run, effects);
                }
                account_for(&mut accounts, name, &run, &mut touched);
            }
        }
        if !is_countable_all {
            let too_large = rows.rows.iter().filter(|(row, _)| !is_countable(row));
            for (row, refused) in too_large {
                self.book_too_large((position, stamp), row, refused, effects);
            }
        }
        // Runs of an account are neighbours, or nearly so; what it came to last stands.
        let key = |a: &AccountState, b: &AccountState| {
            (&a.tenant, &a.meter, a.scale).cmp(&(&b.tenant, &b.meter, b.scale))
        };
        touched.sort_by(key);
        touched.dedup_by(|later, kept| {
            let is_same = key(later, kept).is_eq();
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        effects.extend(touched.into_iter().map(Effect::Account));
    }

    /// What counts rows of an agent into the periods of a tenant, its own or those of a child; and
    /// beside it the accounts.
    pub(super) fn counter<'a>(
        &'a mut self,
        at: (Position, Timestamp),
        name: &'a TenantId,
        child: Option<&'a TenantId>,
        agent: u32,
    ) -> (Counter<'a>, &'a mut Accounts) {
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, name, at.1);
        self.changed.note(at.1, name, &mut tenant.changed);
        let counter = Counter {
            at,
            name,
            child,
            reporter: Reporter {
                agent,
                agents: &self.reporters,
                seed: self.seed,
            },
            tenant,
            timeline: self.catalogs.timeline(),
            changes: self.changes,
            waiting: &mut self.waiting,
            catalog_since: self.catalog_since,
            due_next: &mut self.due_next,
        };
        (counter, &mut self.accounts)
    }

    /// Books a rollup that is too large to be added to anything.
    fn book_too_large(
        &mut self,
        (position, stamp): (Position, Timestamp),
        row: &Rollup,
        refused: Option<RefusedReason>,
        effects: &mut Vec<Effect>,
    ) {
        let reason = UnratedReason::RollupTooLarge;
        let (kind, line) = match refused {
            None => (EntryKind::Unrated, reason.as_str()),
            Some(refused) => (EntryKind::Refused, refused.as_str()),
        };
        let (start, end) = (row.window.start(), row.window.end());
        let mut posting = Posting::new(kind, start, end, line, position);
        posting.tenant = Some(row.series.tenant().clone());
        posting.meter = Some(row.series.meter().clone());
        posting.quantity = row.value;
        posting.scale = row.scale;
        posting.aggregation = Some(row.aggregation);
        reason.explain().clone_into(&mut posting.arithmetic);
        self.post(stamp, posting, effects);
    }
}

/// To when a row belongs: usage of a time that is far from having come, to when it was received.
/// There it is seen, and can be released.
fn instant_of(row: &Rollup, run: &Run<'_>, stamp: Timestamp) -> Timestamp {
    match run.refused {
        Some(RefusedReason::FromTheFuture) => Ord::min(row.window.start(), stamp),
        _ => row.window.start(),
    }
}

/// Notes in its tenant's accounts what a run adds to.
fn account_for(
    accounts: &mut Own<'_>,
    tenant: &TenantId,
    run: &Run<'_>,
    touched: &mut Vec<AccountState>,
) {
    let row = run.first();
    if !row.aggregation.adds_up() {
        return;
    }
    let meter = row.series.meter();
    let account = accounts.change(meter, row.scale, |account| {
        let figure = match run.refused {
            None => &mut account.counted,
            Some(_) => &mut account.refused,
        };
        account::add(figure, run.sum());
    });
    touched.push(account.state_of(tenant, meter, row.scale));
}

/// Counts runs of one tenant, or what it pays for.
pub(super) struct Counter<'a> {
    at: (Position, Timestamp),
    name: &'a TenantId,
    /// Whose the rows are, if another tenant's.
    child: Option<&'a TenantId>,
    reporter: Reporter<'a>,
    tenant: &'a mut Tenant,
    timeline: &'a Timeline,
    /// What is now the newest change.
    changes: u64,
    waiting: &'a mut Waiting,
    catalog_since: Option<Timestamp>,
    due_next: &'a mut Timestamp,
}

impl Counter<'_> {
    /// Counts the rows of a run, period by period.
    pub(super) fn count(&mut self, run: &Run<'_>, effects: &mut Vec<Effect>) {
        let (first, last) = run.extent.starts;
        let is_early = run.refused == Some(RefusedReason::FromTheFuture);
        if run.extent.is_countable && !is_early {
            let period = self.period_of(first);
            if period.contains(last) {
                self.count_in(period, run, effects);
                return;
            }
        }
        let mut rest = run.rows;
        while let Some(row) = rest.first() {
            if !is_countable(row) {
                rest = &rest[1..];
                continue;
            }
            let stamp = self.at.1;
            let period = self.period_of(instant_of(row, run, stamp));
            let belongs =
                |row: &&Rollup| period.contains(instant_of(row, run, stamp)) && is_countable(row);
            let count = rest.iter().take_while(belongs).count().max(1);
            let (rows, after) = rest.split_at(count);
            self.count_in(period, &run.part(rows), effects);
            rest = after;
        }
    }

    /// Nearly every row belongs to the period of the one before.
    fn period_of(&mut self, instant: Timestamp) -> Period {
        let period = match self.tenant.recent {
            Some(period) if period.contains(instant) => period,
            _ => self.tenant.calendars.period_containing(instant),
        };
        self.tenant.recent = Some(period);
        period
    }

    fn count_in(&mut self, period: Period, run: &Run<'_>, effects: &mut Vec<Effect>) {
        let tenant = &mut *self.tenant;
        tenant.changed_at = self.changes;
        let (earliest, _) = run.extent.starts;
        let reached_back = run.refused.is_none() && tenant.reach_back(earliest, self.catalog_since);
        let is_new = !tenant.books.contains_key(&period.start);
        if is_new {
            let book = PeriodBook::new(period);
            open_book(tenant, self.name, book, self.waiting, effects);
        }
        if is_new || reached_back {
            // A tenant that is new may have periods that end sooner than all others.
            let due = tenant.due_from.unwrap_or(*self.due_next);
            *self.due_next = Ord::min(*self.due_next, due);
        }
        let Some(book) = tenant.books.get_mut(&period.start) else {
            return;
        };
        let was_waiting = book.is_waiting();
        let versions = (self.timeline, self.name, &tenant.calendars);
        match self.child {
            None => book.count(self.at, run, &self.reporter, versions),
            Some(child) => book.count_child(child, self.at, run, &self.reporter, versions),
        }
        if !was_waiting && book.is_waiting() {
            self.waiting
                .insert((book.period.end, self.name.clone(), book.period.start));
        }
    }
}
