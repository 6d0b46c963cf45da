//! Dimensions: the sorted key/value pairs that split a meter.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::limits::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, DIMENSIONS_MAX};

/// The name of the dimension that replaces all others once a limit is reached.
pub const OVERFLOW_KEY: &str = "overflow";

/// Sorted, unique key/value pairs.
///
/// At most [`DIMENSIONS_MAX`] pairs. Keys: 1 to [`DIMENSION_KEY_BYTES_MAX`] bytes of ASCII
/// letters, digits and `. _ - / : @`. Values: 0 to [`DIMENSION_VALUE_BYTES_MAX`] bytes of
/// UTF-8 without control characters.
///
/// They lie in one piece of memory, as they stand in the canonical form of a series key: number of
/// pairs, then of each the key with its length as `u8` and the value with its length as `u16`
/// little-endian. No dimensions are no bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Dimensions(Arc<[u8]>);

/// Why pairs are not valid dimensions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DimensionsError {
    /// Too many pairs.
    #[error("{0} dimensions, more than the {DIMENSIONS_MAX} allowed")]
    TooMany(usize),
    /// The same key twice.
    #[error("dimension `{0}` is given twice")]
    Duplicate(String),
    /// A key that is empty, too long or has other characters.
    #[error(
        "dimension key {0:?} is invalid (1 to {DIMENSION_KEY_BYTES_MAX} ASCII letters, digits and . _ - / : @)"
    )]
    Key(String),
    /// A value that is too long or has control characters.
    #[error(
        "value of dimension `{0}` is invalid (at most {DIMENSION_VALUE_BYTES_MAX} bytes without control characters)"
    )]
    Value(String),
}

impl Dimensions {
    /// No dimensions.
    pub fn none() -> Self {
        Self::default()
    }

    /// The dimensions of a series whose own were dropped because a limit was reached.
    pub fn overflow() -> Self {
        Self::of_sorted(&[(OVERFLOW_KEY, "true")])
    }

    /// Sorts and checks `pairs`.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, DimensionsError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut checked: Vec<(K, V)> = Vec::new();
        for (key, value) in pairs {
            check_key(key.as_ref())?;
            check_value(key.as_ref(), value.as_ref())?;
            if checked.len() == DIMENSIONS_MAX {
                return Err(DimensionsError::TooMany(DIMENSIONS_MAX + 1));
            }
            checked.push((key, value));
        }
        checked.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        let same = |pair: &&[(K, V)]| pair[0].0.as_ref() == pair[1].0.as_ref();
        if let Some(pair) = checked.windows(2).find(same) {
            return Err(DimensionsError::Duplicate(pair[0].0.as_ref().to_owned()));
        }
        Ok(Self::of_sorted(&checked))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "lengths are bounded, see limits.rs"
    )]
    fn of_sorted<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Self {
        if pairs.is_empty() {
            return Self::none();
        }
        let mut bytes = vec![pairs.len() as u8];
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            bytes.push(key.len() as u8);
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        Self(bytes.into())
    }

    /// The dimensions whose canonical form `bytes` are, which somebody has checked.
    pub(crate) fn of_checked(bytes: &[u8]) -> Self {
        match bytes {
            [0] => Self::none(),
            _ => Self(bytes.into()),
        }
    }

    /// Their part of the canonical form of a series key, see
    /// [`SeriesKey::write_canonical`](crate::SeriesKey::write_canonical): at least one byte.
    /// Equal for equal dimensions alone.
    pub fn canonical(&self) -> &[u8] {
        match &*self.0 {
            [] => &[0],
            bytes => bytes,
        }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.canonical()[0].into()
    }

    /// True without any pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = self.pairs();
        let (_, value) = pairs.find(|(known, _)| *known == key.as_bytes())?;
        Some(text(value))
    }

    /// The pairs in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs().map(|(key, value)| (text(key), text(value)))
    }

    fn pairs(&self) -> Pairs<'_> {
        let (count, left) = self.0.split_first().unwrap_or((&0, &[]));
        Pairs {
            count: (*count).into(),
            left,
        }
    }
}

/// The pairs of dimensions, as bytes.
struct Pairs<'a> {
    count: usize,
    left: &'a [u8],
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let (length, left) = self.left.split_first()?;
        let (key, left) = left.split_at(usize::from(*length));
        let (length, left) = left.split_first_chunk()?;
        let (value, left) = left.split_at(usize::from(u16::from_le_bytes(*length)));
        self.left = left;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("dimensions are made of texts")
}

/// Pair by pair; fewer pairs come before more that begin with them.
impl Ord for Dimensions {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pairs().cmp(other.pairs())
    }
}

impl PartialOrd for Dimensions {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), DimensionsError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    if key.is_empty() || key.len() > DIMENSION_KEY_BYTES_MAX || !key.bytes().all(allowed) {
        return Err(DimensionsError::Key(
            key.chars().take(DIMENSION_KEY_BYTES_MAX).collect(),
        ));
    }
    Ok(())
}

pub(crate) fn check_value(key: &str, value: &str) -> Result<(), DimensionsError> {
    // Nearly all values are ASCII, of which many bytes are looked at at once.
    let has_control = if value.is_ascii() {
        value.bytes().any(|byte| byte.is_ascii_control())
    } else {
        value.chars().any(char::is_control)
    };
    if value.len() > DIMENSION_VALUE_BYTES_MAX || has_control {
        return Err(DimensionsError::Value(key.to_owned()));
    }
    Ok(())
}

/// `key=value,key=value`, for people; a value may itself contain these characters.
impl fmt::Display for Dimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Dimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dimensions({self})")
    }
}

impl Serialize for Dimensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_found() {
        let dims = Dimensions::new([("region", "eu"), ("direction", "in")]).expect("valid");
        assert_eq!(dims.to_string(), "direction=in,region=eu");
        assert_eq!(dims.get("region"), Some("eu"));
        assert_eq!(dims.get("zone"), None);
    }

    #[test]
    fn bad_pairs_are_refused_with_their_key() {
        assert_eq!(
            Dimensions::new([("a", "1"), ("a", "2")]),
            Err(DimensionsError::Duplicate("a".to_owned()))
        );
        assert_eq!(
            Dimensions::new([("", "1")]),
            Err(DimensionsError::Key(String::new()))
        );
        assert_eq!(
            Dimensions::new([("a", "x\n")]),
            Err(DimensionsError::Value("a".to_owned()))
        );
        let many = (0..17).map(|i| (format!("k{i}"), "v"));
        assert_eq!(Dimensions::new(many), Err(DimensionsError::TooMany(17)));
    }
}
