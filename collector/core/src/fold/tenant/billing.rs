//! From a bill to the lines of the ledger.
//!
//! [`bill::compute`] says what a period costs; here its lines, taxes, credit and grants become
//! keyed lines, each with the account that it is booked to.

use std::collections::BTreeMap;

use tollgate_common::{Aggregation, MeterName, Quantity, Scale};

use super::beside;
use super::book::{Line, LineAccount, LineKey, Terms, UnratedReason};
use super::family::{Member, Pool, Rated};
use super::shares;
use super::tied;
use super::usage::PeriodBook;
use crate::bill::{
    self, Bill, BillInput, BillLine, Carried, LineRole, Metered, Next, NoBill, Stage,
};
use crate::catalog::{Threshold, timeline};
use crate::ledger::{Account, GL_DEFAULT, Role};
use crate::period::{Period, Zone};

/// What a bill needs beside the terms of the period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'c> {
    /// What other periods left.
    pub(super) carried: &'c Carried,
    /// The whole period, or more of it is to come.
    pub(super) stage: Stage,
    /// What it is asked for whether the bill reaches it.
    pub(super) threshold: Option<&'c Threshold>,
    /// The whole period of the calendar, of which the period may be a part.
    pub(super) whole: Period,
    /// What is in force when the next period begins, and that period.
    pub(super) next: Option<(Period, &'c timeline::Slice)>,
    /// What is in force behind the period, by what it is rated by.
    pub(super) after: Option<&'c timeline::Slice>,
}

/// What a bill says beside its lines.
#[derive(Debug)]
pub(super) struct Billed {
    /// What other periods have to know.
    pub(super) carried: Carried,
    /// What is not booked yet reaches the threshold.
    pub(super) reached: bool,
}

/// Adds the lines of a period's bill, and answers what else it says; `None` without a bill. `pool`
/// is what can be rated, and `members` are those for whom the tenant pays.
pub(super) fn bill(
    terms: Terms<'_>,
    around: Around<'_>,
    book: &PeriodBook,
    pool: &Pool<'_>,
    members: &mut [Member<'_>],
    lines: &mut BTreeMap<LineKey, Line>,
) -> Option<Billed> {
    let usage = &pool.together;
    let slices = terms.slices.iter().map(timeline::Slice::for_bill);
    let slices: Vec<bill::Slice<'_>> = slices.collect();
    let profile = slices.iter().rev().find_map(|slice| slice.profile)?;
    let zone = profile.calendar.zone;
    let metered = metered(&slices, zone, usage);
    let children = pool.children();
    let next = around.next.and_then(|(period, slice)| {
        let (profile, card) = slice.agreed()?;
        Some(Next {
            period,
            profile,
            card,
        })
    });
    let input = BillInput {
        tenant: terms.tenant,
        period: terms.period,
        whole: around.whole,
        zone,
        slices: &slices,
        catalog: terms.newest,
        usage: &metered,
        stage: around.stage,
        due: book.due,
        next,
        after: around.after.and_then(timeline::Slice::agreed),
        carried: around.carried,
        children: &children,
    };
    match bill::compute(&input) {
        Ok(bill) => {
            book_bill(&bill, &metered, usage, lines);
            shares::book(&bill, &metered, usage, members, lines);
            let booked = |line: &BillLine<'_>| {
                let booked = book.booked.get(&key_of(&bill, line))?;
                booked.amount
            };
            let reached = around
                .threshold
                .is_some_and(|threshold| bill.reaches(threshold, booked));
            Some(Billed {
                carried: bill.carried,
                reached,
            })
        }
        Err(error) => {
            book_none(&error, usage, lines);
            for member in members {
                book_none(&error, &member.rated, &mut member.lines);
            }
            None
        }
    }
}

/// The meters with usage, and those that a card prices.
fn metered<'c>(
    slices: &[bill::Slice<'c>],
    zone: Zone,
    usage: &'c Rated<'_>,
) -> BTreeMap<&'c MeterName, Metered<'c>> {
    let usage = usage.iter().map(|(meter, (_, usage))| (meter, &**usage));
    bill::metered(slices, zone, usage)
}

/// How much usage a line carries: where several prices of a meter price the same usage, it is
/// one's.
pub(super) fn carried(
    line: &BillLine<'_>,
    metered: &BTreeMap<&MeterName, Metered<'_>>,
) -> Quantity {
    let of_meter = line.meter().zip(line.source.item());
    let carried = of_meter.and_then(|(meter, item)| Some(metered.get(&meter.name)?.carried(item)));
    carried.unwrap_or(line.quantity())
}

fn book_bill(
    bill: &Bill<'_>,
    metered: &BTreeMap<&MeterName, Metered<'_>>,
    usage: &Rated<'_>,
    lines: &mut BTreeMap<LineKey, Line>,
) {
    for (place, line) in bill.lines.iter().enumerate() {
        let meter = line.meter();
        let key = key_of(bill, line);
        let (text, steps) = line.told();
        let mut booked = Line {
            quantity: carried(line, metered),
            amount: Some(line.net),
            text,
            contra: Some(contra(line)),
            steps,
            ties: tied::draws(bill, place),
            ..Line::default()
        };
        if !booked.steps.is_empty() {
            booked.list = Some(line.list);
        }
        booked.original = beside::original(bill, line);
        booked.aside = beside::earned(bill, line).map(Box::new);
        if let Some((usage, _)) = meter.and_then(|meter| usage.get(&meter.name)) {
            booked.rests_on(usage);
        }
        lines.entry(key).or_default().together(booked);
    }
    if let Some(currency) = bill.currency {
        beside::book(bill, currency, lines);
    }
    book_unrated(bill, usage, lines);
}

