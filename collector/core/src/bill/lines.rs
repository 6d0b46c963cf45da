//! From usage and prices to rated lines, before anything stands around them.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity};

use super::carried::{Advance, Carried};
use super::lanes::{self, Track};
use super::line::{BillLine, LineKey, LineRole};
use super::plan::Plan;
use super::unrated::{Unrated, UnratedUsage};
use super::{BillInput, Metered, NoBill, Slice, Stage};
use crate::catalog::{Billed, Card, FirstFlat, Meter, Price, Profile};
use crate::rate::{LineItem, MeterUsage, NoAmount, Outcome, Ratio, rate_fee, rate_meter};

/// For how many periods it is kept what was charged for them in advance: late usage never comes
/// for older ones.
const ADVANCE_PERIODS_MAX: usize = 400;

/// A rated line, before anything stands around it.
pub(super) struct Draft<'c> {
    pub(super) key: LineKey,
    pub(super) card: &'c Card,
    pub(super) taxes: &'c [String],
    pub(super) kind: DraftKind<'c>,
}

/// What a draft is.
pub(super) enum DraftKind<'c> {
    /// A price.
    Rated {
        item: LineItem<'c>,
        /// The part of the whole period that the price is in force for.
        fraction: Ratio,
        /// Its maximum and minimum for that part.
        maximum: Option<Ratio>,
        minimum: Option<Ratio>,
        /// Of a fee: its exact amounts for that part.
        fee: Option<Box<Fee>>,
        /// What was charged for it in advance.
        charged: Option<&'c Advance>,
    },
    /// A fee of the next period.
    Advance(LineItem<'c>),
    /// A fee that was charged in advance and is not due any more.
    Unused(&'c Advance),
}

/// What a fee comes to for the part of a period, before rounding.
#[derive(Clone, Copy)]
pub(super) struct Fee {
    /// As the card lists it.
    pub(super) list: Ratio,
    /// At the tenant's contracted rate.
    pub(super) base: Ratio,
}

/// Rates every price of every card of the period.
pub(super) fn rated<'c>(
    input: &BillInput<'c>,
    carried: &mut Carried,
) -> Result<(Vec<Draft<'c>>, Vec<UnratedUsage>), NoBill> {
    let plans = Plan::all(input.slices);
    let mut rating = Rating {
        input,
        day: input.zone.date_at(input.period.start),
        drafts: Vec::new(),
        unrated: Vec::new(),
        rated: BTreeMap::new(),
    };
    rating.meters();
    for plan in &plans {
        for price in prices(plan) {
            if price.meter.is_none() {
                rating.fee(plan, price);
            } else {
                rating.usage(plan, price)?;
            }
        }
    }
    rating.left();
    rating.unused();
    rating.advance(carried);
    Ok((rating.drafts, rating.unrated))
}

/// The prices of a plan: those of the last version in their order, then those that only earlier
/// ones have.
fn prices<'c>(plan: &Plan<'c>) -> Vec<&'c Price> {
    let mut prices: Vec<&Price> = plan.card().prices.iter().collect();
    for (_, card) in plan.versions.iter().rev().skip(1) {
        for price in &card.prices {
            // A fee and a price of usage make different lines; of two meters one line would be
            // the other's, so that the last one is rated and the other is not.
            let same = |known: &&Price| {
                known.id == price.id && known.meter.is_none() == price.meter.is_none()
            };
            if !prices.iter().any(same) {
                prices.push(price);
            }
        }
    }
    prices
}

/// A version of a price: of the same id and meter.
pub(super) fn find<'c>(card: &'c Card, like: &Price) -> Option<&'c Price> {
    let mut prices = card.prices.iter();
    prices.find(|price| price.id == like.id && price.meter == like.meter)
}

/// What is rated by the versions of one price.
type RatedKey<'c> = (&'c str, &'static str, &'c str, Option<&'c MeterName>);

fn rated_key<'c>(card: &'c Card, price: &'c Price) -> RatedKey<'c> {
    let currency = card.currency.code();
    (&card.id, currency, &price.id, price.meter.as_ref())
}

struct Rating<'i, 'c> {
    input: &'i BillInput<'c>,
    /// The day on which the period begins.
    day: NaiveDate,
    drafts: Vec<Draft<'c>>,
    unrated: Vec<UnratedUsage>,
    /// What was rated and has no line yet.
    rated: BTreeMap<RatedKey<'c>, LineItem<'c>>,
}

