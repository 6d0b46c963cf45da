//! Prices by dimensions, and by time of day: rows with patterns, of which one prices each window
//! of each series.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tollgate_common::limits::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX};
use tollgate_common::{Dimensions, Timestamp};

use super::bands::Bands;
use super::cards::Id;
use super::files::Part as FilePart;
use super::measure::{Measure, plain_decimal};
use super::models::ModelName;
use super::per_event::PerEvent;
use super::percentile::Percentile;
use super::price::{Allowance, Model};
use super::prices::{self, checked};
use super::read::{Field, Reader, Section};
use super::unit::Unit;
use super::{Catalog, Meter, Places, terms};
use crate::period::Zone;
use crate::policy;
use crate::rate::{Part, Ratio, multiple};

/// Most rows of one price.
pub const MATRIX_ROWS_MAX: usize = 1024;

const _: () = assert!(MATRIX_ROWS_MAX < Part::NO_CELL as usize);

/// The rows of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The calendar that bands are of.
    pub bands: Option<Arc<Bands>>,
    /// In the order of the file.
    pub rows: Vec<Row>,
    /// The rows in the order in which they are tried.
    order: Vec<u16>,
}

/// What some series, or some hours, cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name; unique in the price. Tiers go on where another version of the price has a row of
    /// this name.
    pub id: String,
    /// The dimensions that it asks for.
    pub when: Vec<(String, ValuePattern)>,
    /// The band that it asks for.
    pub band: Option<u8>,
    /// The pool whose tiers it fills together with the other rows of that name; `None` for tiers of
    /// its own.
    pub pool: Option<String>,
    /// What is included of it alone.
    pub allowance: Option<Allowance>,
    /// How much of what rows share one unit uses up; above zero.
    pub uses: Ratio,
    /// What unit prices are quoted for.
    pub per: Measure,
    /// How quantity becomes an amount.
    pub model: Model,
    /// How single events are priced, in place of the model.
    pub per_event: Option<PerEvent>,
    /// For bandwidth: the percentile that is priced in place of the sum.
    pub percentile: Option<Percentile>,
    /// True if its unit prices are percentages of money.
    pub is_percentage: bool,
}

/// A text, or a pattern in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePattern(String);

impl ValuePattern {
    fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    fn letters(&self) -> usize {
        self.0.chars().filter(|c| *c != '*').count()
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Row {
    fn fits(&self, band: Option<u8>, dimensions: &Dimensions) -> bool {
        let fits = |(key, pattern): &(String, ValuePattern)| {
            let value = dimensions.get(key);
            value.is_some_and(|value| policy::fits(&pattern.0, value))
        };
        self.band.is_none_or(|own| band == Some(own)) && self.when.iter().all(fits)
    }

    /// More exact values first, then more patterns, then longer ones.
    fn specificity(&self) -> (usize, usize, usize) {
        let exact = self.when.iter().filter(|(_, pattern)| pattern.is_exact());
        let letters = self.when.iter().map(|(_, pattern)| pattern.letters());
        (
            exact.count() + usize::from(self.band.is_some()),
            self.when.len(),
            letters.sum(),
        )
    }

    /// What one unit costs in its first tier.
    fn unit_price(&self) -> Option<Ratio> {
        let tier = self.model.tiers.first()?;
        let per = tier.per.as_ref().unwrap_or(&self.per);
        Ratio::from_decimal(tier.unit.unwrap_or_default()).checked_div(per.value())
    }
}

impl Matrix {
    /// The row that prices usage of a series at an instant, by its index; [`Part::NO_CELL`] if
    /// none fits.
    pub fn cell(&self, zone: Zone, instant: Timestamp, dimensions: &Dimensions) -> u16 {
        let band = self.bands.as_ref().map(|bands| bands.at(zone, instant));
        let fits = |row: &&u16| self.rows[usize::from(**row)].fits(band, dimensions);
        self.order
            .iter()
            .find(fits)
            .copied()
            .unwrap_or(Part::NO_CELL)
    }

    /// True if a row shares its tiers with others, so that the order of windows matters.
    pub fn is_pooled(&self, cell: u16) -> bool {
        self.row(cell).is_some_and(|row| row.pool.is_some())
    }

    /// The row of a cell.
    pub fn row(&self, cell: u16) -> Option<&Row> {
        self.rows.get(usize::from(cell))
    }
}

/// Which row prices usage that several fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Precedence {
    #[default]
    MostSpecific,
    HighestPrice,
}

impl FromStr for Precedence {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "most_specific" => Ok(Self::MostSpecific),
            "highest_price" => Ok(Self::HighestPrice),
            _ => {
                Err("expected `most_specific` (most exact values) or `highest_price` (of one unit)")
            }
        }
    }
}

