//! From a line of the ledger to the batches and corrections that brought its usage.
//!
//! A line rests on the usage of one tenant, or of all for whom it pays: of each as far as it paid by
//! the catalogs that were in force when the usage came. A line that changes another one rests on what
//! that rests on, and on what came since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tollgate_common::{
    AgentId, Batch, BatchHash, BatchSeq, Incarnation, MeterName, Quantity, Scale, TenantId,
    Timestamp,
};

use crate::catalog::Catalog;
use crate::catalog::timeline::Timeline;
use crate::entry::{Correction, Entry, OperatedAction, ReceivedBatch, RefusedReason};
use crate::fold::intake::not_after;
use crate::journal::Journal;
use crate::journal::reader::{ReadError, Reader};
use crate::journal::segment::PARTITION;
use crate::ledger::{EntryKind, Note, Posting};
use crate::position::Position;

/// Whose usage of what a line rests on.
#[derive(Clone, Debug)]
pub struct Sources<'e> {
    posting: &'e Posting,
    /// The line as it was booked first: its period is that of the usage.
    first: &'e Posting,
    /// The last journal entry that the line had seen before it was changed.
    seen: Option<Position>,
    meter: &'e MeterName,
    payer: &'e TenantId,
    tenants: BTreeSet<TenantId>,
}

/// What a batch has of a line.
#[derive(Clone, Debug, Serialize)]
pub struct BatchPart {
    /// Where its journal entry stands.
    pub position: Position,
    /// When it was received.
    pub stamp: String,
    /// Who sent it.
    pub agent: AgentId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Its number in that.
    pub sequence: BatchSeq,
    /// Whose usage.
    pub tenant: TenantId,
    /// How many rows.
    pub rows: usize,
    /// The sum of their values, decimal; `None` if it does not fit.
    pub quantity: Option<String>,
    /// Received before, so that it counted nothing.
    pub again: bool,
    /// Another batch had its number, as of a host that was cloned: of its rows only what was more
    /// counted.
    pub fork: bool,
    /// It came when the line was booked already, which changed it.
    pub since: bool,
}

/// What an operator's correction has of a line.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionPart {
    /// Where its journal entry stands.
    pub position: Position,
    /// When it was journaled.
    pub stamp: String,
    /// By whom.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What tells it from other corrections of the tenant.
    pub key: String,
    /// Whose usage.
    pub tenant: TenantId,
    /// How many rows.
    pub rows: usize,
    /// The sum of their quantities, decimal; `None` if it does not fit.
    pub quantity: Option<String>,
    /// Its key was used before, so that it counted nothing.
    pub again: bool,
    /// It came when the line was booked already, which changed it.
    pub since: bool,
}

/// What the journal says of a line.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the order of the journal, and by tenant.
    pub batches: Vec<BatchPart>,
    /// In the order of the journal.
    pub corrections: Vec<CorrectionPart>,
    /// Who pays for whom, by what was journaled up to the line.
    pub timeline: Timeline,
}

impl<'e> Sources<'e> {
    /// `None` for an entry that rests on no usage.
    pub fn of(posting: &'e Posting) -> Option<Self> {
        let (tenant, meter) = (posting.tenant.as_ref()?, posting.meter.as_ref()?);
        Some(Self {
            posting,
            first: posting,
            seen: None,
            meter,
            payer: posting.payer.as_ref().unwrap_or(tenant),
            tenants: BTreeSet::from([tenant.clone()]),
        })
    }

    /// The same of a line that changes one that was booked before: first as `first`, and last by what
    /// the journal said up to `seen`.
    #[must_use]
    pub fn changing(self, first: &'e Posting, seen: Position) -> Self {
        Self {
            first,
            seen: Some(seen),
            ..self
        }
    }

    /// The time of the usage, which is not that of an adjustment in a later period.
    pub fn period(&self) -> (Timestamp, Timestamp) {
        (self.first.start, self.first.end)
    }

