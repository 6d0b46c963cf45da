//! Recover: what a start makes of what the life before left behind.
//!
//! `plan` is a pure function of the cells' header, the end of the spool, the boot and the
//! time. The engine carries the plan out in an order in which a crash at any point leads to
//! a plan with the same outcome:
//!
//! 1. A batch that the spool has and the cells have not applied is applied (one store).
//! 2. Batches that the spool lost at its end get tombstones (synced).
//! 3. What the cells hold beyond the last cut is sealed as the final batch of the old
//!    incarnation: appended, synced, applied. It is the same whatever the time of the start,
//!    because its span ends when the old life last showed that it was alive; what was counted
//!    after that, in less than a window, is in it.
//! 4. A file of cells for a fresh incarnation takes the place of the old one, in one step.
//! 5. The fresh incarnation's first batch, its opening, is sealed at once, before anything is
//!    counted.
//!
//! Cells are used only under the boot that wrote them: after another start of the host the
//! mapped pages on disk are some mixture of older states. Then the old incarnation ends with
//! what the spool holds, and its child declares the rest lost, bounded in time. An
//! incarnation that never sealed anything is passed over: no collector knows its name, so
//! its successor takes its place under the same parent and declares the loss itself.

mod remembered;
#[cfg(test)]
mod tests;

pub(crate) use remembered::remembered;
use tollgate_common::{BatchHash, LossReason, Parent, ParentEnd, Timestamp, Window};

use crate::aggregate::{Cells, CellsError, CutRecord, Identity, InheritedLoss, Region};
use crate::seal::CLOCK_STEP_MAX_MILLIS;
use crate::spool::{MISSING_MAX, Tail};

/// What the header of a cells file says.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) applied: u64,
    /// The record of the last applied cut, if it is whole.
    pub(crate) cut: Option<CutRecord>,
    /// The record of the cut after it: a seal that was under way, or was given up.
    pub(crate) next: Option<CutRecord>,
    pub(crate) released: u64,
}

impl Facts {
    pub(crate) fn of<R: Region>(cells: &Cells<R>) -> Self {
        let applied = cells.applied();
        Self {
            identity: cells.identity().clone(),
            applied,
            cut: cells.cut(applied),
            next: applied.checked_add(1).and_then(|next| cells.cut(next)),
            released: cells.released(),
        }
    }
}

/// What is found instead of facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoFacts {
    /// There is no cells file.
    Absent,
    /// It cannot be read.
    Damaged(CellsError),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The cells are good: seal the rest of them and make the incarnation final.
    Finish {
        /// First apply the batch after the last applied one, which the spool holds.
        flip: bool,
        /// First write tombstones for these batches, which the spool has lost.
        missing: Option<(u64, u64)>,
    },
    /// The cells cannot be used, or there are none: begin anew.
    Begin(Beginning),
}

/// How a fresh incarnation begins when the one before cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) parent: Option<Parent>,
    pub(crate) inherited: Option<InheritedLoss>,
    /// The last instant that the life before is known to have reached.
    pub(crate) not_before: Timestamp,
}

impl Beginning {
    const FIRST: Self = Self {
        parent: None,
        inherited: None,
        not_before: Timestamp::EPOCH,
    };

    /// After an incarnation that the spool knows to its end, or to where it breaks off.
    fn after(tail: Tail, reason: LossReason, from: Timestamp, now: Timestamp) -> Self {
        let end = if tail.is_final {
            ParentEnd::Final
        } else {
            let to = now.max(from);
            ParentEnd::Unclean { reason, from, to }
        };
        Self {
            parent: Some(Parent {
                incarnation: tail.incarnation,
                last_sequence: tail.last,
                last_hash: tail.last_hash,
                end,
            }),
            inherited: None,
            not_before: tail.sealed_until,
        }
    }
}

/// When the fresh incarnation opens: now, but not before what the life before had sealed,
/// unless the clock has gone back so far that it must have been wrong.
pub(crate) fn opening_time(now: Timestamp, not_before: Timestamp) -> Timestamp {
    if now.plus_millis(CLOCK_STEP_MAX_MILLIS) < not_before {
        now
    } else {
        now.max(not_before)
    }
}

/// Decides what a start does. `tail` is the end of the cells' incarnation in the spool,
/// `newest` that of the newest incarnation there.
pub(crate) fn plan(
    facts: Result<&Facts, &NoFacts>,
    tail: Option<Tail>,
    newest: Option<Tail>,
    boot_id: [u8; 16],
    now: Timestamp,
) -> Plan {
    match facts {
        Err(no_facts) => Plan::Begin(without_cells(no_facts, newest, now)),
        Ok(facts) if facts.identity.boot_id == boot_id => same_boot(facts, tail, now),
        Ok(facts) => Plan::Begin(other_boot(facts, tail, now)),
    }
}

