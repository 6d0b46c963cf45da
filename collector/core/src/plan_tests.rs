use super::*;
use tollgate_common::WindowWidth;

const METERS: &str = r#"
[[meter]]
name = "requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "peak"
unit = "{connection}"
scale = 0
aggregation = "max"

[[meter]]
name = "seats"
unit = "{seat}"
scale = 0
aggregation = "last"

[[meter]]
name = "users"
unit = "{user}"
scale = 0
aggregation = "unique"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "2026-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "requests"
model = "graduated"
per = "100 {request}"
tiers = [{ to = "1000", unit = "1.00" }, { unit = "0.50" }]

[[price]]
id = "peak"
meter = "peak"
model = "per_unit"
per = "1 {connection}"
unit = "2.00"

[[price]]
id = "seats"
meter = "seats"
model = "per_unit"
per = "1 {seat}"
unit = "10.00"

[[price]]
id = "users"
meter = "users"
model = "per_unit"
per = "1 {user}"
unit = "3.00"
"#;

const PROFILE: &str = "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\n";

fn catalog(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Arc<Catalog> {
    let mut files: BTreeMap<String, String> = [
        ("meters.toml", METERS),
        ("cards/edge.toml", CARD),
        ("profiles/acme.toml", PROFILE),
    ]
    .into_iter()
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .collect();
    change(&mut files);
    Arc::new(Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}")))
}

/// The catalog with one text of the card replaced.
fn with(from: &str, to: &str) -> Arc<Catalog> {
    catalog(|files| {
        let card = files.get_mut("cards/edge.toml").expect("there");
        assert!(card.contains(from), "{from}");
        *card = card.replacen(from, to, 1);
    })
}

fn acme() -> TenantId {
    TenantId::new("acme").expect("valid")
}

fn day(day: i64) -> Timestamp {
    // 2026-06-01
    Timestamp::from_secs(1_780_272_000 + (day - 1) * 86_400)
}

fn june() -> Period {
    Period {
        start: day(1),
        end: day(31),
    }
}

/// A quarter of an hour at the beginning of a day of June.
fn row(
    meter: &str,
    on: i64,
    series: &str,
    aggregation: Aggregation,
    quantity: i128,
) -> WindowUsage {
    let width = WindowWidth::from_secs(900).expect("divides");
    let detail = match aggregation {
        Aggregation::Unique => {
            let mut sketch = UniqueSketch::default();
            for user in 0..u64::try_from(quantity).expect("a count") {
                sketch.insert(user);
            }
            Detail::Unique(sketch.into())
        }
        _ => Detail::None,
    };
    WindowUsage {
        meter: MeterName::new(meter).expect("valid"),
        dimensions: Dimensions::new([("host", series)]).expect("valid"),
        window: Window::containing(day(on), width),
        aggregation,
        scale: Scale::ZERO,
        quantity: Quantity::new(quantity),
        detail,
        order: format!("{:015}/edge-1", day(on).millis()),
    }
}

fn cost(terms: &Terms, rows: &[WindowUsage]) -> Cost {
    let acme = acme();
    terms
        .cost(&acme, [(&acme, rows.iter().collect())])
        .expect("a bill")
}

fn net(terms: &Terms, rows: &[WindowUsage]) -> String {
    cost(terms, rows).net.to_string()
}

fn draft(catalog: &Arc<Catalog>) -> Terms {
    Terms::in_force(&drafted(catalog), &acme(), june())
}

#[test]
fn usage_of_every_kind_costs_what_a_closing_would_book() {
    let sum = |on, series, quantity| row("requests", on, series, Aggregation::Sum, quantity);
    let rows = [
        sum(1, "a", 900),
        sum(2, "b", 300),
        row("peak", 1, "a", Aggregation::Max, 4),
        row("peak", 2, "a", Aggregation::Max, 7),
        row("peak", 2, "b", Aggregation::Max, 1),
        row("seats", 3, "a", Aggregation::Last, 5),
        row("seats", 2, "a", Aggregation::Last, 9),
        row("users", 1, "a", Aggregation::Unique, 3),
        row("users", 2, "a", Aggregation::Unique, 5),
    ];
    let cost = cost(&draft(&catalog(|_| {})), &rows);
    let lines: Vec<String> = cost
        .lines
        .iter()
        .map(|(line, amount)| format!("{line} {amount}"))
        .collect();
    // 10 x 1.00 + 2 x 0.50; the largest of each series, 7 + 1; the newest; the users 0 to 4.
    assert_eq!(
        lines,
        ["peak 16.00", "requests 11.00", "seats 50.00", "users 15.00"]
    );
    assert_eq!(cost.net.to_string(), "92.00");
    assert_eq!(cost.currency.map(Currency::code), Some("EUR"));
    assert!(cost.unrated.is_empty());
}

#[test]
fn what_is_in_force_is_rated_slice_by_slice_and_a_draft_as_if_for_ever() {
    let mut timeline = Timeline::new();
    timeline.apply(Timestamp::EPOCH, catalog(|_| {}), None);
    timeline.apply(day(16), with("1.00", "2.00"), None);
    let rows = [
        row("requests", 1, "a", Aggregation::Sum, 500),
        row("requests", 20, "a", Aggregation::Sum, 500),
    ];
    // 5 x 1.00 + 5 x 2.00
    let in_force = Terms::in_force(&timeline, &acme(), june());
    assert_eq!(net(&in_force, &rows), "15.00");
    assert_eq!(net(&draft(&with("1.00", "2.00")), &rows), "20.00");
    assert_eq!(net(&draft(&catalog(|_| {})), &rows), "10.00");
}

/// The tiers of the payer's card are those of all usage together, from the day on which it pays.
#[test]
fn what_another_tenant_pays_is_a_part_of_its_costs() {
    let shop = TenantId::new("shop").expect("valid");
    let family = catalog(|files| {
        let theirs = PROFILE.replace("acme", "shop");
        let payer = "payer = { tenant = \"acme\", from = \"2026-06-11\" }\n";
        files.insert("profiles/shop.toml".to_owned(), theirs + payer);
    });
    let timeline = drafted(&family);
    let own = [row("requests", 1, "a", Aggregation::Sum, 800)];
    let theirs = [
        row("requests", 5, "a", Aggregation::Sum, 300),
        row("requests", 20, "a", Aggregation::Sum, 400),
    ];
    let cost = |payer: &TenantId| {
        let acme = acme();
        let each = [
            (&acme, paid_by(&timeline, payer, &acme, &own)),
            (&shop, paid_by(&timeline, payer, &shop, &theirs)),
        ];
        let terms = Terms::in_force(&timeline, payer, june());
        terms.cost(payer, each).expect("a bill").net.to_string()
    };
    // 10 x 1.00 + 2 x 0.50
    assert_eq!(cost(&acme()), "11.00");
    assert_eq!(cost(&shop), "3.00");
}

#[test]
fn what_does_not_fit_is_named() {
    let catalog = catalog(|files| {
        files.insert(
            "meters/more.toml".to_owned(),
            METERS.replace("name = \"", "name = \"more."),
        );
    });
    let mut scaled = row("requests", 1, "a", Aggregation::Sum, 1);
    scaled.scale = Scale::new(3).expect("in range");
    let rows = [
        scaled,
        row("requests", 1, "a", Aggregation::Sum, 100),
        row("none", 1, "a", Aggregation::Sum, 1),
        row("peak", 1, "a", Aggregation::Sum, 1),
        row("more.requests", 1, "a", Aggregation::Sum, 1),
    ];
    let found = cost(&draft(&catalog), &rows);
    let reasons: Vec<String> = found
        .unrated
        .iter()
        .map(|(meter, reason)| format!("{meter} {reason}"))
        .collect();
    assert_eq!(
        reasons,
        [
            "none undeclared_meter",
            "peak aggregation_mismatch",
            "requests scale_mismatch",
            "more.requests no_price",
        ]
    );
    assert_eq!(found.net.to_string(), "1.00");
}

#[test]
fn without_a_profile_nothing_is_rated() {
    let nobody = catalog(|files| {
        files.remove("profiles/acme.toml");
    });
    let rows = [row("requests", 1, "a", Aggregation::Sum, 100)];
    let found = cost(&draft(&nobody), &rows);
    assert_eq!((found.net, found.currency), (Decimal::ZERO, None));
    assert_eq!(found.unrated[0].1, "no_profile");
    let empty = Terms::in_force(&Timeline::new(), &acme(), june());
    assert_eq!(cost(&empty, &rows).currency, None);
}

#[test]
fn a_draft_says_whom_it_concerns() {
    let mut timeline = Timeline::new();
    let of = |timeline: &Timeline, draft: &Arc<Catalog>| concerns(timeline, draft, &acme());
    assert_eq!(of(&timeline, &catalog(|_| {})), ["gets a profile"]);
    timeline.apply(Timestamp::EPOCH, catalog(|_| {}), None);
    assert!(of(&timeline, &catalog(|_| {})).is_empty());
    assert!(of(&timeline, &with("\n[[price]]", "\n# reviewed\n[[price]]")).is_empty());
    assert_eq!(of(&timeline, &with("2.00", "2.50")), ["other prices"]);
    let moved = catalog(|files| {
        files.insert(
            "profiles/acme.toml".to_owned(),
            PROFILE.replace("UTC", "Europe/Berlin"),
        );
    });
    assert_eq!(of(&timeline, &moved), ["another profile"]);
    let gone = catalog(|files| {
        files.remove("profiles/acme.toml");
    });
    assert_eq!(of(&timeline, &gone), ["loses its profile"]);
}
