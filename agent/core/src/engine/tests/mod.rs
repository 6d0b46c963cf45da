//! Tests of the whole engine against a disk that fails and a collector that remembers.

mod basics;
mod clock;
mod clones;
mod full;
mod gauges;
mod hostile;
mod kinds;
mod losses;
mod page_losses;
mod page_world;
mod pages;
mod sweep;
mod world;
