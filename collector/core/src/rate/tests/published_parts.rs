//! Worked examples that vendors publish for prices that need more than one sum.

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price, used};

fn rig(meters: &str, calendars: &[&str], keys: &str, zone: &str, month: &str) -> Rig {
    let prices = price(keys);
    let version = Version {
        from: "2020-01-01",
        card: "c",
        prices: &prices,
    };
    Rig::new(meters, calendars, &[version], zone, month)
}

/// Amazon S3, "How am I charged for Amazon S3?" (aws.amazon.com/s3/faqs): 100 GB for the first 15
/// days of March and 100 TB for the last 16 are 42,259,901,212,262,400 byte-hours, divided by the
/// 744 hours of the month 52,900 GB-months, which cost 1,177.60 + 37.40 = 1,215.00 USD.
#[test]
fn amazon_s3_storage() {
    let rig = rig(
        &meter("By", 0, "time_weighted"),
        &[],
        "model = \"graduated\"\nover = \"period\"\nper = \"1 GiB\"\n\
         tiers = [{ to = \"50 TiB\", unit = \"0.023\" }, { to = \"500 TiB\", unit = \"0.022\" }, { unit = \"0.021\" }]",
        "UTC",
        "2026-03",
    );
    // In bytes times milliseconds.
    let usage = [
        used("2026-03-01T00:00:00Z", 107_374_182_400 * 15 * 86_400_000),
        used(
            "2026-03-16T00:00:00Z",
            109_951_162_777_600 * 16 * 86_400_000,
        ),
    ];
    assert_eq!(rig.amounts(&usage), ["1215.00"]);
    let text = rig.texts(&usage).join("");
    assert!(text.contains("over 744 h"), "{text}");
    assert!(text.ends_with("= 1177.6 + 37.4 = 1215.00 EUR"), "{text}");
}

/// Amazon EC2, "Data transfer" of the on-demand pricing page (aws.amazon.com/ec2/pricing/on-demand):
/// to the internet 0.09 USD for each GB of the first 10 TB, then 0.085, 0.07 and 0.05; between
/// regions 0.02, and in from the internet nothing. Sums worked by hand.
#[test]
fn amazon_data_transfer_by_destination() {
    let rig = rig(
        &meter("By", 0, "sum"),
        &[],
        "model = \"matrix\"\nper = \"1 GiB\"\nrows = [\n\
         { when = { to = \"internet\" }, tiers = [{ to = \"10 TiB\", unit = \"0.09\" }, { to = \"50 TiB\", unit = \"0.085\" }, { to = \"150 TiB\", unit = \"0.07\" }, { unit = \"0.05\" }] },\n\
         { when = { to = \"region:*\" }, unit = \"0.02\" },\n\
         { when = { from = \"internet\" }, unit = \"0\" },\n]",
        "UTC",
        "2026-06",
    );
    let moved = |pairs: &str, gib: i128| Used {
        dimensions: dimensions(pairs),
        ..used("2026-06-10T00:00:00Z", gib << 30)
    };
    // 10,240 x 0.09 + 5,120 x 0.085 = 921.60 + 435.20.
    assert_eq!(rig.amounts(&[moved("to=internet", 15 * 1024)]), ["1356.80"]);
    assert_eq!(
        rig.amounts(&[
            moved("to=internet", 15 * 1024),
            moved("to=region:eu-west-1", 500),
            moved("from=internet", 90_000),
        ]),
        ["1366.80"]
    );
}

/// The usual description of burstable billing (en.wikipedia.org/wiki/Burstable_billing, and the
/// pages of transit providers): samples of five minutes, 8,640 in 30 days; the top 5 %, 432 samples
/// or 36 hours, are discarded, and the next highest one is billed.
#[test]
fn burstable_billing_discards_36_hours() {
    let rig = rig(
        &meter("By", 0, "sum"),
        &[],
        "model = \"percentile\"\npercentile = \"95\"\ndirections = \"in\"\nper = \"Mbit/s\"\nunit = \"1.00\"",
        "UTC",
        "2026-06",
    );
    let burst = |slots: i64| -> Vec<Used> {
        (0..8640)
            .map(|slot| Used {
                at: instant("2026-06-01T00:00:00Z").plus_millis(slot * 300_000),
                width: 300,
                dimensions: dimensions("direction=in"),
                units: if slot < slots { 1000 } else { 50 } * 125_000 * 300,
            })
            .collect()
    };
    assert_eq!(rig.amounts(&burst(36 * 12)), ["50.00"]);
    assert_eq!(rig.amounts(&burst(36 * 12 + 1)), ["1000.00"]);
}

/// What "GB-month" means to all who divide by the length of the month: the same level costs the
/// same in each month, also in one with a change of clocks.
#[test]
fn a_steady_level_costs_the_same_in_every_month() {
    let keys = "model = \"per_unit\"\nover = \"period\"\nper = \"1 TiB\"\nunit = \"6.99\"";
    for (month, hours) in [
        ("2026-02", 672),
        ("2026-03", 743),
        ("2026-10", 745),
        ("2028-02", 696),
    ] {
        let rig = rig(
            &meter("By", 0, "time_weighted"),
            &[],
            keys,
            "Europe/Berlin",
            month,
        );
        let usage = [used(
            &format!("{month}-05T00:00:00Z"),
            (10i128 << 40) * hours * 3_600_000,
        )];
        assert_eq!(rig.amounts(&usage), ["69.90"], "{month}");
    }
}

/// Cloudflare Workers, "Pricing" (developers.cloudflare.com/workers/platform/pricing), example 1:
/// 15 million requests of 7 ms each are (15 - 10) x 0.30 and (105 - 30) x 0.02 = 3.00 beside the
/// subscription of 5.00.
#[test]
fn cloudflare_workers_standard() {
    let per_million = |unit: &str, included: &str| {
        format!(
            "model = \"per_unit\"\nper = \"1000000 {{unit}}\"\nunit = \"{unit}\"\nallowance = \"{included}\""
        )
    };
    let counted = meter("{unit}", 0, "sum");
    let requests = rig(
        &counted,
        &[],
        &per_million("0.30", "10000000"),
        "UTC",
        "2026-06",
    );
    let cpu = rig(
        &counted,
        &[],
        &per_million("0.02", "30000000"),
        "UTC",
        "2026-06",
    );
    assert_eq!(
        requests.amounts(&[used("2026-06-10T00:00:00Z", 15_000_000)]),
        ["1.50"]
    );
    assert_eq!(
        cpu.amounts(&[used("2026-06-10T00:00:00Z", 105_000_000)]),
        ["1.50"]
    );
    // Example 3: 100 million requests are 90 x 0.30 = 27.00, and their CPU time 670 x 0.02 = 13.40.
    assert_eq!(
        requests.amounts(&[used("2026-06-10T00:00:00Z", 100_000_000)]),
        ["27.00"]
    );
    assert_eq!(
        cpu.amounts(&[used("2026-06-10T00:00:00Z", 700_000_000)]),
        ["13.40"]
    );
}
