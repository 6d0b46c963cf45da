//! Bandwidth: a percentile of the slots of a period in place of their sum.

use std::str::FromStr;

use rust_decimal::Decimal;
use tollgate_common::Aggregation;

use super::Meter;
use super::measure::{Amount, Measure};
use super::price::{Blocks, Model, Tier};
use super::prices::{amount, checked, one_tier};
use super::read::{Reader, Section, list};
use super::terms;
use super::tiers;
use super::unit::Unit;
use crate::rate::Ratio;

/// Which value of a period's slots is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percentile {
    /// Above 0, at most 100.
    pub percent: Ratio,
    /// Length of a slot in seconds: a divisor of 3600.
    pub slot_secs: u32,
    /// What is ranked.
    pub directions: Directions,
    /// What a slot without data counts as.
    pub missing: Missing,
    /// The least that is priced, in the price's unit.
    pub commit: Option<Measure>,
    /// What the price counts: a rate, or a level.
    pub unit: Unit,
    /// How many of the price's unit one of the meter's unit per second is.
    pub factor: Ratio,
    /// True if what is ranked are values that do not add up: the largest or the newest of each slot.
    pub is_gauge: bool,
}

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// The greater of the two percentiles.
    Greater,
    /// The sum of all directions, slot by slot.
    Sum,
    /// Both percentiles, each priced by itself.
    Each,
    /// Only what comes in.
    In,
    /// Only what goes out.
    Out,
}

impl Directions {
    /// True if usage without a direction is of no use.
    pub const fn needs_direction(self) -> bool {
        !matches!(self, Self::Sum)
    }
}

impl FromStr for Directions {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "greater" => Ok(Self::Greater),
            "sum" => Ok(Self::Sum),
            "each" => Ok(Self::Each),
            "in" => Ok(Self::In),
            "out" => Ok(Self::Out),
            _ => Err(
                "expected `greater` (of the two percentiles), `sum` (of both in each slot), `each` \
                 (both are charged), `in` or `out`",
            ),
        }
    }
}

/// What a slot without data counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// As zero, but not at all where usage was declared lost.
    #[default]
    ZeroUnlessLost,
    /// As zero.
    Zero,
    /// Not at all.
    Excluded,
}

impl FromStr for Missing {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "zero_unless_lost" => Ok(Self::ZeroUnlessLost),
            "zero" => Ok(Self::Zero),
            "excluded" => Ok(Self::Excluded),
            _ => Err(
                "expected `zero_unless_lost` (zero, but excluded where usage was declared lost), \
                 `zero` or `excluded`",
            ),
        }
    }
}

/// Lengths of slots.
const SLOTS: &[(&str, u32)] = &[
    ("PT1M", 60),
    ("PT5M", 300),
    ("PT10M", 600),
    ("PT15M", 900),
    ("PT30M", 1800),
    ("PT1H", 3600),
];

/// Shortest slot of values that do not add up: each series has one in every slot.
const GAUGE_SLOT_SECS_MIN: u32 = 300;

struct Slot(u32);

impl Default for Slot {
    fn default() -> Self {
        Self(300)
    }
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = SLOTS.iter().find(|(name, _)| *name == text);
        known.map(|(_, secs)| Self(*secs)).ok_or_else(|| {
            let names: Vec<&str> = SLOTS.iter().map(|(name, _)| *name).collect();
            format!("not a slot that is sampled (expected {})", list(&names))
        })
    }
}

/// A percentile with the price of what it yields.
pub(super) struct Bandwidth {
    pub(super) percentile: Percentile,
    pub(super) unit: Unit,
    pub(super) per: Measure,
    pub(super) model: Model,
}

