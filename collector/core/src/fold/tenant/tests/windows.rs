//! Windows and the periods that they lie in.

use super::*;

#[test]
fn usage_of_the_projections_stands_in_wider_windows() {
    let mut world = World::new("PT1M");
    world.fold.usage_window = WindowWidth::from_secs(60).ok();
    world.rows(
        "a",
        vec![row("acme", "requests", 70, 1), row("acme", "seats", 70, 1)],
    );
    let changes = usage_changes(&world.effects);
    assert_eq!(changes[0].window.start(), at(60));
    assert_eq!(changes[0].order, None);
    assert_eq!(changes[1].order.as_deref(), Some("000000000070000/a"));
}

#[test]
fn windows_that_straddle_a_short_period_are_noted() {
    let mut world = World::new("PT15S");
    world.rows("a", vec![row("acme", "requests", 10, 10)]);
    world.watermark("a", 20);
    world.now = at(20);
    let booked = world.close_due();
    assert_eq!(
        (booked[0].posting.start, booked[0].posting.end),
        (at(0), at(15))
    );
    assert!(
        booked[0]
            .posting
            .arithmetic
            .contains("count where they begin: 1)"),
        "{booked:?}"
    );
}

#[test]
fn a_new_calendar_leaves_open_periods_alone() {
    let mut world = World::new("PT1M");
    world.now = at(30);
    // Usage a little ahead of the stamp is in the next minute already.
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 10),
            row("acme", "requests", 60, 20),
        ],
    );
    world.catalog(files("PT1H"));
    world.rows(
        "a",
        vec![
            row("acme", "requests", 110, 20),
            row("acme", "requests", 120, 40),
        ],
    );
    world.watermark("a", 7200);
    world.now = at(7200);
    let booked = world.close_due();
    let periods: Vec<_> = booked
        .iter()
        .map(|e| (e.posting.start.secs(), e.posting.end.secs()))
        .collect();
    assert_eq!(periods, [(0, 60), (60, 120), (120, 3600)]);
    assert_eq!(
        short(&booked),
        [
            "charge req 10 1.00",
            "charge req 40 4.00",
            "charge req 40 4.00"
        ]
    );
}
