//! What operators do to usage and to periods: corrections, releases of refused usage, ratings anew,
//! and agents that are not waited for any more.
//!
//! All of it comes from the journal. A preview does the very same to a copy of the tenant's state,
//! so that what is shown is what will be booked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::{
    AgentId, BatchSeq, Detail, Dimensions, Incarnation, MeterName, Quantity, Rollup, Scale,
    SeriesKey, TenantId, Timestamp, Window, WindowWidth,
};

use super::account;
use super::books::Books;
use super::usage::{UsageKey, priced_slices};
use super::{TenantFold, tenant_of};
use crate::effect::Effect;
use crate::entry::{
    CloseCause, CorrectedRow, Correction, Operated, OperatedAction, OperatedError, Rerate,
};
use crate::fold::{RowSet, Rows, TenantInput};
use crate::ledger::{EntryKind, LedgerEntry};
use crate::period::Period;
use crate::position::Position;
use crate::rate::Shape;

/// Who is said to have reported what an operator gives.
const OPERATOR: &str = "operator:correction";

/// Why an operator's action has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatedRefused {
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] OperatedError),
    /// It has been done.
    #[error("a correction with the key `{0}` has been made for this tenant already")]
    Done(String),
    /// Nothing is known of the tenant.
    #[error("tenant `{0}` has no usage")]
    UnknownTenant(TenantId),
    /// The series' name is too long.
    #[error("row {row}: {message}")]
    Series {
        /// Its place, from 1 on.
        row: usize,
        /// What is wrong.
        message: String,
    },
    /// Less was refused than is to be released.
    #[error(
        "row {row}: {refused} smallest units of it were refused in that period, fewer than are to be released"
    )]
    NotRefused {
        /// Its place, from 1 on.
        row: usize,
        /// How much was refused and not released.
        refused: Quantity,
    },
    /// Another tenant pays, whose partition does not know what was refused.
    #[error(
        "row {row}: another tenant pays for usage of this correction, so that nothing is released with it (release what the tenant pays for itself in a correction of its own, and give what somebody else pays for as more usage, without `release`)"
    )]
    ReleasesPaid {
        /// Its place, from 1 on.
        row: usize,
    },
    /// The row is later than the journal.
    #[error("row {row}: its time has not come yet")]
    Future {
        /// Its place, from 1 on.
        row: usize,
    },
    /// Its price takes no usage below zero.
    #[error(
        "row {row}: meter `{meter}` is priced by a percentile or event by event then, and neither can be of less than nothing (`period rerate` by another version of the catalog, or `ledger credit`, changes what it costs)"
    )]
    BelowSamples {
        /// Its place, from 1 on.
        row: usize,
        /// Of which meter.
        meter: MeterName,
    },
    /// The catalog was never in force.
    #[error("catalog {0} has never been in force (`catalog history` lists the versions)")]
    UnknownCatalog(crate::entry::Digest),
    /// No closed period begins in the range.
    #[error("no closed period of the tenant begins in that range")]
    NoPeriods,
}

/// What an operator's action would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// What would be booked for closed periods, late usage that waits included.
    pub booked: Vec<LedgerEntry>,
    /// How the lines of open periods would change.
    pub open: Vec<OpenChange>,
}

impl Preview {
    /// What would be booked in all, by currency; `None` where it is too large to be added up.
    pub fn totals(&self) -> BTreeMap<&str, Option<Decimal>> {
        let mut totals = BTreeMap::new();
        for posting in self.booked.iter().map(|entry| &entry.posting) {
            // A share is a part of what its payer's line says.
            if posting.kind == EntryKind::Share {
                continue;
            }
            if let (Some(amount), Some(currency)) = (posting.amount, posting.currency.as_deref()) {
                let total = totals.entry(currency).or_insert(Some(Decimal::ZERO));
                *total = total.and_then(|total| total.checked_add(amount));
            }
        }
        totals
    }
}

/// How a line of an open period would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenChange {
    /// First instant of the period, UTC.
    pub start: Timestamp,
    /// First instant after, UTC.
    pub end: Timestamp,
    /// The price's id, or the reason.
    pub line: String,
    /// Which meter; `None` for a fee.
    pub meter: Option<MeterName>,
    /// Decimal places of the quantities.
    pub scale: Scale,
    /// Quantity as it stands and as it would be.
    pub quantity: (Quantity, Quantity),
    /// Amount as it stands and as it would be.
    pub amount: (Option<Decimal>, Option<Decimal>),
    /// ISO 4217 code.
    pub currency: Option<String>,
}

