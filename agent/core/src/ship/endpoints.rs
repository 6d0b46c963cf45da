//! Which collector is dialled, and when.
//!
//! Every endpoint has a backoff of its own. With [`EndpointOrder::Ordered`] the first one that
//! may be tried is taken, and an agent that ended up further down looks after a while whether
//! a better one answers again; it leaves the connection that works only when one does. With
//! [`EndpointOrder::Equal`] each agent begins at an endpoint of its own, so that a fleet
//! spreads over all of them.
//!
//! A collector that is lost is lost by all of its agents at the same moment. So nobody dials
//! at once: the first attempt after a connection ended is spread over
//! [`EndpointsConfig::spread_millis`], whichever endpoint it goes to.

use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use crate::backoff::{Backoff, BackoffConfig};

/// A connection that lasted for less than this was no reason to come back, in milliseconds.
const STABLE_MILLIS: i64 = 60_000;
/// Each return to a preferred endpoint that did not last doubles the wait before the next, so
/// often at most: to 64 times.
const RELUCTANCE_DOUBLINGS_MAX: u32 = 6;

/// How several endpoints relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointOrder {
    /// The first is preferred, the others stand in for it.
    #[default]
    Ordered,
    /// All are as good; agents spread over them.
    Equal,
}

/// How endpoints are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointsConfig {
    /// Their names, as in the configuration; at least one.
    pub names: Vec<String>,
    /// How they relate.
    pub order: EndpointOrder,
    /// Delays between attempts, for each endpoint.
    pub backoff: BackoffConfig,
    /// A connection to an endpoint that is not the first is given back after this long to
    /// twice this long, in milliseconds, if a better one answers. 0: never.
    pub prefer_after_millis: u64,
    /// The first attempt after a connection that worked is made within this, in milliseconds.
    pub spread_millis: u64,
}

impl Default for EndpointsConfig {
    fn default() -> Self {
        Self {
            names: vec!["collector".to_owned()],
            order: EndpointOrder::Ordered,
            backoff: BackoffConfig::default(),
            prefer_after_millis: 300_000,
            spread_millis: 2_000,
        }
    }
}

/// What an endpoint shows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Host and port as configured.
    pub name: String,
    /// Failed attempts since the last welcome.
    pub failures: u32,
    /// It is not dialled before this instant.
    pub retry_at: Timestamp,
    /// Why the last attempt or connection ended.
    pub last_error: Option<String>,
    /// The refusal that somebody has to do something about: unknown agent, certificate,
    /// version. Such an endpoint is passed over for longer.
    pub refused: Option<String>,
}

/// How an attempt or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It failed, or was lost.
    Failed,
    /// It was refused for a reason that stays until somebody acts.
    Refused,
    /// The agent left on its own accord: to a better endpoint, or to show a new certificate.
    Left,
}

#[derive(Debug)]
struct Place {
    name: String,
    backoff: Backoff,
    ready_at: Timestamp,
    last_error: Option<String>,
    refused: Option<String>,
}

/// The endpoints of one agent.
#[derive(Debug)]
pub(super) struct Endpoints {
    places: Vec<Place>,
    order: EndpointOrder,
    backoff: BackoffConfig,
    prefer_after_millis: u64,
    spread_millis: u64,
    /// Where this agent begins among equals.
    first: usize,
    /// The endpoint of the attempt or connection.
    current: Option<usize>,
    /// The next attempt goes there, whatever else is ready.
    next: Option<usize>,
    welcomed_at: Option<Timestamp>,
    /// When a better endpoint is to be looked at.
    probe_at: Option<Timestamp>,
    probing: Option<usize>,
    /// Returns to a preferred endpoint that did not last.
    reluctance: u32,
    /// The connection came about by such a return.
    returned: bool,
}

/// Between 0 and `bound`, both possible.
fn within(random: u64, bound: u64) -> u64 {
    bound
        .checked_add(1)
        .map_or(random, |values| random % values)
}

