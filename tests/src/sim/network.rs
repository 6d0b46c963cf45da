//! The network: what QUIC streams look like to the two ends.
//!
//! A connection carries bytes in order in both directions, each direction with its own
//! delay. When it breaks, an arbitrary suffix of what is on its way never arrives, and the two
//! ends learn of it at different times: the bytes of an old connection may still reach the
//! collector while a new one already stands. A partition stalls a connection; if it lasts
//! longer than the idle timeout, the connection breaks.

use std::collections::VecDeque;

use tollgate_common::Timestamp;

use super::random::Random;

/// After this long without a byte getting through, a connection is given up.
pub const IDLE_TIMEOUT_MILLIS: i64 = 15_000;

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From agent to collector.
    Up,
    /// From collector to agent.
    Down,
}

/// Names a connection within a run; later connections have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// How one agent's path to the collector behaves.
#[derive(Clone, Debug)]
pub struct Link {
    /// Shortest delay of a chunk, in milliseconds.
    pub delay_min: u64,
    /// Longest delay of a chunk, in milliseconds.
    pub delay_max: u64,
    /// Bytes per millisecond that fit through.
    pub rate: u64,
    /// Nothing gets through before this instant.
    pub blocked_until: Timestamp,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
struct Pipe {
    /// Chunks with their time of arrival, which never decreases.
    chunks: VecDeque<(Timestamp, Vec<u8>)>,
    last_arrival: Timestamp,
    /// Nothing that is sent any more arrives.
    cut: bool,
}

impl Pipe {
    fn send(&mut self, now: Timestamp, link: &Link, bytes: &[u8], random: &mut Random) {
        if self.cut {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = random.chance(600);
            let length = if whole {
                rest.len()
            } else {
                1 + random.index(rest.len())
            };
            let (chunk, after) = rest.split_at(length);
            rest = after;
            let transfer = i64::try_from(chunk.len() as u64 / link.rate.max(1)).unwrap_or(i64::MAX);
            let start = now.max(self.last_arrival).max(link.blocked_until);
            let propagation = now.max(link.blocked_until);
            let delay = random.millis(link.delay_min, link.delay_max);
            let arrival = start
                .plus_millis(transfer)
                .max(propagation.plus_millis(delay));
            self.last_arrival = arrival;
            self.chunks.push_back((arrival, chunk.to_vec()));
        }
    }

    fn stall(&mut self, until: Timestamp) {
        for (arrival, _) in &mut self.chunks {
            *arrival = (*arrival).max(until);
        }
        self.last_arrival = self.last_arrival.max(until);
    }

    fn receive(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        match self.chunks.front() {
            Some((arrival, _)) if *arrival <= now => self.chunks.pop_front().map(|(_, c)| c),
            _ => None,
        }
    }

    /// Cuts the pipe; an arbitrary prefix of what is on its way still arrives.
    fn cut(&mut self, random: &mut Random) -> usize {
        self.cut = true;
        let keep = random.index(self.chunks.len() + 1);
        let lost = self.chunks.len() - keep;
        self.chunks.truncate(keep);
        lost
    }
}

/// One connection between an agent and the collector.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Index of the agent.
    pub agent: usize,
    up: Pipe,
    down: Pipe,
    /// When the agent learns that the connection is gone.
    pub agent_end: Option<Timestamp>,
    /// When the collector learns that the connection is gone.
    pub collector_end: Option<Timestamp>,
}

impl Connection {
    /// A connection that stands from now on.
    pub fn new(id: ConnectionId, agent: usize) -> Self {
        Self {
            id,
            agent,
            up: Pipe::default(),
            down: Pipe::default(),
            agent_end: None,
            collector_end: None,
        }
    }

    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// Sends bytes; after a break they go nowhere.
    pub fn send(
        &mut self,
        now: Timestamp,
        direction: Direction,
        link: &Link,
        bytes: &[u8],
        random: &mut Random,
    ) {
        self.pipe(direction).send(now, link, bytes, random);
    }

