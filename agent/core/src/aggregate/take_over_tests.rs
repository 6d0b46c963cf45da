//! Writers that are had again: by the next life, or in the same one.

use super::*;

#[test]
fn a_writer_takes_over_what_was_published() {
    let layout = CellsLayout::new(2, 10, 4096).expect("in range");
    let words = region(layout);
    let cells = Cells::open(Arc::clone(&words)).expect("good");
    let mut writer = cells.writer("admin").expect("free");
    let before: Vec<Slot> = (0..5)
        .map(|value| {
            let kind = [Aggregation::Sum, Aggregation::Last][value % 2];
            writer
                .resolve(&key(0, value), kind, Scale::ZERO)
                .expect("room")
        })
        .collect();
    drop((writer, cells));
    let cells = Cells::open(words).expect("good");
    let mut writer = cells.writer("admin").expect("free");
    for (value, slot) in before.iter().enumerate() {
        let kind = [Aggregation::Sum, Aggregation::Last][value % 2];
        assert_eq!(writer.resolve(&key(0, value), kind, Scale::ZERO), Ok(*slot));
    }
    let new = writer.resolve(&key(1, 0), Aggregation::Last, Scale::ZERO);
    assert!(new.is_ok_and(|slot| !before.contains(&slot)));
    assert_eq!(cells.published(0), 6);
    assert_eq!(series(&cells, 5), Some(key(1, 0)));
}

#[test]
fn a_writer_that_is_had_again_has_its_series_once() {
    let limits = SeriesLimits {
        series_max: 3,
        ..SeriesLimits::default()
    };
    let layout = CellsLayout::new(2, 10, 4096).expect("in range");
    let cells = Cells::open_with(region(layout), limits).expect("good");
    for round in 0..3 {
        let mut writer = cells.writer("admin").expect("free");
        let slot = writer.resolve(&key(0, round), Aggregation::Sum, Scale::ZERO);
        let slot = u32::try_from(slot.expect("room").to_bits() & 0xffff_ffff).expect("masked");
        assert_eq!(series(&cells, slot), Some(key(0, round)));
    }
    let mut other = cells.writer("dogstatsd.unix").expect("free");
    let slot = other.resolve(&key(0, 9), Aggregation::Sum, Scale::ZERO);
    assert!(slot.is_ok());
    let found = cells.key(1, 0).expect("published").key;
    assert_eq!(
        found,
        key(0, 9).to_overflow(),
        "the limit is that of the host"
    );
}

/// The key of a free slot may lie where another series has its own by now.
#[test]
fn a_free_slot_whose_room_is_anothers_is_no_damage() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let resolve = |writer: &mut Writer<Words>, region: &str| {
        let dimensions = Dimensions::new([("region", region)]).expect("valid");
        let (tenant, meter) = (key(0, 0).tenant().clone(), key(0, 0).meter().clone());
        let key = SeriesKey::new(tenant, meter, dimensions).expect("short");
        let resolved = writer.resolve_telling(&key, Aggregation::Sum, Scale::ZERO);
        let (_, overflow) = resolved.expect("room");
        assert!(!overflow, "{key} has lost its dimensions");
    };
    for region in ["eu", &"x".repeat(60)] {
        resolve(&mut writer, region);
    }
    retire_all(&cells, &mut writer);
    assert_eq!(writer.series(), 0);
    // The slot that had the long key is used again, with the room of the short one.
    resolve(&mut writer, "us");
    assert_eq!(series(&cells, 0), None);
    drop(writer);
    let mut writer = cells.writer("admin").expect("free");
    assert_eq!(writer.series(), 1);
    for region in ["eu", "us", "asia"] {
        resolve(&mut writer, region);
    }
}
