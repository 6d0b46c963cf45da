//! Exact fractions: what amounts are before they are rounded.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Mode;
use crate::digits;

/// A fraction of two `i128` in lowest terms with a denominator above zero.
///
/// Every operation is exact or answers `None` because a part would leave the range; nothing
/// rounds but the methods that are named so.
///
/// Printed as a decimal where one exists (`0.125`), else as `numerator/denominator`; in JSON
/// it is that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ratio {
    numerator: i128,
    denominator: i128,
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        // Nearly always true at once, and several times as fast.
        if let (Ok(mut small), Ok(mut other)) = (u64::try_from(a), u64::try_from(b)) {
            while other != 0 {
                (small, other) = (other, small % other);
            }
            return u128::from(small);
        }
        (a, b) = (b, a % b);
    }
    a
}

/// A fifth of a number above zero, if that is whole.
fn fifth(number: i128) -> Option<i128> {
    match u64::try_from(number) {
        Ok(short) => short.is_multiple_of(5).then(|| i128::from(short / 5)),
        Err(_) => (number % 5 == 0).then_some(number / 5),
    }
}

/// The greatest common divisor of two numbers of which `positive` is above zero.
fn common(any: i128, positive: i128) -> i128 {
    if positive == 1 {
        return 1;
    }
    let divisor = gcd(any.unsigned_abs(), positive.unsigned_abs());
    i128::try_from(divisor).expect("a divisor of a positive i128 is no larger than it")
}

