//! What inputs look up while they run and what may change meanwhile: the attributor, and who
//! watches.
//!
//! An input thread pays one relaxed load for each datagram to see that nothing has changed.
//! When something has, it takes the new value and forgets what it had cached, so that every
//! event is attributed by one configuration or the other, and none is lost in between.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Source;
use crate::aggregate::Rejection;
use crate::attribute::{Attributor, Target};

/// One event, as somebody who watches sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Where it came in.
    pub source: Source,
    /// What came in, as far as it is text of the outside; may be anything.
    pub raw: &'a [u8],
    /// The name of the metric; empty if there is none.
    pub metric: &'a str,
    /// For whom it counts, before limits take its dimensions; `None` if nobody can be named.
    pub target: Option<&'a Target>,
    /// The values as sent; empty if there are none.
    pub values: &'a str,
    /// Why it was not counted, or not all of it.
    pub rejection: Option<Rejection>,
}

/// Somebody who watches. It must not block: input threads call it.
pub trait Observer: Send + Sync {
    /// An event has been counted or rejected.
    fn observe(&self, seen: &Seen<'_>);
}

/// The attributor in force, shared by all inputs, and the observer while there is one.
pub struct Live {
    /// Counts the changes; stored after the change that it counts.
    version: AtomicU64,
    current: Mutex<Current>,
}

/// What an input keeps until the version changes.
#[derive(Clone)]
pub struct Current {
    /// Says for whom events count.
    pub attributor: Arc<Attributor>,
    /// Is told of every event; `None` while nobody watches.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Live {
    /// Begins with `attributor`, and nobody who watches.
    pub fn new(attributor: Attributor) -> Self {
        Self {
            version: AtomicU64::new(1),
            current: Mutex::new(Current {
                attributor: Arc::new(attributor),
                observer: None,
            }),
        }
    }

    /// Changes with every change.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// What is in force, with a version that is not newer than it.
    pub fn current(&self) -> (u64, Current) {
        let version = self.version();
        (version, self.lock().clone())
    }

    /// Puts `attributor` into force for everything that inputs receive from now on.
    pub fn set_attributor(&self, attributor: Attributor) {
        let mut current = self.lock();
        current.attributor = Arc::new(attributor);
        self.changed();
    }

    /// Lets somebody watch, or nobody.
    pub fn set_observer(&self, observer: Option<Arc<dyn Observer>>) {
        let mut current = self.lock();
        current.observer = observer;
        self.changed();
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called under the lock, after the change.
    fn changed(&self) {
        let next = self.version.load(Acquire).wrapping_add(1);
        self.version.store(next, Release);
    }
}
