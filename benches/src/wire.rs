//! `wire`: bytes that a rollup costs on its way to the collector.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use prost::Message as _;
use serde_json::json;
use tollgate_common::wire::{Encoder, Message};
use tollgate_common::{Batch, Timestamp};

use crate::report::{Better, Case, Report};
use crate::workload::Workload;

/// 10,000 rollups of 1,000 series, after one batch that made the series known.
pub(crate) fn run() -> Result<Report> {
    let mut workload = Workload::new(1000, 1);
    let first = workload.batch();
    let steady: Vec<Batch> = (0..10).map(|_| workload.batch()).collect();
    let rollups: usize = steady.iter().map(|batch| batch.rows.len()).sum();

    let mut encoder = Encoder::new(3);
    let (mut opening, mut ours) = (Vec::new(), Vec::new());
    encoder.encode(&Message::Batch(first.clone()), &mut opening)?;
    for batch in &steady {
        encoder.encode(&Message::Batch(batch.clone()), &mut ours)?;
    }
    let mut record = Vec::new();
    tollgate_common::wire::encode_record(&steady[0], &mut record)?;

    let (mut events, mut otlp, mut numbers) = (0, 0, 0);
    for batch in &steady {
        events += zstd::bulk::compress(&cloud_events(batch)?, 3)?.len();
        otlp += zstd::bulk::compress(&otlp_request(batch).encode_to_vec(), 3)?.len();
        numbers += zstd::bulk::compress(&only_numbers(batch), 3)?.len();
    }
    let per = |bytes: usize, rows: usize| precise(bytes) / precise(rows);
    Ok(Report {
        bench: "wire",
        cases: vec![
            Case::new(
                "steady state, 10,000 rollups of 1,000 series",
                per(ours.len(), rollups),
                "By/rollup",
            )
            .target(6.0, Better::Lower)
            .against("JSON CloudEvents + zstd", per(events, rollups))
            .against("OTLP protobuf + zstd", per(otlp, rollups))
            .against(
                "floor: only value and count as varints + zstd",
                per(numbers, rollups),
            ),
            Case::new(
                "first batch of a connection, series included",
                per(opening.len(), first.rows.len()),
                "By/rollup",
            ),
            Case::new(
                "record in the spool, series included",
                per(record.len(), steady[0].rows.len()),
                "By/rollup",
            ),
        ],
    })
}

#[expect(clippy::cast_precision_loss, reason = "sizes here are far below 2^52")]
fn precise(count: usize) -> f64 {
    count as f64
}

/// One CloudEvent (1.0, JSON format, batched mode) for each rollup, as usage-metering APIs take them.
fn cloud_events(batch: &Batch) -> Result<Vec<u8>> {
    let events: Vec<_> = batch
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let mut data: serde_json::Map<_, _> = row
                .series
                .dimensions()
                .iter()
                .map(|(k, v)| (k.to_owned(), json!(v)))
                .collect();
            data.insert("value".to_owned(), json!(row.value.units().to_string()));
            data.insert("count".to_owned(), json!(row.events));
            json!({
                "specversion": "1.0",
                "id": format!("{}-{index}", batch.sequence),
                "source": batch.agent,
                "type": row.series.meter(),
                "subject": row.series.tenant(),
                "time": row.window.start().to_string(),
                "data": data,
            })
        })
        .collect();
    Ok(serde_json::to_vec(&events)?)
}

/// One export request: a delta sum for each meter, a data point for each rollup.
fn otlp_request(batch: &Batch) -> ExportMetricsServiceRequest {
    let nanos = |at: Timestamp| u64::try_from(at.millis()).unwrap_or(0) * 1_000_000;
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    };
    let mut metrics: std::collections::BTreeMap<&str, Vec<NumberDataPoint>> =
        std::collections::BTreeMap::new();
    for row in &batch.rows {
        let mut attributes = vec![text("tenant", row.series.tenant().as_str())];
        attributes.extend(row.series.dimensions().iter().map(|(k, v)| text(k, v)));
        let point = |value: i64, attributes| NumberDataPoint {
            attributes,
            start_time_unix_nano: nanos(row.window.start()),
            time_unix_nano: nanos(row.window.end()),
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        };
        let value = i64::try_from(row.value.units()).unwrap_or(i64::MAX);
        metrics
            .entry(row.series.meter().as_str())
            .or_default()
            .push(point(value, attributes));
    }
    let metrics = metrics
        .into_iter()
        .map(|(name, data_points)| Metric {
            name: name.to_owned(),
            data: Some(metric::Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Delta.into(),
                is_monotonic: true,
            })),
            ..Metric::default()
        })
        .collect();
    let scope = ScopeMetrics {
        metrics,
        ..ScopeMetrics::default()
    };
    let resource = ResourceMetrics {
        scope_metrics: vec![scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![resource],
    }
}

/// The information itself: value and count of each row as LEB128, a column each.
fn only_numbers(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut varint = |mut value: u128| {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).expect("seven bits"));
    };
    batch
        .rows
        .iter()
        .for_each(|row| varint(row.value.units().unsigned_abs()));
    batch
        .rows
        .iter()
        .for_each(|row| varint(u128::from(row.events)));
    out
}
