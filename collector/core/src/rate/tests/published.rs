//! Worked examples that vendors publish, and figures of the test suites of open-source billing
//! systems. Each test names where the figures are from.

use super::{amount, catalog, line};

/// Amounts of whole quantities of a price.
fn check(currency: &str, price: &str, figures: &[(i128, &str)]) {
    let catalog = catalog("{unit}", 0, currency, price);
    for (quantity, expected) in figures {
        assert_eq!(
            amount(&catalog, *quantity),
            *expected,
            "{quantity} of {price}"
        );
    }
}

const FONTS: &str = "per = \"1 {unit}\"\ntiers = [{ to = \"5\", unit = \"7\" }, \
    { to = \"10\", unit = \"6.5\" }, { unit = \"6\" }]";

/// Stripe, "Set up tiered pricing" (docs.stripe.com/subscriptions/pricing-models/tiered-pricing):
/// fonts at 7, 6.5 and 6 USD.
#[test]
fn stripe_volume_and_graduated_fonts() {
    let volume = format!("model = \"volume\"\n{FONTS}");
    check(
        "USD",
        &volume,
        &[
            (1, "7.00"),
            (5, "35.00"),
            (6, "39.00"),
            (20, "120.00"),
            (25, "150.00"),
        ],
    );
    let graduated = format!("model = \"graduated\"\n{FONTS}");
    check(
        "USD",
        &graduated,
        &[
            (1, "7.00"),
            (5, "35.00"),
            (6, "41.50"),
            (20, "127.50"),
            (25, "157.50"),
        ],
    );
}

/// Stripe, "Tiered pricing" (stripe.com/docs/billing/subscriptions/tiers): five tiers from 5 down
/// to 1 USD; the volume totals fall, the graduated total of 6 is 29.
#[test]
fn stripe_five_tiers() {
    let tiers = "per = \"1 {unit}\"\ntiers = [{ to = \"5\", unit = \"5\" }, \
        { to = \"10\", unit = \"4\" }, { to = \"15\", unit = \"3\" }, { to = \"20\", unit = \"2\" }, \
        { unit = \"1\" }]";
    check(
        "USD",
        &format!("model = \"volume\"\n{tiers}"),
        &[
            (1, "5.00"),
            (5, "25.00"),
            (6, "24.00"),
            (20, "40.00"),
            (25, "25.00"),
        ],
    );
    check(
        "USD",
        &format!("model = \"graduated\"\n{tiers}"),
        &[
            (1, "5.00"),
            (5, "25.00"),
            (6, "29.00"),
            (20, "70.00"),
            (25, "75.00"),
        ],
    );
}

/// Lago, spec/services/charges/charge_models/graduated_service_spec.rb: amounts in cents, each
/// tier with a flat amount that is due with its first unit, and none at zero.
#[test]
fn lago_graduated() {
    check(
        "EUR",
        "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [\
         { to = \"10\", unit = \"0.10\", flat = \"0.02\" }, { unit = \"0.05\", flat = \"0.03\" }]",
        &[
            (0, "0.00"),
            (1, "0.12"),
            (10, "1.02"),
            (11, "1.10"),
            (12, "1.15"),
        ],
    );
}

/// Lago, spec/services/charges/charge_models/volume_service_spec.rb.
#[test]
fn lago_volume() {
    check(
        "EUR",
        "model = \"volume\"\nper = \"1 {unit}\"\ntiers = [\
         { to = \"100\", unit = \"2\", flat = \"10\" }, { to = \"200\", unit = \"1\", flat = \"0\" }, \
         { unit = \"0.5\", flat = \"50\" }]",
        &[
            (0, "0.00"),
            (1, "12.00"),
            (100, "210.00"),
            (101, "101.00"),
            (200, "200.00"),
            (300, "200.00"),
        ],
    );
}

