//! DogStatsD lines at rate: the fast way and the slow way count alike.

use super::*;

proptest! {
    #[test]
    fn received_is_accepted_and_rejected(
        datagrams in proptest::collection::vec(
            "(requests|level|x y|other|rounded|):[0-9.:x-]{0,6}\\|(c|g|h|q|)(\\|@0\\.[0-9])?(\\|#customer:[a-c_ ])?\n?",
            0..40,
        ),
    ) {
        let mut bench = bench();
        for datagram in &datagrams {
            bench.datagram(datagram);
        }
        let account = bench.account();
        let rejected: u64 = account.rejected.values().sum();
        prop_assert_eq!(account.received, account.accepted + rejected);
    }

    /// Together, in one buffer, as the kernel hands them over; each line alone; and as the
    /// grammar reads them: every way counts the same.
    #[test]
    fn the_fast_way_counts_what_the_grammar_reads(
        datagrams in proptest::collection::vec(
            proptest::collection::vec(
                prop_oneof![
                    8 => "requests:[1-9]{1,7}\\|c(\\|@0\\.(1|5|25))?(\\|#customer:[a-e])?",
                    4 => "requests:[0-9.:x-]{0,10}\\|[cgs](\\|@[01.]{0,3})?(\\|T(1[0-9]|2[0-9]))?\r?",
                    2 => "(_e\\{1,1\\}|_sc):?\\|?[a-z|:#]{0,12}",
                    1 => "(?s).{0,12}",
                ],
                0..20,
            ),
            0..8,
        ),
        broken in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let mut datagrams: Vec<Vec<u8>> =
            datagrams.iter().map(|lines| lines.join("\n").into_bytes()).collect();
        if let Some((at, byte)) = broken
            && let Some(last) = datagrams.last_mut().filter(|d| !d.is_empty())
        {
            let at = at.index(last.len());
            last[at] = byte;
        }
        let (mut together, mut alone) = (bench(), bench());
        for _ in 0..2 {
            let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
            for datagram in &datagrams {
                ranges.push(buffer.len()..buffer.len() + datagram.len());
                buffer.extend_from_slice(datagram);
                buffer.extend_from_slice(&b":9|c\n"[..].repeat(DATAGRAM_SLACK_BYTES / 5 + 1));
            }
            let now = Timestamp::from_secs(25);
            together.tally.handle_datagrams(Listener::Udp, &buffer, ranges, now);
            for line in datagrams.iter().flat_map(|d| d.split(|b| *b == b'\n')) {
                alone.bytes(line);
            }
        }
        prop_assert_eq!(together.values(), alone.values());
        prop_assert_eq!(together.account(), alone.account());
        let account = together.account();
        let (mut received, mut events, mut checks, mut malformed) = (0, 0, 0, 0);
        for item in datagrams.iter().flat_map(|d| parse_datagram(d)) {
            match item {
                Item::Metric(metric) => received += 2 * metric.values().count() as u64,
                Item::Malformed(_) => {
                    received += 2;
                    malformed += 2;
                }
                Item::Ignored(Ignored::Event) => events += 2,
                Item::Ignored(Ignored::ServiceCheck) => checks += 2,
            }
        }
        prop_assert_eq!(account.received, received);
        prop_assert_eq!(account.ignored_events, events);
        prop_assert_eq!(account.ignored_service_checks, checks);
        let rejected: u64 = account.rejected.values().sum();
        prop_assert!(rejected >= malformed);
        prop_assert_eq!(account.received, account.accepted + rejected);
    }

    #[test]
    fn a_cache_that_forgets_changes_nothing(
        lines in proptest::collection::vec((0u8..4, 1u64..1000, 0usize..8), 0..300),
    ) {
        // Lines of some thousand bytes, so that a small cache has to forget again and again.
        let mut bench = bench();
        let mut expected: BTreeMap<String, i128> = BTreeMap::new();
        for (customer, count, pad) in lines {
            let pad = "x".repeat(pad * 1000);
            bench.datagram(&format!("requests:{count}|c|@0.5|#customer:c{customer},pad:{pad}"));
            *expected.entry(format!("c{customer}/requests{{}}")).or_default() += i128::from(count) * 20;
        }
        prop_assert_eq!(bench.values(), expected);
    }
}

#[test]
fn sampled_counts_are_exact_or_estimated_and_never_truncated() {
    let mut bench = bench();
    for _ in 0..300 {
        // 33⅓ tenths each.
        bench.datagram("requests:1|c|@0.3|#customer:a\nrequests:1|c|@0.5|#customer:b");
    }
    assert_eq!(bench.value("a/requests{}"), Some(10_000));
    assert_eq!(bench.value("b/requests{}"), Some(6000));
    assert_eq!(bench.account().estimated, 300);
    // Neither the value nor the rate alone gives a whole number of tenths, together they do.
    bench.datagram("requests:0.05|c|@0.5|#customer:c\nrequests:0.05|c|@0.3|#customer:c");
    assert_eq!(bench.value("c/requests{}"), Some(1));
    assert_eq!(bench.account().rejected, BTreeMap::from([("inexact", 1)]));
}

