//! Writes the seed corpora: `cargo run --no-default-features --bin seeds` in tests/fuzz.
//!
//! Seeds are what real programs would send, so that the fuzzers start behind the first
//! checks. They are committed; run this again when a format gets a new version.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tollgate_common::limits::SEGMENT_BYTES_MIN;
use tollgate_common::log::{LogConfig, SegmentLog};
use tollgate_common::sketch::{Histogram, UniqueSketch, hash};
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{
    Ack, Encoder, Held, Hello, Message, Refuse, RefuseCode, Resume, Welcome, encode_record,
    encode_tombstone_record,
};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, ClockStep, Detail, Dimensions, Incarnation,
    Lineage, Loss, LossAmount, LossReason, MeterName, Opening, Parent, ParentEnd, Quantity, Rollup,
    Scale, SeriesKey, Span, TenantId, Timestamp, Tombstone, Total, Window, WindowWidth,
};

mod entries;
#[path = "../support/page.rs"]
mod page;
mod pages;
mod texts;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("dogstatsd_line", texts::dogstatsd()),
        ("agent_config", texts::agent_config()),
        ("collector_config", texts::collector_config()),
        ("catalog", texts::catalog()),
        ("frame", frames()),
        ("log_record", segments()),
        ("journal_entry", entries::entries()),
        ("sdk_page", pages::pages()),
        ("page_tally", pages::steps()),
        ("handover", pages::handover()),
        ("dogstatsd_rate", texts::dogstatsd_at_rate()),
        ("spool_record", spools()),
    ] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

/// A named seed.
type Seed = (&'static str, Vec<u8>);

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_780_315_200 + seconds)
}

/// A batch as agents seal them; the first of an incarnation, or a later one.
fn batch(sequence: u64) -> Batch {
    let tenant = TenantId::new("acme").expect("valid");
    let meter = MeterName::new("http.requests").expect("valid");
    let width = WindowWidth::from_secs(10).expect("divides 900");
    let row = |region: &str, units: i128| Rollup {
        series: Arc::new(
            SeriesKey::new(
                tenant.clone(),
                meter.clone(),
                Dimensions::new([("region", region)]).expect("valid"),
            )
            .expect("short"),
        ),
        aggregation: Aggregation::Sum,
        scale: Scale::ZERO,
        window: Window::containing(time(0), width),
        value: Quantity::new(units),
        events: 3,
        detail: tollgate_common::Detail::None,
    };
    let first = sequence == 1;
    let parent = Parent {
        incarnation: Incarnation::from_bytes([1; 16]),
        last_sequence: 7,
        last_hash: BatchHash::from_bytes([2; 32]),
        end: ParentEnd::Unclean {
            reason: LossReason::UncleanBoot,
            from: time(-9),
            to: time(-1),
        },
    };
    Batch {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([3; 16]),
        sequence: BatchSeq::new(sequence).expect("not zero"),
        parent_hash: if first {
            BatchHash::ZERO
        } else {
            BatchHash::from_bytes([4; 32])
        },
        span: Span {
            from: time(0),
            to: time(10),
        },
        watermark: time(10),
        opening: first.then_some(Opening {
            parent: Some(parent),
        }),
        is_final: !first,
        rows: vec![row("eu", 5), row("us", 1 << 40)],
        totals: vec![Total {
            tenant,
            meter,
            scale: Scale::ZERO,
            quantity: Quantity::new(99),
        }],
        losses: vec![Loss {
            reason: LossReason::SpoolFull,
            tenant: None,
            meter: None,
            amount: LossAmount::Unknown,
            from: time(0),
            to: time(5),
        }],
        steps: Vec::new(),
    }
}

/// A batch that needs version 2: details and a clock step.
fn batch_v2() -> Batch {
    let mut batch = batch(2);
    let mut histogram = Histogram::new();
    let mut few = UniqueSketch::new();
    let mut many = UniqueSketch::new();
    for value in 0..300_u64 {
        histogram.record(value * value, 1).expect("few values");
        many.insert(hash(&value.to_le_bytes()));
        if value < 5 {
            few.insert(hash(&value.to_le_bytes()));
        }
    }
    let details = [
        (Aggregation::Max, Detail::None),
        (Aggregation::Unique, Detail::Unique(Arc::new(few))),
        (Aggregation::Unique, Detail::Unique(Arc::new(many))),
        (
            Aggregation::Distribution,
            Detail::Distribution(Arc::new(histogram)),
        ),
        (Aggregation::TimeWeighted, Detail::None),
    ];
    let last = batch.rows[1].clone();
    for (index, (aggregation, detail)) in (1_i64..).zip(details) {
        let width = last.window.width();
        batch.rows.push(Rollup {
            aggregation,
            detail,
            window: Window::containing(time(10 * index), width),
            ..last.clone()
        });
    }
    batch.steps.push(ClockStep {
        at: time(3),
        by_millis: -2500,
    });
    batch
}

fn tombstone() -> Tombstone {
    Tombstone {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([3; 16]),
        sequence: BatchSeq::new(2).expect("not zero"),
        reason: LossReason::SpoolDamaged,
        remembered: None,
    }
}

