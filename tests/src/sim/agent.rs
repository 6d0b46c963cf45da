//! One simulated agent: a host with a disk and a clock, and on it the production engine.

use std::collections::BTreeMap;

use tollgate_agent_core::aggregate::{CellsHome, Slot, Writer};
use tollgate_agent_core::engine::{Engine, Pressure};
use tollgate_agent_core::input::page::PageTally;
use tollgate_agent_core::ship::Disconnect;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Decoder, Encoder, Message, VERSION_MIN};
use tollgate_common::{AgentId, Batch, Incarnation, Timestamp};

use super::context::{Broken, Context};
use super::coverage::Probe;
use super::home::MemoryHome;
use super::network::ConnectionId;
use super::random::Random;
use super::workload::{self, Series};

mod brief;
mod count;
mod life;
mod page;

pub use brief::brief;
pub use life::cover_disk;

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// SIGKILL: memory-mapped and written bytes stay.
    Kill,
    /// The host is reset: what is not synced may be gone.
    Reset,
}

/// Where the end of the run has come for this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastStop {
    /// Not yet.
    Running,
    /// It seals its final batch as soon as it is up.
    Wanted,
    /// The final batch is sealed; what is in the spool must still leave.
    Sealed,
}

type SimRegion = <MemoryHome as CellsHome>::Region;
type SimEngine = Engine<SimRegion, MemoryStorage>;

/// How hard the wire compresses; the cheapest that goes through zstd.
const LEVEL: i32 = 1;
/// A stop that found the spool full tries again after this long, in milliseconds.
const STOP_AGAIN_MILLIS: i64 = 1000;

/// The process.
struct Process {
    engine: SimEngine,
    writers: Vec<Writer<SimRegion>>,
    /// Series that were looked up, by writer, and whether they lost their dimensions.
    slots: BTreeMap<(usize, usize), (Slot, bool)>,
    /// Counts the pages of applications.
    tally: Option<PageTally<SimRegion>>,
    /// What the clock showed beyond true time when the process started; its steady time goes
    /// on from there.
    offset: i64,
    link: Option<Link>,
    /// Batches that the incarnation had sealed when it was looked at last.
    sequence: u64,
    /// Faults that the disk had shown when the process started.
    faults: u64,
}

/// The agent's end of a connection.
struct Link {
    id: ConnectionId,
    encoder: Encoder,
    decoder: Decoder,
    hello: Option<Message>,
}

/// What an image of a virtual machine holds: its disk and its memory. A host that is set
/// back to one goes on as if the time between had not been: the same boot, the same life, the
/// same sequence numbers with other batches.
struct Image {
    files: Vec<(String, Vec<u8>)>,
    cells: Option<Vec<u64>>,
    boot: [u8; 16],
}

/// One agent.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent states of a host"
)]
pub struct AgentNode {
    index: usize,
    id: AgentId,
    series: Vec<Series>,
    /// A release that speaks version 1 of the wire format alone.
    old: bool,
    disk: MemoryStorage,
    home: MemoryHome,
    boot: [u8; 16],
    /// What its clock shows beyond true time, in milliseconds.
    offset: i64,
    /// The clock has jumped, so timeouts are to be looked at again.
    jumped: bool,
    process: Option<Box<Process>>,
    /// When a process that is down starts again.
    start_at: Timestamp,
    /// A crash that strikes in the middle of a storage operation, at this instant at the
    /// latest.
    armed: Option<(Crash, Timestamp)>,
    /// When a full disk has room again.
    room_at: Option<Timestamp>,
    next_count: Timestamp,
    last_stop: LastStop,
    stop_again: Timestamp,
    connected_before: bool,
    /// Resets of the host: only these may cost cells.
    resets: u64,
    /// An image of the host, to which it may be set back.
    image: Option<Image>,
    apps: page::Apps,
    /// How far each life has told its windows to be over, by sequence.
    watermarks: BTreeMap<(Incarnation, u64), Timestamp>,
    /// A seal has found the disk full.
    disk_full: bool,
    random: Random,
}

impl AgentNode {
    fn local(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(self.offset)
    }

    /// The steady time of the process, if there is one.
    fn steady(&self, now: Timestamp) -> Timestamp {
        let process = self.process.as_ref();
        now.plus_millis(process.map_or(self.offset, |process| process.offset))
    }

