use tollgate_collector_core::fold::tenant::AccrualLine;
use tollgate_collector_core::ledger::EntryKind;
use tollgate_common::{Quantity, Scale};

use super::query::AccrualReader;
use super::*;
use crate::serve::ReaderPool;
use crate::sqlite::query::Filter;

/// An open period of a tenant, rated at this second.
fn rated(tenant: &str, secs: i64) -> Message {
    let tenant = TenantId::new(tenant).expect("valid");
    let line = AccrualLine {
        tax: None,
        kind: EntryKind::Charge,
        role: None,
        line: "fee".to_owned(),
        meter: None,
        unit: None,
        quantity: Quantity::ZERO,
        scale: Scale::ZERO,
        booked: None,
        amount: Some("1.00".parse().expect("a decimal")),
        currency: Some("EUR".to_owned()),
        arithmetic: String::new(),
    };
    Message::Rated(vec![Rated {
        payer: tenant.clone(),
        as_of: Timestamp::from_secs(secs),
        accruals: vec![Accrual {
            tenant,
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(3600),
            label: "x".to_owned(),
            payer: None,
            catalog: None,
            lines: vec![line],
        }],
    }])
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// How old the figures are, asked when nothing waits.
async fn age(sink: &Accruals, now: i64) -> i64 {
    let (answer, answered) = oneshot::channel();
    sink.tell(Message::Written(Asked {
        answer,
        waiting: 0,
        since: at(now),
        now: at(now),
    }));
    answered.await.expect("answers").age_millis / 1000
}

async fn tenants(pool: &ReaderPool<AccrualReader>) -> Vec<String> {
    let filter = Filter::default();
    let page = pool.run(move |reader| reader.accruals(&filter)).await;
    let items = page.expect("reads").items.into_iter();
    items
        .filter_map(|item| item["tenant"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn a_file_that_is_removed_or_damaged_is_made_anew_and_nothing_old_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    let sink = Accruals::spawn(&path, Arc::new(Metrics::new())).expect("starts");
    let pool: ReaderPool<AccrualReader> = ReaderPool::new(path.clone());
    sink.tell(rated("acme", 100));
    assert_eq!((age(&sink, 110).await, sink.take_lost()), (0, None));
    assert_eq!(tenants(&pool).await, ["acme"]);

    std::fs::remove_file(&path).expect("removes");
    sink.tell(rated("globex", 120));
    // What stood in it is missing until the fold has rated everybody again.
    assert_eq!(age(&sink, 150).await, 50);
    assert_eq!(
        tenants(&pool).await,
        ["globex"],
        "no reader of the old file"
    );
    assert_eq!(sink.take_lost(), Some(at(100)));
    assert_eq!(sink.take_lost(), None, "once");
    sink.tell(rated("acme", 160));
    assert_eq!(age(&sink, 170).await, 0);
    assert_eq!(tenants(&pool).await, ["acme", "globex"]);

    // Nobody changes, and somebody asks.
    std::fs::remove_file(&path).expect("removes");
    assert_eq!(age(&sink, 180).await, 20);
    assert_eq!(sink.take_lost(), Some(at(160)));
    assert_eq!(tenants(&pool).await, [] as [&str; 0]);
    sink.finish();
}

#[tokio::test]
async fn what_is_not_written_is_not_told_as_complete() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data").join(FILE_NAME);
    std::fs::create_dir(dir.path().join("data")).expect("makes");
    let metrics = Arc::new(Metrics::new());
    let sink = Accruals::spawn(&path, Arc::clone(&metrics)).expect("starts");
    // No file can be made any more.
    std::fs::remove_dir_all(dir.path().join("data")).expect("removes");
    sink.tell(rated("acme", 100));
    assert_eq!(age(&sink, 110).await, 10);
    assert_eq!(sink.take_lost(), Some(at(100)));
    sink.tell(rated("acme", 130));
    assert_eq!(age(&sink, 140).await, 40, "since the first that failed");
    assert_eq!(sink.unwritten_since(), Some(at(100)));
    assert!(metrics.accrual_failures.get() >= 2);
    // It can again.
    std::fs::create_dir(dir.path().join("data")).expect("makes");
    assert_eq!(sink.take_lost(), Some(at(100)));
    sink.tell(rated("acme", 150));
    sink.tell(rated("acme", 151));
    age(&sink, 160).await;
    assert_eq!(
        sink.take_lost(),
        Some(at(100)),
        "the new file lacks the others"
    );
    sink.tell(rated("acme", 170));
    assert_eq!((age(&sink, 180).await, sink.take_lost()), (0, None));
    sink.finish();
}

/// Who reports invents names of meters: one tenant with a great many must not keep everybody's accruals
/// from being written.
#[tokio::test]
async fn of_a_great_many_lines_the_first_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    let sink = Accruals::spawn(&path, Arc::new(Metrics::new())).expect("starts");
    let Message::Rated(mut many) = rated("acme", 1) else {
        panic!("rated");
    };
    let fee = many[0].accruals[0].lines[0].clone();
    let invented = |number: u32| AccrualLine {
        kind: EntryKind::Unrated,
        line: "undeclared_meter".to_owned(),
        meter: Some(tollgate_common::MeterName::new(&format!("m{number}")).expect("valid")),
        amount: None,
        currency: None,
        ..fee.clone()
    };
    let lines = &mut many[0].accruals[0].lines;
    lines.extend((0..20_000).map(invented));
    sink.tell(Message::Rated(many));
    assert_eq!(age(&sink, 2).await, 0);
    let pool: ReaderPool<AccrualReader> = ReaderPool::new(path);
    let page = pool.run(|reader| reader.accruals(&Filter::default())).await;
    let period = page.expect("reads").items.remove(0);
    let count = |key: &str| period[key].as_array().map(Vec::len);
    assert_eq!((count("lines"), count("usage")), (Some(10_000), Some(1000)));
    assert_eq!(
        (&period["more_lines"], &period["more_meters"]),
        (&10_001.into(), &19_000.into())
    );
    assert_eq!(period["lines"][0]["line"], "fee");
    assert_eq!(period["amounts"][0]["net"], "1.00");
    sink.finish();
}
