//! The fold's state and what is done to it: chunks of entries in, transactions out.

use std::collections::BTreeSet;
use std::sync::Arc;

use tollgate_collector_core::closer::Closer;
use tollgate_collector_core::effect::Effect;
use tollgate_collector_core::entry::codec::EntryDecoder;
use tollgate_collector_core::entry::{
    CloseCause, Closing, Digest, Entry, Interim, Issue, Manual, Operated,
};
use tollgate_collector_core::fold::intake::{Intake, Notice, NoticeKind, Progress, ProgressQuery};
use tollgate_collector_core::fold::partition_of;
use tollgate_collector_core::fold::tenant::{Accrual, IssueWish, TenantFold};
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::{Epoch, Journal, PartitionId};
use tollgate_collector_core::ledger::Note;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, Transaction};
use tollgate_common::{TenantId, Timestamp};

use super::error::FoldError;
use super::handle::{CloseRequest, FoldStatus, WITHOUT_PROFILE_SHOWN, WithoutProfile};
use super::ledger;
use super::operate::{OperateRequest, Prepared};
use super::pool::Pool;
use crate::metrics::Metrics;

/// Entries of one chunk, and so of one transaction.
const CHUNK_ENTRIES: usize = 1024;
/// Most tenants that are told at a time to have reached their threshold.
const TO_BILL_MAX: usize = 256;
/// Rollups of one chunk, about.
const CHUNK_ROLLUPS: usize = 100_000;

/// The fold's state, where it stands, and where its projection stands.
pub(crate) struct Engine<P> {
    intake: Intake,
    tenants: Vec<TenantFold>,
    pool: Pool,
    projection: P,
    /// Where the projection stands; entries up to there are folded without writing effects.
    projected: Option<Position>,
    reader: Reader,
    partition: PartitionId,
    epoch: Epoch,
    /// Folded since the engine was made.
    entries: u64,
    /// Their rollups.
    rollups: u64,
    closer: Closer,
    metrics: Arc<Metrics>,
    /// Somebody wants to know who has changed.
    watched: bool,
}

/// Where an engine begins.
pub(crate) struct Beginning<P> {
    /// The state, of a snapshot or empty.
    pub(crate) fold: Fold,
    /// The projection, which does not stand before the state.
    pub(crate) projection: P,
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    /// Threads for tenant folds.
    pub(crate) threads: usize,
    pub(crate) metrics: Arc<Metrics>,
}

impl<P: Projection> Engine<P> {
    pub(crate) fn new(beginning: Beginning<P>) -> Result<Self, FoldError> {
        let Beginning {
            fold,
            projection,
            partition,
            epoch,
            threads,
            metrics,
        } = beginning;
        let (intake, tenants, after) = fold.into_parts();
        let projected = projection.position(partition)?;
        let pool = Pool::new(threads.max(1)).map_err(FoldError::Threads)?;
        // Records of the journal repeat the series of those before.
        let decoder = EntryDecoder::with_cache(rand::random());
        let reader = Reader::with_decoder(partition, after, decoder);
        let closer = Closer::new();
        let engine = Self {
            intake,
            tenants,
            pool,
            projection,
            projected,
            reader,
            partition,
            epoch,
            entries: 0,
            rollups: 0,
            closer,
            metrics,
            watched: false,
        };
        if engine.projected.is_some() && engine.projected == after {
            ledger::check(&engine.tenants, &engine.projection)?;
        }
        Ok(engine)
    }

    /// Folds the next chunk of what is committed and writes its effects; returns the number
    /// of entries, 0 at the end.
    pub(crate) fn step<J: Journal>(&mut self, journal: &J) -> Result<usize, FoldError> {
        let mut inputs = Vec::new();
        let mut effects = Vec::new();
        let (mut count, mut rollups) = (0, 0);
        let projected = self.projected;
        let mut writes = false;
        while count < CHUNK_ENTRIES && rollups < CHUNK_ROLLUPS {
            let Some((position, stamped)) = self.reader.next(journal)? else {
                break;
            };
            if let Entry::Batch(received) = &stamped.entry {
                rollups += received.batch.rows.len();
            }
            let output = self.intake.apply(position, &stamped);
            self.log_notices(&output.notices, position, projected);
            self.grow();
            inputs.resize_with(self.tenants.len(), Vec::new);
            // The intake's stamp never goes back, whatever an entry says.
            let stamp = self.intake.stamp();
            for (partition, input) in output.inputs {
                inputs[usize::from(partition)].push((position, stamp, input));
            }
            effects.extend(output.effects);
            count += 1;
            // Effects of one chunk are written all or not at all, so that it must not
            // straddle where the projection stands.
            writes = projected.is_none_or(|projected| position > projected);
            if projected == Some(position) {
                break;
            }
        }
        let folded = self.pool.apply(&mut self.tenants, inputs)?;
        if let (true, Some(upto)) = (writes, self.reader.position()) {
            effects.extend(folded);
            self.write(upto, effects)?;
        } else if count > 0 && self.reader.position() == projected {
            ledger::check(&self.tenants, &self.projection)?;
        }
        self.entries += count as u64;
        self.rollups += rollups as u64;
        self.metrics.folded_entries.inc_by(count as u64);
        Ok(count)
    }

