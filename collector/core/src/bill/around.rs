//! What stands around rated lines, in the order `standard/1`: percent discounts, amount discounts,
//! maximum, minimum; each on single lines first, then on groups of lines, then on the invoice. By
//! `commitments-first/1` discounts on several lines come later, see [`super::coupons`].

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::line::{BillLine, LineKey, LineRole, Source};
use super::lines::{Draft, taxes};
use super::plan::Plan;
use super::unrated::UnratedUsage;
use super::work::{Work, settle, taken};
use super::{BillInput, NoBill, Slice, split, top_up};
use crate::catalog::{Around, Bound, Counts, Discount, JointDiscount, Off, Order, Price};
use crate::ledger::StepKind;
use crate::period::Period;
use crate::rate::{Mode, Ratio};

/// What a card or a profile says, and for which lines.
pub(super) struct Scope<'c> {
    pub(super) around: &'c Around,
    /// Only lines of this card; `None` for those of all cards in the currency.
    pub(super) card: Option<&'c str>,
    pub(super) currency: &'static str,
    plan: usize,
}

impl Scope<'_> {
    pub(super) fn holds(&self, work: &Work<'_>, counts: &Counts) -> bool {
        work.draft.key.currency == self.currency
            && self
                .card
                .is_none_or(|card| work.draft.key.card.as_deref() == Some(card))
            && work.price().is_some_and(|price| counts.includes(price))
    }
}

/// The final amounts of all lines, and what minimums over several lines add. A line whose amount
/// does not fit the numbers is `unrated` by itself.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    drafts: Vec<Draft<'c>>,
    unrated: &mut Vec<UnratedUsage>,
) -> Result<Vec<BillLine<'c>>, NoBill> {
    let plans = Plan::all(input.slices);
    let scopes = scopes(&plans);
    let joint = joint_discounts(input, &scopes);
    let maximums = bounds(&scopes, &plans, |around| &around.maximums);
    let mut works: Vec<Work<'c>> = drafts.into_iter().map(Work::new).collect();
    while let Err(lost) = work_out(input, &mut works, &plans, &joint, &maximums) {
        match lost {
            Lost::All => return Err(NoBill::TooLarge),
            Lost::Lines(places) => {
                let mut others = Vec::with_capacity(works.len());
                for (place, work) in works.into_iter().enumerate() {
                    if places.contains(&place) {
                        unrated.push(work.too_large(input));
                    } else {
                        others.push(work.again());
                    }
                }
                // They are worked out anew, as if there were no such lines.
                works = others;
            }
        }
    }
    let mut lines: Vec<BillLine<'c>> = Vec::with_capacity(works.len());
    let mut added = Vec::new();
    if input.is_final() && input.due {
        for (scope, bound) in bounds(&scopes, &plans, |around| &around.minimums) {
            if bound.prorate.is_none() && input.is_remainder() {
                continue;
            }
            let plan = &plans[scope.plan];
            let least = prorated(input, plan, scope, bound, |a| &a.minimums)?;
            let chosen = chosen(&works, scope, &bound.counts);
            let charged = works_due(&works, &chosen)
                .and_then(|due| due.checked_add(charged_by_minimums(&plans, scope, bound, &added)?))
                .ok_or(NoBill::TooLarge)?;
            if let Some(mut line) = minimum(plan, scope, bound, least, charged)? {
                let lines = chosen.iter().map(|&place| &works[place]);
                tax_like(&mut line, &plans, scope, bound, lines).ok_or(NoBill::TooLarge)?;
                added.push(line);
            }
        }
    }
    lines.extend(works.into_iter().map(Work::finish));
    lines.extend(added);
    Ok(lines)
}

/// A number does not fit.
#[derive(Clone, Debug)]
enum Lost {
    /// Of these lines alone, by their places.
    Lines(BTreeSet<usize>),
    /// Of what stands over several lines.
    All,
}

