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

/// Puts the copy in the place of the spool, in one step; returns where the damaged one is.
fn exchange(state_dir: &Path) -> io::Result<String> {
    let name = put_aside(state_dir)?;
    let (spool, copy) = (state_dir.join(SPOOL), state_dir.join(&name));
    renameat_with(CWD, &copy, CWD, &spool, RenameFlags::EXCHANGE)?;
    File::open(state_dir)?.sync_all()?;
    Ok(name)
}

/// Gives the whole copy a free name among those that are kept, which the damaged spool has after
/// the exchange. So there is no moment in which the damaged one has a name that is removed; who
/// is killed before the exchange leaves a copy that nobody needs.
fn put_aside(state_dir: &Path) -> io::Result<String> {
    let copy = state_dir.join(COPY);
    for number in 1..u32::MAX {
        let name = format!("{SPOOL}.damaged-{number}");
        let path = state_dir.join(&name);
        match renameat_with(CWD, &copy, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                File::open(state_dir)?.sync_all()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a state directory with what their one file holds.
    fn spools(state_dir: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(state_dir).expect("there");
        let mut spools: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("readable").path();
                let name = path.file_name().expect("named").to_string_lossy();
                let content = fs::read_to_string(path.join("segment")).expect("one file");
                (name.into_owned(), content)
            })
            .collect();
        spools.sort();
        spools
    }

    fn put(state_dir: &Path, name: &str, content: &str) {
        fs::create_dir(state_dir.join(name)).expect("new");
        fs::write(state_dir.join(name).join("segment"), content).expect("written");
    }

    #[test]
    fn a_repair_that_is_killed_between_its_renames_keeps_what_is_damaged() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path();
        put(state_dir, SPOOL, "damaged");
        put(state_dir, COPY, "whole");
        // Killed before the exchange.
        assert_eq!(put_aside(state_dir).expect("free"), "spool.damaged-1");
        let pair = |name: &str, content: &str| (name.to_owned(), content.to_owned());
        let expected = [pair(SPOOL, "damaged"), pair("spool.damaged-1", "whole")];
        assert_eq!(spools(state_dir), expected);
        // The next repair begins as every repair does.
        remove(&state_dir.join(COPY)).expect("nothing is there");
        put(state_dir, COPY, "whole again");
        assert_eq!(exchange(state_dir).expect("done"), "spool.damaged-2");
        let expected = [
            pair(SPOOL, "whole again"),
            pair("spool.damaged-1", "whole"),
            pair("spool.damaged-2", "damaged"),
        ];
        assert_eq!(spools(state_dir), expected);
    }
}
