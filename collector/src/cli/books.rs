//! Keeping the ledger by hand, its closing pack, the parties' data, approvals, reconciliation.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;
use tollgate_collector_core::entry::{Manual, ManualAction, ManualLine, ManualTax};
use tollgate_collector_core::invoice::party::Party;
use tollgate_collector_core::ledger::{EntryRef, Note, pack};
use tollgate_collector_core::reconcile::{Map, Reconciler};
use tollgate_common::TenantId;

use super::args::{
    ApprovalCommand, Decision, LineArgs, OutputArgs, PartyCommand, ReconcileArgs, Whose,
};
use super::invoice::{Store, ask, print_rows, tell};
use super::output::Output;
use super::{Exit, Failure, load};
use crate::parties::{Parties, PartyRole};
use crate::run::DataDir;
use crate::run::books::each_entry;
use crate::serve::admin::AdminRequest;
use crate::sqlite::query::Filter;

/// Longest map and longest file of a party, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest statement, in bytes.
const STATEMENT_BYTES_MAX: u64 = 1 << 30;

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, error)
}

fn note(decision: &Decision) -> Note {
    Note {
        author: decision.author.clone(),
        approved_by: None,
        reason: decision.reason.clone(),
    }
}

fn day(text: &str) -> Result<NaiveDate, Failure> {
    text.parse().map_err(|_| {
        usage(format!(
            "`{text}` is no day (expected for example 2026-06-01)"
        ))
    })
}

/// `ledger line` and `ledger credit`.
pub(super) fn line(
    args: &OutputArgs,
    line: LineArgs,
    decision: &Decision,
    is_credit: bool,
) -> Result<Exit, Failure> {
    let decimal = |text: &str| {
        text.parse::<Decimal>().map_err(|_| {
            usage(format!(
                "`{text}` is no amount (expected for example 250.00)"
            ))
        })
    };
    let instant = |text: Option<&str>| {
        text.map(crate::time::parse_instant)
            .transpose()
            .map_err(usage)
    };
    let tax = line.tax.as_deref().map(|text| {
        let (code, amount) = text
            .split_once('=')
            .ok_or_else(|| usage(format!("`{text}` is no tax (expected CODE=AMOUNT)")))?;
        Ok::<_, Failure>(ManualTax {
            code: code.to_owned(),
            amount: decimal(amount)?,
        })
    });
    let start = instant(line.from.as_deref())?.unwrap_or_else(crate::time::now);
    let booked = ManualLine {
        line: line.line,
        text: line.text,
        start,
        end: instant(line.to.as_deref())?.unwrap_or(start),
        amount: decimal(&line.amount)?,
        currency: line.currency.parse().map_err(usage)?,
        gl: line.gl,
        tax: tax.transpose()?,
        of: line
            .of
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(usage)?,
        date: line.date.as_deref().map(day).transpose()?,
    };
    let action = if is_credit {
        ManualAction::Credit(booked)
    } else {
        ManualAction::Line(booked)
    };
    book(args, line.tenant, line.key, action, decision)
}

/// `ledger hold` and `ledger release`.
pub(super) fn hold(
    args: &OutputArgs,
    entry: &str,
    tenant: TenantId,
    decision: &Decision,
    holds: bool,
) -> Result<Exit, Failure> {
    let entry: EntryRef = entry.parse().map_err(usage)?;
    let action = if holds {
        ManualAction::Hold { entry }
    } else {
        ManualAction::Release { entry }
    };
    book(args, tenant, None, action, decision)
}

fn book(
    args: &OutputArgs,
    tenant: TenantId,
    key: Option<String>,
    action: ManualAction,
    decision: &Decision,
) -> Result<Exit, Failure> {
    let manual = Manual {
        tenant,
        key: key.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
        action,
        note: note(decision),
    };
    manual.check().map_err(usage)?;
    let entry = Box::new(manual);
    let answer = ask(args, &AdminRequest::Book { entry })?;
    tell(args, &[answer])
}

