//! Series keys and their canonical bytes.

use std::fmt;

use serde::Serialize;

use crate::dimensions::{Dimensions, DimensionsError, check_key, check_value};
use crate::ids::{MeterName, NameError, TenantId};
use crate::limits::{DIMENSIONS_MAX, SERIES_KEY_BYTES_MAX};

/// Tenant, meter and dimensions: what a count is added to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SeriesKey {
    tenant: TenantId,
    meter: MeterName,
    dimensions: Dimensions,
}

/// Why bytes or parts are not a series key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesKeyError {
    /// The canonical form would be too long.
    #[error("series key has {0} bytes, more than the {SERIES_KEY_BYTES_MAX} allowed")]
    TooLong(usize),
    /// The canonical bytes end early, have a rest, or hold invalid UTF-8.
    #[error("series key bytes are malformed at byte {0}")]
    Malformed(usize),
    /// The dimensions are not in canonical order.
    #[error("series key is not canonical")]
    NotCanonical,
    /// A name breaks its rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A dimension breaks its rules.
    #[error(transparent)]
    Dimensions(#[from] DimensionsError),
}

impl SeriesKey {
    /// The key of these parts, if its canonical form is short enough.
    pub fn new(
        tenant: TenantId,
        meter: MeterName,
        dimensions: Dimensions,
    ) -> Result<Self, SeriesKeyError> {
        let key = Self {
            tenant,
            meter,
            dimensions,
        };
        let length = key.canonical_len();
        if length > SERIES_KEY_BYTES_MAX {
            return Err(SeriesKeyError::TooLong(length));
        }
        Ok(key)
    }

    /// Who pays.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What is measured.
    pub fn meter(&self) -> &MeterName {
        &self.meter
    }

    /// How the meter is split.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    /// The same series with these names, which are equal to its own.
    #[cfg(feature = "formats")]
    pub(crate) fn with_equal_names(self, tenant: TenantId, meter: MeterName) -> Self {
        debug_assert!(self.tenant == tenant && self.meter == meter);
        Self {
            tenant,
            meter,
            dimensions: self.dimensions,
        }
    }

    /// The same tenant and meter with `overflow=true` in place of the dimensions.
    #[must_use]
    pub fn to_overflow(&self) -> Self {
        Self {
            tenant: self.tenant.clone(),
            meter: self.meter.clone(),
            dimensions: Dimensions::overflow(),
        }
    }

    /// Bytes of the canonical form.
    pub fn canonical_len(&self) -> usize {
        2 + self.tenant.as_str().len()
            + self.meter.as_str().len()
            + self.dimensions.canonical().len()
    }

