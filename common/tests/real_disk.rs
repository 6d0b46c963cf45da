//! The log on real file systems: what reaches the disk, and what happens when it is full.
//!
//! The kernel counts what a process writes as a whole: the other test here writes to memory only.
#![cfg(feature = "io")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use tollgate_common::log::{AppendError, LogConfig, LogItem, SegmentLog, SyncError};
use tollgate_common::storage::file::DirStorage;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 8 << 20,
    bytes_max: 1 << 30,
};
const ROUNDS: usize = 200;
const RECORD_BYTES: usize = 64 << 10;

fn open(folder: &Path) -> SegmentLog<DirStorage> {
    let storage = DirStorage::open(folder).expect("opens");
    SegmentLog::open(storage, CONFIG).expect("opens").0
}

fn records(log: &SegmentLog<DirStorage>) -> Vec<Vec<u8>> {
    let items = log.read(log.start(), usize::MAX).expect("reads");
    let records = items.into_iter().map(|item| match item {
        LogItem::Record { bytes, .. } => bytes,
        LogItem::Damaged { reason, .. } => panic!("damaged: {reason}"),
    });
    records.collect()
}

/// Bytes that this process has caused to be written to disks, less what was dropped before.
fn written() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<i64>().ok()
    };
    Some(value("write_bytes:")? - value("cancelled_write_bytes:")?)
}

fn measure(work: impl FnOnce()) -> Option<i64> {
    let before = written()?;
    work();
    Some(written()? - before)
}

#[test]
fn what_is_released_before_its_sync_never_reaches_the_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let record = |round: usize| vec![u8::try_from(round % 251).expect("small"); RECORD_BYTES];
    let mut log = open(folder.path());
    log.append(b"first").expect("appends");
    log.sync().expect("syncs");
    let lazy = measure(|| {
        for round in 0..ROUNDS {
            log.append(&record(round)).expect("appends");
            log.hand_over().expect("hands over");
            assert!(log.replace_unsynced(b"anchor").expect("replaces").is_some());
        }
        log.sync().expect("syncs");
    });
    let always = measure(|| {
        for round in 0..ROUNDS {
            log.append(&record(round)).expect("appends");
            log.sync().expect("syncs");
        }
    });
    let sum = i64::try_from(ROUNDS * RECORD_BYTES).expect("small");
    match (lazy, always) {
        (Some(lazy), Some(always)) if always >= sum / 2 => {
            eprintln!("written: {always} bytes with every sync, {lazy} bytes without");
            assert!(lazy * 20 < always, "{lazy} of {always}");
        }
        told => {
            eprintln!("skipped: the kernel does not count writes to this file system: {told:?}");
        }
    }
    assert_eq!(records(&log).len(), ROUNDS + 2);
}

/// A small file system in memory, gone with its guard.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path());
        mount
            .output()
            .ok()?
            .status
            .success()
            .then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_file_system_without_room_poisons_nothing() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: no right to mount a small tmpfs");
        return;
    };
    let folder = small.0.path();
    let mut log = open(folder);
    let record = vec![3; 3000];
    let (mut count, mut refused) = (0, 0);
    for round in 0..200 {
        let appended = match log.append(&record) {
            Ok(_) if round % 2 == 0 => log.sync().map(drop),
            Ok(_) => log.hand_over().map(drop),
            Err(AppendError::NoSpace(error)) => Err(SyncError::NoSpace(error)),
            Err(error) => panic!("{error}"),
        };
        match appended {
            Ok(()) => count += 1,
            Err(SyncError::NoSpace(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        count > 40 && refused > 50 && !log.is_poisoned(),
        "{count}, {refused}"
    );
    assert_eq!(records(&log).len(), count);
    // It opens full as it is, and goes on when others make room.
    drop(log);
    let mut log = open(folder);
    assert_eq!(records(&log).len(), count);
    enlarge(folder);
    log.append(&record).expect("room");
    log.sync().expect("syncs");
    assert_eq!(records(&log).len(), count + 1);
}

/// Makes the file system larger.
fn enlarge(folder: &Path) {
    let mut mount = Command::new("mount");
    mount.args(["-o", "remount,size=1m"]).arg(folder);
    let done = mount.output().is_ok_and(|output| output.status.success());
    assert!(done, "remounts");
}
