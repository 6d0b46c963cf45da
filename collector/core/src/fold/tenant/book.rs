//! Booking: from the usage of a period to the lines of the ledger.
//!
//! A closing computes all lines of a period from its cumulative usage and books how they
//! differ from what is booked. The first time that is everything; later it is the difference
//! that late usage makes, and it names the entry that it adjusts.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, MeterName, Quantity, Scale, TenantId};

use super::usage::{PeriodBook, Usage, UsageKey};
use crate::catalog::{Card, Catalog, Meter, Price};
use crate::entry::RefusedReason;
use crate::ledger::{EntryKind, EntryRef};
use crate::period::Period;
use crate::position::Position;
use crate::rate;

/// Why usage has no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnratedReason {
    /// No rule of the agent attributed it to a tenant.
    Unattributed,
    /// No catalog was in force.
    NoCatalog,
    /// The catalog does not declare the meter.
    UndeclaredMeter,
    /// The agent counted with other decimal places than the catalog declares.
    ScaleMismatch,
    /// The agent combined values in another way than the catalog declares.
    AggregationMismatch,
    /// The tenant has no profile and there is no default one.
    NoProfile,
    /// The card had no version in force when the period began.
    NoCardInForce,
    /// The card has no price for the meter.
    NoPrice,
    /// The amount does not fit the numbers.
    AmountTooLarge,
    /// A single rollup was larger than anything that can be counted.
    RollupTooLarge,
    /// More was taken away by corrections than there was.
    BelowZero,
}

impl UnratedReason {
    /// The name used in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unattributed => "unattributed",
            Self::NoCatalog => "no_catalog",
            Self::UndeclaredMeter => "undeclared_meter",
            Self::ScaleMismatch => "scale_mismatch",
            Self::AggregationMismatch => "aggregation_mismatch",
            Self::NoProfile => "no_profile",
            Self::NoCardInForce => "no_card_in_force",
            Self::NoPrice => "no_price",
            Self::AmountTooLarge => "amount_too_large",
            Self::RollupTooLarge => "rollup_too_large",
            Self::BelowZero => "below_zero",
        }
    }

    /// A sentence for people.
    pub(super) const fn explain(self) -> &'static str {
        match self {
            Self::Unattributed => "no rule of the agent says whose usage this is",
            Self::NoCatalog => "no catalog was in force",
            Self::UndeclaredMeter => "the catalog does not declare this meter",
            Self::ScaleMismatch => "the agent's scale is not the one that the catalog declares",
            Self::AggregationMismatch => {
                "the agent's aggregation is not the one that the catalog declares"
            }
            Self::NoProfile => "the tenant has no billing profile and there is no default one",
            Self::NoCardInForce => "no version of the rate card was in force at the period's start",
            Self::NoPrice => "the rate card has no price for this meter",
            Self::AmountTooLarge => "the amount is too large to be computed exactly",
            Self::RollupTooLarge => "a single rollup is larger than 2^80 smallest units",
            Self::BelowZero => "corrections took away more than there was in the period",
        }
    }
}

impl fmt::Display for UnratedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What tells one line of a period from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LineKey {
    pub(super) account: LineAccount,
    /// `None` for a fee.
    pub(super) meter: Option<MeterName>,
    pub(super) scale: Scale,
    pub(super) aggregation: Aggregation,
}

/// Where a line belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineAccount {
    /// Rated by a price.
    Rated {
        /// The price's id.
        price: String,
        /// The currency of its card.
        currency: String,
    },
    Unrated(UnratedReason),
    Refused(RefusedReason),
}

impl LineAccount {
    fn rated(price: &Price, card: &Card) -> Self {
        Self::Rated {
            price: price.id.clone(),
            currency: card.currency.code().to_owned(),
        }
    }
}

impl LineKey {
    /// The kind of entry that books this line.
    pub(super) fn kind(&self) -> EntryKind {
        match &self.account {
            LineAccount::Rated { .. } => EntryKind::Charge,
            LineAccount::Unrated(_) => EntryKind::Unrated,
            LineAccount::Refused(_) => EntryKind::Refused,
        }
    }

    /// The line of what corrections took away beyond what there was of this one.
    fn below_zero(&self) -> Self {
        Self {
            account: LineAccount::Unrated(UnratedReason::BelowZero),
            ..self.clone()
        }
    }

    /// What the ledger calls the line: the price's id, or the reason.
    pub(super) fn name(&self) -> &str {
        match &self.account {
            LineAccount::Rated { price, .. } => price,
            LineAccount::Unrated(reason) => reason.as_str(),
            LineAccount::Refused(reason) => reason.as_str(),
        }
    }

    pub(super) fn currency(&self) -> Option<&str> {
        match &self.account {
            LineAccount::Rated { currency, .. } => Some(currency),
            LineAccount::Unrated(_) | LineAccount::Refused(_) => None,
        }
    }
}

