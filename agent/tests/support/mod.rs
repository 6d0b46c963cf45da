//! An agent in a directory of its own, with certificates made for it.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod collector;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tempfile::TempDir;
use tollgate_agent::admin::client::Client;
use tollgate_agent::admin::protocol::Count;

pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// A directory with certificates and a configuration.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) config: PathBuf,
}

/// A running agent; killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A value for the customer acme.
pub(crate) fn count(value: u64) -> Count {
    Count {
        metric: "requests".to_owned(),
        value: value.to_string(),
        tags: BTreeMap::from([("customer".to_owned(), "acme".to_owned())]),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

/// Writes ca.pem, collector.pem, collector.key, edge-1.pem and edge-1.key.
fn write_pki(dir: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("key");
    write(
        &dir.join("ca.pem"),
        &ca.self_signed(&ca_key).expect("signed").pem(),
    );
    write(&dir.join("ca.key"), &ca_key.serialize_pem());
    write_leaves(dir, &Issuer::new(ca, ca_key), &["collector", "edge-1"]);
}

/// Gives the agent another certificate of the same authority.
pub(crate) fn pki_again(dir: &Path) {
    let read = |name| std::fs::read_to_string(dir.join(name)).expect("written before");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("an authority");
    write_leaves(dir, &issuer, &["edge-1"]);
}

fn write_leaves(dir: &Path, issuer: &Issuer<'_, KeyPair>, names: &[&str]) {
    let leaf = |name: &str, mut params: CertificateParams, usage| {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, issuer).expect("signed");
        write(&dir.join(format!("{name}.pem")), &certificate.pem());
        write(&dir.join(format!("{name}.key")), &key.serialize_pem());
    };
    if names.contains(&"collector") {
        let collector = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        leaf("collector", collector, ExtendedKeyUsagePurpose::ServerAuth);
    }
    let mut agent = CertificateParams::new(Vec::new()).expect("no names");
    let uri = "tollgate://agent/edge-1".try_into().expect("ASCII");
    agent.subject_alt_names = vec![SanType::URI(uri)];
    leaf("edge-1", agent, ExtendedKeyUsagePurpose::ClientAuth);
}

impl Home {
    /// A directory whose configuration names `collector` (a port on loopback) and ends with
    /// `more`.
    pub(crate) fn new(collector: u16, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        write_pki(&dir.path().join("pki"));
        let config = dir.path().join("agent.toml");
        let text = format!(
            r#"agent = "edge-1"
state_dir = "state"
window = "1s"
stop_deadline = "3s"
[collector]
endpoints = ["127.0.0.1:{collector}"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/edge-1.pem"
key = "pki/edge-1.key"
[spool]
bytes_max = "64MiB"
segment_bytes = "1MiB"
[limits]
series_max = 256
[[meter]]
name = "requests"
unit = "{{request}}"
[[rule]]
metric = "requests"
tenant = {{ tag = "customer" }}
{more}
"#
        );
        write(&config, &text);
        Self { dir, config }
    }

    /// Changes the configuration's text.
    pub(crate) fn replace(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("written");
        assert!(text.contains(from), "{from} in {text}");
        std::fs::write(&self.config, text.replace(from, to)).expect("writable");
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("state/admin.sock")
    }

    /// Runs a command to its end.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let config = self.config.to_str().expect("UTF-8");
        command(&[args, &["--config", config]].concat())
    }

    /// Starts an agent and waits until it answers.
    pub(crate) fn run(&self) -> (Running, Client) {
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
            .args(["run", "--config"])
            .arg(&self.config)
            .env("TOLLGATE_AGENT_LOG", "debug")
            .stdout(Stdio::null())
            .stderr(Stdio::from(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(self.dir.path().join("log"))
                    .expect("writable"),
            ))
            .spawn()
            .expect("the binary starts");
        let mut running = Running(child);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Ok(mut client) = Client::connect(&self.admin_socket(), TIMEOUT)
                && client.status().is_ok()
            {
                return (running, client);
            }
            let exited = running.0.try_wait().expect("a child");
            assert!(
                exited.is_none() && Instant::now() < deadline,
                "agent does not answer ({exited:?}):\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Runs the binary to its end, without the environment's settings.
pub(crate) fn command(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
        .args(args)
        .env_remove("TOLLGATE_AGENT_CONFIG")
        .output()
        .expect("the binary starts")
}

pub(crate) fn signal(running: &Running, name: &str) {
    let pid = running.0.id().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.expect("kill is there").success());
}

/// Waits for the end; gives the exit code.
pub(crate) fn exit_code(running: &mut Running) -> Option<i32> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = running.0.try_wait().expect("a child") {
            return status.code();
        }
        assert!(Instant::now() < deadline, "agent does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
