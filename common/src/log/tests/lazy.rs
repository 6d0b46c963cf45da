//! Handing over without a sync: what a kill keeps, what a crash may take, what no room does.

use std::io;

use super::super::*;
use super::{Log, config, record, records};
use crate::storage::memory::MemoryStorage;

fn settings() -> LogConfig {
    config(4096, 1 << 20)
}

/// What the log may hold after an accident.
#[derive(Default)]
struct Model {
    /// What it held at the last sync, and after each change since; the last is the present one.
    states: Vec<Vec<Vec<u8>>>,
    /// What the change that is under way may leave.
    under_way: Vec<Vec<Vec<u8>>>,
    count: u64,
    /// Operations that ended well.
    done: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            states: vec![Vec::new()],
            ..Self::default()
        }
    }

    fn present(&self) -> &Vec<Vec<u8>> {
        self.states.last().expect("never empty")
    }

    /// Every record is another one, of another length.
    fn record(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut bytes = record(self.count);
        let more = self.count * 211 % 1500;
        bytes.resize(bytes.len() + usize::try_from(more).expect("small"), 0x5A);
        bytes
    }

    fn settle(&mut self, synced: bool) {
        if let Some(state) = self.under_way.pop() {
            if synced {
                self.states.clear();
            }
            self.states.push(state);
        }
        self.under_way.clear();
        self.done += 1;
    }
}

fn work(storage: &MemoryStorage, model: &mut Model) -> Result<(), Box<dyn std::error::Error>> {
    let (mut log, report) = SegmentLog::open(storage.clone(), settings())?;
    assert_eq!(report.damage, [], "an accident is not damage");
    let found = records_of(&log)?;
    check(&found, model);
    model.states = vec![found];
    for step in 0..24_u64 {
        match step % 8 {
            3 => {
                model.under_way = vec![model.present().clone()];
                log.sync()?;
                model.settle(true);
            }
            6 => {
                let base = model.states[0].clone();
                let short = b"what is left".to_vec();
                let mut next = base.clone();
                next.push(short.clone());
                model.under_way = vec![base, next];
                if log.replace_unsynced(&short)?.is_some() {
                    model.settle(false);
                } else {
                    model.under_way.clear();
                }
            }
            _ => {
                let bytes = model.record();
                let mut next = model.present().clone();
                next.push(bytes.clone());
                model.under_way = vec![next];
                // A new segment syncs what is before it.
                let start = log.segments();
                log.append(&bytes)?;
                if log.segments() > start {
                    let present = model.present().clone();
                    model.states = vec![present];
                }
                log.hand_over()?;
                model.settle(false);
            }
        }
        assert_eq!(&records_of(&log)?, model.present(), "readable at once");
    }
    Ok(())
}

fn records_of(log: &Log) -> Result<Vec<Vec<u8>>, ReadError> {
    let items = log.read(LogPosition::ZERO, usize::MAX)?;
    let records = items.into_iter().map(|item| match item {
        LogItem::Record { bytes, .. } => bytes,
        LogItem::Damaged { reason, .. } => panic!("damaged: {reason}"),
    });
    Ok(records.collect())
}

fn check(found: &Vec<Vec<u8>>, model: &Model) {
    assert!(
        model.states.contains(found) || model.under_way.contains(found),
        "{} records are no state since the last sync",
        found.len()
    );
}

/// After a kill nothing that was handed over may be missing.
fn check_killed(found: &Vec<Vec<u8>>, model: &Model) {
    assert!(found == model.present() || model.under_way.contains(found));
}

#[derive(Clone, Copy, Debug)]
enum Accident {
    Crash,
    Kill,
}

