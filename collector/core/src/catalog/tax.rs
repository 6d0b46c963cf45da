//! Tax tables, and how a card's amounts are taxed.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::cards::Id;
use super::discounts::read_validity;
use super::files::Part;
use super::measure::Amount;
use super::read::{Field, Reader, Section};
use super::{CATALOG_ROWS_MAX, Catalog, Places};
use crate::rate::Mode;

/// Most rates of one tax.
pub(super) const TAX_RATES_MAX: usize = 256;
/// Most taxes on one line.
pub(crate) const TAXES_MAX: usize = 8;
/// Longest text of a jurisdiction or a note, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Highest rate, in percent.
const PERCENT_MAX: Decimal = Decimal::ONE_THOUSAND;

/// A tax by its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tax {
    /// What profiles and prices call it, such as `de-standard`.
    pub code: String,
    /// Whose tax it is, such as `DE` or `US-CA`.
    pub jurisdiction: String,
    /// Whether it is charged.
    pub kind: TaxKind,
    /// Whether taxes that are named before it are taxed too.
    pub compound: bool,
    /// What an invoice says about it, such as the paragraph that exempts.
    pub note: Option<String>,
    /// Without overlap, oldest first; empty unless it is charged.
    pub rates: Vec<TaxRate>,
}

/// Whether a tax is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaxKind {
    /// By its rates.
    #[default]
    Charged,
    /// The customer owes it: nothing is charged, and the invoice says so.
    ReverseCharge,
    /// Nobody owes it, and the invoice says so.
    Exempt,
}

impl TaxKind {
    /// As it is written in a catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::ReverseCharge => "reverse_charge",
            Self::Exempt => "exempt",
        }
    }
}

impl fmt::Display for TaxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaxKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "charged" => Ok(Self::Charged),
            "reverse_charge" => Ok(Self::ReverseCharge),
            "exempt" => Ok(Self::Exempt),
            _ => Err(
                "expected `charged` (by `rates`), `reverse_charge` (the customer owes it) or \
                 `exempt` (nobody does)",
            ),
        }
    }
}

/// The rate of a tax in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaxRate {
    /// In percent of the taxed amount; not negative.
    pub percent: Decimal,
    /// Its first day; `None` for no beginning.
    pub from: Option<NaiveDate>,
    /// The first day on which it does not hold; `None` for no end.
    pub until: Option<NaiveDate>,
}

impl TaxRate {
    fn holds(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day < until)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let begins_before_end = |a: &Self, b: &Self| match (a.from, b.until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        begins_before_end(self, other) && begins_before_end(other, self)
    }
}

impl Tax {
    /// The percentage in force on a day, in the tenant's zone; zero if the tax is not charged,
    /// `None` if no rate is in force.
    pub fn percent_on(&self, day: NaiveDate) -> Option<Decimal> {
        if self.kind != TaxKind::Charged {
            return Some(Decimal::ZERO);
        }
        let rate = self.rates.iter().find(|rate| rate.holds(day));
        rate.map(|rate| rate.percent)
    }
}

/// How the amounts of a card are taxed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaxStyle {
    /// Whether tax is in the card's amounts or comes on top.
    pub behavior: TaxBehavior,
    /// What is rounded.
    pub per: TaxPer,
    /// Where tax is in the amounts: what is rounded; the other is the rest.
    pub first: TaxFirst,
    /// How a tax, or the net amount that is rounded first, is rounded.
    pub mode: Mode,
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)* } $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$item),)*
                    _ => Err($expected),
                }
            }
        }
    };
}

choice! {
    /// Whether tax is in a card's amounts.
    TaxBehavior {
        /// It comes on top.
        #[default]
        Exclusive = "exclusive",
        /// It is in them.
        Inclusive = "inclusive",
    }
    "expected `exclusive` (tax comes on top of the card's amounts) or `inclusive` (it is in them)"
}

