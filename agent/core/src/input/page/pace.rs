//! How soon a page is looked at again.
//!
//! Every page is looked at once a second. One of which something is left, or that waits for
//! something, is looked at again soon, but not as often as it likes: looks that come soon after
//! another are bounded for each page and for all pages together, so that a page which is never
//! done takes a bounded share of a processor, whatever it shows.

use tollgate_common::Timestamp;

use super::{PageTally, Pass};
use crate::aggregate::{PageKey, Region};

/// Longest time between two looks at a page, in milliseconds.
pub const LOOK_EVERY_MILLIS: i64 = 1_000;
/// How soon a page is looked at again of which something is left.
const LOOK_SOON_MILLIS: i64 = 10;
/// Looks that may come soon at once, and in a second: of one page.
const ONE: (i64, i64) = (64, 4);
/// The same of all pages together.
const ALL: (i64, i64) = (256, 32);

/// Looks that may still come soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A thousandth of a look each.
    left: i64,
    at: Timestamp,
    bounds: (i64, i64),
}

impl Pace {
    pub(super) fn of_one(now: Timestamp) -> Self {
        Self::new(now, ONE)
    }

    pub(super) fn of_all(now: Timestamp) -> Self {
        Self::new(now, ALL)
    }

    fn new(at: Timestamp, bounds: (i64, i64)) -> Self {
        Self {
            left: bounds.0 * 1000,
            at,
            bounds,
        }
    }

    /// True if a look may come soon.
    fn allows(&mut self, now: Timestamp) -> bool {
        let (most, per_second) = self.bounds;
        let millis = now.millis_since(self.at).clamp(0, 60_000);
        self.at = now;
        self.left = (self.left + millis * per_second).min(most * 1000);
        self.left >= 1000
    }
}

impl<R: Region> PageTally<R> {
    /// After what time, in milliseconds, a page that was looked at like this is to be looked at
    /// again: at most [`LOOK_EVERY_MILLIS`].
    pub fn pause(&mut self, page: PageKey, pass: Pass, now: Timestamp) -> i64 {
        let waits = matches!(pass, Pass::More | Pass::NotYet);
        let Some(known) = self.pages.get_mut(&page).filter(|_| waits) else {
            return LOOK_EVERY_MILLIS;
        };
        if !(known.pace.allows(now) && self.pace.allows(now)) {
            return LOOK_EVERY_MILLIS;
        }
        known.pace.left -= 1000;
        self.pace.left -= 1000;
        LOOK_SOON_MILLIS
    }
}
