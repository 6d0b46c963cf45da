//! The oracle: what was accepted, what may be missing, and what the ledger says of it.
//!
//! The oracle sees the world from outside. A count is accepted when the agent's writer says
//! so; from then on it is billed, refused, declared lost, or at risk because the host was
//! reset before the count was sealed and synced. Nothing else may happen to it.

use std::collections::BTreeMap;

use tollgate_collector_core::entry::{Digest, Operated, OperatedAction};
use tollgate_collector_core::ledger::{Certainty, EntryKind, LedgerEntry};
use tollgate_common::{Aggregation, MeterName, TenantId};

use super::figures::Figures;
use super::workload::{FORGER, Series};

/// Whose usage of what.
pub type Key = (TenantId, MeterName);

/// What an agent has accepted and not made safe yet.
#[derive(Clone, Debug, Default)]
struct AgentAccount {
    /// In the cells or in a spool that is not synced: gone if the host is reset.
    unsafe_counts: BTreeMap<Key, i128>,
    /// Sealed and synced, and not known to have left: gone if the spool is damaged.
    held: BTreeMap<Key, i128>,
    /// Accepted since the host's image was taken that it may be set back to.
    since_image: BTreeMap<Key, i128>,
    /// What was unsafe and what was held when the image was taken.
    image: (BTreeMap<Key, i128>, BTreeMap<Key, i128>),
}

/// Knows what was accepted.
#[derive(Clone, Debug)]
pub struct Oracle {
    accepted: BTreeMap<Key, i128>,
    /// What resets may have destroyed; an upper bound.
    at_risk: BTreeMap<Key, i128>,
    /// The same where nobody can know of the loss: a host that is set back to an image of
    /// itself has never counted what it counted since.
    untold: BTreeMap<Key, i128>,
    agents: Vec<AgentAccount>,
    /// What a journal that was set back to a backup may have lost without a figure.
    torn_off: BTreeMap<Key, i128>,
    /// What operators added and took away, by the journal that is left in the end.
    corrected: BTreeMap<Key, i128>,
    /// Pages that an agent knows are gone.
    misses_pages: bool,
    /// What is no plain sum.
    pub figures: Figures,
    /// Hash of every ledger entry ever committed to a projection.
    booked: Booked,
}

/// The meter that adds up and has no running totals.
const UNPRICED: &str = "http.size";

/// Hashes of ledger entries by partition and index.
pub type Booked = BTreeMap<(u16, u64), Digest>;

fn add_all(sums: &mut BTreeMap<Key, i128>, more: &BTreeMap<Key, i128>) {
    for (key, quantity) in more {
        *sums.entry(key.clone()).or_default() += quantity;
    }
}

/// What a ledger says of one tenant and meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Charges, adjustments and unrated usage.
    pub billed: i128,
    /// Refused by policy.
    pub refused: i128,
    /// Lost, exactly.
    pub lost_exact: i128,
    /// Lost, at most this much.
    pub lost_at_most: i128,
}

/// What a whole ledger says.
#[derive(Clone, Debug, Default)]
pub struct LedgerSums {
    /// By tenant and meter.
    pub by_key: BTreeMap<Key, Sums>,
    /// Losses of unknown amount, not counting those taken back.
    pub unknown: u64,
    /// Exact losses that name no tenant or meter.
    pub exact_nowhere: i128,
    /// Bounded losses that name no tenant or meter.
    pub at_most_nowhere: i128,
}

impl LedgerSums {
    /// Adds up `entries`; gauges are left out, because they do not add.
    pub fn of<'a>(
        entries: impl IntoIterator<Item = &'a LedgerEntry>,
        is_sum: impl Fn(&MeterName) -> bool,
    ) -> Self {
        let mut sums = Self::default();
        for entry in entries {
            let posting = &entry.posting;
            if posting.meter.as_ref().is_some_and(|meter| !is_sum(meter)) {
                continue;
            }
            let quantity = posting.quantity.units();
            // The quantity of a reversal is negative; an unknown amount has none.
            let sign = if posting.kind == EntryKind::LossReversed {
                -1
            } else {
                1
            };
            let is_loss = matches!(posting.kind, EntryKind::Loss | EntryKind::LossReversed);
            if is_loss && posting.certainty == Certainty::Unknown {
                sums.unknown = sums.unknown.wrapping_add_signed(sign);
                continue;
            }
            let (Some(tenant), Some(meter)) = (&posting.tenant, &posting.meter) else {
                match posting.certainty {
                    Certainty::AtMost => sums.at_most_nowhere += quantity,
                    _ => sums.exact_nowhere += quantity,
                }
                continue;
            };
            let sum = sums
                .by_key
                .entry((tenant.clone(), meter.clone()))
                .or_default();
            match posting.kind {
                EntryKind::Charge
                | EntryKind::Adjustment
                | EntryKind::Reversal
                | EntryKind::Unrated => sum.billed += quantity,
                EntryKind::Share => {
                    sum.billed += quantity;
                    // The line that it is a share of is its payer's.
                    let payer = posting.payer.clone().unwrap_or_else(|| tenant.clone());
                    let payers = sums.by_key.entry((payer, meter.clone()));
                    payers.or_default().billed -= quantity;
                }
                // Of no meter: they have no place in this account.
                EntryKind::Manual
                | EntryKind::Credit
                | EntryKind::Hold
                | EntryKind::Release
                | EntryKind::Invoice
                | EntryKind::CreditNote => {}
                EntryKind::Refused => sum.refused += quantity,
                EntryKind::Loss | EntryKind::LossReversed => match posting.certainty {
                    Certainty::AtMost => sum.lost_at_most += quantity,
                    _ => sum.lost_exact += quantity,
                },
            }
        }
        sums
    }
}

