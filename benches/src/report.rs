//! What a bench reports, as a table for people and as JSON for scripts.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// Bytes, nanoseconds, loss.
    Lower,
    /// Lines or rollups per second.
    Higher,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    /// What was measured.
    pub(crate) case: String,
    /// Our figure.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// What we want to reach, if a target is set.
    pub(crate) target: Option<f64>,
    /// Whether we do; `None` without a target.
    pub(crate) met: Option<bool>,
    /// The same figure of peers and floors, measured in the same run.
    pub(crate) against: BTreeMap<String, f64>,
    /// Peers that are not installed, with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) absent: BTreeMap<String, String>,
}

impl Case {
    /// A figure without a target.
    pub(crate) fn new(case: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            case: case.into(),
            value,
            unit: unit.to_owned(),
            target: None,
            met: None,
            against: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }

    /// Sets the target and judges the figure by it.
    pub(crate) fn target(mut self, target: f64, better: Better) -> Self {
        self.target = Some(target);
        self.met = Some(match better {
            Better::Lower => self.value <= target,
            Better::Higher => self.value >= target,
        });
        self
    }

    /// Adds the figure of a peer or a floor.
    pub(crate) fn against(mut self, peer: &str, value: f64) -> Self {
        self.against.insert(peer.to_owned(), value);
        self
    }

    /// Names a peer that could not be measured.
    pub(crate) fn absent(mut self, peer: &str, reason: impl Into<String>) -> Self {
        self.absent.insert(peer.to_owned(), reason.into());
        self
    }
}

/// All figures of one bench.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The name given on the command line.
    pub(crate) bench: &'static str,
    /// The figures.
    pub(crate) cases: Vec<Case>,
}

impl Report {
    /// Writes the report as one JSON object on one line.
    pub(crate) fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)
    }

    /// Writes a table: ours, then peers with the ratio of theirs to ours.
    pub(crate) fn write_table(&self, mut out: impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.bench)?;
        let width = self
            .cases
            .iter()
            .map(|c| c.case.chars().count())
            .max()
            .unwrap_or(0)
            .max(20);
        writeln!(
            out,
            "  {:width$}  {:>14} {:14} {:>12}  met",
            "case", "value", "unit", "target"
        )?;
        for case in &self.cases {
            let target = case.target.map_or_else(|| "-".to_owned(), figure);
            let met = match case.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            };
            let (name, value, unit) = (&case.case, figure(case.value), &case.unit);
            writeln!(
                out,
                "  {name:width$}  {value:>14} {unit:14} {target:>12}  {met}"
            )?;
            for (peer, theirs) in &case.against {
                let ratio = if case.value == 0.0 {
                    f64::NAN
                } else {
                    theirs / case.value
                };
                let label = format!("  beside {peer}");
                writeln!(
                    out,
                    "  {label:width$}  {:>14} {unit:14} {ratio:>11.2}x",
                    figure(*theirs)
                )?;
            }
            for (peer, reason) in &case.absent {
                writeln!(
                    out,
                    "  {:width$}  absent: {reason}",
                    format!("  beside {peer}")
                )?;
            }
        }
        Ok(())
    }
}

/// A figure with about four significant digits and thousands separators.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let (sign, digits) = whole
        .strip_prefix('-')
        .map_or(("", whole), |rest| ("-", rest));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

/// The middle of several runs; the mean of the two middle ones for an even number.
pub(crate) fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    let middle = runs.len() / 2;
    match runs.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => runs[middle],
        _ => f64::midpoint(runs[middle - 1], runs[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_judges_in_its_direction() {
        assert_eq!(
            Case::new("a", 7.0, "By").target(8.0, Better::Lower).met,
            Some(true)
        );
        assert_eq!(
            Case::new("a", 7.0, "1/s").target(8.0, Better::Higher).met,
            Some(false)
        );
        assert_eq!(Case::new("a", 7.0, "By").met, None);
    }

    #[test]
    fn figures_are_grouped() {
        assert_eq!(figure(1_234_567.0), "1_234_567");
        assert_eq!(figure(0.8402), "0.8402");
        assert_eq!(figure(-12.5), "-12.50");
    }

    #[test]
    fn the_median_ignores_outliers() {
        assert!((median(vec![3.0, 100.0, 1.0]) - 3.0).abs() < f64::EPSILON);
        assert!((median(vec![1.0, 2.0, 3.0, 100.0]) - 2.5).abs() < f64::EPSILON);
    }
}
