//! Applications that count in pages of their own, beside the agent.
//!
//! An application outlives the agent's process and ends when it likes. What it has counted is
//! accepted the moment it is in a page that an agent has taken, or an agent takes that page; as
//! long as the page is there, no kill of the agent may lose it. A page that vanishes while no
//! agent runs takes with it what nobody has looked at, and the next agent says so. What is in a
//! page that no agent has ever taken, or that was declared lost before it came back, is nobody's
//! promise: it is not accepted, and may not be billed. A forged page holds whatever its application likes, and harms only the tenant that
//! this may count for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate::page::at;
use tollgate::page_writer::PageWriter;
use tollgate_agent_core::aggregate::PageKey;
use tollgate_agent_core::attribute::{Attributor, Glob, Meter};
use tollgate_agent_core::config::{SdkAllow, SdkTenants};
use tollgate_agent_core::input::live::Live;
use tollgate_agent_core::input::page::{MISSING_GRACE_MILLIS, PageRefusal, PageTally, Pass};
use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, Dimensions, SeriesKey, Timestamp};

use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::oracle::Key;
use super::super::random::Random;
use super::super::workload::{self, FORGER, Series};
use super::{AgentNode, LastStop, SimEngine, SimRegion};

/// The writer that pages are counted through.
pub(super) const WRITER: &str = "sdk";
const WORDS: usize = 2048;
const SLOTS: usize = 16;
const USER: u32 = 1000;
const FORGER_USER: u32 = 1001;
/// Looks after which the last page of an application must be counted.
const LAST_PASSES: u32 = 4;

/// An application and its page.
pub(super) struct App {
    page: PageWriter,
    cells: Vec<(Series, usize)>,
    /// Its name, once an agent has taken it. Cells keep it, whoever runs.
    known: Option<PageKey>,
    /// Counted while no agent knew the page.
    early: BTreeMap<Key, i128>,
    /// Counted, and not known to be copied by an agent that knows the page.
    pending: BTreeMap<Key, i128>,
    /// Set while an agent has it.
    taken: Option<PageKey>,
    /// An agent has looked at it and counted.
    counted: bool,
    /// The agent has declared it lost.
    declared: bool,
    /// The agent does not take it any more; the application counts in another one.
    given_up: bool,
    /// The application does not hand its page over again before this instant.
    away_until: Timestamp,
}

/// What the agent's host knows of pages that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knows {
    /// They were there, or that its cells are lost.
    Known,
    /// It is set back to a time before.
    Nothing,
}

/// A page in which nothing can be relied on.
pub(super) struct Forged {
    page: PageWriter,
    taken: Option<PageKey>,
}

fn allow(tenant: &str) -> SdkAllow {
    SdkAllow {
        uid: None,
        gid: None,
        tenants: SdkTenants::Patterns(vec![Glob::new(tenant)]),
        meters: Vec::new(),
    }
}

fn attributor(series: &[Series]) -> Attributor {
    let meters = series.iter().map(|series| {
        let meter = Meter {
            unit: String::new(),
            scale: series.scale,
            aggregation: series.aggregation,
            inexact: Inexact::Reject,
        };
        (series.key.meter().clone(), meter)
    });
    Attributor::new(meters.collect(), Vec::new())
}

/// The pages of one host.
#[derive(Default)]
pub(super) struct Apps {
    app: Option<App>,
    forged: Option<Forged>,
}

impl Apps {
    fn new_app(series: &[Series], random: &mut Random) -> App {
        let mut page = PageWriter::new(WORDS, SLOTS, random.bytes());
        let sums: Vec<_> = series
            .iter()
            .filter(|series| series.aggregation == Aggregation::Sum && series.scale.get() == 0)
            .collect();
        let cells = [0, sums.len() / 2].map(|at| {
            let key = sums[at].key.to_canonical();
            (sums[at].clone(), page.slot_of_key(&key, Aggregation::Sum))
        });
        App {
            page,
            cells: cells.into(),
            known: None,
            early: BTreeMap::new(),
            pending: BTreeMap::new(),
            taken: None,
            counted: false,
            declared: false,
            given_up: false,
            away_until: Timestamp::EPOCH,
        }
    }

    fn new_forged(random: &mut Random) -> Forged {
        let mut page = PageWriter::new(WORDS, SLOTS, random.bytes());
        let meters = [
            ("net.bytes", Aggregation::Sum),
            ("net.peak", Aggregation::Max),
            ("http.users", Aggregation::Unique),
            ("http.size", Aggregation::Distribution),
            ("cpu.cores", Aggregation::TimeWeighted),
            ("seats", Aggregation::Last),
        ];
        for (meter, aggregation) in meters {
            let (tenant, meter) = (workload::tenant(FORGER), workload::meter(meter));
            let key = SeriesKey::new(tenant, meter, Dimensions::none()).expect("short");
            page.slot_of_key(&key.to_canonical(), aggregation);
        }
        Forged { page, taken: None }
    }

