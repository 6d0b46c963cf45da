//! `rate`: prices without a server.

use std::path::Path;

use serde_json::{Value, json};
use tollgate_collector_core::bill::{Bill, Offline};
use tollgate_collector_core::catalog::{Card, Trial, UsageFormat};
use tollgate_common::TenantId;

use super::catalog::{read_catalog, refused};
use super::output::Output;
use super::{Exit, Failure, bill, load};

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
    let read = match UsageFormat::of(&name) {
        UsageFormat::Toml => Trial::read(&catalog, &name, &text, tenant, period),
        format => Trial::read_table(&catalog, (&name, &text, format), tenant, period),
    };
    let trial = read.map_err(|errors| {
        let files = std::collections::BTreeMap::from([(name.clone(), text.clone())]);
        // The file's own path stands in its mistakes.
        refused(Path::new(""), errors, files)
    })?;
    let printed = trial.bill(&catalog, |offline, bill| {
        output.print(&as_json(offline, bill), |out| {
            writeln!(out, "tenant  {}", trial.tenant)?;
            for card in cards(offline) {
                writeln!(out, "card    {} from {}", card.id, card.from)?;
            }
            writeln!(out, "period  {}", trial.period)?;
            writeln!(out)?;
            bill::write(out, bill)
        })
    });
    printed.map_err(Failure::failed)??;
    Ok(Exit::Done)
}

/// The versions of cards that are in force in the period.
fn cards<'c>(offline: &Offline<'c>) -> Vec<&'c Card> {
    let mut cards: Vec<&Card> = offline
        .slices
        .iter()
        .filter_map(|slice| slice.card)
        .collect();
    cards.dedup_by_key(|card| (card.id.clone(), card.from));
    cards
}

fn as_json(offline: &Offline<'_>, bill: &Bill<'_>) -> Value {
    let cards: Vec<Value> = cards(offline)
        .iter()
        .map(|card| json!({ "card": card.id, "from": card.from.to_string() }))
        .collect();
    let mut shown = json!({
        "tenant": offline.tenant,
        "period": offline.profile.calendar.label(offline.period),
        "start": offline.period.start.to_string(),
        "end": offline.period.end.to_string(),
        "cards": cards,
        "catalog": offline.catalog.digest(),
    });
    if let (Some(shown), Value::Object(bill)) = (shown.as_object_mut(), bill::json(bill)) {
        shown.extend(bill);
    }
    shown
}
