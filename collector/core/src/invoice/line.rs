//! A line of a document: a ledger entry, a part of one, or what is not booked yet.
//!
//! The ledger has list amounts and steps as the card says them, in its currency and, where its prices
//! include it, with tax. A document has one currency, so that they are converted here, as the amount
//! was.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::Timestamp;

use crate::ledger::{
    Account, EntryKind, EntryRef, LedgerEntry, LinePart, Original, Posting, Role, Step, StepKind,
    TaxOf, negated,
};
use crate::rate::{Mode, Ratio};

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// The ledger entry; `None` in previews, for what is not booked.
    pub entry: Option<EntryRef>,
    /// What kind of entry it is.
    pub kind: EntryKind,
    /// Which part of the bill.
    pub role: Option<Role>,
    /// The price's id, or what else names it.
    pub line: String,
    /// Which meter.
    pub meter: Option<String>,
    /// First instant of what it is for.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// The day on which it counts in the general ledger: for what was booked in time the last
    /// day of its period, in the tenant's zone.
    pub date: Option<NaiveDate>,
    /// In the meter's unit, decimal; `None` for what is no usage.
    pub quantity: Option<String>,
    /// The amount before the steps, in the document's currency and without tax; `None` where it cannot
    /// be told in it.
    pub list: Option<Decimal>,
    /// From the list amount to the amount.
    pub steps: Vec<Step>,
    /// The final amount, without tax.
    pub amount: Decimal,
    /// What it was in the card's currency, with the rate by which it was converted, and with tax where the
    /// card's prices include it; `None` if that is the amount.
    pub original: Option<Original>,
    /// Tax in the entry itself (of one-off lines).
    pub tax: BTreeMap<String, Decimal>,
    /// The arithmetic, or what it is for.
    pub arithmetic: String,
    /// The entry that it adjusts or reverses.
    pub refers_to: Option<EntryRef>,
    /// The general-ledger account that it counts on, where it is earned; `None` for what is not booked.
    pub gl: Option<String>,
    /// Of a line of tax: what it was computed of.
    #[serde(skip)]
    pub taxed: Option<TaxOf>,
}

/// A line that is not booked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLine {
    /// The price's id, or what else names it.
    pub line: String,
    /// Which meter.
    pub meter: Option<String>,
    /// First instant of what it is for.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// In the meter's unit.
    pub quantity: Option<String>,
    /// What a closing would book now.
    pub amount: Decimal,
    /// What of it is a tax, by its code.
    pub tax: Option<String>,
    /// What the tax is computed of, where it is known.
    pub taxed: Option<TaxOf>,
    /// The arithmetic.
    pub arithmetic: String,
}

impl InvoiceLine {
    /// The line of an entry, or the part of it that a document bills; `reversed` is the entry that it
    /// takes back, if it does.
    pub(super) fn of(
        entry: &LedgerEntry,
        part: Option<&LinePart>,
        reversed: Option<&LedgerEntry>,
    ) -> Self {
        let posting = &entry.posting;
        let taken_back = reversed.filter(|reversed| takes_back(posting, &reversed.posting));
        let mut whole = Self::told(entry, posting);
        if let Some(standing) = taken_back {
            let mut told = Self::told(standing, &standing.posting);
            told.reverse();
            (whole.list, whole.steps) = (told.list, told.steps);
            whole.original = told.original;
        }
        match part
            .filter(|part| Some(part.amount) != posting.amount || part.base != posting.tax_base())
        {
            Some(part) => whole.part(part),
            None => whole,
        }
    }

    fn told(entry: &LedgerEntry, posting: &Posting) -> Self {
        let tax = taxes_of(posting);
        let taxed: Decimal = tax.values().sum();
        let amount = posting.amount.unwrap_or_default() - taxed;
        let (list, steps) = match (posting.list, posting.original.as_deref()) {
            (None, _) => (Some(amount), Vec::new()),
            (Some(list), None) => (Some(list), posting.steps.clone()),
            (Some(list), Some(original)) => {
                match in_document(list, &posting.steps, original, amount) {
                    Some((list, steps)) => (Some(list), steps),
                    None => (None, Vec::new()),
                }
            }
        };
        Self {
            entry: Some(entry.at),
            kind: posting.kind,
            role: posting.role,
            line: posting.line.clone(),
            meter: posting.meter.as_ref().map(ToString::to_string),
            start: posting.start,
            end: posting.end,
            date: posting.date,
            quantity: posting
                .meter
                .as_ref()
                .map(|_| posting.quantity.display(posting.scale).to_string()),
            list,
            steps,
            amount,
            original: posting.original.as_deref().cloned(),
            tax,
            arithmetic: posting.arithmetic.clone(),
            refers_to: posting.refers_to,
            gl: gl_of(posting),
            taxed: posting.tax.as_deref().cloned(),
        }
    }

    /// A part of it. Its quantity stands in the ledger: several documents would count it several
    /// times.
    fn part(self, part: &LinePart) -> Self {
        let amount = part.amount - part.tax;
        // An entry has one tax at most.
        let tax = self.tax.into_keys().map(|code| (code, part.tax)).collect();
        Self {
            quantity: None,
            list: Some(amount),
            steps: Vec::new(),
            original: None,
            taxed: self.taxed.map(|taxed| TaxOf {
                base: part.base,
                ..taxed
            }),
            arithmetic: format!("a part of {}: {}", self.amount, self.arithmetic),
            amount,
            tax,
            ..self
        }
    }

