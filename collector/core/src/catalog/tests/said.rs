//! Keys that cannot be said together, or not of this price: each is refused with its reason.

use super::*;

const EVENTS: &str = "[[meter]]\nname = \"calls\"\nunit = \"s\"\nscale = 0\naggregation = \"sum\"\nevent = \"call\"\n";

/// The only mistake of the sound catalog with these texts behind its files.
fn wrong(card: &str, profile: &str) -> String {
    let read = Catalog::parse(&files(
        &format!("{METERS}{EVENTS}"),
        &format!("{CARD}{card}"),
        &format!("{PROFILE}{profile}"),
    ));
    let errors = read.expect_err("a mistake");
    assert_eq!(errors.errors().len(), 1, "{errors}");
    errors.errors()[0].to_string()
}

/// What is added to the card's traffic and how the mistake ends.
const OF_A_PRICE: &[(&str, &str)] = &[
    (
        "rounding = { to = \"0.05\", places = 1 }",
        "to: its multiples have their decimal places (expected `to` or `places`)",
    ),
    (
        "rounding = { to = \"0\" }",
        "to: nothing is a multiple of it (expected more than zero)",
    ),
    (
        "rounding = { to = \"0.025\" }",
        "to: it is finer than what can be paid in the card's currency (expected fewer decimal places)",
    ),
    (
        "rounding = { to = \"0.05\", at = \"invoice\" }",
        "to: what is rounded is the sum of several lines (expected `total` in the card, or another `at`)",
    ),
];

#[test]
fn amounts_are_multiples_of_what_can_be_paid() {
    for (key, message) in OF_A_PRICE {
        let found = wrong(&format!("{key}\n"), "");
        assert!(found.ends_with(message), "{found}");
    }
}

/// The model and rows of a price, and how the mistake ends.
const OF_ROWS: &[(&str, &str)] = &[
    (
        "allowance = { quantity = \"1 GB\", above = \"all\" }\nrows = [{ unit = \"1\" }]",
        "allowance: rows share what is included (expected no `above = \"all\"`, or the `allowance` of a row)",
    ),
    (
        "allowance = \"1 GB\"\nrows = [{ unit = \"1\", allowance = \"1 GB\" }]",
        "allowance: rows share what is included (expected `allowance` in the price or in rows)",
    ),
    (
        "rows = [{ unit = \"1\", uses = \"2\" }]",
        "uses: rows share nothing that is included (expected `allowance` in the price)",
    ),
    (
        "allowance = \"1 GB\"\nrows = [{ unit = \"1\", uses = \"0\" }]",
        "uses: what uses up nothing is free without end (expected more than zero)",
    ),
    (
        "allowance = \"1 GB\"\nrows = [{ unit = \"1\", tier_pool = \"all\" }]",
        "rows: a pool is filled by all that is used (expected no `tier_pool` beside an `allowance`, but a first tier that costs nothing)",
    ),
    (
        "allowance = \"1 GB\"\neach = [\"host\"]\nrows = [{ unit = \"1\" }]",
        "each: rows share what is included by all that is used (expected no `each`, or the `allowance` of a row)",
    ),
    (
        "rows = [{ tier_pool = \"all\", tiers = [{ unit = \"1\", minimum = \"2\" }] }]",
        "tiers: rows that fill a tier together have no least amount of their own (expected no `minimum` in the tiers)",
    ),
];

#[test]
fn what_rows_include_is_theirs_or_shared() {
    for (rows, message) in OF_ROWS {
        let price = "[[price]]\nid = \"m\"\nmeter = \"calls\"\nmodel = \"matrix\"\nper = \"1 s\"\n";
        let rows = rows.replace(" GB", " h");
        let found = wrong(&format!("{price}{rows}\n"), "");
        assert!(found.ends_with(message), "{found}");
    }
}

#[test]
fn rows_rank_largest_values_in_the_same_slots() {
    let meter = "[[meter]]\nname = \"w\"\nunit = \"W\"\nscale = 0\naggregation = \"max\"\n";
    let row = |id: &str, slot: &str| {
        format!(
            "{{ id = \"{id}\", when = {{ site = \"{id}\" }}, model = \"percentile\", percentile = \"95\", \
             slot = \"{slot}\", directions = \"sum\", per = \"kW\", unit = \"1\" }}"
        )
    };
    let read = |other: &str| {
        let price = format!(
            "[[price]]\nid = \"w\"\nmeter = \"w\"\nmodel = \"matrix\"\nrows = [{}, {}]\n",
            row("a", "PT1H"),
            row("b", other)
        );
        let files = files(
            &format!("{METERS}{meter}"),
            &format!("{CARD}{price}"),
            PROFILE,
        );
        Catalog::parse(&files).map_err(|errors| errors.to_string())
    };
    assert!(read("PT1H").is_ok());
    let refused = read("PT15M").expect_err("other slots");
    assert!(
        refused.contains("by the same slots in all rows"),
        "{refused}"
    );
}

