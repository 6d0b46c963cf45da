//! Details of rows as they stand in a snapshot: their canonical bytes.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::Detail;
use tollgate_common::sketch::{Histogram, UniqueSketch};

use super::packed::Packed;

/// A detail that is part of a state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptDetail(pub(super) Detail);

impl KeptDetail {
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
        let kind = match &self.0 {
            Detail::None => 0_u8,
            Detail::Unique(sketch) => {
                sketch.write_canonical(&mut bytes);
                1
            }
            Detail::Distribution(histogram) => {
                histogram.write_canonical(&mut bytes);
                2
            }
        };
        (kind, Packed(bytes.into())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeptDetail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let (kind, Packed(bytes)) = <(u8, Packed)>::deserialize(deserializer)?;
        match kind {
            0 if bytes.is_empty() => Ok(Self::default()),
            1 => UniqueSketch::from_canonical(&bytes)
                .map(|sketch| Self(Detail::Unique(Arc::new(sketch))))
                .map_err(D::Error::custom),
            2 => Histogram::from_canonical(&bytes)
                .map(|histogram| Self(Detail::Distribution(Arc::new(histogram))))
                .map_err(D::Error::custom),
            _ => Err(D::Error::custom("detail of unknown kind")),
        }
    }
}
