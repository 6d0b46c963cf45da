//! All mistakes in a text together, so that nobody mends them one run at a time.

use std::error::Error;
use std::fmt;

/// A mistake that stands somewhere in a text.
pub trait InText {
    /// Where it begins, in bytes.
    fn start(&self) -> usize;
}

/// The mistakes that were found in a text, at least one, in the order of the text; shown a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes<E>(Vec<E>);

impl<E: InText> Mistakes<E> {
    /// Puts what was found in the order of the text.
    pub fn new(mut found: Vec<E>) -> Self {
        found.sort_by_key(E::start);
        Self(found)
    }
}

impl<E> Mistakes<E> {
    /// The mistakes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &E> {
        self.0.iter()
    }
}

impl<E: fmt::Display> fmt::Display for Mistakes<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl<E: Error> Error for Mistakes<E> {}
