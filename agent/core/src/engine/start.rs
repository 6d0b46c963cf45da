//! How an engine starts: recovery, then a fresh incarnation.

mod report;

use tollgate_common::storage::Storage;
use tollgate_common::{
    BatchHash, BatchSeq, Incarnation, Loss, LossAmount, LossReason, Parent, ParentEnd, Timestamp,
    Tombstone, Window,
};

use super::clock::Clock;
use super::declare::{Declarations, Watch};
use super::{Engine, EngineConfig, EngineError};
use crate::aggregate::{
    AccountWords, Believed, Cells, CellsError, CellsHome, CellsLayout, GivenUp, Identity, Region,
    WRITER_NAME_BYTES_MAX, v1,
};
use crate::input::page::LOOK_AGE_MILLIS;
use crate::recover::{self, Beginning, Facts, NoFacts, Plan};
use crate::seal::{self, Mode, Sealer, Standing};
use crate::ship::Shipper;
use crate::spool::{Room, Spool, SpoolError};
pub use report::{Recovery, Start, StartError, StartReport};

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
        let (cells, recovery, given_up, until) = match found.old {
            Old::Unsealed(cells) => {
                let given_up = GivenUp::before(cells.given_up());
                (cells, Recovery::Continued, given_up, None)
            }
            Old::Over {
                beginning,
                recovery,
                cells,
                sealed_until,
            } => {
                let believed = match sealed_until {
                    Some(until) => Believed::Sealed(until),
                    None if recovery == Recovery::Clean => Believed::Pages,
                    None => Believed::Nothing,
                };
                let old = cells.as_ref().map(|cells| (cells, believed));
                let (fresh, given_up) = begin(config, layout, home, start, beginning, old)?;
                (fresh, recovery, given_up, sealed_until)
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
        engine.declare_given_up(given_up, until)?;
        Ok((engine, report))
    }

    /// Declares what has ended with the life before, because there is no room for it: levels, which
    /// were sealed `until` then, and what pages count that are not known any more. The cells note
    /// that there is something to declare until it is durable.
    fn declare_given_up(
        &mut self,
        given_up: GivenUp,
        until: Option<Timestamp>,
    ) -> Result<(), StartError> {
        let now = self.cells.identity().opened_at;
        let declare = |reason, tenant, meter, from: Timestamp| {
            self.declarations.declare(Loss {
                reason,
                tenant,
                meter,
                amount: LossAmount::Unknown,
                from: from.min(now),
                to: now,
            });
        };
        for (tenant, meter) in given_up.levels {
            let from = until.unwrap_or(now);
            declare(LossReason::SeriesRefused, Some(tenant), Some(meter), from);
        }
        let looked = |alive: Timestamp| alive.plus_millis(-LOOK_AGE_MILLIS).max(Timestamp::EPOCH);
        for tenant in given_up.pages {
            let from = looked(given_up.pages_since);
            declare(LossReason::PageVanished, tenant, None, from);
        }
        // Of these nobody knows any more whose they were.
        let [levels, pages] = given_up.before;
        if let Some(since) = levels {
            declare(LossReason::SeriesRefused, None, None, since);
        }
        if let Some(alive) = pages {
            declare(LossReason::PageVanished, None, None, looked(alive));
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
        // It may be long until a file takes its place, and a failure of the host earlier.
        cells.sync().map_err(EngineError::Cells)?;
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
    old: Option<(&Cells<H::Region>, Believed)>,
) -> Result<(Cells<H::Region>, GivenUp), StartError> {
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
    let mut carried = Ok(GivenUp::before([None; 2]));
    let mut fill = |words: &[std::sync::atomic::AtomicU64]| {
        Cells::<H::Region>::fill(words, layout, &identity, &accounts, &retired);
        if let Some((cells, believed)) = old {
            carried = cells.carry_into(words, believed);
        }
    };
    let region = home
        .replace(layout.words(), &mut fill)
        .map_err(StartError::Replace)?;
    let given_up = carried.map_err(StartError::Reopen)?;
    let cells = Cells::open_with(region, config.limits).map_err(StartError::Reopen)?;
    Ok((cells, given_up))
}
