//! The periods of a tenant. Most have one that is open, and there may be a hundred thousand
//! tenants: a tree would keep room for ten more of each.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use super::usage::PeriodBook;
use crate::fold::packed::reserve;

/// Books in the order of their periods, each found by the start of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(
    clippy::vec_box,
    reason = "a book that is put before many others, of older usage, moves only where they lie"
)]
pub(super) struct Books(Vec<Box<PeriodBook>>);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is asked as a map is")]
impl Books {
    fn place(&self, start: Timestamp) -> Result<usize, usize> {
        // Nearly always the newest is asked for.
        match self.0.last() {
            Some(last) if last.period.start == start => Ok(self.0.len() - 1),
            _ => self
                .0
                .binary_search_by_key(&start, |book| book.period.start),
        }
    }

    pub(super) fn get(&self, start: &Timestamp) -> Option<&PeriodBook> {
        let at = self.place(*start).ok()?;
        Some(&self.0[at])
    }

    pub(super) fn get_mut(&mut self, start: &Timestamp) -> Option<&mut PeriodBook> {
        let at = self.place(*start).ok()?;
        Some(&mut self.0[at])
    }

    pub(super) fn contains_key(&self, start: &Timestamp) -> bool {
        self.place(*start).is_ok()
    }

    /// Puts a book in its place, instead of the one of the same start if there is one.
    pub(super) fn insert(&mut self, book: PeriodBook) {
        match self.place(book.period.start) {
            Ok(at) => *self.0[at] = book,
            Err(at) => {
                reserve(&mut self.0, 1);
                self.0.insert(at, Box::new(book));
            }
        }
    }

    pub(super) fn remove(&mut self, start: &Timestamp) -> Option<PeriodBook> {
        let at = self.place(*start).ok()?;
        Some(*self.0.remove(at))
    }

    pub(super) fn last(&self) -> Option<&PeriodBook> {
        self.0.last().map(Box::as_ref)
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &PeriodBook> + Clone {
        self.0.iter().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut PeriodBook> {
        self.0.iter_mut().map(Box::as_mut)
    }

    /// Those whose periods begin in a range.
    pub(super) fn starting_in(&self, range: Range<Timestamp>) -> impl Iterator<Item = &PeriodBook> {
        self.values()
            .filter(move |book| range.contains(&book.period.start))
    }

    /// The same, to be changed.
    pub(super) fn starting_in_mut(
        &mut self,
        range: Range<Timestamp>,
    ) -> impl Iterator<Item = &mut PeriodBook> {
        self.values_mut()
            .filter(move |book| range.contains(&book.period.start))
    }
}
