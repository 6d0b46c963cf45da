//! Prices of single events, and percentages.

use std::str::FromStr;
use std::sync::Arc;

use rust_decimal::Decimal;
use tollgate_common::Aggregation;

use super::measure::{Amount, Measure};
use super::price::{Blocks, Model, Scheme, Tier};
use super::prices::{amount, checked, one_tier};
use super::read::{Reader, Section};
use super::tiers::Block;
use super::unit::Unit;
use super::{Meter, TIERS_MAX, tiers};
use crate::rate::Ratio;

/// Most free events.
const FREE_EVENTS_MAX: u32 = 1_000_000_000;

/// The keys that concern single events.
pub(super) const EVENT_KEYS: [&str; 6] = [
    "free_counts",
    "fixed",
    "event_minimum",
    "event_maximum",
    "free_events",
    "free_quantity",
];

/// How each event is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerEvent {
    /// The dimension whose value is the event's id.
    pub dimension: Arc<str>,
    /// Due for each event that is not free; not negative.
    pub fixed: Decimal,
    /// Least that an event costs that is not free.
    pub minimum: Option<Decimal>,
    /// Most that an event costs.
    pub maximum: Option<Decimal>,
    /// How many events are free in a period.
    pub free_events: Option<u32>,
    /// How much is free in a period.
    pub free_quantity: Option<Measure>,
    /// True if what is free is used up by what increments have rounded.
    pub free_rounded: bool,
    /// What the quantity of an event costs, part by part; may be empty.
    pub segments: Vec<Segment>,
    /// True if it is the price's tiers that say what quantities cost, which events fill together.
    pub in_tiers: bool,
    /// True if it is the price's tiers that say what quantities cost, each event by its own size.
    pub by_size: bool,
}

/// A part of an event's quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// It begins above this quantity.
    pub from: Ratio,
    /// Where it ends; `None` for the last one.
    pub to: Option<Measure>,
    /// What is in it is rounded up to multiples of this.
    pub step: Option<Measure>,
    /// Price for each `per`.
    pub unit: Decimal,
}

/// A price by events or percentage.
pub(super) struct Charged {
    pub(super) per: Measure,
    pub(super) model: Model,
    pub(super) per_event: Option<PerEvent>,
}

/// Reads a percentage of a monetary meter.
pub(super) fn read_percentage<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
    currency: Option<&str>,
) -> Option<Charged> {
    let unit = meter.billed_unit();
    if let Some(currency) = currency.filter(|currency| *currency != unit.as_str()) {
        let message = format!(
            "a percentage is taken of money in the card's currency (expected a meter with the unit \
             `{currency}`, and `{}` counts `{unit}`)",
            meter.name
        );
        reader.refuse(section.span(), &section.key("meter"), message);
        return None;
    }
    let per = Measure::made(format!("100 {unit}"), Ratio::HUNDRED);
    let by_event = EVENT_KEYS.iter().any(|key| section.has(key));
    if section.has("tiers") {
        if let Some(field) = section.field("percent") {
            let message = "a percentage has `tiers` or `percent`, not both";
            reader.refuse_field(&field, message);
            return None;
        }
        let mut model = one_tier(tier(Some(Decimal::ZERO)), Blocks::Exact);
        model.bounds = reader.or_default(section, "bounds", "\"inclusive\" or \"exclusive\"")?;
        model.first_flat = reader.or_default(
            section,
            "first_flat",
            "\"usage\", \"always\" or \"prorated\"",
        )?;
        model.tiers = tiers::read_priced(reader, section, (&unit, None), Some(&per), "percent")?;
        let by_size = read_by_size(reader, section)?;
        if let Some(scheme) = by_size {
            model.scheme = scheme;
        }
        let per_event = if by_event || by_size.is_some() {
            Some(PerEvent {
                in_tiers: by_size.is_none(),
                by_size: by_size.is_some(),
                ..read_event(reader, section, meter, &unit, Vec::new())?
            })
        } else {
            None
        };
        return Some(Charged {
            per,
            model,
            per_event,
        });
    }
    if let Some(field) = section.field("tier_by") {
        reader.refuse_field(&field, "there are no tiers (expected `tiers`)");
        return None;
    }
    let expected = "a percentage as a decimal string such as \"2.9\"";
    let percent = amount(reader, section, "percent", expected)?;
    let per_event = if by_event {
        let segment = Segment {
            from: Ratio::ZERO,
            to: None,
            step: None,
            unit: percent,
        };
        Some(read_event(reader, section, meter, &unit, vec![segment])?)
    } else {
        None
    };
    Some(Charged {
        per,
        model: one_tier(tier(Some(percent)), Blocks::Exact),
        per_event,
    })
}

