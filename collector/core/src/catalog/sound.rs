//! What of a price can only be judged together.

use super::long_term;
use super::price::{Above, Blocks, FirstFlat, Interval, Model, Price, Scheme, TierBy};
use super::read::{Reader, Section};
use crate::rate::Site;

/// Checks a price of a card, or what contracted rates make of one in the section that agrees them;
/// `None` if there is a mistake.
pub(super) fn check<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    price: &Price,
) -> Option<()> {
    let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    let mut models = std::iter::once(&price.model).chain(rows.map(|row| &row.model));
    if price.rounding.site == Site::Increment
        && models.clone().any(|model| model.blocks == Blocks::Exact)
    {
        let message = "increments are rounded only where whole blocks are charged (expected the \
                       model `package`, or `blocks = \"started\"`)";
        reader.refuse(section.span(), &section.key("rounding"), message);
        return None;
    }
    let pooled = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    if price.interval != Interval::Period && pooled.clone().any(|row| row.pool.is_some()) {
        let message = "tiers of a pool begin anew with the period (expected no `interval`)";
        reader.refuse(section.span(), &section.key("interval"), message);
        return None;
    }
    let parted =
        price.interval != Interval::Period || price.matrix.is_some() || price.each.is_some();
    if parted && models.any(|model| model.first_flat != FirstFlat::Usage) {
        let message = "a fee that is always due is due once in a period (expected `usage`, or a \
                       price without `interval`, `rows` and `each`)";
        reader.refuse(section.span(), &section.key("first_flat"), message);
        return None;
    }
    if price.rounding.site == Site::Event && !price.tells_apart() {
        let message = "only what single events, or each of something, cost is rounded (expected a \
                       price of single events, or `each`)";
        reader.refuse(section.span(), &section.key("rounding"), message);
        return None;
    }
    if price.rounding.site == Site::Tier && price.event_dimension().is_some() {
        let message = "single events are priced without tiers (expected `at = \"event\"`)";
        reader.refuse(section.span(), &section.key("rounding"), message);
        return None;
    }
    least_of_tiers(reader, section, price)?;
    included(reader, section, price)?;
    if price.model.first_flat == FirstFlat::Prorated && price.terms.prorate.is_none() {
        let message = "the fee is prorated as the price is (expected no `prorate = \"none\"`, or \
                       `always`)";
        reader.refuse(section.span(), &section.key("first_flat"), message);
        return None;
    }
    if (price.prorated.allowance || price.prorated.tiers)
        && (price.terms.prorate.is_none() || price.interval != Interval::Period)
    {
        let message = "quantities are prorated as the price is, in the period (expected neither \
                       `prorate = \"none\"` nor `interval`)";
        reader.refuse(section.span(), &section.key("prorated"), message);
        return None;
    }
    if price.matrix.is_some()
        && price.event_dimension().is_some()
        && (price.interval != Interval::Period
            || price.over.is_some()
            || price.convert.is_some()
            || price.prorated.tiers)
    {
        let message = "single events are priced in the period, as they are (expected no `interval`, \
                       `over`, `convert` or `prorated`)";
        reader.refuse(section.span(), &section.key("rows"), message);
        return None;
    }
    rows_by_percentile(reader, section, price)?;
    long_term::check(reader, section, price)?;
    each(reader, section, price)?;
    selects(reader, section, price)?;
    levels(reader, section, price)
}

/// Tiers that cost something at least.
fn least_of_tiers<'d>(reader: &mut Reader<'d>, section: &Section<'d>, price: &Price) -> Option<()> {
    let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    let mut models = std::iter::once(&price.model).chain(rows.clone().map(|row| &row.model));
    if !models.any(|model| model.tiers.iter().any(|tier| tier.minimum.is_some())) {
        return Some(());
    }
    let own = price.per_event.iter();
    let mut events = own.chain(rows.clone().filter_map(|row| row.per_event.as_ref()));
    let message = if events.any(|event| !event.by_size) {
        "of single events no tier has a least amount (expected `event_minimum`)"
    } else if price.over.is_some() && price.interval != Interval::Period {
        "levels reach a tier many times in a period (expected no `minimum` in the tiers)"
    } else if rows.clone().any(|row| row.pool.is_some()) {
        "rows that fill a tier together have no least amount of their own (expected no `minimum` in \
         the tiers)"
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key("tiers"), message);
    None
}

/// What is included in rows together, or in each of them.
fn included<'d>(reader: &mut Reader<'d>, section: &Section<'d>, price: &Price) -> Option<()> {
    let Some(matrix) = &price.matrix else {
        return Some(());
    };
    let is_shared = price.allowance.is_some();
    if !is_shared && matrix.rows.iter().all(|row| row.allowance.is_none()) {
        return Some(());
    }
    let all_above = (price.allowance.as_ref()).is_some_and(|own| own.above == Above::All);
    let (key, message) = if all_above {
        (
            "allowance",
            "rows share what is included (expected no `above = \"all\"`, or the `allowance` of a row)",
        )
    } else if price.event_dimension().is_some() || price.percentiles().next().is_some() {
        (
            "allowance",
            "of single events and percentiles nothing is included (expected `free_quantity` or \
             `commit`)",
        )
    } else if matrix.rows.iter().any(|row| row.pool.is_some()) {
        (
            "rows",
            "a pool is filled by all that is used (expected no `tier_pool` beside an `allowance`, but \
             a first tier that costs nothing)",
        )
    } else if is_shared && price.each.is_some() {
        (
            "each",
            "rows share what is included by all that is used (expected no `each`, or the `allowance` \
             of a row)",
        )
    } else if is_shared && price.over.is_some() {
        (
            "over",
            "levels have no quantity that rows could share (expected no `over`, or the `allowance` of \
             a row)",
        )
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key(key), message);
    None
}

