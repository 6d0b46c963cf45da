//! What the collector knows, read over HTTP and summed exactly.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use serde::Deserialize;
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry};

use crate::http;

/// The conservation account of a tenant's meter, in the meter's unit.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Account {
    pub(crate) tenant: String,
    pub(crate) meter: String,
    pub(crate) accepted: Decimal,
    pub(crate) counted: Decimal,
    pub(crate) refused: Decimal,
    pub(crate) lost: Decimal,
    pub(crate) pending: Decimal,
}

/// An agent as the collector sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Agent {
    pub(crate) agent: String,
    pub(crate) watermark: String,
    pub(crate) duplicates: u64,
    pub(crate) forks: u64,
}

#[derive(Deserialize)]
struct Period {
    status: String,
}

#[derive(Deserialize)]
struct Accrual {
    tenant: String,
    lines: Vec<AccrualLine>,
}

#[derive(Deserialize)]
struct AccrualLine {
    /// A fee has none.
    meter: Option<String>,
    amount: Option<Decimal>,
}

#[derive(Deserialize)]
struct LedgerRow {
    entry: LedgerEntry,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) accounts: Vec<Account>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) ledger: Vec<LedgerEntry>,
    pub(crate) open_periods: usize,
    /// Rated amount of open periods by tenant and meter.
    pub(crate) accrued: BTreeMap<(String, String), Decimal>,
}

impl Figures {
    /// Asks the collector.
    pub(crate) fn read(http: SocketAddr) -> Result<Self> {
        let periods: Vec<Period> = http::all(http, "/v1/periods")?;
        let accruals: Vec<Accrual> = http::all(http, "/v1/accruals")?;
        let mut accrued = BTreeMap::new();
        for accrual in accruals {
            for line in accrual.lines {
                let Some(meter) = line.meter else { continue };
                let amount: &mut Decimal =
                    accrued.entry((accrual.tenant.clone(), meter)).or_default();
                *amount = add(*amount, line.amount.unwrap_or_default())?;
            }
        }
        Ok(Self {
            accounts: http::all(http, "/v1/conservation")?,
            agents: http::all(http, "/v1/agents")?,
            ledger: http::all::<LedgerRow>(http, "/v1/ledger")?
                .into_iter()
                .map(|row| row.entry)
                .collect(),
            open_periods: periods
                .iter()
                .filter(|period| period.status == "open")
                .count(),
            accrued,
        })
    }

    /// The quantity that entries of a kind book for a tenant's meter, in the meter's unit.
    pub(crate) fn booked(&self, kinds: &[EntryKind], tenant: &str, meter: &str) -> Result<Decimal> {
        let of = |entry: &&LedgerEntry| {
            let posting = &entry.posting;
            kinds.contains(&posting.kind)
                && posting
                    .tenant
                    .as_ref()
                    .is_some_and(|t| t.as_str() == tenant)
                && posting.meter.as_ref().is_some_and(|m| m.as_str() == meter)
        };
        self.ledger
            .iter()
            .filter(of)
            .try_fold(Decimal::ZERO, |sum, entry| add(sum, quantity(entry)?))
    }

    /// The amount booked for a tenant's meter.
    pub(crate) fn amount(&self, tenant: &str, meter: &str) -> Decimal {
        let of = |entry: &&LedgerEntry| {
            entry
                .posting
                .tenant
                .as_ref()
                .is_some_and(|t| t.as_str() == tenant)
                && entry
                    .posting
                    .meter
                    .as_ref()
                    .is_some_and(|m| m.as_str() == meter)
        };
        self.ledger
            .iter()
            .filter(of)
            .filter_map(|entry| entry.posting.amount)
            .sum()
    }

    /// True when nothing is on its way any more and every period is booked.
    pub(crate) fn is_settled(&self) -> Result<bool> {
        if self.open_periods > 0 || self.accounts.is_empty() {
            return Ok(false);
        }
        for account in &self.accounts {
            let booked = self.booked(
                &[
                    EntryKind::Charge,
                    EntryKind::Adjustment,
                    EntryKind::Reversal,
                    EntryKind::Unrated,
                ],
                &account.tenant,
                &account.meter,
            )?;
            if !account.pending.is_zero() || booked != account.counted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An entry's quantity in the meter's unit.
pub(crate) fn quantity(entry: &LedgerEntry) -> Result<Decimal> {
    let posting = &entry.posting;
    Decimal::try_from_i128_with_scale(posting.quantity.units(), u32::from(posting.scale.get()))
        .map(|quantity| quantity.normalize())
        .with_context(|| format!("the quantity of ledger entry {} is out of range", entry.at))
}

/// A sum that never wraps or rounds.
pub(crate) fn add(a: Decimal, b: Decimal) -> Result<Decimal> {
    a.checked_add(b).context("a sum is out of range")
}
