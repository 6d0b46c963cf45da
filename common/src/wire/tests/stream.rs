//! Records made row by row are those that are made of a batch.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{RecordStream, TotalRef, decode_record, encode_record};
use super::round_trip::batches;
use crate::batch::{Batch, BatchHash, RowRef, Total};
use crate::meter::Aggregation;
use crate::quantity::Quantity;
use crate::series_ref::SeriesRef;
use crate::wire::Message;

/// The sum of the rows of each tenant, meter and scale.
fn counted(batch: &Batch) -> BTreeMap<Total, i128> {
    let mut counted = BTreeMap::new();
    for row in &batch.rows {
        if row.aggregation == Aggregation::Sum {
            let total = Total {
                tenant: row.series.tenant().clone(),
                meter: row.series.meter().clone(),
                scale: row.scale,
                quantity: Quantity::ZERO,
            };
            let sum: &mut i128 = counted.entry(total).or_default();
            // As the guess does.
            *sum = sum.wrapping_add(row.value.units());
        }
    }
    counted
}

/// The same batch with the total of every tenant and meter that its rows count for.
fn with_all_totals(mut batch: Batch) -> Batch {
    let named =
        |a: &Total, b: &Total| (&a.tenant, &a.meter, a.scale) == (&b.tenant, &b.meter, b.scale);
    for (total, sum) in counted(&batch) {
        if !batch.totals.iter().any(|told| named(told, &total)) {
            let quantity = Quantity::new(sum);
            batch.totals.push(Total { quantity, ..total });
        }
    }
    batch.totals.sort();
    batch
}

fn streamed(stream: &mut RecordStream, batch: &Batch) -> (Vec<u8>, BatchHash) {
    let head = Batch {
        rows: Vec::new(),
        totals: Vec::new(),
        ..batch.clone()
    };
    stream.begin(&head, batch.rows.len()).expect("valid");
    for row in &batch.rows {
        let key = row.series.to_canonical();
        let row = RowRef {
            series: SeriesRef::new(&key),
            aggregation: row.aggregation,
            scale: row.scale,
            window: row.window,
            value: row.value,
            events: row.events,
            detail: &row.detail,
        };
        stream.row(&row).expect("fits");
    }
    let counted = counted(batch);
    let told = |key: &Total| {
        let same = |total: &Total| {
            (&total.tenant, &total.meter, total.scale) == (&key.tenant, &key.meter, key.scale)
        };
        batch.totals.iter().any(same)
    };
    stream.begin_totals(batch.totals.len(), counted.keys().all(told));
    for total in &batch.totals {
        let mut names = Vec::new();
        for name in [total.tenant.as_str(), total.meter.as_str()] {
            names.push(u8::try_from(name.len()).expect("short"));
            names.extend_from_slice(name.as_bytes());
        }
        let key = Total {
            quantity: Quantity::ZERO,
            ..total.clone()
        };
        let total = TotalRef {
            names: SeriesRef::new(&names),
            scale: total.scale,
            quantity: total.quantity,
            counted: counted.get(&key).copied().map(Quantity::new),
        };
        stream.total(&total).expect("fits");
    }
    let mut record = Vec::new();
    let hash = stream.finish(&head, &mut record).expect("fits");
    (record, hash)
}

proptest! {
    #[test]
    fn rows_one_by_one_make_the_same_record(
        batches in proptest::collection::vec((batches(), 0..4usize), 1..4),
    ) {
        let mut stream = RecordStream::new(1);
        for (batch, untold) in batches {
            let mut batch = with_all_totals(batch);
            // An agent without room for a running total does not tell it.
            batch.totals.truncate(batch.totals.len().saturating_sub(untold));
            let (record, hash) = streamed(&mut stream, &batch);
            prop_assert_eq!(hash, batch.hash());
            let mut expected = Vec::new();
            encode_record(&batch, &mut expected).expect("encodes");
            prop_assert_eq!(&record, &expected);
            prop_assert_eq!(decode_record(&record).expect("valid"), Message::Batch(batch));
        }
    }
}
