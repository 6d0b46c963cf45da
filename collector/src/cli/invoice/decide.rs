//! Decisions about documents and entries, which the running collector takes.

use serde_json::{Value, json};
use tollgate_collector_core::fold::tenant::WishedDocument;
use tollgate_common::TenantId;

use crate::cli::args::{Decision, OutputArgs};
use crate::cli::output::Output;
use crate::cli::{Exit, Failure, load, runtime};
use crate::serve::admin::{self, AdminRequest};

pub(super) fn wish(tenant: TenantId, what: WishedDocument, decision: &Decision) -> AdminRequest {
    AdminRequest::Issue {
        tenant,
        what,
        author: decision.author.clone(),
        reason: decision.reason.clone(),
    }
}

pub(super) fn issue(
    args: &OutputArgs,
    tenant: Option<TenantId>,
    what: &WishedDocument,
    decision: &Decision,
) -> Result<Exit, Failure> {
    if let Some(tenant) = tenant {
        let answer = ask(args, &wish(tenant, what.clone(), decision))?;
        return tell(args, &[answer]);
    }
    let dues = ask(args, &AdminRequest::Dues)?;
    let tenants: Vec<TenantId> = serde_json::from_value(dues["tenants"].clone())
        .map_err(|_| Failure::failed("the collector's answer cannot be read"))?;
    let mut answers = Vec::new();
    for tenant in tenants {
        let request = wish(tenant.clone(), what.clone(), decision);
        // What is kept back for one tenant does not keep back the others.
        answers.push(match answer_of(args, &request)? {
            Ok(answer) => answer,
            Err(reason) => json!({ "tenant": tenant, "kept_back": reason }),
        });
    }
    tell(args, &answers)
}

pub(in crate::cli) fn tell(args: &OutputArgs, answers: &[Value]) -> Result<Exit, Failure> {
    // Several documents over one sum are told one by one.
    let answers = answers
        .iter()
        .flat_map(|answer| match &answer["documents"] {
            Value::Array(several) => several.clone(),
            _ => vec![answer.clone()],
        });
    let answers: Vec<Value> = answers.collect();
    Output::new(args.json).print(&answers, |out| {
        for answer in &answers {
            let text = |key: &str| match &answer[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if !answer["waits"].is_null() {
                writeln!(
                    out,
                    "waits for a second person: approval give {}",
                    answer["waits"]
                )?;
            } else if !answer["kept_back"].is_null() {
                writeln!(out, "{}: {}", text("tenant"), text("kept_back"))?;
            } else if !answer["number"].is_null() {
                writeln!(
                    out,
                    "{} {} for {}: {} {}",
                    text("kind"),
                    text("number"),
                    text("tenant"),
                    text("total"),
                    text("currency")
                )?;
            } else if !answer["entry"].is_null() {
                writeln!(out, "booked {} as {}", text("kind"), text("entry"))?;
            } else {
                writeln!(out, "{answer:#}")?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

/// What the running collector answers.
pub(in crate::cli) fn ask(args: &OutputArgs, request: &AdminRequest) -> Result<Value, Failure> {
    answer_of(args, request)?.map_err(Failure::failed)
}

/// The same; inside, why it refuses.
fn answer_of(args: &OutputArgs, request: &AdminRequest) -> Result<Result<Value, String>, Failure> {
    let config = load::config(&args.config)?;
    match runtime()?.block_on(admin::ask(&config.admin_socket, request)) {
        Ok(answer) => Ok(Ok(answer)),
        Err(admin::AdminError::Refused(reason)) => Ok(Err(reason)),
        Err(error) => Err(Failure::failed(error)),
    }
}
