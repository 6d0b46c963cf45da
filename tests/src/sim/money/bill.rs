//! One bill by hand, and what of it is whose.

use std::collections::BTreeMap;

use tollgate_collector_core::ledger::Role;
use tollgate_collector_core::period::{Period, Zone};
use tollgate_common::{TenantId, Timestamp};

use super::super::tariff::{
    Around, CARD_FROM, Commitment, Grant, LEFT_OF_LINE, Pay, TAX_CHANGES_ON, TAX_PERCENT,
    TERM_DAYS, Tariff,
};
use super::exact::{Exact, settled, shared};
use super::versions::Slice;

const DAY_MILLIS: i64 = 86_400_000;

/// Cents by part of the bill and name of the line.
pub(super) type Lines = BTreeMap<(Role, String), i128>;

/// What is used: by user, meter and window.
pub(super) type Usage = BTreeMap<(TenantId, String), BTreeMap<Timestamp, i128>>;

/// Largest values: by user, and then by the dimensions of a series and by window.
pub(super) type Peaks = BTreeMap<TenantId, BTreeMap<String, BTreeMap<Timestamp, i128>>>;

/// What the bills of a tenant know of each other.
#[derive(Debug, Default)]
pub(super) struct Carried {
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

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) around: &'a Around,
    pub(super) tenant: &'a TenantId,
    pub(super) zone: Zone,
    pub(super) period: Period,
    pub(super) slices: &'a [Slice],
    pub(super) usage: &'a Usage,
    pub(super) peaks: &'a Peaks,
    /// What is due without usage is due.
    pub(super) is_due: bool,
    /// More of the period is to come.
    pub(super) is_interim: bool,
    /// Behind the period another tenant pays.
    pub(super) ends: bool,
}

/// A line on the way.
struct Line {
    role: Role,
    name: &'static str,
    cents: i128,
    /// How much each has used of it, or of what it is of; nothing of what has no quantity.
    used: Vec<i128>,
}

impl Line {
    const fn new(role: Role, name: &'static str, cents: i128) -> Self {
        Self {
            role,
            name,
            cents,
            used: Vec::new(),
        }
    }
}

/// A bill with what of it is whose.
#[derive(Debug, Default)]
pub(super) struct Bill {
    pub(super) lines: Lines,
    pub(super) shares: BTreeMap<TenantId, Lines>,
}

impl Bill {
    /// Lines of nothing do not stand anywhere.
    fn new(lines: &[Line], taxes: &[i128], users: &[TenantId]) -> Self {
        let mut bill = Self::default();
        for (line, tax) in lines.iter().zip(taxes) {
            let key = (line.role, line.name.to_owned());
            *bill.lines.entry(key.clone()).or_default() += line.cents;
            if line.used.is_empty() {
                continue;
            }
            let parts = shared(line.cents, &line.used);
            let of_tax = shared(*tax, &line.used);
            for ((user, part), tax) in users.iter().zip(parts).zip(of_tax).skip(1) {
                let own = bill.shares.entry(user.clone()).or_default();
                *own.entry(key.clone()).or_default() += part;
                *own.entry((Role::Tax, "tax".to_owned())).or_default() += tax;
            }
        }
        let tax = bill.lines.entry((Role::Tax, "vat".to_owned())).or_default();
        *tax += taxes.iter().sum::<i128>();
        bill.lines.retain(|_, cents| *cents != 0);
        for own in bill.shares.values_mut() {
            own.retain(|_, cents| *cents != 0);
        }
        bill.shares.retain(|_, own| !own.is_empty());
        bill
    }
}

