//! The clock, and instants as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_common::Timestamp;

/// What the system's clock shows.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An instant as RFC 3339 (`2026-06-01T00:00:00Z`), as a day (`2026-06-01`, UTC), or as
/// milliseconds since 1970. The error says what was expected.
pub fn parse_instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(Timestamp::from_millis(millis));
    }
    // A `+` in a query string arrives as a space.
    let repaired = text.replace(' ', "+");
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(&repaired) {
        return Ok(Timestamp::from_millis(instant.timestamp_millis()));
    }
    match text.parse::<chrono::NaiveDate>() {
        Ok(day) => Ok(Timestamp::from_millis(
            day.and_time(chrono::NaiveTime::MIN)
                .and_utc()
                .timestamp_millis(),
        )),
        Err(_) => Err(format!(
            "`{}` is not an instant (expected RFC 3339 such as 2026-06-01T00:00:00Z, a day such as 2026-06-01, or milliseconds since 1970)",
            text.chars().take(64).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_three_forms() {
        let expected = Ok(Timestamp::from_secs(1_780_272_000));
        for text in [
            "2026-06-01T00:00:00Z",
            "2026-06-01T02:00:00+02:00",
            "2026-06-01T02:00:00 02:00",
            "2026-06-01",
            "1780272000000",
        ] {
            assert_eq!(parse_instant(text), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01"] {
            assert!(parse_instant(text).is_err(), "{text}");
        }
    }
}
