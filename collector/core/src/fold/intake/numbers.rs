//! Numbers of documents: one sequence for each issuer, without gaps.
//!
//! Tenant partitions fold in parallel, so that none of them can count the documents of an issuer
//! that serves tenants of several. The intake reads the journal entry by entry: it is the only
//! place where "the next one" means the same in every replay. It gives a number only to an entry
//! that the tenant's partition will make a document of: an entry names how many documents the
//! tenant has had, and one that was decided twice, or by somebody who did not know of the last,
//! gets none. What gets a number becomes a document, whatever the partition finds: hence no gaps.
//!
//! A journal from a backup no longer knows of the numbers that were given after the backup. Then, and
//! only then, an issuer's first number may lie above the next one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollgate_common::TenantId;

use crate::entry::Issue;

/// The sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    /// The last number of each issuer.
    issuers: BTreeMap<String, u64>,
    /// How many documents each tenant has had.
    serials: BTreeMap<TenantId, u32>,
    /// Issuers that have issued nothing since the journal was restored from a backup.
    restored: BTreeSet<String>,
}

/// A first number above the next one would leave numbers out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "issuer `{issuer}` has issued number {last}: `first = {first}` would leave {skipped} numbers out. Numbers have no \
     gaps; only the first document after a restore from a backup may skip (see docs/invoices.md). Set `first` to at \
     most {next}, or begin a sequence under another issuer's id"
)]
pub struct NumberGap {
    issuer: String,
    last: u64,
    first: u64,
    next: u64,
    skipped: u64,
}

impl Numbers {
    /// The number of a document; `None` if it was decided by somebody who did not know of the
    /// last one.
    pub(super) fn give(&mut self, issue: &Issue) -> Option<u64> {
        let serial = self.serials.get(&issue.tenant).copied().unwrap_or(0);
        let next = serial.checked_add(1)?;
        let sequence = match self.issuers.get(&issue.issuer) {
            Some(last) => {
                let following = last.checked_add(1)?;
                let may_skip = self.restored.contains(&issue.issuer);
                if may_skip {
                    Ord::max(following, issue.first)
                } else {
                    following
                }
            }
            None => issue.first,
        };
        if issue.serial != serial {
            return None;
        }
        self.serials.insert(issue.tenant.clone(), next);
        self.issuers.insert(issue.issuer.clone(), sequence);
        self.restored.remove(&issue.issuer);
        Some(sequence)
    }

    /// The journal is a copy: what was issued after it was made is not known.
    pub(super) fn restored(&mut self) {
        self.restored = self.issuers.keys().cloned().collect();
    }

    /// What a first number would leave out, if it may not.
    pub(super) fn gap(&self, issuer: &str, first: u64) -> Option<NumberGap> {
        let last = *self.issuers.get(issuer)?;
        let next = last.checked_add(1)?;
        let leaves_out = first > next && !self.restored.contains(issuer);
        leaves_out.then(|| NumberGap {
            issuer: issuer.to_owned(),
            last,
            first,
            next,
            skipped: first - next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Issued;
    use crate::ledger::Note;

    fn issue(tenant: &str, serial: u32, issuer: &str) -> Issue {
        Issue {
            tenant: TenantId::new(tenant).expect("valid"),
            serial,
            issuer: issuer.to_owned(),
            prefix: "INV-".to_owned(),
            digits: 6,
            first: 100,
            what: Issued::CreditNote { voids: 0 },
            seller: None,
            buyer: None,
            note: Note {
                author: "kim".to_owned(),
                approved_by: None,
                reason: "test".to_owned(),
            },
        }
    }

    #[test]
    fn a_sequence_per_issuer_has_no_gaps_and_knows_repetitions() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.give(&issue("acme", 0, "main")), Some(100));
        assert_eq!(numbers.give(&issue("acme", 0, "main")), None, "twice");
        assert_eq!(numbers.give(&issue("acme", 2, "main")), None, "too early");
        assert_eq!(numbers.give(&issue("rival", 0, "main")), Some(101));
        assert_eq!(numbers.give(&issue("rival", 1, "other")), Some(100));
        assert_eq!(numbers.give(&issue("acme", 1, "main")), Some(102));
    }

    #[test]
    fn a_first_number_leaves_numbers_out_only_after_a_restore() {
        let mut numbers = Numbers::default();
        let from = |first: u64, serial: u32| Issue {
            first,
            ..issue("acme", serial, "main")
        };
        assert_eq!(numbers.gap("main", 43), None, "nothing was issued");
        assert_eq!(numbers.give(&from(1, 0)), Some(1));
        let gap = numbers.gap("main", 43).expect("41 numbers").to_string();
        assert!(gap.contains("has issued number 1: `first = 43` would leave 41 numbers out"));
        assert_eq!(
            (numbers.gap("main", 2), numbers.gap("other", 43)),
            (None, None)
        );
        // One that was decided all the same has the next number.
        assert_eq!(numbers.give(&from(43, 1)), Some(2));
        numbers.restored();
        assert_eq!(numbers.gap("main", 43), None);
        assert_eq!(numbers.give(&from(43, 2)), Some(43));
        assert!(numbers.gap("main", 60).is_some(), "once");
        assert_eq!(numbers.give(&from(60, 3)), Some(44));
        assert_eq!(numbers.give(&from(1, 4)), Some(45));
    }
}
