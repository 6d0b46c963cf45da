//! All that a tenant's period costs, from quantities that somebody gives: for trying prices
//! without a server, and for the tests that stand beside them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId};

use super::{LineItem, rate, rate_fee};
use crate::catalog::{Card, Catalog, Price, Profile};
use crate::period::Period;

/// What a period costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'c> {
    /// What is agreed with the tenant.
    pub profile: &'c Profile,
    /// The version of the card that is in force.
    pub card: &'c Card,
    /// The period.
    pub period: Period,
    /// In the order of the card's prices: usage, and what is due without it.
    pub lines: Vec<LineItem<'c>>,
    /// Usage that is not rated.
    pub unrated: Vec<Unrated>,
    /// The sum of the lines.
    pub net: Decimal,
}

/// Usage that is not rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrated {
    /// Of which meter.
    pub meter: MeterName,
    /// How much, in the meter's smallest unit.
    pub quantity: Quantity,
    /// True if the card has no price for it, false if its amount is too large.
    pub no_price: bool,
}

/// Why there is no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStatement {
    /// Nothing is agreed with the tenant.
    #[error("tenant `{0}` has no profile, and there is no default one")]
    NoProfile(TenantId),
    /// The card begins later.
    #[error("no version of card `{card}` is in force when the period {period} begins")]
    NoCardInForce {
        /// The card's id.
        card: String,
        /// The period.
        period: Period,
    },
    /// A price without usage, or the sum.
    #[error("the amounts are too large to be computed exactly")]
    TooLarge,
}

/// Rates a whole period: as a closing would, with these quantities as the only usage.
///
/// # Errors
/// See [`NoStatement`].
pub fn statement<'c>(
    catalog: &'c Catalog,
    tenant: &TenantId,
    period: Period,
    usage: &BTreeMap<MeterName, Quantity>,
) -> Result<Statement<'c>, NoStatement> {
    let profile = catalog
        .profile(tenant)
        .ok_or_else(|| NoStatement::NoProfile(tenant.clone()))?;
    let zone = profile.calendar.zone;
    let card = catalog
        .card_in_force(&profile.card, zone, period.start)
        .ok_or_else(|| NoStatement::NoCardInForce {
            card: profile.card.clone(),
            period,
        })?;
    let day = zone.date_at(period.start);
    let mut lines = Vec::new();
    let mut unrated = Vec::new();
    for price in &card.prices {
        let line = match &price.meter {
            None => rate_fee(price, card, day),
            Some(name) => {
                let used = usage.get(name).copied();
                let meter = catalog.meter(name).filter(|_| is_line(price, used));
                let Some(meter) = meter else { continue };
                rate(used.unwrap_or_default(), meter, price, card, day)
            }
        };
        match (line, &price.meter) {
            (Ok(line), _) => lines.push(line),
            (Err(_), Some(meter)) => {
                unrated.push(Unrated {
                    meter: meter.clone(),
                    quantity: usage.get(meter).copied().unwrap_or_default(),
                    no_price: false,
                });
            }
            (Err(_), None) => return Err(NoStatement::TooLarge),
        }
    }
    let is_priced = |name: &MeterName| {
        let mut prices = card.prices.iter();
        prices.any(|price| price.meter.as_ref() == Some(name))
    };
    for (meter, quantity) in usage.iter().filter(|(name, _)| !is_priced(name)) {
        unrated.push(Unrated {
            meter: meter.clone(),
            quantity: *quantity,
            no_price: true,
        });
    }
    let net = lines
        .iter()
        .try_fold(Decimal::ZERO, |sum, line| sum.checked_add(line.amount))
        .ok_or(NoStatement::TooLarge)?;
    Ok(Statement {
        profile,
        card,
        period,
        lines,
        unrated,
        net,
    })
}

fn is_line(price: &Price, used: Option<Quantity>) -> bool {
    used.is_some() || price.is_due_unused()
}