/// Rates are for senders to choose: ever new ones cost their own lines the memory, nobody else's.
#[test]
fn many_sampling_rates_leave_other_lines_in_memory() {
    let mut bench = bench();
    let others = "requests:1|c|#customer:a\nrequests:1|c|@0.5|#customer:a\nlevel:1|g|#customer:a";
    bench.datagram(others);
    assert_eq!(bench.tally.lines_remembered(), 3);
    let rate = |n: u32| format!("requests:1|c|@0.{:05}|#customer:b", 10_000 + n);
    for n in 0..3000 {
        bench.datagram(&rate(n));
    }
    let remembered = bench.tally.lines_remembered();
    assert!((500..600).contains(&remembered), "{remembered}");
    let before = allocations();
    bench.datagram(others);
    assert_eq!(allocations() - before, 0, "remembered all the while");
    // After a while other rates are remembered in their place; what has none stays.
    let now = Timestamp::from_secs(25 + 61);
    let mut count = |line: &str| {
        bench
            .tally
            .handle_datagram(Listener::Udp, line.as_bytes(), now);
    };
    count(&rate(5000));
    count(&rate(5000));
    assert_eq!(bench.tally.lines_remembered(), 2 + 1);
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (6 + 3002, 6 + 3002));
    assert_eq!(bench.value("a/requests{}"), Some(2 * 10 + 2 * 20));
}

#[test]
fn a_time_of_another_window_is_counted_now_and_accounted() {
    let mut bench = bench();
    // Now is second 25, in a window from 20 to 30.
    for seconds in ["20", "29", "19", "30", "1700000000", "999999999999999999"] {
        bench.datagram(&format!("requests:1:1|c|#customer:a|T{seconds}|c:ci-x"));
    }
    assert_eq!(bench.value("a/requests{}"), Some(120));
    let account = bench.account();
    assert_eq!(
        (account.received, account.accepted, account.retimed),
        (12, 12, 8)
    );
    assert_eq!(bench.tally.lines_remembered(), 1);
}

#[test]
fn fields_of_all_versions_are_tolerated() {
    let mut bench = bench();
    bench.datagram(
        "requests:1|c|#customer:a|c:ci-1f|e:it-false,cn-app,pu-4|card:orchestrator|x:new\n\
         requests:1|c|c:1f|#customer:a\n_e{2,2}:ab|cd|d:1|#a:b\n_sc|name|0|m:ok",
    );
    assert_eq!(bench.value("a/requests{}"), Some(20));
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (2, 2));
    assert_eq!(
        (account.ignored_events, account.ignored_service_checks),
        (1, 1)
    );
}

/// Remembers what it is told.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl crate::input::live::Observer for Notes {
    fn observe(&self, seen: &crate::input::live::Seen<'_>) {
        let target = seen.target.map_or("?".to_owned(), |t| t.series.to_string());
        let reason = seen.rejection.map_or("counted", Rejection::as_str);
        let raw = String::from_utf8_lossy(seen.raw);
        let note = format!("{raw} -> {target} {} {reason}", seen.values);
        self.0.lock().expect("not poisoned").push(note);
    }
}

#[test]
fn watching_changes_no_count_and_a_new_attributor_is_seen() {
    let lines = [
        "requests:1|c|#customer:acme",
        "requests:1|c|#customer:acme\nnonsense\n\nrequests:2:x:3|c|#customer:acme",
        "requests:-1|c|#customer:acme",
    ];
    let (mut plain, mut watched) = (bench(), bench());
    let notes = Arc::new(Notes::default());
    watched.live.set_observer(Some(notes.clone()));
    for line in lines {
        plain.datagram(line);
        watched.datagram(line);
    }
    assert_eq!(plain.cells.accounts(), watched.cells.accounts());
    let told = notes.0.lock().expect("not poisoned").clone();
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told[0].ends_with(" 1 counted"), "{told:#?}");
    assert!(told[2].ends_with(" malformed"), "{told:#?}");
    watched.live.set_observer(None);
    watched.datagram(lines[0]);
    assert_eq!(notes.0.lock().expect("not poisoned").len(), 5);
    // Nothing is attributed any more once there are no rules.
    let before = watched.tally.series();
    watched.live.set_attributor(Attributor::default());
    watched.datagram(lines[0]);
    assert_eq!(
        watched.tally.series(),
        before + 1,
        "a series of `_unattributed`"
    );
}

#[test]
fn a_line_seen_before_allocates_nothing() {
    let mut bench = bench();
    let datagram = "requests:1|c|#customer:acme,region:eu\nrequests:7:8|c|@0.5|#customer:acme\n\
                    requests:1.5|c|@0.3|#customer:acme\nlevel:12|g|#customer:acme\n\
                    requests:1|g|#customer:acme\nrequests:1|c|#customer:b|T21\nnonsense\n\
                    _sc|name|0\nother:123456789012|c";
    let mut buffer = datagram.as_bytes().to_vec();
    buffer.extend_from_slice(&[0; DATAGRAM_SLACK_BYTES]);
    let feed = |tally: &mut Tally<Words>| {
        let whole = std::iter::once(0..datagram.len());
        tally.handle_datagrams(Listener::Udp, &buffer, whole, Timestamp::from_secs(25));
    };
    feed(&mut bench.tally);
    // Once more for what grows with the first timestamp of a line.
    feed(&mut bench.tally);
    let before = allocations();
    for _ in 0..100 {
        feed(&mut bench.tally);
    }
    assert_eq!(allocations() - before, 0);
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (9 * 102, 7 * 102));
}
