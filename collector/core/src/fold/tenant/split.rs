//! One sum on several invoices: each bills its part of every line, taxes included, by largest
//! remainders, so that together they come to what one invoice would.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::dues::{Due, Dues, IssueRefused, IssueWish};
use crate::bill::split_by;
use crate::entry::{Issued, SPLIT_MAX, SplitPart};
use crate::ledger::{LinePart, PartOf};
use crate::rate::Currency;

/// What of each line a document bills, where it does not bill all of them whole.
pub(super) fn parts_of(lines: &BTreeMap<u64, Due>) -> Vec<LinePart> {
    if !lines.values().any(|due| due.is_part) {
        return Vec::new();
    }
    let part = |due: &Due| LinePart {
        amount: due.amount,
        tax: due.tax,
        base: due.base,
    };
    lines.values().map(part).collect()
}

impl Due {
    /// Takes a part of it, with its part of what goes with which line.
    fn take_part(&mut self, part: &LinePart) -> Self {
        let whole = LinePart {
            amount: self.amount,
            tax: self.tax,
            base: self.base,
        };
        let beside = self.beside.as_mut();
        let beside = beside.map(|beside| Box::new(beside.take_part(&whole, part)));
        // Both are parts of what is there, so that what is left fits.
        self.amount = self.amount.checked_sub(part.amount).unwrap_or_default();
        self.tax = self.tax.checked_sub(part.tax).unwrap_or_default();
        self.base = self.base.checked_sub(part.base).unwrap_or_default();
        self.is_part = true;
        Self {
            amount: part.amount,
            tax: part.tax,
            base: part.base,
            beside,
            ..self.clone()
        }
    }
}

impl Dues {
    /// Invoices over parts of lines that end within these instants.
    pub(super) fn split(
        &self,
        wish: &IssueWish,
        today: NaiveDate,
        (currency, ends): (Option<&str>, &RangeInclusive<Timestamp>),
        weights: &[u32],
    ) -> Result<Vec<Issued>, IssueRefused> {
        let refused = |why: String| Err(IssueRefused::Split(why));
        if !(2..=SPLIT_MAX).contains(&weights.len()) || weights.contains(&0) {
            return refused(format!("expected 2 to {SPLIT_MAX} numbers above zero"));
        }
        let (currency, indices, _) = self.select(&wish.tenant, currency, ends)?;
        let Ok(places) = currency.parse::<Currency>().map(Currency::exponent) else {
            return refused(format!("`{currency}` is no currency"));
        };
        let weights: Vec<i128> = weights.iter().map(|weight| i128::from(*weight)).collect();
        let mut documents = vec![(Vec::new(), Vec::new()); weights.len()];
        for index in indices {
            let Some(due) = self.open.get(&index) else {
                continue;
            };
            // The net and the tax of a line each for itself, so that the one stays that of the other.
            let split = |amount| split_by(amount, places, &weights);
            let net = due
                .amount
                .checked_sub(due.tax)
                .ok_or(IssueRefused::TooLarge)?;
            let all = [split(net), split(due.tax), split(due.base)];
            let [Some(nets), Some(taxes), Some(bases)] = all else {
                return Err(IssueRefused::TooLarge);
            };
            let parts = nets.into_iter().zip(taxes).zip(bases);
            let mut nothing = due.amount.is_zero() && due.base.is_zero();
            for (((net, tax), base), (lines, billed)) in parts.zip(&mut documents) {
                let amount = net.checked_add(tax).ok_or(IssueRefused::TooLarge)?;
                let part = LinePart { amount, tax, base };
                // A line that comes to nothing stands on the first.
                let is_first = std::mem::take(&mut nothing);
                if is_first || !part.is_nothing() {
                    lines.push(index);
                    billed.push(part);
                }
            }
        }
        let of = u16::try_from(documents.len()).unwrap_or(u16::MAX);
        let documents = documents.into_iter().zip(1..).map(|((lines, parts), place)| {
            let amounts = parts.iter().map(|part: &LinePart| part.amount);
            let mut amounts = amounts.into_iter();
            let total = amounts.try_fold(Decimal::ZERO, Decimal::checked_add);
            let total = total.ok_or(IssueRefused::TooLarge)?;
            if total <= Decimal::ZERO {
                return Err(IssueRefused::Split(format!(
                    "part {place} of {of} would come to {total} {currency} (expected more than 0)"
                )));
            }
            Ok(Issued::Invoice {
                currency: currency.clone(),
                lines,
                due: Self::due_of(wish, today),
                split: Some(SplitPart {
                    part_of: PartOf { place, of },
                    parts,
                }),
            })
        });
        documents.collect()
    }

    /// Takes parts of lines out of what waits; what no longer waits is left out, and of what others
    /// have left less, that.
    pub(super) fn bill_parts(
        &mut self,
        currency: &str,
        lines: &[u64],
        parts: &[LinePart],
    ) -> BTreeMap<u64, Due> {
        let mut billed = BTreeMap::new();
        for (index, part) in lines.iter().zip(parts) {
            let Some(due) = self.open.get_mut(index) else {
                continue;
            };
            let is_part = part.fits(due.amount, due.base);
            if self.disputed.contains(&due.root)
                || due.currency != currency
                || !is_part
                || billed.contains_key(index)
            {
                continue;
            }
            let part = due.take_part(part);
            if due.amount.is_zero() && due.base.is_zero() {
                self.open.remove(index);
            }
            billed.insert(*index, part);
        }
        billed
    }

    /// Lines of an invoice that is void wait again, with what of them waits already.
    pub(super) fn give_back(&mut self, lines: BTreeMap<u64, Due>) {
        for (index, due) in lines {
            match self.open.get_mut(&index) {
                Some(left) if left.is_part => {
                    // Together they are at most the line.
                    left.amount = left.amount.checked_add(due.amount).unwrap_or(left.amount);
                    left.tax = left.tax.checked_add(due.tax).unwrap_or(left.tax);
                    left.base = left.base.checked_add(due.base).unwrap_or(left.base);
                    if let (Some(left), Some(beside)) = (&mut left.beside, due.beside) {
                        left.give_back(*beside);
                    }
                }
                _ => {
                    self.open.insert(index, due);
                }
            }
        }
    }
}
