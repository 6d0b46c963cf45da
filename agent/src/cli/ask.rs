//! `count`, `status` and `reload`: questions to a running agent.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tollgate_common::Timestamp;

use super::{
    ConfigArgs, CountArgs, EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE, StatusArgs,
};
use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::Count;
use crate::load;
use crate::output::{complain, json, line};

/// How long the agent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the agent listens: told directly, or by the configuration.
fn socket(args: &ConfigArgs) -> Result<PathBuf, u8> {
    if let Some(path) = &args.admin_socket {
        return Ok(path.clone());
    }
    match load::load(&args.config, &args.overrides()) {
        Ok(config) => Ok(config.admin_socket_path()),
        Err(error) => {
            complain(error.report());
            Err(EXIT_CONFIG)
        }
    }
}

pub(super) fn connect(args: &ConfigArgs) -> Result<Client, u8> {
    let path = socket(args)?;
    Client::connect(&path, TIMEOUT).map_err(|error| {
        complain(format_args!(
            "Error: no agent answers at {}: {error}\n\
             Is `tollgate-agent run` running with the same configuration, and may you use its socket?",
            path.display()
        ));
        EXIT_UNAVAILABLE
    })
}

pub(super) fn count(args: CountArgs) -> u8 {
    let mut client = match connect(&args.config) {
        Ok(client) => client,
        Err(code) => return code,
    };
    let count = Count {
        metric: args.metric,
        value: args.value,
        tags: args.tags.into_iter().collect(),
    };
    match client.count(count) {
        Ok(counted) => {
            if args.json {
                json(&counted);
            } else {
                let rounded = if counted.rounded { ", rounded" } else { "" };
                line(format_args!(
                    "counted {} (scale {}{rounded}) for {} on {}",
                    counted.units, counted.scale, counted.tenant, counted.meter
                ));
            }
            EXIT_OK
        }
        Err(error) => {
            if args.json {
                json(&failure(&error));
            }
            complain(format_args!("Error: {error}"));
            match error {
                ClientError::Io(_) => {
                    complain("It is unknown whether the value was counted.");
                    EXIT_UNAVAILABLE
                }
                ClientError::Protocol(_) | ClientError::Refused(_) => EXIT_FAILURE,
            }
        }
    }
}

fn failure(error: &ClientError) -> Value {
    match error {
        ClientError::Refused(failure) => json!({ "error": failure }),
        other => json!({ "error": { "code": "no_answer", "message": other.to_string() } }),
    }
}

pub(super) fn status(args: &StatusArgs) -> u8 {
    let status = connect(&args.config).map(|mut client| client.status());
    match status {
        Ok(Ok(status)) => {
            if args.json {
                json(&status);
            } else {
                print(&status, 0);
            }
            EXIT_OK
        }
        Ok(Err(error)) => {
            complain(format_args!("Error: {error}"));
            match error {
                ClientError::Io(_) => EXIT_UNAVAILABLE,
                ClientError::Protocol(_) | ClientError::Refused(_) => EXIT_FAILURE,
            }
        }
        Err(code) => code,
    }
}

pub(super) fn reload(args: &StatusArgs) -> u8 {
    let mut client = match connect(&args.config) {
        Ok(client) => client,
        Err(code) => return code,
    };
    match client.reload() {
        Ok(done) => {
            if args.json {
                json(&done);
            } else {
                let list = |keys: &[String]| match keys {
                    [] => "nothing".to_owned(),
                    keys => keys.join(", "),
                };
                line(format_args!("changed: {}", list(&done.changed)));
                if !done.restart.is_empty() {
                    line(format_args!("needs a restart: {}", list(&done.restart)));
                }
            }
            EXIT_OK
        }
        Err(error) => {
            if args.json {
                json(&failure(&error));
            }
            complain(format_args!("Error: {error}"));
            match &error {
                ClientError::Io(_) => EXIT_UNAVAILABLE,
                ClientError::Refused(failure) if failure.code == "refused" => EXIT_CONFIG,
                ClientError::Protocol(_) | ClientError::Refused(_) => EXIT_FAILURE,
            }
        }
    }
}

/// Keys whose numbers are instants, in milliseconds since 1970.
const INSTANTS: [&str; 8] = [
    "cut",
    "full_since",
    "loaded_at",
    "oldest",
    "opened_at",
    "paused_until",
    "retry_at",
    "watermark",
];

/// Writes an object as indented `key: value` lines; false if nobody reads them.
fn print(value: &Value, depth: usize) -> bool {
    let indent = "  ".repeat(depth);
    let Value::Object(map) = value else {
        return line(format_args!("{indent}{value}"));
    };
    if let Some(equation) = equation(map)
        && !line(format_args!("{indent}account: {equation}"))
    {
        return false;
    }
    map.iter().all(|(key, value)| match value {
        Value::Object(map) if map.is_empty() => line(format_args!("{indent}{key}: none")),
        Value::Object(_) => line(format_args!("{indent}{key}:")) && print(value, depth + 1),
        Value::Array(items) => {
            line(format_args!("{indent}{key}:")) && items.iter().all(|item| entry(item, depth + 1))
        }
        Value::String(text) => line(format_args!("{indent}{key}: {text}")),
        Value::Null => line(format_args!("{indent}{key}: none")),
        Value::Number(number) if INSTANTS.contains(&key.as_str()) => {
            let instant = Timestamp::from_millis(number.as_i64().unwrap_or(0));
            line(format_args!("{indent}{key}: {instant}"))
        }
        other => line(format_args!("{indent}{key}: {other}")),
    })
}

/// The account of an input or tenant as the equation that it keeps; `None` for what is no
/// account.
fn equation(map: &Map<String, Value>) -> Option<String> {
    let number = |key: &str| map.get(key)?.as_u64();
    let sum = |key: &str| {
        let parts = map.get(key)?.as_object()?.values();
        Some(parts.filter_map(Value::as_u64).sum::<u64>())
    };
    let (received, accepted) = (number("received")?, number("accepted")?);
    let (rejected, lost) = (sum("rejected")?, sum("lost")?);
    let (sealed, open, discarded) = (number("sealed")?, number("open")?, number("discarded")?);
    // Agents before this one did not tell them.
    let [under_way, missing, surplus] =
        ["under_way", "missing", "surplus"].map(|key| number(key).unwrap_or(0));
    let parts = [accepted, rejected, lost, under_way];
    let holds = received == parts.into_iter().fold(0, u64::saturating_add)
        && accepted == sealed.saturating_add(open).saturating_add(discarded)
        && (missing, surplus) == (0, 0);
    let verdict = if holds {
        String::new()
    } else {
        format!("  DOES NOT BALANCE: {missing} missing, {surplus} too many")
    };
    Some(format!(
        "{received} received = {accepted} accepted + {rejected} rejected + {lost} lost + \
         {under_way} under way; \
         {accepted} accepted = {sealed} sealed + {open} open + {discarded} discarded{verdict}"
    ))
}

/// Writes an element of a list below its name, if it has one.
fn entry(item: &Value, depth: usize) -> bool {
    let mut item = item.clone();
    let name = item.as_object_mut().and_then(|map| {
        ["name", "tenant", "input"]
            .iter()
            .find_map(|key| map.remove(*key))
    });
    match name {
        Some(Value::String(name)) => {
            let indent = "  ".repeat(depth);
            line(format_args!("{indent}{name}:")) && print(&item, depth + 1)
        }
        _ => print(&item, depth),
    }
}
