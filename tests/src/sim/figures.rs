//! The oracle's part for figures that are no plain sums: the newest and the largest value of a
//! period, how many values differed, how they were distributed, and levels over time.
//!
//! In a world where nothing is destroyed and every window is sealed, each of them has to be
//! exact. Where seals are rare, a value may be told for a later window of its series, and so
//! perhaps in a later period; but the largest and the newest of all are billed, no different
//! value is missing, and what is cumulative stays exact. Elsewhere none may say more than was
//! seen. A meter whose series lost their dimensions
//! to a limit is billed for the series that had room and for those that had none together: each
//! of the two has its own newest, largest or distinct values.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::ledger::{EntryKind, LedgerEntry, Posting};
use tollgate_common::sketch::Histogram;
use tollgate_common::{Aggregation, TenantId, Timestamp};

use super::coverage::{Coverage, Probe};
use super::money::Versions;
use super::options::Options;
use super::oracle::Key;
use super::workload::{FORGER, Series, TENANTS};

/// A value that was set or seen.
#[derive(Clone, Copy, Debug)]
struct Reading {
    window: Timestamp,
    agent: usize,
    value: u64,
    /// The series had lost its dimensions to a limit.
    overflow: bool,
}

/// Knows what was set, seen and recorded.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    readings: BTreeMap<Key, (Option<Aggregation>, Vec<Reading>)>,
    recorded: BTreeMap<Key, Histogram>,
    /// Levels that hold, by agent, and since when.
    levels: BTreeMap<(usize, Key), (u64, Timestamp)>,
    /// Level times milliseconds up to the last change.
    integrals: BTreeMap<Key, i128>,
    /// Seals were rare.
    rare: bool,
}

/// What figures have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exact {
    /// What was seen in each period.
    Periods,
    /// What was seen in all, whatever period it is in.
    Altogether,
    /// No more than was seen.
    Bounded,
}

impl Figures {
    /// Seals are rare: a value may be told for a later window.
    pub fn seals_are_rare(&mut self) {
        self.rare = true;
    }

    /// An agent has taken a value for a window of the time `at`, for the series or
    /// (`overflow`) for those beyond a limit.
    pub fn taken(
        &mut self,
        agent: usize,
        (series, overflow): (&Series, bool),
        (window, at): (Timestamp, Timestamp),
        value: u64,
    ) {
        let key = (series.key.tenant().clone(), series.key.meter().clone());
        match series.aggregation {
            Aggregation::Sum => {}
            Aggregation::Distribution => {
                let histogram = self.recorded.entry(key).or_default();
                histogram.record(value, 1).expect("few values");
            }
            Aggregation::TimeWeighted => {
                let before = self.levels.insert((agent, key.clone()), (value, at));
                self.add_level(key, before, at);
            }
            Aggregation::Last | Aggregation::Max | Aggregation::Unique => {
                let (aggregation, readings) = self.readings.entry(key).or_default();
                *aggregation = Some(series.aggregation);
                readings.push(Reading {
                    window,
                    agent,
                    value,
                    overflow,
                });
            }
        }
    }

    fn add_level(&mut self, key: Key, held: Option<(u64, Timestamp)>, until: Timestamp) {
        let integral = self.integrals.entry(key).or_default();
        if let Some((level, since)) = held {
            *integral += i128::from(level) * i128::from(until.millis_since(since));
        }
    }

    /// The agent has made its last cut.
    pub fn ended(&mut self, agent: usize, at: Timestamp) {
        let of_agent = self.levels.extract_if(.., |(of, _), _| *of == agent);
        for ((_, key), held) in of_agent.collect::<Vec<_>>() {
            self.add_level(key, Some(held), at);
        }
    }

    /// Whether every figure has to be exact.
    fn exact(&self, options: &Options) -> Exact {
        match (options.is_exact(), self.rare) {
            (false, _) => Exact::Bounded,
            (true, false) => Exact::Periods,
            (true, true) => Exact::Altogether,
        }
    }

    /// Checks what the ledger and the usage tables say once every period is closed.
    pub fn check(
        &self,
        options: &Options,
        ledger: &[LedgerEntry],
        recorded: &BTreeMap<Key, Histogram>,
        versions: &Versions,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let exact = self.exact(options);
        match exact {
            Exact::Periods => coverage.hit(Probe::ExactRun),
            Exact::Altogether => coverage.hit(Probe::ExactTotals),
            Exact::Bounded => {}
        }
        // Policy refuses a part of the first tenant's usage.
        let refused = |key: &Key| options.forbidden_tenant && key.0.as_str() == TENANTS[0];
        check_declarations(ledger)?;
        let billed = billed(ledger);
        for (key, (aggregation, readings)) in &self.readings {
            let exact = if refused(key) { Exact::Bounded } else { exact };
            let periods = billed.get(key);
            if let Some(aggregation) = aggregation {
                let is_paid = |window| versions.payer(&key.0, window).is_some();
                let seen = Seen {
                    aggregation: *aggregation,
                    key,
                    readings,
                    is_paid: &is_paid,
                };
                seen.check(periods, (exact, options), coverage)?;
            }
            if exact == Exact::Periods && readings.iter().any(|reading| reading.overflow) {
                coverage.hit(Probe::ExactOverflow);
            }
        }
        let exact = exact != Exact::Bounded;
        if exact {
            self.check_recorded(recorded, &refused)?;
        }
        let bounded = options.has_room_for_all()
            && options.faults.clock_jump.is_none()
            && options.faults.image.is_none();
        if bounded {
            self.check_levels(&billed, exact, &refused, coverage)?;
        }
        Ok(())
    }