fn without_cells(no_facts: &NoFacts, newest: Option<Tail>, now: Timestamp) -> Beginning {
    let damaged = *no_facts != NoFacts::Absent;
    let loss = |from: Timestamp| InheritedLoss {
        reason: LossReason::CellsDamaged,
        from,
        to: now.max(from),
    };
    match newest {
        None => Beginning {
            inherited: damaged.then(|| loss(Timestamp::EPOCH)),
            ..Beginning::FIRST
        },
        Some(tail) => Beginning {
            // The file may have been that of a successor which had not yet sealed anything.
            inherited: (damaged && tail.is_final).then(|| loss(tail.sealed_until)),
            ..Beginning::after(tail, LossReason::CellsDamaged, tail.sealed_until, now)
        },
    }
}

/// The instant from which on counts of an incarnation may be in no batch of the spool.
fn unsealed_from(identity: &Identity, tail: Tail) -> Timestamp {
    let opened = Window::containing(identity.opened_at, identity.window).start();
    tail.sealed_until.max(opened)
}

fn other_boot(facts: &Facts, tail: Option<Tail>, now: Timestamp) -> Beginning {
    let identity = &facts.identity;
    // The checksum of a cut makes it evidence that its batch was sealed, even from a
    // mixture of pages; it need not be the last one.
    let cut = facts.cut.filter(|cut| cut.sequence == facts.applied);
    let known = cut.map(|cut| Tail {
        incarnation: identity.incarnation,
        last: cut.sequence,
        last_hash: cut.hash,
        sealed_until: cut.watermark.min(cut.cut),
        is_final: cut.is_final,
    });
    match (tail, known) {
        (Some(tail), known) => {
            let from = unsealed_from(identity, tail);
            // The spool has lost its end: the loss begins where the spool breaks off, but the
            // child names the last batch that there was.
            let last = known.filter(|known| known.last > tail.last);
            let last = last.map_or(tail, |known| Tail {
                is_final: false,
                ..known
            });
            Beginning::after(last, LossReason::UncleanBoot, from, now)
        }
        (None, Some(known)) => {
            Beginning::after(known, LossReason::UncleanBoot, identity.opened_at, now)
        }
        (None, None) => {
            let from = identity.opened_at;
            let before = identity.inherited;
            Beginning {
                parent: identity.parent,
                inherited: Some(InheritedLoss {
                    reason: before.map_or(LossReason::UncleanBoot, |loss| loss.reason),
                    from: before.map_or(from, |loss| loss.from.min(from)),
                    to: now.max(from),
                }),
                not_before: from,
            }
        }
    }
}

fn same_boot(facts: &Facts, tail: Option<Tail>, now: Timestamp) -> Plan {
    let applied = facts.applied;
    let last = tail.map_or(0, |tail| tail.last);
    let hash = tail.map_or(BatchHash::ZERO, |tail| tail.last_hash);
    let agrees = |cut: Option<CutRecord>| {
        // Of a tombstone no hash is known.
        cut.is_some_and(|cut| hash == BatchHash::ZERO || cut.hash == hash)
    };
    let whole = applied == 0 || facts.cut.is_some();
    if whole && last == applied && (applied == 0 || agrees(facts.cut)) {
        return Plan::Finish {
            flip: false,
            missing: None,
        };
    }
    let ahead = applied.checked_add(1) == Some(last);
    if whole && ahead && hash != BatchHash::ZERO && agrees(facts.next) {
        return Plan::Finish {
            flip: true,
            missing: None,
        };
    }
    if whole && last < applied {
        // What a collector has let go needs no tombstone.
        let known = last.max(facts.released.min(applied));
        let known = known.max(applied.saturating_sub(MISSING_MAX));
        return Plan::Finish {
            flip: false,
            missing: (known < applied).then_some((known + 1, applied)),
        };
    }
    // Cells and spool contradict each other: one of them is a copy from another time. What
    // the cells count beyond the spool cannot be told.
    Plan::Begin(match tail {
        Some(tail) => {
            let from = unsealed_from(&facts.identity, tail);
            Beginning::after(tail, LossReason::CellsDamaged, from, now)
        }
        None => Beginning {
            parent: facts.identity.parent,
            inherited: Some(InheritedLoss {
                reason: LossReason::CellsDamaged,
                from: facts.identity.opened_at,
                to: now.max(facts.identity.opened_at),
            }),
            not_before: facts.identity.opened_at,
        },
    })
}
