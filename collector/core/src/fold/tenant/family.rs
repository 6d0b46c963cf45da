//! One payer for several tenants: what those use for whom another tenant pays is counted into the
//! payer's periods, rated there once and together, and shared back.
//!
//! Each partition hears of such usage where its tenant is at home and where a payer of it is, and
//! both find out by the same versions of the catalog who pays for a window ([`by_payer`]). At home
//! it is accounted for and counts into no period; with the payer, into the payer's period by the
//! payer's calendar, kept apart by tenant. A period of a payer waits for the agents of all of them.
//!
//! The payer's lines are of all usage together. Each tenant's part of a line is an entry of its own
//! beside it, of the kind `share`, with quantity and amount, and without legs: the payer owes it.
//! So what a line bills of the payer's own usage is its quantity less those of its shares. What is
//! not rated stands in entries of the tenant whose it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use tollgate_common::{AgentId, MeterName, TenantId, Timestamp};

use super::book::{self, Booked, Line, LineAccount, LineKey};
use super::late::Booking;
use super::operated::{is_possible, rollup};
use super::series::Reporter;
use super::usage::{PeriodBook, Usage};
use super::{TenantFold, digest};
use crate::bill::Child;
use crate::catalog::timeline::{EFFECT_SECS, Timeline};
use crate::effect::Effect;
use crate::entry::{Correction, Operated, OperatedAction};
use crate::fold::rows::{Run, is_countable};
use crate::fold::{DeclaredLoss, RowSet, Rows, partition_of};
use crate::ledger::EntryKind;
use crate::period::{Calendars, Period};
use crate::position::Position;
use crate::rate::MeterUsage;

/// Usage that can be rated, by meter.
pub(super) type Rated<'b> = BTreeMap<MeterName, (&'b Usage, Cow<'b, MeterUsage>)>;

