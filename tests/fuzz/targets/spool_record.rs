//! The records of a spool: batches, tombstones and anchors, and an agent that starts with them.
//!
//! The input is a list of records, each behind its length. They are whole on the disk (what a
//! damaged disk does is `log_record`'s), and hold anything.

#![no_main]

#[path = "../support/agent.rs"]
mod agent;

use libfuzzer_sys::fuzz_target;
use tollgate_agent_core::spool::inspect::{Inspection, Piece, RepairError, repair};
use tollgate_agent_core::spool::{SpoolConfig, SyncPolicy};
use tollgate_common::Timestamp;
use tollgate_common::log::{LogConfig, SegmentLog};
use tollgate_common::storage::memory::MemoryStorage;

/// More missing batches than this are not written as tombstones here.
const GAP_MAX: u64 = 1000;

fn store(data: &[u8]) -> Option<MemoryStorage> {
    let storage = MemoryStorage::new(1);
    let config = LogConfig {
        segment_bytes: 4096,
        bytes_max: 1 << 20,
    };
    let (mut log, _) = SegmentLog::open(storage.clone(), config).expect("an empty disk");
    let mut rest = data;
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(more.len());
        let (record, more) = more.split_at(length);
        log.append(record).ok()?;
        rest = more;
    }
    log.sync().expect("a disk without faults");
    Some(storage)
}

fuzz_target!(|data: &[u8]| {
    let Some(storage) = store(data) else { return };
    let inspection = Inspection::open(storage.clone()).expect("a disk without faults");
    let (mut whole, mut missing) = (true, 0_u64);
    for place in inspection.places() {
        match place.expect("a disk without faults").piece {
            Piece::Gap { from, to, .. } => {
                missing = missing.saturating_add(to.saturating_sub(from).saturating_add(1));
            }
            Piece::Foreign { .. } => whole = false,
            Piece::Damage { reason, .. } => panic!("{reason}"),
            Piece::Batch { .. } | Piece::Tombstone(_) | Piece::Anchor { .. } => {}
        }
    }
    if missing <= GAP_MAX {
        let target = MemoryStorage::new(2);
        let config = SpoolConfig {
            segment_bytes: 4096,
            bytes_max: u64::MAX,
            free_min: 0,
            sync: SyncPolicy::Always,
        };
        match repair(&inspection, target.clone(), config) {
            Ok(_) => {
                assert!(whole);
                let copy = Inspection::open(target).expect("a disk without faults");
                let again = copy.places().all(|place| {
                    let piece = place.expect("a disk without faults").piece;
                    !matches!(piece, Piece::Gap { .. } | Piece::Foreign { .. })
                });
                assert!(again, "a repaired spool is whole");
            }
            Err(RepairError::Foreign(_)) => assert!(!whole),
            Err(error) => panic!("{error}"),
        }
    }
    // An agent that finds such a spool starts, or says why not, and ships what it can.
    let now = Timestamp::from_secs(1_780_315_203);
    let mut home = agent::Home::default();
    if let Ok(mut engine) = agent::start(&mut home, &storage, now, 1) {
        let _ = agent::drain(&mut engine, now, 64);
    }
});
