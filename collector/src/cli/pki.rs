//! `pki init` and `pki issue`.

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

fn written(files: &[PathBuf], output: Output) -> Result<Exit, Failure> {
    output.print(&json!({ "files": files }), |out| {
        files
            .iter()
            .try_for_each(|file| writeln!(out, "wrote {}", file.display()))
    })?;
    Ok(Exit::Done)
}