/// Rows of a run, cut where another tenant begins or ceases to pay; `None` where its own does.
///
/// Refused rows are nobody's to pay for.
pub(super) fn by_payer<'r>(
    timeline: &Timeline,
    tenant: &TenantId,
    run: &Run<'r>,
) -> Vec<(Option<TenantId>, Run<'r>)> {
    if run.refused.is_some() || !timeline.families().is_child(tenant) {
        return vec![(None, *run)];
    }
    // Nobody begins to pay but on a quarter of an hour.
    let quarter = |row: &tollgate_common::Rollup| row.window.start().secs().div_euclid(EFFECT_SECS);
    let mut parts: Vec<(Option<TenantId>, Run<'r>)> = Vec::new();
    for rows in run.rows.chunk_by(|a, b| quarter(a) == quarter(b)) {
        let payer = timeline.payer(tenant, rows[0].window.start()).cloned();
        parts.push((payer, run.part(rows)));
    }
    parts
}

impl PeriodBook {
    /// Counts rows of a tenant for whom this one pays, as [`PeriodBook::count`].
    pub(super) fn count_child(
        &mut self,
        child: &TenantId,
        at: (Position, Timestamp),
        run: &Run<'_>,
        reporter: &Reporter<'_>,
        versions: (&Timeline, &TenantId, &Calendars),
    ) {
        let (period, known) = (self.period, self.known);
        let book = self
            .children
            .entry(child.clone())
            .or_insert_with(|| Self::new(period));
        book.known = known;
        book.count(at, run, reporter, versions);
        if self.is_closed() {
            self.late_since.get_or_insert(at.1);
        }
    }

    /// Those for whom this tenant pays, with what they used.
    pub(super) fn children(&self) -> impl Iterator<Item = (&TenantId, &PeriodBook)> {
        self.children.iter()
    }
}

impl TenantFold {
    /// Counts what tenants of this partition pay for.
    pub(super) fn handle_child_rows(
        &mut self,
        position: Position,
        stamp: Timestamp,
        rows: &Rows,
        effects: &mut Vec<Effect>,
    ) {
        let agent = self.reporters.number(&rows.agent);
        for run in rows.rows.runs() {
            let child = run.first().series.tenant();
            for (payer, part) in by_payer(self.catalogs.timeline(), child, &run) {
                let here =
                    |payer: &TenantId| partition_of(payer, self.partitions) == self.partition;
                let Some(payer) = payer.filter(here) else {
                    continue;
                };
                if !part.rows.iter().any(is_countable) {
                    continue;
                }
                let (mut counter, _) = self.counter((position, stamp), &payer, Some(child), agent);
                counter.count(&part, effects);
            }
        }
    }

    /// Samples that are missing because of a loss are not those of a time without usage.
    pub(super) fn handle_child_loss(&mut self, stamp: Timestamp, declared: &DeclaredLoss) {
        let loss = &declared.loss;
        let (Some(child), Some(meter)) = (&loss.tenant, &loss.meter) else {
            return;
        };
        let payers = self.catalogs.timeline().families().payers_of(child);
        let payers: Vec<TenantId> = payers.into_iter().cloned().collect();
        for name in &payers {
            let Some(tenant) = self.tenants.get_mut(name) else {
                continue;
            };
            let books = tenant.books.values_mut();
            for book in books.filter(|book| !book.is_closed()) {
                let start = Ord::max(book.period.start, loss.from);
                let end = Ord::min(book.period.end, loss.to);
                let known = book.children.get_mut(child);
                if let (Some(known), true) = (known, start < end) {
                    known.lose(meter, Period { start, end });
                    self.changed.note(stamp, name, &mut tenant.changed);
                }
            }
        }
    }

    /// Counts what an operator corrects of what tenants of this partition pay for.
    pub(super) fn handle_child_operated(
        &mut self,
        position: Position,
        stamp: Timestamp,
        operated: &Operated,
        effects: &mut Vec<Effect>,
    ) {
        let OperatedAction::Correct(correction) = &operated.action else {
            return;
        };
        // The partition of the tenant refuses it for the same reasons.
        let sound = is_possible(operated, stamp) && self.releases_paid(correction).is_none();
        let rollups = correction
            .rows
            .iter()
            .map(|row| rollup(&correction.tenant, row));
        let Some(rollups) = rollups
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|_| sound)
        else {
            return;
        };
        let rows =
            super::operated::rows_of(RowSet::new(rollups.into_iter().map(|row| (row, None))));
        self.handle_child_rows(position, stamp, &rows, effects);
    }

    /// Who pays for a part of what an operator's action changes, beside the tenant itself. Rating a
    /// tenant's periods anew does not concern the periods of another.
    pub fn payers_concerned(&self, operated: &Operated) -> BTreeSet<TenantId> {
        let OperatedAction::Correct(correction) = &operated.action else {
            return BTreeSet::new();
        };
        let timeline = self.catalogs.timeline();
        let rows = correction.rows.iter();
        rows.filter_map(|row| timeline.payer(&correction.tenant, row.at))
            .cloned()
            .collect()
    }

    /// A row, from 1 on, that is released in a correction of which another tenant pays for a part:
    /// its partition could not tell whether that much was refused.
    pub(super) fn releases_paid(&self, correction: &Correction) -> Option<usize> {
        let timeline = self.catalogs.timeline();
        let is_paid = |at: Timestamp| timeline.payer(&correction.tenant, at).is_some();
        let mut rows = correction.rows.iter();
        let released = rows.position(|row| row.release.is_some())?;
        let mut rows = correction.rows.iter();
        rows.any(|row| is_paid(row.at)).then_some(released + 1)
    }

    /// The agents that a period of a tenant waits for, with how far they have reported: those that
    /// may report for it, or for anybody for whom it pays.
    pub(super) fn awaited(&self, name: &TenantId, period: Period) -> BTreeMap<AgentId, Timestamp> {
        let mut agents = self.agents_of(name);
        // Without a policy any agent may report for anybody.
        if self.policy.is_some() {
            for child in self.children_in(name, period) {
                agents.extend(self.agents_of(child));
            }
        }
        agents
    }

    /// Those children of a payer because of whom its period waits for an agent that may not report
    /// for the payer itself.
    pub(super) fn awaited_for(
        &self,
        agent: &AgentId,
        payer: &TenantId,
        children: &BTreeSet<&TenantId>,
    ) -> Vec<TenantId> {
        if children.is_empty() || self.agents_of(payer).contains_key(agent) {
            return Vec::new();
        }
        let may = |child: &&TenantId| self.agents_of(child).contains_key(agent);
        children.iter().copied().filter(may).cloned().collect()
    }

    /// For whom a tenant pays in a period.
    pub(super) fn children_in<'f>(
        &'f self,
        name: &TenantId,
        period: Period,
    ) -> BTreeSet<&'f TenantId> {
        let timeline = self.catalogs.timeline();
        if timeline.families().is_empty() {
            return BTreeSet::new();
        }
        let mut children: BTreeSet<_> = timeline.children(name, period).into_iter().collect();
        let tenant = self.tenants.get(name);
        let book = tenant.and_then(|tenant| tenant.books.get(&period.start));
        children.extend(
            book.into_iter()
                .flat_map(PeriodBook::children)
                .map(|(child, _)| child),
        );
        children
    }

    /// Books how what those have of a payer's lines differs from what is booked.
    pub(super) fn book_children(
        &mut self,
        booking: &Booking<'_>,
        payer: &BTreeMap<LineKey, Booked>,
        books: &mut BTreeMap<TenantId, PeriodBook>,
        mut lines: BTreeMap<TenantId, BTreeMap<LineKey, Line>>,
        effects: &mut Vec<Effect>,
    ) {
        for (name, book) in books {
            let digests = digest::of_meters(book);
            let lines = lines.remove(name).unwrap_or_default();
            for difference in book::differences(&book.booked, lines) {
                let kind = match difference.key.kind() {
                    EntryKind::Charge => EntryKind::Share,
                    kind => kind,
                };
                let mut posting =
                    booking.posting(kind, &difference, difference.quantity, difference.amount);
                posting.tenant = Some(name.clone());
                posting.payer = Some(booking.tenant.clone());
                posting.usage = difference
                    .key
                    .meter
                    .as_ref()
                    .and_then(|m| digests.get(m))
                    .copied();
                posting.arithmetic = book::describe(&difference);
                // It is nothing that moves.
                posting.date = None;
                posting.legs = Vec::new();
                let before = difference.before.as_ref();
                let line = payer.get(&difference.key).map(|line| line.standing);
                posting.refers_to = before.map(|before| before.original).or(line);
                let at = self.post(booking.stamp, posting, effects);
                let booked = Booked {
                    quantity: difference.line.quantity,
                    amount: difference.line.amount,
                    contra: None,
                    aside: None,
                    original: before.map_or(at, |before| before.original),
                    standing: at,
                    ties: Vec::new(),
                };
                book.booked.insert(difference.key, booked);
            }
        }
    }
}

