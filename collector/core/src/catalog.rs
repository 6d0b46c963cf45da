//! The catalog: meters, rate cards and billing profiles, read from TOML files.
//!
//! A catalog is checked as a whole and refused as a whole: one mistake in one file and the
//! catalog in force stays. Reading takes a map of paths to texts and touches no file.
//!
//! | path | content |
//! | --- | --- |
//! | `meters.toml`, `meters/*.toml` | `[[meter]]` tables |
//! | `calendars/*.toml` | one calendar each: the bands of a week, and holidays |
//! | `tax/*.toml` | `[[tax]]` tables: taxes with their rates |
//! | `units/*.toml` | `[[unit]]` tables: pricing units such as tokens |
//! | `rates/*.toml` | `[[rate]]` tables: exchange rates |
//! | `cards/*.toml` | one version of one rate card each |
//! | `templates/*.toml` | what several profiles have in common |
//! | `profiles/*.toml` | one billing profile each |
//! | `*.test.toml`, there or in `tests/` | a test of prices each, see [`Catalog::run_tests`] |

mod agreement;
mod around;
mod bands;
mod billing;
mod cards;
mod commitments;
mod contracted;
mod coupons;
pub mod diff;
mod discounts;
mod each;
mod error;
mod exchange;
mod families;
mod files;
mod follows;
mod grants;
mod long_term;
mod matrix;
mod measure;
mod meters;
mod models;
mod per_event;
mod percentile;
mod price;
mod prices;
mod pricing_units;
mod profiles;
mod read;
mod sound;
mod tax;
mod templates;
mod terms;
mod tiers;
pub mod timeline;
mod total;
mod trial;
mod unit;
mod versions;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use chrono::NaiveDate;
use tollgate_common::{MeterName, Scale, TenantId, Timestamp};
use toml::de::DeTable;

pub use agreement::{Agreement, Payer, Threshold};
pub use around::{Around, Bound, Counts};
pub use bands::{BANDS_MAX, Bands};
pub use cards::{Card, Order};
pub use commitments::{AtEnd, Commitment, Pay};
pub use discounts::{Discount, JointDiscount, Off};
pub use each::Each;
pub use error::{CatalogError, CatalogErrors};
pub use exchange::{ExchangeRate, ExchangeRates};
pub use families::Families;
pub use files::{CATALOG_BYTES_MAX, CATALOG_FILE_BYTES_MAX, CATALOG_FILES_MAX};
pub use grants::{Grant, GrantKind};
pub use long_term::LongTerm;
pub use matrix::{MATRIX_ROWS_MAX, Matrix, Row, ValuePattern};
pub use measure::{Measure, MeasureError};
pub use meters::Meter;
pub use per_event::{PerEvent, Segment};
pub use percentile::{Directions, Missing, Percentile};
pub use price::{
    Above, Allowance, Billed, Blocks, Bounds, Convert, Due, FirstFlat, Interval, Model, Over,
    Price, PriceTerms, Prorated, Scheme, Tier, TierBy,
};
pub use profiles::{Late, Profile, Settlement};
pub(crate) use tax::TAXES_MAX;
pub use tax::{Tax, TaxBehavior, TaxFirst, TaxKind, TaxPer, TaxRate, TaxStyle};
pub use total::TotalRounding;
pub use trial::{Trial, UsageFormat};
pub use unit::{Unit, UnitError};

use crate::entry::Digest;
use crate::period::Zone;
use crate::rate::{Currency, Fast};
use files::{Part, check_sizes, digest};
use read::Reader;

/// Most meters in one file, and most prices of one card.
pub const CATALOG_ROWS_MAX: usize = 4096;
/// Most tiers of one price.
pub const TIERS_MAX: usize = 256;
/// Most discounts of one card.
pub const DISCOUNTS_MAX: usize = 256;
/// Longest identifier of a card or a price, in bytes.
pub const CATALOG_ID_BYTES_MAX: usize = 128;

