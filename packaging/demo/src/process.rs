//! The processes of the demo: copies of this program in the roles of agent and collector.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The hidden first argument that makes this program an agent.
const AS_AGENT: &str = "--as-tollgate-agent";
/// The hidden first argument that makes this program a collector.
const AS_COLLECTOR: &str = "--as-tollgate-collector";

/// Which binary to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `tollgate-agent`.
    Agent,
    /// `tollgate-collector`.
    Collector,
}

/// Runs a role if the command line asks for one.
pub(crate) fn take_role(arguments: &[OsString]) -> Option<ExitCode> {
    let with_name = |name: &str| {
        std::iter::once(OsString::from(name))
            .chain(arguments.iter().skip(2).cloned())
            .collect::<Vec<_>>()
    };
    match arguments.get(1)?.to_str()? {
        AS_AGENT => Some(tollgate_agent::cli::main_from(with_name("tollgate-agent"))),
        AS_COLLECTOR => Some(tollgate_collector::cli::main_from(with_name(
            "tollgate-collector",
        ))),
        _ => None,
    }
}

/// This program in a role, with the arguments that the real binary would get.
pub(crate) fn command(role: Role) -> Result<Command> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut command = Command::new(program);
    command.arg(match role {
        Role::Agent => AS_AGENT,
        Role::Collector => AS_COLLECTOR,
    });
    Ok(command)
}

/// A running process; killed when dropped, so that a failing demo leaves nothing behind.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `role run --config CONFIG`; its log is appended to `NAME.log` beside the
    /// configuration.
    pub(crate) fn start(role: Role, name: &str, config: &Path) -> Result<Self> {
        let log = config.with_extension("log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .context("cannot open the log")?;
        let child = command(role)?
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// SIGKILL: the process gets no chance to do anything.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the end.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }

    /// True while it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                bail!("{} did not stop within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // Nobody is left to tell about a failure here.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
