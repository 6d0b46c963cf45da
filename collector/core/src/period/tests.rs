mod tiles;

use super::*;
use crate::rate::Ratio;

fn zone(name: &str) -> Zone {
    name.parse().expect("a zone of the database")
}

fn instant(text: &str) -> Timestamp {
    let time = chrono::DateTime::parse_from_rfc3339(text).expect("a test's instant is valid");
    Timestamp::from_millis(time.timestamp_millis())
}

fn calendar(name: &str, every: Every) -> Calendar {
    Calendar::new(zone(name), every)
}

fn anchored(name: &str, every: &str, anchor: &str) -> Calendar {
    let every = every.parse().expect("a length");
    let anchor = anchor.parse().expect("an anchor");
    Calendar::anchored(zone(name), every, Some(anchor)).expect("it has an anchor")
}

/// The local dates on which so many periods begin, from the one that contains `at` on.
fn starts(calendar: Calendar, at: &str, count: usize) -> Vec<String> {
    let mut period = calendar.period_containing(instant(at));
    let mut starts = Vec::new();
    for _ in 0..count {
        let shown = calendar.zone.clocks_at(period.start);
        starts.push(shown.format("%m-%d").to_string());
        period = calendar.period_containing(period.end);
    }
    starts
}

fn day(name: &str, at: &str) -> (String, String) {
    let period = calendar(name, Every::DAY).period_containing(instant(at));
    (period.start.to_string(), period.end.to_string())
}

#[test]
fn months_begin_at_local_midnight() {
    let june =
        calendar("Europe/Berlin", Every::MONTH).period_containing(instant("2026-06-15T12:00:00Z"));
    assert_eq!(june.start, instant("2026-05-31T22:00:00Z"));
    assert_eq!(june.end, instant("2026-06-30T22:00:00Z"));
    // March loses an hour, October gains one.
    let march =
        calendar("Europe/Berlin", Every::MONTH).period_containing(instant("2026-03-15T12:00:00Z"));
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
        "P1M", "P3M", "P5M", "P1Y", "P2Y", "P1D", "P10D", "P1W", "P2W", "PT10S", "PT15S", "PT1M",
        "PT15M", "PT1H", "PT8H", "PT24H", "PT36H",
    ] {
        assert_eq!(
            text.parse::<Every>().map(|e| e.to_string()),
            Ok(text.to_owned())
        );
    }
    assert_eq!("PT90S".parse::<Every>(), Ok(Every::Seconds(90)));
    assert_eq!("PT1M30S".parse::<Every>(), Ok(Every::Seconds(90)));
    assert_eq!("P1Y6M".parse::<Every>(), Ok(Every::Months(18)));
    assert_eq!("P1W3D".parse::<Every>(), Ok(Every::Days(10)));
    assert_eq!("P100Y".parse::<Every>(), Ok(Every::Months(1200)));
    for text in [
        "",
        "P",
        "P1",
        "P0M",
        "P101Y",
        "P1M15D",
        "P1DT12H",
        "P1MT1H",
        "P1D1W",
        "P-1M",
        "P1.5M",
        "1M",
        "p1m",
        "P99999999999M",
        "P40000D",
        "PT",
        "P1MT",
        "PT0S",
        "PT1",
        "PT-1S",
        "PT+1S",
        "PT1S1M",
        "PT999999999S",
        "PT9999999999S",
    ] {
        let error = text.parse::<Every>().expect_err(text);
        assert!(error.to_string().contains("P1M"), "{error}");
    }
}