/// A checked catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    digest: Digest,
    files: BTreeMap<String, String>,
    meters: BTreeMap<MeterName, Meter>,
    calendars: BTreeMap<String, Arc<Bands>>,
    taxes: BTreeMap<String, Tax>,
    pricing_units: BTreeMap<String, Currency>,
    exchange: ExchangeRates,
    /// The versions of each card, oldest first.
    cards: BTreeMap<String, Vec<Arc<Card>>>,
    profiles: BTreeMap<TenantId, Arc<Profile>>,
    default_profile: Option<Arc<Profile>>,
    /// True if a price, a minimum or a commitment may be due for a period without usage.
    due_unused: bool,
    /// A profile has a threshold.
    thresholds: bool,
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
            calendars: BTreeMap::new(),
            taxes: BTreeMap::new(),
            pricing_units: BTreeMap::new(),
            exchange: ExchangeRates::default(),
            cards: BTreeMap::new(),
            profiles: BTreeMap::new(),
            default_profile: None,
            due_unused: false,
            thresholds: false,
        };
        let mut places = Places::default();
        // Cards name meters and profiles name cards, so what is named is read first.
        let parts = [
            Part::Meters,
            Part::Calendars,
            Part::Taxes,
            Part::Units,
            Part::Exchange,
            Part::Cards,
            Part::Templates,
            Part::Profiles,
        ];
        for part in parts {
            for (path, text) in files {
                if Part::of(path) == Some(part) {
                    catalog.read_file(part, path, text, &mut places, &mut errors);
                }
            }
        }
        versions::check(&catalog, &places.versions, &mut errors);
        agreement::check_payers(&catalog, std::mem::take(&mut places.payers), &mut errors);
        if errors.is_empty() {
            errors.extend(places.unexplained());
        }
        catalog.due_unused = {
            let mut profiles = catalog.profiles();
            catalog.cards().any(Card::is_due_unused)
                || profiles.any(|profile| profile.agreement.is_due_unused())
        };
        catalog.thresholds = {
            let mut profiles = catalog.profiles();
            profiles.any(|profile| profile.agreement.threshold.is_some())
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
                places.unread.push(part);
                return;
            }
        };
        let root = reader.root(&document);
        match part {
            Part::Meters => self.read_meters(&mut reader, &root, path, places),
            Part::Calendars => bands::read(self, &mut reader, &root, path, places),
            Part::Taxes => tax::read(self, &mut reader, &root, path, places),
            Part::Units => pricing_units::read(self, &mut reader, &root, path, places),
            Part::Exchange => exchange::read(self, &mut reader, &root, path, places),
            Part::Cards => cards::read(self, &mut reader, &root, path, places),
            Part::Templates => templates::read(self, &mut reader, &root, path, places),
            Part::Profiles => {
                let Ok(template) = templates::named(&mut reader, &root, places) else {
                    return;
                };
                let template = template.as_deref().map(DeTable::parse);
                // It was read before, so it is sound.
                let root = match &template {
                    Some(Ok(template)) => root.inherit(template, templates::KEY),
                    Some(Err(_)) | None => root,
                };
                profiles::read(self, &mut reader, &root, path, places);
            }
            Part::Tests => {}
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

    /// The calendars by their ids.
    pub fn calendars(&self) -> impl ExactSizeIterator<Item = &Bands> {
        self.calendars.values().map(|bands| &**bands)
    }

    /// True if some price may be due for a period without usage.
    pub fn is_due_unused(&self) -> bool {
        self.due_unused
    }

    /// True if a profile has a threshold.
    pub fn has_thresholds(&self) -> bool {
        self.thresholds
    }

    /// A declared tax.
    pub fn tax(&self, code: &str) -> Option<&Tax> {
        self.taxes.get(code)
    }

    /// All declared taxes.
    pub fn taxes(&self) -> impl Iterator<Item = &Tax> {
        self.taxes.values()
    }

    /// The exchange rates.
    pub fn exchange(&self) -> &ExchangeRates {
        &self.exchange
    }

    /// Works out the quick form of a price, where it has one.
    fn quicken(&self, price: &mut Price) {
        let meter = price.meter.as_ref().and_then(|name| self.meter(name));
        let places = meter.map_or(0, |meter| meter.billed_scale().get());
        let power = 10i128.checked_pow(u32::from(places));
        price.fast = power.and_then(|power| Fast::new(price, power));
    }

    /// All versions of all cards.
    pub fn cards(&self) -> impl Iterator<Item = &Card> {
        self.cards.values().flatten().map(|card| &**card)
    }

    /// All profiles, the default one last.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        let own = self.profiles.values().chain(&self.default_profile);
        own.map(|profile| &**profile)
    }

    /// The profile of a tenant: its own, else the default one. What is counted for nobody has
    /// none.
    pub fn profile(&self, tenant: &TenantId) -> Option<&Profile> {
        self.shared_profile(tenant).map(|profile| &**profile)
    }

    /// As [`Catalog::profile`], for keeping.
    pub fn shared_profile(&self, tenant: &TenantId) -> Option<&Arc<Profile>> {
        if tenant.is_unattributed() {
            return None;
        }
        self.profiles.get(tenant).or(self.default_profile.as_ref())
    }

    /// The versions of a card, oldest first; empty if there is no such card.
    pub fn versions(&self, card: &str) -> &[Arc<Card>] {
        self.cards.get(card).map_or(&[], Vec::as_slice)
    }

    /// The versions of a profile's card by which its tenant is rated, oldest first.
    pub fn versions_for<'a>(&'a self, profile: &'a Profile) -> &'a [Arc<Card>] {
        profile.agreement.versions(self.versions(&profile.card))
    }

    /// The version of a profile's card that is in force for a period, as
    /// [`Catalog::card_in_force`].
    pub fn card_for<'a>(
        &'a self,
        profile: &'a Profile,
        zone: Zone,
        start: Timestamp,
    ) -> Option<&'a Card> {
        newest(self.versions_for(profile), zone, start)
    }

    /// The version of a card that is in force for a period: the newest that begins, at 00:00
    /// in the tenant's zone, no later than the period.
    pub fn card_in_force(&self, id: &str, zone: Zone, start: Timestamp) -> Option<&Card> {
        newest(self.versions(id), zone, start)
    }
}

