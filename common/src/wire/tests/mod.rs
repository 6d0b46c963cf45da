//! Tests of the whole format.

mod golden;
mod hostile;
mod measure;
mod round_trip;
pub(super) mod sample;
mod session;
mod stream;