/// The order in which rows are tried; ties stand in the order of the file.
fn order(rows: &[Row], precedence: Precedence) -> Option<Vec<u16>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    match precedence {
        Precedence::MostSpecific => order.sort_by_key(|at| Reverse(rows[*at].specificity())),
        Precedence::HighestPrice => {
            let prices = rows
                .iter()
                .map(Row::unit_price)
                .collect::<Option<Vec<_>>>()?;
            // Over one denominator any two can be compared.
            let mut denominator = 1;
            for price in &prices {
                denominator = multiple(denominator, price.denominator())?;
            }
            let numerator = |price: &Ratio| {
                let factor = denominator / price.denominator();
                price.numerator().checked_mul(factor)
            };
            let numerators = prices.iter().map(numerator).collect::<Option<Vec<_>>>()?;
            order.sort_by_key(|at| Reverse(numerators[*at]));
        }
    }
    order.into_iter().map(|at| u16::try_from(at).ok()).collect()
}

/// Reads the rows of a price.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    (meter, currency): (&Meter, Option<&str>),
    (unit, per): (&Unit, Option<&Measure>),
    places: &Places,
) -> Option<Matrix> {
    let precedence = reader.or_default(
        section,
        "precedence",
        "\"most_specific\" or \"highest_price\"",
    );
    let bands = read_calendar(catalog, reader, section, places)?;
    let field = reader.required(
        section,
        "rows",
        "rows such as [{ when = { region = \"eu-*\" }, unit = \"0.09\" }, { unit = \"0.12\" }]",
    )?;
    let sections = reader.tables(section, "rows", MATRIX_ROWS_MAX);
    if sections.is_empty() {
        reader.refuse_field(&field, "a matrix needs at least one row");
        return None;
    }
    let mut rows: Vec<Row> = Vec::with_capacity(sections.len());
    let mut sound = true;
    for row in &sections {
        let context = RowContext {
            meter,
            currency,
            bands: bands.as_deref(),
            unit,
            per,
            shares: section.has("allowance"),
        };
        let Some(read) = read_row(catalog, reader, row, &context) else {
            sound = false;
            continue;
        };
        if let Some(other) = rows.iter().find(|other| other.id == read.id) {
            let message = format!(
                "row `{}` stands in this price twice (expected an `id`)",
                other.id
            );
            reader.refuse(row.span(), &row.key("id"), message);
            sound = false;
        }
        let alike = |other: &&Row| other.when == read.when && other.band == read.band;
        if let Some(other) = rows.iter().find(alike).filter(|other| other.id != read.id) {
            let message = format!(
                "row `{}` describes the same usage already (expected another `when` or `band`)",
                other.id
            );
            reader.refuse(row.span(), &row.key("when"), message);
            sound = false;
        }
        rows.push(read);
    }
    if !sound {
        return None;
    }
    if rows
        .iter()
        .any(|row| row.per_event.is_some() != rows[0].per_event.is_some())
    {
        let message = "either all rows price single events or none does (a percentage does with \
                       `fixed`, of `\"0\"` too)";
        reader.refuse_field(&field, message);
        return None;
    }
    if rows
        .iter()
        .any(|row| row.percentile.is_some() != rows[0].percentile.is_some())
    {
        let message = "either all rows price a percentile or none does";
        reader.refuse_field(&field, message);
        return None;
    }
    let Some(order) = order(&rows, precedence?) else {
        reader.refuse_field(&field, "the rows' prices are too large to be compared");
        return None;
    };
    Some(Matrix { bands, rows, order })
}

/// The calendar that the price names.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_calendar<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<Option<Arc<Bands>>> {
    let Some((Id(id), field)) = reader.maybe::<Id>(
        section,
        "calendar",
        "the id of a calendar such as \"office\"",
    )?
    else {
        return Some(None);
    };
    let known = catalog.calendars.get(&id).cloned();
    if known.is_none()
        && !places.broken_calendars.contains(&id)
        && !places.unread.contains(&FilePart::Calendars)
    {
        let message =
            format!("calendar `{id}` is not declared (expected the `id` of a file in calendars/)");
        reader.refuse_field(&field, message);
    }
    known.map(Some)
}

/// What a row is read with.
pub(super) struct RowContext<'r> {
    pub(super) meter: &'r Meter,
    /// Of the card.
    pub(super) currency: Option<&'r str>,
    bands: Option<&'r Bands>,
    pub(super) unit: &'r Unit,
    /// What the price is quoted for, if it says so.
    per: Option<&'r Measure>,
    /// True if rows share what is included.
    shares: bool,
}

/// How much of what rows share one unit of a row uses up: one, unless it says otherwise.
fn read_uses<'d>(
    reader: &mut Reader<'d>,
    row: &Section<'d>,
    (shares, has_own): (bool, bool),
) -> Option<Ratio> {
    if let (true, true, Some(field)) = (shares, has_own, row.field("allowance")) {
        let message = "rows share what is included (expected `allowance` in the price or in rows)";
        reader.refuse_field(&field, message);
        return None;
    }
    let Some(field) = row.field("uses") else {
        return Some(Ratio::ONE);
    };
    if !shares {
        let message = "rows share nothing that is included (expected `allowance` in the price)";
        reader.refuse_field(&field, message);
        return None;
    }
    let text = reader.string(&field, "a decimal string such as \"2\"")?;
    let uses = Ratio::from_decimal(checked(reader, &field, plain_decimal(text))?);
    if uses.is_zero() {
        let message = "what uses up nothing is free without end (expected more than zero)";
        reader.refuse_field(&field, message);
        return None;
    }
    Some(uses)
}

