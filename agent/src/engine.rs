//! The thread that owns the engine: seals, writes the spool, and drives the session.
//!
//! Syncing a spool blocks, so the engine has an operating system thread of its own and the
//! asynchronous runtime is never held up by a disk. Both sides talk through two bounded
//! channels: [`Order`]s go to the shipper, [`Event`]s come back. Every connection has a
//! number, so that what is said about an old one is not taken for the new one. The wish to
//! close a connection passes by the orders, because a stuck connection takes none.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::{mpsc, oneshot, watch};
use tollgate_agent_core::engine::{Engine, EngineError, Stopped};
use tollgate_agent_core::ship::{Disconnect, ShipConfig};
use tollgate_common::storage::file::DirStorage;
use tollgate_common::wire::Message;
use tollgate_common::{Detail, Rollup};
use tracing::{error, info, warn};

use crate::health::Beat;
use crate::output::chain;
use crate::state_dir::MappedCells;
use crate::{clock, pressure};

/// Orders that may wait for the shipper. Each may hold a batch, so this bounds memory.
const ORDERS_MAX: usize = 16;
/// Decoded rows that may lie in orders; a batch that goes beyond is the last until there is
/// room again.
pub(crate) const ROWS_QUEUED_MAX: usize = 1 << 16;
/// Events that may wait for the engine.
const EVENTS_MAX: usize = 256;
/// Longest sleep: the wall clock may be set, and is looked at.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// Shortest sleep, so that something due that cannot be done yet does not take a whole core.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Syncing and sealing need little stack, encoding a batch some.
pub(crate) const STACK_BYTES: usize = 1 << 20;

/// The number of a connection attempt.
pub(crate) type ConnectionId = u64;

/// What the engine tells the shipper.
#[derive(Debug)]
pub(crate) enum Order {
    /// Connect to the endpoint with this index.
    Connect { id: ConnectionId, endpoint: usize },
    /// Look whether the endpoint with this index answers, beside the connection.
    Probe { id: ConnectionId, endpoint: usize },
    /// Send a message.
    Send {
        id: ConnectionId,
        message: Box<Message>,
        load: Load,
    },
}

/// The engine of a process.
pub(crate) type AgentEngine = Engine<MappedCells, DirStorage>;

/// Something to be done in the engine's thread, between two steps: a look, or a writer handed
/// out. It must not block.
pub(crate) struct Question(Box<dyn FnOnce(&mut AgentEngine) + Send>);

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Question")
    }
}

/// Asks the engine from an ordinary thread. `None` if it does not answer until `timeout`.
pub(crate) fn ask<T: Send + 'static>(
    events: &Sender<Event>,
    timeout: Duration,
    question: impl FnOnce(&mut AgentEngine) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = bounded(1);
    let deadline = Instant::now() + timeout;
    let question = Question(Box::new(move |engine| {
        // Who asked may have given up.
        let _ = sender.try_send(question(engine));
    }));
    events.send_deadline(Event::Ask(question), deadline).ok()?;
    receiver.recv_deadline(deadline).ok()
}

/// Asks the engine from the runtime. `None` if it is too busy or does not answer in time.
pub(crate) async fn ask_async<T: Send + 'static>(
    events: &Sender<Event>,
    timeout: Duration,
    question: impl FnOnce(&mut AgentEngine) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let question = Question(Box::new(move |engine| {
        let _ = sender.send(question(engine));
    }));
    events.try_send(Event::Ask(question)).ok()?;
    tokio::time::timeout(timeout, receiver).await.ok()?.ok()
}

/// Rows that lie in orders; those of an order are given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Load {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Load {
    fn rows(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// The load of an order with this message.
    fn of(&self, message: &Message) -> Self {
        let own = match message {
            Message::Batch(batch) => batch.rows.iter().map(weight).sum(),
            _ => 0,
        };
        self.all.fetch_add(own, Relaxed);
        Self {
            all: Arc::clone(&self.all),
            own,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Relaxed);
    }
}