fn key(role: LineRole, card: &Card, price: &Price) -> LineKey {
    LineKey {
        role,
        card: Some(card.id.clone()),
        id: price.id.clone(),
        currency: card.currency.code().to_owned(),
    }
}

/// A fee that is charged in advance.
pub(super) fn advance(card: &Card, price: &Price, profile: &Profile, amount: Decimal) -> Advance {
    Advance {
        key: key(LineRole::Fee, card, price),
        amount,
        taxes: taxes(price, profile).to_vec(),
        tax: None,
    }
}

/// Notes what tax was charged on fees of the next period.
pub(super) fn note_taxes(input: &BillInput<'_>, lines: &[BillLine<'_>], carried: &mut Carried) {
    let next = input.next.map(|next| next.period.start);
    let fees = next.and_then(|start| carried.advance.get_mut(&start));
    for fee in fees.into_iter().flatten() {
        let same = |line: &&BillLine<'_>| {
            line.key.role == LineRole::Advance
                && (&line.key.card, &line.key.id) == (&fee.key.card, &fee.key.id)
                && line.key.currency == fee.key.currency
        };
        fee.tax = lines.iter().find(same).map(|line| line.tax);
    }
}

/// The taxes of a price.
pub(super) fn taxes<'c>(price: &'c Price, profile: &'c Profile) -> &'c [String] {
    match &price.terms.taxes {
        Some(taxes) => taxes,
        None => &profile.agreement.taxes,
    }
}