/// What the ledger says of a line so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Booked {
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// The first entry of the line.
    pub(super) original: EntryRef,
    /// The entry that says what the line is now: the first, or the newest that took its place.
    pub(super) standing: EntryRef,
}

/// A line of a period, computed from its cumulative usage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// The arithmetic or the reason, for people.
    pub(super) text: String,
    /// The first journal entry that contributed since the last booking.
    pub(super) from: Option<Position>,
    straddling: u64,
}

impl Line {
    /// What was taken away beyond what there was: it lowers no amount, and is shown by itself.
    fn take_below_zero(&mut self, key: &LineKey) -> Option<Self> {
        let is_below = self.quantity.is_negative() && key.aggregation.adds_up();
        is_below.then(|| Self {
            quantity: std::mem::take(&mut self.quantity),
            from: self.from,
            ..Self::default()
        })
    }

    fn add(&mut self, usage: &Usage) {
        self.quantity = self
            .quantity
            .checked_add(usage.quantity())
            .expect("2^47 rollups of 2^80 units fit a quantity");
        self.straddling = self.straddling.saturating_add(usage.straddling);
        self.from = match (self.from, usage.from) {
            (Some(a), Some(b)) => Some(Ord::min(a, b)),
            (a, b) => a.or(b),
        };
    }
}

/// The price that applies to usage of a tenant in a period.
struct Applies<'c> {
    /// `None` for a fee.
    meter: Option<&'c Meter>,
    price: &'c Price,
    card: &'c Card,
    /// The day on which the period begins.
    day: NaiveDate,
}

impl Applies<'_> {
    fn rate(&self, quantity: Quantity) -> Result<rate::LineItem<'_>, rate::RateError> {
        match self.meter {
            Some(meter) => rate::rate(quantity, meter, self.price, self.card, self.day),
            None => rate::rate_fee(self.price, self.card, self.day),
        }
    }
}

/// All lines of a period.
pub(super) fn lines(
    tenant: &TenantId,
    book: &PeriodBook,
    catalog: Option<&Catalog>,
) -> BTreeMap<LineKey, Line> {
    let mut lines: BTreeMap<LineKey, Line> = BTreeMap::new();
    let mut rated: BTreeMap<LineKey, (Applies<'_>, Line)> = BTreeMap::new();
    let in_force = card_in_force(tenant, book.period, catalog);
    for usage in book.usage() {
        let key = &usage.key;
        let line_key = |account| LineKey {
            account,
            meter: Some(key.meter.clone()),
            scale: key.scale,
            aggregation: key.aggregation,
        };
        if let Some(reason) = key.refused {
            lines
                .entry(line_key(LineAccount::Refused(reason)))
                .or_default()
                .add(usage);
            continue;
        }
        match applies(tenant, catalog, in_force, key) {
            Ok(found) => {
                let account = LineAccount::rated(found.price, found.card);
                let entry = rated.entry(line_key(account));
                entry
                    .or_insert_with(|| (found, Line::default()))
                    .1
                    .add(usage);
            }
            Err(reason) => {
                lines
                    .entry(line_key(LineAccount::Unrated(reason)))
                    .or_default()
                    .add(usage);
            }
        }
    }
    if book.due
        && let (Ok((card, day)), Some(catalog)) = (in_force, catalog)
    {
        for price in card.prices.iter().filter(|price| price.is_due_unused()) {
            let meter = price.meter.as_ref().and_then(|name| catalog.meter(name));
            let key = LineKey {
                account: LineAccount::rated(price, card),
                meter: price.meter.clone(),
                scale: meter.map_or(Scale::ZERO, Meter::billed_scale),
                aggregation: meter.map_or(Aggregation::Sum, |meter| meter.aggregation),
            };
            let found = Applies {
                meter,
                price,
                card,
                day,
            };
            rated.entry(key).or_insert_with(|| (found, Line::default()));
        }
    }
    for (mut key, (found, mut line)) in rated {
        if let Some(excess) = line.take_below_zero(&key) {
            lines.insert(key.below_zero(), excess);
        }
        match found.rate(line.quantity) {
            Ok(item) => {
                line.amount = Some(item.amount);
                line.text = item.to_string();
            }
            Err(
                rate::RateError::Overflow | rate::RateError::WrongMeter | rate::RateError::NotPlain,
            ) => {
                key.account = LineAccount::Unrated(UnratedReason::AmountTooLarge);
                // Fees have no meter that tells them apart, so they share a line that names them.
                if found.meter.is_none() {
                    let before = lines.get(&key).map_or("fee", |line| &line.text);
                    line.text = format!("{before} `{}`", found.price.id);
                }
            }
        }
        lines.insert(key, line);
    }
    explain(&mut lines);
    lines
}

/// Adds what people should know of each line.
fn explain(lines: &mut BTreeMap<LineKey, Line>) {
    for (key, line) in lines {
        match &key.account {
            LineAccount::Rated { .. } => {}
            LineAccount::Unrated(reason) if line.text.is_empty() => {
                reason.explain().clone_into(&mut line.text);
            }
            LineAccount::Unrated(reason) => {
                line.text.push_str(": ");
                line.text.push_str(reason.explain());
            }
            LineAccount::Refused(reason) => {
                line.text = format!(
                    "the policy does not allow the agent this: {}",
                    reason.as_str()
                );
            }
        }
        if line.straddling > 0 {
            let note = format!(
                " (rollups that reach beyond the period's end and count where they begin: {})",
                line.straddling
            );
            line.text.push_str(&note);
        }
    }
}

/// The version of the tenant's card that is in force for a period, and the day on which the period
/// begins; or why there is none.
pub(super) fn card_in_force<'c>(
    tenant: &TenantId,
    period: Period,
    catalog: Option<&'c Catalog>,
) -> Result<(&'c Card, NaiveDate), UnratedReason> {
    if tenant.is_unattributed() {
        return Err(UnratedReason::Unattributed);
    }
    let catalog = catalog.ok_or(UnratedReason::NoCatalog)?;
    let profile = catalog.profile(tenant).ok_or(UnratedReason::NoProfile)?;
    let zone = profile.calendar.zone;
    let card = catalog
        .card_in_force(&profile.card, zone, period.start)
        .ok_or(UnratedReason::NoCardInForce)?;
    Ok((card, zone.date_at(period.start)))
}

