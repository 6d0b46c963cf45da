//! `invoice`: documents from the data folder, and decisions for the running collector.

mod decide;
mod explain;
mod store;

use std::io::{self, Write};

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollgate_collector_core::config::Config;
use tollgate_collector_core::fold::tenant::WishedDocument;
use tollgate_collector_core::invoice::register::Register;
use tollgate_collector_core::invoice::{
    self, Invoice, InvoiceTax, OpenLine, Parties as Parts, csv, html,
};
use tollgate_common::TenantId;

use super::args::{Format, InvoiceCommand, OutputArgs};
use super::output::{Output, table};
use super::{Exit, Failure};
use crate::parties::Parties;
use crate::run::DataDir;
use crate::serve::admin::AdminRequest;

pub(super) use decide::{ask, tell};
use decide::{issue, wish};
pub(super) use store::Store;

pub(super) fn run(command: InvoiceCommand) -> Result<Exit, Failure> {
    match command {
        InvoiceCommand::List { output, tenant } => list(&output, tenant.as_ref()),
        InvoiceCommand::Show {
            output,
            number,
            issuer,
            format,
        } => show(&output, &number, issuer.as_deref(), format),
        InvoiceCommand::Preview {
            output,
            tenant,
            draft,
            currency,
            format,
        } => preview(&output, &tenant, draft, currency.as_deref(), format),
        InvoiceCommand::Issue {
            output,
            tenant,
            all: _,
            so_far,
            until,
            currency,
            split,
            decision,
        } => {
            let what = if so_far {
                WishedDocument::SoFar { currency }
            } else {
                let until = until.as_deref().map(crate::time::parse_instant);
                let until = until.transpose();
                let until = until.map_err(|error| Failure::new(Exit::Usage, error))?;
                if split.is_empty() {
                    WishedDocument::Invoice { currency, until }
                } else {
                    WishedDocument::Split {
                        currency,
                        until,
                        weights: split,
                    }
                }
            };
            issue(&output, tenant, &what, &decision)
        }
        InvoiceCommand::Void {
            output,
            number,
            tenant,
            decision,
        } => {
            let what = WishedDocument::Void { number };
            let answer = ask(&output, &wish(tenant, what, &decision))?;
            tell(&output, &[answer])
        }
        InvoiceCommand::Explain { output, line } => explain::run(&output, &line),
        InvoiceCommand::Export {
            output,
            format,
            to,
            tenant,
        } => export(&output, format, &to, tenant.as_ref()),
    }
}

fn list(args: &OutputArgs, tenant: Option<&TenantId>) -> Result<Exit, Failure> {
    let store = Store::open(args)?;
    let registers = store.registers(tenant)?;
    let mut documents = Vec::new();
    let mut waiting = Vec::new();
    for (tenant, register) in &registers {
        for entry in register.documents() {
            let posting = &entry.posting;
            let Some(document) = &posting.document else {
                continue;
            };
            documents.push((
                (document.issuer.clone(), document.sequence),
                json!({
                    "issuer": document.issuer,
                    "number": document.number,
                    "kind": posting.kind,
                    "tenant": tenant,
                    "issued": posting.date,
                    "due": document.due,
                    "total": posting.amount,
                    "currency": posting.currency,
                    "voided_by": register.voided_by(entry),
                    "entry": entry.at.to_string(),
                }),
            ));
        }
        for (currency, total) in register.totals() {
            waiting.push(json!({ "tenant": tenant, "currency": currency, "total": total }));
        }
    }
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    let documents: Vec<Value> = documents
        .into_iter()
        .map(|(_, document)| document)
        .collect();
    let all = json!({ "documents": documents, "waiting": waiting });
    Output::new(args.json).print(&all, |out| {
        let columns = [
            "issuer",
            "number",
            "kind",
            "tenant",
            "issued",
            "due",
            "total",
            "currency",
            "voided_by",
        ];
        print_rows(out, &columns, &documents)?;
        writeln!(out)?;
        print_rows(out, &["tenant", "currency", "total"], &waiting)
    })?;
    Ok(Exit::Done)
}