fn messages() -> Vec<Message> {
    let incarnation = Incarnation::from_bytes([3; 16]);
    let held = Held {
        incarnation,
        first: BatchSeq::FIRST,
        first_parent: BatchHash::ZERO,
        last: BatchSeq::new(3).expect("not zero"),
        last_hash: BatchHash::from_bytes([5; 32]),
    };
    let resume = Resume {
        incarnation,
        durable: 2,
        durable_hash: BatchHash::from_bytes([6; 32]),
        releasable: 1,
    };
    vec![
        Message::Hello(Hello {
            version_min: 1,
            version_max: 1,
            agent: AgentId::new("edge-1").expect("valid"),
            now: time(0),
            held: vec![held],
        }),
        Message::Welcome(Welcome {
            version: 1,
            lineage: Lineage::from_bytes([7; 16]),
            now: time(0),
            resume: vec![resume],
            window_batches: 32,
            window_bytes: 1 << 20,
        }),
        Message::Batch(batch(1)),
        Message::Batch(batch_v2()),
        Message::Batch(batch(2)),
        Message::Tombstone(tombstone()),
        Message::Ack(Ack {
            incarnation,
            durable: 3,
            releasable: 3,
        }),
        Message::Refuse(Refuse {
            code: RefuseCode::Overloaded,
            reason: "no room".to_owned(),
        }),
    ]
}

fn frames() -> Vec<Seed> {
    let mut seeds = Vec::new();
    // Mode 0 of the target: the bytes of a connection as they are.
    let mut stream = vec![0];
    let mut encoder = Encoder::new(1);
    for message in &messages() {
        encoder
            .encode(message, &mut stream)
            .expect("a valid message");
    }
    seeds.push(("stream", stream));
    // Mode 1: kind, flags, length and payload, to which the target adds header and checksum.
    let mut repaired = vec![1];
    for message in &messages() {
        let mut frame = Vec::new();
        Encoder::new(0)
            .encode(message, &mut frame)
            .expect("a valid message");
        let payload = &frame[16..];
        let length = u16::try_from(payload.len()).expect("small").to_le_bytes();
        // The version lies above the kind.
        let kind = frame[9] | (frame[8] - 1) << 3;
        repaired.extend_from_slice(&[kind, frame[10], length[0], length[1]]);
        repaired.extend_from_slice(payload);
    }
    seeds.push(("repaired", repaired));
    let mut record = vec![3];
    encode_record(&batch(1), &mut record).expect("a valid batch");
    seeds.push(("record", record));
    let mut record = vec![3];
    encode_record(&batch_v2(), &mut record).expect("a valid batch");
    seeds.push(("record_v2", record));
    seeds
}

/// Records of a spool behind their lengths: batches in order, with a gap and with a tombstone in
/// it, an anchor, and something else.
fn spools() -> Vec<Seed> {
    let list = |records: &[Vec<u8>]| {
        let mut bytes = Vec::new();
        for record in records {
            let length = u16::try_from(record.len()).expect("small");
            bytes.extend(length.to_le_bytes());
            bytes.extend(record);
        }
        bytes
    };
    let record = |batch: &Batch| {
        let mut record = Vec::new();
        encode_record(batch, &mut record).expect("a valid batch");
        record
    };
    let mut lost = Vec::new();
    encode_tombstone_record(&tombstone(), &mut lost).expect("a valid tombstone");
    // As `spool::anchor` says.
    let mut anchor = b"TGANCHOR\x01\x00".to_vec();
    anchor.extend([3; 16]);
    anchor.extend(7_u64.to_le_bytes());
    anchor.extend([5; 32]);
    anchor.extend(time(10).millis().to_le_bytes());
    anchor.extend(b"edge-1");
    let (first, second) = (record(&batch(1)), record(&batch_v2()));
    vec![
        ("batches", list(&[first.clone(), second.clone()])),
        ("gap", list(&[first.clone(), record(&batch(9))])),
        ("tombstone", list(&[first.clone(), lost, record(&batch(3))])),
        ("anchor", list(&[anchor, record(&batch(8))])),
        ("foreign", list(&[first, b"TGOTHER1".to_vec(), second])),
    ]
}

/// Segments as a log leaves them, whole and torn.
fn segments() -> Vec<Seed> {
    let storage = MemoryStorage::new(1);
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        bytes_max: 1 << 20,
    };
    let (mut log, _) = SegmentLog::open(storage.clone(), config).expect("an empty disk");
    for group in 0..3u8 {
        for length in [1, 40, 300] {
            log.append(&vec![group; length]).expect("room");
        }
        log.sync().expect("a disk without faults");
    }
    log.append(b"not synced").expect("room");
    drop(log);
    let name = storage.names().into_iter().next().expect("one segment");
    let whole = storage.contents(&name).expect("it is there");
    let torn = whole[..whole.len() - 7].to_vec();
    let mut damaged = whole.clone();
    damaged[120] ^= 0x40;
    vec![("whole", whole), ("torn", torn), ("damaged", damaged)]
}
