//! What operators ask to be done: from words to a journal entry and its preview.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::entry::{
    CorrectedRow, Correction, Digest, Operated, OperatedAction, RefusedReason, Rerate,
};
use tollgate_collector_core::fold::tenant::{OpenChange, OperatedRefused, Preview, TenantFold};
use tollgate_collector_core::ledger::{LedgerEntry, Note};
use tollgate_common::{AgentId, MeterName, Quantity, TenantId, Timestamp};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action", deny_unknown_fields)]
pub enum OperateRequest {
    /// Usage is added, taken away or released.
    Correct {
        /// Whose.
        tenant: TenantId,
        /// Tells this correction from others: the second one with the same key is refused.
        key: String,
        /// What.
        rows: Vec<RowRequest>,
    },
    /// Closed periods are rated by another version.
    Rerate {
        /// Whose.
        tenant: TenantId,
        /// Periods that begin at this instant or later, see [`crate::time::parse_instant`] …
        from: String,
        /// … and before this one.
        to: String,
        /// Digest of the catalog, or its first digits; eight at least.
        catalog: String,
    },
    /// An agent is not waited for any more.
    Retire {
        /// Who.
        agent: AgentId,
    },
}

/// A row of a correction, as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowRequest {
    /// Which meter; the catalog in force declares it.
    pub meter: MeterName,
    /// Its series.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// When it was used, see [`crate::time::parse_instant`].
    pub at: String,
    /// How much more, or with a `-` how much less, in the meter's unit or with a unit of its kind.
    pub quantity: String,
    /// It was refused for this reason, and is released.
    #[serde(default)]
    pub release: Option<RefusedReason>,
}

/// What would be journaled, and what it would change.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The entry.
    pub operated: Operated,
    /// The change in money, for people.
    pub preview: Value,
    /// In whose books it is done: the tenant's, and those of whoever pays for a part of it.
    pub concerned: BTreeSet<TenantId>,
}

/// An action by its words, with the catalog and the versions that `fold` knows.
pub(super) fn prepare<'f>(
    fold: &TenantFold,
    fold_of: impl Fn(&TenantId) -> Option<&'f TenantFold>,
    request: OperateRequest,
    note: Note,
    stamp: Timestamp,
) -> Result<Prepared, String> {
    let action = match request {
        OperateRequest::Correct { tenant, key, rows } => {
            let catalog = fold.catalog().ok_or("there is no catalog in force")?;
            let rows = rows
                .into_iter()
                .enumerate()
                .map(|(index, row)| {
                    corrected(catalog, row).map_err(|error| format!("row {}: {error}", index + 1))
                })
                .collect::<Result<_, String>>()?;
            OperatedAction::Correct(Correction { tenant, key, rows })
        }
        OperateRequest::Rerate {
            tenant,
            from,
            to,
            catalog,
        } => OperatedAction::Rerate(Rerate {
            tenant,
            from: crate::time::parse_instant(&from)?,
            to: crate::time::parse_instant(&to)?,
            catalog: version(fold, &catalog)?,
        }),
        OperateRequest::Retire { agent } => OperatedAction::Retire { agent },
    };
    let operated = Operated { action, note };
    let refused = |error: OperatedRefused| error.to_string();
    let mut preview = fold.preview(stamp, &operated).map_err(refused)?;
    let payers = fold.payers_concerned(&operated);
    for payer in &payers {
        let Some(fold) = fold_of(payer) else {
            continue;
        };
        let theirs = fold.preview_for_payer(stamp, payer, &operated);
        let theirs = theirs.map_err(refused)?;
        preview.booked.extend(theirs.booked);
        preview.open.extend(theirs.open);
    }
    Ok(Prepared {
        preview: shown(&preview),
        concerned: payers
            .into_iter()
            .chain(operated.tenant().cloned())
            .collect(),
        operated,
    })
}

fn corrected(catalog: &Catalog, row: RowRequest) -> Result<CorrectedRow, String> {
    let meter = catalog
        .meter(&row.meter)
        .ok_or_else(|| format!("the catalog does not declare meter `{}`", row.meter))?;
    let quantity = meter
        .read_signed(&row.quantity)
        .map_err(|error| error.to_string())?;
    Ok(CorrectedRow {
        meter: row.meter,
        dimensions: row.dimensions,
        aggregation: meter.aggregation,
        scale: meter.billed_scale(),
        at: crate::time::parse_instant(&row.at)?,
        quantity,
        release: row.release,
    })
}

/// The version that `text` names.
fn version(fold: &TenantFold, text: &str) -> Result<Digest, String> {
    let digits = text.to_lowercase();
    let matching: Vec<Digest> = fold
        .catalog_digests()
        .filter(|digest| digest.is_named_by(&digits))
        .collect();
    match matching[..] {
        [digest] => Ok(digest),
        _ => Err(format!(
            "`{}` names no version that was in force (expected its digest, or at least its first {} digits)",
            text.chars().take(64).collect::<String>(),
            Digest::DIGITS_MIN
        )),
    }
}

fn shown(preview: &Preview) -> Value {
    let booked: Vec<Value> = preview.booked.iter().map(entry).collect();
    let open: Vec<Value> = preview.open.iter().map(change).collect();
    json!({ "booked": booked, "open": open, "totals": preview.totals() })
}

fn entry(entry: &LedgerEntry) -> Value {
    let posting = &entry.posting;
    json!({
        "kind": posting.kind,
        "tenant": posting.tenant,
        "start": posting.start.to_string(),
        "end": posting.end.to_string(),
        "line": posting.line,
        "meter": posting.meter,
        "quantity": posting.quantity.display(posting.scale).to_string(),
        "amount": posting.amount,
        "currency": posting.currency,
        "arithmetic": posting.arithmetic,
        "refers_to": posting.refers_to.map(|at| at.to_string()),
    })
}

fn change(change: &OpenChange) -> Value {
    let text = |quantity: Quantity| quantity.display(change.scale).to_string();
    json!({
        "start": change.start.to_string(),
        "end": change.end.to_string(),
        "line": change.line,
        "meter": change.meter,
        "quantity": { "now": text(change.quantity.0), "then": text(change.quantity.1) },
        "amount": { "now": change.amount.0, "then": change.amount.1 },
        "currency": change.currency,
    })
}
