//! Who is rated when for the accruals.
//!
//! Only tenants that have changed are rated, who changed first first. It happens in slices between the
//! chunks of the fold, and takes a tenth of the fold's time at most; half of it while something waits
//! for longer than [`URGENT`], so that no accrual becomes a minute old. A tenant that takes long by
//! itself rests for a multiple of that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tollgate_collector_core::projection::Projection;
use tollgate_common::{TenantId, Timestamp};

use super::engine::Engine;
use crate::accruals::{Accruals, Asked, Freshness, Message, Rated};
use crate::metrics::Metrics;

/// Least time from one slice to the next, so that a tenant that changes all the time is rated now and
/// then only.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a slice takes, about.
const SLICE: Duration = Duration::from_millis(25);
/// Rest for each second of rating …
const REST: u32 = 9;
/// … and while something waits for long.
const REST_URGENT: u32 = 1;
/// What is long.
const URGENT: Duration = Duration::from_secs(10);
/// A tenant that takes longer than this …
const COSTLY: Duration = Duration::from_millis(5);
/// … rests so many times as long, …
const COSTLY_REST: u32 = 20;
/// … but not for ever.
const COSTLY_REST_MAX: Duration = Duration::from_secs(20);
/// Rest after a failure to write.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Tenants that are rated at once because somebody asks for everybody.
const ASKED_MAX: usize = 256;

/// How long the fold does other things after a slice that took so long, while something waits since
/// then.
fn pause(slice: Duration, age: Duration) -> Duration {
    if age > URGENT {
        slice * REST_URGENT
    } else {
        PAUSE.max(slice * REST)
    }
}

/// The turn of the accruals in the fold's thread.
#[derive(Debug)]
pub(super) struct Accruing {
    sink: Accruals,
    /// When the next slice may begin.
    next: Instant,
    resting: BTreeMap<TenantId, Rest>,
}

/// A tenant whose rating took long.
#[derive(Debug)]
struct Rest {
    until: Instant,
    /// It has changed since.
    changed: Option<Timestamp>,
}

impl Accruing {
    /// Everybody is rated first.
    pub(super) fn new<P: Projection>(sink: Accruals, engine: &mut Engine<P>) -> Self {
        engine.watch_changes(crate::time::now());
        Self {
            sink,
            next: Instant::now(),
            resting: BTreeMap::new(),
        }
    }

    /// Rates a slice if it is time. Says when to come again, if anybody waits.
    pub(super) fn turn<P: Projection>(
        &mut self,
        engine: &mut Engine<P>,
        metrics: &Metrics,
    ) -> Option<Duration> {
        let now = Instant::now();
        if now < self.next {
            return (engine.changed_count() > 0).then(|| self.next - now);
        }
        if let Some(since) = self.sink.take_lost() {
            engine.watch_changes(since);
            self.freshness(engine, metrics);
            // What cannot be written need not be rated all the time.
            self.next = now + AFTER_FAILURE;
            return Some(AFTER_FAILURE);
        }
        self.resting
            .retain(|_, rest| rest.until > now || rest.changed.is_some());
        let age = self.freshness(engine, metrics).age_millis;
        let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
        if !self.sink.is_busy() {
            self.rate(engine, metrics, now + SLICE, usize::MAX);
            self.freshness(engine, metrics);
        }
        let end = Instant::now();
        self.next = end + pause(end - now, age);
        (engine.changed_count() > 0).then(|| self.next - end)
    }

    /// Rates whoever waits longest, until then or so many.
    fn rate<P: Projection>(
        &mut self,
        engine: &mut Engine<P>,
        metrics: &Metrics,
        until: Instant,
        most: usize,
    ) {
        let mut rated = Vec::new();
        let mut begun = Instant::now();
        for _ in 0..engine.changed_count().min(most) {
            let Some((stamp, tenant)) = engine.first_changed() else {
                break;
            };
            if let Some(rest) = self.resting.get_mut(&tenant)
                && rest.until > begun
            {
                rest.changed = Some(rest.changed.map_or(stamp, |at| Ord::min(at, stamp)));
                engine.defer_changed(&tenant);
                continue;
            }
            rated.extend(self.rate_one(engine, tenant, begun));
            begun = Instant::now();
            if begun >= until {
                break;
            }
        }
        self.hand_over(rated, metrics);
    }

    /// Rates a tenant, if it has changed.
    fn rate_one<P: Projection>(
        &mut self,
        engine: &mut Engine<P>,
        tenant: TenantId,
        begun: Instant,
    ) -> Option<Rated> {
        let accruals = engine.take_changed(&tenant)?;
        self.resting.remove(&tenant);
        let took = begun.elapsed();
        if took >= COSTLY {
            let rest = Rest {
                until: begun + COSTLY_REST_MAX.min(took * COSTLY_REST),
                changed: None,
            };
            self.resting.insert(tenant.clone(), rest);
        }
        Some(Rated {
            payer: tenant,
            as_of: engine.stamp(),
            accruals,
        })
    }