/// How many plain rows take as much memory as this one.
fn weight(row: &Rollup) -> usize {
    let detail = match &row.detail {
        Detail::None => 0,
        Detail::Unique(sketch) => sketch.canonical_len(),
        Detail::Distribution(histogram) => histogram.canonical_len(),
    };
    1 + detail / 100
}

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// The connection stands.
    Connected { id: ConnectionId },
    /// A message came.
    Message {
        id: ConnectionId,
        message: Box<Message>,
    },
    /// The connection, or the attempt, is over.
    Disconnected { id: ConnectionId, reason: String },
    /// Bytes were written, or taken by the collector.
    Progress { id: ConnectionId },
    /// The connection is to be made anew.
    Renew { id: ConnectionId, why: &'static str },
    /// Whether the endpoint that was to be looked at answered.
    Probed {
        id: ConnectionId,
        result: Result<(), String>,
    },
    /// Another configuration of the collectors.
    Reconfigured(Box<ShipConfig>),
    /// There is room for orders again.
    Writable,
    /// Somebody asks.
    Ask(Question),
    /// All writers are dropped: seal, and ship until the deadline.
    Stop { deadline: Instant },
}

/// Why the engine ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Every batch is released by the collector.
    pub(crate) drained: bool,
    /// What went wrong, if something did.
    pub(crate) error: Option<EngineError>,
}

/// The ends of the channels that the runtime holds.
pub(crate) struct Handle {
    pub(crate) events: Sender<Event>,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// Connections up to this number are to be closed.
    pub(crate) close: watch::Receiver<ConnectionId>,
    pub(crate) ended: oneshot::Receiver<Ended>,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts the thread.
pub(crate) fn spawn(engine: AgentEngine, beat: Beat) -> std::io::Result<Handle> {
    let (event_sender, event_receiver) = bounded(EVENTS_MAX);
    let (order_sender, order_receiver) = mpsc::channel(ORDERS_MAX);
    let (close_sender, close) = watch::channel(0);
    let (ended_sender, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let mut driver = Driver {
                engine,
                beat,
                load: Load::default(),
                orders: order_sender,
                close: close_sender,
                events: event_receiver,
                connection: None,
                connections: 0,
                stop: None,
                sealed: false,
                full: false,
            };
            let error = driver.run().err();
            if let Some(error) = &error {
                error!(
                    error = chain(error),
                    "the engine stops; a restart recovers from its files"
                );
            }
            let drained = driver.engine.is_drained();
            // Nobody waits any more only if the process is ending.
            let _ = ended_sender.send(Ended { drained, error });
        })?;
    Ok(Handle {
        events: event_sender,
        orders: order_receiver,
        close,
        ended,
        thread,
    })
}

struct Driver {
    engine: AgentEngine,
    beat: Beat,
    load: Load,
    orders: mpsc::Sender<Order>,
    close: watch::Sender<ConnectionId>,
    events: Receiver<Event>,
    /// The connection or attempt that counts.
    connection: Option<ConnectionId>,
    connections: ConnectionId,
    /// The agent is stopping, and has until then.
    stop: Option<Instant>,
    /// The final batch is durable.
    sealed: bool,
    /// It was said that the spool has no room for it.
    full: bool,
}

