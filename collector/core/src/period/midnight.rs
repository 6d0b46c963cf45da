//! Local midnights as UTC instants.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::{GapInfo, Tz};

/// The date that clocks show `secs` seconds after the epoch.
pub(super) fn local_date(zone: Tz, secs: i64) -> NaiveDate {
    local_time(zone, secs).date()
}

/// What clocks show `secs` seconds after the epoch.
pub(super) fn local_time(zone: Tz, secs: i64) -> NaiveDateTime {
    let utc = DateTime::from_timestamp(secs, 0)
        .expect("timestamps end in the year 9999, chrono's far later")
        .naive_utc();
    utc + zone.offset_from_utc_datetime(&utc).fix()
}

/// Seconds since the epoch at which clocks first show 00:00 of `date` or later.
pub(super) fn first_instant(zone: Tz, date: NaiveDate) -> i64 {
    let midnight = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.timestamp(),
        LocalResult::None => after_gap(zone, midnight),
    }
}

/// The end of the gap that contains `local`.
fn after_gap(zone: Tz, local: NaiveDateTime) -> i64 {
    if let Some(end) = GapInfo::new(&local, &zone).and_then(|gap| gap.end) {
        return end.timestamp();
    }
    // The zone data names no end where another fold begins at once. No offset is larger than
    // 26 hours from another, so the end lies within that distance of the naive reading.
    let naive = local.and_utc().timestamp();
    let (mut before, mut after) = (naive - 26 * 3600, naive + 26 * 3600);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if local_time(zone, middle) < local {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}
