//! Tests of the threads for tenant folds.

use std::sync::Arc;

use tollgate_collector_core::entry::Opened;
use tollgate_collector_core::fold::{RowSet, Rows, partition_of};
use tollgate_common::{
    AgentId, Aggregation, BatchSeq, Dimensions, Incarnation, Lineage, MeterName, Quantity, Rollup,
    Scale, SeriesKey, TenantId, Window, WindowWidth,
};

use super::*;

fn position(number: u64) -> Position {
    Position::from_bytes(u128::from(number).to_be_bytes())
}

/// Inputs of `batches` batches for many tenants, by partition.
fn inputs(partitions: u16, batches: u64) -> Vec<Vec<Placed>> {
    let mut inputs: Vec<Vec<Placed>> = Vec::new();
    inputs.resize_with(usize::from(partitions), Vec::new);
    let opened = Opened {
        lineage: Lineage::from_bytes([1; 16]),
        partitions,
        usage_window_secs: 60,
        settlement_millis: 0,
        future_tolerance_millis: 0,
    };
    let stamp = Timestamp::from_secs(1_000_000);
    for own in &mut inputs {
        own.push((position(1), stamp, TenantInput::Opened(opened.clone())));
    }
    let width = WindowWidth::from_secs(10).expect("divides");
    for number in 1..=batches {
        for tenant in 0..10 {
            let tenant = TenantId::new(&format!("tenant-{tenant}")).expect("valid");
            let partition = partition_of(&tenant, partitions);
            let meter = MeterName::new("requests").expect("valid");
            let series = SeriesKey::new(tenant, meter, Dimensions::none()).expect("short");
            let row = Rollup {
                series: Arc::new(series),
                aggregation: Aggregation::Sum,
                scale: Scale::ZERO,
                window: Window::containing(stamp, width),
                value: Quantity::new(i128::from(number)),
                events: 1,
                detail: tollgate_common::Detail::None,
            };
            let rows = Rows {
                agent: AgentId::new("edge-1").expect("valid"),
                incarnation: Incarnation::from_bytes([2; 16]),
                sequence: BatchSeq::new(number).expect("not zero"),
                rows: RowSet::new([(row, None)]),
            };
            inputs[usize::from(partition)].push((
                position(number + 1),
                stamp,
                TenantInput::Rows(rows),
            ));
        }
    }
    inputs
}

#[test]
fn threads_give_what_one_gives_in_the_same_order() {
    for (partitions, threads) in [(1, 1), (5, 2), (3, 8)] {
        let mut alone: Vec<TenantFold> = (0..partitions).map(TenantFold::new).collect();
        let expected: Vec<Effect> = alone
            .iter_mut()
            .zip(&inputs(partitions, 30))
            .flat_map(|(fold, inputs)| apply_all(fold, inputs))
            .collect();
        assert!(!expected.is_empty());

        let pool = Pool::new(threads).expect("starts");
        let mut folds: Vec<TenantFold> = (0..partitions).map(TenantFold::new).collect();
        let effects = pool
            .apply(&mut folds, inputs(partitions, 30))
            .expect("no panic");
        assert_eq!(
            effects, expected,
            "{partitions} partitions on {threads} threads"
        );
        let bytes =
            |folds: &[TenantFold]| folds.iter().map(TenantFold::to_bytes).collect::<Vec<_>>();
        assert_eq!(bytes(&folds), bytes(&alone));
        // The pool goes on, with fewer inputs than are worth handing over, too.
        pool.apply(&mut folds, Vec::new()).expect("no panic");
        pool.apply(&mut folds, inputs(partitions, 30))
            .expect("no panic");
    }
}
