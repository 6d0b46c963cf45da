//! The collector as operators and agents meet it: its command line, its sockets, its files.

mod books;
mod catalog;
mod cli;
mod finance;
mod migrate;
mod operate;
mod restore;
mod run;
mod signals;
mod support;
mod tamper;
