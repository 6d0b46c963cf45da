//! The collector's configuration and the policy in it.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::policy::Policy;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text, Path::new("collector.toml")) {
        Ok(config) => {
            // The policy's canonical text says the same as the policy.
            let again = Policy::parse(config.policy.text()).expect("its own text");
            assert_eq!(again.digest(), config.policy.digest());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