choice! {
    /// What the tax is computed of, and rounded for.
    TaxPer {
        /// All lines of the same taxes together; each line's part is a split of that.
        #[default]
        Invoice = "invoice",
        /// Each line.
        Line = "line",
        /// All taxes on all lines together; each tax is a split of that.
        Total = "total",
    }
    "expected `invoice` (rounded once for all lines of the same tax), `line` (for each) or `total` \
     (once for all taxes)"
}

choice! {
    /// What of an amount that includes tax is rounded.
    TaxFirst {
        /// The tax; the net amount is the rest.
        #[default]
        Tax = "tax",
        /// The net amount; the tax is the rest.
        Net = "net",
    }
    "expected `tax` (the net amount is what is left) or `net` (the tax is)"
}

/// Reads a card's `tax` table.
pub(super) fn read_style<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<TaxStyle> {
    if !root.has("tax") {
        return Some(TaxStyle::default());
    }
    let expected = "a table such as { behavior = \"inclusive\", per = \"line\" }";
    let table = reader.table(root, "tax", expected)?;
    reader.only(&table, &["behavior", "per", "first", "mode"]);
    let behavior = reader.or_default(&table, "behavior", "\"exclusive\" or \"inclusive\"");
    let per = reader.or_default(&table, "per", "\"invoice\", \"line\" or \"total\"");
    let first = reader.or_default(&table, "first", "\"tax\" or \"net\"");
    let mode = reader.or_default(&table, "mode", "how tax is rounded, such as \"down\"");
    if let Some(field) = table.field("first")
        && behavior == Some(TaxBehavior::Exclusive)
    {
        let message = "only where tax is in the amounts something is left (expected `first` only \
                       with `behavior = \"inclusive\"`)";
        reader.refuse_field(&field, message);
        return None;
    }
    if let Some(field) = table.field("first")
        && (per, first) == (Some(TaxPer::Total), Some(TaxFirst::Net))
    {
        let message = "where all taxes are rounded together the net amount is what is left (expected \
                       `tax`, or another `per`)";
        reader.refuse_field(&field, message);
        return None;
    }
    Some(TaxStyle {
        behavior: behavior?,
        per: per?,
        first: first?,
        mode: mode?,
    })
}

/// Reads the codes of taxes, one or several: `"de-standard"` or `["ca-gst", "ca-qst"]`.
///
/// `Some(None)` if nothing is said.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_codes<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<Option<Vec<String>>> {
    let Some(field) = section.field("tax") else {
        return Some(None);
    };
    let expected = "the code of a tax such as \"de-standard\", or an array of them";
    if field.value.as_str().is_some() {
        let code = reader.string(&field, expected)?;
        let code = known(catalog, reader, &field, code, places)?;
        not_compound(catalog, reader, &field, &code)?;
        return Some(Some(vec![code]));
    }
    let items = field.items();
    let Some(items) = items.filter(|items| items.len() <= TAXES_MAX) else {
        reader.refuse_field(&field, format!("expected {expected}, at most {TAXES_MAX}"));
        return None;
    };
    let mut codes = Vec::with_capacity(items.len());
    for item in items {
        let code = reader.string(&item, expected)?;
        let code = known(catalog, reader, &item, code, places)?;
        if codes.contains(&code) {
            reader.refuse_field(&item, format!("tax `{code}` is named twice"));
            return None;
        }
        if codes.is_empty() {
            not_compound(catalog, reader, &item, &code)?;
        }
        codes.push(code);
    }
    Some(Some(codes))
}

/// Refuses a first tax that would be computed of the taxes before it, too.
fn not_compound(
    catalog: &Catalog,
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    code: &str,
) -> Option<()> {
    if catalog.taxes.get(code).is_some_and(|tax| tax.compound) {
        let message = format!(
            "tax `{code}` is compound, and none comes before it (expected another one first)"
        );
        reader.refuse_field(field, message);
        return None;
    }
    Some(())
}

fn known(
    catalog: &Catalog,
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    code: &str,
    places: &Places,
) -> Option<String> {
    if catalog.taxes.contains_key(code) {
        return Some(code.to_owned());
    }
    if !places.broken_taxes.contains(code) && !places.unread.contains(&Part::Taxes) {
        let shown: String = code.chars().take(64).collect();
        let message =
            format!("tax `{shown}` is not declared (expected the `code` of a [[tax]] in tax/)");
        reader.refuse_field(field, message);
    }
    None
}

