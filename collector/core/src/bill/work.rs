//! One line on its way from the list amount to the final one.
//!
//! A line that nothing over several lines touches is what [`crate::rate`] says. Others are worked
//! out again from their exact list amount, because a line's own discount of an amount comes behind
//! a group's percentage. Lines are rounded where something is taken from several together, so
//! that what is split are whole units of money.

use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::around::Scope;
use super::line::{BillLine, Source};
use super::lines::{Draft, DraftKind};
use super::unrated::{Unrated, UnratedUsage};
use super::{BillInput, rounding};
use crate::catalog::{Bound, Discount, JointDiscount, Off, Price};
use crate::ledger::{Step, StepKind};
use crate::rate::{Basis, Dated, LineItem, Mode, Ratio, Site, amount_of, take_discounts};

/// A line on its way from the list amount to the final one.
pub(super) struct Work<'c> {
    pub(super) draft: Draft<'c>,
    /// The list amount, rounded.
    pub(super) list: Decimal,
    /// The same at the tenant's contracted rates.
    pub(super) base: Decimal,
    /// What it has come to.
    pub(super) exact: Ratio,
    /// The same, rounded.
    pub(super) shown: Decimal,
    /// The versions of its price with what each has come to, if it is worked out here: together
    /// `exact` until the last discount.
    versions: Vec<Dated<'c>>,
    /// Its steps, if it is worked out here.
    pub(super) steps: Option<Vec<Step>>,
    /// Rounded together with the other lines of the invoice.
    pub(super) is_loose: bool,
}

/// Largest amount of a line, in its currency, as a power of ten: so sums of all lines of a bill, and
/// their taxes, always fit.
pub(super) const AMOUNT_DIGITS_MAX: u32 = 20;

impl<'c> Work<'c> {
    pub(super) fn new(draft: Draft<'c>) -> Self {
        let (list, base, amount) = match &draft.kind {
            DraftKind::Rated { item, .. } | DraftKind::Advance(item) => {
                (item.list, item.base, item.amount)
            }
            DraftKind::Unused(fee) => {
                let amount = crate::ledger::negated(fee.amount);
                (amount, amount, amount)
            }
        };
        Self {
            list,
            base,
            exact: Ratio::from_decimal(amount),
            shown: amount,
            versions: Vec::new(),
            steps: None,
            is_loose: match &draft.kind {
                DraftKind::Rated { item, .. } | DraftKind::Advance(item) => is_loose(item),
                DraftKind::Unused(_) => false,
            },
            draft,
        }
    }

    /// The line as it was at first.
    pub(super) fn again(self) -> Self {
        Self::new(self.draft)
    }

    /// Begins to work a line out here, where something changes what its rating says; `None` if a
    /// number does not fit.
    pub(super) fn prepare(
        &mut self,
        input: &BillInput<'c>,
        maximums: &[(&Scope<'c>, &'c Bound)],
        joint: &[(&Scope<'c>, &'c JointDiscount)],
    ) -> Option<()> {
        if matches!(self.draft.kind, DraftKind::Rated { .. }) {
            let most = Decimal::from(10i128.pow(AMOUNT_DIGITS_MAX));
            let amounts = [self.list, self.base, self.shown];
            if amounts.iter().any(|amount| amount.abs() > most) {
                return None;
            }
        }
        if self.is_worked(input, maximums, joint) {
            self.begin()?;
        }
        Some(())
    }

