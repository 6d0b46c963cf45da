//! Reads how a price is billed and taxed.

use std::str::FromStr;

use super::around::read_bool;
use super::price::{Billed, Due, PriceTerms};
use super::read::{Reader, Section};
use super::{Catalog, Places, around, tax};
use crate::ledger::{Account, AccountError};
use crate::period::Every;

impl FromStr for Billed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "in_arrears" => Ok(Self::InArrears),
            "in_advance" => Ok(Self::InAdvance),
            _ => Err(
                "expected `in_arrears` (with the invoice of its period) or `in_advance` (with \
                 the one before)",
            ),
        }
    }
}

/// The name of a general-ledger account.
struct Gl(String);

impl FromStr for Gl {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Account::revenue(text).map(|_| Self(text.to_owned()))
    }
}

/// Longest term of a fee, and longest trial, in months and in days.
const MONTHS_MAX: u16 = 120;
const DAYS_MAX: u16 = 3660;

/// A length of days or months.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_length<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    key: &str,
    expected: &str,
) -> Option<Option<Every>> {
    let Some((length, field)) = reader.maybe::<Every>(section, key, expected)? else {
        return Some(None);
    };
    let fits = match length {
        Every::Months(months) => months <= MONTHS_MAX,
        Every::Days(days) => days <= DAYS_MAX,
        Every::Seconds(_) => false,
    };
    if !fits {
        let message = "expected days, months or years, at most ten years";
        reader.refuse_field(&field, message);
    }
    fits.then_some(Some(length))
}

/// For which periods a fee is due: `once`, or with `every` term.
fn read_due<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Due> {
    let every = read_length(reader, section, "every", "a term such as \"P1Y\"")?;
    let once = match section.field("once") {
        None => false,
        Some(field) => read_bool(reader, &field)?,
    };
    match (every, once) {
        (None, false) => Some(Due::EveryPeriod),
        (None, true) => Some(Due::Once),
        (Some(every), false) => Some(Due::Every(every)),
        (Some(_), true) => {
            let message = "a fee that is due once has no terms (expected `once` or `every`)";
            reader.refuse(section.span(), &section.key("every"), message);
            None
        }
    }
}

/// Reads the keys `tax`, `billed`, `once`, `every`, `trial`, `prorate` and `gl`; `None` if there is
/// a mistake in one of them.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<PriceTerms> {
    let taxes = tax::read_codes(catalog, reader, section, places);
    let billed = reader.or_default(section, "billed", "\"in_arrears\" or \"in_advance\"");
    let due = read_due(reader, section);
    let trial = read_length(reader, section, "trial", "a time such as \"P14D\"");
    let prorate = around::read_prorate(reader, section);
    let (due, trial) = (due?, trial?);
    if due != Due::EveryPeriod {
        for key in ["prorate", "trial"] {
            if let Some(field) = section.field(key) {
                let message = "what is due once, or once in a term, is due whole (expected neither \
                               `prorate` nor `trial`)";
                reader.refuse_field(&field, message);
                return None;
            }
        }
    }
    let gl = reader.maybe::<Gl>(section, "gl", "a general-ledger account such as \"8400\"");
    Some(PriceTerms {
        taxes: taxes?,
        billed: billed?,
        due,
        trial,
        prorate: prorate?.filter(|_| due == Due::EveryPeriod),
        gl: gl?.map(|(Gl(name), _)| name),
    })
}
