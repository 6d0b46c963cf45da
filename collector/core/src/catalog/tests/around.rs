//! What stands around prices: mistakes have their place, and nothing is half accepted.

use super::*;

const TAX: &str = "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\n\
    rates = [{ percent = \"19\", from = \"2021-01-01\" }]\n";
const RATES: &str =
    "[[rate]]\nfrom = \"EUR\"\nto = \"USD\"\ndate = \"2026-01-02\"\nrate = \"1.1\"\n";
const OTHER: &str = "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\n";

/// The mistakes of the sound catalog with `card` and `profile` added.
fn wrong(card: &str, profile: &str, change: impl Fn(&mut BTreeMap<String, String>)) -> Vec<String> {
    let mut files = files(
        METERS,
        &format!("{CARD}{card}"),
        &format!("{PROFILE}{profile}"),
    );
    files.insert("tax/de.toml".to_owned(), TAX.to_owned());
    files.insert("rates/ecb.toml".to_owned(), RATES.to_owned());
    files.insert("profiles/shop.toml".to_owned(), OTHER.to_owned());
    change(&mut files);
    match Catalog::parse(&files) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.errors().iter().map(ToString::to_string).collect(),
    }
}

/// The only mistake.
fn one(mistakes: Vec<String>) -> String {
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes.into_iter().next().unwrap_or_default()
}

#[test]
fn all_of_it_together_is_sound() {
    let card = "tax = { behavior = \"inclusive\", first = \"net\" }\n";
    let around = "[[minimum]]\nid = \"m\"\nfees = false\namount = \"10\"\n\
        [[maximum]]\nid = \"m\"\ncounts = [\"requests\"]\namount = \"10\"\nprorate = \"days\"\n\
        [[commitment]]\nid = \"k\"\namount = \"100\"\nterm = \"P1Y\"\noverage = \"1.2\"\n\
        [[discount]]\nid = \"d\"\nscope = \"invoice\"\npercent = \"5\"\n";
    let grant = "[[grant]]\nid = \"g\"\namount = \"5\"\nkind = \"paid\"\nuntil = \"2027-01-01\"\n";
    let agreed = "currency = \"USD\"\ntax = [\"de\"]\nthreshold = { amount = \"50.00\" }\n";
    let mistakes = wrong(around, &format!("{agreed}{around}{grant}"), |files| {
        let text = files.get_mut("cards/edge.toml").expect("there");
        *text = text.replacen("order", &format!("{card}order"), 1);
    });
    assert_eq!(mistakes, Vec::<String>::new());
}

