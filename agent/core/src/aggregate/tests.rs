use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tollgate_common::{
    AgentId, Aggregation, BatchHash, Dimensions, Incarnation, LossReason, MeterName, Parent,
    ParentEnd, Scale, SeriesKey, TenantId, Timestamp, WindowWidth,
};

use super::*;

#[path = "take_over_tests.rs"]
mod take_over;

pub(super) type Words = Arc<Vec<AtomicU64>>;

fn identity() -> Identity {
    Identity {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([3; 16]),
        boot_id: [9; 16],
        opened_at: Timestamp::from_secs(1_780_000_000),
        window: WindowWidth::from_secs(10).expect("divides 900"),
        parent: Some(Parent {
            incarnation: Incarnation::from_bytes([2; 16]),
            last_sequence: 17,
            last_hash: BatchHash::from_bytes([5; 32]),
            end: ParentEnd::Unclean {
                reason: LossReason::UncleanBoot,
                from: Timestamp::from_secs(1),
                to: Timestamp::from_secs(2),
            },
        }),
        inherited: Some(InheritedLoss {
            reason: LossReason::CellsDamaged,
            from: Timestamp::from_secs(3),
            to: Timestamp::from_secs(4),
        }),
        writers: vec!["admin".to_owned(), "dogstatsd.unix".to_owned()],
    }
}

pub(super) fn region(layout: CellsLayout) -> Words {
    let words: Words = Arc::new((0..layout.words()).map(|_| AtomicU64::new(0)).collect());
    let accounts = vec![AccountWords::default(); 2];
    Cells::<Words>::fill(
        &words,
        layout,
        &identity(),
        &accounts,
        &AccountWords::default(),
    );
    words
}

pub(super) fn cells(series_max: u32) -> Cells<Words> {
    let layout = CellsLayout::new(2, series_max, 4096).expect("in range");
    Cells::open(region(layout)).expect("just filled")
}

/// The series of a slot of the first writer.
fn series(cells: &Cells<Words>, slot: u32) -> Option<SeriesKey> {
    let now = cells.now(0, slot)?;
    match cells.slot(0, slot, now.generation()) {
        SlotUse::Series(slot) => Some(slot.key),
        SlotUse::Free | SlotUse::Damaged => None,
    }
}

pub(super) fn key(tenant: usize, value: usize) -> SeriesKey {
    SeriesKey::new(
        TenantId::new(&format!("tenant-{tenant}")).expect("valid"),
        MeterName::new("requests").expect("valid"),
        Dimensions::new([("path", value.to_string())]).expect("valid"),
    )
    .expect("short")
}

#[test]
fn headers_round_trip_and_every_damaged_word_shows() {
    let layout = CellsLayout::new(2, 10, 4096).expect("in range");
    let words = region(layout);
    let (read, read_layout) = Identity::read(&words).expect("just written");
    assert_eq!((read, read_layout), (identity(), layout));
    for at in 0..layout::PAGE_WORDS {
        words[at].fetch_xor(1 << (at % 64), Relaxed);
        assert!(Identity::read(&words).is_err(), "word {at}");
        words[at].fetch_xor(1 << (at % 64), Relaxed);
    }
    let short: Vec<AtomicU64> = words[..layout.words() - 1]
        .iter()
        .map(|word| AtomicU64::new(word.load(Relaxed)))
        .collect();
    assert!(matches!(Cells::open(short), Err(CellsError::Short { .. })));
    assert!(matches!(
        Cells::open(Vec::new()),
        Err(CellsError::Short { .. })
    ));
}

