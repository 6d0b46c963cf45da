//! The world: agents, network, collector, and what happens to them.
//!
//! One thread, one clock. The loop goes from event to event; between two events nothing
//! happens. A run has three phases: load with faults; healing, in which faults stop and
//! everything must drain within bounded time; and settlement, in which every period closes.
//! Then the books are checked.

use tollgate_agent_core::input::page::MISSING_GRACE_MILLIS;
use tollgate_common::Timestamp;

use super::agent::{AgentNode, Crash};
use super::collector::CollectorNode;
use super::context::{Broken, Context};
use super::coverage::{Coverage, Probe};
use super::faults::{Fault, Schedule};
use super::network::{Connection, ConnectionId, Direction, Link};
use super::options::Options;
use super::workload;

/// Healing must not take longer than this, in virtual milliseconds.
const DRAIN_MILLIS_MAX: i64 = 15 * 60 * 1000;
/// Every period must close within this time: two calendar months for tenants without a
/// profile, and what clocks were ahead.
const SETTLE_MILLIS_MAX: i64 = 70 * 86_400_000;
/// Largest jump of a clock, in milliseconds.
const CLOCK_JUMP_MILLIS_MAX: u64 = 600_000;
/// An agent hears at the latest after so many milliseconds that its connection is gone.
const DROP_MILLIS_MAX: u32 = 3_000;
/// More events at one instant than any run needs: somebody spins.
const EVENTS_PER_INSTANT_MAX: u32 = 20_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The promise that was broken, if any.
    pub failure: Option<String>,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// The end of the trace, or all of it if that was asked for.
    pub trace: Vec<String>,
    /// What was exercised.
    pub coverage: Coverage,
    /// Number of events.
    pub events: u64,
    /// Virtual milliseconds that passed.
    pub virtual_millis: u64,
}

/// Runs one world to its end.
pub fn run(options: Options, keep_trace: bool) -> Outcome {
    let mut world = World::new(Context::new(options, keep_trace));
    let failure = world.run().err();
    let mut context = world.context;
    if let Some(reason) = &failure {
        context.trace(format_args!("BROKEN: {reason}"));
    }
    let virtual_millis = context.now.millis_since(context.options.start);
    Outcome {
        failure,
        trace_hash: context.trace.hash(),
        coverage: context.coverage,
        events: context.trace.events(),
        virtual_millis: u64::try_from(virtual_millis).unwrap_or(0),
        trace: context.trace.into_lines(),
    }
}

struct World {
    context: Context,
    agents: Vec<AgentNode>,
    links: Vec<Link>,
    collector: CollectorNode,
    connections: Vec<Connection>,
    connections_made: u64,
    schedule: Schedule,
}

fn good_link() -> Link {
    Link {
        delay_min: 1,
        delay_max: 20,
        rate: 10_000,
        blocked_until: Timestamp::EPOCH,
    }
}

impl World {
    fn new(mut context: Context) -> Self {
        let series = workload::series(&context.options);
        let agents = (0..context.options.agents)
            .map(|index| AgentNode::new(index, &series, &mut context))
            .collect();
        let collector = CollectorNode::new(&mut context);
        let faults = context.options.faults.clone();
        let schedule = Schedule::new(&faults, &mut context);
        Self {
            links: vec![good_link(); context.options.agents],
            agents,
            collector,
            connections: Vec::new(),
            connections_made: 0,
            schedule,
            context,
        }
    }

    fn run(&mut self) -> Result<(), Broken> {
        let load_end = self
            .context
            .options
            .start
            .plus_millis(self.context.options.load_millis);
        self.run_until(load_end, |_| false)?;
        self.heal()?;
        self.drain()?;
        self.settle()?;
        self.collector.check_books(&mut self.context)
    }

