//! Booking: from the usage of a period to the lines of the ledger.
//!
//! A closing computes all lines of a period from its cumulative usage and books how they
//! differ from what is booked. The first time that is everything; later it is the difference
//! that late usage makes, and it names the entry that it adjusts.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, MeterName, Quantity, Scale, TenantId};

use super::anew::Anew;
use super::aside::{self, Aside};
use super::billing::{self, Around, Billed};
use super::family::{self, Member, Pool, Rated};
pub use super::reason::UnratedReason;
use super::tied::{LineTies, Ties};
use super::usage::{PeriodBook, Usage, UsageKey, priced_slices};
use crate::catalog::{Catalog, Meter, timeline};
use crate::entry::RefusedReason;
use crate::ledger::{Account, EntryKind, EntryRef, Original, Role, Step};
use crate::period::Period;
use crate::position::Position;
use crate::rate;

/// What tells one line of a period from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LineKey {
    pub(super) account: LineAccount,
    /// `None` for a fee.
    pub(super) meter: Option<MeterName>,
    pub(super) scale: Scale,
    pub(super) aggregation: Aggregation,
}

/// Where a line belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineAccount {
    /// On the bill.
    Rated {
        /// The id of the price, minimum, commitment, tax or grant.
        id: String,
        /// Which part of it.
        role: Role,
        /// The card's id; empty for what a profile adds. Of taxes the rate in percent.
        card: String,
        /// The currency of the bill.
        currency: String,
    },
    Unrated(UnratedReason),
    Refused(RefusedReason),
}

impl LineKey {
    /// The kind of entry that books this line.
    pub(super) fn kind(&self) -> EntryKind {
        match &self.account {
            LineAccount::Rated { .. } => EntryKind::Charge,
            LineAccount::Unrated(_) => EntryKind::Unrated,
            LineAccount::Refused(_) => EntryKind::Refused,
        }
    }

    /// What the ledger calls the line: the price's id, or the reason.
    pub(super) fn name(&self) -> &str {
        match &self.account {
            LineAccount::Rated { id, .. } => id,
            LineAccount::Unrated(reason) => reason.as_str(),
            LineAccount::Refused(reason) => reason.as_str(),
        }
    }

    /// Which part of the bill it is.
    pub(super) fn role(&self) -> Option<Role> {
        match &self.account {
            LineAccount::Rated { role, .. } => Some(*role),
            LineAccount::Unrated(_) | LineAccount::Refused(_) => None,
        }
    }

    pub(super) fn currency(&self) -> Option<&str> {
        match &self.account {
            LineAccount::Rated { currency, .. } => Some(currency),
            LineAccount::Unrated(_) | LineAccount::Refused(_) => None,
        }
    }
}

/// What the ledger says of a line so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Booked {
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// Where its other leg went.
    pub(super) contra: Option<Account>,
    /// What hardly any line has.
    pub(super) aside: Option<Box<Aside>>,
    /// The first entry of the line.
    pub(super) original: EntryRef,
    /// The entry that says what the line is now: the first, or the newest that took its place.
    pub(super) standing: EntryRef,
    /// Of a tax or what a grant pays: what of it goes with which line, by the numbers of their first
    /// entries.
    pub(super) ties: Ties,
}

/// A line of a period, computed from its cumulative usage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// The arithmetic or the reason, for people.
    pub(super) text: String,
    /// The first journal entry that contributed since the last booking.
    pub(super) from: Option<Position>,
    /// Where its other leg goes.
    pub(super) contra: Option<Account>,
    /// The amount before its steps, in the card's currency; `None` without steps.
    pub(super) list: Option<Decimal>,
    /// From the list amount on.
    pub(super) steps: Vec<Step>,
    /// In the card's currency and with its tax, where the bill has it otherwise.
    pub(super) original: Option<Original>,
    /// What hardly any line has.
    pub(super) aside: Option<Box<Aside>>,
    pub(super) straddling: u64,
    /// Of a tax or what a grant pays: what of it goes with which line.
    pub(super) ties: LineTies,
}

impl Line {
    pub(super) fn add(&mut self, quantity: Quantity, usage: &Usage) {
        self.quantity = self
            .quantity
            .checked_add(quantity)
            .expect("2^47 rollups of 2^80 units fit a quantity");
        self.rests_on(usage);
    }

