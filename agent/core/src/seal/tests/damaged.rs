//! What is damaged in the cells.

use tollgate_common::limits::VALUE_UNITS_MAX;

use super::*;
use crate::aggregate::PairTotal;

#[test]
fn a_damaged_total_is_told_no_more_and_stops_no_batch() {
    let words = region(100);
    let mut bench = Bench::over(Arc::clone(&words), 1 << 20);
    let mut writer = bench.writer("a");
    let [acme, other] = ["acme", "umbrella"].map(|tenant| sum_slot(&mut writer, &key(tenant, 1)));
    writer.add(acme, 5).expect("small");
    writer.add(other, 7).expect("small");
    bench.seal(10, Mode::Window);
    let damaged = PairTotal {
        sum: VALUE_UNITS_MAX.unsigned_abs() + 1,
        events: 1,
    };
    for sequence in [1, 2] {
        bench.cells.put_pair_total(0, sequence, damaged);
    }
    // Whoever finds it there seals what is counted all the same.
    bench.sealer = Sealer::with_part_bytes(1 << 20);
    writer.add(acme, 2).expect("small");
    writer.add(other, 3).expect("small");
    bench.seal(20, Mode::Final);
    let rows = bench.last().rows.iter().map(|row| row.value.units());
    assert_eq!(rows.collect::<Vec<_>>(), [2, 3]);
    let totals = bench.last().totals.iter();
    let told: Vec<_> = totals
        .map(|t| (t.tenant.as_str(), t.quantity.units()))
        .collect();
    assert_eq!(told, [("umbrella", 10)]);
}