impl Asked<'_> {
    /// The payer, and then all others by their names.
    fn users(&self) -> Vec<TenantId> {
        let mut users = vec![self.tenant.clone()];
        let used = self.usage.keys().map(|(user, _)| user);
        for user in used.chain(self.peaks.keys()) {
            if !users.contains(user) {
                users.push(user.clone());
            }
        }
        users[1..].sort_unstable();
        users
    }

    /// What one used in a stretch.
    fn used_by(&self, user: &TenantId, meter: &str, span: Period) -> i128 {
        let windows = self.usage.get(&(user.clone(), meter.to_owned()));
        windows.map_or(0, |windows| {
            let inside = windows.range(span.start..span.end);
            inside.map(|(_, used)| used).sum()
        })
    }

    /// What all used in a stretch.
    pub(super) fn used(&self, meter: &str, span: Period) -> i128 {
        let users = self.usage.keys().filter(|(_, of)| of == meter);
        users.map(|(user, _)| self.used_by(user, meter, span)).sum()
    }

    /// The largest values of a user's series in the period, together.
    fn peak_of(&self, user: &TenantId) -> i128 {
        let series = self.peaks.get(user).into_iter().flatten();
        let most = series.map(|(_, windows)| {
            let inside = windows.range(self.period.start..self.period.end);
            inside.map(|(_, value)| *value).max().unwrap_or(0)
        });
        most.sum()
    }

    /// The stretches with prices.
    fn priced(&self) -> impl Iterator<Item = (Period, Tariff)> + '_ {
        let slices = self.slices.iter();
        slices.filter_map(|slice| Some((slice.span, slice.tariff?)))
    }

    /// A line of usage with what each has of it, in the stretches that have the price.
    fn line(
        &self,
        users: &[TenantId],
        (name, meter): (&'static str, &str),
        cents: i128,
        has: impl Fn(&Tariff) -> bool,
    ) -> Line {
        let of = |user: &TenantId| {
            let priced = self.priced().filter(|(_, tariff)| has(tariff));
            priced
                .map(|(span, _)| self.used_by(user, meter, span))
                .sum()
        };
        Line {
            used: users.iter().map(of).collect(),
            ..Line::new(Role::Usage, name, cents)
        }
    }

    /// The part of an amount for as long as there are prices.
    fn prorated(&self, amount: impl Fn(&Tariff) -> i128) -> Exact {
        let length = i128::from(self.period.millis());
        let parts = self.priced();
        let parts = parts.map(|(span, tariff)| amount(&tariff) * i128::from(span.millis()));
        Exact::new(parts.sum(), length)
    }

    /// Works it out.
    pub(super) fn bill(&self, carried: &mut Carried) -> Bill {
        carried.term.remove(&self.period.start);
        carried.welcome.remove(&self.period.start);
        let users = self.users();
        let mut lines = self.usage_lines(&users);
        let around = self.around;
        let usage: i128 = lines.iter().map(|line| line.cents).sum();
        let is_any = self.priced().next().is_some();
        if self.is_due {
            let fee = off(self.prorated(|tariff| tariff.fee.unwrap_or_default()));
            lines.push(Line::new(Role::Fee, "platform", fee.rounded()));
        }
        if let (true, false, Some(minimum)) = (self.is_due, self.is_interim, around.minimum) {
            let least = self.prorated(|_| minimum).rounded();
            let missing = if is_any { (least - usage).max(0) } else { 0 };
            lines.push(Line::new(Role::Minimum, "least", missing));
        }
        let day = self
            .zone
            .date_at(self.period.end.plus_millis(-1))
            .to_string();
        let mut day_of_term = day.clone();
        if let Some(commitment) = around.commitment.filter(|_| is_any) {
            let counted = lines.iter().map(|line| line.cents).sum();
            let (mut of_term, first) = self.committed(commitment, counted, carried);
            let counted = counted_by(&lines, users.len());
            let of_usage = |line: &&mut Line| matches!(line.role, Role::Drawdown | Role::Overage);
            for line in of_term.iter_mut().filter(of_usage) {
                line.used.clone_from(&counted);
            }
            lines.extend(of_term);
            day_of_term = first;
        }
        let taxes = match around.tax_per_line {
            Some(per_line) => taxes(&lines, per_line, &day, &day_of_term),
            None => vec![0; lines.len()],
        };
        let mut bill = Bill::new(&lines, &taxes, &users);
        if let Some(Grant { cents, days }) = around.grant {
            let total: i128 = bill.lines.values().sum();
            // Without terms all days are of one.
            let term = |start| days.map_or(0, |days| self.days_since_card(start).div_euclid(days));
            let own = term(self.period.start);
            let earlier = carried.welcome.range(..self.period.start);
            let earlier = earlier.filter(|(start, _)| term(**start) == own);
            let left = (cents - earlier.map(|(_, paid)| paid).sum::<i128>()).max(0);
            let paid = left.min(total).max(0);
            carried.welcome.insert(self.period.start, paid);
            if paid != 0 {
                let key = (Role::Grant, "welcome".to_owned());
                bill.lines.insert(key, -paid);
            }
        }
        bill
    }

    fn usage_lines(&self, users: &[TenantId]) -> Vec<Line> {
        let mut lines = Vec::new();
        let Some((_, last)) = self.priced().last() else {
            return lines;
        };
        let requests = off(self.requests()).rounded();
        let of = ("requests", "http.requests");
        lines.push(self.line(users, of, requests, |_| true));
        // 7 cents for every minute that was begun, at most 20.00 for a whole period.
        let used = |meter| self.priced().map(|(span, _)| self.used(meter, span)).sum();
        let millis: i128 = used("cpu.seconds");
        let minutes = (millis.max(0) + 59_999) / 60_000;
        let most = self.prorated(|_| 2000);
        let cpu = off(Exact::new(minutes * 7, 1)).least(most).rounded();
        lines.push(self.line(users, ("cpu", "cpu.seconds"), cpu, |_| true));
        if last.transit {
            let bytes: i128 = used("net.bytes");
            let bytes = (bytes - 1000).max(0);
            let hundredths = if bytes > 1_000_000 { 91 } else { 123 };
            let transit = off(Exact::new(bytes * hundredths, 100 * 1_000_000));
            let of = ("transit", "net.bytes");
            lines.push(self.line(users, of, transit.rounded(), |_| true));
        }
        // Beside the requests, and only in some versions.
        let routed = self.priced().filter_map(|(span, tariff)| {
            let used = self.used("http.requests", span);
            Some(Exact::new(used * tariff.routing?, 1000))
        });
        let routing = off(routed.fold(Exact::new(0, 1000), |sum, part| {
            Exact::new(sum.above + part.above, sum.below)
        }));
        let of = ("routing", "http.requests");
        let has = |tariff: &Tariff| tariff.routing.is_some();
        lines.push(self.line(users, of, routing.rounded(), has));
        if last.figures.is_some() {
            lines.extend(self.figures(users));
        }
        lines
    }

    /// The largest values, one quantity of the period that each version prices by its share of time,
    /// and the levels: each version those of its time, by the length of the whole period.
    fn figures(&self, users: &[TenantId]) -> [Line; 2] {
        let length = i128::from(self.period.millis());
        let peaks: Vec<i128> = users.iter().map(|user| self.peak_of(user)).collect();
        let peak: i128 = peaks.iter().sum();
        let (mut by_time, mut by_level) = (0, 0);
        for (span, tariff) in self.priced() {
            let [of_peak, of_core] = tariff.figures.unwrap_or_default();
            by_time += of_peak * i128::from(span.millis());
            by_level += of_core * self.used("cpu.cores", span);
        }
        let largest = off(Exact::new(peak * by_time, 1_000_000_000 * length));
        let held = off(Exact::new(by_level, length));
        [
            Line {
                used: peaks,
                ..Line::new(Role::Usage, "peak", largest.rounded())
            },
            self.line(users, ("cores", "cpu.cores"), held.rounded(), |_| true),
        ]
    }

    /// The first 20,000 of the period at the price of their time, and the others at 0.25 for
    /// 1000, with 1.00 as soon as there is one.
    fn requests(&self) -> Exact {
        let mut position = 0;
        let mut cents = Exact::new(0, 1000);
        for (span, tariff) in self.priced() {
            let end = position + self.used("http.requests", span);
            let first = end.min(20_000) - position.min(20_000);
            let others = end.max(20_000) - position.max(20_000);
            cents.above += first * tariff.first_requests + others * 25;
            position = end;
        }
        if position > 20_000 {
            cents.above += 100 * 1000;
        }
        cents
    }

    /// How many days before that of an instant the card came into force.
    fn days_since_card(&self, instant: Timestamp) -> i64 {
        let first = CARD_FROM.parse().expect("a date");
        let day = self.zone.date_at(instant);
        day.signed_duration_since(first).num_days()
    }

    /// The lines of a commitment, and the last day of the first bill of its term.
    fn committed(
        &self,
        commitment: Commitment,
        counted: i128,
        carried: &mut Carried,
    ) -> (Vec<Line>, String) {
        let (zone, period) = (self.zone, self.period);
        // Every period of such a world is a day, and no day is shorter than 23 hours.
        let noon = period.start.plus_millis(DAY_MILLIS / 2);
        let rank = self.days_since_card(noon) % TERM_DAYS;
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
        let is_last = !self.is_interim && (period.end >= end || self.ends);
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
            lines.push(Line::new(Role::TrueUp, "term", charge));
        } else {
            lines.push(Line::new(Role::Commitment, "term", charge));
            lines.push(Line::new(Role::Drawdown, "term", -inside));
        }
        if commitment.overage {
            let above = (counted - inside).max(0);
            let overage = Exact::new(above, 2).rounded();
            lines.push(Line::new(Role::Overage, "term", overage));
        }
        let of = OfTerm {
            term,
            counted,
            charged: charge,
            day,
        };
        carried.term.insert(period.start, of);
        (lines, first_day)
    }
}

