//! The metrics by name. docs/metrics.md explains each of them, and a test compares the two.

use prometheus_client::registry::Unit;
use tollgate_agent_core::engine::{InputStatus, Status};
use tollgate_agent_core::ship::Connection;
use tollgate_common::Timestamp;

use super::process::Process;
use super::{Family, Kind, Label, Sample, Value};
use crate::desk::Report;
use crate::input::sdk::board::PagesStatus;

/// All metrics of an agent.
pub(super) fn all(report: &Report, process: Process) -> Vec<Family> {
    let mut families = inputs(&report.status.inputs);
    families.extend(report.pages.iter().flat_map(pages));
    families.extend(engine(report));
    families.extend(spool(&report.status));
    families.extend(connection(report));
    families.extend(configuration(report));
    families.extend(self::process(process));
    families
}

fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family {
        name,
        help,
        unit: None,
        kind: Kind::Counter,
        samples,
    }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family {
        kind: Kind::Gauge,
        ..counter(name, help, samples)
    }
}

fn with_unit(family: Family, unit: Unit) -> Family {
    Family {
        unit: Some(unit),
        ..family
    }
}

fn one(value: Value) -> Vec<Sample> {
    labelled([(Vec::new(), value)])
}

fn whole(value: u64) -> Vec<Sample> {
    one(Value::Whole(value))
}

fn truth(value: bool) -> Vec<Sample> {
    whole(u64::from(value))
}

fn labelled(samples: impl IntoIterator<Item = (Vec<Label>, Value)>) -> Vec<Sample> {
    let samples = samples.into_iter();
    samples
        .map(|(labels, value)| Sample { labels, value })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn seconds(millis: i64) -> Value {
    Value::Real(millis as f64 / 1000.0)
}

fn instant(at: Timestamp) -> Vec<Sample> {
    one(seconds(at.millis()))
}

fn inputs(inputs: &[InputStatus]) -> Vec<Family> {
    let name = |input: &InputStatus| vec![("input", input.name.clone())];
    let each = |value: &dyn Fn(&InputStatus) -> u64| {
        let samples = inputs.iter().map(|i| (name(i), Value::Whole(value(i))));
        labelled(samples)
    };
    let by = |label: &'static str, map: &dyn Fn(&InputStatus) -> Vec<(&'static str, u64)>| {
        labelled(inputs.iter().flat_map(|input| {
            let entries = map(input).into_iter();
            entries.map(move |(key, n)| {
                let mut labels = name(input);
                labels.push((label, key.to_owned()));
                (labels, Value::Whole(n))
            })
        }))
    };
    let pairs = |map: &std::collections::BTreeMap<&'static str, u64>| {
        map.iter().map(|(key, n)| (*key, *n)).collect()
    };
    vec![
        counter(
            "tollgate_agent_input_received_events",
            "Events that reached an input",
            each(&|input| input.account.received),
        ),
        counter(
            "tollgate_agent_input_accepted_events",
            "Events counted into a cell",
            each(&|input| input.account.accepted),
        ),
        counter(
            "tollgate_agent_input_rejected_events",
            "Events not counted, by reason",
            by("reason", &|input| pairs(&input.account.rejected)),
        ),
        counter(
            "tollgate_agent_input_lost_events",
            "Events known to be lost before an input received them, by cause",
            by("cause", &|input| pairs(&input.account.lost)),
        ),
        counter(
            "tollgate_agent_input_rounded_events",
            "Accepted events whose value was rounded as the meter declares",
            each(&|input| input.account.rounded),
        ),
        counter(
            "tollgate_agent_input_sealed_events",
            "Accepted events that are in a durable batch",
            each(&|input| input.account.sealed),
        ),
        counter(
            "tollgate_agent_input_discarded_events",
            "Accepted events in cells that were discarded after an unclean end, declared as losses",
            each(&|input| input.account.discarded),
        ),
        gauge(
            "tollgate_agent_input_open_events",
            "Accepted events that wait in cells for the next seal",
            each(&|input| input.account.open),
        ),
        gauge(
            "tollgate_agent_input_under_way_events",
            "Events received that are neither counted nor rejected yet",
            each(&|input| input.account.under_way),
        ),
        gauge(
            "tollgate_agent_input_unbalanced_events",
            "Events that the account of the input is out of balance by; always 0",
            each(&|input| input.account.missing.saturating_add(input.account.surplus)),
        ),
        gauge(
            "tollgate_agent_input_series",
            "Series in use",
            each(&|input| input.cardinality.series.into()),
        ),
        gauge(
            "tollgate_agent_input_series_limit",
            "Series that there is room for",
            each(&|input| input.series_max.into()),
        ),
        counter(
            "tollgate_agent_input_overflow_lookups",
            "Lookups of series that lost their dimensions to a limit, since the start",
            each(&|input| input.cardinality.overflow_lookups),
        ),
        counter(
            "tollgate_agent_input_retired_series",
            "Idle series that made room for others, since the start",
            each(&|input| input.cardinality.retired_series),
        ),
        counter(
            "tollgate_agent_input_reused_slots",
            "Times that a new series took the room of a retired one, since the start",
            each(&|input| input.cardinality.reused_slots),
        ),
    ]
}

