//! `catalog history`, `show` and `diff`: versions that were applied, from the data folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tollgate_collector_core::catalog::diff;
use tollgate_collector_core::catalog::timeline::takes_effect;
use tollgate_collector_core::config::{CatalogRules, Config};
use tollgate_collector_core::entry::{Digest, Signature};
use tollgate_common::TenantId;

use super::super::args::OutputArgs;
use super::super::output::{Output, table};
use super::super::{Exit, Failure, load};
use super::read_catalog;
use crate::run::DataDir;
use crate::signing;
use crate::sqlite::query::{CatalogRow, Reader};

/// Digits of a digest in tables.
const DIGITS_SHOWN: usize = 12;

/// The versions in the data folder.
pub(super) struct Store {
    pub(super) reader: Reader,
    pub(super) rows: Vec<CatalogRow>,
}

impl Store {
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let path = DataDir::new(&config.data_dir).projection();
        let reader = Reader::open(&path).map_err(Failure::failed)?;
        let rows = reader.catalogs().map_err(Failure::failed)?;
        Ok(Self { reader, rows })
    }

    /// The version whose digest begins with `digits`.
    pub(super) fn digest(&self, digits: &str) -> Result<Digest, Failure> {
        let digits = digits.to_lowercase();
        let mut found: Vec<Digest> = self.rows.iter().map(|row| row.change.digest).collect();
        found.retain(|digest| digest.is_named_by(&digits));
        found.sort_unstable();
        found.dedup();
        match *found {
            [digest] => Ok(digest),
            [] => Err(Failure::failed(format!(
                "no version has a digest that begins with `{digits}` (expected at least {} digits of one \
                 that `catalog history` lists)",
                Digest::DIGITS_MIN
            ))),
            _ => Err(Failure::failed(format!(
                "{} versions have digests that begin with `{digits}` (say more digits)",
                found.len()
            ))),
        }
    }

    pub(super) fn files(&self, digest: Digest) -> Result<BTreeMap<String, String>, Failure> {
        let files = self.reader.catalog_files(digest).map_err(Failure::failed)?;
        files.ok_or_else(|| {
            Failure::failed(format!("the files of {digest} are not in the data folder"))
        })
    }

    /// What vouched for a version when it was applied last.
    pub(super) fn signatures(&self, digest: Digest) -> Vec<Signature> {
        let mut signatures: Vec<Signature> = Vec::new();
        let rows = self.rows.iter().filter(|row| row.change.digest == digest);
        for signature in rows.flat_map(|row| &row.change.signatures) {
            if signatures.iter().all(|known| known.key != signature.key) {
                signatures.push(*signature);
            }
        }
        signatures
    }

    /// What is in force for everybody.
    pub(super) fn applied(&self) -> Option<&CatalogRow> {
        let mut rows = self.rows.iter().rev();
        rows.find(|row| !row.change.proposed && row.change.tenants.is_none())
    }
}

/// The files of a version by what somebody calls it.
fn files_of(config: &Config, version: &str) -> Result<BTreeMap<String, String>, Failure> {
    if version == "folder" {
        return Ok(read_catalog(&config.catalog)?.files().clone());
    }
    if Path::new(version).is_dir() {
        return Ok(read_catalog(Path::new(version))?.files().clone());
    }
    let store = Store::open(config)?;
    let digest = if version == "applied" {
        let applied = store.applied().map(|row| row.change.digest);
        applied.ok_or_else(|| Failure::failed("no catalog was applied yet"))?
    } else {
        store.digest(version)?
    };
    store.files(digest)
}

/// What became of a version.
fn state(rows: &[CatalogRow], at: usize) -> &'static str {
    let row = &rows[at];
    let mut later = rows[at + 1..].iter().filter(|row| !row.change.proposed);
    if row.change.proposed {
        return match later.next() {
            None => "proposed",
            Some(next) if next.change.approves == Some(row.position) => "approved",
            Some(_) => "passed over",
        };
    }
    // What is limited to some tenants replaces nothing for the others.
    let replaced = later.any(|next| match (&next.change.tenants, &row.change.tenants) {
        (None, _) => true,
        (Some(theirs), Some(ours)) => ours.is_subset(theirs),
        (Some(_), None) => false,
    });
    if replaced { "replaced" } else { "in force" }
}

