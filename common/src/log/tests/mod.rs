//! What the log promises.

mod basic;
mod crash;
mod damage;
mod golden;
mod lazy;
mod reader;

use super::{LogConfig, LogItem, OpenReport, SegmentLog};
use crate::storage::memory::MemoryStorage;

type Log = SegmentLog<MemoryStorage>;

fn config(segment_bytes: u64, bytes_max: u64) -> LogConfig {
    LogConfig {
        segment_bytes,
        bytes_max,
    }
}

fn open(storage: &MemoryStorage) -> (Log, OpenReport) {
    SegmentLog::open(storage.clone(), config(4096, 1 << 30)).expect("opens")
}

/// Everything from the start, in small pieces.
fn items(log: &Log) -> Vec<LogItem> {
    let (mut all, mut from) = (Vec::new(), log.start());
    loop {
        let batch = log.read(from, 1000).expect("reads");
        let Some(last) = batch.last() else {
            return all;
        };
        assert!(last.next() > from, "reading goes on");
        from = last.next();
        all.extend(batch);
    }
}

/// The records among the items.
fn records(log: &Log) -> Vec<Vec<u8>> {
    let records = items(log).into_iter().filter_map(|item| match item {
        LogItem::Record { bytes, .. } => Some(bytes),
        LogItem::Damaged { .. } => None,
    });
    records.collect()
}

/// A record that tells its number and differs in length from its neighbours.
fn record(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 37 % 101 + 8).expect("small");
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length, u8::try_from(number % 251).expect("small"));
    bytes
}

fn name(number: u64) -> String {
    format!("{number:020}.seg")
}