#[test]
fn lengths_that_say_nothing_of_their_beginning_need_an_anchor() {
    for text in [
        "P1M", "P2M", "P3M", "P6M", "P1Y", "P1D", "P1W", "P4W", "PT8H", "PT15S",
    ] {
        let every: Every = text.parse().expect("a length");
        assert!(Calendar::anchored(Zone::UTC, every, None).is_ok(), "{text}");
    }
    for text in ["P5M", "P18M", "P2Y", "P10D", "PT7H", "PT7S", "PT36H"] {
        let every: Every = text.parse().expect("a length");
        let error = Calendar::anchored(Zone::UTC, every, None).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
        let anchor = "2026-01-31".parse().ok();
        assert!(
            Calendar::anchored(Zone::UTC, every, anchor).is_ok(),
            "{text}"
        );
    }
    for text in [
        "2026-02-29",
        "2026-1-31",
        "1969-12-31",
        "2026-01-31T06:10",
        "2026-01-31T06:00:00",
        "2026-01-31T24:00",
        "2026-01-31Z",
        "",
    ] {
        let error = text.parse::<Anchor>().expect_err(text);
        assert!(error.to_string().contains("2026-01-31T06:00"), "{error}");
    }
    for text in ["2024-02-29", "2026-01-31T06:15"] {
        assert_eq!(
            text.parse::<Anchor>().map(|a| a.to_string()),
            Ok(text.to_owned())
        );
    }
}

#[test]
fn anchors_on_the_last_days_clamp_and_come_back() {
    let months = |anchor, at, count| starts(anchored("Europe/Berlin", "P1M", anchor), at, count);
    assert_eq!(
        months("2026-01-31", "2026-01-31T12:00:00Z", 6),
        ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30"]
    );
    assert_eq!(
        months("2026-01-30", "2028-01-30T12:00:00Z", 4),
        ["01-30", "02-29", "03-30", "04-30"]
    );
    assert_eq!(
        months("2026-01-29", "2027-01-29T12:00:00Z", 3),
        ["01-29", "02-28", "03-29"]
    );
    // An anchor on a clamped day stays there: the 28th of February is no last day of the month.
    assert_eq!(
        months("2026-02-28", "2026-02-28T12:00:00Z", 3),
        ["02-28", "03-28", "04-28"]
    );
    // Time before the anchor is cut in the same way.
    assert_eq!(
        months("2026-01-31", "2025-08-31T12:00:00Z", 5),
        ["08-31", "09-30", "10-31", "11-30", "12-31"]
    );
    let leap = anchored("UTC", "P1Y", "2024-02-29");
    assert_eq!(
        starts(leap, "2024-02-29T00:00:00Z", 5),
        ["02-29", "02-28", "02-28", "02-28", "02-29"]
    );
    let quarters = anchored("UTC", "P3M", "2025-11-30");
    assert_eq!(
        starts(quarters, "2025-11-30T00:00:00Z", 4),
        ["11-30", "02-28", "05-30", "08-30"]
    );
}

#[test]
fn without_an_anchor_periods_begin_where_one_expects() {
    let of = |every: &str, at| starts(calendar("UTC", every.parse().expect("a length")), at, 2);
    assert_eq!(of("P3M", "2026-06-15T00:00:00Z"), ["04-01", "07-01"]);
    assert_eq!(of("P6M", "2026-06-15T00:00:00Z"), ["01-01", "07-01"]);
    assert_eq!(of("P1Y", "2026-06-15T00:00:00Z"), ["01-01", "01-01"]);
    // 2026-06-15 is a Monday.
    assert_eq!(of("P1W", "2026-06-21T23:59:59Z"), ["06-15", "06-22"]);
    let label = |every: &str| {
        let calendar = calendar("Europe/Berlin", every.parse().expect("a length"));
        calendar.label(calendar.period_containing(instant("2026-06-15T12:00:00Z")))
    };
    assert_eq!(label("P1M"), "2026-06");
    assert_eq!(label("P3M"), "2026-Q2");
    assert_eq!(label("P1Y"), "2026");
    assert_eq!(label("P1W"), "2026-06-15");
    assert_eq!(label("PT8H"), "2026-06-15T08:00:00.000Z");
}

