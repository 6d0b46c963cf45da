//! Invoices as pages to print: one HTML file without scripts, fonts or anything to fetch.

use std::fmt;

use super::{Invoice, InvoiceLine, InvoiceTax, Status};
use crate::invoice::party::Party;

const STYLE: &str = "\
@page{size:A4;margin:18mm 16mm 20mm}\
*{box-sizing:border-box}\
body{font:10pt/1.45 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:#1a1a1a;margin:0 auto;max-width:178mm;padding:8mm 0}\
header{display:flex;justify-content:space-between;gap:10mm;margin-bottom:10mm}\
h1{font-size:18pt;font-weight:600;margin:0 0 2mm}\
.state{display:inline-block;border:1px solid #b3261e;color:#b3261e;border-radius:2mm;padding:0 2mm;font-size:9pt;\
text-transform:uppercase;letter-spacing:.06em}\
address{font-style:normal;white-space:pre-line}\
.parties{display:flex;justify-content:space-between;gap:10mm;margin-bottom:8mm}\
.label{color:#666;font-size:8pt;text-transform:uppercase;letter-spacing:.06em}\
dl{display:grid;grid-template-columns:auto auto;gap:.5mm 4mm;margin:0;align-content:start}\
dt{color:#666}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}\
table{width:100%;border-collapse:collapse}\
thead{display:table-header-group}\
th{text-align:left;font-weight:600;border-bottom:1.5px solid #1a1a1a;padding:1.5mm 2mm 1.5mm 0}\
td{border-bottom:1px solid #ddd;padding:1.8mm 2mm 1.8mm 0;vertical-align:top}\
tr{break-inside:avoid}\
th:last-child,td:last-child{padding-right:0}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
small{display:block;color:#666;font-size:8pt;overflow-wrap:anywhere}\
tfoot td{border:0;padding:1mm 2mm 1mm 0}\
tfoot tr.total td{border-top:1.5px solid #1a1a1a;font-weight:600;font-size:11.5pt;padding-top:2mm}\
footer{margin-top:10mm;color:#666;font-size:8pt;break-inside:avoid}\
footer p{margin:0 0 1.5mm;overflow-wrap:anywhere}\
@media screen{body{padding:12mm 8mm}}\
@media print{.state{border-color:#1a1a1a;color:#1a1a1a}}";

/// A text inside HTML.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// The page of a document.
pub fn page(invoice: &Invoice) -> String {
    Page(invoice).to_string()
}

struct Page<'i>(&'i Invoice);

impl Page<'_> {
    fn title(&self) -> String {
        let kind = if self.0.credit_note {
            "Credit note"
        } else {
            "Invoice"
        };
        match &self.0.number {
            Some(number) => format!("{kind} {number}"),
            None => kind.to_owned(),
        }
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let invoice = self.0;
        let title = self.title();
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">\
             <style>{STYLE}</style></head><body>\n<header><div><h1>{title}</h1>",
            title = Escaped(&title)
        )?;
        if invoice.status != Status::Final {
            write!(
                f,
                "<span class=\"state\">{}</span>",
                invoice.status.as_str()
            )?;
        }
        f.write_str("</div><dl>")?;
        let date = |date: Option<chrono::NaiveDate>| date.map(|date| date.to_string());
        let last = if invoice.end > invoice.start {
            invoice.end.plus_millis(-1)
        } else {
            invoice.end
        };
        let day =
            |at: tollgate_common::Timestamp| at.to_string().chars().take(10).collect::<String>();
        let other = if invoice.credit_note {
            "Credits invoice"
        } else {
            "Voided by"
        };
        for (label, value) in [
            ("Date", date(invoice.issued)),
            ("Due", date(invoice.due)),
            ("Tax point", date(invoice.tax_point)),
            (
                "For",
                Some(format!("{} to {} (UTC)", day(invoice.start), day(last))),
            ),
            ("Account", Some(invoice.tenant.to_string())),
            (
                "Part",
                invoice
                    .part_of
                    .map(|part| format!("{} of {}", part.place, part.of)),
            ),
            (other, invoice.other.clone()),
        ] {
            if let Some(value) = value {
                write!(f, "<dt>{label}</dt><dd>{}</dd>", Escaped(&value))?;
            }
        }
        f.write_str("</dl></header>\n")
    }

    fn parties(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<section class=\"parties\">")?;
        for (label, party) in [("From", &self.0.seller), ("To", &self.0.buyer)] {
            write!(f, "<div><span class=\"label\">{label}</span>")?;
            match party {
                Some(party) => write_party(f, party)?,
                None if label == "To" => {
                    write!(f, "<address>{}</address>", Escaped(self.0.tenant.as_str()))?;
                }
                None => {
                    let issuer = self.0.issuer.as_deref().unwrap_or("-");
                    write!(f, "<address>{}</address>", Escaped(issuer))?;
                }
            }
            f.write_str("</div>")?;
        }
        f.write_str("</section>\n")
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let invoice = self.0;
        f.write_str(
            "<table><thead><tr><th>Item</th><th class=\"n\">Quantity</th><th class=\"n\">List</th>\
             <th class=\"n\">Amount</th></tr></thead>\n<tbody>",
        )?;
        for line in &invoice.lines {
            write_line(f, line)?;
        }
        f.write_str("</tbody>\n<tfoot>")?;
        let sum = |f: &mut fmt::Formatter<'_>, class: &str, label: &str, amount: &str| {
            writeln!(
                f,
                "<tr{class}><td colspan=\"3\" class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Escaped(label),
                Escaped(amount)
            )
        };
        sum(f, "", "Net", &invoice.net.to_string())?;
        for tax in &invoice.tax_rates {
            sum(f, "", &format!("Tax {tax}"), &tax.amount.to_string())?;
        }
        if !invoice.paid.is_zero() {
            sum(f, "", "Gross", &invoice.gross.to_string())?;
            sum(f, "", "Grants and credit", &invoice.paid.to_string())?;
        }
        let total = format!("{} {}", invoice.total, invoice.currency);
        sum(f, " class=\"total\"", "Total", &total)?;
        f.write_str("</tfoot></table>\n")
    }

    fn foot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let invoice = self.0;
        f.write_str("<footer>")?;
        for remark in invoice.tax_rates.iter().filter_map(InvoiceTax::remark) {
            write!(f, "<p>{}</p>", Escaped(&remark))?;
        }
        if invoice
            .buyer
            .as_ref()
            .is_some_and(|party| party.reverse_charge)
        {
            f.write_str("<p>Reverse charge: the recipient of the service owes the tax.</p>")?;
        }
        for party in [&invoice.seller, &invoice.buyer].into_iter().flatten() {
            for text in [&party.note, &party.bank] {
                if !text.is_empty() {
                    write!(f, "<p>{}</p>", Escaped(text))?;
                }
            }
        }
        match (invoice.status, invoice.entry, invoice.hash) {
            (Status::Draft, _, _) => {
                f.write_str("<p>A draft: booked, but not issued. It has no number.</p>")?;
            }
            (Status::Preview, _, _) => f.write_str(
                "<p>A preview: open periods as they stand now. Nothing of it is final.</p>",
            )?,
            (_, Some(entry), Some(hash)) => {
                write!(f, "<p>Ledger entry {entry}, {hash}</p>")?;
            }
            _ => {}
        }
        f.write_str("</footer>\n</body></html>\n")
    }
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.parties(f)?;
        self.table(f)?;
        self.foot(f)
    }
}