/// Reads a price of single events; `per` is what it is quoted for unless it says so itself.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
    per: Option<&Measure>,
) -> Option<Charged> {
    let unit = meter.billed_unit();
    let per = match (section.field("per"), per) {
        (None, Some(per)) => per.clone(),
        (None, None) => Measure::made(format!("1 {unit}"), Ratio::ONE),
        (Some(field), _) => {
            let expected = format!("what the unit price is quoted for, such as \"1 {unit}\"");
            let text = reader.string(&field, &expected)?;
            checked(reader, &field, Measure::with_unit(text, &unit))?
        }
    };
    if section.has("tiers") || section.has("tier_by") {
        return read_sized(reader, section, meter, (unit, per));
    }
    let expected = "a price as a decimal string such as \"0.40\"";
    let base = reader.maybe::<Amount>(section, "unit", expected)?;
    let base = base.map(|(Amount(base), _)| base);
    let segments = if section.has("increments") {
        read_increments(reader, section, &unit, base)?
    } else {
        let whole = |unit| Segment {
            from: Ratio::ZERO,
            to: None,
            step: None,
            unit,
        };
        base.map(whole).into_iter().collect()
    };
    if segments.is_empty() && !section.has("fixed") {
        let message = "nothing says what an event costs (expected `unit`, `increments` or `fixed`)";
        reader.refuse(section.span(), &section.key("unit"), message);
        return None;
    }
    let per_event = read_event(reader, section, meter, &unit, segments)?;
    Some(Charged {
        per,
        model: one_tier(tier(base), Blocks::Exact),
        per_event: Some(per_event),
    })
}

/// Reads a price whose tiers each event selects by its own size.
fn read_sized<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
    (unit, per): (Unit, Measure),
) -> Option<Charged> {
    if let Some(field) = section.field("increments") {
        let message = "tiers say what an event costs (expected `tiers` or `increments`)";
        reader.refuse_field(&field, message);
        return None;
    }
    let Some(scheme) = read_by_size(reader, section)? else {
        let message =
            "missing (expected { event = \"volume\" }, or `increments` in place of `tiers`)";
        reader.refuse(section.span(), &section.key("tier_by"), message);
        return None;
    };
    let mut model = one_tier(tier(Some(Decimal::ZERO)), Blocks::Exact);
    model.scheme = scheme;
    model.bounds = reader.or_default(section, "bounds", "\"inclusive\" or \"exclusive\"")?;
    model.tiers = tiers::read_priced(reader, section, (&unit, None), Some(&per), "unit")?;
    let per_event = PerEvent {
        by_size: true,
        ..read_event(reader, section, meter, &unit, Vec::new())?
    };
    Some(Charged {
        per,
        model,
        per_event: Some(per_event),
    })
}

/// Reads `tier_by` of single events: how the tiers price an event that selects them by its own size.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_by_size<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Option<Scheme>> {
    if !section.has("tier_by") {
        return Some(None);
    }
    let table = reader.table(section, "tier_by", "a table such as { event = \"volume\" }")?;
    reader.only(&table, &["event"]);
    let expected = "\"volume\" (the tier of the event prices it whole) or \"graduated\" (each tier \
                    prices what of the event lies in it)";
    let (text, field) = reader.text(&table, "event", expected)?;
    let scheme = match text {
        "volume" => Scheme::Volume,
        "graduated" => Scheme::Graduated,
        _ => {
            reader.refuse_field(&field, format!("expected {expected}"));
            return None;
        }
    };
    if let Some(field) = section.field("first_flat") {
        let message = "the fee of a tier is due for each event that reaches it (expected no \
                       `first_flat`, but `fixed`)";
        reader.refuse_field(&field, message);
        return None;
    }
    Some(Some(scheme))
}

fn tier(unit: Option<Decimal>) -> Tier {
    Tier {
        from: Ratio::ZERO,
        to: None,
        unit,
        flat: None,
        per: None,
        minimum: None,
    }
}

