//! Copies of a state directory: on another machine, set back, and running twice.
//!
//! What a collector makes of two histories of one incarnation is shown in the tests of its
//! intake and in the simulation; here is what an agent does so that it can.

use std::collections::BTreeMap;

use tollgate_common::{Aggregation, Batch, LossReason, ParentEnd};

use super::world::{Life, World};
use crate::engine::Recovery;
use crate::spool::SyncPolicy;

fn sum(batches: &[&Batch]) -> i128 {
    let rows = batches.iter().flat_map(|batch| &batch.rows);
    rows.filter(|row| row.aggregation == Aggregation::Sum)
        .map(|row| row.value.units())
        .sum()
}

/// An agent with two sealed windows and 7 counted in an open one.
fn host() -> (World, Life) {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    for amount in [3, 5] {
        world.count(&mut life, amount);
        world.tick(&mut life, 10_000).expect("seals");
    }
    world.count(&mut life, 7);
    (world, life)
}

/// 7 with two writers and series weighted 1, 2 and 3.
const OPEN: i128 = 7 * 2 * 6;

#[test]
fn on_another_machine_the_cells_of_a_copy_are_not_read() {
    let (mut world, mut life) = host();
    let mut copy = world.copy();
    copy.boot = 77;
    copy.now = copy.now.plus_millis(4_000);
    let (copied, report) = copy.start().expect("starts");
    assert_eq!(
        (report.recovery, report.rows_recovered),
        (Recovery::Lost, 0)
    );
    let parent = report.parent.expect("the original");
    assert_eq!(parent.incarnation, life.engine.status().incarnation);
    assert_eq!(parent.last_sequence, life.engine.status().sequence);
    let ParentEnd::Unclean { reason, from, to } = parent.end else {
        panic!("{parent:?}");
    };
    // Unknown in amount, bounded in time: from the last cut to the start of the copy.
    assert_eq!(reason, LossReason::UncleanBoot);
    assert!(
        to == copy.now && to.millis_since(from) <= 14_000,
        "{from} {to}"
    );
    copy.finish(copied);
    // The batches of the spool are the very same; the open window is only with the original.
    world.ship(&mut life).expect("ships");
    world.finish(life);
    let both: BTreeMap<_, _> = copy
        .collector
        .batches()
        .chain(world.collector.batches())
        .map(|batch| ((batch.incarnation, batch.sequence), batch))
        .collect();
    for batch in copy.collector.batches() {
        let kept = both[&(batch.incarnation, batch.sequence)];
        assert_eq!(kept.hash(), batch.hash(), "no fork");
    }
    let booked: Vec<_> = both.into_values().collect();
    assert_eq!(sum(&booked), world.accepted_total());
}

#[test]
fn a_directory_set_back_on_the_same_boot_forks_where_it_was_copied() {
    let (mut world, mut life) = host();
    let mut image = world.copy();
    let copied_at = life.engine.status();
    world.count(&mut life, 11);
    world.tick(&mut life, 10_000).expect("seals");
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
    // The image takes the place of the directory, and the agent starts from it.
    image.now = world.now.plus_millis(60_000);
    let (life, report) = image.start().expect("starts");
    assert_eq!(report.recovery, Recovery::Killed);
    image.finish(life);
    let number = copied_at.sequence + 1;
    let of = |world: &World| -> Batch {
        let line = &world.collector.lines[&copied_at.incarnation];
        line.batches[&number].1.clone().expect("a batch")
    };
    let (first, second) = (of(&world), of(&image));
    // The same number after the same batch with another content: that is a fork, and the
    // collector books the row-wise maximum. What both have counted is in both.
    assert_eq!(first.parent_hash, second.parent_hash);
    assert_ne!(first.hash(), second.hash());
    assert_eq!(sum(&[&second]), OPEN);
    assert_eq!(sum(&[&first]), OPEN + 11 * 2 * 6);
    // What is counted later has a name of its own, and the set-back life counts on.
    assert!(second.is_final);
    let lines = world.collector.lines.keys();
    let shared = lines.filter(|life| image.collector.lines.contains_key(*life));
    assert_eq!(shared.count(), 1);
}

/// A virtual machine is copied while it runs: both go on under one name and one boot, until their
/// next batch shows it.
#[test]
fn two_that_run_on_fork_with_their_next_batch_whatever_the_policy() {
    for sync in [SyncPolicy::Always, SyncPolicy::Interval { millis: 25_000 }] {
        let (mut world, mut life) = host();
        world.config.spool.sync = sync;
        let mut twin = world.copy();
        // A copied process has the same memory; a start from the copy reads it.
        world.count(&mut life, 1);
        let incarnation = life.engine.status().incarnation;
        let before = life.engine.status().sequence;
        world.tick(&mut life, 10_000).expect("seals");
        world.finish(life);
        twin.now = twin.now.plus_millis(10_000);
        let (mut other, _) = twin.start().expect("starts");
        twin.count(&mut other, 2);
        twin.finish(other);
        let mine = &world.collector.lines[&incarnation].batches;
        let theirs = &twin.collector.lines[&incarnation].batches;
        for number in 1..=before {
            assert_eq!(mine[&number].0, theirs[&number].0, "the common past");
        }
        assert_ne!(mine[&(before + 1)].0, theirs[&(before + 1)].0, "the fork");
        // Row by row, the maximum of the two plus what the twin has under its own name is never
        // more than was counted.
        let batch = |batches: &BTreeMap<u64, (_, Option<Batch>)>| {
            batches[&(before + 1)].1.clone().expect("a batch")
        };
        let booked = sum(&[&batch(mine)]).max(sum(&[&batch(theirs)]));
        assert_eq!(booked, OPEN + 2 * 6);
        let own: i128 = twin
            .collector
            .batches()
            .filter(|batch| batch.incarnation != incarnation)
            .map(|batch| sum(&[batch]))
            .sum();
        assert_eq!(own, 2 * 2 * 6);
    }
}
