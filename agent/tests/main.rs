//! The agent as a process: its command line, its sockets, its files, and collectors that it ships to.

mod cli;
mod operate;
mod path;
mod service;
mod ship;
mod spool;
mod support;
mod watch;
mod watchdog;