    /// The application counts a little.
    fn count(&mut self, agent: usize, random: &mut Random, context: &mut Context) {
        if let Some(app) = &mut self.app {
            for _ in 0..=random.below(2) {
                let (series, cell) = &app.cells[random.index(app.cells.len())];
                let quantity = workload::quantity(random);
                app.page.add(*cell, quantity);
                let key = (series.key.tenant().clone(), series.key.meter().clone());
                let counted = i128::from(quantity);
                if app.known.is_some() {
                    let one = BTreeMap::from([(key.clone(), counted)]);
                    context.oracle.accepted_in_page(&one);
                    *app.pending.entry(key).or_default() += counted;
                } else {
                    *app.early.entry(key).or_default() += counted;
                }
                context.trace.event(
                    context.now,
                    format_args!(
                        "application of agent {agent} counts {quantity} of {}",
                        series.key
                    ),
                );
            }
        }
        if let Some(forged) = &self.forged {
            for _ in 0..random.below(20) {
                // Rarely the header, which ends the page.
                let from = if random.chance(20) { 0 } else { at::COUNT };
                let at = from + random.index(WORDS / 4 - from);
                let value = match random.below(3) {
                    0 => random.bits(),
                    1 => random.below(5000),
                    _ => u64::try_from(context.now.millis()).unwrap_or(0),
                };
                forged.page.put(at, value);
            }
        }
    }

    /// The agent's process has ended; the pages are still there.
    pub(super) fn agent_ended(&mut self) {
        if let Some(app) = &mut self.app {
            app.taken = None;
        }
        if let Some(forged) = &mut self.forged {
            forged.taken = None;
        }
    }

    /// The applications end with no agent there: what was not taken is gone, and nobody can
    /// say how much it was.
    pub(super) fn vanish(&mut self, knows: Knows, context: &mut Context) {
        if let Some(app) = self.app.take() {
            app.lost(knows, context);
        }
        self.forged = None;
    }
}

impl App {
    /// The page is gone.
    fn lost(self, knows: Knows, context: &mut Context) {
        if self.known.is_none() && !self.early.is_empty() {
            context.hit(Probe::PageNeverTaken);
        }
        match knows {
            Knows::Known => context.oracle.page_missed(&self.pending),
            Knows::Nothing => context.oracle.page_forgotten(&self.pending),
        }
    }

    /// The agent says that the page did not come back. What comes into it from now on is nobody's.
    fn told(&mut self, context: &mut Context) {
        context
            .oracle
            .page_missed(&std::mem::take(&mut self.pending));
        self.known = None;
        self.declared = true;
    }
}

impl AgentNode {
    /// Counts pages from now on.
    pub(super) fn tally(
        &mut self,
        engine: &SimEngine,
        context: &mut Context,
    ) -> Result<Option<PageTally<SimRegion>>, Broken> {
        let options = &context.options;
        if !(options.pages || options.forged_pages) {
            return Ok(None);
        }
        let writer = engine.writer(WRITER).map_err(|error| error.to_string())?;
        let live = Arc::new(Live::new(attributor(&self.series)));
        let steady = context.now.plus_millis(self.offset);
        let tally = PageTally::new(
            writer,
            live,
            engine.declarations(),
            self.random.bits(),
            (engine.alive_before(), steady),
        );
        // Applications went on while no agent was there.
        self.apps.count(self.index, &mut self.random, context);
        Ok(tally)
    }

    /// Applications count, and the agent looks at their pages.
    pub(super) fn count_pages(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.apps.app.take_if(|app| app.given_up);
        if self.last_stop == LastStop::Running {
            if context.options.pages && self.apps.app.is_none() {
                self.apps.app = Some(Apps::new_app(&self.series, &mut self.random));
            }
            if context.options.forged_pages && self.apps.forged.is_none() {
                self.apps.forged = Some(Apps::new_forged(&mut self.random));
            }
            self.apps.count(self.index, &mut self.random, context);
        }
        let steady = self.steady(context.now);
        let marks = self.random.chance(700);
        let Some(tally) = self.process.as_mut().and_then(|p| p.tally.as_mut()) else {
            return Ok(());
        };
        tally.poll_retired(steady);
        while let Some(vanished) = tally.poll_vanished(steady) {
            context.hit(Probe::PageVanished);
            let app = self.apps.app.as_mut();
            if let Some(app) = app.filter(|app| app.known == Some(vanished.page)) {
                app.told(context);
            }
        }
        if let Some(forged) = &mut self.apps.forged {
            look_at_forged(tally, forged, steady, context);
        }
        if let Some(app) = &mut self.apps.app {
            let again = app.known.is_some() && app.taken.is_none();
            if again && app.away_until < context.now && self.random.chance(60) {
                // It does not get to it for longer than the agent waits.
                app.away_until = context.now.plus_millis(MISSING_GRACE_MILLIS + 30_000);
            }
            if app.away_until <= context.now {
                take(tally, app, (self.index, marks), steady, context)?;
            }
            look_at(tally, app, self.index, (steady, false), context)?;
        }
        Ok(())
    }

