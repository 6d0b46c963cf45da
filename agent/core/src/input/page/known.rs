//! What is known of a page and of each of its slots.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tollgate_common::{Aggregation, TenantId, Timestamp};

use super::{PageCounts, TENANTS_SHOWN, pace};
use crate::aggregate::{Allowance, Rejection, Row, Slot};
use crate::config::SdkAllow;
use crate::engine::Declared;

/// What a page may count at once, and in a second: more waits. Processors cannot count as much;
/// see [`Allowance`].
const EVENTS_AT_ONCE: i64 = 1 << 40;
const EVENTS_PER_SECOND: i64 = 1 << 36;
const AMOUNT_AT_ONCE: i128 = 1 << 72;
const AMOUNT_PER_SECOND: i128 = 1 << 66;

/// What is known of one slot of a page.
#[derive(Default)]
pub(super) enum Entry {
    /// There is no room for its mirror at present.
    #[default]
    Waiting,
    /// Its words contradict each other.
    Malformed,
    /// It may not be counted.
    Rejected {
        reason: Rejection,
        tenant: TenantId,
        aggregation: Aggregation,
        cell: Range<usize>,
        events: u64,
    },
    /// It is counted.
    Mirrored {
        slot: Slot,
        row: Row,
        aggregation: Aggregation,
        cell: Range<usize>,
        /// Events when it was last looked at, and for cells with halves those of each.
        events: [u64; 2],
    },
    /// It ran backwards.
    Stopped,
}

/// A look at all slots of a page, which may take several passes.
#[derive(Default)]
pub(super) struct Round {
    /// Slots that are left.
    pub(super) left: usize,
    /// Any of those before has to wait.
    pub(super) waits: bool,
    /// The process had ended when it began.
    pub(super) orphaned: bool,
}

/// What is known of one page.
pub(super) struct Known {
    /// Present while its application is connected.
    pub(super) access: Option<SdkAllow>,
    pub(super) entries: Vec<Entry>,
    pub(super) cursor: usize,
    pub(super) round: Round,
    /// Events that found no room, as far as they are accounted for; `None` until the first
    /// look.
    pub(super) dropped: Option<u64>,
    /// Events of slots that are not counted, as far as they are accounted for.
    pub(super) rejected: BTreeMap<u32, u64>,
    pub(super) malformed: BTreeSet<u32>,
    /// It was known before the agent's start: what it had rejected by then is in the account.
    pub(super) resumed: bool,
    pub(super) allowance: Allowance,
    pub(super) allowed_at: Timestamp,
    pub(super) missing_since: Timestamp,
    /// Known from before the agent's start, and not seen since.
    pub(super) before: bool,
    /// It did not come back, or is quarantined, which was declared: it is known until that is
    /// durable. With the end of the time that was declared.
    pub(super) declared: Option<(Declared, Timestamp)>,
    /// Some of its cells are of windows.
    pub(super) has_windows: bool,
    /// Whom it counts for: the first that were seen.
    pub(super) tenants: BTreeSet<TenantId>,
    pub(super) pace: pace::Pace,
}

impl Known {
    pub(super) fn missing(since: Timestamp) -> Self {
        Self {
            access: None,
            entries: Vec::new(),
            cursor: 0,
            round: Round::default(),
            dropped: None,
            rejected: BTreeMap::new(),
            malformed: BTreeSet::new(),
            resumed: false,
            allowance: Allowance {
                events: EVENTS_AT_ONCE,
                amount: AMOUNT_AT_ONCE,
            },
            allowed_at: since,
            missing_since: since,
            before: true,
            declared: None,
            has_windows: false,
            tenants: BTreeSet::new(),
            pace: pace::Pace::of_one(since),
        }
    }

    pub(super) fn count_cells(&self, counts: &mut PageCounts) {
        for entry in &self.entries {
            let one = match entry {
                Entry::Waiting => &mut counts.waiting,
                Entry::Mirrored { .. } => &mut counts.mirrored,
                Entry::Rejected { .. } => &mut counts.rejected,
                Entry::Stopped => &mut counts.stopped,
                Entry::Malformed => continue,
            };
            *one += 1;
        }
    }

    /// Remembers whom the page counts for, to be shown.
    pub(super) fn counts_for(&mut self, tenant: &TenantId) {
        if self.tenants.len() < TENANTS_SHOWN {
            self.tenants.insert(tenant.clone());
        }
    }

    /// Everything is decided and looked at again.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        (self.cursor, self.round.left) = (0, 0);
    }

    /// Gives what time gives.
    pub(super) fn allow(&mut self, now: Timestamp) {
        let millis = now.millis_since(self.allowed_at).clamp(0, 60_000);
        let mine = &mut self.allowance;
        let events = mine.events + EVENTS_PER_SECOND / 1000 * millis;
        let amount = mine.amount + AMOUNT_PER_SECOND / 1000 * i128::from(millis);
        mine.events = events.min(EVENTS_AT_ONCE);
        mine.amount = amount.min(AMOUNT_AT_ONCE);
        self.allowed_at = now;
    }
}
