//! What holds of every model alike: usage that comes in other pieces, in another order or from
//! several tenants costs the same, all of it is on a line or unrated, and more costs no less where
//! that is promised.

use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::{Quantity, TenantId};

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price};
use crate::rate::{MeterUsage, Outcome, rate_meter};

/// A model with a price of it.
struct Model {
    name: &'static str,
    unit: &'static str,
    scale: u8,
    /// How many of its smallest unit are used at a time.
    factor: i128,
    /// The keys of the price, and of the version of 16 June.
    keys: [&'static str; 2],
    /// More costs no less.
    is_monotonic: bool,
    /// Every event has its own line of arithmetic, and is one tenant's.
    has_events: bool,
    /// What is priced by itself is one tenant's.
    is_apart: bool,
}

const PLAIN: Model = Model {
    name: "per unit",
    unit: "{unit}",
    scale: 0,
    factor: 1,
    keys: ["model = \"per_unit\"\nper = \"7 {unit}\"\nunit = \"0.31\""; 2],
    is_monotonic: true,
    has_events: false,
    is_apart: false,
};

const MODELS: [Model; 15] = [
    PLAIN,
    Model {
        name: "graduated, and cheaper later",
        keys: [
            "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [{ to = \"900\", unit = \"0.30\", flat = \"2\" }, { unit = \"0.10\" }]",
            "model = \"graduated\"\nper = \"1 {unit}\"\ntiers = [{ to = \"2000\", unit = \"0.15\" }, { unit = \"0.10\", flat = \"1\" }]",
        ],
        ..PLAIN
    },
    Model {
        name: "volume",
        keys: ["model = \"volume\"\nper = \"1 {unit}\"\ntiers = [{ to = \"900\", unit = \"0.30\", flat = \"2\" }, { unit = \"0.10\" }]";
            2],
        is_monotonic: false,
        ..PLAIN
    },
    Model {
        name: "packages with an allowance, a discount and a maximum",
        keys: ["model = \"package\"\nper = \"60 {unit}\"\nunit = \"0.07\"\nallowance = \"100\"\nmaximum = \"9\"\n\
             [[discount]]\nid = \"less\"\npercent = \"7.5\""; 2],
        ..PLAIN
    },
    Model {
        name: "percentage",
        unit: "EUR",
        scale: 2,
        keys: ["model = \"percentage\"\npercent = \"2.9\""; 2],
        ..PLAIN
    },
    Model {
        name: "graduated percentage",
        unit: "EUR",
        scale: 2,
        keys: ["model = \"percentage\"\ntiers = [{ to = \"20\", percent = \"2.5\", flat = \"0.20\" }, { percent = \"1.5\" }]";
            2],
        ..PLAIN
    },
    Model {
        name: "matrix",
        keys: ["model = \"matrix\"\nper = \"1 {unit}\"\nrows = [\n\
             { when = { region = \"eu-*\" }, unit = \"0.03\" },\n\
             { when = { region = \"eu-west\" }, unit = \"0.02\" },\n\
             { id = \"any\", when = { region = \"u*\" }, tiers = [{ to = \"10\", unit = \"1\" }, { unit = \"0.5\" }] },\n]";
            2],
        ..PLAIN
    },
    Model {
        name: "matrix whose rows share a table",
        keys: ["model = \"matrix\"\nper = \"1 {unit}\"\nrows = [\n\
             { id = \"eu\", when = { region = \"eu-*\" }, tier_pool = \"all\", tiers = [{ to = \"500\", unit = \"0.3\" }, { unit = \"0.2\" }] },\n\
             { id = \"us\", when = { region = \"us\" }, tier_pool = \"all\", tiers = [{ to = \"500\", unit = \"0.5\" }, { unit = \"0.4\" }] },\n]";
            2],
        is_monotonic: false,
        ..PLAIN
    },
    Model {
        name: "bands",
        keys: ["model = \"matrix\"\ncalendar = \"office\"\nper = \"1 {unit}\"\n\
             rows = [{ band = \"peak\", unit = \"0.03\" }, { band = \"off\", unit = \"0.01\" }]";
            2],
        ..PLAIN
    },
    Model {
        name: "tiers of each day",
        keys: ["model = \"graduated\"\ninterval = \"P1D\"\nper = \"1 {unit}\"\ntiers = [{ to = \"90\", unit = \"0.30\" }, { unit = \"0.10\", flat = \"1\" }]";
            2],
        ..PLAIN
    },
    Model {
        name: "calls in increments",
        unit: "s",
        scale: 1,
        keys: ["model = \"per_event\"\nper = \"1 min\"\nunit = \"0.60\"\nfixed = \"0.05\"\n\
             increments = [{ to = \"60 s\", step = \"60 s\" }, { step = \"1 s\" }]";
            2],
        has_events: true,
        ..PLAIN
    },
    Model {
        name: "each region by itself, with limits",
        keys: ["model = \"graduated\"\neach = { by = \"region\", maximum = \"200\", minimum = \"0.50\" }\nper = \"1 {unit}\"\n\
             allowance = \"20\"\ntiers = [{ to = \"900\", unit = \"0.30\" }, { unit = \"0.10\", flat = \"1\" }]";
            2],
        is_apart: true,
        ..PLAIN
    },
    Model {
        name: "rows of each region by itself, and dearer later",
        keys: [
            "model = \"matrix\"\neach = [\"region\", \"direction\"]\nper = \"1 {unit}\"\nrounding = { at = \"event\" }\nrows = [\n\
             { id = \"in\", when = { direction = \"in\" }, tiers = [{ to = \"100\", unit = \"1.005\" }, { unit = \"0.5\" }] },\n\
             { id = \"us\", when = { region = \"u*\" }, unit = \"0.3\" },\n]",
            "model = \"matrix\"\neach = [\"region\", \"direction\"]\nper = \"1 {unit}\"\nrounding = { at = \"event\" }\nrows = [\n\
             { id = \"us\", when = { region = \"u*\" }, unit = \"0.4\" },\n\
             { id = \"in\", when = { direction = \"in\" }, tiers = [{ to = \"100\", unit = \"1.105\" }, { unit = \"0.6\" }] },\n]",
        ],
        is_apart: true,
        ..PLAIN
    },
    Model {
        name: "percentiles of regions",
        unit: "By",
        factor: 100_000,
        keys: ["model = \"matrix\"\nrows = [\n\
             { id = \"eu\", when = { region = \"eu-*\" }, model = \"percentile\", percentile = \"95\", slot = \"PT15M\", directions = \"greater\", missing = \"excluded\", per = \"Mbit/s\", unit = \"0.80\" },\n\
             { id = \"us\", when = { region = \"us\" }, model = \"percentile\", percentile = \"50\", slot = \"PT15M\", directions = \"sum\", missing = \"excluded\", per = \"Mbit/s\", commit = \"1\", unit = \"0.80\", overage = \"1.10\" },\n]";
            2],
        is_monotonic: false,
        ..PLAIN
    },
    Model {
        name: "95th percentile",
        unit: "By",
        factor: 100_000,
        keys: ["model = \"percentile\"\npercentile = \"95\"\nslot = \"PT15M\"\ndirections = \"sum\"\nmissing = \"excluded\"\n\
             per = \"Mbit/s\"\ncommit = \"1\"\nunit = \"0.80\"\noverage = \"1.10\"";
            2],
        // A sample more may be a small one.
        is_monotonic: false,
        ..PLAIN
    },
];

const OFFICE: &str = "id = \"office\"\n\
    [[band]]\nid = \"peak\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"08:00\"\nto = \"20:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nto = \"08:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"20:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"sat\", \"sun\"]\n";

impl Model {
    fn rig(&self) -> Rig {
        let event = if self.has_events {
            "event = \"call\"\n"
        } else {
            ""
        };
        let meters = format!("{}{event}", meter(self.unit, self.scale, "sum"));
        let prices = self.keys.map(price);
        let from = ["2026-01-01", "2026-06-16"];
        let versions: Vec<Version<'_>> = from
            .iter()
            .zip(&prices)
            .map(|(from, prices)| Version {
                from,
                card: "c",
                prices,
            })
            .collect();
        Rig::new(&meters, &[OFFICE], &versions, "Europe/Berlin", "2026-06")
    }

