//! Series keys and their canonical bytes.

use std::fmt;

use serde::Serialize;

use crate::dimensions::{Dimensions, DimensionsError};
use crate::ids::{MeterName, NameError, TenantId};
use crate::limits::SERIES_KEY_BYTES_MAX;

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
        let dimensions: usize = self
            .dimensions
            .iter()
            .map(|(k, v)| 3 + k.len() + v.len())
            .sum();
        3 + self.tenant.as_str().len() + self.meter.as_str().len() + dimensions
    }

    /// Appends the canonical form: tenant and meter each as length `u8` and bytes, the number
    /// of dimensions as `u8`, then each key as length `u8` and bytes and each value as length
    /// `u16` little-endian and bytes, in the order of the keys.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "lengths are bounded, see limits.rs"
    )]
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        let mut short = |text: &str| {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        };
        short(self.tenant.as_str());
        short(self.meter.as_str());
        out.push(self.dimensions.len() as u8);
        for (key, value) in self.dimensions.iter() {
            out.push(key.len() as u8);
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// The canonical form, as [`SeriesKey::write_canonical`] writes it.
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.canonical_len());
        self.write_canonical(&mut out);
        out
    }

    /// Reads exactly one canonical form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SeriesKeyError> {
        if bytes.len() > SERIES_KEY_BYTES_MAX {
            return Err(SeriesKeyError::TooLong(bytes.len()));
        }
        let mut reader = Reader { bytes, at: 0 };
        let tenant = TenantId::new(reader.short()?)?;
        let meter = MeterName::new(reader.short()?)?;
        let count = reader.byte()?;
        let mut pairs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            pairs.push((reader.short()?, reader.long()?));
        }
        if reader.at != bytes.len() {
            return Err(SeriesKeyError::Malformed(reader.at));
        }
        let sorted = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let dimensions = Dimensions::new(pairs)?;
        if !sorted {
            return Err(SeriesKeyError::NotCanonical);
        }
        Ok(Self {
            tenant,
            meter,
            dimensions,
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

    fn text(&mut self, length: usize) -> Result<&'a str, SeriesKeyError> {
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|_| SeriesKeyError::Malformed(at))
    }

    fn short(&mut self) -> Result<&'a str, SeriesKeyError> {
        let length = self.byte()?;
        self.text(usize::from(length))
    }

    fn long(&mut self) -> Result<&'a str, SeriesKeyError> {
        let length = self.take(2)?;
        self.text(usize::from(u16::from_le_bytes([length[0], length[1]])))
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
