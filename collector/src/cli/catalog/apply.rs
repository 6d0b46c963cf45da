//! `catalog apply`, `keygen` and `sign`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tollgate_collector_core::entry::Signature;

use super::super::args::ApplyArgs;
use super::super::output::Output;
use super::super::{Exit, Failure, load, runtime};
use super::read_tested;
use super::versions::Store;
use crate::serve::admin::{self, AdminRequest};
use crate::signing::{self, SigningError, SigningKey};

pub(super) fn apply(args: &ApplyArgs) -> Result<Exit, Failure> {
    let config = load::config(&args.output.config)?;
    let key = args.key.as_deref().map(SigningKey::read).transpose();
    let key = key.map_err(|error| failed(&error))?;
    let (author, reason) = (args.author.clone(), args.reason.clone());
    let request = if let Some(text) = &args.approve {
        let digest = Store::open(&config)?.digest(text)?;
        AdminRequest::ApproveCatalog {
            digest,
            author,
            reason,
            signatures: key.iter().map(|key| key.sign(digest)).collect(),
        }
    } else {
        let (files, digest, mut signatures) = if let Some(text) = &args.version {
            let store = Store::open(&config)?;
            let digest = store.digest(text)?;
            (store.files(digest)?, digest, store.signatures(digest))
        } else {
            let (catalog, _) = read_tested(&config.catalog)?;
            let beside = signing::read_beside(&config.catalog);
            let beside = beside.map_err(|error| failed(&error))?;
            (catalog.files().clone(), catalog.digest(), beside)
        };
        if let Some(key) = &key {
            add(&mut signatures, key.sign(digest));
        }
        let tenants: BTreeSet<_> = args.tenants.iter().cloned().collect();
        AdminRequest::ApplyCatalog {
            files,
            tenants: (!tenants.is_empty()).then_some(tenants),
            author,
            reason,
            signatures,
        }
    };
    let answer = runtime()?
        .block_on(admin::ask(&config.admin_socket, &request))
        .map_err(Failure::failed)?;
    Output::new(args.output.json).print(&answer, |out| {
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        writeln!(out, "catalog  {}", text("digest"))?;
        if answer["proposed"] == true {
            return writeln!(
                out,
                "proposed; it waits for somebody else: tollgate-collector catalog apply --approve {} --author \
                 NAME --reason WHY",
                text("digest").get(..12).unwrap_or_default()
            );
        }
        let whom = match answer["tenants"].as_array() {
            Some(tenants) => {
                let names: Vec<&str> = tenants.iter().filter_map(Value::as_str).collect();
                names.join(", ")
            }
            None => "everybody".to_owned(),
        };
        writeln!(out, "in force for {whom} from {} on", text("from"))
    })?;
    Ok(Exit::Done)
}

fn failed(error: &SigningError) -> Failure {
    Failure::new(Exit::Config, error)
}

/// Adds a signature in place of an older one by the same key.
fn add(signatures: &mut Vec<Signature>, signature: Signature) {
    signatures.retain(|other| other.key != signature.key);
    signatures.push(signature);
}

pub(super) fn keygen(path: &Path, output: Output) -> Result<Exit, Failure> {
    let (key, pem) = SigningKey::generate().map_err(|error| failed(&error))?;
    signing::write_key(path, &pem).map_err(Failure::failed)?;
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.unwrap_or("name");
    let public = key.public();
    output.print(
        &json!({ "file": path.display().to_string(), "public": public }),
        |out| {
            writeln!(
                out,
                "{}: keep it where only its owner can read it",
                path.display()
            )?;
            writeln!(out, "for the collector's configuration:")?;
            writeln!(out, "[catalog.trusted_keys]")?;
            writeln!(out, "{name} = \"{public}\"")
        },
    )?;
    Ok(Exit::Done)
}

pub(super) fn sign(dir: &Path, key: &Path, output: Output) -> Result<Exit, Failure> {
    let key = SigningKey::read(key).map_err(|error| failed(&error))?;
    let (catalog, tests) = read_tested(dir)?;
    let digest = catalog.digest();
    let mut signatures = signing::read_beside(dir).map_err(|error| failed(&error))?;
    // Those of former contents say nothing any more.
    signatures.retain(|signature| signing::is_valid(signature, digest));
    add(&mut signatures, key.sign(digest));
    let path = signing::write_beside(dir, &signatures).map_err(|error| failed(&error))?;
    let summary = json!({
        "digest": digest,
        "tests": tests,
        "file": path.display().to_string(),
        "signatures": signatures,
    });
    output.print(&summary, |out| {
        writeln!(
            out,
            "{digest} is signed by {} key(s) in {}",
            signatures.len(),
            path.display()
        )
    })?;
    Ok(Exit::Done)
}
