//! The taxes of a document: by code and rate, each with the amount that it was computed of, as laws
//! about invoices want them.

use std::fmt;

use rust_decimal::Decimal;
use serde::Serialize;

use super::line::InvoiceLine;

/// A tax of a document at one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceTax {
    /// Its code in the catalog.
    pub code: String,
    /// The rate; `None` for a tax that was given by hand.
    pub percent: Option<Decimal>,
    /// The taxable amount; `None` where it is not known.
    pub base: Option<Decimal>,
    /// How much it is.
    pub amount: Decimal,
    /// Why it is not charged: `reverse_charge` or `exempt`.
    pub kind: Option<String>,
    /// What the catalog has to say about it.
    pub note: Option<String>,
}

/// The rate and what it is of, for people.
impl fmt::Display for InvoiceTax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        match (&self.kind, self.percent) {
            (Some(kind), _) => write!(f, ", {}", kind.replace('_', " "))?,
            (None, Some(percent)) => write!(f, ", {percent} %")?,
            (None, None) => {}
        }
        match self.base {
            Some(base) => write!(f, " of {base}"),
            None => Ok(()),
        }
    }
}

impl InvoiceTax {
    /// What a document has to say about it; `None` for nothing.
    pub fn remark(&self) -> Option<String> {
        let note = self.note.clone();
        note.or_else(|| match self.kind.as_deref() {
            Some("reverse_charge") => Some(format!(
                "Reverse charge ({}): the recipient of the service owes the tax.",
                self.code
            )),
            Some(_) => Some(format!("Exempt from tax ({}).", self.code)),
            None => None,
        })
    }

    fn of(line: &InvoiceLine, code: &str, amount: Decimal) -> Self {
        // A line by hand has its tax in its own entry.
        let by_hand = Some(line.amount).filter(|_| !line.is_tax());
        let taxed = line.taxed.as_ref();
        Self {
            code: code.to_owned(),
            percent: taxed.map(|taxed| taxed.percent),
            base: taxed.map(|taxed| taxed.base).or(by_hand),
            amount,
            kind: taxed.and_then(|taxed| taxed.kind.clone()),
            note: taxed.and_then(|taxed| taxed.note.clone()),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.code, self.percent, &self.kind) == (&other.code, other.percent, &other.kind)
    }

    fn is_nothing(&self) -> bool {
        self.amount.is_zero() && self.base.is_none_or(|base| base.is_zero())
    }
}

/// The taxes of lines by code and rate; `None` if a sum does not fit.
pub(super) fn by_rate(lines: &[InvoiceLine]) -> Option<Vec<InvoiceTax>> {
    let mut all: Vec<InvoiceTax> = Vec::new();
    for line in lines {
        for (code, amount) in &line.tax {
            let more = InvoiceTax::of(line, code, *amount);
            match all.iter_mut().find(|tax| tax.is_like(&more)) {
                Some(tax) => {
                    tax.amount = tax.amount.checked_add(more.amount)?;
                    tax.base = match (tax.base, more.base) {
                        (Some(one), Some(other)) => Some(one.checked_add(other)?),
                        _ => None,
                    };
                    tax.note = more.note.or(tax.note.take());
                }
                None => all.push(more),
            }
        }
    }
    all.retain(|tax| !tax.is_nothing());
    for tax in &mut all {
        // Also nothing has the places of the currency.
        let places = tax.base.map_or(0, |base| base.scale());
        tax.amount.rescale(Ord::max(places, tax.amount.scale()));
    }
    all.sort_by(|a, b| (&a.code, a.percent).cmp(&(&b.code, b.percent)));
    Some(all)
}