fn pages(pages: &PagesStatus) -> Vec<Family> {
    let by = |label: &'static str, samples: &[(&'static str, u64)]| {
        let samples = samples.iter();
        labelled(samples.map(|(key, n)| (vec![(label, (*key).to_owned())], Value::Whole(*n))))
    };
    let counts = &pages.counts;
    let refused: Vec<_> = pages.refused.iter().map(|(key, n)| (*key, *n)).collect();
    vec![
        gauge(
            "tollgate_agent_pages",
            "Pages of applications that are connected, or known and missing",
            by(
                "state",
                &[("connected", counts.connected), ("missing", counts.missing)],
            ),
        ),
        gauge(
            "tollgate_agent_page_cells",
            "Cells of pages by what becomes of them",
            by(
                "state",
                &[
                    ("mirrored", counts.mirrored),
                    ("waiting", counts.waiting),
                    ("rejected", counts.rejected),
                    ("stopped", counts.stopped),
                ],
            ),
        ),
        gauge(
            "tollgate_agent_page_mapped_bytes",
            "Size of the pages of applications",
            whole(pages.bytes),
        ),
        gauge(
            "tollgate_agent_page_mapped_limit_bytes",
            "Size that they may have together",
            whole(pages.bytes_max),
        ),
        counter(
            "tollgate_agent_page_refusals",
            "Pages that were not taken, by reason, since the start",
            by("reason", &refused),
        ),
        counter(
            "tollgate_agent_quarantined_pages",
            "Pages that may have been billed by another agent, since the start",
            whole(counts.quarantined),
        ),
    ]
}

fn engine(report: &Report) -> Vec<Family> {
    let status = &report.status;
    vec![
        gauge(
            "tollgate_agent_build",
            "Always 1; the labels tell the version and the agent's name",
            labelled([(
                vec![
                    ("version", report.version.to_owned()),
                    ("agent", status.agent.to_string()),
                ],
                Value::Whole(1),
            )]),
        ),
        gauge(
            "tollgate_agent_series",
            "Series in use, of all inputs",
            whole(status.series.into()),
        ),
        counter(
            "tollgate_agent_tenant_overflow_lookups",
            "Lookups of series of the tenants that have lost most dimensions to a limit",
            labelled(status.overflowing.iter().map(|of| {
                let tenant = of.tenant.as_ref().map_or("(others)", |of| of.as_str());
                let labels = vec![("tenant", tenant.to_owned())];
                (labels, Value::Whole(of.overflow_lookups))
            })),
        ),
        gauge(
            "tollgate_agent_series_limit",
            "Series that the host may have",
            whole(status.series_limit.into()),
        ),
        counter(
            "tollgate_agent_sealed_batches",
            "Batches sealed in this life of the agent",
            whole(status.sequence),
        ),
        with_unit(
            gauge(
                "tollgate_agent_incarnation_start_timestamp",
                "When this life of the agent began",
                instant(status.opened_at),
            ),
            Unit::Seconds,
        ),
        with_unit(
            gauge(
                "tollgate_agent_last_cut_timestamp",
                "When counts were last sealed",
                instant(status.cut),
            ),
            Unit::Seconds,
        ),
        with_unit(
            gauge(
                "tollgate_agent_watermark_timestamp",
                "Everything before this instant is sealed",
                instant(status.watermark),
            ),
            Unit::Seconds,
        ),
        gauge(
            "tollgate_agent_stuck_threads",
            "Threads that give no sign of life; above 0 the watchdog is not fed",
            whole(report.stuck.len() as u64),
        ),
    ]
}

