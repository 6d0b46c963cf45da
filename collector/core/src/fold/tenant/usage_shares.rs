//! How much of the usage of open periods is rated, and how much is not, for which reason.
//!
//! [`Shares`] of periods add up to those of a tenant and of everybody, and can be taken away again:
//! when a tenant is rated anew, what it had before leaves the sum. Quantities and amounts are exact; a
//! sum that does not fit is unknown until nothing is left of it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{MeterName, Quantity, Scale};

use super::state::pairs;
use super::{Accrual, AccrualLine};
use crate::ledger::{EntryKind, Role};

/// Places of a share: parts of a million.
const SHARE_PLACES: u32 = 6;
const MILLION: i128 = 1_000_000;

/// How usage stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has an amount.
    Rated,
    /// It has none, for this reason.
    Unrated(String),
    /// The policy refused it, for this reason.
    Refused(String),
}

impl Standing {
    fn of(line: &AccrualLine) -> Self {
        match line.kind {
            EntryKind::Unrated => Self::Unrated(line.line.clone()),
            EntryKind::Refused => Self::Refused(line.line.clone()),
            _ => Self::Rated,
        }
    }

    /// The name used in output: `rated`, `unattributed`, `unrated` or `refused`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rated => "rated",
            Self::Unrated(reason) if reason == UNATTRIBUTED => UNATTRIBUTED,
            Self::Unrated(_) => "unrated",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it is not rated.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Rated => None,
            Self::Unrated(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}

/// What usage that belongs to nobody is called.
const UNATTRIBUTED: &str = super::UnratedReason::Unattributed.as_str();

/// A sum of things that can be taken away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum<T> {
    /// `None` if it did not fit.
    value: Option<T>,
    /// How many things.
    count: u64,
}

impl<T: Copy + Default> Sum<T> {
    fn of(value: T) -> Self {
        Self {
            value: Some(value),
            count: 1,
        }
    }

    /// Adds, or takes away; `combine` does it to values. False if nothing is left.
    fn combine(&mut self, other: Self, takes: bool, combine: impl Fn(T, T) -> Option<T>) -> bool {
        self.count = if takes {
            self.count.saturating_sub(other.count)
        } else {
            self.count.saturating_add(other.count)
        };
        self.value = match (self.value, other.value) {
            (Some(one), Some(two)) => combine(one, two),
            _ => None,
        };
        self.count > 0
    }
}

impl<T: Default> Default for Sum<T> {
    fn default() -> Self {
        Self {
            value: Some(T::default()),
            count: 0,
        }
    }
}

/// Which meter, with the places of its quantities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Metered {
    meter: MeterName,
    scale: Scale,
}

/// How the usage of a meter stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Usage {
    unit: Option<String>,
    #[serde(with = "pairs")]
    parts: BTreeMap<Standing, Sum<Quantity>>,
}

/// What lines amount to, in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Money {
    net: Sum<Decimal>,
    tax: Sum<Decimal>,
    paid: Sum<Decimal>,
}

/// Usage of open periods by how it stands, and what it amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    #[serde(with = "pairs")]
    usage: BTreeMap<Metered, Usage>,
    money: BTreeMap<String, Money>,
    periods: u64,
    /// Lines of meters that no catalog declares, in sums of several tenants. Who reports invents their
    /// names, so that there is no end of them.
    #[serde(default, with = "pairs")]
    undeclared: BTreeMap<Standing, u64>,
}

/// Lines of meters that no catalog declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndeclaredShares {
    /// `unattributed`, `unrated` or `refused`.
    pub standing: &'static str,
    /// Why it is not rated.
    pub reason: Option<String>,
    /// How many lines of open periods.
    pub lines: u64,
}

/// How the usage of a meter stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeterShares {
    /// Which meter.
    pub meter: MeterName,
    /// Decimal places of its smallest unit.
    pub scale: u8,
    /// Its unit, where a catalog declares it.
    pub unit: Option<String>,
    /// All of it, in the meter's unit; `None` if it does not fit a quantity.
    pub quantity: Option<String>,
    /// What it is made of.
    pub parts: Vec<Share>,
}

/// A part of a meter's usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// `rated`, `unattributed`, `unrated` or `refused`.
    pub standing: &'static str,
    /// Why it is not rated.
    pub reason: Option<String>,
    /// How much, in the meter's unit; `None` if it does not fit a quantity.
    pub quantity: Option<String>,
    /// Which part of all, to six places, rounded down; `None` where there is no such part.
    pub share: Option<Decimal>,
    /// How many lines of open periods.
    pub lines: u64,
}

