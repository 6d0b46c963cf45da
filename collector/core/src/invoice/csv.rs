//! CSV: writing it as RFC 4180 says, reading it as spreadsheets and clouds write it, and the columns
//! of invoice lines, named after FOCUS where FOCUS has a name.

use std::fmt::Write as _;

use rust_decimal::Decimal;

use super::{Invoice, InvoiceLine, Unused};
use crate::ledger::{EntryKind, Role};

const COLUMNS_COUNT: usize = 37;

/// Columns of [`lines`]; those that FOCUS does not know begin with `x_`.
pub const COLUMNS: [&str; COLUMNS_COUNT] = [
    "InvoiceId",
    "InvoiceIssuerName",
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "SkuPriceId",
    "SkuMeter",
    "ConsumedQuantity",
    "ListCost",
    "BilledCost",
    "x_Discounts",
    "x_Tax",
    "x_Status",
    "x_Entry",
    "x_RefersTo",
    "ContractedCost",
    "EffectiveCost",
    "ChargeFrequency",
    "ProviderName",
    "PublisherName",
    "x_GlAccount",
    "x_PostingDate",
    "x_DueDate",
    "x_OriginalCost",
    "x_OriginalCurrency",
    "x_ExchangeRate",
    "x_ExchangeRateDate",
    "x_TaxRate",
    "x_TaxBase",
    "CommitmentDiscountId",
    "CommitmentDiscountStatus",
];

/// The lines of documents, one a row, below a heading. Taxes have rows of their own, and so has what
/// commitments left unused.
pub fn lines<'i>(invoices: impl IntoIterator<Item = &'i Invoice>) -> String {
    let mut out = String::new();
    row(&mut out, COLUMNS);
    for invoice in invoices {
        for line in &invoice.lines {
            line_row(&mut out, invoice, line);
        }
        for unused in &invoice.unused {
            unused_row(&mut out, invoice, unused);
        }
        for tax in &invoice.tax_rates {
            let amount = tax.amount.to_string();
            let number = |number: Option<Decimal>| number.map(|number| number.to_string());
            let mut cells = common(invoice);
            cells[6] = invoice.start.to_string();
            cells[7] = invoice.end.to_string();
            "Tax".clone_into(&mut cells[8]);
            cells[10] = match tax.remark() {
                Some(remark) => format!("tax {}: {remark}", tax.code),
                None => format!("tax {}", tax.code),
            };
            cells[11].clone_from(&tax.code);
            for cost in [14, 15, 21, 22] {
                cells[cost].clone_from(&amount);
            }
            "One-Time".clone_into(&mut cells[23]);
            cells[33] = number(tax.percent).unwrap_or_default();
            cells[34] = number(tax.base).unwrap_or_default();
            row(&mut out, cells);
        }
    }
    out
}

fn common(invoice: &Invoice) -> [String; COLUMNS_COUNT] {
    let mut cells: [String; COLUMNS_COUNT] = std::array::from_fn(|_| String::new());
    let issuer = invoice.issuer.clone().unwrap_or_default();
    let seller = invoice.seller.as_ref().map(|seller| seller.name.clone());
    let seller = seller.unwrap_or_else(|| issuer.clone());
    cells[0] = invoice.number.clone().unwrap_or_default();
    cells[1] = issuer;
    cells[2] = invoice.tenant.to_string();
    cells[3].clone_from(&invoice.currency);
    cells[4] = invoice.start.to_string();
    cells[5] = invoice.end.to_string();
    invoice.status.as_str().clone_into(&mut cells[18]);
    (cells[24], cells[25]) = (seller.clone(), seller);
    cells[28] = invoice.due.map(|day| day.to_string()).unwrap_or_default();
    cells
}

