//! `pki init`, `pki issue` and `pki revoke`.

use std::path::{Path, PathBuf};

use serde_json::json;
use tollgate_common::AgentId;

use super::output::Output;
use super::{Exit, Failure};
use crate::pki::{self, Init, Validity};

pub(super) fn init(what: &Init, output: Output) -> Result<Exit, Failure> {
    let files = pki::init(what).map_err(Failure::failed)?;
    written(&files, output)
}

pub(super) fn issue(
    dir: &Path,
    agent: &AgentId,
    days: u32,
    force: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let files = pki::issue(dir, agent, Validity::days(days), force).map_err(Failure::failed)?;
    written(&files, output)
}

pub(super) fn revoke(
    dir: &Path,
    agent: Option<&AgentId>,
    certificate: Option<&Path>,
    output: Output,
) -> Result<Exit, Failure> {
    let done = pki::revoke(dir, agent, certificate).map_err(Failure::failed)?;
    let json = json!({ "serial": done.serial, "revoked": done.revoked, "files": done.files });
    output.print(&json, |out| {
        writeln!(out, "revoked {} ({} in all)", done.serial, done.revoked)?;
        done.files
            .iter()
            .try_for_each(|file| writeln!(out, "wrote {}", file.display()))
    })?;
    Ok(Exit::Done)
}

fn written(files: &[PathBuf], output: Output) -> Result<Exit, Failure> {
    output.print(&json!({ "files": files }), |out| {
        files
            .iter()
            .try_for_each(|file| writeln!(out, "wrote {}", file.display()))
    })?;
    Ok(Exit::Done)
}
