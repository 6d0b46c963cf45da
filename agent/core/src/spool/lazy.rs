//! What a lazy spool does later: sync what has waited long enough, and drop what is released
//! before it ever reaches the disk.

use tollgate_common::log::LogPosition;
use tollgate_common::storage::Storage;
use tollgate_common::{AgentId, BatchSeq, Timestamp};

use super::anchor::Anchor;
use super::index::Entry;
use super::{Cursor, Spool, SpoolError};

/// What waits for a sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    /// The collector takes batches.
    connected: bool,
    /// When the oldest of it was sealed, and by whom.
    oldest: Option<(Timestamp, AgentId)>,
    /// Batches among it that are not released: all of it but an anchor.
    batches: u64,
}

impl Waiting {
    pub(super) fn add(&mut self, agent: &AgentId, sealed: Timestamp) {
        self.oldest.get_or_insert_with(|| (sealed, agent.clone()));
        self.batches += 1;
    }

    pub(super) fn synced(&mut self) {
        self.oldest = None;
        self.batches = 0;
    }
}

/// Counts how often positions behind the last sync have changed their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    number: u64,
    /// Where to read on after the last change.
    from: LogPosition,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            number: 0,
            from: LogPosition::ZERO,
        }
    }
}

impl Generation {
    fn next(self, from: LogPosition) -> Self {
        Self {
            number: self.number.wrapping_add(1),
            from,
        }
    }

    /// Where a cursor of an older generation reads on: everything it had before it is released.
    pub(super) fn moved(self, cursor: &Cursor) -> Option<LogPosition> {
        (cursor.generation() != self).then_some(self.from)
    }
}

impl<S: Storage> Spool<S> {
    /// True if a batch that is sealed now may wait for its sync.
    pub(super) fn may_wait(&self) -> bool {
        self.config.sync.patience(self.waiting.connected).is_some()
    }

    /// The collector takes batches, or it does not. What that changes is done at the next
    /// [`Spool::handle_tick`].
    pub(crate) fn set_connected(&mut self, connected: bool) {
        self.waiting.connected = connected;
    }

    /// When something that waits is due for its sync.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let (sealed, _) = self.waiting.oldest.as_ref()?;
        let millis = self.config.sync.patience(self.waiting.connected);
        Some(sealed.plus_millis(i64::try_from(millis.unwrap_or(0)).unwrap_or(i64::MAX)))
    }

    /// Syncs what has waited long enough.
    pub(crate) fn handle_tick(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        if let Some((sealed, _)) = &mut self.waiting.oldest {
            // A clock that has gone back would move the sync far away.
            *sealed = now.min(*sealed);
        }
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.log.sync()?;
            self.waiting.synced();
        }
        Ok(())
    }

    /// Drops what was never synced, if a collector has let go of everything, so that the kernel
    /// need not write it. An anchor keeps the end of the incarnation.
    pub(super) fn recycle(&mut self) -> Result<(), SpoolError> {
        let Some((_, agent)) = &self.waiting.oldest else {
            return Ok(());
        };
        if self.waiting.batches == 0 || self.index.backlog().batches > 0 {
            return Ok(());
        }
        let Some(tail) = self.newest() else {
            return Ok(());
        };
        let Some(sequence) = BatchSeq::new(tail.last) else {
            return Ok(());
        };
        let anchor = Anchor {
            agent: agent.clone(),
            sequence,
            tail,
        };
        if let Some(position) = self.log.replace_unsynced(&anchor.encode())? {
            self.index.push(Entry::of_anchor(position, &anchor));
            self.generation = self.generation.next(position);
            self.waiting.batches = 0;
        }
        Ok(())
    }
}
