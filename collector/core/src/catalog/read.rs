//! Reads TOML with the place of every value, so that each mistake can be shown.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{CatalogError, CatalogErrors};

/// A table with the key that leads to it.
pub(super) struct Section<'d> {
    table: &'d DeTable<'d>,
    span: Range<usize>,
    path: String,
    /// What stands in for keys that are not there, and the place in this file that says so.
    inherited: Option<(&'d DeTable<'d>, Range<usize>)>,
    /// The place to show for everything in here, because it stands in another file.
    elsewhere: Option<Range<usize>>,
}

/// A value with its key and place.
pub(super) struct Field<'d> {
    pub(super) value: &'d DeValue<'d>,
    pub(super) span: Range<usize>,
    pub(super) key: String,
    /// See [`Section::elsewhere`].
    elsewhere: Option<Range<usize>>,
}

impl<'d> Section<'d> {
    /// The same with `inherited` for the keys that are not there. Mistakes in these are shown
    /// where this section has `name`.
    pub(super) fn inherit(self, inherited: &'d Spanned<DeTable<'d>>, name: &str) -> Self {
        let span = self.field(name).map_or(self.span(), |field| field.span);
        Self {
            inherited: Some((inherited.get_ref(), span)),
            ..self
        }
    }

    /// True if `name` is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// The value of `name`, if it is there.
    pub(super) fn field(&self, name: &str) -> Option<Field<'d>> {
        let (value, elsewhere) = match (self.table.get(name), &self.inherited) {
            (Some(value), _) => (value, self.elsewhere.clone()),
            (None, Some((inherited, span))) => (inherited.get(name)?, Some(span.clone())),
            (None, None) => return None,
        };
        Some(Field {
            value: value.get_ref(),
            span: elsewhere.clone().unwrap_or_else(|| value.span()),
            key: self.key(name),
            elsewhere,
        })
    }

    /// The names of all keys.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.table.keys().map(|key| key.get_ref().to_string());
        names.collect()
    }

    /// Where the section stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The whole key of `name` in this section.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl<'d> Field<'d> {
    /// The entries, if it is an array.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.as_array()?.iter();
        let field = |item: &'d Spanned<DeValue<'d>>| Self {
            value: item.get_ref(),
            span: self.elsewhere.clone().unwrap_or_else(|| item.span()),
            key: self.key.clone(),
            elsewhere: self.elsewhere.clone(),
        };
        Some(items.map(field).collect())
    }
}

/// Reads one file and collects what is wrong with it.
///
/// A method that finds a mistake notes it and returns `None`, so that reading goes on and
/// all mistakes are reported at once.
pub(super) struct Reader<'d> {
    file: &'d str,
    text: &'d str,
    errors: &'d mut Vec<CatalogError>,
    /// True if the keys of the file itself need not all be there.
    partial: bool,
}

impl<'d> Reader<'d> {
    pub(super) fn new(file: &'d str, text: &'d str, errors: &'d mut Vec<CatalogError>) -> Self {
        Self {
            file,
            text,
            errors,
            partial: false,
        }
    }

    /// From here on the keys of the file itself need not all be there: it is a part of others.
    pub(super) fn read_partial(&mut self) {
        self.partial = true;
    }

