//! End-to-end tests: the real programs as processes on loopback.

mod certificates;
mod chosen_kills;
mod collector_kills;
mod counting;
mod datadog;
mod garbage;
mod kills;
mod outage;
mod strace;
mod support;
