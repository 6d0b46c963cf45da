//! Usage that is rated by another catalog than the ones that it was gathered for.

use tollgate_common::Aggregation;

use crate::period::Period;
use crate::rate::{self, MeterUsage, Part, Shape};

/// How another catalog needs usage than the ones that it was gathered for. Nobody knows other parts
/// of it than one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anew {
    /// It needs one part.
    is_plain: bool,
    /// In which slice: the first that its tenant pays for.
    slice: u16,
}

impl Anew {
    /// `paid` says for which slices another tenant pays, whose usage they have.
    pub(super) fn new(
        period: Period,
        aggregation: Aggregation,
        slices: &[rate::Slice<'_>],
        paid: &[bool],
    ) -> Self {
        let own = slices.iter().zip(paid).filter(|(_, paid)| !**paid);
        let mut own: Vec<rate::Slice<'_>> = own.map(|(slice, _)| *slice).collect();
        own.dedup_by(|next, before| next.priced == before.priced);
        let first = paid.iter().position(|paid| !paid).unwrap_or(0);
        Self {
            is_plain: Shape::new(period, aggregation, &own).is_plain(),
            slice: u16::try_from(first).unwrap_or(u16::MAX),
        }
    }

    /// The part that usage counts in which was gathered like this. `adds_up` if its values do.
    pub(super) fn part_of(self, gathered: &MeterUsage, adds_up: bool) -> Part {
        let mut parts = gathered.parts();
        let is_whole = |part: Part| {
            part == Part {
                slice: part.slice,
                ..Part::default()
            }
        };
        let only_one = parts.len() <= 1 && parts.all(|(part, _)| is_whole(part));
        let cell = if self.is_plain && (only_one || adds_up) {
            0
        } else {
            Part::NO_CELL
        };
        Part {
            slice: self.slice,
            cell,
            ..Part::default()
        }
    }
}