    fn used(&self, (quarter, place, units): (u16, u8, u16)) -> Used {
        let region = ["eu-west", "eu-north", "us", "mars"][usize::from(place % 4)];
        let direction = ["in", "out"][usize::from(place / 4)];
        let dimensions = if self.has_events {
            // One event is of one window.
            dimensions(&format!("call=c{quarter}-{place}"))
        } else {
            dimensions(&format!("direction={direction},region={region}"))
        };
        Used {
            at: instant("2026-05-31T22:00:00Z").plus_millis(i64::from(quarter) * 900_000),
            width: 900,
            dimensions,
            units: i128::from(units) * self.factor,
        }
    }
}

/// What usage comes to: its texts, what all lines cost, and how much is on a line or unrated.
fn rated(rig: &Rig, usage: &MeterUsage) -> (Vec<String>, Decimal, Quantity) {
    let slices = rig.slices();
    let periods = (rig.period, rig.whole);
    let outcomes = rate_meter(usage, rig.meter(), periods, &slices, true);
    let (mut amount, mut quantities) = (Decimal::ZERO, Vec::new());
    for outcome in &outcomes {
        match outcome {
            Outcome::Line(line) => {
                amount += line.amount;
                quantities.push(line.quantity);
            }
            Outcome::Unrated { quantity, .. } => quantities.push(*quantity),
        }
    }
    let sum = Quantity::checked_sum(quantities).expect("small");
    (rig.texts_of(&slices, usage), amount, sum)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_model_keeps_the_laws(
        which in 0..MODELS.len(),
        seen in proptest::collection::vec((0u16..2880, 0u8..8, 0u16..3000), 1..12),
        cuts in proptest::collection::vec(0u16..3000, 12),
        turn in 0usize..12,
    ) {
        let model = &MODELS[which];
        let rig = model.rig();
        let slices = rig.slices();
        let used: Vec<Used> = seen.iter().map(|seen| model.used(*seen)).collect();
        let whole = rated(&rig, &rig.gather(&slices, &used));
        let all: i128 = used.iter().map(|used| used.units).sum();
        prop_assert_eq!(whole.2, Quantity::new(all), "{}: {:?}", model.name, whole.0);
        // In another order.
        let mut turned = used.clone();
        turned.rotate_left(turn % used.len());
        turned.reverse();
        prop_assert_eq!(&rated(&rig, &rig.gather(&slices, &turned)), &whole, "{}", model.name);
        // In pieces.
        let mut pieces = Vec::new();
        for (used, cut) in used.iter().zip(&cuts) {
            let first = used.units.min(i128::from(*cut) * model.factor);
            let rest = used.units - first;
            pieces.extend([first, rest].map(|units| Used { units, ..used.clone() }));
        }
        prop_assert_eq!(&rated(&rig, &rig.gather(&slices, &pieces)), &whole, "{}", model.name);
        if !model.has_events && !model.is_apart {
            // Of several tenants, for whom one pays.
            let mut together = MeterUsage::default();
            for (index, part) in pieces.chunks(3).enumerate() {
                let tenant = TenantId::new(&format!("t{index}")).expect("a plain name");
                together.merge(&tenant, &rig.gather(&slices, part)).expect("small");
            }
            prop_assert_eq!(&rated(&rig, &together), &whole, "{}", model.name);
        }
        // The last one away.
        let less = rated(&rig, &rig.gather(&slices, &used[1..]));
        prop_assert!(
            !model.is_monotonic || less.1 <= whole.1,
            "{}: {:?} costs more than {:?}", model.name, less.0, whole.0
        );
    }
}
