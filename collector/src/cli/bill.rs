//! Shows a bill, to people and to programs.

use std::io::{self, Write};

use serde_json::{Value, json};
use tollgate_collector_core::bill::{Bill, BillLine};
use tollgate_collector_core::catalog::Measure;
use tollgate_collector_core::rate::{LineItem, Piece, QuantityStep, Ratio, TierAmount};

use super::output::table;

/// Writes lines with their arithmetic, taxes, commitments, grants and sums.
pub(super) fn write(out: &mut dyn Write, bill: &Bill<'_>) -> io::Result<()> {
    let currency = bill.currency.map_or("", |currency| currency.code());
    let row = |name: &str, amount: String, text: String| vec![name.to_owned(), amount, text];
    let mut rows: Vec<Vec<String>> = bill
        .lines
        .iter()
        .map(|line| row(&line.key.name(), line.billed.to_string(), line.to_string()))
        .collect();
    rows.push(row("net", bill.net.to_string(), String::new()));
    for tax in &bill.taxes {
        let text = format!(
            "{} % of {}, {}",
            tax.percent, tax.base, tax.tax.jurisdiction
        );
        let note = tax.tax.note.as_ref().map(|note| format!(": {note}"));
        let name = format!("tax {}", tax.tax.code);
        rows.push(row(
            &name,
            tax.amount.to_string(),
            text + &note.unwrap_or_default(),
        ));
    }
    rows.push(row("total", bill.total.to_string(), String::new()));
    if !bill.credit.is_zero() {
        let text = "from the credit balance".to_owned();
        rows.push(row("credit", format!("-{}", bill.credit), text));
    }
    for used in bill.grants.iter().filter(|used| !used.before.is_zero()) {
        let unit = used.grant.unit.map(|unit| format!(" {unit}"));
        let unit = unit.unwrap_or_default();
        let text = format!("{}{unit} was left, {}{unit} is", used.before, used.left);
        let name = format!("grant {}", used.grant.id);
        rows.push(row(&name, format!("-{}", used.paid), text));
    }
    rows.push(row("due", bill.due.to_string(), String::new()));
    table(out, &["line", currency, "arithmetic"], &rows)?;
    for rate in &bill.exchange {
        writeln!(
            out,
            "rate  1 {} = {} {} of {}",
            rate.from, rate.rate, rate.to, rate.date
        )?;
    }
    for state in &bill.commitments {
        writeln!(
            out,
            "commitment  {}: {} of {} {} left in the term {} ({} before, {} now)",
            state.commitment.id,
            state.left,
            state.commitment.amount,
            state.currency,
            state.term,
            state.before,
            state.counted
        )?;
    }
    for usage in &bill.unrated {
        let meter = usage.meter.as_ref().map(ToString::to_string);
        writeln!(
            out,
            "unrated  {} {}: {}",
            meter.or_else(|| usage.price.clone()).unwrap_or_default(),
            usage.quantity,
            usage.reason.as_str()
        )?;
    }
    Ok(())
}

/// All of a bill.
pub(super) fn json(bill: &Bill<'_>) -> Value {
    let lines: Vec<Value> = bill.lines.iter().map(line).collect();
    let taxes = bill.taxes.iter().map(|tax| {
        json!({
            "tax": tax.tax.code,
            "jurisdiction": tax.tax.jurisdiction,
            "kind": tax.tax.kind.as_str(),
            "note": tax.tax.note,
            "percent": tax.percent,
            "base": tax.base,
            "amount": tax.amount,
        })
    });
    let exchange = bill.exchange.iter().map(|rate| {
        json!({
            "from": rate.from,
            "to": rate.to,
            "date": rate.date.to_string(),
            "rate": rate.rate,
        })
    });
    let commitments = bill.commitments.iter().map(|state| {
        json!({
            "commitment": state.commitment.id,
            "amount": state.commitment.amount,
            "currency": state.currency,
            "start": state.term.start.to_string(),
            "end": state.term.end.to_string(),
            "before": state.before,
            "counted": state.counted,
            "left": state.left,
        })
    });
    let grants = bill.grants.iter().map(|used| {
        json!({
            "grant": used.grant.id,
            "unit": used.grant.unit.map(|unit| unit.to_string()),
            "kind": used.grant.kind.as_str(),
            "before": used.before,
            "paid": used.paid,
            "left": used.left,
        })
    });
    let unrated = bill.unrated.iter().map(|usage| {
        json!({
            "meter": usage.meter,
            "price": usage.price,
            "units": usage.quantity.to_string(),
            "reason": usage.reason.as_str(),
        })
    });
    json!({
        "currency": bill.currency,
        "lines": lines,
        "unrated": unrated.collect::<Vec<_>>(),
        "exchange": exchange.collect::<Vec<_>>(),
        "taxes": taxes.collect::<Vec<_>>(),
        "commitments": commitments.collect::<Vec<_>>(),
        "grants": grants.collect::<Vec<_>>(),
        "net": bill.net,
        "tax": bill.tax,
        "total": bill.total,
        "credit": bill.credit,
        "due": bill.due,
    })
}

