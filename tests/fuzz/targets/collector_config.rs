//! The collector's configuration and the policy in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_collector_core::config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = config::parse(text);
});
