//! Usage files: what a tenant used in a period, and, in the tests that stand beside the prices
//! (`*.test.toml`), what that should cost.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId, Timestamp};
use toml::de::DeTable;

use super::measure::Amount;
use super::prices::checked;
use super::read::{Field, Reader, Section};
use super::{Catalog, CatalogErrors, Part, read_date};
use crate::period::{Period, Zone};
use crate::rate::{Statement, statement};

/// What a tenant used in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Who.
    pub tenant: TenantId,
    /// When.
    pub period: Period,
    /// How much of each meter, in its smallest unit.
    pub usage: BTreeMap<MeterName, Quantity>,
}

impl Trial {
    /// Reads a usage file. `tenant` and `period` stand above what the file says; what it expects
    /// is not looked at.
    ///
    /// # Errors
    /// Every mistake with line, column and key.
    pub fn read(
        catalog: &Catalog,
        file: &str,
        text: &str,
        tenant: Option<&TenantId>,
        period: Option<&str>,
    ) -> Result<Self, CatalogErrors> {
        let mut errors = Vec::new();
        let trial = with_root(file, text, &mut errors, |reader, root| {
            read_trial(catalog, reader, root, tenant, period)
        });
        match trial.flatten() {
            Some(trial) if errors.is_empty() => Ok(trial),
            _ => Err(CatalogErrors::new(errors)),
        }
    }
}

impl Catalog {
    /// Runs the tests that stand beside the prices, and answers how many there are.
    ///
    /// # Errors
    /// Every mistake and every line that is not what its test expects, with file, line, column
    /// and key.
    pub fn run_tests(&self) -> Result<usize, CatalogErrors> {
        let mut errors = Vec::new();
        let mut tests = 0;
        for path in self.tests() {
            tests += 1;
            self.run_into(path, &mut errors);
        }
        if errors.is_empty() {
            Ok(tests)
        } else {
            Err(CatalogErrors::new(errors))
        }
    }

    /// The files of the tests that stand beside the prices.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        let files = self.files.keys().map(String::as_str);
        files.filter(|path| Part::of(path) == Some(Part::Tests))
    }

    /// Runs the test in one file; one that there is none of passes.
    ///
    /// # Errors
    /// As [`Catalog::run_tests`].
    pub fn run_test(&self, path: &str) -> Result<(), CatalogErrors> {
        let mut errors = Vec::new();
        self.run_into(path, &mut errors);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(CatalogErrors::new(errors))
        }
    }

    fn run_into(&self, path: &str, errors: &mut Vec<super::CatalogError>) {
        if let Some(text) = self.files.get(path) {
            with_root(path, text, errors, |reader, root| {
                run_test(self, reader, root);
            });
        }
    }
}

/// Parses a file and hands over its root.
fn with_root<T>(
    file: &str,
    text: &str,
    errors: &mut Vec<super::CatalogError>,
    read: impl for<'d> FnOnce(&mut Reader<'d>, &Section<'d>) -> T,
) -> Option<T> {
    // The document lives in here, so what is read from it cannot be handed out.
    match DeTable::parse(text) {
        Ok(document) => {
            let mut reader = Reader::new(file, text, errors);
            let root = reader.root(&document);
            Some(read(&mut reader, &root))
        }
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let message = format!("not valid TOML: {}", error.message());
            Reader::new(file, text, errors).refuse(span, "", message);
            None
        }
    }
}

fn run_test<'d>(catalog: &Catalog, reader: &mut Reader<'d>, root: &Section<'d>) {
    let expected = read_expected(reader, root);
    let Some(trial) = read_trial(catalog, reader, root, None, None) else {
        return;
    };
    let statement = match statement(catalog, &trial.tenant, trial.period, &trial.usage) {
        Ok(statement) => statement,
        Err(error) => {
            reader.refuse(root.span(), "profile", error);
            return;
        }
    };
    if let Some(expected) = expected {
        compare(reader, root, &expected, &statement);
    }
}

struct Expected<'d> {
    lines: Option<Vec<(String, Decimal, Field<'d>)>>,
    net: Option<(Decimal, Field<'d>)>,
}

fn read_expected<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<Expected<'d>> {
    let amount = "an amount as a decimal string such as \"1175.00\"";
    let net = reader.maybe::<Amount>(root, "net", amount)?;
    let net = net.map(|(Amount(net), field)| (net, field));
    if !root.has("lines") {
        if net.is_none() {
            let message = "a test expects something: `lines`, `net` or both";
            reader.refuse(root.span(), "lines", message);
        }
        return Some(Expected { lines: None, net });
    }
    let table = reader.table(root, "lines", "a table such as { requests = \"1175.00\" }")?;
    let mut lines = Vec::new();
    for name in table.names() {
        let (Amount(line), field) = reader.parse::<Amount>(&table, &name, amount)?;
        lines.push((name, line, field));
    }
    Some(Expected {
        lines: Some(lines),
        net,
    })
}

