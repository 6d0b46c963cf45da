//! `check`: says whether a configuration is right, without running it.

use serde_json::json;

use super::{CheckArgs, EXIT_CONFIG, EXIT_OK};
use crate::budget::Budget;
use crate::load;
use crate::output::{chain, complain, json, line};
use crate::ship;

pub(super) fn check(args: &CheckArgs) -> u8 {
    let path = &args.config.config;
    let config = match load::load(path, &args.config.overrides()) {
        Ok(config) => config,
        Err(error) => {
            if args.json {
                json(&error.to_json());
            } else {
                complain(error.report());
            }
            return EXIT_CONFIG;
        }
    };
    if !args.no_files
        && let Err(error) = ship::client_config(&config.agent, &config.collector)
    {
        let message = chain(&error);
        if args.json {
            json(&json!({ "file": path, "ok": false, "errors": [{ "message": message }] }));
        } else {
            complain(format_args!(
                "Error: {message}\n\
                 (--no-files checks the text of {} only)",
                path.display()
            ));
        }
        return EXIT_CONFIG;
    }
    let budget = Budget::of(&config);
    let budget = match budget {
        Ok(budget) => budget,
        Err(error) => return refuse(args, &error),
    };
    if let Some(excess) = budget.excess() {
        if !args.json {
            budget.lines().all(line);
        }
        return refuse(args, &excess);
    }
    if args.json {
        json(&json!({
            "memory": budget,
            "file": path, "ok": true, "agent": config.agent,
            "meters": config.meters.len(), "rules": config.rules.len(),
        }));
    } else {
        line(format_args!(
            "{} is right: agent {}, {} meters, {} rules",
            path.display(),
            config.agent,
            config.meters.len(),
            config.rules.len()
        ));
        line("memory:");
        budget.lines().all(line);
    }
    EXIT_OK
}

fn refuse(args: &CheckArgs, message: &str) -> u8 {
    if args.json {
        let path = &args.config.config;
        json(&json!({ "file": path, "ok": false, "errors": [{ "message": message }] }));
    } else {
        complain(format_args!("Error: {message}"));
    }
    EXIT_CONFIG
}
