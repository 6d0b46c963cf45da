//! Shares: what those for whom a tenant pays have of its bill.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{Aggregation, MeterName, Quantity, Scale};

use super::billing::{carried, currency_of, key_of, reason_of};
use super::book::{Line, LineAccount, LineKey};
use super::family::{Member, Rated};
use crate::bill::{Bill, BillLine, Metered, Share, Unrated, UnratedUsage};
use crate::ledger::Role;
use crate::rate::{MeterUsage, Part};

/// What the share of the taxes is called, whichever they are.
const TAX: &str = "tax";

/// Adds to each tenant's lines what it has of the bill, and takes away from the payer's what of its
/// unrated usage is theirs.
pub(super) fn book(
    bill: &Bill<'_>,
    metered: &BTreeMap<&MeterName, Metered<'_>>,
    together: &Rated<'_>,
    members: &mut [Member<'_>],
    lines: &mut BTreeMap<LineKey, Line>,
) {
    for member in members {
        // What of each meter stands on no line.
        let mut rest: BTreeMap<MeterName, Quantity> = BTreeMap::new();
        for (meter, (usage, _)) in &member.rated {
            rest.insert(meter.clone(), usage.quantity());
        }
        let mut tax = Decimal::ZERO;
        for line in &bill.lines {
            let Some(share) = line
                .shares
                .iter()
                .find(|share| share.tenant == member.tenant)
            else {
                continue;
            };
            // The parts of a tax that fits fit.
            tax = tax.saturating_add(share.tax);
            if share.quantity.is_zero() && share.net.is_zero() {
                continue;
            }
            let meter = line.meter();
            if let Some(left) = meter.and_then(|meter| rest.get_mut(&meter.name)) {
                *left = left.checked_sub(share.quantity).unwrap_or_default();
            }
            let mut part = Line {
                quantity: share.quantity,
                amount: Some(share.net),
                text: text(bill, line, metered, share),
                ..Line::default()
            };
            let usage = meter.and_then(|meter| member.rated.get(&meter.name));
            let key = key_of(bill, line);
            if let Some((usage, _)) = usage {
                part.rests_on(usage);
                if let Some(whole) = lines.get_mut(&key) {
                    whole.rests_on(usage);
                }
            }
            member.lines.insert(key, part);
        }
        if let (Some(currency), false) = (bill.currency, tax.is_zero()) {
            let (key, line) = tax_line(currency.code(), tax);
            member.lines.insert(key, line);
        }
        for (meter, left) in rest {
            let Some(metered) = metered.get(&meter).filter(|_| !left.is_zero()) else {
                continue;
            };
            leave(bill, &meter, metered, left, together, member, lines);
        }
    }
}

fn text(
    bill: &Bill<'_>,
    line: &BillLine<'_>,
    metered: &BTreeMap<&MeterName, Metered<'_>>,
    share: &Share<'_>,
) -> String {
    let (quantity, net) = (share.quantity, share.net);
    let currency = currency_of(bill, line);
    let whole = format!("{net} of {} {currency}", line.net);
    let all = carried(line, metered);
    match line.meter().filter(|_| !all.is_zero()) {
        Some(meter) => {
            let scale = meter.billed_scale();
            let (part, all) = (quantity.display(scale), all.display(scale));
            format!("{part} of {all} that are rated together: {whole}")
        }
        None => format!("without a quantity: {whole}"),
    }
}

fn tax_line(currency: &str, tax: Decimal) -> (LineKey, Line) {
    let key = LineKey {
        account: LineAccount::Rated {
            id: TAX.to_owned(),
            role: Role::Tax,
            card: String::new(),
            currency: currency.to_owned(),
        },
        meter: None,
        scale: Scale::ZERO,
        aggregation: Aggregation::Sum,
    };
    let line = Line {
        amount: Some(tax),
        text: format!("the tax on these shares: {tax} {currency}"),
        ..Line::default()
    };
    (key, line)
}

/// Says of what stands on no line why: as the bill says of all usage together, by the parts that are
/// this tenant's. What is below zero is the payer's, because only the sum can be.
fn leave(
    bill: &Bill<'_>,
    meter: &MeterName,
    metered: &Metered<'_>,
    mut left: Quantity,
    together: &Rated<'_>,
    member: &mut Member<'_>,
    lines: &mut BTreeMap<LineKey, Line>,
) {
    let Some((usage, counted)) = member.rated.get(meter) else {
        return;
    };
    let of_meter = |unrated: &&UnratedUsage| unrated.meter.as_ref() == Some(meter);
    let mut reasons: Vec<&UnratedUsage> = bill
        .unrated
        .iter()
        .filter(of_meter)
        .filter(|unrated| unrated.reason != Unrated::BelowZero)
        .collect();
    let last = reasons.pop();
    let parts = reasons.into_iter().map(|unrated| {
        let part = part_of(counted, metered, unrated).unwrap_or_default();
        (reason_of(unrated.reason), part)
    });
    let mut parts: Vec<_> = parts.collect();
    for (_, part) in &parts {
        left = left.checked_sub(*part).unwrap_or_default();
    }
    let last = last.map_or(Unrated::NoPrice, |unrated| unrated.reason);
    parts.push((reason_of(last), left));
    for (reason, part) in parts {
        if part.is_zero() {
            continue;
        }
        let account = LineAccount::Unrated(reason);
        let own = member.lines.entry(usage.key().line(account.clone()));
        own.or_default().add(part, usage);
        let Some((payers, _)) = together.get(meter) else {
            continue;
        };
        let line = lines.entry(payers.key().line(account)).or_default();
        line.quantity = line.quantity.checked_sub(part).unwrap_or_default();
    }
}

/// How much of a tenant's usage is unrated for this reason.
fn part_of(
    counted: &MeterUsage,
    metered: &Metered<'_>,
    unrated: &UnratedUsage,
) -> Option<Quantity> {
    let of_no_row = matches!(unrated.reason, Unrated::NoRow | Unrated::NoEvent);
    let belongs = |part: &Part| {
        let slice = metered.slices.get(usize::from(part.slice));
        let price = slice
            .and_then(|slice| slice.priced)
            .map(|(_, price)| &price.id);
        price == unrated.price.as_ref()
            && (price.is_none() || (part.cell == Part::NO_CELL) == of_no_row)
    };
    let parts = counted.parts().filter(|(part, _)| belongs(part));
    Quantity::checked_sum(parts.map(|(_, quantity)| quantity))
}
