//! The catalog: meters, rate cards and billing profiles, read from TOML files.
//!
//! A catalog is checked as a whole and refused as a whole: one mistake in one file and the
//! catalog in force stays. Reading takes a map of paths to texts and touches no file.
//!
//! | path | content |
//! | --- | --- |
//! | `meters.toml`, `meters/*.toml` | `[[meter]]` tables |
//! | `cards/*.toml` | one version of one rate card each |
//! | `profiles/*.toml` | one billing profile each |
//! | `*.test.toml`, there or in `tests/` | a test of prices each, see [`Catalog::run_tests`] |

mod cards;
mod discounts;
mod error;
mod measure;
mod price;
mod prices;
mod profiles;
mod read;
mod tiers;
mod trial;
mod unit;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tollgate_common::limits::SCALE_MAX;
use tollgate_common::{Aggregation, MeterName, Quantity, Scale, TenantId, Timestamp};
use toml::de::DeTable;

pub use cards::{Card, Order};
pub use discounts::{Discount, Off};
pub use error::{CatalogError, CatalogErrors};
pub use measure::{Measure, MeasureError};
pub use price::{
    Above, Allowance, Blocks, Bounds, Convert, FirstFlat, Model, Price, Scheme, Tier, TierBy,
};
pub use profiles::Profile;
pub use trial::Trial;
pub use unit::{Unit, UnitError};

use crate::entry::Digest;
use crate::period::Zone;
use read::Reader;

/// Most files of a catalog.
pub const CATALOG_FILES_MAX: usize = 4096;
/// Longest file of a catalog, in bytes.
pub const CATALOG_FILE_BYTES_MAX: usize = 1 << 20;
/// Longest catalog in all, in bytes; it travels as one journal entry.
pub const CATALOG_BYTES_MAX: usize = 8 << 20;
/// Most meters in one file, and most prices of one card.
pub const CATALOG_ROWS_MAX: usize = 4096;
/// Most tiers of one price.
pub const TIERS_MAX: usize = 256;
/// Most discounts of one card.
pub const DISCOUNTS_MAX: usize = 256;
/// Longest identifier of a card or a price, in bytes.
pub const CATALOG_ID_BYTES_MAX: usize = 128;

const _: () = assert!(CATALOG_BYTES_MAX < tollgate_common::limits::RECORD_BYTES_MAX);

/// A declared meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name.
    pub name: MeterName,
    /// Its unit.
    pub unit: Unit,
    /// Decimal places of its quantities.
    pub scale: Scale,
    /// How its values combine.
    pub aggregation: Aggregation,
}

impl Meter {
    /// Reads a quantity such as `3500000`, in the billed unit, or `12.5 GB`.
    ///
    /// # Errors
    /// See [`MeasureError`].
    pub fn read_quantity(&self, text: &str) -> Result<Quantity, MeasureError> {
        measure::quantity(text, &self.billed_unit(), self.billed_scale())
    }

    /// Decimal places of what is billed: of a level over time three more, because agents count
    /// its milliseconds.
    pub fn billed_scale(&self) -> Scale {
        let billed = self.aggregation.rollup_scale(self.scale);
        // Checked when the catalog was read.
        billed.unwrap_or(self.scale)
    }

    /// The unit of what is billed: of a level over time the unit times seconds, `{seat}.s`.
    pub fn billed_unit(&self) -> Unit {
        match self.aggregation {
            Aggregation::TimeWeighted => self.unit.times_seconds(),
            _ => self.unit.clone(),
        }
    }
}

/// A checked catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    digest: Digest,
    files: BTreeMap<String, String>,
    meters: BTreeMap<MeterName, Meter>,
    /// The versions of each card, oldest first.
    cards: BTreeMap<String, Vec<Card>>,
    profiles: BTreeMap<TenantId, Profile>,
    default_profile: Option<Profile>,
    /// True if some price may be due for a period without usage.
    due_unused: bool,
}

impl Catalog {
    /// Reads and checks a catalog: path below the catalog folder, with `/`, to content.
    ///
    /// # Errors
    /// Every mistake with file, line, column and key; see [`CatalogErrors`].
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, CatalogErrors> {
        let mut errors = Vec::new();
        check_sizes(files, &mut errors);
        if !errors.is_empty() {
            return Err(CatalogErrors::new(errors));
        }
        let mut catalog = Self {
            digest: digest(files),
            files: files.clone(),
            meters: BTreeMap::new(),
            cards: BTreeMap::new(),
            profiles: BTreeMap::new(),
            default_profile: None,
            due_unused: false,
        };
        let mut places = Places::default();
        // Cards name meters and profiles name cards, so what is named is read first.
        for part in [Part::Meters, Part::Cards, Part::Profiles] {
            for (path, text) in files {
                if Part::of(path) == Some(part) {
                    catalog.read_file(part, path, text, &mut places, &mut errors);
                }
            }
        }
        if errors.is_empty() {
            errors.extend(places.unexplained());
        }
        catalog.due_unused = {
            let mut prices = catalog.cards().flat_map(|card| &card.prices);
            prices.any(Price::is_due_unused)
        };
        if errors.is_empty() {
            Ok(catalog)
        } else {
            Err(CatalogErrors::new(errors))
        }
    }

