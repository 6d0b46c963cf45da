//! The account of an input, or of a tenant: what was received, and what became of it.
//!
//! Both sides of `received = accepted + rejected + lost + under way` are counted for themselves:
//! what is received before anything is decided on (see [`Writer::received`](super::Writer::received)),
//! what is accepted by the cells, and what is rejected and lost in words of their own. What is
//! accepted is sealed (in the running totals), open (the differences of the cells to their
//! baselines) or discarded. So the account holds whenever it is read, and after a kill at any
//! instant, because cells and words outlive the process: what was in the hands of the input is
//! then declared lost (`interrupted`).
//!
//! An account is read while its input counts, so what is under way can only be told within
//! bounds: everything that the input had settled before the reading began must have been found,
//! and not more than was received when it ended. What is beyond these bounds is an error of the
//! agent, shown as `missing` or `surplus` and never made to fit.
//!
//! The account is carried from one incarnation to the next, so that it covers the life of the
//! state directory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use tollgate::cell::receipt;

use super::tenants::TenantRecord;
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
    /// Events that the input has in its hands: received, and neither counted nor rejected yet.
    /// 0 when it is at rest.
    pub under_way: u64,
    /// Events that were received and settled, and of which it is not known what became. Always 0,
    /// or the agent has lost them.
    pub missing: u64,
    /// Events that were decided on and never received. Always 0, or the agent has made them up.
    pub surplus: u64,
}

fn total<'a>(parts: impl IntoIterator<Item = &'a u64>) -> u64 {
    parts.into_iter().fold(0, |sum, &n| sum.saturating_add(n))
}

impl Account {
    /// True if every event received is accepted, rejected, lost or under way, and every accepted
    /// one is sealed, open or discarded.
    pub fn balances(&self) -> bool {
        let decided = total(self.rejected.values().chain(self.lost.values()));
        self.missing == 0
            && self.surplus == 0
            && self.accepted == total([&self.sealed, &self.open, &self.discarded])
            && self.received == total([&self.accepted, &decided, &self.under_way])
    }
}

/// How many events were received, told for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// At least so many had been decided on when the reading began.
    pub(crate) settled: u64,
    /// So many were received when it ended.
    pub(crate) now: u64,
}

impl Received {
    /// What is under way, missing and too much where so many are decided on.
    pub(crate) fn compare(self, decided: u64) -> [u64; 3] {
        [
            self.now.saturating_sub(decided.max(self.settled)),
            self.settled.saturating_sub(decided),
            decided.saturating_sub(self.now),
        ]
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
            *value = receipt::read(word);
        }
        Self(values)
    }

    pub(crate) fn write(&self, words: &[AtomicU64]) {
        for (value, word) in self.0.iter().zip(words) {
            word.put(*value, Relaxed);
        }
    }

    /// Adds the events of an incarnation that has ended. What its input had in its hands then
    /// is lost, unless it is received again (`again`), as what pages show is. Where `counted` is
    /// false, an older agent received what it had decided on.
    pub(crate) fn carry(&mut self, counts: Counts, again: bool, counted: bool) {
        let accepted = counts.sealed.saturating_add(counts.open);
        self.0[AT_ACCEPTED] = self.0[AT_ACCEPTED].saturating_add(accepted);
        self.0[AT_SEALED] = self.0[AT_SEALED].saturating_add(counts.sealed);
        let decided = self.0[AT_ACCEPTED].saturating_add(self.rejected());
        let under_way = self.0[AT_RECEIVED].saturating_sub(decided);
        if !again {
            let lost = &mut self.0[AT_LOST + InputLoss::Interrupted as usize];
            *lost = lost.saturating_add(under_way);
        }
        // What was decided on without having been received stays to be seen.
        self.0[AT_RECEIVED] = if counted {
            self.0[AT_RECEIVED].min(decided)
        } else {
            decided
        };
        self.0[AT_SETTLED] = self.0[AT_RECEIVED];
    }

    /// The account of a tenant's earlier lives, of what was received for it, and of its
    /// rejections.
    pub(super) fn of_tenant(record: &TenantRecord) -> Self {
        let mut words = Self::default();
        words.0[AT_RECEIVED] = record.received;
        words.0[AT_ACCEPTED] = record.accepted;
        words.0[AT_SEALED] = record.sealed;
        words.0[AT_LOST + InputLoss::Interrupted as usize] = record.interrupted;
        for (reason, n) in Rejection::ALL.into_iter().zip(record.rejected) {
            words.0[rejected_word(reason)] = n;
        }
        words
    }

    /// What this account has beyond those of tenants, of which so much is known.
    pub(super) fn beyond(mut self, known: &TenantRecord) -> Account {
        let word = &mut self.0[AT_RECEIVED];
        *word = word.saturating_sub(known.received);
        let word = &mut self.0[AT_LOST + InputLoss::Interrupted as usize];
        *word = word.saturating_sub(known.interrupted);
        for (reason, n) in Rejection::ALL.into_iter().zip(known.rejected) {
            let word = &mut self.0[rejected_word(reason)];
            *word = word.saturating_sub(n);
        }
        (self.0[AT_ACCEPTED], self.0[AT_SEALED]) = (0, 0);
        self.to_account(Counts::default(), 0)
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
    ///
    /// `settled` was read before the counts were, and these words after them.
    pub(crate) fn to_account(&self, counts: Counts, settled: u64) -> Account {
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
        let received = Received {
            settled,
            now: self.0[AT_RECEIVED],
        };
        let [under_way, missing, surplus] = received.compare(decided);
        Account {
            received: received.now.saturating_add(total(lost.values())),
            missing,
            surplus,
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
            under_way,
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
#[inline]
pub(crate) fn bump(word: &AtomicU64, n: u64) {
    receipt::add(word, n, Put::put);
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
