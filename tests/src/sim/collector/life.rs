//! How the simulated collector starts, dies, recovers and is disturbed.

use std::collections::{BTreeMap, VecDeque};

use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::closer::Closer;
use tollgate_collector_core::effect::Effect;
use tollgate_collector_core::entry::codec::EntryEncoder;
use tollgate_collector_core::entry::{CatalogChange, CloseCause, Entry, Opened};
use tollgate_collector_core::fold::intake::NoticeKind;
use tollgate_collector_core::fold::planted::PlantedBug;
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::journal::Journal;
use tollgate_collector_core::journal::JournalError;
use tollgate_collector_core::journal::group::GroupCommit;
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::segment::{PARTITION, SegmentJournal};
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::Projection;
use tollgate_collector_core::snapshot::SnapshotStore;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{AgentId, Lineage, MeterName, TenantId};

use super::super::agent::Crash;
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::options::Canary;
use super::super::projection::MemoryProjection;
use super::super::tariff;
use super::survey::Survey;
use super::{CLOCK_MILLIS, CollectorNode, Process, clerk, disturb};

/// Storage operations within which an armed crash strikes.
const CRASH_OPERATIONS: u64 = 30;

impl CollectorNode {
    /// A collector that starts at once.
    pub fn new(context: &mut Context) -> Self {
        let mut random = context.random.fork();
        let journal_disk = MemoryStorage::new(random.bits());
        let snapshot_disk = MemoryStorage::new(random.bits());
        match context.options.canary {
            Some(Canary::SyncLie) => journal_disk.set_ignore_sync(true),
            Some(Canary::SkippedDirSync) => journal_disk.set_ignore_sync_dir(true),
            Some(_) | None => {}
        }
        Self {
            journal_disk,
            snapshot_disk,
            projection: MemoryProjection::default(),
            lineage: Lineage::from_bytes(random.bytes()),
            offset: 0,
            process: None,
            start_at: context.now,
            armed: None,
            room_at: None,
            catalog: tariff::catalog(&context.options, 0),
            number: 0,
            numbers: BTreeMap::new(),
            acts: 0,
            acts_at_last: clerk::ACTS_AT_LAST,
            policy: disturb::policy(context.options.forbidden_tenant),
            changes: 0,
            delete_projection: false,
            acknowledged: BTreeMap::new(),
            remembered: VecDeque::new(),
            late: Vec::new(),
            survey: Survey::default(),
            backup: None,
            says_restored: false,
            torn_off: Vec::new(),
            reorder_until: context.now,
            settling: false,
            old_until: Some(context.options.old_collector_millis)
                .filter(|millis| *millis > 0)
                .map(|millis| context.now.plus_millis(millis)),
            random,
        }
    }

    /// Faults that the disks have shown so far.
    pub(super) fn disk_faults(&self) -> u64 {
        let faults = |disk: &MemoryStorage| {
            let stats = disk.stats();
            stats.injected_failures + stats.out_of_space
        };
        faults(&self.journal_disk) + faults(&self.snapshot_disk)
    }

    fn is_stopped(&self) -> bool {
        self.journal_disk.is_stopped() || self.snapshot_disk.is_stopped()
    }

    /// An empty fold, with the planted bug if there is one.
    pub(super) fn empty_fold(context: &Context) -> Fold {
        match context.options.canary {
            Some(Canary::DedupeOff) => Fold::with_bug(PlantedBug::DedupeOff),
            Some(Canary::LateTwice) => Fold::with_bug(PlantedBug::LateTwice),
            Some(Canary::BilledAgain) => Fold::with_bug(PlantedBug::BilledAgain),
            Some(Canary::NewestPrice) => Fold::with_bug(PlantedBug::NewestPrice),
            _ => Fold::new(),
        }
    }

    pub(super) fn start(&mut self, context: &mut Context) -> Result<(), Broken> {
        let faults = self.disk_faults();
        match self.try_start(context)? {
            Ok(process) => {
                self.process = Some(Box::new(process));
                self.write_first_entries(context)
            }
            Err(error) => {
                context.trace(format_args!("collector does not start: {error}"));
                if self.disk_faults() == faults && !self.is_stopped() {
                    return Err(format!("collector does not start on good disks: {error}"));
                }
                context.hit(Probe::StorageError);
                let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
                self.go_down(crash, context)
            }
        }
    }

