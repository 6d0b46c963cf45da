//! What goes with which line of what stands beside lines: of taxes, and of what grants pay. Each is one entry for all lines of a period;
//! here is what of it goes with which line, so that a disputed line takes its tax and its grants with
//! it, and a goodwill credit gives back no more tax than stands charged.
//!
//! Where a line is disputed, what of these entries goes with it is booked apart: taken off the entry by
//! an adjustment, and put to the line by another one, which is disputed with it. Both sum to zero, and
//! all of that waits as before once the dispute is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

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
use crate::ledger::{Account, EntryKind, EntryRef, Posting, Role, TaxOf, negated, transfer};
use crate::position::Position;

/// What of a tax, or of what a grant pays, goes with a line.
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

/// A tax, or what a grant pays, that was booked: its key, its entries, and what of it is of which line.
pub(super) type Tied = (LineKey, RangeInclusive<u64>, LineTies);

/// What goes with lines of a bill, which are given by their places with amounts and bases.
pub(super) fn with_lines(
    bill: &Bill<'_>,
    of: impl Iterator<Item = (usize, Decimal, Decimal)>,
) -> LineTies {
    let ties = of.filter_map(|(place, amount, base)| {
        let tie = Tie { amount, base };
        let line = bill.lines.get(place).filter(|_| !tie.is_nothing())?;
        Some((key_of(bill, line), tie))
    });
    ties.collect()
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

    /// Both together: parts of a tax that fits fit.
    fn and(self, other: Self) -> Self {
        Self {
            amount: self.amount.saturating_add(other.amount),
            base: self.base.saturating_add(other.base),
        }
    }
}

/// No more of a part than there is.
fn within(part: Decimal, whole: Decimal) -> Decimal {
    if part.is_sign_negative() != whole.is_sign_negative() {
        Decimal::ZERO
    } else if part.abs() > whole.abs() {
        whole
    } else {
        part
    }
}

/// What an entry has to do with taxes and grants, where it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Beside {
    /// It is one.
    Entry {
        role: Role,
        /// The tax's code, or the grant's id.
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
    /// Without tax.
    pub(super) net: Decimal,
    /// By code.
    pub(super) taxes: BTreeMap<String, Decimal>,
}

/// What of an entry goes with a disputed line.
struct Apart {
    index: u64,
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
    /// Of an entry; `None` of one that has no tax and is no grant.
    pub(super) fn of(posting: &Posting) -> Option<Self> {
        let legs = || posting.legs.iter();
        if let Some(role @ (Role::Tax | Role::Grant)) = posting.role {
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
}

impl Due {
    fn beside(&self) -> Option<&Beside> {
        self.beside.as_deref()
    }

    /// Whether it is a tax, or what a grant pays.
    fn is_entry_beside(&self) -> bool {
        matches!(self.beside(), Some(Beside::Entry { .. }))
    }

    /// What of it is tax of a line with this first entry, by code.
    fn taxes_on(&self, root: u64) -> Vec<(&str, Decimal)> {
        match self.beside() {
            Some(Beside::Entry {
                role: Role::Tax,
                line,
                ties,
                ..
            }) => {
                let tied = ties.iter().filter(|(of, _)| *of == root);
                tied.map(|(_, tie)| (&**line, tie.amount)).collect()
            }
            Some(Beside::Taxes(taxes)) if self.root == root => {
                taxes.iter().map(|(code, tax)| (&**code, *tax)).collect()
            }
            Some(Beside::Entry { .. } | Beside::Taxes(_)) | None => Vec::new(),
        }
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

    /// The disputed lines by their first entries, each with the newest entry of it that waits.
    fn disputed(&self) -> BTreeMap<u64, u64> {
        let held = self.open.iter().filter(|(_, due)| due.held);
        let lines = held.filter(|(_, due)| !due.is_entry_beside());
        lines.map(|(index, due)| (due.root, *index)).collect()
    }

    /// Takes what goes with a line out of the taxes and grants that wait.
    fn take_apart(&mut self, root: u64) -> Vec<Apart> {
        let mut parts = Vec::new();
        for (index, due) in &mut self.open {
            if due.held || due.root == root {
                continue;
            }
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
            let Some(at) = ties.iter().position(|(of, _)| *of == root) else {
                continue;
            };
            let (_, mut tie) = ties.remove(at);
            if due.is_part {
                // Other documents bill the rest of it.
                tie.amount = within(tie.amount, due.amount);
                tie.base = within(tie.base, due.base);
            }
            if !tie.is_nothing() {
                parts.push(Apart {
                    index: *index,
                    role: *role,
                    line: line.clone(),
                    start: *start,
                    end: due.end,
                    contra: contra.clone(),
                    tax: tax.clone(),
                    tie,
                    currency: due.currency.clone(),
                });
            }
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
        // Of a line that several documents bill parts of, each knows all of its taxes.
        let mut seen = BTreeSet::new();
        for (index, due) in self.all() {
            if seen.insert(index) {
                for (code, tax) in due.taxes_on(charged.root) {
                    let sum = charged.taxes.entry(code.to_owned()).or_default();
                    *sum = sum.checked_add(tax)?;
                }
            }
            if due.root != charged.root {
                continue;
            }
            match due.beside() {
                // What was taken apart for a dispute is of the line as a whole, and each part of it
                // knows its own.
                Some(Beside::Entry {
                    role: Role::Tax,
                    line,
                    ..
                }) => {
                    let sum = charged.taxes.entry(line.clone()).or_default();
                    *sum = sum.checked_add(due.amount)?;
                }
                Some(Beside::Entry { .. }) => {}
                Some(Beside::Taxes(_)) | None => {
                    let net = due.amount.checked_sub(due.tax)?;
                    charged.net = charged.net.checked_add(net)?;
                }
            }
        }
        Some(charged)
    }

    /// How much of a tax stands charged; `None` if the sum does not fit.
    pub(super) fn tax_charged(&self, code: &str, currency: &str) -> Option<Decimal> {
        let mut sum = Decimal::ZERO;
        let mut seen = BTreeSet::new();
        for (index, due) in self.all().filter(|(_, due)| due.currency == currency) {
            match due.beside() {
                Some(Beside::Entry {
                    role: Role::Tax,
                    line,
                    ..
                }) if line == code => sum = sum.checked_add(due.amount)?,
                Some(Beside::Taxes(taxes)) if seen.insert(index) => {
                    for (_, tax) in taxes.iter().filter(|(own, _)| own == code) {
                        sum = sum.checked_add(*tax)?;
                    }
                }
                Some(Beside::Entry { .. } | Beside::Taxes(_)) | None => {}
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
        let any = !tied.is_empty();
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
        if !any {
            return;
        }
        for (root, line) in tenant.dues.disputed() {
            self.book_apart(
                booking.tenant,
                (root, line),
                (booking.position, booking.stamp),
                effects,
            );
        }
    }

    /// Books what goes with a disputed line apart: to the entry of it that is named.
    pub(super) fn book_apart(
        &mut self,
        name: &TenantId,
        (root, line): (u64, u64),
        (position, stamp): (Position, Timestamp),
        effects: &mut Vec<Effect>,
    ) {
        let date = self.zone_at(name, stamp).date_at(stamp);
        let entry = |index| EntryRef {
            partition: self.partition,
            index,
        };
        let (line, partition) = (entry(line), self.partition);
        let known = self.tenants.get_mut(name);
        let parts = known.map_or_else(Vec::new, |tenant| tenant.dues.take_apart(root));
        for part in parts {
            let of = EntryRef {
                partition,
                index: part.index,
            };
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
