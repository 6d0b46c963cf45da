use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use tollgate::cell::Room;
use tollgate_common::{Aggregation, Dimensions, Scale};

use super::super::tests::{Words, cells, key, region};
use super::super::{Believed, CellsLayout, PairTotal, Rejection, Writer};
use super::*;

/// Seals everything, with running totals as the sealer keeps them. No other thread seals.
fn seal(cells: &Cells<Words>, sequence: u64) {
    Cells::<Words>::begin_cut();
    let mut totals = BTreeMap::new();
    for pair in 0..cells.pairs() {
        let (names, _) = cells.pair(pair).expect("whole");
        totals.insert(names, (pair, cells.pair_total(pair, sequence - 1)));
    }
    for writer in 0..2 {
        for slot in 0..cells.published(writer) {
            let now = cells.now(writer, slot).expect("one series");
            let (sum, events) = now.since(cells.base(writer, slot, sequence - 1));
            cells.put_base(writer, slot, sequence, now);
            let SlotUse::Series(of) = cells.slot(writer, slot, now.generation()) else {
                continue;
            };
            let pair = SeriesKey::new(
                of.key.tenant().clone(),
                of.key.meter().clone(),
                Dimensions::default(),
            );
            let names = pair.expect("short").to_canonical();
            let next = cells.pairs();
            let (_, total) = totals.entry(names.clone()).or_insert_with(|| {
                assert!(cells.put_pair(&names, Scale::ZERO));
                (next, PairTotal::default())
            });
            total.sum += u128::from(sum);
            total.events += events;
        }
    }
    for (pair, total) in totals.into_values() {
        cells.put_pair_total(pair, sequence, total);
    }
    cells.set_applied(sequence);
}

/// Counts one event of a tenant, or rejects it, the way inputs do.
fn count(writer: &mut Writer<Words>, tenant: usize, reject: bool) {
    let series = key(tenant, 0);
    let slot = writer.resolve(&series, Aggregation::Sum, Scale::ZERO);
    let row = writer.row(series.tenant());
    writer.received(1);
    writer.received_for(row, 1);
    if reject {
        writer.rejected_in(row, Rejection::Inexact, 1);
    } else {
        writer.add(slot.expect("room"), 2).expect("small");
    }
    writer.settle();
}

/// The sums over the inputs of what is told of a tenant.
fn at_inputs(of: &TenantAccount) -> [u64; 3] {
    of.inputs.iter().fold([0; 3], |sum, input| {
        let account = &input.account;
        assert!(account.balances(), "{account:?}");
        [
            sum[0] + account.received,
            sum[1] + account.accepted + account.under_way,
            sum[2] + account.rejected.values().sum::<u64>(),
        ]
    })
}

#[test]
fn accounts_of_tenants_hold_at_every_input_while_threads_count_and_seal() {
    const ROUNDS: u64 = 20_000;
    let cells = cells(10);
    let (counting, reads) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (cells, counting, reads) = (&cells, &counting, &reads);
        let names = cells.identity().writers.clone();
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                let mut writer = cells.writer(name).expect("free");
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let tenant = usize::try_from(round % 3).expect("small");
                        count(&mut writer, tenant, round % 7 == 0);
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            let mut sequence = 0;
            while counting.load(Relaxed) {
                sequence += 1;
                seal(cells, sequence);
                // Every reading is overtaken by a seal now and then, none by one after the other.
                let seen = reads.load(Relaxed);
                while reads.load(Relaxed) == seen && counting.load(Relaxed) {
                    std::thread::yield_now();
                }
            }
        });
        let reading = scope.spawn(move || {
            while counting.load(Relaxed) {
                let accounts = cells.tenant_accounts(5);
                for of in accounts.busiest {
                    assert!(of.account.balances(), "{of:?}");
                    let account = &of.account;
                    let rejected = account.rejected.values().sum::<u64>();
                    let expected = [
                        account.received,
                        account.accepted + account.under_way,
                        rejected,
                    ];
                    assert_eq!(at_inputs(&of), expected, "{of:?}");
                }
                reads.fetch_add(1, Relaxed);
            }
        });
        for thread in threads {
            thread.join().expect("counts");
        }
        counting.store(false, Relaxed);
        reading.join().expect("reads");
    });
    let accounts = cells.tenant_accounts(5);
    assert_eq!((accounts.busiest.len(), accounts.nobody.len()), (3, 0));
    for (tenant, of) in (0..3u64).map(|tenant| {
        let name = format!("tenant-{tenant}");
        let named = |of: &&TenantAccount| of.tenant.as_ref().is_some_and(|of| of.as_str() == name);
        (tenant, accounts.busiest.iter().find(named).expect("seen"))
    }) {
        let rounds = (0..ROUNDS).filter(|round| round % 3 == tenant);
        let (received, rejected) = rounds.fold((0, 0), |(all, rejected), round| {
            (all + 1, rejected + u64::from(round % 7 == 0))
        });
        assert_eq!(of.inputs.len(), 2);
        for input in &of.inputs {
            let account = &input.account;
            assert_eq!(
                (account.received, account.accepted),
                (received, received - rejected)
            );
            assert_eq!(
                (account.rejected["inexact"], account.under_way),
                (rejected, 0)
            );
        }
        assert_eq!(
            (of.account.received, of.account.under_way),
            (2 * received, 0)
        );
    }
}

