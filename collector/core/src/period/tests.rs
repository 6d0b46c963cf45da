use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Zone {
    name.parse().expect("a zone of the database")
}

fn instant(text: &str) -> Timestamp {
    let time = chrono::DateTime::parse_from_rfc3339(text).expect("a test's instant is valid");
    Timestamp::from_millis(time.timestamp_millis())
}

fn calendar(name: &str, every: Every) -> Calendar {
    Calendar {
        zone: zone(name),
        every,
    }
}

fn day(name: &str, at: &str) -> (String, String) {
    let period = calendar(name, Every::Day).period_containing(instant(at));
    (period.start.to_string(), period.end.to_string())
}

#[test]
fn months_begin_at_local_midnight() {
    let june =
        calendar("Europe/Berlin", Every::Month).period_containing(instant("2026-06-15T12:00:00Z"));
    assert_eq!(june.start, instant("2026-05-31T22:00:00Z"));
    assert_eq!(june.end, instant("2026-06-30T22:00:00Z"));
    // March loses an hour, October gains one.
    let march =
        calendar("Europe/Berlin", Every::Month).period_containing(instant("2026-03-15T12:00:00Z"));
    assert_eq!(
        march.end.millis_since(march.start),
        (31 * 24 - 1) * 3_600_000
    );
    let utc = Calendar::DEFAULT.period_containing(instant("2026-12-31T23:59:59.999Z"));
    assert_eq!(utc.end, instant("2027-01-01T00:00:00Z"));
}

#[test]
fn a_skipped_midnight_is_the_end_of_the_gap() {
    // Clocks of São Paulo went from 2018-11-03T23:59:59 -03 to 2018-11-04T01:00:00 -02.
    assert_eq!(
        day("America/Sao_Paulo", "2018-11-04T12:00:00Z"),
        (
            "2018-11-04T03:00:00.000Z".into(),
            "2018-11-05T02:00:00.000Z".into()
        )
    );
    // Beirut: 2024-03-31 00:00 +02 became 01:00 +03.
    assert_eq!(
        day("Asia/Beirut", "2024-03-31T12:00:00Z"),
        (
            "2024-03-30T22:00:00.000Z".into(),
            "2024-03-31T21:00:00.000Z".into()
        )
    );
    // Cairo: 2024-04-26 00:00 +02 became 01:00 +03.
    assert_eq!(
        day("Africa/Cairo", "2024-04-26T12:00:00Z"),
        (
            "2024-04-25T22:00:00.000Z".into(),
            "2024-04-26T21:00:00.000Z".into()
        )
    );
}

#[test]
fn a_midnight_that_comes_twice_counts_the_first_time() {
    // Havana: 2024-11-03 01:00 -04 became 00:00 -05.
    assert_eq!(
        day("America/Havana", "2024-11-03T12:00:00Z"),
        (
            "2024-11-03T04:00:00.000Z".into(),
            "2024-11-04T05:00:00.000Z".into()
        )
    );
    // Beirut: 2024-10-27 00:00 +03 became 2024-10-26 23:00 +02, so the 26th has 25 hours.
    assert_eq!(
        day("Asia/Beirut", "2024-10-26T21:30:00Z"),
        (
            "2024-10-25T21:00:00.000Z".into(),
            "2024-10-26T22:00:00.000Z".into()
        )
    );
}

#[test]
fn a_day_that_never_was_has_no_period() {
    // Samoa went from 2011-12-29 to 2011-12-31.
    let (start, end) = day("Pacific/Apia", "2011-12-30T09:59:59Z");
    assert_eq!(
        (&*start, &*end),
        ("2011-12-29T10:00:00.000Z", "2011-12-30T10:00:00.000Z")
    );
    let (start, _) = day("Pacific/Apia", "2011-12-30T10:00:00Z");
    assert_eq!(start, "2011-12-30T10:00:00.000Z");
}

#[test]
fn fixed_intervals_begin_at_multiples_since_the_epoch() {
    let fifteen = calendar("Asia/Kathmandu", "PT15S".parse().expect("supported"));
    let period = fifteen.period_containing(Timestamp::from_millis(44_999));
    assert_eq!(
        period,
        Period {
            start: Timestamp::from_secs(30),
            end: Timestamp::from_secs(45)
        }
    );
}

#[test]
fn supported_lengths_print_as_they_are_written() {
    for text in [
        "P1M", "P1D", "PT10S", "PT15S", "PT1M", "PT15M", "PT1H", "PT24H",
    ] {
        assert_eq!(
            text.parse::<Every>().map(|e| e.to_string()),
            Ok(text.to_owned())
        );
    }
    assert_eq!("PT90S".parse::<Every>(), Ok(Every::Seconds(90)));
    assert_eq!("PT1M30S".parse::<Every>(), Ok(Every::Seconds(90)));
    for text in [
        "",
        "P3M",
        "P1Y",
        "P7D",
        "PT",
        "PT0S",
        "PT7S",
        "PT48H",
        "PT1",
        "PT-1S",
        "PT+1S",
        "PT1S1M",
        "PT9999999999S",
    ] {
        let error = text.parse::<Every>().expect_err(text);
        assert!(error.to_string().contains("P1M"), "{error}");
    }
}

