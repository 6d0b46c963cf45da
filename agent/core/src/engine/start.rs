//! How an engine starts: recovery, then a fresh incarnation.

use std::io;

use serde::Serialize;
use tollgate_common::log::OpenReport;
use tollgate_common::storage::Storage;
use tollgate_common::{
    AgentId, BatchHash, BatchSeq, Incarnation, Loss, LossAmount, LossReason, Parent, ParentEnd,
    Timestamp, Tombstone, Window,
};

use super::clock::Clock;
use super::declare::{Declarations, Watch};
use super::{Engine, EngineConfig, EngineError};
use crate::aggregate::{
    AccountWords, Cells, CellsError, CellsHome, CellsLayout, Ended, Identity, LayoutError, Region,
    WRITER_NAME_BYTES_MAX, v1,
};
use crate::recover::{self, Beginning, Facts, NoFacts, Plan};
use crate::seal::{self, Mode, SealError, Sealer, Standing};
use crate::ship::Shipper;
use crate::spool::{Room, Spool, SpoolError};

/// What a start cannot know by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The clock.
    pub now: Timestamp,
    /// Names this boot of the host; another one after every boot.
    pub boot_id: [u8; 16],
    /// Random bytes; they become the incarnation.
    pub random: [u8; 16],
}

/// How the life before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// There was none.
    First,
    /// It had sealed everything.
    Clean,
    /// It was killed; what its cells held is sealed now.
    Killed,
    /// Its cells could not be used; the loss is declared.
    Lost,
    /// It was killed, and the spool is too full to seal what its cells hold: this life goes on
    /// under the old incarnation.
    Continued,
}

/// What a start found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartReport {
    /// The life that has begun, or goes on.
    pub incarnation: Incarnation,
    /// The life before.
    pub parent: Option<Parent>,
    /// How that ended.
    pub recovery: Recovery,
    /// Rows that were sealed from its cells.
    pub rows_recovered: u64,
    /// Tombstones written for batches that the spool had lost at its end.
    pub tombstones: u64,
    /// What is wrong with the cells file, if it could not be read.
    pub cells_damage: Option<String>,
    /// What opening the spool found.
    pub spool: OpenReport,
}

