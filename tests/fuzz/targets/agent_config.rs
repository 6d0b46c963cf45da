//! The agent's configuration: an error points into the text, a result survives its checks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_agent_core::config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match config::parse(text) {
        Ok(config) => {
            let _ = config.attributor();
            let _ = config.admin_socket_path();
        }
        Err(errors) => {
            let mut count = 0;
            for error in errors.iter() {
                count += 1;
                assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                assert!(!error.to_string().is_empty());
            }
            assert!(count > 0, "a refusal names its reason");
        }
    }
});
