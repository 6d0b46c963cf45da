//! Sizes, rates and durations as people write them in a configuration.

use std::time::Duration;

/// Not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a whole number followed by a unit.
    #[error("not a size")]
    Syntax,
    /// More than 2^64 - 1 bytes.
    #[error("size is out of range")]
    Range,
}

/// What a size looks like, for messages.
pub const SIZE_FORM: &str = "a whole number with a unit: B, KB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB (1024s), such as \"64MiB\"";

/// Reads a size such as `64MiB`, in bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = split(text).ok_or(SizeError::Syntax)?;
    let factor: u64 = match unit {
        "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(SizeError::Syntax),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or(SizeError::Range)
}

/// What a rate looks like, for messages.
pub const RATE_FORM: &str =
    "a size for each second, such as \"10 MiB/s\" (units as for sizes: KB, MB or KiB, MiB …)";

/// Reads a rate such as `10 MiB/s`, in bytes per second.
pub fn parse_rate(text: &str) -> Result<u64, SizeError> {
    let size = text.trim().strip_suffix("/s").ok_or(SizeError::Syntax)?;
    parse_size(size)
}

/// Not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a whole number followed by a unit.
    #[error("not a duration")]
    Syntax,
    /// More than 2^64 - 1 milliseconds.
    #[error("duration is out of range")]
    Range,
}

/// What a duration looks like, for messages.
pub const DURATION_FORM: &str = "a whole number with a unit: ms, s, m, h or d, such as \"10s\"";

/// Reads a duration such as `10s`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = split(text).ok_or(DurationError::Syntax)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Syntax),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or(DurationError::Range)
}

/// Digits, then a unit; a space between them is allowed.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    (at > 0).then(|| (&text[..at], text[at..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("8 MB"), Ok(8_000_000));
        assert_eq!(parse_size("12B"), Ok(12));
        for bad in ["", "8", "MiB", "1.5GiB", "-1B", "8mib"] {
            assert_eq!(parse_size(bad), Err(SizeError::Syntax), "{bad}");
        }
        assert_eq!(parse_size("99999999999TiB"), Err(SizeError::Range));
        assert_eq!(
            parse_size("99999999999999999999999B"),
            Err(SizeError::Range)
        );
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(parse_rate("10 MiB/s"), Ok(10 << 20));
        assert_eq!(parse_rate("500KB/s"), Ok(500_000));
        for bad in ["10MiB", "10 Mbit/s", "/s", "10/s", "1.5MiB/s", "10MiB/m"] {
            assert_eq!(parse_rate(bad), Err(SizeError::Syntax), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_hours(24)));
        for bad in ["", "10", "s", "1.5s", "ten s", "10 minutes"] {
            assert_eq!(parse_duration(bad), Err(DurationError::Syntax), "{bad}");
        }
    }
}
