//! How a simulated agent starts, stops, dies and is disturbed.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use tollgate_agent_core::aggregate::SeriesLimits;
use tollgate_agent_core::engine::{
    Engine, EngineConfig, EngineError, Recovery, Start, StartError, Stopped,
};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_agent_core::spool::SpoolConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{Aggregation, Timestamp};

use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::home::MemoryHome;
use super::super::options::Canary;
use super::super::workload::{self, Series};
use super::{AgentNode, Crash, Image, LastStop, Process, STOP_AGAIN_MILLIS, SimEngine, page};

/// Storage operations within which an armed crash strikes.
const CRASH_OPERATIONS: u64 = 30;

impl AgentNode {
    /// An agent that starts at once.
    pub fn new(index: usize, series: &[Series], context: &mut Context) -> Self {
        let mut random = context.random.fork();
        let disk = MemoryStorage::new(random.bits());
        let old = index == 0 && context.options.old_agent;
        // An old release counts what the first version of the format can say.
        let told = |series: &&Series| {
            !old || matches!(series.aggregation, Aggregation::Sum | Aggregation::Last)
        };
        if context.options.canary == Some(Canary::SkippedDirSync) {
            disk.set_ignore_sync_dir(true);
        }
        Self {
            index,
            id: workload::agent_name(index),
            series: series.iter().filter(told).cloned().collect(),
            old,
            disk,
            home: MemoryHome::default(),
            boot: random.bytes(),
            offset: 0,
            jumped: false,
            process: None,
            start_at: context.now.plus_millis(random.millis(0, 5000)),
            armed: None,
            room_at: None,
            next_count: context.now,
            last_stop: LastStop::Running,
            stop_again: context.now,
            connected_before: false,
            resets: 0,
            image: None,
            apps: page::Apps::default(),
            watermarks: BTreeMap::new(),
            disk_full: false,
            random,
        }
    }

    fn disk_faults(&self) -> u64 {
        let stats = self.disk.stats();
        stats.injected_failures + stats.out_of_space
    }

    pub(super) fn start(&mut self, context: &mut Context) -> Result<(), Broken> {
        let options = &context.options;
        let writers: Vec<_> = (0..options.writers)
            .map(|n| format!("writer-{n}"))
            .collect();
        let mut names = writers.clone();
        if options.pages || options.forged_pages {
            names.push(page::WRITER.to_owned());
        }
        let config = EngineConfig {
            agent: self.id.clone(),
            window: options.width,
            writers: names,
            series_max: options.series_max,
            key_bytes: 4096,
            limits: SeriesLimits {
                series_per_tenant: options.series_per_tenant,
                idle_millis: options.idle_millis,
                ..SeriesLimits::default()
            },
            spool: SpoolConfig {
                segment_bytes: options.spool_segment_bytes,
                bytes_max: options.spool_bytes_max,
                free_min: options.spool_free_min,
                sync: options.spool_sync,
            },
            ship: ShipConfig::default(),
        };
        let start = Start {
            now: self.local(context.now),
            boot_id: self.boot,
            random: self.random.bytes(),
        };
        let faults = self.disk_faults();
        let started = Engine::start(&config, &mut self.home, self.disk.clone(), start);
        let (engine, report) = match started {
            Ok(started) => started,
            Err(error) => return self.start_failed(&error, faults, context),
        };
        context.trace(format_args!(
            "agent {} starts: {:?}, {} rows recovered, {} tombstones",
            self.index, report.recovery, report.rows_recovered, report.tombstones
        ));
        match report.recovery {
            Recovery::Lost => {
                if self.resets == 0 {
                    return Err(format!(
                        "agent {} lost its cells without a reset",
                        self.index
                    ));
                }
                context.hit(Probe::CellsLost);
                context.oracle.reset(self.index);
            }
            Recovery::Continued => {
                context.hit(Probe::LifeContinued);
                context.oracle.figures.seals_are_rare();
            }
            Recovery::First | Recovery::Clean | Recovery::Killed => {
                if report.recovery == Recovery::Killed {
                    context.hit(Probe::UncleanCells);
                }
                context.oracle.made_safe(self.index);
            }
        }
        let mut hands = Vec::new();
        for name in &writers {
            hands.push(engine.writer(name).map_err(|error| error.to_string())?);
        }
        let tally = self.tally(&engine, context)?;
        self.process = Some(Box::new(Process {
            sequence: 0,
            tally,
            offset: self.offset,
            engine,
            writers: hands,
            slots: BTreeMap::new(),
            link: None,
            faults,
        }));
        self.look(context);
        Ok(())
    }