/// Reads a percentile price.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
) -> Option<Bandwidth> {
    let is_gauge = matches!(meter.aggregation, Aggregation::Max | Aggregation::Last);
    let is_level = is_gauge || meter.aggregation == Aggregation::TimeWeighted;
    if !is_level && meter.aggregation != Aggregation::Sum {
        let message = format!(
            "a percentile is taken of what each slot has (expected a meter of aggregation `sum`, \
             `time_weighted`, `max` or `last`, and that of `{}` is `{}`)",
            meter.name, meter.aggregation
        );
        reader.refuse(section.span(), &section.key("meter"), message);
        return None;
    }
    let expected = "a percentage such as \"95\"";
    let percent = reader.parse::<Amount>(section, "percentile", expected);
    let slot = reader.or_default::<Slot>(section, "slot", "a length such as \"PT5M\"");
    let expected = "\"greater\", \"sum\", \"each\", \"in\" or \"out\"";
    let directions = reader.parse::<Directions>(section, "directions", expected);
    let expected = "\"zero_unless_lost\", \"zero\" or \"excluded\"";
    let missing = reader.or_default::<Missing>(section, "missing", expected);
    if is_gauge {
        check_gauge(reader, section, slot.as_ref()?, directions.as_ref()?.0)?;
    }
    // What a level has counted in a slot, by the slot's length, is the level.
    let rate = if is_level {
        meter.unit.clone()
    } else {
        meter.unit.per_second()
    };
    let (unit, per, factor) = read_per(reader, section, &rate)?;
    let commit = match section.field("commit") {
        None => None,
        Some(field) => {
            let text = reader.string(&field, &format!("a quantity such as \"200\" {unit}"))?;
            Some(checked(reader, &field, Measure::bound(text, &unit))?)
        }
    };
    let model = read_model(reader, section, &unit, &per, commit.as_ref());
    let (Amount(percent), field) = percent?;
    if percent.is_zero() || percent > Decimal::ONE_HUNDRED {
        let message = format!("expected a percentage above 0 and at most 100, not {percent}");
        reader.refuse_field(&field, message);
        return None;
    }
    let percentile = Percentile {
        percent: Ratio::from_decimal(percent),
        slot_secs: slot?.0,
        directions: directions?.0,
        missing: missing?,
        commit,
        unit: unit.clone(),
        factor,
        is_gauge,
    };
    Some(Bandwidth {
        percentile,
        unit,
        per,
        model: model?,
    })
}

/// Values that do not add up are kept series by series, in slots that are not too many, whatever their
/// direction.
fn check_gauge<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    slot: &Slot,
    directions: Directions,
) -> Option<()> {
    let (key, message) = if slot.0 < GAUGE_SLOT_SECS_MIN {
        (
            "slot",
            "values that do not add up are kept by longer slots (expected `PT5M`, `PT10M`, `PT15M`, \
             `PT30M` or `PT1H`)",
        )
    } else if directions != Directions::Sum {
        (
            "directions",
            "values that do not add up have no direction (expected `sum`: of all series)",
        )
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key(key), message);
    None
}

/// What the price is quoted for, a rate or a level: `Mbit/s`, `100 Mbit/s`, `{host}`.
fn read_per<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    rate: &Unit,
) -> Option<(Unit, Measure, Ratio)> {
    let expected = format!("a rate such as \"{rate}\"{}", rate.multiples());
    let (text, field) = reader.text(section, "per", &expected)?;
    let whole = if text.contains(' ') {
        text.to_owned()
    } else {
        format!("1 {text}")
    };
    // Checks that the unit is one of the meter's, per time.
    checked(reader, &field, Measure::with_unit(&whole, rate))?;
    let unit = Measure::unit_of(&whole)?;
    let factor = rate
        .in_one(unit.as_str())
        .and_then(|one| Ratio::ONE.checked_div(one));
    let Some(factor) = factor else {
        reader.refuse_field(&field, "the factor does not fit the numbers");
        return None;
    };
    let per = checked(reader, &field, Measure::with_unit(&whole, &unit))?;
    let per = Measure::made(text.to_owned(), per.value());
    Some((unit, per, factor))
}

fn read_model<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
    per: &Measure,
    commit: Option<&Measure>,
) -> Option<Model> {
    let tier = |from, to, unit| Tier {
        from,
        to,
        unit: Some(unit),
        flat: None,
        per: None,
        minimum: None,
    };
    if section.has("tiers") {
        for name in ["unit", "overage"] {
            if let Some(field) = section.field(name) {
                let message = format!("the tiers say what it costs (expected no `{name}`)");
                reader.refuse_field(&field, message);
                return None;
            }
        }
        let tiers = tiers::read(reader, section, unit, Some(per))?;
        let mut model = one_tier(tier(Ratio::ZERO, None, Decimal::ZERO), Blocks::Exact);
        model.tiers = tiers;
        return Some(model);
    }
    let expected = "a price as a decimal string such as \"0.80\"";
    let price = amount(reader, section, "unit", expected);
    let overage = reader.maybe::<Amount>(section, "overage", expected)?;
    let price = price?;
    let mut model = one_tier(tier(Ratio::ZERO, None, price), Blocks::Exact);
    if let Some((Amount(overage), field)) = overage {
        let Some(commit) = commit else {
            reader.refuse_field(
                &field,
                "there is nothing that it is over (expected `commit`)",
            );
            return None;
        };
        model.tiers = vec![
            tier(Ratio::ZERO, Some(commit.clone()), price),
            tier(commit.value(), None, overage),
        ];
    }
    Some(model)
}

/// The rounding of a rate before it is priced.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_convert<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
) -> Option<Option<super::Convert>> {
    let (convert, converted) = terms::read_convert(reader, section, unit)?;
    if converted != *unit {
        let message = "a rate is rounded, not converted (expected `to` and `round` alone)";
        reader.refuse(section.span(), &section.key("convert"), message);
        return None;
    }
    Some(convert)
}
