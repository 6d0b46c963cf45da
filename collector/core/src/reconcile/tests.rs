use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId};

use super::*;
use crate::ledger::{Chain, EntryKind, Leg, transfer};
use crate::position::Position;

const MAP: &str = r#"
[statement]
amount = "BilledCost"
currency = "EUR"
quantity = "ConsumedQuantity"
only = { ChargeCategory = "Usage" }

[[key]]
statement = "BillingAccountId"
ledger = "tenant"
values = { "4711" = "acme" }

[[key]]
statement = "ChargePeriodStart"
ledger = "month"
first = 7

[tolerance]
amount = "0.01"
percent = "0.1"
total = "1.00"
"#;

fn entry(tenant: &str, cents: i64, quantity: i128) -> LedgerEntry {
    // June in Berlin begins in May in UTC.
    let start = Timestamp::from_secs(1_780_264_800);
    let end = Timestamp::from_secs(1_782_856_800);
    let mut posting = Posting::new(
        EntryKind::Charge,
        start,
        end,
        "requests",
        Position::from_bytes([0; 16]),
    );
    posting.tenant = Some(TenantId::new(tenant).expect("valid"));
    posting.meter = Some(MeterName::new("http.requests").expect("valid"));
    posting.quantity = Quantity::new(quantity);
    let amount = Decimal::new(cents, 2);
    posting.amount = Some(amount);
    posting.currency = Some("EUR".to_owned());
    posting.legs = transfer(
        Account::Unbilled,
        Account::Revenue("8400".to_owned()),
        amount,
        "EUR",
    );
    Chain::new(0).append(start, posting)
}

fn compared(map: &str, statement: &str) -> Reconciliation {
    let map = Map::parse(map).expect("a map");
    let mut reconciler = Reconciler::new(&map);
    for entry in [
        entry("acme", 100_000, 3_000_000),
        entry("acme", 17_500, 500_000),
        entry("rival", 5_000, 7),
    ] {
        reconciler.take(&entry).expect("fits");
    }
    reconciler.compare(statement).expect("a statement")
}

const HEADING: &str =
    "BillingAccountId,ChargePeriodStart,ChargeCategory,ConsumedQuantity,BilledCost\n";

#[test]
fn what_agrees_is_within() {
    let statement = format!(
        "{HEADING}4711,2026-06-01T00:00:00Z,Usage,3500000,\"1,175.00\"\n\
         4711,2026-06-01T00:00:00Z,Tax,,223.25\n\
         rival,2026-06-01T00:00:00Z,Usage,7,5.0001E1\n"
    );
    let found = compared(MAP, &statement);
    assert!(found.within, "{found:#?}");
    assert_eq!(found.rows.len(), 2);
    assert_eq!(found.rows[0].key, ["acme", "2026-06"]);
    assert_eq!(found.rows[0].verdict, Verdict::Equal);
    assert_eq!(found.rows[0].ledger.rows, 2);
    // 0.001 of drift; 0.01 is tolerated.
    assert_eq!(found.rows[1].verdict, Verdict::Within);
    assert_eq!(found.totals["EUR"].drift, Decimal::new(1, 3));
    assert_eq!(
        (
            found.totals["EUR"].ledger.rows,
            found.totals["EUR"].statement.rows
        ),
        (3, 2)
    );
}

#[test]
fn what_drifts_is_told_line_by_line_and_in_total() {
    let drifting = |acme: &str, rest: &str| {
        let statement = format!(
            "{HEADING}4711,2026-06-01,Usage,3500000,{acme}\nrival,2026-06-01,Usage,7,50\n{rest}"
        );
        compared(MAP, &statement)
    };
    // 0.1 % of 1175.00 is 1.175, but the total may drift by 1.00 only.
    let found = drifting("1176.10", "");
    assert_eq!(found.rows[0].verdict, Verdict::Within);
    assert!(!found.within);
    let found = drifting("1173.80", "");
    assert_eq!(
        (found.rows[0].verdict, found.rows[0].drift),
        (Verdict::Beyond, Decimal::new(-120, 2))
    );
    let found = drifting("1175.00", "nobody,2026-06-01,Usage,1,0.50\n");
    assert_eq!(found.rows[1].verdict, Verdict::StatementOnly);
    assert!(!found.within);
    let found = compared(
        MAP,
        &format!("{HEADING}4711,2026-06-01,Usage,3500000,1175\n"),
    );
    assert_eq!(found.rows[1].verdict, Verdict::LedgerOnly);
    assert_eq!(found.totals["EUR"].drift, Decimal::new(-5000, 2));
    // The quantity is compared too, and nothing of it is tolerated.
    let statement =
        format!("{HEADING}4711,2026-06-01,Usage,3500001,1175\nrival,2026-06-01,Usage,7,50\n");
    assert!(!compared(MAP, &statement).within);
}

#[test]
fn other_ways_of_writing_numbers() {
    let map = MAP
        .replace(
            "[statement]",
            "[statement]\ndelimiter = \";\"\ndecimal = \",\"",
        )
        .replace("quantity = \"ConsumedQuantity\"\n", "");
    let statement = format!(
        "{}4711;2026-06-01;Usage;;1.175,00\nrival;2026-06-01;Usage;;50\n",
        HEADING.replace(',', ";")
    );
    let found = compared(&map, &statement);
    assert!(found.within, "{found:#?}");
    assert_eq!(found.rows[0].drift_quantity, None);
}

