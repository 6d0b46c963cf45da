//! Which lines are disputed, by the entries of the ledger alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{EntryKind, EntryRef, LedgerEntry};

/// Takes up entries in the order of their chains. A line is disputed as a whole: with all that adjusts,
/// reverses or takes the place of any of its entries, and with its tax and its grants, which are put to
/// it when the dispute begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disputes {
    /// The first entry of the line, of all others of it.
    firsts: BTreeMap<EntryRef, EntryRef>,
    /// Disputed lines by their first entries.
    disputed: BTreeSet<EntryRef>,
}

impl Disputes {
    /// Takes up the next entry.
    pub(crate) fn take(&mut self, entry: &LedgerEntry) {
        let Some(of) = entry.posting.refers_to else {
            return;
        };
        let first = self.first(of);
        match entry.posting.kind {
            EntryKind::Hold => {
                self.disputed.insert(first);
            }
            EntryKind::Release => {
                self.disputed.remove(&first);
            }
            kind if kind.is_line() => {
                self.firsts.insert(entry.at, first);
            }
            _ => {}
        }
    }

    fn first(&self, at: EntryRef) -> EntryRef {
        self.firsts.get(&at).copied().unwrap_or(at)
    }

    /// Whether the line of this entry is disputed.
    pub(crate) fn is_held(&self, at: EntryRef) -> bool {
        self.disputed.contains(&self.first(at))
    }
}
