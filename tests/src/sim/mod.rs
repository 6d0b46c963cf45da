//! The deterministic simulation.
//!
//! Agents, a network, disks and a collector in one thread, on a virtual clock, with every
//! choice drawn from one seed. What is simulated is only what lies outside of the program:
//! time, network, disks, crashes, and the people who change catalogs. Wire, spool, engine,
//! sessions, journal, fold and ledger are the production code.
//!
//! The [`oracle`] watches from outside and knows three sums: what was accepted, what may have
//! been destroyed with a host, and what the ledger says.

pub mod agent;
pub mod bookkeeper;
pub mod campaign;
pub mod collector;
pub mod context;
pub mod coverage;
pub mod faults;
pub mod figures;
pub mod home;
pub mod money;
pub mod network;
pub mod options;
pub mod oracle;
pub mod projection;
pub mod random;
pub mod tariff;
pub mod trace;
pub mod workload;
pub mod world;