    fn start_failed(
        &mut self,
        error: &StartError,
        faults: u64,
        context: &mut Context,
    ) -> Result<(), Broken> {
        context.trace(format_args!("agent {} does not start: {error}", self.index));
        let home_failed = matches!(error, StartError::Replace(_));
        if self.disk_faults() == faults && !self.disk.is_stopped() && !home_failed {
            return Err(format!(
                "agent {} does not start on a good disk: {error:?}",
                self.index
            ));
        }
        context.hit(Probe::StorageError);
        let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
        self.go_down(crash, context);
        Ok(())
    }

    /// The engine gave up, as it does when its disk fails.
    pub(super) fn failed(
        &mut self,
        error: &EngineError,
        context: &mut Context,
    ) -> Result<(), Broken> {
        context.trace(format_args!("agent {} gives up: {error}", self.index));
        let faults = self.process.as_ref().map_or(0, |process| process.faults);
        if self.disk_faults() == faults && !self.disk.is_stopped() {
            return Err(format!(
                "agent {} failed on a good disk: {error:?}",
                self.index
            ));
        }
        if !self.disk.is_stopped() {
            context.hit(Probe::SpoolPoisoned);
        }
        let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
        self.go_down(crash, context);
        Ok(())
    }

    /// Strikes now, or in the middle of one of the next storage operations.
    pub fn strike(&mut self, crash: Crash, context: &mut Context) -> Result<(), Broken> {
        if self.process.is_some() && self.armed.is_none() && self.random.chance(600) {
            self.disk.stop_at(1 + self.random.below(CRASH_OPERATIONS));
            self.armed = Some((crash, context.now.plus_millis(5000)));
        } else {
            self.go_down(crash, context);
        }
        Ok(())
    }

    /// The process ends without a word, and with it maybe the host.
    pub(super) fn go_down(&mut self, crash: Crash, context: &mut Context) {
        context.trace(format_args!("agent {} goes down: {crash:?}", self.index));
        self.armed = None;
        self.process = None;
        self.apps.agent_ended();
        match crash {
            Crash::Kill => {
                context.hit(Probe::AgentKill);
                self.disk.kill();
                self.home.kill();
            }
            Crash::Reset => {
                context.hit(Probe::AgentReset);
                self.apps.vanish(page::Knows::Known, context);
                self.resets += 1;
                context.oracle.reset(self.index);
                self.disk.crash();
                self.home.reset(&mut self.random);
                self.boot = self.random.bytes();
            }
        }
        let longest = *self.random.pick(&[200, 2000, 20_000]);
        self.start_at = context.now.plus_millis(self.random.millis(1, longest));
    }

