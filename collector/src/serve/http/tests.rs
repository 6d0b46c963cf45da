//! Tests of the HTTP server over a real loopback listener.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tollgate_collector_core::effect::{Effect, UsageChange};
use tollgate_collector_core::fold::tenant::{Accrual, AccrualLine};
use tollgate_collector_core::journal::{Epoch, PartitionId};
use tollgate_collector_core::ledger::EntryKind;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, Transaction};
use tollgate_common::{
    Aggregation, Dimensions, MeterName, Quantity, Scale, SeriesKey, Window, WindowWidth,
};

use super::*;
use crate::accruals::{Accruals, Asked, Message, Rated};
use crate::fold::handle::{self, Question};
use crate::sqlite::SqliteProjection;

struct Server {
    address: std::net::SocketAddr,
    ready: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(with_projection: bool) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(crate::sqlite::FILE_NAME);
        if with_projection {
            fill(&path);
        }
        let (fold, questions) = handle::channel();
        let accruals = dir.path().join(crate::accruals::FILE_NAME);
        let known = [rated("acme", 3), rated("other", 1), rated("gone", 0)];
        let sink = Accruals::spawn(&accruals, Arc::new(Metrics::new())).expect("starts");
        sink.tell(Message::Rated(known.into()));
        std::thread::spawn(move || {
            for question in questions {
                if let Question::Accrue { answer, .. } = question {
                    sink.tell(Message::Written(Asked {
                        answer,
                        waiting: 2,
                        since: Timestamp::from_millis(600_000),
                        now: Timestamp::from_millis(600_007),
                    }));
                }
            }
        });
        let ready = Arc::new(AtomicBool::new(false));
        let state = HttpState {
            readers: ReaderPool::new(path),
            accruals: ReaderPool::new(accruals),
            fold,
            metrics: Arc::new(Metrics::new()),
            ready: Arc::clone(&ready),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, state, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            ready,
            stop,
            task,
            _dir: dir,
        }
    }

    async fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answers");
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status");
        let body = text
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default();
        (status, body)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

/// Open periods of a tenant, each with a line that is rated and one that is not.
fn rated(tenant: &str, periods: i64) -> Rated {
    let tenant = TenantId::new(tenant).expect("valid");
    let line = |kind, name: &str, amount: Option<&str>| AccrualLine {
        tax: None,
        booked: None,
        kind,
        role: None,
        line: name.to_owned(),
        meter: Some(MeterName::new("bytes").expect("valid")),
        unit: Some("By".to_owned()),
        quantity: Quantity::new(500),
        scale: Scale::new(3).expect("in range"),
        amount: amount.map(|text| text.parse().expect("a decimal")),
        currency: amount.map(|_| "EUR".to_owned()),
        arithmetic: String::new(),
    };
    let accruals = (0..periods).map(|number| Accrual {
        tenant: tenant.clone(),
        payer: None,
        start: Timestamp::from_secs(number * 60),
        end: Timestamp::from_secs(number * 60 + 60),
        label: number.to_string(),
        catalog: None,
        lines: vec![
            line(EntryKind::Charge, "traffic", Some("0.25")),
            line(EntryKind::Unrated, "no_price", None),
        ],
    });
    Rated {
        as_of: Timestamp::from_secs(600),
        accruals: accruals.collect(),
        payer: tenant,
    }
}

fn fill(path: &std::path::Path) {
    let mut projection = SqliteProjection::open(path).expect("opens");
    let usage = |tenant: &str, window: i64, units: i128| {
        let series = SeriesKey::new(
            TenantId::new(tenant).expect("valid"),
            MeterName::new("bytes").expect("valid"),
            Dimensions::new([("region", "eu")]).expect("valid"),
        );
        Effect::Usage(UsageChange {
            detail: tollgate_common::Detail::None,
            series: Arc::new(series.expect("short")),
            aggregation: Aggregation::Sum,
            scale: Scale::new(3).expect("in range"),
            window: Window::containing(
                Timestamp::from_secs(window),
                WindowWidth::from_secs(60).expect("divides"),
            ),
            refused: None,
            quantity: Quantity::new(units),
            events: 1,
            order: None,
        })
    };
    let transaction = Transaction {
        partition: PartitionId(0),
        epoch: Epoch(1),
        after: None,
        upto: Position::from_bytes([1; 16]),
        effects: vec![
            usage("acme", 0, 1_500),
            usage("acme", 60, 2_000),
            usage("other", 0, 1),
        ],
    };
    projection.commit(&transaction).expect("commits");
}