    /// Goes from event to event until `end`, or until `done`.
    fn run_until(&mut self, end: Timestamp, done: impl Fn(&Self) -> bool) -> Result<bool, Broken> {
        let mut at_this_instant = 0;
        while !done(self) {
            let next = self.next_event();
            if next > end {
                self.context.now = end;
                return Ok(done(self));
            }
            if next > self.context.now {
                self.context.now = next;
                at_this_instant = 0;
            }
            at_this_instant += 1;
            if at_this_instant > EVENTS_PER_INSTANT_MAX {
                return Err("the world does not get past this instant".to_owned());
            }
            self.step()?;
        }
        Ok(true)
    }

    fn next_event(&self) -> Timestamp {
        let now = self.context.now;
        let agents = self.agents.iter().map(|agent| agent.next_event(now));
        let network = self.connections.iter().filter_map(Connection::next_event);
        let faults = self.schedule.next_event();
        agents
            .chain(network)
            .chain(faults)
            .chain([self.collector.next_event(now)])
            .min()
            .expect("the collector always has a next event")
            .max(now)
    }

    fn step(&mut self) -> Result<(), Broken> {
        while let Some(fault) = self.schedule.due(&mut self.context) {
            self.strike(fault)?;
        }
        self.deliver()?;
        for agent in &mut self.agents {
            agent.handle_time(&mut self.context)?;
        }
        self.collector.handle_time(&mut self.context)?;
        self.end_connections()?;
        self.connect();
        self.transmit()
    }

    fn deliver(&mut self) -> Result<(), Broken> {
        for connection in &mut self.connections {
            let current = self.agents[connection.agent].connection() == Some(connection.id);
            while let Some(bytes) = connection.receive(self.context.now, Direction::Down) {
                if current {
                    self.agents[connection.agent].handle_bytes(&bytes, &mut self.context)?;
                }
            }
            while let Some(bytes) = connection.receive(self.context.now, Direction::Up) {
                if !current {
                    self.context.hit(Probe::ZombieBytes);
                }
                self.collector
                    .handle_bytes(connection.id, &bytes, &mut self.context)?;
            }
        }
        Ok(())
    }

    /// Tells the ends of broken connections, each in its time.
    fn end_connections(&mut self) -> Result<(), Broken> {
        let now = self.context.now;
        for connection in &mut self.connections {
            if connection.agent_end.is_some_and(|at| at <= now) {
                connection.agent_end = None;
                connection.drop_down();
                let agent = &mut self.agents[connection.agent];
                if agent.connection() == Some(connection.id) {
                    agent.handle_disconnected(&mut self.context)?;
                }
            }
            if connection.collector_end.is_some_and(|at| at <= now) {
                connection.collector_end = None;
                connection.drop_up();
                self.collector
                    .handle_disconnected(connection.id, &mut self.context)?;
            }
        }
        let (agents, collector) = (&self.agents, &self.collector);
        self.connections.retain(|connection| {
            agents[connection.agent].connection() == Some(connection.id)
                || collector.knows(connection.id)
                || connection.next_event().is_some()
        });
        Ok(())
    }

    /// Lets agents that want to connect do so, where there is a way.
    fn connect(&mut self) {
        let now = self.context.now;
        for (index, agent) in self.agents.iter_mut().enumerate() {
            if !agent.wants_connection(now) {
                continue;
            }
            let reachable = self.collector.is_up() && self.links[index].blocked_until <= now;
            if !reachable {
                agent.handle_connect_failed(&mut self.context);
                continue;
            }
            self.connections_made += 1;
            let id = ConnectionId(self.connections_made);
            self.context
                .trace(format_args!("connection {} of agent {index}", id.0));
            self.connections.push(Connection::new(id, index));
            self.collector
                .handle_connected(id, index, &mut self.context);
            agent.handle_connected(id, &mut self.context);
        }
    }

