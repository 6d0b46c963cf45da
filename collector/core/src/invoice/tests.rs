use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity};

use super::register::Register;
use super::*;
use crate::ledger::{Account, Chain, Leg, Original, Role, Step, StepKind, negated, transfer};
use crate::position::Position;

fn cents(cents: i64) -> Decimal {
    Decimal::new(cents, 2)
}

fn tenant() -> TenantId {
    TenantId::new("acme").expect("valid")
}

/// June 2026 in UTC.
fn line(kind: EntryKind, role: Role, name: &str, amount: i64) -> Posting {
    let mut posting = Posting::new(
        kind,
        Timestamp::from_secs(1_780_272_000),
        Timestamp::from_secs(1_782_864_000),
        name,
        Position::from_bytes([0; 16]),
    );
    posting.role = Some(role);
    posting.tenant = Some(tenant());
    posting.date = NaiveDate::from_ymd_opt(2026, 6, 30);
    posting.amount = Some(cents(amount));
    posting.currency = Some("EUR".to_owned());
    let contra = match role {
        Role::Tax => Account::Tax(name.to_owned()),
        Role::Grant => Account::Grants,
        _ => Account::Revenue("8400".to_owned()),
    };
    posting.legs = transfer(Account::Unbilled, contra, cents(amount), "EUR");
    posting
}

fn document(kind: EntryKind, number: u64, lines: Vec<u64>, total: i64) -> Posting {
    let mut posting = line(kind, Role::Usage, &format!("INV-{number}"), total);
    posting.role = None;
    posting.date = NaiveDate::from_ymd_opt(2026, 7, 2);
    posting.legs = transfer(Account::Receivable, Account::Unbilled, cents(total), "EUR");
    posting.document = Some(Box::new(Document {
        issuer: "main".to_owned(),
        sequence: number,
        number: format!("INV-{number}"),
        serial: 0,
        lines,
        parts: Vec::new(),
        part_of: None,
        due: NaiveDate::from_ymd_opt(2026, 7, 16),
        seller: None,
        buyer: None,
    }));
    posting
}

/// A ledger: usage with a discount, tax, a grant; its invoice; and its credit note.
fn ledger() -> Vec<LedgerEntry> {
    let mut usage = line(EntryKind::Charge, Role::Usage, "requests", 10_000);
    usage.meter = Some(MeterName::new("http.requests").expect("valid"));
    usage.quantity = Quantity::new(250_000);
    usage.list = Some(cents(12_500));
    usage.steps = vec![Step {
        kind: StepKind::Discount,
        id: "<b>loyal</b>".to_owned(),
        amount: cents(-2_500),
    }];
    "250000 x 0.05 & \"more\"".clone_into(&mut usage.arithmetic);
    let mut manual = line(EntryKind::Manual, Role::Fee, "setup", 1_190);
    manual.role = None;
    manual.legs = vec![
        Leg {
            account: Account::Unbilled,
            amount: cents(1_190),
            currency: "EUR".to_owned(),
        },
        Leg {
            account: Account::Revenue("8400".to_owned()),
            amount: cents(-1_000),
            currency: "EUR".to_owned(),
        },
        Leg {
            account: Account::Tax("de".to_owned()),
            amount: cents(-190),
            currency: "EUR".to_owned(),
        },
    ];
    let mut note = document(EntryKind::CreditNote, 2, Vec::new(), -12_090);
    note.refers_to = Some(EntryRef {
        partition: 1,
        index: 5,
    });
    let mut chain = Chain::new(1);
    [
        usage,
        line(EntryKind::Charge, Role::Tax, "de", 1_900),
        line(EntryKind::Charge, Role::Grant, "welcome", -1_000),
        manual,
        document(EntryKind::Invoice, 1, vec![1, 2, 3, 4], 12_090),
        note,
    ]
    .into_iter()
    .map(|posting| chain.append(Timestamp::from_secs(1_783_000_000), posting))
    .collect()
}

fn of(ledger: &[LedgerEntry], index: usize, voided: Option<&str>) -> Result<Invoice, InvoiceError> {
    issued(&ledger[index], Parties::default(), voided, |at| {
        ledger.iter().find(|entry| entry.at == at).cloned()
    })
}