    /// True if keys of the file itself may be missing.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// The text of the file.
    pub(super) fn text_of_file(&self) -> &'d str {
        self.text
    }

    /// How many mistakes are noted, of all files; more are not once
    /// [`CatalogErrors::MAX`] are.
    pub(super) fn mistakes(&self) -> usize {
        self.errors.len()
    }

    pub(super) fn root(&self, document: &'d Spanned<DeTable<'d>>) -> Section<'d> {
        Section {
            table: document.get_ref(),
            span: 0..self.text.len().min(1),
            path: String::new(),
            inherited: None,
            elsewhere: None,
        }
    }

    /// Notes a mistake.
    pub(super) fn refuse(&mut self, span: Range<usize>, key: &str, message: impl fmt::Display) {
        if self.errors.len() >= CatalogErrors::MAX {
            return;
        }
        let (line, column) = line_and_column(self.text, span.start);
        self.errors.push(CatalogError {
            file: self.file.to_owned(),
            line,
            column,
            span,
            key: key.to_owned(),
            message: message.to_string(),
        });
    }

    /// The place of a field, for a mistake that shows only later.
    pub(super) fn place(&self, field: &Field<'_>) -> CatalogError {
        let (line, column) = line_and_column(self.text, field.span.start);
        CatalogError {
            file: self.file.to_owned(),
            line,
            column,
            span: field.span.clone(),
            key: field.key.clone(),
            message: String::new(),
        }
    }

    pub(super) fn refuse_field(&mut self, field: &Field<'_>, message: impl fmt::Display) {
        self.refuse(field.span.clone(), &field.key, message);
    }

    /// Refuses every key of the section that is not among `known`.
    pub(super) fn only(&mut self, section: &Section<'_>, known: &[&str]) {
        for key in section.table.keys() {
            let name = key.get_ref();
            if !known.contains(&&**name) {
                let shown: String = name.chars().take(64).collect();
                let message = format!("unknown key (expected {})", list(known));
                let span = section.elsewhere.clone().unwrap_or_else(|| key.span());
                self.refuse(span, &section.key(&shown), message);
            }
        }
    }

    pub(super) fn required(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<Field<'d>> {
        let field = section.field(name);
        let may_be_missing = self.partial && section.path.is_empty();
        if field.is_none() && !may_be_missing {
            let message = format!("missing (expected {expected})");
            self.refuse(section.span.clone(), &section.key(name), message);
        }
        field
    }

    /// The text of a required string.
    pub(super) fn text(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<(&'d str, Field<'d>)> {
        let field = self.required(section, name, expected)?;
        let text = self.string(&field, expected)?;
        Some((text, field))
    }

    pub(super) fn string(&mut self, field: &Field<'d>, expected: &str) -> Option<&'d str> {
        if let DeValue::String(text) = field.value {
            return Some(text);
        }
        let found = kind(field.value);
        let hint = match field.value {
            DeValue::Float(_) | DeValue::Integer(_) => {
                let written = self.text.get(field.span.clone()).unwrap_or_default();
                format!(
                    "; numbers that become money are written as decimal strings, because a float \
                     cannot hold every decimal: try \"{written}\""
                )
            }
            _ => String::new(),
        };
        self.refuse_field(field, format!("found {found}, expected {expected}{hint}"));
        None
    }

    /// A required string that parses as `T`.
    pub(super) fn parse<T>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<(T, Field<'d>)>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        let (text, field) = self.text(section, name, expected)?;
        match text.parse() {
            Ok(value) => Some((value, field)),
            Err(error) => {
                self.refuse_field(&field, error);
                None
            }
        }
    }

    /// A string that parses as `T`, if the key is there; the outer `None` is a mistake.
    #[expect(clippy::option_option, reason = "a mistake is not an absence")]
    pub(super) fn maybe<T>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<Option<(T, Field<'d>)>>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        if section.field(name).is_none() {
            return Some(None);
        }
        self.parse(section, name, expected).map(Some)
    }

    /// As [`Reader::maybe`], with `T`'s default for a key that is not there.
    pub(super) fn or_default<T>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<T>
    where
        T: std::str::FromStr + Default,
        T::Err: fmt::Display,
    {
        let found = self.maybe::<T>(section, name, expected)?;
        Some(found.map(|(value, _)| value).unwrap_or_default())
    }

    /// A required integer from 0 to `max`.
    pub(super) fn integer(
        &mut self,
        section: &Section<'d>,
        name: &str,
        max: u32,
        expected: &str,
    ) -> Option<u32> {
        let field = self.required(section, name, expected)?;
        let value = field
            .value
            .as_integer()
            .filter(|integer| integer.radix() == 10)
            .and_then(|integer| integer.as_str().parse::<u32>().ok())
            .filter(|value| *value <= max);
        if value.is_none() {
            self.refuse_field(&field, format!("expected {expected}"));
        }
        value
    }

    /// A required table.
    pub(super) fn table(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<Section<'d>> {
        let field = self.required(section, name, expected)?;
        let DeValue::Table(table) = field.value else {
            let found = kind(field.value);
            self.refuse_field(&field, format!("found {found}, expected {expected}"));
            return None;
        };
        Some(Section {
            table,
            span: field.span,
            path: field.key,
            inherited: None,
            elsewhere: field.elsewhere,
        })
    }

    /// The tables of an array of tables; empty if there is none.
    pub(super) fn tables(
        &mut self,
        section: &Section<'d>,
        name: &str,
        max: usize,
    ) -> Vec<Section<'d>> {
        let Some(field) = section.field(name) else {
            return Vec::new();
        };
        let DeValue::Array(items) = field.value else {
            let found = kind(field.value);
            self.refuse_field(
                &field,
                format!("found {found}, expected an array of tables"),
            );
            return Vec::new();
        };
        if items.len() > max {
            let message = format!("{} entries, more than the {max} allowed", items.len());
            self.refuse_field(&field, message);
            return Vec::new();
        }
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", field.key);
            let span = field.elsewhere.clone().unwrap_or_else(|| item.span());
            if let DeValue::Table(table) = item.get_ref() {
                sections.push(Section {
                    table,
                    span,
                    path,
                    inherited: None,
                    elsewhere: field.elsewhere.clone(),
                });
            } else {
                let found = kind(item.get_ref());
                self.refuse(span, &path, format!("found {found}, expected a table"));
            }
        }
        sections
    }
}

/// `a`, `b` and `c`, each in backquotes.
pub(super) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date without quotes",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Line and column of a byte, both from 1; columns count characters.
pub(super) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text
        .char_indices()
        .take_while(|(at, _)| *at < byte)
        .map(|(_, c)| c);
    before.fold((1, 1), |(line, column), c| match c {
        '\n' => (line + 1, 1),
        _ => (line, column + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 6), (2, 1));
        assert_eq!(line_and_column(text, 8), (2, 2));
        assert_eq!(line_and_column(text, 999), (3, 1));
    }
}