/// What the lines of open periods amount to, in one currency; `None` where it does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// ISO 4217 code.
    pub currency: String,
    /// Before tax.
    pub net: Option<Decimal>,
    /// Tax.
    pub tax: Option<Decimal>,
    /// What grants and credit pay of it, below zero.
    pub paid: Option<Decimal>,
    /// All three.
    pub total: Option<Decimal>,
}

impl Shares {
    /// Those of one period.
    pub fn of(accrual: &Accrual) -> Self {
        Self::of_lines(accrual, |_| true)
    }

    /// What a period adds to everybody's: what another tenant pays for is in that tenant's, and of
    /// meters that no catalog declares there are only so many lines.
    pub fn billed(accrual: &Accrual) -> Self {
        let mut shares = Self::of_lines(accrual, |line| line.kind != EntryKind::Share);
        let undeclared = &mut shares.undeclared;
        shares.usage.retain(|_, usage| {
            if usage.unit.is_none() {
                for (standing, sum) in &usage.parts {
                    *undeclared.entry(standing.clone()).or_default() += sum.count;
                }
            }
            usage.unit.is_some()
        });
        shares
    }

    fn of_lines(accrual: &Accrual, counts: impl Fn(&AccrualLine) -> bool) -> Self {
        let mut shares = Self {
            periods: u64::from(accrual.payer.is_none()),
            ..Self::default()
        };
        for line in accrual.lines.iter().filter(|line| counts(line)) {
            shares.take(line);
        }
        shares
    }

    fn take(&mut self, line: &AccrualLine) {
        if let Some(meter) = &line.meter {
            let key = Metered {
                meter: meter.clone(),
                scale: line.scale,
            };
            let usage = self.usage.entry(key).or_default();
            if usage.unit.is_none() {
                usage.unit.clone_from(&line.unit);
            }
            let part = usage.parts.entry(Standing::of(line)).or_default();
            part.combine(Sum::of(line.quantity), false, Quantity::checked_add);
        } else if matches!(line.kind, EntryKind::Unrated | EntryKind::Refused)
            && !line.quantity.is_zero()
        {
            // Of too many meters, and so of none in particular.
            *self.undeclared.entry(Standing::of(line)).or_default() += 1;
        }
        if let (Some(amount), Some(currency)) = (line.amount, &line.currency) {
            let money = self.money.entry(currency.clone()).or_default();
            let sum = match line.role {
                Some(Role::Tax) => &mut money.tax,
                Some(Role::Grant | Role::CreditBalance) => &mut money.paid,
                _ => &mut money.net,
            };
            sum.combine(Sum::of(amount), false, Decimal::checked_add);
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, false);
    }

    /// Takes away others, which were added before.
    pub fn remove(&mut self, other: &Self) {
        self.combine(other, true);
    }

    fn combine(&mut self, other: &Self, takes: bool) {
        self.periods = if takes {
            self.periods.saturating_sub(other.periods)
        } else {
            self.periods.saturating_add(other.periods)
        };
        let quantity = |one: Quantity, two: Quantity| {
            if takes {
                one.checked_sub(two)
            } else {
                one.checked_add(two)
            }
        };
        for (key, theirs) in &other.usage {
            let usage = self.usage.entry(key.clone()).or_default();
            if usage.unit.is_none() {
                usage.unit.clone_from(&theirs.unit);
            }
            for (standing, sum) in &theirs.parts {
                let own = usage.parts.entry(standing.clone()).or_default();
                if !own.combine(*sum, takes, quantity) {
                    usage.parts.remove(standing);
                }
            }
            if usage.parts.is_empty() {
                self.usage.remove(key);
            }
        }
        for (standing, lines) in &other.undeclared {
            let own = self.undeclared.entry(standing.clone()).or_default();
            *own = if takes {
                own.saturating_sub(*lines)
            } else {
                own.saturating_add(*lines)
            };
            if *own == 0 {
                self.undeclared.remove(standing);
            }
        }
        let amount = |one: Decimal, two: Decimal| {
            if takes {
                one.checked_sub(two)
            } else {
                one.checked_add(two)
            }
        };
        for (currency, theirs) in &other.money {
            let own = self.money.entry(currency.clone()).or_default();
            let mut is_left = false;
            for (own, theirs) in [
                (&mut own.net, theirs.net),
                (&mut own.tax, theirs.tax),
                (&mut own.paid, theirs.paid),
            ] {
                if own.combine(theirs, takes, amount) {
                    is_left = true;
                } else {
                    *own = Sum::default();
                }
            }
            if !is_left {
                self.money.remove(currency);
            }
        }
    }

    /// Number of open periods.
    pub fn periods(&self) -> u64 {
        self.periods
    }

