//! What an agent was told that it may have on its way, and when it is told something else.

use tollgate_common::Timestamp;
use tollgate_common::limits::PAUSE_MILLIS_MAX;
use tollgate_common::wire::Grant;

use super::share::Offer;

/// The window of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    batches_max: u32,
    bytes_max: u64,
    /// What the agent was told last, or will be.
    told: Offer,
    /// When the pause that the agent was told is over.
    paused_until: Timestamp,
}

impl Window {
    /// All there is: at most so many batches and bytes.
    pub(super) fn new(batches_max: u32, bytes_max: u64, now: Timestamp) -> Self {
        Self {
            batches_max,
            bytes_max,
            told: Offer {
                batches: batches_max,
                bytes: bytes_max,
                pause_millis: 0,
            },
            paused_until: now,
        }
    }

    /// What the agent was told last, or will be.
    pub(super) fn told(&self) -> Offer {
        self.told
    }

    fn within(&self, offer: Offer) -> Offer {
        Offer {
            batches: offer.batches.clamp(1, self.batches_max),
            bytes: offer.bytes.clamp(1, self.bytes_max),
            pause_millis: offer.pause_millis.min(PAUSE_MILLIS_MAX),
        }
    }

    /// Takes what the welcome will tell.
    pub(super) fn welcome(&mut self, offer: Offer) {
        self.told = Offer {
            pause_millis: 0,
            ..self.within(offer)
        };
    }

    /// Takes another share, and says what to tell the agent of it.
    pub(super) fn change(&mut self, now: Timestamp, offer: Offer) -> Option<Grant> {
        let offer = self.within(offer);
        let told = self.told;
        // A pause is short. What is left of it is longer only after the clock was set back, and
        // then it is over: the agent would be told to wait for as long as the clock went back.
        if self.paused_until.millis_since(now) > i64::from(PAUSE_MILLIS_MAX) {
            self.paused_until = now;
        }
        let all = offer.bytes == self.bytes_max && told.bytes < offer.bytes;
        let changed = offer.bytes <= told.bytes / 2
            || offer.bytes / 2 >= told.bytes
            || offer.batches != told.batches
            || all;
        let pause = offer.pause_millis > 0 && self.paused_until <= now;
        if !(changed || pause) {
            return None;
        }
        if pause {
            self.paused_until = now.plus_millis(i64::from(offer.pause_millis));
        }
        self.told = offer;
        // A grant replaces the pause of the one before.
        let left = self.paused_until.millis_since(now).max(0);
        Some(Grant {
            window_batches: offer.batches,
            window_bytes: offer.bytes,
            pause_millis: u32::try_from(left).unwrap_or(PAUSE_MILLIS_MAX),
        })
    }
}
