//! What comes into the agent: parsers and trackers without socket or file.
//!
//! The shell reads sockets and files; what it read is given to the state machines here, which
//! name what was counted ([`Sample`]) and how much. [`crate::attribute`] says for whom.

#[cfg(test)]
mod allocations;
#[cfg(any(test, feature = "testing"))]
mod bench;
pub mod dogstatsd;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod interfaces;
pub mod live;
mod observe;
pub mod page;
pub mod tally;
pub mod udp_drops;

use std::fmt;

use serde::{Deserialize, Serialize};
use tollgate_common::Aggregation;

/// Longest line of text that an input looks at, in bytes.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// Most tags of one sample.
pub const TAGS_MAX: usize = 64;
/// Longest metric name of an input, in bytes, before it is mapped to a meter.
pub const METRIC_BYTES_MAX: usize = 256;

/// The kinds of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Input {
    /// DogStatsD lines from a socket.
    Dogstatsd = 1,
    /// Traffic counters of the kernel.
    Interfaces = 2,
    /// Counts through the admin socket.
    Admin = 3,
}

impl Input {
    /// The name used in configuration and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dogstatsd => "dogstatsd",
            Self::Interfaces => "interfaces",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the sender of a sample says that its values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An increment.
    Count = 1,
    /// A level.
    Gauge = 2,
    /// A member of a set.
    Set = 3,
    /// One of many values, whose distribution on this host is of interest.
    Histogram = 4,
    /// One of many values, whose distribution over all hosts is of interest.
    Distribution = 5,
    /// A duration in milliseconds.
    Timer = 6,
}

impl Kind {
    /// True if a meter of this aggregation can take such values.
    pub const fn fits(self, aggregation: Aggregation) -> bool {
        match self {
            Self::Count => matches!(aggregation, Aggregation::Sum),
            Self::Gauge => matches!(
                aggregation,
                Aggregation::Last | Aggregation::Max | Aggregation::TimeWeighted
            ),
            Self::Set => matches!(aggregation, Aggregation::Unique),
            Self::Histogram | Self::Distribution | Self::Timer => matches!(
                aggregation,
                Aggregation::Distribution | Aggregation::Max | Aggregation::Sum
            ),
        }
    }

    /// The aggregation that keeps most of such values where no meter says another.
    pub const fn usual(self) -> Aggregation {
        match self {
            Self::Count => Aggregation::Sum,
            Self::Gauge => Aggregation::Last,
            Self::Set => Aggregation::Unique,
            Self::Histogram | Self::Distribution | Self::Timer => Aggregation::Distribution,
        }
    }
}

/// The listeners of the DogStatsD input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Listener {
    /// The UDP socket.
    Udp = 1,
    /// The Unix datagram socket.
    Unix = 2,
    /// The Unix stream socket.
    UnixStream = 3,
}

impl Listener {
    /// The name used in configuration and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixStream => "unix_stream",
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a sample came in: the input and, where it has several, the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// DogStatsD over one of its listeners.
    Dogstatsd(Listener),
    /// The interface counters.
    Interfaces,
    /// The admin socket.
    Admin,
}

impl Source {
    /// The input of this source.
    pub const fn input(self) -> Input {
        match self {
            Self::Dogstatsd(_) => Input::Dogstatsd,
            Self::Interfaces => Input::Interfaces,
            Self::Admin => Input::Admin,
        }
    }

    /// The listener, for inputs that have several.
    pub const fn listener(self) -> Option<Listener> {
        match self {
            Self::Dogstatsd(listener) => Some(listener),
            Self::Interfaces | Self::Admin => None,
        }
    }
}

/// What was counted, as its input names it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Where it came in.
    pub source: Source,
    /// The name of the metric.
    pub metric: &'a str,
    /// How the sender says that its values are to be read; `None` if it does not say.
    pub kind: Option<Kind>,
    /// Key and value of each tag, in the order given; a bare tag has an empty value. Where a
    /// key is repeated the first counts.
    pub tags: &'a [(&'a str, &'a str)],
}

impl<'a> Sample<'a> {
    /// The value of the first tag with this key.
    pub fn tag(&self, key: &str) -> Option<&'a str> {
        self.tags.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }
}
