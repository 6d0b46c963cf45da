//! From a line of the ledger to the batches and corrections that brought its usage.
//!
//! A line rests on the usage of one tenant, or of all for whom it pays: of each as far as it paid by
//! the catalogs that were in force when the usage came. A line that changes another one rests on what
//! that rests on, and on what came since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tollgate_common::{
    AgentId, Batch, BatchSeq, Incarnation, MeterName, Quantity, Scale, TenantId, Timestamp,
};

use crate::catalog::Catalog;
use crate::catalog::timeline::Timeline;
use crate::entry::{Correction, Entry, OperatedAction};
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
        let (mut batches, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Found::default();
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
                    let life = (batch.agent.clone(), batch.incarnation, batch.sequence);
                    let again = !batches.insert(life);
                    if counts {
                        self.take_batch(at, batch, again, &mut found);
                    }
                }
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

    fn take_batch(
        &self,
        (position, stamp): (Position, Timestamp),
        batch: &Batch,
        again: bool,
        found: &mut Found,
    ) {
        let mut rows: BTreeMap<&TenantId, Vec<Quantity>> = BTreeMap::new();
        for row in &batch.rows {
            let (tenant, meter) = (row.series.tenant(), row.series.meter());
            if self.has(&found.timeline, (tenant, meter, row.window.start())) {
                rows.entry(tenant).or_default().push(row.value);
            }
        }
        for (tenant, values) in rows {
            found.batches.push(BatchPart {
                position,
                stamp: stamp.to_string(),
                agent: batch.agent.clone(),
                incarnation: batch.incarnation,
                sequence: batch.sequence,
                tenant: tenant.clone(),
                rows: values.len(),
                quantity: sum(&values, self.posting.scale),
                again,
                since: self.is_since(position),
            });
        }
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
