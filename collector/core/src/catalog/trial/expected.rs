//! What a test expects, and how the bill differs from it.

use rust_decimal::Decimal;

use super::super::measure::Amount;
use super::super::read::{Field, Reader, Section};
use crate::bill::Bill;

/// The keys of a test that say what is expected.
pub(super) const KEYS: &[&str] = &[
    "lines",
    "net",
    "tax",
    "total",
    "due",
    "commitment",
    "grant",
    "share",
];

/// An amount with its place.
type Named<'d> = (String, Decimal, Field<'d>);

/// What a test expects.
pub(super) struct Expected<'d> {
    lines: Option<Vec<Named<'d>>>,
    /// `net`, `tax`, `total` and `due`.
    sums: Vec<Named<'d>>,
    /// What is left of commitments.
    commitments: Vec<Named<'d>>,
    /// What grants pay.
    grants: Vec<Named<'d>>,
    /// What is shared out to tenants, without tax.
    shares: Vec<Named<'d>>,
}

const AMOUNT: &str = "an amount as a decimal string such as \"1175.00\"";

/// Reads what a test expects.
pub(super) fn read<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<Expected<'d>> {
    let mut sums = Vec::new();
    for name in ["net", "tax", "total", "due"] {
        if let Some((amount, field)) = reader.maybe::<Signed>(root, name, AMOUNT)? {
            sums.push((name.to_owned(), amount.0, field));
        }
    }
    let lines = if root.has("lines") {
        let table = reader.table(root, "lines", "a table such as { requests = \"1175.00\" }")?;
        Some(amounts(reader, &table)?)
    } else {
        None
    };
    let commitments = nested(reader, root, "commitment", "left")?;
    let grants = nested(reader, root, "grant", "paid")?;
    let shares = if root.has("share") {
        let table = reader.table(root, "share", "a table such as { shop = \"12.00\" }")?;
        amounts(reader, &table)?
    } else {
        Vec::new()
    };
    let others = [&sums, &commitments, &grants, &shares];
    if lines.is_none() && others.iter().all(|some| some.is_empty()) {
        let message = "a test expects something: `lines`, `net`, `tax`, `total`, `due`, \
                       `commitment.ID.left`, `grant.ID.paid` or `share.TENANT`";
        reader.refuse(root.span(), "lines", message);
    }
    Some(Expected {
        lines,
        sums,
        commitments,
        grants,
        shares,
    })
}

/// An amount that may be below zero.
struct Signed(Decimal);

impl std::str::FromStr for Signed {
    type Err = super::super::MeasureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('-') {
            Some(text) => text.parse::<Amount>().map(|Amount(amount)| Self(-amount)),
            None => text.parse::<Amount>().map(|Amount(amount)| Self(amount)),
        }
    }
}

fn amounts<'d>(reader: &mut Reader<'d>, table: &Section<'d>) -> Option<Vec<Named<'d>>> {
    let mut found = Vec::new();
    for name in table.names() {
        let (Signed(amount), field) = reader.parse::<Signed>(table, &name, AMOUNT)?;
        found.push((name, amount, field));
    }
    Some(found)
}

/// Reads `commitment.year.left = "…"`.
fn nested<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    name: &str,
    key: &str,
) -> Option<Vec<Named<'d>>> {
    if !root.has(name) {
        return Some(Vec::new());
    }
    let table = reader.table(
        root,
        name,
        &format!("a table such as {{ ID.{key} = \"1.00\" }}"),
    )?;
    let mut found = Vec::new();
    for id in table.names() {
        let section = reader.table(&table, &id, &format!("a table with `{key}`"))?;
        reader.only(&section, &[key]);
        let (Signed(amount), field) = reader.parse::<Signed>(&section, key, AMOUNT)?;
        found.push((id, amount, field));
    }
    Some(found)
}

/// Notes how the bill differs from what a test expects.
pub(super) fn compare(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    expected: &Expected<'_>,
    bill: &Bill<'_>,
) {
    for usage in &bill.unrated {
        let key = match &usage.meter {
            Some(meter) => format!("usage.\"{meter}\""),
            None => "lines".to_owned(),
        };
        let what = usage.price.as_deref().unwrap_or("usage");
        let message = format!("{what} is not rated: {}", usage.reason.explain());
        reader.refuse(root.span(), &key, message);
    }
    if let Some(lines) = &expected.lines {
        compare_lines(reader, root, lines, bill);
    }
    for (name, amount, field) in &expected.sums {
        let found = match name.as_str() {
            "net" => bill.net,
            "tax" => bill.tax,
            "total" => bill.total,
            _ => bill.due,
        };
        if found != *amount {
            let what = match name.as_str() {
                "net" => "the lines sum to",
                "tax" => "the taxes sum to",
                "total" => "net and tax sum to",
                _ => "what is left to pay is",
            };
            reader.refuse_field(field, format!("expected {amount}, but {what} {found}"));
        }
    }
    for (id, amount, field) in &expected.commitments {
        let mut states = bill.commitments.iter();
        match states.find(|state| state.commitment.id == *id) {
            None => {
                reader.refuse_field(field, format!("there is no commitment `{id}` in its term"));
            }
            Some(state) if state.left != *amount => {
                let message = format!(
                    "expected {amount}, but {} is left: {} counted before, {} now",
                    state.left, state.before, state.counted
                );
                reader.refuse_field(field, message);
            }
            Some(_) => {}
        }
    }
    for (tenant, amount, field) in &expected.shares {
        let shares = bill.lines.iter().flat_map(|line| &line.shares);
        let own = shares.filter(|share| share.tenant.as_str() == tenant.as_str());
        let sum: Decimal = own.map(|share| share.net).sum();
        if sum != *amount {
            reader.refuse_field(field, format!("expected {amount}, but its share is {sum}"));
        }
    }
    for (id, amount, field) in &expected.grants {
        let mut grants = bill.grants.iter();
        match grants.find(|used| used.grant.id == *id) {
            None => reader.refuse_field(field, format!("there is no grant `{id}`")),
            Some(used) if used.paid != *amount => {
                let message = format!("expected {amount}, but it pays {}", used.paid);
                reader.refuse_field(field, message);
            }
            Some(_) => {}
        }
    }
}

fn compare_lines(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    expected: &[Named<'_>],
    bill: &Bill<'_>,
) {
    for (name, amount, field) in expected {
        let lines: Vec<_> = bill
            .lines
            .iter()
            .filter(|line| line.key.name() == *name)
            .collect();
        let sum: Decimal = lines.iter().map(|line| line.billed).sum();
        match &lines[..] {
            [] => reader.refuse_field(field, format!("there is no line `{name}`")),
            [line] if sum != *amount => {
                reader.refuse_field(field, format!("expected {amount}, but it is {line}"));
            }
            _ if sum != *amount => {
                let message = format!("expected {amount}, but its lines sum to {sum}");
                reader.refuse_field(field, message);
            }
            _ => {}
        }
    }
    // Lines of nothing need not be named.
    for line in &bill.lines {
        let name = line.key.name();
        let is_named = expected.iter().any(|(known, _, _)| *known == name);
        if !is_named && !line.billed.is_zero() {
            let message = format!("line `{name}` is not expected: {line}");
            reader.refuse(root.span(), "lines", message);
        }
    }
}