fn line_row(out: &mut String, invoice: &Invoice, line: &InvoiceLine) {
    let category = match (line.kind, line.is_payment(), &line.meter) {
        (EntryKind::Credit, _, _) | (_, true, _) => "Credit",
        (_, _, Some(_)) => "Usage",
        (EntryKind::Manual, _, None) => "Adjustment",
        (_, _, None) => "Purchase",
    };
    let is_correction =
        invoice.credit_note || matches!(line.kind, EntryKind::Adjustment | EntryKind::Reversal);
    let steps: Vec<String> = line
        .steps
        .iter()
        .map(|step| match &*step.id {
            "" => format!("{}={}", step.kind.as_str(), step.amount),
            id => format!("{id}={}", step.amount),
        })
        .collect();
    let taxes: Vec<String> = line
        .tax
        .iter()
        .map(|(code, amount)| format!("{code}={amount}"))
        .collect();
    let mut cells = common(invoice);
    cells[6] = line.start.to_string();
    cells[7] = line.end.to_string();
    category.clone_into(&mut cells[8]);
    if is_correction {
        "Correction".clone_into(&mut cells[9]);
    }
    cells[10].clone_from(&line.arithmetic);
    cells[11].clone_from(&line.line);
    cells[12] = line.meter.clone().unwrap_or_default();
    cells[13] = line.quantity.clone().unwrap_or_default();
    let number = |number: Option<Decimal>| number.map(|number| number.to_string());
    cells[14] = number(line.list).unwrap_or_default();
    cells[15] = line.amount.to_string();
    cells[16] = steps.join(" ");
    cells[17] = taxes.join(" ");
    cells[19] = line.entry.map(|at| at.to_string()).unwrap_or_default();
    cells[20] = line.refers_to.map(|at| at.to_string()).unwrap_or_default();
    cells[21] = number(line.contracted()).unwrap_or_default();
    // What a commitment charges before its usage is effective where usage draws it down.
    let is_commitment = matches!(line.role, Some(Role::Commitment | Role::Drawdown));
    cells[22] = if is_commitment {
        "0".to_owned()
    } else {
        line.amount.to_string()
    };
    if is_commitment {
        cells[35].clone_from(&line.line);
    }
    let frequency = match category {
        "Usage" => "Usage-Based",
        "Purchase" => "Recurring",
        _ => "One-Time",
    };
    frequency.clone_into(&mut cells[23]);
    cells[26] = line.gl.clone().unwrap_or_default();
    cells[27] = line.date.map(|day| day.to_string()).unwrap_or_default();
    if let Some(original) = &line.original {
        cells[29] = original.amount.to_string();
        cells[30].clone_from(&original.currency);
        cells[31] = number(original.rate).unwrap_or_default();
        let date = original.rate_date.map(|day| day.to_string());
        cells[32] = date.unwrap_or_default();
    }
    row(out, cells);
}

/// Nothing is owed for it, but it is what the commitment has cost beside its usage.
fn unused_row(out: &mut String, invoice: &Invoice, unused: &Unused) {
    let mut cells = common(invoice);
    cells[6] = unused.start.to_string();
    cells[7] = unused.end.to_string();
    "Usage".clone_into(&mut cells[8]);
    cells[10].clone_from(&unused.arithmetic);
    cells[11].clone_from(&unused.commitment);
    for cost in [14, 15, 21] {
        "0".clone_into(&mut cells[cost]);
    }
    cells[19] = unused.entry.to_string();
    cells[22] = unused.amount.to_string();
    "Usage-Based".clone_into(&mut cells[23]);
    cells[35].clone_from(&unused.commitment);
    "Unused".clone_into(&mut cells[36]);
    row(out, cells);
}

/// Appends one row.
///
/// A text that a spreadsheet would take for a formula gets an apostrophe before it: names come
/// from outside.
pub fn row(out: &mut String, cells: impl IntoIterator<Item = impl AsRef<str>>) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let cell = cell.as_ref();
        let is_number = cell.parse::<rust_decimal::Decimal>().is_ok();
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
        let guard = if is_formula { "'" } else { "" };
        if cell.contains(['"', ',', '\n', '\r']) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\"{guard}{}\"", cell.replace('"', "\"\""));
        } else {
            out.push_str(guard);
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}