fn read_row<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    row: &Section<'d>,
    context: &RowContext<'_>,
) -> Option<Row> {
    let &RowContext {
        bands, unit, per, ..
    } = context;
    let is_percentile = row
        .field("model")
        .is_some_and(|field| field.value.as_str() == Some(ModelName::PERCENTILE));
    let own_per = match row.field("per") {
        // What a percentile is quoted for is no amount of what is metered.
        _ if is_percentile => Some(None),
        None => Some(None),
        Some(field) => {
            let expected = format!("what this row's price is quoted for, such as \"1000 {unit}\"");
            let text = reader.string(&field, &expected);
            text.and_then(|text| checked(reader, &field, Measure::with_unit(text, unit)))
                .map(Some)
        }
    };
    let when = read_when(reader, row);
    let band = read_row_band(reader, row, bands);
    let id = reader.maybe::<Id>(row, "id", "the row's name such as \"europe\"");
    let pool = reader.maybe::<Id>(row, "tier_pool", "the name of a pool such as \"all\"")?;
    let block = own_per.as_ref().and_then(|own| own.as_ref()).or(per);
    let allowance = terms::read_allowance(reader, row, unit)?;
    let uses = read_uses(reader, row, (context.shares, allowance.is_some()))?;
    let read = prices::read_row_model(catalog, reader, row, context, block);
    let (when, band) = (when?, band?);
    let id = match id? {
        Some((Id(id), _)) => id,
        None => default_id(&when, band.and_then(|band| Some(bands?.name(band)))),
    };
    let read = read?;
    let own_per = own_per?;
    if own_per.is_none() && read.per.is_none() && per.is_none() {
        let message =
            format!("missing (expected what prices are quoted for, such as \"1000 {unit}\")");
        reader.refuse(row.span(), &row.key("per"), message);
        return None;
    }
    Some(Row {
        id,
        when,
        band,
        pool: pool.map(|(Id(pool), _)| pool),
        allowance,
        uses,
        per: read.per.or(own_per).or_else(|| per.cloned())?,
        model: read.model,
        per_event: read.per_event,
        percentile: read.percentile,
        is_percentage: read.is_percentage,
    })
}

/// What a row without a name is called: what it asks for.
fn default_id(when: &[(String, ValuePattern)], band: Option<&str>) -> String {
    let pairs = when.iter().map(|(key, pattern)| format!("{key}={pattern}"));
    let all: Vec<String> = band.map(str::to_owned).into_iter().chain(pairs).collect();
    if all.is_empty() {
        "else".to_owned()
    } else {
        all.join(",")
    }
}

fn read_when<'d>(
    reader: &mut Reader<'d>,
    row: &Section<'d>,
) -> Option<Vec<(String, ValuePattern)>> {
    if !row.has("when") {
        return Some(Vec::new());
    }
    let expected = "dimensions such as { region = \"eu-*\" }";
    let table = reader.table(row, "when", expected)?;
    let mut when = Vec::new();
    for key in table.names() {
        let field = table.field(&key)?;
        let pattern = reader.string(&field, "a value, or a pattern with `*`")?;
        let long = key.len() > DIMENSION_KEY_BYTES_MAX || pattern.len() > DIMENSION_VALUE_BYTES_MAX;
        if key.is_empty() || long || pattern.chars().any(char::is_control) {
            refuse_pattern(reader, &field);
            return None;
        }
        when.push((key, ValuePattern(pattern.to_owned())));
    }
    when.sort_by(|(left, _), (right, _)| left.cmp(right));
    Some(when)
}

fn refuse_pattern(reader: &mut Reader<'_>, field: &Field<'_>) {
    let message = format!(
        "no series has such a dimension (expected a key of at most {DIMENSION_KEY_BYTES_MAX} and a \
         value of at most {DIMENSION_VALUE_BYTES_MAX} bytes without control characters)"
    );
    reader.refuse_field(field, message);
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_row_band<'d>(
    reader: &mut Reader<'d>,
    row: &Section<'d>,
    bands: Option<&Bands>,
) -> Option<Option<u8>> {
    let Some(field) = row.field("band") else {
        return Some(None);
    };
    let name = reader.string(&field, "a band of the calendar such as \"peak\"")?;
    let Some(bands) = bands else {
        let message = "the price names no calendar (expected `calendar` beside `rows`)";
        reader.refuse_field(&field, message);
        return None;
    };
    let index = bands.index(name);
    if index.is_none() {
        let known: Vec<&str> = bands.names().collect();
        let message = format!(
            "calendar `{}` has no band `{}` (expected {})",
            bands.id,
            name.chars().take(64).collect::<String>(),
            super::read::list(&known)
        );
        reader.refuse_field(&field, message);
    }
    index.map(Some)
}
