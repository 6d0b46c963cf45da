//! The files of a catalog: which there are, how large they may be, and their digest.

use std::collections::BTreeMap;

use super::error::{CatalogError, CatalogErrors};
use crate::entry::Digest;

/// Most files of a catalog.
pub const CATALOG_FILES_MAX: usize = 4096;
/// Longest file of a catalog, in bytes.
pub const CATALOG_FILE_BYTES_MAX: usize = 1 << 20;
/// Longest catalog in all, in bytes; it travels as one journal entry.
pub const CATALOG_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(CATALOG_BYTES_MAX < tollgate_common::limits::RECORD_BYTES_MAX);

/// Which part of the catalog a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Meters,
    Calendars,
    Taxes,
    Units,
    Exchange,
    Cards,
    Templates,
    Profiles,
    Tests,
}

impl Part {
    pub(super) fn of(path: &str) -> Option<Self> {
        if path == "meters.toml" {
            return Some(Self::Meters);
        }
        if let Some(name) = path.strip_suffix(".test.toml") {
            let (folder, name) = name.split_once('/').unwrap_or(("tests", name));
            let known = folder == "tests" || Self::in_folder(folder).is_some();
            return (known && !name.is_empty() && !name.contains('/')).then_some(Self::Tests);
        }
        let (folder, file) = path.split_once('/')?;
        let name = file.strip_suffix(".toml")?;
        if name.is_empty() || name.contains('/') {
            return None;
        }
        Self::in_folder(folder)
    }

    /// What the files of a folder hold.
    fn in_folder(folder: &str) -> Option<Self> {
        match folder {
            "meters" => Some(Self::Meters),
            "calendars" => Some(Self::Calendars),
            "tax" => Some(Self::Taxes),
            "units" => Some(Self::Units),
            "rates" => Some(Self::Exchange),
            "cards" => Some(Self::Cards),
            "templates" => Some(Self::Templates),
            "profiles" => Some(Self::Profiles),
            _ => None,
        }
    }
}

pub(super) fn check_sizes(files: &BTreeMap<String, String>, errors: &mut Vec<CatalogError>) {
    let mut refuse = |file: &str, message: String| {
        if errors.len() < CatalogErrors::MAX {
            errors.push(CatalogError {
                file: file.chars().take(256).collect(),
                line: 0,
                column: 0,
                span: 0..0,
                key: String::new(),
                message,
            });
        }
    };
    if files.len() > CATALOG_FILES_MAX {
        let message = format!(
            "{} files, more than the {CATALOG_FILES_MAX} allowed",
            files.len()
        );
        refuse("catalog", message);
        return;
    }
    let bytes: usize = files
        .iter()
        .map(|(path, text)| path.len() + text.len())
        .sum();
    if bytes > CATALOG_BYTES_MAX {
        refuse(
            "catalog",
            format!("{bytes} bytes, more than the {CATALOG_BYTES_MAX} allowed"),
        );
    }
    for (path, text) in files {
        if text.len() > CATALOG_FILE_BYTES_MAX {
            let message = format!(
                "{} bytes, more than the {CATALOG_FILE_BYTES_MAX} allowed",
                text.len()
            );
            refuse(path, message);
        }
        if Part::of(path).is_none() {
            refuse(
                path,
                "not a file of a catalog (expected meters.toml, meters/NAME.toml, \
                 calendars/NAME.toml, tax/NAME.toml, units/NAME.toml, rates/NAME.toml, cards/NAME.toml, \
                 templates/NAME.toml, profiles/NAME.toml or NAME.test.toml)"
                    .to_owned(),
            );
        }
    }
}

/// BLAKE3 over the sorted files: the text `tollgate catalog v1` and a zero byte, the number
/// of files, then length and bytes of each path and each content; numbers are `u64`
/// little-endian.
pub(super) fn digest(files: &BTreeMap<String, String>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tollgate catalog v1\0");
    hasher.update(&(files.len() as u64).to_le_bytes());
    for text in files.iter().flat_map(|(path, text)| [path, text]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}
