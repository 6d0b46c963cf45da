//! Discounts of a card.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::DISCOUNTS_MAX;
use super::cards::{Date, Id};
use super::measure::{Amount, Measure};
use super::price::{Interval, Price};
use super::prices::checked;
use super::read::{Reader, Section};

/// Highest precedence number.
const PRECEDENCE_MAX: u32 = 1_000_000;

/// A discount on one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    /// Its name on invoice lines; unique in the card.
    pub id: String,
    /// What it takes away.
    pub off: Off,
    /// Valid for periods that begin on this day or later; `None` for no beginning.
    pub from: Option<NaiveDate>,
    /// Valid for periods that begin before this day; `None` for no end.
    pub until: Option<NaiveDate>,
    /// Among discounts of the same kind, lower ones come first.
    pub precedence: u32,
}

/// What a discount takes away; never more than there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Off {
    /// A quantity, before it is priced.
    Quantity(Measure),
    /// A share of the amount.
    Percent {
        /// Above 0, at most 100.
        percent: Decimal,
        /// True for a share of the list amount, false for a share of what earlier discounts left.
        of_list: bool,
    },
    /// An amount in the card's currency.
    Amount(Decimal),
}

impl Off {
    /// Kinds are applied in this order.
    const fn step(&self) -> u8 {
        match self {
            Self::Quantity(_) => 0,
            Self::Percent { .. } => 1,
            Self::Amount(_) => 2,
        }
    }
}

impl Discount {
    /// Lower ones are applied first.
    pub(crate) fn rank(&self) -> (u8, u32) {
        (self.off.step(), self.precedence)
    }

    /// True for a period that begins on `day`.
    pub fn is_valid(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day < until)
    }
}

/// Reads the discounts into the prices that they apply to; `None` if there is a mistake.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    prices: Option<Vec<Price>>,
) -> Option<Vec<Price>> {
    // An empty array says that there are none; what is no array of tables is noted.
    let sections = reader.tables(root, "discount", DISCOUNTS_MAX);
    let mut prices = prices?;
    let mut ids: Vec<String> = Vec::with_capacity(sections.len());
    let mut sound = true;
    for section in &sections {
        let Some(discount) = read_discount(reader, section, &mut prices) else {
            sound = false;
            continue;
        };
        if ids.contains(&discount) {
            let message = format!("discount `{discount}` is declared twice in this card");
            reader.refuse(section.span(), &section.key("id"), message);
            sound = false;
        }
        ids.push(discount);
    }
    for price in &mut prices {
        price.discounts.sort_by_key(Discount::rank);
    }
    sound.then_some(prices)
}

/// Reads one discount into the prices that it applies to, and answers its id.
fn read_discount<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    prices: &mut [Price],
) -> Option<String> {
    reader.only(
        section,
        &[
            "id",
            "applies",
            "percent",
            "of",
            "amount",
            "quantity",
            "from",
            "until",
            "precedence",
        ],
    );
    let id = reader.parse::<Id>(section, "id", "the discount's name such as \"launch\"");
    let from = reader.maybe::<Date>(section, "from", "a date such as \"2026-01-01\"");
    let until = reader.maybe::<Date>(section, "until", "a date such as \"2027-01-01\"");
    let precedence = if section.has("precedence") {
        reader.integer(
            section,
            "precedence",
            PRECEDENCE_MAX,
            "an integer from 0 to 1000000; lower ones come first",
        )
    } else {
        Some(0)
    };
    let applies = read_applies(reader, section, prices)?;
    let off = read_off(reader, section, prices, &applies)?;
    let (Id(id), _) = id?;
    let from = from?.map(|(Date(from), _)| from);
    let until = until?;
    if let (Some(from), Some((Date(until), field))) = (from, &until)
        && *until <= from
    {
        let message = format!("the discount ends on {until}, which is not after {from}");
        reader.refuse_field(field, message);
        return None;
    }
    let discount = Discount {
        id: id.clone(),
        off,
        from,
        until: until.map(|(Date(until), _)| until),
        precedence: precedence?,
    };
    for at in applies {
        prices[at].discounts.push(discount.clone());
    }
    Some(id)
}

/// The prices that a discount applies to, by their place in the card.
fn read_applies<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    prices: &[Price],
) -> Option<Vec<usize>> {
    let Some(field) = section.field("applies") else {
        return Some((0..prices.len()).collect());
    };
    let expected = "an array of price ids such as [\"requests\"]";
    let Some(items) = field.value.as_array().filter(|items| !items.is_empty()) else {
        reader.refuse_field(&field, format!("expected {expected}"));
        return None;
    };
    let mut applies = Vec::with_capacity(items.len());
    for item in items {
        let id = item.get_ref().as_str().unwrap_or_default();
        let Some(at) = prices.iter().position(|price| price.id == id) else {
            let shown: String = id.chars().take(64).collect();
            let message = format!("price `{shown}` is not declared in this card");
            reader.refuse(item.span(), &field.key, message);
            return None;
        };
        if !applies.contains(&at) {
            applies.push(at);
        }
    }
    Some(applies)
}

fn read_off<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    prices: &[Price],
    applies: &[usize],
) -> Option<Off> {
    let kinds = ["percent", "amount", "quantity"];
    if kinds.iter().filter(|kind| section.has(kind)).count() != 1 {
        let message = "expected one of `percent`, `amount` and `quantity`";
        reader.refuse(section.span(), &section.key("percent"), message);
        return None;
    }
    if let Some(field) = section.field("of").filter(|_| !section.has("percent")) {
        reader.refuse_field(&field, "only a percentage is `of` something");
        return None;
    }
    if section.has("percent") {
        let expected = "a percentage such as \"12.5\"";
        let (Amount(percent), field) = reader.parse::<Amount>(section, "percent", expected)?;
        if percent.is_zero() || percent > Decimal::ONE_HUNDRED {
            let message = format!("expected a percentage above 0 and at most 100, not {percent}");
            reader.refuse_field(&field, message);
            return None;
        }
        let of = reader.maybe::<Base>(section, "of", "\"rest\" or \"list\"")?;
        let of_list = of.is_some_and(|(base, _)| base == Base::List);
        return Some(Off::Percent { percent, of_list });
    }
    let [only] = applies else {
        let message = "a discount of an amount or a quantity applies to one price (expected \
                       `applies` with one id)";
        reader.refuse(section.span(), &section.key("applies"), message);
        return None;
    };
    let only = &prices[*only];
    if section.has("amount") {
        let expected = "an amount as a decimal string such as \"5.00\"";
        let (Amount(amount), _) = reader.parse::<Amount>(section, "amount", expected)?;
        return Some(Off::Amount(amount));
    }
    let (text, field) = reader.text(section, "quantity", "a quantity such as \"1000\"")?;
    if only.meter.is_none() {
        reader.refuse_field(
            &field,
            "a fee has no quantity (expected `percent` or `amount`)",
        );
        return None;
    }
    if only.interval != Interval::Period || only.matrix.is_some() || only.percentile.is_some() {
        let message = "a quantity goes off a price that has one quantity in a period (expected \
                       `percent` or `amount` for one with `interval`, `rows` or `percentile`)";
        reader.refuse_field(&field, message);
        return None;
    }
    checked(reader, &field, Measure::bound(text, &only.unit)).map(Off::Quantity)
}

/// What a percentage is a share of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Rest,
    List,
}

impl std::str::FromStr for Base {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rest" => Ok(Self::Rest),
            "list" => Ok(Self::List),
            _ => Err("expected `rest` (of what earlier discounts left) or `list`"),
        }
    }
}
