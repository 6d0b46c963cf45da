//! Grants: what pays for a bill beside money.
//!
//! A grant pays for lines, tax included, in their order. One that is valid for a part of the
//! period pays only for that part of a line: the line's amount is divided at the boundaries of all
//! grants in proportion to the quantity between them, by largest remainder. What has no quantity
//! that adds up, such as a fee, is divided by time.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::carried::{Carried, note};
use super::fees::term;
use super::line::{BillLine, Source};
use super::{BillInput, NoBill, Slice, commit, split_by};
use crate::catalog::timeline;
use crate::catalog::{Counts, Grant, Profile};
use crate::period::{Every, Period, Zone};
use crate::rate::{Currency, Mode, Ratio};

/// What a grant pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantUse<'c> {
    /// Which.
    pub grant: &'c Grant,
    /// What earlier periods left of it, in what it is counted in.
    pub before: Decimal,
    /// What it pays of this bill, in the bill's currency.
    pub paid: Decimal,
    /// What is left of it then, in what it is counted in.
    pub left: Decimal,
    /// What it pays of which line, by the lines' places.
    pub of: Vec<(usize, Decimal)>,
}

/// The instants within a period at which a grant begins or ends: where usage is to be kept apart.
pub fn cuts(profile: &Profile, period: Period, zone: Zone) -> Vec<Timestamp> {
    let grants = profile.agreement.grants.iter();
    let days = grants.flat_map(|grant| [grant.from, grant.until]).flatten();
    let mut cuts: Vec<Timestamp> = days
        .map(|day| zone.start_of_day(day))
        .filter(|cut| period.start < *cut && *cut < period.end)
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The slices of a period, cut where a grant of their time begins or ends too.
pub fn cut_by_grants(slices: Vec<timeline::Slice>) -> Vec<timeline::Slice> {
    let has_grants = |slice: &timeline::Slice| {
        let profile = slice.profile.as_ref();
        profile.is_some_and(|profile| !profile.agreement.grants.is_empty())
    };
    if !slices.iter().any(has_grants) {
        return slices;
    }
    let mut cut = Vec::with_capacity(slices.len() + 1);
    for mut slice in slices {
        let span = Period {
            start: slice.from,
            end: slice.to,
        };
        let profile = slice.profile.as_deref();
        let at = profile.map_or_else(Vec::new, |p| cuts(p, span, p.calendar.zone));
        for end in at {
            cut.push(timeline::Slice {
                to: end,
                ..slice.clone()
            });
            slice.from = end;
        }
        cut.push(slice);
    }
    cut
}

/// Pays what credit and grants pay, in the order in which grants are used.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    lines: &[BillLine<'c>],
    (credit, currency): (Decimal, Option<Currency>),
    carried: &mut Carried,
) -> Result<Vec<GrantUse<'c>>, NoBill> {
    let mut slices = input.slices.iter().rev();
    let Some(profile) = slices.find_map(|slice| slice.profile) else {
        return Ok(Vec::new());
    };
    let grants = &profile.agreement.grants;
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    let places = currency.map_or(0, Currency::exponent);
    let mut open = open(
        input,
        lines,
        credit,
        &cuts(profile, input.period, input.zone),
    )
    .ok_or(NoBill::TooLarge)?;
    let mut uses = Vec::with_capacity(grants.len());
    for grant in grants {
        let key = grant.carried_key();
        let used = carried.grants.entry(key.clone()).or_default();
        let before = match grant.every {
            None => Carried::left(grant.amount, Some(used), input.period),
            Some(every) => left_of_term(input, grant, every, used).ok_or(NoBill::TooLarge)?,
        };
        let valid = validity(grant, input.zone);
        let (mut left, mut paid) = (before, Decimal::ZERO);
        let mut of: Vec<(usize, Decimal)> = Vec::new();
        for place in 0..open.len() {
            let cell = &open[place];
            let line = &lines[cell.line];
            let inside = valid.start <= cell.span.start && cell.span.end <= valid.end;
            if !inside || !pays_for(&grant.counts, line) {
                continue;
            }
            let (money, used) = match grant.unit {
                None => (left.min(cell.amount), left.min(cell.amount)),
                Some(unit) if unit != line.currency => continue,
                Some(unit) => {
                    let still = open.iter().filter(|other| other.line == cell.line);
                    let still = still.map(|other| other.amount).sum();
                    in_unit((unit, places), line, (cell.amount, still), left)
                        .ok_or(NoBill::TooLarge)?
                }
            };
            let cell = &mut open[place];
            cell.amount = cell.amount.checked_sub(money).ok_or(NoBill::TooLarge)?;
            paid = paid.checked_add(money).ok_or(NoBill::TooLarge)?;
            left = left.checked_sub(used).ok_or(NoBill::TooLarge)?;
            if !money.is_zero() {
                of.push((cell.line, money));
            }
        }
        let used = before.checked_sub(left).ok_or(NoBill::TooLarge)?;
        note(
            carried.grants.entry(key).or_default(),
            input.period.start,
            used,
        );
        uses.push(GrantUse {
            grant,
            before,
            paid,
            left,
            of,
        });
    }
    carried.grants.retain(|_, used| !used.is_empty());
    Ok(uses)
}

