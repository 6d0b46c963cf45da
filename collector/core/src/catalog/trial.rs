//! Usage files: what a tenant used in a period, and, in the tests that stand beside the prices
//! (`*.test.toml`), what that should cost.

mod before;
mod expected;
mod levels;
mod rows;
mod table;

use std::collections::BTreeMap;

use chrono::Datelike;
use tollgate_common::{MeterName, TenantId, Timestamp};
use toml::de::DeTable;

use super::prices::checked;
use super::read::{Reader, Section};
use super::{Catalog, CatalogError, CatalogErrors, Part, read_date};
use crate::bill::{Bill, NoBill, Offline, Stage, Usage};
use crate::period::{Period, Zone};
use crate::rate::MeterUsage;
pub use table::UsageFormat;

/// Most children of one usage file.
const CHILDREN_MAX: usize = 4096;

/// What a tenant used in a period.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Who.
    pub tenant: TenantId,
    /// When.
    pub period: Period,
    /// How much, and what was before.
    pub usage: Usage,
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

    /// Reads a usage file of one row for each event or window. It says neither whose period it is
    /// nor which.
    ///
    /// # Errors
    /// Every mistake with its line and column.
    pub fn read_table(
        catalog: &Catalog,
        (file, text, format): (&str, &str, UsageFormat),
        tenant: Option<&TenantId>,
        period: Option<&str>,
    ) -> Result<Self, CatalogErrors> {
        let refuse = |message: String| {
            let error = CatalogError {
                file: file.to_owned(),
                line: 0,
                column: 0,
                span: 0..0,
                key: String::new(),
                message,
            };
            CatalogErrors::new(vec![error])
        };
        let (Some(tenant), Some(period)) = (tenant, period) else {
            let message = "rows do not say whose usage of which period they are (expected a tenant \
                           and a period beside the file)";
            return Err(refuse(message.to_owned()));
        };
        let profile = catalog.profile(tenant);
        let profile = profile.ok_or_else(|| refuse(NoBill::NoProfile.to_string()))?;
        let instant = read_instant(period, profile.calendar.zone);
        let instant = instant.map_err(|message| refuse(message.to_owned()))?;
        let period = profile.calendar.period_containing(instant);
        let offline = Offline::new(catalog, tenant, period);
        let offline = offline.ok_or_else(|| refuse(NoBill::NoProfile.to_string()))?;
        let meters = table::read(file, text, format, &offline)?;
        Ok(Self {
            tenant: tenant.clone(),
            period,
            usage: Usage {
                meters,
                ..Usage::default()
            },
        })
    }

    /// Works out the bill and shows it to `see`.
    ///
    /// # Errors
    /// See [`NoBill`].
    pub fn bill<T>(
        &self,
        catalog: &Catalog,
        see: impl FnOnce(&Offline<'_>, &Bill<'_>) -> T,
    ) -> Result<T, NoBill> {
        let offline = Offline::new(catalog, &self.tenant, self.period);
        // Reading found the profile in this very catalog.
        let offline = offline.ok_or(NoBill::NoProfile)?;
        let metered = offline.metered(&self.usage);
        let children = Offline::children(&self.usage);
        let bill = offline.bill(&self.usage, &metered, &children)?;
        Ok(see(&offline, &bill))
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
    let expected = expected::read(reader, root);
    let Some(trial) = read_trial(catalog, reader, root, None, None) else {
        return;
    };
    let compared = trial.bill(catalog, |_, bill| {
        if let Some(expected) = &expected {
            expected::compare(reader, root, expected, bill);
        }
    });
    if let Err(error) = compared {
        reader.refuse(root.span(), "profile", error);
    }
}

fn read_trial<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    tenant: Option<&TenantId>,
    period: Option<&str>,
) -> Option<Trial> {
    let known = ["profile", "period", "usage", "children", "before", "stage"];
    reader.only(root, &[&known[..], expected::KEYS].concat());
    let tenant = match tenant {
        Some(tenant) => Some(tenant.clone()),
        None => reader
            .parse::<TenantId>(root, "profile", "a tenant such as \"acme\"")
            .map(|(tenant, _)| tenant),
    };
    let tenant = tenant?;
    let Some(profile) = catalog.profile(&tenant) else {
        let message = format!("tenant `{tenant}` has no profile, and there is no default one");
        reader.refuse(root.span(), "profile", message);
        return None;
    };
    let calendar = profile.calendar;
    let instant = if let Some(text) = period {
        let instant = read_instant(text, calendar.zone);
        if let Err(message) = instant {
            reader.refuse(root.span(), "period", message);
        }
        instant.ok()?
    } else {
        let (text, field) = reader.text(root, "period", "a period such as \"2026-06\"")?;
        checked(reader, &field, read_instant(text, calendar.zone))?
    };
    let period = calendar.period_containing(instant);
    let offline = Offline::new(catalog, &tenant, period)?;
    if offline.slices.iter().all(|slice| slice.card.is_none()) {
        let message = format!(
            "no version of card `{}` is in force in the period {period}",
            profile.card
        );
        reader.refuse(root.span(), "period", message);
        return None;
    }
    let usage = read_usages(reader, root, &offline);
    let carried = before::read(reader, root, &offline);
    let stage = reader.or_default::<Stage>(root, "stage", "\"interim\", \"final\" or \"last\"");
    let (meters, children) = usage?;
    let usage = Usage {
        meters,
        children,
        carried: carried?,
        stage: stage?,
    };
    Some(Trial {
        tenant,
        period,
        usage,
    })
}