    /// The usage, meter by meter.
    pub fn meters(&self) -> impl Iterator<Item = MeterShares> {
        self.usage.iter().map(|(key, usage)| {
            let total = usage.total();
            let text = |quantity: Quantity| quantity.display(key.scale).to_string();
            let part = |(standing, sum): (&Standing, &Sum<Quantity>)| Share {
                standing: standing.as_str(),
                reason: standing.reason().map(str::to_owned),
                quantity: sum.value.map(text),
                share: share(sum.value, total),
                lines: sum.count,
            };
            MeterShares {
                meter: key.meter.clone(),
                scale: key.scale.get(),
                unit: usage.unit.clone(),
                quantity: total.map(text),
                parts: usage.parts.iter().map(part).collect(),
            }
        })
    }

    /// How many meters there are.
    pub fn meters_count(&self) -> usize {
        self.usage.len()
    }

    /// Lines of meters that no catalog declares, where they are not told meter by meter.
    pub fn undeclared(&self) -> impl Iterator<Item = UndeclaredShares> {
        self.undeclared
            .iter()
            .map(|(standing, lines)| UndeclaredShares {
                standing: standing.as_str(),
                reason: standing.reason().map(str::to_owned),
                lines: *lines,
            })
    }

    /// Each standing with the number of its lines, and its largest share of any meter.
    pub fn standings(&self) -> BTreeMap<&Standing, (u64, Decimal)> {
        let mut standings: BTreeMap<&Standing, (u64, Decimal)> = BTreeMap::new();
        for usage in self.usage.values() {
            let total = usage.total();
            for (standing, sum) in &usage.parts {
                let (lines, largest) = standings.entry(standing).or_default();
                *lines = lines.saturating_add(sum.count);
                *largest = Ord::max(*largest, share(sum.value, total).unwrap_or_default());
            }
        }
        for (standing, count) in &self.undeclared {
            let (lines, largest) = standings.entry(standing).or_default();
            *lines = lines.saturating_add(*count);
            // Nothing of such a meter is rated.
            *largest = Decimal::ONE;
        }
        standings
    }

    /// The amounts, currency by currency.
    pub fn amounts(&self) -> impl Iterator<Item = Amounts> {
        self.money.iter().map(|(currency, money)| {
            let (net, tax, paid) = (money.net.value, money.tax.value, money.paid.value);
            let total = net.zip(tax).and_then(|(net, tax)| net.checked_add(tax));
            Amounts {
                currency: currency.clone(),
                net,
                tax,
                paid,
                total: total
                    .zip(paid)
                    .and_then(|(sum, paid)| sum.checked_add(paid)),
            }
        })
    }
}

impl Usage {
    fn total(&self) -> Option<Quantity> {
        self.parts.values().try_fold(Quantity::ZERO, |sum, part| {
            part.value.and_then(|value| sum.checked_add(value))
        })
    }
}

/// A part of a whole to six places, rounded down. Negative quantities, of corrections, are no part.
fn share(part: Option<Quantity>, whole: Option<Quantity>) -> Option<Decimal> {
    let (mut part, mut whole) = (part?.units(), whole?.units());
    if part < 0 || whole <= 0 || part > whole {
        return None;
    }
    while part.checked_mul(MILLION).is_none() {
        (part, whole) = (part >> 1, whole >> 1);
    }
    let millionths = i64::try_from(part * MILLION / whole).ok()?;
    Some(Decimal::new(millionths, SHARE_PLACES))
}

#[cfg(test)]
mod tests {
    use tollgate_common::{TenantId, Timestamp};

    use super::*;

    fn line(kind: EntryKind, name: &str, units: i128, amount: Option<&str>) -> AccrualLine {
        AccrualLine {
            kind,
            role: (kind == EntryKind::Charge).then_some(Role::Usage),
            line: name.to_owned(),
            meter: Some(MeterName::new("requests").expect("valid")),
            unit: Some("{request}".to_owned()),
            quantity: Quantity::new(units),
            scale: Scale::ZERO,
            booked: None,
            amount: amount.map(|text| text.parse().expect("a decimal")),
            currency: amount.map(|_| "EUR".to_owned()),
            tax: None,
            arithmetic: String::new(),
        }
    }

    fn accrual(lines: Vec<AccrualLine>) -> Accrual {
        Accrual {
            tenant: TenantId::new("acme").expect("valid"),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(60),
            label: "x".to_owned(),
            payer: None,
            catalog: None,
            lines,
        }
    }

    fn tax(amount: &str) -> AccrualLine {
        AccrualLine {
            role: Some(Role::Tax),
            meter: None,
            ..line(EntryKind::Charge, "vat", 0, Some(amount))
        }
    }

