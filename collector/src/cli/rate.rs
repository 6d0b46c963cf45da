//! `rate`: prices without a server.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use tollgate_collector_core::bill::{Bill, Offline};
use tollgate_collector_core::catalog::{Card, Trial, UsageFormat};
use tollgate_common::TenantId;

use super::catalog::{read_catalog, refused};
use super::output::Output;
use super::{Exit, Failure, bill, load};

/// Longest usage file in TOML, in bytes.
const USAGE_BYTES_MAX: u64 = 1 << 20;
/// Longest usage file of rows: a million of them.
const ROWS_BYTES_MAX: u64 = 1 << 26;

/// `rate`.
pub(super) fn rate(
    dir: &Path,
    tenant: Option<&TenantId>,
    usage: &Path,
    period: Option<&str>,
    output: Output,
) -> Result<Exit, Failure> {
    let catalog = read_catalog(dir)?;
    let name = usage.display().to_string();
    let format = UsageFormat::of(&name);
    let most = match format {
        UsageFormat::Toml => USAGE_BYTES_MAX,
        UsageFormat::Csv | UsageFormat::JsonLines => ROWS_BYTES_MAX,
    };
    let text = load::bounded(usage, most)
        .map_err(|error| Failure::new(Exit::Config, format!("{name}: {error}")))?;
    let read = match format {
        UsageFormat::Toml => Trial::read(&catalog, &name, &text, tenant, period),
        format => Trial::read_table(&catalog, (&name, &text, format), tenant, period),
    };
    let trial = read.map_err(|errors| {
        let files = std::collections::BTreeMap::from([(name.clone(), text.clone())]);
        // The file's own path stands in its mistakes.
        refused(Path::new(""), errors, files)
    })?;
    let printed = trial.bill(&catalog, |offline, bill| {
        let printed = output.print(&as_json(offline, bill), |out| {
            writeln!(out, "tenant  {}", trial.tenant)?;
            for card in cards(offline) {
                writeln!(out, "card    {} from {}", card.id, card.from)?;
            }
            writeln!(out, "period  {}", trial.period)?;
            writeln!(out)?;
            bill::write(out, bill)
        });
        printed.map(|()| unrated(bill))
    });
    let unrated = printed.map_err(Failure::failed)??;
    let Some(unrated) = unrated else {
        return Ok(Exit::Done);
    };
    // Nothing is lost where nobody reads it: the exit code says so too.
    let _ = writeln!(io::stderr(), "{unrated}");
    Ok(Exit::Unrated)
}

/// What is not in the bill, if anything is not.
fn unrated(bill: &Bill<'_>) -> Option<String> {
    let names = bill.unrated.iter().map(|usage| {
        let meter = usage.meter.as_ref().map(ToString::to_string);
        meter.or_else(|| usage.price.clone()).unwrap_or_default()
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("warning: the bill is not complete: usage of {names} is not rated, see `unrated`")
    })
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
