//! Usage files of rows: CSV, and events as JSON lines.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_common::{Dimensions, MeterName, Quantity, Timestamp};

use super::super::{CatalogError, CatalogErrors, Meter};
use super::Meters;
use super::levels::is_level;
use super::rows::{Gather, Row, SLOTS_MAX};
use crate::bill::Offline;
use crate::invoice::csv;

/// How a usage file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageFormat {
    /// A table of meters, as in the tests of a catalog.
    Toml,
    /// A row for each event or window below a heading: `meter`, `quantity` (or `level` or `delta`),
    /// `time`, `tenant` and dimensions.
    Csv,
    /// A CloudEvent on each line.
    JsonLines,
}

impl UsageFormat {
    /// The format of a file by the end of its name; TOML for what is not known.
    pub fn of(path: &str) -> Self {
        let end = path.rsplit_once('.').map_or("", |(_, end)| end);
        match end.to_ascii_lowercase().as_str() {
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::JsonLines,
            _ => Self::Toml,
        }
    }
}

/// A row before its values are read.
#[derive(Default)]
struct Event {
    meter: String,
    /// By the column in which it stands: `quantity`, `level` or `delta`.
    values: Vec<(&'static str, String)>,
    time: Option<String>,
    tenant: Option<String>,
    /// Of an event its source and id, if it has both.
    id: Option<(String, String)>,
    dimensions: Vec<(String, String)>,
}

/// What says how much was used: one of these.
const VALUES: [&str; 3] = ["quantity", "level", "delta"];

impl Event {
    /// Takes a value of a column or key: how much was used, or a dimension.
    fn say(&mut self, name: &str, value: String) {
        match VALUES.iter().find(|known| **known == name) {
            Some(known) => self.values.push((known, value)),
            None => self.dimensions.push((name.to_owned(), value)),
        }
    }

    /// What is no level has `level` and `delta` as dimensions like any others.
    fn name_level(&mut self, meter: &Meter) {
        if !is_level(meter) {
            let others = self.values.extract_if(.., |(key, _)| *key != "quantity");
            let others = others.map(|(key, value)| (key.to_owned(), value));
            self.dimensions.extend(others);
        }
    }
}

/// A mistake: the column or key, and what is wrong.
type Mistake = (&'static str, String);

/// Reads the rows of a file.
pub(super) fn read(
    file: &str,
    text: &str,
    format: UsageFormat,
    offline: &Offline<'_>,
) -> Result<Meters, CatalogErrors> {
    let mut errors = Vec::new();
    let mut refuse = |line: usize, (key, message): Mistake| {
        if errors.len() < CatalogErrors::MAX {
            errors.push(at_line(file, text, line, key, message));
        }
    };
    let mut gathers: BTreeMap<MeterName, Gather<'_>> = BTreeMap::new();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for (line, event) in events(text, format) {
        // Source and id tell events apart: one that was sent again counts once.
        let id = event.as_ref().ok().and_then(|event| event.id.clone());
        if id.is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        let counted = event.and_then(|event| count(&mut gathers, event, offline));
        if let Err(mistake) = counted {
            refuse(line, mistake);
        }
    }
    let mut meters = Meters::new();
    let mut room = SLOTS_MAX;
    for (name, gather) in gathers {
        match gather.finish(&mut room) {
            Ok(usage) => {
                meters.insert(name, usage);
            }
            Err(error) => refuse(0, ("quantity", format!("{name}: {error}"))),
        }
    }
    if errors.is_empty() {
        Ok(meters)
    } else {
        Err(CatalogErrors::new(errors))
    }
}

fn at_line(file: &str, text: &str, line: usize, key: &str, message: String) -> CatalogError {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let length = text.get(before..).and_then(|rest| rest.lines().next());
    CatalogError {
        file: file.to_owned(),
        line,
        column: usize::from(line > 0),
        span: before..before + length.map_or(0, str::len),
        key: key.to_owned(),
        message,
    }
}

fn events(text: &str, format: UsageFormat) -> Vec<(usize, Result<Event, Mistake>)> {
    match format {
        UsageFormat::JsonLines => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| (index + 1, cloud_event(line)))
            .collect(),
        UsageFormat::Csv | UsageFormat::Toml => match csv::read(text, ',') {
            Ok(rows) => csv_events(rows),
            Err(error) => vec![(0, Err(("", error.to_string())))],
        },
    }
}

