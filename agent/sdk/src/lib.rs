//! Tollgate in an application: count usage for nanoseconds, lose nothing when the process or
//! the agent dies.
//!
//! A process counts in a sealed memory file, its [`page`], which a thread in the background
//! hands to the agent over a Unix socket. Counting needs neither: it works before the agent is
//! there, while it restarts and after it is gone, never waits and never fails. `docs/sdk.md`
//! shows how to use it, `docs/formats/page.md` what lies in the page.
//!
//! Do not count in a signal handler: the count that it interrupts would overwrite the handler's.
//! Let the handler set a flag or write to a pipe, and count where the program looks at that.
//!
//! ```
//! let meter = tollgate::Meter::new("http.requests")?;
//! // Resolved once, for any thread …
//! let requests = meter.counter("acme", &[("region", "eu")])?;
//! requests.add(1);
//! // … or bound to this one.
//! let local = requests.local();
//! local.inc();
//! // Tenant and dimensions of the moment.
//! let method = String::from("GET");
//! tollgate::count!(meter, "acme", 1, "region" => "eu", "method" => method);
//! # Ok::<(), tollgate::Invalid>(())
//! ```
//!
//! [`cell`] has the algorithms of single-writer cells over plain words. The agent's own file
//! of cells is built from the same ones.

pub mod cell;
pub mod page;

pub mod kinds;

#[cfg(any(test, feature = "testing"))]
pub mod page_writer;

#[cfg(feature = "client")]
mod adhoc;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "client")]
mod handover;
#[cfg(feature = "client")]
mod local;
#[cfg(feature = "client")]
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "client")]
mod options;
#[cfg(feature = "client")]
mod process;
#[cfg(feature = "client")]
mod recent;
#[cfg(feature = "client")]
mod series;
#[cfg(feature = "client")]
mod sys;

#[cfg(feature = "client")]
pub use adhoc::CallSite;
#[cfg(feature = "client")]
pub use handover::poll_connection;
#[cfg(feature = "client")]
pub use meter::{Counter, Histogram, Level, LocalCounter, Max, Meter, Unique};
#[cfg(feature = "client")]
pub use options::{AlreadyStarted, Options, dropped, wait_until_handed_over};
#[cfg(feature = "client")]
pub use series::Invalid;
