//! `rate`: prices without a server.

use std::path::Path;

use serde_json::{Value, json};
use tollgate_collector_core::catalog::{Catalog, Measure, Trial};
use tollgate_collector_core::rate::{AmountStep, LineItem, QuantityStep, Statement, statement};
use tollgate_common::TenantId;

use super::catalog::{read_catalog, refused};
use super::output::{Output, table};
use super::{Exit, Failure, load};

/// Longest usage file, in bytes.
const USAGE_BYTES_MAX: u64 = 1 << 20;

/// `rate`.
pub(super) fn rate(
    dir: &Path,
    tenant: Option<&TenantId>,
    usage: &Path,
    period: Option<&str>,
    output: Output,
) -> Result<Exit, Failure> {
    let catalog = read_catalog(dir)?;
    let text = load::bounded(usage, USAGE_BYTES_MAX)
        .map_err(|error| Failure::new(Exit::Config, format!("{}: {error}", usage.display())))?;
    let name = usage.display().to_string();
    let trial = Trial::read(&catalog, &name, &text, tenant, period).map_err(|errors| {
        let files = std::collections::BTreeMap::from([(name.clone(), text.clone())]);
        // The file's own path stands in its mistakes.
        refused(Path::new(""), errors, files)
    })?;
    let statement =
        statement(&catalog, &trial.tenant, trial.period, &trial.usage).map_err(Failure::failed)?;
    let shown = as_json(&catalog, &trial, &statement);
    output.print(&shown, |out| {
        let currency = statement.card.currency;
        writeln!(out, "tenant  {}", trial.tenant)?;
        writeln!(
            out,
            "card    {} from {}",
            statement.card.id, statement.card.from
        )?;
        writeln!(out, "period  {}", trial.period)?;
        writeln!(out)?;
        let mut rows: Vec<Vec<String>> = statement
            .lines
            .iter()
            .map(|line| {
                vec![
                    line.price.id.clone(),
                    line.amount.to_string(),
                    line.to_string(),
                ]
            })
            .collect();
        rows.push(vec![
            "net".to_owned(),
            statement.net.to_string(),
            String::new(),
        ]);
        table(out, &["line", &format!("{currency}"), "arithmetic"], &rows)?;
        for unrated in &statement.unrated {
            let reason = reason(unrated.no_price);
            writeln!(
                out,
                "unrated  {} {}: {reason}",
                unrated.meter, unrated.quantity
            )?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

const fn reason(no_price: bool) -> &'static str {
    if no_price {
        "no_price"
    } else {
        "amount_too_large"
    }
}

fn as_json(catalog: &Catalog, trial: &Trial, statement: &Statement<'_>) -> Value {
    let lines: Vec<Value> = statement.lines.iter().map(line).collect();
    let unrated: Vec<Value> = statement
        .unrated
        .iter()
        .map(|unrated| {
            json!({
                "meter": unrated.meter,
                "units": unrated.quantity.to_string(),
                "reason": reason(unrated.no_price),
            })
        })
        .collect();
    json!({
        "tenant": trial.tenant,
        "period": statement.profile.calendar.label(trial.period),
        "start": trial.period.start.to_string(),
        "end": trial.period.end.to_string(),
        "card": statement.card.id,
        "from": statement.card.from.to_string(),
        "catalog": catalog.digest(),
        "currency": statement.card.currency,
        "lines": lines,
        "unrated": unrated,
        "net": statement.net,
    })
}

/// A line with its arithmetic; amounts before rounding are `exact`.
fn line(line: &LineItem<'_>) -> Value {
    let arithmetic = line.arithmetic();
    let tiers: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.tiers)
        .map(|tier| {
            json!({
                "from": tier.tier.from,
                "to": tier.tier.to.as_ref().map(Measure::value),
                "quantity": tier.quantity,
                "blocks": tier.blocks.map(|blocks| blocks.to_string()),
                "unit": tier.unit,
                "per": tier.per.to_string(),
                "flat": tier.flat,
                "exact": tier.exact,
                "amount": tier.amount,
            })
        })
        .collect();
    let changes: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.steps)
        .map(|change| {
            let (kind, id) = match change.step {
                AmountStep::Discount(discount) => ("discount", Some(&discount.id)),
                AmountStep::Maximum(_) => ("maximum", None),
                AmountStep::Minimum(_) => ("minimum", None),
            };
            json!({ "kind": kind, "id": id, "exact": change.exact, "change": change.change })
        })
        .collect();
    let quantities: Vec<Value> = arithmetic
        .iter()
        .flat_map(|arithmetic| &arithmetic.quantities)
        .map(|(step, left)| {
            let (kind, id) = match step {
                QuantityStep::Converted(_) => ("converted", None),
                QuantityStep::Included(_) => ("included", None),
                QuantityStep::AllCharged(_) => ("all_charged", None),
                QuantityStep::Discounted(discount, _) => ("discount", Some(&discount.id)),
                QuantityStep::Committed(_) => ("committed", None),
            };
            json!({ "kind": kind, "id": id, "left": left })
        })
        .collect();
    let meter = line.meter;
    json!({
        "line": line.price.id,
        "meter": meter.map(|meter| &meter.name),
        "unit": meter.map(|meter| meter.billed_unit().to_string()),
        "quantity": meter.map(|meter| line.quantity.display(meter.billed_scale()).to_string()),
        "quantities": quantities,
        "charged": arithmetic.as_ref().map(|arithmetic| arithmetic.charged),
        "charged_unit": line.price.unit.to_string(),
        "tiers": tiers,
        "exact": arithmetic.as_ref().map(|arithmetic| arithmetic.list),
        "list": line.list,
        "changes": changes,
        "amount": line.amount,
        "arithmetic": line.to_string(),
    })
}
