//! Commitments: an amount that is to be spent in a term, whatever is used.

use std::str::FromStr;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::around::{BOUNDS_MAX, Counts, Names, read_bool, read_money};
use super::cards::{Date, Id, Order};
use super::measure::Amount;
use super::read::{Reader, Section};
use crate::period::Every;

/// Highest factor on what exceeds a commitment.
const OVERAGE_MAX: Decimal = Decimal::ONE_THOUSAND;
/// Longest term, in months and in days.
const TERM_MONTHS_MAX: u16 = 120;
const TERM_DAYS_MAX: u16 = 3660;

/// An amount that is to be spent in a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// Its name on invoice lines; unique in the card or profile.
    pub id: String,
    /// Which lines count towards it, after discounts and before tax.
    pub counts: Counts,
    /// In the card's currency; not negative.
    pub amount: Decimal,
    /// How long a term is: months or days.
    pub term: Every,
    /// The day on which a term begins, in the tenant's zone, and others follow; `None` for the
    /// day on which the card's first version came into force.
    pub from: Option<NaiveDate>,
    /// How it is paid.
    pub pay: Pay,
    /// What is charged for each unit of money above the amount; `None` for what it costs.
    pub overage: Option<Decimal>,
    /// Whether the term's last invoice charges what was not spent.
    pub true_up: bool,
    /// What becomes of a term that the agreement does not see the end of.
    pub at_end: AtEnd,
}

/// What becomes of the rest of a term when the agreement ends before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtEnd {
    /// It is due with the agreement's last invoice.
    #[default]
    Charge,
    /// It is not charged any more.
    Waive,
}

impl FromStr for AtEnd {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "charge" => Ok(Self::Charge),
            "waive" => Ok(Self::Waive),
            _ => Err(
                "expected `charge` (the rest is due with the agreement's last invoice) or `waive` \
                 (it is not charged any more)",
            ),
        }
    }
}

impl Commitment {
    /// True if it charges something that is not used.
    pub fn is_due_unused(&self) -> bool {
        !self.amount.is_zero() && (self.true_up || self.pay != Pay::Usage)
    }
}

/// How a commitment is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pay {
    /// Usage is charged as it comes, and what is missing with the term's last invoice.
    #[default]
    Usage,
    /// The whole amount with the term's first invoice. Usage draws it down.
    Advance,
    /// Equal parts with every invoice of the term. Usage draws the whole amount down.
    Parts,
}

impl FromStr for Pay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "usage" => Ok(Self::Usage),
            "advance" => Ok(Self::Advance),
            "parts" => Ok(Self::Parts),
            _ => Err(
                "expected `usage` (as it is used, the rest at the term's end), `advance` (all \
                 with the first invoice) or `parts` (equal parts with every invoice)",
            ),
        }
    }
}

/// Reads the commitments; `None` if there is a mistake in one of them.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    names: &Names,
) -> Option<Vec<Commitment>> {
    let mut commitments: Vec<Commitment> = Vec::new();
    let mut sound = true;
    for section in reader.tables(root, "commitment", BOUNDS_MAX) {
        match read_one(reader, &section, names) {
            Some(new) if commitments.iter().any(|other| other.id == new.id) => {
                let message = format!("commitment `{}` is declared twice", new.id);
                reader.refuse(section.span(), &section.key("id"), message);
                sound = false;
            }
            Some(new) => commitments.push(new),
            None => sound = false,
        }
    }
    // What shorter terms charge counts towards longer ones.
    commitments.sort_by_key(|commitment| days(commitment.term));
    sound.then_some(commitments)
}

/// About how long a term is.
fn days(term: Every) -> u32 {
    match term {
        Every::Months(months) => u32::from(months) * 365 / 12,
        Every::Days(days) => u32::from(days),
        Every::Seconds(seconds) => seconds / 86_400,
    }
}

fn read_one<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    names: &Names,
) -> Option<Commitment> {
    let known = [
        "id", "counts", "fees", "amount", "term", "from", "pay", "overage", "true_up", "at_end",
    ];
    reader.only(section, &known);
    let id = reader.parse::<Id>(section, "id", "its name such as \"year\"");
    let counts = names.counts(reader, section);
    let expected = "an amount as a decimal string such as \"12000.00\"";
    let amount = read_money(reader, section, expected, names.currency);
    let term = read_term(reader, section);
    let from = reader.maybe::<Date>(section, "from", "a date such as \"2026-01-01\"");
    let pay = read_pay(reader, section, names);
    let overage = read_overage(reader, section);
    let at_end = reader.or_default::<AtEnd>(section, "at_end", "\"charge\" or \"waive\"");
    let true_up = match section.field("true_up") {
        None => Some(true),
        Some(field) if pay.is_some_and(|pay| pay != Pay::Usage) => {
            let message = "the whole amount is charged already (expected `true_up` only with \
                           `pay = \"usage\"`)";
            reader.refuse_field(&field, message);
            None
        }
        Some(field) => read_bool(reader, &field),
    };
    Some(Commitment {
        id: id?.0.0,
        counts: counts?,
        amount: amount?.0,
        term: term?,
        from: from?.map(|(Date(from), _)| from),
        pay: pay?,
        overage: overage?,
        true_up: true_up?,
        at_end: at_end?,
    })
}

/// What is taken off behind commitments cannot be of usage that one of them has paid for already.
fn read_pay<'d>(reader: &mut Reader<'d>, section: &Section<'d>, names: &Names) -> Option<Pay> {
    let pay = reader.or_default::<Pay>(section, "pay", "\"usage\", \"advance\" or \"parts\"")?;
    if names.order == Order::CommitmentsFirst1 && pay != Pay::Usage {
        let message = format!(
            "by `{}` discounts come behind commitments, and what usage draws down would be more than it \
             costs (expected `usage`)",
            names.order
        );
        reader.refuse(section.span(), &section.key("pay"), message);
        return None;
    }
    Some(pay)
}

fn read_term<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Every> {
    let expected = "its length such as \"P1Y\"";
    let (term, field) = reader.parse::<Every>(section, "term", expected)?;
    let fits = match term {
        Every::Months(months) => months <= TERM_MONTHS_MAX,
        Every::Days(days) => days <= TERM_DAYS_MAX,
        Every::Seconds(_) => false,
    };
    if !fits {
        reader.refuse_field(
            &field,
            "expected a term of days, months or years, at most ten years",
        );
    }
    fits.then_some(term)
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_overage<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Option<Decimal>> {
    let expected = "a factor as a decimal string such as \"1.2\"";
    let Some((Amount(factor), field)) = reader.maybe::<Amount>(section, "overage", expected)?
    else {
        return Some(None);
    };
    if factor > OVERAGE_MAX {
        reader.refuse_field(
            &field,
            format!("expected a factor of at most {OVERAGE_MAX}"),
        );
        return None;
    }
    Some(Some(factor))
}

impl Commitment {
    /// About how long a term is, to tell shorter ones from longer ones.
    pub fn term_days(&self) -> u32 {
        days(self.term)
    }
}
