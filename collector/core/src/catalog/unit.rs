//! Units: what a number counts, and how many of one unit are in another.
//!
//! Data (`By`, `kB`, `GiB`, `Mbit`), time (`s`, `min`, `h`), data or anything else per time
//! (`Mbit/s`, `{request}/min`) and times time (`GiB.h`, `{seat}.d`), electric power (`kW`, `kVA`) and
//! energy (`kWh`, `MWh`) are converted exactly. Every other unit, such as `{request}`, is a kind of its own and fits only itself.

use std::fmt;

use crate::rate::Ratio;

/// Longest unit, in bytes.
pub(super) const UNIT_BYTES_MAX: usize = 64;

/// A unit, UCUM style: `By`, `s`, `1`, `{request}`.
///
/// 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(String);

/// Not a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a unit (expected 1 to {UNIT_BYTES_MAX} printable ASCII characters without \
     spaces, such as `By`, `s`, `1` or `{{request}}`)"
)]
pub struct UnitError(String);

impl std::str::FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > UNIT_BYTES_MAX || !printable {
            return Err(UnitError(text.chars().take(UNIT_BYTES_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Powers of 1000 and of 1024.
const PREFIXES: &[(&str, i128)] = &[
    ("", 1),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
];

/// Times, in nanoseconds.
const TIMES: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const NANOS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_HOUR: i128 = 3600;

/// Electric power: active, apparent and reactive, each a kind of its own.
const POWERS: &[&str] = &["W", "VA", "var"];

/// What is counted, apart from how large a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'u> {
    Data,
    Time,
    /// By the name of its unit.
    Power(&'static str),
    Other(&'u str),
}

/// Whether it is counted alone, per time, or times time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Alone,
    PerTime,
    TimesTime,
}

/// A unit taken apart: its kind, and how large it is in bits, nanoseconds or pieces (and
/// seconds, where time is a part of it).
struct Parts<'u> {
    kind: Kind<'u>,
    over: Over,
    size: Ratio,
}

fn time(text: &str) -> Option<i128> {
    TIMES
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, nanos)| *nanos)
}

fn simple(text: &str) -> (Kind<'_>, i128) {
    if let Some(nanos) = time(text) {
        return (Kind::Time, nanos);
    }
    for (suffix, bits) in [("By", 8), ("B", 8), ("bit", 1)] {
        let known = text.strip_suffix(suffix).and_then(|prefix| {
            PREFIXES
                .iter()
                .find(|(name, _)| *name == prefix)
                .map(|(_, factor)| factor * bits)
        });
        if let Some(bits) = known {
            return (Kind::Data, bits);
        }
    }
    power(text).unwrap_or((Kind::Other(text), 1))
}

/// Power with a prefix of powers of 1000.
fn power<'u>(text: &str) -> Option<(Kind<'u>, i128)> {
    POWERS.iter().find_map(|name| {
        let prefix = text.strip_suffix(name)?;
        let known = PREFIXES.iter().find(|(known, _)| *known == prefix);
        let (_, factor) = known.filter(|(known, _)| !known.ends_with('i'))?;
        Some((Kind::Power(name), *factor))
    })
}

fn parts(text: &str) -> Parts<'_> {
    let compound = |mark: char, over: Over| {
        let (base, clock) = text.rsplit_once(mark)?;
        let nanos = time(clock).filter(|_| !base.is_empty())?;
        let (kind, size) = simple(base);
        let seconds = Ratio::new(nanos, NANOS_PER_SECOND)?;
        let size = Ratio::from_integer(size)?;
        let size = match over {
            Over::PerTime => size.checked_div(seconds)?,
            Over::Alone | Over::TimesTime => size.checked_mul(seconds)?,
        };
        Some(Parts { kind, over, size })
    };
    // What is used of a power in an hour: `kWh` is `kW.h`.
    let energy = || {
        let (kind, size) = power(text.strip_suffix('h')?)?;
        let size = Ratio::from_integer(size.checked_mul(SECONDS_PER_HOUR)?)?;
        let over = Over::TimesTime;
        Some(Parts { kind, over, size })
    };
    compound('/', Over::PerTime)
        .or_else(|| compound('.', Over::TimesTime))
        .or_else(energy)
        .unwrap_or_else(|| {
            let (kind, size) = simple(text);
            Parts {
                kind,
                over: Over::Alone,
                size: Ratio::from_integer(size).unwrap_or(Ratio::ONE),
            }
        })
}

impl Unit {
    /// The unit as it was declared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This unit times seconds.
    pub(super) fn times_seconds(&self) -> Self {
        Self(format!("{}.s", self.0))
    }

    /// This unit per second.
    pub(super) fn per_second(&self) -> Self {
        Self(format!("{}/s", self.0))
    }

    /// Of a unit times time the unit, and the seconds of the time: `GiB.h` is (`GiB`, 3600).
    pub(super) fn level(&self) -> Option<(Self, Ratio)> {
        let (base, clock) = self.0.rsplit_once('.')?;
        let nanos = time(clock).filter(|_| !base.is_empty())?;
        let seconds = Ratio::new(nanos, NANOS_PER_SECOND)?;
        Some((Self(base.to_owned()), seconds))
    }

