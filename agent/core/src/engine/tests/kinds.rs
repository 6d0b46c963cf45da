//! Every aggregation through kills: what comes out is what was accepted, series by series.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_common::sketch::{UniqueSketch, bucket_of, hash};
use tollgate_common::{Aggregation, Detail, LossReason, ParentEnd, Scale, Window};

use super::world::{Fault, Life, World, series};
use crate::aggregate::{SeriesLimits, Slot};
use crate::engine::Recovery;
use crate::spool::SyncPolicy;

type InWindow<T> = BTreeMap<(String, i64), T>;

/// A level: what it is, since when, and the area before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level(i64, i64, i128);

/// What was accepted, or what has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kinds {
    max: InWindow<i128>,
    last: InWindow<i128>,
    unique: InWindow<u64>,
    distribution: BTreeMap<String, (i128, BTreeMap<u32, u64>)>,
    area: BTreeMap<String, i128>,
    sum: BTreeMap<String, i128>,
}

/// What is counted, and how.
#[derive(Default)]
struct Model {
    kinds: Kinds,
    hashes: InWindow<BTreeSet<u64>>,
    levels: BTreeMap<String, Level>,
    round: u64,
    /// Series that are counted on besides, to fill parts.
    more: u32,
}

const TENANTS: [&str; 4] = ["acme", "umbrella", "initech", "hooli"];

impl Model {
    /// Counts with both writers on series of every kind; some only now and then.
    fn count(&mut self, world: &World, life: &mut Life) {
        self.round += 1;
        let n = self.round;
        let width = life.engine.window();
        let now = life.engine.anchor().time(world.now);
        let window = Window::containing(now, width).start().millis();
        for (index, writer) in (0u64..).zip(&mut life.writers) {
            writer.poll_retired();
            for more in 0..self.more {
                let key = series("acme", &format!("more-{more}"));
                let slot = writer.resolve(&key, Aggregation::Sum, Scale::ZERO);
                writer.received(1);
                writer.add(slot.expect("room"), n).expect("accepted");
                *self.kinds.sum.entry(key.to_string()).or_default() += i128::from(n);
            }
            for (tenant, name) in (0u64..).zip(TENANTS) {
                // The last tenants come seldom, so that their series are idle in between.
                if tenant >= 2 && !(n + index).is_multiple_of(5) {
                    continue;
                }
                let shared = series(name, "eu");
                let own = series(name, ["a", "b"][usize::from(index == 1)]);
                let mut slot = |own: bool, kind| -> (String, Slot) {
                    let key = if own {
                        &series(name, ["a", "b"][usize::from(index == 1)])
                    } else {
                        &shared
                    };
                    let slot = writer.resolve(key, kind, Scale::ZERO).expect("room");
                    (key.to_string(), slot)
                };
                let (sum_key, sum) = slot(false, Aggregation::Sum);
                let max = slot(false, Aggregation::Max).1;
                let unique = slot(false, Aggregation::Unique).1;
                let size = slot(false, Aggregation::Distribution).1;
                let (own_key, last) = slot(true, Aggregation::Last);
                let level = slot(true, Aggregation::TimeWeighted).1;
                assert_eq!(own_key, own.to_string());
                writer.received(6);

                writer.add(sum, n + tenant).expect("accepted");
                *self.kinds.sum.entry(sum_key.clone()).or_default() += i128::from(n + tenant);

                let value = i64::try_from((n * 7 + index * 3 + tenant) % 50).expect("small") - 20;
                writer.set_max(max, now, value).expect("accepted");
                let at = (sum_key.clone(), window);
                let known = self.kinds.max.entry(at.clone()).or_insert(i128::MIN);
                *known = (*known).max(value.into());

                let text = hash(format!("{}", (n * 3 + index) % 17).as_bytes());
                writer.insert(unique, now, text).expect("accepted");
                self.hashes.entry(at).or_default().insert(text);

                let size_of = (n * n * (tenant + 1)) << (n % 9);
                writer.record(size, size_of, index + 1).expect("accepted");
                let (total, buckets) = self.kinds.distribution.entry(sum_key).or_default();
                *total += i128::from(size_of) * i128::from(index + 1);
                *buckets.entry(bucket_of(size_of)).or_default() += index + 1;

                writer.set(last, now, value).expect("accepted");
                self.kinds
                    .last
                    .insert((own_key.clone(), window), value.into());

                // A level holds over several rounds, kills and restarts.
                if n % 3 == 1 {
                    let value = i64::try_from((n + tenant) % 4).expect("small");
                    writer.set_level(level, now, value).expect("accepted");
                    let Level(before, since, area) =
                        self.levels.get(&own_key).copied().unwrap_or_default();
                    let more = i128::from(before) * i128::from(now.millis() - since);
                    let next = Level(value, now.millis(), area + more);
                    self.levels.insert(own_key, next);
                }
            }
        }
    }