fn write_party(f: &mut fmt::Formatter<'_>, party: &Party) -> fmt::Result {
    write!(f, "<address>{}", Escaped(&party.name))?;
    let vat = Some(&party.vat_id).filter(|id| !id.is_empty());
    let vat = vat.map(|id| format!("VAT {id}"));
    let rest = [&party.country, &party.registration, &party.contact];
    let lines = party.address.iter().chain(rest).chain(&vat);
    for line in lines.filter(|line| !line.is_empty()) {
        write!(f, "\n{}", Escaped(line))?;
    }
    f.write_str("</address>")
}

fn write_line(f: &mut fmt::Formatter<'_>, line: &InvoiceLine) -> fmt::Result {
    write!(f, "<tr><td>{}", Escaped(&line.line))?;
    if let Some(meter) = line.meter.as_ref().filter(|meter| **meter != line.line) {
        write!(f, " <small>{}</small>", Escaped(meter))?;
    }
    if !line.arithmetic.is_empty() {
        write!(f, "<small>{}</small>", Escaped(&line.arithmetic))?;
    }
    for step in &line.steps {
        let kind = step.kind.as_str();
        write!(
            f,
            "<small>{kind} {}: {}</small>",
            Escaped(&step.id),
            step.amount
        )?;
    }
    if let Some(original) = &line.original {
        write!(f, "<small>{original}</small>")?;
    }
    if let Some(entry) = line.refers_to {
        write!(f, "<small>corrects {entry}</small>")?;
    }
    let quantity = line.quantity.as_deref().unwrap_or_default();
    let list = line.list.map(|list| list.to_string());
    writeln!(
        f,
        "</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        Escaped(quantity),
        list.unwrap_or_default(),
        line.amount
    )
}