fn read_event<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
    unit: &Unit,
    segments: Vec<Segment>,
) -> Option<PerEvent> {
    let Some(dimension) = &meter.event else {
        let message = format!(
            "single events are priced, and meter `{}` does not tell them apart (expected `event` in \
             the meter: the dimension whose value is the event's id)",
            meter.name
        );
        reader.refuse(section.span(), &section.key("meter"), message);
        return None;
    };
    let expected = "an amount as a decimal string such as \"0.30\"";
    let fixed = reader.maybe::<Amount>(section, "fixed", expected)?;
    let minimum = reader.maybe::<Amount>(section, "event_minimum", expected)?;
    let maximum = reader.maybe::<Amount>(section, "event_maximum", expected)?;
    let maximum = maximum.map(|(Amount(maximum), _)| maximum);
    if let (Some(maximum), Some((Amount(minimum), field))) = (maximum, &minimum)
        && maximum < *minimum
    {
        let message = format!("the minimum {minimum} of an event is above its maximum {maximum}");
        reader.refuse_field(field, message);
        return None;
    }
    let free_events = if section.has("free_events") {
        let expected = "an integer from 0 to 1000000000: how many events are free";
        Some(reader.integer(section, "free_events", FREE_EVENTS_MAX, expected)?)
    } else {
        None
    };
    let free_quantity = match section.field("free_quantity") {
        None => None,
        Some(field) => {
            let text = reader.string(&field, &format!("a quantity such as \"100 {unit}\""))?;
            Some(checked(reader, &field, Measure::bound(text, unit))?)
        }
    };
    let counts: FreeCounts =
        reader.or_default(section, "free_counts", "\"used\" or \"rounded\"")?;
    let free_rounded = counts == FreeCounts::Rounded;
    let has_steps = segments.iter().any(|segment| segment.step.is_some());
    if let Some(field) = section.field("free_counts")
        && free_rounded
        && !(has_steps && free_quantity.is_some())
    {
        let message =
            "only `increments` round what a `free_quantity` is used up by (expected both)";
        reader.refuse_field(&field, message);
        return None;
    }
    Some(PerEvent {
        free_rounded,
        dimension: Arc::clone(dimension),
        fixed: fixed.map(|(Amount(fixed), _)| fixed).unwrap_or_default(),
        minimum: minimum.map(|(Amount(minimum), _)| minimum),
        maximum,
        free_events,
        free_quantity,
        segments,
        in_tiers: false,
        by_size: false,
    })
}

/// Reads parts of an event's quantity: their ends rise, and only the last has none.
fn read_increments<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
    base: Option<Decimal>,
) -> Option<Vec<Segment>> {
    let sections = reader.tables(section, "increments", TIERS_MAX);
    let field = section.field("increments")?;
    if sections.is_empty() {
        let message =
            "expected increments such as [{ to = \"60 s\", step = \"60 s\" }, { step = \"1 s\" }]";
        reader.refuse_field(&field, message);
        return None;
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(sections.len());
    let mut below = Ratio::ZERO;
    for (index, increment) in sections.iter().enumerate() {
        reader.only(increment, &["to", "step", "unit"]);
        let is_last = index + 1 == sections.len();
        let to = tiers::read_upper(reader, increment, is_last, unit, Block::None, &mut below)?;
        let step = match increment.field("step") {
            None => None,
            Some(field) => {
                let text = reader.string(&field, "a quantity such as \"60 s\"")?;
                Some(checked(reader, &field, Measure::bound(text, unit))?)
            }
        };
        let expected = "a price as a decimal string such as \"0.40\"";
        let price = match (reader.maybe::<Amount>(increment, "unit", expected)?, base) {
            (Some((Amount(price), _)), _) => price,
            (None, Some(base)) => base,
            (None, None) => amount(reader, increment, "unit", expected)?,
        };
        segments.push(Segment {
            from: segments
                .last()
                .and_then(|last| last.to.as_ref())
                .map_or(Ratio::ZERO, Measure::value),
            to,
            step,
            unit: price,
        });
    }
    Some(segments)
}

/// What uses up a free quantity.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum FreeCounts {
    /// What events have.
    #[default]
    Used,
    /// What increments have rounded that to.
    Rounded,
}

impl FromStr for FreeCounts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "used" => Ok(Self::Used),
            "rounded" => Ok(Self::Rounded),
            _ => Err("expected `used` (what events have) or `rounded` (to increments)"),
        }
    }
}

/// The key of a dimension.
pub(super) struct Dimension(pub(super) Arc<str>);

impl FromStr for Dimension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match tollgate_common::Dimensions::new([(text, "")]) {
            Ok(_) => Ok(Self(text.into())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The dimension that tells the events of a meter apart.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_dimension<'d>(
    reader: &mut Reader<'d>,
    meter: &Section<'d>,
    aggregation: Aggregation,
) -> Option<Option<Arc<str>>> {
    let expected = "the dimension whose value is an event's id";
    let Some((Dimension(dimension), field)) =
        reader.maybe::<Dimension>(meter, "event", expected)?
    else {
        return Some(None);
    };
    if aggregation != Aggregation::Sum {
        let message = "only of a meter of aggregation `sum` single events are priced";
        reader.refuse_field(&field, message);
        return None;
    }
    Some(Some(dimension))
}