/// What a price of single events says, and how the mistake ends.
const OF_EVENTS: &[(&str, &str)] = &[
    (
        "tiers = [{ unit = \"1\" }]",
        "tier_by: missing (expected { event = \"volume\" }, or `increments` in place of `tiers`)",
    ),
    (
        "tier_by = { event = \"peak\" }\ntiers = [{ unit = \"1\" }]",
        "event: expected \"volume\" (the tier of the event prices it whole) or \"graduated\" (each tier prices what of the event lies in it)",
    ),
    (
        "tier_by = { event = \"volume\" }\nincrements = [{ unit = \"1\" }]\ntiers = [{ unit = \"1\" }]",
        "increments: tiers say what an event costs (expected `tiers` or `increments`)",
    ),
];

#[test]
fn events_select_tiers_by_their_size_or_have_increments() {
    for (keys, message) in OF_EVENTS {
        let price = "[[price]]\nid = \"e\"\nmeter = \"calls\"\nmodel = \"per_event\"\n";
        let found = wrong(&format!("{price}{keys}\n"), "");
        assert!(found.ends_with(message), "{found}");
    }
}

/// What a profile says, and how the mistake ends.
const OF_A_PROFILE: &[(&str, &str)] = &[
    (
        "[[contracted]]\nprice = \"traffic\"\nunit = \"1\"\nuntil = \"2026-07-01\"\n\
         [[contracted]]\nprice = \"traffic\"\nunit = \"2\"\nfrom = \"2026-06-30\"\n",
        "price: price `traffic` has a contracted rate already (expected one, or others at other times)",
    ),
    (
        "[[contracted]]\nprice = \"traffic\"\nunit = \"1\"\nfrom = \"2026-07-01\"\nuntil = \"2026-07-01\"\n",
        "until: it ends on 2026-07-01, which is not after 2026-07-01",
    ),
    (
        "[[contracted]]\nprice = \"traffic\"\nunit = \"1\"\nuntil = \"2025-07-01\"\n",
        "price: no version of the card has price `traffic` at that time",
    ),
    (
        "[[discount]]\nid = \"d\"\npercent = \"5\"\nperiods = 2\n",
        "periods: nothing says from when on they are counted (expected `from` in the discount or in the profile)",
    ),
    (
        "[[discount]]\nid = \"d\"\npercent = \"5\"\nfrom = \"2026-01-01\"\nperiods = 0\n",
        "periods: expected an integer from 1 to 1200: for how many billing periods it holds",
    ),
    (
        "[[discount]]\nid = \"d\"\npercent = \"5\"\nfrom = \"2026-01-01\"\nuntil = \"2026-05-01\"\nperiods = 1\n",
        "periods: it ends on a day already (expected `until` or `periods`)",
    ),
];

#[test]
fn what_is_agreed_for_a_time_has_one_beginning_and_one_end() {
    for (keys, message) in OF_A_PROFILE {
        let found = wrong("", keys);
        assert!(found.ends_with(message), "{found}");
    }
    let of_card = "[[discount]]\nid = \"d\"\npercent = \"5\"\nfrom = \"2026-01-01\"\nperiods = 2\n";
    let found = wrong(of_card, "");
    assert!(
        found.contains("a card does not know in which periods"),
        "{found}"
    );
}

#[test]
fn a_grant_is_in_the_currency_of_bills_or_of_the_card() {
    let grant = |currency: &str| {
        format!(
            "currency = \"USD\"\n[[grant]]\nid = \"g\"\namount = \"5\"\ncurrency = \"{currency}\"\n"
        )
    };
    let read = |currency: &str| {
        let profile = format!("{PROFILE}{}", grant(currency));
        let mut files = files(METERS, CARD, &profile);
        let rates =
            "[[rate]]\nfrom = \"EUR\"\nto = \"USD\"\ndate = \"2026-01-02\"\nrate = \"1.1\"\n";
        files.insert("rates/ecb.toml".to_owned(), rates.to_owned());
        Catalog::parse(&files).map_err(|errors| errors.to_string())
    };
    let unit = |currency: &str| {
        let catalog = read(currency).expect("sound");
        let profile = catalog.profile(&tenant("acme")).expect("has one");
        let unit = profile.agreement.grants[0].unit;
        unit.map(|unit| unit.to_string())
    };
    assert_eq!(unit("USD"), None);
    assert_eq!(unit("EUR"), Some("EUR".to_owned()));
    let refused = read("JPY").expect_err("no line is in yen");
    let message =
        "no line is in that (expected the currency of the card, or that of bills: `EUR` or `USD`)";
    assert!(refused.contains(message), "{refused}");
}