impl TenantFold {
    /// Does what an operator decided, or says why not; then nothing has changed.
    pub(super) fn handle_operated(
        &mut self,
        position: Position,
        stamp: Timestamp,
        operated: &Operated,
        effects: &mut Vec<Effect>,
    ) -> Result<(), OperatedRefused> {
        operated.check()?;
        match &operated.action {
            OperatedAction::Correct(correction) => {
                self.correct(position, stamp, correction, effects)
            }
            OperatedAction::Rerate(rerate) => self.rerate(stamp, rerate),
            OperatedAction::Retire { agent } => {
                self.retired.insert(agent.clone());
                Ok(())
            }
        }
    }

    /// What an operator's action would change, in money, if it were journaled at `stamp`.
    ///
    /// # Errors
    /// See [`OperatedRefused`].
    pub fn preview(
        &self,
        stamp: Timestamp,
        operated: &Operated,
    ) -> Result<Preview, OperatedRefused> {
        let Some(tenant) = operated.tenant() else {
            operated.check()?;
            return Ok(Preview::default());
        };
        if let OperatedAction::Correct(correction) = &operated.action {
            self.check_samples(correction)?;
        }
        self.try_out(stamp, tenant, operated, |copy, position| {
            copy.handle_operated(position, stamp, operated, &mut Vec::new())
        })
    }

    /// The same of what `payer`, a tenant of this partition, pays for whoever it concerns.
    ///
    /// # Errors
    /// See [`OperatedRefused`].
    pub fn preview_for_payer(
        &self,
        stamp: Timestamp,
        payer: &TenantId,
        operated: &Operated,
    ) -> Result<Preview, OperatedRefused> {
        self.try_out(stamp, payer, operated, |copy, position| {
            copy.handle_child_operated(position, stamp, operated, &mut Vec::new());
            Ok(())
        })
    }