/// What each has of lines that count for a commitment; what nobody has used is the payer's.
fn counted_by(lines: &[Line], users: usize) -> Vec<i128> {
    let mut sums = vec![0; users];
    for line in lines {
        if line.used.is_empty() {
            sums[0] += line.cents.max(0);
            continue;
        }
        let parts = shared(line.cents, &line.used);
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum += part.max(0);
        }
    }
    sums
}

/// What the partner discount leaves.
fn off(exact: Exact) -> Exact {
    exact.times(LEFT_OF_LINE, 1000)
}

/// The tax on each line. What was charged before its usage, and what is drawn down from it, is taxed
/// like the first bill of the term; everything else as on the last day of the period.
fn taxes(lines: &[Line], per_line: bool, day: &str, day_of_term: &str) -> Vec<i128> {
    let mut by_percent: BTreeMap<i128, Vec<usize>> = BTreeMap::new();
    for (place, line) in lines.iter().enumerate() {
        let day = match line.role {
            Role::Commitment | Role::Drawdown => day_of_term,
            _ => day,
        };
        let percent = TAX_PERCENT[usize::from(day >= TAX_CHANGES_ON)];
        by_percent.entry(percent).or_default().push(place);
    }
    let mut taxes = vec![0; lines.len()];
    for (percent, places) in by_percent {
        let of = |cents: i128| Exact::new(cents * percent, 100);
        let parts: Vec<Exact> = places.iter().map(|&place| of(lines[place].cents)).collect();
        let whole: Vec<i128> = if per_line {
            parts.iter().map(|part| part.rounded()).collect()
        } else {
            let all = of(places.iter().map(|&place| lines[place].cents).sum());
            settled(&parts, all.rounded())
        };
        for (place, tax) in places.into_iter().zip(whole) {
            taxes[place] = tax;
        }
    }
    taxes
}
