//! What the shipper shows of itself.

use serde::Serialize;
use tollgate_common::{Lineage, Timestamp};

use super::{EndpointStatus, Shipper, State};

/// The state of the connection, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// Waiting for the time of the next attempt.
    Waiting,
    /// An attempt is under way.
    Connecting,
    /// The hello is sent.
    Greeting,
    /// Batches may go out.
    Shipping,
    /// Nothing new goes out, what is on its way is waited for, then the agent connects anew.
    Leaving,
}

/// How this host's clock stands to the collector's, estimated from hello and welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Clock {
    /// The collector's clock minus this host's, in milliseconds.
    pub offset_millis: i64,
    /// The true offset differs from that by at most this, in milliseconds: the collector read
    /// its clock somewhere between hello and welcome.
    pub bound_millis: i64,
    /// The offset is larger than allowed even in the best case.
    pub warning: bool,
}

impl Clock {
    /// From the time of the hello and of the welcome by this host's clock, and the time in the
    /// welcome by the collector's. A step of this host's clock in between spoils the estimate;
    /// a bound below zero cannot come out.
    pub(super) fn estimate(
        hello: Timestamp,
        collector: Timestamp,
        welcome: Timestamp,
        warn_millis: u64,
    ) -> Self {
        let round_trip = welcome.millis_since(hello).max(0);
        // Half of an odd round trip, and the fractions that milliseconds leave away.
        let bound_millis = round_trip / 2 + 1;
        let offset_millis = collector
            .millis_since(welcome)
            .saturating_add(round_trip / 2);
        let certain = offset_millis.saturating_abs().saturating_sub(bound_millis);
        Self {
            offset_millis,
            bound_millis,
            warning: certain > i64::try_from(warn_millis).unwrap_or(i64::MAX),
        }
    }
}

/// What the shipper shows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShipStatus {
    /// Where the connection stands.
    pub connection: Connection,
    /// The endpoint of the connection or attempt.
    pub endpoint: Option<String>,
    /// Failed attempts since the last welcome, over all endpoints.
    pub failures: u32,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// The journal that answered last.
    pub lineage: Option<Lineage>,
    /// Times that another journal answered than the time before.
    pub lineage_changes: u64,
    /// This host's clock, as the last collector saw it.
    pub clock: Option<Clock>,
    /// Batches on their way.
    pub in_flight: u64,
    /// Record bytes on their way.
    pub in_flight_bytes: u64,
    /// Batches that may be on their way at present: the collector's window, or less right
    /// after a welcome.
    pub window_batches: u64,
    /// Bytes that may be on their way at present.
    pub window_bytes: u64,
    /// The collector has asked for a pause until then.
    pub paused_until: Option<Timestamp>,
    /// Batches and tombstones sent since the start, repetitions included.
    pub sent: u64,
    /// Batches that the collector held already when a connection was made.
    pub skipped: u64,
    /// Acknowledgements received.
    pub acks: u64,
    /// Windows that collectors changed after their welcome.
    pub grants: u64,
    /// Welcomes since the start.
    pub welcomes: u64,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointStatus>,
}

/// What is counted over all connections.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) last_error: Option<String>,
    lineage: Option<Lineage>,
    lineage_changes: u64,
    clock: Option<Clock>,
    pub(super) sent: u64,
    pub(super) skipped: u64,
    pub(super) acks: u64,
    pub(super) grants: u64,
    welcomes: u64,
}

impl Counts {
    pub(super) fn welcomed(&mut self, lineage: Lineage, clock: Clock) {
        let before = self.lineage.replace(lineage);
        if before.is_some_and(|before| before != lineage) {
            self.lineage_changes = self.lineage_changes.saturating_add(1);
        }
        self.clock = Some(clock);
        self.welcomes = self.welcomes.saturating_add(1);
    }
}

impl Shipper {
    pub(crate) fn status(&self) -> ShipStatus {
        let session = match &self.state {
            State::Shipping(session) => Some(session),
            _ => None,
        };
        let (window_batches, window_bytes) = session.map_or((0, 0), |session| session.window());
        let counts = &self.counts;
        ShipStatus {
            connection: match self.state {
                State::Waiting => Connection::Waiting,
                State::Connecting { .. } => Connection::Connecting,
                State::Greeting { .. } => Connection::Greeting,
                State::Shipping(_) if self.leaving.is_some() => Connection::Leaving,
                State::Shipping(_) => Connection::Shipping,
            },
            endpoint: self.endpoints.current().map(str::to_owned),
            failures: self.endpoints.failures(),
            retry_at: self.connect_at(),
            last_error: counts.last_error.clone(),
            lineage: counts.lineage,
            lineage_changes: counts.lineage_changes,
            clock: counts.clock,
            in_flight: session.map_or(0, |session| session.in_flight()),
            in_flight_bytes: session.map_or(0, |session| session.in_flight_bytes()),
            window_batches,
            window_bytes,
            paused_until: session.and_then(|session| session.paused_until()),
            sent: counts.sent,
            skipped: counts.skipped,
            acks: counts.acks,
            grants: counts.grants,
            welcomes: counts.welcomes,
            endpoints: self.endpoints.status(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_within_half_a_round_trip() {
        let at = |millis| Timestamp::from_millis(1_780_000_000_000 + millis);
        for (offset, there, back) in [(0, 5, 5), (3_000, 0, 41), (-9_000, 77, 2), (1, 0, 0)] {
            let clock = Clock::estimate(at(0), at(there + offset), at(there + back), 2_000);
            assert!(
                (clock.offset_millis - offset).abs() <= clock.bound_millis,
                "{clock:?}"
            );
            assert_eq!(clock.bound_millis, i64::midpoint(there, back) + 1);
            assert_eq!(clock.warning, offset.abs() > 2_000);
        }
        // Ten seconds of waiting prove nothing about two seconds.
        assert!(!Clock::estimate(at(0), at(12_000), at(10_000), 2_000).warning);
        // This host's clock went back in between.
        assert_eq!(
            Clock::estimate(at(0), at(50), at(-500), 2_000).bound_millis,
            1
        );
    }
}