    /// What would be booked for a tenant, and how its open periods would change, if this were done.
    fn try_out(
        &self,
        stamp: Timestamp,
        tenant: &TenantId,
        operated: &Operated,
        done: impl FnOnce(&mut Self, Position) -> Result<(), OperatedRefused>,
    ) -> Result<Preview, OperatedRefused> {
        let mut copy = self.excerpt(tenant);
        let before = copy.open_lines(tenant);
        let position = Position::from_bytes([u8::MAX; 16]);
        done(&mut copy, position)?;
        let mut booked = Vec::new();
        for instant in copy.unsettled(tenant) {
            let cause = CloseCause::Operator {
                author: operated.note.author.clone(),
                reason: operated.note.reason.clone(),
                approved_by: operated.note.approved_by.clone(),
            };
            let Ok(closing) = copy.close_by_hand(stamp, tenant, instant, cause) else {
                continue;
            };
            let effects = copy.apply(position, stamp, &TenantInput::Close(Box::new(closing)));
            booked.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Ledger(entry) => Some(*entry),
                _ => None,
            }));
        }
        let after = copy.open_lines(tenant);
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
        let open = keys.into_iter().filter_map(|key| {
            let stands = before.get(&key).copied().unwrap_or_default();
            let would = after.get(&key).copied().unwrap_or_default();
            (stands != would).then_some(OpenChange {
                start: key.0,
                end: key.1,
                line: key.2,
                meter: key.3,
                scale: key.4,
                currency: key.5,
                quantity: (stands.0, would.0),
                amount: (stands.1, would.1),
            })
        });
        Ok(Preview {
            booked,
            open: open.collect(),
        })
    }

    /// Whether what an operator decided has been done here and holds still.
    pub fn has_done(&self, operated: &Operated) -> bool {
        match &operated.action {
            OperatedAction::Correct(correction) => self
                .tenants
                .get(&correction.tenant)
                .is_some_and(|known| known.corrections.contains(&correction.key)),
            OperatedAction::Rerate(rerate) => {
                let books = self.tenants.get(&rerate.tenant).map(|known| &known.books);
                let mut closed = books
                    .into_iter()
                    .flat_map(|books| books.starting_in(rerate.from..rerate.to))
                    .filter(|book| book.is_closed())
                    .peekable();
                closed.peek().is_some() && closed.all(|book| book.rerated == Some(rerate.catalog))
            }
            OperatedAction::Retire { agent } => self.retired.contains(agent),
        }
    }

    /// The closed periods of a tenant that have something to be settled, by an instant in each.
    pub fn unsettled(&self, tenant: &TenantId) -> Vec<Timestamp> {
        let books = self.tenants.get(tenant).map(|known| &known.books);
        let unsettled = books
            .into_iter()
            .flat_map(Books::values)
            .filter(|book| book.is_closed() && book.is_waiting());
        unsettled.map(|book| book.period.start).collect()
    }

    fn open_lines(&self, tenant: &TenantId) -> BTreeMap<OpenKey, (Quantity, Option<Decimal>)> {
        let accruals = self.accruals(Some(tenant)).into_iter();
        let lines = accruals.flat_map(|accrual| {
            let (start, end) = (accrual.start, accrual.end);
            accrual.lines.into_iter().map(move |line| {
                let key = (start, end, line.line, line.meter, line.scale, line.currency);
                (key, (line.quantity, line.amount))
            })
        });
        lines.collect()
    }

    fn correct(
        &mut self,
        position: Position,
        stamp: Timestamp,
        correction: &Correction,
        effects: &mut Vec<Effect>,
    ) -> Result<(), OperatedRefused> {
        let name = &correction.tenant;
        if self
            .tenants
            .get(name)
            .is_some_and(|known| known.corrections.contains(&correction.key))
        {
            return Err(OperatedRefused::Done(correction.key.clone()));
        }
        let rollups = self.checked_rows(stamp, correction)?;
        let rows = correction.rows.iter().zip(&rollups);
        let booked = rows.clone().flat_map(|(row, rollup)| {
            // What is released is refused no longer.
            let released = row.release.map(|reason| {
                let value = Quantity::ZERO.checked_sub(rollup.value).unwrap_or_default();
                let less = Rollup {
                    value,
                    ..rollup.clone()
                };
                (less, Some(reason))
            });
            released.into_iter().chain([(rollup.clone(), None)])
        });
        let booked = rows_of(RowSet::new(booked));
        self.handle_rows(position, stamp, &booked, effects);
        for (row, rollup) in rows {
            if row.aggregation.adds_up() && row.release.is_none() {
                let key = account::key_of(rollup);
                let account = self.accounts.change(&key, |account| {
                    account::add(&mut account.corrected, rollup.value);
                });
                effects.push(Effect::Account(account.state(&key)));
            }
        }
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, name, stamp);
        tenant.corrections.insert(correction.key.clone());
        Ok(())
    }

    /// The rows as rollups, if all of them are possible.
    fn checked_rows(
        &self,
        stamp: Timestamp,
        correction: &Correction,
    ) -> Result<Vec<Rollup>, OperatedRefused> {
        if let Some(row) = self.releases_paid(correction) {
            return Err(OperatedRefused::ReleasesPaid { row });
        }
        let mut rollups = Vec::with_capacity(correction.rows.len());
        let mut released: BTreeMap<(Timestamp, UsageKey), Quantity> = BTreeMap::new();
        for (index, row) in correction.rows.iter().enumerate() {
            let number = index + 1;
            if row.at > stamp {
                return Err(OperatedRefused::Future { row: number });
            }
            let rollup =
                rollup(&correction.tenant, row).map_err(|message| OperatedRefused::Series {
                    row: number,
                    message,
                })?;
            if let Some(reason) = row.release {
                let key = UsageKey {
                    meter: row.meter.clone(),
                    scale: row.scale,
                    aggregation: row.aggregation,
                    refused: Some(reason),
                };
                let book = self.tenants.get(&correction.tenant).and_then(|known| {
                    let period = known.calendars.period_containing(rollup.window.start());
                    known.books.get(&period.start)
                });
                let refused = book
                    .and_then(|book| book.usage().iter().find(|usage| usage.key() == key))
                    .map_or(Quantity::ZERO, super::usage::Usage::quantity);
                let start = book.map_or(Timestamp::EPOCH, |book| book.period.start);
                let before = released.entry((start, key)).or_default();
                let left = refused.checked_sub(*before).unwrap_or_default();
                if left < rollup.value {
                    return Err(OperatedRefused::NotRefused {
                        row: number,
                        refused: left,
                    });
                }
                *before = before.checked_add(rollup.value).unwrap_or(Quantity::MAX);
            }
            rollups.push(rollup);
        }
        Ok(rollups)
    }

    /// What is asked before a correction is journaled: the books set aside what a price cannot take.
    fn check_samples(&self, correction: &Correction) -> Result<(), OperatedRefused> {
        let timeline = self.catalogs.timeline();
        let negative = correction.rows.iter().enumerate();
        for (index, row) in negative.filter(|(_, row)| row.quantity.is_negative()) {
            let tenant = &correction.tenant;
            let payer = timeline.payer(tenant, row.at).unwrap_or(tenant);
            let Ok(rollup) = rollup(tenant, row) else {
                continue;
            };
            let (window, dimensions) = (rollup.window, rollup.series.dimensions());
            let period = Period {
                start: window.start(),
                end: window.end(),
            };
            let slices = timeline.slices(payer, period, timeline.known());
            let slices = priced_slices(&slices, &row.meter);
            let shape = Shape::new(period, row.aggregation, &slices);
            if !shape.takes_below_zero(window, dimensions) {
                return Err(OperatedRefused::BelowSamples {
                    row: index + 1,
                    meter: row.meter.clone(),
                });
            }
        }
        Ok(())
    }

    fn rerate(&mut self, stamp: Timestamp, rerate: &Rerate) -> Result<(), OperatedRefused> {
        if self.catalogs.get(&rerate.catalog).is_none() {
            return Err(OperatedRefused::UnknownCatalog(rerate.catalog));
        }
        let name = &rerate.tenant;
        let Some(known) = self.tenants.get_mut(name) else {
            return Err(OperatedRefused::UnknownTenant(name.clone()));
        };
        let mut any = false;
        let closed = known
            .books
            .starting_in_mut(rerate.from..rerate.to)
            .filter(|book| book.is_closed());
        for book in closed {
            any = true;
            book.catalog = Some(rerate.catalog);
            book.rerated = Some(rerate.catalog);
            book.late_since.get_or_insert(stamp);
            self.waiting
                .insert((book.period.end, name.clone(), book.period.start));
        }
        if any {
            Ok(())
        } else {
            Err(OperatedRefused::NoPeriods)
        }
    }
}

