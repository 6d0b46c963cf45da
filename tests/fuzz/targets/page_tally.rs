//! Pages of applications, as the agent counts them: a hostile one beside an honest one, with
//! seals, kills and restarts of the agent between any two looks.
//!
//! The input is a list of steps, a byte for what is done and then what that needs. Whatever a
//! page shows: no panic, no account that does not balance, nothing of anybody else's, and the
//! honest page is billed exactly.

#![no_main]

#[path = "../support/agent.rs"]
mod agent;
#[path = "../support/page.rs"]
mod page;

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::{Home, MemoryEngine, WRITER, Words};
use libfuzzer_sys::fuzz_target;
use page::{KINDS, Page};
use tollgate::page::at;
use tollgate_agent_core::aggregate::PageKey;
use tollgate_agent_core::attribute::{Attributor, Glob, Meter};
use tollgate_agent_core::config::{SdkAllow, SdkTenants};
use tollgate_agent_core::input::live::Live;
use tollgate_agent_core::input::page::{PageTally, Pass};
use tollgate_common::quantity::Inexact;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{Aggregation, Batch, Incarnation, Scale, Timestamp};

const USER: u32 = 1000;
const STEPS_MAX: usize = 400;

fn allow(tenant: &str) -> SdkAllow {
    SdkAllow {
        uid: None,
        gid: None,
        tenants: SdkTenants::Patterns(vec![Glob::new(tenant)]),
        meters: Vec::new(),
    }
}

fn live() -> Arc<Live> {
    let meters = KINDS.map(|aggregation| {
        let meter = Meter {
            unit: "1".to_owned(),
            scale: Scale::ZERO,
            aggregation,
            inexact: Inexact::Reject,
        };
        (page::meter(aggregation), meter)
    });
    Arc::new(Live::new(Attributor::new(
        meters.into_iter().collect(),
        Vec::new(),
    )))
}

/// One life of the agent.
struct Life {
    engine: MemoryEngine,
    tally: PageTally<Words>,
    honest: Option<PageKey>,
    hostile: Option<PageKey>,
}

struct World {
    home: Home,
    storage: MemoryStorage,
    now: Timestamp,
    lives: u8,
    honest: Page,
    hostile: Page,
    counted: i128,
    /// As a collector keeps them: what comes again is the same.
    batches: BTreeMap<(Incarnation, u64), Batch>,
}

impl World {
    fn start(&mut self) -> Life {
        self.lives = self.lives.wrapping_add(1).max(1);
        let engine = agent::start(&mut self.home, &self.storage, self.now, self.lives);
        let engine = engine.expect("a disk without faults");
        let writer = engine.writer(WRITER).expect("free");
        let times = (engine.alive_before(), self.now);
        let tally = PageTally::new(writer, live(), engine.declarations(), 42, times);
        let mut life = Life {
            tally: tally.expect("room"),
            engine,
            honest: None,
            hostile: None,
        };
        self.hand_over(&mut life);
        life
    }

    /// Both applications bring their pages.
    fn hand_over(&mut self, life: &mut Life) {
        let words = self.honest.words();
        let taken = life
            .tally
            .handle_page(words, USER, &allow("acme"), self.now);
        life.honest = Some(taken.expect("an honest page is taken"));
        self.honest.put(at::HOME, life.tally.mirror());
        let words = self.hostile.words();
        let taken = life
            .tally
            .handle_page(words, USER + 1, &allow("evil"), self.now);
        if let Ok(key) = taken {
            life.hostile = Some(key);
            self.hostile.put(at::HOME, life.tally.mirror());
        }
    }

    /// The honest page is looked at until all of it is counted.
    fn look(&mut self, life: &mut Life) {
        let Some(key) = life.honest else { return };
        let pass = life
            .tally
            .handle_pass(key, self.honest.words(), self.now, false);
        assert!(matches!(pass, Pass::Complete | Pass::More), "{pass:?}");
    }