impl Oracle {
    /// Knows of nothing accepted by `agents` agents.
    pub fn new(agents: usize) -> Self {
        Self {
            accepted: BTreeMap::new(),
            at_risk: BTreeMap::new(),
            untold: BTreeMap::new(),
            agents: vec![AgentAccount::default(); agents],
            torn_off: BTreeMap::new(),
            corrected: BTreeMap::new(),
            misses_pages: false,
            figures: Figures::default(),
            booked: BTreeMap::new(),
        }
    }

    /// The writer of an agent accepted a count.
    pub fn accepted(&mut self, agent: usize, series: &Series, quantity: u64) {
        if !matches!(
            series.aggregation,
            Aggregation::Sum | Aggregation::Distribution
        ) {
            return;
        }
        let key = (series.key.tenant().clone(), series.key.meter().clone());
        let quantity = i128::from(quantity);
        *self.accepted.entry(key.clone()).or_default() += quantity;
        let account = &mut self.agents[agent];
        *account.since_image.entry(key.clone()).or_default() += quantity;
        *account.unsafe_counts.entry(key).or_default() += quantity;
    }

    /// An application has counted in a page that an agent has taken, or an agent takes a page
    /// with what is in it. Before that nobody has accepted anything.
    pub fn accepted_in_page(&mut self, counts: &BTreeMap<Key, i128>) {
        add_all(&mut self.accepted, counts);
    }

    /// An agent has taken what was in a page: from now on it is in its cells.
    pub fn page_taken(&mut self, agent: usize, taken: &BTreeMap<Key, i128>) {
        let account = &mut self.agents[agent];
        add_all(&mut account.since_image, taken);
        add_all(&mut account.unsafe_counts, taken);
    }

    /// A page that the agent's cells know is gone with what nobody had copied: the agent says
    /// so, and cannot know how much it was.
    pub fn page_missed(&mut self, pending: &BTreeMap<Key, i128>) {
        self.misses_pages |= !pending.is_empty();
        add_all(&mut self.at_risk, pending);
    }

    /// The same of a page that nobody knows any more: the host has lost its memory of it.
    pub fn page_forgotten(&mut self, pending: &BTreeMap<Key, i128>) {
        add_all(&mut self.untold, pending);
    }

    /// True if agents have to tell of pages that are gone.
    pub fn misses_pages(&self) -> bool {
        self.misses_pages
    }

    /// Everything that the agent has accepted is sealed, and its spool is synced.
    pub fn made_safe(&mut self, agent: usize) {
        let account = &mut self.agents[agent];
        add_all(
            &mut account.held,
            &std::mem::take(&mut account.unsafe_counts),
        );
    }

    /// The agent's spool is empty: everything that was safe has left.
    pub fn left(&mut self, agent: usize) {
        self.agents[agent].held.clear();
    }

    /// A byte of the spool has changed. Running totals in later batches usually tell what
    /// is lost; where they are lost too, the amount is unknown.
    pub fn damaged(&mut self, agent: usize) {
        add_all(&mut self.at_risk, &self.agents[agent].held);
    }

    /// An image of the agent's host is taken.
    pub fn image_taken(&mut self, agent: usize) {
        let account = &mut self.agents[agent];
        account.since_image.clear();
        account.image = (account.unsafe_counts.clone(), account.held.clone());
    }

    /// The agent's host is set back to the image: what was made safe since is not any more,
    /// as far as this host goes.
    pub fn set_back(&mut self, agent: usize) {
        let account = &mut self.agents[agent];
        add_all(&mut self.untold, &std::mem::take(&mut account.since_image));
        (account.unsafe_counts, account.held) = std::mem::take(&mut account.image);
    }

