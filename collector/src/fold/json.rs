//! Live figures as JSON for output: readable times.

use serde_json::{Value, json};
use tollgate_collector_core::fold::tenant::PeriodStanding;
use tollgate_common::TenantId;

/// Most periods of one answer, so that it fits a line of the admin socket.
const STANDINGS_MAX: usize = 1000;

/// Tenants that are named of many.
const NAMES_MAX: usize = 5;

fn names(tenants: &[TenantId]) -> Vec<String> {
    let named = tenants.iter().take(NAMES_MAX).map(ToString::to_string);
    let more = tenants.len().saturating_sub(NAMES_MAX);
    let more = (more > 0).then(|| format!("{more} more"));
    named.chain(more).collect()
}

/// What periods wait for.
pub(super) fn standings(standings: impl Iterator<Item = PeriodStanding>) -> Value {
    let mut periods = Vec::new();
    let mut left_out = 0;
    for standing in standings {
        if periods.len() == STANDINGS_MAX {
            left_out += 1;
            continue;
        }
        let missing: Vec<Value> = standing
            .missing
            .iter()
            .map(|missing| {
                json!({
                    "agent": missing.agent,
                    "since": missing.since.map(|since| since.to_string()),
                    "for": names(&missing.children),
                })
            })
            .collect();
        periods.push(json!({
            "tenant": standing.tenant,
            "period": standing.label,
            "start": standing.start.to_string(),
            "end": standing.end.to_string(),
            "waits_for": standing.waits_for,
            "rounds": standing.rounds,
            "late_since": standing.late_since.map(|since| since.to_string()),
            "settles_at": standing.settles_at.to_string(),
            "agents": standing.agents,
            "pays_for": standing.children.len(),
            "missing": missing,
        }));
    }
    json!({ "periods": periods, "left_out": left_out })
}
