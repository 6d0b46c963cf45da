//! A client that counts through everything and remembers what it was promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate_agent::admin::client::ClientError;
use tollgate_agent::admin::protocol::{Answer, Count, Request};

use crate::support::World;

pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Requests sent before the first answer is read; at most these are in doubt after a kill.
const PIPELINE: usize = 256;

/// What was acknowledged, and what was sent and never answered, by tenant.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) acknowledged: BTreeMap<&'static str, i128>,
    in_doubt: BTreeMap<&'static str, i128>,
}

/// Counts one by one until `done`, whoever is killed meanwhile. `acknowledged` follows.
pub(crate) fn count_until(
    world: &World,
    acknowledged: &AtomicU64,
    done: impl Fn() -> bool,
) -> Known {
    let mut known = Known::default();
    let mut client = None;
    let mut turn = 0usize;
    while !done() {
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

/// Every acknowledged count is billed once, and beyond those only counts that were in doubt;
/// nothing was refused or lost.
pub(crate) fn assert_billed_exactly(world: &World, known: &Known) {
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
}
