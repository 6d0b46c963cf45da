//! Published prices of each machine or group by itself, of high-water marks, and of credit that comes
//! again. Each test names where the rates are from; sums are worked by hand.

use super::published::Case;

const HOURS: &str = "[[meter]]\nname = \"h\"\nunit = \"h\"\nscale = 0\naggregation = \"sum\"\n";
const LEVEL: &str =
    "[[meter]]\nname = \"n\"\nunit = \"{vm}\"\nscale = 0\naggregation = \"time_weighted\"\n";
const UNITS: &str =
    "[[meter]]\nname = \"u\"\nunit = \"{unit}\"\nscale = 0\naggregation = \"sum\"\n";

/// Google Compute Engine, sustained use discounts of N1 machines
/// (cloud.google.com/compute/docs/sustained-use-discounts): each quarter of the month costs 100, 80,
/// 60 and 40 % of the base rate, so a whole month costs 70 % of it and half a month 90 %.
#[test]
fn google_sustained_use_of_each_machine() {
    Case {
        meters: &[LEVEL],
        card: r#"currency = "USD"
[[price]]
id = "vm"
meter = "n"
model = "graduated"
over = "period"
each = "machine"
per = "1 {vm}"
unit = "24.27"
tiers = [{ to = "0.25", times = "1" }, { to = "0.5", times = "0.8" }, { to = "0.75", times = "0.6" }, { times = "0.4" }]
"#,
        profile: "",
        files: &[],
        // 24.27 x 0.7 + 24.27 x 0.7 + 12.135 x 0.9.
        test: "usage.n = [{ machine = \"a\", level = \"1\" }, { machine = \"b\", quantity = \"720 {vm}.h\" }, { machine = \"c\", quantity = \"360 {vm}.h\" }]\nnet = \"44.90\"\n",
    }
    .passes();
}

/// DigitalOcean Droplets (docs.digitalocean.com/products/droplets/details/pricing): by the hour, with a
/// monthly cap of 672 hours: 6.00 USD a month at 0.00893 an hour.
#[test]
fn digitalocean_caps_each_droplet() {
    Case {
        meters: &[HOURS],
        card: r#"currency = "USD"
[[price]]
id = "droplets"
meter = "h"
model = "per_unit"
each = { by = "droplet", maximum = "6.00", minimum = "0.01" }
per = "1 h"
unit = "0.00893"
rounding = { at = "event" }
"#,
        profile: "",
        files: &[],
        // 6.00, 3.00048 and at least a cent.
        test: "usage.h = [{ droplet = \"a\", quantity = \"720\" }, { droplet = \"b\", quantity = \"336\" }, { droplet = \"c\", quantity = \"1\" }]\nnet = \"9.01\"\n",
    }
    .passes();
}

/// Lago, `pricing_group_keys` of a package charge (spec/services/charge_models/grouped_service_spec.rb):
/// every group is a fee of its own, rounded by itself.
#[test]
fn lago_groups_are_fees_of_their_own() {
    Case {
        meters: &[UNITS],
        card: r#"[[price]]
id = "p"
meter = "u"
model = "package"
each = ["cloud", "region"]
allowance = "5"
per = "10 {unit}"
unit = "1.005"
rounding = { at = "event" }
"#,
        profile: "",
        files: &[],
        // 16 are 2 packages, 2.01; 6 are one, 1.005 ~ 1.01; 5 are free.
        test: "usage.u = [{ cloud = \"aws\", region = \"eu\", quantity = \"16\" }, { cloud = \"aws\", region = \"us\", quantity = \"6\" }, { cloud = \"gcp\", region = \"eu\", quantity = \"5\" }]\nnet = \"3.02\"\n",
    }
    .passes();
}

/// Datadog, high-water mark plan (docs.datadoghq.com/account_management/billing/pricing): the hours with
/// the highest counts, 1 % of the month, are left out, and the next highest one is billed.
#[test]
fn datadog_hosts_by_the_99th_percentile() {
    let of = |hours: u32| {
        format!(
            "usage.n = [{{ slots = {}, quantity = \"50 {{vm}}.h\" }}, {{ slots = {hours}, quantity = \"80 {{vm}}.h\" }}]\nnet = \"{}\"\n",
            720 - hours,
            if hours > 7 { "1200.00" } else { "750.00" },
        )
    };
    for hours in [7, 8] {
        Case {
            meters: &[LEVEL],
            card: r#"currency = "USD"
[[price]]
id = "hosts"
meter = "n"
model = "percentile"
percentile = "99"
slot = "PT1H"
directions = "sum"
per = "{vm}"
unit = "15"
"#,
            profile: "",
            files: &[],
            test: &of(hours),
        }
        .passes();
    }
}

/// Google Maps Platform until February 2025 (mapsplatform.google.com/pricing): 200 USD of credit in every
/// month, that does not carry over.
#[test]
fn google_maps_monthly_credit() {
    Case {
        meters: &[UNITS],
        card: r#"currency = "USD"
[[price]]
id = "geocoding"
meter = "u"
model = "graduated"
per = "1000 {unit}"
tiers = [{ to = "100000", unit = "5.00" }, { unit = "4.00" }]
"#,
        profile: "[[grant]]\nid = \"maps\"\namount = \"200.00\"\nevery = \"P1M\"\nfrom = \"2020-01-01\"\n",
        files: &[],
        test: "before.grant.maps = \"120.00\"\nusage.u = \"150000\"\nnet = \"700.00\"\ngrant.maps.paid = \"200.00\"\ndue = \"500.00\"\n",
    }
    .passes();
}

/// An annual plan whose usage is billed by the month (Lago, `bill_charges_monthly`), with a setup fee
/// (Chargebee, "setup fees") and a trial of its add-on (Kill Bill, TRIAL phase of 30 days).
#[test]
fn an_annual_plan_with_monthly_usage() {
    Case {
        meters: &[UNITS],
        card: r#"[[price]]
id = "plan"
model = "flat"
flat = "1200.00"
every = "P1Y"
[[price]]
id = "setup"
model = "flat"
flat = "99.00"
once = true
[[price]]
id = "addon"
model = "flat"
flat = "30.00"
trial = "P30D"
prorate = "days"
[[price]]
id = "usage"
meter = "u"
model = "per_unit"
per = "1 {unit}"
unit = "0.50"
"#,
        profile: "from = \"2025-06-10\"\n",
        files: &[],
        test: "usage.u = \"10\"\nlines = { plan = \"1200.00\", addon = \"30.00\", usage = \"5.00\" }\n",
    }
    .passes();
}
