//! A tenant's period with one meter and the versions of its price, for tests.

use std::collections::BTreeMap;

use tollgate_common::window::WindowWidth;
use tollgate_common::{Dimensions, Quantity, Timestamp, Window};

use crate::catalog::{Catalog, Meter};
use crate::period::{Calendar, Every, Period, Zone};
use crate::rate::{LineItem, MeterUsage, Outcome, Shape, Slice, adds_up, rate_meter};

/// A version of a card: from which date, the card's id, and its prices.
#[derive(Clone, Copy)]
pub(in crate::rate) struct Version<'t> {
    pub(in crate::rate) from: &'t str,
    pub(in crate::rate) card: &'t str,
    pub(in crate::rate) prices: &'t str,
}

/// Usage of a window that begins at an instant.
#[derive(Clone, Debug)]
pub(in crate::rate) struct Used {
    pub(in crate::rate) at: Timestamp,
    pub(in crate::rate) width: u32,
    pub(in crate::rate) dimensions: Dimensions,
    pub(in crate::rate) units: i128,
}

pub(in crate::rate) struct Rig {
    pub(in crate::rate) catalog: Catalog,
    pub(in crate::rate) zone: Zone,
    pub(in crate::rate) period: Period,
    /// Of which the period may be made a part.
    pub(in crate::rate) whole: Period,
    /// Where another card begins, in order.
    versions: Vec<(String, String)>,
}

pub(in crate::rate) fn instant(text: &str) -> Timestamp {
    let instant = chrono::DateTime::parse_from_rfc3339(text).expect("an instant");
    Timestamp::from_millis(instant.timestamp_millis())
}

/// `key=value,key=value`, or `-` for none.
pub(in crate::rate) fn dimensions(text: &str) -> Dimensions {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Dimensions::new(pairs).expect("dimensions")
}

impl Rig {
    /// The versions in a month of a zone, with one meter `m` or those of `meters`.
    pub(in crate::rate) fn new(
        meters: &str,
        calendars: &[&str],
        versions: &[Version<'_>],
        zone: &str,
        month: &str,
    ) -> Self {
        let mut files = BTreeMap::from([("meters.toml".to_owned(), meters.to_owned())]);
        for (index, calendar) in calendars.iter().enumerate() {
            files.insert(format!("calendars/{index}.toml"), (*calendar).to_owned());
        }
        for (index, version) in versions.iter().enumerate() {
            let text = format!(
                "id = \"{}\"\ncurrency = \"EUR\"\nfrom = \"{}\"\norder = \"standard/1\"\n{}\n",
                version.card, version.from, version.prices
            );
            files.insert(format!("cards/{index}.toml"), text);
        }
        let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
        let zone: Zone = zone.parse().expect("a zone");
        let first = format!("{month}-01").parse().expect("a month");
        let calendar = Calendar::new(zone, Every::MONTH);
        let period = calendar.period_containing(zone.start_of_day(first));
        Self {
            catalog,
            zone,
            period,
            whole: period,
            versions: versions
                .iter()
                .map(|version| (version.from.to_owned(), version.card.to_owned()))
                .collect(),
        }
    }

    pub(in crate::rate) fn meter(&self) -> &Meter {
        self.catalog.meters().next().expect("one meter")
    }

    /// The slices that the versions cut, of the price of the first meter.
    pub(in crate::rate) fn slices(&self) -> Vec<Slice<'_>> {
        let mut cuts: Vec<(Timestamp, &str)> = self
            .versions
            .iter()
            .map(|(from, card)| {
                (
                    self.zone.start_of_day(from.parse().expect("a date")),
                    &**card,
                )
            })
            .collect();
        cuts.sort();
        let mut slices = Vec::new();
        for (index, (from, card)) in cuts.iter().enumerate() {
            let until = cuts
                .get(index + 1)
                .map_or(Timestamp::MAX, |(until, _)| *until);
            let span = Period {
                start: Ord::max(*from, self.period.start),
                end: Ord::min(until, self.period.end),
            };
            if span.start >= span.end {
                continue;
            }
            let card = self.catalog.card_in_force(card, self.zone, span.start);
            let name = &self.meter().name;
            let priced = card.and_then(|card| {
                let price = card
                    .prices
                    .iter()
                    .find(|p| p.meter.as_ref() == Some(name))?;
                Some((card, price))
            });
            slices.push(Slice {
                selects: None,
                span,
                zone: self.zone,
                priced,
            });
        }
        slices
    }

