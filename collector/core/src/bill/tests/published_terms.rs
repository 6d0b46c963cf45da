//! Figures of vendors and of the test suites of open-source billing systems for taxes, coupons,
//! percentages, levels and included quantities. Each test names where the figures are from.

use super::published::Case;

const UNITS: &str =
    "[[meter]]\nname = \"u\"\nunit = \"{unit}\"\nscale = 0\naggregation = \"sum\"\n";
const MONEY: &str = "[[meter]]\nname = \"m\"\nunit = \"EUR\"\nscale = 2\naggregation = \"sum\"\nevent = \"payment\"\n";
const LEVEL: &str =
    "[[meter]]\nname = \"l\"\nunit = \"{unit}\"\nscale = 0\naggregation = \"time_weighted\"\n";

/// A meter of a sum.
fn meter(name: &str, unit: &str) -> String {
    format!("[[meter]]\nname = \"{name}\"\nunit = \"{unit}\"\nscale = 0\naggregation = \"sum\"\n")
}

/// A price of each unit of a meter of the same name.
fn per_unit(name: &str, unit: &str, rest: &str) -> String {
    format!(
        "[[price]]\nid = \"{name}\"\nmeter = \"{name}\"\nmodel = \"per_unit\"\nper = \"1 {{unit}}\"\n\
         unit = \"{unit}\"\n{rest}\n"
    )
}

fn tax(code: &str, percent: &str) -> String {
    format!(
        "[[tax]]\ncode = \"{code}\"\njurisdiction = \"X\"\nrates = [{{ percent = \"{percent}\" }}]\n"
    )
}

/// Checks what a price of one meter comes to: usage, and the sum of the lines.
fn table(meter: &str, price: &str, figures: &[(&str, &str)]) {
    for (usage, net) in figures {
        let test = format!("{usage}\nnet = \"{net}\"\n");
        let case = Case {
            meters: &[meter],
            card: price,
            profile: "",
            files: &[],
            test: &test,
        };
        case.run()
            .unwrap_or_else(|errors| panic!("{price}\n{errors}"));
    }
}

/// Lago, spec/scenarios/coupons_breakdown_spec.rb: three coupons of 20, 10 and 5 on some of eight
/// charges, whose taxes of 10 and 20 % come to 18.89 together, and to 18.90 if each is rounded.
#[test]
fn lago_taxes_of_several_rates_rounded_once() {
    let mut meters = String::new();
    let mut card = "tax = { per = \"total\" }\n".to_owned();
    for (name, code) in ["a", "b", "c", "d", "e", "f", "g", "h"]
        .into_iter()
        .zip(["r1", "r2", "r1", "r1", "r1", "r2", "r1", "r1"])
    {
        meters.push_str(&meter(name, "{unit}"));
        card.push_str(&per_unit(name, "1", &format!("tax = \"{code}\"")));
    }
    let profile = "[[discount]]\nid = \"c1\"\nscope = \"group\"\napplies = [\"a\", \"b\"]\namount = \"20\"\n\
        [[discount]]\nid = \"c2\"\nscope = \"group\"\napplies = [\"e\", \"f\", \"g\", \"h\"]\namount = \"10\"\n\
        [[discount]]\nid = \"c3\"\nscope = \"invoice\"\namount = \"5\"\n";
    let usage = "usage = { a = \"10\", b = \"20\", c = \"30\", d = \"40\", e = \"10\", f = \"20\", g = \"30\", \
        h = \"40\" }\n";
    let of = |card: &str, tax_sum: &str, total: &str| {
        let rates = tax("r1", "10") + &tax("r2", "20");
        Case {
            meters: &[&meters],
            card,
            profile,
            files: &[("tax/t.toml", &rates)],
            test: &format!("{usage}net = \"165.00\"\ntax = \"{tax_sum}\"\ntotal = \"{total}\"\n"),
        }
        .passes();
    };
    of(&card, "18.89", "183.89");
    let each = card.replace("\"total\"", "\"invoice\"");
    of(&each, "18.90", "183.90");
}