/// By whom a version is signed, as far as the signature fits.
fn signers(row: &CatalogRow, rules: &CatalogRules) -> Vec<String> {
    let signatures = row.change.signatures.iter();
    signatures
        .map(|signature| {
            if !signing::is_valid(signature, row.change.digest) {
                return format!("INVALID {}", signature.key);
            }
            let name = signing::name_of(signature.key, rules).map(str::to_owned);
            name.unwrap_or_else(|| format!("unknown key {}", signature.key))
        })
        .collect()
}

pub(super) fn history(args: &OutputArgs, tenant: Option<&TenantId>) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let store = Store::open(&config)?;
    let concerns = |row: &CatalogRow| match (&row.change.tenants, tenant) {
        (Some(tenants), Some(tenant)) => tenants.contains(tenant),
        _ => true,
    };
    let listed: Vec<Value> = store
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| concerns(row))
        .map(|(at, row)| {
            let change = &row.change;
            json!({
                "digest": change.digest,
                "position": row.position,
                "stamp": row.stamp.to_string(),
                "from": (!change.proposed).then(|| takes_effect(row.stamp).to_string()),
                "author": change.author,
                "reason": change.reason,
                "tenants": change.tenants,
                "signed_by": signers(row, &config.catalog_rules),
                "approves": change.approves,
                "state": state(&store.rows, at),
            })
        })
        .collect();
    Output::new(args.json).print(&listed, |out| {
        let cells = listed.iter().map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            let list = |key: &str, none: &str| {
                let items = row[key].as_array().into_iter().flatten();
                let items: Vec<&str> = items.filter_map(Value::as_str).collect();
                if items.is_empty() {
                    none.to_owned()
                } else {
                    items.join(", ")
                }
            };
            let mut digest = text("digest");
            digest.truncate(DIGITS_SHOWN);
            vec![
                digest,
                text("from"),
                text("state"),
                text("author"),
                list("tenants", "everybody"),
                list("signed_by", "-"),
                text("reason"),
            ]
        });
        let rows: Vec<Vec<String>> = cells.collect();
        let heading = [
            "VERSION",
            "IN FORCE FROM",
            "STATE",
            "AUTHOR",
            "FOR",
            "SIGNED BY",
            "REASON",
        ];
        table(out, &heading, &rows)
    })?;
    Ok(Exit::Done)
}

pub(super) fn show(args: &OutputArgs, version: &str, file: Option<&str>) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let files = files_of(&config, version)?;
    let output = Output::new(args.json);
    let Some(file) = file else {
        let sizes: BTreeMap<&String, usize> = files
            .iter()
            .map(|(path, text)| (path, text.len()))
            .collect();
        output.print(&files, |out| {
            let rows = sizes
                .iter()
                .map(|(path, bytes)| vec![(*path).clone(), bytes.to_string()]);
            table(out, &["FILE", "BYTES"], &rows.collect::<Vec<_>>())
        })?;
        return Ok(Exit::Done);
    };
    let text = files.get(file).ok_or_else(|| {
        Failure::failed(format!(
            "the version has no file `{file}` (`catalog show {version}` lists them)"
        ))
    })?;
    output.print(text, |out| out.write_all(text.as_bytes()))?;
    Ok(Exit::Done)
}

pub(super) fn compare(args: &OutputArgs, before: &str, after: &str) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let changes = diff::diff(&files_of(&config, before)?, &files_of(&config, after)?);
    Output::new(args.json).print(&changes, |out| {
        for change in &changes {
            writeln!(out, "{change}")?;
        }
        if changes.is_empty() {
            writeln!(out, "no difference")?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
