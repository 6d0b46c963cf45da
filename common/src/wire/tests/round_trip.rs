//! What is encoded is what is decoded, for any valid message.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::sample::{bare, detail_of, messages, remembering, series, window};
use crate::limits::{REFUSE_REASON_BYTES_MAX, TOMBSTONE_TOTALS_MAX};
use crate::wire::{
    Decoder, Encoder, Message, RecordDecoder, RecordEncoder, Refuse, RefuseCode, decode_record,
    encode_record, encode_tombstone_record,
};
use crate::{
    Aggregation, Batch, ClockStep, Incarnation, Loss, LossAmount, LossReason, MeterName, Opening,
    Parent, ParentEnd, Quantity, Rollup, Scale, SeriesKey, Span, TenantId, Timestamp, Tombstone,
    Total,
};

fn keys() -> impl Strategy<Value = Arc<SeriesKey>> {
    let tenant = prop::sample::select(vec!["acme", "acme2", "b", "_unattributed"]);
    let meter = prop::sample::select(vec!["http.requests", "m", "net.bytes"]);
    let dims = vec(("[a-c]{1,2}", "[a-zé ]{0,3}"), 0..3);
    (tenant, meter, dims).prop_map(|(tenant, meter, dims)| {
        let dims: BTreeMap<_, _> = dims.into_iter().collect();
        let dims: Vec<_> = dims.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        series(tenant, meter, &dims)
    })
}

fn units() -> impl Strategy<Value = i128> {
    prop_oneof![
        4 => 0i128..2000,
        2 => any::<i64>().prop_map(i128::from),
        1 => any::<i128>(),
        1 => Just(i128::MAX),
    ]
    .prop_map(|units| units.max(-i128::MAX))
}

type RowKey = (Arc<SeriesKey>, Aggregation, Scale, i64);

fn row_key() -> impl Strategy<Value = RowKey> {
    let aggregation = prop::sample::select(Aggregation::ALL.to_vec());
    let scale = (0u8..=2).prop_map(|places| Scale::new(places).expect("in range"));
    (keys(), aggregation, scale, 0i64..4)
}

fn rows() -> impl Strategy<Value = Vec<Rollup>> {
    let values = (units(), any::<u64>(), any::<bool>(), any::<u64>());
    btree_map(row_key(), values, 0..30).prop_map(|rows| {
        rows.into_iter()
            .map(
                |((series, aggregation, scale, start), (units, events, equal, seed))| {
                    let value = if aggregation.adds_up() {
                        units.saturating_abs()
                    } else {
                        units
                    };
                    Rollup {
                        series,
                        aggregation,
                        scale,
                        window: window(start * 10),
                        value: Quantity::new(value),
                        events: u64::try_from(value)
                            .ok()
                            .filter(|_| equal)
                            .unwrap_or(events),
                        detail: detail_of(aggregation, seed),
                    }
                },
            )
            .collect()
    })
}

fn times() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn reasons() -> impl Strategy<Value = LossReason> {
    (1u8..=13).prop_map(|code| LossReason::from_code(code).expect("in range"))
}

fn losses() -> impl Strategy<Value = Loss> {
    let amount = prop_oneof![
        units().prop_map(|units| LossAmount::Exact(Quantity::new(units))),
        units().prop_map(|units| LossAmount::AtMost(Quantity::new(units))),
        Just(LossAmount::Unknown),
    ];
    (
        reasons(),
        prop::option::of(keys()),
        any::<bool>(),
        amount,
        times(),
        times(),
    )
        .prop_map(|(reason, key, has_meter, amount, from, to)| Loss {
            reason,
            tenant: key.as_ref().map(|key| key.tenant().clone()),
            meter: key.filter(|_| has_meter).map(|key| key.meter().clone()),
            amount,
            from,
            to,
        })
}

fn openings() -> impl Strategy<Value = Opening> {
    let end = prop_oneof![
        Just(ParentEnd::Final),
        (reasons(), times(), times()).prop_map(|(reason, from, to)| ParentEnd::Unclean {
            reason,
            from,
            to
        }),
    ];
    prop::option::of((any::<[u8; 16]>(), any::<u64>(), any::<[u8; 32]>(), end)).prop_map(|parent| {
        Opening {
            parent: parent.map(|(incarnation, last_sequence, last_hash, end)| Parent {
                incarnation: Incarnation::from_bytes(incarnation),
                last_sequence,
                last_hash: crate::BatchHash::from_bytes(last_hash),
                end,
            }),
        }
    })
}

type TotalKey = (TenantId, MeterName, Scale);

/// Totals that are what the rows suggest (but for the quantity), or anything.
fn totals(rows: Vec<Rollup>) -> impl Strategy<Value = (Vec<Rollup>, Vec<Total>)> {
    let of_rows: BTreeMap<TotalKey, i128> = rows
        .iter()
        .filter(|row| row.aggregation == Aggregation::Sum)
        .map(|row| {
            let key = (
                row.series.tenant().clone(),
                row.series.meter().clone(),
                row.scale,
            );
            (key, row.value.units())
        })
        .collect();
    let anything = btree_map(row_key(), units(), 0..5).prop_map(|totals| {
        totals
            .into_iter()
            .map(|((key, _, scale, _), units)| {
                ((key.tenant().clone(), key.meter().clone(), scale), units)
            })
            .collect()
    });
    prop_oneof![Just(of_rows), anything].prop_map(move |totals| {
        let totals = totals
            .into_iter()
            .map(|((tenant, meter, scale), units)| Total {
                tenant,
                meter,
                scale,
                quantity: Quantity::new(units),
            })
            .collect();
        (rows.clone(), totals)
    })
}

