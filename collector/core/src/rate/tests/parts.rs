//! Versions of a price in one period, rating intervals, rows and bands, levels over the period:
//! worked by hand, and against slow ways.

use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::{Dimensions, Quantity};

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price, used};
use crate::rate::{GatherError, MeterUsage, Part};

const GRADUATED: &str = "model = \"graduated\"\nper = \"1 {unit}\"\n\
    tiers = [{ to = \"100\", unit = \"1.00\" }, { unit = \"0.50\" }]";
const CHEAPER: &str = "model = \"graduated\"\nper = \"1 {unit}\"\n\
    tiers = [{ to = \"150\", unit = \"0.80\" }, { unit = \"0.40\" }]";

/// June 2026 in Berlin, with versions of the price of meter `m` on one card.
pub(super) fn june(versions: &[(&str, &str)]) -> Rig {
    june_of(&meter("{unit}", 0, "sum"), versions)
}

pub(super) fn june_of(meters: &str, versions: &[(&str, &str)]) -> Rig {
    let prices: Vec<String> = versions.iter().map(|(_, keys)| price(keys)).collect();
    let versions: Vec<Version<'_>> = versions
        .iter()
        .zip(&prices)
        .map(|((from, _), prices)| Version {
            from,
            card: "c",
            prices,
        })
        .collect();
    Rig::new(meters, &[], &versions, "Europe/Berlin", "2026-06")
}

#[test]
fn a_graduated_price_goes_on_from_its_position() {
    let rig = june(&[("2026-01-01", GRADUATED), ("2026-06-16", CHEAPER)]);
    let usage = [
        used("2026-06-03T10:00:00Z", 120),
        used("2026-06-20T10:00:00Z", 80),
    ];
    assert_eq!(
        rig.texts(&usage),
        [
            "from 2026-05-31T22:00:00.000Z: 100 x 1.00 + 20 x 0.50 per 1 {unit} = 100 + 10 = 110; \
             from 2026-06-15T22:00:00.000Z: 30 x 0.80 + 50 x 0.40 per 1 {unit} = 24 + 20 = 44; \
             in all 154.00 EUR"
        ]
    );
}

#[test]
fn a_volume_price_takes_the_tier_of_the_whole_period() {
    let volume = |keys: &str| keys.replace("graduated", "volume");
    let (first, second) = (volume(GRADUATED), volume(CHEAPER));
    let rig = june(&[("2026-01-01", &first), ("2026-06-16", &second)]);
    let usage = [
        used("2026-06-03T10:00:00Z", 60),
        used("2026-06-20T10:00:00Z", 60),
    ];
    // 120 in all: 0.50 in the first table, 0.80 in the second.
    assert_eq!(rig.amounts(&usage), ["78.00"]);
}

#[test]
fn another_card_starts_at_zero() {
    let (first, second) = (price(GRADUATED), price(CHEAPER));
    let versions = [
        Version {
            from: "2026-01-01",
            card: "a",
            prices: &first,
        },
        Version {
            from: "2026-06-16",
            card: "b",
            prices: &second,
        },
    ];
    let meters = meter("{unit}", 0, "sum");
    let rig = Rig::new(&meters, &[], &versions, "Europe/Berlin", "2026-06");
    let usage = [
        used("2026-06-03T10:00:00Z", 120),
        used("2026-06-20T10:00:00Z", 80),
    ];
    assert_eq!(rig.amounts(&usage), ["110.00", "64.00"]);
}

#[test]
fn what_does_not_add_up_is_shared_by_time() {
    let per_unit =
        |unit: &str| format!("model = \"per_unit\"\nper = \"1 {{unit}}\"\nunit = \"{unit}\"");
    let (dear, cheap) = (per_unit("3.00"), per_unit("1.00"));
    let rig = june_of(
        &meter("{unit}", 0, "max"),
        &[("2026-01-01", &dear), ("2026-06-11", &cheap)],
    );
    let slices = rig.slices();
    let shape = rig.shape(&slices);
    let late = used("2026-06-20T10:00:00Z", 0);
    let width = tollgate_common::WindowWidth::from_secs(900).expect("a width");
    let window = tollgate_common::Window::containing(late.at, width);
    // The largest value is one for the period, whenever it was.
    assert_eq!(shape.part_of(window, &Dimensions::none()), Part::default());
    let usage = MeterUsage::whole(Quantity::new(9));
    // 10 of 30 days at 3.00 and 20 at 1.00.
    assert_eq!(
        rig.texts_of(&slices, &usage),
        [
            "from 2026-05-31T22:00:00.000Z: (9 x 3.00 per 1 {unit} = 27) x 1/3 = 9; \
             from 2026-06-10T22:00:00.000Z: (9 x 1.00 per 1 {unit} = 9) x 2/3 = 6; \
             in all 15.00 EUR"
        ]
    );
}