    /// What is said of a line whose amount cannot be worked out, while all others can.
    pub(super) fn too_large(&self, input: &BillInput<'c>) -> UnratedUsage {
        let item = match &self.draft.kind {
            DraftKind::Rated { item, .. } | DraftKind::Advance(item) => Some(item),
            DraftKind::Unused(_) => None,
        };
        let metered = item.and_then(|item| Some((item, &item.meter?.name)));
        let quantity = metered.map(|(item, meter)| {
            let metered = input.usage.get(meter);
            metered.map_or(item.quantity, |metered| metered.carried(item))
        });
        // Where another price carries the usage, that one says what becomes of it.
        let own = metered
            .zip(quantity)
            .filter(|(_, quantity)| !quantity.is_zero());
        UnratedUsage {
            meter: own.map(|((_, meter), _)| meter.clone()),
            price: Some(self.draft.key.id.clone()),
            quantity: own.map_or(Quantity::ZERO, |(_, quantity)| quantity),
            reason: Unrated::TooLarge,
        }
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
            minimum,
            fee,
            charged,
            ..
        } = &self.draft.kind
        else {
            return false;
        };
        // Rating knows no proration of limits.
        let limits = |price: &Price| price.maximum.is_some() || price.minimum.is_some();
        let is_bounded = match item.basis {
            Basis::Whole => *fraction != Ratio::ONE && limits(item.price),
            Basis::Parts(parted) => {
                let many = *fraction != Ratio::ONE || parted.own().nth(1).is_some();
                many && parted.own().any(|(_, _, _, price)| limits(price))
            }
        };
        // One that is not due yet, or not for so short a part of a period.
        let is_premature = (minimum.is_some() && !input.is_final())
            || (minimum.is_none() && item.price.minimum.is_some());
        self.is_loose
            || fee.is_some()
            || charged.is_some()
            || is_bounded
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
        self.versions = item.versions()?;
        if let (Some(fee), [version]) = (fee, &mut self.versions[..]) {
            (version.list, version.amount) = (fee.base, fee.base);
        }
        let exact = amount_of(&self.versions)?;
        let list = match fee {
            Some(fee) => fee.list,
            None if item.is_contracted() => item.exact_list()?,
            None => exact,
        };
        let is_contracted = item.is_contracted() || list != exact;
        self.list = self.rounded(list)?;
        self.shown = self.list;
        self.steps = Some(Vec::new());
        if is_contracted {
            self.step(exact, StepKind::Contracted, "")?;
        }
        self.exact = exact;
        self.base = self.shown;
        Some(())
    }

    pub(super) fn price(&self) -> Option<&'c Price> {
        match &self.draft.kind {
            // What is for the next period counts there.
            DraftKind::Rated { item, .. } => Some(item.price),
            DraftKind::Advance(_) | DraftKind::Unused(_) => None,
        }
    }

    fn fraction(&self) -> Ratio {
        match &self.draft.kind {
            DraftKind::Rated { fraction, .. } => *fraction,
            DraftKind::Advance(_) | DraftKind::Unused(_) => Ratio::ONE,
        }
    }

    /// How the price says that it is rounded, but to no more places than the currency has.
    fn rounding(&self) -> (u32, Mode) {
        let exponent = self.draft.card.currency.exponent();
        let rounding = self.price().map(|price| price.rounding).unwrap_or_default();
        let places = rounding
            .places
            .map_or(exponent, |places| places.min(exponent));
        (places, rounding.mode)
    }

    fn rounded(&self, exact: Ratio) -> Option<Decimal> {
        let (places, mode) = self.rounding();
        let step = self.price().and_then(|price| price.rounding.step);
        let exact = match step {
            Some(step) => exact.round_to(step, mode)?,
            None => exact,
        };
        let mut amount = exact.round(places, mode)?;
        amount.rescale(self.draft.card.currency.exponent());
        Some(amount)
    }

    /// What the line costs in its period, whenever it is charged.
    pub(super) fn due(&self) -> Option<Decimal> {
        match &self.draft.kind {
            DraftKind::Rated {
                charged: Some(fee), ..
            } => self.shown.checked_add(fee.amount),
            DraftKind::Rated { .. } | DraftKind::Advance(_) | DraftKind::Unused(_) => {
                Some(self.shown)
            }
        }
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

    /// Takes away the line's own discounts of a kind, from the versions that have them.
    pub(super) fn own_discounts(&mut self, kind: fn(&Off) -> bool) -> Option<()> {
        if self.steps.is_none() {
            return Some(());
        }
        self.share_out()?;
        let mut versions = std::mem::take(&mut self.versions);
        take_discounts(&mut versions, kind, |discount, left| {
            self.step(left, StepKind::Discount, &discount.id)
        })?;
        self.versions = versions;
        Some(())
    }

    /// Lets the versions come to what the line has come to, each in proportion.
    fn share_out(&mut self) -> Option<()> {
        let before = amount_of(&self.versions)?;
        if before == self.exact {
            return Some(());
        }
        let Some((last, others)) = self.versions.split_last_mut() else {
            return Some(());
        };
        let mut rest = self.exact;
        for version in others {
            if before.is_zero() {
                continue;
            }
            version.amount = version
                .amount
                .checked_mul(self.exact)?
                .checked_div(before)?;
            rest = rest.checked_sub(version.amount)?;
        }
        last.amount = rest;
        Some(())
    }

    pub(super) fn own_maximum(&mut self) -> Option<()> {
        let (DraftKind::Rated { maximum, .. }, Some(_)) = (&self.draft.kind, &self.steps) else {
            return Some(());
        };
        let Some(most) = *maximum else {
            return Some(());
        };
        if self.exact > most {
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
        if self.exact < least {
            self.step(least, StepKind::Minimum, "")?;
        }
        Some(())
    }

    /// Less what was charged for the line in advance; below zero that is a credit.
    pub(super) fn deduct_advance(&mut self) -> Option<()> {
        let DraftKind::Rated {
            charged: Some(fee), ..
        } = &self.draft.kind
        else {
            return Some(());
        };
        let shown = self.shown.checked_sub(fee.amount)?;
        self.show(Ratio::from_decimal(shown), shown, StepKind::Advance, "")
    }

    pub(super) fn finish(self) -> BillLine<'c> {
        let fraction = self.fraction();
        let card = self.draft.card;
        let (source, charged) = match self.draft.kind {
            DraftKind::Rated { item, charged, .. } => (Source::Rated(item), charged),
            DraftKind::Advance(item) => (Source::Advance(item), None),
            DraftKind::Unused(fee) => (Source::Unused, Some(fee)),
        };
        let gives_back = self.shown.is_sign_negative() && !self.shown.is_zero();
        // It was charged in the currency that the card had then.
        let currency = match source {
            Source::Unused => self.draft.key.currency.parse().unwrap_or(card.currency),
            _ => card.currency,
        };
        BillLine {
            key: self.draft.key,
            source,
            currency,
            style: card.tax,
            list: self.list,
            worked: self.steps,
            amount: self.shown,
            billed: self.shown,
            taxes: charged
                .filter(|_| gives_back)
                .map_or(self.draft.taxes, |fee| fee.taxes.as_slice()),
            mixed: Vec::new(),
            taxed_on: None,
            gives_back: charged.filter(|_| gives_back),
            charged,
            exchanged: None,
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

/// Rounds lines: each by itself, and those that are rounded with the invoice together, as far as
/// they are in one currency and rounded to the same places in the same way.
pub(super) fn settle(works: &mut [Work<'_>], chosen: &[usize]) -> Option<()> {
    let mut loose: Vec<((String, u32, Mode), Vec<usize>)> = Vec::new();
    for &place in chosen {
        let work = &mut works[place];
        if !work.is_loose {
            if work.steps.is_some() {
                work.exact = Ratio::from_decimal(work.shown);
            }
            continue;
        }
        let (places, mode) = work.rounding();
        let alike = (work.draft.key.currency.clone(), places, mode);
        match loose.iter_mut().find(|(known, _)| *known == alike) {
            Some((_, together)) => together.push(place),
            None => loose.push((alike, vec![place])),
        }
    }
    for ((_, places, mode), together) in loose {
        let exact: Vec<Ratio> = together.iter().map(|&place| works[place].exact).collect();
        let total = rounding::total(&exact, places, mode)?;
        let settled = rounding::settle(&exact, places, total)?;
        for (&place, units) in together.iter().zip(settled) {
            let mut shown = Decimal::try_from_i128_with_scale(units, places).ok()?;
            let work = &mut works[place];
            shown.rescale(work.draft.card.currency.exponent());
            if shown != work.shown {
                work.show(Ratio::from_decimal(shown), shown, StepKind::Rounding, "")?;
            }
            work.exact = Ratio::from_decimal(work.shown);
        }
    }
    Some(())
}