#[tokio::test]
async fn answers_what_is_asked() {
    let server = Server::start(true).await;
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 503);
    server.ready.store(true, Ordering::Release);
    assert_eq!(server.get("/readyz").await.0, 200);

    let usage = server.json("/v1/usage?tenant=acme&limit=1").await;
    assert_eq!(usage["items"][0]["quantity"], "1.5");
    assert_eq!(usage["items"][0]["units"], "1500");
    assert_eq!(usage["items"][0]["dimensions"]["region"], "eu");
    let cursor = usage["next_cursor"].as_str().expect("more follows");
    let usage = server
        .json(&format!("/v1/usage?tenant=acme&limit=1&cursor={cursor}"))
        .await;
    assert_eq!(usage["items"][0]["quantity"], "2");
    assert!(usage["next_cursor"].is_null());
    let usage = server.json("/v1/usage?from=1970-01-01T00:01:00Z").await;
    assert_eq!(usage["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        server.json("/v1/usage?group=meter&tenant=acme").await["items"][0]["quantity"],
        "3.5"
    );

    for path in [
        "/v1/ledger",
        "/v1/agents",
        "/v1/periods",
        "/v1/conservation",
    ] {
        assert_eq!(server.json(path).await["items"], json!([]), "{path}");
    }
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("tollgate_collector_http_requests_total"),
        "{metrics}"
    );

    server.stop.send(()).expect("running");
    server.task.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn accruals_come_in_pages_and_say_how_old_they_are() {
    let server = Server::start(true).await;
    let first = server.json("/v1/accruals?limit=2").await;
    let cursor = first["next_cursor"].as_str().expect("more follows");
    let second = server.json(&format!("/v1/accruals?cursor={cursor}")).await;
    let items = |page: &serde_json::Value| page["items"].as_array().cloned().unwrap_or_default();
    let all: Vec<_> = items(&first)
        .into_iter()
        .chain(items(&second))
        .map(|item| format!("{} {}", item["tenant"], item["period"]))
        .collect();
    let expected = [
        "\"acme\" \"0\"",
        "\"acme\" \"1\"",
        "\"acme\" \"2\"",
        "\"other\" \"0\"",
    ];
    assert_eq!(all, expected);
    assert!(second["next_cursor"].is_null());
    let other = server.json("/v1/accruals?tenant=other").await;
    assert_eq!(items(&other).len(), 1);
    assert_eq!(
        (&other["age_millis"], &other["waiting"]),
        (&json!(7), &json!(2))
    );
    let item = &other["items"][0];
    assert_eq!(item["as_of"], "1970-01-01T00:10:00.000Z");
    assert_eq!(item["usage"][0]["parts"][1]["reason"], "no_price");

    let total = server.json("/v1/accruals/total").await;
    assert_eq!(
        (&total["tenants"], &total["periods"]),
        (&json!(2), &json!(4))
    );
    assert_eq!(total["amounts"][0]["total"], "1.00");
    let parts = &total["usage"][0]["parts"];
    assert_eq!(
        (&parts[0]["quantity"], &parts[0]["share"]),
        (&json!("2"), &json!("0.500000"))
    );
    assert_eq!(server.get("/v1/accruals/total?tenant=acme").await.0, 400);
}

#[tokio::test]
async fn refuses_what_it_does_not_understand() {
    let server = Server::start(true).await;
    for path in [
        "/v1/usage?tenat=acme",
        "/v1/usage?kind=charge",
        "/v1/ledger?kind=gift",
        "/v1/usage?limit=0",
        "/v1/usage?limit=99999999",
        "/v1/usage?from=yesterday",
        "/v1/usage?cursor=zz",
        "/v1/usage?group=day",
        "/v1/accruals?tenant=a%20b",
        "/v1/accruals?cursor=zz",
    ] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 400, "{path}: {body}");
        assert!(body.contains("\"error\""), "{path}: {body}");
    }
    assert_eq!(server.get("/v2").await.0, 404);
    assert_eq!(
        server
            .send("POST /v1/usage HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .0,
        405
    );
    assert_eq!(server.send("nonsense\r\n\r\n").await.0, 400);
}

#[tokio::test]
async fn says_so_when_there_is_no_projection_yet() {
    let server = Server::start(false).await;
    let (status, body) = server.get("/v1/ledger").await;
    assert_eq!(status, 503, "{body}");
}

/// The rows of the first table of `docs/http.md`: path with query, and the parameters named.
fn documented() -> Vec<(String, Vec<String>)> {
    let page = include_str!("../../../../docs/http.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `/"));
    rows.map(|line| {
        let mut cells = line.split('|').map(str::trim);
        let path = cells.next().expect("a path").trim_matches('`');
        let names = cells.next().expect("parameters").split(", ");
        let names = names.map(|name| name.trim_matches('`').to_owned());
        (
            format!("/{path}"),
            names.filter(|name| !name.is_empty()).collect(),
        )
    })
    .collect()
}

#[tokio::test]
async fn paths_and_parameters_are_as_documented() {
    let documented = documented();
    let paths: std::collections::BTreeSet<&str> = documented
        .iter()
        .map(|(path, _)| path.split('?').next().unwrap_or(path))
        .collect();
    let served = routes().map(|(path, _)| path);
    assert_eq!(paths, served.into_iter().collect());

    let server = Server::start(true).await;
    let all = [
        "tenant=acme",
        "meter=bytes",
        "kind=charge",
        "from=2026-01-01",
        "to=2026-02-01",
        "limit=10",
        "cursor=x",
    ];
    for (path, allowed) in &documented {
        if !path.starts_with("/v1/") {
            assert!(allowed.is_empty(), "{path}");
            continue;
        }
        for parameter in all {
            let name = parameter.split('=').next().expect("a name").to_owned();
            let separator = if path.contains('?') { '&' } else { '?' };
            let (_, body) = server.get(&format!("{path}{separator}{parameter}")).await;
            let refused = body.contains("has no meaning here");
            assert_eq!(refused, !allowed.contains(&name), "{path} {name}: {body}");
        }
    }
}
