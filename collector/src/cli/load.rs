//! Loading the configuration, with errors that show the place.

use std::io::Read;
use std::path::Path;

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use tollgate_collector_core::config::{Config, check_http};
use tollgate_common::limits::CONFIG_BYTES_MAX;

use super::args::ConfigArgs;
use super::{Exit, Failure};
use crate::run::{InputError, Inputs};
use crate::sqlite::query::Filter;

/// The configuration of the file and of what stands above it.
pub(super) fn config(args: &ConfigArgs) -> Result<Config, Failure> {
    let file = &args.config;
    let text = read(file)?;
    let mut config = Config::parse(&text, file).map_err(|errors| {
        let reports = errors.iter().map(|error| {
            let place = Place {
                file: error.file.display().to_string(),
                line: error.line,
                column: error.column,
            };
            let span = error.span.clone();
            shown(&place, &error.key, &error.message, span, &text)
        });
        Failure {
            exit: Exit::Config,
            reports: reports.collect(),
        }
    })?;
    if let Some(data_dir) = &args.data_dir {
        // The default of the admin socket follows the data folder.
        if config.admin_socket.parent() == Some(&config.data_dir) {
            let name = config
                .admin_socket
                .file_name()
                .map(ToOwned::to_owned)
                .unwrap_or_default();
            config.admin_socket = data_dir.join(name);
        }
        config.data_dir.clone_from(data_dir);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(http) = args.http {
        check_http(http, config.http_allow_remote).map_err(|error| {
            Failure::new(
                Exit::Config,
                format!("--http or TOLLGATE_COLLECTOR_HTTP: {error}"),
            )
        })?;
        config.http = http;
    }
    if let Some(catalog) = &args.catalog {
        config.catalog.clone_from(catalog);
    }
    if let Some(socket) = &args.admin_socket {
        config.admin_socket.clone_from(socket);
    }
    Ok(config)
}

/// What the configuration refers to.
pub(super) fn inputs(config: &Config) -> Result<Inputs, Failure> {
    Inputs::read(config).map_err(|error| input_failure(&error))
}

/// A wrong catalog or certificate, shown with its place where it has one.
pub(super) fn input_failure(error: &InputError) -> Failure {
    let InputError::Catalog { dir, errors, files } = error else {
        return Failure::new(Exit::Config, error);
    };
    let mut reports: Vec<Report> = errors
        .errors()
        .iter()
        .map(|error| {
            let file = dir.join(&error.file).display().to_string();
            let place = Place {
                file,
                line: error.line,
                column: error.column,
            };
            let text = files.get(&error.file).map_or("", String::as_str);
            shown(&place, &error.key, &error.message, error.span.clone(), text)
        })
        .collect();
    if reports.is_empty() {
        reports.push(Report::msg(errors.to_string()));
    }
    Failure {
        exit: Exit::Config,
        reports,
    }
}

struct Place {
    file: String,
    line: usize,
    column: usize,
}

/// An error with the line that it is about.
fn shown(
    place: &Place,
    key: &str,
    message: &str,
    span: std::ops::Range<usize>,
    text: &str,
) -> Report {
    let Place { file, line, column } = place;
    let mut title = if *line > 0 {
        format!("{file}:{line}:{column}: ")
    } else {
        format!("{file}: ")
    };
    if !key.is_empty() {
        title = format!("{title}`{key}`: ");
    }
    title.push_str(message);
    let diagnostic = MietteDiagnostic::new(title).with_severity(Severity::Error);
    if *line == 0 || span.end > text.len() {
        return Report::new(diagnostic);
    }
    let label = LabeledSpan::at(span, "here");
    Report::new(diagnostic.with_label(label))
        .with_source_code(NamedSource::new(file, text.to_owned()))
}

fn read(file: &Path) -> Result<String, Failure> {
    bounded(file, CONFIG_BYTES_MAX as u64).map_err(|error| {
        let message = format!(
            "{}: {error} (name the configuration with --config FILE or TOLLGATE_COLLECTOR_CONFIG)",
            file.display()
        );
        Failure::new(Exit::Config, message)
    })
}

/// The text of a file that is not longer than `max` bytes. No more is read, whatever the path leads
/// to and however the file grows meanwhile.
pub(super) fn bounded(file: &Path, max: u64) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(file)?
            .take(max + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: std::io::Error| error.to_string())?;
    if text.len() as u64 > max {
        return Err(format!("the file has more than the {max} bytes allowed"));
    }
    Ok(text)
}

/// A filter between two instants of the command line.
pub(super) fn filter(from: Option<&str>, to: Option<&str>) -> Result<Filter, Failure> {
    let instant = |text: Option<&str>| {
        text.map(crate::time::parse_instant)
            .transpose()
            .map_err(|error| Failure::new(Exit::Usage, error))
    };
    Ok(Filter {
        from: instant(from)?,
        to: instant(to)?,
        ..Filter::default()
    })
}