    fn hand_over(&self, rated: Vec<Rated>, metrics: &Metrics) {
        if !rated.is_empty() {
            metrics.accruals_rated.inc_by(rated.len() as u64);
            self.sink.tell(Message::Rated(rated));
        }
    }

    /// Rates whom somebody asks for, and has the answer given once that is written. Of everybody, a
    /// bounded number.
    pub(super) fn answer<P: Projection>(
        &mut self,
        engine: &mut Engine<P>,
        metrics: &Metrics,
        tenant: Option<TenantId>,
        answer: oneshot::Sender<Freshness>,
    ) {
        let now_by_wall = crate::time::now();
        let now = Instant::now();
        match tenant {
            None => self.rate(engine, metrics, now + SLICE, ASKED_MAX),
            Some(tenant) => {
                // What others pay of it is in their periods.
                let mut concerned = engine.payers_of(&tenant);
                concerned.push(tenant);
                let is_resting =
                    |name: &TenantId| self.resting.get(name).is_some_and(|r| r.until > now);
                concerned.retain(|name| !is_resting(name));
                let rated = concerned.into_iter().take(ASKED_MAX);
                let rated = rated.filter_map(|name| self.rate_one(engine, name, Instant::now()));
                let rated = rated.collect();
                self.hand_over(rated, metrics);
            }
        }
        self.freshness(engine, metrics);
        self.sink.tell(Message::Written(Asked {
            answer,
            waiting: engine.changed_count(),
            since: self.since(engine, metrics).unwrap_or(now_by_wall),
            now: now_by_wall,
        }));
    }

    /// The first change that is not in the figures, if any is not.
    fn since<P: Projection>(&self, engine: &mut Engine<P>, metrics: &Metrics) -> Option<Timestamp> {
        let resting = self.resting.values().filter_map(|rest| rest.changed);
        let first = engine.first_changed().map(|(stamp, _)| stamp);
        // What is not even folded is as old as the last that is.
        let behind = (metrics.fold_lag.get() > 0).then(|| engine.stamp());
        resting.chain(first).chain(behind).min()
    }

    /// How old the accruals are, which the metrics say too.
    fn freshness<P: Projection>(&self, engine: &mut Engine<P>, metrics: &Metrics) -> Freshness {
        let now = crate::time::now();
        let unwritten = self.sink.unwritten_since();
        let since = self.since(engine, metrics).into_iter().chain(unwritten);
        let since = since.min().unwrap_or(now);
        let freshness = Freshness::new(engine.changed_count(), since, now);
        #[expect(clippy::cast_precision_loss, reason = "for people: seconds, not years")]
        metrics
            .accrual_age
            .set(freshness.age_millis as f64 / 1000.0);
        let waiting = i64::try_from(freshness.waiting).unwrap_or(i64::MAX);
        metrics.accrual_waiting.set(waiting);
        freshness
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) {
        self.sink.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// How old accruals become at most, and which part of the time goes into them, if that many tenants
    /// change all the time and each takes so long.
    fn simulate(tenants: usize, each: Duration) -> (Duration, f64) {
        let (mut now, mut spent) = (Duration::ZERO, Duration::ZERO);
        let mut oldest = Duration::ZERO;
        let mut changed: VecDeque<Duration> = std::iter::repeat_n(now, tenants).collect();
        while now < Duration::from_mins(10) {
            let begun = now;
            let age = changed
                .front()
                .map_or(Duration::ZERO, |since| begun.saturating_sub(*since));
            while now < begun + SLICE {
                let Some(since) = changed.pop_front() else {
                    break;
                };
                now += each;
                oldest = oldest.max(now.saturating_sub(since));
                // It has changed again while it was rated.
                changed.push_back(now);
            }
            let slice = now.saturating_sub(begun);
            spent += slice;
            now += pause(slice, age);
        }
        (oldest, spent.as_secs_f64() / now.as_secs_f64())
    }

    #[test]
    fn no_accrual_becomes_a_minute_old() {
        // Ten meters each, at three times what they take.
        let (oldest, share) = simulate(100_000, Duration::from_micros(60));
        assert!(oldest < Duration::from_mins(1), "{oldest:?}");
        assert!(share < 0.5, "{share}");
        let (oldest, _) = simulate(300_000, Duration::from_micros(60));
        assert!(oldest < Duration::from_mins(1), "{oldest:?}");
    }

    #[test]
    fn few_tenants_take_hardly_any_time() {
        let (oldest, share) = simulate(100, Duration::from_micros(60));
        assert!(oldest < Duration::from_secs(1), "{oldest:?}");
        assert!(share <= 0.101, "{share}");
    }
}
