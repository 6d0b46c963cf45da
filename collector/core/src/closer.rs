//! When periods are closed, and open ones billed because of a threshold: asks the tenant folds and
//! writes closings and interims to the journal.
//!
//! A closing takes effect when the fold reads it. Until then the tenant fold would propose it
//! again, so the closer remembers what it has proposed; if the entry got lost on the way
//! (another owner took over, the journal was full) it proposes again after a while. A closing
//! that arrives twice is harmless: the tenant fold passes over the second.

use std::collections::BTreeMap;

use tollgate_common::{TenantId, Timestamp};

use crate::entry::{Closing, Entry};
use crate::fold::tenant::TenantFold;

/// How long a proposal is waited for, in milliseconds of stamps.
const PATIENCE_MILLIS: i64 = 60_000;
/// Most closings proposed at a time, so that the end of a month does not stop the intake.
pub const CLOSINGS_MAX: usize = 256;

/// Proposes closings, each once.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    /// Tenant, period and round, with the time of the proposal.
    proposed: Proposed,
    /// Tenant, period and part of interims, with the time of the proposal.
    interims: Proposed,
    /// What of each partition was looked at for thresholds: its [`TenantFold::changes`].
    looked_at: BTreeMap<u16, u64>,
}

type Proposed = BTreeMap<(TenantId, Timestamp, u32), Timestamp>;

impl Closer {
    /// A closer that has proposed nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The closings that are due at `stamp`, at most [`CLOSINGS_MAX`], and the interims, as many.
    pub fn poll<'a>(
        &mut self,
        stamp: Timestamp,
        tenants: impl IntoIterator<Item = &'a TenantFold> + Clone,
    ) -> Vec<Entry> {
        let closable = tenants
            .clone()
            .into_iter()
            .flat_map(|tenant| tenant.closable(stamp));
        let mut entries = self.propose(stamp, closable);
        entries.extend(self.poll_thresholds(stamp, tenants));
        entries
    }

    fn poll_thresholds<'a>(
        &mut self,
        stamp: Timestamp,
        tenants: impl IntoIterator<Item = &'a TenantFold>,
    ) -> Vec<Entry> {
        forget(&mut self.interims, stamp);
        let mut entries = Vec::new();
        for tenant in tenants {
            let partition = tenant.partition();
            let since = self.looked_at.get(&partition).copied();
            let due = tenant.poll_thresholds(stamp, since);
            if due.is_empty() {
                self.looked_at.insert(partition, tenant.changes());
            }
            // What is proposed is looked at again until it is done.
            for interim in due {
                let key = (interim.tenant.clone(), interim.start, interim.part);
                if entries.len() < CLOSINGS_MAX && !self.interims.contains_key(&key) {
                    self.interims.insert(key, stamp);
                    entries.push(Entry::Interim(Box::new(interim)));
                }
            }
        }
        entries
    }

    /// The same for closings that were asked for elsewhere, such as on the threads of the
    /// tenant folds.
    pub fn propose(
        &mut self,
        stamp: Timestamp,
        closable: impl IntoIterator<Item = Closing>,
    ) -> Vec<Entry> {
        forget(&mut self.proposed, stamp);
        let mut entries = Vec::new();
        for closing in closable {
            if entries.len() == CLOSINGS_MAX {
                break;
            }
            let key = (closing.tenant.clone(), closing.start, closing.round);
            if self.proposed.contains_key(&key) {
                continue;
            }
            self.proposed.insert(key, stamp);
            entries.push(Entry::Close(closing));
        }
        entries
    }
}

/// What was proposed long ago got lost.
fn forget(proposed: &mut Proposed, stamp: Timestamp) {
    proposed.retain(|_, since| stamp.millis_since(*since) < PATIENCE_MILLIS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{CloseCause, Digest, FOLD_VERSION};

    fn closing(tenant: usize, round: u32) -> Closing {
        Closing {
            tenant: TenantId::new(&format!("t{tenant}")).expect("valid"),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(60),
            round,
            cause: CloseCause::Complete,
            catalog: Digest([0; 32]),
            zone_data: "test".to_owned(),
            fold_version: FOLD_VERSION,
            agents: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn proposes_once_and_again_after_a_while() {
        let mut closer = Closer::new();
        let at = Timestamp::from_secs;
        assert_eq!(
            closer.propose(at(100), [closing(1, 0)]),
            [Entry::Close(closing(1, 0))]
        );
        assert_eq!(closer.propose(at(101), [closing(1, 0)]), []);
        assert_eq!(
            closer.propose(at(101), [closing(1, 1)]).len(),
            1,
            "another round is another closing"
        );
        assert_eq!(
            closer.propose(at(160), [closing(1, 0)]).len(),
            1,
            "the first got lost"
        );
    }

    #[test]
    fn proposes_a_bounded_number() {
        let mut closer = Closer::new();
        let many = || (0..CLOSINGS_MAX + 10).map(|tenant| closing(tenant, 0));
        assert_eq!(closer.propose(Timestamp::EPOCH, many()).len(), CLOSINGS_MAX);
        assert_eq!(closer.propose(Timestamp::EPOCH, many()).len(), 10);
    }
}
