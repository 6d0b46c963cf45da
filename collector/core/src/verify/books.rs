//! What double entry promises, checked over the recomputed entries: legs sum to zero, lines sum to
//! their invoice, numbers of documents have no gaps, and what was counted is billed, unrated,
//! refused, lost, or waits in an open period.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::{Aggregation, MeterName, Quantity, Scale, TenantId};

use super::shares::Shares;
use crate::catalog::Families;
use crate::entry::Issue;
use crate::fold::tenant::{CrowdAccount, TenantFold};
use crate::fold::whole::Fold;
use crate::ledger::{
    Account, Certainty, Disputes, Document, EntryKind, EntryRef, LedgerEntry, LinePart, Posting,
    check_balance,
};

/// Most faults that are told one by one.
const FAULTS_MAX: usize = 64;

/// Whose usage, of which meter and scale.
pub(super) type AccountKey = (TenantId, MeterName, Scale);

/// A rule of the books that an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which entry.
    #[serde(flatten)]
    pub at: EntryRef,
    /// What is wrong.
    pub fault: String,
}

/// What became of the usage of one account, by the entries of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageSums {
    /// Rated and billed.
    pub billed: Quantity,
    /// Booked without a price, by reason.
    pub unrated: BTreeMap<String, Quantity>,
    /// Booked as refused, by reason.
    pub refused: BTreeMap<String, Quantity>,
    /// Declared lost and not taken back, by reason.
    pub lost: BTreeMap<String, Quantity>,
    /// Counted into a period that is not closed, or since its closing.
    pub open: Quantity,
    /// The same of what is refused.
    pub open_refused: Quantity,
    /// True if a sum left its range.
    #[serde(skip)]
    overflow: bool,
}

impl UsageSums {
    fn add(sum: &mut Quantity, overflow: &mut bool, quantity: Quantity) {
        match sum.checked_add(quantity) {
            Some(new) => *sum = new,
            None => *overflow = true,
        }
    }

    fn total(sums: &BTreeMap<String, Quantity>) -> Option<Quantity> {
        Quantity::checked_sum(sums.values().copied())
    }

    /// What of these figures of an account is not in these parts: of what was counted, refused and lost;
    /// `None` if that does not fit.
    pub(super) fn missing(&self, figures: [Quantity; 3]) -> Option<[Quantity; 3]> {
        let [counted, refused, lost] = figures;
        let unrated = Self::total(&self.unrated)?;
        let booked = Quantity::checked_sum([self.billed, unrated, self.open])?;
        let of_refused = Self::total(&self.refused)?.checked_add(self.open_refused)?;
        let missing = [
            counted.checked_sub(booked)?,
            refused.checked_sub(of_refused)?,
            lost.checked_sub(Self::total(&self.lost)?)?,
        ];
        (!self.overflow).then_some(missing)
    }
}

/// What became of usage, by the entries of the ledger.
pub(super) struct UsageBooked {
    /// Meter by meter.
    pub(super) accounts: BTreeMap<AccountKey, UsageSums>,
    /// What is of too many meters.
    pub(super) crowds: BTreeMap<CrowdAccount, UsageSums>,
}

/// What the books add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BooksReport {
    /// Entries whose legs sum to zero.
    pub balanced: u64,
    /// Invoices and credit notes whose lines sum to them, and whose numbers follow each other.
    pub documents: u64,
    /// Rules that are broken, at most 64 of them.
    pub faults: Vec<Fault>,
}

/// A line that an invoice may bill.
struct Line {
    tenant: TenantId,
    currency: String,
    /// What is owed for it, and what of that stands on no invoice.
    whole: LinePart,
    left: LinePart,
    /// Something of it stands on no invoice, if only that it comes to nothing.
    waits: bool,
}

impl Line {
    fn change(&mut self, part: &LinePart, with: fn(Decimal, Decimal) -> Option<Decimal>) {
        // Parts are of what is there, so that what they leave and come to again fits.
        let change = |left, part| with(left, part).unwrap_or(left);
        self.left = LinePart {
            amount: change(self.left.amount, part.amount),
            tax: change(self.left.tax, part.tax),
            base: change(self.left.base, part.base),
        };
    }

    fn bill(&mut self, part: &LinePart) {
        self.change(part, Decimal::checked_sub);
        self.waits = !self.left.is_nothing();
    }

    fn give_back(&mut self, part: &LinePart) {
        self.change(part, Decimal::checked_add);
        self.waits = true;
    }

    /// A part of it, and of a tax what it is of.
    fn described(&self, part: &LinePart) -> String {
        if self.whole.base.is_zero() {
            part.amount.to_string()
        } else {
            format!("{} (the tax on {})", part.amount, part.base)
        }
    }
}