    /// The agent's host was reset: what was not safe may be gone.
    pub fn reset(&mut self, agent: usize) {
        add_all(
            &mut self.at_risk,
            &std::mem::take(&mut self.agents[agent].unsafe_counts),
        );
    }

    /// The journal has what an operator did.
    pub fn operated(&mut self, operated: &Operated) {
        let OperatedAction::Correct(correction) = &operated.action else {
            return;
        };
        for row in correction
            .rows
            .iter()
            .filter(|row| row.aggregation.adds_up())
        {
            let key = (correction.tenant.clone(), row.meter.clone());
            *self.corrected.entry(key).or_default() += row.quantity.units();
        }
    }

    /// What agents accepted and operators added, less what they took away.
    fn given(&self, key: &Key) -> i128 {
        let of = |sums: &BTreeMap<Key, i128>| sums.get(key).copied().unwrap_or_default();
        of(&self.accepted) + of(&self.corrected)
    }

    /// Everything accepted in all.
    pub fn total(&self) -> i128 {
        self.accepted.values().sum()
    }

    /// A ledger entry was committed. It must be the one that ever stood in its place.
    pub fn booked(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        let at = (entry.at.partition, entry.at.index);
        match self.booked.insert(at, entry.hash) {
            Some(before) if before != entry.hash => Err(format!(
                "ledger entry {} changed after it was booked",
                entry.at
            )),
            _ => Ok(()),
        }
    }

    /// The ledger as published so far.
    pub fn published(&self) -> Booked {
        self.booked.clone()
    }

    /// The journal was set back: what was published behind its backup is booked anew, and may
    /// be booked otherwise.
    pub fn ledger_set_back(&mut self, published: Booked) {
        self.booked = published;
    }

    /// A restore took a batch from the journal, and no total may tell what was in it.
    pub fn torn_off(&mut self, sums: &BTreeMap<Key, i128>) {
        add_all(&mut self.torn_off, sums);
    }

    /// Number of different ledger entries ever booked.
    pub fn entries(&self) -> u64 {
        self.booked.len() as u64
    }

    /// Nothing may ever be billed that was not accepted. Holds at any time.
    pub fn check_not_overbilled(&self, ledger: &LedgerSums) -> Result<(), String> {
        // What is forged is only its forger's.
        let honest = |(key, _): &(&Key, &Sums)| key.0.as_str() != FORGER;
        for (key, sums) in ledger.by_key.iter().filter(honest) {
            let accepted = self.given(key);
            if sums.billed + sums.refused > accepted {
                return Err(format!(
                    "{}/{}: billed {} and refused {} of {accepted} accepted",
                    key.0, key.1, sums.billed, sums.refused
                ));
            }
        }
        Ok(())
    }

    /// The conservation law, once everything has drained and every period is closed.
    pub fn check_conserved(&self, ledger: &LedgerSums) -> Result<(), String> {
        self.check_not_overbilled(ledger)?;
        if ledger.exact_nowhere != 0 {
            return Err(format!(
                "{} lost of no tenant and meter",
                ledger.exact_nowhere
            ));
        }
        let known = self.accepted.keys().chain(self.corrected.keys());
        let keys = known.chain(ledger.by_key.keys());
        for key in keys.filter(|key| key.0.as_str() != FORGER) {
            let accepted = self.given(key);
            let sums = ledger.by_key.get(key).copied().unwrap_or_default();
            let missing = accepted - sums.billed - sums.refused - sums.lost_exact;
            let at_risk = self.at_risk.get(key).copied().unwrap_or_default();
            let untold = self.untold.get(key).copied().unwrap_or_default();
            // A loss of at most so much is a bound by itself.
            let torn_off = self.torn_off.get(key).copied().unwrap_or_default();
            // Only sums have running totals: what a batch that is gone held of a distribution is
            // declared as unknown, and nobody can tell more.
            let unpriced = if key.1.as_str() == UNPRICED && ledger.unknown > 0 {
                accepted
            } else {
                0
            };
            let bound = at_risk + untold + torn_off + unpriced + sums.lost_at_most;
            let declared = missing <= untold + sums.lost_at_most
                || ledger.unknown > 0
                || ledger.at_most_nowhere > 0;
            if missing < 0 || missing > bound || (missing > 0 && !declared) {
                return Err(format!(
                    "{}/{}: accepted {accepted} = billed {} + refused {} + lost {} + {missing} \
                     unexplained (at risk by resets: {at_risk}, untold: {untold}, by restores: {torn_off}; declared: {} unknown, at most {})",
                    key.0,
                    key.1,
                    sums.billed,
                    sums.refused,
                    sums.lost_exact,
                    ledger.unknown,
                    sums.lost_at_most,
                ));
            }
        }
        Ok(())
    }
}
