//! Billing profiles: what is agreed with a tenant.

use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use super::agreement::{self, Agreement, PayerPlace};
use super::discounts::read_validity;
use super::files::Part;
use super::read::{Reader, Section};
use super::{Catalog, Places, check_id, contracted, templates};
use crate::period::{Anchor, Calendar, Every, NeedsAnchor, Period, Zone};

/// What is agreed with a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whose; `None` for the default profile, which serves every tenant without one.
    pub tenant: Option<TenantId>,
    /// The first day on which it holds, in its zone; `None` for always.
    pub from: Option<NaiveDate>,
    /// The first day on which it does not hold any more; `None` for never.
    pub until: Option<NaiveDate>,
    /// The rate card by its id.
    pub card: String,
    /// Zone and length of the billing periods.
    pub calendar: Calendar,
    /// What becomes of usage that comes after its period was closed.
    pub late: Late,
    /// How long after its end a period waits for agents; `None` for what the configuration says.
    pub settlement: Option<Settlement>,
    /// What else is agreed.
    pub agreement: Agreement,
}

impl Profile {
    /// When it holds: outside of this time nothing is agreed with the tenant.
    pub fn validity(&self) -> Period {
        let begin = |day| self.calendar.zone.start_of_day(day);
        Period {
            start: self.from.map_or(Timestamp::EPOCH, begin),
            end: self.until.map_or(Timestamp::MAX, begin),
        }
    }
}

/// What becomes of usage that comes after its period was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// The period is corrected: each line that changes is taken back whole, and stands anew.
    #[default]
    Correct,
    /// The difference is booked in the next period that is open, outside of that period's tiers,
    /// minimum and maximum.
    Next,
}

impl FromStr for Late {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "correct" => Ok(Self::Correct),
            "next" => Ok(Self::Next),
            _ => Err(format!(
                "unknown policy `{text}` (expected `correct` or `next`)"
            )),
        }
    }
}

/// How long a period waits for agents after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement(i64);

impl Settlement {
    /// In milliseconds, 0 to a leap year.
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl FromStr for Settlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = match text.parse() {
            _ if text == "PT0S" => Some(0),
            Ok(Every::Seconds(seconds)) => Some(i64::from(seconds)),
            Ok(Every::Days(days)) => Some(i64::from(days) * 86_400),
            Ok(Every::Months(_)) | Err(_) => None,
        };
        seconds
            .filter(|seconds| *seconds <= i64::from(Every::SECONDS_MAX))
            .map(|seconds| Self(seconds * 1000))
            .ok_or_else(|| format!("`{text}` is no settlement time (expected such as `P3D` or `PT12H`, at most 366 days)"))
    }
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
pub(super) const TERMS: &[&str] = &[
    "card",
    "zone",
    "period",
    "late",
    "settlement",
    contracted::KEY,
    "discount",
    "maximum",
    "minimum",
    "commitment",
    "grant",
    "tax",
    "currency",
    "payer",
    "threshold",
];

/// Reads the file of one profile into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    let own = ["tenant", templates::KEY, "from", "until"];
    reader.only(root, &[&own, TERMS].concat());
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
    let validity = read_validity(reader, root);
    let Some(Terms {
        card,
        calendar,
        late,
        settlement,
        agreement,
    }) = terms
    else {
        return;
    };
    let Some((from, until)) = validity else {
        return;
    };
    if agreement.payer.is_some() {
        for field in ["from", "until"]
            .into_iter()
            .filter_map(|key| root.field(key))
        {
            let message = "somebody else pays for the tenant: its agreement has no beginning and no \
                           end (expected the day in `payer.from`, or no payer)";
            reader.refuse_field(&field, message);
        }
    }
    if let Some(payer) = root.field("payer") {
        places.payers.push(PayerPlace {
            tenant: tenant.clone(),
            place: reader.place(&payer),
        });
    }
    let profile = Arc::new(Profile {
        tenant: tenant.clone(),
        from,
        until,
        card,
        calendar,
        late,
        settlement,
        agreement,
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
    late: Late,
    settlement: Option<Settlement>,
    agreement: Agreement,
}

/// Reads the keys of [`TERMS`]; `None` if there is a mistake in one of them, or one is missing.
pub(super) fn read_terms<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Option<Terms> {
    let zone = reader.parse::<Zone>(root, "zone", "an IANA time zone such as \"Europe/Berlin\"");
    let length = match root.field("period") {
        Some(_) => read_period(reader, root),
        None => Some((Every::MONTH, None)),
    };
    let late = reader.maybe::<Late>(root, "late", "\"correct\" or \"next\"");
    let settlement = reader.maybe::<Settlement>(root, "settlement", "such as \"P3D\" or \"PT12H\"");
    let card = read_card(catalog, reader, root, places);
    let (zone, _) = zone?;
    let (every, anchor) = length?;
    let card = card?;
    let calendar = Calendar {
        zone,
        every,
        anchor,
    };
    let agreement = agreement::read(catalog, reader, root, (&card, calendar), places)?;
    Some(Terms {
        card,
        calendar,
        late: late?.map_or_else(Late::default, |(late, _)| late),
        settlement: settlement?.map(|(settlement, _)| settlement),
        agreement,
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
    if !catalog.cards.contains_key(card)
        && !places.broken_cards.contains(card)
        && !places.unread.contains(&Part::Cards)
    {
        let message =
            format!("card `{card}` is not declared (expected the `id` of a file in cards/)");
        reader.refuse_field(&field, message);
        return None;
    }
    Some(card.to_owned())
}

/// The length of periods, and where one begins.
fn read_period<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<(Every, Option<Anchor>)> {
    let period = reader.table(root, "period", "a table such as { every = \"P1M\" }")?;
    reader.only(&period, &["every", "anchor"]);
    let every = reader.parse::<Every>(&period, "every", "a length such as \"P1M\"");
    let anchor = match period.field("anchor") {
        Some(_) => Some(
            reader
                .parse::<Anchor>(&period, "anchor", "a date such as \"2026-01-31\"")?
                .0,
        ),
        None => None,
    };
    let (every, field) = every?;
    if anchor.is_none() && every.needs_anchor() {
        reader.refuse_field(&field, NeedsAnchor(every));
        return None;
    }
    Some((every, anchor))
}
