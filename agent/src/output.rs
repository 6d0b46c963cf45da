//! Writing to standard output and error without panicking.
//!
//! A reader that went away (`tollgate-agent status | head -1`) is no failure of the command:
//! the rest is not written and the exit code says what the command did.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// Writes a line to standard output; false if nobody reads it any more.
pub(crate) fn line(text: impl fmt::Display) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Writes one JSON value and a newline to standard output.
pub(crate) fn json(value: &impl Serialize) -> bool {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(error) => {
            complain(format_args!("cannot write the result as JSON: {error}"));
            false
        }
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(text: impl fmt::Display) {
    // Nobody is left to be told if this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error and its causes in one line; a cause that the text before ends with is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
