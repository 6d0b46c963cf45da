//! What bookkeeping sees of a running collector: accounts and posting dates, legal data, split
//! invoices, corrections explained, the closing pack, reconciliation, and usage from the future.

use crate::support::{Collector, Peer, Site, batch, billed, report, series};
use serde_json::{Value, json};
use tollgate_common::wire::Message;
use tollgate_common::{BatchHash, Incarnation, Timestamp, Window, WindowWidth};

const FOLD: &str = "settlement = \"1h\"\n\n[[issuer]]\nid = \"main\"\nprefix = \"INV-\"";
const WHY: [&str; 4] = ["--reason", "June", "--author", "kim"];

/// Runs a command beside the collector of this process.
fn run(site: &Site, args: &[&str]) -> (i32, String) {
    tokio::task::block_in_place(|| site.cli(args))
}

/// What a command prints as JSON.
fn json_of(site: &Site, args: &[&str]) -> Value {
    let (code, out) = run(site, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

/// Adds lines to a file of the catalog, or makes it.
fn add(site: &Site, name: &str, lines: &str) {
    let path = site.dir().join("catalog").join(name);
    std::fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(&path, text + lines).expect("writes");
}

/// A file of the site, and its path.
fn file(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir().join(name);
    std::fs::write(&path, text).expect("writes");
    path.to_str().expect("UTF-8").to_owned()
}

/// A correction of so many requests of June, booked at once.
fn correct(site: &Site, key: &str, quantity: &str) {
    let what = ["usage", "correct", "--tenant", "acme", "--key", key];
    let of = ["--meter", "http.requests", "--at", "2026-06-20"];
    let how = ["--quantity", quantity, "--apply"];
    let done = json_of(site, &[&what[..], &of, &how, &WHY].concat());
    assert_eq!(done["applied"], true, "{done:#}");
}

/// The ledger entries of a kind, oldest first.
async fn entries(collector: &Collector, kind: &str) -> Vec<String> {
    let path = format!("/v1/ledger?tenant=acme&kind={kind}");
    let answer = collector.get(&path).await;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item["id"].as_str().map(str::to_owned))
        .collect()
}

/// 321 requests for 1.61 and 0.31 tax, on two invoices.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_invoice_has_what_bookkeeping_needs() {
    let site = Site::new(FOLD);
    add(&site, "cards/edge.toml", "gl = \"8400\"\n");
    add(&site, "profiles/acme.toml", "tax = \"de\"\n");
    add(
        &site,
        "tax/de.toml",
        "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\nrates = [{ percent = \"19\" }]\n",
    );
    let collector = Collector::start(&site).await;
    report(&collector, &site, BatchHash::ZERO, 1..=3).await;
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector.until("/v1/ledger?kind=charge", is_booked).await;
    let buyer = "name = \"Acme SARL\"\ncountry = \"FR\"\nvat_id = \"FR1\"\nreverse_charge = true\n";
    let buyer = file(&site, "acme.toml", buyer);
    let set = ["party", "set", "--tenant", "acme", "--file", &buyer];
    assert_eq!(run(&site, &set).0, 0);

    let issue = ["invoice", "issue", "--tenant", "acme", "--split", "1,1"];
    let issued = json_of(&site, &[&issue[..], &WHY].concat());
    let shown = |at: usize| (&issued[at]["number"], &issued[at]["total"]);
    assert_eq!(shown(0), (&json!("INV-000001"), &json!("0.97")));
    assert_eq!(shown(1), (&json!("INV-000002"), &json!("0.95")));
    assert_eq!(issued[1]["part_of"], json!({ "place": 2, "of": 2 }));
    let list = json_of(&site, &["invoice", "list"]);
    assert_eq!(list["waiting"], json!([]), "nothing is left");

    let first = json_of(&site, &["invoice", "show", "INV-000001"]);
    assert_eq!(
        (&first["net"], &first["gross"]),
        (&json!("0.81"), &json!("0.97"))
    );
    assert_eq!(first["tax_point"], "2026-06-30");
    assert!(first["due"].is_string() && first["issued"].is_string());
    let line = &first["lines"][0];
    assert_eq!(
        (&line["gl"], &line["date"]),
        (&json!("8400"), &json!("2026-06-30"))
    );
    assert_eq!(line["quantity"], Value::Null);
    assert!(
        line["arithmetic"]
            .as_str()
            .is_some_and(|text| text.starts_with("a part of 1.61: ")),
        "{line}"
    );
    assert_eq!(
        (&first["buyer"]["vat_id"], &first["buyer"]["reverse_charge"]),
        (&json!("FR1"), &json!(true))
    );
    let html = ["invoice", "show", "INV-000002", "--format", "html"];
    let (_, page) = run(&site, &html);
    assert!(
        page.contains("Reverse charge") && page.contains("2 of 2"),
        "{page}"
    );

    // One of the two is void, and only its parts wait again.
    let void = ["invoice", "void", "INV-000001", "--tenant", "acme"];
    let voided = json_of(&site, &[&void[..], &WHY].concat());
    assert_eq!(voided[0]["total"], "-0.97");
    let draft = ["invoice", "preview", "--tenant", "acme", "--draft"];
    assert_eq!(json_of(&site, &draft)["total"], "0.97");
    let again = ["invoice", "issue", "--tenant", "acme"];
    assert_eq!(
        json_of(&site, &[&again[..], &WHY].concat())[0]["total"],
        "0.97"
    );

    let to = site.dir().join("invoices");
    let to = to.to_str().expect("UTF-8");
    let export = ["invoice", "export", "--format", "csv", "--to", to];
    assert_eq!(run(&site, &export).0, 0);
    let csv = std::fs::read_to_string(format!("{to}/invoices.csv")).expect("written");
    let rows: Vec<Vec<&str>> = csv.lines().map(|row| row.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|cell| *cell == name).expect(name);
    let [gl, posted, frequency] = ["x_GlAccount", "x_PostingDate", "ChargeFrequency"].map(column);
    let usage: Vec<_> = rows.iter().filter(|row| row[gl] == "8400").collect();
    // Two parts, one taken back, one billed again.
    assert_eq!(usage.len(), 4, "{csv}");
    assert!(
        usage
            .iter()
            .all(|row| row[posted] == "2026-06-30" && row[frequency] == "Usage-Based"),
        "{csv}"
    );
    let report = json_of(&site, &["ledger", "verify"]);
    assert_eq!(
        (&report["verified"], &report["books"]["documents"]),
        (&json!(true), &json!(4))
    );
    collector.stop().await;
}