    /// Opens the journal, decides what of projection and snapshots can be used, and replays
    /// the rest. The inner error is one that a broken disk may cause.
    fn try_start(&mut self, context: &mut Context) -> Result<Result<Process, String>, Broken> {
        let config = LogConfig {
            segment_bytes: context.options.journal_segment_bytes,
            bytes_max: u64::MAX,
        };
        let (mut journal, report) = match SegmentJournal::open(self.journal_disk.clone(), config) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(format!("{error:?}"))),
        };
        if report.damage_count > 0 {
            return Err(format!("the journal is damaged: {report:?}"));
        }
        let epoch = journal
            .acquire(PARTITION)
            .map_err(|error| error.to_string())?;
        if let Err(error) = Self::survey(&mut self.survey, &journal) {
            return Ok(Err(error));
        }
        self.check_acknowledged(&self.survey)?;
        let last = match journal.last(PARTITION) {
            Ok(last) => last,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if std::mem::take(&mut self.delete_projection) {
            self.rebuild_projection("deleted", context);
        }
        if self.projection.tables().position > last {
            // The fold reads only what is committed, so an honest disk never gets here.
            self.rebuild_projection("ahead of the journal", context);
        }
        let stands = self.projection.tables().position;
        let store = SnapshotStore::new(self.snapshot_disk.clone());
        if let Err(error) = store.discard_after(last) {
            return Ok(Err(error.to_string()));
        }
        let loaded = match store.load(stands) {
            Ok(loaded) => loaded,
            Err(error) => return Ok(Err(error.to_string())),
        };
        context
            .coverage
            .add(Probe::SnapshotDamaged, loaded.unusable.len() as u64);
        let from_snapshot = loaded.fold.is_some();
        context.hit(if from_snapshot {
            Probe::SnapshotStart
        } else {
            Probe::JournalStart
        });
        let mut fold = loaded.fold.unwrap_or_else(|| Self::empty_fold(context));
        context.trace(format_args!(
            "collector starts: fold {:?}, projection {stands:?}, journal {last:?}",
            fold.position()
        ));
        let mut reader = Reader::new(PARTITION, fold.position());
        // What the projection has already is read for the state only.
        while reader.position() < stands {
            match reader.next(&journal) {
                Ok(Some((position, stamped))) => {
                    fold.apply(position, &stamped);
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        if fold.position() != stands {
            return Err(format!(
                "fold {:?} and projection {stands:?} do not meet",
                fold.position()
            ));
        }
        let process = Process {
            group: GroupCommit::new(journal, PARTITION, self.survey.stamp),
            epoch,
            fold,
            reader,
            closer: Closer::new(),
            encoder: EntryEncoder::new(),
            sessions: BTreeMap::new(),
            pending: Vec::new(),
            commit_at: None,
            fold_at: Some(context.now),
            clock_at: context.now.plus_millis(CLOCK_MILLIS),
            snapshot_at: context.after_about(context.options.snapshot_every_millis),
            faults: self.disk_faults(),
        };
        Ok(Ok(process))
    }

    fn rebuild_projection(&mut self, why: &str, context: &mut Context) {
        context.trace(format_args!("projection is {why}"));
        context.hit(Probe::ProjectionRebuilt);
        self.projection.clear().expect("memory can be cleared");
    }

    /// Figures, policy and catalog, where the journal does not have them yet.
    fn write_first_entries(&mut self, context: &mut Context) -> Result<(), Broken> {
        let mut entries = Vec::new();
        if self.survey.lineage.is_none() {
            entries.push(Entry::Opened(Opened {
                lineage: self.lineage,
                partitions: context.options.partitions,
                usage_window_secs: 900,
                settlement_millis: context.options.settlement_millis,
                future_tolerance_millis: context.options.future_tolerance_millis,
            }));
        }
        entries.extend(self.restored_entry(context));
        if self.survey.policy != Some(self.policy.digest()) {
            entries.push(Entry::Policy(self.policy.change()));
        }
        // A start applies the first catalog, and no other.
        if self.survey.catalog.is_none() {
            entries.push(Entry::Catalog(self.checked_catalog()?));
        }
        self.write(&entries, context)?;
        // A collector answers nobody before these are durable.
        self.commit(context)
    }

    pub(super) fn checked_catalog(&mut self) -> Result<CatalogChange, Broken> {
        let catalog = Catalog::parse(&self.catalog).map_err(|error| error.to_string())?;
        self.numbers.insert(catalog.digest(), self.number);
        Ok(CatalogChange::of(&catalog))
    }

    /// The journal failed.
    pub(super) fn failed(
        &mut self,
        error: &JournalError,
        context: &mut Context,
    ) -> Result<(), Broken> {
        context.trace(format_args!("collector gives up: {error}"));
        let faults = self.process.as_ref().map_or(0, |process| process.faults);
        if self.disk_faults() == faults && !self.is_stopped() {
            return Err(format!("the journal failed on a good disk: {error}"));
        }
        if !self.is_stopped() {
            context.hit(Probe::JournalPoisoned);
        }
        let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
        self.go_down(crash, context)
    }

    /// Strikes now, or in the middle of one of the next storage operations.
    pub fn strike(&mut self, crash: Crash, context: &mut Context) -> Result<(), Broken> {
        if self.process.is_some() && self.armed.is_none() && self.random.chance(600) {
            let disk = if self.random.chance(800) {
                &self.journal_disk
            } else {
                &self.snapshot_disk
            };
            disk.stop_at(1 + self.random.below(CRASH_OPERATIONS));
            self.armed = Some((crash, context.now.plus_millis(5000)));
            return Ok(());
        }
        self.go_down(crash, context)
    }

    /// The process ends without a word, and with it maybe the host.
    pub(super) fn go_down(&mut self, crash: Crash, context: &mut Context) -> Result<(), Broken> {
        context.trace(format_args!("collector goes down: {crash:?}"));
        self.armed = None;
        self.process = None;
        match crash {
            Crash::Kill => {
                context.hit(Probe::CollectorKill);
                self.journal_disk.kill();
                self.snapshot_disk.kill();
            }
            Crash::Reset => {
                context.hit(Probe::CollectorReset);
                // Nothing is taken for granted of what the disk holds now.
                self.survey = Survey::default();
                self.journal_disk.crash();
                self.snapshot_disk.crash();
                if self.random.chance(300) && !self.projection.is_empty() {
                    let lost = 1 + self.random.index(3);
                    let keep = self.projection.len().saturating_sub(lost);
                    self.projection.roll_back(keep)?;
                    context.hit(Probe::ProjectionRolledBack);
                }
            }
        }
        let longest = *self.random.pick(&[100, 2000, 20_000, 90_000]);
        self.start_at = context.now.plus_millis(self.random.millis(1, longest));
        Ok(())
    }

    /// Nothing comes from agents any more: only periods are waited for.
    pub fn begin_settlement(&mut self) {
        self.settling = true;
    }

    /// Counts what the effects show, and lets the oracle see what is booked.
    pub(super) fn note(effects: &[Effect], context: &mut Context) -> Result<(), Broken> {
        for effect in effects {
            match effect {
                Effect::Ledger(entry) => {
                    context.oracle.booked(entry)?;
                    let posting = &entry.posting;
                    let name = |name: Option<&str>| name.unwrap_or("?").to_owned();
                    context.trace(format_args!(
                        "ledger {}: {} {}/{} {} {:?} ({}), sequences {:?}",
                        entry.at,
                        posting.kind,
                        name(posting.tenant.as_ref().map(TenantId::as_str)),
                        name(posting.meter.as_ref().map(MeterName::as_str)),
                        posting.quantity.units(),
                        posting.certainty,
                        posting.line,
                        posting.sequences,
                    ));
                }
                Effect::Agent(agent) if agent.gaps > 0 => context.hit(Probe::GapSeen),
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts the notices and closings of a whole journal, once, at the end.
    pub(super) fn cover(
        notices: &[(NoticeKind, Option<AgentId>)],
        closings: &[(Position, CloseCause)],
        context: &mut Context,
    ) {
        for (kind, _) in notices {
            match kind {
                NoticeKind::Duplicate => context.hit(Probe::Duplicate),
                NoticeKind::Fork => context.hit(Probe::Fork),
                NoticeKind::Recovered => context.hit(Probe::LossReversed),
                NoticeKind::Future => context.hit(Probe::FutureRow),
                _ => {}
            }
        }
        for (_, cause) in closings {
            match cause {
                CloseCause::Complete => context.hit(Probe::CloseComplete),
                CloseCause::Settled => context.hit(Probe::CloseSettled),
                CloseCause::Operator { .. } => context.hit(Probe::CloseByHand),
            }
        }
    }
}
