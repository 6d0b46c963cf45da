//! End-to-end tests: the real programs as processes on loopback.

mod certificates;
mod datadog;
mod garbage;
mod kills;
mod outage;
mod support;
