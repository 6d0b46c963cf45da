//! What the demo says in the end: invoice lines and the conservation line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Result;
use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry};

use crate::figures::{Figures, add, quantity};
use crate::load::Acknowledged;
use crate::world::ACKNOWLEDGED_METER;

/// The sum of a tenant's meter over all periods.
#[derive(Clone, Debug, Serialize)]
struct Line {
    tenant: String,
    meter: String,
    /// In the meter's unit.
    quantity: Decimal,
    amount: Decimal,
    currency: String,
}

/// The JSON object of `--json`, and everything that the text is made of.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    accepted: Decimal,
    billed: Decimal,
    unrated: Decimal,
    refused: Decimal,
    declared_lost: Decimal,
    duplicates_refused: u64,
    forks: u64,
    ledger_verified: bool,
    restarts_survived: u32,
    /// DogStatsD lines that the kernel took from the demo; what it dropped while an agent was
    /// dead was never accepted.
    lines_sent: u64,
    /// Orders that an agent answered for, summed by the demo itself.
    acknowledged: Decimal,
    /// Orders whose answer was cut off by the kill.
    unanswered: Decimal,
    /// Orders that the ledger bills.
    acknowledged_billed: Decimal,
    /// True if what is billed is what was acknowledged, for every tenant, give or take what
    /// was unanswered.
    acknowledged_agrees: bool,
    /// True if `accepted = billed + unrated + refused + declared_lost` for every tenant and meter.
    conserved: bool,
    lines: Vec<Line>,
    #[serde(skip)]
    invoices: BTreeMap<String, Vec<LedgerEntry>>,
}

impl Report {
    /// Compares what was counted with what was booked.
    pub(crate) fn new(
        figures: &Figures,
        known: &Acknowledged,
        lines_sent: u64,
        restarts: u32,
        verified: bool,
    ) -> Result<Self> {
        let mut report = Self {
            accepted: Decimal::ZERO,
            billed: Decimal::ZERO,
            unrated: Decimal::ZERO,
            refused: Decimal::ZERO,
            declared_lost: Decimal::ZERO,
            duplicates_refused: figures.agents.iter().map(|agent| agent.duplicates).sum(),
            forks: figures.agents.iter().map(|agent| agent.forks).sum(),
            ledger_verified: verified,
            restarts_survived: restarts,
            lines_sent,
            acknowledged: Decimal::ZERO,
            unanswered: Decimal::ZERO,
            acknowledged_billed: Decimal::ZERO,
            acknowledged_agrees: true,
            conserved: true,
            lines: Vec::new(),
            invoices: BTreeMap::new(),
        };
        for account in &figures.accounts {
            let (tenant, meter) = (&account.tenant, &account.meter);
            let billed = figures.booked(
                &[
                    EntryKind::Charge,
                    EntryKind::Adjustment,
                    EntryKind::Reversal,
                ],
                tenant,
                meter,
            )?;
            let unrated = figures.booked(&[EntryKind::Unrated], tenant, meter)?;
            let reached = add(add(billed, unrated)?, add(account.refused, account.lost)?)?;
            report.conserved &= reached == account.accepted;
            report.accepted = add(report.accepted, account.accepted)?;
            report.billed = add(report.billed, billed)?;
            report.unrated = add(report.unrated, unrated)?;
            report.refused = add(report.refused, account.refused)?;
            report.declared_lost = add(report.declared_lost, account.lost)?;
            report.lines.push(Line {
                tenant: tenant.clone(),
                meter: meter.clone(),
                quantity: billed.normalize(),
                amount: figures.amount(tenant, meter),
                currency: "EUR".to_owned(),
            });
            if meter == ACKNOWLEDGED_METER {
                report.compare_orders(known, tenant, billed)?;
            }
        }
        for entry in &figures.ledger {
            let tenant = entry
                .posting
                .tenant
                .as_ref()
                .map_or_else(|| "(unknown)".to_owned(), ToString::to_string);
            report
                .invoices
                .entry(tenant)
                .or_default()
                .push(entry.clone());
        }
        // An order for a tenant that the ledger does not know at all would be missing above.
        report.acknowledged_agrees &=
            report.acknowledged == known.counted.values().copied().map(Decimal::from).sum();
        Ok(report)
    }

    fn compare_orders(
        &mut self,
        known: &Acknowledged,
        tenant: &str,
        billed: Decimal,
    ) -> Result<()> {
        let of =
            |map: &BTreeMap<String, i128>| Decimal::from(map.get(tenant).copied().unwrap_or(0));
        let (counted, unanswered) = (of(&known.counted), of(&known.unanswered));
        self.acknowledged = add(self.acknowledged, counted)?;
        self.unanswered = add(self.unanswered, unanswered)?;
        self.acknowledged_billed = add(self.acknowledged_billed, billed)?;
        self.acknowledged_agrees &= counted <= billed && billed <= add(counted, unanswered)?;
        Ok(())
    }

    /// True if every sum agrees and the ledger verifies.
    pub(crate) fn agrees(&self) -> bool {
        self.conserved && self.acknowledged_agrees && self.ledger_verified && !self.billed.is_zero()
    }

    /// One JSON object on one line.
    pub(crate) fn write_json(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        Ok(writeln!(out)?)
    }

    /// One line.
    #[expect(
        clippy::unused_self,
        reason = "the report owns the way to standard output"
    )]
    pub(crate) fn write_line(&self, text: &str) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Invoice lines with their arithmetic, then the sums.
    pub(crate) fn write_text(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        for (tenant, entries) in &self.invoices {
            writeln!(out, "\n{tenant}")?;
            for entry in entries {
                let posting = &entry.posting;
                let meter = posting.meter.as_ref().map_or("-", |meter| meter.as_str());
                let amount = posting
                    .amount
                    .map_or_else(|| "-".to_owned(), |amount| amount.to_string());
                let currency = posting.currency.as_deref().unwrap_or("");
                let from = posting.start.to_string();
                writeln!(
                    out,
                    "  {} {:10} {:13} {:>12} {amount:>10} {currency}   {}",
                    from.get(11..19).unwrap_or(&from),
                    posting.kind.as_str(),
                    meter,
                    quantity(entry)?,
                    posting.arithmetic
                )?;
            }
            let total: Decimal = entries
                .iter()
                .filter_map(|entry| entry.posting.amount)
                .sum();
            writeln!(out, "  {:51} {total:>10} EUR", "total")?;
        }
        let yes = |good| if good { "yes" } else { "NO" };
        writeln!(
            out,
            "\norders acknowledged one by one: {} (and {} unanswered when an agent was killed), billed: {}; agrees: {}",
            self.acknowledged,
            self.unanswered,
            self.acknowledged_billed,
            yes(self.acknowledged_agrees)
        )?;
        writeln!(
            out,
            "batches received twice and counted once: {}; kills survived: {}",
            self.duplicates_refused, self.restarts_survived
        )?;
        if !self.unrated.is_zero() || !self.refused.is_zero() {
            writeln!(out, "unrated: {}, refused: {}", self.unrated, self.refused)?;
        }
        let sign = if self.conserved { "=" } else { "IS NOT" };
        writeln!(
            out,
            "accepted {} {sign} billed {} + declared lost {}; ledger verified: {}",
            self.accepted.normalize(),
            add(self.billed, add(self.unrated, self.refused)?)?.normalize(),
            self.declared_lost.normalize(),
            yes(self.ledger_verified)
        )?;
        Ok(())
    }
}