/// `ledger pack`.
pub(super) fn closing_pack(
    args: &OutputArgs,
    from: &str,
    to: &str,
    tenant: Option<&TenantId>,
) -> Result<Exit, Failure> {
    let days = pack::Days {
        from: day(from)?,
        to: day(to)?,
    };
    let store = Store::open(args)?;
    let filter = Filter {
        tenant: tenant.map(ToString::to_string),
        ..Filter::default()
    };
    let mut packer = pack::Packer::new(days);
    each_entry(&store.reader, filter, |entry| {
        packer.take(&entry).map_err(|error| error.to_string())
    })
    .map_err(Failure::failed)?;
    let pack = packer.finish().map_err(Failure::failed)?;
    let balanced = pack.sums.values().all(Decimal::is_zero);
    Output::new(args.json).print(&pack, |out| {
        let rows = |value: serde_json::Value| value.as_array().cloned().unwrap_or_default();
        writeln!(out, "Trial balance, {from} to before {to}")?;
        let columns = [
            "account", "currency", "opening", "debits", "credits", "closing",
        ];
        print_rows(out, &columns, &rows(json!(pack.trial_balance)))?;
        let verdict = if balanced {
            "sums to zero"
        } else {
            "DOES NOT SUM TO ZERO"
        };
        writeln!(out, "{verdict}\n\nOn no invoice yet")?;
        let columns = [
            "tenant",
            "currency",
            "opening",
            "accrued",
            "corrected",
            "manual",
            "invoiced",
            "voided",
            "closing",
        ];
        print_rows(out, &columns, &rows(json!(pack.roll_forward)))?;
        writeln!(out, "\nBeside the period before")?;
        let columns = [
            "tenant", "line", "currency", "amount", "before", "change", "percent",
        ];
        print_rows(out, &columns, &rows(json!(pack.variance)))
    })?;
    Ok(if balanced {
        Exit::Done
    } else {
        Exit::Unverified
    })
}

/// `party`.
pub(super) fn party(command: PartyCommand) -> Result<Exit, Failure> {
    match command {
        PartyCommand::Set {
            output,
            whose,
            file,
        } => {
            let text = load::bounded(&file, TEXT_BYTES_MAX)
                .and_then(|text| Party::parse(&text).map_err(|error| error.to_string()))
                .map_err(|error| {
                    Failure::new(Exit::Config, format!("{}: {error}", file.display()))
                })?;
            let (parties, role, id) = parties(&output, &whose)?;
            parties.set(role, &id, &text).map_err(Failure::failed)?;
            Output::new(output.json).print(&text, |out| {
                writeln!(out, "documents for or by `{id}` say so from now on")
            })?;
        }
        PartyCommand::Show { output, whose } => {
            let (parties, role, id) = parties(&output, &whose)?;
            let party = parties.current(role, &id).map_err(Failure::failed)?;
            let party = party.ok_or_else(|| {
                Failure::failed(format!("nothing is known of `{id}` (party set)"))
            })?;
            Output::new(output.json).print(&party, |out| {
                let text = serde_json::to_string_pretty(&party).map_err(std::io::Error::from)?;
                writeln!(out, "{text}")
            })?;
        }
        PartyCommand::Erase {
            output,
            whose,
            decision,
        } => {
            let (mut parties, role, id) = parties(&output, &whose)?;
            let uid = rustix::process::getuid().as_raw();
            let why = format!(
                "{} by {} (uid {uid}): {}",
                crate::time::now(),
                decision.author,
                decision.reason
            );
            let count = parties.erase(role, &id, &why).map_err(Failure::failed)?;
            Output::new(output.json).print(&json!({ "documents": count }), |out| {
                writeln!(out, "erased, also from {count} documents")
            })?;
        }
    }
    Ok(Exit::Done)
}