impl Driver {
    fn run(&mut self) -> Result<(), EngineError> {
        loop {
            self.beat.give();
            let now = clock::steady();
            self.engine.handle_wall(now, clock::wall());
            self.engine.handle_tick(now)?;
            clock::set_anchor(self.engine.anchor());
            pressure::set(self.engine.pressure());
            if self.stop.is_some() {
                self.seal_final()?;
            }
            self.connect();
            self.transmit()?;
            if let Some(deadline) = self.stop {
                let drained = self.sealed && self.engine.is_drained();
                if drained || Instant::now() >= deadline {
                    self.close();
                    return Ok(());
                }
            }
            match self.events.recv_timeout(self.sleep()) {
                Ok(event) => {
                    self.handle_event(event)?;
                    // A burst of acknowledgements is taken in one go.
                    for event in self.events.try_iter().take(EVENTS_MAX).collect::<Vec<_>>() {
                        self.handle_event(event)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The runtime is gone: what is counted is in the cells, what is sealed in
                // the spool.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Seals the final batch; tried again while the spool is full, because acknowledgements
    /// make room.
    fn seal_final(&mut self) -> Result<(), EngineError> {
        if self.sealed {
            return Ok(());
        }
        match self.engine.handle_stop(clock::steady())? {
            Stopped::Sealed => {
                self.sealed = true;
                info!("sealed the final batch");
            }
            Stopped::SpoolFull if self.full => {}
            Stopped::SpoolFull => {
                self.full = true;
                warn!("the spool is full: counts stay in the cells for the next start");
            }
        }
        Ok(())
    }

    fn sleep(&self) -> Duration {
        let due = self.engine.poll_timeout().map_or(SLEEP_MAX, |due| {
            let millis = due.millis_since(clock::steady());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let left = self
            .stop
            .map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
        due.min(left).clamp(SLEEP_MIN, SLEEP_MAX)
    }

    fn connect(&mut self) {
        let now = clock::steady();
        let due = self.engine.connect_at().is_some_and(|at| at <= now);
        if self.connection.is_some() || !due {
            return;
        }
        // Without room the shipper is busy, and says so when it is not.
        let Ok(permit) = self.orders.try_reserve() else {
            return;
        };
        self.connections += 1;
        let id = self.connections;
        let endpoint = self.engine.handle_connecting(now);
        permit.send(Order::Connect { id, endpoint });
        self.connection = Some(id);
    }

    fn transmit(&mut self) -> Result<(), EngineError> {
        let Some(id) = self.connection else {
            return Ok(());
        };
        // The shipper says when it has nothing left, so waiting for less load ends.
        while self.load.rows() < ROWS_QUEUED_MAX
            && let Ok(permit) = self.orders.try_reserve()
        {
            let Some(message) = self.engine.poll_transmit(clock::steady())? else {
                break;
            };
            let load = self.load.of(&message);
            let message = Box::new(message);
            permit.send(Order::Send { id, message, load });
        }
        // Without room the shipper is busy shipping, and a better endpoint can wait.
        if let Ok(permit) = self.orders.try_reserve()
            && let Some(endpoint) = self.engine.poll_probe(clock::steady())
        {
            permit.send(Order::Probe { id, endpoint });
        }
        match self.engine.poll_disconnect() {
            Some(disconnect @ Disconnect::Leaving(_)) => {
                info!(%disconnect, "closing the connection");
                self.close();
            }
            Some(disconnect) => {
                warn!(%disconnect, "closing the connection");
                self.close();
            }
            None => {}
        }
        Ok(())
    }

    /// The shipper closes the connection and reports that it is over.
    fn close(&mut self) {
        if let Some(id) = self.connection {
            self.close.send_replace(id);
        }
    }

    fn warn_of_clock(&self) {
        if let Some(clock) = self
            .engine
            .ship_status()
            .clock
            .filter(|clock| clock.warning)
        {
            warn!(
                offset_millis = clock.offset_millis,
                bound_millis = clock.bound_millis,
                "this host's clock is far from the collector's; windows are placed by it"
            );
        }
    }

    fn is_current(&self, id: ConnectionId) -> bool {
        self.connection == Some(id)
    }

    fn handle_event(&mut self, event: Event) -> Result<(), EngineError> {
        let now = clock::steady();
        match event {
            Event::Connected { id } if self.is_current(id) => {
                let hello = Message::Hello(self.engine.handle_connected(now));
                let message = Box::new(hello);
                // Nothing is sent before it, so there is room unless the shipper is gone.
                let load = Load::default();
                let hello = Order::Send { id, message, load };
                if self.orders.try_send(hello).is_err() {
                    self.close();
                }
            }
            Event::Message { id, message } if self.is_current(id) => {
                let welcome = matches!(*message, Message::Welcome(_));
                self.engine.handle_message(now, *message)?;
                if welcome {
                    self.warn_of_clock();
                }
            }
            Event::Progress { id } if self.is_current(id) => self.engine.handle_progress(now),
            Event::Renew { id, why } if self.is_current(id) => self.engine.handle_renew(why),
            Event::Probed { id, result } if self.is_current(id) => {
                let result = result.as_ref().map(|&()| ()).map_err(String::as_str);
                self.engine.handle_probed(now, result);
            }
            Event::Disconnected { id, reason } if self.is_current(id) => {
                self.connection = None;
                self.engine
                    .handle_disconnected(now, rand::random(), &reason);
            }
            Event::Connected { .. }
            | Event::Message { .. }
            | Event::Disconnected { .. }
            | Event::Progress { .. }
            | Event::Renew { .. }
            | Event::Probed { .. }
            | Event::Writable => {}
            Event::Reconfigured(config) => self.engine.handle_ship_config(now, *config),
            Event::Ask(Question(question)) => question(&mut self.engine),
            Event::Stop { deadline } => self.stop = Some(deadline),
        }
        Ok(())
    }
}
