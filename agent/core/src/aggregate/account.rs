//! The account of an input, or of a tenant: what was received, and what became of it.
//!
//! `received = accepted + rejected + lost` and `accepted = sealed + open + discarded` hold
//! whenever an account is read, by construction: what is sealed is in the running totals, what
//! is open are the differences of the cells to their baselines, and only what has been
//! decided on is received. So the account is right after a kill at any instant, because the
//! cells are. What an input says it has received is kept apart: beyond what has been decided on
//! that is what is under way, and after a kill it is declared lost (`interrupted`).
//!
//! The account is carried from one incarnation to the next, so that it covers the life of the
//! state directory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use serde::Serialize;

use super::words::Put;
use crate::input::dogstatsd::Ignored;

/// Words of one account.
pub(crate) const ACCOUNT_WORDS: usize = 32;
const AT_RECEIVED: usize = 0;
const AT_REJECTED: usize = 0; // plus the reason's code, which starts at 1
const AT_LOST: usize = 15; // plus the cause's code, which starts at 1
const AT_ACCEPTED: usize = 24;
const AT_SEALED: usize = 25;
const AT_ROUNDED: usize = 26;
const AT_ESTIMATED: usize = 27;
const AT_RETIMED: usize = 28;
const AT_IGNORED_EVENTS: usize = 29;
const AT_IGNORED_CHECKS: usize = 30;
const AT_SETTLED: usize = 31;
const _: () = assert!(AT_REJECTED + Rejection::ALL.len() <= AT_LOST);
const _: () = assert!(AT_LOST + InputLoss::ALL.len() < AT_ACCEPTED);

/// Why an event that was received is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Rejection {
    /// Not of the protocol's form.
    Malformed = 1,
    /// Names a meter that is not declared.
    UnknownMeter = 2,
    /// Needs more decimal places than the meter has, and the meter says to refuse that.
    Inexact = 3,
    /// A value that no cell can hold, or a sum below zero.
    OutOfRange = 4,
    /// No room for another series, not even without dimensions.
    SeriesFull = 5,
    /// The cell has counted as much as a window may hold.
    CounterFull = 6,
    /// A text or value longer than allowed.
    TooLarge = 7,
    /// A kind of event that this agent does not count.
    Unsupported = 8,
    /// Anything else.
    Other = 9,
    /// A kind of value that the meter does not take: a level for a sum, an increment for a level.
    WrongType = 10,
}

impl Rejection {
    /// All reasons, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::UnknownMeter,
        Self::Inexact,
        Self::OutOfRange,
        Self::SeriesFull,
        Self::CounterFull,
        Self::TooLarge,
        Self::Unsupported,
        Self::Other,
        Self::WrongType,
    ];

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownMeter => "unknown_meter",
            Self::Inexact => "inexact",
            Self::OutOfRange => "out_of_range",
            Self::SeriesFull => "series_full",
            Self::CounterFull => "counter_full",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
            Self::WrongType => "wrong_type",
        }
    }
}

/// Why events were lost before an input received them. Such events were never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum InputLoss {
    /// The kernel dropped datagrams because the socket's buffer was full.
    KernelDrop = 1,
    /// A counter of the host went back, and what it had counted since is not known.
    CounterReset = 2,
    /// Known to be waiting when the input stopped.
    Shutdown = 3,
    /// Anything else.
    Other = 4,
    /// Received and under way when the process was killed, neither counted nor rejected.
    Interrupted = 5,
    /// There was no room for them in an application's page, or they were no counts.
    PageFull = 6,
    /// In the page of an application that may have been billed by another agent.
    Quarantined = 7,
}

impl InputLoss {
    /// All causes, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::KernelDrop,
        Self::CounterReset,
        Self::Shutdown,
        Self::Other,
        Self::Interrupted,
        Self::PageFull,
        Self::Quarantined,
    ];

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelDrop => "kernel_drop",
            Self::CounterReset => "counter_reset",
            Self::Shutdown => "shutdown",
            Self::Other => "other",
            Self::Interrupted => "interrupted",
            Self::PageFull => "page_full",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What became of the events of one input or tenant, since its state directory was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Events that reached the host for the input, those it never saw included.
    pub received: u64,
    /// Events counted into a cell.
    pub accepted: u64,
    /// Events not counted, by reason; reasons with none are left out.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Accepted events whose value was rounded to the meter's scale, as the meter declares.
    pub rounded: u64,
    /// Accepted events whose sampling rate gives no whole number of units: the total of each
    /// line is rounded, within half a unit.
    pub estimated: u64,
    /// Accepted events that name a time in another window than the one they are counted in.
    pub retimed: u64,
    /// Events of the protocol that are no usage; they are not among those received.
    pub ignored_events: u64,
    /// Service checks, likewise.
    pub ignored_service_checks: u64,
    /// Events known to be lost before the input received them, by cause.
    pub lost: BTreeMap<&'static str, u64>,
    /// Accepted events that are in a durable batch.
    pub sealed: u64,
    /// Accepted events that wait in cells for the next seal.
    pub open: u64,
    /// Accepted events in cells that were discarded, as far as they are known: the unclean
    /// ends of earlier incarnations, declared as losses.
    pub discarded: u64,
    /// Events that the input has in its hands: neither counted nor rejected yet. It is what the
    /// input says that it has received, less what has been decided on: 0 when it is at rest.
    pub under_way: u64,
}

