//! The engine: cells, seal, spool and ship as one state machine.
//!
//! The agent's process and the simulation drive it alike: events go in with the time
//! (`handle_*`), what is to be done comes out (`poll_*`). The engine lives in one thread;
//! the [`Writer`]s that it hands out live in others and never wait for it.
//!
//! An [`EngineError`] is final: a log that failed to write or sync is not trusted again. The
//! process ends, starts, and recovers from its files; [`recover`](crate::recover) says how.

mod clock;
mod declare;
mod memory;
mod pace;
mod start;
mod status;
#[cfg(test)]
mod tests;
mod top;

use tollgate_common::storage::Storage;
use tollgate_common::wire::{Hello, Message};
use tollgate_common::{AgentId, ClockStep, Timestamp, Window, WindowWidth};

use self::clock::Clock;
use self::declare::Watch;
use crate::aggregate::{Cells, Region, SeriesLimits, Writer, WriterError};
use crate::seal::{self, CutAt, Mode, SealError, Sealed, Sealer, Standing};
use crate::ship::{Disconnect, ShipConfig, Shipper};
use crate::spool::{Room, Spool, SpoolConfig, SpoolError};
pub use clock::{Anchor, SLEW_DIVISOR, STEP_MILLIS};
pub use declare::{Declarations, Declared};
pub use memory::MemoryPart;
pub use pace::Pressure;
pub use start::{Recovery, Start, StartError, StartReport};
pub use status::{Glance, InputStatus, SpoolStatus, Status};
pub use top::{
    TOP_ROWS_MAX, TOP_SCALE, TopGroup, TopMemory, TopOrder, TopQuery, TopRates, TopSeries,
};

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The agent's name, as in its certificate.
    pub agent: AgentId,
    /// The width of windows.
    pub window: WindowWidth,
    /// Names of the writers, one per input thread; at most
    /// [`WRITER_NAME_BYTES_MAX`](crate::aggregate::WRITER_NAME_BYTES_MAX) bytes each. An
    /// account follows its name from one life to the next.
    pub writers: Vec<String>,
    /// Most series of one writer, before they lose their dimensions.
    pub series_max: u32,
    /// Bytes for the keys of one writer.
    pub key_bytes: u64,
    /// What series may be beside that.
    pub limits: SeriesLimits,
    /// The spool's bounds and promise.
    pub spool: SpoolConfig,
    /// How to ship.
    pub ship: ShipConfig,
}

/// Why the engine cannot go on. The process ends and recovers by starting again.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A batch could not be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The cells changed under the engine's hands.
    #[error(
        "cells do not belong to the batch that was just made durable; is another agent using the same state directory?"
    )]
    Contradiction,
    /// The file of the cells cannot be made durable.
    #[error(
        "cells file cannot be synced: a failure of the host before the next start may lose, unseen, what applications count until then"
    )]
    Cells(#[source] std::io::Error),
    /// A final batch is asked for while somebody can still count.
    #[error("writer `{0}` must be dropped before the engine stops")]
    WriterHeld(String),
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything counted is sealed and durable.
    Sealed,
    /// The spool is full: what is counted stays in the cells, for the next start under the
    /// same boot of the host.
    SpoolFull,
}

/// One agent.
pub struct Engine<R: Region, S: Storage> {
    agent: AgentId,
    cells: Cells<R>,
    spool: Spool<S>,
    sealer: Sealer,
    shipper: Shipper,
    clock: Clock,
    /// When the next seal is due, in steady time.
    due: Timestamp,
    closed: bool,
    /// Since when there has been no room for a seal.
    full_since: Option<Timestamp>,
    declarations: Declarations,
    watch: Watch,
    /// When the next batch of declarations may be made.
    declare_at: Timestamp,
    /// Damaged places that opening the spool found.
    damaged: u64,
    /// The end of the life before.
    alive_before: Timestamp,
}

impl<R: Region, S: Storage> Engine<R, S> {
    /// The handle to count with for the writer `name`; there is one at a time.
    pub fn writer(&self, name: &str) -> Result<Writer<R>, WriterError> {
        self.cells.writer(name)
    }

    /// True after the final batch.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The width of windows in this life. It is that of the life before, whatever the
    /// configuration says, where a start goes on with the cells of that
    /// ([`Recovery::Continued`]).
    pub fn window(&self) -> WindowWidth {
        self.cells.identity().window
    }

    /// At the steady time `now` the wall clock shows `wall`; to be told often, at the least
    /// before every [`Engine::handle_tick`]. Who never tells says that the two are the same.
    pub fn handle_wall(&mut self, now: Timestamp, wall: Timestamp) {
        self.clock.handle_wall(now, wall);
    }

    /// How steady time becomes the time that windows follow, for inputs that give times.
    pub fn anchor(&self) -> Anchor {
        self.clock.anchor()
    }

