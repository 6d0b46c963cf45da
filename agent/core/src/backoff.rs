//! Full-jitter exponential backoff.
//!
//! The delay is uniform between nothing and a bound that doubles with every failure. Agents
//! that lost the same collector at the same moment come back spread over the whole interval
//! ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

/// The bounds of delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Upper bound of the first delay; at least 1.
    pub base_millis: u64,
    /// Upper bound of every delay; at least `base_millis`.
    pub cap_millis: u64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base_millis: 200,
            cap_millis: 30_000,
        }
    }
}

/// Counts failures and says how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    /// No failures yet.
    pub fn new(config: BackoffConfig) -> Self {
        Self {
            config,
            failures: 0,
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure; the delay until the next attempt, in milliseconds. `random` is a
    /// uniformly random number.
    pub fn fail(&mut self, random: u64) -> u64 {
        let doubled = 1u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let bound = self.config.base_millis.saturating_mul(doubled);
        self.failures = self.failures.saturating_add(1);
        jitter(random, bound.min(self.config.cap_millis))
    }

    /// The delay after a refusal that trying again soon would not change: between the cap
    /// and twice the cap.
    pub fn refuse(&mut self, random: u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        self.config
            .cap_millis
            .saturating_add(jitter(random, self.config.cap_millis))
    }

    /// Forgets all failures.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// The longest delay that can come out, in milliseconds.
    pub fn delay_max(&self) -> u64 {
        self.config.cap_millis.saturating_mul(2)
    }
}

/// Between 0 and `bound`, both possible. The bias of the remainder is below 2^-40.
fn jitter(random: u64, bound: u64) -> u64 {
    match bound.checked_add(1) {
        Some(values) => random % values,
        None => random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BackoffConfig = BackoffConfig {
        base_millis: 100,
        cap_millis: 1000,
    };

    #[test]
    fn bounds_double_up_to_the_cap() {
        for (failures, bound) in [100, 200, 400, 800, 1000, 1000].into_iter().enumerate() {
            let mut backoff = Backoff::new(CONFIG);
            for _ in 0..failures {
                backoff.fail(0);
            }
            assert_eq!(backoff.fail(bound), bound);
            let mut backoff = Backoff { ..backoff };
            backoff.succeed();
            assert_eq!(backoff.failures(), 0);
        }
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(CONFIG);
        for random in 0..200 {
            assert!(backoff.fail(random * 7919) <= 1000);
        }
        assert!(backoff.refuse(u64::MAX) >= 1000);
        assert!(backoff.refuse(u64::MAX) <= backoff.delay_max());
    }
}