    pub(in crate::rate) fn shape(&self, slices: &[Slice<'_>]) -> Shape {
        Shape::new(self.period, self.meter().aggregation, slices)
    }

    pub(in crate::rate) fn gather(&self, slices: &[Slice<'_>], used: &[Used]) -> MeterUsage {
        let shape = self.shape(slices);
        let mut usage = MeterUsage::default();
        let mut largest = BTreeMap::new();
        for used in used {
            let width = WindowWidth::from_secs(used.width).expect("a width");
            let window = Window::containing(used.at, width);
            let quantity = Quantity::new(used.units);
            if adds_up(self.meter().aggregation) {
                usage
                    .count(&shape, window, &used.dimensions, quantity)
                    .expect("fits");
                continue;
            }
            for part in shape.parts_of(window, &used.dimensions) {
                let of_series = largest.entry((part, &used.dimensions)).or_insert(quantity);
                *of_series = Ord::max(*of_series, quantity);
            }
        }
        for ((part, _), quantity) in largest {
            usage.add(part, quantity).expect("fits");
        }
        usage
    }

    /// The texts of all outcomes.
    pub(in crate::rate) fn texts(&self, used: &[Used]) -> Vec<String> {
        let slices = self.slices();
        let usage = self.gather(&slices, used);
        self.texts_of(&slices, &usage)
    }

    pub(in crate::rate) fn texts_of(
        &self,
        slices: &[Slice<'_>],
        usage: &MeterUsage,
    ) -> Vec<String> {
        let meter = self.meter();
        let outcomes = rate_meter(usage, meter, (self.period, self.whole), slices, true);
        let text = |outcome: &Outcome<'_>| match outcome {
            Outcome::Line(line) => {
                check(line);
                line.to_string()
            }
            Outcome::Unrated {
                reason, quantity, ..
            } => format!(
                "unrated {reason:?} {}",
                quantity.display(meter.billed_scale())
            ),
        };
        outcomes.iter().map(text).collect()
    }

    /// The amounts of the lines.
    pub(in crate::rate) fn amounts(&self, used: &[Used]) -> Vec<String> {
        let slices = self.slices();
        let usage = self.gather(&slices, used);
        let outcomes = rate_meter(
            &usage,
            self.meter(),
            (self.period, self.whole),
            &slices,
            true,
        );
        let amount = |outcome: &Outcome<'_>| match outcome {
            Outcome::Line(line) => line.amount.to_string(),
            Outcome::Unrated { .. } => "unrated".to_owned(),
        };
        outcomes.iter().map(amount).collect()
    }
}

/// Pieces and steps of a line sum to its amounts.
fn check(line: &LineItem<'_>) {
    let arithmetic = line.arithmetic().expect("fits");
    let changes: rust_decimal::Decimal = arithmetic.steps.iter().map(|step| step.change).sum();
    assert_eq!(line.list + changes, line.amount);
}

/// A meter `m`.
pub(in crate::rate) fn meter(unit: &str, scale: u8, aggregation: &str) -> String {
    format!(
        "[[meter]]\nname = \"m\"\nunit = \"{unit}\"\nscale = {scale}\naggregation = \"{aggregation}\"\n"
    )
}

/// A price `p` of meter `m`.
pub(in crate::rate) fn price(keys: &str) -> String {
    format!("[[price]]\nid = \"p\"\nmeter = \"m\"\n{keys}\n")
}

/// Usage without dimensions in a window of 15 minutes.
pub(in crate::rate) fn used(at: &str, units: i128) -> Used {
    Used {
        at: instant(at),
        width: 900,
        dimensions: Dimensions::none(),
        units,
    }
}
