//! Calendars: how a week is divided into bands such as `peak` and `night`, for prices by time of
//! day and day of the week.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike, Weekday};
use tollgate_common::Timestamp;

use super::cards::Id;
use super::read::{Field, Reader, Section};
use super::{CATALOG_ROWS_MAX, Catalog, Places, read_date};
use crate::period::Zone;

/// Most different bands of a calendar.
pub const BANDS_MAX: usize = 64;

/// Bands begin and end at quarters of an hour, as windows and the offsets of zones do.
const QUARTER_MINUTES: u32 = 15;
const QUARTERS: usize = 96;
/// Monday to Sunday, and holidays.
const KINDS: [&str; 8] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"];
const HOLIDAY: usize = 7;

/// A week divided into bands without gap or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bands {
    /// What prices call it.
    pub id: String,
    /// The bands' names.
    names: Vec<String>,
    /// Of each kind of day and quarter of an hour: which band.
    table: [[u8; QUARTERS]; KINDS.len()],
    holidays: BTreeSet<NaiveDate>,
}

impl Bands {
    /// The index of a band by its name.
    pub(super) fn index(&self, name: &str) -> Option<u8> {
        let at = self.names.iter().position(|known| known == name)?;
        u8::try_from(at).ok()
    }

    /// The name of a band.
    pub fn name(&self, band: u8) -> &str {
        let name = self.names.get(usize::from(band));
        name.map_or("", String::as_str)
    }

    /// The names of all bands.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The band in which clocks of a zone are at an instant. An hour that clocks skip belongs to
    /// no band, and one that they show twice counts twice.
    pub fn at(&self, zone: Zone, instant: Timestamp) -> u8 {
        self.at_local(zone.clocks_at(instant))
    }

    fn at_local(&self, local: NaiveDateTime) -> u8 {
        let date = local.date();
        let kind = if self.holidays.contains(&date) {
            HOLIDAY
        } else {
            weekday(date.weekday())
        };
        let quarter = (local.hour() * 60 + local.minute()) / QUARTER_MINUTES;
        let day = &self.table[kind];
        usize::try_from(quarter).map_or(0, |quarter| day[quarter.min(QUARTERS - 1)])
    }
}

fn weekday(day: Weekday) -> usize {
    usize::try_from(day.num_days_from_monday()).unwrap_or(0)
}

/// A time of day as the quarters of an hour before it; `24:00` ends a day.
struct Clock(usize);

impl FromStr for Clock {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "not a time of day (expected `00:00` to `24:00`, at a quarter of an hour, such as \"08:30\")";
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let (hour, minute) = text
            .split_once(':')
            .filter(|(hour, minute)| digits(hour) && digits(minute))
            .ok_or(EXPECTED)?;
        let hour: usize = hour.parse().map_err(|_| EXPECTED)?;
        let minute: usize = minute.parse().map_err(|_| EXPECTED)?;
        let quarter = hour * 4 + minute / 15;
        if minute > 59 || !minute.is_multiple_of(15) || quarter > QUARTERS {
            return Err(EXPECTED);
        }
        Ok(Self(quarter))
    }
}

struct At(usize);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 4, self.0 % 4 * 15)
    }
}

/// Reads the file of one calendar into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &["id", "holidays", "band"]);
    let id = reader.parse::<Id>(root, "id", "the calendar's name such as \"office\"");
    let holidays = read_holidays(reader, root);
    let Some((Id(id), field)) = id else { return };
    if !places.claim(reader, &field, &format!("calendar `{id}`"), path) {
        return;
    }
    let bands = holidays.and_then(|holidays| read_week(reader, root, &id, holidays));
    match bands {
        Some(bands) => {
            catalog.calendars.insert(id, Arc::new(bands));
        }
        None => {
            places.broken_calendars.insert(id);
        }
    }
}

fn read_holidays<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<BTreeSet<NaiveDate>> {
    let Some(field) = root.field("holidays") else {
        return Some(BTreeSet::new());
    };
    let expected = "dates such as [\"2026-12-25\", \"2026-12-26\"]";
    let items = strings(reader, &field, expected)?;
    if items.len() > CATALOG_ROWS_MAX {
        let message = format!("more than the {CATALOG_ROWS_MAX} holidays allowed");
        reader.refuse_field(&field, message);
        return None;
    }
    let mut holidays = BTreeSet::new();
    for (text, span) in items {
        let Some(date) = read_date(text) else {
            reader.refuse(span, &field.key, format!("expected {expected}"));
            return None;
        };
        if !holidays.insert(date) {
            reader.refuse(span, &field.key, format!("{date} stands here twice"));
            return None;
        }
    }
    Some(holidays)
}

