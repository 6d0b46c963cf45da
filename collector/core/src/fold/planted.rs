//! Bugs that are planted, to show that tests find them. Only builds with the feature `testing` can
//! have one, and no other build reads a state of theirs.

use serde::{Deserialize, Serialize};

/// A bug that is planted to show that tests find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlantedBug {
    /// Batches that were booked before are booked again.
    DedupeOff,
    /// What late usage changes is booked twice.
    LateTwice,
    /// Lines that an invoice has billed wait for the next one.
    BilledAgain,
    /// Usage is rated by the newest version instead of that of its time.
    NewestPrice,
}

/// The bug that is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fold) struct Planted {
    #[cfg(any(test, feature = "testing"))]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(any(test, feature = "testing"))]
    pub(in crate::fold) const fn new(bug: PlantedBug) -> Self {
        Self { bug: Some(bug) }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(in crate::fold) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unused_self, reason = "asked as where there can be one")]
    pub(in crate::fold) const fn has(self, _: PlantedBug) -> bool {
        false
    }
}