#[test]
fn a_new_calendar_waits_for_the_end_of_the_open_period() {
    let mut calendars = Calendars::new(Calendar::DEFAULT);
    let berlin = calendar("Europe/Berlin", Every::Month);
    calendars.change(
        instant("2026-06-10T00:00:00Z"),
        calendar("Asia/Tokyo", Every::Month),
    );
    calendars.change(instant("2026-06-11T00:00:00Z"), berlin);
    let june = calendars.period_containing(instant("2026-06-30T23:00:00Z"));
    assert_eq!(june.end, instant("2026-07-01T00:00:00Z"));
    let july = calendars.period_containing(june.end);
    assert_eq!(july.start, june.end);
    assert_eq!(july.end, instant("2026-07-31T22:00:00Z"));
    assert_eq!(calendars.label(june), "2026-06");
    // Taking it back before it takes effect leaves no trace.
    let mut calendars = Calendars::new(Calendar::DEFAULT);
    calendars.change(instant("2026-06-10T00:00:00Z"), berlin);
    calendars.change(instant("2026-06-11T00:00:00Z"), Calendar::DEFAULT);
    assert_eq!(calendars, Calendars::new(Calendar::DEFAULT));
}

#[test]
fn the_ends_of_time_are_periods_too() {
    for name in ["UTC", "Pacific/Kiritimati", "America/Anchorage"] {
        for every in [Every::Month, Every::Day, Every::Seconds(15)] {
            let first = calendar(name, every).period_containing(Timestamp::EPOCH);
            assert_eq!(first.start, Timestamp::EPOCH);
            assert!(first.end > first.start);
            let last = calendar(name, every).period_containing(Timestamp::MAX);
            assert_eq!(last.end, Timestamp::MAX);
        }
    }
}

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

/// Every period of every zone of the database from 1970 to 2050 begins where the one before
/// ended, and where a clock has just reached the date for the first time.
#[test]
fn days_tile_four_decades_of_odd_zones() {
    for name in ODD_ZONES {
        let calendar = calendar(name, Every::Day);
        let mut period = calendar.period_containing(instant("1980-01-01T00:00:00Z"));
        while period.start < instant("2030-01-01T00:00:00Z") {
            assert!(period.start < period.end, "{name} {period}");
            assert_eq!(
                period.start.secs() % 900,
                0,
                "{name} {period}: windows would straddle"
            );
            let just_before = period.end.plus_millis(-1);
            assert_eq!(calendar.period_containing(just_before), period, "{name}");
            let next = calendar.period_containing(period.end);
            assert_eq!(next.start, period.end, "{name}");
            let shown = calendar.zone.date_at(next.start);
            assert!(calendar.zone.date_at(just_before) < shown, "{name} {next}");
            period = next;
        }
    }
}

#[test]
fn months_tile_time_in_every_zone() {
    for tz in chrono_tz::TZ_VARIANTS {
        let calendar = Calendar {
            zone: Zone(tz),
            every: Every::Month,
        };
        let mut period = calendar.period_containing(Timestamp::EPOCH);
        while period.start < instant("2045-01-01T00:00:00Z") {
            let next = calendar.period_containing(period.end);
            assert_eq!(next.start, period.end, "{tz}");
            assert_eq!(
                calendar.period_containing(period.end.plus_millis(-1)),
                period,
                "{tz}"
            );
            period = next;
        }
    }
}

proptest! {
    #[test]
    fn an_instant_lies_in_its_period(millis in 0i64..4_102_444_800_000, index in 0..chrono_tz::TZ_VARIANTS.len(), daily: bool) {
        let every = if daily { Every::Day } else { Every::Month };
        let calendar = Calendar { zone: Zone(chrono_tz::TZ_VARIANTS[index]), every };
        let at = Timestamp::from_millis(millis);
        let period = calendar.period_containing(at);
        prop_assert!(period.contains(at));
        prop_assert_eq!(calendar.period_containing(period.start), period);
    }

    #[test]
    fn changed_calendars_still_tile(changes in proptest::collection::vec((0i64..2_000_000_000, 0..ODD_ZONES.len(), 0..3usize), 0..6), at in 0i64..2_000_000_000) {
        let mut calendars = Calendars::new(Calendar::DEFAULT);
        let mut changes = changes;
        changes.sort_unstable();
        for (now, index, every) in changes {
            let every = [Every::Month, Every::Day, Every::Seconds(3600)][every];
            calendars.change(Timestamp::from_secs(now), calendar(ODD_ZONES[index], every));
        }
        let period = calendars.period_containing(Timestamp::from_secs(at));
        prop_assert!(period.contains(Timestamp::from_secs(at)));
        prop_assert_eq!(calendars.period_containing(period.start), period);
        prop_assert_eq!(calendars.period_containing(period.end).start, period.end);
        prop_assert_eq!(calendars.period_containing(period.end.plus_millis(-1)), period);
    }
}