#[test]
fn mistakes_are_named() {
    for (change, to, what) in [
        ("amount = \"BilledCost\"", "", "amount"),
        ("ledger = \"month\"", "ledger = \"moon\"", "moon"),
        ("amount = \"0.01\"", "amount = \"-1\"", "tolerance.amount"),
        (
            "[statement]",
            "[statement]\ndecimal = \"x\"",
            "statement.decimal",
        ),
        ("first = 7", "frist = 7", "frist"),
        ("currency = \"EUR\"\n", "", "statement.currency"),
        (
            "ledger = \"month\"",
            "ledger = \"currency\"",
            "statement.currency",
        ),
    ] {
        let error = Map::parse(&MAP.replacen(change, to, 1)).expect_err(change);
        assert!(error.to_string().contains(what), "{change}: {error}");
    }
    let map = Map::parse(MAP).expect("a map");
    for (statement, what) in [
        (String::new(), "heading"),
        ("a,b\n".to_owned(), "BilledCost"),
        (format!("{HEADING}x,y,Usage,1\n"), "line 2"),
        (format!("{HEADING}x,y,Usage,1,a lot\n"), "a lot"),
    ] {
        let error = Reconciler::new(&map).compare(&statement).expect_err(what);
        assert!(error.to_string().contains(what), "{statement}: {error}");
    }
}

#[test]
fn currencies_are_never_compared_with_each_other() {
    let mut dollars = entry("acme", 10_000, 1);
    dollars.posting.currency = Some("USD".to_owned());
    let map = Map::parse(MAP).expect("a map");
    let error = Reconciler::new(&map).take(&dollars).expect_err("euros");
    assert!(error.to_string().contains("USD"), "{error}");

    let keyed = MAP.replace("currency = \"EUR\"\n", "").replace(
        "[tolerance]",
        "[[key]]\nstatement = \"Currency\"\nledger = \"currency\"\n\n[tolerance]",
    );
    let map = Map::parse(&keyed).expect("a map");
    let compare = |rows: &str| {
        let mut reconciler = Reconciler::new(&map);
        for entry in [entry("acme", 10_000, 1), dollars.clone()] {
            reconciler.take(&entry).expect("fits");
        }
        let heading = HEADING.replace("BilledCost", "BilledCost,Currency");
        reconciler
            .compare(&format!("{heading}{rows}"))
            .expect("a statement")
    };
    let row =
        |currency: &str, amount: &str| format!("4711,2026-06-01,Usage,1,{amount},{currency}\n");
    assert!(compare(&(row("EUR", "100") + &row("USD", "100"))).within);
    // Too much of the one does not make up for too little of the other.
    let found = compare(&(row("EUR", "102") + &row("USD", "98")));
    assert!(!found.within);
    let drifts: Vec<_> = found
        .totals
        .iter()
        .map(|(currency, total)| (currency.as_str(), total.drift))
        .collect();
    assert_eq!(
        drifts,
        [("EUR", Decimal::from(2)), ("USD", Decimal::from(-2))]
    );
}

/// A line by hand has its tax in its entry: it compares net by line and account, and its tax as a tax.
#[test]
fn taxes_of_lines_by_hand_stand_apart() {
    let mut manual = entry("acme", 29_750, 0);
    manual.posting.kind = EntryKind::Manual;
    manual.posting.meter = None;
    manual.posting.line = "setup".to_owned();
    let leg = |account, cents| Leg {
        account,
        amount: Decimal::new(cents, 2),
        currency: "EUR".to_owned(),
    };
    manual.posting.legs = vec![
        leg(Account::Unbilled, 29_750),
        leg(Account::Revenue("8400".to_owned()), -25_000),
        leg(Account::Tax("de".to_owned()), -4_750),
    ];
    let mut charged = entry("acme", 1_900, 0);
    charged.posting.role = Some(Role::Tax);
    charged.posting.meter = None;
    charged.posting.line = "de".to_owned();
    let tax = Account::Tax("de".to_owned());
    charged.posting.legs = transfer(Account::Unbilled, tax, Decimal::new(1_900, 2), "EUR");
    for (ledger, statement) in [
        ("line", "line,net\nsetup,250.00\nde,66.50\n"),
        ("gl", "gl,net\n8400,250.00\n,66.50\n"),
        ("role", "role,net\n,250.00\ntax,66.50\n"),
        ("tenant", "tenant,net\nacme,316.50\n"),
    ] {
        let map = format!(
            "[statement]\namount = \"net\"\ncurrency = \"EUR\"\n[[key]]\nstatement = \"{ledger}\"\nledger = \"{ledger}\"\n"
        );
        let map = Map::parse(&map).expect("a map");
        let mut reconciler = Reconciler::new(&map);
        for entry in [&manual, &charged] {
            reconciler.take(entry).expect("fits");
        }
        let found = reconciler.compare(statement).expect("a statement");
        assert!(
            found.rows.iter().all(|row| row.verdict == Verdict::Equal),
            "{found:?}"
        );
    }
}
