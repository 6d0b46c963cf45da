use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tollgate_common::{
    AgentId, BatchSeq, Incarnation, Lineage, LossReason, TenantId, Timestamp, Tombstone,
};

use super::*;
use crate::entry::{
    CatalogChange, CloseCause, Closing, FOLD_VERSION, Interim, InterimCause, LostEntry, Missing,
    PolicyChange, PublicKey, Restored, Signature,
};
use crate::fold::intake::test_support::{Sealer, row};
use crate::position::Position;

fn agent() -> AgentId {
    AgentId::new("edge-1").expect("valid")
}

fn batch_entry(verdicts: Verdicts) -> Entry {
    let rows = (0..4)
        .map(|n| row("acme", "http.requests", ["a", "b", "c", "d"][n], 1, 3))
        .collect();
    let batch = Sealer::new(1).seal(rows, false);
    Entry::Batch(Arc::new(ReceivedBatch {
        batch,
        policy: Digest([7; 32]),
        verdicts,
    }))
}

fn entries() -> Vec<Entry> {
    let number = |n| BatchSeq::new(n).expect("from 1");
    vec![
        Entry::Opened(Opened {
            lineage: Lineage::from_bytes([1; 16]),
            partitions: 4,
            usage_window_secs: 60,
            settlement_millis: 1,
            future_tolerance_millis: 2,
        }),
        batch_entry(Verdicts::AllAllowed),
        batch_entry(Verdicts::PerRow(vec![
            None,
            Some(RefusedReason::MeterNotAllowed),
            Some(RefusedReason::MeterNotAllowed),
            Some(RefusedReason::TenantNotAllowed),
        ])),
        Entry::Tombstone(Tombstone {
            agent: agent(),
            incarnation: Incarnation::from_bytes([2; 16]),
            sequence: number(9),
            reason: LossReason::SpoolFull,
            remembered: None,
        }),
        Entry::Missing(Missing {
            agent: agent(),
            incarnation: Incarnation::from_bytes([2; 16]),
            from: number(1),
            to: number(5),
        }),
        Entry::Policy(PolicyChange {
            digest: Digest([3; 32]),
            text: "[]".to_owned(),
        }),
        Entry::Catalog(change()),
        Entry::Catalog(CatalogChange {
            author: Some("jane (uid 0)".to_owned()),
            reason: Some("new prices".to_owned()),
            tenants: Some(BTreeSet::from([TenantId::new("acme").expect("valid")])),
            signatures: vec![Signature {
                key: PublicKey([8; 32]),
                bytes: [9; 64],
            }],
            approves: Some(Position::from_bytes([5; 16])),
            ..change()
        }),
        Entry::Catalog(CatalogChange {
            proposed: true,
            ..change()
        }),
        Entry::Close(Closing {
            tenant: TenantId::new("acme").expect("valid"),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(60),
            round: 1,
            cause: CloseCause::Operator {
                author: "jane".to_owned(),
                reason: "test".to_owned(),
                approved_by: None,
            },
            catalog: Digest([4; 32]),
            zone_data: "2025b".to_owned(),
            fold_version: FOLD_VERSION,
            agents: BTreeMap::from([(agent(), Timestamp::from_secs(3))]),
            missing: vec![agent()],
        }),
        Entry::Interim(Box::new(Interim {
            tenant: TenantId::new("acme").expect("valid"),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(60),
            part: 2,
            cause: InterimCause::Threshold {
                amount: "50.00".parse().expect("a decimal"),
            },
            fold_version: FOLD_VERSION,
        })),
        Entry::Clock,
        Entry::Lost(LostEntry {
            position: Position::from_bytes([5; 16]),
            author: "jane".to_owned(),
            reason: "no copy".to_owned(),
        }),
        Entry::Restored(restored()),
    ]
}

fn change() -> CatalogChange {
    let files = BTreeMap::from([("meters.toml".to_owned(), "# ü".to_owned())]);
    CatalogChange::plain(Digest([4; 32]), files)
}

/// Nothing of what came later stands in an entry that does not use it, and entries without it
/// are read.
#[test]
fn a_plain_change_of_the_catalog_is_as_it_always_was() {
    let bytes = encode(&Entry::Catalog(change()))
        .expect("encodes")
        .stamped(Timestamp::EPOCH);
    let body = format!(
        r##"{{"digest":"{}","files":{{"meters.toml":"# ü"}}}}"##,
        "04".repeat(32)
    );
    assert_eq!(std::str::from_utf8(&bytes[16..]), Ok(&*body));
    assert_eq!(
        decode(&bytes).expect("decodes").entry,
        Entry::Catalog(change())
    );
}

fn restored() -> Restored {
    Restored {
        lineage: Lineage::from_bytes([6; 16]),
        previous: Lineage::from_bytes([1; 16]),
        author: "jane".to_owned(),
        reason: "the disk died".to_owned(),
    }
}

