//! The models of prices, and the keys that each of them has.

use std::str::FromStr;

use super::per_event;
use super::read::list;

/// The models that this version has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelName {
    Flat,
    PerUnit,
    Package,
    Graduated,
    Volume,
    Matrix,
    Percentile,
    Percentage,
    PerEvent,
}

/// What a price by percentile says beside what it is quoted for.
const PERCENTILE_KEYS: [&str; 8] = [
    "percentile",
    "slot",
    "directions",
    "missing",
    "commit",
    "unit",
    "overage",
    "tiers",
];

const MODELS: &[(&str, ModelName)] = &[
    ("per_unit", ModelName::PerUnit),
    ("package", ModelName::Package),
    ("graduated", ModelName::Graduated),
    ("volume", ModelName::Volume),
    ("matrix", ModelName::Matrix),
    (ModelName::PERCENTILE, ModelName::Percentile),
    ("percentage", ModelName::Percentage),
    ("per_event", ModelName::PerEvent),
    ("flat", ModelName::Flat),
];

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = MODELS.iter().find(|(name, _)| *name == text);
        known.map(|(_, model)| *model).ok_or_else(|| {
            let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
            format!(
                "model `{}` is not supported (expected {})",
                text.chars().take(32).collect::<String>(),
                list(&names)
            )
        })
    }
}

impl ModelName {
    /// The name of a price by percentile.
    pub(super) const PERCENTILE: &str = "percentile";

    /// The keys that a price of this model may have.
    pub(super) fn keys(self) -> Vec<&'static str> {
        let mut keys = vec!["id", "model", "rounding", "tax", "prorate", "gl"];
        if self == Self::Flat {
            keys.extend(["flat", "billed", "once", "every", "trial"]);
            return keys;
        }
        keys.extend(["meter", "per", "convert", "maximum", "minimum"]);
        match self {
            Self::Flat => {}
            Self::PerUnit | Self::Package | Self::Graduated | Self::Volume => {
                keys.extend([
                    "allowance",
                    "interval",
                    "interval_from",
                    "over",
                    "prorated",
                    "each",
                ]);
                keys.extend(self.scheme_keys());
            }
            Self::Matrix => keys.extend([
                "allowance",
                "interval",
                "over",
                "prorated",
                "each",
                "calendar",
                "precedence",
                "rows",
            ]),
            Self::Percentage => {
                keys.retain(|key| *key != "per" && *key != "convert");
                keys.extend([
                    "percent",
                    "tiers",
                    "bounds",
                    "first_flat",
                    "tier_by",
                    "allowance",
                    "interval",
                    "interval_from",
                ]);
                keys.extend(per_event::EVENT_KEYS);
            }
            Self::PerEvent => {
                keys.retain(|key| *key != "convert");
                keys.extend(["unit", "increments", "tiers", "tier_by", "bounds"]);
                keys.extend(per_event::EVENT_KEYS);
            }
            Self::Percentile => keys.extend(PERCENTILE_KEYS),
        }
        keys
    }

    /// The keys that a row of this model may have beside those of all rows; none for a model that
    /// rows do not have.
    pub(super) fn row_keys(self) -> Vec<&'static str> {
        let events = per_event::EVENT_KEYS;
        match self {
            Self::PerUnit | Self::Package | Self::Graduated | Self::Volume => {
                let keys = ["per", "tier_pool", "allowance", "uses"];
                [&keys, self.scheme_keys()].concat()
            }
            Self::Percentage => [
                &["percent", "tiers", "tier_by", "bounds", "first_flat"][..],
                &events,
            ]
            .concat(),
            Self::PerEvent => [
                &["per", "unit", "increments", "tiers", "tier_by", "bounds"][..],
                &events,
            ]
            .concat(),
            Self::Percentile => [&["per"][..], &PERCENTILE_KEYS].concat(),
            Self::Flat | Self::Matrix => Vec::new(),
        }
    }

    /// The keys that say how a quantity becomes an amount.
    pub(super) const fn scheme_keys(self) -> &'static [&'static str] {
        match self {
            Self::PerUnit => &["unit"],
            Self::Package => &["unit", "blocks"],
            Self::Graduated | Self::Volume => {
                &["unit", "tiers", "blocks", "bounds", "tier_by", "first_flat"]
            }
            Self::Flat | Self::Matrix | Self::Percentile | Self::Percentage | Self::PerEvent => &[],
        }
    }
}
