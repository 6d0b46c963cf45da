//! Every bill once more, by hand: in whole cents and written down step by step.
//!
//! It knows the prices as plain figures ([`Tariff`]), the usage as the fold passes it on to
//! projections, row by row, and the versions as the journal has them. At every closing it works
//! out what the period costs so far, and the ledger has to have booked just that: line by line,
//! taxes, commitments and grants too.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::catalog::timeline::takes_effect;
use tollgate_collector_core::effect::{Effect, PeriodState, PeriodStatus};
use tollgate_collector_core::entry::{Digest, Entry, OperatedAction, Rerate, Stamped};
use tollgate_collector_core::ledger::{LedgerEntry, Role};
use tollgate_collector_core::period::{Period, Zone};
use tollgate_common::{MeterName, Quantity, TenantId, Timestamp};

use super::coverage::{Coverage, Probe};
use super::figures::period_of;
use super::options::Options;
use super::tariff::{
    self, CARD_FROM, Commitment, LEFT_OF_LINE, Pay, TAX_CHANGES_ON, TAX_PERCENT, TERM_DAYS, Tariff,
};

const DAY_MILLIS: i64 = 86_400_000;

/// Cents by part of the bill and name of the line.
type Lines = BTreeMap<(Role, String), i128>;

/// A version of the catalog.
#[derive(Debug)]
struct Version {
    from: Timestamp,
    number: u64,
    tenants: Option<BTreeSet<TenantId>>,
}

/// A stretch of a period with the version that prices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    span: Period,
    tariff: Tariff,
}

/// A period that was closed.
#[derive(Debug)]
struct Closed {
    /// Versions that were there when it was closed first.
    known: usize,
    /// The version by which an operator had it rated anew.
    rerated: Option<u64>,
}

/// What the bills of a tenant know of each other.
#[derive(Debug, Default)]
struct Carried {
    /// By period.
    term: BTreeMap<Timestamp, OfTerm>,
    /// By period: what the grant paid.
    welcome: BTreeMap<Timestamp, i128>,
}

/// What a period adds to a commitment.
#[derive(Debug)]
struct OfTerm {
    /// When the term began.
    term: Timestamp,
    counted: i128,
    /// For the commitment itself.
    charged: i128,
    /// The last day of the period.
    day: String,
}

/// A row that came before its time.
#[derive(Debug)]
struct Ahead {
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
    zones: BTreeMap<TenantId, Zone>,
    /// When the first version came.
    since: Option<Timestamp>,
    versions: Vec<Version>,
    usage: BTreeMap<(TenantId, MeterName), BTreeMap<Timestamp, i128>>,
    ahead: BTreeMap<TenantId, Vec<Ahead>>,
    closed: BTreeMap<(TenantId, Timestamp), Closed>,
    booked: BTreeMap<(TenantId, Timestamp), Lines>,
    carried: BTreeMap<TenantId, Carried>,
    /// Those whose usage came before a version that prices it: nobody knows by hand what became
    /// of it.
    unknown: BTreeSet<TenantId>,
}

/// Cents that are not whole.
#[derive(Clone, Copy)]
struct Exact {
    above: i128,
    below: i128,
}

impl Exact {
    const fn new(above: i128, below: i128) -> Self {
        Self { above, below }
    }

    const fn times(self, above: i128, below: i128) -> Self {
        Self::new(self.above * above, self.below * below)
    }

    const fn plus(self, other: Self) -> Self {
        Self::new(
            self.above * other.below + other.above * self.below,
            self.below * other.below,
        )
    }

    /// Half away from zero.
    const fn rounded(self) -> i128 {
        let whole = (self.above.abs() * 2 + self.below) / (self.below * 2);
        if self.above < 0 { -whole } else { whole }
    }
}

