//! What clocks show, and when: local times as UTC instants.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, Tz};

/// No window is longer, and all of them divide it.
const QUARTER: i64 = 900;

/// What clocks show `secs` seconds after the epoch.
pub(super) fn shown(zone: Tz, secs: i64) -> NaiveDateTime {
    let utc = DateTime::from_timestamp(secs, 0)
        .expect("timestamps end in the year 9999, chrono's far later")
        .naive_utc();
    utc + zone.offset_from_utc_datetime(&utc).fix()
}

/// Seconds since the epoch at which clocks first show `local` or later.
pub(super) fn first_instant(zone: Tz, local: NaiveDateTime) -> i64 {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.timestamp(),
        // Casey went from 00:01 to 03:01 in 2020: a period that begins in such a gap begins on the next
        // quarter of an hour, so that it cuts no window.
        LocalResult::None => up_to_quarter(after_gap(zone, local)),
    }
}

fn up_to_quarter(secs: i64) -> i64 {
    secs + (QUARTER - secs.rem_euclid(QUARTER)) % QUARTER
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
        if shown(zone, middle) < local {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}
