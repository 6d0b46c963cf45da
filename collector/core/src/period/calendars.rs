//! The calendars that a tenant has had.

use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use super::{Calendar, Period, Proration, Zone};
use crate::rate::Ratio;

/// How far clocks of two zones can be apart, in milliseconds: a change of zone moves no boundary
/// by more.
const CLOCKS_APART_MILLIS: i64 = 26 * 3_600_000;

/// The calendars that a tenant has had, each from an instant on.
///
/// A new calendar takes effect where the period ends that is open when the change is made,
/// so that no period is cut short behind the tenant's back. The first period of the new
/// calendar begins there: it is cut, and where hardly anything would be left of it, it is one
/// with the period that follows. Which period an instant belongs to thus depends on the
/// changes alone and not on the order in which usage arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendars {
    first: Calendar,
    /// Ordered by instant.
    later: Vec<(Timestamp, Calendar)>,
}

impl Calendars {
    /// One calendar for all time.
    pub const fn new(first: Calendar) -> Self {
        Self {
            first,
            later: Vec::new(),
        }
    }

    /// The calendar that was set last.
    pub fn current(&self) -> Calendar {
        self.later
            .last()
            .map_or(self.first, |(_, calendar)| *calendar)
    }

    /// Sets `calendar` from the end of the period that is open at `now`.
    pub fn change(&mut self, now: Timestamp, calendar: Calendar) {
        if calendar == self.current() {
            return;
        }
        // A change that has not taken effect yet is replaced by this one.
        while self.later.last().is_some_and(|(from, _)| *from > now) {
            self.later.pop();
        }
        if calendar != self.current() {
            let from = self.period_containing(now).end;
            self.later.push((from, calendar));
        }
    }

    /// The period that contains `instant`.
    pub fn period_containing(&self, instant: Timestamp) -> Period {
        let Stretch {
            from,
            calendar,
            until,
            other_clocks,
        } = self.stretch_at(instant);
        let mut period = calendar.period_containing(instant);
        if other_clocks {
            let first = calendar.period_containing(from);
            if is_splinter(from, first) {
                let second = calendar.period_containing(first.end);
                if period == first || period == second {
                    period = Period {
                        start: from,
                        end: second.end,
                    };
                }
            }
        }
        Period {
            start: Ord::max(period.start, from),
            end: Ord::min(period.end, until),
        }
    }

    /// The zone in which a period's days are counted.
    pub fn zone_of(&self, period: Period) -> Zone {
        self.stretch_at(period.start).calendar.zone
    }

    /// The whole period of its calendar that a period is, or is a part of: larger than it only for
    /// the first period of a new calendar where the former left a part. What two zones' clocks are
    /// apart neither adds to a period nor takes from it.
    pub fn whole_of(&self, period: Period) -> Period {
        let stretch = self.stretch_at(period.start);
        let calendar = stretch.calendar;
        let whole = calendar.period_containing(period.end.plus_millis(-1));
        let missing = whole.millis() - period.millis();
        let by_clocks_alone =
            stretch.other_clocks && missing <= Ord::min(CLOCKS_APART_MILLIS, whole.millis() / 2);
        if missing <= 0 || by_clocks_alone {
            return period;
        }
        whole
    }

    /// Which part a period is of the whole one of its calendar ([`Calendars::whole_of`]).
    pub fn share_of_whole(&self, period: Period, by: Proration) -> Ratio {
        let whole = self.whole_of(period);
        whole.fraction(period, by, self.zone_of(period))
    }

    /// The calendar that holds at `instant`, and how long.
    fn stretch_at(&self, instant: Timestamp) -> Stretch {
        let index = self.later.partition_point(|(from, _)| *from <= instant);
        let nth = |index: usize| match index.checked_sub(1).and_then(|i| self.later.get(i)) {
            Some((from, calendar)) => (*from, *calendar),
            None => (Timestamp::EPOCH, self.first),
        };
        let (from, calendar) = nth(index);
        let until = self
            .later
            .get(index)
            .map_or(Timestamp::MAX, |(from, _)| *from);
        Stretch {
            from,
            calendar,
            until,
            other_clocks: index > 0 && nth(index - 1).1.zone != calendar.zone,
        }
    }

    /// A short name for a period, by the calendar that it belongs to.
    pub fn label(&self, period: Period) -> String {
        let calendar = self.stretch_at(period.start).calendar;
        // Where a splinter came before it, the period is named by what follows.
        calendar.label(calendar.period_containing(period.end.plus_millis(-1)))
    }
}

/// How long a calendar holds.
struct Stretch {
    from: Timestamp,
    calendar: Calendar,
    until: Timestamp,
    /// The calendar before it was that of another zone.
    other_clocks: bool,
}

/// True if what a new calendar leaves of its first period, from `from` on, is no period to anybody:
/// less than half of one, and no more than clocks of two zones are apart. June's last two hours,
/// after a change from Berlin's clocks to those of UTC, are such; they count into July.
fn is_splinter(from: Timestamp, first: Period) -> bool {
    let left = first.end.millis_since(from);
    first.start < from && left <= Ord::min(CLOCKS_APART_MILLIS, (first.millis() - 1) / 2)
}
