//! Tests of the whole engine against a disk that fails and a collector that remembers.

mod basics;
mod clock;
mod clones;
mod full;
mod kinds;
mod losses;
mod pages;
mod sweep;
mod world;
