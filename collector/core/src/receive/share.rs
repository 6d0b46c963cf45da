//! How much each agent may have on its way, by the load of all.
//!
//! Three things keep a fleet that comes back at once from drowning the collector, and a large
//! backlog from standing before the fresh windows of others:
//! - [`Admission`] lets connections in at a bounded pace; who has to wait repeats its first
//!   packet by itself.
//! - [`offer`] divides what the journal's queue takes by the sessions that are open, and less
//!   while the queue is full. So the queue's length bounds the time that anything spends in it.
//! - Sessions append in turn, at most [`QUOTA_BYTES`] at a time ([`quotas`]): the queue serves
//!   first whoever asked first, so that each session gets its quota once in a round.

use tollgate_common::limits::PAUSE_MILLIS_MAX;

use super::WINDOW_BATCHES_MAX;
use crate::journal::group::Pending;

/// Bytes that one session appends before others have their turn. One entry may be longer.
pub const QUOTA_BYTES: usize = 1 << 20;
/// The smallest window, in bytes. An agent may always have one batch on its way, whatever its
/// size.
pub const WINDOW_BYTES_MIN: u64 = 128 << 10;
/// How long an agent waits while the queue is full, in milliseconds; the same again is spread
/// over the sessions.
const PAUSE_MILLIS: u32 = 250;
const _: () = assert!(2 * PAUSE_MILLIS <= PAUSE_MILLIS_MAX);

/// What there is to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// Bytes of entries that may wait for a commit.
    pub queue_bytes: u64,
    /// Most batches of one session without acknowledgement, 1 to [`WINDOW_BATCHES_MAX`].
    pub window_batches: u32,
    /// Most frame bytes of one session without acknowledgement.
    pub window_bytes: u64,
}

/// What one session gets of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Batches without acknowledgement.
    pub batches: u32,
    /// Frame bytes without acknowledgement.
    pub bytes: u64,
    /// Nothing new for so long, in milliseconds.
    pub pause_millis: u32,
}

/// The share of session number `session` while `sessions` are open and `waiting_bytes` are in
/// the queue.
pub fn offer(config: &ShareConfig, session: u64, sessions: u64, waiting_bytes: u64) -> Offer {
    let waiting = waiting_bytes.min(config.queue_bytes);
    let room = config.queue_bytes - waiting;
    let fair = config.queue_bytes / sessions.max(1);
    // From half of the queue on, the window shrinks with the room that is left.
    let half = (config.queue_bytes / 2).max(1);
    let scaled = u128::from(fair) * u128::from(room.min(half)) / u128::from(half);
    let bytes = u64::try_from(scaled).unwrap_or(u64::MAX);
    let full = room < config.queue_bytes / 8;
    Offer {
        batches: config.window_batches.clamp(1, WINDOW_BATCHES_MAX),
        bytes: bytes.max(WINDOW_BYTES_MIN).min(config.window_bytes.max(1)),
        pause_millis: if full {
            let spread = session.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            PAUSE_MILLIS + u32::try_from(spread % u64::from(PAUSE_MILLIS)).unwrap_or(0)
        } else {
            0
        },
    }
}

/// Cuts entries into appends of at most [`QUOTA_BYTES`], or of one entry.
pub fn quotas(entries: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut appends: Vec<Vec<Pending>> = Vec::new();
    let mut bytes = 0;
    for pending in entries {
        let length = pending.entry.len();
        match appends.last_mut() {
            Some(append) if bytes + length <= QUOTA_BYTES => {
                append.push(pending);
                bytes += length;
            }
            _ => {
                appends.push(vec![pending]);
                bytes = length;
            }
        }
    }
    appends
}

/// Lets so many connections in for each second, and a few more after a quiet time.
#[derive(Clone, Debug)]
pub struct Admission {
    per_second: u64,
    burst: u64,
    /// Thousandths of connections.
    level: u64,
    updated_at_millis: u64,
}

impl Admission {
    /// `per_second` connections on average, `burst` at once; both at least 1.
    pub fn new(per_second: u64, burst: u64, now_millis: u64) -> Self {
        let (per_second, burst) = (per_second.max(1), burst.max(1));
        Self {
            per_second,
            burst,
            level: burst.saturating_mul(1000),
            updated_at_millis: now_millis,
        }
    }