    /// The next chunk that has arrived by now.
    pub fn receive(&mut self, now: Timestamp, direction: Direction) -> Option<Vec<u8>> {
        self.pipe(direction).receive(now)
    }

    /// Nothing gets through before `until`. A stall beyond the idle timeout breaks the
    /// connection.
    pub fn stall(&mut self, now: Timestamp, until: Timestamp, random: &mut Random) -> usize {
        self.up.stall(until);
        self.down.stall(until);
        if until.millis_since(now) > IDLE_TIMEOUT_MILLIS {
            return self.break_at(
                now.plus_millis(IDLE_TIMEOUT_MILLIS + random.millis(0, 3000)),
                now.plus_millis(IDLE_TIMEOUT_MILLIS + random.millis(0, 3000)),
                random,
            );
        }
        0
    }

    /// Breaks the connection; each end learns of it in its own time. Returns how many chunks
    /// were lost.
    pub fn break_at(
        &mut self,
        agent_end: Timestamp,
        collector_end: Timestamp,
        random: &mut Random,
    ) -> usize {
        let earlier = |old: Option<Timestamp>, new| Some(old.map_or(new, |old| old.min(new)));
        self.agent_end = earlier(self.agent_end, agent_end);
        self.collector_end = earlier(self.collector_end, collector_end);
        self.up.cut(random) + self.down.cut(random)
    }

    /// One end has closed the connection: what is on its way still arrives, nothing more is
    /// sent.
    pub fn end_orderly(&mut self, agent_end: Timestamp, collector_end: Timestamp) {
        self.up.cut = true;
        self.down.cut = true;
        self.agent_end = Some(agent_end);
        self.collector_end = Some(collector_end);
    }

    /// True while neither end knows of a break.
    pub fn stands(&self) -> bool {
        self.agent_end.is_none() && self.collector_end.is_none()
    }

    /// The next instant at which something arrives or ends.
    pub fn next_event(&self) -> Option<Timestamp> {
        let arrival = |pipe: &Pipe| pipe.chunks.front().map(|(at, _)| *at);
        [
            arrival(&self.up),
            arrival(&self.down),
            self.agent_end,
            self.collector_end,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Forgets what is on its way to the agent, which is gone.
    pub fn drop_down(&mut self) {
        self.down.chunks.clear();
        self.down.cut = true;
    }

    /// Forgets what is on its way to the collector, which is gone.
    pub fn drop_up(&mut self) {
        self.up.chunks.clear();
        self.up.cut = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            delay_min: 1,
            delay_max: 50,
            rate: 10,
            blocked_until: Timestamp::EPOCH,
        }
    }

    #[test]
    fn bytes_arrive_in_order_whatever_the_delays() {
        let mut random = Random::new(3);
        let mut connection = Connection::new(ConnectionId(1), 0);
        let mut sent = Vec::new();
        for n in 0..50u8 {
            let bytes = vec![n; usize::from(n)];
            let now = Timestamp::from_millis(i64::from(n));
            connection.send(now, Direction::Up, &link(), &bytes, &mut random);
            sent.extend_from_slice(&bytes);
        }
        let mut received = Vec::new();
        while let Some(at) = connection.next_event() {
            while let Some(chunk) = connection.receive(at, Direction::Up) {
                received.extend_from_slice(&chunk);
            }
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_broken_connection_delivers_a_prefix() {
        let mut random = Random::new(5);
        let mut connection = Connection::new(ConnectionId(1), 0);
        for n in 0..20u8 {
            connection.send(Timestamp::EPOCH, Direction::Up, &link(), &[n], &mut random);
        }
        let end = Timestamp::from_secs(10);
        connection.break_at(end, end, &mut random);
        connection.send(Timestamp::EPOCH, Direction::Up, &link(), &[99], &mut random);
        let mut received = Vec::new();
        while let Some(chunk) = connection.receive(end, Direction::Up) {
            received.extend_from_slice(&chunk);
        }
        assert!((0..20).take(received.len()).eq(received.iter().copied()));
        assert!(!connection.stands());
    }
}