    /// What the state of the spool asks of the inputs.
    pub fn pressure(&self) -> Pressure {
        let (left, room) = self.spool.room();
        pace::pressure(left, room, self.full_since.is_some())
    }

    /// Until when the life before is known to have been alive; when this life began, if nothing
    /// is known of one before.
    pub fn alive_before(&self) -> Timestamp {
        self.alive_before
    }

    /// Where losses are declared that are learned of while the agent runs: they travel in a
    /// batch of their own, which the next tick makes durable.
    pub fn declarations(&self) -> Declarations {
        self.declarations.clone()
    }

    /// Seals windows that have ended and runs timeouts. To be called when
    /// [`Engine::poll_timeout`] is due; more often does no harm.
    pub fn handle_tick(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let time = self.clock.time(now);
        self.cells.set_last_alive(time);
        self.shipper.handle_tick(now);
        self.spool.set_connected(self.shipper.is_shipping());
        self.spool.handle_tick(now)?;
        if self.closed {
            return Ok(());
        }
        self.handle_declarations(now, time)?;
        // Who gives a time that goes back would move the next seal far away.
        let width = self.cells.identity().window;
        let windows = self.windows_per_seal();
        let longest = width.millis().saturating_mul(windows.into());
        self.due = self.due.min(now.plus_millis(longest));
        if now < self.due {
            return Ok(());
        }
        let at = self.cut_at(now);
        if self.seal(at, Mode::Window, Room::Ordinary)? {
            self.full_since = None;
            if let Some(turn) = self.clock.turn(at.to) {
                self.clock.handle_turn(now, turn);
            }
        } else {
            self.full_since.get_or_insert(now);
        }
        let more = width.millis() * i64::from(self.windows_per_seal() - 1);
        self.due = self.window_end(now)?.plus_millis(more);
        Ok(())
    }

    /// Seals what is declared, without cutting the cells; what finds no room waits.
    fn handle_declarations(&mut self, now: Timestamp, time: Timestamp) -> Result<(), EngineError> {
        self.declare_at = self.declare_at.min(now.plus_millis(declare::EVERY_MILLIS));
        if now < self.declare_at {
            return Ok(());
        }
        self.watch
            .look(&self.cells, time, false, &self.declarations);
        if self.declarations.waiting() > 0 {
            self.declare_at = now.plus_millis(declare::EVERY_MILLIS);
            self.seal_declarations(time.into(), Room::Ordinary)?;
        }
        Ok(())
    }

    /// False if there is no room for them.
    fn seal_declarations(&mut self, at: CutAt, room: Room) -> Result<bool, EngineError> {
        let losses = self.declarations.take();
        if losses.is_empty() {
            return Ok(true);
        }
        let sealed = self.sealer.declare(&self.cells, at.to, losses)?;
        if self.append(sealed, room)?.is_none() {
            return Ok(false);
        }
        self.declarations.settle();
        // What a start declares is in the first batch that declares anything.
        self.cells.forget_given_up();
        Ok(true)
    }

    /// Where a cut now is, and what it says about a step of the wall clock.
    fn cut_at(&self, now: Timestamp) -> CutAt {
        let to = self.clock.time(now);
        let step = self.clock.turn(to).map(|turn| {
            let step = ClockStep {
                at: self.clock.wall(now),
                by_millis: turn.by_millis,
            };
            (step, turn.next)
        });
        CutAt { to, step }
    }

    /// The steady time at which the window ends that the next span begins in.
    fn window_end(&self, now: Timestamp) -> Result<Timestamp, EngineError> {
        let time = Standing::of(&self.cells)?.cut.max(self.clock.time(now));
        let end = Window::containing(time, self.cells.identity().window).end();
        Ok(now.plus_millis(end.millis_since(time)))
    }

    fn windows_per_seal(&self) -> u32 {
        let (left, room) = self.spool.room();
        pace::windows_per_seal(left, room, self.cells.identity().window)
    }

    /// Seals everything and ends the incarnation. All writers must have been dropped, so that
    /// nothing is counted after the last cut. Shipping goes on.
    pub fn handle_stop(&mut self, now: Timestamp) -> Result<Stopped, EngineError> {
        if let Some(name) = self.cells.held_writer() {
            return Err(EngineError::WriterHeld(name.to_owned()));
        }
        if self.closed {
            return Ok(Stopped::Sealed);
        }
        let at = self.cut_at(now);
        self.cells.set_last_alive(at.to);
        self.watch
            .look(&self.cells, at.to, true, &self.declarations);
        if self.seal_declarations(at, Room::Reserve)?
            && self.seal(at, Mode::Final, Room::Reserve)?
        {
            self.closed = true;
            // Which pages there are has to be known after a failure of the host, too.
            self.cells.sync().map_err(EngineError::Cells)?;
            Ok(Stopped::Sealed)
        } else {
            self.full_since.get_or_insert(now);
            Ok(Stopped::SpoolFull)
        }
    }