    /// What was accepted, with levels up to `until`.
    fn accepted(mut self, until: i64) -> Kinds {
        for (key, Level(level, since, area)) in self.levels {
            let area = area + i128::from(level) * i128::from(until - since);
            if area > 0 {
                self.kinds.area.insert(key, area);
            }
        }
        for (at, hashes) in self.hashes {
            self.kinds.unique.insert(at, hashes.len() as u64);
        }
        self.kinds
    }
}

/// What the collector has, in the order of the lives.
fn arrived(world: &World) -> Kinds {
    let mut kinds = Kinds::default();
    let mut sketches: InWindow<UniqueSketch> = BTreeMap::new();
    for batch in world.collector.batches() {
        for row in &batch.rows {
            let key = row.series.to_string();
            let at = (key.clone(), row.window.start().millis());
            let units = row.value.units();
            match row.aggregation {
                Aggregation::Sum => *kinds.sum.entry(key).or_default() += units,
                Aggregation::Max => {
                    let known = kinds.max.entry(at).or_insert(i128::MIN);
                    *known = (*known).max(units);
                }
                Aggregation::Last => drop(kinds.last.insert(at, units)),
                Aggregation::TimeWeighted => *kinds.area.entry(key).or_default() += units,
                Aggregation::Unique => {
                    let Detail::Unique(sketch) = &row.detail else {
                        panic!("no sketch")
                    };
                    let met = sketches.entry(at);
                    met.and_modify(|met| met.merge(sketch))
                        .or_insert_with(|| (**sketch).clone());
                }
                Aggregation::Distribution => {
                    let Detail::Distribution(histogram) = &row.detail else {
                        panic!("no histogram")
                    };
                    let (sum, buckets) = kinds.distribution.entry(key).or_default();
                    *sum += units;
                    for &(bucket, count) in histogram.buckets() {
                        *buckets.entry(bucket).or_default() += count;
                    }
                    let count: u64 = histogram.buckets().iter().map(|b| b.1).sum();
                    assert_eq!(count, row.events);
                }
            }
        }
    }
    kinds.area.retain(|_, area| *area > 0);
    for (at, sketch) in sketches {
        kinds.unique.insert(at, sketch.estimate());
    }
    kinds
}

/// Kind by kind, so that a failure is short.
fn same(arrived: &Kinds, accepted: &Kinds) {
    assert_eq!(arrived.sum, accepted.sum);
    assert_eq!(arrived.max, accepted.max);
    assert_eq!(arrived.last, accepted.last);
    assert_eq!(arrived.unique, accepted.unique);
    assert_eq!(arrived.area, accepted.area);
    assert_eq!(arrived.distribution, accepted.distribution);
}

fn world() -> World {
    let mut world = World::new(1);
    world.config.series_max = 128;
    world.config.key_bytes = 32 << 10;
    world.config.limits = SeriesLimits {
        idle_millis: 25_000,
        wide_bytes: Some(2 << 20),
        ..SeriesLimits::default()
    };
    world
}

