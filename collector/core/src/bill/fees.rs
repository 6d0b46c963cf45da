//! Fees: what is due for a period, used or not, at its end or in advance; once, or once in a term.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::carried::{Advance, Carried};
use super::line::{BillLine, LineKey, LineRole};
use super::lines::{Draft, DraftKind, Fee, Rating, find, key, taxes};
use super::plan::Plan;
use super::unrated::Unrated;
use super::{BillInput, Stage};
use crate::catalog::{Billed, Card, Due, Price, Profile};
use crate::period::{Anchor, Calendar, Every, Period, Zone};
use crate::rate::{Currency, Ratio, rate_fee};

/// A fee that is charged in advance.
pub(super) fn advance(card: &Card, price: &Price, profile: &Profile, amount: Decimal) -> Advance {
    Advance {
        key: key(LineRole::Fee, card, price),
        amount,
        taxes: taxes(price, profile).to_vec(),
        tax: None,
        billed: None,
        net: None,
        exchanged: None,
    }
}

/// Notes what fees of the next period came to in the bill's currency, and what tax was charged on
/// them.
pub(super) fn note_billed(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    currency: Option<Currency>,
    carried: &mut Carried,
) {
    let next = input.next.map(|next| next.period.start);
    let fees = next.and_then(|start| carried.advance.get_mut(&start));
    for fee in fees.into_iter().flatten() {
        let same = |line: &&BillLine<'_>| {
            line.key.role == LineRole::Advance
                && (&line.key.card, &line.key.id) == (&fee.key.card, &fee.key.id)
                && line.key.currency == fee.key.currency
        };
        let line = lines.iter().find(same);
        fee.tax = line.map(|line| line.tax);
        let billed = line.zip(currency);
        fee.billed = billed.map(|(line, currency)| (line.billed, currency.code().to_owned()));
        fee.net = line.map(|line| line.net);
        fee.exchanged = line.and_then(|line| line.exchanged);
    }
}

/// The term of a length in which an instant lies, counted from a day on.
pub(super) fn term(
    zone: Zone,
    length: Every,
    from: NaiveDate,
    instant: Timestamp,
) -> Option<Period> {
    let calendar = Calendar::anchored(zone, length, Some(Anchor::of_date(from)?)).ok()?;
    Some(calendar.period_containing(instant))
}

/// True if a fee is due for a period: its only one, or that in which one of its terms begins.
fn is_due(price: &Price, zone: Zone, from: NaiveDate, period: Period) -> bool {
    let begin = zone.start_of_day(from);
    match price.terms.due {
        Due::EveryPeriod => true,
        Due::Once => period.contains(begin),
        Due::Every(length) => {
            let last = period.end.plus_millis(-1);
            let term = term(zone, length, from, last);
            begin < period.end && term.is_some_and(|term| period.start <= term.start)
        }
    }
}

/// When a trial is over, if a fee has one.
fn trial_end(price: &Price, zone: Zone, from: NaiveDate) -> Option<Timestamp> {
    let trial = price.terms.trial?;
    term(zone, trial, from, zone.start_of_day(from)).map(|trial| trial.end)
}

impl<'c> Plan<'c> {
    /// For what of it a fee with a trial is due; `None` if nothing is. What is not prorated is due
    /// unless the period begins in the trial.
    fn behind_trial(&self, price: &Price, end: Timestamp, period: Period) -> Option<Self> {
        if price.terms.prorate.is_none() {
            return (end <= period.start).then(|| self.clone());
        }
        let behind = |(span, card): &(Period, &'c Card)| {
            let start = Ord::max(span.start, end);
            let span = Period { start, ..*span };
            (span.start < span.end).then_some((span, *card))
        };
        let versions: Vec<_> = self.versions.iter().filter_map(behind).collect();
        (!versions.is_empty()).then_some(Self {
            versions,
            profile: self.profile,
        })
    }
}

