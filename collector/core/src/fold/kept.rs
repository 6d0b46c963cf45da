//! Details of rows as they stand in a snapshot: their canonical bytes in hexadecimal.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::Detail;
use tollgate_common::sketch::{Histogram, UniqueSketch};

/// A detail that is part of a state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptDetail(pub(super) Detail);

impl KeptDetail {
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Takes in what another row of the series says. False if the histogram would count more
    /// than 2^64 - 1 values; it stays as it is then.
    pub(super) fn absorb(&mut self, other: &Detail) -> bool {
        match (&mut self.0, other) {
            (_, Detail::None) => true,
            (Detail::Unique(ours), Detail::Unique(theirs)) => {
                Arc::make_mut(ours).merge(theirs);
                true
            }
            (Detail::Distribution(ours), Detail::Distribution(theirs)) => {
                Arc::make_mut(ours).merge(theirs).is_ok()
            }
            (ours, theirs) => {
                *ours = theirs.clone();
                true
            }
        }
    }

    /// What it has above `other`: the buckets of a histogram less those of the other. Sets have
    /// no difference and stay whole.
    pub(super) fn above(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Detail::Distribution(ours), Detail::Distribution(theirs)) => {
                Self(Detail::Distribution(Arc::new(ours.saturating_sub(theirs))))
            }
            _ => self.clone(),
        }
    }
}

impl Serialize for KeptDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.canonical_len());
        let mut text = String::new();
        match &self.0 {
            Detail::None => {}
            Detail::Unique(sketch) => {
                text.push_str("unique ");
                sketch.write_canonical(&mut bytes);
            }
            Detail::Distribution(histogram) => {
                text.push_str("distribution ");
                histogram.write_canonical(&mut bytes);
            }
        }
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for KeptDetail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let Some((kind, digits)) = text.split_once(' ') else {
            return if text.is_empty() {
                Ok(Self::default())
            } else {
                Err(D::Error::custom("detail of no kind"))
            };
        };
        let byte = |pair: &[u8; 2]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes
            .filter(|_| rest.is_empty())
            .ok_or_else(|| D::Error::custom("detail is not hexadecimal"))?;
        match kind {
            "unique" => UniqueSketch::from_canonical(&bytes)
                .map(|sketch| Self(Detail::Unique(Arc::new(sketch))))
                .map_err(D::Error::custom),
            "distribution" => Histogram::from_canonical(&bytes)
                .map(|histogram| Self(Detail::Distribution(Arc::new(histogram))))
                .map_err(D::Error::custom),
            other => Err(D::Error::custom(format!(
                "detail of unknown kind `{other}`"
            ))),
        }
    }
}
