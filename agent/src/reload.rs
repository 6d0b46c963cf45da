//! What a new configuration changes, and which of it needs a restart.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tollgate_agent_core::config::{Collector, Config};

use crate::load::LoadError;

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys whose new value is in force.
    pub changed: Vec<String>,
    /// Keys whose new value waits for a restart; the old one stays in force.
    pub restart: Vec<String>,
}

impl Reloaded {
    /// True if the new value of `key` is to be put into force.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.changed.iter().any(|changed| changed == key)
    }
}

/// Why a configuration is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For people, with file and line where there is one.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    pub(crate) fn from_load(error: &LoadError) -> Self {
        Self::new(error.to_string())
    }
}

/// Compares key by key. A key that is added to the configuration does not compile until it
/// is decided here whether it can change while the agent runs.
pub(crate) fn compare(old: &Config, new: &Config) -> Reloaded {
    let Config {
        agent,
        state_dir,
        window,
        stop_deadline,
        admin_socket: _,
        memory_max,
        admin,
        metrics,
        collector,
        spool,
        limits,
        meters,
        inputs,
        rules,
    } = old;
    let live = [
        ("stop_deadline", *stop_deadline != new.stop_deadline),
        ("memory_max", *memory_max != new.memory_max),
        ("admin", *admin != new.admin),
        ("metrics", *metrics != new.metrics),
        ("collector", *collector != new.collector),
        ("meter", *meters != new.meters),
        ("rule", *rules != new.rules),
    ];
    let restart = [
        // Its name is in the batches, the certificate and the chain of incarnations.
        ("agent", *agent != new.agent),
        ("state_dir", *state_dir != new.state_dir),
        (
            "admin_socket",
            old.admin_socket_path() != new.admin_socket_path(),
        ),
        // Both shape the file of the cells, which is made when an incarnation begins.
        ("window", *window != new.window),
        ("limits", *limits != new.limits),
        ("spool", *spool != new.spool),
        ("input.dogstatsd", inputs.dogstatsd != new.inputs.dogstatsd),
        // Its baselines are in memory: what flows during a change would not be known.
        (
            "input.interfaces",
            inputs.interfaces != new.inputs.interfaces,
        ),
        ("input.sdk", inputs.sdk != new.inputs.sdk),
    ];
    let names = |keys: &[(&str, bool)]| {
        let changed = keys.iter().filter(|(_, differs)| *differs);
        changed.map(|(key, _)| (*key).to_owned()).collect()
    };
    Reloaded {
        changed: names(&live),
        restart: names(&restart),
    }
}

/// Puts the live part of `new` into `running`; what needs a restart stays, so that the next
/// comparison names it again.
pub(crate) fn take_over(running: &mut Config, new: Config) {
    running.stop_deadline = new.stop_deadline;
    running.memory_max = new.memory_max;
    running.admin = new.admin;
    running.metrics = new.metrics;
    running.collector = new.collector;
    running.meters = new.meters;
    running.rules = new.rules;
}

/// What tells one content of the certificate files from another, to see whether they have
/// been renewed; a file that cannot be read equals none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateFiles([Option<(u64, u64, i64, i64)>; 3]);

impl CertificateFiles {
    pub(crate) fn look(collector: &Collector) -> Self {
        let look = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        };
        Self([&collector.ca, &collector.certificate, &collector.key].map(|path| look(path)))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_agent_core::config::parse;

    use super::*;

    const TEXT: &str = r#"
agent = "edge-1"
[collector]
endpoints = ["127.0.0.1:7430"]
ca = "ca"
certificate = "certificate"
key = "key"
[[meter]]
name = "requests"
unit = "1"
"#;

    #[test]
    fn live_keys_are_taken_and_others_wait() {
        let mut running = parse(TEXT).expect("right");
        let text = TEXT
            .replace("edge-1", "edge-2")
            .replace("7430", "7431")
            .replace("requests", "bytes");
        let new = parse(&format!("stop_deadline = \"9s\"\nwindow = \"5s\"\n{text}"));
        let new = new.expect("right");
        assert_eq!(compare(&running, &running), Reloaded::default());
        let change = compare(&running, &new);
        assert_eq!(change.changed, ["stop_deadline", "collector", "meter"]);
        assert_eq!(change.restart, ["agent", "window"]);
        take_over(&mut running, new.clone());
        let again = compare(&running, &new);
        assert!(again.changed.is_empty(), "{again:?}");
        assert_eq!(again.restart, ["agent", "window"]);
    }
}