/// What tells a line of the bill from others in the ledger.
pub(super) fn key_of(bill: &Bill<'_>, line: &BillLine<'_>) -> LineKey {
    let meter = line.meter();
    LineKey {
        account: LineAccount::Rated {
            role: role_of(line.key.role),
            card: line.key.card.clone().unwrap_or_default(),
            id: line.key.id.clone(),
            currency: currency_of(bill, line).to_owned(),
        },
        meter: meter.map(|meter| meter.name.clone()),
        scale: meter.map_or(Scale::ZERO, crate::catalog::Meter::billed_scale),
        aggregation: meter.map_or(Aggregation::Sum, |meter| meter.aggregation),
    }
}

pub(super) fn currency_of(bill: &Bill<'_>, line: &BillLine<'_>) -> &'static str {
    bill.currency.unwrap_or(line.currency).code()
}

/// Usage, and fees, without an amount.
fn book_unrated(bill: &Bill<'_>, usage: &Rated<'_>, lines: &mut BTreeMap<LineKey, Line>) {
    for unrated in &bill.unrated {
        let reason = reason_of(unrated.reason);
        let found = unrated.meter.as_ref().and_then(|meter| usage.get(meter));
        let account = LineAccount::Unrated(reason);
        let key = match found {
            Some((usage, _)) => usage.key().line(account),
            None => LineKey {
                account,
                meter: unrated.meter.clone(),
                scale: Scale::ZERO,
                aggregation: Aggregation::Sum,
            },
        };
        let line = lines.entry(key).or_default();
        // Fees, and prices of what another price carries, have no quantity that tells them apart, so
        // they share a line that names them.
        if let (None, Some(price)) = (&unrated.meter, &unrated.price) {
            let before = if line.text.is_empty() {
                "price"
            } else {
                &line.text
            };
            line.text = format!("{before} `{price}`");
        }
        match found {
            Some((usage, _)) => line.add(unrated.quantity, usage),
            None => line.quantity = unrated.quantity,
        }
    }
}

/// Why usage of a bill has no amount, as the ledger says it.
pub(super) const fn reason_of(unrated: bill::Unrated) -> UnratedReason {
    match unrated {
        bill::Unrated::NoCatalog => UnratedReason::NoCatalog,
        bill::Unrated::UndeclaredMeter => UnratedReason::UndeclaredMeter,
        bill::Unrated::NoProfile => UnratedReason::NoProfile,
        bill::Unrated::NoCardInForce => UnratedReason::NoCardInForce,
        bill::Unrated::NoPrice => UnratedReason::NoPrice,
        bill::Unrated::NoRow => UnratedReason::NoRow,
        bill::Unrated::NoEvent => UnratedReason::NoEvent,
        bill::Unrated::PriceChanged => UnratedReason::PriceChanged,
        bill::Unrated::BelowZero => UnratedReason::BelowZero,
        bill::Unrated::TooLarge => UnratedReason::AmountTooLarge,
    }
}

/// There is no bill: all usage is unrated, and says why.
fn book_none(error: &NoBill, usage: &Rated<'_>, lines: &mut BTreeMap<LineKey, Line>) {
    let reason = match error {
        NoBill::TooLarge => UnratedReason::AmountTooLarge,
        NoBill::NoProfile => UnratedReason::NoProfile,
        NoBill::NoTaxRate { .. } | NoBill::NoTax(_) => UnratedReason::NoTaxRate,
        NoBill::NoExchangeRate { .. } => UnratedReason::NoExchangeRate,
    };
    let account = LineAccount::Unrated(reason);
    for (usage, _) in usage.values() {
        let line = lines.entry(usage.key().line(account.clone())).or_default();
        line.add(usage.quantity(), usage);
        line.text = error.to_string();
    }
    if usage.is_empty() {
        // A fee alone has no quantity that would show it.
        let key = LineKey {
            account,
            meter: None,
            scale: Scale::ZERO,
            aggregation: Aggregation::Sum,
        };
        lines.entry(key).or_default().text = error.to_string();
    }
}

const fn role_of(role: LineRole) -> Role {
    match role {
        LineRole::Usage => Role::Usage,
        LineRole::Fee => Role::Fee,
        LineRole::Advance => Role::Advance,
        LineRole::Minimum => Role::Minimum,
        LineRole::Commitment => Role::Commitment,
        LineRole::Drawdown => Role::Drawdown,
        LineRole::Overage => Role::Overage,
        LineRole::TrueUp => Role::TrueUp,
        LineRole::Rounding => Role::Rounding,
    }
}

/// Where the other leg of a line goes: what a commitment charges before its usage is owed until
/// usage draws it down, and what is charged in advance until its period; everything else is earned.
pub(super) fn contra(line: &BillLine<'_>) -> Account {
    match line.key.role {
        LineRole::Commitment | LineRole::Drawdown => Account::Commitment,
        LineRole::Advance => Account::Deferred,
        LineRole::Rounding => Account::Rounding,
        _ => {
            let price = line.source.price();
            let gl = price.and_then(|price| price.terms.gl.as_deref());
            Account::Revenue(gl.unwrap_or(GL_DEFAULT).to_owned())
        }
    }
}
