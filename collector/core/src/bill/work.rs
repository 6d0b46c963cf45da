//! One line on its way from the list amount to the final one.
//!
//! A line that nothing over several lines touches is what [`crate::rate`] says. Others are worked
//! out again from their exact list amount, because a line's own discount of an amount comes behind
//! a group's percentage. Lines are rounded where something is taken from several together, so
//! that what is split are whole units of money.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::around::Scope;
use super::line::{BillLine, Source, Step, StepKind};
use super::lines::{Draft, DraftKind};
use super::{BillInput, NoBill, rounding};
use crate::catalog::{Bound, Discount, JointDiscount, Off, Price};
use crate::rate::{LineItem, Ratio, Site};

/// A line on its way from the list amount to the final one.
pub(super) struct Work<'c> {
    pub(super) draft: Draft<'c>,
    /// The list amount, rounded.
    pub(super) list: Decimal,
    /// What it has come to.
    pub(super) exact: Ratio,
    /// The same, rounded.
    pub(super) shown: Decimal,
    /// Its steps, if it is worked out here.
    pub(super) steps: Option<Vec<Step>>,
    /// Rounded together with the other lines of the invoice.
    pub(super) is_loose: bool,
}

impl<'c> Work<'c> {
    pub(super) fn new(
        input: &BillInput<'c>,
        draft: Draft<'c>,
        maximums: &[(&Scope<'c>, &'c Bound)],
        joint: &[(&Scope<'c>, &'c JointDiscount)],
    ) -> Result<Self, NoBill> {
        let mut work = match &draft.kind {
            DraftKind::Rated { item, .. } | DraftKind::Advance(item) => Self {
                list: item.list,
                exact: Ratio::from_decimal(item.amount),
                shown: item.amount,
                steps: None,
                is_loose: is_loose(item),
                draft,
            },
            DraftKind::Unused(fee) => {
                let amount = Decimal::ZERO
                    .checked_sub(fee.amount)
                    .ok_or(NoBill::TooLarge)?;
                Self {
                    list: amount,
                    exact: Ratio::from_decimal(amount),
                    shown: amount,
                    steps: None,
                    is_loose: false,
                    draft,
                }
            }
        };
        if work.is_worked(input, maximums, joint) {
            work.begin().ok_or(NoBill::TooLarge)?;
        }
        Ok(work)
    }

    /// Whether something changes what the line's rating says.
    fn is_worked(
        &self,
        input: &BillInput<'c>,
        maximums: &[(&Scope<'c>, &'c Bound)],
        joint: &[(&Scope<'c>, &'c JointDiscount)],
    ) -> bool {
        let DraftKind::Rated {
            item,
            fraction,
            fee,
            charged,
            ..
        } = &self.draft.kind
        else {
            return false;
        };
        let price = item.price;
        let is_bounded = price.maximum.is_some() || price.minimum.is_some();
        let is_premature = price.minimum.is_some() && !input.is_final();
        self.is_loose
            || fee.is_some()
            || !charged.is_zero()
            || (is_bounded && *fraction != Ratio::ONE)
            || is_premature
            || joint
                .iter()
                .any(|(scope, joint)| scope.holds(self, &joint.counts))
            || maximums
                .iter()
                .any(|(scope, bound)| scope.holds(self, &bound.counts))
    }

    /// Back to the exact list amount.
    fn begin(&mut self) -> Option<()> {
        let DraftKind::Rated { item, fee, .. } = &self.draft.kind else {
            return Some(());
        };
        self.exact = match fee {
            Some(fee) => *fee,
            None => item.arithmetic()?.list,
        };
        self.shown = self.rounded(self.exact)?;
        self.list = self.shown;
        self.steps = Some(Vec::new());
        Some(())
    }