impl<'o> Money<'o> {
    /// Before the first entry.
    pub fn new(options: &'o Options, numbers: &'o BTreeMap<Digest, u64>) -> Self {
        // What one pays for several is rated as one and shared back: that is not done by hand.
        let known = tariff::known_tenants(options).iter().zip(tariff::ZONES);
        let known = known.filter(|_| !options.payer);
        let zones = known.map(|(name, zone)| {
            let tenant = TenantId::new(name).expect("a plain name");
            (tenant, zone.parse().expect("a zone of the database"))
        });
        Self {
            options,
            numbers,
            zones: zones.collect(),
            since: None,
            versions: Vec::new(),
            usage: BTreeMap::new(),
            ahead: BTreeMap::new(),
            closed: BTreeMap::new(),
            booked: BTreeMap::new(),
            carried: BTreeMap::new(),
            unknown: BTreeSet::new(),
        }
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
                self.versions.push(Version {
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
        for effect in effects {
            match effect {
                Effect::Rows(rows) => {
                    for (row, refused) in rows.rows() {
                        if refused.is_none() {
                            let series = &row.series;
                            let key = (series.tenant().clone(), series.meter().clone());
                            self.count(stamped.stamp, key, row.window.start(), row.value);
                        }
                    }
                }
                Effect::Ledger(entry) => self.book(entry),
                _ => {}
            }
        }
        for effect in effects {
            if let Effect::Period(state) = effect
                && state.status == PeriodStatus::Closed
            {
                self.close(state, coverage)?;
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        stamp: Timestamp,
        key: (TenantId, MeterName),
        window: Timestamp,
        quantity: Quantity,
    ) {
        if !self.zones.contains_key(&key.0) {
            return;
        }
        if window > stamp {
            let known = self.versions.len();
            let ahead = self.ahead.entry(key.0.clone()).or_default();
            ahead.push(Ahead { window, known });
        }
        *self
            .usage
            .entry(key)
            .or_default()
            .entry(window)
            .or_default() += quantity.units();
    }

    fn book(&mut self, entry: &LedgerEntry) {
        let posting = &entry.posting;
        let (Some(tenant), Some(role), Some(amount)) =
            (&posting.tenant, posting.role, posting.amount)
        else {
            return;
        };
        let (start, _) = period_of(posting);
        let lines = self.booked.entry((tenant.clone(), start)).or_default();
        let mut cents = amount;
        cents.rescale(2);
        *lines.entry((role, posting.line.clone())).or_default() += cents.mantissa();
    }

    fn rerate(&mut self, rerate: &Rerate) {
        let number = self.numbers.get(&rerate.catalog).copied();
        let applied = |version: &Version| Some(version.number) == number;
        if !self.versions.iter().any(applied) {
            return;
        }
        for ((tenant, start), closed) in &mut self.closed {
            if *tenant == rerate.tenant && (rerate.from..rerate.to).contains(start) {
                closed.rerated = number;
            }
        }
    }

    /// The stretches of a period, by the first `known` versions.
    fn slices(&self, tenant: &TenantId, period: Period, known: usize) -> Vec<Slice> {
        let concerns = |version: &&Version| {
            let tenants = version.tenants.as_ref();
            tenants.is_none_or(|tenants| tenants.contains(tenant))
        };
        let concerned: Vec<&Version> = self.versions.iter().take(known).filter(concerns).collect();
        let mut slices: Vec<Slice> = Vec::new();
        for (index, version) in concerned.iter().enumerate() {
            // The first is in force since ever.
            let start = if index == 0 {
                period.start
            } else {
                Ord::max(version.from, period.start)
            };
            let mut later = concerned[index + 1..].iter().map(|version| version.from);
            let end = Ord::min(later.next().unwrap_or(period.end), period.end);
            if start < end {
                slices.push(Slice {
                    span: Period { start, end },
                    tariff: Tariff::of(self.options, version.number),
                });
            }
        }
        slices
    }

    /// True if a row of the period came before the version that prices it.
    fn is_ahead(&self, tenant: &TenantId, period: Period, known: usize) -> bool {
        let tariff = |known, instant| {
            let slices = self.slices(tenant, period, known);
            let mut slices = slices.iter();
            slices
                .find(|slice| slice.span.contains(instant))
                .map(|slice| slice.tariff)
        };
        let mut rows = self.ahead.get(tenant).into_iter().flatten();
        rows.any(|row| {
            period.contains(row.window)
                && row.known < known
                && tariff(row.known, row.window) != tariff(known, row.window)
        })
    }

    fn close(&mut self, state: &PeriodState, coverage: &mut Coverage) -> Result<(), String> {
        let (tenant, start) = (&state.tenant, state.start);
        let Some(zone) = self.zones.get(tenant).copied() else {
            return Ok(());
        };
        let key = (tenant.clone(), start);
        let now = self.versions.len();
        let closed = self.closed.entry(key.clone()).or_insert(Closed {
            known: now,
            rerated: None,
        });
        let (known, rerated) = (closed.known, closed.rerated);
        let period = Period {
            start,
            end: state.end,
        };
        if self.is_ahead(tenant, period, known) || self.unknown.contains(tenant) {
            self.unknown.insert(tenant.clone());
            return Ok(());
        }
        let slices = match rerated {
            Some(number) => vec![Slice {
                span: period,
                tariff: Tariff::of(self.options, number),
            }],
            None => self.slices(tenant, period, known),
        };
        let used = |slice: &&Slice| self.used(tenant, "http.requests", slice.span) > 0;
        let mut prices: Vec<Tariff> = slices
            .iter()
            .filter(used)
            .map(|slice| slice.tariff)
            .collect();
        prices.dedup();
        if prices.len() > 1 {
            coverage.hit(Probe::VersionInside);
        }
        let mut carried = self.carried.remove(tenant).unwrap_or_default();
        let mut expected = self.bill((tenant, zone), period, &slices, &mut carried);
        self.carried.insert(tenant.clone(), carried);
        expected.retain(|_, cents| *cents != 0);
        for ((role, _), cents) in &expected {
            coverage.hit(match role {
                Role::Tax => Probe::BilledTax,
                Role::Minimum => Probe::BilledMinimum,
                Role::TrueUp => Probe::BilledTrueUp,
                Role::Drawdown => Probe::BilledDrawdown,
                Role::Overage => Probe::BilledOverage,
                Role::Grant => Probe::BilledGrant,
                _ => continue,
            });
            debug_assert_ne!(*cents, 0);
        }
        let mut booked = self.booked.get(&key).cloned().unwrap_or_default();
        booked.retain(|_, cents| *cents != 0);
        if booked == expected {
            coverage.hit(Probe::BillByHand);
            return Ok(());
        }
        Err(format!(
            "{tenant} {period} (round {}): booked {booked:?}, by hand {expected:?} ({} slices)",
            state.rounds,
            slices.len()
        ))
    }

    fn used(&self, tenant: &TenantId, meter: &str, span: Period) -> i128 {
        let meter = MeterName::new(meter).expect("a plain name");
        let windows = self.usage.get(&(tenant.clone(), meter));
        windows.map_or(0, |windows| {
            windows
                .range(span.start..span.end)
                .map(|(_, used)| used)
                .sum()
        })
    }

    fn bill(
        &self,
        (tenant, zone): (&TenantId, Zone),
        period: Period,
        slices: &[Slice],
        carried: &mut Carried,
    ) -> Lines {
        let mut lines: Vec<(Role, &str, i128)> = Vec::new();
        let off = |exact: Exact| exact.times(LEFT_OF_LINE, 1000);
        let requests = off(self.requests(tenant, slices)).rounded();
        lines.push((Role::Usage, "requests", requests));
        // 7 cents for every minute that was begun, at most 20.00.
        let millis = self.used(tenant, "cpu.seconds", period).max(0);
        let minutes = (millis + 59_999) / 60_000;
        let cpu = off(Exact::new(minutes * 7, 1)).rounded().min(2000);
        lines.push((Role::Usage, "cpu", cpu));
        if slices.last().is_some_and(|slice| slice.tariff.transit) {
            let bytes = (self.used(tenant, "net.bytes", period) - 1000).max(0);
            let hundredths = if bytes > 1_000_000 { 91 } else { 123 };
            let transit = Exact::new(bytes * hundredths, 100 * 1_000_000);
            lines.push((Role::Usage, "transit", off(transit).rounded()));
        }
        let around = &self.options.around;
        let is_due = self.since.is_some_and(|since| period.end > since);
        let usage: i128 = lines.iter().map(|line| line.2).sum();
        if is_due && self.options.fee {
            let length = i128::from(period.millis());
            let parts = slices.iter().map(|slice| {
                let fee = slice.tariff.fee.unwrap_or_default();
                Exact::new(fee * i128::from(slice.span.millis()), length)
            });
            let fee = parts.fold(Exact::new(0, 1), Exact::plus);
            lines.push((Role::Fee, "platform", off(fee).rounded()));
        }
        if let (true, Some(minimum)) = (is_due, around.minimum) {
            lines.push((Role::Minimum, "least", (minimum - usage).max(0)));
        }
        let day = zone.date_at(period.end.plus_millis(-1)).to_string();
        let mut day_of_term = day.clone();
        if let Some(commitment) = around.commitment {
            let counted = lines.iter().map(|line| line.2).sum();
            let (of_term, first) = Self::committed(commitment, zone, period, counted, carried);
            lines.extend(of_term);
            day_of_term = first;
        }
        if let Some(per_line) = around.tax_per_line {
            let tax = Self::taxes(&lines, per_line, &day, &day_of_term);
            lines.push((Role::Tax, "vat", tax));
        }
        if let Some(grant) = around.grant {
            let total: i128 = lines.iter().map(|line| line.2).sum();
            carried.welcome.remove(&period.start);
            let left = (grant - carried.welcome.values().sum::<i128>()).max(0);
            let paid = left.min(total).max(0);
            carried.welcome.insert(period.start, paid);
            lines.push((Role::Grant, "welcome", -paid));
        }
        let mut sums = Lines::new();
        for (role, name, cents) in lines {
            *sums.entry((role, name.to_owned())).or_default() += cents;
        }
        sums
    }

    /// The first 20,000 of the period at the price of their time, and the others at 0.25 for
    /// 1000, with 1.00 as soon as there is one.
    fn requests(&self, tenant: &TenantId, slices: &[Slice]) -> Exact {
        let mut position = 0;
        let mut cents = Exact::new(0, 1000);
        for slice in slices {
            let end = position + self.used(tenant, "http.requests", slice.span);
            let first = end.min(20_000) - position.min(20_000);
            let others = end.max(20_000) - position.max(20_000);
            cents.above += first * slice.tariff.first_requests + others * 25;
            position = end;
        }
        if position > 20_000 {
            cents.above += 100 * 1000;
        }
        cents
    }

    /// What was charged before its usage, and what is drawn down from it, is taxed like the first
    /// bill of the term; everything else as on the last day of the period.
    fn taxes(lines: &[(Role, &str, i128)], per_line: bool, day: &str, day_of_term: &str) -> i128 {
        let mut by_percent: BTreeMap<i128, Vec<i128>> = BTreeMap::new();
        for (role, _, cents) in lines {
            let day = match role {
                Role::Commitment | Role::Drawdown => day_of_term,
                _ => day,
            };
            let percent = TAX_PERCENT[usize::from(day >= TAX_CHANGES_ON)];
            by_percent.entry(percent).or_default().push(*cents);
        }
        let taxes = by_percent.into_iter().map(|(percent, amounts)| {
            let of = |cents: i128| Exact::new(cents * percent, 100).rounded();
            if per_line {
                amounts.into_iter().map(of).sum()
            } else {
                of(amounts.into_iter().sum())
            }
        });
        taxes.sum()
    }

    /// The lines of a commitment, and the last day of the first bill of its term.
    fn committed(
        commitment: Commitment,
        zone: Zone,
        period: Period,
        counted: i128,
        carried: &mut Carried,
    ) -> (Vec<(Role, &'static str, i128)>, String) {
        // Every period of such a world is a day, and no day is shorter than 23 hours.
        let noon = period.start.plus_millis(DAY_MILLIS / 2);
        let first = CARD_FROM.parse().expect("a date");
        let days = zone.date_at(noon).signed_duration_since(first).num_days();
        let rank = days % TERM_DAYS;
        let term = zone.start_of_local_day(noon.plus_millis(-rank * DAY_MILLIS));
        let end = zone.start_of_local_day(noon.plus_millis((TERM_DAYS - rank) * DAY_MILLIS));
        let earlier = carried.term.range(..period.start);
        let earlier = earlier.filter(|(_, of)| of.term == term);
        let day = zone.date_at(period.end.plus_millis(-1)).to_string();
        let mut first_day = None;
        let (mut before, mut charged) = (0, 0);
        for (_, of) in earlier {
            before += of.counted;
            charged += of.charged;
            first_day.get_or_insert_with(|| of.day.clone());
        }
        let first_day = first_day.unwrap_or_else(|| day.clone());
        let is_last = period.end >= end;
        let left = (commitment.cents - before - counted).max(0);
        let due = match commitment.pay {
            Pay::Usage if is_last => left,
            Pay::Usage => 0,
            Pay::Advance => commitment.cents,
            Pay::Parts if is_last => commitment.cents,
            Pay::Parts => {
                let count = i128::from(TERM_DAYS);
                let rank = i128::from(rank) + 1;
                let rest = commitment.cents % count;
                rank * (commitment.cents / count) + rank.min(rest)
            }
        };
        let charge = due - charged;
        let room = (commitment.cents - before).max(0);
        let inside = counted.min(room).max(0);
        let mut lines = Vec::new();
        if commitment.pay == Pay::Usage {
            lines.push((Role::TrueUp, "term", charge));
        } else {
            lines.push((Role::Commitment, "term", charge));
            lines.push((Role::Drawdown, "term", -inside));
        }
        if commitment.overage {
            let above = (counted - inside).max(0);
            lines.push((Role::Overage, "term", Exact::new(above, 2).rounded()));
        }
        let of = OfTerm {
            term,
            counted,
            charged: charge,
            day,
        };
        carried.term.insert(period.start, of);
        // Only the term before may still be corrected.
        let oldest = term.plus_millis(-end.millis_since(term));
        carried.term.retain(|_, of| of.term >= oldest);
        (lines, first_day)
    }
}