/// Why an engine does not start. Nothing is lost: what is there stays for the next start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error("{0}")]
    Config(&'static str),
    /// Sizes of the cells are out of range.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The cells file cannot be loaded.
    #[error("cells file cannot be opened")]
    Load(#[source] io::Error),
    /// The cells file was written by another version of the agent.
    #[error(
        "cells file was written by another version; start that version and stop it in order, then start this one"
    )]
    Version(#[source] CellsError),
    /// The state directory is that of another agent. A collector takes no batches of one agent
    /// from another, so that what it holds could never be shipped.
    #[error(
        "state directory belongs to agent `{found}`, not to `{expected}`; give `{expected}` a directory of its own, and run `{found}` with this one until its spool is drained"
    )]
    OtherAgent {
        /// Whose it is.
        found: AgentId,
        /// Who was to start.
        expected: AgentId,
    },
    /// The cells file cannot be made.
    #[error("cells file cannot be made")]
    Replace(#[source] io::Error),
    /// The cells file that was just made cannot be read.
    #[error("cells file that was just made cannot be read")]
    Reopen(#[source] CellsError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The engine failed as soon as it had started.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn check(config: &EngineConfig) -> Result<CellsLayout, StartError> {
    let layout = config.layout()?;
    for (at, name) in config.writers.iter().enumerate() {
        if name.is_empty() || name.len() > WRITER_NAME_BYTES_MAX || name.contains('\0') {
            return Err(StartError::Config("name of a writer is empty or too long"));
        }
        if config.writers[..at].contains(name) {
            return Err(StartError::Config("two writers have the same name"));
        }
    }
    Ok(layout)
}

/// The old incarnation, finished as far as that is possible.
enum Old<R> {
    /// Its file may be replaced by that of a child which begins like this.
    Over {
        beginning: Beginning,
        recovery: Recovery,
        cells: Option<Cells<R>>,
        /// Up to when levels are sealed, where the cells are to be believed.
        sealed_until: Option<Timestamp>,
    },
    /// There is no room to seal it.
    Unsealed(Cells<R>),
}

struct Found<R> {
    old: Old<R>,
    rows: u64,
    tombstones: u64,
}

impl<R: Region, S: Storage> Engine<R, S> {
    /// Recovers what the life before left in `home` and `storage`, and begins a fresh one.
    ///
    /// Only one engine may use a state directory at a time; the caller holds a lock.
    pub fn start<H: CellsHome<Region = R>>(
        config: &EngineConfig,
        home: &mut H,
        storage: S,
        start: Start,
    ) -> Result<(Self, StartReport), StartError> {
        let layout = check(config)?;
        let (mut spool, opened) = Spool::open(storage, config.spool)?;
        let loaded = match home.load().map_err(StartError::Load)? {
            None => Err(NoFacts::Absent),
            Some(region) => match open(region, home, config) {
                Ok(cells) if cells.identity().agent != config.agent => {
                    return Err(StartError::OtherAgent {
                        found: cells.identity().agent.clone(),
                        expected: config.agent.clone(),
                    });
                }
                Ok(cells) => Ok(cells),
                Err(Unopened::Start(error)) => return Err(error),
                Err(Unopened::Cells(error @ CellsError::Version(_))) => {
                    return Err(StartError::Version(error));
                }
                Err(Unopened::Cells(error)) => Err(NoFacts::Damaged(error)),
            },
        };
        let cells_damage = match &loaded {
            Err(NoFacts::Damaged(error)) => Some(error.to_string()),
            _ => None,
        };
        let found = finish(loaded, &mut spool, start)?;
        let alive_before = match &found.old {
            Old::Unsealed(cells) => Some(cells.last_alive()),
            Old::Over { cells, .. } => cells.as_ref().map(Cells::last_alive),
        };
        let (cells, recovery, ended) = match found.old {
            Old::Unsealed(cells) => (cells, Recovery::Continued, None),
            Old::Over {
                beginning,
                recovery,
                cells,
                sealed_until,
            } => {
                let old = cells.as_ref().map(|cells| (cells, sealed_until));
                let (fresh, ended) = begin(config, layout, home, start, beginning, old)?;
                (fresh, recovery, sealed_until.zip(Some(ended)))
            }
        };
        let report = StartReport {
            incarnation: cells.identity().incarnation,
            parent: cells.identity().parent,
            recovery,
            rows_recovered: found.rows,
            tombstones: found.tombstones,
            cells_damage,
            spool: opened,
        };
        let mut engine = Self::assemble(config, cells, spool, start.now)?;
        engine.damaged = report.spool.damage_count;
        engine.alive_before = alive_before.unwrap_or(engine.alive_before).min(start.now);
        if engine.cells.applied() == 0 {
            let opened_at = engine.cells.identity().opened_at;
            let sealed = engine.seal(opened_at.into(), Mode::Window, Room::Reserve)?;
            engine.full_since = (!sealed).then_some(start.now);
        }
        if let Some((until, ended)) = ended {
            engine.declare_ended(until, ended)?;
        }
        Ok((engine, report))
    }

    /// Declares levels that have ended with the life before, because there is no room for them.
    fn declare_ended(&mut self, until: Timestamp, ended: Ended) -> Result<(), StartError> {
        let now = self.cells.identity().opened_at;
        for (tenant, meter) in ended {
            self.declarations.declare(Loss {
                reason: LossReason::SeriesRefused,
                tenant: Some(tenant),
                meter: Some(meter),
                amount: LossAmount::Unknown,
                from: until.min(now),
                to: now,
            });
        }
        // What finds no room waits for the next tick.
        self.seal_declarations(now.into(), Room::Reserve)?;
        Ok(())
    }

    fn assemble(
        config: &EngineConfig,
        cells: Cells<R>,
        spool: Spool<S>,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let standing = Standing::of(&cells)?;
        let width = cells.identity().window;
        Ok(Self {
            agent: config.agent.clone(),
            due: Window::containing(standing.cut.max(now), width).end(),
            clock: Clock::new(now, standing.cut),
            closed: standing.is_final,
            sealer: Sealer::with_part_bytes(Spool::<S>::part_bytes_max(config.spool.bytes_max)),
            // An incarnation is random, and this is no secret.
            shipper: Shipper::new(
                config.ship.clone(),
                now,
                u64::from_le_bytes(
                    *cells
                        .identity()
                        .incarnation
                        .as_bytes()
                        .first_chunk()
                        .expect("16 bytes"),
                ),
            ),
            full_since: None,
            damaged: 0,
            alive_before: cells.identity().opened_at,
            declarations: Declarations::default(),
            watch: Watch::new(&cells, standing.cut.max(now)),
            declare_at: now,
            cells,
            spool,
        })
    }
}

/// Why cells that are there are not open.
enum Unopened {
    Cells(CellsError),
    Start(StartError),
}

/// Opens the cells of the life before. Those of an older version take the form of this one
/// first, in one step and still as that life, so that what they hold is sealed like any other.
fn open<H: CellsHome>(
    region: H::Region,
    home: &mut H,
    config: &EngineConfig,
) -> Result<Cells<H::Region>, Unopened> {
    let region = if v1::is_old(region.words()) {
        let old = v1::Old::read(region.words()).map_err(Unopened::Cells)?;
        if old.identity().agent != config.agent {
            return Err(Unopened::Start(StartError::OtherAgent {
                found: old.identity().agent.clone(),
                expected: config.agent.clone(),
            }));
        }
        let words = old.layout().map_err(Unopened::Cells)?.words();
        let mut filled = Ok(());
        let region = home
            .replace(words, &mut |words| filled = old.fill(words))
            .map_err(|error| Unopened::Start(StartError::Replace(error)))?;
        filled.map_err(Unopened::Cells)?;
        region
    } else {
        region
    };
    Cells::open_with(region, config.limits).map_err(Unopened::Cells)
}

/// Steps 1 to 3 of recovery.
fn finish<R: Region, S: Storage>(
    loaded: Result<Cells<R>, NoFacts>,
    spool: &mut Spool<S>,
    start: Start,
) -> Result<Found<R>, StartError> {
    let facts = match &loaded {
        Ok(cells) => Ok(Facts::of(cells)),
        Err(no_facts) => Err(no_facts.clone()),
    };
    let tail = facts
        .as_ref()
        .ok()
        .and_then(|facts| spool.tail(facts.identity.incarnation));
    let plan = recover::plan(
        facts.as_ref(),
        tail,
        spool.newest(),
        start.boot_id,
        start.now,
    );
    let (cells, flip, missing) = match (plan, loaded) {
        (Plan::Finish { flip, missing }, Ok(cells)) => (cells, flip, missing),
        (Plan::Begin(beginning), loaded) => return Ok(Found::over(beginning, loaded.ok())),
        // A plan to finish follows from cells.
        (Plan::Finish { .. }, Err(_)) => return Err(StartError::Config("no cells to finish")),
    };
    if flip {
        let durable = spool.durable_tail(cells.identity().incarnation);
        if !durable.is_some_and(|durable| seal::apply(&cells, &durable)) {
            return Err(EngineError::Contradiction.into());
        }
    }
    let tombstones = match missing {
        Some(range) => match bury(&cells, spool, range) {
            // The gap shows without them, from the numbers on both sides.
            Err(StartError::Spool(SpoolError::Full { .. })) => 0,
            buried => buried?,
        },
        None => 0,
    };
    let killed = !Standing::of(&cells)?.is_final;
    let mut rows = 0;
    if killed {
        cells.end_records();
        match finish_cells(&cells, spool)? {
            Some(count) => rows = count,
            None => return Ok(Found::unsealed(cells)),
        }
    }
    let standing = Standing::of(&cells)?;
    let beginning = Beginning {
        parent: Some(Parent {
            incarnation: cells.identity().incarnation,
            last_sequence: standing.sequence,
            last_hash: standing.hash,
            end: ParentEnd::Final,
        }),
        inherited: None,
        not_before: standing.cut,
    };
    Ok(Found {
        old: Old::Over {
            beginning,
            recovery: if killed {
                Recovery::Killed
            } else {
                Recovery::Clean
            },
            cells: Some(cells),
            sealed_until: Some(standing.cut),
        },
        rows,
        tombstones,
    })
}

impl<R> Found<R> {
    fn over(beginning: Beginning, cells: Option<Cells<R>>) -> Self {
        let lossless = beginning.inherited.is_none()
            && !beginning
                .parent
                .is_some_and(|parent| parent.end != ParentEnd::Final);
        let recovery = match (lossless, beginning.parent) {
            (false, _) => Recovery::Lost,
            (true, None) => Recovery::First,
            (true, Some(_)) => Recovery::Clean,
        };
        Self {
            old: Old::Over {
                beginning,
                recovery,
                cells,
                sealed_until: None,
            },
            rows: 0,
            tombstones: 0,
        }
    }

    fn unsealed(cells: Cells<R>) -> Self {
        Self {
            old: Old::Unsealed(cells),
            rows: 0,
            tombstones: 0,
        }
    }
}

/// Writes tombstones for batches that are sealed according to the cells, and gone from the
/// end of the spool; the last one with what the cells remember.
fn bury<R: Region, S: Storage>(
    cells: &Cells<R>,
    spool: &mut Spool<S>,
    (first, last): (u64, u64),
) -> Result<u64, StartError> {
    for number in first..=last {
        let known = cells.cut(number).map(|cut| cut.hash);
        // The totals in the cells are those of the last one.
        let remembered = (number == last && last == cells.applied())
            .then(|| recover::remembered(cells))
            .flatten();
        let tombstone = Tombstone {
            agent: cells.identity().agent.clone(),
            incarnation: cells.identity().incarnation,
            sequence: BatchSeq::new(number).unwrap_or(BatchSeq::FIRST),
            reason: LossReason::SpoolDamaged,
            remembered,
        };
        spool.append_tombstone(&tombstone, known.unwrap_or(BatchHash::ZERO))?;
    }
    Ok(last - first + 1)
}

/// Seals what the cells hold as the end of their incarnation; the number of rows, or `None`
/// if the spool has no room.
fn finish_cells<R: Region, S: Storage>(
    cells: &Cells<R>,
    spool: &mut Spool<S>,
) -> Result<Option<u64>, StartError> {
    let mut sealer = Sealer::with_part_bytes(Spool::<S>::part_bytes_max(spool.bytes_max()));
    let until = cells.last_alive();
    let mut rows: u64 = 0;
    loop {
        let part = sealer.seal(cells, until, Mode::Final)?;
        let durable = match spool.append(&part, Room::Reserve) {
            Ok(durable) => durable,
            Err(SpoolError::Full { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !seal::apply(cells, &durable) {
            return Err(EngineError::Contradiction.into());
        }
        rows = rows.saturating_add(part.rows);
        if part.complete {
            return Ok(Some(rows));
        }
        sealer.recycle(part);
    }
}

/// Step 4 of recovery: the cells of a fresh incarnation take the place of the old ones.
fn begin<H: CellsHome>(
    config: &EngineConfig,
    layout: CellsLayout,
    home: &mut H,
    start: Start,
    beginning: Beginning,
    old: Option<(&Cells<H::Region>, Option<Timestamp>)>,
) -> Result<(Cells<H::Region>, Ended), StartError> {
    let identity = Identity {
        agent: config.agent.clone(),
        incarnation: Incarnation::from_bytes(start.random),
        boot_id: start.boot_id,
        opened_at: recover::opening_time(start.now, beginning.not_before),
        window: config.window,
        parent: beginning.parent,
        inherited: beginning.inherited,
        writers: config.writers.clone(),
    };
    let (accounts, retired) = match old {
        Some((cells, _)) => cells.carried_accounts(&config.writers),
        None => (
            vec![AccountWords::default(); config.writers.len()],
            AccountWords::default(),
        ),
    };
    let mut carried = Ok(Ended::new());
    let mut fill = |words: &[std::sync::atomic::AtomicU64]| {
        Cells::<H::Region>::fill(words, layout, &identity, &accounts, &retired);
        if let Some((cells, sealed_until)) = old {
            carried = cells.carry_into(words, sealed_until);
        }
    };
    let region = home
        .replace(layout.words(), &mut fill)
        .map_err(StartError::Replace)?;
    let ended = carried.map_err(StartError::Reopen)?;
    let cells = Cells::open_with(region, config.limits).map_err(StartError::Reopen)?;
    Ok((cells, ended))
}