fn compare(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    expected: &Expected<'_>,
    statement: &Statement<'_>,
) {
    for usage in &statement.unrated {
        let reason = if usage.no_price {
            "has no price"
        } else {
            "is too large to be rated"
        };
        let message = format!(
            "usage of `{}` {reason} in card `{}`",
            usage.meter, statement.card.id
        );
        reader.refuse(root.span(), &format!("usage.\"{}\"", usage.meter), message);
    }
    if let Some(lines) = &expected.lines {
        for (id, amount, field) in lines {
            let line = statement.lines.iter().find(|line| line.price.id == *id);
            match line {
                None => {
                    let message = format!("there is no line `{id}`");
                    reader.refuse_field(field, message);
                }
                Some(line) if line.amount != *amount => {
                    reader.refuse_field(field, format!("expected {amount}, but it is {line}"));
                }
                Some(_) => {}
            }
        }
        // Lines of nothing need not be named.
        for line in &statement.lines {
            let is_named = lines.iter().any(|(id, _, _)| *id == line.price.id);
            if !is_named && !line.amount.is_zero() {
                let message = format!("line `{}` is not expected: {line}", line.price.id);
                reader.refuse(root.span(), "lines", message);
            }
        }
    }
    if let Some((net, field)) = &expected.net
        && *net != statement.net
    {
        let message = format!("expected {net}, but the lines sum to {}", statement.net);
        reader.refuse_field(field, message);
    }
}

fn read_trial<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    tenant: Option<&TenantId>,
    period: Option<&str>,
) -> Option<Trial> {
    reader.only(root, &["profile", "period", "usage", "lines", "net"]);
    let tenant = match tenant {
        Some(tenant) => Some(tenant.clone()),
        None => reader
            .parse::<TenantId>(root, "profile", "a tenant such as \"acme\"")
            .map(|(tenant, _)| tenant),
    };
    let usage = read_usage(catalog, reader, root);
    let tenant = tenant?;
    let Some(profile) = catalog.profile(&tenant) else {
        let message = format!("tenant `{tenant}` has no profile, and there is no default one");
        reader.refuse(root.span(), "profile", message);
        return None;
    };
    let zone = profile.calendar.zone;
    let instant = if let Some(text) = period {
        let instant = read_instant(text, zone);
        if let Err(message) = instant {
            reader.refuse(root.span(), "period", message);
        }
        instant.ok()?
    } else {
        let (text, field) = reader.text(root, "period", "a period such as \"2026-06\"")?;
        checked(reader, &field, read_instant(text, zone))?
    };
    Some(Trial {
        tenant,
        period: profile.calendar.period_containing(instant),
        usage: usage?,
    })
}

fn read_usage<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
) -> Option<BTreeMap<MeterName, Quantity>> {
    if !root.has("usage") {
        return Some(BTreeMap::new());
    }
    let table = reader.table(
        root,
        "usage",
        "a table such as { \"http.requests\" = \"3500000\" }",
    )?;
    let mut usage = BTreeMap::new();
    let mut sound = true;
    for name in table.names() {
        let Some(field) = table.field(&name) else {
            continue;
        };
        let meter = MeterName::new(&name).ok();
        let Some(meter) = meter.and_then(|name| catalog.meter(&name)) else {
            let message = format!(
                "meter `{}` is not declared (expected a [[meter]] in meters.toml or meters/)",
                name.chars().take(64).collect::<String>()
            );
            reader.refuse_field(&field, message);
            sound = false;
            continue;
        };
        let quantity = reader
            .string(&field, "a quantity such as \"3500000\" or \"12.5 GB\"")
            .and_then(|text| checked(reader, &field, meter.read_quantity(text)));
        match quantity {
            Some(quantity) => {
                usage.insert(meter.name.clone(), quantity);
            }
            None => sound = false,
        }
    }
    sound.then_some(usage)
}

