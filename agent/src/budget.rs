//! The memory budget: the worst case of a configuration, part by part.
//!
//! What the engine needs is computed by the engine; here is what the process adds around it:
//! sockets, stacks, connections. `check` prints the table, and an agent whose sum is above
//! `memory_max` does not start.

use serde::Serialize;
use tollgate_agent_core::config::Config;
use tollgate_agent_core::engine::MemoryPart;
use tollgate_agent_core::input::page;

use crate::admin::server;
use crate::engine::{self, ROWS_QUEUED_MAX};
use crate::input::{self, dogstatsd};
use crate::run::{BLOCKING_STACK_BYTES, BLOCKING_THREADS, engine_config};
use crate::ship;

/// Program, libraries, runtime, TLS and configuration of an idle agent with headroom; an idle
/// agent is measured below 12 MiB.
const BASE_BYTES: u64 = 14 << 20;

/// The worst case of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// The sum.
    pub bytes: u64,
    /// What is allowed, if something is said about it.
    pub bytes_max: Option<u64>,
    /// Where it goes, the largest first.
    pub parts: Vec<Part>,
}

/// A part of the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What needs it.
    pub name: &'static str,
    /// Most bytes.
    pub bytes: u64,
}

impl Budget {
    /// Computes the worst case of `config`; `Err` says why no cells can be laid out for it.
    pub fn of(config: &Config) -> Result<Self, String> {
        let engine_config = engine_config(config);
        let engine = engine_config
            .memory_max(ROWS_QUEUED_MAX as u64)
            .map_err(|error| error.to_string())?;
        let mut parts: Vec<Part> = engine
            .into_iter()
            .map(|MemoryPart { name, bytes }| Part { name, bytes })
            .collect();
        let threads = engine_config.writers.len() as u64;
        let stacks = (threads + server::CONNECTIONS_MAX as u64) * input::STACK_BYTES as u64
            + engine::STACK_BYTES as u64
            + (BLOCKING_THREADS * BLOCKING_STACK_BYTES) as u64;
        let slots: u64 = u64::from(config.limits.series_max) * 17 / 16 + 16;
        let mut add = |name, bytes| parts.push(Part { name, bytes });
        add("program and runtime", BASE_BYTES);
        add("stacks of threads", stacks);
        add("connection to the collector", ship::MEMORY_MAX);
        add("admin connections", server::memory_max(slots * threads));
        if let Some(dogstatsd) = &config.inputs.dogstatsd {
            let sockets = dogstatsd::writer_names(dogstatsd).count() as u64;
            // The kernel takes twice what is asked for, and charges it to the service.
            let kernel = 2 * u64::from(dogstatsd.receive_buffer) * sockets;
            add("receive buffers of the kernel", kernel);
            let cache = dogstatsd.cache_bytes as u64 * sockets;
            add("lines remembered", cache);
            let streams = dogstatsd.unix_stream.is_some();
            add(
                "datagrams being read",
                dogstatsd::buffers_max(sockets, streams),
            );
        }
        if let Some(sdk) = &config.inputs.sdk {
            // What an application has not written itself is charged to who reads it first.
            let all = u64::from(sdk.pages_max).saturating_mul(sdk.page_bytes_max);
            add("pages of applications", all.min(sdk.pages_bytes_max));
            let known = page::memory_max(u64::from(sdk.pages_max), sdk.page_bytes_max);
            add("what is known of pages", known);
        }
        parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(b.name)));
        Ok(Self {
            bytes: parts
                .iter()
                .fold(0, |sum, part| sum.saturating_add(part.bytes)),
            bytes_max: config.memory_max,
            parts,
        })
    }

    /// The sentence that refuses a configuration, if it needs too much.
    pub fn excess(&self) -> Option<String> {
        let bytes_max = self.bytes_max.filter(|bytes_max| self.bytes > *bytes_max)?;
        let largest = self.parts.first().map_or("", |part| part.name);
        Some(format!(
            "the worst case needs {}, more than memory_max = {}; the largest part is: {largest} \
             (lower limits.series_max, input.dogstatsd.receive_buffer or .cache, \
             input.sdk.pages_bytes_max, or raise memory_max)",
            mib(self.bytes),
            mib(bytes_max)
        ))
    }

    /// The table, a line per part.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let total = std::iter::once(("worst case", self.bytes));
        let limit = self.bytes_max.map(|bytes| ("memory_max", bytes));
        let parts = self.parts.iter().map(|part| (part.name, part.bytes));
        parts
            .chain(total)
            .chain(limit)
            .map(|(name, bytes)| format!("  {name:<32}{:>12}", mib(bytes)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal place")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
