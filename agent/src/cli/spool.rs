//! `spool list | inspect | verify | repair | export`: the spool on disk, without an agent.

mod args;
mod repair;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tollgate_agent_core::config::Spool as SpoolBounds;
use tollgate_agent_core::spool::inspect::{Inspection, Piece, Place, Pricing};
use tollgate_common::storage::file::DirStorage;
use tollgate_common::{BatchHash, Incarnation};

use super::{EXIT_CONFIG, EXIT_FAILURE, EXIT_OK};
use crate::load;
use crate::output::{chain, complain, json, line};
use crate::state_dir::SPOOL;
pub(super) use args::SpoolCommand;
use args::{ExportArgs, InspectArgs, SpoolArgs};

pub(super) fn spool(command: SpoolCommand) -> u8 {
    let result = match command {
        SpoolCommand::List(args) => list(&args),
        SpoolCommand::Inspect(args) => inspect(&args),
        SpoolCommand::Verify(args) => verify(&args),
        SpoolCommand::Repair(args) => repair::repair(&args),
        SpoolCommand::Export(args) => export(&args),
    };
    result.unwrap_or_else(|code| code)
}

/// Where the state is, and the bounds of the spool where a configuration tells.
struct Target {
    state_dir: PathBuf,
    bounds: Option<SpoolBounds>,
}

impl Target {
    /// From the command line, else from the configuration. With a directory given, no
    /// configuration is needed: it may lie on another host.
    fn of(args: &SpoolArgs) -> Result<Self, u8> {
        let overrides = args.config.overrides();
        let given = args.config.state_dir.clone();
        match (load::load(&args.config.config, &overrides), given) {
            (Ok(config), _) => Ok(Self {
                state_dir: config.state_dir,
                bounds: Some(config.spool),
            }),
            (Err(_), Some(state_dir)) => Ok(Self {
                state_dir,
                bounds: None,
            }),
            (Err(error), None) => {
                complain(error.report());
                complain("(--state-dir DIR needs no configuration)");
                Err(EXIT_CONFIG)
            }
        }
    }

    fn spool(&self) -> PathBuf {
        self.state_dir.join(SPOOL)
    }
}

fn failed(path: &Path, error: &dyn std::error::Error) -> u8 {
    complain(format_args!(
        "Error: spool {}: {}",
        path.display(),
        chain(error)
    ));
    EXIT_FAILURE
}

fn open(args: &SpoolArgs) -> Result<(PathBuf, Inspection<DirStorage>), u8> {
    let path = Target::of(args)?.spool();
    let storage = DirStorage::open(&path).map_err(|error| failed(&path, &error))?;
    let inspection = Inspection::open(storage).map_err(|error| failed(&path, &error))?;
    Ok((path, inspection))
}

fn list(args: &SpoolArgs) -> Result<u8, u8> {
    let (path, inspection) = open(args)?;
    if !args.json && !show::heading() {
        return Ok(EXIT_OK);
    }
    let mut count = 0_u64;
    for place in inspection.places() {
        let place = place.map_err(|error| failed(&path, &error))?;
        count += 1;
        let read_on = if args.json {
            json(&show::summary(&place))
        } else {
            show::row(&place)
        };
        if !read_on {
            return Ok(EXIT_OK);
        }
    }
    if !args.json {
        line(format_args!(
            "{count} places, {} bytes in {} segments",
            inspection.bytes(),
            inspection.report().segments
        ));
    }
    Ok(EXIT_OK)
}

fn inspect(args: &InspectArgs) -> Result<u8, u8> {
    let (path, inspection) = open(&args.spool)?;
    let wanted = |incarnation: Incarnation, from: u64, to: u64| {
        let prefix = args.incarnation.as_deref().unwrap_or("");
        incarnation.to_string().starts_with(prefix)
            && args
                .sequence
                .is_none_or(|sequence| (from..=to).contains(&sequence))
    };
    let mut found = false;
    for place in inspection.places() {
        let place = place.map_err(|error| failed(&path, &error))?;
        let Some((incarnation, from, to)) = range(&place.piece) else {
            continue;
        };
        if !wanted(incarnation, from, to) {
            continue;
        }
        found = true;
        let read_on = if args.spool.json {
            json(&show::whole(&place))
        } else {
            show::detail(&place)
        };
        if !read_on {
            return Ok(EXIT_OK);
        }
    }
    if !found {
        complain("Error: nothing in the spool has this number and incarnation (see `spool list`)");
        return Ok(EXIT_FAILURE);
    }
    Ok(EXIT_OK)
}

/// The life and the numbers that a piece stands for.
fn range(piece: &Piece) -> Option<(Incarnation, u64, u64)> {
    match piece {
        Piece::Batch { batch, .. } => {
            let sequence = batch.sequence.get();
            Some((batch.incarnation, sequence, sequence))
        }
        Piece::Tombstone(tombstone) => {
            let sequence = tombstone.sequence.get();
            Some((tombstone.incarnation, sequence, sequence))
        }
        Piece::Anchor {
            incarnation,
            sequence,
            ..
        } => Some((*incarnation, *sequence, *sequence)),
        Piece::Gap {
            incarnation,
            from,
            to,
            ..
        } => Some((*incarnation, *from, *to)),
        Piece::Damage { .. } | Piece::Foreign { .. } => None,
    }
}

