//! Pages as applications make them, and an agent that counts them.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tollgate::cell::Room;
use tollgate::page_writer::PageWriter;
use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, LossReason, MeterName, Scale, TenantId};

use super::world::{Life, TestEngine, Words, World, series};
use crate::attribute::{Attributor, Glob, Meter};
use crate::config::{SdkAllow, SdkTenants};
use crate::input::live::Live;
use crate::input::page::{PageRefusal, PageTally};

pub(super) const WORDS: usize = 4096;
pub(super) const SLOTS: usize = 16;
pub(super) const USER: u32 = 1000;

/// A page as the SDK makes them.
pub(super) struct Page(pub(super) PageWriter);

impl Deref for Page {
    type Target = PageWriter;

    fn deref(&self) -> &PageWriter {
        &self.0
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut PageWriter {
        &mut self.0
    }
}

impl Page {
    pub(super) fn new(id: u8) -> Self {
        Self(PageWriter::new(WORDS, SLOTS, [id; 16]))
    }

    /// A slot for a series of a tenant; where its cell is.
    pub(super) fn slot(&mut self, tenant: &str, aggregation: Aggregation) -> usize {
        self.slot_of((tenant, "eu"), aggregation)
    }

    pub(super) fn slot_of(
        &mut self,
        (tenant, region): (&str, &str),
        aggregation: Aggregation,
    ) -> usize {
        let key = series(tenant, region).to_canonical();
        self.slot_of_key(&key, aggregation)
    }
}

pub(super) fn allow(pattern: &str) -> SdkAllow {
    SdkAllow {
        uid: None,
        gid: None,
        tenants: SdkTenants::Patterns(vec![Glob::new(pattern)]),
        meters: Vec::new(),
    }
}

pub(super) fn world() -> World {
    let mut world = World::new(7);
    world.config.writers.push("sdk".to_owned());
    world
}

pub(super) fn start(world: &mut World) -> Life {
    world.start().expect("starts").0
}

pub(super) fn tally(
    engine: &TestEngine,
    world: &World,
    aggregation: Aggregation,
) -> PageTally<Words> {
    let meter = Meter {
        unit: "By".to_owned(),
        scale: Scale::ZERO,
        aggregation,
        inexact: Inexact::Reject,
    };
    let name = MeterName::new("net.bytes").expect("valid");
    let meters = [(name, meter)].into_iter().collect();
    let live = Arc::new(Live::new(Attributor::new(meters, Vec::new())));
    let writer = engine.writer("sdk").expect("free");
    PageTally::new(
        writer,
        live,
        engine.declarations(),
        42,
        (engine.alive_before(), world.now),
    )
    .expect("room")
}

/// Offers a page that is to be quarantined until it is, which is when that is declared; says how
/// often it was asked to come again.
pub(super) fn quarantined(
    life: &mut Life,
    tally: &mut PageTally<Words>,
    page: &Page,
    user: u32,
    world: &mut World,
) -> u32 {
    let mut again = 0;
    loop {
        match tally.handle_page(&page.words, user, &allow("*"), world.now) {
            Err(PageRefusal::Quarantined) => return again,
            Err(PageRefusal::Declaring) => again += 1,
            other => panic!("{other:?}"),
        }
        assert!(again < 5, "never declared");
        world.now = world.now.plus_millis(2_000);
        life.engine.handle_tick(world.now).expect("sealed");
    }
}

/// What was declared lost, and how many events of it inputs know.
pub(super) fn declared(world: &World) -> Vec<(LossReason, Option<TenantId>)> {
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    losses.map(|l| (l.reason, l.tenant.clone())).collect()
}

pub(super) fn billed(world: &World, tenant: &str) -> i128 {
    let billed = world.collector.billed();
    let name = series(tenant, "eu").to_string();
    billed.get(&name).copied().unwrap_or(0)
}

/// Ends a life of the agent: every other one by a kill.
pub(super) fn end(world: &mut World, life: Life, tally: PageTally<Words>, killed: bool) {
    drop(tally);
    if killed {
        drop(life);
        world.kill();
    } else {
        world.finish(life);
    }
}

pub(super) const WIDTH: i64 = 10_000;

/// Room in a page behind everything that is described.
pub(super) struct PageHeap(pub(super) u32);

impl Room for PageHeap {
    fn take(&mut self, words: u32) -> Option<u32> {
        let at = self.0;
        self.0 = at.checked_add(words).filter(|end| *end as usize <= WORDS)?;
        Some(at)
    }

    fn give(&mut self, _: u32, _: u32) {}
}
