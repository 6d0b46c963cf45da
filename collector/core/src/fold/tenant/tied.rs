//! What goes with which line of what stands beside lines: of taxes, of what grants pay, and of what
//! commitments draw down. Each is one entry for all lines of a period; here is what of it goes with which
//! line, so that a disputed line takes that with it, and a goodwill credit gives back no more tax than
//! stands charged.
//!
//! Where a line is disputed, what of these entries goes with it is booked apart: taken off the entry by
//! an adjustment, and put to the line by another one, which is disputed with it. Both sum to zero, and
//! all of that waits as before once the dispute is over.

use std::collections::BTreeMap;
use std::ops::{RangeBounds, RangeInclusive};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use super::TenantFold;
use super::billing::key_of;
use super::book::{Booked, LineKey};
use super::dues::{Due, Dues};
use super::late::{Booking, Change, nothing};
use super::state;
use crate::bill::Bill;
use crate::effect::Effect;
use crate::ledger::{
    Account, EntryKind, EntryRef, LinePart, Posting, Role, TaxOf, negated, transfer,
};
use crate::position::Position;
use crate::rate::{Mode, Ratio};

/// What of a tax, or of what a grant or a commitment pays, goes with a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tie {
    amount: Decimal,
    /// Of a tax: what that is computed of.
    base: Decimal,
}

/// Ties by the numbers of the lines' first entries.
pub(super) type Ties = Vec<(u64, Tie)>;

/// Ties by the lines of a bill.
pub(super) type LineTies = Vec<(LineKey, Tie)>;

/// A tax, or what a grant or a commitment pays, that was booked: its key, its entries, and what of it
/// is of which line.
pub(super) type Tied = (LineKey, RangeInclusive<u64>, LineTies);

/// What goes with lines of a bill, which are given by their places with amounts and bases. What is of a
/// drawdown goes with the lines that it pays.
pub(super) fn with_lines(
    bill: &Bill<'_>,
    of: impl Iterator<Item = (usize, Decimal, Decimal)>,
) -> LineTies {
    let mut ties = Vec::new();
    let mut tie = |place: usize, amount, base| {
        let tie = Tie { amount, base };
        if let Some(line) = bill.lines.get(place).filter(|_| !tie.is_nothing()) {
            ties.push((key_of(bill, line), tie));
        }
    };
    for (place, amount, base) in of {
        let mut left = Tie { amount, base };
        let drawdown = bill.draws.get(&place).zip(bill.lines.get(place));
        if let Some((draws, drawdown)) = drawdown {
            for (paid, drawn) in draws {
                let [amount, base] = [amount, base].map(|of| share(of, *drawn, drawdown.net));
                tie(*paid, amount, base);
                left = left.and(Tie { amount, base }.negated());
            }
        }
        // What the rounding leaves.
        tie(place, left.amount, left.base);
    }
    ties
}

/// What a drawdown pays of which lines; nothing of any other line.
pub(super) fn draws(bill: &Bill<'_>, place: usize) -> LineTies {
    let draws = bill.draws.get(&place).into_iter().flatten();
    let ties = draws.map(|(paid, drawn)| (*paid, *drawn, Decimal::ZERO));
    with_lines(bill, ties)
}

impl Tie {
    fn is_nothing(self) -> bool {
        self.amount.is_zero() && self.base.is_zero()
    }

    fn negated(self) -> Self {
        Self {
            amount: negated(self.amount),
            base: negated(self.base),
        }
    }

    /// What of it goes with a part of its entry.
    fn share(self, part: &LinePart, whole: &LinePart) -> Self {
        Self {
            amount: share(self.amount, part.amount, whole.amount),
            base: share(self.base, part.base, whole.base),
        }
    }

    /// Both together: parts of a tax that fits fit.
    fn and(self, other: Self) -> Self {
        Self {
            amount: self.amount.saturating_add(other.amount),
            base: self.base.saturating_add(other.base),
        }
    }
}

/// What goes with a part of a whole as `amount` does with all of it; to the last place that they have.
fn share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal {
    let places = Ord::max(amount.scale(), part.scale());
    let share = || {
        // Both are on the same side of zero.
        let [part, whole] = [part, whole].map(|sum| Ratio::from_decimal(sum.abs()));
        let share = part.checked_div(whole)?;
        let share = share.checked_mul(Ratio::from_decimal(amount))?;
        share.round(places, Mode::HalfUp)
    };
    // Of what is nothing nothing is a part; and parts of a sum that fits fit.
    share().unwrap_or_default()
}