/// True if the accident happened.
fn run(seed: u64, number: u64, accident: Accident) -> bool {
    let storage = MemoryStorage::new(seed);
    let mut model = Model::new();
    storage.stop_at(number);
    let happened = work(&storage, &mut model).is_err();
    match accident {
        Accident::Crash => storage.crash(),
        Accident::Kill => {
            storage.kill();
            let (log, _) = SegmentLog::inspect(storage.clone()).expect("inspects");
            check_killed(&records_of(&log).expect("reads"), &model);
        }
    }
    let (log, report) = SegmentLog::open(storage.clone(), settings()).expect("opens");
    assert_eq!(report.damage, [], "an accident is not damage");
    let found = records_of(&log).expect("reads");
    match accident {
        Accident::Crash => check(&found, &model),
        Accident::Kill => check_killed(&found, &model),
    }
    drop(log);
    // What is seen after a restart is durable.
    storage.crash();
    let (log, _) = SegmentLog::open(storage.clone(), settings()).expect("opens");
    assert_eq!(records_of(&log).expect("reads"), found);
    drop(log);
    // Work goes on, and a second accident finds the log as sound.
    let mut next = Model::new();
    next.states = vec![found];
    storage.stop_at(number % 37 + 3);
    let _ = work(&storage, &mut next);
    storage.crash();
    let (log, report) = SegmentLog::open(storage, settings()).expect("opens");
    assert_eq!(report.damage, []);
    check(&records_of(&log).expect("reads"), &next);
    happened
}

fn sweep(accident: Accident, seeds: u64) {
    for number in 1.. {
        let mut any = false;
        for seed in 0..seeds {
            let result = std::panic::catch_unwind(|| run(seed * 1000 + number, number, accident));
            let Ok(happened) = result else {
                panic!("seed {}, {accident:?} at {number}", seed * 1000 + number);
            };
            any |= happened;
        }
        if !any {
            assert!(number > 60, "the sweep covers the work: {number}");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_operation_loses_nothing_that_was_handed_over() {
    sweep(Accident::Kill, 10);
}

#[test]
fn a_crash_at_any_operation_leaves_some_state_since_the_last_sync() {
    sweep(Accident::Crash, 40);
}

/// The crash sweep must be able to fail: without syncs, older states come back.
#[test]
fn a_lying_disk_is_caught() {
    let caught = (0..200).any(|seed| {
        let storage = MemoryStorage::new(seed);
        storage.set_ignore_sync(true);
        std::panic::catch_unwind(|| {
            let mut model = Model::new();
            storage.stop_at(60 + seed % 60);
            let _ = work(&storage, &mut model);
            storage.crash();
            let (log, report) = SegmentLog::open(storage.clone(), settings()).expect("opens");
            assert_eq!(report.damage_count, 0);
            check(&records_of(&log).expect("reads"), &model);
        })
        .is_err()
    });
    assert!(caught);
}

#[test]
fn handed_over_records_can_be_read_and_cost_no_sync() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(1 << 20, 1 << 24)).expect("opens");
    log.append(&record(0)).expect("appends");
    log.sync().expect("syncs");
    let (syncs, durable) = (storage.stats().syncs, log.committed_end());
    for number in 1..100 {
        log.append(&record(number)).expect("appends");
        log.hand_over().expect("hands over");
    }
    assert_eq!(storage.stats().syncs, syncs);
    assert_eq!(log.committed_end(), durable);
    assert_eq!(records(&log).len(), 100);
    assert!(log.unsynced_bytes() > 99 * 40 && log.readable_end() > durable);
    let end = log.sync().expect("syncs");
    assert_eq!(storage.stats().syncs, syncs + 1);
    assert_eq!((log.unsynced_bytes(), log.readable_end()), (0, end));
    // A reader that only trusts syncs sees no more than that, an inspection everything.
    log.append(&record(100)).expect("appends");
    log.hand_over().expect("hands over");
    let (reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
    assert_eq!(records(&reader).len(), 100);
    let (inspected, report) = SegmentLog::inspect(storage).expect("opens");
    assert_eq!((records(&inspected).len(), report.cut_bytes), (101, 0));
}

#[test]
fn what_nobody_needs_is_replaced_before_it_is_written() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(1 << 20, 1 << 24)).expect("opens");
    log.append(b"kept").expect("appends");
    log.sync().expect("syncs");
    assert_eq!(log.replace_unsynced(b"x").expect("nothing to do"), None);
    let mut most = 0;
    for round in 0..50 {
        log.append(&vec![7; 10_000]).expect("appends");
        log.hand_over().expect("hands over");
        most = most.max(storage.used());
        assert!(
            log.replace_unsynced(b"the rest")
                .expect("replaces")
                .is_some()
        );
        assert_eq!(
            records(&log),
            [b"kept".to_vec(), b"the rest".to_vec()],
            "{round}"
        );
        // It is there already.
        assert_eq!(log.replace_unsynced(b"the rest").expect("as it is"), None);
    }
    assert!(most < 12_000, "{most}");
    assert!(log.unsynced_bytes() < 200 && storage.used() < 500);
    storage.kill();
    let (log, report) = SegmentLog::open(storage, settings()).expect("opens");
    assert_eq!(records(&log).len(), 2);
    assert_eq!((report.cut_bytes, report.damage_count), (0, 0));
}

