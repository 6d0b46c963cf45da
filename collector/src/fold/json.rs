//! Live figures as JSON for output: readable times, quantities in the meter's unit.

use serde_json::{Value, json};
use tollgate_collector_core::fold::tenant::Accrual;

/// An open period as it stands.
pub(super) fn accrual(accrual: &Accrual) -> Value {
    let lines: Vec<Value> = accrual
        .lines
        .iter()
        .map(|line| {
            json!({
                "kind": line.kind,
                "line": line.line,
                "meter": line.meter,
                "unit": line.unit,
                "quantity": line.quantity.display(line.scale).to_string(),
                "units": line.quantity.to_string(),
                "scale": line.scale.get(),
                "amount": line.amount,
                "currency": line.currency,
                "arithmetic": line.arithmetic,
            })
        })
        .collect();
    json!({
        "tenant": accrual.tenant,
        "period": accrual.label,
        "start": accrual.start.to_string(),
        "end": accrual.end.to_string(),
        "catalog": accrual.catalog,
        "lines": lines,
    })
}