#[test]
fn mistakes_on_cards_are_told() {
    let expected = [
        (
            "[[minimum]]\nid = \"m\"\namount = 10.0\n",
            "minimum[0].amount: found a float",
        ),
        (
            "[[minimum]]\nid = \"m\"\namount = \"-1\"\n",
            "minimum[0].amount: `-1` is not a decimal",
        ),
        (
            "[[maximum]]\nid = \"m\"\namount = \"1\"\ncounts = [\"request\"]\n",
            "maximum[0].counts: price `request` is not declared in card `edge`",
        ),
        (
            "[[maximum]]\nid = \"m\"\namount = \"1\"\ncounts = [\"requests\"]\nfees = true\n",
            "maximum[0].fees: lines that are named count",
        ),
        (
            "[[minimum]]\nid = \"m\"\namount = \"1\"\n[[minimum]]\nid = \"m\"\namount = \"2\"\n",
            "minimum[1].id: minimum `m` is declared twice",
        ),
        (
            "[[minimum]]\nid = \"m\"\namount = \"1.005\"\n",
            "minimum[0].amount: 1.005 EUR cannot be paid (expected at most 2 decimal places)",
        ),
        (
            "[[commitment]]\nid = \"k\"\namount = \"0.001\"\nterm = \"P1Y\"\n",
            "commitment[0].amount: 0.001 EUR cannot be paid (expected at most 2 decimal places)",
        ),
        (
            "[[minimum]]\nid = \"m\"\namount = \"1\"\nprorate = \"month\"\n",
            "minimum[0].prorate: expected \"duration\", \"days\" or \"none\"",
        ),
        (
            "[[commitment]]\nid = \"k\"\namount = \"1\"\nterm = \"PT1H\"\n",
            "commitment[0].term: expected a term of days",
        ),
        (
            "[[commitment]]\nid = \"k\"\namount = \"1\"\nterm = \"P1Y\"\nfrom = \"2026-02-30\"\n",
            "commitment[0].from: not a date",
        ),
        (
            "[[commitment]]\nid = \"k\"\namount = \"1\"\nterm = \"P1Y\"\npay = \"parts\"\ntrue_up = false\n",
            "commitment[0].true_up: the whole amount is charged already",
        ),
        (
            "[[commitment]]\nid = \"k\"\namount = \"1\"\nterm = \"P1Y\"\noverage = 1.5\n",
            "commitment[0].overage: found a float",
        ),
        (
            "[[discount]]\nid = \"d\"\nscope = \"group\"\npercent = \"5\"\n",
            "discount[0].applies: missing",
        ),
        (
            "[[discount]]\nid = \"d\"\nscope = \"invoice\"\nquantity = \"5\"\n",
            "discount[0].quantity: lines together have no quantity",
        ),
        (
            "[[discount]]\nid = \"d\"\nscope = \"all\"\npercent = \"5\"\n",
            "discount[0].scope: expected `line`",
        ),
    ];
    for (added, message) in expected {
        let found = one(wrong(added, "", |_| {}));
        assert!(
            found.starts_with("cards/edge.toml:") && found.contains(message),
            "{found}"
        );
    }
    let style = one(wrong("", "", |files| {
        let text = files.get_mut("cards/edge.toml").expect("there");
        *text = text.replacen("order", "tax = { first = \"net\" }\norder", 1);
    }));
    assert!(
        style.contains("tax.first: only where tax is in the amounts"),
        "{style}"
    );
}

#[test]
fn mistakes_in_profiles_are_told() {
    let expected = [
        ("tax = \"fr\"\n", "tax: tax `fr` is not declared"),
        ("tax = [\"de\", \"de\"]\n", "tax: tax `de` is named twice"),
        (
            "currency = \"GBP\"\n",
            "currency: card `edge` is in EUR, and there is no rate to GBP",
        ),
        (
            "threshold = { amount = \"0\" }\n",
            "threshold.amount: expected an amount above zero",
        ),
        (
            "payer = \"acme\"\n",
            "payer: a tenant pays for itself anyway",
        ),
        (
            "payer = \"nobody\"\n",
            "payer: tenant `nobody` has no profile of its own",
        ),
        (
            "[[grant]]\nid = \"g\"\namount = \"0\"\n",
            "grant[0].amount: expected an amount above zero",
        ),
        (
            "[[grant]]\nid = \"g\"\namount = \"10.005\"\n",
            "grant[0].amount: 10.005 EUR cannot be paid (expected at most 2 decimal places)",
        ),
        (
            "[[grant]]\nid = \"g\"\namount = \"1\"\nfrom = \"2026-02-01\"\nuntil = \"2026-02-01\"\n",
            "grant[0].until: it ends on 2026-02-01, which is not after",
        ),
        (
            "[[grant]]\nid = \"g\"\namount = \"1\"\ncounts = [\"nothing\"]\n",
            "grant[0].counts: price `nothing` is not declared in card `edge`",
        ),
    ];
    for (added, message) in expected {
        // Whoever shop's payer is does not matter here.
        let mistakes = wrong("", added, |files| {
            files.remove("profiles/shop.toml");
        });
        let found = one(mistakes);
        assert!(
            found.starts_with("profiles/acme.toml:") && found.contains(message),
            "{found}"
        );
    }
    // Two that pay for each other: a circle.
    let circle = wrong("", "payer = \"shop\"\n", |_| {});
    assert_eq!(circle.len(), 2, "{circle:?}");
    assert!(
        circle
            .iter()
            .all(|found| found.contains("has a payer itself")),
        "{circle:?}"
    );
}