/// Ten rounds, with a kill and a stop among them, and whatever fault is prepared.
fn run(prepare: impl Fn(&mut World)) -> (World, u32) {
    let mut world = world();
    prepare(&mut world);
    let (mut model, mut died) = (Model::default(), 0);
    if world.config.spool.bytes_max <= 64 << 10 {
        model.more = 60;
    }
    let mut life: Option<Life> = None;
    let mut round = 0;
    while round < 14 {
        let result = (|| -> Result<(), String> {
            let mut running = match life.take() {
                Some(running) => running,
                None => world.start().map_err(|e| e.to_string())?.0,
            };
            model.count(&world, &mut running);
            round += 1;
            if round == 5 {
                drop(running);
                world.kill();
                world.now = world.now.plus_millis(4_321);
                return Ok(());
            }
            if round == 9 {
                world.stop(running).map_err(|e| e.to_string())?;
                return Ok(());
            }
            world.tick(&mut running, 7_300).map_err(|e| e.to_string())?;
            if round % 3 == 2 {
                world.ship(&mut running).map_err(|e| e.to_string())?;
            }
            life = Some(running);
            Ok(())
        })();
        if let Err(error) = result {
            died += 1;
            assert!(died < 4, "{error}");
            world.kill();
            world.now = world.now.plus_millis(2_500);
        }
    }
    let until = loop {
        let stopped = match life.take() {
            Some(life) => Ok(life),
            None => world
                .start()
                .map(|(life, _)| life)
                .map_err(|e| e.to_string()),
        }
        .and_then(|mut life| {
            life.writers.clear();
            // Levels that were carried are cut where the last life ends.
            life.engine
                .handle_stop(world.now)
                .map_err(|e| e.to_string())?;
            world.ship(&mut life).map_err(|e| e.to_string())?;
            if !life.engine.status().closed {
                life.engine
                    .handle_stop(world.now)
                    .map_err(|e| e.to_string())?;
                world.ship(&mut life).map_err(|e| e.to_string())?;
            }
            Ok(life.engine.status().cut.millis())
        });
        match stopped {
            Ok(until) => break until,
            Err(error) => {
                died += 1;
                assert!(died < 4, "{error}");
                world.kill();
            }
        }
    };
    world.collector.check_lines();
    same(&arrived(&world), &model.accepted(until));
    (world, died)
}

fn sweep(stride: usize, prepare: impl Fn(&mut World) + Copy) {
    let (world, died) = run(prepare);
    assert_eq!(died, 0);
    assert!(!world.collector.declared());
    for number in (1..=world.storage.operations()).step_by(stride) {
        for fault in [Fault::Stop, Fault::Error] {
            if fault == Fault::Error && !number.is_multiple_of(4) {
                continue;
            }
            let context = format!("{fault:?} at operation {number}");
            let swept = std::panic::AssertUnwindSafe(|| {
                run(|world| {
                    prepare(world);
                    world.fault_at(number, fault);
                })
            });
            let result = std::panic::catch_unwind(swept);
            assert!(result.is_ok(), "{context}");
        }
    }
}

#[test]
fn every_kind_survives_a_kill_at_any_operation() {
    sweep(1, |_| {});
}

#[test]
fn every_kind_survives_in_small_parts_and_a_spool_that_fills() {
    let small = |world: &mut World| world.config.spool.bytes_max = 64 << 10;
    let (world, _) = run(small);
    let spans: Vec<_> = world
        .collector
        .batches()
        .map(|b| (b.incarnation, b.span.from))
        .collect();
    let distinct: BTreeSet<_> = spans.iter().collect();
    assert!(spans.len() > distinct.len() + 5, "seals have parts");
    sweep(7, small);
}

#[test]
fn every_kind_survives_with_a_lazy_spool() {
    for policy in [
        SyncPolicy::Interval { millis: 25_000 },
        SyncPolicy::OnDisconnect { millis: 25_000 },
    ] {
        sweep(5, |world| {
            world.config.spool.sync = policy;
            world.stay = true;
        });
    }
}

