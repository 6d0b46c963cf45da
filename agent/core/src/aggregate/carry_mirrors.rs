//! What a fresh incarnation takes over from the one before: its mirrors.
//!
//! Pages outlive an agent. A new file of cells begins with the mirrors of the old one, where
//! they stood when its last batch was sealed, and with origins and baselines that say the same:
//! nothing of it is counted again, and what the pages count from here on is.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{halves, histogram, level, sum, unique};
use tollgate_common::{Aggregation, TenantId, Timestamp};

use super::cells::Cells;
use super::levels::LevelBase;
use super::owner::{NOTES_USER, PageKey};
use super::slot::{SlotKey, SlotUse, State};
use super::{Region, Writer};

/// Both parities of baselines.
const PARITIES: [u64; 2] = [0, 1];

/// Writes the mirrors of `old`, all of which is sealed up to `until`, into `next` by its writer
/// of the same name. A page of which not every mirror finds room is given up: it is then unknown.
/// Gives whom such pages count for; `None` for one of which nobody knows.
pub(super) fn carry_mirrors<R: Region>(
    old: &Cells<R>,
    next: &Cells<&[AtomicU64]>,
    name: &str,
    writer: &mut Writer<&[AtomicU64]>,
    until: Timestamp,
) -> BTreeSet<Option<TenantId>> {
    let names = (0..).zip(&old.identity().writers);
    let Some((index, _)) = names.into_iter().find(|(_, writer)| *writer == name) else {
        return BTreeSet::new();
    };
    let mirrors = mirrors(old, index);
    let mut incomplete = BTreeSet::new();
    for (slot, key) in &mirrors {
        // Without room, or with damaged words.
        if carry(old, index, *slot, key, writer).is_none() {
            incomplete.extend(key.owner.map(|owner| owner.page));
        }
    }
    let tenants = tenants_of(&incomplete, &mirrors);
    // A cell whose mirror is missing would be counted again from its beginning once there is
    // room. So the page must not be known any more, not by its mark either: should it come, it
    // is quarantined, and what it holds is declared.
    for page in incomplete {
        writer.end_mirrors(page, u32::MAX, until);
    }
    settle(next, name, until);
    tenants
}

/// Whom all pages count for that were known at the end.
pub(super) fn pages_of<R: Region>(old: &Cells<R>) -> BTreeSet<Option<TenantId>> {
    let mut tenants = BTreeSet::new();
    for writer in 0..old.layout().writers() {
        let mirrors = mirrors(old, writer);
        let owners = mirrors.iter().filter_map(|(_, key)| key.owner);
        let pages = owners.map(|owner| owner.page).collect();
        tenants.extend(tenants_of(&pages, &mirrors));
    }
    tenants
}

/// Whom pages count for.
fn tenants_of(pages: &BTreeSet<PageKey>, mirrors: &[(u32, SlotKey)]) -> BTreeSet<Option<TenantId>> {
    let mut tenants = BTreeSet::new();
    // What is no page of a user is the agent's own note.
    for page in pages.iter().filter(|page| page.user < NOTES_USER) {
        let of_page = mirrors.iter().map(|(_, key)| key);
        let of_page = of_page.filter(|key| key.owner.is_some_and(|owner| owner.page == *page));
        // The mark counts for nobody.
        let named = of_page.map(|key| key.key.tenant());
        let named: Vec<_> = named.filter(|tenant| !tenant.is_unattributed()).collect();
        if named.is_empty() {
            tenants.insert(None);
        }
        tenants.extend(named.into_iter().cloned().map(Some));
    }
    tenants
}

/// The live mirrors of a writer.
fn mirrors<R: Region>(cells: &Cells<R>, writer: u32) -> Vec<(u32, SlotKey)> {
    (0..cells.published(writer))
        .filter_map(|slot| {
            // A retired one has a key until it is sealed, and no page any more.
            let head = cells.slot_head(writer, slot)?;
            if head.state != State::Live {
                return None;
            }
            let generation = cells.now(writer, slot)?.generation();
            match cells.slot(writer, slot, generation) {
                SlotUse::Series(key) if key.owner.is_some() => Some((slot, key)),
                _ => None,
            }
        })
        .collect()
}