type Meters = BTreeMap<MeterName, MeterUsage>;

/// The usage of the tenant, and of those that it pays for.
fn read_usages<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    offline: &Offline<'_>,
) -> Option<(Meters, BTreeMap<TenantId, Meters>)> {
    let mut room = rows::SLOTS_MAX;
    let mut meters = rows::read(reader, root, offline, &mut room);
    let mut children = BTreeMap::new();
    if root.has("children") {
        let expected = "a table of tenants, each with its `usage`";
        let table = reader.table(root, "children", expected)?;
        let names = table.names();
        if names.len() > CHILDREN_MAX {
            let message = format!(
                "{} children, more than the {CHILDREN_MAX} allowed",
                names.len()
            );
            reader.refuse(table.span(), "children", message);
            return None;
        }
        for name in names {
            let section = reader.table(&table, &name, "a table with `usage`")?;
            reader.only(&section, &["usage"]);
            let Ok(tenant) = TenantId::new(&name) else {
                reader.refuse(section.span(), &table.key(&name), "not a tenant's name");
                return None;
            };
            children.insert(tenant, rows::read(reader, &section, offline, &mut room)?);
        }
        let own = meters?;
        if own.values().any(|usage| usage.parts().len() > 0) {
            children.insert(offline.tenant.clone(), own);
        }
        meters = together(&children);
        if meters.is_none() {
            reader.refuse(
                table.span(),
                "children",
                "the usage does not fit the numbers",
            );
        }
    }
    Some((meters?, children))
}

/// The usage of several tenants, as one.
fn together(all: &BTreeMap<TenantId, Meters>) -> Option<Meters> {
    let mut sum = Meters::new();
    for (tenant, meters) in all {
        for (meter, usage) in meters {
            let sum = sum.entry(meter.clone()).or_default();
            sum.merge(tenant, usage).ok()?;
        }
    }
    Some(sum)
}

/// An instant in a period: a month, a day, both in the zone, or RFC 3339.
fn read_instant(text: &str, zone: Zone) -> Result<Timestamp, &'static str> {
    let first = format!("{text}-01");
    let date = read_date(text).or_else(|| read_date(&first));
    if date.is_some_and(|date| date.year() < 1970) {
        return Err("periods begin in 1970 (expected a later one)");
    }
    if let Some(date) = date {
        return Ok(zone.start_of_day(date));
    }
    let instant = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| {
        "not a period (expected a month such as \"2026-06\", a day in it such as \"2026-06-15\", \
         or an instant such as \"2026-06-15T12:00:00Z\")"
    })?;
    let instant = Timestamp::from_millis(instant.timestamp_millis());
    if instant < Timestamp::EPOCH {
        return Err("periods begin in 1970 (expected a later one)");
    }
    Ok(instant)
}

#[cfg(test)]
mod tests {
    use tollgate_common::Quantity;

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

    /// Slots of ten minutes do not divide the windows of a quarter of an hour.
    #[test]
    fn a_row_is_in_its_slot_and_in_no_other() {
        let mut files = sound_files();
        for (meter, aggregation) in [("load", "max"), ("flow", "sum")] {
            let declared = format!(
                "[[meter]]\nname = \"{meter}\"\nunit = \"W\"\nscale = 0\naggregation = \"{aggregation}\"\n"
            );
            files
                .get_mut("meters.toml")
                .expect("there")
                .push_str(&declared);
            let per = if aggregation == "max" { "W" } else { "W/min" };
            let price = format!(
                "[[price]]\nid = \"{meter}\"\nmeter = \"{meter}\"\nmodel = \"percentile\"\n\
                 percentile = \"100\"\nslot = \"PT10M\"\ndirections = \"sum\"\nper = \"{per}\"\nunit = \"1\"\n"
            );
            files
                .get_mut("cards/edge.toml")
                .expect("there")
                .push_str(&price);
        }
        let rows = |meter: &str, [a, b, c]: [u32; 3]| {
            format!(
                "usage.{meter} = [{{ host = \"a\", time = \"2026-06-01T00:00:00Z\", quantity = \"{a}\" }}, \
                 {{ host = \"b\", time = \"2026-06-01T00:09:00Z\", quantity = \"{b}\" }}, \
                 {{ host = \"c\", time = \"2026-06-01T00:10:00Z\", quantity = \"{c}\" }}]\n"
            )
        };
        let test = format!(
            "profile = \"acme\"\nperiod = \"2026-06\"\n{}{}lines = {{ load = \"7.00\", flow = \"7.00\" }}\n",
            rows("load", [3, 4, 6]),
            rows("flow", [30, 40, 60])
        );
        files.insert("slots.test.toml".to_owned(), test);
        let tested = Catalog::parse(&files).expect("sound").run_tests();
        assert!(tested.is_ok(), "{tested:?}");
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
        assert!(mistake("net = \"1176.00\"", "sum = \"1\"").contains("sum: unknown key"));
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
        let quantities: Vec<_> = trial
            .usage
            .meters
            .values()
            .map(|usage| usage.total().map(Quantity::units))
            .collect();
        assert_eq!(quantities, [Some(1024)]);
        let none = Trial::read(&catalog, "u.toml", text, None, None).expect_err("no tenant");
        assert!(none.to_string().contains("profile: missing"), "{none}");
    }
}
