//! Usage that is not rated, and why.

use tollgate_common::{MeterName, Quantity};

/// Usage that is not rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnratedUsage {
    /// Of which meter; `None` for a fee, and for a price beside the one that carries the usage.
    pub meter: Option<MeterName>,
    /// Which price could not be computed, if one applies.
    pub price: Option<String>,
    /// How much, in the meter's smallest unit.
    pub quantity: Quantity,
    /// Why.
    pub reason: Unrated,
}

/// Why usage is not rated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unrated {
    /// No catalog was in force.
    NoCatalog,
    /// The catalog does not declare the meter.
    UndeclaredMeter,
    /// The tenant has no profile and there is no default one.
    NoProfile,
    /// The card had no version in force.
    NoCardInForce,
    /// The card has no price for the meter.
    NoPrice,
    /// No row of the price's matrix describes it, or a percentile's direction is not told.
    NoRow,
    /// Single events are priced, and it does not say which one it is.
    NoEvent,
    /// The price became another one in the period, under the same id.
    PriceChanged,
    /// The amount does not fit the numbers.
    TooLarge,
    /// The sum is below zero, and is rated as zero; the quantity is negative.
    BelowZero,
}

impl Unrated {
    /// A sentence for people.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::NoCatalog => "no catalog was in force",
            Self::UndeclaredMeter => "the catalog does not declare this meter",
            Self::NoProfile => "the tenant has no billing profile and there is no default one",
            Self::NoCardInForce => "no version of the rate card was in force",
            Self::NoPrice => "the rate card has no price for this meter",
            Self::NoRow => "no row of the price describes it, or no percentile can be of it",
            Self::NoEvent => {
                "it does not say which event it is or is below zero, and events are priced one by one"
            }
            Self::PriceChanged => {
                "the price counts something else in one part of the period than in another"
            }
            Self::TooLarge => "the amount is too large to be computed exactly",
            Self::BelowZero => "the sum is below zero, and is rated as zero",
        }
    }

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCatalog => "no_catalog",
            Self::UndeclaredMeter => "undeclared_meter",
            Self::NoProfile => "no_profile",
            Self::NoCardInForce => "no_card_in_force",
            Self::NoPrice => "no_price",
            Self::NoRow => "no_row",
            Self::NoEvent => "no_event",
            Self::PriceChanged => "price_changed",
            Self::TooLarge => "amount_too_large",
            Self::BelowZero => "below_zero",
        }
    }
}
