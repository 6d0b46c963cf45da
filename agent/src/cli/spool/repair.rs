//! `spool repair`: a whole copy takes the place of a damaged spool.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use tollgate_agent_core::spool::inspect::{Inspection, Repaired, repair as copy};
use tollgate_agent_core::spool::{SpoolConfig, SyncPolicy};
use tollgate_common::storage::file::DirStorage;

use super::args::RepairArgs;
use super::{EXIT_FAILURE, EXIT_OK, Target, failed};
use crate::output::{chain, complain, json, line};
use crate::state_dir::{SPOOL, StateDir, StateDirError};

/// The copy while it is made. What is left of an earlier one is removed.
const COPY: &str = "spool.repaired";
/// Segments of the copy where no configuration says how large they are.
const SEGMENT_BYTES: u64 = 8 << 20;

pub(super) fn repair(args: &RepairArgs) -> Result<u8, u8> {
    let target = Target::of(&args.spool)?;
    let path = target.spool();
    // Opened first: the lock below would make the directory.
    let storage = DirStorage::open(&path).map_err(|error| failed(&path, &error))?;
    let _lock = StateDir::open(&target.state_dir).map_err(|error| {
        let hint = match error {
            StateDirError::Locked(_) => {
                "\nThe agent must be stopped: it would go on with the spool that it has open."
            }
            _ => "",
        };
        complain(format_args!("Error: {}{hint}", chain(&error)));
        EXIT_FAILURE
    })?;
    let inspection = Inspection::open(storage).map_err(|error| failed(&path, &error))?;
    let config = SpoolConfig {
        segment_bytes: target
            .bounds
            .map_or(SEGMENT_BYTES, |bounds| bounds.segment_bytes),
        // What is there fits already, and every batch has room for its tombstone; a bound that
        // was lowered since must not lose anything.
        bytes_max: u64::MAX,
        free_min: 0,
        sync: SyncPolicy::Always,
    };
    let folder = target.state_dir.join(COPY);
    let failed_copy = |error: io::Error| failed(&folder, &error);
    remove(&folder).map_err(failed_copy)?;
    let storage = DirStorage::open_or_create(&folder).map_err(failed_copy)?;
    let repaired = copy(&inspection, storage, config);
    let repaired = repaired.map_err(|error| {
        // The copy is of no use; the error that matters is told.
        let _ = remove(&folder);
        failed(&path, &error)
    })?;
    let damaged = repaired.places > 0 || repaired.cut_bytes > 0 || !repaired.tombstones.is_empty();
    let kept = if damaged && !args.dry_run {
        Some(exchange(&target.state_dir).map_err(failed_copy)?)
    } else {
        remove(&folder).map_err(failed_copy)?;
        None
    };
    tell(args, &path, &repaired, damaged, kept.as_deref());
    Ok(EXIT_OK)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Puts the copy in the place of the spool, in one step, and gives the damaged one a name that is
/// free; returns that.
fn exchange(state_dir: &Path) -> io::Result<String> {
    let (spool, folder) = (state_dir.join(SPOOL), state_dir.join(COPY));
    renameat_with(CWD, &folder, CWD, &spool, RenameFlags::EXCHANGE)?;
    let parent = File::open(state_dir)?;
    parent.sync_all()?;
    for number in 1..u32::MAX {
        let name = format!("{SPOOL}.damaged-{number}");
        let path = state_dir.join(&name);
        match renameat_with(CWD, &folder, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                parent.sync_all()?;
                return Ok(name);
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("too many damaged spools are kept"))
}

fn tell(args: &RepairArgs, path: &Path, repaired: &Repaired, damaged: bool, kept: Option<&str>) {
    if args.spool.json {
        let tombstones: Vec<_> = repaired
            .tombstones
            .iter()
            .map(|(life, first, last)| json!({ "incarnation": life, "first": first, "last": last }))
            .collect();
        json(&json!({
            "spool": path, "damaged": damaged, "repaired": kept.is_some(), "kept": kept,
            "records": repaired.records, "places": repaired.places,
            "cut_bytes": repaired.cut_bytes, "tombstones": tombstones,
            "missing": repaired.missing,
        }));
        return;
    }
    let would = if args.dry_run { "would be " } else { "" };
    for (life, first, last) in &repaired.tombstones {
        line(format_args!(
            "batches {first} to {last} of {life}: tombstones {would}written"
        ));
    }
    for missing in &repaired.missing {
        line(format_args!(
            "missing in {}: {} of {}/{} (scale {})",
            missing.incarnation,
            missing.quantity,
            missing.tenant,
            missing.meter,
            missing.scale.get()
        ));
    }
    if !damaged {
        line(format_args!(
            "{}: whole, nothing to do ({} records)",
            path.display(),
            repaired.records
        ));
        return;
    }
    line(format_args!(
        "{}: {} records {would}taken over, {} damaged places and {} bytes of an unfinished write \
         {would}left out",
        path.display(),
        repaired.records,
        repaired.places,
        repaired.cut_bytes
    ));
    if let Some(kept) = kept {
        line(format_args!("the damaged spool is kept as {kept}"));
    }
}
