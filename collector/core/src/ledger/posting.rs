//! The content of an entry, before it is chained.

use std::fmt;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Aggregation, Incarnation, MeterName, Quantity, Scale, TenantId, Timestamp,
};

use super::{Certainty, EntryKind, EntryRef, Leg};
use crate::entry::Digest;
use crate::position::Position;

/// Which part of a bill a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Usage by a price.
    Usage,
    /// A fee: a price without a meter.
    Fee,
    /// A fee of the next period.
    Advance,
    /// What is missing to a minimum.
    Minimum,
    /// What a commitment charges before its usage.
    Commitment,
    /// Usage that a commitment has paid for, below zero.
    Drawdown,
    /// What usage above a commitment costs more, or less.
    Overage,
    /// What is missing to a commitment at the end of its term.
    TrueUp,
    /// Tax.
    Tax,
    /// What a grant or a prepaid credit pays, below zero.
    Grant,
    /// What the tenant's credit pays, below zero.
    CreditBalance,
    /// What the rounded total is more, or less, than the exact one.
    Rounding,
    /// What was paid for a commitment and not used by its end. Nothing is owed for it.
    Breakage,
}

impl Role {
    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Fee => "fee",
            Self::Advance => "advance",
            Self::Minimum => "minimum",
            Self::Commitment => "commitment",
            Self::Drawdown => "drawdown",
            Self::Overage => "overage",
            Self::TrueUp => "true_up",
            Self::Rounding => "rounding",
            Self::Tax => "tax",
            Self::Grant => "grant",
            Self::CreditBalance => "credit_balance",
            Self::Breakage => "breakage",
        }
    }
}

/// What changes an amount on its way from the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// From what the card lists to the tenant's contracted rates.
    Contracted,
    /// A discount, on the line or its part of one on several lines.
    Discount,
    /// A maximum, of the line or its part of one over several lines.
    Maximum,
    /// The line's minimum.
    Minimum,
    /// What was charged in advance.
    Advance,
    /// What rounding the invoice in place of the lines leaves here.
    Rounding,
}

impl StepKind {
    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contracted => "contracted",
            Self::Discount => "discount",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
            Self::Advance => "advance",
            Self::Rounding => "rounding",
        }
    }
}

/// An amount in the currency and with the tax of the card, where the bill has it otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The amount, with tax if the card's prices include it.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
    /// The exchange rate by which it was converted; `None` where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Decimal>,
    /// The day of that rate, in the tenant's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_date: Option<NaiveDate>,
    /// True if tax is in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_tax: bool,
}

/// For people, on one line.
impl fmt::Display for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "originally {} {}", self.amount, self.currency)?;
        if self.with_tax {
            f.write_str(" with tax")?;
        }
        match (self.rate, self.rate_date) {
            (Some(rate), Some(date)) => write!(f, ", at {rate} of {date}"),
            _ => Ok(()),
        }
    }
}

/// What a line of tax was computed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaxOf {
    /// The taxable amount, in the currency of the line.
    pub base: Decimal,
    /// The rate in percent; zero if it is not charged.
    pub percent: Decimal,
    /// Why it is not charged: `reverse_charge` or `exempt`. `None` if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What an invoice has to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One step from the list amount to the final one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// What it is.
    pub kind: StepKind,
    /// Its id in the catalog; empty where it has none.
    pub id: String,
    /// By how much it changes the amount; below zero for a discount.
    pub amount: Decimal,
}

/// What a document bills of a line of which others bill the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePart {
    /// How much of what is owed for it.
    pub amount: Decimal,
    /// What of that is a tax that stands in the line's own entry.
    pub tax: Decimal,
    /// Of a line of tax: what of its taxable amount.
    #[serde(default, skip_serializing_if = "Decimal::is_zero")]
    pub base: Decimal,
}

impl LinePart {
    /// True if it bills nothing of the line.
    pub fn is_nothing(&self) -> bool {
        self.amount.is_zero() && self.base.is_zero()
    }

    /// True if so much of the amount and of the base can be taken from so much.
    pub fn fits(&self, amount: Decimal, base: Decimal) -> bool {
        let fits = |part: Decimal, left: Decimal| {
            let same_side = part.is_sign_negative() == left.is_sign_negative();
            part.is_zero() || same_side && part.abs() <= left.abs()
        };
        fits(self.amount, amount) && fits(self.base, base)
    }
}

/// Which of the documents a document is that share one sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    /// From 1 on.
    pub place: u16,
    /// How many there are.
    pub of: u16,
}

/// The number of an invoice or a credit note, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Who issues it, as in the configuration.
    pub issuer: String,
    /// Its place in the issuer's sequence, which has no gaps.
    pub sequence: u64,
    /// The number as printed.
    pub number: String,
    /// The tenant's first document is 0, then 1, 2 …
    pub serial: u32,
    /// The lines by their numbers in this partition's chain, ascending.
    pub lines: Vec<u64>,
    /// How much of each it bills, where it does not bill all of them whole; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<LinePart>,
    /// Of several that were issued together over one sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
    /// When it is to be paid, in the tenant's zone.
    pub due: Option<NaiveDate>,
    /// Salted digest of the issuer's legal data, which stand outside the ledger.
    pub seller: Option<Digest>,
    /// Salted digest of the tenant's legal data, which stand outside the ledger.
    pub buyer: Option<Digest>,
}