fn csv_events(rows: Vec<csv::NumberedRow>) -> Vec<(usize, Result<Event, Mistake>)> {
    let mut rows = rows.into_iter();
    let Some((line, heading)) = rows.next() else {
        return Vec::new();
    };
    let has = |name: &str| heading.iter().any(|column| column.trim() == name);
    let missing = |name| {
        (
            line,
            Err((name, format!("the heading has no column `{name}`"))),
        )
    };
    if !has("meter") {
        return vec![missing("meter")];
    }
    // Of a meter that counts events the cell may be empty.
    if !VALUES.iter().any(|name| has(name)) {
        return vec![missing("quantity")];
    }

    if heading.iter().any(|column| column.trim() == "at") {
        let message = "a column says when it was used with the heading `time`";
        return vec![(line, Err(("at", message.to_owned())))];
    }
    rows.map(|(line, cells)| {
        if cells.len() != heading.len() {
            let (found, columns) = (cells.len(), heading.len());
            let message = format!("{found} cells, where the heading has {columns}");
            return (line, Err(("", message)));
        }
        let mut event = Event::default();
        for (column, cell) in heading.iter().zip(cells) {
            let cell = cell.trim().to_owned();
            match column.trim() {
                "meter" => event.meter = cell,
                _ if cell.is_empty() => {}
                "time" => event.time = Some(cell),
                "tenant" => event.tenant = Some(cell),
                name => event.say(name, cell),
            }
        }
        (line, Ok(event))
    })
    .collect()
}

/// Reads a CloudEvent: `type` is the meter, `subject` the tenant, and `data` has the quantity and
/// the dimensions.
fn cloud_event(line: &str) -> Result<Event, Mistake> {
    let value: serde_json::Value =
        serde_json::from_str(line).map_err(|error| ("", format!("not valid JSON: {error}")))?;
    let text = |key: &'static str| match value.get(key) {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err((key, "expected a string".to_owned())),
    };
    let missing = |key| (key, "missing".to_owned());
    let data = value.get("data").and_then(serde_json::Value::as_object);
    let data = data.ok_or(("data", "expected an object with `quantity`".to_owned()))?;
    let mut event = Event {
        meter: text("type")?.ok_or(missing("type"))?,
        time: text("time")?,
        tenant: text("subject")?,
        id: text("source")?.zip(text("id")?),
        ..Event::default()
    };
    for (key, value) in data {
        let read = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) if !number.is_f64() => number.to_string(),
            _ => {
                let message = format!(
                    "`{key}` is {value} (expected a string; a float cannot hold every decimal)"
                );
                return Err(("data", message));
            }
        };
        if key == "time" || key == "at" {
            let message =
                format!("`{key}` in `data` is no dimension (expected `time` beside `data`)");
            return Err(("data", message));
        }
        event.say(key, read);
    }
    Ok(event)
}

fn count<'c>(
    gathers: &mut BTreeMap<MeterName, Gather<'c>>,
    mut event: Event,
    offline: &Offline<'c>,
) -> Result<(), Mistake> {
    if event
        .tenant
        .as_ref()
        .is_some_and(|tenant| tenant != offline.tenant.as_str())
    {
        let message = format!("this is usage of another tenant than `{}`", offline.tenant);
        return Err(("tenant", message));
    }
    let name = MeterName::new(&event.meter).ok();
    let declared: Option<&'c Meter> = name.and_then(|name| offline.catalog.meter(&name));
    let meter = declared.ok_or_else(|| {
        let shown: String = event.meter.chars().take(64).collect();
        let message = format!(
            "meter `{shown}` is not declared (expected a [[meter]] in meters.toml or meters/)"
        );
        ("meter", message)
    })?;
    event.name_level(meter);
    let value = match (&event.values[..], meter.uncounted()) {
        ([(key, value)], _) => Ok((*key, value.as_str())),
        ([], Some(one)) => Err(one),
        _ => {
            let message = "expected one of `quantity`, `level` and `delta`".to_owned();
            return Err(("quantity", message));
        }
    };
    let at = match &event.time {
        None => offline.period.start,
        Some(text) => {
            let time = chrono::DateTime::parse_from_rfc3339(text);
            let expected = "expected an instant such as \"2026-06-15T12:00:00Z\"";
            let time = time.map_err(|_| ("time", expected.to_owned()))?;
            Timestamp::from_millis(time.timestamp_millis())
        }
    };
    if !offline.period.contains(at) {
        return Err((
            "time",
            format!("it is not in the period {}", offline.period),
        ));
    }
    let dimensions = Dimensions::new(event.dimensions);
    let dimensions = dimensions.map_err(|error| ("dimensions", error.to_string()))?;
    let gather = gathers.entry(meter.name.clone());
    let gather = gather.or_insert_with(|| Gather::new(meter, offline));
    let quantity = match value {
        Ok(("quantity", text)) => read_quantity(meter, text)?,
        Ok((key, text)) => {
            let level = gather.level(dimensions, at, (key, text));
            return level.map_err(|message| (key, message));
        }
        Err(one) => one,
    };
    let row = Row {
        dimensions,
        at,
        quantity,
    };
    let counted = gather.count(&row);
    counted.map_err(|error| ("quantity", error.to_string()))
}

