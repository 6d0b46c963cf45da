//! Booking a batch: what is new, what a fork adds, what an unseen branch leaves open.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{
    Batch, Detail, Incarnation, Loss, LossAmount, LossReason, Quantity, Rollup, Timestamp,
};

use super::NoticeKind;
use super::agent::{Agent, BRANCHES_MAX, derived};
use super::kept_rows::{KeptRow, fingerprint};
use super::life::Life;
use super::outbox::{Origin, Outbox, key_of, minus, plus, unknown};
use super::totals::{self, Key};
use crate::entry::{Digest, ReceivedBatch};
use crate::fold::kept::KeptDetail;
use crate::fold::{DeclaredLoss, RowSet};

/// Books a batch that is new in the life `name`.
pub(super) fn take_fresh(
    agent: &mut Agent,
    name: Incarnation,
    received: &Arc<ReceivedBatch>,
    hash: Digest,
    out: &mut Outbox,
) {
    let batch = &received.batch;
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: name,
    };
    let life = agent
        .lives
        .entry(name)
        .or_insert_with(|| Life::new(batch.span.from));
    // What another branch has booked of the same seal may be in this part of it.
    let rows = RowSet::whole(received);
    let figures = totals::figures_of(batch, &rows);
    let rollups = if life.is_part_of_fork(batch) {
        book_above(received, None, &origin, out)
    } else {
        out.rows(&origin, batch.sequence, rows);
        batch.rows.len()
    };
    let recovered = life.insert(batch, hash, figures, &origin, out);
    agent.counters.batches += 1;
    agent.counters.rollups += rollups as u64;
    if recovered {
        agent.counters.lost = agent.counters.lost.saturating_sub(1);
        let detail = "the batch was declared lost and arrived after all".to_owned();
        out.notice(
            NoticeKind::Recovered,
            Some(&origin),
            Some(batch.sequence.get()),
            detail,
        );
    }
    declare_losses(batch, &origin, false, out);
    agent.follow_up(name, batch, recovered, &batch.agent, out);
}

/// Losses that the agent itself declares. They are in no row and in no running total.
fn declare_losses(batch: &Batch, origin: &Origin, at_most: bool, out: &mut Outbox) {
    for loss in &batch.losses {
        // A loss names no scale; the batch's figures of the same account do.
        let same = |tenant, meter| {
            loss.tenant.as_ref() == Some(tenant) && loss.meter.as_ref() == Some(meter)
        };
        let of_totals = batch
            .totals
            .iter()
            .find(|t| same(&t.tenant, &t.meter))
            .map(|t| t.scale);
        let of_rows = || {
            batch
                .rows
                .iter()
                .find(|r| same(r.series.tenant(), r.series.meter()))
                .map(|r| r.scale)
        };
        let mut loss = loss.clone();
        if at_most && let LossAmount::Exact(quantity) = loss.amount {
            loss.amount = LossAmount::AtMost(quantity);
        }
        out.loss(DeclaredLoss {
            agent: Some(origin.agent.clone()),
            incarnation: Some(origin.incarnation),
            sequences: Some((batch.sequence.get(), batch.sequence.get())),
            scale: of_totals.or_else(of_rows).unwrap_or_default(),
            loss,
        });
    }
}

/// Books the first batch of a losing branch against the batch that came first.
///
/// With `old` and `new` the values of a row in both: `max(old, new)` is what both hosts can
/// have counted at least, of which `old` is booked; `max(0, new - old)` is booked now and
/// `min(old, new)` may be usage counted twice by copied cells, or usage that both counted: it
/// is declared lost at most. The two add up to `new`, so that conservation holds. Without the
/// old rows, and of a branch too many, nothing is booked. Values are compared by series over
/// all windows and all parts of a seal, since two copies may disagree about the time and cut
/// parts at other places; later parts of a forked seal are declared, not booked. Of a
/// distribution the buckets are compared like the sum. Rows of `last`, `max` and `unique` are
/// booked, since booking one twice changes nothing.
///
/// Returns the life under which the branch continues.
pub(super) fn take_fork(
    agent: &mut Agent,
    name: Incarnation,
    received: &Arc<ReceivedBatch>,
    hash: Digest,
    out: &mut Outbox,
) -> Incarnation {
    let batch = &received.batch;
    let sequence = batch.sequence.get();
    let kept = agent
        .lives
        .get(&name)
        .filter(|_| agent.can_branch())
        .and_then(|life| life.rows_of_seal(sequence));
    let branch = derived(hash);
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: branch,
    };
    let rollups = book_above(received, kept.as_deref(), &origin, out);
    agent.counters.forks += 1;
    agent.counters.rollups += rollups as u64;
    declare_losses(batch, &origin, true, out);
    follow_branch(agent, received, hash, &origin, out);
    for life in [name, branch] {
        if let Some(life) = agent.lives.get_mut(&life) {
            life.note_fork(sequence);
        }
    }
    branch
}