/// A quotient, cut towards zero, by a number above zero. Nearly all numbers are short, and then that
/// takes a fraction of dividing long ones.
fn divided(number: i128, by: i128) -> i128 {
    if by == 1 {
        return number;
    }
    match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => number.wrapping_div(by).into(),
        _ => number / by,
    }
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self {
        numerator: 0,
        denominator: 1,
    };
    /// One.
    pub const ONE: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// A hundred.
    pub const HUNDRED: Self = Self {
        numerator: 100,
        denominator: 1,
    };

    /// `numerator / denominator`; `None` for a denominator below one.
    pub fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator <= 0 || numerator == i128::MIN {
            return None;
        }
        let divisor = common(numerator, denominator);
        Some(Self {
            numerator: divided(numerator, divisor),
            denominator: divided(denominator, divisor),
        })
    }

    /// A whole number.
    pub fn from_integer(number: i128) -> Option<Self> {
        Self::new(number, 1)
    }

    /// A decimal, exactly.
    pub fn from_decimal(decimal: Decimal) -> Self {
        let denominator = 10i128
            .checked_pow(decimal.scale())
            .expect("a decimal has at most 28 places, and 10^28 fits");
        Self::new(decimal.mantissa(), denominator)
            .expect("a decimal's mantissa has 96 bits and its denominator is positive")
    }

    /// The upper part, with the sign.
    pub const fn numerator(self) -> i128 {
        self.numerator
    }

    /// The lower part, above zero.
    pub const fn denominator(self) -> i128 {
        self.denominator
    }

    /// True for nothing.
    pub const fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.numerator < 0
    }

    /// Sum.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let divisor = common(self.denominator, other.denominator);
        let left = divided(other.denominator, divisor);
        let right = divided(self.denominator, divisor);
        let numerator = self
            .numerator
            .checked_mul(left)?
            .checked_add(other.numerator.checked_mul(right)?)?;
        Self::new(numerator, self.denominator.checked_mul(left)?)
    }

    /// Difference.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self {
            numerator: -other.numerator,
            denominator: other.denominator,
        })
    }

    /// Product; shortened crosswise first, so that it fits whenever its result does.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let across = common(self.numerator, other.denominator);
        let down = common(other.numerator, self.denominator);
        let (left, right) = (
            divided(self.numerator, across),
            divided(other.numerator, down),
        );
        let numerator = left.checked_mul(right)?;
        let (left, right) = (
            divided(self.denominator, down),
            divided(other.denominator, across),
        );
        // What had nothing in common has nothing in common now.
        (numerator != i128::MIN).then_some(Self {
            numerator,
            denominator: left.checked_mul(right)?,
        })
    }

    /// Quotient; `None` also for a divisor that is not above zero.
    pub fn checked_div(self, other: Self) -> Option<Self> {
        if other.numerator <= 0 {
            return None;
        }
        self.checked_mul(Self {
            numerator: other.denominator,
            denominator: other.numerator,
        })
    }

    /// Which of two is larger, where that can be computed in one step. Numbers that say themselves
    /// that they are too long for prices are compared so; others by [`Ord`], which always can.
    pub fn checked_cmp(self, other: Self) -> Option<Ordering> {
        let divisor = common(self.denominator, other.denominator);
        let left = divided(other.denominator, divisor);
        let right = divided(self.denominator, divisor);
        let left = self.numerator.checked_mul(left)?;
        let right = other.numerator.checked_mul(right)?;
        Some(left.cmp(&right))
    }

    /// The same of any two, without a number larger than theirs: whole parts are compared, then what
    /// is left the other way round, upside down.
    fn cmp_by_parts(self, other: Self) -> Ordering {
        let (mut one, mut two) = (self, other);
        loop {
            let whole = |of: Self| of.numerator.div_euclid(of.denominator);
            let rest = |of: Self| of.numerator.rem_euclid(of.denominator);
            let order = whole(one).cmp(&whole(two));
            if order.is_ne() {
                return order;
            }
            let upside_down = |of: Self| Self {
                numerator: of.denominator,
                denominator: rest(of),
            };
            match (rest(one), rest(two)) {
                (0, 0) => return Ordering::Equal,
                (0, _) => return Ordering::Less,
                (_, 0) => return Ordering::Greater,
                _ => (one, two) = (upside_down(two), upside_down(one)),
            }
        }
    }

    /// The whole number that `mode` makes of it.
    pub fn round_whole(self, mode: Mode) -> i128 {
        let quotient = divided(self.numerator, self.denominator);
        let remainder = self.numerator - quotient * self.denominator;
        let (below, above) = (
            remainder.unsigned_abs(),
            self.denominator.unsigned_abs() - remainder.unsigned_abs(),
        );
        let away = match mode {
            _ if remainder == 0 => false,
            Mode::HalfUp => below >= above,
            Mode::HalfEven => below > above || (below == above && quotient % 2 != 0),
            Mode::Up => true,
            Mode::Down => false,
        };
        if away {
            // Of a fraction with a remainder, the quotient is far from the range's end.
            quotient + self.numerator.signum()
        } else {
            quotient
        }
    }

    /// The multiple of `step` that `mode` makes of it; `None` also for a step that is not above
    /// zero.
    pub fn round_to(self, step: Self, mode: Mode) -> Option<Self> {
        let steps = self.checked_div(step)?.round_whole(mode);
        Self::from_integer(steps)?.checked_mul(step)
    }

    /// A decimal of `places` places.
    ///
    /// `None` if the result has more than the 96 bits of a [`Decimal`].
    pub fn round(self, places: u32, mode: Mode) -> Option<Decimal> {
        let power = Self::from_integer(10i128.checked_pow(places)?)?;
        let units = self.checked_mul(power)?.round_whole(mode);
        Decimal::try_from_i128_with_scale(units, places).ok()
    }

    /// Decimal places of the exact decimal, `None` if there is none with 28 or fewer.
    fn decimal_places(self) -> Option<u32> {
        let twos = self.denominator.trailing_zeros();
        let mut rest = self.denominator >> twos;
        let mut fives = 0;
        while let Some(less) = fifth(rest) {
            rest = less;
            fives += 1;
        }
        let places = Ord::max(twos, fives);
        (rest == 1 && places <= 28).then_some(places)
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let at_once = self.checked_cmp(*other);
        at_once.unwrap_or_else(|| self.cmp_by_parts(*other))
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_negative = self.is_negative();
        if self.denominator == 1 {
            return digits::write(f, is_negative, self.numerator.unsigned_abs(), 0);
        }
        let units = self.decimal_places().and_then(|places| {
            let factor = divided(10i128.checked_pow(places)?, self.denominator);
            Some((self.numerator.checked_mul(factor)?.unsigned_abs(), places))
        });
        match units {
            Some((units, places)) => digits::write(f, is_negative, units, places as usize),
            None => write!(f, "{}/{}", self.numerator, self.denominator),
        }
    }
}

/// Not a decimal and not a fraction, or out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an exact number (expected digits with an optional point, or `numerator/denominator`)")]
pub struct ParseRatioError;