/// What an entry has to do with taxes, grants and commitments, where it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Beside {
    /// It is one.
    Entry {
        role: Role,
        /// The tax's code, or the id of the grant or the commitment.
        line: String,
        start: Timestamp,
        /// Where its other leg went.
        contra: Account,
        /// Of a tax: what it is computed of.
        #[serde(with = "state::text")]
        tax: Option<TaxOf>,
        /// What of it is of which line and stands in it still.
        ties: Ties,
    },
    /// It is a line with taxes of its own, by code.
    Taxes(Vec<(String, Decimal)>),
}

/// What was charged for a line, less what was given back of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Charged {
    /// The number of its first entry.
    pub(super) root: u64,
    /// ISO 4217 code.
    pub(super) currency: String,
    /// Without tax, and without what a commitment has paid.
    pub(super) net: Decimal,
    /// By code.
    pub(super) taxes: BTreeMap<String, Decimal>,
}

impl Charged {
    /// Adds what of a tax, a grant or a drawdown is of the line.
    fn add(&mut self, role: Role, code: &str, amount: Decimal) -> Option<()> {
        let sum = match role {
            Role::Tax => self.taxes.entry(code.to_owned()).or_default(),
            Role::Drawdown => &mut self.net,
            // What grants pay was charged.
            _ => return Some(()),
        };
        *sum = sum.checked_add(amount)?;
        Some(())
    }
}

/// What of an entry goes with a disputed line.
struct Apart {
    index: u64,
    /// The line's first entry.
    root: u64,
    role: Role,
    line: String,
    start: Timestamp,
    end: Timestamp,
    contra: Account,
    tax: Option<TaxOf>,
    tie: Tie,
    currency: String,
}

impl Beside {
    /// Of an entry; `None` of one that has no tax and pays for no line.
    pub(super) fn of(posting: &Posting) -> Option<Self> {
        let legs = || posting.legs.iter();
        if let Some(role @ (Role::Tax | Role::Grant | Role::Drawdown)) = posting.role {
            let contra = legs().find(|leg| leg.account != Account::Unbilled)?;
            return Some(Self::Entry {
                role,
                line: posting.line.clone(),
                start: posting.start,
                contra: contra.account.clone(),
                tax: posting.tax.as_deref().cloned(),
                ties: Vec::new(),
            });
        }
        let taxes = legs().filter_map(|leg| match &leg.account {
            Account::Tax(code) => Some((code.clone(), negated(leg.amount))),
            _ => None,
        });
        let taxes: Vec<_> = taxes.collect();
        (!taxes.is_empty()).then_some(Self::Taxes(taxes))
    }

    /// Takes what of it goes with a part of its entry.
    pub(super) fn take_part(&mut self, whole: &LinePart, part: &LinePart) -> Self {
        let mut taken = self.clone();
        match (self, &mut taken) {
            (Self::Entry { ties, .. }, Self::Entry { ties: taken, .. }) => {
                for (_, tie) in taken.iter_mut() {
                    *tie = tie.share(part, whole);
                }
                let less = taken.iter().map(|(root, tie)| (*root, tie.negated()));
                *ties = together(std::mem::take(ties).into_iter().chain(less));
            }
            (Self::Taxes(taxes), Self::Taxes(taken)) => {
                for ((_, left), (_, tax)) in taxes.iter_mut().zip(taken) {
                    *tax = share(*tax, part.tax, whole.tax);
                    *left = left.saturating_sub(*tax);
                }
            }
            // The one is a copy of the other.
            (Self::Entry { .. }, Self::Taxes(_)) | (Self::Taxes(_), Self::Entry { .. }) => {}
        }
        taken
    }

    /// What was taken with a part is back.
    pub(super) fn give_back(&mut self, taken: Self) {
        match (self, taken) {
            (Self::Entry { ties, .. }, Self::Entry { ties: taken, .. }) => {
                *ties = together(std::mem::take(ties).into_iter().chain(taken));
            }
            (Self::Taxes(taxes), Self::Taxes(taken)) => {
                for ((_, left), (_, tax)) in taxes.iter_mut().zip(taken) {
                    *left = left.saturating_add(tax);
                }
            }
            // Parts of one entry are alike.
            (Self::Entry { .. }, Self::Taxes(_)) | (Self::Taxes(_), Self::Entry { .. }) => {}
        }
    }
}