/// A line with its arithmetic.
fn line(line: &BillLine<'_>) -> Value {
    let changes: Vec<Value> = line
        .steps()
        .iter()
        .map(|step| {
            let id = Some(&step.id).filter(|id| !id.is_empty());
            json!({ "kind": step.kind.as_str(), "id": id, "change": step.amount })
        })
        .collect();
    let shares: Vec<Value> = line
        .shares
        .iter()
        .map(|share| {
            json!({
                "tenant": share.tenant,
                "units": share.quantity.to_string(),
                "net": share.net,
                "tax": share.tax,
            })
        })
        .collect();
    let mut shown = json!({
        "line": line.key.name(),
        "kind": line.key.role.as_str(),
        "card": line.key.card,
        "currency": line.currency,
        "list": line.list,
        "fraction": line.fraction,
        "changes": changes,
        "amount": line.amount,
        "billed": line.billed,
        "taxes": line.taxes,
        "net": line.net,
        "tax": line.tax,
        "shares": shares,
        "arithmetic": line.to_string(),
    });
    let rated = line.source.item().map(rated);
    if let (Some(shown), Some(Value::Object(rated))) = (shown.as_object_mut(), rated) {
        shown.extend(rated);
    }
    shown
}

/// How a line was rated; amounts before rounding are `exact`.
fn rated(line: &LineItem<'_>) -> Value {
    let arithmetic = line.arithmetic();
    let tiers: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.tiers)
        .map(tier)
        .collect();
    let quantities: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.quantities)
        .map(step)
        .collect();
    let pieces: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.pieces)
        .map(piece)
        .collect();
    let own = arithmetic.as_ref().and_then(|own| own.contracted.as_ref());
    let contracted = own.map(|own| {
        json!({
            "tiers": own.tiers.iter().map(tier).collect::<Vec<_>>(),
            "pieces": own.pieces.iter().map(piece).collect::<Vec<_>>(),
            "exact": own.amount,
            "amount": line.base,
        })
    });
    let meter = line.meter;
    json!({
        "meter": meter.map(|meter| &meter.name),
        "unit": meter.map(|meter| meter.billed_unit().to_string()),
        "quantity": meter.map(|meter| line.quantity.display(meter.billed_scale()).to_string()),
        "quantities": quantities,
        "charged": arithmetic.as_ref().map(|arithmetic| arithmetic.charged),
        "charged_unit": line.price.unit.to_string(),
        "tiers": tiers,
        "pieces": pieces,
        "exact": arithmetic.as_ref().map(|arithmetic| arithmetic.list),
        "contracted": contracted,
    })
}

fn tier(tier: &TierAmount<'_>) -> Value {
    json!({
        "from": tier.tier.from,
        "to": tier.tier.to.as_ref().map(Measure::value),
        "quantity": tier.quantity,
        "blocks": tier.blocks.map(|blocks| blocks.to_string()),
        "unit": tier.unit,
        "per": tier.per.to_string(),
        "flat": tier.flat,
        "part": tier.part,
        "exact": tier.exact,
        "amount": tier.amount,
    })
}

/// A step from the metered to the charged quantity.
fn step((step, left): &(QuantityStep<'_>, Ratio)) -> Value {
    let (kind, id) = match step {
        QuantityStep::Converted(_) => ("converted", None),
        QuantityStep::Included(..) => ("included", None),
        QuantityStep::AllCharged(..) => ("all_charged", None),
        QuantityStep::Discounted(discount, _) => ("discount", Some(&discount.id)),
        QuantityStep::Committed(_) => ("committed", None),
    };
    json!({ "kind": kind, "id": id, "left": left })
}

/// What one version of a price charges for one of its intervals, rows or percentiles.
fn piece(piece: &Piece<'_>) -> Value {
    json!({
        "from": piece.span.start,
        "to": piece.span.end,
        "interval": piece.interval,
        "row": piece.row.map(|row| &row.id),
        "percentile": piece.ranked.as_ref().map(|ranked| json!({
            "of": ranked.what,
            "percent": ranked.percent,
            "slot_secs": ranked.slot_secs,
            "slots": ranked.count,
            "excluded": ranked.excluded,
            "rank": ranked.rank,
        })),
        "events": piece.events.as_ref().map(|events| json!({
            "count": events.count,
            "free": events.free,
            "fees": events.fixed,
            "adjusted": events.adjusted,
        })),
        "each": piece.apart.as_ref().map(|apart| json!({
            "of": apart.name,
            "count": apart.count,
            "adjusted": apart.adjusted,
        })),
        "metered": piece.metered,
        "quantities": piece.quantities.iter().map(step).collect::<Vec<Value>>(),
        "charged": piece.charged,
        "tiers": piece.tiers.iter().map(tier).collect::<Vec<Value>>(),
        "share": piece.share,
        "exact": piece.amount,
    })
}