    /// Which meter.
    pub fn meter(&self) -> &'e MeterName {
        self.meter
    }

    /// Whose usage.
    pub fn tenants(&self) -> &BTreeSet<TenantId> {
        &self.tenants
    }

    /// True for a line in which others than its tenant may have shares.
    pub fn is_shared(&self) -> bool {
        self.posting.payer.is_none() && self.posting.kind.is_closing()
    }

    /// Takes up the tenant of an entry that is a share of the line; others are passed over.
    pub fn add_share(&mut self, share: &Posting) {
        let line = self.first;
        if self.is_shared()
            && share.kind == EntryKind::Share
            && share.payer.as_ref() == Some(self.payer)
            && share.meter.as_ref() == Some(self.meter)
            && (share.start, share.end, &share.line) == (line.start, line.end, &line.line)
        {
            self.tenants.extend(share.tenant.clone());
        }
    }

    /// True if the line's payer pays for what one of its tenants uses at an instant.
    pub fn pays(&self, timeline: &Timeline, tenant: &TenantId, at: Timestamp) -> bool {
        timeline.payer(tenant, at).unwrap_or(tenant) == self.payer
    }

    /// Walks the journal for what brought usage of the line: from the first entry, because who paid
    /// and what was received before stands there.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn find<J: Journal>(&self, journal: &J) -> Result<Found, ReadError> {
        let mut reader = Reader::new(PARTITION, None);
        let mut batches: BTreeMap<_, BTreeSet<BatchHash>> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        let mut found = Found::default();
        let mut opened = None;
        while let Some((position, stamped)) = reader.next(journal)? {
            if position > self.posting.journal_to {
                break;
            }
            let at = (position, stamped.stamp);
            let counts = position >= self.first.journal_from;
            match stamped.entry {
                Entry::Catalog(change) if !change.proposed => {
                    // What cannot be read is passed over by the fold too.
                    if let Ok(catalog) = Catalog::parse(&change.files) {
                        let timeline = &mut found.timeline;
                        timeline.apply(stamped.stamp, Arc::new(catalog), change.tenants);
                    }
                }
                Entry::Batch(received) => {
                    let batch = &received.batch;
                    let not_after = not_after(stamped.stamp, opened.as_ref());
                    let rows = self.rows(&received, not_after, &found.timeline);
                    // Of what has nothing of the line it does not matter whether it came before.
                    if rows.is_empty() {
                        continue;
                    }
                    let life = (batch.agent.clone(), batch.incarnation, batch.sequence);
                    let known = batches.entry(life).or_default();
                    let again = !known.insert(batch.hash());
                    let fork = !again && known.len() > 1;
                    if counts {
                        found
                            .batches
                            .extend(self.parts(at, batch, &rows, (again, fork)));
                    }
                }
                Entry::Opened(figures) => opened = Some(figures),
                Entry::Operated(operated) => {
                    let OperatedAction::Correct(correction) = &operated.action else {
                        continue;
                    };
                    let again = !keys.insert((correction.tenant.clone(), correction.key.clone()));
                    if counts {
                        self.take_correction(at, (correction, &operated.note), again, &mut found);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// True for usage that the line rests on.
    fn has(
        &self,
        timeline: &Timeline,
        (tenant, meter, at): (&TenantId, &MeterName, Timestamp),
    ) -> bool {
        self.tenants.contains(tenant)
            && meter == self.meter
            && self.first.start <= at
            && at < self.first.end
            && self.pays(timeline, tenant, at)
    }

    /// True if the line was booked already when the journal had this entry.
    fn is_since(&self, position: Position) -> bool {
        self.seen.is_some_and(|seen| position > seen)
    }

    /// True for what the line is of: what counted, or what was refused for its reason.
    fn is_of(&self, refused: Option<RefusedReason>) -> bool {
        match (self.posting.kind, refused) {
            (EntryKind::Refused, Some(reason)) => reason.as_str() == self.posting.line,
            (kind, refused) => (kind == EntryKind::Refused) == refused.is_some(),
        }
    }

    /// What a batch has of the line, by tenant.
    fn rows<'b>(
        &self,
        received: &'b ReceivedBatch,
        not_after: Timestamp,
        timeline: &Timeline,
    ) -> BTreeMap<&'b TenantId, Vec<Quantity>> {
        let mut rows: BTreeMap<&TenantId, Vec<Quantity>> = BTreeMap::new();
        for (index, row) in received.batch.rows.iter().enumerate() {
            let (tenant, meter) = (row.series.tenant(), row.series.meter());
            let start = row.window.start();
            let future = (start > not_after).then_some(RefusedReason::FromTheFuture);
            let refused = received.verdicts.of(index).or(future);
            if self.is_of(refused) && self.has(timeline, (tenant, meter, start)) {
                rows.entry(tenant).or_default().push(row.value);
            }
        }
        rows
    }

    fn parts<'b>(
        &'b self,
        (position, stamp): (Position, Timestamp),
        batch: &'b Batch,
        rows: &'b BTreeMap<&TenantId, Vec<Quantity>>,
        (again, fork): (bool, bool),
    ) -> impl Iterator<Item = BatchPart> + 'b {
        rows.iter().map(move |(tenant, values)| BatchPart {
            position,
            stamp: stamp.to_string(),
            agent: batch.agent.clone(),
            incarnation: batch.incarnation,
            sequence: batch.sequence,
            tenant: (*tenant).clone(),
            rows: values.len(),
            quantity: sum(values, self.posting.scale),
            again,
            fork,
            since: self.is_since(position),
        })
    }

    fn take_correction(
        &self,
        (position, stamp): (Position, Timestamp),
        (correction, note): (&Correction, &Note),
        again: bool,
        found: &mut Found,
    ) {
        let tenant = &correction.tenant;
        let rows = correction.rows.iter();
        let rows = rows.filter(|row| self.has(&found.timeline, (tenant, &row.meter, row.at)));
        let values: Vec<Quantity> = rows.map(|row| row.quantity).collect();
        if values.is_empty() {
            return;
        }
        found.corrections.push(CorrectionPart {
            position,
            stamp: stamp.to_string(),
            author: note.author.clone(),
            reason: note.reason.clone(),
            key: correction.key.clone(),
            tenant: tenant.clone(),
            rows: values.len(),
            quantity: sum(&values, self.posting.scale),
            again,
            since: self.is_since(position),
        });
    }
}

