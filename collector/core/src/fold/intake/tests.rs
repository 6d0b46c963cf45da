//! Promises of the intake.

mod aggregations;
pub(crate) mod books;
mod conservation;
mod forks;
mod lives;
mod remembered;
mod restore;
mod totals;
