//! Reads how a price is billed and taxed.

use std::str::FromStr;

use super::price::{Billed, PriceTerms};
use super::read::{Reader, Section};
use super::{Catalog, Places, around, tax};
use crate::ledger::{Account, AccountError};

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

/// Reads the keys `tax`, `billed`, `prorate` and `gl`; `None` if there is a mistake in one of them.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<PriceTerms> {
    let taxes = tax::read_codes(catalog, reader, section, places);
    let billed = reader.or_default(section, "billed", "\"in_arrears\" or \"in_advance\"");
    let prorate = around::read_prorate(reader, section);
    let gl = reader.maybe::<Gl>(section, "gl", "a general-ledger account such as \"8400\"");
    Some(PriceTerms {
        taxes: taxes?,
        billed: billed?,
        prorate: prorate?,
        gl: gl?.map(|(Gl(name), _)| name),
    })
}