#[test]
fn mistakes_in_tables_are_told() {
    let rates = |rates: &str| TAX.replace("[{ percent = \"19\", from = \"2021-01-01\" }]", rates);
    let expected = [
        (
            "tax/de.toml",
            rates("[{ percent = \"19\" }, { percent = \"16\", from = \"2026-01-01\" }]"),
            "tax[0].rates[1].from: two rates in force at once",
        ),
        (
            "tax/de.toml",
            rates(
                "[{ percent = \"19\", until = \"2026-01-01\" }, { percent = \"16\", from = \"2026-01-02\" }]",
            ),
            "tax[0].rates: no rate is in force on 2026-01-01",
        ),
        (
            "tax/de.toml",
            rates("[]"),
            "tax[0].rates: expected an array",
        ),
        (
            "tax/de.toml",
            rates("[{ percent = 19 }]"),
            "tax[0].rates[0].percent: found an integer",
        ),
        (
            "tax/de.toml",
            format!("{TAX}{TAX}"),
            "tax[1].code: tax `de` is declared twice",
        ),
        (
            "tax/de.toml",
            format!("{TAX}kind = \"exempt\"\n"),
            "tax[0].rates: a tax that is `exempt` has no rates",
        ),
        (
            "rates/ecb.toml",
            format!("{RATES}{RATES}"),
            "rate[1].date: rate EUR to USD of 2026-01-02",
        ),
        (
            "rates/ecb.toml",
            RATES.replace("\"1.1\"", "1.1"),
            "rate[0].rate: found a float",
        ),
        (
            "rates/ecb.toml",
            RATES.replace("\"1.1\"", "\"0\""),
            "rate[0].rate: expected a rate above",
        ),
        (
            "rates/ecb.toml",
            RATES.replace("USD", "EUR"),
            "rate[0].to: EUR is always one EUR",
        ),
        (
            "rates/ecb.toml",
            RATES.replace("01-02", "02-30"),
            "rate[0].date: not a date",
        ),
    ];
    for (file, text, message) in expected {
        let found = one(wrong("", "", |files| {
            files.insert(file.to_owned(), text.clone());
        }));
        assert!(
            found.starts_with(&format!("{file}:")) && found.contains(message),
            "{found}"
        );
    }
}

#[test]
fn pricing_units_are_declared_and_worth_money() {
    const UNITS: &str = "[[unit]]\nid = \"tokens\"\nplaces = 2\n";
    const WORTH: &str =
        "[[rate]]\nfrom = \"tokens\"\nto = \"EUR\"\ndate = \"2026-01-02\"\nrate = \"0.01\"\n";
    let read = |units: &str, rates: &str, profile: &str| {
        wrong("", profile, |files| {
            files.insert("units/u.toml".to_owned(), units.to_owned());
            files.insert("rates/worth.toml".to_owned(), rates.to_owned());
            files.remove("profiles/shop.toml");
            let card = files.get_mut("cards/edge.toml").expect("there");
            *card = card.replacen("\"EUR\"", "\"tokens\"", 1);
            // One that does not say everything.
            let template = "id = \"t\"\ncard = \"edge\"\n".to_owned();
            files.insert("templates/t.toml".to_owned(), template);
        })
    };
    let euros = "currency = \"EUR\"\n";
    assert_eq!(read(UNITS, WORTH, euros), Vec::<String>::new());
    for (units, rates, profile, expected) in [
        (
            UNITS,
            WORTH,
            "",
            "currency: missing: card `edge` is in `tokens`, which is no money",
        ),
        (
            UNITS,
            "",
            euros,
            "currency: card `edge` is in tokens, and there is no rate to EUR",
        ),
        (
            UNITS,
            WORTH,
            "currency = \"tokens\"\n",
            "currency: `tokens` is not an ISO 4217",
        ),
        (
            "[[unit]]\nid = \"EUR\"\n",
            "",
            euros,
            "unit[0].id: `EUR` is no name of a pricing unit",
        ),
        (
            "[[unit]]\nid = \"points\"\n",
            "",
            euros,
            "currency: pricing unit `tokens` is not declared",
        ),
        (
            "[[unit]]\nid = \"tokens\"\nplaces = 10\n",
            "",
            euros,
            "unit[0].places: expected an integer from 0 to 9",
        ),
    ] {
        let mistakes = read(units, rates, profile);
        let found = mistakes.iter().any(|mistake| mistake.contains(expected));
        assert!(found, "{expected}: {mistakes:?}");
    }
}
