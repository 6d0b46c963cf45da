//! `period list`, `period status`, `period close` and `status`.

use tollgate_common::TenantId;

use super::args::OutputArgs;
use super::output::{Output, table};
use super::{Exit, Failure, load, runtime};
use crate::run::DataDir;
use crate::serve::admin::{self, AdminRequest};
use crate::sqlite::query::{Filter, LIMIT_MAX, PeriodRow, Reader};

pub(super) fn list(
    args: &OutputArgs,
    tenant: Option<&TenantId>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let reader =
        Reader::open(&DataDir::new(&config.data_dir).projection()).map_err(Failure::failed)?;
    let mut filter = Filter {
        tenant: tenant.map(ToString::to_string),
        limit: Some(LIMIT_MAX),
        ..load::filter(from, to)?
    };
    let mut periods: Vec<PeriodRow> = Vec::new();
    loop {
        let page = reader.periods(&filter).map_err(Failure::failed)?;
        periods.extend(page.items);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    Output::new(args.json).print(&periods, |out| {
        let rows: Vec<_> = periods
            .iter()
            .map(|p| {
                vec![
                    p.tenant.clone(),
                    p.start.clone(),
                    p.end.clone(),
                    p.status.clone(),
                    p.rounds.to_string(),
                ]
            })
            .collect();
        table(out, &["TENANT", "START", "END", "STATUS", "ROUNDS"], &rows)
    })?;
    Ok(Exit::Done)
}

pub(super) fn close(args: &OutputArgs, request: &AdminRequest) -> Result<Exit, Failure> {
    let answer = ask(args, request)?;
    if !answer["waits"].is_null() {
        return super::invoice::tell(args, &[answer]);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Output::new(args.json).print(&answer, |out| {
        writeln!(
            out,
            "closed period {} to {} of {}",
            text("start"),
            text("end"),
            text("tenant")
        )
    })?;
    Ok(Exit::Done)
}

pub(super) fn status_of(
    args: &OutputArgs,
    tenant: Option<TenantId>,
    over: bool,
) -> Result<Exit, Failure> {
    let answer = ask(args, &AdminRequest::PeriodStatus { tenant, over })?;
    Output::new(args.json).print(&answer, |out| {
        let empty = Vec::new();
        let periods = answer["periods"].as_array().unwrap_or(&empty);
        let rows: Vec<_> = periods.iter().map(standing).collect();
        table(
            out,
            &["TENANT", "PERIOD", "END", "WAITS FOR", "UNTIL", "MISSING"],
            &rows,
        )?;
        match answer["left_out"].as_u64() {
            Some(left_out @ 1..) => writeln!(out, "… and {left_out} more (choose a --tenant)"),
            _ => Ok(()),
        }
    })?;
    Ok(Exit::Done)
}

/// A row of `period status`.
fn standing(period: &serde_json::Value) -> Vec<String> {
    /// Agents that are named in a row; the JSON has all.
    const NAMED: usize = 5;
    let text = |key: &str| period[key].as_str().unwrap_or("-").to_owned();
    let empty = Vec::new();
    let missing = period["missing"].as_array().unwrap_or(&empty);
    let mut named: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|missing| {
            let agent = missing["agent"].as_str().unwrap_or_default();
            let since = match missing["since"].as_str() {
                Some(since) => format!("since {since}"),
                None => "(never reported)".to_owned(),
            };
            let children = missing["for"].as_array().unwrap_or(&empty);
            let children: Vec<&str> = children.iter().filter_map(|name| name.as_str()).collect();
            if children.is_empty() {
                format!("{agent} {since}")
            } else {
                format!("{agent} {since} for {}", children.join(" and "))
            }
        })
        .collect();
    if missing.len() > NAMED {
        named.push(format!("{} more", missing.len() - NAMED));
    }
    let waits_for = if period["rounds"].as_u64() > Some(0) {
        format!("{}, late usage", text("waits_for"))
    } else {
        text("waits_for")
    };
    vec![
        text("tenant"),
        text("period"),
        text("end"),
        waits_for,
        text("settles_at"),
        if named.is_empty() {
            "-".to_owned()
        } else {
            named.join(", ")
        },
    ]
}

pub(super) fn status(args: &OutputArgs) -> Result<Exit, Failure> {
    let answer = ask(args, &AdminRequest::Status)?;
    Output::new(args.json).print(&answer, |out| writeln!(out, "{answer:#}"))?;
    Ok(Exit::Done)
}

pub(super) fn ask(args: &OutputArgs, request: &AdminRequest) -> Result<serde_json::Value, Failure> {
    let config = load::config(&args.config)?;
    runtime()?
        .block_on(admin::ask(&config.admin_socket, request))
        .map_err(Failure::failed)
}
