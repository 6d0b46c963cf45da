//! Dimensions: the sorted key/value pairs that split a meter.

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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimensions(Arc<[(Box<str>, Box<str>)]>);

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
        Self(Arc::from([(OVERFLOW_KEY.into(), "true".into())]))
    }

    /// Sorts and checks `pairs`.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, DimensionsError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut checked: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            check_key(key)?;
            check_value(key, value)?;
            if checked.len() == DIMENSIONS_MAX {
                return Err(DimensionsError::TooMany(DIMENSIONS_MAX + 1));
            }
            checked.push((key.into(), value.into()));
        }
        checked.sort_unstable();
        if let Some(pair) = checked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(DimensionsError::Duplicate(pair[0].0.to_string()));
        }
        Ok(Self(checked.into()))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// The pairs in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
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
    if value.len() > DIMENSION_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
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