/// The price of a series, or why there is none.
fn applies<'c>(
    tenant: &TenantId,
    catalog: Option<&'c Catalog>,
    in_force: Result<(&'c Card, NaiveDate), UnratedReason>,
    key: &UsageKey,
) -> Result<Applies<'c>, UnratedReason> {
    if tenant.is_unattributed() {
        return Err(UnratedReason::Unattributed);
    }
    let catalog = catalog.ok_or(UnratedReason::NoCatalog)?;
    let meter = catalog
        .meter(&key.meter)
        .ok_or(UnratedReason::UndeclaredMeter)?;
    if meter.billed_scale() != key.scale {
        return Err(UnratedReason::ScaleMismatch);
    }
    if meter.aggregation != key.aggregation {
        return Err(UnratedReason::AggregationMismatch);
    }
    let (card, day) = in_force?;
    let price = card
        .prices
        .iter()
        .find(|price| price.meter.as_ref() == Some(&key.meter))
        .ok_or(UnratedReason::NoPrice)?;
    Ok(Applies {
        meter: Some(meter),
        price,
        card,
        day,
    })
}

/// How a line differs from what is booked.
pub(super) struct Difference {
    pub(super) key: LineKey,
    /// Quantity and amount to be booked.
    pub(super) quantity: Quantity,
    pub(super) amount: Option<Decimal>,
    /// The line as it stands now.
    pub(super) line: Line,
    /// What is booked already, if anything is.
    pub(super) before: Option<Booked>,
}

/// What has to be booked so that the ledger says `lines`, in the order of the keys.
pub(super) fn differences(
    booked: &BTreeMap<LineKey, Booked>,
    mut lines: BTreeMap<LineKey, Line>,
) -> Vec<Difference> {
    // A line can go away: when its amount became too large it continues as unrated.
    for key in booked.keys() {
        lines.entry(key.clone()).or_insert_with(|| Line {
            amount: key.currency().map(|_| Decimal::ZERO),
            text: "0, because the usage is now booked elsewhere".to_owned(),
            ..Line::default()
        });
    }
    let mut differences = Vec::new();
    for (key, line) in lines {
        let before = booked.get(&key);
        let was = before.map_or(Quantity::ZERO, |b| b.quantity);
        let quantity = line
            .quantity
            .checked_sub(was)
            .expect("the difference of two sums of rollups fits like the sums");
        let had = before.and_then(|b| b.amount).unwrap_or_default();
        let amount = line.amount.map(|amount| difference(amount, had));
        // A fee or a minimum that cannot be computed has no quantity that would show it.
        let is_first_failure =
            before.is_none() && key.account == LineAccount::Unrated(UnratedReason::AmountTooLarge);
        if quantity.is_zero() && amount.is_none_or(|a| a.is_zero()) && !is_first_failure {
            continue;
        }
        differences.push(Difference {
            quantity,
            amount,
            before: before.cloned(),
            key,
            line,
        });
    }
    differences
}

fn difference(now: Decimal, before: Decimal) -> Decimal {
    let mut difference = now
        .checked_sub(before)
        .expect("amounts are not negative, so their difference has no more digits than they");
    // Zero has the currency's places too.
    difference.rescale(Ord::max(now.scale(), before.scale()));
    difference
}

/// The arithmetic of a difference, for people.
pub(super) fn describe(difference: &Difference) -> String {
    let text = &difference.line.text;
    let had = difference.before.as_ref().and_then(|before| before.amount);
    match (had, difference.amount) {
        (Some(had), Some(amount)) => format!("{text}; less {had} booked before = {amount}"),
        _ => text.clone(),
    }
}
