//! Serve: what others ask of the collector, over HTTP and over the admin socket.

pub mod admin;
pub mod http;
mod limit;
mod pool;

pub use limit::LimitedListener;
pub use pool::{PoolError, ReaderPool};
