//! Whether the ledger that is stored is the one that the journal gives.

use tollgate_collector_core::entry::Digest;
use tollgate_collector_core::fold::tenant::TenantFold;
use tollgate_collector_core::projection::{Projection, ProjectionError};

use super::error::FoldError;

/// Compares the ends of the chains, where the fold has come to where the projection stands: what is
/// booked from there on would belong to another ledger.
pub(super) fn check<P: Projection>(
    tenants: &[TenantFold],
    projection: &P,
) -> Result<(), FoldError> {
    for fold in tenants {
        let chain = fold.chain();
        let before = chain.len().saturating_sub(1);
        // One more than there should be.
        let stored = match projection.ledger(fold.partition(), before, 2) {
            Ok(entries) => entries.last().map(|entry| (entry.at.index, entry.hash)),
            // What it says instead is for `ledger verify` to find.
            Err(ProjectionError::Unreadable(_)) => Some((chain.len(), Digest([0; 32]))),
            Err(error) => return Err(error.into()),
        };
        let given = (!chain.is_empty()).then(|| (chain.len(), chain.head()));
        if stored != given {
            return Err(FoldError::OtherLedger {
                partition: fold.partition(),
                stored: told(stored),
                given: told(given),
            });
        }
    }
    Ok(())
}

fn told(end: Option<(u64, Digest)>) -> String {
    match end {
        Some((index, hash)) => format!("entry {index} ({hash})"),
        None => "no entry".to_owned(),
    }
}