#[test]
fn discounts_and_limits_are_those_of_their_versions() {
    let with = |keys: &str, more: &str| format!("{keys}\n{more}");
    let first = with(GRADUATED, "[[discount]]\nid = \"d\"\npercent = \"50\"");
    let rig = june(&[("2026-01-01", &first), ("2026-06-16", CHEAPER)]);
    let usage = [
        used("2026-06-03T10:00:00Z", 120),
        used("2026-06-20T10:00:00Z", 80),
    ];
    assert_eq!(rig.amounts(&usage), ["99.00"]);
    // A maximum of 100 for half of the period and of 50 for the other.
    let most = |amount: &str| with(GRADUATED, &format!("maximum = \"{amount}\""));
    let rig = june(&[("2026-01-01", &most("100")), ("2026-06-16", &most("50"))]);
    assert_eq!(rig.amounts(&usage), ["75.00"]);
    // An amount goes off once.
    let off = with(GRADUATED, "[[discount]]\nid = \"d\"\namount = \"5.00\"");
    let rig = june(&[("2026-01-01", &off), ("2026-06-16", &off)]);
    assert_eq!(rig.amounts(&usage), ["145.00"]);
    assert_eq!(rig.amounts(&[]), ["0.00"]);
}

#[test]
fn tiers_begin_anew_with_the_interval() {
    let daily = format!("{GRADUATED}\ninterval = \"P1D\"");
    let rig = june(&[("2026-01-01", &daily)]);
    // 22:30Z is the next day in Berlin.
    let usage = [
        used("2026-06-03T21:30:00Z", 120),
        used("2026-06-03T22:30:00Z", 70),
        used("2026-06-04T10:00:00Z", 40),
    ];
    assert_eq!(
        rig.texts(&usage),
        [
            "2026-06-03: 100 x 1.00 + 20 x 0.50 per 1 {unit} = 100 + 10 = 110; \
             2026-06-04: 100 x 1.00 + 10 x 0.50 per 1 {unit} = 100 + 5 = 105; in all 215.00 EUR"
        ]
    );
    let hourly = format!("{GRADUATED}\ninterval = \"PT1H\"");
    let rig = june(&[("2026-01-01", &hourly)]);
    assert_eq!(rig.amounts(&usage), ["220.00"]);
    // An interval that a new version cuts goes on.
    let cheaper = format!("{CHEAPER}\ninterval = \"P1D\"");
    let rig = june(&[("2026-01-01", &daily), ("2026-06-04", &cheaper)]);
    assert_eq!(rig.amounts(&usage), ["198.00"]);
}

const MATRIX: &str = "model = \"matrix\"\nper = \"1 {unit}\"\nrows = [\n\
    { when = { region = \"eu-*\" }, unit = \"3\" },\n\
    { when = { region = \"eu-west\" }, unit = \"2\" },\n\
    { when = { region = \"eu-*\", class = \"hot\" }, unit = \"5\" },\n\
    { id = \"any\", when = { region = \"*\" }, tiers = [{ to = \"10\", unit = \"1\" }, { unit = \"0.5\" }] },\n]";

fn in_region(region: &str, units: i128) -> Used {
    Used {
        dimensions: dimensions(region),
        ..used("2026-06-03T10:00:00Z", units)
    }
}

#[test]
fn the_most_specific_row_prices() {
    let rig = june(&[("2026-01-01", MATRIX)]);
    for (region, amount) in [
        ("region=eu-north", "12.00"),
        ("region=eu-west", "8.00"),
        // One exact value each, and more dimensions.
        ("region=eu-north,class=hot", "20.00"),
        ("region=eu-west,class=hot", "20.00"),
        ("region=us", "4.00"),
    ] {
        assert_eq!(rig.amounts(&[in_region(region, 4)]), [amount], "{region}");
    }
    assert_eq!(
        rig.texts(&[in_region("-", 4), in_region("region=us", 12)]),
        [
            "unrated NoRow 4",
            "any: 10 x 1 + 2 x 0.5 per 1 {unit} = 10 + 1 = 11.00 EUR",
        ]
    );
    let highest = MATRIX.replace("rows", "precedence = \"highest_price\"\nrows");
    let rig = june(&[("2026-01-01", &highest)]);
    assert_eq!(rig.amounts(&[in_region("region=eu-west", 4)]), ["12.00"]);
}