/// Lago, spec/scenarios/golden/matrix/b10_discounts_taxes.yml (`fixed_amount/once/charge` and
/// `fixed_amount/once/billing-entity`): a coupon of 16.00 over charges of two rates, and one of 40.00 for
/// one period only.
#[test]
fn lago_coupons_before_taxes_of_each_charge() {
    let rates = tax("plan", "15") + &tax("charge", "25") + &tax("entity", "20");
    let fee =
        |amount: &str| format!("[[price]]\nid = \"sub\"\nmodel = \"flat\"\nflat = \"{amount}\"\n");
    let two = meter("t", "{unit}") + UNITS;
    Case {
        meters: &[&two],
        card: &(per_unit("t", "1", "tax = \"charge\"") + &per_unit("u", "1", "") + &fee("10.00")),
        profile: "tax = \"plan\"\n[[discount]]\nid = \"c\"\nscope = \"invoice\"\namount = \"16.00\"\n",
        files: &[("tax/t.toml", &rates)],
        test: "usage = { t = \"100\", u = \"50\" }\n\
               lines = { t = \"90.00\", u = \"45.00\", sub = \"9.00\" }\n\
               tax = \"30.60\"\ntotal = \"174.60\"\n",
    }
    .passes();
    let next = "profile = \"a\"\nperiod = \"2026-07\"\nusage.u = \"80\"\nnet = \"100.00\"\n\
        tax = \"24.00\"\ntotal = \"124.00\"\n";
    Case {
        meters: &[UNITS],
        card: &(per_unit("u", "1", "tax = \"charge\"") + &fee("20.00")),
        profile: "from = \"2026-06-01\"\ntax = \"entity\"\n\
                  [[discount]]\nid = \"c\"\nscope = \"invoice\"\namount = \"40.00\"\nperiods = 1\n",
        files: &[("tax/t.toml", &rates), ("july.test.toml", next)],
        test: "usage.u = \"80\"\nnet = \"60.00\"\ntax = \"14.40\"\ntotal = \"74.40\"\n",
    }
    .passes();
}

/// Lago, spec/services/charge_models/percentage_service_spec.rb: four transactions of 50, 100, 250
/// and 400 with free ones, and three of 10, 80 and 10,000 with 1.75 at least and 12 at most.
#[test]
fn lago_percentage_of_transactions() {
    let four = "usage.m = [{ payment = \"a\", quantity = \"50\" }, { payment = \"b\", quantity = \"100\" }, \
        { payment = \"c\", quantity = \"250\" }, { payment = \"d\", quantity = \"400\" }]";
    let three = "usage.m = [{ payment = \"a\", quantity = \"10\" }, { payment = \"b\", quantity = \"80\" }, \
        { payment = \"c\", quantity = \"10000\" }]";
    let limits = "percent = \"2.99\"\nevent_minimum = \"1.75\"\nevent_maximum = \"12\"\n";
    let rate = "percent = \"1.3\"\nfixed = \"2\"\n";
    let figures: &[(&str, &str, &str, &str)] = &[
        (
            four,
            rate,
            "free_events = 3\nfree_quantity = \"500\"",
            "7.20",
        ),
        (four, rate, "free_events = 5", "0.00"),
        (four, "percent = \"0\"\nfixed = \"2\"\n", "", "8.00"),
        // 16.142, 18.691, 13.794 and 2.691.
        (three, limits, "", "16.14"),
        (three, limits, "fixed = \"2\"", "18.69"),
        (three, limits, "free_events = 2", "12.00"),
        (three, limits, "free_quantity = \"30\"", "13.79"),
        (
            three,
            limits,
            "free_events = 3\nfree_quantity = \"10000\"",
            "2.69",
        ),
    ];
    for (usage, rate, free, net) in figures {
        let price =
            format!("[[price]]\nid = \"m\"\nmeter = \"m\"\nmodel = \"percentage\"\n{rate}{free}\n");
        table(MONEY, &price, &[(usage, net)]);
    }
}

/// Lago, spec/services/charge_models/graduated_percentage_service_spec.rb: flat amounts of 200, 300
/// and 400 beside 1, 2 and 3 %.
#[test]
fn lago_graduated_percentage() {
    let price = "[[price]]\nid = \"m\"\nmeter = \"m\"\nmodel = \"percentage\"\n\
        tiers = [{ to = \"10\", percent = \"1\", flat = \"200\" }, { to = \"20\", percent = \"2\", flat = \"300\" }, \
        { percent = \"3\", flat = \"400\" }]\n";
    let figures = [
        ("usage.m = \"0\"", "0.00"),
        ("usage.m = \"1\"", "200.01"),
        ("usage.m = \"10\"", "200.10"),
        ("usage.m = \"11\"", "500.12"),
        ("usage.m = \"12\"", "500.14"),
        ("usage.m = \"21\"", "900.33"),
    ];
    table(MONEY, price, &figures);
}

