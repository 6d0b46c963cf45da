//! `catalog`: what is in force, what was, and what is to be.

mod apply;
mod plan;
mod versions;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tollgate_collector_core::catalog::{Catalog, CatalogErrors};

use super::args::CatalogCommand;
use super::output::{Output, counted};
use super::{Exit, Failure, load};
use crate::catalog_dir;
use crate::run::InputError;

pub(super) fn run(command: CatalogCommand) -> Result<Exit, Failure> {
    match command {
        CatalogCommand::Check { catalog, json } => check(&catalog, Output::new(json)),
        CatalogCommand::Test { catalog, json } => test(&catalog, Output::new(json)),
        CatalogCommand::Plan { output, tenants } => plan::plan(&output, &tenants),
        CatalogCommand::Apply(args) => apply::apply(&args),
        CatalogCommand::History { output, tenant } => versions::history(&output, tenant.as_ref()),
        CatalogCommand::Show {
            output,
            version,
            file,
        } => versions::show(&output, &version, file.as_deref()),
        CatalogCommand::Diff {
            output,
            before,
            after,
        } => versions::compare(&output, &before, &after),
        CatalogCommand::Keygen { out, json } => apply::keygen(&out, Output::new(json)),
        CatalogCommand::Sign { catalog, key, json } => {
            apply::sign(&catalog, &key, Output::new(json))
        }
    }
}

/// Reads and checks the catalog in a folder.
pub(super) fn read_catalog(dir: &Path) -> Result<Catalog, Failure> {
    let files = catalog_dir::read(dir).map_err(|error| Failure::new(Exit::Config, error))?;
    Catalog::parse(&files).map_err(|errors| refused(dir, errors, files))
}

/// Reads and checks the catalog in a folder and runs its tests; says how many there are.
fn read_tested(dir: &Path) -> Result<(Catalog, usize), Failure> {
    let catalog = read_catalog(dir)?;
    let tests = catalog
        .run_tests()
        .map_err(|errors| refused(dir, errors, catalog.files().clone()))?;
    Ok((catalog, tests))
}

pub(super) fn refused(
    dir: &Path,
    errors: CatalogErrors,
    files: BTreeMap<String, String>,
) -> Failure {
    load::input_failure(&InputError::Catalog {
        dir: dir.to_owned(),
        errors,
        files,
    })
}

/// How much there is of meters, rate cards and profiles.
pub(super) fn described([meters, cards, profiles]: [usize; 3], tests: usize) -> String {
    format!(
        "{}, {}, {}; {} passed",
        counted(meters, "meter"),
        counted(cards, "rate card"),
        counted(profiles, "profile"),
        counted(tests, "test"),
    )
}

fn check(dir: &Path, output: Output) -> Result<Exit, Failure> {
    let (catalog, tests) = read_tested(dir)?;
    let (meters, cards, profiles) = (
        catalog.meters().count(),
        catalog.cards().count(),
        catalog.profiles().count(),
    );
    let summary = json!({
        "digest": catalog.digest(),
        "meters": meters,
        "cards": cards,
        "profiles": profiles,
        "tests": tests,
    });
    output.print(&summary, |out| {
        writeln!(out, "digest  {}", catalog.digest())?;
        writeln!(out, "{}", described([meters, cards, profiles], tests))
    })?;
    Ok(Exit::Done)
}

fn test(dir: &Path, output: Output) -> Result<Exit, Failure> {
    let catalog = read_catalog(dir)?;
    let results: Vec<(&str, Option<CatalogErrors>)> = catalog
        .tests()
        .map(|path| (path, catalog.run_test(path).err()))
        .collect();
    let failed = results
        .iter()
        .filter(|(_, errors)| errors.is_some())
        .count();
    let shown: Vec<_> = results
        .iter()
        .map(|(path, errors)| {
            let errors = errors.iter().flat_map(CatalogErrors::errors);
            let errors: Vec<String> = errors.map(ToString::to_string).collect();
            json!({ "test": path, "passed": errors.is_empty(), "errors": errors })
        })
        .collect();
    output.print(&json!({ "failed": failed, "tests": shown }), |out| {
        for (path, errors) in &results {
            let Some(errors) = errors else {
                writeln!(out, "pass  {path}")?;
                continue;
            };
            writeln!(out, "FAIL  {path}")?;
            for error in errors.errors() {
                writeln!(out, "      {error}")?;
            }
        }
        writeln!(out, "{} tests, {failed} failed", results.len())
    })?;
    Ok(if failed == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}
