//! A journal in memory, for tests: what is committed stays, nothing fails.

use super::{Epoch, Journal, JournalError, JournalItem, PartitionId};
use crate::position::Position;

/// One partition in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    items: Vec<JournalItem>,
    staged: Vec<Vec<u8>>,
    epoch: u64,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// The position of the item with this index.
    pub fn position(index: usize) -> Position {
        Position::from_bytes((index as u128 + 1).to_be_bytes())
    }

    /// Replaces the item with this index by damage.
    pub fn damage(&mut self, index: usize) {
        self.items[index] = JournalItem::Damaged {
            position: Self::position(index),
            reason: "checksum".to_owned(),
        };
    }
}

impl Journal for MemoryJournal {
    fn acquire(&mut self, _: PartitionId) -> Result<Epoch, JournalError> {
        self.epoch += 1;
        Ok(Epoch(self.epoch))
    }

    fn append(&mut self, _: PartitionId, entry: &[u8]) -> Result<(), JournalError> {
        self.staged.push(entry.to_vec());
        Ok(())
    }

    fn commit(&mut self, _: PartitionId) -> Result<Vec<Position>, JournalError> {
        let mut positions = Vec::new();
        for bytes in self.staged.drain(..) {
            let position = Self::position(self.items.len());
            self.items.push(JournalItem::Entry { position, bytes });
            positions.push(position);
        }
        Ok(positions)
    }

    fn read(
        &self,
        _: PartitionId,
        after: Option<Position>,
        max_bytes: usize,
    ) -> Result<Vec<JournalItem>, JournalError> {
        let mut bytes_read = 0;
        let mut taken = Vec::new();
        for item in &self.items {
            let (JournalItem::Entry { position, .. } | JournalItem::Damaged { position, .. }) =
                item;
            if after.is_some_and(|after| *position <= after) {
                continue;
            }
            if let JournalItem::Entry { bytes, .. } = item {
                bytes_read += bytes.len();
            }
            if bytes_read > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(item.clone());
        }
        Ok(taken)
    }

    fn last(&self, _: PartitionId) -> Result<Option<Position>, JournalError> {
        Ok(self.items.len().checked_sub(1).map(Self::position))
    }
}