#[test]
fn an_invoice_sums_what_the_ledger_says() {
    let ledger = ledger();
    let invoice = of(&ledger, 4, None).expect("sound");
    assert_eq!(invoice.status, Status::Final);
    assert_eq!(invoice.number.as_deref(), Some("INV-1"));
    assert_eq!(
        (invoice.net, invoice.gross, invoice.paid, invoice.total),
        (cents(11_000), cents(13_090), cents(-1_000), cents(12_090))
    );
    assert_eq!(
        invoice.taxes,
        BTreeMap::from([("de".to_owned(), cents(2_090))])
    );
    assert_eq!(invoice.tax_point, NaiveDate::from_ymd_opt(2026, 6, 30));
    let names: Vec<&str> = invoice.lines.iter().map(|line| &*line.line).collect();
    assert_eq!(
        names,
        ["requests", "setup", "welcome"],
        "payments come last"
    );
    assert_eq!(invoice.lines[0].quantity.as_deref(), Some("250000"));
    let voided = of(&ledger, 4, Some("INV-2")).expect("sound");
    assert_eq!(voided.status, Status::Void);
}

#[test]
fn a_credit_note_takes_back_every_line() {
    let ledger = ledger();
    let note = of(&ledger, 5, None).expect("sound");
    assert!(note.credit_note);
    assert_eq!(note.other.as_deref(), Some("INV-1"));
    assert_eq!(note.total, cents(-12_090));
    assert_eq!(note.taxes["de"], cents(-2_090));
    assert_eq!(note.lines[0].steps[0].amount, cents(2_500));
    assert_eq!(note.lines[0].quantity.as_deref(), Some("-250000"));
}

#[test]
fn what_does_not_add_up_is_no_invoice() {
    let ledger = ledger();
    let missing: Vec<LedgerEntry> = ledger.iter().skip(1).cloned().collect();
    assert!(matches!(
        of(&missing, 3, None),
        Err(InvoiceError::Missing { .. })
    ));
    let mut wrong = ledger.clone();
    wrong[4].posting.amount = Some(cents(12_089));
    assert!(matches!(of(&wrong, 4, None), Err(InvoiceError::Sum { .. })));
    assert!(matches!(
        of(&ledger, 0, None),
        Err(InvoiceError::NotADocument(_))
    ));
}

#[test]
fn a_register_knows_what_waits() {
    let ledger = ledger();
    let mut register = Register::default();
    for entry in &ledger[..4] {
        register.take(entry);
    }
    assert_eq!(register.totals()["EUR"], Some(cents(12_090)));
    let draft = draft(
        &tenant(),
        "EUR",
        &register.waiting()["EUR"],
        Vec::new(),
        Parties::default(),
    )
    .expect("lines");
    assert_eq!((draft.status, draft.total), (Status::Draft, cents(12_090)));
    register.take(&ledger[4]);
    assert!(register.waiting().is_empty());
    assert!(register.document("INV-1", Some("main")).is_some());
    assert!(register.document("INV-1", Some("other")).is_none());
    register.take(&ledger[5]);
    assert_eq!(register.voided_by(&ledger[4]), Some("INV-2"));
    assert_eq!(
        register.totals()["EUR"],
        Some(cents(12_090)),
        "it waits again"
    );
    assert_eq!(
        negated(register.documents()[1].posting.amount.unwrap_or_default()),
        cents(12_090)
    );
}

#[test]
fn a_preview_has_what_is_not_booked_yet() {
    let open = |line: &str, amount, tax: Option<&str>| OpenLine {
        line: line.to_owned(),
        meter: None,
        start: Timestamp::from_secs(1_782_864_000),
        end: Timestamp::from_secs(1_785_542_400),
        quantity: None,
        amount: cents(amount),
        tax: tax.map(str::to_owned),
        taxed: None,
        arithmetic: String::new(),
    };
    let preview = draft(
        &tenant(),
        "EUR",
        &ledger()[..2].iter().map(Waiting::whole).collect::<Vec<_>>(),
        vec![open("fee", 500, None), open("de", 95, Some("de"))],
        Parties::default(),
    )
    .expect("lines");
    assert_eq!(
        (preview.status, preview.net, preview.total),
        (Status::Preview, cents(10_500), cents(12_495))
    );
    assert_eq!(preview.taxes["de"], cents(1_995));
}