/// An instant in a period: a month, a day, both in the zone, or RFC 3339.
fn read_instant(text: &str, zone: Zone) -> Result<Timestamp, &'static str> {
    let first = format!("{text}-01");
    if let Some(date) = read_date(text).or_else(|| read_date(&first)) {
        return Ok(zone.start_of_day(date));
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|instant| Timestamp::from_millis(instant.timestamp_millis()))
        .map_err(|_| {
            "not a period (expected a month such as \"2026-06\", a day in it such as \"2026-06-15\", \
             or an instant such as \"2026-06-15T12:00:00Z\")"
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::sound_files;
    use super::*;

    const TEST: &str = "profile = \"acme\"\nperiod = \"2026-06\"\n\
        usage.\"http.requests\" = \"3500000\"\nusage.\"net.bytes\" = \"12.5 GB\"\n\
        lines = { requests = \"1175.00\", traffic = \"1.00\" }\nnet = \"1176.00\"\n";

    fn run(test: &str) -> Result<usize, CatalogErrors> {
        let mut files = sound_files();
        files.insert("acme-june.test.toml".to_owned(), test.to_owned());
        Catalog::parse(&files).expect("sound").run_tests()
    }

    fn mistake(from: &str, to: &str) -> String {
        assert!(TEST.contains(from), "{from}");
        let errors = run(&TEST.replace(from, to)).expect_err("a mistake");
        assert_eq!(errors.errors().len(), 1, "{errors}");
        errors.errors()[0].to_string()
    }

    #[test]
    fn a_test_passes_or_shows_the_arithmetic() {
        assert_eq!(run(TEST), Ok(1));
        assert_eq!(
            mistake("1175.00\"", "1174.99\""),
            "acme-june.test.toml:5:22: lines.requests: expected 1174.99, but it is \
             2000000 x 0.40 + 1500000 x 0.25 per 1000 {request} = 800 + 375 = 1175.00 EUR"
        );
        assert_eq!(
            mistake("1176.00", "1176.01"),
            "acme-june.test.toml:6:7: net: expected 1176.01, but the lines sum to 1176.00"
        );
        assert_eq!(
            mistake(", traffic = \"1.00\"", ""),
            "acme-june.test.toml:1:1: lines: line `traffic` is not expected: \
             12500000000 x 0.08 per 1 GB = 1.00 EUR"
        );
    }

    #[test]
    fn mistakes_have_their_place() {
        assert!(mistake("12.5 GB", "12.5 GHz").contains("4:21: usage.net.bytes: unit `GHz`"));
        assert!(mistake("3500000", "0.5").contains("is finer than"));
        assert!(
            mistake("\"net.bytes\" = \"12.5 GB\"", "\"net.x\" = \"1\"").contains("not declared")
        );
        assert!(mistake("2026-06", "2026-13").contains("2:10: period: not a period"));
        assert!(mistake("2026-06", "2025-12").contains("no version of card `edge` is in force"));
        assert!(mistake("acme", "globex").contains("has no profile"));
        assert!(mistake("net = \"1176.00\"", "total = \"1\"").contains("total: unknown key"));
        assert!(mistake("traffic = ", "trafic = \"1\", traffic = ").contains("no line `trafic`"));
        assert!(
            run("profile = ")
                .expect_err("broken")
                .to_string()
                .contains("not valid TOML")
        );
    }

    /// Days are those of the tenant's zone: June begins on May 31 in UTC.
    #[test]
    fn discounts_are_valid_from_a_day_in_the_tenants_zone() {
        let mut files = sound_files();
        let discount = "\n[[discount]]\nid = \"june\"\npercent = \"50\"\nfrom = \"2026-06-01\"\nuntil = \"2026-07-01\"\n";
        if let Some(card) = files.get_mut("cards/edge.toml") {
            card.push_str(discount);
        }
        for (period, net) in [
            ("2026-05", "800.00"),
            ("2026-06", "400.00"),
            ("2026-07", "800.00"),
        ] {
            let test = format!(
                "profile = \"acme\"\nperiod = \"{period}\"\nusage.\"http.requests\" = \"2000000\"\nnet = \"{net}\""
            );
            files.insert(format!("{period}.test.toml"), test);
        }
        assert_eq!(Catalog::parse(&files).expect("sound").run_tests(), Ok(3));
    }

    #[test]
    fn a_usage_file_is_read_for_a_tenant_and_a_period() {
        let catalog = Catalog::parse(&sound_files()).expect("sound");
        let acme = TenantId::new("acme").expect("valid");
        let text = "usage.\"net.bytes\" = \"1 KiB\"";
        let trial =
            Trial::read(&catalog, "u.toml", text, Some(&acme), Some("2026-06-15")).expect("reads");
        assert_eq!(
            trial.period.to_string(),
            "[2026-05-31T22:00:00.000Z, 2026-06-30T22:00:00.000Z)"
        );
        let quantities: Vec<_> = trial.usage.values().map(|q| q.units()).collect();
        assert_eq!(quantities, [1024]);
        let none = Trial::read(&catalog, "u.toml", text, None, None).expect_err("no tenant");
        assert!(none.to_string().contains("profile: missing"), "{none}");
    }
}