fn carry<R: Region>(
    old: &Cells<R>,
    index: u32,
    slot: u32,
    of: &SlotKey,
    writer: &mut Writer<&[AtomicU64]>,
) -> Option<()> {
    let now = old.now(index, slot)?;
    let [sum, events] = of.origin?;
    // Of what the page showed nothing is counted again: the fresh cell begins with zero there.
    let counted = [
        now.sum.wrapping_sub(sum),
        sum::events_between(now.done, events),
    ];
    let kind = (of.aggregation, of.scale);
    let place = writer.mirror_from(&of.key, of.owner?, kind, counted)?;
    let wide = || old.wide(index, of.place, of.aggregation);
    match of.aggregation {
        Aggregation::Sum => {}
        Aggregation::TimeWeighted => {
            let state = level::read(wide()?)?;
            level::copy(writer.fresh_cell(place, of.aggregation)?, &state);
        }
        Aggregation::Distribution => {
            let mut cut = histogram::HistogramCut::default();
            let cell = histogram::Cell {
                head: wide()?,
                sum: old.sum_words(index, slot),
                heap: old.heap(index),
            };
            cell.read(&mut cut);
            writer.carry_histogram(place, &cut).ok()?;
        }
        Aggregation::Last | Aggregation::Max => {
            let fresh = writer.fresh_cell(place, of.aggregation)?;
            for half in [0, 1] {
                halves::copy(fresh, half, &halves::read(wide()?, half)?);
            }
        }
        Aggregation::Unique => {
            let (from, heap) = (wide()?, old.heap(index));
            let fresh = unique::Cell {
                halves: writer.fresh_cell(place, of.aggregation)?,
                heap: &[],
            };
            let from = unique::Cell { halves: from, heap };
            for half in [0, 1] {
                fresh.carry(half, &from.read(half, &mut Vec::new())?);
            }
        }
    }
    Some(())
}

/// Makes what the cells of a writer hold its baselines.
fn settle(cells: &Cells<&[AtomicU64]>, name: &str, until: Timestamp) {
    let names = &cells.identity().writers;
    let Some(index) = (0..)
        .zip(names)
        .find_map(|(at, n)| (n == name).then_some(at))
    else {
        return;
    };
    for (_, key) in mirrors(cells, index) {
        settle_wide(cells, index, &key, until);
    }
}

fn settle_wide(cells: &Cells<&[AtomicU64]>, index: u32, key: &SlotKey, until: Timestamp) {
    let Some(cell) = cells.wide(index, key.place, key.aggregation) else {
        return;
    };
    match key.aggregation {
        Aggregation::TimeWeighted => {
            let Some(state) = level::read(cell) else {
                return;
            };
            let opened = cells.identity().opened_at.millis();
            let base = LevelBase::carried(&state, until.millis(), opened);
            for parity in PARITIES {
                let words = cells.wide_base(index, key.place, key.aggregation, parity);
                base.write(words.unwrap_or(&[]));
            }
        }
        Aggregation::Distribution => {
            for (_, at) in histogram::chunks(cell) {
                let counts = cells.heap(index).get(at as usize..).unwrap_or(&[]);
                for parity in PARITIES {
                    let base = cells.chunk_base(index, at, parity).unwrap_or(&[]);
                    for (word, count) in base.iter().zip(counts) {
                        word.store(count.load(Relaxed), Relaxed);
                    }
                }
            }
        }
        Aggregation::Last | Aggregation::Max | Aggregation::Unique => {
            let counts = match key.aggregation {
                Aggregation::Unique => {
                    let cell = unique::Cell {
                        halves: cell,
                        heap: &[],
                    };
                    [0, 1].map(|half| cell.inserts(half))
                }
                _ => [0, 1].map(|half| halves::read(cell, half).map_or(0, |cut| cut.events)),
            };
            for parity in PARITIES {
                let base = cells.wide_base(index, key.place, key.aggregation, parity);
                for (word, count) in base.into_iter().flatten().zip(counts) {
                    word.store(count, Relaxed);
                }
            }
        }
        Aggregation::Sum => {}
    }
}
