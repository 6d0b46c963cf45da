//! What inputs look up while they run and what may change meanwhile: the attributor.
//!
//! An input thread pays one relaxed load for each datagram to see that nothing has changed.
//! When something has, it takes the new value and forgets what it had cached, so that every
//! event is attributed by one configuration or the other, and none is lost in between.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};

use crate::attribute::Attributor;

/// The attributor in force, shared by all inputs.
#[derive(Debug)]
pub struct Live {
    /// Counts the changes; stored after the change that it counts.
    version: AtomicU64,
    attributor: Mutex<Arc<Attributor>>,
}

impl Live {
    /// Begins with `attributor`.
    pub fn new(attributor: Attributor) -> Self {
        Self {
            version: AtomicU64::new(1),
            attributor: Mutex::new(Arc::new(attributor)),
        }
    }

    /// Changes with every change, and is never 0.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// The attributor in force, with a version that is not newer than it.
    pub fn attributor(&self) -> (u64, Arc<Attributor>) {
        let version = self.version();
        let attributor = self
            .attributor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (version, Arc::clone(&attributor))
    }

    /// Puts `attributor` into force for everything that inputs receive from now on.
    pub fn set_attributor(&self, attributor: Attributor) {
        let mut current = self
            .attributor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(attributor);
        let next = self.version.load(Acquire).wrapping_add(1).max(1);
        self.version.store(next, Release);
    }
}