fn sum(values: &[Quantity], scale: Scale) -> Option<String> {
    let sum = Quantity::checked_sum(values.iter().copied())?;
    Some(sum.display(scale).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entry::codec::encode;
    use crate::entry::{Digest, Verdicts};
    use crate::fold::intake::test_support::{Sealer, row};
    use crate::journal::memory::MemoryJournal;

    const NAME: &str = "requests";

    fn write(journal: &mut MemoryJournal, rows: &[i128], verdicts: Verdicts, sealer: &mut Sealer) {
        let rows = rows.iter().zip(1..);
        let rows = rows.map(|(value, window)| row("acme", NAME, "eu", window, *value));
        let received = ReceivedBatch {
            batch: sealer.seal(rows.collect(), false),
            policy: Digest([0; 32]),
            verdicts,
        };
        let bytes = encode(&Entry::Batch(Arc::new(received))).expect("encodes");
        let bytes = bytes.stamped(Timestamp::from_secs(60));
        journal.append(PARTITION, &bytes).expect("memory");
        journal.commit(PARTITION).expect("memory");
    }

    /// Quantity, whether it came again, and whether it is a fork, of each batch that a line has.
    fn found(journal: &MemoryJournal, kind: EntryKind, line: &str) -> Vec<(String, bool, bool)> {
        let (start, end) = (Timestamp::EPOCH, Timestamp::from_secs(3600));
        let mut posting = Posting::new(kind, start, end, line, MemoryJournal::position(9));
        posting.tenant = Some(TenantId::new("acme").expect("valid"));
        posting.meter = Some(MeterName::new(NAME).expect("valid"));
        posting.journal_from = MemoryJournal::position(0);
        let sources = Sources::of(&posting).expect("a meter");
        let batches = sources.find(journal).expect("reads").batches.into_iter();
        let shown =
            |batch: BatchPart| (batch.quantity.unwrap_or_default(), batch.again, batch.fork);
        batches.map(shown).collect()
    }

    #[test]
    fn what_was_refused_is_no_part_of_what_is_billed_and_a_fork_is_no_repetition() {
        let mut journal = MemoryJournal::new();
        let mut sealer = Sealer::new(1);
        let refused = Verdicts::PerRow(vec![None, Some(RefusedReason::MeterNotAllowed)]);
        write(&mut journal, &[5, 70], refused, &mut sealer);
        for value in [3, 4, 3] {
            let mut branch = Sealer::new(2);
            write(&mut journal, &[value], Verdicts::AllAllowed, &mut branch);
        }
        let shown = |quantity: &str, again, fork| (quantity.to_owned(), again, fork);
        assert_eq!(
            found(&journal, EntryKind::Charge, "req"),
            [
                shown("5", false, false),
                shown("3", false, false),
                shown("4", false, true),
                shown("3", true, false),
            ]
        );
        let refused = RefusedReason::MeterNotAllowed.as_str();
        assert_eq!(
            found(&journal, EntryKind::Refused, refused),
            [shown("70", false, false)]
        );
        let other = RefusedReason::TenantNotAllowed.as_str();
        assert_eq!(found(&journal, EntryKind::Refused, other), []);
    }
}