/// What a tenant has of a period for which another one pays.
pub(super) struct Member<'b> {
    pub(super) tenant: &'b TenantId,
    /// What can be rated.
    pub(super) rated: Rated<'b>,
    pub(super) lines: BTreeMap<LineKey, Line>,
}

/// The usage of a payer and of those for whom it pays, to be rated as one.
pub(super) struct Pool<'b> {
    /// Of all together; with the payer's own, which may be nothing.
    pub(super) together: Rated<'b>,
    /// Of each, the payer first; empty if it pays for nobody.
    each: Vec<(&'b TenantId, BTreeMap<MeterName, MeterUsage>)>,
}

/// Usage of nothing, for each meter that only others have.
pub(super) fn blanks(own: &Rated<'_>, members: &[Member<'_>]) -> BTreeMap<MeterName, Usage> {
    let theirs = members.iter().flat_map(|member| &member.rated);
    let missing = theirs.filter(|(meter, _)| !own.contains_key(*meter));
    missing
        .map(|(meter, (usage, _))| (meter.clone(), Usage::new(usage.key())))
        .collect()
}

impl<'b> Pool<'b> {
    /// Puts together what can be rated. What does not fit the numbers then becomes a line of each.
    pub(super) fn new(
        payer: &'b TenantId,
        mut own: Rated<'b>,
        members: &mut [Member<'b>],
        blanks: &'b BTreeMap<MeterName, Usage>,
        lines: &mut BTreeMap<LineKey, Line>,
    ) -> Self {
        if members.is_empty() {
            return Self {
                together: own,
                each: Vec::new(),
            };
        }
        for (meter, usage) in blanks {
            let nothing = Cow::Owned(MeterUsage::default());
            own.insert(meter.clone(), (usage, nothing));
        }
        let mut together = Rated::new();
        let mut each = vec![(payer, BTreeMap::new())];
        each.extend(
            members
                .iter()
                .map(|member| (member.tenant, BTreeMap::new())),
        );
        for (meter, (usage, counted)) in own {
            let mut sum = counted.clone().into_owned();
            let merged = members.iter().try_for_each(|member| {
                let theirs = member.rated.get(&meter);
                theirs.map_or(Ok(()), |(_, theirs)| sum.merge(member.tenant, theirs))
            });
            if merged.is_err() {
                too_large(usage, lines);
                for member in &mut *members {
                    if let Some((usage, _)) = member.rated.remove(&meter) {
                        too_large(usage, &mut member.lines);
                    }
                }
                continue;
            }
            each[0].1.insert(meter.clone(), counted.into_owned());
            for (member, (_, own)) in members.iter().zip(&mut each[1..]) {
                if let Some((_, theirs)) = member.rated.get(&meter) {
                    own.insert(meter.clone(), theirs.clone().into_owned());
                }
            }
            together.insert(meter, (usage, Cow::Owned(sum)));
        }
        Self { together, each }
    }

    /// Between whom lines are shared out.
    pub(super) fn children(&self) -> Vec<Child<'_>> {
        let each = self.each.iter();
        each.map(|(tenant, usage)| Child { tenant, usage })
            .collect()
    }
}

fn too_large(usage: &Usage, lines: &mut BTreeMap<LineKey, Line>) {
    let account = LineAccount::Unrated(book::UnratedReason::AmountTooLarge);
    let line = lines.entry(usage.key().line(account)).or_default();
    line.add(usage.quantity(), usage);
}
