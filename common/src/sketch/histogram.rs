//! How values are distributed: buckets of bounded relative width.
//!
//! The layout is that of HdrHistogram (<http://hdrhistogram.org>) with 2 significant decimal
//! digits and a lowest discernible value of 1: values below 256 have a bucket each, and every
//! doubling above that is split into 128 buckets of equal width. A bucket is therefore at
//! most 1/128 (0.79 %) as wide as its lowest value.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::SketchError;

/// Bits of a value that a bucket keeps beside the leading one.
const PRECISION_BITS: u32 = 7;
/// Buckets per doubling.
const HALF: u32 = 1 << PRECISION_BITS;
/// Doublings after the first 256 values: highest bit 8 to 63.
const DOUBLINGS: u32 = 64 - (PRECISION_BITS + 1);
/// Buckets of the layout, for all values of 64 bits. Those below 2^63 use the first 7,296.
pub const BUCKETS: u32 = (DOUBLINGS + 2) * HALF;

/// A histogram with so many times fewer buckets than another is merged into it bucket by bucket:
/// half a million windows with a value each must not cost as many walks over a period's buckets.
const FEW_PART: usize = 16;

/// The bucket of a value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "shifted to at most 8 bits, see the test of all edges"
)]
pub const fn bucket_of(value: u64) -> u32 {
    let doubling = (64 - PRECISION_BITS - 1).saturating_sub(value.leading_zeros());
    doubling * HALF + (value >> doubling) as u32
}

/// The lowest and the highest value of a bucket.
///
/// Range: buckets below [`BUCKETS`]; a higher one is taken for the last.
pub const fn bucket_range(bucket: u32) -> (u64, u64) {
    let bucket = if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    };
    let doubling = (bucket / HALF).saturating_sub(1);
    let low = ((bucket - doubling * HALF) as u64) << doubling;
    (low, low + ((1 << doubling) - 1))
}

/// Counts of values by bucket, mergeable in any order.
///
/// Only buckets that count something are kept. A value read back is at most 1/128 above what
/// was recorded and never below it. The number of values is below 2^64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Bucket and count, by bucket; no count is 0.
    buckets: Vec<(u32, u64)>,
    /// The sum of the counts.
    count: u64,
}

impl Histogram {
    /// A histogram of nothing.
    pub const fn new() -> Self {
        Self {
            buckets: Vec::new(),
            count: 0,
        }
    }

    /// The histogram of these buckets and counts.
    ///
    /// Buckets strictly increase, are below [`BUCKETS`], and count something.
    pub fn from_buckets(buckets: Vec<(u32, u64)>) -> Result<Self, SketchError> {
        if buckets.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(SketchError::Order("buckets"));
        }
        let mut total = 0_u64;
        for &(bucket, count) in &buckets {
            if bucket >= BUCKETS {
                return Err(SketchError::Bucket(bucket));
            }
            if count == 0 {
                return Err(SketchError::EmptyBucket(bucket));
            }
            total = total.checked_add(count).ok_or(SketchError::Overflow)?;
        }
        Ok(Self {
            buckets,
            count: total,
        })
    }

    /// Records `value` `count` times.
    ///
    /// # Errors
    ///
    /// [`SketchError::Overflow`] if more than 2^64 - 1 values would be in it; nothing is
    /// recorded then.
    pub fn record(&mut self, value: u64, count: u64) -> Result<(), SketchError> {
        if count == 0 {
            return Ok(());
        }
        self.count = self.count.checked_add(count).ok_or(SketchError::Overflow)?;
        self.add(bucket_of(value), count);
        Ok(())
    }

    /// Adds to a bucket what the total has already.
    fn add(&mut self, bucket: u32, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |entry| entry.0) {
            // A part of the total, which fits.
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// Adds what `other` counts.
    ///
    /// # Errors
    ///
    /// [`SketchError::Overflow`] if more than 2^64 - 1 values would be in it; nothing is added
    /// then.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        self.count = self
            .count
            .checked_add(other.count)
            .ok_or(SketchError::Overflow)?;
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return Ok(());
        }
        if other.buckets.len() * FEW_PART <= self.buckets.len() {
            for &(bucket, count) in &other.buckets {
                self.add(bucket, count);
            }
            return Ok(());
        }
        let mut merged = Vec::with_capacity(self.buckets.len().max(other.buckets.len()));
        let (mut ours, mut theirs) = (
            self.buckets.iter().peekable(),
            other.buckets.iter().peekable(),
        );
        while let (Some(&&(a, n)), Some(&&(b, m))) = (ours.peek(), theirs.peek()) {
            merged.push(match a.cmp(&b) {
                std::cmp::Ordering::Less => (a, n),
                std::cmp::Ordering::Equal => (a, n + m),
                std::cmp::Ordering::Greater => (b, m),
            });
            if a <= b {
                ours.next();
            }
            if b <= a {
                theirs.next();
            }
        }
        merged.extend(ours);
        merged.extend(theirs);
        self.buckets = merged;
        Ok(())
    }

    /// What is counted beyond what `other` counts, bucket by bucket.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let theirs = |bucket| {
            let found = other.buckets.binary_search_by_key(&bucket, |entry| entry.0);
            found.map_or(0, |at| other.buckets[at].1)
        };
        let buckets: Vec<(u32, u64)> = self
            .buckets
            .iter()
            .map(|&(bucket, count)| (bucket, count.saturating_sub(theirs(bucket))))
            .filter(|&(_, count)| count > 0)
            .collect();
        let count = buckets.iter().map(|entry| entry.1).sum();
        Self { buckets, count }
    }

    /// How many values were recorded.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// True if nothing was recorded.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Buckets and counts, by bucket.
    pub fn buckets(&self) -> &[(u32, u64)] {
        &self.buckets
    }

    /// The smallest value such that at least `parts_per_million` of all values are not above
    /// it (950,000 for the 95th percentile), or `None` if nothing was recorded.
    ///
    /// The highest value of the bucket is told: at most 1/128 above the recorded value, never
    /// below it. Parts above a million count as a million.
    pub fn value_at(&self, parts_per_million: u32) -> Option<u64> {
        let parts = u128::from(parts_per_million.min(1_000_000));
        let rank = (u128::from(self.count) * parts).div_ceil(1_000_000).max(1);
        let mut seen = 0_u128;
        self.buckets
            .iter()
            .find(|&&(_, count)| {
                seen += u128::from(count);
                seen >= rank
            })
            .map(|&(bucket, _)| bucket_range(bucket).1)
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Histogram", 2)?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("buckets", &self.buckets)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_tile_all_values() {
        let mut next = 0_u64;
        for bucket in 0..BUCKETS {
            let (low, high) = bucket_range(bucket);
            assert_eq!(low, next, "bucket {bucket}");
            assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
            assert!(u128::from(high - low + 1) * 128 <= u128::from(low.max(128)));
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at 2^64 - 1");
        assert_eq!(bucket_of((1 << 63) - 1), 7295);
    }

    #[test]
    fn few_buckets_into_many_are_the_same_as_many_into_few() {
        let mut many = Histogram::new();
        for value in (0..1_000_000).step_by(7) {
            many.record(value, 2).expect("few values");
        }
        for value in [3, 254, 255, 1 << 40, u64::MAX] {
            let mut few = Histogram::new();
            few.record(value, 5).expect("few values");
            let mut other_way = few.clone();
            other_way.merge(&many).expect("few values");
            many.merge(&few).expect("few values");
            assert_eq!(many, other_way);
        }
    }
}
