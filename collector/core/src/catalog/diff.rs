//! What differs between two catalogs, key by key.
//!
//! Files are compared by what they say, not by their text. Entries of arrays that have an `id` or a
//! `name` are matched by it, so that a price that moves is no other price. A card version that is
//! new is compared with the version that it follows.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

/// Longest value that is shown whole, in characters.
const SHOWN_MAX: usize = 200;
/// Most differences that are listed.
pub const CHANGES_MAX: usize = 10_000;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// In which file.
    pub file: String,
    /// Which key, such as `price requests: tiers[1].unit`; empty for the file itself.
    pub key: String,
    /// What stood there; `None` if it is new.
    pub before: Option<String>,
    /// What stands there; `None` if it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{before} -> {after}"),
            (Some(before), None) => write!(f, "gone, was {before}"),
            (None, Some(after)) => write!(f, "new, {after}"),
            (None, None) => f.write_str("only comments or layout"),
        }
    }
}

/// What differs, in the order of the files; at most [`CHANGES_MAX`].
pub fn diff(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Change> {
    let mut changes = Changes {
        file: String::new(),
        found: Vec::new(),
    };
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        path.clone_into(&mut changes.file);
        match (before.get(path), after.get(path)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => {
                let known = changes.found.len();
                let (old, new) = (parse(old), parse(new));
                changes.tables(&old, &new, "");
                if changes.found.len() == known {
                    changes.add("", None, None);
                }
            }
            (Some(old), None) => changes.add("", Some(title(path, &parse(old))), None),
            (None, Some(new)) => {
                let new = parse(new);
                let predecessor = predecessor(path, &new, after);
                let follows = predecessor.as_ref().map(|(path, _)| path.as_str());
                let follows = follows.map_or_else(String::new, |path| format!(", follows {path}"));
                changes.add("", None, Some(format!("{}{follows}", title(path, &new))));
                if let Some((_, old)) = predecessor {
                    changes.tables(&old, &new, "");
                }
            }
            (None, None) => {}
        }
    }
    changes.found
}

/// What a file that does not parse says is its text.
fn parse(text: &str) -> Table {
    toml::from_str(text)
        .unwrap_or_else(|_| Table::from_iter([("text".to_owned(), Value::String(text.to_owned()))]))
}

/// A file in a few words.
fn title(path: &str, table: &Table) -> String {
    let text = |key| table.get(key).and_then(Value::as_str).unwrap_or("?");
    match path.split_once('/').map(|(folder, _)| folder) {
        Some("cards") => format!("card {} from {}", text("id"), text("from")),
        Some("templates") => format!("template {}", text("id")),
        Some("profiles") => format!("profile of {}", text("tenant")),
        _ => format!("{} keys", table.len()),
    }
}

/// The newest older version of the card that a file holds.
fn predecessor(
    path: &str,
    card: &Table,
    files: &BTreeMap<String, String>,
) -> Option<(String, Table)> {
    let text = |table: &Table, key: &str| Some(table.get(key)?.as_str()?.to_owned());
    let (id, from) = (text(card, "id")?, text(card, "from")?);
    let others = files.iter().filter(|(other, _)| *other != path);
    let versions = others.filter_map(|(path, content)| {
        let table = parse(content);
        let begins = text(&table, "from").filter(|begins| *begins < from)?;
        (text(&table, "id")? == id).then(|| (begins, path.clone(), table))
    });
    // Dates are as long as each other, so they order as texts.
    let newest = versions.max_by(|a, b| a.0.cmp(&b.0));
    newest.map(|(_, path, table)| (path, table))
}

struct Changes {
    file: String,
    found: Vec<Change>,
}

impl Changes {
    fn add(&mut self, key: &str, before: Option<String>, after: Option<String>) {
        if self.found.len() < CHANGES_MAX {
            self.found.push(Change {
                file: self.file.clone(),
                key: key.to_owned(),
                before,
                after,
            });
        }
    }

    fn tables(&mut self, before: &Table, after: &Table, path: &str) {
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() || path.ends_with(": ") {
                format!("{path}{key}")
            } else {
                format!("{path}.{key}")
            };
            self.values(before.get(key), after.get(key), &path);
        }
    }

    fn values(&mut self, before: Option<&Value>, after: Option<&Value>, path: &str) {
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                self.tables(before, after, path);
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => {
                self.arrays(before, after, path);
            }
            // An array that comes or goes comes or goes entry by entry.
            (None, Some(Value::Array(after))) => self.arrays(&[], after, path),
            (Some(Value::Array(before)), None) => self.arrays(before, &[], path),
            (None, None) => {}
            (before, after) => self.add(path, before.map(shown), after.map(shown)),
        }
    }

    fn arrays(&mut self, before: &[Value], after: &[Value], path: &str) {
        let (Some(old), Some(new)) = (names(before), names(after)) else {
            for at in 0..Ord::max(before.len(), after.len()) {
                self.values(before.get(at), after.get(at), &format!("{path}[{at}]"));
            }
            return;
        };
        for (name, value) in old.iter().zip(before) {
            let found = new.iter().position(|other| other == name);
            let path = format!("{path} {name}: ");
            match (value, found.map(|at| &after[at])) {
                (Value::Table(old), Some(Value::Table(new))) => self.tables(old, new, &path),
                (value, _) => self.add(path.trim_end_matches(": "), Some(shown(value)), None),
            }
        }
        for (name, value) in new.iter().zip(after) {
            if !old.contains(name) {
                self.add(&format!("{path} {name}"), None, Some(shown(value)));
            }
        }
        let common = |these: &[&str], others: &[&str]| -> Vec<String> {
            let kept = these.iter().filter(|name| others.contains(name));
            kept.map(|name| (*name).to_owned()).collect()
        };
        let (was, is) = (common(&old, &new), common(&new, &old));
        if was != is {
            self.add(
                &format!("order of {path}"),
                Some(was.join(", ")),
                Some(is.join(", ")),
            );
        }
    }
}

