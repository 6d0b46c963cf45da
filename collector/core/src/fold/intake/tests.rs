//! Promises of the intake.

pub(crate) mod books;
mod conservation;
mod forks;
mod lives;