/// The first page as `docs/formats/cells.md` describes it. A change here is another version.
#[test]
fn the_header_of_version_2_stays_as_it_is() {
    let words = region(CellsLayout::new(2, 10, 4096).expect("in range"));
    let word = |at: usize| words[at].load(Relaxed);
    assert_eq!(word(0).to_le_bytes(), *b"TGCELLS1");
    assert_eq!((word(1), word(5), word(10)), (2, 10, 1_780_000_000_000));
    assert_eq!(
        [word(2), word(3), word(4), word(41)],
        [(2 << 32) + 26, (16 << 32) + 8232, 512 + 16 * 38, 33]
    );
    assert_eq!(
        (word(6), word(8)),
        (0x0909_0909_0909_0909, 0x0303_0303_0303_0303)
    );
    assert_eq!(
        (word(11), word(12)),
        (6, u64::from_le_bytes(*b"edge-1\0\0"))
    );
    assert_eq!(
        (word(28), word(31), word(36), word(37)),
        (2 + (1 << 8), 17, 1000, 2000)
    );
    assert_eq!((word(38), word(39), word(40)), (2, 3000, 4000));
    assert_eq!(word(68), u64::from_le_bytes(*b"dogstats"));
    assert_eq!(word(511), 0xb17f_c15c);
}

#[test]
fn writers_may_move_to_other_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Writer<Words>>();
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let words = region(CellsLayout::new(2, 10, 4096).expect("in range"));
    words[1].store(3, Relaxed);
    let checksum = words::crc32c_words(&words[..511]);
    words[511].store(checksum.into(), Relaxed);
    assert!(matches!(Cells::open(words), Err(CellsError::Version(3))));
}

#[test]
fn cuts_are_believed_only_whole_and_of_their_batch() {
    let cells = cells(10);
    let cut = CutRecord {
        sequence: 4,
        hash: BatchHash::from_bytes([1; 32]),
        cut: Timestamp::from_secs(10),
        watermark: Timestamp::from_secs(9),
        is_final: true,
    };
    cells.put_cut(&cut);
    assert_eq!(cells.cut(4), Some(cut));
    assert_eq!(cells.cut(6), None, "same place, another batch");
    assert_eq!(cells.cut(0), None);
    assert_eq!(cells.cut(3), None, "never written");
}

#[test]
fn a_writer_is_had_once_and_given_back() {
    let cells = cells(10);
    let writer = cells.writer("admin").expect("free");
    assert_eq!(cells.held_writer(), Some("admin"));
    assert!(matches!(cells.writer("admin"), Err(WriterError::Taken(_))));
    assert!(matches!(
        cells.writer("nobody"),
        Err(WriterError::Unknown(_))
    ));
    drop(writer);
    assert_eq!(cells.held_writer(), None);
    assert!(cells.writer("admin").is_ok());
}

#[test]
fn past_the_limit_dimensions_are_lost_and_money_is_kept() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let resolve = |writer: &mut Writer<Words>, tenant, value| {
        writer.resolve(&key(tenant, value), Aggregation::Sum, Scale::ZERO)
    };
    let slots: Vec<Slot> = (0..10)
        .map(|value| resolve(&mut writer, 0, value).expect("room"))
        .collect();
    assert_eq!(resolve(&mut writer, 0, 3), Ok(slots[3]), "found again");
    let overflow = resolve(&mut writer, 0, 10).expect("reserve");
    assert_eq!(resolve(&mut writer, 0, 11), Ok(overflow));
    let found = series(&cells, 10).expect("published");
    assert_eq!(found, key(0, 0).to_overflow());
    // The reserve has room for a few more tenants, and then there is none.
    let full = (1..100).map(|tenant| resolve(&mut writer, tenant, 0));
    assert_eq!(
        full.filter(|slot| *slot == Err(SeriesFull)).count(),
        99 - 15
    );
    assert_eq!(resolve(&mut writer, 0, 12), Ok(overflow), "still counted");
}