/// Most cells of a row.
pub const CELLS_MAX: usize = 1024;

/// Why a text is not CSV.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quoted cell does not end.
    #[error("line {0}: a cell begins with a quotation mark and does not end")]
    Quote(usize),
    /// Something stands behind the end of a quoted cell.
    #[error("line {0}: text behind the quotation mark that ends a cell")]
    Behind(usize),
    /// Too many cells.
    #[error("line {0}: more than {CELLS_MAX} cells")]
    Cells(usize),
}

/// A row with the number of its first line, from 1.
pub type NumberedRow = (usize, Vec<String>);

/// Reads rows of cells; empty lines are passed over, and so is a byte order mark.
///
/// # Errors
/// See [`CsvError`].
pub fn read(text: &str, delimiter: char) -> Result<Vec<NumberedRow>, CsvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while chars.peek().is_some() {
        let begins = line;
        let mut cells = Vec::new();
        loop {
            if cells.len() == CELLS_MAX {
                return Err(CsvError::Cells(begins));
            }
            let (cell, end) = cell(&mut chars, delimiter, &mut line)?;
            cells.push(cell);
            if end {
                break;
            }
        }
        if cells.len() > 1 || !cells[0].is_empty() {
            rows.push((begins, cells));
        }
    }
    Ok(rows)
}

/// One cell, and whether it ends its row.
fn cell(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    delimiter: char,
    line: &mut usize,
) -> Result<(String, bool), CsvError> {
    let mut cell = String::new();
    let begins = *line;
    let is_quoted = chars.next_if_eq(&'"').is_some();
    if is_quoted {
        loop {
            match chars.next() {
                Some('"') if chars.next_if_eq(&'"').is_some() => cell.push('"'),
                Some('"') => break,
                Some(c) => {
                    *line += usize::from(c == '\n');
                    cell.push(c);
                }
                None => return Err(CsvError::Quote(begins)),
            }
        }
    }
    loop {
        match chars.next() {
            None => return Ok((cell, true)),
            Some('\n') => {
                *line += 1;
                return Ok((cell, true));
            }
            Some('\r') if matches!(chars.peek(), None | Some('\n')) => {}
            Some(c) if c == delimiter => return Ok((cell, false)),
            Some(_) if is_quoted => return Err(CsvError::Behind(*line)),
            Some(c) => cell.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let rows = [
            vec!["a", "b,c", "d\"e"],
            vec!["", "two\nlines", "-1.50"],
            vec!["ä", "x", ""],
        ];
        let mut text = String::new();
        for cells in &rows {
            row(&mut text, cells);
        }
        let back: Vec<Vec<String>> = read(&text, ',')
            .expect("reads")
            .into_iter()
            .map(|(_, cells)| cells)
            .collect();
        assert_eq!(back, rows);
        assert_eq!(
            read(&text, ',').expect("reads")[2].0,
            4,
            "lines are counted"
        );
    }

    #[test]
    fn spreadsheets_see_no_formula() {
        let mut text = String::new();
        row(&mut text, ["=cmd()", "-1", "+49 30", "@x", "-a,b"]);
        assert_eq!(text, "'=cmd(),-1,'+49 30,'@x,\"'-a,b\"\r\n");
    }

    #[test]
    fn what_is_not_csv_is_named_with_its_line() {
        assert_eq!(read("a\n\"b", ','), Err(CsvError::Quote(2)));
        assert_eq!(read("\"a\"b,c", ','), Err(CsvError::Behind(1)));
        assert_eq!(read(&";".repeat(CELLS_MAX), ';'), Err(CsvError::Cells(1)));
        assert_eq!(
            read("\u{feff}a;b\r\n\r\nc;d", ';').expect("reads"),
            [
                (1, vec!["a".to_owned(), "b".to_owned()]),
                (3, vec!["c".to_owned(), "d".to_owned()])
            ]
        );
    }
}