/// What a grant that is counted in a line's own currency pays of `open`, of which the line has `still`
/// to be paid in all: money, and how much of the grant that uses up. Who pays the whole line uses up
/// exactly what it came to; less than the smallest amount of money is not paid.
fn in_unit(
    (unit, places): (Currency, u32),
    line: &BillLine<'_>,
    (open, still): (Decimal, Decimal),
    left: Decimal,
) -> Option<(Decimal, Decimal)> {
    let gross = line.gross()?;
    if gross <= Decimal::ZERO || line.amount <= Decimal::ZERO {
        return Some((Decimal::ZERO, Decimal::ZERO));
    }
    let (worth, gross) = (Ratio::from_decimal(line.amount), Ratio::from_decimal(gross));
    // What of the line's amount so much money stands for.
    let of_money = |money: Decimal| {
        let exact = Ratio::from_decimal(money).checked_mul(worth)?;
        exact
            .checked_div(gross)?
            .round(unit.exponent(), Mode::HalfUp)
    };
    let covered = line.gross()?.checked_sub(still)?;
    let before = of_money(covered)?;
    let whole = of_money(covered.checked_add(open)?)?.checked_sub(before)?;
    if whole <= left {
        return Some((open, whole));
    }
    let most = Ratio::from_decimal(before.checked_add(left)?)
        .checked_mul(gross)?
        .checked_div(worth)?
        .round(places, Mode::Down)?;
    let paid = most.checked_sub(covered)?.max(Decimal::ZERO).min(open);
    let used = of_money(covered.checked_add(paid)?)?.checked_sub(before)?;
    Some((paid, used.max(Decimal::ZERO).min(left)))
}

/// What is left of a grant in the term in which the period begins, by what earlier periods of the term
/// used. A period that begins before the grant does is of its first term.
fn left_of_term(
    input: &BillInput<'_>,
    grant: &Grant,
    every: Every,
    used: &BTreeMap<Timestamp, Decimal>,
) -> Option<Decimal> {
    let first = grant.from?;
    let begin = input.zone.start_of_day(first);
    let term = term(
        input.zone,
        every,
        first,
        Ord::max(input.period.start, begin),
    )?;
    let own = used
        .iter()
        .filter(|(start, _)| term.contains(Ord::max(**start, begin)));
    let own = own.map(|(start, used)| (*start, *used)).collect();
    Some(Carried::left(grant.amount, Some(&own), input.period))
}

/// When a grant pays.
fn validity(grant: &Grant, zone: Zone) -> Period {
    Period {
        start: grant
            .from
            .map_or(Timestamp::EPOCH, |day| zone.start_of_day(day)),
        end: grant
            .until
            .map_or(Timestamp::MAX, |day| zone.start_of_day(day)),
    }
}

/// What a grant for some lines pays for. One for all lines pays for minimums and commitments too.
fn pays_for(counts: &Counts, line: &BillLine<'_>) -> bool {
    match line.source.price() {
        Some(price) => counts.includes(price),
        None => counts.prices.is_none() && counts.fees,
    }
}

/// What is to be paid of a line for a stretch of the period.
struct Open {
    line: usize,
    span: Period,
    amount: Decimal,
}

/// What is to be paid, line by line and stretch by stretch, less what lines below zero and the
/// credit pay of each.
fn open(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    credit: Decimal,
    cuts: &[Timestamp],
) -> Option<Vec<Open>> {
    let spans = spans(input.period, cuts);
    let paid = paid_of_lines(input, lines, credit)?;
    let mut open = Vec::with_capacity(lines.len() * spans.len());
    for (place, (line, mut paid)) in lines.iter().zip(paid).enumerate() {
        let gross = line.gross()?.max(Decimal::ZERO);
        let amounts = if let [_] = spans[..] {
            vec![gross]
        } else {
            split_by(gross, gross.scale(), &weights(input, line, &spans)?)?
        };
        for (span, amount) in spans.iter().zip(amounts) {
            let off = paid.min(amount);
            paid = paid.checked_sub(off)?;
            open.push(Open {
                line: place,
                span: *span,
                amount: amount.checked_sub(off)?,
            });
        }
    }
    Some(open)
}

