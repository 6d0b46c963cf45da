//! `check`.

use serde_json::json;

use super::args::OutputArgs;
use super::catalog::described;
use super::output::{Output, counted};
use super::{Exit, Failure, load};
use crate::run::{InputError, read_catalog};

pub(super) fn check(args: &OutputArgs) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let catalog = read_catalog(&config).map_err(|error| load::input_failure(&error))?;
    let inputs = load::inputs(&config)?;
    let tests = catalog.run_tests().map_err(|errors| {
        load::input_failure(&InputError::Catalog {
            dir: config.catalog.clone(),
            errors,
            files: catalog.files().clone(),
        })
    })?;
    let certificate = inputs.credentials.certificate.certificate_info().ok();
    let agents: Vec<_> = config
        .policy
        .rules()
        .iter()
        .map(|rule| rule.name.as_str().to_owned())
        .collect();
    let (meters, cards, profiles) = (
        catalog.meters().count(),
        catalog.cards().count(),
        catalog.profiles().count(),
    );
    let summary = json!({
        "config": args.config.config,
        "data_dir": config.data_dir,
        "listen": config.listen,
        "http": config.http,
        "admin_socket": config.admin_socket,
        "catalog": { "digest": catalog.digest(), "meters": meters, "cards": cards, "profiles": profiles, "tests": tests },
        "policy": { "digest": config.policy.digest(), "agents": agents },
        "certificate": certificate.as_ref().map(|info| json!({
            "subject": info.subject,
            "not_after": info.not_after.to_string(),
        })),
    });
    Output::new(args.json).print(&summary, |out| {
        writeln!(out, "configuration  {}", args.config.config.display())?;
        writeln!(out, "data folder    {}", config.data_dir.display())?;
        writeln!(out, "agents (QUIC)  {}", config.listen)?;
        writeln!(out, "HTTP           {}", config.http)?;
        writeln!(out, "admin socket   {}", config.admin_socket.display())?;
        writeln!(
            out,
            "catalog        {}",
            described([meters, cards, profiles], tests)
        )?;
        writeln!(
            out,
            "policy         {}: {}",
            counted(agents.len(), "agent rule"),
            agents.join(", ")
        )?;
        if let Some(info) = certificate {
            writeln!(
                out,
                "certificate    {}, valid until {}",
                info.subject, info.not_after
            )?;
        }
        writeln!(out, "all is well")
    })?;
    Ok(Exit::Done)
}