fn read_quantity(meter: &Meter, text: &str) -> Result<Quantity, Mistake> {
    meter
        .read_signed(text)
        .map_err(|error| ("quantity", error.to_string()))
}

#[cfg(test)]
mod tests {
    use tollgate_common::TenantId;

    use super::super::super::tests::sound_files;
    use super::super::super::{Catalog, Trial};
    use super::*;

    fn lines(file: &str, text: &str) -> Result<String, String> {
        let catalog = Catalog::parse(&sound_files()).expect("sound");
        let acme = TenantId::new("acme").expect("valid");
        let source = (file, text, UsageFormat::of(file));
        let trial = Trial::read_table(&catalog, source, Some(&acme), Some("2026-06"))
            .map_err(|errors| errors.to_string())?;
        let shown = trial.bill(&catalog, |_, bill| {
            let lines = bill.lines.iter();
            let lines = lines.map(|line| format!("{} {}", line.key.name(), line.amount));
            lines.collect::<Vec<_>>().join(", ")
        });
        shown.map_err(|error| error.to_string())
    }

    const CSV: &str = "meter,quantity,time,region\nhttp.requests,2500000,2026-06-02T00:00:00Z,eu\n\
        http.requests,1000000,,us\nnet.bytes,12.5 GB,2026-06-30T21:59:59Z,\n";
    const EVENTS: &str = "{\"specversion\":\"1.0\",\"type\":\"http.requests\",\"subject\":\"acme\",\
        \"time\":\"2026-06-02T00:00:00Z\",\"data\":{\"quantity\":3500000,\"region\":\"eu\"}}\n\n\
        {\"type\":\"net.bytes\",\"data\":{\"quantity\":\"12.5 GB\"}}\n";

    #[test]
    fn rows_cost_what_their_sum_costs() {
        let expected = Ok("requests 1175.00, traffic 1.00".to_owned());
        assert_eq!(lines("june.csv", CSV), expected);
        assert_eq!(lines("june.jsonl", EVENTS), expected);
        // An event that is sent again counts once.
        let named = EVENTS.replace(
            "\"type\":\"http",
            "\"source\":\"edge\",\"id\":\"7\",\"type\":\"http",
        );
        let (first, _) = named.split_once('\n').expect("lines");
        assert_eq!(lines("june.jsonl", &format!("{first}\n{named}")), expected);
    }

    const LEVELS: &str = "[[meter]]\nname = \"disk\"\nunit = \"GB\"\nscale = 0\n\
        aggregation = \"time_weighted\"\n[[meter]]\nname = \"calls\"\nunit = \"{call}\"\nscale = 0\n\
        aggregation = \"count\"\n";
    const PRICED: &str = "[[price]]\nid = \"disk\"\nmeter = \"disk\"\nmodel = \"per_unit\"\n\
        over = \"period\"\nper = \"1 GB\"\nunit = \"3\"\n[[price]]\nid = \"calls\"\n\
        meter = \"calls\"\nmodel = \"per_unit\"\nper = \"1 {call}\"\nunit = \"1\"\n";