    fn write(&mut self, upto: Position, effects: Vec<Effect>) -> Result<(), FoldError> {
        let booked = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Ledger(_)))
            .count();
        let transaction = Transaction {
            partition: self.partition,
            epoch: self.epoch,
            after: self.projected,
            upto,
            effects,
        };
        self.projection.commit(&transaction)?;
        self.projected = Some(upto);
        self.metrics.projection_commits.inc();
        self.metrics.ledger_entries.inc_by(booked as u64);
        Ok(())
    }

    /// One tenant fold per partition, as soon as their number is known.
    fn grow(&mut self) {
        let partitions = self.intake.partitions();
        for partition in u16::try_from(self.tenants.len()).unwrap_or(u16::MAX)..partitions {
            let mut fold = TenantFold::new(partition);
            if self.watched {
                fold.watch_changes(self.intake.stamp());
            }
            self.tenants.push(fold);
        }
    }

    /// Notices of entries that were folded before this start are not logged again.
    fn log_notices(&self, notices: &[Notice], position: Position, projected: Option<Position>) {
        if projected.is_some_and(|projected| position <= projected) {
            return;
        }
        for notice in notices {
            match notice.kind {
                NoticeKind::Duplicate => {
                    self.metrics.duplicates.inc();
                }
                NoticeKind::Future => {
                    self.metrics.future_batches.inc();
                }
                NoticeKind::JournalBehind => {
                    self.metrics.journal_behind.inc();
                }
                _ => {}
            }
            let agent = notice.agent.as_ref().map(tracing::field::display);
            let incarnation = notice.incarnation.as_ref().map(tracing::field::display);
            let (sequence, detail) = (notice.sequence, &notice.detail);
            match notice.kind {
                NoticeKind::Duplicate | NoticeKind::Recovered => {
                    tracing::debug!(kind = ?notice.kind, agent, incarnation, sequence, detail, "intake");
                }
                _ => {
                    tracing::warn!(kind = ?notice.kind, agent, incarnation, sequence, detail, "intake");
                }
            }
        }
    }

    /// The last entry that is folded.
    pub(crate) fn position(&self) -> Option<Position> {
        self.reader.position()
    }

    /// Entries folded since the engine was made.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Rollups of the entries folded since the engine was made.
    pub(crate) fn rollups(&self) -> u64 {
        self.rollups
    }

    /// The intake's state.
    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Digest of the catalog in force.
    pub(crate) fn catalog(&self) -> Option<Digest> {
        self.tenants.first().and_then(TenantFold::catalog_digest)
    }

    /// Digest of the policy in force.
    pub(crate) fn policy(&self) -> Option<Digest> {
        self.tenants.first().and_then(TenantFold::policy_digest)
    }

    /// Where an agent goes on.
    pub(crate) fn progress(&self, query: &ProgressQuery) -> Progress {
        self.intake.progress(query)
    }

    /// From now on knows whose open periods have changed: everybody's, since `stamp`.
    pub(crate) fn watch_changes(&mut self, stamp: Timestamp) {
        self.watched = true;
        for fold in &mut self.tenants {
            fold.watch_changes(stamp);
        }
    }

    /// How many tenants have changed.
    pub(crate) fn changed_count(&self) -> usize {
        self.tenants.iter().map(TenantFold::changed_count).sum()
    }

    /// Who changed first of those that have not been taken, and when.
    pub(crate) fn first_changed(&mut self) -> Option<(Timestamp, TenantId)> {
        self.tenants
            .iter_mut()
            .filter_map(TenantFold::first_changed)
            .min()
    }

    /// Puts a tenant behind all others that have changed.
    pub(crate) fn defer_changed(&mut self, tenant: &TenantId) {
        if let Some(fold) = self.fold_of(tenant) {
            fold.defer_changed(tenant);
        }
    }

    /// The open periods of a tenant, if they have changed since they were taken last.
    pub(crate) fn take_changed(&mut self, tenant: &TenantId) -> Option<Vec<Accrual>> {
        self.fold_of(tenant)?.take_changed(tenant)
    }

    /// Whoever ever paid for a tenant.
    pub(crate) fn payers_of(&self, tenant: &TenantId) -> Vec<TenantId> {
        let families = self.tenants.first().map(TenantFold::families);
        let payers = families.map(|families| families.payers_of(tenant));
        payers.into_iter().flatten().cloned().collect()
    }

    fn fold_of(&mut self, tenant: &TenantId) -> Option<&mut TenantFold> {
        let partition = partition_of(tenant, self.intake.partitions());
        self.tenants.get_mut(usize::from(partition))
    }

    /// What the journal's time is.
    pub(crate) fn stamp(&self) -> Timestamp {
        self.intake.stamp()
    }

    /// Open periods as they stand.
    pub(crate) fn accruals(&self, tenant: Option<&TenantId>) -> Vec<serde_json::Value> {
        let accruals = self
            .folds_about(tenant)
            .flat_map(|fold| fold.accruals(tenant));
        accruals
            .map(|accrual| crate::accruals::lines(&accrual))
            .collect()
    }

    /// What periods wait for.
    pub(crate) fn standings(
        &self,
        tenant: Option<&TenantId>,
        over: bool,
        now: Timestamp,
    ) -> serde_json::Value {
        let stamp = now.max(self.intake.stamp());
        let standings = self
            .folds_of(tenant)
            .flat_map(|fold| fold.standings(stamp, tenant))
            .filter(|standing| !over || standing.end <= stamp);
        super::json::standings(standings)
    }

    fn folds_of(&self, tenant: Option<&TenantId>) -> impl Iterator<Item = &TenantFold> {
        let only = tenant.map(|tenant| usize::from(partition_of(tenant, self.intake.partitions())));
        self.tenants
            .iter()
            .enumerate()
            .filter(move |(index, _)| only.is_none_or(|only| only == *index))
            .map(|(_, fold)| fold)
    }

    /// The same with those of whoever may pay for the tenant: what they pay for is in their periods.
    fn folds_about(&self, tenant: Option<&TenantId>) -> impl Iterator<Item = &TenantFold> {
        let partitions = self.intake.partitions();
        let only: Option<BTreeSet<u16>> = tenant.map(|tenant| {
            let payers = self.payers_of(tenant);
            let all = payers.iter().chain([tenant]);
            all.map(|tenant| partition_of(tenant, partitions)).collect()
        });
        let about = move |fold: &&TenantFold| {
            only.as_ref()
                .is_none_or(|only| only.contains(&fold.partition()))
        };
        self.tenants.iter().filter(about)
    }

    /// The closing of a period by an operator's word, or why there is none.
    pub(crate) fn close_by_hand(
        &self,
        request: CloseRequest,
        now: Timestamp,
    ) -> Result<Box<Closing>, String> {
        let CloseRequest {
            tenant,
            at,
            author,
            reason,
            approved_by,
        } = request;
        let stamp = now.max(self.intake.stamp());
        let fold = self
            .folds_of(Some(&tenant))
            .next()
            .ok_or("nothing has been received yet")?;
        let cause = CloseCause::Operator {
            author,
            reason,
            approved_by,
        };
        fold.close_by_hand(stamp, &tenant, at, cause)
            .map(Box::new)
            .map_err(|error| error.to_string())
    }

    /// What an operator asks for, as a journal entry with its preview.
    pub(crate) fn operate(
        &self,
        request: OperateRequest,
        note: Note,
        now: Timestamp,
    ) -> Result<Box<Prepared>, String> {
        let stamp = now.max(self.intake.stamp());
        let tenant = match &request {
            OperateRequest::Correct { tenant, .. } | OperateRequest::Rerate { tenant, .. } => {
                Some(tenant.clone())
            }
            OperateRequest::Retire { .. } => None,
        };
        let fold = self
            .folds_of(tenant.as_ref())
            .next()
            .ok_or("nothing has been received yet")?;
        let fold_of = |payer: &TenantId| self.folds_of(Some(payer)).next();
        super::operate::prepare(fold, fold_of, request, note, stamp).map(Box::new)
    }

    /// Whether what an operator decided has been done everywhere.
    pub(crate) fn has_done(&self, operated: &Operated) -> bool {
        let mut folds = self.folds_of(operated.tenant());
        folds.all(|fold| fold.has_done(operated))
    }

    /// Closings that settle what waits in the closed periods in which an operator's action was done,
    /// by the operator's word.
    pub(crate) fn unsettled(
        &self,
        operated: &Operated,
        note: &Note,
        now: Timestamp,
    ) -> Vec<Closing> {
        let stamp = now.max(self.intake.stamp());
        // What another tenant pays for is settled there.
        let payers = self.folds_of(operated.tenant()).next();
        let payers = payers.map(|fold| fold.payers_concerned(operated));
        let payers = payers.unwrap_or_default();
        let whose = payers.iter().chain(operated.tenant());
        let folds =
            whose.flat_map(|whose| self.folds_of(Some(whose)).map(move |fold| (fold, whose)));
        let closings = folds.flat_map(|(fold, tenant)| {
            fold.unsettled(tenant)
                .into_iter()
                .filter_map(move |instant| {
                    let cause = CloseCause::Operator {
                        author: note.author.clone(),
                        reason: note.reason.clone(),
                        approved_by: note.approved_by.clone(),
                    };
                    fold.close_by_hand(stamp, tenant, instant, cause).ok()
                })
        });
        closings.collect()
    }

    /// Whether a decision about a tenant's books would have an effect, or why not.
    pub(crate) fn may_decide(&self, manual: &Manual) -> Result<(), String> {
        let fold = self.folds_of(Some(&manual.tenant)).next();
        // One that does not know the tenant yet books lines all the same.
        fold.map_or(Ok(()), |fold| fold.may_decide(manual))
            .map_err(|error| error.to_string())
    }

    /// The documents that somebody wishes for, or why there are none.
    pub(crate) fn issue(&self, wish: &IssueWish, now: Timestamp) -> Result<Vec<Issue>, String> {
        let stamp = now.max(self.intake.stamp());
        let fold = self
            .folds_of(Some(&wish.tenant))
            .next()
            .ok_or("nothing has been received yet")?;
        let issues = fold
            .propose_issue(stamp, wish)
            .map_err(|error| error.to_string())?;
        let mut firsts = issues.iter().map(|issue| (&issue.issuer, issue.first));
        let gap = firsts.find_map(|(issuer, first)| self.intake.number_gap(issuer, first));
        match gap {
            Some(gap) => Err(gap.to_string()),
            None => Ok(issues),
        }
    }

    /// The tenants for which lines wait.
    pub(crate) fn dues(&self) -> Vec<TenantId> {
        let mut tenants: Vec<TenantId> = self
            .tenants
            .iter()
            .flat_map(TenantFold::tenants_with_dues)
            .cloned()
            .collect();
        tenants.sort();
        tenants
    }

    /// The tenants whose threshold invoice is to be issued.
    pub(crate) fn to_bill(&self) -> Vec<TenantId> {
        let tenants = self.tenants.iter().flat_map(TenantFold::tenants_to_bill);
        tenants.take(TO_BILL_MAX).cloned().collect()
    }

    /// The entry that books a tenant's open period as it stands; `None` if nothing is known of it. Or
    /// why it cannot be booked yet.
    pub(crate) fn interim(
        &self,
        tenant: &TenantId,
        note: &Note,
        now: Timestamp,
    ) -> Result<Option<Interim>, String> {
        let stamp = now.max(self.intake.stamp());
        let Some(fold) = self.folds_of(Some(tenant)).next() else {
            return Ok(None);
        };
        fold.interim_by_hand(stamp, tenant, note.clone())
            .map_err(|refused| refused.to_string())
    }

    /// Closings and interims that are due by the journal's own time, each proposed once.
    pub(crate) fn take_closings(&mut self) -> Vec<Entry> {
        self.closer.poll(self.intake.stamp(), &self.tenants)
    }

    /// True if a period would be due if the journal's time were `now`.
    pub(crate) fn would_close(&self, now: Timestamp) -> bool {
        let closable = self.tenants.iter().flat_map(|fold| fold.poll_closable(now));
        !self.closer.clone().propose(now, closable).is_empty()
    }

    /// Tenants with whom nothing is agreed.
    pub(crate) fn without_profile(&self) -> WithoutProfile {
        let mut names = self.tenants.iter().flat_map(TenantFold::without_profile);
        let first: Vec<TenantId> = names
            .by_ref()
            .take(WITHOUT_PROFILE_SHOWN)
            .cloned()
            .collect();
        WithoutProfile {
            count: first.len() + names.count(),
            first,
        }
    }

    /// How the fold stands.
    pub(crate) fn status(&self) -> FoldStatus {
        FoldStatus {
            position: self.position().map(|position| position.to_string()),
            stamp: self.position().map(|_| self.intake.stamp().to_string()),
            entries: self.entries,
            partitions: self.tenants.len(),
            catalog: self.catalog().map(|digest| digest.to_string()),
            without_profile: self.without_profile(),
            policy: self.policy().map(|digest| digest.to_string()),
            lineage: self
                .intake
                .opened()
                .map(|opened| opened.lineage.to_string()),
            restores: self.intake.restores(),
            last_restore: self.intake.last_restore().cloned(),
        }
    }

    /// The whole state as bytes, and its position; `None` before the first entry.
    pub(crate) fn snapshot(&mut self) -> Option<(Position, Vec<u8>)> {
        let position = self.reader.position()?;
        let (intake, tenants) = (
            std::mem::take(&mut self.intake),
            std::mem::take(&mut self.tenants),
        );
        let fold = Fold::from_parts(intake, tenants, Some(position));
        let bytes = fold.to_bytes();
        (self.intake, self.tenants, _) = fold.into_parts();
        Some((position, bytes))
    }
}
