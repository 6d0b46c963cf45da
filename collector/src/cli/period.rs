//! `period list`, `period close` and `status`.

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

pub(super) fn status(args: &OutputArgs) -> Result<Exit, Failure> {
    let answer = ask(args, &AdminRequest::Status)?;
    Output::new(args.json).print(&answer, |out| writeln!(out, "{answer:#}"))?;
    Ok(Exit::Done)
}

fn ask(args: &OutputArgs, request: &AdminRequest) -> Result<serde_json::Value, Failure> {
    let config = load::config(&args.config)?;
    runtime()?
        .block_on(admin::ask(&config.admin_socket, request))
        .map_err(Failure::failed)
}