    /// Seals, part by part: appended and synced first, then applied with one store. False if
    /// the spool is full; the counts then stay in the cells.
    fn seal(&mut self, at: CutAt, mode: Mode, room: Room) -> Result<bool, EngineError> {
        loop {
            let sealed = self.sealer.seal(&self.cells, at, mode)?;
            match self.append(sealed, room)? {
                None => return Ok(false),
                Some(true) => return Ok(true),
                Some(false) => {}
            }
        }
    }

    /// Makes a batch durable and applies it. `None` if the spool is full, else whether the
    /// seal is complete with it.
    fn append(&mut self, sealed: Sealed, room: Room) -> Result<Option<bool>, EngineError> {
        match self.spool.append(&sealed, room) {
            Ok(durable) => {
                if !seal::apply(&self.cells, &durable) {
                    return Err(EngineError::Contradiction);
                }
            }
            Err(SpoolError::Full { .. }) => {
                self.sealer.rewind();
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let complete = sealed.complete;
        self.sealer.recycle(sealed);
        Ok(Some(complete))
    }

    /// When to connect next; `None` while there is a connection or an attempt.
    pub fn connect_at(&self) -> Option<Timestamp> {
        self.shipper.connect_at()
    }

    /// An attempt to connect begins; gives the index of the endpoint to dial.
    pub fn handle_connecting(&mut self, now: Timestamp) -> usize {
        self.shipper.handle_connecting(now)
    }

    /// What is on its way to the collector moves: bytes were written, or taken. Puts off the
    /// moment at which an answer counts as overdue.
    pub fn handle_progress(&mut self, now: Timestamp) {
        self.shipper.handle_progress(now);
    }

    /// The connection is to be made anew, for instance with another certificate: it is given
    /// up once nothing is on its way, and the next attempt follows at once.
    pub fn handle_renew(&mut self, why: &'static str) {
        self.shipper.handle_renew(why);
    }

    /// Other collectors, or other ways to reach them. The connection is made anew.
    pub fn handle_ship_config(&mut self, now: Timestamp, config: ShipConfig) {
        self.shipper.handle_config(now, config);
    }

    /// The index of a better endpoint that is to be looked at beside the connection; said
    /// once, and answered with [`Engine::handle_probed`].
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<usize> {
        self.shipper.poll_probe(now)
    }

    /// Whether the better endpoint answered.
    pub fn handle_probed(&mut self, now: Timestamp, result: Result<(), &str>) {
        self.shipper.handle_probed(now, result);
    }
    /// The connection is made: the hello is to be sent first.
    pub fn handle_connected(&mut self, now: Timestamp) -> Hello {
        let hello = self.shipper.handle_connected(now, &self.agent, &self.spool);
        // The collector shows how far an agent's clock is from its own.
        Hello {
            now: self.clock.wall(now),
            ..hello
        }
    }

    /// The collector has sent a message.
    pub fn handle_message(&mut self, now: Timestamp, message: Message) -> Result<(), EngineError> {
        for acknowledged in self.shipper.handle_message(now, message, &self.spool)? {
            // Noted first: a start that misses the end of the spool then knows that no collector
            // asks for it.
            if acknowledged.incarnation() == self.cells.identity().incarnation {
                let released = acknowledged.releasable().max(self.cells.released());
                self.cells.set_released(released.min(self.cells.applied()));
            }
            self.spool.release(acknowledged)?;
        }
        // What waited for room need not wait any longer.
        if !self.closed && self.windows_per_seal() == 1 {
            self.due = self.due.min(self.window_end(now)?);
        }
        self.spool.set_connected(self.shipper.is_shipping());
        Ok(())
    }

    /// The connection has ended, or the attempt has failed. `random` spreads the next attempt.
    pub fn handle_disconnected(&mut self, now: Timestamp, random: u64, reason: &str) {
        self.shipper.handle_disconnected(now, random, reason);
        self.spool.set_connected(false);
    }

    /// The next message to send; to be called until it gives none.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Result<Option<Message>, EngineError> {
        Ok(self.shipper.poll_transmit(now, &self.spool)?)
    }

    /// Why the connection is to be closed, if it is; said once per connection.
    pub fn poll_disconnect(&mut self) -> Option<Disconnect> {
        self.shipper.poll_disconnect()
    }

    /// When [`Engine::handle_tick`] or an attempt to connect is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let seal = (!self.closed).then_some(self.due);
        let sync = self.spool.poll_timeout();
        let declare = (!self.closed && self.declarations.waiting() > 0).then_some(self.declare_at);
        seal.into_iter()
            .chain(sync)
            .chain(declare)
            .chain(self.shipper.poll_timeout())
            .min()
    }

    /// True if collectors have let go of everything that is sealed.
    pub fn is_drained(&self) -> bool {
        self.spool.backlog().batches == 0
    }
}
