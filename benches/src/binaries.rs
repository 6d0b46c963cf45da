//! The real binaries, built in release and started as processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where the binaries are.
pub(crate) struct Binaries {
    /// `tollgate-agent`.
    pub(crate) agent: PathBuf,
    /// `tollgate-collector`.
    pub(crate) collector: PathBuf,
}

/// Builds both binaries with the release profile (nothing happens where they are fresh).
pub(crate) fn build() -> Result<Binaries> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate has a parent")?;
    let status = Command::new(cargo)
        .current_dir(manifest)
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "tollgate-agent",
            "-p",
            "tollgate-collector",
        ])
        .status()
        .context("cargo could not be started to build the binaries")?;
    if !status.success() {
        bail!("cargo build of the binaries failed: {status}");
    }
    let folder = target()?.join("release");
    Ok(Binaries {
        agent: folder.join("tollgate-agent"),
        collector: folder.join("tollgate-collector"),
    })
}

/// Where builds are.
pub(crate) fn target() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate has a parent")?;
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => manifest.join(target),
        None => manifest.join("target"),
    })
}

/// A process that is killed when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts `command` without standard input and with its output thrown away.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self(child))
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ready` says yes, looking every 20 ms.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let begin = Instant::now();
    while !ready() {
        if begin.elapsed() > limit {
            bail!("{what} was not ready within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
