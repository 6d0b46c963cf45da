//! SIGKILL at random moments: every acknowledged count is billed exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tollgate_agent::admin::client::ClientError;
use tollgate_agent::admin::protocol::{Answer, Count, Request};

use crate::support::World;

const COUNTS: u64 = 1_000_000;
const KILLS: usize = 22;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Requests sent before the first answer is read; at most these are in doubt after a kill.
const PIPELINE: usize = 256;

#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<&'static str, i128>,
    in_doubt: BTreeMap<&'static str, i128>,
}

/// Counts until a million counts are acknowledged, whoever is killed meanwhile.
fn count_a_million(world: &World, acknowledged: &AtomicU64) -> Known {
    let mut known = Known::default();
    let mut client = None;
    let mut turn = 0usize;
    while acknowledged.load(Ordering::Relaxed) < COUNTS {
        let Some(connected) = client.as_mut() else {
            client = world.admin("edge-1");
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let tenants: Vec<&'static str> = (0..PIPELINE)
            .map(|n| TENANTS[(turn + n) % TENANTS.len()])
            .collect();
        turn += 1;
        let mut answered = 0;
        let mut exchange = || -> Result<(), ClientError> {
            for tenant in &tenants {
                connected.send(&Request::Count(Count {
                    metric: "requests".to_owned(),
                    value: "1".to_owned(),
                    tags: BTreeMap::from([("customer".to_owned(), (*tenant).to_owned())]),
                }))?;
            }
            for _ in &tenants {
                match connected.receive()? {
                    Answer::Counted(_) => answered += 1,
                    other => panic!("the agent refused a good count: {other:?}"),
                }
            }
            Ok(())
        };
        let broken = exchange().is_err();
        acknowledged.fetch_add(answered as u64, Ordering::Relaxed);
        for (index, tenant) in tenants.iter().enumerate() {
            let account = if index < answered {
                &mut known.acknowledged
            } else {
                &mut known.in_doubt
            };
            *account.entry(*tenant).or_default() += 1;
        }
        if broken {
            client = None;
        }
    }
    known
}

#[test]
fn sigkill_of_agent_and_collector_loses_and_doubles_nothing() {
    let world = Arc::new(World::new(&[("edge-1", &TENANTS)]));
    let mut collector = world.start_collector();
    let mut agent = world.start_agent("edge-1");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let finished = Arc::new(AtomicBool::new(false));
    let counter = {
        let (world, acknowledged, finished) = (
            Arc::clone(&world),
            Arc::clone(&acknowledged),
            Arc::clone(&finished),
        );
        std::thread::spawn(move || {
            let known = count_a_million(&world, &acknowledged);
            finished.store(true, Ordering::Relaxed);
            known
        })
    };
    // Kills are spread over the million by progress, with a jitter from a fixed sequence, so
    // that a fast and a slow machine both see all of them before the counts are through.
    let mut kills = 0;
    while kills < KILLS && !finished.load(Ordering::Relaxed) {
        let due = COUNTS * kills as u64 / (KILLS as u64 + 1);
        if acknowledged.load(Ordering::Relaxed) < due {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        std::thread::sleep(Duration::from_millis(kills as u64 * 37 % 101));
        if kills % 3 == 2 {
            collector.kill();
            collector = world.start_collector();
        } else {
            agent.kill();
            agent = world.start_agent("edge-1");
        }
        kills += 1;
    }
    let known = counter.join().expect("the counting thread ended well");
    assert!(
        kills >= 20,
        "only {kills} kills happened before the counts were through"
    );
    agent.stop();
    world.wait_settled();
    let billed = world.billed();
    for tenant in TENANTS {
        let of = |map: &BTreeMap<&str, i128>| map.get(tenant).copied().unwrap_or(0);
        let (low, doubt) = (of(&known.acknowledged), of(&known.in_doubt));
        let billed = billed
            .get(&(tenant.to_owned(), "requests".to_owned()))
            .copied()
            .unwrap_or(0);
        assert!(
            low <= billed,
            "{tenant}: {low} acknowledged, only {billed} billed"
        );
        assert!(
            billed <= low + doubt,
            "{tenant}: {billed} billed, but at most {} counted",
            low + doubt
        );
    }
    for account in world.items("/v1/conservation?limit=10000") {
        assert_eq!(
            account["accepted"], account["counted"],
            "nothing was refused or lost: {account}"
        );
    }
    collector.stop();
    world.assert_verified();
}