    /// The process is asked to stop, seals everything, and starts again later.
    pub fn handle_stop(&mut self, context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let wall = self.local(context.now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.writers.clear();
        process.slots.clear();
        process.tally = None;
        process.engine.handle_wall(steady, wall);
        cover_overflow(&process.engine, context);
        match process.engine.handle_stop(steady) {
            Ok(stopped) => {
                context.hit(Probe::AgentStop);
                context.trace(format_args!("agent {} stops: {stopped:?}", self.index));
                self.look(context);
                self.process = None;
                self.apps.agent_ended();
                self.armed = None;
                self.disk.kill();
                self.home.kill();
                self.start_at = context.now.plus_millis(self.random.millis(100, 5000));
                Ok(())
            }
            Err(error) => self.failed(&error, context),
        }
    }

    /// Disk errors to come, or a disk without room.
    pub fn disturb_storage(&mut self, context: &mut Context) {
        context.hit(Probe::StorageError);
        let at = 1 + self.random.below(20);
        match self.random.below(5) {
            0 => self.disk.fail_at(at, ErrorKind::Other, false),
            1 => self.disk.fail_at(at, ErrorKind::StorageFull, false),
            2 => self.disk.fail_at(at, ErrorKind::Other, true),
            3 => self.home.fail_next(),
            _ => {
                let room = self.disk.used() + self.random.below(4096);
                self.disk.set_capacity(Some(room));
                self.room_at = Some(context.now.plus_millis(self.random.millis(1000, 30_000)));
            }
        }
    }

    /// The disk is full, and the process is killed before it has room again: what its cells
    /// hold finds no room at the next start either.
    pub fn kill_on_full_disk(&mut self, context: &mut Context) {
        self.disk.set_capacity(Some(self.disk.used()));
        self.room_at = Some(context.now.plus_millis(self.random.millis(5_000, 30_000)));
        self.go_down(Crash::Kill, context);
        self.start_at = context.now.plus_millis(self.random.millis(1, 4_000));
    }

    /// A byte of the spool changes, mostly where it matters: in what was written last.
    pub fn flip_spool_byte(&mut self, context: &mut Context) {
        let names = self.disk.names();
        let Some(newest) = names.last() else { return };
        let newest = newest.clone();
        let recent = self.random.chance(700);
        let name = if recent {
            newest
        } else {
            self.random.pick(&names).clone()
        };
        let length = self
            .disk
            .contents(&name)
            .map_or(0, |bytes| bytes.len() as u64);
        let from = if recent {
            length.saturating_sub(1500)
        } else {
            0
        };
        let offset = from + self.random.below(length - from);
        let mask = 1 << self.random.below(8);
        if self.disk.flip(&name, offset, mask) {
            context.hit(Probe::SpoolFlip);
            context.oracle.damaged(self.index);
            context.trace(format_args!(
                "agent {}: byte {offset} of {name} flips",
                self.index
            ));
        }
    }

    /// An image of the host is taken, or the host is set back to it.
    pub fn image(&mut self, context: &mut Context) {
        let Some(image) = self.image.take() else {
            let contents = |name: String| {
                let bytes = self.disk.contents(&name)?;
                Some((name, bytes))
            };
            self.image = Some(Image {
                files: self.disk.names().into_iter().filter_map(contents).collect(),
                cells: self.home.image(),
                boot: self.boot,
            });
            context.oracle.image_taken(self.index);
            return;
        };
        context.hit(Probe::SetBack);
        self.go_down(Crash::Kill, context);
        context.trace(format_args!("agent {} is set back", self.index));
        context.oracle.set_back(self.index);
        self.apps.vanish(page::Knows::Nothing, context);
        for name in self.disk.names() {
            self.disk.lose_file(&name);
        }
        for (name, bytes) in &image.files {
            self.disk.set_contents(name, bytes);
        }
        self.home.set_back(image.cells.as_ref());
        self.boot = image.boot;
    }

    /// The clock jumps. Old releases cannot tell of that, and are spared.
    pub fn jump_clock(&mut self, millis: i64) {
        if !self.old {
            self.offset += millis;
            self.jumped = true;
        }
    }

    /// Everything around the agent works again.
    pub fn heal(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.home.heal();
        self.room_at = None;
        self.jump_clock(-self.offset);
        if let Some((crash, _)) = self.armed {
            self.go_down(crash, context);
        }
        if self.process.is_none() {
            self.start_at = context.now;
        }
        Ok(())
    }

    /// From now on the agent stops for good as soon as it can, and ships what it holds.
    pub fn begin_last_stop(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.last_stop = LastStop::Wanted;
        self.stop_again = context.now;
        Ok(())
    }

    pub(super) fn stop_for_good(&mut self, context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let wall = self.local(context.now);
        self.stop_again = context.now.plus_millis(STOP_AGAIN_MILLIS);
        if self.process.is_some() {
            self.end_application(context)?;
        }
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.writers.clear();
        process.slots.clear();
        process.tally = None;
        process.engine.handle_wall(steady, wall);
        cover_overflow(&process.engine, context);
        match process.engine.handle_stop(steady) {
            Ok(Stopped::Sealed) => {
                self.last_stop = LastStop::Sealed;
                let end = process.engine.anchor().time(steady);
                context.oracle.figures.ended(self.index, end);
                self.look(context);
                Ok(())
            }
            Ok(Stopped::SpoolFull) => Ok(()),
            Err(error) => self.failed(&error, context),
        }
    }

    /// The process exits for good, with nothing left to ship.
    pub fn exit(&mut self, context: &mut Context) {
        self.process = None;
        self.start_at = Timestamp::MAX;
        cover_disk(&self.disk, context);
    }
}

fn cover_overflow(engine: &SimEngine, context: &mut Context) {
    let tenants = engine.glance().tenant_accounts(workload::TENANTS.len());
    if tenants.overflow_events > 0 {
        context.hit(Probe::SeriesOverflow);
    }
}

/// Adds what happened on a disk to the coverage.
pub fn cover_disk(disk: &MemoryStorage, context: &mut Context) {
    let stats = disk.stats();
    context.coverage.add(Probe::TornWrite, stats.torn_writes);
    context.coverage.add(Probe::LostWrite, stats.lost_writes);
    context.coverage.add(Probe::LostName, stats.lost_names);
}
