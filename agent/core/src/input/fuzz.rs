//! DogStatsD at rate against the grammar, for the fuzzer.

use tollgate_common::Timestamp;

use super::Listener;
use super::bench::{Bench, bench};
use super::dogstatsd::{DATAGRAM_SLACK_BYTES, Ignored, Item, parse_datagram};
use crate::aggregate::{Account, Rejection};

/// Ends a datagram of the input; no character of UTF-8 holds it.
const END: u8 = 0xff;
/// What lies behind a datagram, and must not be looked at as a part of it.
const BEHIND: &[u8] = b":9|c\n";

/// What the grammar makes of datagrams: events received, malformed, and of no usage.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    received: u64,
    malformed: u64,
    events: u64,
    checks: u64,
}

fn read(datagrams: &[&[u8]]) -> Read {
    let mut read = Read::default();
    for item in datagrams
        .iter()
        .flat_map(|datagram| parse_datagram(datagram))
    {
        match item {
            Item::Metric(metric) => read.received += metric.values().count() as u64,
            Item::Malformed(_) => {
                read.received += 1;
                read.malformed += 1;
            }
            Item::Ignored(Ignored::Event) => read.events += 1,
            Item::Ignored(Ignored::ServiceCheck) => read.checks += 1,
        }
    }
    read
}

/// Counts datagrams together in one buffer, as the kernel hands them over, twice, so that every
/// line is met by one that was seen before.
fn together(bench: &mut Bench, datagrams: &[&[u8]]) {
    let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
    for datagram in datagrams {
        ranges.push(buffer.len()..buffer.len() + datagram.len());
        buffer.extend_from_slice(datagram);
        let behind = BEHIND.iter().cycle().take(DATAGRAM_SLACK_BYTES + 1);
        buffer.extend(behind);
    }
    for _ in 0..2 {
        let (now, ranges) = (Timestamp::from_secs(25), ranges.clone());
        bench
            .tally
            .handle_datagrams(Listener::Udp, &buffer, ranges, now);
    }
}

/// Counts each line for itself, and forgets it: every line is read by the grammar.
fn alone(bench: &mut Bench, datagrams: &[&[u8]]) {
    for _ in 0..2 {
        for line in datagrams
            .iter()
            .flat_map(|d| d.split(|byte| *byte == b'\n'))
        {
            bench.bytes(line);
            bench.tally.lines.forget();
        }
    }
}

/// What an account says apart from what fractions of samples decide: they are carried from one
/// value of a line to the next while it is remembered. For how many events a sample of a
/// distribution stands depends on them, and with that whether there is room for it.
fn whatever_is_carried(account: &Account) -> Account {
    let mut account = account.clone();
    let by_amount = [Rejection::OutOfRange, Rejection::CounterFull];
    for reason in by_amount {
        account.rejected.remove(reason.as_str());
    }
    Account {
        received: 0,
        accepted: 0,
        open: 0,
        estimated: 0,
        rounded: 0,
        ..account
    }
}

/// Counts what `data` holds, datagrams that end with the byte 255, in both ways.
///
/// # Panics
///
/// If they differ in anything that is billed or accounted for, or if the account is another one
/// than that of what the grammar reads.
pub fn datagrams(data: &[u8]) {
    let datagrams: Vec<_> = data.split(|byte| *byte == END).collect();
    let (mut fast, mut slow) = (bench(), bench());
    together(&mut fast, &datagrams);
    alone(&mut slow, &datagrams);
    let (account, of_grammar) = (fast.account(), slow.account());
    assert!(account.balances(), "{account:?}");
    if account.estimated == 0 {
        assert_eq!(account, of_grammar);
        assert_eq!(fast.values(), slow.values());
    } else {
        let [carried, alone] = [&account, &of_grammar].map(whatever_is_carried);
        assert_eq!(carried, alone);
        if account.rejected == of_grammar.rejected {
            let apart = account.received.abs_diff(of_grammar.received);
            assert!(apart <= account.estimated, "{account:?}, {of_grammar:?}");
        }
    }
    let read = read(&datagrams);
    let twice = [read.received, read.events, read.checks].map(|n| 2 * n);
    let counted = [
        account.received,
        account.ignored_events,
        account.ignored_service_checks,
    ];
    // A sample of a distribution stands for several events.
    let more = counted[0] > twice[0] && counted[1..] == twice[1..];
    assert!(counted == twice || more, "{counted:?} of {read:?}");
    let rejected: u64 = account.rejected.values().sum();
    assert!(rejected >= 2 * read.malformed);
}

#[cfg(test)]
mod tests {
    use super::datagrams;

    /// Found by the fuzzer: the second sample of a distribution at 0.3 stands for four events
    /// while the line is remembered, and for three alone.
    #[test]
    fn fractions_of_events_are_carried_while_a_line_is_remembered() {
        datagrams(
            b"requests:1|c|@0.3|#customer:a\nrequests:1|c|@0.5|#customer:a\n\
              wait:1|d|@0.1|#ts:1|c|@0.3|#customer:a\nrequests:1|c",
        );
        datagrams(b"wait:1:2:3:4:5|d|@0.7|#customer:a\nwait:3000000000000000|d|@0.3|#customer:a");
    }
}
