//! What a test says that earlier periods left.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::super::cards::Date;
use super::super::measure::Amount;
use super::super::prices::checked;
use super::super::read::{Reader, Section};
use crate::bill::{Carried, Contribution, Offline, Reached, Taxed};

/// What earlier periods left: `before`.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    offline: &Offline<'_>,
) -> Option<Carried> {
    let mut carried = Carried::default();
    if !root.has("before") {
        return Some(carried);
    }
    let expected = "a table such as { commitment.year = \"4000.00\", credit = \"10.00\" }";
    let table = reader.table(root, "before", expected)?;
    reader.only(
        &table,
        &[
            "commitment",
            "grant",
            "credit",
            "advance",
            "level",
            "reached",
        ],
    );
    let amount = "an amount as a decimal string such as \"10.00\"";
    if let Some((Amount(credit), _)) = reader.maybe::<Amount>(&table, "credit", amount)? {
        carried.credit = credit;
    }
    // All that was before is told of the instant before the period.
    let earlier = Timestamp::from_millis(offline.period.start.millis().saturating_sub(1));
    if table.has("grant") {
        let grants = reader.table(&table, "grant", "a table of what was used of each grant")?;
        for id in grants.names() {
            let (Amount(used), field) = reader.parse::<Amount>(&grants, &id, amount)?;
            let mut known = offline.profile.agreement.grants.iter();
            let Some(grant) = known.find(|grant| grant.id == id) else {
                reader.refuse_field(&field, format!("the profile has no grant `{id}`"));
                return None;
            };
            let before = BTreeMap::from([(earlier, used)]);
            carried.grants.insert(grant.carried_key(), before);
        }
    }
    if table.has("commitment") {
        let expected = "a table of what was spent towards each commitment";
        let commitments = reader.table(&table, "commitment", expected)?;
        for id in commitments.names() {
            let Some((key, term, codes)) = offline.commitment_term(&id) else {
                let message = format!("there is no commitment `{id}` in its term");
                reader.refuse(commitments.span(), &commitments.key(&id), message);
                return None;
            };
            let (counted, charged, day) = read_spent(reader, &commitments, &id)?;
            let part = Contribution {
                term,
                counted,
                charged,
                taxed: day.map(|day| Taxed { codes, day }),
                held: None,
            };
            carried
                .commitments
                .insert(key, BTreeMap::from([(earlier, part)]));
        }
    }
    if table.has("advance") {
        let expected = "a table of what was charged in advance for each fee";
        let fees = reader.table(&table, "advance", expected)?;
        let mut charged = Vec::new();
        for id in fees.names() {
            let (Amount(amount), field) = reader.parse::<Amount>(&fees, &id, amount)?;
            let Some(fee) = offline.advance(&id, amount) else {
                reader.refuse_field(&field, format!("the card has no fee `{id}`"));
                return None;
            };
            charged.push(fee);
        }
        carried.advance.insert(offline.period.start, charged);
    }
    if table.has("reached") {
        let expected = "a table of what earlier periods have of each price whose tiers go on";
        let prices = reader.table(&table, "reached", expected)?;
        for id in prices.names() {
            let (text, field) = reader.text(&prices, &id, "a quantity such as \"1000\"")?;
            let Some((key, term, meter)) = offline.reached(&id) else {
                let message =
                    format!("the card has no price `{id}` whose tiers go on over periods");
                reader.refuse_field(&field, message);
                return None;
            };
            let quantity = checked(reader, &field, meter.read_quantity(text))?;
            let part = BTreeMap::from([(earlier, Reached { term, quantity })]);
            carried.reached.insert(key, part);
        }
    }
    Some(carried)
}

/// What counted towards a commitment, and what was charged for it: `"4000.00"`, or a table of both.
fn read_spent<'d>(
    reader: &mut Reader<'d>,
    commitments: &Section<'d>,
    id: &str,
) -> Option<(Decimal, Decimal, Option<NaiveDate>)> {
    let amount = "an amount as a decimal string such as \"10.00\"";
    let is_text = commitments.field(id)?.value.as_str().is_some();
    if is_text {
        let (Amount(counted), _) = reader.parse::<Amount>(commitments, id, amount)?;
        return Some((counted, Decimal::ZERO, None));
    }
    let expected = "an amount, or a table with `counted` and `charged`";
    let table = reader.table(commitments, id, expected)?;
    reader.only(&table, &["counted", "charged", "taxed_on"]);
    let day = reader.maybe::<Date>(&table, "taxed_on", "a date such as \"2026-06-30\"");
    let (Amount(counted), _) = reader.parse::<Amount>(&table, "counted", amount)?;
    let (Amount(charged), _) = reader.parse::<Amount>(&table, "charged", amount)?;
    Some((counted, charged, day?.map(|(Date(day), _)| day)))
}