/// Lago, spec/scenarios/golden/matrix/b16_proration.yml, in a month of 30 days: 30 from the 11th and 60
/// more from the 21st, which are 20 and 20 on average; graduated at 31, and by volume at the peak.
#[test]
fn lago_prorated_levels() {
    let usage = "usage.l = [{ delta = \"30\", time = \"2026-06-11T00:00:00Z\" }, \
        { delta = \"60\", time = \"2026-06-21T00:00:00Z\" }]";
    let price = |model: &str, keys: &str| {
        format!(
            "[[price]]\nid = \"l\"\nmeter = \"l\"\nmodel = \"{model}\"\nover = \"period\"\n\
             per = \"1 {{unit}}\"\n{keys}\n"
        )
    };
    table(
        LEVEL,
        &price("per_unit", "unit = \"1\""),
        &[(usage, "40.00")],
    );
    let tiers = "interval = \"PT1H\"\ntiers = [{ to = \"30\", unit = \"1\" }, { unit = \"2\" }]";
    table(LEVEL, &price("graduated", tiers), &[(usage, "60.00")]);
    let peak = "interval = \"PT1H\"\ntier_by = { level = \"peak\" }\n\
        tiers = [{ to = \"50\", unit = \"1\" }, { unit = \"2\" }]";
    table(LEVEL, &price("volume", peak), &[(usage, "80.00")]);
}

/// GitHub Actions (docs.github.com, "About billing for GitHub Actions"): 2,000 minutes included, of which
/// one on Windows uses up two and one on macOS ten; 0.008, 0.016 and 0.08 USD beyond them.
#[test]
fn github_minutes_with_multipliers() {
    let minutes = "[[meter]]\nname = \"w\"\nunit = \"s\"\nscale = 0\naggregation = \"sum\"\n";
    let price = "currency = \"USD\"\n[[price]]\nid = \"w\"\nmeter = \"w\"\nmodel = \"matrix\"\nper = \"1 min\"\n\
        allowance = \"2000 min\"\nrows = [\n\
        { id = \"linux\", when = { os = \"linux\" }, unit = \"0.008\" },\n\
        { id = \"windows\", when = { os = \"windows\" }, unit = \"0.016\", uses = \"2\" },\n\
        { id = \"macos\", when = { os = \"macos\" }, unit = \"0.08\", uses = \"10\" },\n]\n";
    let figures = [
        (
            "usage.w = [{ os = \"linux\", quantity = \"2000 min\" }]",
            "0.00",
        ),
        // 1,000 are left of the included ones, which are 500 of Windows.
        (
            "usage.w = [{ os = \"windows\", quantity = \"1000 min\" }, { os = \"linux\", quantity = \"1000 min\" }]",
            "8.00",
        ),
        (
            "usage.w = [{ os = \"macos\", quantity = \"300 min\" }]",
            "8.00",
        ),
    ];
    table(minutes, price, &figures);
}

/// Amazon, "AWS Lambda pricing", example 1 (aws.amazon.com/lambda/pricing): 18.34 for 1.5 million GB-s
/// less 400,000, and 0.40 for 3 million requests less one.
#[test]
fn amazon_lambda_with_a_free_tier() {
    let meters = meter("g", "GB.s") + UNITS;
    let card = "currency = \"USD\"\n[[price]]\nid = \"g\"\nmeter = \"g\"\nmodel = \"per_unit\"\n\
        allowance = \"400000 GB.s\"\nper = \"1 GB.s\"\nunit = \"0.00001667\"\n\
        [[price]]\nid = \"u\"\nmeter = \"u\"\nmodel = \"per_unit\"\nallowance = \"1000000\"\n\
        per = \"1000000 {unit}\"\nunit = \"0.20\"\n";
    Case {
        meters: &[&meters],
        card,
        profile: "",
        files: &[],
        test: "usage = { g = \"1500000\", u = \"3000000\" }\n\
               lines = { g = \"18.34\", u = \"0.40\" }\nnet = \"18.74\"\n",
    }
    .passes();
}

