//! The key `catalog`: a folder, or a table that also says who may change prices.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::CatalogRules;
use super::raw::Check;
use crate::entry::PublicKey;

/// The folder unless the file names another one.
const FOLDER: &str = "catalog";
/// Most keys that are trusted.
const KEYS_MAX: usize = 64;

/// `catalog = "FOLDER"`, or `[catalog]`.
pub(super) enum RawCatalog {
    Folder(String),
    Table(RawTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTable {
    folder: Option<Spanned<String>>,
    require_signature: Option<Spanned<bool>>,
    second_person: Option<Spanned<bool>>,
    #[serde(default)]
    trusted_keys: BTreeMap<String, Spanned<String>>,
}

impl<'de> Deserialize<'de> for RawCatalog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FolderOrTable;

        impl<'de> Visitor<'de> for FolderOrTable {
            type Value = RawCatalog;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the catalog's folder or a table")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawCatalog, E> {
                Ok(RawCatalog::Folder(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCatalog, A::Error> {
                RawTable::deserialize(MapAccessDeserializer::new(map)).map(RawCatalog::Table)
            }
        }

        deserializer.deserialize_any(FolderOrTable)
    }
}

/// The folder, and who may change prices.
pub(super) fn check(
    check: &mut Check<'_>,
    raw: Option<Spanned<RawCatalog>>,
) -> Option<(PathBuf, CatalogRules)> {
    let default = || Spanned::new(0..0, FOLDER.to_owned());
    let Some(raw) = raw else {
        return Some((check.path(&default())?, CatalogRules::default()));
    };
    let span = raw.span();
    let table = match raw.into_inner() {
        RawCatalog::Folder(folder) => {
            let folder = check.path(&Spanned::new(span, folder))?;
            return Some((folder, CatalogRules::default()));
        }
        RawCatalog::Table(table) => table,
    };
    let folder = check.path(&table.folder.unwrap_or_else(default));
    let trusted_keys = trusted_keys(check, &table.trusted_keys);
    let is_set = |value: &Option<Spanned<bool>>| value.as_ref().is_some_and(|v| *v.get_ref());
    let rules = CatalogRules {
        require_signature: is_set(&table.require_signature),
        second_person: is_set(&table.second_person),
        trusted_keys,
    };
    let needed = 1 + usize::from(rules.second_person);
    // Counted as they stand in the file: a key with a mistake is not also one too few.
    if rules.require_signature && table.trusted_keys.len() < needed {
        let span = table.require_signature.map_or(span, |value| value.span());
        let message = format!(
            "nobody could sign (expected at least {needed} in [catalog.trusted_keys], such as \
             kim = \"64 hexadecimal digits\")"
        );
        check.report(span, message);
    }
    Some((folder?, rules))
}

fn trusted_keys(
    check: &mut Check<'_>,
    given: &BTreeMap<String, Spanned<String>>,
) -> BTreeMap<String, PublicKey> {
    let mut keys = BTreeMap::new();
    for (name, text) in given {
        let key: PublicKey = match text.get_ref().parse() {
            Ok(key) => key,
            Err(error) => {
                let message = format!(
                    "{error} (expected the key that `tollgate-collector catalog keygen` shows)"
                );
                check.report(text.span(), message);
                continue;
            }
        };
        if keys.len() == KEYS_MAX {
            check.report(
                text.span(),
                format!("more than the {KEYS_MAX} keys allowed"),
            );
            break;
        }
        if keys.values().any(|known| *known == key) {
            check.report(text.span(), "the same key is listed twice");
        }
        keys.insert(name.clone(), key);
    }
    keys
}
