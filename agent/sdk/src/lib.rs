//! Tollgate in an application: cells to count in, which the agent reads.
//!
//! [`cell`] has the algorithms of single-writer cells over plain words. The agent's own file
//! of cells is built from the same ones.

pub mod cell;