    /// Takes up a line of a bill. Cards keep their currency, so that no two lines of a bill share
    /// a key; if two ever did, neither would be lost.
    pub(super) fn together(&mut self, other: Self) {
        if self.amount.is_none() {
            *self = other;
            return;
        }
        let amounts = self.amount.zip(other.amount);
        let sum = amounts.and_then(|(ours, theirs)| ours.checked_add(theirs));
        self.amount = sum.or(self.amount);
        self.quantity = self
            .quantity
            .checked_add(other.quantity)
            .unwrap_or(Quantity::MAX);
        self.text = format!("{}; {}", self.text, other.text);
        self.from = self.from.min(other.from).or(self.from).or(other.from);
        self.straddling = self.straddling.saturating_add(other.straddling);
        self.aside = Aside::both(self.aside.take(), other.aside);
        self.ties.extend(other.ties);
        // The arithmetic of two lines is in their texts.
        (self.list, self.original) = (None, None);
        self.steps.clear();
    }

    /// Notes where its quantity comes from.
    pub(super) fn rests_on(&mut self, usage: &Usage) {
        self.straddling = self.straddling.saturating_add(usage.straddling());
        self.from = match (self.from, usage.from) {
            (Some(a), Some(b)) => Some(Ord::min(a, b)),
            (a, b) => a.or(b),
        };
    }
}

/// By what a period is rated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'c> {
    pub(super) tenant: &'c TenantId,
    pub(super) period: Period,
    /// What is in force when; never empty.
    pub(super) slices: &'c [timeline::Slice],
    /// Where taxes and exchange rates stand: the newest version that is known, because such a
    /// version does not cut the period.
    pub(super) newest: Option<&'c Catalog>,
    /// If it is rated by another catalog than the ones that usage was gathered for: which slices
    /// another tenant pays for.
    pub(super) anew: Option<&'c [bool]>,
}

impl<'c> Terms<'c> {
    /// The catalog that declares a meter, and by which periods owe what is due without usage: the
    /// one in force in the end.
    pub(super) fn catalog(&self) -> Option<&'c Catalog> {
        self.slices.last()?.catalog.as_deref()
    }

    /// The meter and its prices, slice by slice; or why there is none.
    fn applies(&self, usage: &Usage) -> Result<(&'c Meter, Vec<rate::Slice<'c>>), UnratedReason> {
        if self.tenant.is_unattributed() {
            return Err(UnratedReason::Unattributed);
        }
        let catalog = self.catalog().ok_or(UnratedReason::NoCatalog)?;
        let meter = catalog
            .meter(usage.meter())
            .ok_or(UnratedReason::UndeclaredMeter)?;
        if meter.billed_scale() != usage.scale() {
            return Err(UnratedReason::ScaleMismatch);
        }
        if meter.aggregation != usage.aggregation() {
            return Err(UnratedReason::AggregationMismatch);
        }
        if self.slices.iter().all(|slice| slice.profile.is_none()) {
            return Err(UnratedReason::NoProfile);
        }
        if self.slices.iter().all(|slice| slice.card.is_none()) {
            return Err(UnratedReason::NoCardInForce);
        }
        let slices = priced_slices(self.slices, usage.meter());
        if slices.iter().all(|slice| slice.priced.is_none()) {
            return Err(UnratedReason::NoPrice);
        }
        Ok((meter, slices))
    }
}

/// The lines of a period.
pub(super) struct Lines {
    /// The tenant's own.
    pub(super) own: BTreeMap<LineKey, Line>,
    /// What those have of them, and beside them, for whom it pays.
    pub(super) children: BTreeMap<TenantId, BTreeMap<LineKey, Line>>,
    /// What else the bill says; `None` without one.
    pub(super) billed: Option<Billed>,
}

/// All lines of a period.
pub(super) fn lines(terms: Terms<'_>, around: Around<'_>, book: &PeriodBook) -> Lines {
    let mut own: BTreeMap<LineKey, Line> = BTreeMap::new();
    let rated = rateable(terms, book, &mut own);
    let mut members: Vec<Member<'_>> = Vec::new();
    for (tenant, book) in book.children() {
        let mut lines = BTreeMap::new();
        members.push(Member {
            tenant,
            rated: rateable(terms, book, &mut lines),
            lines,
        });
    }
    let blanks = family::blanks(&rated, &members);
    let pool = Pool::new(terms.tenant, rated, &mut members, &blanks, &mut own);
    let billed = if terms.tenant.is_unattributed() {
        None
    } else {
        billing::bill(terms, around, book, &pool, &mut members, &mut own)
    };
    let mut children: BTreeMap<_, _> = members
        .into_iter()
        .map(|member| (member.tenant.clone(), member.lines))
        .collect();
    let theirs = children.values_mut();
    for (key, line) in theirs.flatten().chain(&mut own) {
        explain(key, line);
    }
    Lines {
        own,
        children,
        billed,
    }
}