    pub(super) fn price(&self) -> Option<&'c Price> {
        match &self.draft.kind {
            // What is for the next period counts there.
            DraftKind::Rated { item, .. } => Some(item.price),
            DraftKind::Advance(_) | DraftKind::Unused(_) => None,
        }
    }

    /// The price, if the line is worked out here.
    fn worked(&self) -> Option<&'c Price> {
        self.price().filter(|_| self.steps.is_some())
    }

    fn fraction(&self) -> Ratio {
        match &self.draft.kind {
            DraftKind::Rated { fraction, .. } => *fraction,
            DraftKind::Advance(_) | DraftKind::Unused(_) => Ratio::ONE,
        }
    }

    /// Rounded as the price says, but to no more places than the currency has.
    fn rounded(&self, exact: Ratio) -> Option<Decimal> {
        let exponent = self.draft.card.currency.exponent();
        let rounding = self.price().map(|price| price.rounding).unwrap_or_default();
        let places = rounding
            .places
            .map_or(exponent, |places| places.min(exponent));
        let mut amount = exact.round(places, rounding.mode)?;
        amount.rescale(exponent);
        Some(amount)
    }

    /// Takes the line to another amount.
    fn step(&mut self, exact: Ratio, kind: StepKind, id: &str) -> Option<()> {
        let shown = self.rounded(exact)?;
        self.show(exact, shown, kind, id)
    }

    pub(super) fn show(
        &mut self,
        exact: Ratio,
        shown: Decimal,
        kind: StepKind,
        id: &str,
    ) -> Option<()> {
        let amount = shown.checked_sub(self.shown)?;
        self.steps.get_or_insert_default().push(Step {
            kind,
            id: id.to_owned(),
            amount,
        });
        (self.exact, self.shown) = (exact, shown);
        Some(())
    }

    /// Takes away the line's own discounts of a kind.
    pub(super) fn own_discounts(&mut self, day: NaiveDate, step: fn(&Off) -> bool) -> Option<()> {
        let Some(price) = self.worked() else {
            return Some(());
        };
        let list = match &self.draft.kind {
            DraftKind::Rated { fee: Some(fee), .. } => *fee,
            DraftKind::Rated { item, .. } => item.arithmetic()?.list,
            DraftKind::Advance(_) | DraftKind::Unused(_) => return Some(()),
        };
        for discount in &price.discounts {
            if !discount.is_valid(day) || !step(&discount.off) {
                continue;
            }
            let off = taken(discount, self.exact, list)?;
            let left = self.exact.checked_sub(off)?;
            let left = if left.is_negative() {
                Ratio::ZERO
            } else {
                left
            };
            self.step(left, StepKind::Discount, &discount.id)?;
        }
        Some(())
    }

    pub(super) fn own_maximum(&mut self) -> Option<()> {
        let (DraftKind::Rated { maximum, .. }, Some(_)) = (&self.draft.kind, &self.steps) else {
            return Some(());
        };
        let Some(most) = *maximum else {
            return Some(());
        };
        if self.exact.checked_cmp(most)?.is_gt() {
            self.step(most, StepKind::Maximum, "")?;
        }
        Some(())
    }

    pub(super) fn own_minimum(&mut self) -> Option<()> {
        let (DraftKind::Rated { minimum, .. }, Some(_)) = (&self.draft.kind, &self.steps) else {
            return Some(());
        };
        let Some(least) = *minimum else {
            return Some(());
        };
        if self.exact.checked_cmp(least)?.is_lt() {
            self.step(least, StepKind::Minimum, "")?;
        }
        Some(())
    }

    /// Less what was charged for the line in advance; below zero that is a credit.
    pub(super) fn deduct_advance(&mut self) -> Option<()> {
        let DraftKind::Rated { charged, .. } = &self.draft.kind else {
            return Some(());
        };
        if charged.is_zero() {
            return Some(());
        }
        let shown = self.shown.checked_sub(*charged)?;
        self.show(Ratio::from_decimal(shown), shown, StepKind::Advance, "")
    }

    pub(super) fn finish(self) -> BillLine<'c> {
        let fraction = self.fraction();
        let card = self.draft.card;
        let source = match self.draft.kind {
            DraftKind::Rated { item, .. } => Source::Rated(item),
            DraftKind::Advance(item) => Source::Advance(item),
            DraftKind::Unused(_) => Source::Unused,
        };
        BillLine {
            key: self.draft.key,
            source,
            currency: card.currency,
            style: card.tax,
            list: self.list,
            worked: self.steps,
            amount: self.shown,
            billed: self.shown,
            taxes: self.draft.taxes,
            net: self.shown,
            tax: Decimal::ZERO,
            fraction,
            shares: Vec::new(),
        }
    }
}

/// Whether a line is rounded together with others: because its price says so, or has more decimal
/// places than the currency.
fn is_loose(item: &LineItem<'_>) -> bool {
    let rounding = item.price.rounding;
    let exponent = item.card.currency.exponent();
    rounding.site == Site::Invoice || rounding.places.is_some_and(|places| places > exponent)
}

/// What a discount takes from an amount.
pub(super) fn taken(discount: &Discount, amount: Ratio, list: Ratio) -> Option<Ratio> {
    match &discount.off {
        Off::Quantity(_) => Some(Ratio::ZERO),
        Off::Percent { percent, of_list } => {
            let base = if *of_list { list } else { amount };
            base.checked_mul(Ratio::from_decimal(*percent))?
                .checked_div(Ratio::HUNDRED)
        }
        Off::Amount(off) => Some(Ratio::from_decimal(*off)),
    }
}

/// Rounds lines: each by itself, and those that are rounded with the invoice together, card by
/// card.
pub(super) fn settle(works: &mut [Work<'_>], chosen: &[usize]) -> Option<()> {
    let mut loose: Vec<(String, Vec<usize>)> = Vec::new();
    for &place in chosen {
        let work = &mut works[place];
        if !work.is_loose {
            if work.steps.is_some() {
                work.exact = Ratio::from_decimal(work.shown);
            }
            continue;
        }
        let currency = &work.draft.key.currency;
        match loose.iter_mut().find(|(known, _)| known == currency) {
            Some((_, together)) => together.push(place),
            None => loose.push((currency.clone(), vec![place])),
        }
    }
    for (_, together) in loose {
        let first = &works[together[0]];
        let places = first.draft.card.currency.exponent();
        let mode = first.price().map(|price| price.rounding.mode);
        let exact: Vec<Ratio> = together.iter().map(|&place| works[place].exact).collect();
        let total = rounding::total(&exact, places, mode.unwrap_or_default())?;
        let settled = rounding::settle(&exact, places, total)?;
        for (&place, units) in together.iter().zip(settled) {
            let shown = Decimal::try_from_i128_with_scale(units, places).ok()?;
            let work = &mut works[place];
            if shown != work.shown {
                work.show(Ratio::from_decimal(shown), shown, StepKind::Rounding, "")?;
            }
            work.exact = Ratio::from_decimal(work.shown);
        }
    }
    Some(())
}
