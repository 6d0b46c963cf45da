//! Generated prices and usage: whatever a catalog may say and whatever quantity comes, rating does
//! not panic, and gives the same bytes again.
//!
//! A pair is one version (or two) of a price of any model with one period's usage of its meter.
//! Quantities reach from nothing to the limits of 127 bits, with both neighbours of every power of
//! two; prices have up to 12 decimal places.

mod cards;

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::period::{Calendar, Every, Period, Zone};
use tollgate_collector_core::rate::{MeterUsage, Outcome, Shape, Slice, adds_up, rate_meter};
use tollgate_common::{Dimensions, Quantity, Window, WindowWidth};

use cards::{MODELS, WEEK, card_text};

/// Numbers that follow from a seed alone (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let at = usize::try_from(self.below(texts.len() as u64)).unwrap_or(0);
        texts[at]
    }

    /// A decimal below `whole` with up to 12 places.
    fn decimal(&mut self, whole: u64) -> String {
        let places = usize::try_from(self.below(13)).unwrap_or(0);
        let fraction = self.below(10u64.pow(12));
        let text = format!("{}.{fraction:012}", self.below(whole));
        text[..text.len() - (12 - places)]
            .trim_end_matches('.')
            .to_owned()
    }

    fn mode(&mut self) -> &'static str {
        self.one_of(&["half_up", "half_even", "up", "down"])
    }
}

/// What a pass over all pairs found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Over the text of every outcome.
    pub digest: String,
    /// Pairs that have an amount.
    pub rated: u64,
    /// Pairs that were refused: a number left its range, or nothing fits.
    pub refused: u64,
}

/// Rates `cards` generated cards with `usages` generated usages each.
///
/// # Errors
/// If a generated catalog is refused, or a line's steps do not sum to its amount.
pub fn pass(seed: u64, cards: u64, usages: u64) -> Result<Pass> {
    let mut hasher = blake3::Hasher::new();
    let (mut rated, mut refused) = (0, 0);
    for card in 0..cards {
        let mut numbers = Numbers(seed.wrapping_mul(0x1_0000_0001).wrapping_add(card));
        let scale = numbers.below(7);
        let second = numbers.one_in(3);
        let place = usize::try_from(numbers.below(MODELS.len() as u64))?;
        let model = &MODELS[place];
        let mut files = BTreeMap::from([
            ("meters.toml".to_owned(), model.meter(scale)),
            ("calendars/week.toml".to_owned(), WEEK.to_owned()),
        ]);
        // What a price keeps in all its versions.
        let interval = if numbers.one_in(3) {
            numbers.one_of(model.intervals)
        } else {
            "period"
        };
        let from = if second {
            &["2026-01-01", "2026-06-16"][..]
        } else {
            &["2026-01-01"]
        };
        for (index, from) in from.iter().enumerate() {
            files.insert(
                format!("cards/{index}.toml"),
                card_text(&mut numbers, from, model, interval),
            );
        }
        let catalog = Catalog::parse(&files).with_context(|| format!("{files:?}"))?;
        let period = june()?;
        let slices = slices(&catalog, period)?;
        for usage in 0..usages {
            let text = pair(&mut numbers, &catalog, period, &slices, usage)?;
            if text.starts_with("refused") {
                refused += 1;
            } else {
                rated += 1;
            }
            hasher.update(text.as_bytes());
        }
    }
    Ok(Pass {
        digest: hasher.finalize().to_hex().to_string(),
        rated,
        refused,
    })
}

fn june() -> Result<Period> {
    let zone: Zone = "Europe/Berlin".parse()?;
    let calendar = Calendar::new(zone, Every::MONTH);
    Ok(calendar.period_containing(zone.start_of_day("2026-06-15".parse()?)))
}

/// The slices that the versions of the card cut.
fn slices(catalog: &Catalog, period: Period) -> Result<Vec<Slice<'_>>> {
    let zone: Zone = "Europe/Berlin".parse()?;
    let mut cards: Vec<_> = catalog.cards().collect();
    cards.sort_by_key(|card| card.from);
    let mut slices = Vec::new();
    for (index, card) in cards.iter().enumerate() {
        let start = Ord::max(zone.start_of_day(card.from), period.start);
        let next = cards.get(index + 1);
        let end = next.map_or(period.end, |next| zone.start_of_day(next.from));
        let price = card.prices.first().context("a card has a price")?;
        slices.push(Slice {
            selects: None,
            span: Period { start, end },
            zone,
            priced: Some((*card, price)),
        });
    }
    Ok(slices)
}

fn pair(
    numbers: &mut Numbers,
    catalog: &Catalog,
    period: Period,
    slices: &[Slice<'_>],
    index: u64,
) -> Result<String> {
    let meter = catalog.meters().next().context("one meter")?;
    let shape = Shape::new(period, meter.aggregation, slices);
    let mut usage = MeterUsage::default();
    let width = WindowWidth::from_secs(900)?;
    for piece in 0..=numbers.below(3) {
        let power = if piece == 0 {
            index / 3 % 126
        } else {
            numbers.below(60)
        };
        let units = (1i128 << power) + i128::from(index % 3) - 1;
        let at = i64::try_from(numbers.below(30 * 96))? * 900_000;
        let window = Window::containing(period.start.plus_millis(at), width);
        let direction = numbers.one_of(&["in", "out"]);
        let region = numbers.one_of(&["eu-west", "eu-north", "us"]);
        let call = format!("c{piece}");
        let said = [
            ("call", &*call),
            ("direction", direction),
            ("region", region),
        ];
        // An event that does not say which one it is, now and then.
        let said = &said[usize::from(numbers.one_in(20))..];
        let dimensions = Dimensions::new(said.iter().copied())?;
        let quantity = Quantity::new(units);
        let counted = if adds_up(meter.aggregation) {
            usage.count(&shape, window, &dimensions, quantity)
        } else {
            usage.add(shape.part_of(window, &dimensions), quantity)
        };
        if let Err(error) = counted {
            return Ok(format!("refused: {error}"));
        }
    }
    let mut text = String::new();
    for outcome in rate_meter(&usage, meter, (period, period), slices, true) {
        match outcome {
            Outcome::Line(line) => {
                if let Some(arithmetic) = line.arithmetic() {
                    let mut sum = line.list;
                    for step in &arithmetic.steps {
                        sum += step.change;
                    }
                    ensure!(sum == line.amount, "{line}: the steps sum to {sum}");
                }
                ensure!(!line.amount.is_sign_negative(), "{line} is below zero");
                writeln!(text, "{line}")?;
            }
            Outcome::Unrated {
                reason, quantity, ..
            } => writeln!(text, "refused: {reason:?} {}", quantity.units())?,
        }
    }
    Ok(text)
}
