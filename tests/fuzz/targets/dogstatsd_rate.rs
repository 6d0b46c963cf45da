//! DogStatsD as it runs: scanned in groups, looked up in the cache of lines, added; compared with
//! what the grammar reads line by line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_agent_core::input::fuzz;

fuzz_target!(|data: &[u8]| fuzz::datagrams(data));