impl<'c> Rating<'_, 'c> {
    /// The day on which the agreement begins, by which terms and trials of its fees count: without
    /// one that on which the card's first version came into force.
    fn begins(&self, profile: &Profile, card: &Card) -> NaiveDate {
        let mut catalogs = self.input.slices.iter().rev().filter_map(|s| s.catalog);
        let mut first = || catalogs.find_map(|catalog| catalog.versions(&card.id).first());
        let from = profile.from.or_else(|| first().map(|first| first.from));
        from.unwrap_or(card.from)
    }

    pub(super) fn fee(&mut self, plan: &Plan<'c>, price: &'c Price) {
        let input = self.input;
        let is_whole = price.terms.prorate.is_none();
        let by_period = price.terms.due == Due::EveryPeriod;
        if !input.due || (is_whole && by_period && input.is_remainder()) {
            return;
        }
        let from = self.begins(plan.profile, plan.card());
        if !is_due(price, input.zone, from, input.period) {
            return;
        }
        let behind = match trial_end(price, input.zone, from) {
            None => None,
            Some(end) => match plan.behind_trial(price, end, input.period) {
                None => return,
                behind => behind,
            },
        };
        let plan = behind.as_ref().unwrap_or(plan);
        let card = plan.card();
        let Ok(item) = rate_fee(price, card, self.day) else {
            self.fee_too_large(price);
            return;
        };
        let prorated = |of: fn(&Price) -> &Price| {
            plan.prorated(self.input, price.terms.prorate, |card| {
                of(find(card, price)?).flat_fee().map(Ratio::from_decimal)
            })
        };
        let (Ok((base, fraction)), Ok((list, _))) =
            (prorated(|own| own), prorated(Price::as_listed))
        else {
            self.fee_too_large(price);
            return;
        };
        let key = key(LineRole::Fee, card, price);
        let charged = self.charged(&key);
        let whole = fraction == Ratio::ONE
            && Ratio::from_decimal(item.base) == base
            && Ratio::from_decimal(item.list) == list;
        self.drafts.push(Draft {
            key,
            card,
            taxes: taxes(price, plan.profile),
            kind: DraftKind::Rated {
                item,
                fraction,
                maximum: None,
                minimum: None,
                fee: (!whole).then(|| Box::new(Fee { list, base })),
                charged,
            },
        });
    }

    fn fee_too_large(&mut self, price: &Price) {
        self.unknown(Some(price), Unrated::TooLarge);
    }

    /// What was charged in advance for a line of this period.
    fn charged(&self, key: &LineKey) -> Option<&'c Advance> {
        let fees = self.input.carried.advance.get(&self.input.period.start)?;
        fees.iter().find(|fee| fee.key == *key)
    }

    /// Gives back what was charged in advance for lines that there are not any more.
    pub(super) fn unused(&mut self) {
        let Some(card) = self.input.slices.iter().rev().find_map(|slice| slice.card) else {
            return;
        };
        let fees = self.input.carried.advance.get(&self.input.period.start);
        for fee in fees.into_iter().flatten() {
            if !self.drafts.iter().any(|draft| draft.key == fee.key) {
                self.drafts.push(Draft {
                    key: fee.key.clone(),
                    card,
                    taxes: &fee.taxes,
                    kind: DraftKind::Unused(fee),
                });
            }
        }
    }

    /// Charges the next period's fees that are billed in advance, with the period's last invoice. A
    /// period that owes nothing itself says nothing of the next one.
    pub(super) fn advance(&mut self, carried: &mut Carried) {
        let charges = self.input.due && self.input.stage == Stage::Final;
        let Some(next) = self.input.next.filter(|_| charges) else {
            return;
        };
        let day = self.input.zone.date_at(next.period.start);
        let card = next.profile.agreement.card(next.card);
        let mut charged = Vec::new();
        for price in &card.prices {
            if price.meter.is_some() || price.terms.billed != Billed::InAdvance {
                continue;
            }
            let (zone, period) = (self.input.zone, next.period);
            let from = self.begins(next.profile, next.card);
            // What a trial leaves of a period is charged with the period.
            let tried = trial_end(price, zone, from).is_some_and(|end| period.start < end);
            if tried || !is_due(price, zone, from, period) {
                continue;
            }
            let Ok(item) = rate_fee(price, card, day) else {
                // The period itself will say so.
                continue;
            };
            let taxes = taxes(price, next.profile);
            charged.push(advance(card, price, next.profile, item.amount));
            self.drafts.push(Draft {
                key: key(LineRole::Advance, card, price),
                card,
                taxes,
                kind: DraftKind::Advance(item),
            });
        }
        if !charged.is_empty() {
            carried.advance.insert(next.period.start, charged);
        }
    }
}