#[test]
fn kinds_of_series_do_not_mix() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let mut other = cells.writer("dogstatsd.unix").expect("free");
    let window = Timestamp::from_secs(100);
    let sum = writer.resolve(&key(0, 0), Aggregation::Sum, Scale::ZERO);
    let last = writer.resolve(&key(0, 0), Aggregation::Last, Scale::ZERO);
    let (sum, last) = (sum.expect("room"), last.expect("room"));
    assert_ne!(sum, last);
    assert_eq!(writer.add(sum, 1), Ok(()));
    assert_eq!(writer.add(last, 1), Err(AddError::WrongSlot));
    assert_eq!(other.add(sum, 1), Err(AddError::WrongSlot));
    assert_eq!(writer.set(last, window, 1), Ok(()));
    assert_eq!(writer.set(sum, window, 1), Err(SetError::WrongSlot));
    let scaled = writer.resolve(&key(0, 0), Aggregation::Sum, Scale::new(3).expect("small"));
    assert_ne!(scaled.expect("room"), sum);
    let accounts = cells.accounts();
    assert_eq!((accounts[0].1.accepted, accounts[0].1.open), (2, 2));
}

#[test]
fn a_counter_takes_no_lap_between_two_cuts() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let slot = writer.resolve(&key(0, 0), Aggregation::Sum, Scale::ZERO);
    let slot = slot.expect("room");
    assert_eq!(
        writer.add(slot, ADD_MAX + 1),
        Err(AddError::TooLarge(1 << 62))
    );
    let mut counted: u128 = 0;
    while writer.add(slot, ADD_MAX).is_ok() {
        counted += u128::from(ADD_MAX);
        assert!(counted < 1 << 64, "bounded");
    }
    assert_eq!(writer.add(slot, ADD_MAX), Err(AddError::CounterFull));
    let now = cells.now(0, 0).expect("quiet");
    assert_eq!(u128::from(now.since(CellCut::default()).0), counted);
    // A cut makes room again, and what the cell shows beyond 2^64 is still exact.
    cells.put_base(0, 0, 1, now);
    cells.set_applied(1);
    for _ in 0..2 {
        writer.add(slot, ADD_MAX).expect("room again");
    }
    let (sum, _) = cells.now(0, 0).expect("quiet").since(cells.base(0, 0, 1));
    assert_eq!(sum, 2 * ADD_MAX);
}

#[test]
fn accounts_are_carried_by_name() {
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let slot = writer.resolve(&key(0, 0), Aggregation::Sum, Scale::ZERO);
    writer.add(slot.expect("room"), 7).expect("small");
    writer.received(3);
    writer.rejected(Rejection::Malformed, 2);
    writer.lost(InputLoss::KernelDrop, 5);
    let names = ["new".to_owned(), "admin".to_owned()];
    let (carried, retired) = cells.carried_accounts(&names);
    let account = carried[1].to_account(account::Counts::default(), 0);
    // Those that were lost never reached the input, but they were received.
    assert_eq!((account.received, account.accepted), (8, 1));
    // Not sealed, so a life that begins anew knows it as discarded.
    assert_eq!((account.sealed, account.open, account.discarded), (0, 0, 1));
    assert!(account.balances());
    assert_eq!(account.rejected.get("malformed"), Some(&2));
    assert_eq!(account.lost.get("kernel_drop"), Some(&5));
    assert_eq!(
        carried[0].to_account(account::Counts::default(), 0),
        Account::default()
    );
    assert_eq!(
        retired.to_account(account::Counts::default(), 0),
        Account::default()
    );
    let (_, retired) = cells.carried_accounts(&[]);
    assert_eq!(
        retired.to_account(account::Counts::default(), 0).received,
        8
    );
}