    #[test]
    fn levels_hold_and_events_count_one_each() {
        let mut files = sound_files();
        for (name, text) in [("meters.toml", LEVELS), ("cards/edge.toml", PRICED)] {
            files.get_mut(name).expect("there").push_str(text);
        }
        let catalog = Catalog::parse(&files).expect("sound");
        let acme = TenantId::new("acme").expect("valid");
        let lines = |file: &str, text: &str| {
            let source = (file, text, UsageFormat::of(file));
            let trial = Trial::read_table(&catalog, source, Some(&acme), Some("2026-06"))
                .map_err(|errors| errors.to_string())?;
            let shown = trial.bill(&catalog, |_, bill| {
                let lines = bill.lines.iter().filter(|line| !line.amount.is_zero());
                let lines = lines.map(|line| format!("{} {}", line.key.name(), line.amount));
                lines.collect::<Vec<_>>().join(", ")
            });
            shown.map_err(|error| error.to_string())
        };
        // 10 GB of which 4 are given back after ten of thirty days; a second disk for the last ten.
        let csv = "meter,quantity,level,delta,time,disk\n\
            disk,,10,,2026-05-31T22:00:00Z,a\ndisk,,,-4,2026-06-10T22:00:00Z,a\n\
            disk,,3,,2026-06-20T22:00:00Z,b\ncalls,,,,2026-06-20T22:00:00Z,\ncalls,2,,,,\n";
        assert_eq!(lines("u.csv", csv).as_deref(), Ok("disk 25.00, calls 3.00"));
        let event = "{\"type\":\"calls\",\"data\":{\"level\":\"debug\"}}\n";
        assert_eq!(
            lines("u.jsonl", &event.repeat(4)).as_deref(),
            Ok("calls 4.00")
        );
        let both = csv.replace("disk,,10,", "disk,1 GB.h,10,");
        let found = lines("u.csv", &both).expect_err("two values");
        assert!(
            found.contains("u.csv:2:1: quantity: expected one of"),
            "{found}"
        );
        let below = csv.replace("-4", "-11");
        let found = lines("u.csv", &below).expect_err("below zero");
        assert!(found.contains("negative usage"), "{found}");
    }

    /// More rows than a TOML file may have.
    #[test]
    fn a_file_has_any_number_of_rows() {
        let mut text = "meter,quantity,time\n".to_owned();
        for _ in 0..10_000 {
            text.push_str("http.requests,350,2026-06-02T00:00:00Z\n");
        }
        assert_eq!(lines("u.csv", &text).as_deref(), Ok("requests 1175.00"));
    }

    #[test]
    fn mistakes_have_their_line() {
        for (file, text, from, to, expected) in [
            (
                "u.csv",
                CSV,
                "net.bytes",
                "net.bits",
                "u.csv:4:1: meter: meter `net.bits` is not",
            ),
            (
                "u.csv",
                CSV,
                "12.5 GB",
                "12.5 GHz",
                "u.csv:4:1: quantity: unit `GHz`",
            ),
            (
                "u.csv",
                CSV,
                "06-30T21",
                "06-30T22",
                "u.csv:4:1: time: it is not in the period",
            ),
            (
                "u.csv",
                CSV,
                "quantity",
                "amount",
                "u.csv:1:1: quantity: the heading has no",
            ),
            (
                "u.csv",
                CSV,
                "time,region",
                "at,region",
                "u.csv:1:1: at: a column says when",
            ),
            (
                "u.csv",
                CSV,
                ",eu",
                "",
                "u.csv:2:1: 3 cells, where the heading has 4",
            ),
            (
                "u.jsonl",
                EVENTS,
                "acme",
                "globex",
                "u.jsonl:1:1: tenant: this is usage of another",
            ),
            (
                "u.jsonl",
                EVENTS,
                "3500000",
                "3.5",
                "u.jsonl:1:1: data: `quantity` is 3.5",
            ),
            (
                "u.jsonl",
                EVENTS,
                "\"type\":\"net",
                "\"kind\":\"net",
                "u.jsonl:3:1: type: missing",
            ),
        ] {
            let found = lines(file, &text.replacen(from, to, 1)).expect_err(to);
            assert!(found.contains(expected), "{found}");
        }
    }
}
