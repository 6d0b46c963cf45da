//! What is wrong with a catalog, and where.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogError {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; 0 if the mistake has no place in a file.
    pub line: usize,
    /// Column in characters, from 1; 0 if the mistake has no place in a file.
    pub column: usize,
    /// Byte range in the file, for reports that show the source.
    pub span: std::ops::Range<usize>,
    /// The key, such as `price[0].tiers[1].to`; empty if no key is at fault.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for CatalogError {}

/// Everything that is wrong with a catalog. A catalog is accepted or refused as a whole.
///
/// Never empty; at most [`CatalogErrors::MAX`] mistakes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogErrors(Vec<CatalogError>);

impl CatalogErrors {
    /// Most mistakes that are collected before reading stops.
    pub const MAX: usize = 50;

    pub(super) fn new(mut errors: Vec<CatalogError>) -> Self {
        errors.truncate(Self::MAX);
        Self(errors)
    }

    /// The mistakes in the order in which they were found.
    pub fn errors(&self) -> &[CatalogError] {
        &self.0
    }
}

impl fmt::Display for CatalogErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the catalog is refused:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for CatalogErrors {}
