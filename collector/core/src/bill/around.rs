//! What stands around rated lines, in the order `standard/1`: percent discounts, amount discounts,
//! maximum, minimum; each on single lines first, then on groups of lines, then on the invoice.
//!
//! A line that nothing over several lines touches is what [`crate::rate`] says. Others are worked
//! out again from their exact list amount, because a line's own discount of an amount comes behind
//! a group's percentage. Lines are rounded where something is taken from several together, so
//! that what is split are whole units of money.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::line::{BillLine, LineKey, LineRole, Source, Step, StepKind};
use super::lines::{Draft, DraftKind, Plan};
use super::{BillInput, NoBill, rounding, split};
use crate::catalog::{Around, Bound, Counts, Discount, JointDiscount, Off, Price};
use crate::rate::{LineItem, Mode, Ratio, Site};

/// A line on its way from the list amount to the final one.
struct Work<'c> {
    draft: Draft<'c>,
    /// The list amount, rounded.
    list: Decimal,
    /// What it has come to.
    exact: Ratio,
    /// The same, rounded.
    shown: Decimal,
    /// Its steps, if it is worked out here.
    steps: Option<Vec<Step>>,
    /// Rounded together with the other lines of the invoice.
    is_loose: bool,
}

/// What a card or a profile says, and for which lines.
struct Scope<'c> {
    around: &'c Around,
    /// Only lines of this card; `None` for those of all cards in the currency.
    card: Option<&'c str>,
    currency: &'static str,
    plan: usize,
}

impl Scope<'_> {
    fn holds(&self, work: &Work<'_>, counts: &Counts) -> bool {
        work.draft.key.currency == self.currency
            && self
                .card
                .is_none_or(|card| work.draft.key.card.as_deref() == Some(card))
            && work.price().is_some_and(|price| counts.includes(price))
    }
}

/// The final amounts of all lines, and what minimums over several lines add.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    drafts: Vec<Draft<'c>>,
) -> Result<Vec<BillLine<'c>>, NoBill> {
    let plans = Plan::all(input.slices);
    let scopes = scopes(&plans);
    let day = input.zone.date_at(input.period.start);
    let mut joint: Vec<(&Scope<'c>, &'c JointDiscount)> = scopes
        .iter()
        .flat_map(|scope| {
            scope
                .around
                .discounts
                .iter()
                .map(move |joint| (scope, joint))
        })
        .filter(|(_, joint)| joint.discount.is_valid(day))
        .collect();
    // What is equal stays in its order: cards before profiles.
    joint.sort_by_key(|(_, joint)| joint.order());
    let mut works = Vec::with_capacity(drafts.len());
    for draft in drafts {
        works.push(Work::new(input, draft, &scopes, &joint)?);
    }
    let by_step = |works: &mut Vec<Work<'c>>, step: fn(&Off) -> bool| {
        for work in works.iter_mut() {
            work.own_discounts(day, step)?;
        }
        let of_step = joint.iter().filter(|(_, joint)| step(&joint.discount.off));
        for (scope, joint) in of_step {
            let chosen = chosen(works, scope, &joint.counts);
            joint_discount(works, &chosen, &joint.discount)?;
        }
        Some(())
    };
    by_step(&mut works, |off| matches!(off, Off::Percent { .. })).ok_or(NoBill::TooLarge)?;
    by_step(&mut works, |off| matches!(off, Off::Amount(_))).ok_or(NoBill::TooLarge)?;
    for work in &mut works {
        work.own_maximum().ok_or(NoBill::TooLarge)?;
    }
    let bounds = |of: fn(&Around) -> &[Bound]| {
        let mut bounds: Vec<(&Scope<'c>, &'c Bound)> = scopes
            .iter()
            .flat_map(|scope| of(scope.around).iter().map(move |bound| (scope, bound)))
            .collect();
        bounds.sort_by_key(|(_, bound)| bound.counts.prices.is_none());
        bounds
    };
    for (scope, bound) in bounds(|around| &around.maximums) {
        let most = prorated(input, &plans[scope.plan], scope, bound, |a| &a.maximums)?;
        let chosen = chosen(&works, scope, &bound.counts);
        maximum(&mut works, &chosen, &bound.id, most).ok_or(NoBill::TooLarge)?;
    }
    if input.is_final() {
        for work in &mut works {
            work.own_minimum().ok_or(NoBill::TooLarge)?;
        }
    }
    let all: Vec<usize> = (0..works.len()).collect();
    settle(&mut works, &all).ok_or(NoBill::TooLarge)?;
    for work in &mut works {
        work.deduct_advance().ok_or(NoBill::TooLarge)?;
    }
    let mut lines: Vec<BillLine<'c>> = Vec::with_capacity(works.len());
    let mut added = Vec::new();
    if input.is_final() && input.due {
        for (scope, bound) in bounds(|around| &around.minimums) {
            let plan = &plans[scope.plan];
            let least = prorated(input, plan, scope, bound, |a| &a.minimums)?;
            let chosen = chosen(&works, scope, &bound.counts);
            let line = minimum(plan, scope, bound, least, &works, &chosen, &added)?;
            added.extend(line);
        }
    }
    lines.extend(works.into_iter().map(Work::finish));
    lines.extend(added);
    Ok(lines)
}