    /// The connection that the agent holds for its own.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.process.as_ref()?.link.as_ref().map(|link| link.id)
    }

    /// When something is to be done.
    pub fn next_event(&self, now: Timestamp) -> Timestamp {
        let wakes = [self.armed.map(|(_, at)| at), self.room_at]
            .into_iter()
            .flatten();
        let Some(process) = &self.process else {
            return wakes.chain([self.start_at]).min().unwrap_or(self.start_at);
        };
        if self.jumped {
            return now;
        }
        let timeout = process
            .engine
            .poll_timeout()
            .map(|at| at.plus_millis(-process.offset));
        let own = match self.last_stop {
            LastStop::Running => Some(self.next_count),
            LastStop::Wanted => Some(self.stop_again),
            LastStop::Sealed => None,
        };
        let idle = now.plus_millis(60_000);
        wakes.chain(timeout).chain(own).min().unwrap_or(idle)
    }

    /// Does what is due.
    pub fn handle_time(&mut self, context: &mut Context) -> Result<(), Broken> {
        let now = context.now;
        if self.room_at.is_some_and(|at| at <= now) {
            self.room_at = None;
            self.disk.set_capacity(None);
        }
        if let Some((crash, at)) = self.armed
            && at <= now
        {
            self.go_down(crash, context);
        }
        if self.process.is_none() && self.start_at <= now {
            self.start(context)?;
        }
        self.tick(context)?;
        self.count(context)?;
        if self.last_stop == LastStop::Wanted && self.stop_again <= now {
            self.stop_for_good(context)?;
        }
        Ok(())
    }

    fn tick(&mut self, context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let wall = self.local(context.now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let due = process.engine.poll_timeout().is_some_and(|at| at <= steady);
        if !due && !std::mem::take(&mut self.jumped) {
            return Ok(());
        }
        process.engine.handle_wall(steady, wall);
        if let Err(error) = process.engine.handle_tick(steady) {
            return self.failed(&error, context);
        }
        self.look(context);
        self.close_if_asked(context);
        Ok(())
    }

    /// Notices what a seal has made safe.
    fn look(&mut self, context: &mut Context) {
        let Some(process) = &mut self.process else {
            return;
        };
        let status = process.engine.status();
        if status.sequence != process.sequence {
            let sealed = status.sequence.saturating_sub(process.sequence);
            context.coverage.add(Probe::Sealed, sealed);
            context.trace(format_args!(
                "agent {} sealed up to {}",
                self.index, status.sequence
            ));
            process.sequence = status.sequence;
        }
        let synced = status.spool.unsynced == 0 || status.spool.batches == 0;
        if synced && status.inputs.iter().all(|input| input.account.open == 0) {
            context.oracle.made_safe(self.index);
        }
        if status.spool.batches == 0 {
            context.oracle.left(self.index);
        }
        let full = status.spool.full_since.is_some();
        if full {
            context.hit(Probe::SpoolFull);
        }
        if full && self.room_at.is_some() {
            context.hit(Probe::DiskFull);
        } else if self.disk_full && !full {
            context.hit(Probe::DiskRoomAgain);
        }
        self.disk_full = full && (self.disk_full || self.room_at.is_some());
        match status.pressure {
            Pressure::None => {}
            Pressure::Rare => context.hit(Probe::RareSeal),
            Pressure::Hold => context.hit(Probe::Hold),
        }
        if full || status.pressure != Pressure::None {
            context.oracle.figures.seals_are_rare();
        }
    }

    /// Hangs up if the engine says so.
    fn close_if_asked(&mut self, context: &mut Context) {
        let steady = self.steady(context.now);
        let Some(process) = &mut self.process else {
            return;
        };
        let Some(why) = process.engine.poll_disconnect() else {
            return;
        };
        context.trace(format_args!("agent {} hangs up: {why}", self.index));
        if matches!(why, Disconnect::Version { .. }) {
            context.hit(Probe::AwaitsUpgrade);
        }
        process.link = None;
        process
            .engine
            .handle_disconnected(steady, self.random.bits(), "hung up");
    }

    /// What goes out must keep closed what was told to be over.
    fn check_batch(&mut self, batch: &Batch, context: &mut Context) -> Result<(), Broken> {
        if !batch.steps.is_empty() {
            context.hit(Probe::ClockStep);
        }
        if batch.rows.iter().any(|row| !row.detail.is_none()) {
            context.hit(Probe::Detail);
        }
        let (life, sequence) = (batch.incarnation, batch.sequence.get());
        self.watermarks.insert((life, sequence), batch.watermark);
        let before = self.watermarks.get(&(life, sequence - 1)).copied();
        let faults = &context.options.faults;
        // A host set back tells another story under the same numbers; a clock that was wrong by
        // hours is not waited for; rare seals give each value the time of its batch.
        let Some(before) = before.filter(|_| faults.image.is_none()) else {
            return Ok(());
        };
        let far = batch.span.from < before;
        let late = batch.rows.iter().find(|row| {
            let forged = row.series.tenant().as_str() == workload::FORGER;
            !forged && row.window.end() <= before
        });
        match late {
            Some(row) if !far => Err(format!(
                "agent {} counts {} in {}, which was over at {before}",
                self.index, row.series, row.window
            )),
            _ => Ok(()),
        }
    }

    /// True if it is time to connect.
    pub fn wants_connection(&self, now: Timestamp) -> bool {
        let Some(process) = &self.process else {
            return false;
        };
        let at = process.engine.connect_at();
        process.link.is_none() && at.is_some_and(|at| at <= self.steady(now))
    }

    /// There was no way to the collector.
    pub fn handle_connect_failed(&mut self, context: &mut Context) {
        let steady = self.steady(context.now);
        let Some(process) = &mut self.process else {
            return;
        };
        process.engine.handle_connecting(steady);
        process
            .engine
            .handle_disconnected(steady, self.random.bits(), "unreachable");
    }

    /// A connection stands.
    pub fn handle_connected(&mut self, id: ConnectionId, context: &mut Context) {
        let steady = self.steady(context.now);
        let Some(process) = &mut self.process else {
            return;
        };
        process.engine.handle_connecting(steady);
        let mut hello = process.engine.handle_connected(steady);
        if self.old {
            hello.version_max = VERSION_MIN;
        }
        let mut encoder = Encoder::new(LEVEL);
        // As the shell does: the oldest until the welcome names one.
        encoder.set_version(VERSION_MIN);
        process.link = Some(Link {
            id,
            encoder,
            decoder: Decoder::new(),
            hello: Some(Message::Hello(hello)),
        });
        context.hit(Probe::Connection);
        if std::mem::replace(&mut self.connected_before, true) {
            context.hit(Probe::Reconnection);
        }
    }

    /// The connection broke.
    pub fn handle_disconnected(&mut self, context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.link = None;
        process
            .engine
            .handle_disconnected(steady, self.random.bits(), "connection lost");
        Ok(())
    }

    /// Bytes from the collector.
    pub fn handle_bytes(&mut self, bytes: &[u8], context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(link) = &mut process.link else {
            return Ok(());
        };
        link.decoder.push(bytes);
        loop {
            let message = match link.decoder.next() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(format!("the collector sends garbage: {error}")),
            };
            context.trace.event(
                context.now,
                format_args!("agent {} hears {}", self.index, brief(&message)),
            );
            match &message {
                Message::Welcome(welcome) => link.encoder.set_version(welcome.version),
                Message::Grant(_) if self.old => {
                    return Err("an agent of version 1 is sent a grant".to_owned());
                }
                Message::Grant(_) => context.hit(Probe::Granted),
                _ => {}
            }
            if let Err(error) = process.engine.handle_message(steady, message) {
                return self.failed(&error, context);
            }
        }
        self.close_if_asked(context);
        Ok(())
    }

    /// What goes out now.
    pub fn transmit(&mut self, context: &mut Context) -> Result<Vec<u8>, Broken> {
        let steady = self.steady(context.now);
        let mut out = Vec::new();
        let mut told = Vec::new();
        let Some(process) = &mut self.process else {
            return Ok(out);
        };
        while let Some(link) = &mut process.link {
            let message = match link.hello.take() {
                Some(hello) => Some(hello),
                None => match process.engine.poll_transmit(steady) {
                    Ok(message) => message,
                    Err(error) => {
                        self.failed(&error, context)?;
                        break;
                    }
                },
            };
            let Some(message) = message else { break };
            if matches!(message, Message::Tombstone(_)) {
                context.hit(Probe::Tombstone);
            }
            if let Message::Batch(batch) = &message
                && batch.span.to.millis_since(batch.span.from) > 2 * context.options.width.millis()
            {
                context.hit(Probe::WideRow);
            }
            if let Message::Batch(batch) = &message {
                told.push(batch.clone());
                if self.old {
                    context.hit(Probe::OldAgent);
                }
            }
            context.trace.event(
                context.now,
                format_args!("agent {} says {}", self.index, brief(&message)),
            );
            link.encoder
                .encode(&message, &mut out)
                .map_err(|error| format!("agent {} cannot encode: {error}", self.index))?;
        }
        for batch in told {
            self.check_batch(&batch, context)?;
        }
        self.close_if_asked(context);
        Ok(out)
    }

    /// True after everything is sealed, shipped and released.
    pub fn is_drained(&self) -> bool {
        let drained = self
            .process
            .as_ref()
            .is_some_and(|process| process.engine.is_drained());
        self.last_stop == LastStop::Sealed && drained
    }

    /// Where it stands, for reports.
    pub fn describe(&self) -> String {
        match &self.process {
            None => format!("agent {} is down", self.index),
            Some(process) => {
                let status = process.engine.status();
                format!(
                    "agent {}: stop {:?}, {} batches of {} incarnations held, {:?}, last error {:?}",
                    self.index,
                    self.last_stop,
                    status.spool.batches,
                    status.spool.incarnations,
                    status.ship.connection,
                    status.ship.last_error,
                )
            }
        }
    }
}