#[test]
fn rows_go_on_by_their_names() {
    let cheaper = MATRIX.replace("to = \"10\", unit = \"1\"", "to = \"20\", unit = \"0.6\"");
    let rig = june(&[("2026-01-01", MATRIX), ("2026-06-16", &cheaper)]);
    let later = Used {
        at: instant("2026-06-20T10:00:00Z"),
        ..in_region("region=us", 10)
    };
    // 8 at 1.00, and then up to the new bound of 20 at 0.60.
    assert_eq!(rig.amounts(&[in_region("region=us", 8), later]), ["14.00"]);
}

/// Two regions fill one table: in the order of windows, then of the rows.
#[test]
fn pools_are_filled_in_the_order_of_windows() {
    let pooled = "model = \"matrix\"\nper = \"1 {unit}\"\nrows = [\n\
        { id = \"eu\", when = { region = \"eu\" }, tier_pool = \"all\", tiers = [{ to = \"10\", unit = \"3\" }, { unit = \"2\" }] },\n\
        { id = \"us\", when = { region = \"us\" }, tier_pool = \"all\", tiers = [{ to = \"10\", unit = \"5\" }, { unit = \"4\" }] },\n]";
    let rig = june(&[("2026-01-01", pooled)]);
    let at = |at: &str, region: &str, units: i128| Used {
        at: instant(at),
        ..in_region(region, units)
    };
    let usage = [
        at("2026-06-03T10:00:00Z", "region=us", 4),
        at("2026-06-03T10:00:00Z", "region=eu", 4),
        at("2026-06-02T10:00:00Z", "region=us", 1),
        at("2026-06-04T10:00:00Z", "region=eu", 7),
    ];
    // 1 us; then 4 eu and 4 us of the same window; then 1 eu below the bound and 6 above.
    assert_eq!(
        rig.texts(&usage),
        [
            "eu: 5 x 3 + 6 x 2 per 1 {unit} = 15 + 12 = 27; us: 5 x 5 per 1 {unit} = 25; \
             in all 52.00 EUR"
        ]
    );
    let mut turned = usage.clone();
    turned.reverse();
    assert_eq!(rig.amounts(&turned), ["52.00"]);
    // Alone they would have a table each.
    let alone = june(&[("2026-01-01", &pooled.replace("tier_pool = \"all\", ", ""))]);
    assert_eq!(alone.amounts(&usage), ["57.00"]);
    // By volume the tier of the whole pool prices all of it: 11 x 2 + 5 x 4.
    let volume = pooled.replace("tier_pool", "model = \"volume\", tier_pool");
    assert_eq!(june(&[("2026-01-01", &volume)]).amounts(&usage), ["42.00"]);
}

const OFFICE: &str = "id = \"office\"\nholidays = [\"2026-06-04\"]\n\
    [[band]]\nid = \"peak\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"08:00\"\nto = \"20:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nto = \"08:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"20:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"sat\", \"sun\", \"holiday\"]\n";

const BANDED: &str = "model = \"matrix\"\ncalendar = \"office\"\nper = \"1 {unit}\"\n\
    rows = [{ band = \"peak\", unit = \"3\" }, { band = \"off\", unit = \"1\" }]";

fn office(zone: &str, month: &str) -> Rig {
    let prices = price(BANDED);
    let version = Version {
        from: "2026-01-01",
        card: "c",
        prices: &prices,
    };
    Rig::new(
        &meter("{unit}", 0, "sum"),
        &[OFFICE],
        &[version],
        zone,
        month,
    )
}

#[test]
fn bands_are_those_of_the_tenants_clocks() {
    let rig = office("Europe/Berlin", "2026-06");
    for (at, amount) in [
        // Wednesday at 07:45 and 08:00, 19:45 and 20:00 in Berlin.
        ("2026-06-03T05:45:00Z", "1.00"),
        ("2026-06-03T06:00:00Z", "3.00"),
        ("2026-06-03T17:45:00Z", "3.00"),
        ("2026-06-03T18:00:00Z", "1.00"),
        // A holiday, and a Saturday.
        ("2026-06-04T10:00:00Z", "1.00"),
        ("2026-06-06T10:00:00Z", "1.00"),
    ] {
        assert_eq!(rig.amounts(&[used(at, 1)]), [amount], "{at}");
    }
}