/// The medium is full at every operation in turn: nothing is poisoned, nothing is lost, and with
/// room again the log goes on.
#[test]
fn no_room_at_any_operation_takes_the_group_back_and_poisons_nothing() {
    let (mut refused, mut poisoned) = (0, 0);
    for number in 1..400 {
        let storage = MemoryStorage::new(number);
        let (mut log, _) = SegmentLog::open(storage.clone(), settings()).expect("opens");
        let mut expected = Vec::new();
        storage.fail_at(number, io::ErrorKind::StorageFull, false);
        for count in 0..60_u64 {
            let mut bytes = record(count);
            bytes.resize(bytes.len() + 150, 1);
            let result = match log.append(&bytes) {
                Ok(_) if count % 3 == 0 => log.sync().map(drop),
                Ok(_) => log.hand_over().map(drop),
                Err(AppendError::NoSpace(error)) => Err(SyncError::NoSpace(error)),
                Err(AppendError::Io(error)) => Err(SyncError::Io(error)),
                Err(other) => panic!("{other}"),
            };
            match result {
                Ok(()) => expected.push(bytes),
                Err(SyncError::NoSpace(_)) => refused += 1,
                // A sync that fails, or a cut that is not proven.
                Err(_) => break,
            }
        }
        storage.heal();
        assert_eq!(records(&log), expected, "refused at operation {number}");
        poisoned += u32::from(log.is_poisoned());
        drop(log);
        storage.kill();
        let (log, report) = SegmentLog::open(storage, settings()).expect("opens");
        let found = records(&log);
        assert!(found.len() >= expected.len() && found[..expected.len()] == expected);
        assert_eq!(report.damage_count, 0);
    }
    assert!(refused > 50, "{refused}");
    assert!(
        poisoned < 120,
        "only syncs of a file or directory poison: {poisoned}"
    );
}

/// A medium that stays full for a while, as another tenant of the file system does it.
#[test]
fn a_full_medium_is_survived_and_left_behind() {
    let mut refused = 0;
    for seed in 0..40 {
        let storage = MemoryStorage::new(seed);
        let (mut log, _) = SegmentLog::open(storage.clone(), config(4096, 1 << 24)).expect("opens");
        let mut expected = Vec::new();
        for count in 0..300_u64 {
            let full = count % 50 > 30;
            storage.set_capacity(full.then(|| storage.used() + seed * 17 % 300));
            let bytes = record(count);
            let appended = log.append(&bytes);
            let done = match &appended {
                Ok(_) if count % 2 == 0 => log.sync().map(drop),
                Ok(_) => log.hand_over().map(drop),
                Err(AppendError::NoSpace(_)) => Err(SyncError::NoSpace(io::Error::other(""))),
                Err(other) => panic!("{other}"),
            };
            match done {
                Ok(()) => expected.push(bytes),
                Err(SyncError::NoSpace(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            assert_eq!(log.bytes(), storage.used(), "no torn end is left");
        }
        assert!(!log.is_poisoned());
        assert_eq!(records(&log), expected);
        log.sync().expect("syncs");
        storage.crash();
        let (log, report) = SegmentLog::open(storage, settings()).expect("opens");
        assert_eq!((records(&log), report.damage_count), (expected, 0));
    }
    assert!(refused > 2000, "{refused}");
}