/// The month was billed, and is corrected: what the correction changed, in the pack and against
/// a statement of another system, while the collector runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_explained_packed_and_reconciled() {
    let (site, collector) = billed(FOLD).await;
    let first = entries(&collector, "charge").await;
    correct(&site, "t1", "100");
    let charges = entries(&collector, "charge").await;
    let anew = charges.iter().find(|id| !first.contains(id)).expect("anew");
    let told = json_of(&site, &["invoice", "explain", anew]);
    let before = told["before"].as_array().expect("a list");
    let kinds: Vec<&Value> = before.iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["charge", "reversal"], "{told:#}");
    let since = |what: &str| -> Vec<bool> {
        let parts = told[what].as_array().expect("a list");
        parts
            .iter()
            .filter_map(|part| part["since"].as_bool())
            .collect()
    };
    assert_eq!(
        (since("batches"), since("corrections")),
        (vec![false; 3], vec![true])
    );
    let (_, text) = run(&site, &["invoice", "explain", anew]);
    assert!(text.contains("takes back what"), "{text}");

    let days = ["--from", "2026-06-01", "--to", "2999-01-01"];
    let pack = json_of(&site, &[&["ledger", "pack"][..], &days].concat());
    let roll = &pack["roll_forward"][0];
    assert_eq!(
        (&roll["accrued"], &roll["corrected"], &roll["closing"]),
        (&json!("1.61"), &json!("0.50"), &json!("2.11"))
    );
    assert_eq!(pack["sums"]["EUR"], "0.00");
    let june = ["--from", "2026-06-01", "--to", "2026-07-01"];
    let pack = json_of(&site, &[&["ledger", "pack"][..], &june].concat());
    assert_eq!(
        pack["roll_forward"][0]["closing"], "1.61",
        "as June was closed"
    );

    let map = "[statement]\namount = \"Cost\"\ncurrency = \"EUR\"\n\n[[key]]\nstatement = \"Account\"\nledger = \"tenant\"\n";
    let map = file(&site, "map.toml", map);
    for (cost, code) in [("2.11", 0), ("1.61", 3)] {
        let statement = file(&site, "s.csv", &format!("Account,Cost\nacme,{cost}\n"));
        let reconcile = ["reconcile", "--statement", &statement, "--map", &map];
        assert_eq!(run(&site, &reconcile).0, code, "{cost}");
    }
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}