#[test]
fn a_page_shows_everything_and_nothing_runs_in_it() {
    let mut invoice = of(&ledger(), 4, None).expect("sound");
    invoice.buyer = Some(Party {
        name: "Müller & <script>alert(1)</script>".to_owned(),
        vat_id: "DE1".to_owned(),
        reverse_charge: true,
        ..Party::default()
    });
    let page = html::page(&invoice);
    assert!(page.starts_with("<!DOCTYPE html>"));
    for shown in [
        "Invoice INV-1",
        "120.90 EUR",
        "Müller &amp; &lt;script&gt;",
        "VAT DE1",
        "Reverse charge",
        "&lt;b&gt;loyal&lt;/b&gt;",
        "2026-07-16",
        "@page{size:A4",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    for never in ["<script", "<b>", "http://", "https://", "onload"] {
        assert!(!page.contains(never), "{never}");
    }
    invoice.status = Status::Void;
    assert!(html::page(&invoice).contains(">void<"));
}

#[test]
fn rows_have_the_columns_of_the_heading() {
    let text = csv::lines([&of(&ledger(), 4, None).expect("sound")]);
    let rows = csv::read(&text, ',').expect("reads");
    assert_eq!(rows.len(), 5, "a heading, three lines, one tax");
    assert_eq!(rows[0].1, csv::COLUMNS);
    assert!(rows.iter().all(|(_, row)| row.len() == csv::COLUMNS.len()));
    let billed = |row: &(usize, Vec<String>)| row.1[15].parse::<Decimal>().expect("a number");
    let sum: Decimal = rows[1..].iter().map(billed).sum();
    assert_eq!(sum, cents(12_090));
    assert_eq!(rows[1].1[8], "Usage");
    assert_eq!(rows[1].1[16], "<b>loyal</b>=-25.00");
}

/// 110.00 EUR less 10 % at 1.10: list amount and steps are in the document's currency too.
#[test]
fn a_document_has_one_currency() {
    let discount = |amount| Step {
        kind: StepKind::Discount,
        id: "d".to_owned(),
        amount: cents(amount),
    };
    let converted = |amount, with_tax, rate: Option<i64>| {
        Some(Box::new(Original {
            amount: cents(amount),
            currency: "EUR".to_owned(),
            rate: rate.map(cents),
            rate_date: rate.and_then(|_| NaiveDate::from_ymd_opt(2026, 6, 1)),
            with_tax,
        }))
    };
    let of = |original, amount, list, steps: &[i64]| {
        let mut posting = line(EntryKind::Charge, Role::Usage, "requests", amount);
        posting.list = Some(cents(list));
        posting.steps = steps.iter().map(|step| discount(*step)).collect();
        posting.original = original;
        let entry = Chain::new(1).append(Timestamp::EPOCH, posting);
        InvoiceLine::of(&entry, None, None)
    };
    let shown = |line: &InvoiceLine| {
        let steps = line.steps.iter().map(|step| step.amount);
        (line.list, steps.collect::<Vec<_>>(), line.contracted())
    };
    let list = |list, steps: &[i64]| {
        let steps: Vec<Decimal> = steps.iter().map(|step| cents(*step)).collect();
        (Some(cents(list)), steps, Some(cents(list)))
    };
    let plain = of(converted(9_000, false, Some(110)), 9_900, 10_000, &[-1_000]);
    assert_eq!(shown(&plain), list(11_000, &[-1_100]));
    // Nothing of a list amount is left, or a cent: the rate still says what it was.
    let nothing = of(converted(0, false, Some(110)), 0, 10_000, &[-10_000]);
    assert_eq!(shown(&nothing), list(11_000, &[-11_000]));
    let cent = of(converted(1, false, Some(110)), 1, 10_000, &[-5_000, -4_999]);
    assert_eq!(shown(&cent), list(11_000, &[-5_500, -5_499]));
    // With 19 % tax in it: without it, and with what the net amount is.
    let with_tax = of(converted(10_710, true, None), 9_000, 11_900, &[-1_190]);
    assert_eq!(shown(&with_tax), list(10_000, &[-1_000]));
    // Of nothing nobody can say how much of it would be tax.
    let unknown = of(converted(0, true, None), 0, 11_900, &[-11_900]);
    assert_eq!(shown(&unknown), (None, Vec::new(), None));
    let mut page = ledger();
    page[0].posting.original = converted(9_000, false, Some(110));
    let invoice = self::of(&page, 4, None).expect("sound");
    let told = "originally 90.00 EUR, at 1.10 of 2026-06-01";
    assert!(html::page(&invoice).contains(told));
    let rows = csv::lines([&invoice]);
    assert!(rows.contains(",90.00,EUR,1.10,2026-06-01,"), "{rows}");
}

/// A reversal shows what it takes back, so that savings add up.
#[test]
fn a_reversal_has_the_list_amount_of_what_it_takes_back() {
    let mut register = Register::default();
    let mut chain = Chain::new(1);
    let first = ledger().remove(0).posting;
    let mut reversal = line(EntryKind::Reversal, Role::Usage, "requests", -10_000);
    reversal.refers_to = Some(EntryRef {
        partition: 1,
        index: 1,
    });
    for posting in [first, reversal] {
        register.take(&chain.append(Timestamp::EPOCH, posting));
    }
    let waiting = register.waiting();
    let draft = draft(
        &tenant(),
        "EUR",
        &waiting["EUR"],
        Vec::new(),
        Parties::default(),
    );
    let draft = draft.expect("lines");
    let lists: Vec<_> = draft.lines.iter().filter_map(|line| line.list).collect();
    assert_eq!(lists.iter().sum::<Decimal>(), Decimal::ZERO, "{lists:?}");
    assert_eq!(draft.lines[1].steps[0].amount, cents(2_500));
}

/// 100.00 charged in advance, 41.00 of it used: what each document costs in effect sums to what it
/// bills, also where it is void and stands on another one.
#[test]
fn what_a_commitment_left_unused_is_told_with_the_next_document() {
    let mut ledger = Vec::new();
    let (mut chain, mut register) = (Chain::new(1), Register::default());
    let mut post = |posting: Posting| {
        let entry = chain.append(Timestamp::EPOCH, posting);
        register.take(&entry);
        ledger.push(entry);
    };
    let of = |role, name: &str, amount| line(EntryKind::Charge, role, name, amount);
    let mut left = of(Role::Breakage, "term", 0);
    left.legs = transfer(
        Account::Commitment,
        Account::Revenue("8400".to_owned()),
        cents(5_900),
        "EUR",
    );
    let mut usage = of(Role::Usage, "requests", 4_100);
    usage.meter = Some(MeterName::new("http.requests").expect("valid"));
    post(of(Role::Commitment, "term", 10_000));
    post(usage);
    post(of(Role::Drawdown, "term", -4_100));
    post(left);
    post(document(EntryKind::Invoice, 1, vec![1, 2, 3], 10_000));
    let mut void = document(EntryKind::CreditNote, 2, Vec::new(), -10_000);
    void.refers_to = Some(EntryRef {
        partition: 1,
        index: 5,
    });
    post(void);
    post(document(EntryKind::Invoice, 3, vec![1, 2, 3], 10_000));
    for (index, unused, sum) in [
        (4, "59.00", 10_000),
        (5, "-59.00", -10_000),
        (6, "59.00", 10_000),
    ] {
        let told = register.unused(&ledger[index]);
        let invoice = self::of(&ledger, index, None)
            .expect("sound")
            .with_unused(told);
        let rows = csv::read(&csv::lines([&invoice]), ',').expect("reads");
        let rows: Vec<_> = rows.into_iter().map(|(_, cells)| cells).collect();
        let column = |name: &str| rows[0].iter().position(|cell| cell == name).expect(name);
        let [billed, effective, status] =
            ["BilledCost", "EffectiveCost", "CommitmentDiscountStatus"].map(column);
        let total = |at: usize| -> Decimal {
            let costs = rows[1..].iter();
            costs
                .map(|row| row[at].parse::<Decimal>().expect("a number"))
                .sum()
        };
        assert_eq!((total(billed), total(effective)), (cents(sum), cents(sum)));
        let row = rows
            .iter()
            .find(|row| row[status] == "Unused")
            .expect("a row");
        assert_eq!((&*row[billed], &*row[effective]), ("0", unused));
    }
}
