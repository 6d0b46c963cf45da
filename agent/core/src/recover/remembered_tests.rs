use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tollgate_common::{AgentId, Dimensions, Incarnation, Scale, SeriesKey, Timestamp, WindowWidth};

use super::*;
use crate::aggregate::{AccountWords, CellsLayout, CutRecord, Identity, PairTotal};

/// Cells with these running totals, cut for a first batch.
fn cells(totals: &[PairTotal]) -> Cells<Arc<Vec<AtomicU64>>> {
    let layout = CellsLayout::new(1, 64, 64 << 10).expect("in range");
    let words: Arc<Vec<_>> = Arc::new((0..layout.words()).map(|_| AtomicU64::new(0)).collect());
    let opened_at = Timestamp::from_secs(1_780_000_000);
    let identity = Identity {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([3; 16]),
        boot_id: [9; 16],
        opened_at,
        window: WindowWidth::from_secs(10).expect("divides 900"),
        parent: None,
        inherited: None,
        writers: vec!["a".to_owned()],
    };
    let none = AccountWords::default();
    Cells::<Arc<Vec<AtomicU64>>>::fill(
        &words,
        layout,
        &identity,
        std::slice::from_ref(&none),
        &none,
    );
    let cells = Cells::open(words).expect("good");
    for (index, total) in (0..).zip(totals) {
        let key = SeriesKey::new(
            TenantId::new("acme").expect("valid"),
            MeterName::new(&format!("m{index}")).expect("valid"),
            Dimensions::default(),
        );
        assert!(cells.put_pair(&key.expect("short").to_canonical(), Scale::ZERO));
        cells.put_pair_total(index, 1, *total);
    }
    cells.put_cut(&CutRecord {
        sequence: 1,
        hash: tollgate_common::BatchHash::from_bytes([1; 32]),
        cut: opened_at,
        watermark: opened_at,
        is_final: false,
    });
    cells.set_applied(1);
    cells
}

#[test]
fn a_total_that_a_collector_would_refuse_is_left_untold() {
    let most = VALUE_UNITS_MAX.unsigned_abs();
    let total = |sum| PairTotal { sum, events: 1 };
    let told = |totals: &[PairTotal]| {
        let remembered = remembered(&cells(totals)).expect("a whole cut");
        let units: Vec<_> = remembered
            .totals
            .iter()
            .map(|t| t.quantity.units())
            .collect();
        (units, remembered.is_complete)
    };
    assert_eq!(
        told(&[total(7), total(most)]),
        (vec![7, VALUE_UNITS_MAX], true)
    );
    for damaged in [most + 1, 1 << 126, u128::MAX] {
        assert_eq!(told(&[total(7), total(damaged)]), (vec![7], false));
    }
}
