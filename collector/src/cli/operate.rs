//! `usage correct`, `period rerate` and `agent retire`: shown in money, and done with `--apply`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::args::{AgentCommand, DecisionArgs, OutputArgs, RowsArgs, UsageCommand};
use super::output::{Output, table};
use super::period::ask;
use super::{Exit, Failure};
use crate::fold::operate::{OperateRequest, RowRequest};
use crate::serve::admin::AdminRequest;

/// Longest file of rows, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn usage(command: UsageCommand) -> Result<Exit, Failure> {
    let UsageCommand::Correct {
        output,
        tenant,
        key,
        rows,
        decision,
    } = command;
    let rows = match &rows.file {
        Some(path) => rows_of(path)?,
        None => vec![row(rows)?],
    };
    let request = OperateRequest::Correct { tenant, key, rows };
    decide(&output, request, decision)
}

pub(super) fn agent(command: AgentCommand) -> Result<Exit, Failure> {
    let AgentCommand::Retire {
        output,
        agent,
        decision,
    } = command;
    decide(&output, OperateRequest::Retire { agent }, decision)
}

/// Shows what an action changes, and has it done with `--apply`.
pub(super) fn decide(
    output: &OutputArgs,
    request: OperateRequest,
    decision: DecisionArgs,
) -> Result<Exit, Failure> {
    let DecisionArgs {
        reason,
        author,
        apply,
    } = decision;
    let request = AdminRequest::Operate {
        request,
        author,
        reason,
        apply,
    };
    let answer = ask(output, &request)?;
    Output::new(output.json).print(&answer, |out| show(out, &answer))?;
    Ok(Exit::Done)
}

/// The rows of a file.
fn rows_of(path: &Path) -> Result<Vec<RowRequest>, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rows {
        row: Vec<RowRequest>,
    }
    let named =
        |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| named(&error))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(named(&format_args!(
            "has {length} bytes, more than {FILE_BYTES_MAX}; split it"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let rows: Rows = toml::from_str(&text).map_err(|error| named(&error))?;
    Ok(rows.row)
}

/// The row that the command line gives.
fn row(args: RowsArgs) -> Result<RowRequest, Failure> {
    let missing = || Failure::failed("--meter, --at and --quantity are needed, or --file");
    let mut dimensions = BTreeMap::new();
    for pair in args.dimensions {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::failed(format!(
                "--dimension {pair}: expected KEY=VALUE"
            )));
        };
        dimensions.insert(key.to_owned(), value.to_owned());
    }
    let release = match args.release {
        Some(reason) => {
            Some(serde_json::from_value(Value::String(reason)).map_err(Failure::failed)?)
        }
        None => None,
    };
    Ok(RowRequest {
        meter: args.meter.ok_or_else(missing)?,
        dimensions,
        at: args.at.ok_or_else(missing)?,
        quantity: args.quantity.ok_or_else(missing)?,
        release,
    })
}

fn show(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    let empty = Vec::new();
    let list = |key: &str| answer["change"][key].as_array().unwrap_or(&empty).clone();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let booked: Vec<Vec<String>> = list("booked")
        .iter()
        .map(|entry| {
            [
                "kind",
                "start",
                "line",
                "quantity",
                "amount",
                "currency",
                "arithmetic",
            ]
            .map(|key| text(&entry[key]))
            .to_vec()
        })
        .collect();
    let open: Vec<Vec<String>> = list("open")
        .iter()
        .map(|change| {
            vec![
                text(&change["start"]),
                text(&change["line"]),
                text(&change["quantity"]["now"]),
                text(&change["quantity"]["then"]),
                text(&change["amount"]["now"]),
                text(&change["amount"]["then"]),
                text(&change["currency"]),
            ]
        })
        .collect();
    if !booked.is_empty() {
        writeln!(out, "booked for closed periods:")?;
        let heading = [
            "KIND",
            "PERIOD",
            "LINE",
            "QUANTITY",
            "AMOUNT",
            "",
            "ARITHMETIC",
        ];
        table(out, &heading, &booked)?;
        if let Some(totals) = answer["change"]["totals"].as_object() {
            for (currency, total) in totals {
                writeln!(out, "in all {} {currency}", text(total))?;
            }
        }
    }
    if !open.is_empty() {
        writeln!(out, "lines of open periods:")?;
        let heading = ["PERIOD", "LINE", "QUANTITY", "THEN", "AMOUNT", "THEN", ""];
        table(out, &heading, &open)?;
    }
    if booked.is_empty() && open.is_empty() {
        writeln!(out, "no amount changes")?;
    }
    if answer["applied"] == true {
        writeln!(out, "done, and journaled")?;
        show_booked(out, answer)
    } else if let Some(id) = answer["waits"].as_u64() {
        writeln!(
            out,
            "nothing is done yet: it waits under number {id} until somebody else agrees (approval give {id})"
        )
    } else {
        writeln!(out, "nothing is done yet: give --apply to do it")
    }
}

/// What an action has booked in closed periods, once it is done.
fn show_booked(out: &mut dyn Write, answer: &Value) -> io::Result<()> {
    if let Some(entries) = answer["booked"]["entries"].as_u64() {
        write!(out, "booked {entries} ledger entries")?;
        for (currency, total) in answer["booked"]["totals"].as_object().into_iter().flatten() {
            let total = total.as_str().unwrap_or("an amount that is too large in");
            write!(out, ", {total} {currency}")?;
        }
        writeln!(out)?;
    }
    match answer["unsettled"].as_u64() {
        Some(left @ 1..) => writeln!(
            out,
            "{left} periods have got more usage meanwhile; it is settled when they are closed again"
        ),
        _ => Ok(()),
    }
}