    fn transmit(&mut self) -> Result<(), Broken> {
        let context = &mut self.context;
        for connection in &mut self.connections {
            let link = &self.links[connection.agent];
            let agent = &mut self.agents[connection.agent];
            if agent.connection() == Some(connection.id) {
                let bytes = agent.transmit(context)?;
                connection.send(
                    context.now,
                    Direction::Up,
                    link,
                    &bytes,
                    &mut context.random,
                );
            }
            let bytes = self.collector.transmit(connection.id);
            connection.send(
                context.now,
                Direction::Down,
                link,
                &bytes,
                &mut context.random,
            );
            // Either side may have ended the connection on its own.
            let soon = context.now.plus_millis(1);
            let agent_left = agent.connection() != Some(connection.id);
            let collector_left = !self.collector.knows(connection.id);
            if connection.stands() && (agent_left || collector_left) {
                let later = soon.plus_millis(context.random.millis(0, 5000));
                let (agent_end, collector_end) = if agent_left {
                    (soon, later)
                } else {
                    (later, soon)
                };
                connection.end_orderly(agent_end, collector_end);
            }
        }
        Ok(())
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Broken> {
        let context = &mut self.context;
        let index = context.random.index(self.agents.len());
        context.trace(format_args!("fault {fault:?} (agent {index})"));
        let agent = &mut self.agents[index];
        match fault {
            Fault::AgentKill => agent.strike(Crash::Kill, context),
            Fault::AgentReset => agent.strike(Crash::Reset, context),
            Fault::AgentStop => agent.handle_stop(context),
            Fault::AgentStorage => {
                agent.disturb_storage(context);
                Ok(())
            }
            Fault::PageDeath => agent.end_application(context),
            Fault::Image => {
                agent.image(context);
                Ok(())
            }
            Fault::SpoolFlip => {
                self.collector.die_with_batches(context)?;
                agent.flip_spool_byte(context);
                Ok(())
            }
            Fault::CollectorKill => self.collector.strike(Crash::Kill, context),
            Fault::CollectorReset => self.collector.strike(Crash::Reset, context),
            Fault::CollectorStorage => {
                self.collector.disturb_storage(context);
                Ok(())
            }
            Fault::DeleteProjection => self.collector.delete_projection(context),
            Fault::DeleteSnapshots => self.collector.delete_snapshots(context),
            Fault::Change => self.collector.change(context),
            Fault::Books => self.collector.keep_books(context),
            Fault::CollectorRestored => self.collector.backup(context),
            Fault::Replay => self.collector.replay(context),
            Fault::FullKill => {
                agent.kill_on_full_disk(context);
                Ok(())
            }
            Fault::ClockJump => {
                self.jump_clock(index);
                Ok(())
            }
            Fault::Drop => {
                self.drop_connection(index);
                Ok(())
            }
            Fault::Partition => {
                self.partition(index);
                Ok(())
            }
            Fault::LinkChange => {
                self.change_link(index);
                Ok(())
            }
        }
    }

    fn jump_clock(&mut self, index: usize) {
        let context = &mut self.context;
        let forward = context.random.chance(500);
        let millis = context.random.millis(1000, CLOCK_JUMP_MILLIS_MAX);
        context.hit(if forward {
            Probe::ClockForward
        } else {
            Probe::ClockBackward
        });
        // Mostly a clock that is waited for, sometimes one that was wrong by hours.
        let millis = if context.random.chance(150) {
            millis * 20
        } else {
            millis
        };
        let millis = if forward { millis } else { -millis };
        if context.random.chance(300) {
            self.collector.jump_clock(millis);
        } else {
            self.agents[index].jump_clock(millis);
        }
    }

    fn drop_connection(&mut self, index: usize) {
        let context = &mut self.context;
        for connection in self
            .connections
            .iter_mut()
            .filter(|c| c.agent == index && c.stands())
        {
            let agent_end = context.random.millis(1, u64::from(DROP_MILLIS_MAX));
            let agent_end = context.now.plus_millis(agent_end);
            let collector_end = context.now.plus_millis(context.random.millis(1, 20_000));
            if connection.break_at(agent_end, collector_end, &mut context.random) > 0 {
                context.coverage.hit(Probe::DroppedBytes);
            }
        }
    }

    fn partition(&mut self, index: usize) {
        let context = &mut self.context;
        context.hit(Probe::Partition);
        let longest = *context.random.pick(&[2_000, 20_000, 120_000]);
        let until = context.now.plus_millis(context.random.millis(500, longest));
        // Sometimes everybody is cut off.
        let all = context.random.chance(300);
        for (other, link) in self.links.iter_mut().enumerate() {
            if all || other == index {
                link.blocked_until = link.blocked_until.max(until);
            }
        }
        for connection in &mut self.connections {
            if (all || connection.agent == index)
                && connection.stall(context.now, until, &mut context.random) > 0
            {
                context.coverage.hit(Probe::DroppedBytes);
            }
        }
    }

    fn change_link(&mut self, index: usize) {
        let random = &mut self.context.random;
        let link = &mut self.links[index];
        link.delay_min = *random.pick(&[0, 1, 50]);
        link.delay_max = link.delay_min + *random.pick(&[0, 20, 2000]);
        link.rate = *random.pick(&[1, 10, 10_000]);
        if link.rate < 100 || link.delay_max > 1000 {
            self.context.hit(Probe::SlowLink);
        }
    }

    /// Faults stop: disks work, links are good, clocks are right, everybody is up.
    fn heal(&mut self) -> Result<(), Broken> {
        self.context.trace(format_args!("faults stop"));
        self.schedule.stop();
        for link in &mut self.links {
            *link = good_link();
        }
        for agent in &mut self.agents {
            agent.heal(&mut self.context)?;
        }
        self.collector.heal(&mut self.context)
    }

    /// Everything accepted must reach the collector, and agents must stop in order.
    fn drain(&mut self) -> Result<(), Broken> {
        // A little normal life first: recovery, reconnection, windows that end, and pages that
        // are missed and told of.
        let width = self.context.options.width.millis();
        let missed = if self.context.oracle.misses_pages() {
            let between = i64::try_from(self.context.options.count_every_millis);
            2 * MISSING_GRACE_MILLIS + 6 * between.unwrap_or(0)
        } else {
            0
        };
        let normal = 3 * width + 5_000 + missed;
        self.run_until(self.context.now.plus_millis(normal), |_| false)?;
        self.greet_again()?;
        for agent in &mut self.agents {
            agent.begin_last_stop(&mut self.context)?;
        }
        let end = self.context.now.plus_millis(DRAIN_MILLIS_MAX);
        let drained =
            self.run_until(end, |world| world.agents.iter().all(AgentNode::is_drained))?;
        if drained {
            return Ok(());
        }
        let stuck: Vec<_> = self.agents.iter().map(AgentNode::describe).collect();
        Err(format!(
            "not drained after {DRAIN_MILLIS_MAX} ms without faults: {}",
            stuck.join("; ")
        ))
    }

    /// After a restore every agent says hello once more before it stops. Only then does the collector
    /// learn that nobody holds any more what is missing before a batch that another receiver has
    /// appended since the hello before.
    fn greet_again(&mut self) -> Result<(), Broken> {
        if !self.collector.was_set_back() {
            return Ok(());
        }
        for index in 0..self.agents.len() {
            self.drop_connection(index);
        }
        let end = self
            .context
            .now
            .plus_millis(i64::from(DROP_MILLIS_MAX) + 1_000);
        self.run_until(end, |_| false).map(|_| ())
    }

    /// Time passes until every period has closed.
    fn settle(&mut self) -> Result<(), Broken> {
        let end = self.context.now.plus_millis(SETTLE_MILLIS_MAX);
        for agent in &mut self.agents {
            agent.exit(&mut self.context);
        }
        self.collector.begin_settlement();
        self.run_until(end, CollectorNode::is_settled_in)?;
        if self.collector.is_settled() {
            return Ok(());
        }
        Err(format!(
            "periods still open {SETTLE_MILLIS_MAX} ms after the last batch: {}",
            self.collector.describe()
        ))
    }
}

impl CollectorNode {
    fn is_settled_in(world: &World) -> bool {
        world.collector.is_settled()
    }
}