impl<'c> Rating<'_, 'c> {
    /// Rates all meters.
    fn meters(&mut self) {
        let input = self.input;
        let mut catalogs = input.slices.iter().rev().filter_map(|slice| slice.catalog);
        let newest = catalogs.next();
        for (&name, metered) in input.usage {
            let meter = newest
                .and_then(|catalog| catalog.meter(name))
                .or_else(|| catalogs.clone().find_map(|catalog| catalog.meter(name)));
            let Some(meter) = meter else {
                self.no_meter(name, metered);
                continue;
            };
            for track in metered.tracks() {
                self.track(name, meter, track);
            }
        }
    }

    /// Rates what is priced by itself of a meter.
    fn track(&mut self, name: &MeterName, meter: &'c Meter, track: Track<'c, 'c>) {
        let input = self.input;
        let carried = track.carried();
        let prices = || track.slices.iter().filter_map(|slice| slice.priced);
        if let Some((reason, quantity)) = track.lost() {
            let price = prices().next().map(|(_, price)| price);
            match quantity {
                Some(quantity) => self.unrated.push(UnratedUsage {
                    meter: Some(name.clone()),
                    price: price.map(|price| price.id.clone()),
                    quantity,
                    reason,
                }),
                None => self.unknown(price, reason),
            }
            return;
        }
        let periods = (input.period, input.whole);
        for outcome in rate_meter(track.usage, meter, periods, track.slices, false) {
            match outcome {
                // Nothing is due unused in a period that does not count.
                Outcome::Line(_) if !input.due && is_unused(track.usage) => {}
                // A first tier's flat fee is not prorated.
                Outcome::Line(item)
                    if input.is_remainder()
                        && is_unused(track.usage)
                        && item.price.model.first_flat == FirstFlat::Always => {}
                Outcome::Line(item) => {
                    self.rated.insert(rated_key(item.card, item.price), item);
                }
                Outcome::Unrated {
                    reason: why,
                    price,
                    quantity,
                } => {
                    let why = match why {
                        NoAmount::NoPrice => reason(input.slices, name),
                        NoAmount::NoRow => Unrated::NoRow,
                        NoAmount::NoEvent => Unrated::NoEvent,
                        NoAmount::PriceChanged => Unrated::PriceChanged,
                        NoAmount::TooLarge => Unrated::TooLarge,
                        NoAmount::BelowZero => Unrated::BelowZero,
                    };
                    let beside = matches!(why, Unrated::NoRow | Unrated::BelowZero);
                    let quantity = match carried {
                        lanes::Carried::Some(own) if !beside => own,
                        lanes::Carried::All | lanes::Carried::Some(_) => quantity,
                        // The price that carries the usage says so.
                        lanes::Carried::Nothing if beside => continue,
                        lanes::Carried::Nothing => {
                            self.unknown(price, why);
                            continue;
                        }
                    };
                    self.unrated.push(UnratedUsage {
                        meter: Some(name.clone()),
                        price: price.map(|price| price.id.clone()),
                        quantity,
                        reason: why,
                    });
                }
            }
        }
    }

    /// A price that is not computed, of usage that another one carries.
    fn unknown(&mut self, price: Option<&Price>, reason: Unrated) {
        self.unrated.push(UnratedUsage {
            meter: None,
            price: price.map(|price| price.id.clone()),
            quantity: Quantity::ZERO,
            reason,
        });
    }

    /// Usage of a meter that no catalog of the period declares.
    fn no_meter(&mut self, name: &MeterName, metered: &Metered<'c>) {
        if !is_unused(&metered.usage) {
            self.unrated.push(UnratedUsage {
                meter: Some(name.clone()),
                price: None,
                quantity: metered.usage.total().unwrap_or(Quantity::MAX),
                reason: reason(self.input.slices, name),
            });
        }
    }

    fn usage(&mut self, plan: &Plan<'c>, price: &'c Price) -> Result<(), NoBill> {
        let Some(item) = self.rated.remove(&rated_key(plan.card(), price)) else {
            return Ok(());
        };
        let by = price.terms.prorate;
        let (_, fraction) =
            plan.prorated(self.input, by, |card| find(card, price).map(|_| Ratio::ONE))?;
        let limit = |of, whole| plan.limit(self.input, price, of, whole);
        let kind = DraftKind::Rated {
            item,
            fraction,
            maximum: limit(|price| price.maximum, true)?,
            minimum: limit(|price| price.minimum, false)?,
            fee: None,
            charged: None,
        };
        self.drafts.push(Draft {
            key: key(LineRole::Usage, plan.card(), price),
            card: plan.card(),
            taxes: taxes(price, plan.profile),
            kind,
        });
        Ok(())
    }

    fn fee(&mut self, plan: &Plan<'c>, price: &'c Price) {
        let is_whole = price.terms.prorate.is_none();
        if !self.input.due || (is_whole && self.input.is_remainder()) {
            return;
        }
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

    /// Usage that was rated by a price of which there is no line is not rated: a version of the
    /// price for another meter has its line.
    fn left(&mut self) {
        for ((_, _, price, meter), item) in std::mem::take(&mut self.rated) {
            let metered = meter.and_then(|meter| self.input.usage.get(meter));
            let quantity = metered.map_or(item.quantity, |metered| metered.carried(&item));
            if !quantity.is_zero() {
                self.unrated.push(UnratedUsage {
                    meter: meter.cloned(),
                    price: Some(price.to_owned()),
                    quantity,
                    reason: Unrated::NoPrice,
                });
            }
        }
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
    fn unused(&mut self) {
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

    /// Charges the next period's fees that are billed in advance, with the period's last invoice.
    fn advance(&mut self, carried: &mut Carried) {
        let Some(next) = self.input.next.filter(|_| self.input.stage == Stage::Final) else {
            return;
        };
        let day = self.input.zone.date_at(next.period.start);
        let card = next.profile.agreement.card(next.card);
        let mut charged = Vec::new();
        for price in &card.prices {
            if price.meter.is_some() || price.terms.billed != Billed::InAdvance {
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
        while carried.advance.len() > ADVANCE_PERIODS_MAX {
            carried.advance.pop_first();
        }
        if charged.is_empty() {
            carried.advance.remove(&next.period.start);
        } else {
            carried.advance.insert(next.period.start, charged);
        }
    }
}

/// True if nothing was counted.
fn is_unused(usage: &MeterUsage) -> bool {
    usage.parts().len() == 0
}

/// Why usage of a meter has no price.
fn reason(slices: &[Slice<'_>], meter: &MeterName) -> Unrated {
    let Some(catalog) = slices.iter().rev().find_map(|slice| slice.catalog) else {
        return Unrated::NoCatalog;
    };
    if catalog.meter(meter).is_none() {
        Unrated::UndeclaredMeter
    } else if slices.iter().all(|slice| slice.profile.is_none()) {
        Unrated::NoProfile
    } else if slices.iter().all(|slice| slice.card.is_none()) {
        Unrated::NoCardInForce
    } else {
        Unrated::NoPrice
    }
}