    /// The application ends. The agent holds its page and counts it for the last time.
    pub fn end_application(&mut self, context: &mut Context) -> Result<(), Broken> {
        let steady = self.steady(context.now);
        let Some(tally) = self.process.as_mut().and_then(|p| p.tally.as_mut()) else {
            self.apps.vanish(Knows::Known, context);
            return Ok(());
        };
        if let Some(forged) = self.apps.forged.take()
            && let Some(key) = forged.taken
        {
            tally.handle_end(key, steady);
        }
        let Some(mut app) = self.apps.app.take() else {
            return Ok(());
        };
        take(tally, &mut app, (self.index, false), steady, context)?;
        let mut pass = None;
        for _ in 0..LAST_PASSES {
            pass = look_at(tally, &mut app, self.index, (steady, true), context)?;
        }
        if let Some(key) = app.taken {
            context.hit(Probe::PageOrphan);
            tally.handle_end(key, steady);
        }
        if pass != Some(Pass::Complete) {
            let room = context.options.has_room_for_all() && !context.options.forged_pages;
            // Nobody looks at a page that is quarantined.
            if room && pass.is_some() {
                return Err(format!(
                    "agent {} left a page with room for it: {pass:?}",
                    self.index
                ));
            }
            // What is in the agent's hands and finds no room is not told as missed.
            app.lost(Knows::Nothing, context);
        }
        Ok(())
    }
}

fn take(
    tally: &mut PageTally<SimRegion>,
    app: &mut App,
    (agent, marks): (usize, bool),
    now: Timestamp,
    context: &mut Context,
) -> Result<(), Broken> {
    if app.taken.is_some() {
        if marks {
            // The application hears of it a little later.
            app.page.put(at::HOME, tally.mirror());
        }
        return Ok(());
    }
    match tally.handle_page(&app.page.words, USER, &allow("*"), now) {
        Ok(key) => {
            app.taken = Some(key);
            app.known = Some(key);
            let early = std::mem::take(&mut app.early);
            context.oracle.accepted_in_page(&early);
            for (key, counted) in early {
                *app.pending.entry(key).or_default() += counted;
            }
            if app.counted {
                context.hit(Probe::PageAgain);
            }
            Ok(())
        }
        Err(why) => {
            context.trace(format_args!("agent {agent} takes no page: {why}"));
            let full = !context.options.has_room_for_all() || context.options.forged_pages;
            match why {
                // The application keeps it until the declaration is durable.
                PageRefusal::Declaring if app.declared => Ok(()),
                PageRefusal::Quarantined if app.declared => {
                    app.given_up = true;
                    context.hit(Probe::PageQuarantined);
                    Ok(())
                }
                PageRefusal::Full if full => Ok(()),
                why => Err(format!("agent {agent} refuses an honest page: {why}")),
            }
        }
    }
}

fn look_at(
    tally: &mut PageTally<SimRegion>,
    app: &mut App,
    agent: usize,
    (now, orphaned): (Timestamp, bool),
    context: &mut Context,
) -> Result<Option<Pass>, Broken> {
    let Some(key) = app.taken else {
        return Ok(None);
    };
    let pass = tally.handle_pass(key, &app.page.words, now, orphaned);
    match pass {
        Pass::Complete => {
            context.hit(Probe::PageCounted);
            app.counted = true;
            context
                .oracle
                .page_taken(agent, &std::mem::take(&mut app.pending));
        }
        Pass::Quarantined => return Err(format!("agent {agent} quarantines its own page")),
        Pass::More | Pass::NotYet => {}
    }
    Ok(Some(pass))
}

fn look_at_forged(
    tally: &mut PageTally<SimRegion>,
    forged: &mut Forged,
    now: Timestamp,
    context: &mut Context,
) {
    let words = &forged.page.words;
    if let Ok(key) = tally.handle_page(words, FORGER_USER, &allow(FORGER), now) {
        forged.taken = Some(key);
    }
    if let Some(key) = forged.taken {
        forged.page.put(at::HOME, tally.mirror());
        tally.handle_pass(key, words, now, false);
        context.hit(Probe::PageForged);
    }
}