/// Rows that price a percentile each.
fn rows_by_percentile<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    price: &Price,
) -> Option<()> {
    let Some(matrix) = &price.matrix else {
        return Some(());
    };
    if price.percentiles().next().is_none() {
        return Some(());
    }
    let mut gauges = price.percentiles().filter(|(_, _, p)| p.is_gauge);
    let slot = gauges.next().map(|(_, _, p)| p.slot_secs);
    let (key, message) = if matrix.bands.is_some() {
        (
            "calendar",
            "a slot outside of a band has no data, so that nothing says what it counts as (expected \
             rows by dimensions)",
        )
    } else if price.each.is_some() {
        (
            "each",
            "rows by percentile are priced by all that is used (expected no `each`)",
        )
    } else if price.interval != Interval::Period || price.over.is_some() || price.prorated.tiers {
        (
            "rows",
            "a percentile is one of the whole period (expected no `interval`, `over` or `prorated`)",
        )
    } else if gauges.any(|(_, _, p)| Some(p.slot_secs) != slot) {
        (
            "rows",
            "values that do not add up are kept by the same slots in all rows (expected the same `slot`)",
        )
    } else if price.convert.is_some() {
        (
            "convert",
            "rows by percentile are priced as they are (expected no `convert`)",
        )
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key(key), message);
    None
}

/// What is priced by itself.
fn each<'d>(reader: &mut Reader<'d>, section: &Section<'d>, price: &Price) -> Option<()> {
    if price.each.is_none() {
        return Some(());
    }
    let rows = || price.matrix.iter().flat_map(|matrix| &matrix.rows);
    let refused = if price.event_dimension().is_some() {
        "single events are priced one by one already (expected no `each`)"
    } else if rows().any(|row| row.pool.is_some()) {
        "a pool is filled by all that is used (expected no `tier_pool` in the rows)"
    } else if price.over.is_some() && price.interval != Interval::Period {
        "tiers of every moment are those of the whole level (expected no `interval`)"
    } else if price.selecting_meter().is_some() {
        "each selects its tiers by its own quantity (expected no `meter` in `tier_by`)"
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key("each"), refused);
    None
}

/// What another quantity selects.
fn selects<'d>(reader: &mut Reader<'d>, section: &Section<'d>, price: &Price) -> Option<()> {
    let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    let mut models = std::iter::once(&price.model).chain(rows.map(|row| &row.model));
    let by =
        |what: fn(&TierBy) -> bool| move |model: &Model| model.tier_by.as_ref().is_some_and(what);
    if price.matrix.is_some() && models.clone().any(by(|by| matches!(by, TierBy::Meter(_)))) {
        let message = "rows select their tiers by their own quantity (expected no `meter` in \
                       `tier_by`)";
        reader.refuse(section.span(), &section.key("rows"), message);
        return None;
    }
    if price.prorated.tiers && models.clone().any(by(|by| matches!(by, TierBy::Meter(_)))) {
        let message = "another meter selects the tier by all of the period, also where the price is \
                       in force for a part of it (expected no `tiers` in `prorated`)";
        reader.refuse(section.span(), &section.key("prorated"), message);
        return None;
    }
    if (price.over.is_none() || price.interval == Interval::Period)
        && models.any(by(|by| matches!(by, TierBy::Peak)))
    {
        let message = "only a level whose tiers are those of every moment has a peak (expected \
                       `over` and an `interval`)";
        reader.refuse(section.span(), &section.key("tier_by"), message);
        return None;
    }
    Some(())
}

/// A level whose tiers are those of every moment.
fn levels<'d>(reader: &mut Reader<'d>, section: &Section<'d>, price: &Price) -> Option<()> {
    if price.over.is_none() || price.interval == Interval::Period {
        return Some(());
    }
    if price.interval == Interval::Window {
        let message = "windows may be of different widths, so that they have no common level \
                       (expected `PT15M`, `PT1H` or `P1D`)";
        reader.refuse(section.span(), &section.key("interval"), message);
        return None;
    }
    if price.rounding.site == Site::Tier {
        let message = "a tier is reached many times in a period, and rounded with the line \
                       (expected `at = \"line\"`)";
        reader.refuse(section.span(), &section.key("rounding"), message);
        return None;
    }
    let flat_by_volume = |model: &Model| {
        model.scheme == Scheme::Volume && model.tiers.iter().any(|tier| tier.flat.is_some())
    };
    let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    if std::iter::once(&price.model)
        .chain(rows.map(|row| &row.model))
        .any(flat_by_volume)
    {
        let message = "a fee that stays once its tier is reached adds to those of lower tiers \
                       (expected the model `graduated`, or tiers without `flat`)";
        reader.refuse(section.span(), &section.key("tiers"), message);
        return None;
    }
    Some(())
}
