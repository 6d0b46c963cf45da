//! Series keys as the canonical bytes that somebody else holds.
//!
//! A seal of a million series has no room for a million [`SeriesKey`]s: it sorts and encodes
//! the canonical bytes where they lie. A [`SeriesRef`] says no more than a key does, and
//! compares like one.

use std::cmp::Ordering;

use crate::dimensions::{DimensionsError, check_key, check_value};
use crate::ids::{MeterName, TenantId};
use crate::limits::{DIMENSIONS_MAX, SERIES_KEY_BYTES_MAX};
use crate::series::{SeriesKey, SeriesKeyError};

/// A series key in its canonical form, see [`SeriesKey::write_canonical`].
///
/// The bytes are taken as they are. Of bytes that are not canonical every question has an
/// answer, but it means nothing: who got them from elsewhere asks [`SeriesRef::check`] first.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRef<'a>(&'a [u8]);

impl<'a> SeriesRef<'a> {
    /// The key whose canonical form `bytes` are.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The canonical form.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Refuses bytes that are no canonical form, as [`SeriesKey::from_canonical`] does, but
    /// without making a key.
    pub fn check(self) -> Result<(), SeriesKeyError> {
        if self.0.len() > SERIES_KEY_BYTES_MAX {
            return Err(SeriesKeyError::TooLong(self.0.len()));
        }
        let malformed = |left: &[u8]| SeriesKeyError::Malformed(self.0.len() - left.len());
        let mut walk = Walk::over(self.0);
        TenantId::check(walk.short_text().ok_or(malformed(walk.left))?)?;
        MeterName::check(walk.short_text().ok_or(malformed(walk.left))?)?;
        let count = usize::from(walk.byte());
        if count > DIMENSIONS_MAX {
            return Err(DimensionsError::TooMany(count).into());
        }
        let mut before = "";
        for _ in 0..count {
            let key = walk.short_text().ok_or(malformed(walk.left))?;
            let value = walk.long_text().ok_or(malformed(walk.left))?;
            check_key(key)?;
            check_value(key, value)?;
            if before >= key {
                return Err(SeriesKeyError::NotCanonical);
            }
            before = key;
        }
        if !walk.left.is_empty() || walk.short_of {
            return Err(malformed(walk.left));
        }
        Ok(())
    }

    /// The tenant's bytes.
    pub fn tenant(self) -> &'a [u8] {
        Walk::over(self.0).short()
    }

    /// The meter's bytes.
    pub fn meter(self) -> &'a [u8] {
        let mut walk = Walk::over(self.0);
        walk.short();
        walk.short()
    }

    /// The bytes of tenant and meter with their lengths, with which the canonical form begins:
    /// keys of the same tenant and meter share them.
    pub fn names(self) -> &'a [u8] {
        let mut walk = Walk::over(self.0);
        walk.short();
        walk.short();
        &self.0[..self.0.len() - walk.left.len()]
    }

    /// How many dimensions there are.
    pub fn dimension_count(self) -> usize {
        let mut walk = Walk::over(self.0);
        walk.short();
        walk.short();
        usize::from(walk.byte())
    }

    /// Appends bytes that compare like keys do, so that who sorts many keys need not walk
    /// through each of them for every comparison: names and texts as they are, each ended by a
    /// zero, which none of them contains. No key's are the beginning of another's.
    pub fn write_rank(self, out: &mut Vec<u8>) {
        let mut walk = Walk::over(self.0);
        let mut text = |text: &[u8]| {
            out.extend_from_slice(text);
            out.push(0);
        };
        text(walk.short());
        text(walk.short());
        for _ in 0..walk.byte() {
            text(walk.short());
            text(walk.long());
        }
        text(&[]);
    }

    /// The key itself.
    pub fn to_key(self) -> Result<SeriesKey, SeriesKeyError> {
        SeriesKey::from_canonical(self.0)
    }
}