    fn check_recorded(
        &self,
        recorded: &BTreeMap<Key, Histogram>,
        refused: &impl Fn(&Key) -> bool,
    ) -> Result<(), String> {
        for (key, ours) in self.recorded.iter().filter(|(key, _)| !refused(key)) {
            if recorded.get(key) != Some(ours) {
                let (tenant, meter) = key;
                return Err(format!("{tenant}/{meter} is not distributed as recorded"));
            }
        }
        Ok(())
    }

    fn check_levels(
        &self,
        billed: &Billed,
        exact: bool,
        refused: &impl Fn(&Key) -> bool,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        for (key, integral) in &self.integrals {
            let periods = billed.get(key).into_iter().flat_map(BTreeMap::values);
            let sum: i128 = periods.map(|period| period.quantity).sum();
            let exact = exact && !refused(key);
            if sum > *integral || (exact && sum != *integral) {
                let (tenant, meter) = key;
                return Err(format!(
                    "{tenant}/{meter}: {integral} level x ms held, {sum} billed (exact: {exact})"
                ));
            }
            if exact && sum > 0 {
                coverage.hit(Probe::ExactLevel);
            }
        }
        Ok(())
    }
}

struct Period {
    end: Timestamp,
    quantity: i128,
}

/// When a period begins, and whether it is that of another tenant who pays.
type Begin = (Timestamp, bool);

type Billed = BTreeMap<Key, BTreeMap<Begin, Period>>;

/// What the ledger bills, by period.
fn billed(ledger: &[LedgerEntry]) -> Billed {
    let mut billed = Billed::new();
    for posting in ledger.iter().map(|entry| &entry.posting) {
        let (Some(tenant), Some(meter)) = (&posting.tenant, &posting.meter) else {
            continue;
        };
        let counts = matches!(
            posting.kind,
            EntryKind::Charge
                | EntryKind::Adjustment
                | EntryKind::Reversal
                | EntryKind::Unrated
                | EntryKind::Share
        );
        if !counts || tenant.as_str() == FORGER {
            continue;
        }
        let (start, end) = period_of(posting);
        let mut add = |tenant: &TenantId, shared, quantity| {
            let periods = billed.entry((tenant.clone(), meter.clone())).or_default();
            let period = periods.entry((start, shared));
            period.or_insert(Period { end, quantity: 0 }).quantity += quantity;
        };
        let quantity = posting.quantity.units();
        add(tenant, posting.payer.is_some(), quantity);
        // The line that it is a share of is the payer's, but this usage is not.
        if let (EntryKind::Share, Some(payer)) = (posting.kind, &posting.payer) {
            add(payer, false, -quantity);
        }
    }
    billed
}

/// The period that a line is of, wherever it is booked.
pub(super) fn period_of(posting: &Posting) -> (Timestamp, Timestamp) {
    late_of(posting).unwrap_or((posting.start, posting.end))
}

/// The period whose late usage an adjustment books in another one.
fn late_of(posting: &Posting) -> Option<(Timestamp, Timestamp)> {
    let (_, rest) = posting
        .arithmetic
        .strip_prefix("late usage of ")?
        .split_once('[')?;
    let (period, _) = rest.split_once(')')?;
    let (start, end) = period.split_once(", ")?;
    let instant = |text| tollgate_collector::time::parse_instant(text).ok();
    Some((instant(start)?, instant(end)?))
}

/// Agents and catalogs declare meters alike here, so that nothing may be unrated for that.
fn check_declarations(ledger: &[LedgerEntry]) -> Result<(), String> {
    let reasons = ["scale_mismatch", "aggregation_mismatch"];
    let postings = ledger.iter().map(|entry| &entry.posting);
    let unlike = postings
        .filter(|posting| posting.kind == EntryKind::Unrated)
        .find(|posting| reasons.contains(&posting.line.as_str()));
    match unlike {
        Some(posting) => Err(format!("declared alike and not rated: {posting:?}")),
        None => Ok(()),
    }
}