/// What of the usage can be rated; the rest becomes lines.
fn rateable<'b>(
    terms: Terms<'_>,
    book: &'b PeriodBook,
    lines: &mut BTreeMap<LineKey, Line>,
) -> Rated<'b> {
    let mut rated = Rated::new();
    for usage in book.usage().iter() {
        let account = match usage.refused() {
            Some(reason) => LineAccount::Refused(reason),
            None => match terms.applies(usage) {
                Err(reason) => LineAccount::Unrated(reason),
                Ok((_, slices)) => {
                    let anew = terms
                        .anew
                        .map(|paid| Anew::new(terms.period, usage.aggregation(), &slices, paid));
                    if let Ok(metered) = usage.metered(anew) {
                        rated.insert(usage.meter().clone(), (usage, metered));
                        continue;
                    }
                    LineAccount::Unrated(UnratedReason::AmountTooLarge)
                }
            },
        };
        let line = lines.entry(usage.key().line(account)).or_default();
        line.add(usage.quantity(), usage);
    }
    if let Some(crowd) = &book.crowd {
        crowd.lines(lines);
    }
    rated
}

impl UsageKey {
    pub(super) fn line(&self, account: LineAccount) -> LineKey {
        LineKey {
            account,
            meter: Some(self.meter.clone()),
            scale: self.scale,
            aggregation: self.aggregation,
        }
    }
}

/// Adds what people should know of a line.
fn explain(key: &LineKey, line: &mut Line) {
    match &key.account {
        LineAccount::Rated { .. } => {}
        LineAccount::Unrated(reason) if line.text.is_empty() => {
            reason.explain().clone_into(&mut line.text);
        }
        LineAccount::Unrated(reason) => {
            line.text.push_str(": ");
            line.text.push_str(reason.explain());
        }
        LineAccount::Refused(reason) => {
            line.text = format!(
                "the policy does not allow the agent this: {}",
                reason.as_str()
            );
        }
    }
    if line.straddling > 0 {
        let note = format!(
            " (rollups that reach beyond the period's end and count where they begin: {})",
            line.straddling
        );
        line.text.push_str(&note);
    }
}

/// How a line differs from what is booked.
pub(super) struct Difference {
    pub(super) key: LineKey,
    /// Quantity and amount to be booked.
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// The line as it stands now.
    pub(super) line: Line,
    /// What is booked already, if anything is.
    pub(super) before: Option<Booked>,
}

/// A line can go away: when its amount became too large it continues as unrated. What is booked of it
/// is nothing then.
pub(super) fn keep_booked(booked: &BTreeMap<LineKey, Booked>, lines: &mut BTreeMap<LineKey, Line>) {
    for (key, booked) in booked {
        if lines.contains_key(key) {
            continue;
        }
        let gone = Line {
            amount: key.currency().map(|_| Decimal::ZERO),
            text: "0, because the usage is now booked elsewhere".to_owned(),
            contra: booked.contra.clone(),
            ..Line::default()
        };
        lines.insert(key.clone(), gone);
    }
}

/// What has to be booked so that the ledger says `lines`, in the order of the keys.
pub(super) fn differences(
    booked: &BTreeMap<LineKey, Booked>,
    mut lines: BTreeMap<LineKey, Line>,
) -> Vec<Difference> {
    keep_booked(booked, &mut lines);
    let mut differences = Vec::new();
    for (key, line) in lines {
        let before = booked.get(&key);
        let was = before.map_or(Quantity::ZERO, |b| b.quantity);
        let quantity = line
            .quantity
            .checked_sub(was)
            .expect("the difference of two sums of rollups fits like the sums");
        let had = before.and_then(|b| b.amount).unwrap_or_default();
        let amount = line.amount.map(|amount| difference(amount, had));
        // A fee or a minimum that cannot be computed has no quantity that would show it.
        let is_first_failure = before.is_none()
            && matches!(key.account, LineAccount::Unrated(reason) if reason.is_failure());
        let had = before.and_then(|before| before.aside.as_deref());
        let is_same_aside = aside::is_same(had, line.aside.as_deref());
        let is_nothing = quantity.is_zero() && amount.is_none_or(|a| a.is_zero());
        if is_nothing && is_same_aside && !is_first_failure {
            continue;
        }
        differences.push(Difference {
            quantity,
            amount,
            before: before.cloned(),
            key,
            line,
        });
    }
    differences
}

fn difference(now: Decimal, before: Decimal) -> Decimal {
    // Only amounts beyond 10^28, which are unrated before, have a difference that does not fit.
    let mut difference = now.saturating_sub(before);
    // Zero has the currency's places too.
    difference.rescale(Ord::max(now.scale(), before.scale()));
    difference
}

/// The arithmetic of a difference, for people.
pub(super) fn describe(difference: &Difference) -> String {
    let text = &difference.line.text;
    let had = difference.before.as_ref().and_then(|before| before.amount);
    match (had, difference.amount) {
        (Some(had), Some(amount)) => format!("{text}; less {had} booked before = {amount}"),
        _ => text.clone(),
    }
}