impl FromStr for Ratio {
    type Err = ParseRatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse::<i128>().map_err(|_| ParseRatioError);
        if let Some((numerator, denominator)) = text.split_once('/') {
            return Self::new(number(numerator)?, number(denominator)?).ok_or(ParseRatioError);
        }
        let Some((whole, fraction)) = text.split_once('.') else {
            return Self::from_integer(number(text)?).ok_or(ParseRatioError);
        };
        if whole.trim_start_matches('-').is_empty()
            || fraction.is_empty()
            || !fraction.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(ParseRatioError);
        }
        let places = u32::try_from(fraction.len()).map_err(|_| ParseRatioError)?;
        let denominator = 10i128.checked_pow(places).ok_or(ParseRatioError)?;
        Self::new(number(&format!("{whole}{fraction}"))?, denominator).ok_or(ParseRatioError)
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratio(text: &str) -> Ratio {
        text.parse().expect("a test's number is valid")
    }

    #[test]
    fn halves_go_away_from_zero() {
        let rounded = |text: &str, places| {
            ratio(text)
                .round(places, Mode::HalfUp)
                .map(|d| d.to_string())
        };
        assert_eq!(rounded("0.125", 2).as_deref(), Some("0.13"));
        assert_eq!(rounded("-0.125", 2).as_deref(), Some("-0.13"));
        assert_eq!(rounded("0.1249999", 2).as_deref(), Some("0.12"));
        assert_eq!(rounded("1/3", 2).as_deref(), Some("0.33"));
        assert_eq!(rounded("2/3", 0).as_deref(), Some("1"));
        assert_eq!(rounded("1/2", 0).as_deref(), Some("1"));
        assert_eq!(rounded("-1/2", 0).as_deref(), Some("-1"));
        assert_eq!(rounded("5", 3).as_deref(), Some("5.000"));
        assert_eq!(rounded(&i128::MAX.to_string(), 0), None);
    }

    #[test]
    fn every_mode_rounds_as_its_name_says() {
        let all = |text: &str| {
            [Mode::HalfUp, Mode::HalfEven, Mode::Up, Mode::Down]
                .map(|mode| ratio(text).round_whole(mode))
        };
        assert_eq!(all("2.5"), [3, 2, 3, 2]);
        assert_eq!(all("3.5"), [4, 4, 4, 3]);
        assert_eq!(all("2.4"), [2, 2, 3, 2]);
        assert_eq!(all("2.6"), [3, 3, 3, 2]);
        assert_eq!(all("7/3"), [2, 2, 3, 2]);
        assert_eq!(all("-2.5"), [-3, -2, -3, -2]);
        assert_eq!(all("4"), [4, 4, 4, 4]);
        assert_eq!(all("0"), [0, 0, 0, 0]);
        let step = |text: &str, step: &str, mode| ratio(text).round_to(ratio(step), mode);
        assert_eq!(step("61", "60", Mode::Up), Some(ratio("120")));
        assert_eq!(step("61", "60", Mode::Down), Some(ratio("60")));
        assert_eq!(step("0.25", "0.1", Mode::HalfEven), Some(ratio("0.2")));
        assert_eq!(step("1", "1/3", Mode::Up), Some(ratio("1")));
        assert_eq!(step("1", "0", Mode::Up), None);
    }

    #[test]
    fn prints_decimals_where_they_exist() {
        assert_eq!(ratio("0.40").to_string(), "0.4");
        assert_eq!(ratio("-1/8").to_string(), "-0.125");
        assert_eq!(ratio("10/3").to_string(), "10/3");
        assert_eq!(ratio("4/2").to_string(), "2");
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in [
            "", ".", "1.", ".5", "-.5", "1/0", "1/-2", "a", "1e3", "1.+5", "--1.0",
        ] {
            assert_eq!(text.parse::<Ratio>(), Err(ParseRatioError), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let large = Ratio::from_integer(i128::MAX).expect("fits");
        assert_eq!(large.checked_add(Ratio::ONE), None);
        assert_eq!(large.checked_mul(ratio("2")), None);
        assert_eq!(large.checked_mul(ratio("1/2")), Ratio::new(i128::MAX, 2));
        assert_eq!(Ratio::new(i128::MIN, 1), None);
        assert_eq!(Ratio::ONE.checked_div(Ratio::ZERO), None);
    }

    proptest! {
        #[test]
        fn any_two_can_be_compared(a in -i128::MAX.., b in 1i128.., c in -i128::MAX.., d in 1i128.., near in any::<bool>()) {
            use num_bigint::BigInt;
            // Close to each other, so that it is decided late.
            let (c, d) = if near { (a / 3, (b / 3).max(1)) } else { (c, d) };
            let (x, y) = (Ratio::new(a, b).expect("valid"), Ratio::new(c, d).expect("valid"));
            let order = (BigInt::from(a) * BigInt::from(d)).cmp(&(BigInt::from(c) * BigInt::from(b)));
            prop_assert_eq!(x.cmp(&y), order);
            prop_assert_eq!(x.cmp_by_parts(y), order);
            prop_assert_eq!(y.cmp_by_parts(x), order.reverse());
        }

        #[test]
        fn arithmetic_agrees_with_big_rationals(a in -1_000_000_000_000i128.., b in 1i128..1_000_000_000, c in any::<i64>(), d in 1i128..1_000_000) {
            use num_bigint::BigInt;
            let (x, y) = (Ratio::new(a, b).expect("valid"), Ratio::new(i128::from(c), d).expect("valid"));
            let big = |n: i128| BigInt::from(n);
            if let Some(sum) = x.checked_add(y) {
                prop_assert_eq!(
                    big(sum.numerator) * big(b) * big(d),
                    (big(a) * big(d) + BigInt::from(c) * big(b)) * big(sum.denominator)
                );
            }
            if let Some(product) = x.checked_mul(y) {
                prop_assert_eq!(
                    big(product.numerator) * big(b) * big(d),
                    big(a) * BigInt::from(c) * big(product.denominator)
                );
            }
            prop_assert_eq!(x.to_string().parse::<Ratio>(), Ok(x));
        }
    }
}