/// Takes up the entries in the order of the journal.
#[derive(Default)]
pub(super) struct Books {
    lines: BTreeMap<EntryRef, Line>,
    disputes: Disputes,
    /// Invoices by their entries, with their lines and their amounts.
    invoices: BTreeMap<EntryRef, (Vec<(u64, LinePart)>, Decimal)>,
    /// The number from which each issuer's go on at the least after a restore, by the wish that came
    /// last.
    firsts: BTreeMap<String, u64>,
    /// The last number of each issuer.
    numbers: BTreeMap<String, u64>,
    /// Issuers that have issued nothing since the journal was restored: numbers given after the
    /// backup are not known.
    restored: BTreeSet<String>,
    usage: BTreeMap<AccountKey, UsageSums>,
    /// The same of usage of too many meters, which is of none in particular.
    crowds: BTreeMap<CrowdAccount, UsageSums>,
    shares: Shares,
    report: BooksReport,
}

impl Books {
    fn fault(&mut self, at: EntryRef, fault: String) {
        if self.report.faults.len() < FAULTS_MAX {
            self.report.faults.push(Fault { at, fault });
        }
    }

    /// A document is to be issued: the ledger's entry of it comes next.
    pub(super) fn issue(&mut self, issue: &Issue) {
        self.firsts.insert(issue.issuer.clone(), issue.first);
    }

    /// The journal up to here is a copy.
    pub(super) fn restored(&mut self) {
        self.restored = self.numbers.keys().cloned().collect();
    }

    /// Takes up an entry; `families` know who pays for whom.
    pub(super) fn take(&mut self, entry: &LedgerEntry, families: &Families) {
        self.shares.take(entry, |tenant| families.is_payer(tenant));
        let posting = &entry.posting;
        match check_balance(&posting.legs) {
            Ok(()) => self.report.balanced += 1,
            Err(error) => self.fault(entry.at, error.to_string()),
        }
        self.count_usage(entry);
        if posting.kind.is_line()
            && let (Some(tenant), Some((amount, currency))) = (&posting.tenant, posting.unbilled())
        {
            let whole = LinePart {
                amount,
                tax: posting.own_tax(),
                base: posting.tax_base(),
            };
            let line = Line {
                tenant: tenant.clone(),
                currency: currency.to_owned(),
                whole,
                left: whole,
                waits: true,
            };
            self.lines.insert(entry.at, line);
        }
        self.disputes.take(entry);
        if let Some(document) = &posting.document {
            match self.take_document(entry, document) {
                Ok(()) => self.report.documents += 1,
                Err(fault) => self.fault(entry.at, fault),
            }
        }
    }

    fn take_document(&mut self, entry: &LedgerEntry, document: &Document) -> Result<(), String> {
        let last = self
            .numbers
            .insert(document.issuer.clone(), document.sequence);
        let may_skip = self.restored.remove(&document.issuer);
        let first = self.firsts.get(&document.issuer).copied();
        let first = first.filter(|_| may_skip).unwrap_or_default();
        let next = |last: u64| last.checked_add(1).map(|next| Ord::max(next, first));
        if last.is_some_and(|last| next(last) != Some(document.sequence)) {
            return Err(format!(
                "number {} of issuer `{}` follows {}: a gap",
                document.sequence,
                document.issuer,
                last.unwrap_or_default()
            ));
        }
        let posting = &entry.posting;
        let total = posting.amount.unwrap_or_default();
        let receivable: Decimal = {
            let legs = posting.legs.iter();
            let of = legs.filter(|leg| leg.account == Account::Receivable);
            of.map(|leg| leg.amount).next().unwrap_or_default()
        };
        if receivable != total {
            return Err(format!("its total is {total}, but {receivable} is booked"));
        }
        if posting.kind == EntryKind::CreditNote
            && let Some(voided) = posting.refers_to
        {
            let Some((lines, amount)) = self.invoices.remove(&voided) else {
                return Err(format!("it voids {voided}, which is no invoice in force"));
            };
            for (index, part) in lines {
                if let Some(line) = self.lines.get_mut(&EntryRef { index, ..voided }) {
                    line.give_back(&part);
                }
            }
            return if amount.checked_add(total) == Some(Decimal::ZERO) {
                Ok(())
            } else {
                Err(format!("it takes back {total} of {amount}"))
            };
        }
        if !document.parts.is_empty() && document.parts.len() != document.lines.len() {
            return Err("it does not say of each line how much it bills".to_owned());
        }
        let mut sum = Decimal::ZERO;
        let mut billed = Vec::with_capacity(document.lines.len());
        for (nth, index) in document.lines.iter().enumerate() {
            let at = EntryRef {
                partition: entry.at.partition,
                index: *index,
            };
            let line = self.lines.get_mut(&at);
            let Some(line) = line.filter(|line| {
                line.waits
                    && Some(&line.tenant) == posting.tenant.as_ref()
                    && Some(&line.currency) == posting.currency.as_ref()
            }) else {
                return Err(format!("it bills {at}, which is no line that it can bill"));
            };
            if self.disputes.is_held(at) {
                return Err(format!("it bills {at}, which is held"));
            }
            let part = document.parts.get(nth).copied().unwrap_or(line.whole);
            if !part.fits(line.left.amount, line.left.base) {
                return Err(format!(
                    "it bills {} of {at}, of which {} is left",
                    line.described(&part),
                    line.described(&line.left)
                ));
            }
            line.bill(&part);
            billed.push((*index, part));
            sum = sum
                .checked_add(part.amount)
                .ok_or_else(|| "its lines are too large to be added".to_owned())?;
        }
        self.invoices.insert(entry.at, (billed, total));
        if sum == total {
            Ok(())
        } else {
            Err(format!("its lines sum to {sum}, its total is {total}"))
        }
    }