/// A table of JSON objects.
pub(super) fn print_rows(out: &mut dyn Write, columns: &[&str], rows: &[Value]) -> io::Result<()> {
    let heading: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let cells = |row: &Value| {
        let cell = |column: &&str| match &row[*column] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        columns.iter().map(cell).collect::<Vec<String>>()
    };
    table(out, &heading, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn show(
    args: &OutputArgs,
    number: &str,
    issuer: Option<&str>,
    format: Format,
) -> Result<Exit, Failure> {
    let store = Store::open(args)?;
    let found = store.documents(number, issuer)?;
    let [entry] = &found[..] else {
        return Err(Failure::failed(match found.len() {
            0 => format!("there is no document `{number}` (see `invoice list`)"),
            many => format!("{many} issuers have a document `{number}`: say --issuer"),
        }));
    };
    let register = store.register_of(entry)?;
    print(args, &store.document(entry, &register)?, format)
}

fn preview(
    args: &OutputArgs,
    tenant: &TenantId,
    draft: bool,
    currency: Option<&str>,
    format: Format,
) -> Result<Exit, Failure> {
    let open = if draft {
        Vec::new()
    } else {
        let request = AdminRequest::Accruals {
            tenant: tenant.clone(),
        };
        open_lines(&ask(args, &request)?)?
    };
    let store = Store::open(args)?;
    let registers = store.registers(Some(tenant))?;
    let waiting = registers.get(tenant).map(Register::waiting);
    let mut waiting = waiting.unwrap_or_default();
    let mut currencies: Vec<String> = waiting.keys().cloned().collect();
    currencies.extend(open.iter().map(|(currency, _)| currency.clone()));
    currencies.sort();
    currencies.dedup();
    let currency = match (currency, &currencies[..]) {
        (Some(currency), _) => currency.to_owned(),
        (None, [only]) => only.clone(),
        (None, []) => {
            return Err(Failure::failed(format!(
                "nothing waits for an invoice of `{tenant}`"
            )));
        }
        (None, several) => {
            return Err(Failure::failed(format!(
                "lines wait in several currencies ({}): say --currency",
                several.join(", ")
            )));
        }
    };
    let entries = waiting.remove(&currency).unwrap_or_default();
    let open = open
        .into_iter()
        .filter_map(|(of, line)| (of == currency).then_some(line));
    let data = DataDir::new(&store.config.data_dir);
    let parts = current_parties(&store.config, &data, tenant)?;
    let shown = invoice::draft(tenant, &currency, &entries, open.collect(), parts);
    print(args, &shown.map_err(Failure::failed)?, format)
}

fn current_parties(config: &Config, data: &DataDir, tenant: &TenantId) -> Result<Parts, Failure> {
    use crate::parties::PartyRole;
    let Some(parties) = Parties::open_existing(&data.parties()).map_err(Failure::failed)? else {
        return Ok(Parts::default());
    };
    let current = |role, id: &str| parties.current(role, id).map_err(Failure::failed);
    let issuer = config.issuer_of(tenant);
    Ok(Parts {
        seller: match issuer {
            Some(rule) => current(PartyRole::Issuer, &rule.issuer.id)?,
            None => None,
        },
        buyer: current(PartyRole::Tenant, tenant.as_str())?,
    })
}

/// The lines of open periods with their currencies, from what the collector answers.
fn open_lines(answer: &Value) -> Result<Vec<(String, OpenLine)>, Failure> {
    let unreadable = || Failure::failed("the collector's answer cannot be read");
    let mut lines = Vec::new();
    for accrual in answer["accruals"].as_array().ok_or_else(unreadable)? {
        let instant = |key: &str| {
            let text = accrual[key].as_str().ok_or_else(unreadable)?;
            crate::time::parse_instant(text).map_err(Failure::failed)
        };
        let (start, end) = (instant("start")?, instant("end")?);
        for line in accrual["lines"].as_array().ok_or_else(unreadable)? {
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            let (Some(amount), Some(currency)) = (text("amount"), text("currency")) else {
                continue;
            };
            let number = |text: &str| text.parse::<Decimal>().map_err(|_| unreadable());
            // What is booked already waits for an invoice, or stands on one.
            let booked = text("booked").map_or(Ok(Decimal::ZERO), |text| number(&text))?;
            let amount = number(&amount)?.checked_sub(booked);
            let amount = amount.ok_or_else(unreadable)?;
            if amount.is_zero() && !booked.is_zero() {
                continue;
            }
            let name = text("line").unwrap_or_default();
            let tax = (line["role"] == "tax").then(|| name.clone());
            lines.push((
                currency,
                OpenLine {
                    line: name,
                    meter: text("meter"),
                    start,
                    end,
                    quantity: text("quantity").filter(|_| !line["meter"].is_null()),
                    amount,
                    tax,
                    taxed: serde_json::from_value(line["tax"].clone()).unwrap_or_default(),
                    arithmetic: text("arithmetic").unwrap_or_default(),
                },
            ));
        }
    }
    Ok(lines)
}

fn print(args: &OutputArgs, invoice: &Invoice, format: Format) -> Result<Exit, Failure> {
    let text = match format {
        Format::Text | Format::Json => {
            let output = Output::new(args.json || format == Format::Json);
            output.print(invoice, |out| describe(invoice, out))?;
            return Ok(Exit::Done);
        }
        Format::Csv => csv::lines([invoice]),
        Format::Html => html::page(invoice),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}

fn describe(invoice: &Invoice, out: &mut dyn Write) -> io::Result<()> {
    let kind = if invoice.credit_note {
        "credit note"
    } else {
        "invoice"
    };
    let number = invoice.number.as_deref().unwrap_or("");
    writeln!(
        out,
        "{kind} {number} ({}) for {}, {} to {}",
        invoice.status.as_str(),
        invoice.tenant,
        invoice.start,
        invoice.end
    )?;
    if let Some(part) = invoice.part_of {
        writeln!(out, "part {} of {}", part.place, part.of)?;
    }
    if let Some(other) = &invoice.other {
        let how = if invoice.credit_note {
            "voids"
        } else {
            "voided by"
        };
        writeln!(out, "{how} {other}")?;
    }
    writeln!(out)?;
    let rows: Vec<Vec<String>> = invoice
        .lines
        .iter()
        .map(|line| {
            vec![
                line.entry
                    .map_or_else(|| "-".to_owned(), |at| at.to_string()),
                line.line.clone(),
                line.quantity.clone().unwrap_or_default(),
                line.list.map(|list| list.to_string()).unwrap_or_default(),
                line.amount.to_string(),
                line.arithmetic.clone(),
            ]
        })
        .collect();
    table(
        out,
        &["ENTRY", "LINE", "QUANTITY", "LIST", "AMOUNT", "ARITHMETIC"],
        &rows,
    )?;
    writeln!(out)?;
    let currency = &invoice.currency;
    writeln!(out, "net    {} {currency}", invoice.net)?;
    for tax in &invoice.tax_rates {
        writeln!(out, "tax    {} {currency} ({tax})", tax.amount)?;
    }
    for remark in invoice.tax_rates.iter().filter_map(InvoiceTax::remark) {
        writeln!(out, "       {remark}")?;
    }
    if !invoice.paid.is_zero() {
        writeln!(
            out,
            "paid   {} {currency} (grants and credit)",
            invoice.paid
        )?;
    }
    writeln!(out, "total  {} {currency}", invoice.total)
}

fn export(
    args: &OutputArgs,
    format: Format,
    to: &std::path::Path,
    tenant: Option<&TenantId>,
) -> Result<Exit, Failure> {
    let store = Store::open(args)?;
    std::fs::create_dir_all(to)?;
    let mut invoices = Vec::new();
    for register in store.registers(tenant)?.values() {
        for entry in register.documents() {
            invoices.push(store.document(entry, register)?);
        }
    }
    let named = |invoice: &Invoice, ending: &str| {
        let part = |text: &Option<String>| {
            let keep = |c: char| {
                if c.is_alphanumeric() || c == '-' {
                    c
                } else {
                    '_'
                }
            };
            text.as_deref()
                .unwrap_or("none")
                .chars()
                .map(keep)
                .collect::<String>()
        };
        to.join(format!(
            "{}-{}.{ending}",
            part(&invoice.issuer),
            part(&invoice.number)
        ))
    };
    match format {
        Format::Csv => std::fs::write(to.join("invoices.csv"), csv::lines(&invoices))?,
        Format::Html => {
            for invoice in &invoices {
                std::fs::write(named(invoice, "html"), html::page(invoice))?;
            }
        }
        Format::Json | Format::Text => {
            for invoice in &invoices {
                let text = serde_json::to_string_pretty(invoice).map_err(Failure::failed)?;
                std::fs::write(named(invoice, "json"), text)?;
            }
        }
    }
    let count = invoices.len();
    Output::new(args.json).print(&json!({ "documents": count }), |out| {
        writeln!(out, "{count} documents written to {}", to.display())
    })?;
    Ok(Exit::Done)
}