/// Books what the rows of a batch have above what is `kept` of the other branch, and declares
/// the rest lost at most; without `kept` all of it. Returns the number of rows booked.
fn book_above(
    received: &ReceivedBatch,
    kept: Option<&[KeptRow]>,
    origin: &Origin,
    out: &mut Outbox,
) -> usize {
    let batch = &received.batch;
    let sequence = batch.sequence.get();
    let mut at_most: BTreeMap<Key, (Quantity, Timestamp, Timestamp)> = BTreeMap::new();
    // What is left of the other branch's value of a series, after rows of earlier windows.
    let mut left: BTreeMap<u64, KeptRow> = BTreeMap::new();
    let (mut booked, mut key) = (Vec::new(), Vec::new());
    for (index, row) in batch.rows.iter().enumerate() {
        let verdict = received.verdicts.of(index);
        if !row.aggregation.adds_up() {
            booked.push((row.clone(), verdict));
            continue;
        }
        let old = kept.map(|kept| {
            let series = fingerprint(row, batch.incarnation, &mut key);
            left.entry(series).or_insert_with(|| row_of(kept, series))
        });
        let ours = KeptDetail(row.detail.clone());
        let mut events = row.events;
        let (twice, above) = match old {
            Some(old) => {
                let twice = old.value.min(row.value);
                events = row.events.saturating_sub(old.events);
                let above = ours.above(&old.detail);
                old.detail = old.detail.above(&ours);
                old.value = minus(old.value, twice);
                old.events = old.events.saturating_sub(row.events);
                (twice, above)
            }
            None => (row.value, KeptDetail::default()),
        };
        if !twice.is_zero() {
            let (from, to) = (row.window.start(), row.window.end());
            let sum = at_most
                .entry(key_of(row))
                .or_insert((Quantity::ZERO, from, to));
            *sum = (plus(sum.0, twice), sum.1.min(from), sum.2.max(to));
        }
        let value = minus(row.value, twice);
        let counts_more = matches!(&above.0, Detail::Distribution(h) if !h.is_empty());
        if !value.is_zero() || counts_more {
            let row = Rollup {
                value,
                events,
                detail: if row.detail.is_none() {
                    Detail::None
                } else {
                    above.0
                },
                ..row.clone()
            };
            booked.push((row, verdict));
        }
    }
    let rollups = booked.len();
    out.rows(origin, batch.sequence, RowSet::new(booked));
    for (key, (quantity, from, to)) in at_most {
        let Key {
            tenant,
            meter,
            scale,
        } = key;
        out.loss(DeclaredLoss {
            agent: Some(batch.agent.clone()),
            incarnation: Some(origin.incarnation),
            sequences: Some((sequence, sequence)),
            scale,
            loss: Loss {
                reason: LossReason::Fork,
                tenant: Some(tenant),
                meter: Some(meter),
                amount: LossAmount::AtMost(quantity),
                from,
                to,
            },
        });
    }
    rollups
}

/// Books a batch of a branch whose beginning has not been seen: its rows count, and what the
/// branch held before is declared unknown. Of a branch too many nothing is booked.
pub(super) fn take_orphan(
    agent: &mut Agent,
    name: Incarnation,
    received: &Arc<ReceivedBatch>,
    hash: Digest,
    out: &mut Outbox,
) -> Incarnation {
    if !agent.can_branch() {
        return take_fork(agent, name, received, hash, out);
    }
    let batch = &received.batch;
    let branch = derived(hash);
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: branch,
    };
    let since = agent.lives.get(&name).map_or(Timestamp::EPOCH, Life::cut);
    let time = (since.min(batch.span.from), batch.span.from.max(since));
    let before = batch.sequence.get() - 1;
    out.loss(unknown(
        &origin,
        Some((before, before)),
        LossReason::Fork,
        time,
    ));
    out.rows(&origin, batch.sequence, RowSet::whole(received));
    agent.counters.forks += 1;
    agent.counters.rollups += batch.rows.len() as u64;
    declare_losses(batch, &origin, false, out);
    follow_branch(agent, received, hash, &origin, out);
    branch
}

fn follow_branch(
    agent: &mut Agent,
    received: &Arc<ReceivedBatch>,
    hash: Digest,
    origin: &Origin,
    out: &mut Outbox,
) {
    let batch = &received.batch;
    let Some(name) = agent.begin_branch(batch, hash) else {
        let detail = format!("more than {BRANCHES_MAX} branches; this one is not followed");
        out.notice(
            NoticeKind::Unsupported,
            Some(origin),
            Some(batch.sequence.get()),
            detail,
        );
        return;
    };
    if let Some(life) = agent.lives.get_mut(&name) {
        let figures = totals::figures_of(batch, &RowSet::whole(received));
        life.insert(batch, hash, figures, origin, out);
    }
}

/// The kept row with this fingerprint, zero if there is none.
fn row_of(kept: &[KeptRow], fingerprint: u64) -> KeptRow {
    match kept.binary_search_by_key(&fingerprint, |row| row.fingerprint) {
        Ok(index) => kept[index].clone(),
        Err(_) => KeptRow {
            fingerprint,
            value: Quantity::ZERO,
            events: 0,
            detail: KeptDetail::default(),
        },
    }
}