    fn count_usage(&mut self, entry: &LedgerEntry) {
        let posting = &entry.posting;
        let Some(tenant) = &posting.tenant else {
            return;
        };
        let Some(meter) = &posting.meter else {
            self.count_crowd(tenant, posting);
            return;
        };
        let is_loss = matches!(posting.kind, EntryKind::Loss | EntryKind::LossReversed);
        let counts = if is_loss {
            posting.certainty != Certainty::Unknown
        } else {
            posting.aggregation.is_some_and(Aggregation::adds_up)
        };
        if !counts || posting.quantity.is_zero() {
            return;
        }
        let key = (tenant.clone(), meter.clone(), posting.scale);
        let sums = self.usage.entry(key).or_default();
        let by_reason = match posting.kind {
            EntryKind::Unrated => &mut sums.unrated,
            EntryKind::Refused => &mut sums.refused,
            EntryKind::Loss | EntryKind::LossReversed => &mut sums.lost,
            EntryKind::Share => {
                UsageSums::add(&mut sums.billed, &mut sums.overflow, posting.quantity);
                // The line that it is a share of is the payer's, but this usage is not.
                let less = Quantity::ZERO.checked_sub(posting.quantity);
                let payer = posting.payer.clone().unwrap_or_else(|| tenant.clone());
                let key = (payer, meter.clone(), posting.scale);
                let sums = self.usage.entry(key).or_default();
                UsageSums::add(
                    &mut sums.billed,
                    &mut sums.overflow,
                    less.unwrap_or_default(),
                );
                return;
            }
            kind if kind.is_closing() => {
                UsageSums::add(&mut sums.billed, &mut sums.overflow, posting.quantity);
                return;
            }
            _ => return,
        };
        let sum = by_reason.entry(posting.line.clone()).or_default();
        UsageSums::add(sum, &mut sums.overflow, posting.quantity);
        if sum.is_zero() {
            by_reason.remove(&posting.line);
        }
    }

    fn count_crowd(&mut self, tenant: &TenantId, posting: &Posting) {
        let adds_up = posting.aggregation.is_some_and(Aggregation::adds_up);
        if !adds_up || posting.quantity.is_zero() {
            return;
        }
        let key = (tenant.clone(), posting.scale);
        let by_reason = |sums: &mut UsageSums, unrated: bool| {
            let of = if unrated {
                &mut sums.unrated
            } else {
                &mut sums.refused
            };
            let sum = of.entry(posting.line.clone()).or_default();
            UsageSums::add(sum, &mut sums.overflow, posting.quantity);
            if sum.is_zero() {
                of.remove(&posting.line);
            }
        };
        match posting.kind {
            EntryKind::Unrated => by_reason(self.crowds.entry(key).or_default(), true),
            EntryKind::Refused => by_reason(self.crowds.entry(key).or_default(), false),
            _ => {}
        }
    }

    /// What the books add up to, and what became of the usage.
    pub(super) fn finish(mut self, fold: &Fold) -> (BooksReport, UsageBooked) {
        let rate = fold.tenants().first().map(TenantFold::tax_rate_max);
        for fault in self.shares.faults(rate.unwrap_or_default()) {
            if self.report.faults.len() < FAULTS_MAX {
                self.report.faults.push(fault);
            }
        }
        for tenants in fold.tenants() {
            for (key, refused, quantity) in tenants.unbooked() {
                let sums = self.usage.entry(key).or_default();
                let open = if refused {
                    &mut sums.open_refused
                } else {
                    &mut sums.open
                };
                UsageSums::add(open, &mut sums.overflow, quantity);
            }
        }
        for tenants in fold.tenants() {
            for (key, refused, quantity) in tenants.unbooked_of_crowds() {
                let sums = self.crowds.entry(key).or_default();
                let open = if refused {
                    &mut sums.open_refused
                } else {
                    &mut sums.open
                };
                UsageSums::add(open, &mut sums.overflow, quantity);
            }
        }
        let booked = UsageBooked {
            accounts: self.usage,
            crowds: self.crowds,
        };
        (self.report, booked)
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
