//! Signs of life: every thread that must go on says so from time to time.
//!
//! A beat is one relaxed store. The service manager's watchdog is fed, and `/livez` answers
//! yes, only while every thread that has a [`Beat`] has given a sign within [`SILENCE_MAX`].

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often a thread that only waits gives a sign.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A thread that has been silent for longer is stuck. A sync of a slow disk takes seconds.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Milliseconds since the process first asked; it does not run while the host sleeps.
fn now_ms() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The signs of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The thread is alive.
    pub(crate) fn give(&self) {
        self.0.store(now_ms(), Relaxed);
    }
}

/// A thread and its signs, while there is somebody who may give one.
type Watched = (String, Weak<AtomicU64>);

/// All threads that must go on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<Vec<Watched>>>);

impl Health {
    /// A beat that is watched until its last clone is dropped.
    pub(crate) fn beat(&self, name: &str) -> Beat {
        let beat = Beat::default();
        beat.give();
        let watched = (name.to_owned(), Arc::downgrade(&beat.0));
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(watched);
        beat
    }

    /// The names of threads that have been silent for too long.
    pub(crate) fn stuck(&self) -> Vec<String> {
        self.silent_for(SILENCE_MAX)
    }

    fn silent_for(&self, limit: Duration) -> Vec<String> {
        self.silent_at(now_ms(), limit)
    }

    /// The names of threads whose last sign is longer ago than `limit` at `now`.
    fn silent_at(&self, now: u64, limit: Duration) -> Vec<String> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(_, beat)| beat.strong_count() > 0);
        let silent = |beat: &Weak<AtomicU64>| {
            let last = beat.upgrade().map(|beat| beat.load(Relaxed));
            last.is_some_and(|last| u128::from(now.saturating_sub(last)) > limit.as_millis())
        };
        watched
            .iter()
            .filter(|(_, beat)| silent(beat))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_and_ended_threads_are_forgotten() {
        let health = Health::default();
        let (engine, input) = (health.beat("engine"), health.beat("input"));
        assert!(health.stuck().is_empty(), "both have just begun");
        engine.0.store(1000, Relaxed);
        input.0.store(31_001, Relaxed);
        assert!(health.silent_at(31_000, SILENCE_MAX).is_empty());
        assert_eq!(health.silent_at(31_001, SILENCE_MAX), ["engine"]);
        assert_eq!(health.silent_at(61_002, SILENCE_MAX), ["engine", "input"]);
        engine.0.store(61_002, Relaxed);
        assert_eq!(health.silent_at(61_002, SILENCE_MAX), ["input"]);
        // What a thread says later than the look is no silence.
        assert!(health.silent_at(0, SILENCE_MAX).is_empty());
        drop(input);
        assert!(health.silent_at(61_002, SILENCE_MAX).is_empty());
    }
}
