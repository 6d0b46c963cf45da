//! The live table.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_common::Timestamp;

use crate::figures::Figures;

/// Writes the table again and again, in place on a terminal.
pub(crate) struct Table {
    lines: usize,
    terminal: bool,
    quiet: bool,
}

impl Table {
    /// Nothing is written yet, and nothing ever if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            lines: 0,
            terminal: io::stdout().is_terminal(),
            quiet,
        }
    }

    /// Writes a line that stays.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.lines = 0;
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Writes the table as it stands now.
    pub(crate) fn draw(&mut self, figures: &Figures, elapsed: Duration) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.terminal && self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        let mut lines = vec![format!(
            "{:>4} s  {:12} {:14} {:>16} {:>16}",
            elapsed.as_secs(),
            "tenant",
            "meter",
            "usage",
            "so far, EUR"
        )];
        for account in &figures.accounts {
            let (tenant, meter) = (&account.tenant, &account.meter);
            let accrued = figures
                .accrued
                .get(&(tenant.clone(), meter.clone()))
                .copied()
                .unwrap_or_default();
            let amount = figures.amount(tenant, meter) + accrued;
            lines.push(format!(
                "        {tenant:12} {meter:14} {:>16} {amount:>16}",
                account.accepted
            ));
        }
        let lag: Vec<String> = figures
            .agents
            .iter()
            .map(|agent| format!("{} {}", agent.agent, lag(&agent.watermark)))
            .collect();
        lines.push(format!("        agents behind by: {}", lag.join(", ")));
        for line in &lines {
            writeln!(out, "{line}")?;
        }
        self.lines = lines.len();
        Ok(())
    }
}

/// How far a watermark in RFC 3339 is behind the clock.
fn lag(watermark: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    match tollgate_collector::time::parse_instant(watermark) {
        Ok(watermark) => {
            let millis = now.millis_since(watermark).max(0);
            format!("{}.{} s", millis / 1000, millis % 1000 / 100)
        }
        Err(_) => "?".to_owned(),
    }
}