/// The days from which a discount of the profile holds, and before which.
fn coupon(
    period: &str,
    agreed: &str,
    from: &str,
    periods: u32,
) -> (Option<String>, Option<String>) {
    let profile = format!(
        "tenant = \"acme\"\ncard = \"edge\"\nzone = \"Europe/Berlin\"\nperiod = {period}\n{agreed}\n\
         [[discount]]\nid = \"d\"\nscope = \"invoice\"\npercent = \"5\"\n{from}\nperiods = {periods}\n"
    );
    let catalog = Catalog::parse(&files(METERS, CARD, &profile));
    let catalog = catalog.unwrap_or_else(|errors| panic!("{errors}"));
    let profile = catalog.profile(&tenant("acme")).expect("has one");
    let discount = &profile.agreement.around.discounts[0].discount;
    let day = |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string());
    (day(discount.from), day(discount.until))
}

#[test]
fn a_discount_holds_for_so_many_periods() {
    let monthly = "{ every = \"P1M\", anchor = \"2026-01-31\" }";
    let agreed = "from = \"2026-02-10\"";
    let until = |period, agreed, from, periods| coupon(period, agreed, from, periods).1;
    // From the period in which the agreement begins.
    let end = Some("2026-02-28".to_owned());
    assert_eq!(until(monthly, agreed, "", 1), end);
    assert_eq!(until(monthly, agreed, "from = \"2026-02-10\"", 1), end);
    // It holds for all of that, which begins before the agreement does.
    let begins = |from| coupon(monthly, agreed, from, 1).0;
    assert_eq!(begins("from = \"2026-02-10\""), None);
    let later = Some("2026-02-11".to_owned());
    assert_eq!(begins("from = \"2026-02-11\""), later);
    // What comes before the agreement does not count.
    assert_eq!(until(monthly, agreed, "from = \"2025-01-01\"", 1), end);
    // From the first period that begins on the day or after it.
    let next = Some("2026-03-31".to_owned());
    assert_eq!(until(monthly, agreed, "from = \"2026-02-11\"", 1), next);
    assert_eq!(until(monthly, agreed, "from = \"2026-02-28\"", 1), next);
    assert_eq!(until(monthly, "", "from = \"2026-02-28\"", 1), next);
    let year = Some("2027-02-28".to_owned());
    assert_eq!(until(monthly, agreed, "from = \"2026-02-28\"", 12), year);
    let weekly = "{ every = \"P7D\", anchor = \"2026-01-05\" }";
    let end = Some("2026-01-26".to_owned());
    assert_eq!(until(weekly, "", "from = \"2026-01-05\"", 3), end);
}

/// The order of the card, what is added to card and profile, and what is wrong with that.
const OF_TERMS: &[(&str, &str, &str, &str)] = &[
    (
        "commitments-first/1",
        "[[commitment]]\nid = \"year\"\namount = \"5\"\nterm = \"P1Y\"\npay = \"advance\"\n",
        "",
        "pay: by `commitments-first/1` discounts come behind commitments",
    ),
    (
        "commitments-first/1",
        "",
        "[[commitment]]\nid = \"year\"\namount = \"5\"\nterm = \"P1Y\"\npay = \"parts\"\n",
        "pay: by `commitments-first/1` discounts come behind commitments",
    ),
    (
        "standard/1",
        "interval = \"P1M\"\n",
        "",
        "period: tiers of price `traffic` go on for a term that is not longer than the period",
    ),
];

#[test]
fn what_comes_first_and_what_lasts_longer_fits_together() {
    for (order, card, profile, message) in OF_TERMS {
        let read = Catalog::parse(&files(
            METERS,
            &format!("{}{card}", CARD.replace("standard/1", order)),
            &format!("{PROFILE}{profile}"),
        ));
        let errors = read.expect_err("a mistake").to_string();
        assert!(errors.contains(message), "{errors}");
    }
    let read = Catalog::parse(&files(
        METERS,
        &format!("{CARD}interval = \"P1Y\"\n"),
        PROFILE,
    ));
    read.unwrap_or_else(|errors| panic!("{errors}"));
}
