//! Billing profiles: what is agreed with a tenant.

use std::str::FromStr;
use std::sync::Arc;

use chrono::Datelike;
use tollgate_common::TenantId;

use super::read::{Reader, Section};
use super::{Catalog, Places, check_id, read_date, templates};
use crate::period::{Calendar, Every, Zone};

/// What is agreed with a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whose; `None` for the default profile, which serves every tenant without one.
    pub tenant: Option<TenantId>,
    /// The rate card by its id.
    pub card: String,
    /// Zone and length of the billing periods.
    pub calendar: Calendar,
}

/// A tenant's name, or `*`.
struct Whose(Option<TenantId>);

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self(None));
        }
        let tenant = TenantId::new(text).map_err(|error| error.to_string())?;
        if tenant.is_unattributed() {
            return Err(format!(
                "`{tenant}` collects usage that belongs to nobody, so it has no profile"
            ));
        }
        Ok(Self(Some(tenant)))
    }
}

/// What a profile says of its tenant; a template may have these keys too.
pub(super) const TERMS: &[&str] = &["card", "zone", "period"];

/// Reads the file of one profile into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &[&["tenant", templates::KEY], TERMS].concat());
    let whose = reader.parse::<Whose>(
        root,
        "tenant",
        "a tenant's name, or \"*\" for everybody else",
    );
    let terms = read_terms(catalog, reader, root, places);
    let Some((Whose(tenant), field)) = whose else {
        return;
    };
    let what = match &tenant {
        Some(tenant) => format!("profile of `{tenant}`"),
        None => "default profile".to_owned(),
    };
    if !places.claim(reader, &field, &what, path) {
        return;
    }
    let Some(Terms { card, calendar }) = terms else {
        return;
    };
    let profile = Arc::new(Profile {
        tenant: tenant.clone(),
        card,
        calendar,
    });
    match tenant {
        Some(tenant) => {
            catalog.profiles.insert(tenant, profile);
        }
        None => catalog.default_profile = Some(profile),
    }
}

/// What a profile says of its tenant.
pub(super) struct Terms {
    card: String,
    calendar: Calendar,
}

/// Reads the keys of [`TERMS`]; `None` if there is a mistake in one of them, or one is missing.
pub(super) fn read_terms<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Option<Terms> {
    let zone = reader.parse::<Zone>(root, "zone", "an IANA time zone such as \"Europe/Berlin\"");
    let every = match root.field("period") {
        Some(_) => read_period(reader, root),
        None => Some(Every::Month),
    };
    let card = read_card(catalog, reader, root, places);
    let (zone, _) = zone?;
    let every = every?;
    Some(Terms {
        card: card?,
        calendar: Calendar { zone, every },
    })
}

fn read_card<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Option<String> {
    let (card, field) = reader.text(root, "card", "the id of a card")?;
    if let Err(error) = check_id(card) {
        reader.refuse_field(&field, error);
        return None;
    }
    if !catalog.cards.contains_key(card) && !places.broken_cards.contains(card) {
        let message =
            format!("card `{card}` is not declared (expected the `id` of a file in cards/)");
        reader.refuse_field(&field, message);
        return None;
    }
    Some(card.to_owned())
}

fn read_period<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<Every> {
    let period = reader.table(root, "period", "a table such as { every = \"P1M\" }")?;
    reader.only(&period, &["every", "anchor"]);
    let every = reader.parse::<Every>(&period, "every", "a length such as \"P1M\"");
    if let Some(field) = period.field("anchor") {
        let text = reader.string(&field, "a date such as \"2026-01-01\"")?;
        if every
            .as_ref()
            .is_some_and(|(every, _)| *every != Every::Month)
        {
            reader.refuse_field(&field, "only months have an anchor (expected none)");
            return None;
        }
        let first_of_month = read_date(text).is_some_and(|date| date.day() == 1);
        if !first_of_month {
            reader.refuse_field(
                &field,
                "anniversary periods are not supported (expected the first of a month, \
                 such as \"2026-01-01\", or no anchor)",
            );
            return None;
        }
    }
    every.map(|(every, _)| every)
}
