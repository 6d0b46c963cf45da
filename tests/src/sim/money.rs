//! Every bill once more, by hand: in whole cents and written down step by step.
//!
//! It knows the prices as plain figures ([`tariff`](super::tariff)), the usage as the fold passes it
//! on to projections, row by row, and the versions as the journal has them. At every closing, and
//! whenever a period is billed before it is over, it works out what the period costs so far, and the
//! ledger has to have booked just that: line by line, taxes, commitments and grants too, and what of
//! it is whose where one tenant pays for others. And so it has to of every later period that was booked
//! before, because a bill rests on those of earlier periods, in whatever order they are closed.

mod bill;
mod covered;
mod exact;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::catalog::timeline::takes_effect;
use tollgate_collector_core::effect::{Effect, PeriodState, PeriodStatus};
use tollgate_collector_core::entry::{Digest, Entry, Interim, OperatedAction, Rerate, Stamped};
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry};
use tollgate_collector_core::period::Period;
use tollgate_common::{Rollup, TenantId, Timestamp};

use bill::{Asked, Bill, Carried, Lines, Peaks, Usage};
use versions::{Slice, Version};

pub use versions::Versions;

use super::coverage::{Coverage, Probe};
use super::figures::period_of;
use super::options::Options;

/// A period of a tenant.
type Key = (TenantId, Timestamp);

/// A period that was closed.
#[derive(Clone, Copy, Debug)]
struct Closed {
    end: Timestamp,
    /// Something has come since that is not booked.
    late: bool,
    /// Versions that were there when it was closed first.
    known: usize,
    /// The version by which an operator had it rated anew.
    rerated: Option<u64>,
}

/// A row that came before its time.
#[derive(Debug)]
struct Ahead {
    /// Whose it is.
    user: TenantId,
    window: Timestamp,
    /// Versions that were there then.
    known: usize,
}

/// Works out bills by hand while a journal is read.
#[derive(Debug)]
pub struct Money<'o> {
    options: &'o Options,
    /// The numbers of catalogs.
    numbers: &'o BTreeMap<Digest, u64>,
    /// When the first version came.
    since: Option<Timestamp>,
    versions: Versions,
    /// By who is billed.
    usage: BTreeMap<TenantId, Usage>,
    peaks: BTreeMap<TenantId, Peaks>,
    ahead: BTreeMap<TenantId, Vec<Ahead>>,
    closed: BTreeMap<Key, Closed>,
    /// How often a period was billed before it was closed.
    parts: BTreeMap<Key, u32>,
    /// When periods end that were billed so.
    ends: BTreeMap<Key, Timestamp>,
    booked: BTreeMap<Key, Lines>,
    /// What others have of a payer's period.
    shares: BTreeMap<Key, BTreeMap<TenantId, Lines>>,
    carried: BTreeMap<TenantId, Carried>,
    /// Windows that an operator has corrected, by who is billed.
    corrected: BTreeMap<TenantId, BTreeSet<Timestamp>>,
    /// Those whose usage came before a version that prices it: nobody knows by hand what became
    /// of it.
    unknown: BTreeSet<TenantId>,
}

