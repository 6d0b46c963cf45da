//! The admin socket: counts that are answered, and the agent's status.

pub(crate) mod access;
pub mod client;
pub mod protocol;
pub(crate) mod server;
pub(crate) mod tap;
pub mod watch;