/// Does the same to each line by itself.
fn each<'c>(
    works: &mut [Work<'c>],
    mut work: impl FnMut(&mut Work<'c>) -> Option<()>,
) -> Result<(), Lost> {
    let all = works.iter_mut().enumerate();
    let lost = all.filter_map(|(place, line)| work(line).is_none().then_some(place));
    let lost: BTreeSet<usize> = lost.collect();
    if lost.is_empty() {
        Ok(())
    } else {
        Err(Lost::Lines(lost))
    }
}

/// Takes every line from its list amount to what it costs in its period.
fn work_out<'c>(
    input: &BillInput<'c>,
    works: &mut [Work<'c>],
    plans: &[Plan<'c>],
    joint: &[(&Scope<'c>, &'c JointDiscount)],
    maximums: &[(&Scope<'c>, &'c Bound)],
) -> Result<(), Lost> {
    each(works, |work| work.prepare(input, maximums, joint))?;
    take_discounts(works, joint)?;
    each(works, Work::own_maximum)?;
    for (scope, bound) in maximums {
        let most = prorated(input, &plans[scope.plan], scope, bound, |a| &a.maximums);
        let most = most.map_err(|_| Lost::All)?;
        let chosen = chosen(works, scope, &bound.counts);
        maximum(works, &chosen, &bound.id, most).ok_or(Lost::All)?;
    }
    if input.is_final() {
        each(works, Work::own_minimum)?;
    }
    let all: Vec<usize> = (0..works.len()).collect();
    settle(works, &all).ok_or(Lost::All)?;
    each(works, Work::deduct_advance)
}

/// Takes all discounts that come before maximums, in the orders of their cards.
fn take_discounts<'c>(
    works: &mut [Work<'c>],
    joint: &[(&Scope<'c>, &'c JointDiscount)],
) -> Result<(), Lost> {
    let percent: fn(&Off) -> bool = |off| matches!(off, Off::Percent { .. });
    let amount: fn(&Off) -> bool = |off| matches!(off, Off::Amount(_));
    let own = |works: &mut [Work<'c>], order: Order, kind| {
        each(works, |work| {
            if work.draft.card.order == order {
                work.own_discounts(kind)?;
            }
            Some(())
        })
    };
    let together = |works: &mut [Work<'c>], order: Order, kind: fn(&Off) -> bool| {
        let of_order = joint.iter().filter(|(_, joint)| joint.order == order);
        for (scope, joint) in of_order.filter(|(_, joint)| kind(&joint.discount.off)) {
            let chosen = chosen(works, scope, &joint.counts);
            joint_discount(works, &chosen, &joint.discount).ok_or(Lost::All)?;
        }
        Ok(())
    };
    own(works, Order::AmountsFirst1, amount)?;
    own(works, Order::AmountsFirst1, percent)?;
    for kind in [percent, amount] {
        own(works, Order::Standard1, kind)?;
        own(works, Order::CommitmentsFirst1, kind)?;
        together(works, Order::Standard1, kind)?;
    }
    together(works, Order::AmountsFirst1, |_| true)
}

/// The discounts on several lines that are valid in the period, in the order in which they are taken.
pub(super) fn joint_discounts<'s, 'c>(
    input: &BillInput<'c>,
    scopes: &'s [Scope<'c>],
) -> Vec<(&'s Scope<'c>, &'c JointDiscount)> {
    let day = input.zone.date_at(input.period.start);
    let of = |scope: &'s Scope<'c>| {
        let discounts = scope.around.discounts.iter();
        discounts.map(move |joint| (scope, joint))
    };
    let mut joint: Vec<_> = scopes
        .iter()
        .flat_map(of)
        .filter(|(_, joint)| joint.discount.is_valid(day))
        .collect();
    // What is equal stays in its order: cards before profiles.
    joint.sort_by_key(|(_, joint)| joint.rank());
    joint
}

/// The maximums or minimums of all scopes, those of groups first. Of a card they are those of its
/// versions, each as the last of them says.
fn bounds<'s, 'c>(
    scopes: &'s [Scope<'c>],
    plans: &[Plan<'c>],
    of: fn(&Around) -> &[Bound],
) -> Vec<(&'s Scope<'c>, &'c Bound)> {
    let mut bounds: Vec<(&'s Scope<'c>, &'c Bound)> = Vec::new();
    for scope in scopes {
        let first = bounds.len();
        bounds.extend(of(scope.around).iter().map(|bound| (scope, bound)));
        if scope.card.is_none() {
            continue;
        }
        for (_, card) in plans[scope.plan].versions.iter().rev() {
            for bound in of(&card.around) {
                let known = bounds[first..]
                    .iter()
                    .any(|(_, other)| other.id == bound.id);
                if !known {
                    bounds.push((scope, bound));
                }
            }
        }
    }
    bounds.sort_by_key(|(_, bound)| bound.counts.prices.is_none());
    bounds
}

/// What each card says of its lines, then what the last profile says of those in the currency of
/// the last card.
pub(super) fn scopes<'c>(plans: &[Plan<'c>]) -> Vec<Scope<'c>> {
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
    if let Some(last) = Plan::last(plans) {
        scopes.push(Scope {
            around: &plans[last].profile.agreement.around,
            card: None,
            currency: plans[last].card().currency.code(),
            plan: last,
        });
    }
    scopes.retain(|scope| {
        let mut versions = plans[scope.plan].versions.iter();
        !scope.around.is_empty()
            || (scope.card.is_some() && versions.any(|(_, card)| !card.around.is_empty()))
    });
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
/// last, for as long as anything is agreed.
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
            .fraction(agreed(input), by, input.zone)
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