impl<'o> Money<'o> {
    /// Before the first entry.
    pub fn new(options: &'o Options, numbers: &'o BTreeMap<Digest, u64>) -> Self {
        Self {
            options,
            numbers,
            since: None,
            versions: Versions::new(options),
            usage: BTreeMap::new(),
            peaks: BTreeMap::new(),
            ahead: BTreeMap::new(),
            closed: BTreeMap::new(),
            parts: BTreeMap::new(),
            ends: BTreeMap::new(),
            booked: BTreeMap::new(),
            shares: BTreeMap::new(),
            carried: BTreeMap::new(),
            corrected: BTreeMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// Who paid for whom, as far as it was read.
    pub fn into_versions(self) -> Versions {
        self.versions
    }

    /// An entry of the journal with what the fold made of it.
    pub fn take(
        &mut self,
        stamped: &Stamped,
        effects: &[Effect],
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        match &stamped.entry {
            Entry::Catalog(change) if !change.proposed => {
                let number = self.numbers.get(&change.digest);
                self.since.get_or_insert(stamped.stamp);
                self.versions.add(Version {
                    from: takes_effect(stamped.stamp),
                    number: *number.ok_or("a catalog that nobody wrote is in force")?,
                    tenants: change.tenants.clone(),
                });
            }
            Entry::Operated(operated) => {
                if let OperatedAction::Rerate(rerate) = &operated.action {
                    self.rerate(rerate);
                }
            }
            _ => {}
        }
        let mut touched = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Rows(rows) => {
                    for (row, refused) in rows.rows() {
                        if refused.is_none() {
                            let is_corrected = matches!(stamped.entry, Entry::Operated(_));
                            self.count(stamped.stamp, row, is_corrected);
                        }
                    }
                }
                Effect::Ledger(entry) => touched.extend(self.book(entry)),
                _ => {}
            }
        }
        if let (Entry::Interim(interim), false) = (&stamped.entry, touched.is_empty()) {
            self.bill_so_far(interim, coverage)?;
        }
        for effect in effects {
            if let Effect::Period(state) = effect
                && state.status == PeriodStatus::Closed
            {
                self.close(state, coverage)?;
                self.close_later(state, &touched, coverage)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, stamp: Timestamp, row: &Rollup, is_corrected: bool) {
        let user = row.series.tenant().clone();
        if self.versions.find(&user).is_none() {
            return;
        }
        let window = row.window.start();
        let billed = self.versions.payer(&user, window);
        let billed = billed.unwrap_or_else(|| user.clone());
        if window > stamp {
            let known = self.versions.count();
            let ahead = self.ahead.entry(billed.clone()).or_default();
            ahead.push(Ahead {
                user: user.clone(),
                window,
                known,
            });
        }
        if is_corrected {
            let corrected = self.corrected.entry(billed.clone()).or_default();
            corrected.insert(window);
        }
        let mut earlier = self.closed.range_mut(..=(billed.clone(), window));
        if let Some(((tenant, _), closed)) = earlier.next_back()
            && (*tenant == billed && window < closed.end)
        {
            closed.late = true;
        }
        let (meter, units) = (row.series.meter().to_string(), row.value.units());
        if meter == "net.peak" {
            let series = self
                .peaks
                .entry(billed)
                .or_default()
                .entry(user)
                .or_default();
            let windows = series
                .entry(row.series.dimensions().to_string())
                .or_default();
            let largest = windows.entry(window).or_default();
            *largest = units.max(*largest);
            return;
        }
        let usage = self.usage.entry(billed).or_default();
        *usage
            .entry((user, meter))
            .or_default()
            .entry(window)
            .or_default() += units;
    }

    /// Of whose and which period the entry is.
    fn book(&mut self, entry: &LedgerEntry) -> Option<Key> {
        let posting = &entry.posting;
        let tenant = posting.tenant.as_ref()?;
        let (start, _) = period_of(posting);
        let key = (posting.payer.as_ref().unwrap_or(tenant).clone(), start);
        let (Some(role), Some(amount)) = (posting.role, posting.amount) else {
            return Some(key);
        };
        let lines = match (&posting.payer, posting.kind) {
            (Some(payer), EntryKind::Share) => {
                let shares = self.shares.entry((payer.clone(), start)).or_default();
                shares.entry(tenant.clone()).or_default()
            }
            _ => self.booked.entry((tenant.clone(), start)).or_default(),
        };
        let mut cents = amount;
        cents.rescale(2);
        *lines.entry((role, posting.line.clone())).or_default() += cents.mantissa();
        Some(key)
    }

    fn rerate(&mut self, rerate: &Rerate) {
        let number = self.numbers.get(&rerate.catalog).copied();
        if !number.is_some_and(|number| self.versions.had(number)) {
            return;
        }
        for ((tenant, start), closed) in &mut self.closed {
            if *tenant == rerate.tenant && (rerate.from..rerate.to).contains(start) {
                closed.rerated = number;
                closed.late = true;
            }
        }
    }

    /// True if a row of the period came before the version that prices it, or says who pays for it.
    fn is_ahead(&self, tenant: &TenantId, period: Period, known: usize) -> bool {
        let tariff = |known, instant| {
            let slices = self.versions.slices(tenant, period, known);
            let mut slices = slices.iter();
            slices
                .find(|slice| slice.span.contains(instant))
                .map(|slice| slice.tariff)
        };
        let payer = |row: &Ahead, known| self.versions.payer_by(&row.user, row.window, known);
        let mut rows = self.ahead.get(tenant).into_iter().flatten();
        rows.any(|row| {
            period.contains(row.window)
                && row.known < known
                && (tariff(row.known, row.window) != tariff(known, row.window)
                    || payer(row, row.known) != payer(row, known))
        })
    }

    /// True if nobody knows by hand what the period costs.
    fn is_unknown(&mut self, tenant: &TenantId, period: Period, known: usize) -> bool {
        if self.unknown.contains(tenant) || self.is_ahead(tenant, period, known) {
            self.unknown.insert(tenant.clone());
            return true;
        }
        false
    }

    /// A period was billed before it was over.
    fn bill_so_far(&mut self, interim: &Interim, coverage: &mut Coverage) -> Result<(), String> {
        let tenant = &interim.tenant;
        let key = (tenant.clone(), interim.start);
        let part = self.parts.entry(key.clone()).or_default();
        if interim.part < *part || self.closed.contains_key(&key) {
            return Err(format!("{tenant}: billed once more: {interim:?}"));
        }
        *part = interim.part + 1;
        self.ends.insert(key, interim.end);
        let period = Period {
            start: interim.start,
            end: interim.end,
        };
        if self.versions.find(tenant).is_some() {
            self.check_open(tenant, period, coverage)?;
        }
        Ok(())
    }

    /// The ledger says of a period that runs what it costs by hand.
    fn check_open(
        &mut self,
        tenant: &TenantId,
        period: Period,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let known = self.versions.count();
        if self.is_unknown(tenant, period, known) {
            return Ok(());
        }
        let slices = self.versions.slices(tenant, period, known);
        let bill = self.bill(tenant, period, (&slices, None), true);
        coverage.hit(Probe::InterimByHand);
        self.compare(tenant, period, &bill, coverage)
            .map_err(|wrong| format!("before its end: {wrong}"))
    }

    fn close(&mut self, state: &PeriodState, coverage: &mut Coverage) -> Result<(), String> {
        let (tenant, start) = (&state.tenant, state.start);
        if self.versions.find(tenant).is_none() {
            return Ok(());
        }
        let key = (tenant.clone(), start);
        let now = self.versions.count();
        let closed = self.closed.entry(key).or_insert(Closed {
            end: state.end,
            late: false,
            known: now,
            rerated: None,
        });
        closed.late = false;
        let closed = *closed;
        self.check(tenant, start, (closed, state.rounds), coverage)
    }

    /// What later periods cost rests on this one.
    fn close_later(
        &mut self,
        state: &PeriodState,
        touched: &BTreeSet<Key>,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let tenant = &state.tenant;
        if self.versions.find(tenant).is_none() {
            return Ok(());
        }
        let later = (tenant.clone(), state.end)..=(tenant.clone(), Timestamp::MAX);
        let closed = self.closed.range(later.clone());
        let closed: Vec<(Key, Closed)> = closed.map(|(key, of)| (key.clone(), *of)).collect();
        for (key, closed) in closed {
            let is_touched = touched.contains(&key);
            // What waits to be settled is not known to be booked.
            if closed.late && !is_touched {
                continue;
            }
            if is_touched {
                coverage.hit(Probe::WorkedOutAgain);
                if let Some(closed) = self.closed.get_mut(&key) {
                    closed.late = false;
                }
            }
            self.check(tenant, key.1, (closed, 1), coverage)
                .map_err(|wrong| format!("after an earlier one: {wrong}"))?;
        }
        let open = self.parts.range(later);
        let open = open.filter(|(key, _)| touched.contains(key) && !self.closed.contains_key(key));
        let open: Vec<Timestamp> = open.map(|((_, start), _)| *start).collect();
        for start in open {
            let end = self.ends.get(&(tenant.clone(), start)).copied();
            let end = end.unwrap_or(start);
            self.check_open(tenant, Period { start, end }, coverage)?;
        }
        Ok(())
    }

    /// The ledger says of a closed period what it costs by hand.
    fn check(
        &mut self,
        tenant: &TenantId,
        start: Timestamp,
        (closed, rounds): (Closed, u32),
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let Closed {
            end,
            known,
            rerated,
            ..
        } = closed;
        let period = Period { start, end };
        if self.is_unknown(tenant, period, known) {
            return Ok(());
        }
        let mut slices = self.versions.slices(tenant, period, known);
        if let Some(number) = rerated {
            // By another version, but what another tenant paid for stays with that one.
            let tariff = self.versions.tariff(tenant, number);
            for slice in &mut slices {
                slice.tariff = slice.tariff.map(|_| tariff);
            }
        }
        let usage = self.usage.get(tenant);
        covered::of_slices(usage, &slices, coverage);
        let corrected = self.corrected.get(tenant);
        let is_corrected = corrected
            .is_some_and(|windows| windows.range(period.start..period.end).next().is_some());
        if let (Some(_), true, true) = (rerated, is_corrected, rounds > 1) {
            coverage.hit(if self.options.late_next {
                Probe::RerateCorrectedNext
            } else {
                Probe::RerateCorrected
            });
        }
        let bill = self.bill(tenant, period, (&slices, Some(known)), false);
        self.compare(tenant, period, &bill, coverage)
            .map_err(|wrong| format!("round {rounds}, {} slices: {wrong}", slices.len()))
    }

    /// `after`: by how many versions it is known who pays behind the period.
    fn bill(
        &mut self,
        tenant: &TenantId,
        period: Period,
        (slices, after): (&[Slice], Option<usize>),
        is_interim: bool,
    ) -> Bill {
        let (nothing, none) = (Usage::new(), Peaks::new());
        let Some(known) = self.versions.find(tenant) else {
            return Bill::default();
        };
        let pays_after = |known| self.versions.payer_by(tenant, period.end, known);
        let asked = Asked {
            around: &self.options.around,
            tenant,
            zone: known.zone,
            period,
            slices,
            usage: self.usage.get(tenant).unwrap_or(&nothing),
            peaks: self.peaks.get(tenant).unwrap_or(&none),
            is_due: self.since.is_some_and(|since| period.end > since),
            is_interim,
            ends: after.and_then(pays_after).is_some(),
        };
        let carried = self.carried.entry(tenant.clone()).or_default();
        asked.bill(carried)
    }

    /// The ledger has just that.
    fn compare(
        &self,
        tenant: &TenantId,
        period: Period,
        expected: &Bill,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        covered::of_bill(expected, self.options, coverage);
        let key = (tenant.clone(), period.start);
        let mut booked = self.booked.get(&key).cloned().unwrap_or_default();
        booked.retain(|_, cents| *cents != 0);
        let mut shares = self.shares.get(&key).cloned().unwrap_or_default();
        for own in shares.values_mut() {
            own.retain(|_, cents| *cents != 0);
        }
        shares.retain(|_, own| !own.is_empty());
        if booked != expected.lines {
            let by_hand = &expected.lines;
            return Err(format!(
                "{tenant} {period}: booked {booked:?}, by hand {by_hand:?}"
            ));
        }
        if shares != expected.shares {
            let by_hand = &expected.shares;
            return Err(format!(
                "{tenant} {period}: shares {shares:?}, by hand {by_hand:?}"
            ));
        }
        coverage.hit(Probe::BillByHand);
        if !shares.is_empty() {
            coverage.hit(Probe::SharesByHand);
        }
        Ok(())
    }
}
