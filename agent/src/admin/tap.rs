//! Taps: those who watch events as they are attributed.
//!
//! While nobody taps, inputs know no observer. A tap never holds an input back: what does not
//! fit, what is above the rate asked for and what the reader is too slow for is counted and
//! not kept, and the reader is told.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use tollgate_agent_core::attribute::Glob;
use tollgate_agent_core::input::Source;
use tollgate_agent_core::input::live::{Live, Observer, Seen};

use super::watch::{TapProgress, TapQuery, Tapped};

/// Most taps at a time.
const TAPS_MAX: usize = 4;
/// Events that may wait for a reader; each is at most a line of input.
const QUEUE_MAX: usize = 256;
/// Events a second, if nobody asks for another number.
const RATE: u32 = 100;
/// Most events a second that can be asked for.
const RATE_MAX: u32 = 10_000;
/// Longest raw text that is shown, in bytes.
const RAW_BYTES_MAX: usize = 1024;

/// All taps of an agent.
pub(crate) struct Taps {
    live: Arc<Live>,
    open: Mutex<Vec<Arc<Tap>>>,
}

/// A tap that is open; closed when dropped.
pub(crate) struct OpenTap {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    /// What fits, in order.
    pub(crate) events: Receiver<Tapped>,
}

struct Tap {
    input: Option<Glob>,
    tenant: Option<Glob>,
    meter: Option<Glob>,
    metric: Option<Glob>,
    rejected: bool,
    rate: u32,
    second: Mutex<(Instant, u32)>,
    events: Sender<Tapped>,
    matched: AtomicU64,
    skipped: AtomicU64,
    dropped: AtomicU64,
}

impl Taps {
    pub(crate) fn new(live: Arc<Live>) -> Arc<Self> {
        Arc::new(Self {
            live,
            open: Mutex::default(),
        })
    }