/// The strings of an array that is not empty, with their places.
pub(super) fn strings<'d>(
    reader: &mut Reader<'d>,
    field: &Field<'d>,
    expected: &str,
) -> Option<Vec<(&'d str, std::ops::Range<usize>)>> {
    let items = field.value.as_array().filter(|items| !items.is_empty());
    let texts = items.and_then(|items| {
        let text = |item: &'d toml::Spanned<toml::de::DeValue<'d>>| {
            Some((item.get_ref().as_str()?, item.span()))
        };
        items.iter().map(text).collect::<Option<Vec<_>>>()
    });
    if texts.is_none() {
        reader.refuse_field(field, format!("expected {expected}"));
    }
    texts
}

/// Reads the bands, which cover the week exactly.
fn read_week<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    id: &str,
    holidays: BTreeSet<NaiveDate>,
) -> Option<Bands> {
    let sections = reader.tables(root, "band", CATALOG_ROWS_MAX);
    let mut names: Vec<String> = Vec::new();
    let mut table: [[Option<u8>; QUARTERS]; KINDS.len()] = [[None; QUARTERS]; KINDS.len()];
    let mut sound = !sections.is_empty();
    if !sound {
        let message = "a calendar needs at least one [[band]]";
        reader.refuse(root.span(), "band", message);
    }
    for section in &sections {
        sound &= read_band(reader, section, &mut names, &mut table).is_some();
    }
    if !sound {
        return None;
    }
    let kinds = if holidays.is_empty() {
        HOLIDAY
    } else {
        KINDS.len()
    };
    for (kind, day) in KINDS.iter().zip(&table).take(kinds) {
        if let Some(gap) = day.iter().position(Option::is_none) {
            let until = day[gap..].iter().position(Option::is_some);
            let until = until.map_or(QUARTERS, |length| gap + length);
            let message = format!(
                "no band covers {kind} from {} to {} (expected bands that cover the week{} without \
                 a gap)",
                At(gap),
                At(until),
                if holidays.is_empty() {
                    ""
                } else {
                    " and `holiday`"
                },
            );
            reader.refuse(root.span(), "band", message);
            return None;
        }
    }
    Some(Bands {
        id: id.to_owned(),
        names,
        table: table.map(|day| day.map(Option::unwrap_or_default)),
        holidays,
    })
}

fn read_band<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    names: &mut Vec<String>,
    table: &mut [[Option<u8>; QUARTERS]; KINDS.len()],
) -> Option<()> {
    reader.only(section, &["id", "days", "from", "to"]);
    let id = reader.parse::<Id>(section, "id", "the band's name such as \"peak\"");
    let days = read_days(reader, section);
    let from = reader.maybe::<Clock>(section, "from", "a time of day such as \"08:00\"")?;
    let to = reader.maybe::<Clock>(section, "to", "a time of day such as \"20:00\"")?;
    let from = from.map_or(0, |(Clock(from), _)| from);
    let until = to.as_ref().map_or(QUARTERS, |(Clock(to), _)| *to);
    let ((Id(id), field), days) = (id?, days?);
    if until <= from {
        let message = format!(
            "the band ends at {}, which is not after {} (expected two bands of the same `id` where \
             one reaches over midnight)",
            At(until),
            At(from)
        );
        reader.refuse(section.span(), &section.key("to"), message);
        return None;
    }
    let index = names
        .iter()
        .position(|name| *name == id)
        .unwrap_or_else(|| {
            names.push(id.clone());
            names.len() - 1
        });
    if names.len() > BANDS_MAX {
        reader.refuse_field(&field, format!("more than the {BANDS_MAX} bands allowed"));
        return None;
    }
    let band = u8::try_from(index).ok()?;
    for kind in days {
        let day = table[kind].iter_mut().enumerate();
        for (quarter, covered) in day.take(until).skip(from) {
            if let Some(other) = covered {
                let other = names.get(usize::from(*other)).map_or("", String::as_str);
                let message = format!(
                    "band `{other}` covers {} from {} already",
                    KINDS[kind],
                    At(quarter)
                );
                reader.refuse(section.span(), &section.key("days"), message);
                return None;
            }
            *covered = Some(band);
        }
    }
    Some(())
}

/// The kinds of day of a band.
fn read_days<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<BTreeSet<usize>> {
    let expected = "days such as [\"mon\", \"tue\", \"holiday\"]";
    let field = reader.required(section, "days", expected)?;
    let mut days = BTreeSet::new();
    for (text, span) in strings(reader, &field, expected)? {
        let Some(found) = KINDS.iter().position(|kind| *kind == text) else {
            let message = format!(
                "`{}` is no day (expected {})",
                text.chars().take(32).collect::<String>(),
                super::read::list(&KINDS)
            );
            reader.refuse(span, &field.key, message);
            return None;
        };
        days.insert(found);
    }
    Some(days)
}