impl Due {
    fn beside(&self) -> Option<&Beside> {
        self.beside.as_deref()
    }

    /// Whether it is a tax, or what a grant or a commitment pays.
    fn is_entry_beside(&self) -> bool {
        matches!(self.beside(), Some(Beside::Entry { .. }))
    }
}

impl Dues {
    /// These entries change a line, whose first entry has this number.
    pub(super) fn are_of(&mut self, entries: RangeInclusive<u64>, root: u64) {
        for (_, due) in self.open.range_mut(entries) {
            due.root = root;
        }
    }

    fn set_ties(&mut self, index: u64, of: Ties) {
        let beside = self.open.get_mut(&index);
        if let Some(Beside::Entry { ties, .. }) = beside.and_then(|due| due.beside.as_deref_mut()) {
            *ties = of;
        }
    }

    /// Takes what goes with disputed lines out of taxes and grants that wait among these entries.
    fn take_apart(&mut self, among: impl RangeBounds<u64>) -> Vec<Apart> {
        let disputed = &self.disputed;
        let mut parts = Vec::new();
        if disputed.is_empty() {
            return parts;
        }
        for (index, due) in self.open.range_mut(among) {
            let Some(Beside::Entry {
                role,
                line,
                start,
                contra,
                tax,
                ties,
            }) = due.beside.as_deref_mut()
            else {
                continue;
            };
            // One that is disputed itself waits as it is.
            if disputed.contains(&due.root) || !ties.iter().any(|(of, _)| disputed.contains(of)) {
                continue;
            }
            let all = std::mem::take(ties).into_iter();
            let (apart, left) = all.partition::<Ties, _>(|(of, _)| disputed.contains(of));
            *ties = left;
            parts.extend(apart.into_iter().map(|(root, tie)| Apart {
                index: *index,
                root,
                role: *role,
                line: line.clone(),
                start: *start,
                end: due.end,
                contra: contra.clone(),
                tax: tax.clone(),
                tie,
                currency: due.currency.clone(),
            }));
        }
        parts
    }

    /// All that waits, and what stands on documents in force.
    fn all(&self) -> impl Iterator<Item = (u64, &Due)> {
        let valid = self.documents().iter().filter(|document| !document.void);
        let billed = valid.flat_map(|document| &document.lines);
        self.open
            .iter()
            .chain(billed)
            .map(|(index, due)| (*index, due))
    }

    /// What stands charged for a line, by the number of any of its entries; `None` if that is no line,
    /// or a sum does not fit.
    pub(super) fn charged(&self, index: u64) -> Option<Charged> {
        let (_, named) = self.all().find(|(at, _)| *at == index)?;
        if named.is_entry_beside() {
            return None;
        }
        let mut charged = Charged {
            root: named.root,
            currency: named.currency.clone(),
            ..Charged::default()
        };
        let root = named.root;
        for (_, due) in self.all() {
            let is_of_line = due.root == root;
            match due.beside() {
                Some(Beside::Entry {
                    role, line, ties, ..
                }) => {
                    let tied = ties.iter().filter(|(of, _)| *of == root);
                    // What was taken apart for a dispute is of the line as a whole.
                    let apart = is_of_line.then_some(due.amount);
                    for amount in tied.map(|(_, tie)| tie.amount).chain(apart) {
                        charged.add(*role, line, amount)?;
                    }
                }
                Some(Beside::Taxes(_)) | None if is_of_line => {
                    charged.net = charged.net.checked_add(due.amount.checked_sub(due.tax)?)?;
                    if let Some(Beside::Taxes(taxes)) = due.beside() {
                        for (code, tax) in taxes {
                            charged.add(Role::Tax, code, *tax)?;
                        }
                    }
                }
                Some(Beside::Taxes(_)) | None => {}
            }
        }
        Some(charged)
    }

    /// How much of a tax stands charged; `None` if the sum does not fit.
    pub(super) fn tax_charged(&self, code: &str, currency: &str) -> Option<Decimal> {
        let mut sum = Decimal::ZERO;
        for (_, due) in self.all().filter(|(_, due)| due.currency == currency) {
            match due.beside() {
                Some(Beside::Entry {
                    role: Role::Tax,
                    line,
                    ..
                }) if line == code => sum = sum.checked_add(due.amount)?,
                Some(Beside::Taxes(taxes)) => {
                    for (_, tax) in taxes.iter().filter(|(own, _)| own == code) {
                        sum = sum.checked_add(*tax)?;
                    }
                }
                Some(Beside::Entry { .. }) | None => {}
            }
        }
        Some(sum)
    }
}