fn newest(versions: &[Arc<Card>], zone: Zone, start: Timestamp) -> Option<&Card> {
    let mut versions = versions.iter().rev();
    let version = versions.find(|card| zone.start_of_day(card.from) <= start);
    version.map(|card| &**card)
}

/// Where things were declared first, to name both places of a repetition.
#[derive(Default)]
struct Places {
    /// What files hold that are no TOML: whatever is not declared may stand there.
    unread: Vec<Part>,
    claimed: BTreeMap<String, String>,
    /// Meters that are declared with mistakes: a price of one is not at fault.
    broken_meters: std::collections::BTreeSet<MeterName>,
    /// Calendars that are declared with mistakes.
    broken_calendars: std::collections::BTreeSet<String>,
    /// Cards that are declared with mistakes.
    broken_cards: std::collections::BTreeSet<String>,
    /// The texts of the templates by their ids; `None` for one with mistakes.
    templates: BTreeMap<String, Option<Arc<str>>>,
    /// Taxes that are declared with mistakes.
    broken_taxes: std::collections::BTreeSet<String>,
    /// Where profiles name their payers.
    payers: Vec<agreement::PayerPlace>,
    /// Where versions of cards say what.
    versions: versions::VersionPlaces,
    /// What may be named in each card: read once for all profiles with it.
    names: RefCell<BTreeMap<String, Rc<around::Names>>>,
    /// How much of cards profiles have for themselves.
    own: Cell<usize>,
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
        let calendars = self
            .broken_calendars
            .iter()
            .map(|id| format!("calendar `{id}`"));
        let cards = self.broken_cards.iter().map(|id| format!("card `{id}`"));
        let taxes = self.broken_taxes.iter().map(|code| format!("tax `{code}`"));
        meters
            .chain(calendars)
            .chain(cards)
            .chain(taxes)
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
