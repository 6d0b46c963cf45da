//! How long periods are: ISO 8601 durations of one kind.

use std::fmt;
use std::str::FromStr;

/// How long periods are.
///
/// Months and days are those of the tenant's clocks, so that they have no fixed length; hours,
/// minutes and seconds pass at the same rate everywhere. The kinds do not mix: where `P1M15D`
/// begins again would depend on the order in which its parts are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    /// So many calendar months, 1 to [`Every::MONTHS_MAX`]: `P1M`, `P3M`, `P1Y`.
    Months(u16),
    /// So many calendar days, 1 to [`Every::DAYS_MAX`]: `P1D`, `P2W`.
    Days(u16),
    /// So many seconds, 1 to [`Every::SECONDS_MAX`]: `PT8H`, `PT15S`.
    Seconds(u32),
}

/// Not a period that can be billed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "period `{0}` is not supported (expected years and months such as `P1M`, `P3M` or `P1Y`, weeks or days such as \
     `P2W` or `P1D`, or hours, minutes and seconds such as `PT8H`; no mixture of these, and at most 100 years)"
)]
pub struct UnsupportedPeriod(String);

pub(super) const DAY_SECS: u32 = 86_400;

impl Every {
    /// A calendar month: `P1M`.
    pub const MONTH: Self = Self::Months(1);
    /// A calendar day: `P1D`.
    pub const DAY: Self = Self::Days(1);
    /// Most months: a hundred years.
    pub const MONTHS_MAX: u16 = 1200;
    /// Most days: a hundred years.
    pub const DAYS_MAX: u16 = 36_525;
    /// Most seconds: a leap year.
    pub const SECONDS_MAX: u32 = 366 * DAY_SECS;

    /// True if such periods can only be placed by an anchor: nobody could say when five months
    /// begin, while a quarter begins in January, a week on Monday and eight hours at midnight.
    pub const fn needs_anchor(self) -> bool {
        match self {
            Self::Months(months) => months == 0 || 12 % months != 0,
            Self::Days(days) => days != 1 && !days.is_multiple_of(7),
            Self::Seconds(seconds) => !DAY_SECS.is_multiple_of(seconds),
        }
    }
}

/// The parts of a duration as they stand, each at most once and in order.
#[derive(Default)]
struct Parts {
    months: u64,
    days: u64,
    seconds: u64,
}

fn parts(text: &str) -> Option<Parts> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    let [years, months, weeks, days] = numbers(date, ['Y', 'M', 'W', 'D'])?;
    let [hours, minutes, seconds] = numbers(time, ['H', 'M', 'S'])?;
    Some(Parts {
        months: years * 12 + months,
        days: weeks * 7 + days,
        seconds: hours * 3600 + minutes * 60 + seconds,
    })
}

/// Numbers with their units, which stand in this order. Each number has at most nine digits, so
/// that no sum of them overflows.
fn numbers<const N: usize>(text: &str, units: [char; N]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut rest = text;
    for (number, unit) in numbers.iter_mut().zip(units) {
        if let Some((digits, after)) = rest.split_once(unit) {
            let sound = matches!(digits.len(), 1..=9) && digits.bytes().all(|b| b.is_ascii_digit());
            if !sound {
                return None;
            }
            *number = digits.parse().ok()?;
            rest = after;
        }
    }
    rest.is_empty().then_some(numbers)
}

impl FromStr for Every {
    type Err = UnsupportedPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let every = match parts(text) {
            Some(Parts {
                months: months @ 1..,
                days: 0,
                seconds: 0,
            }) => u16::try_from(months)
                .ok()
                .filter(|months| *months <= Self::MONTHS_MAX)
                .map(Self::Months),
            Some(Parts {
                months: 0,
                days: days @ 1..,
                seconds: 0,
            }) => u16::try_from(days)
                .ok()
                .filter(|days| *days <= Self::DAYS_MAX)
                .map(Self::Days),
            Some(Parts {
                months: 0,
                days: 0,
                seconds: seconds @ 1..,
            }) => u32::try_from(seconds)
                .ok()
                .filter(|seconds| *seconds <= Self::SECONDS_MAX)
                .map(Self::Seconds),
            _ => None,
        };
        every.ok_or_else(|| UnsupportedPeriod(text.chars().take(32).collect()))
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Months(months) if months.is_multiple_of(12) => write!(f, "P{}Y", months / 12),
            Self::Months(months) => write!(f, "P{months}M"),
            Self::Days(days) if days.is_multiple_of(7) => write!(f, "P{}W", days / 7),
            Self::Days(days) => write!(f, "P{days}D"),
            Self::Seconds(seconds) if seconds.is_multiple_of(3600) => {
                write!(f, "PT{}H", seconds / 3600)
            }
            Self::Seconds(seconds) if seconds.is_multiple_of(60) => {
                write!(f, "PT{}M", seconds / 60)
            }
            Self::Seconds(seconds) => write!(f, "PT{seconds}S"),
        }
    }
}