/// What was seen of one tenant and meter.
struct Seen<'a> {
    aggregation: Aggregation,
    key: &'a Key,
    readings: &'a [Reading],
    /// Whether another tenant paid for a window.
    is_paid: &'a dyn Fn(Timestamp) -> bool,
}

impl Seen<'_> {
    fn check(
        &self,
        periods: Option<&BTreeMap<Begin, Period>>,
        (exact, options): (Exact, &Options),
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let (tenant, meter) = self.key;
        let aggregation = self.aggregation;
        // What a second receiver appends later comes later.
        let ordered = aggregation != Aggregation::Last || options.faults.replay.is_none();
        if exact == Exact::Altogether && ordered {
            self.check_altogether(periods)?;
        }
        let exact = exact == Exact::Periods;
        let mut covered = 0;
        let mut kinds = [false; 2];
        for ((start, shared), period) in periods.into_iter().flatten() {
            // Who joins a payer within a period has a part of it alone and another one with him.
            let inside = |reading: &&Reading| {
                (*start..period.end).contains(&reading.window)
                    && (self.is_paid)(reading.window) == *shared
            };
            let count = self.readings.iter().filter(inside).count();
            covered += count;
            kinds[usize::from(*shared)] |= count > 0;
            // Rare seals and clocks may move a value to another window, never make one up.
            let most = each_room(self.readings, |readings| match aggregation {
                Aggregation::Unique => distinct(readings),
                _ => readings.map(|reading| reading.value).max().unwrap_or(0),
            });
            let expected = each_room(self.readings, |readings| match aggregation {
                Aggregation::Unique => distinct(readings.filter(inside)),
                Aggregation::Max => {
                    let values = readings.filter(inside).map(|reading| reading.value);
                    values.max().unwrap_or(0)
                }
                _ => readings
                    .filter(inside)
                    .max_by_key(|reading| (reading.window, reading.agent))
                    .map_or(0, |reading| reading.value),
            });
            let quantity = period.quantity;
            if quantity > most {
                return Err(format!(
                    "{tenant}/{meter} ({aggregation}): {quantity} billed in {start}, of {most}"
                ));
            }
            if exact && ordered && quantity != expected {
                return Err(format!(
                    "{tenant}/{meter} ({aggregation}): {quantity} billed in {start} (with a payer: {shared}), not {expected}"
                ));
            }
        }
        if exact && covered != self.readings.len() {
            return Err(format!(
                "{tenant}/{meter} ({aggregation}): {covered} of {} values lie in a billed period",
                self.readings.len()
            ));
        }
        if exact && kinds == [true; 2] {
            coverage.hit(Probe::ExactWithPayer);
        }
        Ok(())
    }

    /// Where a value may be told for a later window: nothing is lost by that.
    fn check_altogether(&self, periods: Option<&BTreeMap<Begin, Period>>) -> Result<(), String> {
        let readings = self.readings;
        // Of two rooms the figures of a period cannot be told apart.
        if readings.iter().any(|reading| reading.overflow) {
            return Ok(());
        }
        let quantities = || {
            let periods = periods.into_iter().flatten();
            periods.map(|(_, period)| period.quantity)
        };
        let (billed, expected) = match self.aggregation {
            Aggregation::Unique => {
                let all = i128::from(distinct(readings.iter()));
                (quantities().sum::<i128>().min(all), all)
            }
            Aggregation::Max => {
                let most = readings.iter().map(|reading| reading.value).max();
                let most = i128::from(most.unwrap_or(0));
                (quantities().max().unwrap_or(0), most)
            }
            _ => {
                // Nothing comes after it, so that its window is told.
                let newest = |reading: &&Reading| (reading.window, reading.agent);
                let Some(newest) = readings.iter().max_by_key(newest) else {
                    return Ok(());
                };
                let value = i128::from(newest.value);
                let is_paid = (self.is_paid)(newest.window);
                let mut periods = periods.into_iter().flatten();
                let of_it = periods.find(|((start, shared), period)| {
                    (*start..period.end).contains(&newest.window) && *shared == is_paid
                });
                (of_it.map_or(0, |(_, period)| period.quantity), value)
            }
        };
        if billed == expected {
            return Ok(());
        }
        let ((tenant, meter), aggregation) = (self.key, self.aggregation);
        Err(format!(
            "{tenant}/{meter} ({aggregation}): {billed} billed in all, not {expected}"
        ))
    }
}

/// The figure of the series that had room and that of those that had none, together.
fn each_room<'a>(
    readings: &'a [Reading],
    figure: impl Fn(&mut dyn Iterator<Item = &'a Reading>) -> u64,
) -> i128 {
    let of = |overflow| figure(&mut readings.iter().filter(move |r| r.overflow == overflow));
    i128::from(of(false)) + i128::from(of(true))
}

fn distinct<'a>(readings: impl Iterator<Item = &'a Reading>) -> u64 {
    let values: BTreeSet<_> = readings.map(|reading| reading.value).collect();
    values.len() as u64
}
