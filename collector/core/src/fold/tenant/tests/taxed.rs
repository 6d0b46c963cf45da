//! What documents say of taxes: the rate and what it is of, also where nothing is charged.

use super::split::wish;
use super::*;
use crate::invoice::register::Register;
use crate::invoice::{self, Invoice, Parties, csv, html};

const DAY: i64 = 86_400;
const TAXES: &str = "[[tax]]\ncode = \"vat\"\njurisdiction = \"X\"\nrates = [\
    { percent = \"19\", until = \"1970-01-02\" }, { percent = \"21\", from = \"1970-01-02\" }]\n\
    [[tax]]\ncode = \"eu\"\njurisdiction = \"EU\"\nkind = \"reverse_charge\"\n\
    note = \"Article 196 of the VAT Directive\"\n";

/// Days of a tenant with a tax; requests cost 0.10 each.
fn world(tax: &str, more: &str) -> World {
    let mut world = World::new("P1D");
    world.fold = TenantFold::new(2);
    world.effects.clear();
    let mut files = files("P1D");
    files.insert("tax/x.toml".to_owned(), TAXES.to_owned());
    let own = files.get_mut("profiles/acme.toml").expect("there");
    own.push_str(&format!("\ntax = \"{tax}\"\n{more}"));
    world.catalog(files);
    world
}

impl World {
    fn requests(&mut self, day: i64, requests: i128) -> Vec<LedgerEntry> {
        self.rows("a", vec![row("acme", "requests", day * DAY, requests)]);
        self.watermark("a", (day + 1) * DAY);
        self.now = at((day + 1) * DAY);
        self.close_due()
    }

    /// The document of an entry.
    fn document(&self, entry: &LedgerEntry) -> Invoice {
        let all = ledger(&self.effects);
        invoice::issued(entry, Parties::default(), None, |at| {
            all.iter().find(|entry| entry.at == at).cloned()
        })
        .expect("a document")
    }

    fn waiting(&self) -> Invoice {
        let mut register = Register::default();
        for entry in ledger(&self.effects) {
            register.take(&entry);
        }
        let waiting = register.waiting();
        invoice::draft(
            &tenant("acme"),
            "EUR",
            &waiting["EUR"],
            Vec::new(),
            Parties::default(),
        )
        .expect("lines")
    }
}

/// Each tax with its base and amount.
fn taxes(invoice: &Invoice) -> Vec<String> {
    let all = invoice.tax_rates.iter();
    all.map(|tax| format!("{tax} = {}", tax.amount)).collect()
}

#[test]
fn each_rate_stands_with_what_it_is_of() {
    let mut world = world("vat", "");
    world.requests(0, 100);
    world.requests(1, 50);
    let expected = ["vat, 19 % of 10.00 = 1.90", "vat, 21 % of 5.00 = 1.05"];
    assert_eq!(taxes(&world.waiting()), expected);
    // A correction takes the base back with the rate of its day.
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.close_due();
    let expected = ["vat, 19 % of 10.50 = 2.00", "vat, 21 % of 5.00 = 1.05"];
    let draft = world.waiting();
    assert_eq!(taxes(&draft), expected);
    assert_eq!(draft.taxes["vat"], Decimal::new(305, 2));
    let page = html::page(&draft);
    assert!(page.contains("Tax vat, 19 % of 10.50"), "{page}");
    let text = csv::lines([&draft]);
    let rows = csv::read(&text, ',').expect("reads");
    let rates: Vec<&[String]> = rows.iter().map(|(_, row)| &row[33..35]).collect();
    assert_eq!(rates[0], ["x_TaxRate", "x_TaxBase"]);
    assert_eq!(rates[rates.len() - 2], ["19", "10.50"]);
}

#[test]
fn a_tax_that_is_not_charged_stands_on_the_invoice_with_its_note() {
    for late in ["correct", "next"] {
        let mut world = world("eu", &format!("late = \"{late}\"\n"));
        world.requests(0, 100);
        let expected = ["eu, reverse charge of 10.00 = 0.00"];
        assert_eq!(taxes(&world.waiting()), expected);
        // So does what changes it, though its amount stays what it is.
        world.rows("a", vec![row("acme", "requests", 0, 10)]);
        world.close_due();
        let parts = world.issue(&wish(WishedDocument::Split {
            currency: None,
            until: None,
            weights: vec![1, 2],
        }));
        let [one, other] = [&parts[0], &parts[1]].map(|entry| world.document(entry));
        assert_eq!(taxes(&one), ["eu, reverse charge of 3.50 = 0.00"], "{late}");
        assert_eq!(
            taxes(&other),
            ["eu, reverse charge of 7.00 = 0.00"],
            "{late}"
        );
        assert_eq!((one.total, other.total), (Decimal::new(350, 2), 7.into()));
        for page in [html::page(&one), csv::lines([&other])] {
            assert!(page.contains("Article 196 of the VAT Directive"), "{page}");
        }
        let nothing = wish(WishedDocument::Invoice {
            currency: None,
            until: None,
        });
        assert!(world.propose(&nothing).is_err(), "all of it is billed");
        // A void invoice gives it back.
        let void = world.issue(&wish(WishedDocument::Void {
            number: "1".to_owned(),
        }));
        let note = world.document(&void[0]);
        assert_eq!(
            taxes(&note),
            ["eu, reverse charge of -3.50 = 0.00"],
            "{late}"
        );
        assert_eq!(
            taxes(&world.waiting()),
            ["eu, reverse charge of 3.50 = 0.00"]
        );
    }
}