impl TenantFold {
    /// Notes what of taxes and grants goes with which line, and books apart what goes with disputed
    /// ones.
    pub(super) fn tie(
        &mut self,
        booking: &Booking<'_>,
        booked: &mut BTreeMap<LineKey, Booked>,
        tied: Vec<Tied>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(tenant) = self.tenants.get_mut(booking.tenant) else {
            return;
        };
        // All that is between them in the chain was booked with them.
        let from = tied.iter().map(|(_, entries, _)| *entries.start()).min();
        for (key, entries, ties) in tied {
            let first = |line: &LineKey| Some(booked.get(line)?.original.index);
            let now = ties
                .iter()
                .filter_map(|(line, amount)| Some((first(line)?, *amount)));
            let now = together(now);
            let Some(of) = booked.get_mut(&key) else {
                continue;
            };
            let was = std::mem::replace(&mut of.ties, now.clone());
            let back = was.into_iter().map(|(root, tie)| (root, tie.negated()));
            let (first, last) = (*entries.start(), *entries.end());
            if booking.change == Change::Anew && first < last {
                tenant.dues.set_ties(first, back.collect());
                tenant.dues.set_ties(last, now);
            } else {
                // A difference, or one of what stood before and what stands now is nothing.
                let difference = together(now.into_iter().chain(back));
                tenant.dues.set_ties(last, difference);
            }
        }
        if let Some(from) = from {
            let at = (booking.position, booking.stamp);
            self.book_apart(booking.tenant, from.., at, effects);
        }
    }

    /// Books what goes with disputed lines apart, where it is still among these entries.
    pub(super) fn book_apart(
        &mut self,
        name: &TenantId,
        among: impl RangeBounds<u64>,
        (position, stamp): (Position, Timestamp),
        effects: &mut Vec<Effect>,
    ) {
        let date = self.zone_at(name, stamp).date_at(stamp);
        let partition = self.partition;
        let entry = |index| EntryRef { partition, index };
        let known = self.tenants.get_mut(name);
        let parts = known.map_or_else(Vec::new, |tenant| tenant.dues.take_apart(among));
        for part in parts {
            let (of, line) = (entry(part.index), entry(part.root));
            let off = (
                of,
                part.tie.negated(),
                format!("of {of}, to the disputed line {line}"),
            );
            let to = (
                line,
                part.tie,
                format!("of {of}, with the disputed line {line}"),
            );
            for (refers_to, tie, arithmetic) in [off, to] {
                let posting = Posting {
                    tenant: Some(name.clone()),
                    date: Some(date),
                    arithmetic,
                    refers_to: Some(refers_to),
                    ..part.posting(tie, position)
                };
                self.post(stamp, posting, effects);
            }
        }
    }
}

impl Apart {
    /// An entry that moves so much of it.
    fn posting(&self, tie: Tie, position: Position) -> Posting {
        let kind = EntryKind::Adjustment;
        let mut posting = Posting::new(kind, self.start, self.end, self.line.clone(), position);
        posting.role = Some(self.role);
        posting.amount = Some(tie.amount);
        posting.currency = Some(self.currency.clone());
        let contra = self.contra.clone();
        posting.legs = if tie.amount.is_zero() {
            // Also a tax that is not charged stands on an invoice.
            nothing(contra, tie.amount, &self.currency)
        } else {
            transfer(Account::Unbilled, contra, tie.amount, &self.currency)
        };
        let base = tie.base;
        let tax = self.tax.clone().map(|tax| TaxOf { base, ..tax });
        posting.tax = tax.map(Box::new);
        posting
    }
}

/// Ties of the same line together; what is nothing is not kept.
fn together(ties: impl Iterator<Item = (u64, Tie)>) -> Ties {
    let mut sums: BTreeMap<u64, Tie> = BTreeMap::new();
    for (root, tie) in ties {
        let sum = sums.entry(root).or_default();
        *sum = sum.and(tie);
    }
    sums.retain(|_, sum| !sum.is_nothing());
    sums.into_iter().collect()
}