    /// Begins to watch; `None` if too many do.
    pub(crate) fn open(self: &Arc<Self>, query: &TapQuery) -> Option<OpenTap> {
        let glob = |text: &Option<String>| text.as_deref().map(Glob::new);
        let (events, receiver) = bounded(QUEUE_MAX);
        let tap = Arc::new(Tap {
            input: glob(&query.input),
            tenant: glob(&query.tenant),
            meter: glob(&query.meter),
            metric: glob(&query.metric),
            rejected: query.rejected,
            rate: query.rate.unwrap_or(RATE).clamp(1, RATE_MAX),
            second: Mutex::new((Instant::now(), 0)),
            events,
            matched: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == TAPS_MAX {
            return None;
        }
        open.push(Arc::clone(&tap));
        self.tell(&open);
        Some(OpenTap {
            taps: Arc::clone(self),
            tap,
            events: receiver,
        })
    }

    fn close(&self, tap: &Arc<Tap>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !Arc::ptr_eq(other, tap));
        self.tell(&open);
    }

    /// Inputs get a list of their own, so that they need no lock to read it.
    fn tell(&self, open: &[Arc<Tap>]) {
        let observer: Option<Arc<dyn Observer>> = if open.is_empty() {
            None
        } else {
            Some(Arc::new(Watchers(open.to_vec())))
        };
        self.live.set_observer(observer);
    }
}

impl OpenTap {
    pub(crate) fn progress(&self) -> TapProgress {
        TapProgress {
            matched: self.tap.matched.load(Relaxed),
            skipped: self.tap.skipped.load(Relaxed),
            dropped: self.tap.dropped.load(Relaxed),
        }
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        self.taps.close(&self.tap);
    }
}

struct Watchers(Vec<Arc<Tap>>);

impl Observer for Watchers {
    fn observe(&self, seen: &Seen<'_>) {
        let mut tapped = None;
        for tap in self.0.iter().filter(|tap| tap.fits(seen)) {
            tap.matched.fetch_add(1, Relaxed);
            if !tap.has_room() {
                tap.skipped.fetch_add(1, Relaxed);
                continue;
            }
            let event = tapped.get_or_insert_with(|| describe(seen)).clone();
            if tap.events.try_send(event).is_err() {
                tap.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Tap {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let fits = |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|g| g.matches(text));
        let series = seen.target.map(|target| &target.series);
        let tenant = series.map_or("", |series| series.tenant().as_str());
        let meter = series.map_or("", |series| series.meter().as_str());
        (!self.rejected || seen.rejection.is_some())
            && (fits(&self.input, seen.source.input().as_str())
                || fits(&self.input, &input_name(seen.source)))
            && fits(&self.tenant, tenant)
            && fits(&self.meter, meter)
            && fits(&self.metric, seen.metric)
    }

    /// Takes one of the events of this second. An input that finds another one counting
    /// skips the event rather than wait.
    fn has_room(&self) -> bool {
        let Ok(mut second) = self.second.try_lock() else {
            return false;
        };
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        second.1 <= self.rate
    }
}

fn input_name(source: Source) -> String {
    match source.listener() {
        Some(listener) => format!("{}.{}", source.input(), listener.as_str()),
        None => source.input().to_string(),
    }
}

fn describe(seen: &Seen<'_>) -> Tapped {
    let raw = &seen.raw[..seen.raw.len().min(RAW_BYTES_MAX)];
    let series = seen.target.map(|target| &target.series);
    Tapped {
        input: input_name(seen.source),
        // Control characters of a sender must not reach the terminal of whoever watches.
        raw: String::from_utf8_lossy(raw)
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
        tenant: series.map(|series| series.tenant().to_string()),
        meter: series.map(|series| series.meter().to_string()),
        dimensions: series.map(|series| format!("{{{}}}", series.dimensions())),
        value: (!seen.values.is_empty()).then(|| seen.values.to_owned()),
        rejected: seen.rejection.map(|reason| reason.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tollgate_agent_core::aggregate::Rejection;
    use tollgate_agent_core::attribute::{Attributor, Target};
    use tollgate_common::quantity::Inexact;
    use tollgate_common::{Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId};

    use super::*;

    fn target(tenant: &str) -> Target {
        let tenant = TenantId::new(tenant).expect("valid");
        let meter = MeterName::new("requests").expect("valid");
        Target {
            series: SeriesKey::new(tenant, meter, Dimensions::none()).expect("short"),
            aggregation: Aggregation::Sum,
            scale: Scale::ZERO,
            inexact: Inexact::Round,
            millis_divisor: None,
        }
    }

    fn see(live: &Live, target: Option<&Target>, rejection: Option<Rejection>) {
        let (_, current) = live.current();
        let Some(observer) = current.observer else {
            return;
        };
        observer.observe(&Seen {
            source: Source::Admin,
            raw: b"http.get\x1b[2J",
            metric: "http.get",
            target,
            values: "1",
            rejection,
        });
    }

    #[test]
    fn taps_see_what_fits_and_never_hold_an_input_back() {
        let live = Arc::new(Live::new(Attributor::new(BTreeMap::new(), Vec::new())));
        let taps = Taps::new(Arc::clone(&live));
        assert!(live.current().1.observer.is_none());
        let query = TapQuery {
            tenant: Some("ac*".to_owned()),
            rate: Some(1_000),
            ..TapQuery::default()
        };
        let (acme, umbrella) = (target("acme"), target("umbrella"));
        let tap = taps.open(&query).expect("room");
        let rejected = TapQuery {
            rejected: true,
            rate: Some(2),
            ..TapQuery::default()
        };
        let refused = taps.open(&rejected).expect("room");
        see(&live, Some(&acme), None);
        see(&live, Some(&umbrella), None);
        let event = tap.events.try_recv().expect("one fits");
        assert_eq!(event.tenant.as_deref(), Some("acme"));
        assert!(!event.raw.contains('\x1b'), "{event:?}");
        assert!(tap.events.try_recv().is_err() && refused.events.try_recv().is_err());
        for _ in 0..5 {
            see(&live, None, Some(Rejection::Malformed));
        }
        let progress = refused.progress();
        assert_eq!((progress.matched, progress.skipped), (5, 3));
        // A reader that does not read loses events, and is told how many.
        for _ in 0..600 {
            see(&live, Some(&acme), None);
        }
        let progress = tap.progress();
        assert_eq!(
            (progress.matched, progress.dropped),
            (601, 600 - QUEUE_MAX as u64)
        );
        let more: Vec<_> = (0..3).filter_map(|_| taps.open(&query)).collect();
        assert_eq!(more.len(), TAPS_MAX - 2);
        drop((tap, refused, more));
        assert!(
            live.current().1.observer.is_none(),
            "nobody watches any more"
        );
    }
}
