//! Pieces of a spool as lines for people and as JSON.

use serde_json::{Value, json};
use tollgate_agent_core::spool::inspect::{Piece, Place};
use tollgate_common::Batch;

use crate::output::line;

/// What `list` says of a piece.
pub(super) fn summary(place: &Place) -> Value {
    let mut value = match &place.piece {
        Piece::Batch { record, batch } => json!({
            "kind": "batch", "agent": batch.agent, "incarnation": batch.incarnation,
            "sequence": batch.sequence, "from": batch.span.from, "to": batch.span.to,
            "rows": batch.rows.len(), "totals": batch.totals.len(), "losses": batch.losses.len(),
            "opening": batch.opening.is_some(), "final": batch.is_final, "bytes": record.len(),
        }),
        Piece::Tombstone(tombstone) => json!({
            "kind": "tombstone", "agent": tombstone.agent, "incarnation": tombstone.incarnation,
            "sequence": tombstone.sequence, "reason": tombstone.reason,
        }),
        Piece::Anchor {
            agent,
            incarnation,
            sequence,
            hash,
        } => json!({
            "kind": "anchor", "agent": agent, "incarnation": incarnation, "sequence": sequence,
            "hash": hash,
        }),
        Piece::Gap {
            agent,
            incarnation,
            from,
            to,
        } => json!({
            "kind": "gap", "agent": agent, "incarnation": incarnation,
            "first": from, "last": to,
        }),
        Piece::Damage { reason, next } => json!({
            "kind": "damage", "reason": reason, "next": next.to_string(),
        }),
        Piece::Foreign { bytes } => json!({ "kind": "foreign", "bytes": bytes }),
    };
    value["position"] = place.position.to_string().into();
    value
}

/// The same, with all of a batch.
pub(super) fn whole(place: &Place) -> Value {
    let mut value = summary(place);
    if let Piece::Batch { batch, .. } = &place.piece {
        value["hash"] = json!(batch.hash());
        value["batch"] = json!(batch);
    }
    value
}

pub(super) fn heading() -> bool {
    line(format_args!(
        "{:<12} {:<10} {:<8} {:>10} {:>8} {:>10}  what",
        "position", "kind", "life", "sequence", "rows", "bytes"
    ))
}

/// A line of `list`.
pub(super) fn row(place: &Place) -> bool {
    let write = |kind: &str, life: &str, sequence: &str, rows: usize, bytes: usize, what: &str| {
        line(format_args!(
            "{:<12} {kind:<10} {:<8} {sequence:>10} {rows:>8} {bytes:>10}  {what}",
            place.position.to_string(),
            life.get(..8).unwrap_or(life)
        ))
    };
    match &place.piece {
        Piece::Batch { record, batch } => {
            let end = match (batch.opening.is_some(), batch.is_final) {
                (true, true) => ", first and final",
                (true, false) => ", first",
                (false, true) => ", final",
                (false, false) => "",
            };
            let what = format!("{} to {}{end}", batch.span.from, batch.span.to);
            let sequence = batch.sequence.to_string();
            let life = batch.incarnation.to_string();
            write(
                "batch",
                &life,
                &sequence,
                batch.rows.len(),
                record.len(),
                &what,
            )
        }
        Piece::Tombstone(tombstone) => {
            let life = tombstone.incarnation.to_string();
            let sequence = tombstone.sequence.to_string();
            write(
                "tombstone",
                &life,
                &sequence,
                0,
                0,
                tombstone.reason.as_str(),
            )
        }
        Piece::Anchor {
            incarnation,
            sequence,
            ..
        } => {
            let what = "everything up to here was let go by the collector";
            let life = incarnation.to_string();
            write("anchor", &life, &sequence.to_string(), 0, 0, what)
        }
        Piece::Gap {
            incarnation,
            from,
            to,
            ..
        } => {
            let what = "missing; a tombstone goes out for each";
            let life = incarnation.to_string();
            write("gap", &life, &format!("{from}-{to}"), 0, 0, what)
        }
        Piece::Damage { reason, next } => {
            let what = format!("{reason}; goes on at {next}");
            write("damage", "", "", 0, 0, &what)
        }
        Piece::Foreign { bytes } => write(
            "foreign",
            "",
            "",
            0,
            *bytes,
            "this version cannot decode it",
        ),
    }
}

/// What `inspect` says for people.
pub(super) fn detail(place: &Place) -> bool {
    match &place.piece {
        Piece::Batch { batch, .. } => batch_detail(place, batch),
        _ => row(place),
    }
}

fn batch_detail(place: &Place, batch: &Batch) -> bool {
    let head = line(format_args!(
        "batch {} of {} ({})\n  position: {}\n  hash: {}\n  parent: {}\n  span: {} to {}\n  \
         watermark: {}\n  final: {}",
        batch.sequence,
        batch.incarnation,
        batch.agent,
        place.position,
        batch.hash(),
        batch.parent_hash,
        batch.span.from,
        batch.span.to,
        batch.watermark,
        batch.is_final
    ));
    let opening = batch.opening.is_none_or(|opening| match opening.parent {
        None => line("  opening: the first life"),
        Some(parent) => line(format_args!(
            "  opening: follows {} up to {} ({})",
            parent.incarnation,
            parent.last_sequence,
            json!(parent.end)
        )),
    });
    let losses = batch
        .losses
        .iter()
        .all(|loss| line(format_args!("  loss: {}", json!(loss))));
    let totals = batch.totals.iter().all(|total| {
        line(format_args!(
            "  total: {}/{} {} (scale {})",
            total.tenant,
            total.meter,
            total.quantity,
            total.scale.get()
        ))
    });
    let rows = batch.rows.iter().all(|row| {
        line(format_args!(
            "  row: {} {} {} (scale {}), {} events, {}",
            row.series,
            row.aggregation.as_str(),
            row.value,
            row.scale.get(),
            row.events,
            row.window.start()
        ))
    });
    head && opening && losses && totals && rows
}