/// Period, line, meter, scale and currency.
type OpenKey = (
    Timestamp,
    Timestamp,
    String,
    Option<MeterName>,
    Scale,
    Option<String>,
);

/// True unless a correction is refused whatever the books say: what each partition that hears of it
/// finds out alone.
pub(in crate::fold) fn is_possible(operated: &Operated, stamp: Timestamp) -> bool {
    let OperatedAction::Correct(correction) = &operated.action else {
        return true;
    };
    let mut rows = correction.rows.iter();
    operated.check().is_ok()
        && rows.all(|row| row.at <= stamp && rollup(&correction.tenant, row).is_ok())
}

/// Rows that nobody reported but the operator.
pub(super) fn rows_of(rows: RowSet) -> Rows {
    Rows {
        agent: AgentId::new(OPERATOR).expect("a valid name"),
        incarnation: Incarnation::from_bytes([0; 16]),
        sequence: BatchSeq::FIRST,
        rows,
    }
}

/// A row as if an agent had reported it, in the second that it belongs to.
pub(super) fn rollup(tenant: &TenantId, row: &CorrectedRow) -> Result<Rollup, String> {
    let dimensions: Dimensions = row.series_dimensions().map_err(|error| error.to_string())?;
    let series = SeriesKey::new(tenant.clone(), row.meter.clone(), dimensions)
        .map_err(|error| error.to_string())?;
    let second = WindowWidth::from_secs(1).expect("a second divides a quarter of an hour");
    Ok(Rollup {
        series: Arc::new(series),
        aggregation: row.aggregation,
        scale: row.scale,
        window: Window::containing(row.at, second),
        value: row.quantity,
        // It is a correction of how much, and not of how often.
        events: 0,
        detail: Detail::None,
    })
}
