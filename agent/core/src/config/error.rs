//! Errors that point at the text of a configuration.

use std::fmt;
use std::ops::Range;

use tollgate_common::mistakes::{InText, Mistakes};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a configuration: where it is, what is wrong, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Bytes of the text that the mistake is about; may be empty at the end of the text.
    pub span: Range<usize>,
    /// Line of the first of these bytes, from 1.
    pub line: usize,
    /// Column of it in characters, from 1.
    pub column: usize,
    /// The key as a path, such as `rule[0].tenant`; elements are numbered from 0. Empty where
    /// the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right, where the message does not say it.
    pub expected: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, ", key `{}`", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.expected {
            Some(expected) => write!(f, " (expected {expected})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl InText for ConfigError {
    fn start(&self) -> usize {
        self.span.start
    }
}

/// All mistakes that were found in a configuration.
pub type ConfigErrors = Mistakes<ConfigError>;

/// The error for `span` of `text`.
pub(super) fn error_at(
    text: &str,
    span: Range<usize>,
    message: String,
    expected: Option<String>,
) -> ConfigError {
    let start = span.start.min(text.len());
    let before = text.get(..start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    ConfigError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key: key_at(text, start),
        span: start..span.end.clamp(start, text.len()),
        message,
        expected,
    }
}

/// The error that the TOML reader gave.
pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> ConfigError {
    let message = error.message().trim().replace('\n', "; ");
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
        .map(str::to_owned);
    let mut error = error_at(text, error.span().unwrap_or(0..0), message, None);
    if let Some(field) = missing {
        // The span of a table without a key of its own ends with the table: point at its
        // beginning only.
        let first_line = text[error.span.start..].find('\n');
        let end = first_line.map_or(text.len(), |at| error.span.start + at);
        error.span.end = error.span.end.min(end);
        error.key = match error.key.as_str() {
            "" => field.clone(),
            table => format!("{table}.{field}"),
        };
        "key is missing".clone_into(&mut error.message);
        error.expected = Some(super::raw::describe(&error.key).to_owned());
    }
    error
}

/// The path of the innermost key or value around byte `at`.
fn key_at(text: &str, at: usize) -> String {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut best = Best {
        length: usize::MAX,
        path: String::new(),
    };
    best.search_table(root.get_ref(), at, "");
    best.path
}

struct Best {
    length: usize,
    path: String,
}

impl Best {
    fn offer<T>(&mut self, node: &Spanned<T>, at: usize, path: &str) {
        let span = node.span();
        if span.contains(&at) && span.len() <= self.length {
            self.length = span.len();
            path.clone_into(&mut self.path);
        }
    }

    fn search_table(&mut self, table: &DeTable<'_>, at: usize, path: &str) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = match path {
                "" => name.to_string(),
                path => format!("{path}.{name}"),
            };
            self.search_value(value, at, &path);
            // After the values, so that a header names its table and not the first key.
            self.offer(key, at, &path);
        }
    }

    fn search_value(&mut self, value: &Spanned<DeValue<'_>>, at: usize, path: &str) {
        self.offer(value, at, path);
        match value.get_ref() {
            DeValue::Table(table) => self.search_table(table, at, path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.search_value(item, at, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }
}