    fn read_file(
        &mut self,
        part: Part,
        path: &str,
        text: &str,
        places: &mut Places,
        errors: &mut Vec<CatalogError>,
    ) {
        let mut reader = Reader::new(path, text, errors);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                reader.refuse(span, "", format!("not valid TOML: {}", error.message()));
                return;
            }
        };
        let root = reader.root(&document);
        match part {
            Part::Meters => self.read_meters(&mut reader, &root, path, places),
            Part::Cards => cards::read(self, &mut reader, &root, path, places),
            Part::Profiles => profiles::read(self, &mut reader, &root, path, places),
            Part::Tests => {}
        }
    }

    fn read_meters<'d>(
        &mut self,
        reader: &mut Reader<'d>,
        root: &read::Section<'d>,
        path: &str,
        places: &mut Places,
    ) {
        reader.only(root, &["meter"]);
        for section in reader.tables(root, "meter", CATALOG_ROWS_MAX) {
            reader.only(&section, &["name", "unit", "scale", "aggregation"]);
            let name = reader.parse::<MeterName>(
                &section,
                "name",
                "a meter's name such as \"http.requests\"",
            );
            let unit =
                reader.parse::<Unit>(&section, "unit", "a unit such as \"By\" or \"{request}\"");
            let scale = read_scale(reader, &section);
            let aggregation =
                reader.parse::<Aggregation>(&section, "aggregation", "such as \"sum\"");
            let Some((name, field)) = name else { continue };
            if !places.claim(reader, &field, &format!("meter `{name}`"), path) {
                continue;
            }
            let (Some((unit, _)), Some(scale), Some((aggregation, field))) =
                (unit, scale, aggregation)
            else {
                places.broken_meters.insert(name);
                continue;
            };
            if aggregation.rollup_scale(scale).is_none() {
                let message = format!(
                    "a level over time needs three decimal places more than its scale {scale}, \
                     and {SCALE_MAX} are the most (expected a scale of at most {})",
                    SCALE_MAX - 3
                );
                reader.refuse_field(&field, message);
                places.broken_meters.insert(name);
                continue;
            }
            let meter = Meter {
                name: name.clone(),
                unit,
                scale,
                aggregation,
            };
            self.meters.insert(name, meter);
        }
    }

    /// BLAKE3 over the sorted files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The files that it was read from.
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    /// The declared meters by name.
    pub fn meters(&self) -> impl ExactSizeIterator<Item = &Meter> {
        self.meters.values()
    }

    /// A declared meter.
    pub fn meter(&self, name: &MeterName) -> Option<&Meter> {
        self.meters.get(name)
    }

    /// True if some price may be due for a period without usage.
    pub fn is_due_unused(&self) -> bool {
        self.due_unused
    }

    /// All versions of all cards.
    pub fn cards(&self) -> impl Iterator<Item = &Card> {
        self.cards.values().flatten()
    }

    /// All profiles, the default one last.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values().chain(&self.default_profile)
    }

    /// The profile of a tenant: its own, else the default one.
    pub fn profile(&self, tenant: &TenantId) -> Option<&Profile> {
        self.profiles.get(tenant).or(self.default_profile.as_ref())
    }

    /// The version of a card that is in force for a period: the newest that begins, at 00:00
    /// in the tenant's zone, no later than the period.
    pub fn card_in_force(&self, id: &str, zone: Zone, start: Timestamp) -> Option<&Card> {
        let versions = self.cards.get(id)?;
        versions
            .iter()
            .rev()
            .find(|card| zone.start_of_day(card.from) <= start)
    }
}

/// Which part of the catalog a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Meters,
    Cards,
    Profiles,
    Tests,
}

impl Part {
    fn of(path: &str) -> Option<Self> {
        if path == "meters.toml" {
            return Some(Self::Meters);
        }
        if let Some(name) = path.strip_suffix(".test.toml") {
            let (folder, name) = name.split_once('/').unwrap_or(("tests", name));
            let known = ["meters", "cards", "profiles", "tests"].contains(&folder);
            return (known && !name.is_empty() && !name.contains('/')).then_some(Self::Tests);
        }
        let (folder, file) = path.split_once('/')?;
        let name = file.strip_suffix(".toml")?;
        if name.is_empty() || name.contains('/') {
            return None;
        }
        match folder {
            "meters" => Some(Self::Meters),
            "cards" => Some(Self::Cards),
            "profiles" => Some(Self::Profiles),
            _ => None,
        }
    }
}