    /// True for a level times months, whose length stands elsewhere: `GB.mo`.
    pub(super) fn is_by_month(&self) -> bool {
        self.0.strip_suffix(".mo").is_some()
    }

    /// How many of this unit are in one `other`; `None` for another kind of unit.
    pub(super) fn in_one(&self, other: &str) -> Option<Ratio> {
        if other == self.0 {
            return Some(Ratio::ONE);
        }
        // How long such a month is stands beside the unit, so that it fits only itself.
        if let (Some(level), Some(other)) = (self.0.strip_suffix(".mo"), other.strip_suffix(".mo"))
        {
            return Self(level.to_owned()).in_one(other);
        }
        let (mine, others) = (parts(&self.0), parts(other));
        if mine.kind != others.kind || mine.over != others.over {
            return None;
        }
        others.size.checked_div(mine.size)
    }

    /// What is counted, for people: `data`, `time`, `data per time`, `{seat} times time`.
    pub(super) fn kind(text: &str) -> String {
        let parts = parts(text);
        let base = match parts.kind {
            Kind::Data => "data",
            Kind::Time => "time",
            Kind::Power(name) | Kind::Other(name) => name,
        };
        match parts.over {
            Over::Alone => base.to_owned(),
            Over::PerTime => format!("{base} per time"),
            Over::TimesTime => format!("{base} times time"),
        }
    }

    /// What else fits, as the end of a sentence.
    pub(super) fn multiples(&self) -> &'static str {
        let parts = parts(&self.0);
        match (parts.kind, parts.over) {
            (Kind::Data, Over::Alone) => ", or a multiple such as `kB`, `GB`, `GiB`",
            (Kind::Time, Over::Alone) => ", or `min`, `h`, `d`",
            (Kind::Power(_), Over::Alone) => ", or with `k`, `M`, `G` before it",
            (Kind::Power(_), Over::TimesTime) => ", or such as `kWh`, `MWh`, `kVAh`",
            (Kind::Other(_), Over::Alone) => "",
            (Kind::Data, Over::PerTime) => ", or such as `Mbit/s`, `GB/h`",
            (_, Over::PerTime) => ", or with `/min`, `/h`, `/d`",
            (Kind::Data, Over::TimesTime) => ", or such as `GB.h`, `GiB.d`",
            (_, Over::TimesTime) => ", or with `.min`, `.h`, `.d` in place of `.s`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_one(mine: &str, other: &str) -> Option<String> {
        let unit: Unit = mine.parse().expect("a test's unit is valid");
        unit.in_one(other).map(|ratio| ratio.to_string())
    }

    #[test]
    fn units_of_a_kind_are_converted_exactly() {
        for (mine, other, expected) in [
            ("By", "GB", "1000000000"),
            ("By", "GBy", "1000000000"),
            ("By", "GiB", "1073741824"),
            ("By", "TiBy", "1099511627776"),
            ("By", "Mbit", "125000"),
            ("By", "bit", "0.125"),
            ("GB", "By", "0.000000001"),
            ("GiB", "MiB", "0.0009765625"),
            ("bit/s", "Mbit/s", "1000000"),
            ("By/s", "Mbit/s", "125000"),
            ("Mbit/s", "GB/h", "20/9"),
            ("s", "ms", "0.001"),
            ("ms", "d", "86400000"),
            ("{seat}.s", "{seat}.h", "3600"),
            ("By.s", "GiB.h", "3865470566400"),
            ("{request}/s", "{request}/min", "1/60"),
            ("Wh", "kWh", "1000"),
            ("kWh", "MWh", "1000"),
            ("kWh", "kW.h", "1"),
            ("kW.s", "kWh", "3600"),
            ("VAh", "kVAh", "1000"),
            ("W", "GW", "1000000000"),
            ("kvarh", "varh", "0.001"),
            ("{request}", "{request}", "1"),
        ] {
            assert_eq!(
                in_one(mine, other).as_deref(),
                Some(expected),
                "{mine} {other}"
            );
        }
    }

    #[test]
    fn other_kinds_do_not_fit() {
        for (mine, other) in [
            ("By", "By/s"),
            ("By", "s"),
            ("By", "gb"),
            ("By", "KB"),
            ("By", "{request}"),
            ("{request}", "{requests}"),
            ("{seat}.s", "{seat}"),
            ("{seat}.s", "{user}.s"),
            ("Mbit/s", "Mbit"),
            ("1", "{1}"),
            ("Wh", "VAh"),
            ("Wh", "W"),
            ("Wh", "KiWh"),
            ("kWh", "KWh"),
        ] {
            assert_eq!(in_one(mine, other), None, "{mine} {other}");
        }
    }

    #[test]
    fn kinds_have_names() {
        let of = |text| Unit::kind(text);
        assert_eq!(of("GiB"), "data");
        assert_eq!(of("h"), "time");
        assert_eq!(of("Mbit/s"), "data per time");
        assert_eq!(of("{seat}.s"), "{seat} times time");
        assert_eq!(of("{request}"), "{request}");
    }
}