fn total<'a>(parts: impl IntoIterator<Item = &'a u64>) -> u64 {
    parts.into_iter().fold(0, |sum, &n| sum.saturating_add(n))
}

impl Account {
    /// True if every event received is accepted, rejected or lost, and every accepted one is
    /// sealed, open or discarded.
    pub fn balances(&self) -> bool {
        let decided = total(self.rejected.values().chain(self.lost.values()));
        self.accepted == total([&self.sealed, &self.open, &self.discarded])
            && self.received == self.accepted.saturating_add(decided)
    }
}

/// The words of an account as they lie in a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountWords(pub(crate) [u64; ACCOUNT_WORDS]);

impl AccountWords {
    pub(crate) fn read(words: &[AtomicU64]) -> Self {
        let mut values = [0; ACCOUNT_WORDS];
        // What was received last: an input says so before it decides on an event, and what is
        // under way is then never less than nothing.
        for (value, word) in values.iter_mut().zip(words).rev() {
            *value = word.load(Acquire);
        }
        Self(values)
    }

    pub(crate) fn write(&self, words: &[AtomicU64]) {
        for (value, word) in self.0.iter().zip(words) {
            word.put(*value, Relaxed);
        }
    }

    /// Adds the events of an incarnation that has ended. What its input had in its hands then
    /// is lost.
    pub(crate) fn carry(&mut self, counts: Counts) {
        let accepted = counts.sealed.saturating_add(counts.open);
        self.0[AT_ACCEPTED] = self.0[AT_ACCEPTED].saturating_add(accepted);
        self.0[AT_SEALED] = self.0[AT_SEALED].saturating_add(counts.sealed);
        let decided = self.0[AT_ACCEPTED].saturating_add(self.rejected());
        let under_way = self.0[AT_RECEIVED].saturating_sub(decided);
        let lost = &mut self.0[AT_LOST + InputLoss::Interrupted as usize];
        *lost = lost.saturating_add(under_way);
        self.0[AT_RECEIVED] = decided;
    }

    fn rejected(&self) -> u64 {
        total(
            Rejection::ALL
                .iter()
                .map(|&r| &self.0[AT_REJECTED + r as usize]),
        )
    }

    /// Adds another account to this one.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (value, more) in self.0.iter_mut().zip(other.0) {
            *value = value.saturating_add(more);
        }
    }

    /// The account, with the events of the incarnation that runs.
    ///
    /// Counters of events saturate rather than fail: they inform, money is in the sums.
    pub(crate) fn to_account(&self, counts: Counts) -> Account {
        let pick = |names: &mut dyn Iterator<Item = (&'static str, usize)>| {
            names
                .map(|(name, at)| (name, self.0[at]))
                .filter(|&(_, n)| n > 0)
                .collect()
        };
        let lost: BTreeMap<_, _> = pick(
            &mut InputLoss::ALL
                .iter()
                .map(|&l| (l.as_str(), AT_LOST + l as usize)),
        );
        let (carried, carried_sealed) = (self.0[AT_ACCEPTED], self.0[AT_SEALED]);
        let carried_sealed = carried_sealed.min(carried);
        let accepted = total([&carried, &counts.sealed, &counts.open]);
        let decided = accepted.saturating_add(self.rejected());
        Account {
            received: decided.saturating_add(total(lost.values())),
            rounded: self.0[AT_ROUNDED],
            estimated: self.0[AT_ESTIMATED],
            retimed: self.0[AT_RETIMED],
            ignored_events: self.0[AT_IGNORED_EVENTS],
            ignored_service_checks: self.0[AT_IGNORED_CHECKS],
            accepted,
            rejected: pick(
                &mut Rejection::ALL
                    .iter()
                    .map(|&r| (r.as_str(), AT_REJECTED + r as usize)),
            ),
            lost,
            sealed: carried_sealed.saturating_add(counts.sealed),
            open: counts.open,
            discarded: carried - carried_sealed,
            under_way: self.0[AT_RECEIVED].saturating_sub(decided),
        }
    }
}

/// Events that one incarnation has accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In durable batches.
    pub(crate) sealed: u64,
    /// Beyond the last cut.
    pub(crate) open: u64,
}

/// Adds to a word whose only writer is the caller.
pub(crate) fn bump(word: &AtomicU64, n: u64) {
    word.put(word.load(Relaxed).wrapping_add(n), Release);
}

pub(crate) fn received_word() -> usize {
    AT_RECEIVED
}

pub(crate) fn settled_word() -> usize {
    AT_SETTLED
}

pub(crate) fn rounded_word() -> usize {
    AT_ROUNDED
}

pub(crate) fn estimated_word() -> usize {
    AT_ESTIMATED
}

pub(crate) fn retimed_word() -> usize {
    AT_RETIMED
}

pub(crate) fn ignored_word(ignored: Ignored) -> usize {
    match ignored {
        Ignored::Event => AT_IGNORED_EVENTS,
        Ignored::ServiceCheck => AT_IGNORED_CHECKS,
    }
}

pub(crate) fn rejected_word(reason: Rejection) -> usize {
    AT_REJECTED + reason as usize
}

pub(crate) fn lost_word(cause: InputLoss) -> usize {
    AT_LOST + cause as usize
}
