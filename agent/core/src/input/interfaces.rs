//! Traffic per network interface from the kernel's counters.
//!
//! The shell reads `/proc/net/dev` and the interface indexes and gives the text to
//! [`InterfaceTracker::handle_poll`]; out come the increments since the poll before.
//!
//! The kernel's counters are cumulative and not ours, so each change of meaning has a rule:
//!
//! | what the poll shows | what is counted |
//! | --- | --- |
//! | a name never seen before | nothing: its counters are the baseline, the traffic before was not ours to meter |
//! | a counter went up | the difference |
//! | a counter went down | the new value: the counter began again at zero and this came since |
//! | another index under a known name | the new values: the interface was replaced and its counters began at zero |
//! | an index that the poll before had under another name | the difference: the interface was renamed and kept its counters |
//! | a known name is missing | nothing; it is remembered and compared when it comes back |
//!
//! A 32-bit counter that wraps (old drivers) looks like one that began again: what came
//! between the last poll and the wrap is not counted, which never bills too much. An agent
//! that starts takes a new baseline: traffic while no agent ran is not accepted usage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Kind, Sample, Source};

/// Most interfaces that are tracked; further ones are reported as skipped.
pub const INTERFACES_MAX: usize = 4096;
/// Longest interface name, in bytes: `IFNAMSIZ` of Linux less the terminator.
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Longest text of `/proc/net/dev` that is read, in bytes.
pub const NET_DEV_BYTES_MAX: usize = 1 << 20;

/// Which way traffic went, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Received by the host.
    In,
    /// Sent by the host.
    Out,
}

impl Direction {
    /// The name used in configuration and dimensions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What is counted of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Bytes with link-layer headers, as the kernel counts them.
    Bytes,
    /// Packets.
    Packets,
}

impl Traffic {
    /// The name used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Packets => "packets",
        }
    }

    /// The name of the metric of this input.
    pub const fn metric(self) -> &'static str {
        match self {
            Self::Bytes => "interface.bytes",
            Self::Packets => "interface.packets",
        }
    }
}

/// The four counters of one interface, in this order: bytes in, packets in, bytes out,
/// packets out.
pub type Counters = [u64; 4];

const MEANING: [(Direction, Traffic); 4] = [
    (Direction::In, Traffic::Bytes),
    (Direction::In, Traffic::Packets),
    (Direction::Out, Traffic::Bytes),
    (Direction::Out, Traffic::Packets),
];

/// One interface as a poll shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceSample<'a> {
    /// Its name, such as `eth0`.
    pub name: &'a str,
    /// Its counters.
    pub counters: Counters,
}

/// A line of `/proc/net/dev` that is not as documented in proc(5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of /proc/net/dev is not `name: 16 counters`")]
pub struct NetDevError {
    /// Which line, from 1.
    pub line: usize,
}

/// Reads the text of `/proc/net/dev` line by line.
///
/// The two lines of headings are skipped.
pub fn parse_net_dev(text: &str) -> impl Iterator<Item = Result<InterfaceSample<'_>, NetDevError>> {
    text.lines()
        .enumerate()
        .skip(2)
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| parse_net_dev_line(line).ok_or(NetDevError { line: index + 1 }))
}

fn parse_net_dev_line(line: &str) -> Option<InterfaceSample<'_>> {
    // An alias such as `eth0:1` has a colon in its name.
    let (name, numbers) = line.rsplit_once(':')?;
    let name = name.trim();
    if name.is_empty() || name.len() > INTERFACE_NAME_BYTES_MAX || name.contains('/') {
        return None;
    }
    let mut fields = [0u64; 16];
    let mut given = numbers.split_ascii_whitespace();
    for field in &mut fields {
        *field = given.next()?.parse().ok()?;
    }
    Some(InterfaceSample {
        name,
        counters: [fields[0], fields[1], fields[8], fields[9]],
    })
}

/// Traffic since the poll before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Increment<'a> {
    /// The interface.
    pub interface: &'a str,
    /// Which way.
    pub direction: Direction,
    /// Bytes or packets.
    pub traffic: Traffic,
    /// How much, above zero.
    pub amount: u64,
}

impl<'a> Increment<'a> {
    /// The tags that rules see.
    pub(super) fn tags(&self) -> [(&'a str, &'a str); 2] {
        [
            ("interface", self.interface),
            ("direction", self.direction.as_str()),
        ]
    }

