//! What is given back of fees and commitments, and what ends with an agreement.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::TenantId;

use crate::bill::{Bill, BillLine, Carried, LineRole, Offline, Usage};
use crate::catalog::Catalog;
use crate::period::{Period, Zone};

const TAX: &str = "[[tax]]\ncode = \"x\"\njurisdiction = \"X\"\nrates = [{ percent = \"10\" }]\n";

fn fee(currency: &str, amount: &str) -> String {
    let price = "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nbilled = \"in_advance\"\n";
    let flat = if amount.is_empty() {
        "[[price]]\nid = \"other\"\nmodel = \"flat\"\nflat = \"0.20\"\n".to_owned()
    } else {
        format!("{price}flat = \"{amount}\"\n")
    };
    format!("currency = \"{currency}\"\norder = \"standard/1\"\n{flat}")
}

/// A catalog of one card whose versions begin on these days.
fn catalog(versions: &[(&str, String)], profile: &str) -> Catalog {
    let mut files: BTreeMap<String, String> = versions
        .iter()
        .map(|(from, text)| {
            let card = format!("id = \"c\"\nfrom = \"{from}\"\n{text}");
            (format!("cards/{from}.toml"), card)
        })
        .collect();
    let profile = format!("tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\ntax = \"x\"\n{profile}");
    files.insert("profiles/t.toml".to_owned(), profile);
    files.insert("tax/x.toml".to_owned(), TAX.to_owned());
    let rate = |date, rate| {
        format!("[[rate]]\nfrom = \"EUR\"\nto = \"USD\"\ndate = \"{date}\"\nrate = \"{rate}\"\n")
    };
    let rates = rate("2026-01-01", "2") + &rate("2026-08-01", "3");
    files.insert("rates/x.toml".to_owned(), rates);
    Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What a month without usage costs, and what it leaves.
fn month<T>(
    catalog: &Catalog,
    days: [&str; 2],
    carried: &Carried,
    look: impl FnOnce(&Bill<'_>) -> T,
) -> T {
    let day = |day: &str| Zone::UTC.start_of_day(day.parse().expect("a date"));
    let period = Period {
        start: day(days[0]),
        end: day(days[1]),
    };
    let tenant = TenantId::new("t").expect("valid");
    let usage = Usage {
        carried: carried.clone(),
        ..Usage::default()
    };
    let offline = Offline::new(catalog, &tenant, period).expect("a profile");
    let metered = offline.metered(&usage);
    look(&offline.bill(&usage, &metered, &[]).expect("a bill"))
}

const JUNE: [&str; 2] = ["2026-06-01", "2026-07-01"];
const JULY: [&str; 2] = ["2026-07-01", "2026-08-01"];
const AUGUST: [&str; 2] = ["2026-08-01", "2026-09-01"];

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

/// 10 % of June's and July's 0.05 together are 0.01, which stands with June's fee: July's was charged
/// none, and given back it has none.
#[test]
fn no_more_tax_is_given_back_than_was_charged() {
    let before = catalog(&[("2026-01-01", fee("EUR", "0.05"))], "");
    let none = Carried::default();
    let carried = month(&before, JUNE, &none, |bill| {
        assert_eq!((bill.net, bill.tax), (decimal("0.10"), decimal("0.01")));
        bill.carried.clone()
    });
    let versions = [
        ("2026-01-01", fee("EUR", "0.05")),
        ("2026-07-01", fee("EUR", "")),
    ];
    let after = catalog(&versions, "");
    month(&after, JULY, &carried, |bill| {
        let given = bill.lines.iter().find(|line| line.key.id == "fee");
        let given = given.expect("it is given back");
        assert_eq!((given.net, given.tax), (decimal("-0.05"), decimal("0.00")));
        assert_eq!((bill.net, bill.tax), (decimal("0.15"), decimal("0.02")));
        assert_eq!(bill.taxes[0].amount, bill.tax);
    });
}

/// A fee that was charged in euros is given back in euros, though the card is in dollars now.
#[test]
fn what_is_given_back_is_in_the_currency_that_it_was_charged_in() {
    let before = catalog(&[("2026-01-01", fee("EUR", "5.00"))], "");
    let carried = month(&before, JUNE, &Carried::default(), |bill| {
        bill.carried.clone()
    });
    let after = catalog(&[("2026-01-01", fee("USD", ""))], "");
    month(&after, JULY, &carried, |bill| {
        let given = bill.lines.iter().find(|line| line.key.id == "fee");
        let given = given.expect("it is given back");
        assert_eq!(
            (given.currency.code(), given.amount),
            ("EUR", decimal("-5.00"))
        );
        assert_eq!(given.net, decimal("-10.00"), "at 2 dollars");
    });
}

/// 30.00 euros were charged as 60.00 dollars. Of them 10.00 are given back, and then all, when a euro
/// is three dollars.
#[test]
fn what_is_given_back_comes_to_what_was_charged_for_it() {
    let usd = "currency = \"USD\"\n";
    let before = catalog(&[("2026-01-01", fee("EUR", "30.00"))], usd);
    let carried = month(&before, JULY, &Carried::default(), |bill| {
        bill.carried.clone()
    });
    for (fee_now, given, net) in [("20.00", "-10.00", "-20.00"), ("", "-30.00", "-60.00")] {
        let versions = [
            ("2026-01-01", fee("EUR", "30.00")),
            ("2026-08-01", fee("EUR", fee_now)),
        ];
        let after = catalog(&versions, usd);
        month(&after, AUGUST, &carried, |bill| {
            let lines = bill.lines.iter();
            let own = |line: &&BillLine<'_>| line.key.id == "fee" && line.key.role == LineRole::Fee;
            let line = lines.clone().find(own).expect("it is given back");
            assert_eq!((line.amount, line.net), (decimal(given), decimal(net)));
        });
    }
}

/// The rest of a term is due where the agreement ends, where the commitment is taken out of the card,
/// and where another profile comes; or it is waived.
#[test]
fn a_commitment_ends_with_its_agreement() {
    let commitment = |at_end: &str| {
        let fee = fee("EUR", "");
        format!("{fee}[[commitment]]\nid = \"k\"\namount = \"10.00\"\nterm = \"P1Y\"\n{at_end}")
    };
    let waive = "at_end = \"waive\"\n";
    let last = |versions: &[(&str, String)], profile: &str| {
        let catalog = catalog(versions, profile);
        month(&catalog, JUNE, &Carried::default(), |bill| {
            let rest = bill
                .lines
                .iter()
                .find(|line| line.key.role == LineRole::TrueUp);
            rest.map(|line| line.amount)
        })
    };
    let on = |from, at_end| (from, commitment(at_end));
    let off = |from| (from, fee("EUR", ""));
    let june = "until = \"2026-07-01\"\n";
    let rest = Some(decimal("9.80"));
    assert_eq!(last(&[on("2026-01-01", "")], ""), None);
    assert_eq!(last(&[on("2026-01-01", "")], june), rest);
    assert_eq!(last(&[on("2026-01-01", waive)], june), None);
    assert_eq!(last(&[on("2026-01-01", ""), off("2026-07-01")], ""), rest);
    assert_eq!(last(&[on("2026-01-01", ""), off("2026-06-16")], ""), rest);
    assert_eq!(
        last(&[on("2026-01-01", waive), off("2026-06-16")], ""),
        None
    );
    let later = [on("2026-01-01", ""), on("2026-06-16", "")];
    assert_eq!(last(&later, ""), None, "it goes on");
}