/// What is wrong with a spool.
#[derive(Default)]
struct Verdict {
    batches: u64,
    tombstones: u64,
    problems: u64,
    hashes: BTreeMap<Incarnation, (u64, BatchHash)>,
    pricing: Pricing,
}

impl Verdict {
    fn problem(&mut self, place: &Place, what: &str, as_json: bool) {
        self.problems += 1;
        if as_json {
            let mut value = show::summary(place);
            value["problem"] = what.into();
            json(&value);
        } else {
            line(format_args!("{}: {what}", place.position));
        }
    }

    fn take(&mut self, place: &Place, as_json: bool) {
        match &place.piece {
            Piece::Batch { batch, .. } => {
                self.batches += 1;
                if let Err(error) = batch.validate() {
                    self.problem(place, &format!("breaks a rule: {error}"), as_json);
                }
                let sequence = batch.sequence.get();
                let before = self.hashes.get(&batch.incarnation);
                if let Some((number, hash)) = before
                    && number.checked_add(1) == Some(sequence)
                    && *hash != batch.parent_hash
                {
                    let what = format!("batch {sequence} does not follow the batch before it");
                    self.problem(place, &what, as_json);
                }
                self.hashes
                    .insert(batch.incarnation, (sequence, batch.hash()));
                self.pricing.follow(batch);
            }
            Piece::Anchor {
                incarnation,
                sequence,
                hash,
                ..
            } => {
                self.hashes.insert(*incarnation, (*sequence, *hash));
            }
            Piece::Tombstone(_) => self.tombstones += 1,
            Piece::Gap {
                incarnation,
                from,
                to,
                ..
            } => {
                let what = format!("batches {from} to {to} of {incarnation} are missing");
                self.problem(place, &what, as_json);
            }
            Piece::Damage { reason, .. } => self.problem(place, &reason.to_string(), as_json),
            Piece::Foreign { bytes } => {
                let what =
                    format!("a whole record of {bytes} bytes that this version cannot decode");
                self.problem(place, &what, as_json);
            }
        }
    }
}

fn verify(args: &SpoolArgs) -> Result<u8, u8> {
    let (path, inspection) = open(args)?;
    let mut verdict = Verdict::default();
    for place in inspection.places() {
        let place = place.map_err(|error| failed(&path, &error))?;
        verdict.take(&place, args.json);
    }
    let report = inspection.report();
    let harmless = report
        .damage
        .iter()
        .filter(|damage| !damage.reason.loses_records())
        .count();
    let (batches, tombstones, problems) = (verdict.batches, verdict.tombstones, verdict.problems);
    let missing = verdict.pricing.missing();
    if args.json {
        json(&json!({
            "spool": path, "ok": problems == 0, "batches": batches, "tombstones": tombstones,
            "problems": problems, "harmless_damage": harmless, "torn_bytes": report.cut_bytes,
            "missing": missing,
        }));
    } else {
        for missing in &missing {
            line(format_args!(
                "missing in {}: {} of {}/{} (scale {})",
                missing.incarnation,
                missing.quantity,
                missing.tenant,
                missing.meter,
                missing.scale.get()
            ));
        }
        let verdict = if problems == 0 { "whole" } else { "damaged" };
        line(format_args!(
            "{}: {verdict}; {batches} batches, {tombstones} tombstones, {problems} problems, \
             {harmless} damaged marks without a loss, {} bytes of an unfinished write",
            path.display(),
            report.cut_bytes
        ));
    }
    Ok(if problems == 0 { EXIT_OK } else { EXIT_FAILURE })
}

fn export(args: &ExportArgs) -> Result<u8, u8> {
    let (path, inspection) = open(&args.spool)?;
    if let Some(folder) = &args.records {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    }
    let mut written = 0_u64;
    for place in inspection.places() {
        let place = place.map_err(|error| failed(&path, &error))?;
        let Some(folder) = &args.records else {
            if matches!(
                place.piece,
                Piece::Batch { .. } | Piece::Tombstone(_) | Piece::Gap { .. }
            ) && !json(&show::whole(&place))
            {
                return Ok(EXIT_OK);
            }
            continue;
        };
        if let Piece::Batch { record, batch } = &place.piece {
            let name = format!("{}-{:020}.record", batch.incarnation, batch.sequence.get());
            let file = folder.join(name);
            std::fs::write(&file, record).map_err(|error| failed(&file, &error))?;
            written += 1;
        }
    }
    if let Some(folder) = &args.records {
        line(format_args!("{written} records in {}", folder.display()));
    }
    Ok(EXIT_OK)
}