proptest! {
    /// Whatever the words say, nothing is read outside the region and nothing panics.
    #[test]
    fn damaged_regions_are_read_safely(
        damage in proptest::collection::vec((512..6000usize, any::<u64>()), 1..40),
    ) {
        let layout = CellsLayout::new(2, 10, 4096).expect("in range");
        let words = region(layout);
        let cells = Cells::open(Arc::clone(&words)).expect("good");
        let mut writer = cells.writer("admin").expect("free");
        for value in 0..8 {
            let kind = [Aggregation::Sum, Aggregation::Last][value % 2];
            writer.resolve(&key(0, value), kind, Scale::ZERO).expect("room");
        }
        drop((writer, cells));
        for (at, value) in damage {
            words[at % layout.words()].store(value, Relaxed);
        }
        if let Ok(cells) = Cells::open(words) {
            for writer in 0..2 {
                for slot in 0..cells.published(writer) {
                    let now = cells.now(writer, slot).expect("quiet");
                    let _ = cells.slot(writer, slot, now.generation());
                }
            }
            let _ = (cells.accounts(), cells.carried_accounts(&[]), cells.tenant_accounts(5));
            let mut writer = cells.writer("admin").expect("free");
            let _ = writer.resolve(&key(5, 5), Aggregation::Last, Scale::ZERO);
        }
    }
}

/// Makes everything that the first writer has counted the baseline, as two seals do.
fn seal_all(cells: &Cells<Words>) {
    for parity in 0..2 {
        for slot in 0..cells.published(0) {
            let now = cells.now(0, slot).expect("quiet");
            cells.put_base(0, slot, parity, now);
        }
    }
    cells.acknowledge(0, cells.changes(0));
}

fn retire_all(cells: &Cells<Words>, writer: &mut Writer<Words>) {
    for slot in 0..cells.published(0) {
        cells.retire(0, slot, cells.now(0, slot).expect("quiet"));
    }
    writer.poll_retired();
    seal_all(cells);
    writer.poll_retired();
}

/// Every limit: a count beyond it stays with its tenant and meter, and can be read.
#[test]
fn beyond_every_limit_counts_stay_with_tenant_and_meter() {
    let none = SeriesLimits::default();
    let wide_key = |tenant: usize, value: usize| {
        let pairs = (0..3).map(|at| (format!("d{at}"), format!("{value}")));
        SeriesKey::new(
            key(tenant, 0).tenant().clone(),
            MeterName::new("requests").expect("valid"),
            Dimensions::new(pairs).expect("valid"),
        )
        .expect("short")
    };
    let length = u32::try_from(key(0, 7).canonical_len()).expect("short");
    let limits = [
        (
            SeriesLimits {
                series_max: 6,
                ..none
            },
            true,
        ),
        (
            SeriesLimits {
                series_per_tenant: 6,
                ..none
            },
            true,
        ),
        (
            SeriesLimits {
                key_bytes: length,
                ..none
            },
            false,
        ),
        (
            SeriesLimits {
                dimensions: 2,
                ..none
            },
            false,
        ),
    ];
    for (limits, by_number) in limits {
        let layout = CellsLayout::new(2, 100, 8192).expect("in range");
        let cells = Cells::open_with(region(layout), limits).expect("good");
        let mut writer = cells.writer("admin").expect("free");
        let (mut whole, mut overflowed) = (0, 0);
        for round in 0..10usize {
            for value in 0..10 {
                let series = if value < 5 {
                    key(0, value)
                } else {
                    wide_key(0, value)
                };
                let slot = writer.resolve(&series, Aggregation::Sum, Scale::ZERO);
                let slot = slot.expect("room");
                writer.add(slot, 1).expect("small");
                let index = u32::try_from(slot.to_bits() & 0xffff_ffff).expect("masked");
                let found = cells.key(0, index).expect("published").key;
                assert_eq!(
                    (found.tenant(), found.meter()),
                    (series.tenant(), series.meter())
                );
                if found == series {
                    whole += 1;
                } else {
                    assert_eq!(found, series.to_overflow());
                    overflowed += 1;
                }
            }
            // Idle series make room for others, and what overflowed is known all the same.
            if round == 5 {
                retire_all(&cells, &mut writer);
            }
        }
        assert_eq!(whole + overflowed, 100);
        assert!(
            overflowed >= if by_number { 30 } else { 50 },
            "{limits:?}: {overflowed}"
        );
        let accounts = cells.tenant_accounts(10);
        let [tenant] = &accounts.busiest[..] else {
            panic!("one tenant: {accounts:?}");
        };
        assert_eq!(tenant.overflow_events, overflowed, "{limits:?}");
        assert_eq!(tenant.overflow_lookups, overflowed);
        // Metrics name whose they are without a look at every slot.
        let named = TenantOverflow {
            tenant: tenant.tenant.clone(),
            overflow_lookups: overflowed,
        };
        assert_eq!(cells.overflowing(5), [named]);
        assert_eq!(cells.overflowing(0), []);
    }
}