/// Reads a file of taxes into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &["tax"]);
    for section in reader.tables(root, "tax", CATALOG_ROWS_MAX) {
        let known = ["code", "jurisdiction", "kind", "compound", "note", "rates"];
        reader.only(&section, &known);
        let Some((Id(code), field)) =
            reader.parse::<Id>(&section, "code", "its code such as \"de-standard\"")
        else {
            continue;
        };
        if !places.claim(reader, &field, &format!("tax `{code}`"), path) {
            continue;
        }
        match read_tax(reader, &section, &code) {
            Some(tax) => {
                catalog.taxes.insert(code, tax);
            }
            None => {
                places.broken_taxes.insert(code);
            }
        }
    }
}

fn read_tax<'d>(reader: &mut Reader<'d>, section: &Section<'d>, code: &str) -> Option<Tax> {
    let expected = "whose tax it is, such as \"DE\"";
    let jurisdiction = reader.parse::<Text>(section, "jurisdiction", expected);
    let expected = "\"charged\", \"reverse_charge\" or \"exempt\"";
    let kind = reader.or_default::<TaxKind>(section, "kind", expected);
    let compound = match section.field("compound") {
        Some(field) => super::around::read_bool(reader, &field),
        None => Some(false),
    };
    let note = reader.maybe::<Text>(section, "note", "a text for invoices");
    let rates = read_rates(reader, section, kind?);
    Some(Tax {
        code: code.to_owned(),
        jurisdiction: jurisdiction?.0.0,
        kind: kind?,
        compound: compound?,
        note: note?.map(|(Text(note), _)| note),
        rates: rates?,
    })
}

fn read_rates<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    kind: TaxKind,
) -> Option<Vec<TaxRate>> {
    let expected = "an array such as [{ percent = \"19\", from = \"2007-01-01\" }]";
    if kind != TaxKind::Charged {
        if let Some(field) = section.field("rates") {
            reader.refuse_field(&field, format!("a tax that is `{kind}` has no rates"));
            return None;
        }
        return Some(Vec::new());
    }
    let field = reader.required(section, "rates", expected)?;
    let sections = reader.tables(section, "rates", TAX_RATES_MAX);
    if sections.is_empty() {
        reader.refuse_field(&field, format!("expected {expected}"));
        return None;
    }
    let mut rates: Vec<TaxRate> = Vec::with_capacity(sections.len());
    for section in &sections {
        reader.only(section, &["percent", "from", "until"]);
        let expected = "a percentage as a decimal string such as \"19\"";
        let percent = reader.parse::<Amount>(section, "percent", expected);
        let (from, until) = read_validity(reader, section)?;
        let (Amount(percent), field) = percent?;
        if percent > PERCENT_MAX {
            reader.refuse_field(&field, format!("expected at most {PERCENT_MAX} percent"));
            return None;
        }
        let rate = TaxRate {
            percent,
            from,
            until,
        };
        if let Some(other) = rates.iter().position(|other| other.overlaps(&rate)) {
            let message = format!("two rates in force at once: this one and rates[{other}]");
            reader.refuse(section.span(), &section.key("from"), message);
            return None;
        }
        rates.push(rate);
    }
    rates.sort_by_key(|rate| rate.from);
    if let Some(pair) = rates.windows(2).find(|pair| pair[0].until != pair[1].from) {
        let day = pair[0].until.map(|day| day.to_string()).unwrap_or_default();
        let message = format!("no rate is in force on {day}, between two that are");
        reader.refuse_field(&field, message);
        return None;
    }
    Some(rates)
}

/// A short text for people.
pub(super) struct Text(pub(super) String);

impl FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty()
            || text.len() > TEXT_BYTES_MAX
            || text.chars().any(char::is_control)
        {
            return Err(format!(
                "expected 1 to {TEXT_BYTES_MAX} bytes of text without control characters"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}