/// Any subset of the stores of a seal, with the record in the spool and without.
#[test]
fn every_kind_survives_a_kill_between_any_two_stores_of_a_seal() {
    for parts in [64 << 10, 1 << 20] {
        // The same script every time: a start, three sealed windows, and a fourth.
        let script = |stop: bool| {
            let mut world = world();
            world.config.spool.bytes_max = parts;
            world.config.spool.segment_bytes = 4096;
            let mut model = Model::default();
            let (mut life, _) = world.start().expect("starts");
            for _ in 0..3 {
                model.count(&world, &mut life);
                world.tick(&mut life, 10_000).expect("seals");
            }
            model.count(&world, &mut life);
            let before = world.home.words();
            if stop {
                world.fault_at(world.storage.operations() + 1, Fault::Stop);
            }
            let result = world.tick(&mut life, 10_000);
            assert_eq!(result.is_err(), stop);
            drop(life);
            world.kill();
            (world, model, before)
        };
        let (stopped, _, before) = script(true);
        let after = stopped.home.words();
        let stored: Vec<usize> = (0..before.len())
            .filter(|&at| before[at] != after[at])
            .collect();
        assert!(stored.len() > 20, "{}", stored.len());
        let mut random = 7u64;
        for round in 0..40 {
            let mut words = before.clone();
            for (index, &at) in stored.iter().enumerate() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let is_there = match round {
                    0..16 => index * 16 < round * stored.len(),
                    16..39 => random & 1 == 0,
                    _ => true,
                };
                if is_there {
                    words[at] = after[at];
                }
            }
            // In the last round the batch is in the spool, and only the flip is missing.
            let (source, model, _) = script(round < 39);
            let mut world = source.copy();
            world.config = source.config.clone();
            if round < 39 || parts > 1 << 19 {
                world.home.set_words(&words);
            }
            let (life, report) = world.start().expect("starts");
            assert_eq!(report.recovery, Recovery::Killed);
            world.now = world.now.plus_millis(1_234);
            world.finish(life);
            assert!(!world.collector.declared());
            let until = world.now.millis();
            same(&arrived(&world), &model.accepted(until));
        }
    }
}

#[test]
fn an_unclean_boot_declares_what_is_missing_and_doubles_nothing() {
    for seed in 1..20 {
        let mut world = world();
        let mut model = Model::default();
        let (mut life, _) = world.start().expect("starts");
        for _ in 0..4 {
            model.count(&world, &mut life);
            world.tick(&mut life, 10_000).expect("seals");
        }
        world.ship(&mut life).expect("ships");
        let (sealed, cut) = (arrived(&world), life.engine.status().cut);
        let old = life.engine.status().incarnation;
        model.count(&world, &mut life);
        drop(life);
        world.crash(seed);
        world.now = world.now.plus_millis(60_000);
        let (life, report) = world.start().expect("starts");
        assert_eq!(report.recovery, Recovery::Lost);
        let parent = report.parent.expect("known");
        assert_eq!(parent.incarnation, old);
        let ParentEnd::Unclean { reason, from, to } = parent.end else {
            panic!("declared clean")
        };
        assert_eq!((reason, to), (LossReason::UncleanBoot, world.now));
        assert!(
            from <= cut && cut.millis_since(from) <= 10_000,
            "bounded by a window"
        );
        world.finish(life);
        assert_eq!(arrived(&world), sealed, "seed {seed}");
    }
}

