//! Figures of vendors and of the test suites of open-source billing systems for coupons behind
//! commitments, tiers of a year, and tiers that select or hold blocks. Each test names where they are from.

use super::published::Case;

const UNITS: &str =
    "[[meter]]\nname = \"u\"\nunit = \"{unit}\"\nscale = 0\naggregation = \"sum\"\n";
const BYTES: &str = "[[meter]]\nname = \"d\"\nunit = \"By\"\nscale = 0\naggregation = \"sum\"\n";
const MONEY: &str = "[[meter]]\nname = \"m\"\nunit = \"EUR\"\nscale = 2\naggregation = \"sum\"\n";

/// Checks what one price comes to: what the test says, and the sum of the lines.
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

fn price(id: &str, rest: &str) -> String {
    format!("[[price]]\nid = \"{id}\"\nmeter = \"{id}\"\n{rest}\n")
}

/// Lago, spec/scenarios/golden/matrix/b12_commitments.yml (`in-arrears/calendar/monthly`): 20.00 and 30.00
/// are topped up to 100.00, and a coupon takes 20.00 of all; each fee is taxed on the rest.
#[test]
fn lago_coupon_behind_a_minimum_commitment() {
    let lines = |bound: &str, key: &str| {
        let card = "[[price]]\nid = \"sub\"\nmodel = \"flat\"\nflat = \"20\"\n".to_owned()
            + &price(
                "u",
                "model = \"per_unit\"\nper = \"1 {unit}\"\nunit = \"1\"",
            )
            + bound;
        let of = |card: &str, name: &str, test: &str| {
            let files = [
                (
                    "tax/t.toml",
                    "[[tax]]\ncode = \"t\"\njurisdiction = \"X\"\nrates = [{ percent = \"20\" }]\n",
                ),
                (name, card),
            ];
            Case {
                meters: &[UNITS],
                card: "",
                profile: "tax = \"t\"\n[[discount]]\nid = \"c\"\nscope = \"invoice\"\namount = \"20\"\n",
                files: &files,
                test: &format!("usage.u = \"30\"\n{test}"),
            }
            .passes();
        };
        let head = "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"2000-01-01\"\norder = ";
        of(
            &format!("{head}\"commitments-first/1\"\n{card}"),
            "cards/c.toml",
            &format!(
                "lines = {{ sub = \"16.00\", u = \"24.00\", \"{key}\" = \"40.00\" }}\n\
                 tax = \"16.00\"\ntotal = \"96.00\"\n"
            ),
        );
        // Otherwise the coupon is used up in what is missing.
        of(
            &format!("{head}\"standard/1\"\n{card}"),
            "cards/c.toml",
            &format!(
                "lines = {{ sub = \"12.00\", u = \"18.00\", \"{key}\" = \"70.00\" }}\n\
                 tax = \"20.00\"\ntotal = \"120.00\"\n"
            ),
        );
    };
    let bound = "[[commitment]]\nid = \"m\"\namount = \"100\"\nterm = \"P1M\"\n";
    lines(bound, "true_up m");
    lines("[[minimum]]\nid = \"m\"\namount = \"100\"\n", "minimum m");
}

/// Zuora community, a monthly bill by thresholds of a year (3.5 % up to 500, 3 % up to 1,000, 2.5 % up to
/// 3,000): 14.00, 3.50 and 17.50; and 2,400 GB that are free in a year, 10.00 for each beyond them.
#[test]
fn zuora_months_by_thresholds_of_a_year() {
    let yearly = price(
        "m",
        "model = \"percentage\"\ninterval = \"P1Y\"\n\
         tiers = [{ to = \"500\", percent = \"3.5\" }, { to = \"1000\", percent = \"3\" }, \
         { to = \"3000\", percent = \"2.5\" }, { percent = \"2\" }]",
    );
    let figures = [
        ("usage.m = \"400\"", "14.00"),
        ("before.reached.m = \"400\"\nusage.m = \"100\"", "3.50"),
        ("before.reached.m = \"500\"\nusage.m = \"600\"", "17.50"),
    ];
    table(MONEY, &yearly, &figures);
    let free = price(
        "d",
        "model = \"per_unit\"\nper = \"1 GB\"\nunit = \"10\"\nallowance = \"2400 GB\"\n\
         interval = \"P1Y\"",
    );
    let figures = [
        ("usage.d = \"200 GB\"", "0.00"),
        (
            "before.reached.d = \"2300 GB\"\nusage.d = \"200 GB\"",
            "1000.00",
        ),
        (
            "before.reached.d = \"2500 GB\"\nusage.d = \"3 GB\"",
            "30.00",
        ),
    ];
    table(BYTES, &free, &figures);
}