/// Each quarter of an hour counts once: in March clocks skip one hour of a Sunday, in October they
/// show one twice.
#[test]
fn bands_cover_months_with_changes_of_clocks() {
    for (month, peak, off) in [
        ("2026-03", 22 * 48, 743 * 4 - 22 * 48),
        ("2026-10", 22 * 48, 745 * 4 - 22 * 48),
    ] {
        let rig = office("Europe/Berlin", month);
        let mut usage = Vec::new();
        let mut at = rig.period.start;
        while at < rig.period.end {
            usage.push(Used {
                at,
                ..used("2026-06-01T00:00:00Z", 1)
            });
            at = at.plus_millis(900_000);
        }
        let slices = rig.slices();
        let gathered = rig.gather(&slices, &usage);
        let sums: Vec<i128> = gathered.parts().map(|(_, sum)| sum.units()).collect();
        assert_eq!(sums, [peak, off], "{month}");
    }
}

/// A level over the true length of the month: the same level costs the same in every month.
#[test]
fn levels_are_divided_by_the_true_length_of_the_period() {
    let prices = price("model = \"per_unit\"\nover = \"period\"\nper = \"1 GB\"\nunit = \"0.02\"");
    let version = Version {
        from: "2026-01-01",
        card: "c",
        prices: &prices,
    };
    for (month, hours) in [
        ("2026-02", 672),
        ("2026-03", 743),
        ("2026-06", 720),
        ("2026-10", 745),
    ] {
        let meters = meter("By", 0, "time_weighted");
        let rig = Rig::new(&meters, &[], &[version], "Europe/Berlin", month);
        // 500 GB all month, in bytes times milliseconds.
        let usage = [used(
            &format!("{month}-10T00:00:00Z"),
            500_000_000_000 * hours * 3_600_000,
        )];
        assert_eq!(
            rig.texts(&usage),
            [format!(
                "500000000000 over {hours} h: 500000000000 x 0.02 per 1 GB = 10.00 EUR"
            )]
        );
    }
}

/// A sum never rates below zero; what lies below is told, and the rest of the line is unchanged.
#[test]
fn what_is_below_zero_is_unrated() {
    let rig = june(&[("2026-01-01", GRADUATED)]);
    let usage = [
        used("2026-06-03T10:00:00Z", 10),
        used("2026-06-04T10:00:00Z", -25),
    ];
    assert_eq!(
        rig.texts(&usage),
        ["unrated BelowZero -15", "0 x 1.00 per 1 {unit} = 0.00 EUR"]
    );
    // Each day by itself.
    let daily = june(&[("2026-01-01", &format!("{GRADUATED}\ninterval = \"P1D\""))]);
    assert_eq!(daily.texts(&usage)[0], "unrated BelowZero -25");
    assert_eq!(daily.amounts(&usage)[1], "10.00");
    // A correction in a later version takes back what the position is worth there.
    let cut = june(&[("2026-01-01", GRADUATED), ("2026-06-04", CHEAPER)]);
    let usage = [
        used("2026-06-03T10:00:00Z", 10),
        used("2026-06-04T10:00:00Z", -4),
    ];
    assert_eq!(cut.amounts(&usage), ["6.80"]);
}

#[test]
fn what_cannot_be_gathered_is_said() {
    let mut usage = MeterUsage::whole(Quantity::MAX);
    assert_eq!(
        usage.add(Part::default(), Quantity::new(1)),
        Err(GatherError::Overflow)
    );
    let mut usage = MeterUsage::default();
    for interval in 0..=u32::try_from(crate::rate::PARTS_MAX).expect("small") {
        let part = Part {
            interval,
            ..Part::default()
        };
        let added = usage.add(part, Quantity::new(1));
        assert_eq!(added.is_err(), interval as usize == crate::rate::PARTS_MAX);
    }
}

/// A table of whole units: prices in cents, bounds, volume or graduated.
#[derive(Clone, Debug)]
pub(super) struct Table {
    volume: bool,
    bounds: Vec<u32>,
    cents: Vec<u32>,
}

pub(super) fn table() -> impl Strategy<Value = Table> {
    let bounds = proptest::collection::btree_set(1u32..60, 0..4);
    let cents = proptest::collection::vec(0u32..500, 4);
    (any::<bool>(), bounds, cents).prop_map(|(volume, bounds, cents)| Table {
        volume,
        bounds: bounds.into_iter().collect(),
        cents,
    })
}

impl Table {
    pub(super) fn graduated(self) -> Self {
        Self {
            volume: false,
            ..self
        }
    }

    /// The key `tiers`.
    pub(super) fn tiers(&self) -> String {
        let tiers: Vec<String> = (0..=self.bounds.len())
            .map(|at| {
                let to = self
                    .bounds
                    .get(at)
                    .map_or_else(String::new, |to| format!("to = \"{to}\", "));
                format!(
                    "{{ {to}unit = \"{}.{:02}\" }}",
                    self.cents[at] / 100,
                    self.cents[at] % 100
                )
            })
            .collect();
        format!("tiers = [{}]", tiers.join(", "))
    }