/// Sage Intacct, "Usage-based item pricing examples", step tiers at 10.00, 9.50 and 9.00; OpenMeter,
/// openmeter/billing/service/lineservice/pricedynamic_test.go, an amount of each event times 1.33333;
/// Kinsta, database hosting, 0.00000000014 USD for each byte that leaves.
#[test]
fn steps_factors_and_prices_of_a_byte() {
    let steps = "[[price]]\nid = \"u\"\nmeter = \"u\"\nmodel = \"graduated\"\nper = \"1 {unit}\"\n\
        tiers = [{ to = \"3\", unit = \"10\" }, { to = \"7\", unit = \"9.5\" }, { unit = \"9\" }]\n";
    let figures = [
        ("usage.u = \"3\"", "30.00"),
        ("usage.u = \"7\"", "68.00"),
        ("usage.u = \"11\"", "104.00"),
    ];
    table(UNITS, steps, &figures);
    let factor = "[[price]]\nid = \"m\"\nmeter = \"m\"\nmodel = \"percentage\"\npercent = \"133.333\"\n\
        maximum = \"100\"\n";
    let figures = [
        ("usage.m = \"10\"", "13.33"),
        ("usage.m = \"120\"", "100.00"),
    ];
    table(MONEY, factor, &figures);
    let byte = "currency = \"USD\"\n[[price]]\nid = \"b\"\nmeter = \"b\"\nmodel = \"per_unit\"\nper = \"1 By\"\n\
        unit = \"0.00000000014\"\n";
    let figures = [
        ("usage.b = \"1 GB\"", "0.14"),
        ("usage.b = \"1234567890\"", "0.17"),
    ];
    table(&meter("b", "By"), byte, &figures);
}

/// A brokerage of 1.1 % up to 50,000, 0.9 % up to 100,000 and 0.7 % above in each trade, and lines in
/// steps of five rappen, as price lists of Swiss banks have them: 550 and 270, and 13.58.
#[test]
fn brokerage_by_the_size_of_each_trade() {
    let trades = MONEY.replace("EUR", "CHF");
    let price = |by: &str| {
        format!(
            "currency = \"CHF\"\n[[price]]\nid = \"m\"\nmeter = \"m\"\nmodel = \"percentage\"\n\
             tier_by = {{ event = \"{by}\" }}\nrounding = {{ to = \"0.05\" }}\n\
             tiers = [{{ to = \"50000\", percent = \"1.1\" }}, {{ to = \"100000\", percent = \"0.9\" }}, \
             {{ percent = \"0.7\" }}]\n"
        )
    };
    let usage = "usage.m = [{ payment = \"a\", quantity = \"80000\" }, { payment = \"b\", quantity = \"1234.56\" }]";
    table(&trades, &price("graduated"), &[(usage, "833.60")]);
    // 720 and 13.58.
    table(&trades, &price("volume"), &[(usage, "733.60")]);
}

/// Credits bought at 3.00 each pay for what costs credits, tax included, and money pays before them.
#[test]
fn credits_pay_in_credits() {
    let meters = meter("c", "h") + &meter("d", "h");
    let card = "currency = \"credits\"\n[[price]]\nid = \"c\"\nmeter = \"c\"\nmodel = \"per_unit\"\nper = \"1 h\"\n\
        unit = \"2.5\"\n[[price]]\nid = \"d\"\nmeter = \"d\"\nmodel = \"per_unit\"\nper = \"1 h\"\nunit = \"1\"\n";
    let rates = tax("v", "19");
    let of = |profile: &str, test: &str| {
        let profile = format!(
            "currency = \"USD\"\n{profile}[[grant]]\nid = \"pack\"\namount = \"1000\"\ncurrency = \"credits\"\n\
             kind = \"paid\"\n"
        );
        Case {
            meters: &[&meters],
            card,
            profile: &profile,
            files: &[
                ("units/u.toml", "[[unit]]\nid = \"credits\"\nplaces = 2\n"),
                (
                    "rates/r.toml",
                    "[[rate]]\nfrom = \"credits\"\nto = \"USD\"\ndate = \"2026-01-01\"\nrate = \"3\"\n",
                ),
                ("tax/t.toml", &rates),
            ],
            test,
        }
        .passes();
    };
    // 1,250 credits, of which 1,000 are there.
    of(
        "",
        "usage.c = \"500\"\nlines = { c = \"3750.00\" }\ngrant.pack.paid = \"3000.00\"\ndue = \"750.00\"\n",
    );
    let taxed =
        "usage.c = \"500\"\ntax = \"712.50\"\ngrant.pack.paid = \"3570.00\"\ndue = \"892.50\"\n";
    of("tax = \"v\"\n", taxed);
    // Of 16.50 money pays 2.00, which stands for 0.67 credits; 1.83 and 3.00 pay the rest.
    let first = "[[grant]]\nid = \"gift\"\namount = \"2.00\"\nuntil = \"2027-01-01\"\n";
    for (before, paid, due) in [("995.17", "14.50", "0.00"), ("995.18", "14.47", "0.03")] {
        let mixed = format!(
            "usage = {{ c = \"1\", d = \"3\" }}\nbefore.grant.pack = \"{before}\"\n\
             grant.gift.paid = \"2.00\"\ngrant.pack.paid = \"{paid}\"\ndue = \"{due}\"\n"
        );
        of(first, &mixed);
    }
}
