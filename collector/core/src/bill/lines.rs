//! From usage and prices to rated lines, before anything stands around them.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tollgate_common::{MeterName, Quantity};

use super::carried::{Advance, Carried};
use super::lanes::{self, Track};
use super::line::{LineKey, LineRole};
use super::plan::Plan;
use super::reached;
use super::unrated::{Unrated, UnratedUsage};
use super::{BillInput, Metered, NoBill, Slice};
use crate::catalog::{Card, FirstFlat, Meter, Price, Profile};
use crate::rate::{LineItem, MeterUsage, NoAmount, Outcome, Ratio, rate_meter_behind};

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

pub(super) struct Rating<'i, 'c> {
    pub(super) input: &'i BillInput<'c>,
    /// The day on which the period begins.
    pub(super) day: NaiveDate,
    pub(super) drafts: Vec<Draft<'c>>,
    unrated: Vec<UnratedUsage>,
    /// What was rated and has no line yet.
    rated: BTreeMap<RatedKey<'c>, LineItem<'c>>,
}

pub(super) fn key(role: LineRole, card: &Card, price: &Price) -> LineKey {
    LineKey {
        role,
        card: Some(card.id.clone()),
        id: price.id.clone(),
        currency: card.currency.code().to_owned(),
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
        let reached = |card: &Card, price: &Price| reached::before(input, card, price, meter);
        let outcomes = rate_meter_behind(track.usage, meter, periods, track.slices, false, reached);
        for outcome in outcomes {
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
    pub(super) fn unknown(&mut self, price: Option<&Price>, reason: Unrated) {
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