/// Lago, spec/services/charges/charge_models/package_service_spec.rb, and its guide's example of
/// 5 for each 100 units, of which 100 are free
/// (getlago.com/docs/guide/plans/charges/charge-models/package).
#[test]
fn lago_package() {
    let package = "model = \"package\"\nper = \"10 {unit}\"\nunit = \"1.00\"";
    check("EUR", package, &[(121, "13.00")]);
    check(
        "EUR",
        &format!("{package}\nallowance = \"10\""),
        &[(121, "12.00"), (0, "0.00"), (10, "0.00"), (11, "1.00")],
    );
    check(
        "USD",
        "model = \"package\"\nper = \"100 {unit}\"\nunit = \"5\"\nallowance = \"100\"",
        &[(100, "0.00"), (101, "5.00"), (200, "5.00"), (201, "10.00")],
    );
}

const OPENMETER_GRADUATED: &str = "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [\
    { to = \"5\", flat = \"100\" }, { to = \"10\", flat = \"50\" }, \
    { to = \"15\", unit = \"10\" }, { unit = \"5\" }]";

/// OpenMeter, openmeter/billing/service/lineservice/pricegraduatedtiered_test.go
/// (TestTieredPriceCalculator): flat-only tiers, and the first one's fee is due at zero.
#[test]
fn openmeter_graduated() {
    let always = format!("{OPENMETER_GRADUATED}\nfirst_flat = \"always\"");
    check(
        "USD",
        &always,
        &[
            (0, "100.00"),
            (3, "100.00"),
            (5, "100.00"),
            (7, "150.00"),
            (12, "170.00"),
            (22, "235.00"),
        ],
    );
    // 5.001 units lie in the second tier.
    let fine = catalog("{unit}", 3, "USD", &always);
    assert_eq!(amount(&fine, 5001), "150.00");
    // TestTieredGraduatedCalculation: 22 units with prices 0, 5 and 1, alone and with at most 170.
    let other = "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [\
        { to = \"5\", unit = \"0\", flat = \"100\" }, { to = \"10\", flat = \"50\" }, \
        { to = \"15\", unit = \"5\" }, { unit = \"1\" }]";
    check("USD", other, &[(12, "160.00"), (22, "182.00")]);
    check(
        "USD",
        &format!("{other}\nmaximum = \"170\""),
        &[(12, "160.00"), (22, "170.00")],
    );
    check(
        "USD",
        &format!("{other}\nminimum = \"1000\""),
        &[(0, "1000.00"), (2, "1000.00")],
    );
}

/// OpenMeter, openmeter/billing/service/lineservice/pricevolumetiered_test.go.
#[test]
fn openmeter_volume() {
    let tiers = "model = \"volume\"\nper = \"1 {unit}\"\nfirst_flat = \"always\"\ntiers = [\
        { to = \"5\", flat = \"100\" }, { to = \"10\", flat = \"150\" }, \
        { to = \"15\", unit = \"10\" }, { unit = \"5\" }]";
    check(
        "USD",
        tiers,
        &[
            (0, "100.00"),
            (3, "100.00"),
            (5, "100.00"),
            (6, "150.00"),
            (14, "140.00"),
            (15, "150.00"),
            (16, "80.00"),
            (100, "500.00"),
        ],
    );
    check(
        "USD",
        &format!("{tiers}\nminimum = \"150\""),
        &[(0, "150.00"), (5, "150.00")],
    );
    check(
        "USD",
        &format!("{tiers}\nminimum = \"100\""),
        &[(5, "100.00"), (100, "500.00")],
    );
    check(
        "USD",
        &format!("{tiers}\nmaximum = \"125\""),
        &[(5, "100.00"), (7, "125.00")],
    );
}

/// OpenMeter, openmeter/billing/service/lineservice/pricepackage_test.go: packages of 10 at 15.
#[test]
fn openmeter_package() {
    let package = "model = \"package\"\nper = \"10 {unit}\"\nunit = \"15\"";
    check(
        "USD",
        package,
        &[
            (0, "0.00"),
            (1, "15.00"),
            (9, "15.00"),
            (10, "15.00"),
            (11, "30.00"),
            (17, "30.00"),
            (22, "45.00"),
            (110, "165.00"),
        ],
    );
    check(
        "USD",
        &format!("{package}\nmaximum = \"100\""),
        &[(60, "90.00"), (110, "100.00")],
    );
    check(
        "USD",
        &format!("{package}\nminimum = \"100\""),
        &[(0, "100.00")],
    );
}

