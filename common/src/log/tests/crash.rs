//! A crash, a kill or an error at every single storage operation.

use std::io;

use super::super::*;
use super::{Log, config, record};
use crate::storage::memory::MemoryStorage;

/// What was appended, in groups, and how much of it must be there.
#[derive(Default)]
struct Model {
    /// Records of all groups that may be there, in order.
    appended: Vec<Vec<u8>>,
    /// The first so many are durable.
    durable: usize,
    /// Lengths at which a group ended: what is there must end at one of these.
    ends: Vec<usize>,
    /// The first so many may have been trimmed.
    trimmed: usize,
    /// Records made so far.
    count: u64,
}

/// Opens, appends in groups, rolls, trims; ends at the first error.
fn work(storage: &MemoryStorage, model: &mut Model) -> Result<(), Box<dyn std::error::Error>> {
    let (mut log, _) = SegmentLog::open(storage.clone(), config(4096, 1 << 20))?;
    check(&records(&log)?, model);
    let mut positions = Vec::new();
    for group in 0..9_u64 {
        for number in 0..=group % 4 {
            // Some records are larger than a sector, some groups larger than a segment.
            // No two are the same.
            let mut bytes = record(group * 10 + number);
            model.count += 1;
            bytes.extend(model.count.to_be_bytes());
            bytes.resize(
                bytes.len() + usize::try_from(group * 97).expect("small"),
                0xAB,
            );
            positions.push(log.append(&bytes)?);
            model.appended.push(bytes);
        }
        model.ends.push(model.appended.len());
        log.sync()?;
        model.durable = model.appended.len();
        if group == 3 {
            log.roll()?;
        }
        if group == 6 {
            let half = positions.len() / 2;
            model.trimmed = model.appended.len() - half;
            log.trim(positions[half])?;
        }
    }
    Ok(())
}

/// All records; the reads can be struck by the accident too.
fn records(log: &Log) -> Result<Vec<Vec<u8>>, ReadError> {
    let items = log.read(LogPosition::ZERO, usize::MAX)?;
    let records = items.into_iter().filter_map(|item| match item {
        LogItem::Record { bytes, .. } => Some(bytes),
        LogItem::Damaged { .. } => None,
    });
    Ok(records.collect())
}

/// Compares a log with the model, and the model with the log: what is there now stays there.
fn check(found: &[Vec<u8>], model: &mut Model) {
    let start = model
        .appended
        .windows(found.len().max(1))
        .position(|window| window == found);
    let start = start.unwrap_or(0);
    let end = start + found.len();
    assert!(
        found.is_empty() || model.appended[start..end] == *found,
        "nothing that was not appended"
    );
    assert!(start <= model.trimmed, "nothing is missing at the start");
    assert!(end >= model.durable, "{end} of {} durable", model.durable);
    assert!(
        end == 0 || model.ends.contains(&end),
        "groups are whole or absent"
    );
    model.appended.truncate(end);
    model.durable = end;
    model.ends.retain(|length| *length <= end);
}

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug)]
enum Accident {
    /// The machine stops in the middle of it.
    Crash,
    /// The process dies in the middle of it, and later the machine stops as well.
    Kill,
    /// It returns an error, once; the process ends, the machine goes on.
    Fail,
    /// The same, and then the machine stops.
    FailAndCrash,
}

/// Two accidents in a row, the second one at every operation of the recovery and after.
fn run(seed: u64, first: (Accident, u64), second: (Accident, u64)) -> (bool, bool) {
    let storage = MemoryStorage::new(seed);
    let mut model = Model::default();
    let mut happened = [false, false];
    for (happened, (accident, number)) in happened.iter_mut().zip([first, second]) {
        match accident {
            Accident::Crash | Accident::Kill => storage.stop_at(number),
            Accident::Fail | Accident::FailAndCrash => {
                storage.fail_at(number, io::ErrorKind::Other, false);
            }
        }
        *happened = work(&storage, &mut model).is_err();
        match accident {
            Accident::Crash | Accident::FailAndCrash => storage.crash(),
            Accident::Kill | Accident::Fail => storage.kill(),
        }
    }
    // What is seen after a restart is durable: a crash must not take it back.
    for _ in 0..2 {
        let (log, report) = SegmentLog::open(storage.clone(), config(4096, 1 << 20))
            .expect("opens after any accident");
        assert_eq!(report.damage, [], "an accident is not damage");
        check(&records(&log).expect("reads"), &mut model);
        drop(log);
        storage.crash();
    }
    (happened[0], happened[1])
}

fn sweep(accidents: &[Accident], seeds: u64) {
    for accident in accidents {
        let mut number = 0;
        loop {
            number += 1;
            let mut any = false;
            for seed in 0..seeds {
                let seed = seed * 1000 + number;
                let case = (*accident, number);
                let result =
                    std::panic::catch_unwind(|| run(seed, case, (Accident::Crash, u64::MAX)));
                let Ok((happened, _)) = result else {
                    panic!("seed {seed}, {case:?}");
                };
                any |= happened;
            }
            if !any {
                assert!(
                    number > 40,
                    "the sweep covers the work: {number} operations"
                );
                break;
            }
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_durable() {
    sweep(&[Accident::Crash], 40);
}

#[test]
fn a_kill_at_any_operation_loses_nothing_durable() {
    sweep(&[Accident::Kill], 10);
}

#[test]
fn an_error_at_any_operation_loses_nothing_durable() {
    sweep(&[Accident::Fail, Accident::FailAndCrash], 20);
}

/// Recovery is interrupted, at each of its operations, after an accident at each operation.
#[test]
fn two_accidents_in_a_row_lose_nothing_durable() {
    let kinds = [
        (Accident::Crash, Accident::Crash),
        (Accident::Kill, Accident::Crash),
        (Accident::Fail, Accident::Crash),
        (Accident::Fail, Accident::FailAndCrash),
        (Accident::FailAndCrash, Accident::Kill),
    ];
    for (index, (first, second)) in kinds.into_iter().enumerate() {
        for one in 1..150 {
            for two in 1..25 {
                let seed = index as u64 * 1_000_000 + one * 1000 + two;
                let cases = ((first, one), (second, two));
                let result = std::panic::catch_unwind(|| run(seed, cases.0, cases.1));
                assert!(result.is_ok(), "seed {seed}, {cases:?}");
            }
        }
    }
}

/// The sweep must be able to fail: disks that lie about syncs are caught.
#[test]
fn a_lying_disk_is_caught() {
    let caught = |lie: fn(&MemoryStorage)| {
        (0..300).any(|seed| {
            let storage = MemoryStorage::new(seed);
            lie(&storage);
            let mut model = Model::default();
            storage.stop_at(20 + seed % 60);
            let _ = work(&storage, &mut model);
            storage.crash();
            let opened = SegmentLog::open(storage.clone(), config(4096, 1 << 20));
            let (log, report) = opened.expect("opens");
            let found = records(&log).expect("reads").len();
            report.damage_count > 0 || found < model.durable.saturating_sub(model.trimmed)
        })
    };
    assert!(caught(|storage| storage.set_ignore_sync(true)));
    assert!(caught(|storage| storage.set_ignore_sync_dir(true)));
    assert!(!caught(|_| {}));
}