/// A life whose clock is set back by hours: levels that nobody sets go on.
#[test]
fn levels_go_on_after_the_clock_was_set_back_by_hours() {
    const HOUR: i64 = 3_600_000;
    // Set long before the step, or shortly before it; set again after it, or never; killed after
    // it, or not.
    for case in 0..8 {
        let (early, again, killed) = (case % 2 == 0, case / 2 % 2 == 0, case / 4 == 0);
        let mut world = world();
        let (mut life, _) = world.start().expect("starts");
        let key = series("acme", "eu");
        let hold = if early { 3 * HOUR } else { 20_000 };
        let kind = Aggregation::TimeWeighted;
        let slot = life.writers[0]
            .resolve(&key, kind, Scale::ZERO)
            .expect("room");
        let set = |world: &World, life: &mut Life| {
            let now = life.engine.anchor().time(world.now);
            life.writers[0].set_level(slot, now, 4).expect("accepted");
        };
        set(&world, &mut life);
        let began = world.now;
        let mut held = 0;
        let run = |world: &mut World, life: &mut Life, millis: i64| {
            for _ in 0..millis / 10_000 {
                world.tick(life, 10_000).expect("goes on");
            }
        };
        run(&mut world, &mut life, hold);
        world.wall_ahead -= 2 * HOUR;
        run(&mut world, &mut life, 100_000);
        if again {
            set(&world, &mut life);
        }
        run(&mut world, &mut life, 100_000);
        if killed {
            drop(life);
            world.kill();
            world.now = world.wall();
            held += 2 * HOUR;
            world.wall_ahead = 0;
            life = world.start().expect("starts").0;
            run(&mut world, &mut life, 50_000);
        }
        held += world.now.millis_since(began);
        life.writers.clear();
        life.engine.handle_stop(world.now).expect("stops");
        world.ship(&mut life).expect("ships");
        let kinds = arrived(&world);
        let area = kinds.area[&key.to_string()];
        let exact = i128::from(held) * 4;
        // What the first set after the step does not know is a window at most, and declared.
        let missing = if early { 0 } else { 4 * 10_000 };
        assert!(area <= exact, "case {case}: {area} of {exact}");
        assert!(area >= exact - missing, "case {case}: {area} of {exact}");
        let losses = world.collector.batches().flat_map(|batch| &batch.losses);
        let declared = losses
            .filter(|loss| loss.reason == LossReason::ClockSetBack)
            .count();
        assert_eq!(declared > 0, !early, "case {case}");
    }
}

/// A record that a kill cuts short does not put its histogram off for the life that goes on.
#[test]
fn a_histogram_goes_on_after_a_kill_within_a_record() {
    // How far the record came: begun; bucket; sum.
    for stores in 1..=3 {
        let mut world = world();
        let (mut life, _) = world.start().expect("starts");
        let key = series("acme", "eu");
        let kind = Aggregation::Distribution;
        let slot = life.writers[0]
            .resolve(&key, kind, Scale::ZERO)
            .expect("room");
        life.writers[0].record(slot, 5, 2).expect("accepted");
        let whole = world.home.words();
        life.writers[0].record(slot, 5, 1).expect("accepted");
        let next = world.home.words();
        drop(life);
        let changed: Vec<_> = (0..whole.len())
            .filter(|&at| whole[at] != next[at])
            .collect();
        assert_eq!(changed.len(), 4, "sum, done, begun, bucket");
        let (sum, done, begun, bucket) = (changed[0], changed[1], changed[2], changed[3]);
        let mut words = whole.clone();
        for &at in [begun, bucket, sum].iter().take(stores) {
            words[at] = next[at];
        }
        world.kill();
        world.home.set_words(&words);
        let region = {
            use crate::aggregate::CellsHome;
            world.home.load().expect("there").expect("there")
        };
        let cells = crate::aggregate::Cells::open(region).expect("whole");
        assert_eq!(cells.end_records(), 1);
        assert_eq!(cells.end_records(), 0);
        let words = world.home.words();
        assert_eq!(words[done] & 0xffff, words[begun] & 0xffff);
        let counted = if stores == 1 { 2 } else { 3 };
        assert_eq!(words[done] & 0xffff, counted);
        assert_eq!(words[bucket], counted);
        drop(cells);
        let (life, _) = world.start().expect("starts");
        world.finish(life);
        let arrived = arrived(&world);
        let (value, buckets) = &arrived.distribution[&key.to_string()];
        assert_eq!(buckets[&bucket_of(5)], counted);
        assert_eq!(*value, if stores == 3 { 15 } else { 10 });
    }
}
