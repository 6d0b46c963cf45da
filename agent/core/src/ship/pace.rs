//! Pace: how fast the agent may write, whatever the collector would take.
//!
//! A token bucket in bytes over monotonic milliseconds. It may be overdrawn by one write,
//! because a frame is not cut: what was taken too much is waited for afterwards, so that the
//! mean never exceeds the rate by more than the burst.

use std::num::NonZeroU64;

/// A bucket never holds more than what flows in within this long, in milliseconds.
const BURST_MILLIS: u64 = 250;
/// A bucket holds at least this, so that a small rate still sends packets that are full.
const BURST_BYTES_MIN: u64 = 4096;

/// Bytes that may be written, as time goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    bytes_per_second: NonZeroU64,
    burst: u64,
    /// Thousandths of bytes, so that no time is lost to rounding; negative after an overdraft.
    level: i128,
    updated_at_millis: u64,
}

impl TokenBucket {
    /// A full bucket at `now_millis`.
    pub fn new(bytes_per_second: NonZeroU64, now_millis: u64) -> Self {
        let burst = u128::from(bytes_per_second.get()) * u128::from(BURST_MILLIS) / 1000;
        let burst = u64::try_from(burst)
            .unwrap_or(u64::MAX)
            .max(BURST_BYTES_MIN);
        Self {
            bytes_per_second,
            burst,
            level: i128::from(burst) * 1000,
            updated_at_millis: now_millis,
        }
    }

    /// The largest write that is worth waiting for at once, in bytes.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    fn refill(&mut self, now_millis: u64) {
        let passed = now_millis.saturating_sub(self.updated_at_millis);
        // Bytes per second are thousandths of bytes per millisecond.
        let more = i128::from(passed) * i128::from(self.bytes_per_second.get());
        self.level = (self.level + more).min(i128::from(self.burst) * 1000);
        self.updated_at_millis = self.updated_at_millis.max(now_millis);
    }

    /// Takes `bytes`; gives how long to wait before they are written, in milliseconds.
    pub fn take(&mut self, now_millis: u64, bytes: u64) -> u64 {
        self.refill(now_millis);
        self.level -= i128::from(bytes) * 1000;
        let debt = u128::try_from(-self.level).unwrap_or(0);
        let wait = debt.div_ceil(u128::from(self.bytes_per_second.get()));
        u64::try_from(wait).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(rate: u64) -> TokenBucket {
        TokenBucket::new(NonZeroU64::new(rate).expect("positive"), 0)
    }

    #[test]
    fn ten_mebibytes_a_second_take_a_second_for_each() {
        let rate = 10 << 20;
        let mut bucket = bucket(rate);
        let mut now = 0;
        for _ in 0..160 {
            now += bucket.take(now, 1 << 20);
        }
        // 160 MiB at 10 MiB/s, less the burst of a quarter of a second.
        assert_eq!(now, 15_750);
    }

    #[test]
    fn a_quiet_time_saves_no_more_than_the_burst() {
        let mut bucket = bucket(100_000);
        assert_eq!(bucket.burst(), 25_000);
        assert_eq!(bucket.take(0, 25_000), 0);
        assert_eq!(bucket.take(3_600_000, 25_000), 0);
        assert_eq!(bucket.take(3_600_000, 100_000), 1000);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_and_takes_nothing() {
        let mut bucket = bucket(1000);
        assert_eq!(bucket.take(1000, 4096), 0);
        assert_eq!(bucket.take(0, 1000), 1000);
        assert_eq!(bucket.take(2000, 0), 0);
    }

    proptest! {
        /// Over any stretch that begins with a full bucket, what was written is at most the
        /// rate times the stretch, plus the burst, plus the last write.
        #[test]
        fn the_mean_never_exceeds_the_rate(
            rate in 1u64..1 << 40,
            writes in prop::collection::vec((0u64..5000, 0u64..1 << 20), 1..100),
        ) {
            let mut bucket = bucket(rate);
            let burst = u128::from(bucket.burst());
            let (mut now, mut written) = (0u64, 0u128);
            for (idle, bytes) in writes {
                now += idle;
                let wait = bucket.take(now, bytes);
                now = now.saturating_add(wait);
                written += u128::from(bytes);
                prop_assert!(written * 1000 <= u128::from(rate) * u128::from(now) + burst * 1000);
            }
        }
    }
}