/// A day that begins at an hour which clocks skip begins at the end of the gap, and one that begins
/// at an hour which they show twice, at the first.
#[test]
fn a_day_may_begin_at_any_hour() {
    let half_past_two = anchored("Europe/Berlin", "P1D", "2026-01-01T02:30");
    let spring = half_past_two.period_containing(instant("2026-03-29T12:00:00Z"));
    assert_eq!(spring.start, instant("2026-03-29T01:00:00Z"));
    assert_eq!(spring.end, instant("2026-03-30T00:30:00Z"));
    let autumn = half_past_two.period_containing(instant("2026-10-25T12:00:00Z"));
    assert_eq!(autumn.start, instant("2026-10-25T00:30:00Z"));
    // Clocks show 02:15 again: the day has begun and does not end.
    assert_eq!(
        half_past_two.period_containing(instant("2026-10-25T01:15:00Z")),
        autumn
    );
    // Casey's clocks went from 00:01 to 03:01: no window is cut.
    let casey = anchored("Antarctica/Casey", "P1D", "2001-03-01T02:30");
    for inside in ["2020-10-03T16:05:00Z", "2020-10-03T16:14:59Z"] {
        let before = casey.period_containing(instant(inside));
        assert_eq!(before.end, instant("2020-10-03T16:15:00Z"));
    }
    let october = casey.period_containing(instant("2020-10-03T16:15:00Z"));
    assert_eq!(october.start, instant("2020-10-03T16:15:00Z"));
    // Hours pass as they do: the shift that begins at 22:00 ends at 07:00 when the clocks go forward.
    let shifts = anchored("Europe/Berlin", "PT8H", "2026-01-01T06:00");
    let night = shifts.period_containing(instant("2026-03-29T00:00:00Z"));
    assert_eq!(night.start, instant("2026-03-28T21:00:00Z"));
    assert_eq!(night.end, instant("2026-03-29T05:00:00Z"));
}

#[test]
fn a_new_calendar_waits_for_the_end_of_the_open_period() {
    let mut calendars = Calendars::new(Calendar::DEFAULT);
    let berlin = calendar("Europe/Berlin", Every::MONTH);
    calendars.change(
        instant("2026-06-10T00:00:00Z"),
        calendar("Asia/Tokyo", Every::MONTH),
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
        for every in [Every::MONTH, Every::DAY, Every::Seconds(15)] {
            let first = calendar(name, every).period_containing(Timestamp::EPOCH);
            assert_eq!(first.start, Timestamp::EPOCH);
            assert!(first.end > first.start);
            let last = calendar(name, every).period_containing(Timestamp::MAX);
            assert_eq!(last.end, Timestamp::MAX);
        }
    }
}

#[test]
fn a_splinter_of_a_change_of_zone_belongs_to_the_next_period() {
    let berlin = calendar("Europe/Berlin", Every::MONTH);
    let mut calendars = Calendars::new(berlin);
    calendars.change(
        instant("2026-06-10T00:00:00Z"),
        calendar("America/New_York", Every::MONTH),
    );
    let june = calendars.period_containing(instant("2026-06-30T21:59:59Z"));
    assert_eq!(june.end, instant("2026-06-30T22:00:00Z"));
    // New York's June goes on for six hours: they are July's.
    let july = calendars.period_containing(june.end);
    assert_eq!(july.start, june.end);
    assert_eq!(july.end, instant("2026-08-01T04:00:00Z"));
    assert_eq!(
        calendars.period_containing(instant("2026-07-15T00:00:00Z")),
        july
    );
    assert_eq!(
        (calendars.label(june), calendars.label(july)),
        ("2026-06".into(), "2026-07".into())
    );
    // Neither more nor less than a whole month is due for it, nor for the one that is shorter the
    // other way round.
    for by in [Proration::Duration, Proration::Days] {
        assert_eq!(calendars.share_of_whole(july, by), Ratio::ONE);
    }
    let mut east = Calendars::new(Calendar::DEFAULT);
    east.change(instant("2026-06-10T00:00:00Z"), berlin);
    let july = east.period_containing(instant("2026-07-15T00:00:00Z"));
    assert_eq!(july.millis(), (31 * 24 - 2) * 3_600_000);
    assert_eq!(east.share_of_whole(july, Proration::Days), Ratio::ONE);
    assert!(!july.is_remainder_of(east.whole_of(july)));
}