    pub(super) fn of_open(open: OpenLine) -> Self {
        let is_tax = open.tax.is_some();
        let amount = if is_tax { Decimal::ZERO } else { open.amount };
        Self {
            entry: None,
            kind: EntryKind::Charge,
            role: is_tax.then_some(Role::Tax),
            line: open.line,
            meter: open.meter,
            start: open.start,
            end: open.end,
            date: None,
            quantity: open.quantity,
            list: Some(amount),
            steps: Vec::new(),
            amount,
            original: None,
            tax: open
                .tax
                .map(|code| (code, open.amount))
                .into_iter()
                .collect(),
            arithmetic: open.arithmetic,
            refers_to: None,
            gl: None,
            taxed: open.taxed,
        }
    }

    /// What contracted rates make of the list amount; `None` where that is not known.
    pub fn contracted(&self) -> Option<Decimal> {
        let contracted = |step: &&Step| step.kind == StepKind::Contracted;
        let mut steps = self.steps.iter().filter(contracted);
        steps.try_fold(self.list?, |sum, step| sum.checked_add(step.amount))
    }

    /// True for what is paid by grants or credit rather than charged.
    pub(super) fn is_payment(&self) -> bool {
        matches!(self.role, Some(Role::Grant | Role::CreditBalance))
    }

    /// True for an entry that is nothing but tax.
    pub(super) fn is_tax(&self) -> bool {
        self.role == Some(Role::Tax)
    }
}

/// On which general-ledger account an entry counts what was earned.
fn gl_of(posting: &Posting) -> Option<String> {
    posting.legs.iter().find_map(|leg| match &leg.account {
        Account::Revenue(gl) => Some(gl.clone()),
        Account::Deferred => Some(leg.account.to_string()),
        _ => None,
    })
}

/// The tax of an entry by its code: what its legs owe to tax offices.
fn taxes_of(posting: &Posting) -> BTreeMap<String, Decimal> {
    let mut taxes: BTreeMap<String, Decimal> = BTreeMap::new();
    for leg in &posting.legs {
        if let Account::Tax(code) = &leg.account {
            *taxes.entry(code.clone()).or_default() -= leg.amount;
        }
    }
    taxes
}

impl InvoiceLine {
    /// Turns it round, as a credit note shows it.
    pub(super) fn reverse(&mut self) {
        self.amount = negated(self.amount);
        self.quantity = self.quantity.take().map(|quantity| {
            match quantity.strip_prefix('-') {
                Some(above) => above.to_owned(),
                // Nothing taken back is nothing.
                None if quantity.bytes().all(|byte| matches!(byte, b'0' | b'.')) => quantity,
                None => format!("-{quantity}"),
            }
        });
        self.list = self.list.map(negated);
        if let Some(original) = &mut self.original {
            original.amount = negated(original.amount);
        }
        if let Some(taxed) = &mut self.taxed {
            taxed.base = negated(taxed.base);
        }
        for step in &mut self.steps {
            step.amount = negated(step.amount);
        }
        for tax in self.tax.values_mut() {
            *tax = negated(*tax);
        }
    }
}

/// True if a posting takes back what another one says, and nothing else.
fn takes_back(posting: &Posting, standing: &Posting) -> bool {
    posting.kind == EntryKind::Reversal
        && posting.currency == standing.currency
        && posting.amount.map(negated) == standing.amount
}

/// A list amount and the steps from it to the amount, in the currency of the document and without
/// tax: the list amount and what each step leaves are converted, and the last is the amount. `None`
/// where nothing says what they would be.
fn in_document(
    list: Decimal,
    steps: &[Step],
    original: &Original,
    amount: Decimal,
) -> Option<(Decimal, Vec<Step>)> {
    let ratio = |of: Decimal| Ratio::from_decimal(of);
    let places = amount.scale();
    let rate = original.rate.map_or(Ratio::ONE, ratio);
    let gross = ratio(original.amount).checked_mul(rate)?;
    let gross = gross.round(places, Mode::HalfUp)?;
    let factor = if gross.is_zero() {
        // Nobody knows the tax of nothing.
        Some(rate).filter(|_| !original.with_tax)?
    } else {
        rate.checked_mul(ratio(amount).checked_div(ratio(gross))?)?
    };
    let converted = |of: Decimal| ratio(of).checked_mul(factor)?.round(places, Mode::HalfUp);
    let first = converted(list)?;
    let (mut left, mut shown) = (list, first);
    let mut all = Vec::with_capacity(steps.len());
    for (nth, step) in steps.iter().enumerate() {
        left = left.checked_add(step.amount)?;
        let next = if nth + 1 == steps.len() {
            amount
        } else {
            converted(left)?
        };
        all.push(Step {
            amount: next.checked_sub(shown)?,
            ..step.clone()
        });
        shown = next;
    }
    Some((first, all))
}
