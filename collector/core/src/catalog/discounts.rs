//! Discounts of a card or of a tenant.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::DISCOUNTS_MAX;
use super::around::{Counts, Names};
use super::cards::{Date, Id, Order};
use super::coupons::{self, Agreed};
use super::measure::{Amount, Measure};
use super::price::{Interval, Price};
use super::prices::checked;
use super::read::{Reader, Section};

/// Highest precedence number.
const PRECEDENCE_MAX: u32 = 1_000_000;

/// A discount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    /// Its name on invoice lines; unique in the card or profile.
    pub id: String,
    /// True if a profile agrees it: one of a card may have the same name.
    pub of_profile: bool,
    /// What it takes away.
    pub off: Off,
    /// Valid for periods that begin on this day or later; `None` for no beginning.
    pub from: Option<NaiveDate>,
    /// Valid for periods that begin before this day; `None` for no end.
    pub until: Option<NaiveDate>,
    /// Among discounts of the same kind, lower ones come first.
    pub precedence: u32,
    /// Kinds come one behind the other, lower ones first, as the card's order says.
    step: u8,
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
    const fn step(&self, order: Order) -> u8 {
        match (self, order) {
            (Self::Quantity(_), _) => 0,
            (Self::Percent { .. }, Order::Standard1 | Order::CommitmentsFirst1)
            | (Self::Amount(_), Order::AmountsFirst1) => 1,
            (Self::Amount(_), Order::Standard1 | Order::CommitmentsFirst1)
            | (Self::Percent { .. }, Order::AmountsFirst1) => 2,
        }
    }
}

impl Discount {
    /// Lower ones are applied first.
    pub(crate) fn rank(&self) -> (u8, u32) {
        (self.step, self.precedence)
    }

    /// True if it is the same discount in another version of a price.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.of_profile == other.of_profile
    }

    /// True for a period, or a version of a price in it, that begins on `day`.
    pub fn is_valid(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day < until)
    }
}

/// A discount on what several lines cost together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JointDiscount {
    /// What it takes away: a share or an amount, once.
    pub discount: Discount,
    /// The lines it is taken from, each in proportion to its amount.
    pub counts: Counts,
    /// The order of the card.
    pub order: Order,
}

/// What a discount is taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    /// Each line by itself.
    #[default]
    Line,
    /// Several lines together.
    Group,
    /// All lines together.
    Invoice,
}

impl std::str::FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "line" => Ok(Self::Line),
            "group" => Ok(Self::Group),
            "invoice" => Ok(Self::Invoice),
            _ => Err(
                "expected `line` (each line by itself), `group` (the lines that `applies` names, \
                 together) or `invoice` (all lines together)",
            ),
        }
    }
}

/// Reads the discounts: those on single lines into the prices that they apply to, and answers
/// the others; `None` if there is a mistake.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    (names, agreed): (&Names, Option<Agreed>),
    prices: &mut [Price],
) -> Option<Vec<JointDiscount>> {
    // An empty array says that there are none; what is no array of tables is noted.
    let sections = reader.tables(root, "discount", DISCOUNTS_MAX);
    let mut ids: Vec<String> = Vec::with_capacity(sections.len());
    let mut joint: Vec<JointDiscount> = Vec::new();
    let mut sound = true;
    for section in &sections {
        let Some((id, over_several)) = read_discount(reader, section, (names, agreed), prices)
        else {
            sound = false;
            continue;
        };
        if ids.contains(&id) {
            let message = format!("discount `{id}` is declared twice");
            reader.refuse(section.span(), &section.key("id"), message);
            sound = false;
        }
        ids.push(id);
        joint.extend(over_several);
    }
    for price in prices {
        price.discounts.sort_by_key(Discount::rank);
    }
    joint.sort_by_key(JointDiscount::rank);
    sound.then_some(joint)
}

impl JointDiscount {
    /// What is applied first: percentages, then amounts; of each a group's before the invoice's;
    /// then by precedence. With amounts first a group's before the invoice's; of each amounts, then
    /// percentages. With commitments first a group's before the invoice's, and of each by precedence,
    /// whatever they take.
    pub(crate) fn rank(&self) -> (u8, u8, u32) {
        let (step, precedence) = self.discount.rank();
        let of_invoice = u8::from(self.counts.prices.is_none());
        match self.order {
            Order::Standard1 => (step, of_invoice, precedence),
            Order::AmountsFirst1 => (of_invoice, step, precedence),
            Order::CommitmentsFirst1 => (of_invoice, 0, precedence),
        }
    }
}