pub(super) fn batches() -> impl Strategy<Value = Batch> {
    let fields = (1u64..4, 0u8..2, any::<bool>(), openings());
    let steps = (times(), any::<i64>()).prop_map(|(at, by_millis)| ClockStep { at, by_millis });
    (
        fields,
        (times(), times(), times()),
        rows().prop_flat_map(totals),
        vec(losses(), 0..3),
        prop_oneof![Just(Vec::new()), vec(steps, 0..4)],
    )
        .prop_map(
            |(
                (sequence, incarnation, is_final, opening),
                (from, to, watermark),
                lists,
                losses,
                steps,
            )| {
                Batch {
                    incarnation: Incarnation::from_bytes([incarnation; 16]),
                    opening: (sequence == 1).then_some(opening),
                    is_final,
                    span: Span {
                        from: from.min(to),
                        to: from.max(to),
                    },
                    watermark,
                    rows: lists.0,
                    totals: lists.1,
                    losses,
                    steps,
                    ..bare(sequence)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn batches_survive_a_session_in_pieces_of_any_size(
        batches in vec(batches(), 1..6),
        level in 0i32..=3,
        piece in 1usize..3000,
    ) {
        let mut encoder = Encoder::new(level);
        let mut stream = Vec::new();
        for batch in &batches {
            prop_assert_eq!(batch.validate(), Ok(()));
            encoder.encode_batch(batch, &mut stream).expect("encodes");
        }
        let mut decoder = Decoder::new();
        let mut decoded = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.push(piece);
            while let Some(message) = decoder.next().expect("valid") {
                decoded.push(message);
            }
        }
        let sent: Vec<_> = batches.into_iter().map(Message::Batch).collect();
        prop_assert_eq!(decoded, sent);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn records_stand_on_their_own(batches in vec(batches(), 1..4)) {
        let (mut encoder, mut decoder) = (RecordEncoder::new(), RecordDecoder::with_cache(3));
        for batch in batches {
            let (mut record, mut alone) = (Vec::new(), Vec::new());
            encoder.batch(&batch, &mut record).expect("encodes");
            encode_record(&batch, &mut alone).expect("encodes");
            prop_assert_eq!(&record, &alone);
            let hash = batch.hash();
            let message = Message::Batch(batch);
            prop_assert_eq!(decode_record(&record), Ok(message.clone()));
            let decoded = decoder.decode(&record).expect("valid");
            prop_assert_eq!(&decoded, &message);
            if let Message::Batch(decoded) = decoded {
                prop_assert_eq!(decoded.hash(), hash);
            }
        }
    }
}

#[test]
fn every_kind_of_message_survives() {
    for level in 0..=3 {
        let mut encoder = Encoder::new(level);
        let mut decoder = Decoder::new();
        for message in messages() {
            let mut frame = Vec::new();
            encoder.encode(&message, &mut frame).expect("encodes");
            decoder.push(&frame);
            assert_eq!(decoder.next(), Ok(Some(message)));
            assert_eq!(decoder.next(), Ok(None));
        }
    }
}

#[test]
fn tombstones_are_records() {
    for message in messages() {
        if let Message::Tombstone(tombstone) = &message {
            let mut record = Vec::new();
            encode_tombstone_record(tombstone, &mut record).expect("encodes");
            assert_eq!(decode_record(&record), Ok(message));
        }
    }
}

#[test]
fn what_is_remembered_of_a_lost_batch_survives_where_it_is_understood() {
    let tombstone = remembering();
    let mut record = Vec::new();
    encode_tombstone_record(&tombstone, &mut record).expect("encodes");
    assert_eq!(
        decode_record(&record),
        Ok(Message::Tombstone(tombstone.clone()))
    );
    // A collector of version 1 gets what it understands.
    let mut encoder = Encoder::new(1);
    encoder.set_version(1);
    let mut frame = Vec::new();
    let message = Message::Tombstone(tombstone.clone());
    encoder.encode(&message, &mut frame).expect("encodes");
    assert_eq!(frame[8], 1);
    let plain = Tombstone {
        remembered: None,
        ..tombstone
    };
    assert_eq!(decode_record(&frame), Ok(Message::Tombstone(plain)));
}

#[test]
fn what_is_remembered_is_in_order_and_bounded() {
    let refused = |change: fn(&mut Vec<Total>)| {
        let mut tombstone = remembering();
        let remembered = tombstone.remembered.as_mut().expect("remembers");
        change(&mut remembered.totals);
        let mut record = Vec::new();
        encode_tombstone_record(&tombstone, &mut record).is_err() && record.is_empty()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|totals| totals.swap(0, 1)));
    assert!(refused(|totals| totals.push(totals[2].clone())));
    assert!(refused(|totals| {
        *totals = vec![totals[0].clone(); TOMBSTONE_TOTALS_MAX + 1];
    }));
}

#[test]
fn long_reasons_are_cut_at_a_character() {
    let refuse = Message::Refuse(Refuse {
        code: RefuseCode::Internal,
        reason: "é".repeat(REFUSE_REASON_BYTES_MAX),
    });
    let mut frame = Vec::new();
    Encoder::new(1)
        .encode(&refuse, &mut frame)
        .expect("encodes");
    let mut decoder = Decoder::new();
    decoder.push(&frame);
    let Ok(Some(Message::Refuse(refuse))) = decoder.next() else {
        panic!("a refusal was sent");
    };
    assert_eq!(refuse.reason, "é".repeat(REFUSE_REASON_BYTES_MAX / 2));
}
