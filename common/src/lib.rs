//! Vocabulary, wire format and segment log shared by the Tollgate agent and collector.
//!
//! Nothing in this crate reads a clock, draws a random number or opens a socket. Files and
//! TLS sit behind the `io` feature, which the pure state machines do not enable. Without the
//! `formats` feature only the vocabulary and the sketches are left, which depend on next to
//! nothing: that is what an application links.

#[cfg(feature = "formats")]
pub mod batch;
pub mod dimensions;
pub mod ids;
pub mod limits;
#[cfg(feature = "formats")]
pub mod log;
#[cfg(feature = "formats")]
pub mod loss;
pub mod meter;
pub mod mistakes;
pub mod quantity;
pub mod series;
pub mod series_ref;
pub mod sketch;
#[cfg(feature = "formats")]
pub mod storage;
pub mod time;
#[cfg(feature = "io")]
pub mod tls;
pub mod units;
pub mod window;
#[cfg(feature = "formats")]
pub mod wire;

#[cfg(feature = "formats")]
pub use batch::{
    Batch, BatchHash, ClockStep, Detail, Opening, Parent, ParentEnd, Remembered, Rollup, RowRef,
    Span, Tombstone, Total,
};
pub use dimensions::Dimensions;
pub use ids::{AgentId, BatchSeq, Incarnation, Lineage, MeterName, TenantId};
#[cfg(feature = "formats")]
pub use loss::{Loss, LossAmount, LossReason};
pub use meter::{Aggregation, Scale};
pub use quantity::Quantity;
pub use series::SeriesKey;
pub use series_ref::SeriesRef;
pub use time::Timestamp;
pub use window::{Window, WindowWidth};