/// From when to when something is agreed in the period: an agreement begins and ends once.
fn agreed(input: &BillInput<'_>) -> Period {
    let agreed = |slice: &&Slice<'_>| slice.profile.is_some() && slice.card.is_some();
    let mut slices = input.slices.iter().filter(agreed);
    let first = slices.next();
    let last = slices.next_back().or(first);
    first
        .zip(last)
        .map_or(input.period, |(first, last)| Period {
            start: first.span.start,
            end: last.span.end,
        })
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
    let (total, list) = (sum(|work| work.shown)?, sum(|work| work.base)?);
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

/// What lines cost in the period, with what was charged for them in advance.
fn works_due(works: &[Work<'_>], chosen: &[usize]) -> Option<Decimal> {
    let mut amounts = chosen.iter().map(|&place| works[place].due());
    amounts.try_fold(Decimal::ZERO, |sum, due| sum.checked_add(due?))
}

/// What other minimums charge for lines that all count for this one.
fn charged_by_minimums(
    plans: &[Plan<'_>],
    scope: &Scope<'_>,
    bound: &Bound,
    added: &[BillLine<'_>],
) -> Option<Decimal> {
    let counts = |line: &&BillLine<'_>| {
        let Source::Minimum(other) = &line.source else {
            return false;
        };
        let card = line.key.card.as_deref();
        line.key.currency == scope.currency
            && (scope.card.is_none() || scope.card == card)
            && bound
                .counts
                .covers(&other.counts, prices_of(plans, card, scope.currency))
    };
    let mut amounts = added.iter().filter(counts).map(|line| line.amount);
    amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
}

/// The prices of a card in the period; without one those of all cards in the currency.
pub(super) fn prices_of<'c>(
    plans: &[Plan<'c>],
    card: Option<&str>,
    currency: &str,
) -> Vec<&'c Price> {
    let plans = plans.iter().filter(|plan| {
        let own = plan.card();
        own.currency.code() == currency && card.is_none_or(|card| own.id == card)
    });
    plans.flat_map(Plan::prices).collect()
}

/// What is missing is taxed like the prices that count, where these are all taxed alike, whether
/// they are used or not; else like the lines that count, in proportion to what each costs. Where
/// these cost nothing it has the taxes of the profile.
fn tax_like<'w, 'c: 'w>(
    line: &mut BillLine<'c>,
    plans: &[Plan<'c>],
    scope: &Scope<'c>,
    bound: &Bound,
    lines: impl Iterator<Item = &'w Work<'c>>,
) -> Option<()> {
    let own = |plan: &&Plan<'c>| {
        let card = plan.card();
        card.currency.code() == scope.currency && scope.card.is_none_or(|id| card.id == id)
    };
    let counted = plans.iter().filter(own).flat_map(|plan| {
        let counted = plan.prices().filter(|price| bound.counts.includes(price));
        counted.map(|price| taxes(price, plan.profile))
    });
    if let Some(taxes) = top_up::alike(counted) {
        line.taxes = taxes;
        return Some(());
    }
    let due: Option<Vec<_>> = lines
        .map(|work| Some((work.draft.taxes, work.due()?)))
        .collect();
    line.mixed = top_up::mixed(due?.into_iter())?;
    Some(())
}

/// The line of what is missing to a minimum, if anything is.
fn minimum<'c>(
    plan: &Plan<'c>,
    scope: &Scope<'c>,
    bound: &'c Bound,
    least: Decimal,
    charged: Decimal,
) -> Result<Option<BillLine<'c>>, NoBill> {
    let missing = least.checked_sub(charged).ok_or(NoBill::TooLarge)?;
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
        mixed: Vec::new(),
        taxed_on: None,
        gives_back: None,
        charged: None,
        exchanged: None,
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