    /// Appends the canonical form: tenant and meter each as length `u8` and bytes, the number
    /// of dimensions as `u8`, then each key as length `u8` and bytes and each value as length
    /// `u16` little-endian and bytes, in the order of the keys.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "lengths are bounded, see limits.rs"
    )]
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        for name in [self.tenant.as_str(), self.meter.as_str()] {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(self.dimensions.canonical());
    }

    /// The canonical form, as [`SeriesKey::write_canonical`] writes it.
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.canonical_len());
        self.write_canonical(&mut out);
        out
    }

    /// True if `bytes` are its canonical form.
    pub fn is_canonical(&self, bytes: &[u8]) -> bool {
        let after = |bytes: &'_ [u8], name: &str| {
            let length = usize::from(*bytes.first()?);
            let rest = bytes[1..].strip_prefix(name.as_bytes())?;
            (length == name.len()).then_some(bytes.len() - rest.len())
        };
        let mut at = 0;
        for name in [self.tenant.as_str(), self.meter.as_str()] {
            match after(&bytes[at..], name) {
                Some(length) => at += length,
                None => return false,
            }
        }
        bytes[at..] == *self.dimensions.canonical()
    }

    /// Reads exactly one canonical form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SeriesKeyError> {
        Self::from_canonical_near(bytes, None)
    }

    /// The same beside another key, whose names it shares where they are equal.
    pub fn from_canonical_near(bytes: &[u8], near: Option<&Self>) -> Result<Self, SeriesKeyError> {
        if bytes.len() > SERIES_KEY_BYTES_MAX {
            return Err(SeriesKeyError::TooLong(bytes.len()));
        }
        let mut reader = Reader { bytes, at: 0 };
        let tenant = reader.short()?;
        let tenant = match near.map(Self::tenant) {
            Some(near) if near.as_str().as_bytes() == tenant => near.clone(),
            _ => TenantId::new(reader.text(tenant)?)?,
        };
        let meter = reader.short()?;
        let meter = match near.map(Self::meter) {
            Some(near) if near.as_str().as_bytes() == meter => near.clone(),
            _ => MeterName::new(reader.text(meter)?)?,
        };
        let from = reader.at;
        reader.check_dimensions()?;
        if reader.at != bytes.len() {
            return Err(SeriesKeyError::Malformed(reader.at));
        }
        Ok(Self {
            tenant,
            meter,
            dimensions: Dimensions::of_checked(&bytes[from..]),
        })
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{{{}}}", self.tenant, self.meter, self.dimensions)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SeriesKeyError> {
        let end = self
            .at
            .checked_add(length)
            .ok_or(SeriesKeyError::Malformed(self.at))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or(SeriesKeyError::Malformed(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, SeriesKeyError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Result<&'a [u8], SeriesKeyError> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn long(&mut self) -> Result<&'a [u8], SeriesKeyError> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_le_bytes([length[0], length[1]])))
    }

    /// The text that was taken last.
    fn text(&self, taken: &'a [u8]) -> Result<&'a str, SeriesKeyError> {
        let malformed = |_| SeriesKeyError::Malformed(self.at - taken.len());
        std::str::from_utf8(taken).map_err(malformed)
    }

    /// Passes over dimensions, and refuses those that are not canonical.
    fn check_dimensions(&mut self) -> Result<(), SeriesKeyError> {
        let count = usize::from(self.byte()?);
        if count > DIMENSIONS_MAX {
            return Err(DimensionsError::TooMany(count).into());
        }
        let mut before = "";
        for _ in 0..count {
            let key = self.short()?;
            let key = self.text(key)?;
            let value = self.long()?;
            let value = self.text(value)?;
            check_key(key)?;
            check_value(key, value)?;
            if before >= key {
                return Err(SeriesKeyError::NotCanonical);
            }
            before = key;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(pairs: &[(&str, &str)]) -> SeriesKey {
        SeriesKey::new(
            TenantId::new("acme").expect("valid"),
            MeterName::new("net.bytes").expect("valid"),
            Dimensions::new(pairs.iter().copied()).expect("valid"),
        )
        .expect("short enough")
    }

    #[test]
    fn canonical_form_is_stable() {
        let bytes = key(&[("b", "2"), ("a", "1")]).to_canonical();
        assert_eq!(
            bytes,
            b"\x04acme\x09net.bytes\x02\x01a\x01\x001\x01b\x01\x002"
        );
        assert_eq!(
            SeriesKey::from_canonical(&bytes),
            Ok(key(&[("a", "1"), ("b", "2")]))
        );
    }

    #[test]
    fn other_orders_and_rests_are_refused() {
        let unsorted = b"\x04acme\x01m\x02\x01b\x01\x002\x01a\x01\x001";
        assert_eq!(
            SeriesKey::from_canonical(unsorted),
            Err(SeriesKeyError::NotCanonical)
        );
        let mut rest = key(&[]).to_canonical();
        rest.push(0);
        assert!(matches!(
            SeriesKey::from_canonical(&rest),
            Err(SeriesKeyError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(key) = SeriesKey::from_canonical(&bytes) {
                prop_assert_eq!(key.to_canonical(), bytes);
            }
        }
    }
}