/// What each card says of its lines, then what the last profile says of those in the currency of
/// the last card.
fn scopes<'c>(plans: &[Plan<'c>]) -> Vec<Scope<'c>> {
    let mut scopes: Vec<Scope<'c>> = Vec::with_capacity(plans.len() + 1);
    for (plan, of) in plans.iter().enumerate() {
        let card = of.card();
        scopes.push(Scope {
            around: &card.around,
            card: Some(&card.id),
            currency: card.currency.code(),
            plan,
        });
    }
    if let Some(last) = plans.len().checked_sub(1) {
        scopes.push(Scope {
            around: &plans[last].profile.agreement.around,
            card: None,
            currency: plans[last].card().currency.code(),
            plan: last,
        });
    }
    scopes.retain(|scope| !scope.around.is_empty());
    scopes
}

/// The lines that count, by their place.
fn chosen(works: &[Work<'_>], scope: &Scope<'_>, counts: &Counts) -> Vec<usize> {
    let all = works.iter().enumerate();
    all.filter(|(_, work)| scope.holds(work, counts))
        .map(|(place, _)| place)
        .collect()
}

/// The amount of a bound for as long as its card is in force. Of a profile it is what was agreed
/// last, whole.
fn prorated<'c>(
    input: &BillInput<'c>,
    plan: &Plan<'c>,
    scope: &Scope<'c>,
    bound: &'c Bound,
    of: fn(&Around) -> &[Bound],
) -> Result<Decimal, NoBill> {
    let amount = Ratio::from_decimal(bound.amount);
    let whole = match (scope.card, bound.prorate) {
        (_, None) => amount,
        (None, Some(by)) => input
            .whole
            .fraction(input.period, by, input.zone)
            .checked_mul(amount)
            .ok_or(NoBill::TooLarge)?,
        (Some(_), Some(by)) => {
            let in_card = |card: &'c crate::catalog::Card| {
                let same = of(&card.around).iter().find(|other| other.id == bound.id);
                same.map(|bound| Ratio::from_decimal(bound.amount))
            };
            plan.prorated(input, Some(by), in_card)?.0
        }
    };
    whole
        .round(plan.card().currency.exponent(), Mode::HalfUp)
        .ok_or(NoBill::TooLarge)
}