/// Kill Bill, TestContiguousIntervalConsumableInArrear: blocks in all tiers, and in the top tier only.
#[test]
fn kill_bill_blocks_in_all_tiers_and_in_the_top_tier() {
    let tiered = |model: &str, tiers: &str| {
        price(
            "u",
            &format!(
                "model = \"{model}\"\nper = \"1000 {{unit}}\"\nblocks = \"started\"\ntiers = [{tiers}]"
            ),
        )
    };
    let single = "{ holds = \"10 blocks\", per = \"1 {unit}\", unit = \"1.5\" }, \
        { holds = \"100 blocks\", per = \"1 {unit}\", unit = \"1.0\" }, { per = \"1 {unit}\", unit = \"0.5\" }";
    table(
        UNITS,
        &tiered("graduated", single),
        &[("usage.u = \"111\"", "115.50")],
    );
    table(
        UNITS,
        &tiered("volume", single),
        &[("usage.u = \"111\"", "55.50")],
    );
    let blocks = "{ holds = \"10 blocks\", per = \"100 {unit}\", unit = \"1\" }, \
        { holds = \"100 blocks\", unit = \"1\" }, { unit = \"0.5\" }";
    table(
        UNITS,
        &tiered("graduated", blocks),
        &[("usage.u = \"5325\"", "15.00")],
    );
    let figures = [
        ("usage.u = \"1000\"", "10.00"),
        ("usage.u = \"101000\"", "101.00"),
        ("usage.u = \"101001\"", "51.00"),
        ("usage.u = \"300000\"", "150.00"),
    ];
    table(UNITS, &tiered("volume", blocks), &figures);
}

/// Solvimon, "Top-tiered pricing": 500 GB at 0.08, and 8 % of all of 200.00. Orb, "Price configuration":
/// 101 at 0.40. Nadles, "Create a price": a tier with a fee of 5 and one without.
#[test]
fn the_top_tier_prices_all() {
    let volume = |id: &str, per: &str, tiers: &str| {
        let keys = format!("model = \"volume\"\nper = \"{per}\"\ntiers = [{tiers}]");
        price(id, &keys)
    };
    let gigabytes = "{ to = \"100 GB\", unit = \"0.10\" }, { to = \"1000 GB\", unit = \"0.08\" }, { unit = \"0.05\" }";
    table(
        BYTES,
        &volume("d", "1 GB", gigabytes),
        &[("usage.d = \"500 GB\"", "40.00")],
    );
    let percent =
        "{ to = \"100\", unit = \"10\" }, { to = \"1000\", unit = \"8\" }, { unit = \"5\" }";
    table(
        MONEY,
        &volume("m", "100 EUR", percent),
        &[("usage.m = \"200\"", "16.00")],
    );
    let bulk = "{ to = \"10\", unit = \"0.50\" }, { unit = \"0.40\" }";
    let figures = [("usage.u = \"10\"", "5.00"), ("usage.u = \"101\"", "40.40")];
    table(UNITS, &volume("u", "1 {unit}", bulk), &figures);
    let fee = "{ to = \"100\", unit = \"0.5\", flat = \"5\" }, { unit = \"0.3\" }";
    let figures = [
        ("usage.u = \"50\"", "30.00"),
        ("usage.u = \"140\"", "42.00"),
    ];
    table(UNITS, &volume("u", "1 {unit}", fee), &figures);
}

/// Amazon, S3 FAQ: 100 GB for 15 days of March and 100 TB for 16 are 52,900 GB-months, 1,215.00 in the tiers
/// of S3 Standard. Lunarpages, "95th Percentile Billing": of 100 readings the sixth highest.
#[test]
fn a_level_of_march_and_the_sixth_of_a_hundred_readings() {
    let level = BYTES.replace("\"sum\"", "\"time_weighted\"");
    let tiers = price(
        "d",
        "model = \"graduated\"\nover = \"period\"\nper = \"1 GiB\"\n\
         tiers = [{ to = \"50 TiB\", unit = \"0.023\" }, { unit = \"0.022\" }]",
    );
    let march = "profile = \"a\"\nperiod = \"2026-03\"\nusage.d = [\
        { level = \"107374182400\", time = \"2026-03-01T00:00:00Z\" }, \
        { level = \"109951162777600\", time = \"2026-03-16T00:00:00Z\" }]\nnet = \"1215.00\"\n";
    Case {
        meters: &[&level],
        card: &tiers,
        profile: "",
        files: &[("march.test.toml", march)],
        test: "net = \"0.00\"\n",
    }
    .passes();
    let bits = BYTES.replace("By", "bit");
    let rank = price(
        "d",
        "model = \"percentile\"\npercentile = \"95\"\ndirections = \"greater\"\nper = \"kbit/s\"\nunit = \"1\"",
    );
    let high: String = [2080, 1670, 1310, 890, 870, 860]
        .map(|rate| format!("{{ direction = \"out\", rate = \"{rate} kbit/s\", slots = 1 }}, "))
        .concat();
    Case {
        meters: &[&bits],
        card: &rank,
        profile: "period = { every = \"PT500M\", anchor = \"2026-06-01\" }\n",
        files: &[],
        test: &format!(
            "usage.d = [{high}{{ direction = \"out\", rate = \"100 kbit/s\", slots = \"rest\" }}]\n\
             net = \"860.00\"\n"
        ),
    }
    .passes();
}
