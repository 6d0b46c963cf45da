//! Numbers of documents: one sequence for each issuer, without gaps.
//!
//! Tenant partitions fold in parallel, so that none of them can count the documents of an issuer
//! that serves tenants of several. The intake reads the journal entry by entry: it is the only
//! place where "the next one" means the same in every replay. It gives a number only to an entry
//! that the tenant's partition will make a document of: an entry names how many documents the
//! tenant has had, and one that was decided twice, or by somebody who did not know of the last,
//! gets none. What gets a number becomes a document, whatever the partition finds: hence no gaps.

use std::collections::BTreeMap;

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
}

impl Numbers {
    /// The number of a document; `None` if it was decided by somebody who did not know of the
    /// last one.
    pub(super) fn give(&mut self, issue: &Issue) -> Option<u64> {
        let serial = self.serials.get(&issue.tenant).copied().unwrap_or(0);
        let next = serial.checked_add(1)?;
        // A first number above the next one skips numbers on purpose: those that a journal from a
        // backup no longer knows of.
        let sequence = match self.issuers.get(&issue.issuer) {
            Some(last) => Ord::max(last.checked_add(1)?, issue.first),
            None => issue.first,
        };
        if issue.serial != serial {
            return None;
        }
        self.serials.insert(issue.tenant.clone(), next);
        self.issuers.insert(issue.issuer.clone(), sequence);
        Some(sequence)
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
    fn a_higher_first_number_goes_on_from_there_and_a_lower_one_changes_nothing() {
        let mut numbers = Numbers::default();
        let from = |first: u64, serial: u32| Issue {
            first,
            ..issue("acme", serial, "main")
        };
        assert_eq!(numbers.give(&from(1, 0)), Some(1));
        assert_eq!(numbers.give(&from(43, 1)), Some(43));
        assert_eq!(numbers.give(&from(43, 2)), Some(44));
        assert_eq!(numbers.give(&from(1, 3)), Some(45));
    }
}