fn after(now: Timestamp, millis: u64) -> Timestamp {
    now.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl Endpoints {
    /// All may be dialled at once.
    pub(super) fn new(config: EndpointsConfig, now: Timestamp, random: u64) -> Self {
        let place = |name| Place {
            name,
            backoff: Backoff::new(config.backoff),
            ready_at: now,
            last_error: None,
            refused: None,
        };
        let places: Vec<Place> = config.names.into_iter().map(place).collect();
        let count = places.len().max(1) as u64;
        Self {
            first: match config.order {
                EndpointOrder::Ordered => 0,
                EndpointOrder::Equal => usize::try_from(random % count).unwrap_or(0),
            },
            places,
            order: config.order,
            backoff: config.backoff,
            prefer_after_millis: config.prefer_after_millis,
            spread_millis: config.spread_millis,
            current: None,
            next: None,
            welcomed_at: None,
            probe_at: None,
            probing: None,
            reluctance: 0,
            returned: false,
        }
    }

    /// When the next attempt is due.
    pub(super) fn ready_at(&self) -> Option<Timestamp> {
        self.places.iter().map(|place| place.ready_at).min()
    }

    /// Indices in the order of preference.
    fn preferences(&self) -> impl Iterator<Item = usize> {
        let (first, count) = (self.first, self.places.len());
        (0..count).map(move |n| (first + n) % count)
    }

    /// Takes the endpoint that is to be dialled now.
    pub(super) fn take(&mut self, now: Timestamp) -> usize {
        let wished = self.next.take();
        let ready = |index: usize| self.places[index].ready_at <= now;
        let chosen = wished
            .into_iter()
            .chain(self.preferences())
            .find(|index| ready(*index))
            // Nobody asks before something is ready; then the soonest is the best guess.
            .or_else(|| self.preferences().min_by_key(|i| self.places[*i].ready_at))
            .unwrap_or(0);
        self.returned = wished == Some(chosen);
        self.current = Some(chosen);
        self.welcomed_at = None;
        chosen
    }

    /// The name of the endpoint of the attempt or connection.
    pub(super) fn current(&self) -> Option<&str> {
        let place = self.places.get(self.current?)?;
        Some(&place.name)
    }

    /// Failed attempts since the last welcome, over all endpoints.
    pub(super) fn failures(&self) -> u32 {
        let failures = self.places.iter().map(|place| place.backoff.failures());
        failures.fold(0, u32::saturating_add)
    }

    /// The collector has welcomed the agent.
    pub(super) fn handle_welcome(&mut self, now: Timestamp, random: u64) {
        self.welcomed_at = Some(now);
        if let Some(place) = self.current.and_then(|index| self.places.get_mut(index)) {
            place.backoff.succeed();
            place.last_error = None;
            place.refused = None;
        }
        self.plan_probe(now, random);
    }

    fn plan_probe(&mut self, now: Timestamp, random: u64) {
        let stands_in = self.order == EndpointOrder::Ordered && self.current > Some(0);
        self.probe_at = (stands_in && self.prefer_after_millis > 0).then(|| {
            let wait = self.prefer_after_millis << self.reluctance;
            after(now, wait.saturating_add(within(random, wait)))
        });
    }

    /// When [`Endpoints::poll_probe`] has something to say.
    pub(super) fn probe_at(&self) -> Option<Timestamp> {
        self.probe_at.filter(|_| self.probing.is_none())
    }

    /// A better endpoint that is to be looked at; said once.
    pub(super) fn poll_probe(&mut self, now: Timestamp, random: u64) -> Option<usize> {
        if self.probe_at()? > now {
            return None;
        }
        let current = self.current?;
        self.probing = (0..current).find(|index| self.places[*index].ready_at <= now);
        if self.probing.is_none() {
            self.plan_probe(now, random);
        }
        self.probing
    }

    /// What the look at a better endpoint gave; true if the agent is to move there.
    pub(super) fn handle_probed(
        &mut self,
        now: Timestamp,
        random: u64,
        result: Result<(), &str>,
    ) -> bool {
        let Some(index) = self.probing.take() else {
            return false;
        };
        let Err(error) = result else {
            self.probe_at = None;
            self.next = Some(index);
            return true;
        };
        let place = &mut self.places[index];
        place.last_error = Some(error.to_owned());
        place.ready_at = after(now, place.backoff.fail(random));
        self.plan_probe(now, random);
        false
    }

    /// The attempt or connection is over.
    pub(super) fn handle_end(&mut self, now: Timestamp, random: u64, end: End, reason: &str) {
        let lasted = self.welcomed_at.take().map(|at| now.millis_since(at));
        let stable = lasted.is_some_and(|millis| millis >= STABLE_MILLIS);
        if self.returned && end != End::Left && !stable {
            self.reluctance = (self.reluctance + 1).min(RELUCTANCE_DOUBLINGS_MAX);
        } else if self.returned && stable {
            self.reluctance = 0;
        }
        (self.probe_at, self.probing, self.returned) = (None, None, false);
        let Some(index) = self.current.take() else {
            return;
        };
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        if end == End::Left {
            place.ready_at = now;
            return;
        }
        self.next = None;
        place.last_error = Some(reason.to_owned());
        let delay = match end {
            End::Refused => {
                place.refused = Some(reason.to_owned());
                place.backoff.refuse(random)
            }
            End::Failed | End::Left => place.backoff.fail(random),
        };
        place.ready_at = after(now, delay);
        if lasted.is_some() {
            // Other bits than those of the delay above.
            let earliest = after(now, within(random.rotate_left(32), self.spread_millis));
            for place in &mut self.places {
                place.ready_at = place.ready_at.max(earliest);
            }
        }
    }

    /// Brings times that a clock gone back has moved far away near again.
    pub(super) fn limit(&mut self, now: Timestamp) {
        let longest = Backoff::new(self.backoff)
            .delay_max()
            .max(self.spread_millis);
        for place in &mut self.places {
            place.ready_at = place.ready_at.min(after(now, longest));
        }
        let longest = (self.prefer_after_millis << self.reluctance).saturating_mul(2);
        self.probe_at = self.probe_at.map(|at| at.min(after(now, longest)));
    }

    pub(super) fn status(&self) -> Vec<EndpointStatus> {
        let status = |place: &Place| EndpointStatus {
            name: place.name.clone(),
            failures: place.backoff.failures(),
            retry_at: place.ready_at,
            last_error: place.last_error.clone(),
            refused: place.refused.clone(),
        };
        self.places.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_780_000_000);

    fn endpoints(count: usize, order: EndpointOrder, random: u64) -> Endpoints {
        let config = EndpointsConfig {
            names: (0..count).map(|n| format!("c{n}:7430")).collect(),
            order,
            prefer_after_millis: 100_000,
            ..EndpointsConfig::default()
        };
        Endpoints::new(config, NOW, random)
    }

    fn ordered() -> Endpoints {
        endpoints(3, EndpointOrder::Ordered, 5)
    }

    #[test]
    fn the_first_that_is_not_backing_off_is_dialled() {
        let mut endpoints = ordered();
        for expected in 0..3 {
            assert_eq!(endpoints.take(NOW), expected);
            // The largest possible delay of a first failure.
            endpoints.handle_end(NOW, 200, End::Failed, "down");
        }
        assert_eq!(endpoints.ready_at(), Some(NOW.plus_millis(200)));
        assert_eq!(endpoints.take(NOW.plus_millis(200)), 0);
        assert_eq!(endpoints.failures(), 3);
    }

    #[test]
    fn an_endpoint_that_refuses_is_passed_over_for_longer_and_says_why() {
        let mut endpoints = ordered();
        endpoints.take(NOW);
        endpoints.handle_end(NOW, 0, End::Refused, "unknown agent");
        let status = &endpoints.status()[0];
        assert_eq!(status.refused.as_deref(), Some("unknown agent"));
        assert!(status.retry_at.millis_since(NOW) >= 30_000);
        assert_eq!(endpoints.take(NOW), 1, "the next one is dialled at once");
        endpoints.handle_welcome(NOW, 0);
        assert!(endpoints.status()[0].refused.is_some(), "until it welcomes");
    }

    #[test]
    fn equals_share_a_fleet() {
        let mut counts = [0; 3];
        for random in 0..300u64 {
            let mixed = random.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
            counts[endpoints(3, EndpointOrder::Equal, mixed).take(NOW)] += 1;
        }
        assert!(
            counts.iter().all(|count| (70..=130).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn losing_a_collector_spreads_the_attempts_on_all_others() {
        let mut waits: Vec<i64> = (0..200u64)
            .map(|n| {
                let random = (n * 10 + 7) << 32;
                let mut endpoints = endpoints(2, EndpointOrder::Ordered, 0);
                endpoints.take(NOW);
                endpoints.handle_welcome(NOW, random);
                endpoints.handle_end(NOW, random, End::Failed, "lost");
                endpoints.ready_at().expect("waits").millis_since(NOW)
            })
            .collect();
        waits.sort_unstable();
        let densest = waits.windows(30).map(|w| w[29] - w[0]).min();
        assert!(waits[199] <= 2_000 && densest > Some(200), "{waits:?}");
    }

    /// Fails the first endpoint, and stands at the second.
    fn standing_in() -> Endpoints {
        let mut endpoints = ordered();
        endpoints.take(NOW);
        endpoints.handle_end(NOW, 0, End::Failed, "down");
        endpoints.places[0].ready_at = NOW.plus_millis(1);
        assert_eq!(endpoints.take(NOW), 1);
        endpoints.handle_welcome(NOW, 0);
        endpoints
    }

    #[test]
    fn the_preferred_endpoint_is_returned_to_once_it_answers() {
        let mut endpoints = standing_in();
        let at = NOW.plus_millis(100_000);
        assert_eq!(endpoints.probe_at(), Some(at));
        assert_eq!(endpoints.poll_probe(at.plus_millis(-1), 0), None);
        assert_eq!(endpoints.poll_probe(at, 0), Some(0));
        assert_eq!(endpoints.poll_probe(at, 0), None, "said once");
        assert!(!endpoints.handle_probed(at, 0, Err("still down")));
        let at = at.plus_millis(100_000);
        assert_eq!(endpoints.poll_probe(at, 0), Some(0));
        assert!(endpoints.handle_probed(at, 0, Ok(())));
        endpoints.handle_end(at, 0, End::Left, "moves");
        assert_eq!(endpoints.ready_at(), Some(NOW), "no wait");
        assert_eq!(endpoints.take(at), 0);
    }

    #[test]
    fn a_preferred_endpoint_that_does_not_last_is_returned_to_more_rarely() {
        let mut endpoints = standing_in();
        let mut at = NOW;
        for round in 0..9u32 {
            let probe = endpoints.probe_at().expect("planned");
            let wait = 100_000i64 << round.min(RELUCTANCE_DOUBLINGS_MAX);
            assert_eq!(probe.millis_since(at), wait, "{round}");
            at = probe;
            assert_eq!(endpoints.poll_probe(at, 0), Some(0));
            assert!(endpoints.handle_probed(at, 0, Ok(())));
            endpoints.handle_end(at, 0, End::Left, "moves");
            assert_eq!(endpoints.take(at), 0);
            endpoints.handle_welcome(at, 0);
            at = at.plus_millis(STABLE_MILLIS - 1);
            endpoints.handle_end(at, 200 + (1 << 40), End::Failed, "flaps");
            endpoints.places[1].ready_at = at;
            assert_eq!(endpoints.take(at), 1);
            endpoints.handle_welcome(at, 0);
        }
        // One that lasts is trusted again.
        let probe = endpoints.probe_at().expect("planned");
        endpoints.poll_probe(probe, 0);
        endpoints.handle_probed(probe, 0, Ok(()));
        endpoints.handle_end(probe, 0, End::Left, "moves");
        endpoints.take(probe);
        endpoints.handle_welcome(probe, 0);
        endpoints.handle_end(probe.plus_millis(STABLE_MILLIS), 0, End::Failed, "lost");
        assert_eq!(endpoints.reluctance, 0);
    }
}