fn parties(args: &OutputArgs, whose: &Whose) -> Result<(Parties, PartyRole, String), Failure> {
    let config = load::config(&args.config)?;
    let data = DataDir::new(&config.data_dir);
    if !config.data_dir.is_dir() {
        return Err(Failure::failed(format!(
            "{} does not exist (has the collector run with this data folder?)",
            config.data_dir.display()
        )));
    }
    data.check_owner().map_err(Failure::failed)?;
    let parties = Parties::open(&data.parties()).map_err(Failure::failed)?;
    match (&whose.tenant, &whose.issuer) {
        (Some(tenant), _) => Ok((parties, PartyRole::Tenant, tenant.to_string())),
        (None, Some(issuer)) if config.issuers.iter().any(|rule| rule.issuer.id == *issuer) => {
            Ok((parties, PartyRole::Issuer, issuer.clone()))
        }
        (None, issuer) => Err(Failure::failed(format!(
            "the configuration has no [[issuer]] `{}`",
            issuer.as_deref().unwrap_or_default()
        ))),
    }
}

/// `approval`.
pub(super) fn approval(command: ApprovalCommand) -> Result<Exit, Failure> {
    let (output, id, agrees, decision) = match command {
        ApprovalCommand::List(output) => {
            let answer = ask(&output, &AdminRequest::Waiting)?;
            Output::new(output.json).print(&answer, |out| {
                for request in answer["waiting"].as_array().into_iter().flatten() {
                    writeln!(out, "{request}")?;
                }
                Ok(())
            })?;
            return Ok(Exit::Done);
        }
        ApprovalCommand::Give {
            output,
            id,
            decision,
        } => (output, id, true, decision),
        ApprovalCommand::Reject {
            output,
            id,
            decision,
        } => (output, id, false, decision),
    };
    let request = AdminRequest::Decide {
        id,
        agrees,
        author: decision.author,
        reason: decision.reason,
    };
    let answer = ask(&output, &request)?;
    tell(&output, &[answer])
}

/// `reconcile`.
pub(super) fn reconcile(args: &ReconcileArgs) -> Result<Exit, Failure> {
    let read = |file: &std::path::Path, max| {
        load::bounded(file, max)
            .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
    };
    let map = Map::parse(&read(&args.map, TEXT_BYTES_MAX)?)
        .map_err(|error| Failure::new(Exit::Config, format!("{}: {error}", args.map.display())))?;
    let statement = read(&args.statement, STATEMENT_BYTES_MAX)?;
    let store = Store::open(&args.output)?;
    let filter = Filter {
        tenant: args.tenant.as_ref().map(ToString::to_string),
        ..load::filter(args.from.as_deref(), args.to.as_deref())?
    };
    let mut reconciler = Reconciler::new(&map);
    each_entry(&store.reader, filter, |entry| {
        reconciler.take(&entry).map_err(|error| error.to_string())
    })
    .map_err(Failure::failed)?;
    let found = reconciler.compare(&statement).map_err(Failure::failed)?;
    Output::new(args.output.json).print(&found, |out| {
        let rows: Vec<_> = found
            .rows
            .iter()
            .map(|row| {
                json!({
                    "key": row.key.join(" "),
                    "ledger": row.ledger.amount,
                    "statement": row.statement.amount,
                    "drift": row.drift,
                    "quantity": row.drift_quantity,
                    "verdict": row.verdict,
                })
            })
            .collect();
        let columns = ["key", "ledger", "statement", "drift", "quantity", "verdict"];
        print_rows(out, &columns, &rows)?;
        writeln!(out)?;
        for (currency, total) in &found.totals {
            writeln!(
                out,
                "{} {currency} in the ledger, {} on the statement, drift {}",
                total.ledger.amount, total.statement.amount, total.drift
            )?;
        }
        let verdict = if found.within { "within" } else { "BEYOND" };
        writeln!(out, "{verdict} what is tolerated")
    })?;
    Ok(if found.within {
        Exit::Done
    } else {
        Exit::Unverified
    })
}