    fn keys(&self, interval: &str) -> String {
        format!(
            "model = \"{}\"\nper = \"1 {{unit}}\"\ninterval = \"{interval}\"\n{}",
            if self.volume { "volume" } else { "graduated" },
            self.tiers()
        )
    }

    /// What the unit at a position costs, from 1.
    pub(super) fn unit(&self, position: u32) -> u32 {
        let passed = self
            .bounds
            .iter()
            .filter(|bound| **bound < position)
            .count();
        self.cents[passed]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Unit by unit, in the order of time: each costs what the version of its time says, at its
    /// position in the interval, or at the last one where all cost the same.
    #[test]
    fn versions_agree_with_a_slow_way(
        tables in proptest::collection::vec(table(), 1..4),
        days in proptest::collection::btree_set(2u32..29, 3),
        mut pieces in proptest::collection::vec((1u32..30, 0u32..96, 1u32..40), 0..12),
        daily in any::<bool>(),
    ) {
        let interval = if daily { "P1D" } else { "period" };
        let keys: Vec<String> = tables.iter().map(|table| table.keys(interval)).collect();
        let mut dates = vec!["2026-01-01".to_owned()];
        dates.extend(days.iter().map(|day| format!("2026-06-{day:02}")));
        let versions: Vec<(&str, &str)> =
            dates.iter().zip(&keys).map(|(date, keys)| (date.as_str(), keys.as_str())).collect();
        let rig = june(&versions);
        let usage: Vec<Used> = pieces
            .iter()
            .map(|(day, quarter, units)| {
                // 00:00 in Berlin is 22:00 of the day before.
                let at = instant(&format!("2026-06-{day:02}T00:00:00+02:00"));
                Used { at: at.plus_millis(i64::from(*quarter) * 900_000), ..used("2026-06-01T00:00:00Z", i128::from(*units)) }
            })
            .collect();
        pieces.sort_unstable();
        let version = |day: u32| {
            let begun = days.iter().take(tables.len() - 1).filter(|from| **from <= day).count();
            &tables[begun]
        };
        let whole = |of: u32| pieces.iter().filter(|(day, _, _)| !daily || *day == of).map(|(_, _, units)| units).sum::<u32>();
        let mut cents = 0u32;
        let (mut position, mut last) = (0, 0);
        for (day, _, units) in &pieces {
            if daily && *day != last {
                position = 0;
            }
            last = *day;
            for _ in 0..*units {
                position += 1;
                let table = version(*day);
                cents += table.unit(if table.volume { whole(*day) } else { position });
            }
        }
        let expected = Decimal::new(i64::from(cents), 2).to_string();
        prop_assert_eq!(rig.amounts(&usage), [expected.clone()], "{:?}", rig.texts(&usage));
        // The order in which usage arrives does not matter.
        let mut turned = usage.clone();
        turned.reverse();
        prop_assert_eq!(rig.amounts(&turned), [expected]);
    }

    /// A price that never changes costs the same however the period is cut, whatever is corrected,
    /// and whenever discounts begin and end.
    #[test]
    fn cutting_changes_nothing(
        table in table(),
        cut in 2u32..29,
        (from, until) in (1u32..15, 15u32..29),
        units in proptest::collection::vec((1u32..30, -9i128..50), 1..8),
    ) {
        let discounts = format!(
            "[[discount]]\nid = \"share\"\npercent = \"7.5\"\nfrom = \"2026-06-{from:02}\"\n\
             [[discount]]\nid = \"more\"\npercent = \"10\"\nof = \"list\"\nuntil = \"2026-06-{until:02}\"\n\
             [[discount]]\nid = \"some\"\nquantity = \"4\"\nuntil = \"2026-06-{until:02}\"\napplies = [\"p\"]\n\
             [[discount]]\nid = \"voucher\"\namount = \"3.00\"\napplies = [\"p\"]\n"
        );
        let keys = format!("{}\nallowance = \"7\"\nconvert = {{ to = \"3 {{unit}}\", round = \"up\" }}\n{discounts}", table.keys("period"));
        let cut = format!("2026-06-{cut:02}");
        let whole = june(&[("2026-01-01", &keys)]);
        let parts = june(&[("2026-01-01", &keys), (&cut, &keys)]);
        let usage: Vec<Used> = units.iter().map(|(day, units)| used(&format!("2026-06-{day:02}T10:00:00Z"), *units)).collect();
        prop_assert_eq!(whole.amounts(&usage), parts.amounts(&usage));
    }
}