#[test]
fn a_first_period_that_is_cut_is_a_share_of_a_whole_one() {
    let mut calendars = Calendars::new(Calendar::DEFAULT);
    let quarters = calendar("UTC", Every::Months(3));
    calendars.change(instant("2026-05-10T00:00:00Z"), quarters);
    let first = calendars.period_containing(instant("2026-06-10T00:00:00Z"));
    assert_eq!(first.start, instant("2026-06-01T00:00:00Z"));
    assert_eq!(first.end, instant("2026-07-01T00:00:00Z"));
    assert!(first.is_remainder_of(calendars.whole_of(first)));
    let share = |by| calendars.share_of_whole(first, by);
    assert_eq!(
        share(Proration::Days),
        Ratio::new(30, 91).expect("a fraction")
    );
    assert_eq!(
        share(Proration::Duration),
        Ratio::new(30, 91).expect("a fraction")
    );
    let second = calendars.period_containing(first.end);
    assert_eq!(
        calendars.share_of_whole(second, Proration::Days),
        Ratio::ONE
    );
    // A new anchor moves no clock: one day is one day.
    let mut calendars = Calendars::new(Calendar::DEFAULT);
    calendars.change(
        instant("2026-05-10T00:00:00Z"),
        anchored("UTC", "P1M", "2026-01-02"),
    );
    let stub = calendars.period_containing(instant("2026-06-01T12:00:00Z"));
    assert_eq!(stub.end, instant("2026-06-02T00:00:00Z"));
    let share = calendars.share_of_whole(stub, Proration::Days);
    assert_eq!(share, Ratio::new(1, 31).expect("a fraction"));
}

#[test]
fn fractions_are_of_true_time_or_of_days() {
    let berlin = zone("Europe/Berlin");
    let march =
        calendar("Europe/Berlin", Every::MONTH).period_containing(instant("2026-03-15T12:00:00Z"));
    let noon = instant("2026-03-16T11:00:00Z");
    let (before, after) = (
        Period {
            start: march.start,
            end: noon,
        },
        Period {
            start: noon,
            end: march.end,
        },
    );
    let fraction = |part, by| march.fraction(part, by, berlin);
    // 31 days less the hour that the clocks skip are 743 hours.
    assert_eq!(
        Some(fraction(before, Proration::Duration)),
        Ratio::new(15 * 24 + 12, 743)
    );
    assert_eq!(
        Some(fraction(after, Proration::Duration)),
        Ratio::new(371, 743)
    );
    // The 16th began before noon.
    assert_eq!(Some(fraction(before, Proration::Days)), Ratio::new(16, 31));
    assert_eq!(Some(fraction(after, Proration::Days)), Ratio::new(15, 31));
    // In Samoa December 2011 had thirty days.
    let apia = calendar("Pacific/Apia", Every::MONTH);
    let december = apia.period_containing(instant("2011-12-15T00:00:00Z"));
    assert_eq!(apia.zone.days_begun_in(december), 30);
    // An hour has no days.
    let hour = Period {
        start: noon,
        end: noon.plus_millis(3_600_000),
    };
    let half = Period {
        start: noon,
        end: noon.plus_millis(1_800_000),
    };
    assert_eq!(
        Some(hour.fraction(half, Proration::Days, berlin)),
        Ratio::new(1, 2)
    );
    assert_eq!(hour.fraction(march, Proration::Days, berlin), Ratio::ONE);
    assert_eq!(
        march.fraction(
            Period {
                start: march.end,
                end: Timestamp::MAX
            },
            Proration::Days,
            berlin
        ),
        Ratio::ZERO
    );
}