    fn tick(&mut self, life: &mut Life, millis: i64) {
        self.now = self.now.plus_millis(millis);
        life.engine.handle_wall(self.now, self.now);
        life.engine
            .handle_tick(self.now)
            .expect("a disk without faults");
        life.tally.poll_retired(self.now);
        while life.tally.poll_vanished(self.now).is_some() {}
        let batches = agent::drain(&mut life.engine, self.now, 64);
        self.take(batches);
        life.engine.handle_disconnected(self.now, 0, "done");
        for input in life.engine.status().inputs {
            assert!(input.account.balances(), "{:?}", input.account);
        }
    }

    fn take(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            let of = (batch.incarnation, batch.sequence.get());
            let hash = batch.hash();
            let known = self.batches.insert(of, batch);
            assert!(known.is_none_or(|known| known.hash() == hash), "a fork");
        }
    }

    fn end(&mut self, life: Life, killed: bool) {
        let Life {
            mut engine, tally, ..
        } = life;
        drop(tally);
        if !killed {
            engine.handle_stop(self.now).expect("a disk without faults");
            let batches = agent::drain(&mut engine, self.now, 64);
            self.take(batches);
        }
        drop(engine);
        self.home.kill();
        self.storage.kill();
    }
}

/// What is left of the input.
struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}

fn step(world: &mut World, life: Life, steps: &mut Steps<'_>) -> Option<Life> {
    let mut life = life;
    let [what] = steps.take()?;
    match what % 8 {
        // A store to the hostile page: near its cells, or anywhere.
        0 | 1 => {
            let at = u16::from_le_bytes(steps.take()?);
            let value = u64::from_le_bytes(steps.take()?);
            // The header and the mark stay, or the page ends at once.
            let at = usize::from(at) % page::WORDS;
            world.hostile.put(at.max(at::COUNT), value);
        }
        2 => {
            let [slot, n] = steps.take()?;
            let now = world.now.millis();
            world
                .hostile
                .count(slot.into(), now, u64::from(n) << (what >> 3));
        }
        3 => {
            if let Some(key) = life.hostile {
                let orphaned = what & 0x80 != 0;
                life.tally
                    .handle_pass(key, world.hostile.words(), world.now, orphaned);
            }
        }
        4 => {
            let [n] = steps.take()?;
            world.honest.count(0, world.now.millis(), n.into());
            world.counted += i128::from(n);
            world.look(&mut life);
        }
        5 => {
            let [seconds] = steps.take()?;
            world.tick(&mut life, i64::from(seconds) * 500);
        }
        6 => {
            world.end(life, what & 0x80 != 0);
            life = world.start();
        }
        _ => {
            if let Some(key) = life.hostile.filter(|_| what & 0x80 != 0) {
                life.tally.handle_end(key, world.now);
                life.hostile = None;
            }
            world.hand_over(&mut life);
        }
    }
    Some(life)
}

fuzz_target!(|data: &[u8]| {
    let mut world = World {
        home: Home::default(),
        storage: MemoryStorage::new(1),
        now: Timestamp::from_secs(1_780_315_203),
        lives: 0,
        honest: Page::new(1),
        hostile: Page::new(2),
        counted: 0,
        batches: BTreeMap::new(),
    };
    world.honest.slot("acme", Aggregation::Sum);
    for aggregation in KINDS {
        world.hostile.slot("evil", aggregation);
    }
    let mut life = Some(world.start());
    let mut steps = Steps(data);
    for _ in 0..STEPS_MAX {
        let Some(now) = life.take() else { break };
        // Steps end with the input; the life they were in is gone with it, like a killed one.
        life = step(&mut world, now, &mut steps);
    }
    world.home.kill();
    world.storage.kill();
    let mut last = match life {
        Some(life) => life,
        None => world.start(),
    };
    for _ in 0..4 {
        world.look(&mut last);
        world.tick(&mut last, 10_000);
    }
    world.end(last, false);
    let mut billed = 0;
    for batch in world.batches.values() {
        batch.validate().expect("a collector takes it");
        for row in &batch.rows {
            let tenant = row.series.tenant().as_str();
            assert!(["acme", "evil"].contains(&tenant), "{tenant}");
            if tenant == "acme" {
                billed += row.value.units();
            }
        }
    }
    assert_eq!(billed, world.counted, "the honest page");
});