/// Reads one discount into the prices that it applies to by themselves, and answers its id; or it
/// with its id, if it is one on several lines together.
fn read_discount<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    (names, agreed): (&Names, Option<Agreed>),
    prices: &mut [Price],
) -> Option<(String, Option<JointDiscount>)> {
    reader.only(
        section,
        &[
            "id",
            "scope",
            "applies",
            "percent",
            "of",
            "amount",
            "quantity",
            "from",
            "until",
            "periods",
            "precedence",
        ],
    );
    let id = reader.parse::<Id>(section, "id", "the discount's name such as \"launch\"");
    let valid = read_validity(reader, section)?;
    let (from, until) = coupons::read(reader, section, agreed, valid)?;
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
    let (scope, applies) = read_scope(reader, section, names)?;
    let discount = |id: &str, off: Off| {
        Some(Discount {
            step: off.step(names.order),
            id: id.to_owned(),
            of_profile: names.of_profile,
            off,
            from,
            until,
            precedence: precedence?,
        })
    };
    let is_hit = |price: &&mut Price| applies.as_ref().is_none_or(|ids| ids.contains(&price.id));
    if scope == Scope::Line {
        // A price that has a quantity in another unit in another version reads it in that unit.
        let single = applies.as_ref().map_or(names.ids.len(), Vec::len) == 1;
        let mut offs = Vec::new();
        for price in prices.iter_mut().filter(is_hit) {
            offs.push(read_off(reader, section, Some(price), single)?);
        }
        let (Id(id), _) = id?;
        for (price, off) in prices.iter_mut().filter(is_hit).zip(offs) {
            price.discounts.push(discount(&id, off)?);
        }
        return Some((id, None));
    }
    let off = read_off(reader, section, None, true)?;
    let (Id(id), _) = id?;
    let joint = JointDiscount {
        discount: discount(&id, off)?,
        order: names.order,
        counts: Counts {
            prices: applies,
            fees: true,
        },
    };
    Some((id, Some(joint)))
}

/// What a discount is taken from, and the prices that it names; `None` for all.
fn read_scope<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    names: &Names,
) -> Option<(Scope, Option<Vec<String>>)> {
    let expected = "\"line\", \"group\" or \"invoice\"";
    let scope = reader.or_default::<Scope>(section, "scope", expected)?;
    match (scope, section.field("applies")) {
        (Scope::Invoice, Some(field)) => {
            let message = "a discount on the invoice applies to all lines (expected \
                           `scope = \"group\"` with `applies`)";
            reader.refuse_field(&field, message);
            None
        }
        (Scope::Group, None) => {
            let message = "missing (expected the price ids of the group)";
            reader.refuse(section.span(), &section.key("applies"), message);
            None
        }
        (_, None) => Some((scope, None)),
        (_, Some(field)) => Some((scope, Some(names.read(reader, &field)?))),
    }
}

/// From which day on, and until before which, something holds.
pub(super) type Validity = (Option<NaiveDate>, Option<NaiveDate>);

/// Reads `from` and `until`.
pub(super) fn read_validity<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
) -> Option<Validity> {
    let from = reader.maybe::<Date>(section, "from", "a date such as \"2026-01-01\"");
    let until = reader.maybe::<Date>(section, "until", "a date such as \"2027-01-01\"");
    let from = from?.map(|(Date(from), _)| from);
    let until = until?;
    if let (Some(from), Some((Date(until), field))) = (from, &until)
        && *until <= from
    {
        let message = format!("it ends on {until}, which is not after {from}");
        reader.refuse_field(field, message);
        return None;
    }
    Some((from, until.map(|(Date(until), _)| until)))
}

/// Reads what is taken away: from the line of `price`, or from several together. `single` if there
/// is only one price that it applies to.
fn read_off<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    price: Option<&Price>,
    single: bool,
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
    if !single {
        let message = "a discount of an amount or a quantity applies to one price (expected \
                       `applies` with one id), or with `scope` to several together";
        reader.refuse(section.span(), &section.key("applies"), message);
        return None;
    }
    if section.has("amount") {
        let expected = "an amount as a decimal string such as \"5.00\"";
        let (Amount(amount), _) = reader.parse::<Amount>(section, "amount", expected)?;
        return Some(Off::Amount(amount));
    }
    let (text, field) = reader.text(section, "quantity", "a quantity such as \"1000\"")?;
    let Some(price) = price else {
        let message = "lines together have no quantity (expected `percent` or `amount`)";
        reader.refuse_field(&field, message);
        return None;
    };
    if price.meter.is_none() {
        reader.refuse_field(
            &field,
            "a fee has no quantity (expected `percent` or `amount`)",
        );
        return None;
    }
    let is_level = price.over.is_some() && price.interval == Interval::Period;
    if !(price.is_plain() || price.selecting_meter().is_some() || is_level) {
        let message = "a quantity goes off a price that has one quantity in a period (expected \
                       `percent` or `amount` for one with intervals, rows, a percentile or events)";
        reader.refuse_field(&field, message);
        return None;
    }
    checked(reader, &field, Measure::bound(text, &price.unit)).map(Off::Quantity)
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