/// Where things were declared first, to name both places of a repetition.
#[derive(Default)]
struct Places {
    claimed: BTreeMap<String, String>,
    /// Meters that are declared with mistakes: a price of one is not at fault.
    broken_meters: std::collections::BTreeSet<MeterName>,
    /// Cards that are declared with mistakes.
    broken_cards: std::collections::BTreeSet<String>,
}

impl Places {
    /// Notes where `what` is declared; refuses a second declaration.
    fn claim(
        &mut self,
        reader: &mut Reader<'_>,
        field: &read::Field<'_>,
        what: &str,
        path: &str,
    ) -> bool {
        if let Some(first) = self.claimed.get(what) {
            let message = format!("{what} is declared twice (first in {first})");
            reader.refuse_field(field, message);
            return false;
        }
        self.claimed
            .insert(what.to_owned(), format!("{path}, {}", field.key));
        true
    }

    /// What was left out although no mistake was noted. There should be nothing; if there is, a
    /// catalog without it must not come into force.
    fn unexplained(&self) -> impl Iterator<Item = CatalogError> {
        let meters = self
            .broken_meters
            .iter()
            .map(|name| format!("meter `{name}`"));
        let cards = self.broken_cards.iter().map(|id| format!("card `{id}`"));
        meters
            .chain(cards)
            .take(CatalogErrors::MAX)
            .map(|what| CatalogError {
                file: "catalog".to_owned(),
                line: 0,
                column: 0,
                span: 0..0,
                key: String::new(),
                message: format!(
                    "{what} cannot be read, and why is not known; this is a defect of this \
                     program (write {what} in another way, and report it)"
                ),
            })
    }
}

fn read_scale<'d>(reader: &mut Reader<'d>, section: &read::Section<'d>) -> Option<Scale> {
    let expected = "an integer from 0 to 12: the decimal places of the meter's quantities";
    let field = reader.required(section, "scale", expected)?;
    let scale = field
        .value
        .as_integer()
        .filter(|integer| integer.radix() == 10)
        .and_then(|integer| integer.as_str().parse::<u8>().ok())
        .and_then(|places| Scale::new(places).ok());
    if scale.is_none() {
        reader.refuse_field(&field, format!("expected {expected}"));
    }
    scale
}

fn check_sizes(files: &BTreeMap<String, String>, errors: &mut Vec<CatalogError>) {
    let mut refuse = |file: &str, message: String| {
        if errors.len() < CatalogErrors::MAX {
            errors.push(CatalogError {
                file: file.chars().take(256).collect(),
                line: 0,
                column: 0,
                span: 0..0,
                key: String::new(),
                message,
            });
        }
    };
    if files.len() > CATALOG_FILES_MAX {
        let message = format!(
            "{} files, more than the {CATALOG_FILES_MAX} allowed",
            files.len()
        );
        refuse("catalog", message);
        return;
    }
    let bytes: usize = files
        .iter()
        .map(|(path, text)| path.len() + text.len())
        .sum();
    if bytes > CATALOG_BYTES_MAX {
        refuse(
            "catalog",
            format!("{bytes} bytes, more than the {CATALOG_BYTES_MAX} allowed"),
        );
    }
    for (path, text) in files {
        if text.len() > CATALOG_FILE_BYTES_MAX {
            let message = format!(
                "{} bytes, more than the {CATALOG_FILE_BYTES_MAX} allowed",
                text.len()
            );
            refuse(path, message);
        }
        if Part::of(path).is_none() {
            refuse(
                path,
                "not a file of a catalog (expected meters.toml, meters/NAME.toml, \
                 cards/NAME.toml, profiles/NAME.toml or NAME.test.toml)"
                    .to_owned(),
            );
        }
    }
}

/// BLAKE3 over the sorted files: the text `tollgate catalog v1` and a zero byte, the number
/// of files, then length and bytes of each path and each content; numbers are `u64`
/// little-endian.
fn digest(files: &BTreeMap<String, String>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tollgate catalog v1\0");
    hasher.update(&(files.len() as u64).to_le_bytes());
    for text in files.iter().flat_map(|(path, text)| [path, text]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Reads `2026-01-01`.
fn read_date(text: &str) -> Option<NaiveDate> {
    let shape = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    date.filter(|_| shape)
}

/// Checks the identifier of a card or a price.
fn check_id(text: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    if text.is_empty() || text.len() > CATALOG_ID_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(format!(
            "not an identifier (expected 1 to {CATALOG_ID_BYTES_MAX} ASCII letters, digits and . _ - / : @)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