/// Kill Bill, invoice/src/test/java/org/killbill/billing/invoice/usage/
/// TestContiguousIntervalConsumableInArrear.java: blocks of another size in each tier, tiers that
/// hold a number of blocks, all tiers and top tier.
#[test]
fn kill_bill_blocks() {
    check(
        "USD",
        "model = \"graduated\"\nper = \"1 {unit}\"\nblocks = \"started\"\ntiers = [\
         { holds = \"10 blocks\", unit = \"1.5\" }, { holds = \"100 blocks\", unit = \"1.0\" }, \
         { unit = \"0.5\" }]",
        &[(111, "115.50")],
    );
    let all_tiers = "model = \"graduated\"\nper = \"1000 {unit}\"\nblocks = \"started\"\ntiers = [\
        { holds = \"10 blocks\", per = \"100 {unit}\", unit = \"1\" }, { unit = \"1\" }]";
    check(
        "USD",
        all_tiers,
        &[(5325, "15.00"), (1000, "10.00"), (1001, "11.00")],
    );
    assert_eq!(
        line(&catalog("{unit}", 0, "USD", all_tiers), 5325)
            .expect("rates")
            .to_string(),
        "1000 in 10 blocks x 1 per 100 {unit} + 4325 in 5 blocks x 1 per 1000 {unit} \
         = 10 + 5 = 15.00 USD"
    );
    check(
        "USD",
        "model = \"volume\"\nper = \"1000 {unit}\"\nblocks = \"started\"\ntiers = [\
         { holds = \"10 blocks\", per = \"100 {unit}\", unit = \"1\" }, \
         { holds = \"100 blocks\", unit = \"1\" }, { unit = \"0.5\" }]",
        &[
            (1000, "10.00"),
            (101_000, "101.00"),
            (101_001, "51.00"),
            (300_000, "150.00"),
        ],
    );
}

/// Autumn, "Graduated pricing" (docs.useautumn.com), and Zuplo, "Pricing models"
/// (zuplo.com/docs/articles/monetization/pricing-models).
#[test]
fn autumn_and_zuplo() {
    check(
        "USD",
        "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [{ to = \"1000\", unit = \"0.01\" }, \
         { to = \"10000\", unit = \"0.008\" }, { unit = \"0.005\" }]",
        &[(15_000, "107.00")],
    );
    let zuplo = "per = \"1 {unit}\"\ntiers = [{ to = \"1000\", unit = \"0.10\" }, \
        { to = \"10000\", unit = \"0.05\" }, { unit = \"0.01\" }]";
    check(
        "USD",
        &format!("model = \"graduated\"\n{zuplo}"),
        &[(15_000, "600.00")],
    );
    check(
        "USD",
        &format!("model = \"volume\"\n{zuplo}"),
        &[(15_000, "150.00")],
    );
}

/// Telnyx, "Billing" of cloud storage (developers.telnyx.com): storage in multiples of 4 KiB
/// rounded up, the first 10 GiB free, 0.006 for each GiB above; a million requests free, then 0.50
/// for each million.
#[test]
fn telnyx_storage() {
    let price = "model = \"per_unit\"\nper = \"1 GiB\"\nunit = \"0.006\"\n\
        convert = { to = \"4 KiB\", round = \"up\" }\nallowance = \"10 GiB\"\n\
        rounding = { places = 6 }";
    let storage = catalog("By", 0, "USD", price);
    assert_eq!(amount(&storage, 11 << 30), "0.006000");
    let charged = |quantity| {
        let line = line(&storage, quantity).expect("rates");
        line.arithmetic().expect("fits").charged.to_string()
    };
    assert_eq!(charged(22), "0");
    assert_eq!(charged((11 << 30) + 1), ((1i64 << 30) + 4096).to_string());
    check(
        "USD",
        "model = \"per_unit\"\nper = \"1000000 {unit}\"\nunit = \"0.50\"\nallowance = \"1000000\"",
        &[
            (1_000_000, "0.00"),
            (1_500_000, "0.25"),
            (3_000_000, "1.00"),
        ],
    );
}