fn spool(status: &Status) -> Vec<Family> {
    let spool = &status.spool;
    vec![
        with_unit(
            gauge(
                "tollgate_agent_spool_size",
                "Size of the spool on disk",
                whole(spool.bytes),
            ),
            Unit::Bytes,
        ),
        with_unit(
            gauge(
                "tollgate_agent_spool_limit",
                "Size that the spool may have",
                whole(spool.bytes_max),
            ),
            Unit::Bytes,
        ),
        gauge(
            "tollgate_agent_spool_batches",
            "Batches and tombstones that no collector has let go",
            whole(spool.batches),
        ),
        with_unit(
            gauge(
                "tollgate_agent_spool_oldest_timestamp",
                "About when the oldest batch was sealed that no collector has let go",
                spool.oldest.map(instant).unwrap_or_default(),
            ),
            Unit::Seconds,
        ),
        gauge(
            "tollgate_agent_spool_full",
            "1 while a seal finds no room; counts stay in the cells meanwhile",
            truth(spool.full_since.is_some()),
        ),
        gauge(
            "tollgate_agent_spool_damaged_places",
            "Damaged places found when the spool was opened",
            whole(spool.damaged),
        ),
    ]
}

fn connection(report: &Report) -> Vec<Family> {
    let ship = &report.status.ship;
    #[expect(clippy::cast_precision_loss, reason = "round trips are far below 2^53")]
    let rtt = |micros: u64| Value::Real(micros as f64 / 1e6);
    let link = report.link.as_ref();
    let known = |value: Option<Value>| value.map(one).unwrap_or_default();
    vec![
        gauge(
            "tollgate_agent_connected",
            "1 while batches may be sent to a collector",
            truth(ship.connection == Connection::Shipping),
        ),
        gauge(
            "tollgate_agent_connection_failures",
            "Failed attempts to connect since the last welcome",
            whole(ship.failures.into()),
        ),
        with_unit(
            gauge(
                "tollgate_agent_round_trip",
                "Estimate of the round trip to the collector",
                known(link.map(|link| rtt(link.rtt_micros))),
            ),
            Unit::Seconds,
        ),
        with_unit(
            gauge(
                "tollgate_agent_clock_offset",
                "The collector's clock minus this host's, at the last welcome",
                known(ship.clock.map(|clock| seconds(clock.offset_millis))),
            ),
            Unit::Seconds,
        ),
        gauge(
            "tollgate_agent_in_flight_batches",
            "Batches on their way",
            whole(ship.in_flight),
        ),
        counter(
            "tollgate_agent_sent_batches",
            "Batches and tombstones sent since the start, repetitions included",
            whole(ship.sent),
        ),
        counter(
            "tollgate_agent_acknowledgements",
            "Acknowledgements received since the start",
            whole(ship.acks),
        ),
    ]
}

fn configuration(report: &Report) -> Vec<Family> {
    let config = &report.config;
    let result = |result: &str| vec![("result", result.to_owned())];
    vec![
        counter(
            "tollgate_agent_config_reloads",
            "Reloads of the configuration, by result",
            labelled([
                (result("applied"), Value::Whole(config.reloads)),
                (result("refused"), Value::Whole(config.refused)),
            ]),
        ),
        gauge(
            "tollgate_agent_config_reload_failed",
            "1 if the last reload was refused; the configuration before it is in force",
            truth(config.last_refusal.is_some()),
        ),
        gauge(
            "tollgate_agent_config_restart_keys",
            "Keys of the configuration whose new value waits for a restart",
            whole(config.restart.len() as u64),
        ),
        with_unit(
            gauge(
                "tollgate_agent_config_loaded_timestamp",
                "When the configuration in force was read",
                instant(config.loaded_at),
            ),
            Unit::Seconds,
        ),
    ]
}

fn process(process: Process) -> Vec<Family> {
    let known = |value: Option<u64>| value.map(whole).unwrap_or_default();
    vec![
        with_unit(
            counter(
                "process_cpu",
                "Processor time used",
                process
                    .cpu_seconds
                    .map(Value::Real)
                    .map(one)
                    .unwrap_or_default(),
            ),
            Unit::Seconds,
        ),
        with_unit(
            gauge(
                "process_resident_memory",
                "Resident memory",
                known(process.resident_bytes),
            ),
            Unit::Bytes,
        ),
        gauge("process_threads", "Threads", known(process.threads)),
        gauge("process_open_fds", "Open files", known(process.open_files)),
    ]
}
