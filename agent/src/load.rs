//! From a configuration file and overrides to a checked configuration.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde_json::json;
use tollgate_agent_core::config::{
    self, CONFIG_BYTES_MAX, Config, ConfigError, ConfigErrors, Endpoint,
};

/// What the command line and the environment put in place of the file's values.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// In place of `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// In place of `admin_socket`.
    pub admin_socket: Option<PathBuf>,
    /// In place of `collector.endpoints`, unless empty.
    pub endpoints: Vec<Endpoint>,
    /// In place of `stop_deadline`.
    pub stop_deadline: Option<Duration>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has mistakes.
    #[error("configuration {} has mistakes:\n{errors}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// The mistakes.
        errors: ConfigErrors,
    },
}

/// Reads and checks the file at `path`, then applies `overrides`.
///
/// Relative paths in the file are relative to its folder, those in `overrides` to the
/// working directory.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, LoadError> {
    let text = read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut config = match config::parse(&text) {
        Ok(config) => config.resolved(path.parent().unwrap_or(Path::new(""))),
        Err(errors) => {
            return Err(LoadError::Invalid {
                path: path.to_owned(),
                text,
                errors,
            });
        }
    };
    if let Some(state_dir) = &overrides.state_dir {
        config.state_dir.clone_from(state_dir);
    }
    if let Some(admin_socket) = &overrides.admin_socket {
        config.admin_socket = Some(admin_socket.clone());
    }
    if !overrides.endpoints.is_empty() {
        config.collector.endpoints.clone_from(&overrides.endpoints);
    }
    if let Some(deadline) = overrides.stop_deadline {
        config.stop_deadline = deadline;
    }
    Ok(config)
}

/// Reads no more than a configuration may have, whatever the path leads to.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = CONFIG_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)?
        .take(limit)
        .read_to_string(&mut text)?;
    Ok(text)
}

impl LoadError {
    /// The error for a terminal: every mistake with the place in the text that it is about.
    pub fn report(&self) -> String {
        let Self::Invalid { path, text, errors } = self else {
            return format!("Error: {self}");
        };
        let name = path.display().to_string();
        let reports = errors.iter().map(|error| {
            let mistake = Mistake {
                error: error.clone(),
                source: NamedSource::new(&name, text.clone()),
            };
            format!("{:?}", miette::Report::new(mistake))
        });
        reports.collect::<Vec<_>>().join("\n")
    }

    /// The error for scripts.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Read { path, source } => {
                json!({ "file": path, "ok": false, "errors": [{ "message": source.to_string() }] })
            }
            Self::Invalid { path, errors, .. } => {
                let errors: Vec<_> = errors
                    .iter()
                    .map(|e| {
                        json!({
                            "line": e.line, "column": e.column, "key": e.key,
                            "message": e.message, "expected": e.expected,
                        })
                    })
                    .collect();
                json!({ "file": path, "ok": false, "errors": errors })
            }
        }
    }
}

#[derive(Debug)]
struct Mistake {
    error: ConfigError,
    source: NamedSource<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            line,
            column,
            key,
            message,
            ..
        } = &self.error;
        write!(f, "{}:{line}:{column}: ", self.source.name())?;
        if !key.is_empty() {
            write!(f, "key `{key}`: ")?;
        }
        f.write_str(message)
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let expected = self.error.expected.as_ref()?;
        Some(Box::new(format!("expected {expected}")))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.error.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}