/// As [`SeriesKey`] compares: tenant, meter, then the pairs of the dimensions.
impl Ord for SeriesRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (Walk::over(self.0), Walk::over(other.0));
        let names = a
            .short()
            .cmp(b.short())
            .then_with(|| a.short().cmp(b.short()));
        if names != Ordering::Equal {
            return names;
        }
        let (left, right) = (a.byte(), b.byte());
        for _ in 0..left.min(right) {
            let pair = a
                .short()
                .cmp(b.short())
                .then_with(|| a.long().cmp(b.long()));
            if pair != Ordering::Equal {
                return pair;
            }
        }
        left.cmp(&right)
    }
}

impl PartialOrd for SeriesRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The canonical form is unique.
impl PartialEq for SeriesRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for SeriesRef<'_> {}

/// What is left of a canonical form. At its end it gives empty parts.
struct Walk<'a> {
    left: &'a [u8],
    /// More was asked for than there was.
    short_of: bool,
}

impl<'a> Walk<'a> {
    const fn over(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            short_of: false,
        }
    }

    fn byte(&mut self) -> u8 {
        match self.take(1) {
            [byte] => *byte,
            _ => 0,
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        if length > self.left.len() {
            self.short_of = true;
        }
        let (taken, rest) = self.left.split_at(length.min(self.left.len()));
        self.left = rest;
        taken
    }

    fn short(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    fn short_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short()).ok()
    }

    fn long_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.long()).ok()
    }

    fn long(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dimensions::Dimensions;

    fn keys() -> impl Strategy<Value = SeriesKey> {
        let pairs = proptest::collection::btree_map("[a-c]{1,3}", "[a-cä]{0,3}", 0..4);
        ("[a-c]{1,3}", "[a-c]{1,3}", pairs).prop_map(|(tenant, meter, pairs)| {
            SeriesKey::new(
                TenantId::new(&tenant).expect("valid"),
                MeterName::new(&meter).expect("valid"),
                Dimensions::new(pairs).expect("valid"),
            )
            .expect("short")
        })
    }

    proptest! {
        #[test]
        fn borrowed_keys_compare_like_keys(a in keys(), b in keys()) {
            let (bytes_a, bytes_b) = (a.to_canonical(), b.to_canonical());
            let (ref_a, ref_b) = (SeriesRef::new(&bytes_a), SeriesRef::new(&bytes_b));
            prop_assert_eq!(ref_a.cmp(&ref_b), a.cmp(&b));
            prop_assert_eq!(ref_a == ref_b, a == b);
            let [mut rank_a, mut rank_b] = [Vec::new(), Vec::new()];
            ref_a.write_rank(&mut rank_a);
            ref_b.write_rank(&mut rank_b);
            prop_assert_eq!(rank_a.cmp(&rank_b), a.cmp(&b));
            prop_assert!(rank_a == rank_b || !rank_a.starts_with(&rank_b));
            prop_assert_eq!(ref_a.names() == ref_b.names(), (a.tenant(), a.meter()) == (b.tenant(), b.meter()));
            prop_assert_eq!(ref_a.tenant(), a.tenant().as_str().as_bytes());
            prop_assert_eq!(ref_a.meter(), a.meter().as_str().as_bytes());
            prop_assert_eq!(ref_a.dimension_count(), a.dimensions().len());
            prop_assert!(ref_a.check().is_ok());
        }

        #[test]
        fn a_check_agrees_with_reading(key in keys(), at in any::<prop::sample::Index>(), bits in any::<u8>()) {
            let mut bytes = key.to_canonical();
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            let read = SeriesKey::from_canonical(&bytes);
            prop_assert_eq!(SeriesRef::new(&bytes).check().is_ok(), read.is_ok(), "{:?}", read);
            bytes.truncate(at);
            prop_assert!(SeriesRef::new(&bytes).check().is_err());
        }
    }
}