/// The names of the entries, if each has one of its own.
fn names(entries: &[Value]) -> Option<Vec<&str>> {
    let names: Vec<&str> = entries
        .iter()
        .map(|entry| {
            let table = entry.as_table()?;
            table.get("id").or_else(|| table.get("name"))?.as_str()
        })
        .collect::<Option<_>>()?;
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == names.len()).then_some(names)
}

fn shown(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    if text.chars().count() <= SHOWN_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(SHOWN_MAX).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::super::tests::sound_files;
    use super::*;

    fn changed(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<String> {
        let before = sound_files();
        let mut after = before.clone();
        change(&mut after);
        let changes = diff(&before, &after);
        changes.iter().map(ToString::to_string).collect()
    }

    fn replace(files: &mut BTreeMap<String, String>, path: &str, from: &str, to: &str) {
        let text = files.get_mut(path).expect("there");
        assert!(text.contains(from), "{from}");
        *text = text.replacen(from, to, 1);
    }

    #[test]
    fn a_price_is_compared_key_by_key() {
        assert!(changed(|_| {}).is_empty());
        let shown = changed(|files| {
            let card = "cards/edge.toml";
            replace(files, card, "0.25", "0.30");
            replace(files, card, "1 GB", "1 GiB");
            replace(files, "profiles/acme.toml", "Berlin", "Paris");
        });
        assert_eq!(
            shown,
            [
                "cards/edge.toml: price requests: tiers[1].unit: \"0.25\" -> \"0.30\"",
                "cards/edge.toml: price traffic: per: \"1 GB\" -> \"1 GiB\"",
                "profiles/acme.toml: zone: \"Europe/Berlin\" -> \"Europe/Paris\"",
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_named() {
        let shown = changed(|files| {
            let card = "cards/edge.toml";
            let fee = "\n[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"1\"\n";
            files.get_mut(card).expect("there").push_str(fee);
            replace(files, card, "  { unit = \"0.25\" },\n", "");
            files.remove("profiles/acme.toml");
            replace(
                files,
                "meters.toml",
                "[[meter]]",
                "# units are UCUM\n[[meter]]",
            );
        });
        assert_eq!(
            shown,
            [
                "cards/edge.toml: price requests: tiers[1]: gone, was { unit = \"0.25\" }",
                "cards/edge.toml: price fee: new, { flat = \"1\", id = \"fee\", model = \"flat\" }",
                "meters.toml: only comments or layout",
                "profiles/acme.toml: gone, was profile of acme",
            ]
        );
    }

    #[test]
    fn a_new_version_of_a_card_is_compared_with_the_one_before() {
        let shown = changed(|files| {
            let next = files["cards/edge.toml"]
                .replace("2026-01-01", "2026-07-01")
                .replace("0.08", "0.09");
            files.insert("cards/edge-july.toml".to_owned(), next);
        });
        assert_eq!(
            shown,
            [
                "cards/edge-july.toml: new, card edge from 2026-07-01, follows cards/edge.toml",
                "cards/edge-july.toml: from: \"2026-01-01\" -> \"2026-07-01\"",
                "cards/edge-july.toml: price traffic: unit: \"0.08\" -> \"0.09\"",
            ]
        );
    }

    #[test]
    fn the_order_of_lines_is_compared_too() {
        let before = BTreeMap::from([(
            "a.toml".to_owned(),
            "[[price]]\nid = \"a\"\n[[price]]\nid = \"b\"".to_owned(),
        )]);
        let after = BTreeMap::from([(
            "a.toml".to_owned(),
            "[[price]]\nid = \"b\"\n[[price]]\nid = \"a\"".to_owned(),
        )]);
        let shown: Vec<String> = diff(&before, &after)
            .iter()
            .map(Change::to_string)
            .collect();
        assert_eq!(shown, ["a.toml: order of price: a, b -> b, a"]);
    }

    #[test]
    fn what_is_no_toml_is_compared_as_text() {
        let of = |text: &str| BTreeMap::from([("a.toml".to_owned(), text.to_owned())]);
        let shown = diff(&of("= 1"), &of("= 2"));
        assert_eq!(shown[0].to_string(), "a.toml: text: \"= 1\" -> \"= 2\"");
    }
}