    /// True if a connection may come in now.
    pub fn admit(&mut self, now_millis: u64) -> bool {
        let passed = now_millis.saturating_sub(self.updated_at_millis);
        self.updated_at_millis = self.updated_at_millis.max(now_millis);
        // Connections per second are thousandths of connections per millisecond.
        let level = self
            .level
            .saturating_add(passed.saturating_mul(self.per_second))
            .min(self.burst.saturating_mul(1000));
        let admitted = level >= 1000;
        self.level = if admitted { level - 1000 } else { level };
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::entry::codec;
    use crate::journal::group::Token;

    const CONFIG: ShareConfig = ShareConfig {
        queue_bytes: 64 << 20,
        window_batches: 64,
        window_bytes: 32 << 20,
    };

    #[test]
    fn one_agent_gets_all_that_is_configured_and_many_get_their_part() {
        assert_eq!(offer(&CONFIG, 1, 1, 0).bytes, 32 << 20);
        assert_eq!(offer(&CONFIG, 1, 2, 0).bytes, 32 << 20);
        assert_eq!(offer(&CONFIG, 1, 64, 0).bytes, 1 << 20);
        assert_eq!(offer(&CONFIG, 1, 100_000, 0).bytes, WINDOW_BYTES_MIN);
        // A configuration below the smallest window is the operator's word.
        let narrow = ShareConfig {
            window_bytes: 1000,
            window_batches: 0,
            ..CONFIG
        };
        let least = offer(&narrow, 1, 9, 0);
        assert_eq!((least.batches, least.bytes), (1, 1000));
    }

    #[test]
    fn a_queue_that_fills_narrows_the_window_and_a_full_one_pauses() {
        let at = |eighths: u64| offer(&CONFIG, 7, 8, CONFIG.queue_bytes / 8 * eighths);
        let bytes: Vec<u64> = (0..=8).map(|eighths| at(eighths).bytes >> 20).collect();
        assert_eq!(bytes, [8, 8, 8, 8, 8, 6, 4, 2, 0]);
        assert_eq!(at(7).pause_millis, 0);
        assert!((PAUSE_MILLIS..2 * PAUSE_MILLIS).contains(&at(8).pause_millis));
        assert_eq!(offer(&CONFIG, 7, 8, u64::MAX), at(8));
        let pauses: std::collections::BTreeSet<u32> = (0..100)
            .map(|session| offer(&CONFIG, session, 8, u64::MAX).pause_millis)
            .collect();
        assert!(pauses.len() > 50, "sessions do not come back together");
    }

    #[test]
    fn appends_are_cut_at_the_quota_and_keep_their_order() {
        let entry = codec::encode(&Entry::Clock).expect("small");
        let pending = |number| Pending {
            token: Token { session: 1, number },
            entry: entry.clone(),
        };
        let each = entry.len();
        let count = 2 * QUOTA_BYTES / each + 10;
        let appends = quotas((0..count as u64).map(pending).collect());
        assert_eq!(appends.len(), 3);
        let numbers: Vec<u64> = appends.iter().flatten().map(|p| p.token.number).collect();
        assert!(numbers.iter().copied().eq(0..count as u64));
        assert!(
            appends
                .iter()
                .all(|append| append.len() * each <= QUOTA_BYTES)
        );
        assert!(quotas(Vec::new()).is_empty());
    }

    #[test]
    fn connections_come_in_at_a_bounded_pace() {
        let mut admission = Admission::new(100, 20, 0);
        let admitted = |admission: &mut Admission, from: u64, to: u64| {
            (from..to)
                .flat_map(|now| [now; 3])
                .filter(|now| admission.admit(*now))
                .count()
        };
        // The burst, and then one for each ten milliseconds.
        assert_eq!(admitted(&mut admission, 0, 1000), 20 + 99);
        assert_eq!(admitted(&mut admission, 1000, 2000), 100);
        assert_eq!(admitted(&mut admission, 60_000, 60_001), 3);
    }
}
