//! Whether periods tile time: asked of samples in unit tests, and of everything by a program of its
//! own (`tests/src/bin/tile.rs`).

use tollgate_common::Timestamp;

use super::{Anchor, Calendar, Every, Zone};

/// Every zone of the compiled data.
pub fn zones() -> impl Iterator<Item = Zone> {
    chrono_tz::TZ_VARIANTS.iter().map(|&zone| Zone(zone))
}

/// Calendars of every kind in `zone`: months, anniversaries that clamp, weeks, days, days that begin
/// at an hour that clocks skip or repeat, and hours from an anchor.
pub fn calendars(zone: Zone) -> impl Iterator<Item = Calendar> {
    const KINDS: &[(&str, Option<&str>)] = &[
        ("P1D", None),
        ("P1D", Some("2001-03-01T02:30")),
        ("P10D", Some("2004-02-29")),
        ("P1W", None),
        ("P2W", Some("1999-12-31T23:45")),
        ("P1M", None),
        ("P1M", Some("2000-01-31")),
        ("P1M", Some("2024-02-29T02:00")),
        ("P3M", None),
        ("P5M", Some("1987-08-30")),
        ("P1Y", None),
        ("P1Y", Some("2000-02-29")),
        ("P4Y", Some("2000-02-29")),
        ("PT7H", Some("1990-06-15T06:00")),
        ("PT12H", None),
    ];
    KINDS.iter().map(move |(every, anchor)| {
        let every: Every = every.parse().expect("a length");
        let anchor = anchor.map(|anchor| anchor.parse::<Anchor>().expect("an anchor"));
        Calendar::anchored(zone, every, anchor).expect("anchored where that is needed")
    })
}

/// Walks through the periods between two instants; how many there are, or what is wrong with one.
///
/// Each begins where the one before ends, contains exactly the instants that say that they lie in
/// it, and begins on a quarter of an hour, so that no window lies in two.
pub fn check(calendar: Calendar, from: Timestamp, until: Timestamp) -> Result<u64, String> {
    let mut period = calendar.period_containing(from);
    let mut seen = 0;
    while period.start < until {
        let wrong = |what: &str| {
            Err(format!(
                "{} {} from {:?}: {period} {what}",
                calendar.zone, calendar.every, calendar.anchor
            ))
        };
        if period.end <= period.start {
            return wrong("has no length");
        }
        if period.start.secs() % 900 != 0 && period.start >= from {
            return wrong("cuts a window");
        }
        let inside = [
            period.start,
            period.start.plus_millis(period.millis() / 2),
            period.end.plus_millis(-1),
        ];
        if inside
            .iter()
            .any(|&at| calendar.period_containing(at) != period)
        {
            return wrong("does not contain what lies in it");
        }
        let next = calendar.period_containing(period.end);
        if next.start != period.end {
            return wrong("is not followed by a period that begins where it ends");
        }
        seen += 1;
        period = next;
    }
    Ok(seen)
}
