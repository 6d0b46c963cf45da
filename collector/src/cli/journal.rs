//! `journal inspect` and `journal restored`.

use serde::Serialize;
use serde_json::{Value, json};
use tollgate_collector_core::entry::{Entry, Stamped, codec};
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::journal::{Journal, JournalItem};
use tollgate_collector_core::position::Position;

use super::args::OutputArgs;
use super::output::{Output, table};
use super::{Exit, Failure, load};
use crate::run::{DataDir, RunError, mark_restored};

/// Bytes read from the journal at a time.
const READ_BYTES: usize = 4 << 20;

/// An entry as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    position: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    stamp: Option<String>,
    kind: &'static str,
    bytes: usize,
    detail: Value,
}

pub(super) fn inspect(
    args: &OutputArgs,
    after: Option<&str>,
    limit: usize,
    rows: bool,
) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let parse = |text: &str| {
        text.parse::<Position>()
            .map_err(|error| Failure::new(Exit::Usage, error))
    };
    let mut after = after.map(parse).transpose()?;
    let journal = DataDir::new(&config.data_dir)
        .read_journal()
        .map_err(Failure::failed)?;
    let mut shown: Vec<Shown> = Vec::new();
    while shown.len() < limit {
        let items = journal
            .read(PARTITION, after, READ_BYTES)
            .map_err(Failure::failed)?;
        if items.is_empty() {
            break;
        }
        for item in items.into_iter().take(limit - shown.len()) {
            let entry = show(&item, rows);
            after = Some(entry.position);
            shown.push(entry);
        }
    }
    Output::new(args.json).print(&shown, |out| {
        let rows: Vec<_> = shown
            .iter()
            .map(|entry| {
                let stamp = entry.stamp.clone().unwrap_or_else(|| "-".to_owned());
                let (kind, bytes) = (entry.kind.to_owned(), entry.bytes.to_string());
                vec![
                    entry.position.to_string(),
                    stamp,
                    kind,
                    bytes,
                    entry.detail.to_string(),
                ]
            })
            .collect();
        table(
            out,
            &["POSITION", "STAMP", "KIND", "BYTES", "DETAIL"],
            &rows,
        )
    })?;
    Ok(Exit::Done)
}

pub(super) fn restored(args: &OutputArgs, author: String, reason: String) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let marked = mark_restored(&config, author, reason).map_err(|error| match error {
        RunError::Journal(_) => Failure::new(Exit::Journal, error),
        error => Failure::failed(error),
    })?;
    Output::new(args.json).print(&marked, |out| {
        writeln!(
            out,
            "journal up to {} ({}) marked as restored",
            marked.backup, marked.upto
        )?;
        writeln!(out, "lineage {} -> {}", marked.previous, marked.lineage)?;
        writeln!(
            out,
            "snapshots and projection are discarded; the next start builds them anew"
        )
    })?;
    Ok(Exit::Done)
}

fn show(item: &JournalItem, rows: bool) -> Shown {
    let (position, bytes) = match item {
        JournalItem::Damaged { position, reason } => {
            let detail = json!({ "reason": reason });
            return Shown {
                position: *position,
                stamp: None,
                kind: "damaged",
                bytes: 0,
                detail,
            };
        }
        JournalItem::Entry { position, bytes } => (*position, bytes),
    };
    match codec::decode(bytes) {
        Ok(Stamped { stamp, entry }) => {
            let (kind, detail) = describe(&entry, rows);
            Shown {
                position,
                stamp: Some(stamp.to_string()),
                kind,
                bytes: bytes.len(),
                detail,
            }
        }
        Err(error) => {
            let detail = json!({ "reason": error.to_string() });
            Shown {
                position,
                stamp: None,
                kind: "undecodable",
                bytes: bytes.len(),
                detail,
            }
        }
    }
}

fn describe(entry: &Entry, rows: bool) -> (&'static str, Value) {
    match entry {
        Entry::Opened(opened) => ("opened", json!(opened)),
        Entry::Batch(received) => {
            let batch = &received.batch;
            let refused = (0..batch.rows.len())
                .filter(|index| received.verdicts.of(*index).is_some())
                .count();
            let detail = if rows {
                json!({ "batch": batch, "refused": refused, "policy": received.policy })
            } else {
                json!({
                    "agent": batch.agent,
                    "incarnation": batch.incarnation,
                    "sequence": batch.sequence,
                    "watermark": batch.watermark.to_string(),
                    "rows": batch.rows.len(),
                    "refused": refused,
                    "losses": batch.losses.len(),
                    "final": batch.is_final,
                })
            };
            ("batch", detail)
        }
        Entry::Tombstone(tombstone) => ("tombstone", json!(tombstone)),
        Entry::Missing(missing) => ("missing", json!(missing)),
        Entry::Policy(policy) => ("policy", json!({ "digest": policy.digest })),
        Entry::Catalog(catalog) => {
            let mut shown = json!(catalog);
            shown["files"] = catalog.files.keys().cloned().collect();
            ("catalog", shown)
        }
        Entry::Close(closing) => ("close", json!(closing)),
        Entry::Clock => ("clock", json!({})),
        Entry::Lost(lost) => ("lost", json!(lost)),
        Entry::Restored(restored) => ("restored", json!(restored)),
        Entry::Interim(interim) => ("interim", json!(interim)),
        Entry::Manual(manual) => ("manual", json!(manual)),
        Entry::Issue(issue) => ("issue", json!(issue)),
        Entry::Operated(operated) => ("operated", json!(operated)),
    }
}