    /// The sample that rules see.
    pub(super) fn sample<'t>(&self, tags: &'t [(&'t str, &'t str)]) -> Sample<'t> {
        Sample {
            source: Source::Interfaces,
            metric: self.traffic.metric(),
            kind: Some(Kind::Count),
            tags,
        }
    }
}

/// Something that happened to an interface, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceEvent {
    /// Seen for the first time: a baseline was taken.
    Appeared,
    /// Another interface has the name now.
    Replaced,
    /// Another interface was renamed to the name and keeps its counters.
    Renamed,
    /// A counter went down.
    Reset,
    /// Missing since this poll.
    Disappeared,
    /// Not tracked, because [`INTERFACES_MAX`] others are.
    Skipped,
}

impl fmt::Display for InterfaceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Appeared => "appeared; its counters so far are the baseline",
            Self::Replaced => "was replaced by another of the same name; counting from zero",
            Self::Renamed => "is the new name of another; counting goes on",
            Self::Reset => "began its counters again; counting from zero",
            Self::Disappeared => "disappeared",
            Self::Skipped => "is not metered: too many interfaces",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    index: u32,
    counters: Counters,
    poll: u64,
    present: bool,
}

/// Remembers the counters of every interface and gives increments.
#[derive(Debug, Default)]
pub struct InterfaceTracker {
    known: BTreeMap<Box<str>, Known>,
    polls: u64,
}

/// What a poll is told through: increments and events, as they are found.
pub trait InterfaceSink {
    /// Traffic since the poll before.
    fn increment(&mut self, increment: Increment<'_>);
    /// Something to write into the log.
    fn event(&mut self, interface: &str, event: InterfaceEvent);
}

impl InterfaceTracker {
    /// Knows no interface yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares one poll with the one before.
    ///
    /// `interfaces` gives each interface with its index (0 where it is not known, which is
    /// taken for "the same as before").
    pub fn handle_poll<'a>(
        &mut self,
        interfaces: impl IntoIterator<Item = (InterfaceSample<'a>, u32)>,
        sink: &mut impl InterfaceSink,
    ) {
        self.polls = self.polls.wrapping_add(1);
        // A device keeps its index and its counters when it is renamed.
        let devices: BTreeMap<u32, Counters> = self
            .known
            .values()
            .filter(|known| known.present && known.index != 0)
            .map(|known| (known.index, known.counters))
            .collect();
        for (sample, index) in interfaces {
            self.handle_interface(&sample, index, devices.get(&index), sink);
        }
        self.note_missing(sink);
    }

    fn note_missing(&mut self, sink: &mut impl InterfaceSink) {
        let polls = self.polls;
        let present = || self.known.values().filter(|known| known.present);
        if present().all(|known| known.poll == polls) {
            return;
        }
        let seen: BTreeSet<u32> = present()
            .filter(|known| known.poll == polls)
            .map(|known| known.index)
            .collect();
        self.known.retain(|name, known| {
            if !known.present || known.poll == polls {
                return true;
            }
            known.present = false;
            sink.event(name, InterfaceEvent::Disappeared);
            // What was renamed is remembered under its new name only, or what is counted there
            // would be counted again when it gets the old name back.
            known.index == 0 || !seen.contains(&known.index)
        });
    }

    /// `device` is what the poll before showed of the device with this index.
    fn handle_interface(
        &mut self,
        sample: &InterfaceSample<'_>,
        index: u32,
        device: Option<&Counters>,
        sink: &mut impl InterfaceSink,
    ) {
        let is_known = self.known.contains_key(sample.name);
        if !is_known && !self.first_sight(sample, index, device.is_some(), sink) {
            return;
        }
        let Some(known) = self.known.get_mut(sample.name) else {
            return;
        };
        let replaced = index != 0 && known.index != 0 && known.index != index;
        match device {
            Some(counters) => {
                known.counters = *counters;
                if replaced || !is_known {
                    sink.event(sample.name, InterfaceEvent::Renamed);
                }
            }
            None if replaced => {
                known.counters = [0; 4];
                sink.event(sample.name, InterfaceEvent::Replaced);
            }
            None => {}
        }
        let mut reset = false;
        for ((before, now), (direction, traffic)) in
            known.counters.iter().zip(sample.counters).zip(MEANING)
        {
            let amount = now.checked_sub(*before).unwrap_or_else(|| {
                reset = true;
                now
            });
            if amount > 0 {
                sink.increment(Increment {
                    interface: sample.name,
                    direction,
                    traffic,
                    amount,
                });
            }
        }
        if reset {
            sink.event(sample.name, InterfaceEvent::Reset);
        }
        *known = Known {
            index: if index == 0 { known.index } else { index },
            counters: sample.counters,
            poll: self.polls,
            present: true,
        };
    }

