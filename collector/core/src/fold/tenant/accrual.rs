//! Accruals: what open periods would cost if they were closed now.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::{MeterName, Quantity, Scale, TenantId, Timestamp};

use super::TenantFold;
use super::aside::Aside;
use super::book::{self, Line, LineKey};
use crate::bill::{Carried, Shift, Stage};
use crate::catalog::Catalog;
use crate::entry::Digest;
use crate::ledger::{EntryKind, Role, TaxOf};

/// The lines of an open period as they stand; never authoritative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accrual {
    /// Whose.
    pub tenant: TenantId,
    /// Who pays, if another tenant does: the lines are shares of that tenant's, in its period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<TenantId>,
    /// First instant of the period, UTC.
    pub start: Timestamp,
    /// First instant after, UTC.
    pub end: Timestamp,
    /// A short name of the period, such as `2026-06`.
    pub label: String,
    /// The catalog by which it is rated; `None` while there is none.
    pub catalog: Option<Digest>,
    /// What a closing would book.
    pub lines: Vec<AccrualLine>,
}

/// A line as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccrualLine {
    /// What a closing would book it as: charge, unrated or refused.
    pub kind: EntryKind,
    /// Which part of the bill it is; `None` for what is not rated.
    pub role: Option<Role>,
    /// The price's id, or the reason.
    pub line: String,
    /// Which meter; `None` for a fee.
    pub meter: Option<MeterName>,
    /// The meter's unit, where the catalog declares it.
    pub unit: Option<String>,
    /// How much, in the meter's smallest unit.
    pub quantity: Quantity,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// Rated amount.
    pub amount: Option<Decimal>,
    /// What of it is booked already, because the period was billed before its end.
    pub booked: Option<Decimal>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Of a line of tax: what it is computed of, less what is booked already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<TaxOf>,
    /// The arithmetic, or the reason, for people.
    pub arithmetic: String,
}

impl TenantFold {
    /// Rates the open periods of one tenant, or of all, by the catalog in force; and what others pay
    /// of them. Ordered by who pays and start.
    pub fn accruals(&self, tenant: Option<&TenantId>) -> Vec<Accrual> {
        let families = self.catalogs.timeline().families();
        let payers = tenant.map(|tenant| families.payers_of(tenant));
        let concerns = |name: &TenantId| {
            tenant.is_none_or(|tenant| tenant == name)
                || payers.as_ref().is_some_and(|payers| payers.contains(name))
        };
        let names = self.tenants.keys().filter(|name| concerns(name));
        let mut accruals: Vec<Accrual> = names.flat_map(|name| self.accruals_by(name)).collect();
        accruals.retain(|accrual| tenant.is_none_or(|tenant| *tenant == accrual.tenant));
        accruals
    }

    /// Rates the open periods of a tenant, in the order of their starts; each with what those have of it
    /// for whom it pays.
    pub(super) fn accruals_by(&self, name: &TenantId) -> Vec<Accrual> {
        let mut accruals = Vec::new();
        if let Some(known) = self.tenants.get(name) {
            let catalog = self.catalogs.current_for(name);
            // What the bill of a period takes, that of the next one no longer has.
            let mut carried: Option<Carried> = None;
            let mut open = known.books.values().filter(|book| !book.is_closed());
            let mut next = open.next();
            while let Some(book) = next {
                next = open.next();
                let in_force = self.in_force(name, book);
                let terms = in_force.terms(name, book.period);
                let surroundings = self
                    .around(name, book)
                    .following(carried.as_ref(), book.period);
                let mut lines = book::lines(terms, surroundings.at(Stage::Interim), book);
                if let (Some(billed), Some(_)) = (lines.billed.take(), next) {
                    carried
                        .get_or_insert_with(|| (*known.carried).clone())
                        .leave(book.period, Some(&billed.carried), &mut Shift::default());
                }
                book::keep_booked(&book.booked, &mut lines.own);
                let accrual = |whose: &TenantId, lines: BTreeMap<LineKey, Line>| Accrual {
                    tenant: whose.clone(),
                    payer: (whose != name).then(|| name.clone()),
                    start: book.period.start,
                    end: book.period.end,
                    label: known.calendars.label(book.period),
                    catalog: catalog.map(|catalog| catalog.digest()),
                    lines: lines
                        .into_iter()
                        .map(|(key, line)| {
                            let own = book.booked.get(&key).filter(|_| whose == name);
                            let booked = own.and_then(|booked| booked.amount);
                            let aside = own.and_then(|booked| booked.aside.as_deref());
                            let tax = Aside::since(line.aside.as_deref(), aside);
                            AccrualLine {
                                booked,
                                tax: tax.and_then(|aside| aside.tax),
                                ..accrual_line(catalog, key, line, whose != name)
                            }
                        })
                        .collect(),
                };
                accruals.push(accrual(name, lines.own));
                let theirs = lines.children.into_iter();
                accruals.extend(theirs.map(|(child, lines)| accrual(&child, lines)));
            }
        }
        accruals
    }
}

/// A line as it stands; `shared` if another tenant pays for it.
fn accrual_line(
    catalog: Option<&Arc<Catalog>>,
    key: LineKey,
    line: Line,
    shared: bool,
) -> AccrualLine {
    AccrualLine {
        kind: match key.kind() {
            EntryKind::Charge if shared => EntryKind::Share,
            kind => kind,
        },
        role: key.role(),
        line: key.name().to_owned(),
        unit: catalog
            .and_then(|catalog| catalog.meter(key.meter.as_ref()?))
            .filter(|meter| meter.billed_scale() == key.scale)
            .map(|meter| meter.billed_unit().to_string()),
        quantity: line.quantity,
        scale: key.scale,
        amount: line.amount,
        booked: None,
        tax: None,
        currency: key.currency().map(str::to_owned),
        arithmetic: line.text,
        meter: key.meter,
    }
}
