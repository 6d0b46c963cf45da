//! Periods of every kind tile time, in all zones.

use proptest::prelude::*;

use super::*;

/// Zones whose clocks change at midnight, or that have offsets of half and quarter hours, or
/// that skipped days; and all others.
const ODD_ZONES: &[&str] = &[
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Cairo",
    "America/Havana",
    "America/Asuncion",
    "America/Santiago",
    "Asia/Tehran",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Damascus",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "Antarctica/Troll",
    "Africa/Monrovia",
    "America/Scoresbysund",
    "Africa/Casablanca",
    "Europe/Berlin",
    "America/New_York",
    "UTC",
];

/// Every kind of period, four decades of the zones whose rules are the oddest. What this
/// leaves out for the sake of time, all zones and seven decades, `tests/src/bin/tile.rs` looks at.
#[test]
fn periods_of_every_kind_tile_time_in_odd_zones() {
    for name in ODD_ZONES {
        for calendar in tiling::calendars(zone(name)) {
            // Days and hours are many: a year or two of them, others of each zone.
            let first = 1980 + 7 * (name.len() % 9);
            let (from, until) = match calendar.every {
                Every::Months(_) => (1980, 2050),
                Every::Days(_) => (first, first + 2),
                Every::Seconds(_) => (first, first + 1),
            };
            let year = |year| instant(&format!("{year}-01-01T00:00:00Z"));
            let seen = tiling::check(calendar, year(from), year(until));
            assert!(matches!(seen, Ok(11..)), "{seen:?}");
        }
    }
}

/// A decade of each zone, so that all of them are looked at in every run.
#[test]
fn months_tile_time_in_every_zone() {
    for (index, zone) in tiling::zones().enumerate() {
        let first = 1980 + 10 * (index % 7);
        let year = |year| instant(&format!("{year}-01-01T00:00:00Z"));
        let months = tiling::check(
            Calendar::new(zone, Every::MONTH),
            year(first),
            year(first + 10),
        );
        // At both ends another month begins or has begun, where clocks are behind or ahead.
        assert!(matches!(months, Ok(120..=122)), "{zone} {months:?}");
    }
}

/// A zone, a kind of calendar and an instant.
fn somewhere() -> impl Strategy<Value = (Calendar, Timestamp)> {
    let millis = 315_532_800_000i64..4_102_444_800_000;
    (millis, 0..chrono_tz::TZ_VARIANTS.len(), 0..15usize).prop_map(|(millis, zone, kind)| {
        let calendar = tiling::calendars(Zone(chrono_tz::TZ_VARIANTS[zone]))
            .nth(kind)
            .expect("there are fifteen kinds");
        (calendar, Timestamp::from_millis(millis))
    })
}

proptest! {
    /// Any zone, any kind, anywhere from 1980 to 2100: so the runs of many days look at all of it.
    #[test]
    fn periods_tile_time_around_any_instant((calendar, at) in somewhere()) {
        let period = calendar.period_containing(at);
        prop_assert!(period.contains(at));
        let seen = tiling::check(calendar, period.start.plus_millis(-1), period.end.plus_millis(1));
        prop_assert!(seen.is_ok(), "{:?}", seen);
    }

}

proptest! {
    // Days are counted one by one, and some periods have many.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fractions_of_parts_that_tile_add_up_to_one((calendar, at) in somewhere(), cuts in proptest::collection::vec(0i64..1000, 0..5), days: bool) {
        let period = calendar.period_containing(at);
        let by = if days { Proration::Days } else { Proration::Duration };
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| period.start.plus_millis(period.millis() / 1000 * cut)).collect();
        cuts.extend([period.start, period.end]);
        cuts.sort_unstable();
        let sum = cuts.windows(2).try_fold(Ratio::ZERO, |sum, pair| {
            let part = Period { start: pair[0], end: pair[1] };
            let fraction = period.fraction(part, by, calendar.zone);
            assert!(!fraction.is_negative());
            sum.checked_add(fraction)
        });
        prop_assert_eq!(sum, Some(Ratio::ONE));
    }

}

proptest! {
    #[test]
    fn changed_calendars_still_tile(changes in proptest::collection::vec((315_532_800i64..2_000_000_000, 0..ODD_ZONES.len(), 0..15usize), 0..6), at in 315_532_800i64..2_000_000_000) {
        let mut calendars = Calendars::new(Calendar::DEFAULT);
        let mut changes = changes;
        changes.sort_unstable();
        for (now, index, kind) in changes {
            let calendar = tiling::calendars(zone(ODD_ZONES[index])).nth(kind).expect("a kind");
            let before = calendars.period_containing(Timestamp::from_secs(now));
            calendars.change(Timestamp::from_secs(now), calendar);
            prop_assert_eq!(calendars.period_containing(Timestamp::from_secs(now)), before, "the open period stays");
        }
        let period = calendars.period_containing(Timestamp::from_secs(at));
        prop_assert!(period.contains(Timestamp::from_secs(at)));
        prop_assert_eq!(calendars.period_containing(period.start), period);
        prop_assert_eq!(calendars.period_containing(period.end).start, period.end);
        prop_assert_eq!(calendars.period_containing(period.end.plus_millis(-1)), period);
        let share = calendars.share_of_whole(period, Proration::Days);
        prop_assert!(!share.is_negative() && share.numerator() <= share.denominator());
    }
}
