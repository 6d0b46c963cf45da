//! Why usage has no amount.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bill::Unrated;

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
    /// The card had no version in force.
    NoCardInForce,
    /// The card has no price for the meter.
    NoPrice,
    /// No row of the price's matrix describes it, or a percentile cannot be of it: its direction is
    /// not told, or it is below zero or too large for a slot.
    NoRow,
    /// It does not say which event it is, where single events are priced; or is below zero, or one
    /// event too many.
    NoEvent,
    /// A tax has no rate in force, or is not declared any more.
    NoTaxRate,
    /// There is no exchange rate into the tenant's currency.
    NoExchangeRate,
    /// The amount does not fit the numbers.
    AmountTooLarge,
    /// A single rollup was larger than anything that can be counted.
    RollupTooLarge,
    /// More was taken away by corrections than there was.
    BelowZero,
    /// The price became another one in the period, under the same id.
    PriceChanged,
    /// No catalog declares the meter, and there are more such meters than a period keeps.
    TooManyMeters,
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
            Self::NoRow => "no_row",
            Self::NoEvent => "no_event",
            Self::PriceChanged => "price_changed",
            Self::NoTaxRate => "no_tax_rate",
            Self::NoExchangeRate => "no_exchange_rate",
            Self::AmountTooLarge => "amount_too_large",
            Self::RollupTooLarge => "rollup_too_large",
            Self::BelowZero => "below_zero",
            Self::TooManyMeters => "too_many_meters",
        }
    }

    /// True if what is due could not be worked out, used or not.
    pub(super) const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::NoTaxRate | Self::NoExchangeRate | Self::AmountTooLarge
        )
    }

    /// A sentence for people.
    pub(super) const fn explain(self) -> &'static str {
        match self {
            Self::Unattributed => "no rule of the agent says whose usage this is",
            Self::NoCatalog => Unrated::NoCatalog.explain(),
            Self::UndeclaredMeter => Unrated::UndeclaredMeter.explain(),
            Self::ScaleMismatch => "the agent's scale is not the one that the catalog declares",
            Self::AggregationMismatch => {
                "the agent's aggregation is not the one that the catalog declares"
            }
            Self::NoProfile => Unrated::NoProfile.explain(),
            Self::NoCardInForce => Unrated::NoCardInForce.explain(),
            Self::NoPrice => Unrated::NoPrice.explain(),
            Self::NoRow => Unrated::NoRow.explain(),
            Self::NoEvent => Unrated::NoEvent.explain(),
            Self::PriceChanged => Unrated::PriceChanged.explain(),
            Self::NoTaxRate => "the catalog has no rate of a tax for the period",
            Self::NoExchangeRate => "the catalog has no exchange rate for the period",
            Self::AmountTooLarge => Unrated::TooLarge.explain(),
            Self::RollupTooLarge => "a single rollup is larger than 2^80 smallest units",
            Self::BelowZero => "corrections took away more than there was in the period",
            Self::TooManyMeters => {
                "meters that no catalog declares, together: the period has too many of them"
            }
        }
    }
}

impl fmt::Display for UnratedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
