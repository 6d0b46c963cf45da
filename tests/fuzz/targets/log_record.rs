//! The bytes of a segment, and a log that opens what a machine left behind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_common::log::{LogConfig, LogItem, SegmentLog, fuzz_segment};
use tollgate_common::storage::memory::MemoryStorage;

const SEGMENT: &str = "00000000000000000001.seg";

fuzz_target!(|data: &[u8]| {
    fuzz_segment(data);
    // Opening repairs what is there; then the log must take records and keep them.
    let storage = MemoryStorage::new(1);
    storage.set_contents(SEGMENT, data);
    let config = LogConfig {
        segment_bytes: 4096,
        bytes_max: 1 << 20,
    };
    let Ok((mut log, _)) = SegmentLog::open(storage.clone(), config) else {
        return;
    };
    log.append(b"after the damage")
        .expect("a disk without faults");
    log.sync().expect("a disk without faults");
    drop(log);
    storage.crash();
    let (log, _) = SegmentLog::open(storage, config).expect("what was opened opens again");
    let items = log
        .read(log.start(), usize::MAX)
        .expect("a disk without faults");
    let last = items.last();
    let kept = matches!(last, Some(LogItem::Record { bytes, .. }) if bytes == b"after the damage");
    assert!(kept, "a synced record is gone: {last:?}");
});
