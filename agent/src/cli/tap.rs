//! `tap`: events as they are attributed, line by line.

use super::ask::connect;
use super::{EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE, TapArgs};
use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::{Answer, Request};
use crate::admin::watch::{TapProgress, TapQuery, Tapped};
use crate::output::{complain, json, line};

pub(super) fn tap(args: TapArgs) -> u8 {
    let mut client = match connect(&args.config) {
        Ok(client) => client,
        Err(code) => return code,
    };
    let query = TapQuery {
        input: args.input,
        tenant: args.tenant,
        meter: args.meter,
        metric: args.metric,
        rejected: args.rejected,
        rate: Some(args.rate),
    };
    let limit = args.limit.unwrap_or(u64::MAX);
    let result = client.send(&Request::Tap(query)).map_err(ClientError::from);
    let result = result.and_then(|()| show(&mut client, limit, args.json));
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => {
            complain(format_args!("Error: {error}"));
            match error {
                ClientError::Io(_) => EXIT_UNAVAILABLE,
                ClientError::Protocol(_) | ClientError::Refused(_) => EXIT_FAILURE,
            }
        }
    }
}

/// Writes events until there are `limit`, or nobody reads them any more.
fn show(client: &mut Client, limit: u64, as_json: bool) -> Result<(), ClientError> {
    let mut left = limit;
    let mut told = TapProgress::default();
    while left > 0 {
        match client.receive()? {
            Answer::Tapped(event) => {
                left -= 1;
                let read = if as_json {
                    json(&event)
                } else {
                    line(text(&event))
                };
                if !read {
                    return Ok(());
                }
            }
            Answer::Tap(progress) => tell(&progress, &mut told),
            Answer::Error(failure) => return Err(ClientError::Refused(failure)),
            other => return Err(ClientError::Protocol(format!("{other:?}"))),
        }
    }
    Ok(())
}

fn text(event: &Tapped) -> String {
    let outcome = match (&event.rejected, &event.tenant, &event.meter) {
        (Some(reason), Some(tenant), Some(meter)) => {
            format!("REJECTED {reason} ({tenant}/{meter})")
        }
        (Some(reason), ..) => format!("REJECTED {reason}"),
        (None, Some(tenant), Some(meter)) => {
            let dimensions = event.dimensions.as_deref().unwrap_or("");
            let value = event.value.as_deref().unwrap_or("");
            format!("{tenant}/{meter}{dimensions} {value}")
        }
        (None, ..) => "?".to_owned(),
    };
    format!("{}  {}  ->  {outcome}", event.input, event.raw)
}

/// Says on standard error what is not shown, when there is more of it.
fn tell(progress: &TapProgress, told: &mut TapProgress) {
    if progress.skipped > told.skipped || progress.dropped > told.dropped {
        complain(format_args!(
            "({} events fit so far; not shown: {} above --rate, {} because this side is slow)",
            progress.matched, progress.skipped, progress.dropped
        ));
        *told = *progress;
    }
}