/// What of each line is paid before any grant: first by what a commitment draws down for it and what
/// is given back of the same fee, then, the earliest lines first, by the credit and by what of those is
/// left.
fn paid_of_lines(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    credit: Decimal,
) -> Option<Vec<Decimal>> {
    let gross: Option<Vec<Decimal>> = lines.iter().map(BillLine::gross).collect();
    let gross = gross?;
    let mut paid = vec![Decimal::ZERO; lines.len()];
    // Pays as much as possible of a line; what is left of what pays.
    let mut pay = |place: usize, left: Decimal| {
        let room = gross[place].checked_sub(paid[place])?;
        let part = left.min(room).max(Decimal::ZERO);
        paid[place] = paid[place].checked_add(part)?;
        left.checked_sub(part)
    };
    let mut rest = credit;
    for (place, line) in lines.iter().enumerate() {
        if gross[place] >= Decimal::ZERO {
            continue;
        }
        let mut left = Decimal::ZERO.checked_sub(gross[place])?;
        for other in pays(input, lines, line) {
            left = pay(other, left)?;
        }
        rest = rest.checked_add(left)?;
    }
    for place in 0..lines.len() {
        rest = pay(place, rest)?;
    }
    Some(paid)
}

/// The lines that one below zero belongs to, by their places.
fn pays(input: &BillInput<'_>, lines: &[BillLine<'_>], line: &BillLine<'_>) -> Vec<usize> {
    if matches!(line.source, Source::Commitment(_)) {
        return commit::counting_for(input, lines, line);
    }
    let is_same = |other: &BillLine<'_>| {
        other.source.price().is_some()
            && other.key.id == line.key.id
            && other.key.card == line.key.card
    };
    let lines = lines.iter().enumerate();
    lines
        .filter(|(_, other)| is_same(other))
        .map(|(place, _)| place)
        .collect()
}

fn spans(period: Period, cuts: &[Timestamp]) -> Vec<Period> {
    let starts = std::iter::once(period.start).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([period.end]);
    starts
        .zip(ends)
        .map(|(start, end)| Period { start, end })
        .collect()
}

/// How long what a line stands for is in force in each stretch; of what is not in force within
/// the period, how long the stretches are.
fn times(input: &BillInput<'_>, line: &BillLine<'_>, spans: &[Period]) -> Vec<i128> {
    let in_force = |slice: &&Slice<'_>| {
        let Some((profile, card)) = slice.profile.zip(slice.card) else {
            return false;
        };
        let Some(id) = line.key.card.as_deref() else {
            return true;
        };
        let card = profile.agreement.card(card);
        let mut prices = card.prices.iter();
        card.id == id
            && line
                .source
                .price()
                .is_none_or(|price| prices.any(|other| other.id == price.id))
    };
    let mut times = vec![0i128; spans.len()];
    for slice in input.slices.iter().filter(in_force) {
        for (time, span) in times.iter_mut().zip(spans) {
            let start = Ord::max(span.start, slice.span.start);
            let end = Ord::min(span.end, slice.span.end);
            *time += i128::from(end.millis_since(start).max(0));
        }
    }
    if times.iter().all(|time| *time == 0) {
        return spans.iter().map(|span| span.millis().into()).collect();
    }
    times
}

/// The usage of a line in each stretch, or how long each is.
fn weights(input: &BillInput<'_>, line: &BillLine<'_>, spans: &[Period]) -> Option<Vec<i128>> {
    let by_time = || Some(times(input, line, spans));
    let Some(quantities) = quantities(input, line, spans) else {
        return by_time();
    };
    if quantities.iter().all(|quantity| *quantity <= 0) {
        return by_time();
    }
    Some(
        quantities
            .into_iter()
            .map(|quantity| quantity.max(0))
            .collect(),
    )
}

/// The usage of a line in each stretch; `None` if it was not kept apart.
fn quantities(input: &BillInput<'_>, line: &BillLine<'_>, spans: &[Period]) -> Option<Vec<i128>> {
    let meter = line.meter()?;
    if !crate::rate::adds_up(meter.aggregation) {
        return None;
    }
    let track = input.usage.get(&meter.name)?.track(line.source.item()?)?;
    let usage = track.usage;
    // Usage under another card or price is of another line.
    let own = |slice: usize| {
        let priced = track.slices.get(slice).and_then(|slice| slice.priced);
        priced.is_some_and(|(card, price)| {
            line.key.card.as_deref() == Some(card.id.as_str())
                && line.key.id == price.id
                && line.currency == card.currency
        })
    };
    let mut by_slice: BTreeMap<usize, i128> = BTreeMap::new();
    let parts = usage.parts();
    for (part, quantity) in parts.filter(|(part, _)| own(usize::from(part.slice))) {
        let sum = by_slice.entry(usize::from(part.slice)).or_default();
        *sum = sum.checked_add(quantity.units())?;
    }
    let mut quantities = vec![0i128; spans.len()];
    for (slice, quantity) in by_slice {
        let slice = input.slices.get(slice)?.span;
        let within = |span: &Period| span.start <= slice.start && slice.end <= span.end;
        let place = spans.iter().position(within)?;
        quantities[place] = quantities[place].checked_add(quantity)?;
    }
    Some(quantities)
}
