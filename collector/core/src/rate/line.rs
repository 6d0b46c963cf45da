//! Line items: rated amounts, and the arithmetic that made them when somebody asks.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::around::{AmountStep, Dated, QuantityStep, charged_quantity, final_amount, included};
use super::charge;
use super::meter::Parted;
use super::piece::Piece;
use super::tiers::{Table, TierAmount, list_amount};
use super::{Ratio, metered, places};
use crate::catalog::{Card, Meter, Price};

/// The rated usage of one price in one period.
///
/// Small, and made without allocation where the price has the plain shape;
/// [`LineItem::arithmetic`] works out the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineItem<'c> {
    /// By which price; where versions of it follow each other, the last one.
    pub price: &'c Price,
    /// The priced meter; `None` for a fee.
    pub meter: Option<&'c Meter>,
    /// The card that the price stands in.
    pub card: &'c Card,
    /// The day on which the period begins, or the first slice of the price.
    pub day: NaiveDate,
    /// Usage of the period in the meter's smallest unit.
    pub quantity: Quantity,
    /// The list amount: before discounts, maximum and minimum, and at what the card lists.
    pub list: Decimal,
    /// The same at the tenant's contracted rates; the list amount if there are none.
    pub base: Decimal,
    /// The amount.
    pub amount: Decimal,
    /// From what it was computed.
    pub basis: Basis<'c>,
}

/// From what a line was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis<'c> {
    /// From one quantity, by one version of the price.
    Whole,
    /// From usage in parts, or by several versions.
    Parts(Parted<'c>),
}

/// How a line was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic<'c> {
    /// From the metered to the charged quantity; each step with what it left. Empty if the line
    /// was computed from parts.
    pub quantities: Vec<(QuantityStep<'c>, Ratio)>,
    /// What is charged for, in the price's unit: converted, less what is included.
    pub charged: Ratio,
    /// The tiers, as far as the usage reaches. Empty if the line was computed from parts.
    pub tiers: Vec<TierAmount<'c>>,
    /// Where it was computed from parts: what each costs.
    pub pieces: Vec<Piece<'c>>,
    /// The list amount, before rounding.
    pub list: Ratio,
    /// Where rates are contracted, how it was computed by those: what is above is by what the card
    /// lists.
    pub contracted: Option<Box<Contracted<'c>>>,
    /// From the list amount to the final one.
    pub steps: Vec<AmountChange<'c>>,
}

/// How a line was computed by contracted rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contracted<'c> {
    /// The tiers, as [`Arithmetic::tiers`].
    pub tiers: Vec<TierAmount<'c>>,
    /// What each part costs, as [`Arithmetic::pieces`].
    pub pieces: Vec<Piece<'c>>,
    /// What they come to, before rounding.
    pub amount: Ratio,
}

/// A step between list amount and final amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountChange<'c> {
    /// What changes it.
    pub step: AmountStep<'c>,
    /// The amount behind this step, before rounding.
    pub exact: Ratio,
    /// By how much; below zero for discounts. List amount and changes sum to the final amount.
    pub change: Decimal,
}

impl<'c> LineItem<'c> {
    /// What each version of the price lists, before anything is taken off; `None` if a number on
    /// the way does not fit an exact fraction.
    pub(crate) fn versions(&self) -> Option<Vec<Dated<'c>>> {
        if let (Basis::Parts(parted), Some(meter)) = (self.basis, self.meter) {
            let mut versions = charge::work(parted, meter)?.versions;
            for version in &mut versions {
                version.amount = version.list;
            }
            return Some(versions);
        }
        let own = self.whole_arithmetic()?;
        let list = own.contracted.map_or(own.list, |own| own.amount);
        Some(vec![Dated {
            price: self.price,
            day: self.day,
            millis: 0,
            list,
            amount: list,
        }])
    }

    /// True if rates are contracted for it.
    pub fn is_contracted(&self) -> bool {
        match self.basis {
            Basis::Whole => self.price.listed.is_some(),
            Basis::Parts(parted) => parted.is_contracted(),
        }
    }

    /// The list amount before rounding; `None` if a number does not fit.
    pub(crate) fn exact_list(&self) -> Option<Ratio> {
        self.arithmetic().map(|arithmetic| arithmetic.list)
    }

    /// How the line was computed; `None` if a number on the way does not fit an exact fraction,
    /// though the amount does.
    pub fn arithmetic(&self) -> Option<Arithmetic<'c>> {
        match (self.basis, self.meter) {
            (Basis::Parts(parted), Some(meter)) => {
                let worked = charge::work(parted, meter)?;
                let mut pieces = worked.pieces.iter();
                let charged =
                    pieces.try_fold(Ratio::ZERO, |sum, piece| sum.checked_add(piece.charged))?;
                let own = Arithmetic {
                    quantities: Vec::new(),
                    charged,
                    tiers: Vec::new(),
                    pieces: worked.pieces,
                    list: worked.list,
                    contracted: None,
                    steps: worked.steps,
                };
                if !parted.is_contracted() {
                    return Some(own);
                }
                let (pieces, list) = charge::work_listed(parted, meter)?;
                Some(self.beside_list(own, Vec::new(), pieces, list))
            }
            _ => self.whole_arithmetic(),
        }
    }

    fn whole_arithmetic(&self) -> Option<Arithmetic<'c>> {
        let places = places(self.price, self.card);
        let (mut quantities, mut tiers) = (Vec::new(), Vec::new());
        let metered = metered(self.quantity, self.meter)?;
        let all = included(self.price);
        let charged = charged_quantity(self.price, all, self.day, metered, |step, left| {
            quantities.push((step, left));
        })?;
        let table = Table::of(self.price, None, places);
        let base = list_amount(table, charged, |tier| tiers.push(tier))?;
        let mut changes = Vec::new();
        final_amount(self.price, self.day, base, |step, left| {
            changes.push((step, left));
        })?;
        let mut steps = Vec::with_capacity(changes.len());
        let mut before = self.base;
        for (step, exact) in changes {
            let amount = places.round(exact)?;
            steps.push(AmountChange {
                step,
                exact,
                change: amount - before,
            });
            before = amount;
        }
        let own = Arithmetic {
            quantities,
            charged,
            tiers,
            pieces: Vec::new(),
            list: base,
            contracted: None,
            steps,
        };
        let Some(listed) = &self.price.listed else {
            return Some(own);
        };
        let mut tiers = Vec::new();
        let table = Table::of(listed, None, places);
        let list = list_amount(table, charged, |tier| tiers.push(tier))?;
        Some(self.beside_list(own, tiers, Vec::new(), list))
    }

    /// What was worked out by contracted rates, behind what the card lists.
    fn beside_list(
        &self,
        own: Arithmetic<'c>,
        tiers: Vec<TierAmount<'c>>,
        pieces: Vec<Piece<'c>>,
        list: Ratio,
    ) -> Arithmetic<'c> {
        let first = AmountChange {
            step: AmountStep::Contracted,
            exact: own.list,
            change: self.base - self.list,
        };
        let contracted = Contracted {
            tiers: own.tiers,
            pieces: own.pieces,
            amount: own.list,
        };
        Arithmetic {
            tiers,
            pieces,
            list,
            contracted: Some(Box::new(contracted)),
            steps: std::iter::once(first).chain(own.steps).collect(),
            ..own
        }
    }
}