/// What is not counted as received, or received and gone, shows and is never made to fit.
#[test]
fn an_account_that_does_not_hold_says_so() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    count(&mut writer, 0, false);
    let slot = writer.resolve(&key(0, 0), Aggregation::Sum, Scale::ZERO);
    writer.add(slot.expect("room"), 1).expect("small");
    let of = |cells: &Cells<Words>| {
        let tenant = cells.tenant_accounts(5).busiest.remove(0).account;
        [cells.accounts().remove(0).1, tenant]
    };
    for account in of(&cells) {
        assert_eq!((account.surplus, account.missing), (1, 0));
        assert!(!account.balances());
    }
    let row = writer.row(key(0, 0).tenant());
    writer.received(3);
    writer.received_for(row, 3);
    for account in of(&cells) {
        assert_eq!(
            (account.under_way, account.surplus, account.missing),
            (2, 0, 0)
        );
        assert!(account.balances(), "it may be in the hands of the input");
    }
    writer.settle();
    for account in of(&cells) {
        assert_eq!((account.under_way, account.missing), (0, 2));
        assert!(!account.balances());
    }
}

/// The accounts of the next incarnation with these writers.
fn next(cells: &Cells<Words>, writers: &[&str]) -> Cells<Words> {
    let writers: Vec<String> = writers.iter().map(|&name| name.to_owned()).collect();
    let layout = CellsLayout::new(u32::try_from(writers.len()).expect("few"), 10, 4096);
    let words = region(layout.expect("in range"));
    let (accounts, retired) = cells.carried_accounts(&writers);
    let mut identity = cells.identity().clone();
    identity.writers = writers;
    let layout = Cells::open(Words::clone(&words)).expect("filled").layout();
    Cells::<Words>::fill(&words, layout, &identity, &accounts, &retired);
    cells.carry_into(&words, Believed::Nothing).expect("filled");
    Cells::open(words).expect("filled")
}