impl<'c> Work<'c> {
    fn new(
        input: &BillInput<'c>,
        draft: Draft<'c>,
        scopes: &[Scope<'c>],
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
        if work.is_worked(input, scopes, joint) {
            work.begin().ok_or(NoBill::TooLarge)?;
        }
        Ok(work)
    }

    /// Whether something changes what the line's rating says.
    fn is_worked(
        &self,
        input: &BillInput<'c>,
        scopes: &[Scope<'c>],
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
        let maximums = |scope: &Scope<'c>| {
            let mut bounds = scope.around.maximums.iter();
            bounds.any(|bound| scope.holds(self, &bound.counts))
        };
        self.is_loose
            || fee.is_some()
            || !charged.is_zero()
            || (is_bounded && *fraction != Ratio::ONE)
            || is_premature
            || joint
                .iter()
                .any(|(scope, joint)| scope.holds(self, &joint.counts))
            || scopes.iter().any(maximums)
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

    fn price(&self) -> Option<&'c Price> {
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

    fn show(&mut self, exact: Ratio, shown: Decimal, kind: StepKind, id: &str) -> Option<()> {
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
    fn own_discounts(&mut self, day: NaiveDate, step: fn(&Off) -> bool) -> Option<()> {
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

    fn own_maximum(&mut self) -> Option<()> {
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

    fn own_minimum(&mut self) -> Option<()> {
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
    fn deduct_advance(&mut self) -> Option<()> {
        let DraftKind::Rated { charged, .. } = &self.draft.kind else {
            return Some(());
        };
        if charged.is_zero() {
            return Some(());
        }
        let shown = self.shown.checked_sub(*charged)?;
        self.show(Ratio::from_decimal(shown), shown, StepKind::Advance, "")
    }

    fn finish(self) -> BillLine<'c> {
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
fn taken(discount: &Discount, amount: Ratio, list: Ratio) -> Option<Ratio> {
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

/// Takes a discount from lines together: it is worked out once, rounded once, and split in
/// proportion to what the lines come to.
fn joint_discount(works: &mut [Work<'_>], chosen: &[usize], discount: &Discount) -> Option<()> {
    let Some(places) = places(works, chosen) else {
        return Some(());
    };
    settle(works, chosen)?;
    let sum = |amount: fn(&Work<'_>) -> Decimal| {
        let mut amounts = chosen.iter().map(|&place| amount(&works[place]));
        amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
    };
    let (total, list) = (sum(|work| work.shown)?, sum(|work| work.list)?);
    let (exact, list) = (Ratio::from_decimal(total), Ratio::from_decimal(list));
    let off = taken(discount, exact, list)?.round(places, Mode::HalfUp)?;
    let off = off.min(total);
    let weights: Vec<Decimal> = chosen.iter().map(|&place| works[place].shown).collect();
    let shares = split::split_amount(off, places, &weights)?;
    for (&place, share) in chosen.iter().zip(shares) {
        let left = works[place].shown.checked_sub(share)?;
        works[place].show(
            Ratio::from_decimal(left),
            left,
            StepKind::Discount,
            &discount.id,
        )?;
    }
    Some(())
}

/// The lines use up the room under a maximum in their order.
fn maximum(works: &mut [Work<'_>], chosen: &[usize], id: &str, most: Decimal) -> Option<()> {
    settle(works, chosen)?;
    let mut room = most;
    for &place in chosen {
        let work = &mut works[place];
        let kept = work.shown.min(room);
        room = room.checked_sub(kept)?;
        if kept < work.shown {
            work.show(Ratio::from_decimal(kept), kept, StepKind::Maximum, id)?;
        }
    }
    Some(())
}

/// The line of what is missing to a minimum, if anything is.
fn minimum<'c>(
    plan: &Plan<'c>,
    scope: &Scope<'c>,
    bound: &'c Bound,
    least: Decimal,
    works: &[Work<'c>],
    chosen: &[usize],
    added: &[BillLine<'c>],
) -> Result<Option<BillLine<'c>>, NoBill> {
    let mut amounts = chosen.iter().map(|&place| works[place].shown);
    let lines = amounts.try_fold(Decimal::ZERO, Decimal::checked_add);
    // What other minimums charge for lines that all count here counts too.
    let mut counted = added
        .iter()
        .filter(|line| line.key.currency == scope.currency)
        .filter(|line| matches!(&line.source, Source::Minimum(other) if bound.counts.covers(&other.counts)))
        .map(|line| line.amount);
    let missing = lines
        .and_then(|lines| counted.try_fold(lines, Decimal::checked_add))
        .and_then(|counted| least.checked_sub(counted))
        .ok_or(NoBill::TooLarge)?;
    if missing <= Decimal::ZERO {
        return Ok(None);
    }
    let card = plan.card();
    Ok(Some(BillLine {
        key: LineKey {
            role: LineRole::Minimum,
            card: scope.card.map(str::to_owned),
            id: bound.id.clone(),
            currency: card.currency.code().to_owned(),
        },
        source: Source::Minimum(bound),
        currency: card.currency,
        style: card.tax,
        list: missing,
        worked: Some(Vec::new()),
        amount: missing,
        billed: missing,
        taxes: &plan.profile.agreement.taxes,
        net: missing,
        tax: Decimal::ZERO,
        fraction: Ratio::ONE,
        shares: Vec::new(),
    }))
}

/// The decimal places of the lines' currency; `None` without lines.
fn places(works: &[Work<'_>], chosen: &[usize]) -> Option<u32> {
    let first = chosen.first()?;
    Some(works[*first].draft.card.currency.exponent())
}

/// Rounds lines: each by itself, and those that are rounded with the invoice together, card by
/// card.
fn settle(works: &mut [Work<'_>], chosen: &[usize]) -> Option<()> {
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
