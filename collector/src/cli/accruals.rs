//! `accruals`: what open periods would cost if they ended now.

use std::io::{self, Write};

use serde_json::{Value, json};
use tollgate_common::TenantId;

use super::args::OutputArgs;
use super::output::{Output, table};
use super::period::ask;
use super::{Exit, Failure, load};
use crate::accruals::query::AccrualReader;
use crate::run::DataDir;
use crate::serve::admin::AdminRequest;
use crate::sqlite::query::{Filter, LIMIT_MAX, ReadOnly};

/// Shows the open periods of a tenant, or what those of everybody amount to.
pub(super) fn accruals(args: &OutputArgs, tenant: Option<TenantId>) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let request = AdminRequest::Accrue {
        tenant: tenant.clone(),
    };
    let freshness = ask(args, &request)?;
    let reader =
        AccrualReader::open(&DataDir::new(&config.data_dir).accruals()).map_err(Failure::failed)?;
    let mut answer = match tenant {
        Some(tenant) => json!({ "items": of_tenant(&reader, &tenant)? }),
        None => reader.totals().map_err(Failure::failed)?,
    };
    for key in ["waiting", "complete_until", "age_millis"] {
        answer[key] = freshness[key].clone();
    }
    Output::new(args.json).print(&answer, |out| show(out, &answer))?;
    Ok(Exit::Done)
}

fn of_tenant(reader: &AccrualReader, tenant: &TenantId) -> Result<Vec<Value>, Failure> {
    let mut filter = Filter {
        tenant: Some(tenant.to_string()),
        limit: Some(LIMIT_MAX),
        ..Filter::default()
    };
    let mut items = Vec::new();
    loop {
        let page = reader.accruals(&filter).map_err(Failure::failed)?;
        items.extend(page.items);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(items);
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn show(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    if let Some(items) = answer["items"].as_array() {
        items.iter().try_for_each(|item| period(out, item))?;
    } else {
        writeln!(
            out,
            "{} open periods of {} tenants",
            text(&answer["periods"]),
            text(&answer["tenants"])
        )?;
        figures(out, answer)?;
    }
    writeln!(
        out,
        "complete until {} ({} tenants have changed since they were rated)",
        text(&answer["complete_until"]),
        text(&answer["waiting"])
    )
}

/// An open period, line by line.
fn period(out: &mut dyn Write, item: &Value) -> io::Result<()> {
    let [tenant, label, start, end] =
        ["tenant", "period", "start", "end"].map(|key| text(&item[key]));
    writeln!(out, "{tenant} {label} ({start} to {end})")?;
    let cells = ["line", "meter", "quantity", "amount", "currency"];
    let rows: Vec<Vec<String>> = list(&item["lines"])
        .iter()
        .map(|line| cells.map(|key| text(&line[key])).to_vec())
        .collect();
    table(out, &["LINE", "METER", "QUANTITY", "AMOUNT", ""], &rows)?;
    figures(out, item)?;
    writeln!(out)
}

/// Amounts, and how the usage stands.
fn figures(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    for amounts in list(&value["amounts"]) {
        let [net, tax, paid, total, currency] =
            ["net", "tax", "paid", "total", "currency"].map(|key| text(&amounts[key]));
        writeln!(
            out,
            "net {net}, tax {tax}, grants and credit {paid}, total {total} {currency}"
        )?;
    }
    let mut rows = Vec::new();
    for meter in list(&value["usage"]) {
        for part in list(&meter["parts"]) {
            rows.push(vec![
                text(&meter["meter"]),
                text(&part["standing"]),
                text(&part["reason"]),
                text(&part["quantity"]),
                text(&meter["unit"]),
                text(&part["share"]),
            ]);
        }
    }
    let heading = ["METER", "STANDING", "REASON", "QUANTITY", "", "SHARE"];
    table(out, &heading, &rows)
}