    /// Takes a baseline under a new name; false if there is no room.
    fn first_sight(
        &mut self,
        sample: &InterfaceSample<'_>,
        index: u32,
        renamed: bool,
        sink: &mut impl InterfaceSink,
    ) -> bool {
        if self.known.len() >= INTERFACES_MAX && !self.forget_one() {
            sink.event(sample.name, InterfaceEvent::Skipped);
            return false;
        }
        let known = Known {
            index,
            counters: sample.counters,
            poll: self.polls,
            present: true,
        };
        self.known.insert(sample.name.into(), known);
        if !renamed {
            sink.event(sample.name, InterfaceEvent::Appeared);
        }
        true
    }

    /// Makes room by forgetting the interface that is missing for the longest time.
    fn forget_one(&mut self) -> bool {
        let oldest = self
            .known
            .iter()
            .filter(|(_, known)| !known.present)
            .min_by_key(|(_, known)| known.poll)
            .map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.known.remove(&name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
  eth0: 5000 50 1 2 3 4 5 6 700 7 8 9 10 11 12 13
";

    #[derive(Default)]
    struct Seen {
        amounts: Vec<(String, Direction, Traffic, u64)>,
        events: Vec<InterfaceEvent>,
    }

    impl InterfaceSink for Seen {
        fn increment(&mut self, i: Increment<'_>) {
            self.amounts
                .push((i.interface.to_owned(), i.direction, i.traffic, i.amount));
        }

        fn event(&mut self, _: &str, event: InterfaceEvent) {
            self.events.push(event);
        }
    }

    fn poll(tracker: &mut InterfaceTracker, interfaces: &[(&str, u32, Counters)]) -> Seen {
        let mut seen = Seen::default();
        let samples = interfaces
            .iter()
            .map(|&(name, index, counters)| (InterfaceSample { name, counters }, index));
        tracker.handle_poll(samples, &mut seen);
        seen
    }

    #[test]
    fn the_kernels_text_is_read() {
        let samples: Vec<_> = parse_net_dev(TEXT)
            .collect::<Result<_, _>>()
            .expect("valid");
        assert_eq!(samples.len(), 2);
        assert_eq!(
            samples[1],
            InterfaceSample {
                name: "eth0",
                counters: [5000, 50, 700, 7]
            }
        );
        let broken = "h\nh\neth0: 1 2 3\nlo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";
        let mut lines = parse_net_dev(broken);
        assert_eq!(lines.next(), Some(Err(NetDevError { line: 3 })));
        assert!(lines.next().is_some_and(|line| line.is_ok()));
    }

    #[test]
    fn first_sight_is_a_baseline_then_differences_count() {
        let mut tracker = InterfaceTracker::new();
        let seen = poll(&mut tracker, &[("eth0", 2, [100, 1, 50, 1])]);
        assert_eq!(
            (seen.amounts, seen.events),
            (vec![], vec![InterfaceEvent::Appeared])
        );
        let seen = poll(&mut tracker, &[("eth0", 2, [160, 2, 50, 1])]);
        assert_eq!(
            seen.amounts,
            [
                ("eth0".to_owned(), Direction::In, Traffic::Bytes, 60),
                ("eth0".to_owned(), Direction::In, Traffic::Packets, 1),
            ]
        );
    }

    #[test]
    fn resets_and_replacements_count_from_zero() {
        let mut tracker = InterfaceTracker::new();
        poll(&mut tracker, &[("ppp0", 7, [100, 10, 0, 0])]);
        let seen = poll(&mut tracker, &[("ppp0", 7, [30, 3, 0, 0])]);
        assert_eq!(seen.events, [InterfaceEvent::Reset]);
        assert_eq!(seen.amounts[0].3, 30);
        // Gone for two polls, back as another device with higher counters.
        assert_eq!(
            poll(&mut tracker, &[]).events,
            [InterfaceEvent::Disappeared]
        );
        assert_eq!(poll(&mut tracker, &[]).events, []);
        let seen = poll(&mut tracker, &[("ppp0", 8, [500, 5, 0, 0])]);
        assert_eq!(seen.events, [InterfaceEvent::Replaced]);
        assert_eq!(seen.amounts[0].3, 500);
        // Gone and back as the same device.
        poll(&mut tracker, &[]);
        let seen = poll(&mut tracker, &[("ppp0", 8, [501, 5, 0, 0])]);
        assert_eq!((seen.amounts[0].3, seen.events.len()), (1, 0));
        // An index that could not be read does not look like a replacement.
        assert_eq!(
            poll(&mut tracker, &[("ppp0", 0, [501, 5, 0, 0])]).events,
            []
        );
        assert_eq!(
            poll(&mut tracker, &[("ppp0", 8, [501, 5, 0, 0])]).events,
            []
        );
    }

    #[test]
    fn a_renamed_interface_is_not_counted_again() {
        let sum = |seen: &Seen| seen.amounts.iter().map(|a| a.3).sum::<u64>();
        let mut tracker = InterfaceTracker::new();
        poll(
            &mut tracker,
            &[("eth0", 2, [9000, 0, 0, 0]), ("wan0", 3, [100, 0, 0, 0])],
        );
        // wan0 goes, and eth0 with all it has ever counted gets its name.
        let seen = poll(&mut tracker, &[("wan0", 2, [9001, 0, 0, 0])]);
        assert_eq!(sum(&seen), 1);
        assert!(seen.events.contains(&InterfaceEvent::Renamed));
        // Back, after a poll that shows nothing: at most less is counted, never twice.
        assert_eq!(
            sum(&poll(&mut tracker, &[("wan0", 2, [9101, 0, 0, 0])])),
            100
        );
        poll(&mut tracker, &[]);
        assert_eq!(sum(&poll(&mut tracker, &[("eth0", 2, [9111, 0, 0, 0])])), 0);
        // Two that exchange their names, and a name that is new.
        let mut tracker = InterfaceTracker::new();
        poll(
            &mut tracker,
            &[("a", 1, [10, 0, 0, 0]), ("b", 2, [70, 0, 0, 0])],
        );
        let seen = poll(
            &mut tracker,
            &[("a", 2, [71, 0, 0, 0]), ("b", 1, [12, 0, 0, 0])],
        );
        assert_eq!(seen.amounts.iter().map(|a| a.3).collect::<Vec<_>>(), [1, 2]);
        let seen = poll(
            &mut tracker,
            &[("c", 2, [75, 0, 0, 0]), ("b", 1, [12, 0, 0, 0])],
        );
        assert_eq!(sum(&seen), 4);
    }

    #[test]
    fn interfaces_are_bounded() {
        let mut tracker = InterfaceTracker::new();
        let names: Vec<_> = (0..=INTERFACES_MAX).map(|i| format!("veth{i}")).collect();
        let indexes = 1u32..;
        let all: Vec<_> = names
            .iter()
            .zip(indexes)
            .map(|(n, i)| (n.as_str(), i, [0; 4]))
            .collect();
        let seen = poll(&mut tracker, &all);
        assert_eq!(seen.events.last(), Some(&InterfaceEvent::Skipped));
        poll(&mut tracker, &all[1..INTERFACES_MAX]);
        let seen = poll(&mut tracker, &all[1..]);
        assert_eq!(seen.events, [InterfaceEvent::Appeared]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,300}") {
            let _ = parse_net_dev(&text).count();
            let lines = format!("h\nh\n{text}");
            let _ = parse_net_dev(&lines).count();
        }

        #[test]
        fn without_resets_the_increments_add_up(steps in proptest::collection::vec(0u64..1_000_000, 1..50)) {
            let mut tracker = InterfaceTracker::new();
            poll(&mut tracker, &[("eth0", 1, [77, 0, 0, 0])]);
            let (mut counter, mut sum) = (77, 0);
            for step in &steps {
                counter += step;
                let seen = poll(&mut tracker, &[("eth0", 1, [counter, 0, 0, 0])]);
                sum += seen.amounts.iter().map(|a| a.3).sum::<u64>();
            }
            prop_assert_eq!(sum, steps.iter().sum::<u64>());
        }
    }
}