    #[test]
    fn parts_add_up_and_say_their_reason() {
        let shares = Shares::of(&accrual(vec![
            line(EntryKind::Charge, "requests", 6, Some("1.00")),
            line(EntryKind::Unrated, "no_price", 1, None),
            line(EntryKind::Unrated, "unattributed", 1, None),
            line(EntryKind::Refused, "tenant_not_allowed", 1, None),
            tax("0.19"),
        ]));
        let meters: Vec<MeterShares> = shares.meters().collect();
        let parts: Vec<_> = meters[0]
            .parts
            .iter()
            .map(|part| {
                let share = part.share.expect("of something").to_string();
                (part.standing, part.reason.as_deref(), share)
            })
            .collect();
        assert_eq!(meters[0].quantity.as_deref(), Some("9"));
        let ninth = || "0.111111".to_owned();
        assert_eq!(
            parts,
            [
                ("rated", None, "0.666666".to_owned()),
                ("unrated", Some("no_price"), ninth()),
                ("unattributed", Some("unattributed"), ninth()),
                ("refused", Some("tenant_not_allowed"), ninth()),
            ]
        );
        let amounts: Vec<Amounts> = shares.amounts().collect();
        assert_eq!(amounts[0].total, Some("1.19".parse().expect("a decimal")));
        assert_eq!(amounts[0].tax, Some("0.19".parse().expect("a decimal")));
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let one = Shares::of(&accrual(vec![
            line(EntryKind::Charge, "requests", 6, Some("1.00")),
            tax("0.19"),
        ]));
        let two = Shares::of(&accrual(vec![line(
            EntryKind::Unrated,
            "no_price",
            5,
            None,
        )]));
        let mut sum = Shares::default();
        sum.add(&one);
        sum.add(&two);
        assert_eq!(sum.periods(), 2);
        assert_eq!(sum.standings().len(), 2);
        let text = serde_json::to_string(&sum).expect("serializes");
        assert_eq!(serde_json::from_str::<Shares>(&text).expect("reads"), sum);
        sum.remove(&one);
        assert_eq!(sum, two);
        sum.remove(&two);
        assert_eq!(sum, Shares::default());
    }

    #[test]
    fn what_another_tenant_pays_for_is_counted_with_that_one() {
        let share = line(EntryKind::Share, "requests", 6, Some("1.00"));
        let unrated = line(EntryKind::Unrated, "no_price", 5, None);
        let childs = Accrual {
            payer: Some(TenantId::new("group").expect("valid")),
            ..accrual(vec![share, unrated.clone()])
        };
        let own = Shares::of(&childs);
        assert_eq!(
            own.meters().next().expect("one").quantity.as_deref(),
            Some("11")
        );
        let billed = Shares::billed(&childs);
        assert_eq!(billed.amounts().count(), 0);
        let mut alone = Shares::of(&accrual(vec![unrated]));
        alone.periods = 0;
        assert_eq!(billed, alone);
    }

    #[test]
    fn a_sum_that_does_not_fit_is_unknown_until_nothing_is_left() {
        let most = Shares::of(&accrual(vec![line(
            EntryKind::Charge,
            "requests",
            i128::MAX,
            None,
        )]));
        let mut sum = most.clone();
        sum.add(&most);
        assert_eq!(sum.meters().next().expect("one").quantity, None);
        sum.remove(&most);
        assert_eq!(sum.meters().next().expect("one").quantity, None);
        sum.remove(&most);
        assert_eq!(sum, Shares::default());
        let whole = most.meters().next().expect("one");
        assert_eq!(whole.parts[0].share, Some(Decimal::ONE));
    }

    /// Whoever reports invents names of meters; what is told of everybody does not grow with them.
    #[test]
    fn meters_that_nobody_declares_are_lines_of_everybodys_sum() {
        let invented = |name: &str| AccrualLine {
            meter: Some(MeterName::new(name).expect("valid")),
            unit: None,
            ..line(EntryKind::Unrated, "undeclared_meter", 7, None)
        };
        let declared = line(EntryKind::Charge, "requests", 6, Some("1.00"));
        let period = accrual(vec![declared, invented("a"), invented("b")]);
        assert_eq!(Shares::of(&period).meters_count(), 3);
        let mut sum = Shares::default();
        sum.add(&Shares::billed(&period));
        sum.add(&Shares::billed(&period));
        let lines: Vec<_> = sum.undeclared().map(|u| (u.standing, u.lines)).collect();
        assert_eq!((sum.meters_count(), &lines[..]), (1, &[("unrated", 4)][..]));
        assert_eq!(
            sum.standings()[&Standing::Unrated("undeclared_meter".to_owned())],
            (4, Decimal::ONE)
        );
        let text = serde_json::to_string(&sum).expect("JSON");
        let mut sum: Shares = serde_json::from_str(&text).expect("own JSON");
        sum.remove(&Shares::billed(&period));
        sum.remove(&Shares::billed(&period));
        assert_eq!(sum, Shares::default());
    }
}