#[test]
fn what_an_input_was_killed_with_is_interrupted_for_its_tenant() {
    let cells = cells(10);
    let names = cells.identity().writers.clone();
    let mut writers: Vec<_> = names
        .iter()
        .map(|name| cells.writer(name).expect("free"))
        .collect();
    for _ in 0..5 {
        count(&mut writers[0], 0, false);
        count(&mut writers[1], 0, true);
        count(&mut writers[1], 1, false);
    }
    // Three events in its hands, one of them counted.
    let row = writers[1].row(key(1, 0).tenant());
    writers[1].received(3);
    writers[1].received_for(row, 3);
    let slot = writers[1].resolve(&key(1, 0), Aggregation::Sum, Scale::ZERO);
    writers[1].add(slot.expect("room"), 1).expect("small");
    drop(writers);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let again = next(&cells, &names);
    let tenants = again.tenant_accounts(5).busiest;
    let [zero, one] = &tenants[..] else {
        panic!("{tenants:?}");
    };
    assert_eq!((zero.account.received, zero.account.accepted), (10, 5));
    assert_eq!(zero.inputs.len(), 2);
    assert_eq!((one.account.received, one.account.accepted), (8, 6));
    assert_eq!(one.account.lost["interrupted"], 2);
    assert_eq!(one.inputs[0].input, names[1]);
    let input = again.accounts().remove(1).1;
    assert_eq!((input.received, input.lost["interrupted"]), (13, 2));
    for of in &tenants {
        assert!(of.account.balances(), "{of:?}");
    }
    // An input that is not configured any more is told apart from those that are.
    let fewer = next(&again, &names[..1]);
    let tenants = fewer.tenant_accounts(5).busiest;
    let inputs: Vec<_> = tenants
        .iter()
        .map(|of| {
            assert!(of.account.balances(), "{of:?}");
            let inputs = of.inputs.iter();
            inputs
                .map(|of| (of.input.as_str(), of.account.received))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(inputs[0], [(names[0], 5), (EARLIER_INPUTS, 5)]);
    assert_eq!(inputs[1], [(EARLIER_INPUTS, 8)]);
}

/// Agents before this one received what they had decided on, and nothing for tenants.
#[test]
fn files_without_receipts_are_taken_over_whole() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    for value in 0..3 {
        let slot = writer.resolve(&key(0, value), Aggregation::Sum, Scale::ZERO);
        writer.add(slot.expect("room"), 1).expect("small");
    }
    let row = writer.row(key(0, 0).tenant());
    writer.rejected_in(row, Rejection::Inexact, 2);
    drop(writer);
    super::super::header::clear_receipts(cells.words());
    let next = next(&cells, &["admin"]);
    let tenant = next.tenant_accounts(5).busiest.remove(0);
    for account in [tenant.account, next.accounts().remove(0).1] {
        assert_eq!((account.received, account.accepted), (5, 3));
        assert!(account.balances(), "{account:?}");
    }
}

#[test]
fn tenants_without_a_row_are_one() {
    let layout = CellsLayout::new(2, 2000, 1 << 20).expect("in range");
    let words = region(layout.with_wide_bytes(1 << 20).expect("in range"));
    let cells = Cells::open(words).expect("filled");
    let mut writer = cells.writer("admin").expect("free");
    for tenant in 0..tenants::TENANTS_MAX + 5 {
        count(&mut writer, tenant, tenant % 2 == 0);
    }
    let accounts = cells.tenant_accounts(2000);
    assert_eq!(accounts.tenants, 1025);
    let others = accounts.busiest.iter().find(|of| of.tenant.is_none());
    let others = &others.expect("five").account;
    assert_eq!((others.received, others.accepted), (5, 2));
    assert!(accounts.busiest.iter().all(|of| of.account.balances()));
}

/// Wide cells may take the whole area, and give it back.
#[test]
fn tenants_that_come_when_the_area_is_full_share_a_row_from_then_on() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    count(&mut writer, 0, false);
    let taken: Vec<_> = std::iter::from_fn(|| writer.table.heap.take(8)).collect();
    assert!(!taken.is_empty());
    count(&mut writer, 1, false);
    count(&mut writer, 1, true);
    for at in taken {
        writer.table.heap.give(at, 8);
    }
    // A row of its own would have only a part of what it has counted.
    count(&mut writer, 1, false);
    drop(writer);
    let mut writer = cells.writer("admin").expect("given back");
    for tenant in 0..3 {
        count(&mut writer, tenant, false);
    }
    let accounts = cells.tenant_accounts(5);
    let seen = accounts.busiest.iter().map(|of| {
        assert!(of.account.balances(), "{of:?}");
        assert_eq!(of.inputs.len(), 1);
        (
            of.tenant.is_some(),
            of.account.received,
            of.account.accepted,
        )
    });
    assert_eq!(seen.collect::<Vec<_>>(), [(false, 5, 4), (true, 2, 2)]);
    assert!(accounts.nobody.is_empty());
}