#[test]
fn every_kind_survives() {
    let (mut encoder, mut decoder) = (EntryEncoder::new(), EntryDecoder::with_cache(1));
    for entry in entries() {
        let stamp = Timestamp::from_millis(1_780_315_200_123);
        let bytes = encoder.encode(&entry).expect("encodes").stamped(stamp);
        assert_eq!(
            decoder.decode(&bytes).expect("decodes"),
            Stamped {
                stamp,
                entry: entry.clone()
            }
        );
        assert_eq!(decode(&bytes).expect("decodes"), Stamped { stamp, entry });
    }
}

#[test]
fn the_header_is_as_documented() {
    let bytes = encode(&Entry::Clock)
        .expect("encodes")
        .stamped(Timestamp::from_millis(0x0102_0304));
    assert_eq!(bytes, b"TJ\x01\x08\0\0\0\0\x04\x03\x02\x01\0\0\0\0");
}

#[test]
fn a_restore_is_as_documented() {
    let bytes = encode(&Entry::Restored(restored()))
        .expect("encodes")
        .stamped(Timestamp::from_millis(0x0102_0304));
    let body = concat!(
        r#"{"lineage":"06060606060606060606060606060606","previous":"01010101010101010101010101010101","#,
        r#""author":"jane","reason":"the disk died"}"#
    );
    let length = u8::try_from(body.len()).expect("short");
    assert_eq!(bytes[..8], [b'T', b'J', 1, 10, length, 0, 0, 0]);
    assert_eq!(bytes[8..16], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(std::str::from_utf8(&bytes[16..]), Ok(body));
}

#[test]
fn what_does_not_fit_is_refused() {
    let wrong = batch_entry(Verdicts::PerRow(vec![None]));
    assert!(matches!(
        encode(&wrong),
        Err(EncodeError::Verdicts {
            verdicts: 1,
            rows: 4
        })
    ));
    let huge = "x".repeat(ENTRY_BYTES_MAX);
    let policy = Entry::Policy(PolicyChange {
        digest: Digest([0; 32]),
        text: huge,
    });
    assert!(matches!(encode(&policy), Err(EncodeError::TooLong(_))));

    let good = encode(&Entry::Clock)
        .expect("encodes")
        .stamped(Timestamp::EPOCH);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(&bytes)
    };
    assert!(matches!(with(0, b'X'), Err(DecodeError::Magic)));
    assert!(matches!(with(2, 9), Err(DecodeError::Version(9))));
    assert!(matches!(with(3, 99), Err(DecodeError::Kind(99))));
    assert!(matches!(
        with(4, 1),
        Err(DecodeError::Length {
            expected: 1,
            found: 0
        })
    ));
    assert!(matches!(with(15, 0xff), Err(DecodeError::Stamp(_))));
    assert!(matches!(decode(b"TJ"), Err(DecodeError::Length { .. })));
    let json = |kind: u8, text: &str| {
        let mut bytes = good.clone();
        bytes[3] = kind;
        bytes[4] = u8::try_from(text.len()).expect("short");
        bytes.extend_from_slice(text.as_bytes());
        decode(&bytes)
    };
    let zero = r#"{"agent":"a","incarnation":"00000000000000000000000000000000","from":0,"to":1}"#;
    assert!(matches!(
        json(KIND_MISSING, zero),
        Err(DecodeError::Range(_))
    ));
    assert!(matches!(
        json(KIND_LOST, &"[".repeat(200)),
        Err(DecodeError::Json(_))
    ));
}

#[test]
fn verdicts_have_one_encoding() {
    let mut bytes = Vec::new();
    encode_runs(
        &[None, None, Some(RefusedReason::MeterNotAllowed)],
        &mut bytes,
    );
    assert_eq!(bytes, [2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    let read = |bytes: &[u8]| Reader { bytes, at: 0 }.runs();
    assert_eq!(read(&bytes).map(|v| v.len()).ok(), Some(3));
    let split = [2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let empty = [1, 0, 0, 0, 0, 0, 0, 0, 0];
    let unknown = [1, 0, 0, 0, 1, 0, 0, 0, 77];
    let endless = [1, 0, 0, 0, 255, 255, 255, 255, 0];
    for bad in [&split[..], &empty, &unknown, &endless, &bytes[..9]] {
        assert!(
            matches!(read(bad), Err(DecodeError::Verdicts(_))),
            "{bad:?}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn mutated_entries_never_panic(
        which in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let entries = entries();
        let entry = which.get(&entries);
        let mut bytes = encode(entry).expect("encodes").stamped(Timestamp::EPOCH);
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Ok(stamped) = decode(&bytes) {
            // Whatever decodes can be written again.
            prop_assert!(encode(&stamped.entry).is_ok());
        }
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&bytes);
    }
}