/// A reader sees accounts that hold at every moment, whatever writer and sealer do.
#[test]
fn accounts_hold_on_every_read_while_threads_count_and_seal() {
    const ROUNDS: u64 = 30_000;
    let cells = cells(10);
    let mut writer = cells.writer("admin").expect("free");
    let running = std::sync::atomic::AtomicBool::new(true);
    let reads = std::thread::scope(|scope| {
        let (cells, running) = (&cells, &running);
        let counting = scope.spawn(move || {
            let kinds = [
                Aggregation::Sum,
                Aggregation::Last,
                Aggregation::Distribution,
            ];
            for round in 0..ROUNDS {
                let kind = kinds[usize::try_from(round % 3).expect("small")];
                let series = key(0, usize::try_from(round % 5).expect("small"));
                let slot = writer.resolve(&series, kind, Scale::ZERO).expect("room");
                let row = writer.row(series.tenant());
                writer.received(1);
                writer.received_for(row, 1);
                match (kind, round % 7) {
                    (_, 0) => writer.rejected_for(series.tenant(), Rejection::Inexact, 1),
                    (Aggregation::Sum, _) => writer.add(slot, 3).expect("small"),
                    (Aggregation::Last, _) => {
                        let now = Timestamp::from_secs(100);
                        writer.set(slot, now, 5).expect("own");
                    }
                    _ => writer.record(slot, round % 100, 1).expect("small"),
                }
                writer.settle();
                if round % 11 == 0 {
                    writer.lost(InputLoss::KernelDrop, 2);
                }
            }
            writer
        });
        let sealing = scope.spawn(move || {
            let mut sequence = 0;
            while running.load(Relaxed) {
                sequence += 1;
                Cells::<Words>::begin_cut();
                for slot in 0..cells.published(0) {
                    let now = cells.now(0, slot).expect("one series");
                    cells.put_base(0, slot, sequence, now);
                }
                cells.set_applied(sequence);
            }
        });
        let reading = scope.spawn(move || {
            let (mut reads, mut before) = (0u64, (0, 0));
            while running.load(Relaxed) {
                let account = cells.accounts().remove(0).1;
                assert!(account.balances(), "{account:?}");
                assert!(
                    account.open <= ROUNDS && account.under_way <= ROUNDS,
                    "{account:?}"
                );
                // What was accepted or sealed stays so.
                let now = (account.accepted, account.sealed);
                assert!(
                    now.0 >= before.0 && now.1 >= before.1,
                    "{now:?} after {before:?}"
                );
                before = now;
                reads += 1;
            }
            reads
        });
        let writer = counting.join();
        running.store(false, Relaxed);
        let writer = writer.expect("counts");
        sealing.join().expect("seals");
        drop(writer);
        reading.join().expect("reads")
    });
    assert!(reads > 10, "{reads}");
    let account = cells.accounts().remove(0).1;
    let rejected = ROUNDS.div_ceil(7);
    assert_eq!(account.rejected["inexact"], rejected);
    assert_eq!(account.accepted, ROUNDS - rejected);
    assert_eq!(account.received, ROUNDS + 2 * ROUNDS.div_ceil(11));
    assert_eq!(
        account.under_way, 0,
        "the claim agrees with what was decided on"
    );
}