/// Who decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    pub author: String,
    /// Who agreed, where two persons are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Why.
    pub reason: String,
}

/// The content of an entry, before it is chained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// What it says.
    pub kind: EntryKind,
    /// Which part of the bill it is; `None` for what is no line of a closing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whose usage; `None` for a loss whose tenant is not known.
    pub tenant: Option<TenantId>,
    /// Who pays for it, if another tenant does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<TenantId>,
    /// First instant that the entry speaks of, UTC: the period, or the bound of a loss.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// The day on which it counts in the general ledger, in the tenant's zone; `None` without
    /// legs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<NaiveDate>,
    /// Of lines: the price's id, or what else names them. Of unrated usage and of losses: the
    /// reason. Of documents: their number.
    pub line: String,
    /// Which meter; `None` where it is not known, and for fees.
    pub meter: Option<MeterName>,
    /// How much, in the meter's smallest unit. An adjustment's may be negative.
    pub quantity: Quantity,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// How the meter's values combine, where the line is of a meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<Aggregation>,
    /// Whether the quantity is exact (always, except for losses).
    #[serde(default)]
    pub certainty: Certainty,
    /// What the tenant owes for it in `currency`, or what its payer owes for it; `None` where nothing
    /// is rated.
    pub amount: Option<Decimal>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// The same before it was converted to the bill's currency and its tax was taken out; `None`
    /// where it is the amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Box<Original>>,
    /// Of a line of tax: what it was computed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Box<TaxOf>>,
    /// The amount before its `steps`, in the card's currency; `None` where it is the amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Decimal>,
    /// From the list amount to the amount, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What moves between accounts; sums to zero in every currency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<Leg>,
    /// The catalogs by which it was rated, in the order of their validity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<Digest>,
    /// Digest of the usage that the line rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Digest>,
    /// The arithmetic, for people: `2000000 x 0.40 / 1000 + …`.
    pub arithmetic: String,
    /// The entry that this one adjusts or reverses.
    pub refers_to: Option<EntryRef>,
    /// Of invoices and credit notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Box<Document>>,
    /// Of what an operator decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<Note>>,
    /// For losses: which agent, where known.
    pub agent: Option<AgentId>,
    /// For losses: which life of the agent, where known.
    pub incarnation: Option<Incarnation>,
    /// For losses: the first and the last sequence number, where known.
    pub sequences: Option<(u64, u64)>,
    /// The first journal entry that contributed.
    pub journal_from: Position,
    /// The journal entry that made this posting happen.
    pub journal_to: Position,
}

impl Posting {
    /// A posting of nothing: `line` in `[start, end)`, by the journal entry at `position`.
    pub fn new(
        kind: EntryKind,
        start: Timestamp,
        end: Timestamp,
        line: impl Into<String>,
        position: Position,
    ) -> Self {
        Self {
            kind,
            role: None,
            tenant: None,
            payer: None,
            start,
            end,
            date: None,
            line: line.into(),
            meter: None,
            quantity: Quantity::ZERO,
            scale: Scale::ZERO,
            aggregation: None,
            certainty: Certainty::Exact,
            amount: None,
            currency: None,
            original: None,
            tax: None,
            list: None,
            steps: Vec::new(),
            legs: Vec::new(),
            catalogs: Vec::new(),
            usage: None,
            arithmetic: String::new(),
            refers_to: None,
            document: None,
            note: None,
            agent: None,
            incarnation: None,
            sequences: None,
            journal_from: position,
            journal_to: position,
        }
    }

    /// Takes the minus from every amount that is zero. Decimals tell it from zero, their text does
    /// not when it is read.
    pub(super) fn drop_signs_of_zeros(&mut self) {
        let original = self.original.as_deref_mut();
        let tax = self.tax.as_deref_mut();
        let amounts = [
            self.amount.as_mut(),
            self.list.as_mut(),
            original.map(|original| &mut original.amount),
            tax.map(|tax| &mut tax.base),
        ];
        let steps = self.steps.iter_mut().map(|step| &mut step.amount);
        let legs = self.legs.iter_mut().map(|leg| &mut leg.amount);
        for amount in amounts.into_iter().flatten().chain(steps).chain(legs) {
            if amount.is_zero() {
                amount.set_sign_positive(true);
            }
        }
    }

    /// The tax in the posting itself: what its legs owe to tax offices.
    pub fn own_tax(&self) -> Decimal {
        let legs = self.legs.iter();
        let taxes = legs.filter(|leg| matches!(leg.account, super::Account::Tax(_)));
        taxes.map(|leg| super::negated(leg.amount)).sum()
    }

    /// Of a line of tax: what it was computed of; else zero.
    pub fn tax_base(&self) -> Decimal {
        self.tax.as_ref().map_or(Decimal::ZERO, |tax| tax.base)
    }

    /// How much the posting adds to what waits for an invoice, with its currency.
    pub fn unbilled(&self) -> Option<(Decimal, &str)> {
        let leg = self
            .legs
            .iter()
            .find(|leg| leg.account == super::Account::Unbilled)?;
        Some((leg.amount, &leg.currency))
    }
}