/// A line is given back in part, with its part of the tax; and a first number that would leave numbers
/// out is refused with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_credit_of_a_line_has_its_tax_and_numbers_have_no_gap() {
    let site = Site::new(FOLD);
    add(&site, "profiles/acme.toml", "tax = \"de\"\n");
    let tax = "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\nrates = [{ percent = \"19\" }]\n";
    add(&site, "tax/de.toml", tax);
    let collector = Collector::start(&site).await;
    report(&collector, &site, BatchHash::ZERO, 1..=3).await;
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector.until("/v1/ledger?kind=charge", is_booked).await;
    let issue = ["invoice", "issue", "--tenant", "acme"];
    let issued = json_of(&site, &[&issue[..], &WHY].concat());
    assert_eq!(issued[0]["total"], "1.92");
    let charges = entries(&collector, "charge").await;
    let of = [
        "--amount",
        "0.60",
        "--currency",
        "EUR",
        "--text",
        "Outage",
        "--line",
        "sla",
    ];
    // The tax comes first.
    let credit = ["ledger", "credit", "--tenant", "acme", "--of", &charges[1]];
    let (code, out) = run(&site, &[&credit[..], &of, &WHY].concat());
    assert_eq!(code, 0, "{out}");
    let draft = ["invoice", "preview", "--tenant", "acme", "--draft"];
    let draft = json_of(&site, &draft);
    // With the same part of its 0.31 tax.
    assert_eq!(
        (&draft["net"], &draft["taxes"]["de"], &draft["total"]),
        (&json!("-0.60"), &json!("-0.12"), &json!("-0.72"))
    );
    collector.stop().await;

    let config = std::fs::read_to_string(site.config()).expect("reads");
    let raised = config.replace("prefix = \"INV-\"", "prefix = \"INV-\"\nfirst = 7");
    assert_ne!(raised, config);
    std::fs::write(site.config(), raised).expect("writes");
    let collector = Collector::start(&site).await;
    let line = [
        "ledger",
        "line",
        "--tenant",
        "acme",
        "--line",
        "setup",
        "--text",
        "Setup",
        "--amount",
        "5.00",
        "--currency",
        "EUR",
    ];
    assert_eq!(run(&site, &[&line[..], &WHY].concat()).0, 0);
    let (code, _, error) =
        tokio::task::block_in_place(|| site.cli_with_errors(&[&issue[..], &WHY].concat()));
    assert_ne!(code, 0);
    assert!(error.contains("would leave 5 numbers out"), "{error}");
    collector.stop().await;
    std::fs::write(site.config(), config).expect("writes");
    let collector = Collector::start(&site).await;
    let issued = json_of(&site, &[&issue[..], &WHY].concat());
    assert_eq!(issued[0]["number"], "INV-000002");
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}

/// An adjustment stands in a later period; it is explained by the usage of its own.
#[tokio::test(flavor = "multi_thread")]
async fn adjustments_are_explained_since_the_original() {
    let site = Site::new(FOLD);
    add(&site, "profiles/acme.toml", "late = \"next\"\n");
    let collector = Collector::start(&site).await;
    report(&collector, &site, BatchHash::ZERO, 1..=3).await;
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector.until("/v1/ledger?kind=charge", is_booked).await;
    correct(&site, "t1", "100");
    correct(&site, "t2", "100");
    let adjustments = entries(&collector, "adjustment").await;
    let last = adjustments.last().expect("two");
    let told = json_of(&site, &["invoice", "explain", last]);
    let before = told["before"].as_array().expect("a list");
    let kinds: Vec<&Value> = before.iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["charge", "adjustment"], "{told:#}");
    let since: Vec<_> = told["corrections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| (part["key"].as_str(), part["since"].as_bool()))
        .collect();
    assert_eq!(since, [(Some("t1"), Some(false)), (Some("t2"), Some(true))]);
    assert_eq!(
        told["batches"].as_array().map(Vec::len),
        Some(3),
        "those of June"
    );
    assert!(
        told["windows"]
            .as_array()
            .is_some_and(|windows| !windows.is_empty())
    );
    collector.stop().await;
}

/// A clock that is decades ahead: its usage is refused, seen, and released.
#[tokio::test(flavor = "multi_thread")]
async fn usage_from_the_future_is_refused_and_can_be_released() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    let life = Incarnation::from_bytes([1; 16]);
    let mut ahead = batch(
        "edge-1",
        life,
        1,
        BatchHash::ZERO,
        &[(series("acme", "eu"), 100)],
    );
    let width = WindowWidth::from_secs(10).expect("divides");
    ahead.rows[0].window = Window::containing(Timestamp::from_secs(4_000_000_000), width);
    ahead.validate().expect("a valid batch");
    peer.send(&Message::Batch(ahead)).await;
    assert_eq!(peer.ack_of(life, 1).await, 1);

    let accrual = json_of(&site, &["accruals", "--tenant", "acme"]);
    let items = accrual["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1, "no period of the far future: {accrual:#}");
    let part = &items[0]["usage"][0]["parts"][0];
    assert_eq!(
        (&part["standing"], &part["reason"], &part["quantity"]),
        (&json!("refused"), &json!("from_the_future"), &json!("100"))
    );
    let at = items[0]["start"].as_str().expect("an instant");
    let what = ["usage", "correct", "--tenant", "acme", "--key", "t1"];
    let of = ["--meter", "http.requests", "--at", at, "--quantity", "100"];
    let release = ["--release", "from_the_future", "--apply"];
    json_of(&site, &[&what[..], &of, &release, &WHY].concat());
    let accrual = json_of(&site, &["accruals", "--tenant", "acme"]);
    let parts = &accrual["items"][0]["usage"][0]["parts"];
    assert_eq!(
        (
            &parts[0]["standing"],
            &parts[0]["quantity"],
            &parts[1]["quantity"]
        ),
        (&json!("rated"), &json!("100"), &json!("0")),
        "{accrual:#}"
    );
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}
