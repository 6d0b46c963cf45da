//! Generated cards: one price of a model with the keys that this model may have.

use std::fmt::Write;

use super::Numbers;

/// A kind of prices, and what it needs of its meter.
pub(super) struct Model {
    name: &'static str,
    unit: &'static str,
    aggregation: &'static str,
    has_events: bool,
    /// After what tiers may begin anew.
    pub(super) intervals: &'static [&'static str],
}

/// Of a sum of bytes.
const PLAIN: Model = Model {
    name: "",
    unit: "By",
    aggregation: "sum",
    has_events: false,
    intervals: &["P1D", "PT1H", "window"],
};

/// Those that differ in many keys are drawn more often.
pub(super) const MODELS: [Model; 16] = [
    Model {
        name: "per_unit",
        ..PLAIN
    },
    Model {
        name: "package",
        ..PLAIN
    },
    Model {
        name: "graduated",
        ..PLAIN
    },
    Model {
        name: "graduated",
        ..PLAIN
    },
    Model {
        name: "volume",
        ..PLAIN
    },
    Model {
        name: "volume",
        ..PLAIN
    },
    Model {
        name: "each",
        ..PLAIN
    },
    Model {
        name: "matrix",
        ..PLAIN
    },
    Model {
        name: "banded",
        ..PLAIN
    },
    Model {
        name: "percentile",
        ..PLAIN
    },
    Model {
        name: "percentage",
        unit: "EUR",
        ..PLAIN
    },
    Model {
        name: "percentage",
        unit: "EUR",
        has_events: true,
        intervals: &["period"],
        ..PLAIN
    },
    Model {
        name: "increments",
        has_events: true,
        ..PLAIN
    },
    Model {
        name: "sized",
        has_events: true,
        ..PLAIN
    },
    Model {
        name: "level",
        aggregation: "time_weighted",
        intervals: &["P1D", "PT1H", "PT15M"],
        ..PLAIN
    },
    Model {
        name: "largest",
        aggregation: "max",
        intervals: &["P1D", "PT1H"],
        ..PLAIN
    },
];

pub(super) const WEEK: &str = "id = \"week\"\n\
    [[band]]\nid = \"day\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"08:00\"\nto = \"20:00\"\n\
    [[band]]\nid = \"night\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nto = \"08:00\"\n\
    [[band]]\nid = \"night\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"20:00\"\n\
    [[band]]\nid = \"night\"\ndays = [\"sat\", \"sun\"]\n";

impl Model {
    pub(super) fn meter(&self, scale: u64) -> String {
        let (unit, aggregation) = (self.unit, self.aggregation);
        let event = if self.has_events {
            "event = \"call\"\n"
        } else {
            ""
        };
        format!(
            "[[meter]]\nname = \"m\"\nunit = \"{unit}\"\nscale = {scale}\n\
             aggregation = \"{aggregation}\"\n{event}"
        )
    }
}

/// A card with a version of the price.
pub(super) fn card_text(
    numbers: &mut Numbers,
    from: &str,
    model: &Model,
    interval: &str,
) -> String {
    let keys = keys(numbers, model, interval);
    let mut text = format!(
        "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"{from}\"\norder = \"standard/1\"\n[[price]]\n\
         id = \"p\"\nmeter = \"m\"\n"
    );
    text.push_str(&keys);
    if numbers.one_in(3) {
        let least = numbers.below(50);
        let _ = writeln!(
            text,
            "minimum = \"{least}.5\"\nmaximum = \"{}\"",
            least + 1 + numbers.below(900)
        );
    }
    let _ = writeln!(
        text,
        "rounding = {{ at = \"{}\", mode = \"{}\", places = {} }}",
        if model.has_events || model.name == "each" {
            numbers.one_of(&["line", "event"])
        } else {
            "line"
        },
        numbers.mode(),
        numbers.below(7)
    );
    if numbers.one_in(2) {
        let _ = writeln!(
            text,
            "[[discount]]\nid = \"share\"\npercent = \"{}\"",
            numbers.below(99) + 1
        );
    }
    if numbers.one_in(3) {
        let _ = writeln!(
            text,
            "[[discount]]\nid = \"off\"\namount = \"{}\"",
            numbers.decimal(40)
        );
    }
    text
}

/// The model with its own keys.
fn keys(numbers: &mut Numbers, model: &Model, interval: &str) -> String {
    let begins = format!("interval = \"{interval}\"\n");
    match model.name {
        "percentile" => format!(
            "model = \"percentile\"\nper = \"Mbit/s\"\npercentile = \"{}\"\nslot = \"PT15M\"\n\
             directions = \"{}\"\nmissing = \"{}\"\ncommit = \"{}\"\nunit = \"{}\"\n",
            numbers.below(99) + 1,
            numbers.one_of(&["greater", "sum", "each", "in", "out"]),
            numbers.one_of(&["zero", "excluded", "zero_unless_lost"]),
            numbers.below(500) + 1,
            numbers.decimal(10),
        ),
        "matrix" => {
            // What fills tiers together has no least amounts.
            let pools = numbers.one_in(2);
            format!(
                "model = \"matrix\"\nper = \"1 {}\"\nrows = [{{ id = \"eu\", when = {{ region = \"eu-*\" }}, {} }}, \
                 {{ id = \"any\", model = \"{}\", {} }}]\n",
                numbers.one_of(&["GB", "GiB", "kB"]),
                row(numbers, pools),
                numbers.one_of(&["graduated", "volume"]),
                row(numbers, pools),
            )
        }
        "banded" => format!(
            "model = \"matrix\"\ncalendar = \"week\"\nper = \"1 kB\"\n{begins}rows = [{{ band = \"day\", {} }}, \
             {{ band = \"night\", {} }}]\n",
            scheme(numbers, Tiers::PLAIN).join(", "),
            scheme(numbers, Tiers::PLAIN).join(", "),
        ),
        "percentage" => percentage(numbers, model, &begins),
        "increments" => {
            let to = numbers.below(1 << 20) + 1;
            format!(
                "model = \"per_event\"\nper = \"1 kB\"\nunit = \"{}\"\nincrements = [{{ to = \"{to} By\", \
                 step = \"{} By\" }}, {{ step = \"{} By\", unit = \"{}\" }}]\n{}",
                numbers.decimal(9),
                numbers.below(5000) + 1,
                numbers.below(500) + 1,
                numbers.decimal(9),
                event(numbers),
            )
        }
        "sized" => format!(
            "model = \"per_event\"\nper = \"1 kB\"\ntier_by = {{ event = \"{}\" }}\n{}\n{}",
            numbers.one_of(&["volume", "graduated"]),
            scheme(numbers, Tiers::OF_EVENTS).join("\n"),
            event(numbers),
        ),
        "each" => {
            let least = numbers.below(20);
            let limits = format!(
                "maximum = \"{}\", minimum = \"{least}\"",
                least + numbers.below(90)
            );
            format!(
                "model = \"{}\"\nper = \"{} kB\"\n{begins}each = {{ by = [\"direction\", \"region\"], {limits} }}\n{}\n",
                numbers.one_of(&["graduated", "volume"]),
                numbers.below(2000) + 1,
                scheme(numbers, Tiers::PLAIN).join("\n"),
            )
        }
        "level" => {
            let tiers = if interval == "period" {
                Tiers::WHOLE
            } else {
                Tiers::BARE
            };
            format!(
                "model = \"graduated\"\nover = \"period\"\nper = \"1 kB\"\n{begins}{}\n",
                scheme(numbers, tiers).join("\n"),
            )
        }
        "largest" => format!(
            "model = \"{}\"\nper = \"1 kB\"\n{begins}{}\n",
            numbers.one_of(&["graduated", "volume"]),
            scheme(numbers, Tiers::PLAIN).join("\n"),
        ),
        name => format!(
            "model = \"{name}\"\nper = \"{} kB\"\n{begins}{}\n",
            numbers.below(2000) + 1,
            around(numbers, name, interval)
        ),
    }
}

/// A percentage, plain or of each event.
fn percentage(numbers: &mut Numbers, model: &Model, begins: &str) -> String {
    let mut text = "model = \"percentage\"\n".to_owned();
    if numbers.one_in(2) {
        let _ = writeln!(text, "percent = \"{}\"", numbers.decimal(120));
    } else {
        let bound = numbers.below(1 << 40) + 1;
        let _ = writeln!(
            text,
            "tiers = [{{ to = \"{bound}\", percent = \"{}\", flat = \"{}\" }}, {{ percent = \"{}\" }}]",
            numbers.decimal(120),
            numbers.decimal(20),
            numbers.decimal(120)
        );
    }
    if model.has_events {
        text.push_str(&event(numbers));
    } else {
        text.push_str(begins);
        if numbers.one_in(3) {
            let _ = writeln!(text, "allowance = \"{}\"", numbers.below(900) + 1);
        }
    }
    text
}

/// What is said of each event.
fn event(numbers: &mut Numbers) -> String {
    let mut text = format!("fixed = \"{}\"\n", numbers.decimal(3));
    if numbers.one_in(3) {
        let least = numbers.below(9);
        let most = least + numbers.below(90);
        let _ = writeln!(
            text,
            "event_minimum = \"{least}\"\nevent_maximum = \"{most}\""
        );
    }
    if numbers.one_in(3) {
        let _ = writeln!(text, "free_events = {}", numbers.below(3));
    }
    if numbers.one_in(3) {
        let _ = writeln!(text, "free_quantity = \"{}\"", numbers.below(1 << 30) + 1);
    }
    text
}

/// A simple price with what stands around it.
fn around(numbers: &mut Numbers, model: &str, interval: &str) -> String {
    let mut text = match model {
        "per_unit" => format!("unit = \"{}\"\n", numbers.decimal(1000)),
        "package" => format!(
            "unit = \"{}\"\nblocks = \"{}\"\n",
            numbers.decimal(1000),
            numbers.one_of(&["started", "full"])
        ),
        _ => {
            let tiers = if interval == "period" {
                Tiers::WHOLE
            } else {
                Tiers::PLAIN
            };
            scheme(numbers, tiers).join("\n")
        }
    };
    text.push('\n');
    if numbers.one_in(4) {
        let to = numbers.below(5000) + 1;
        let _ = writeln!(
            text,
            "convert = {{ to = \"{to} kB\", round = \"{}\" }}",
            numbers.mode()
        );
    }
    let mut is_included = false;
    if numbers.one_in(3) {
        is_included = true;
        let above = numbers.one_of(&["excess", "all"]);
        let _ = writeln!(
            text,
            "allowance = {{ quantity = \"{} MB\", above = \"{above}\" }}",
            numbers.below(900) + 1
        );
    }
    if interval == "period" && numbers.one_in(4) {
        let tiers = matches!(model, "graduated" | "volume") && !text.contains("tier_by");
        let what: Vec<&str> = [("\"allowance\"", is_included), ("\"tiers\"", tiers)]
            .into_iter()
            .filter_map(|(what, is)| is.then_some(what))
            .collect();
        if !what.is_empty() {
            let _ = writeln!(text, "prorated = [{}]", what.join(", "));
        }
    }
    text
}

/// The keys of a row, whose tiers may be pooled.
fn row(numbers: &mut Numbers, pools: bool) -> String {
    if !pools {
        return scheme(numbers, Tiers::PLAIN).join(", ");
    }
    let mut keys = scheme(numbers, Tiers::BARE);
    if numbers.one_in(2) {
        keys.push("tier_pool = \"all\"".to_owned());
    }
    keys.join(", ")
}

/// What tiers may say of themselves.
#[derive(Clone, Copy)]
struct Tiers {
    /// A least amount.
    least: bool,
    /// In what parts they are charged, and what else selects them.
    blocks: bool,
    /// That the first fee is always due.
    always: bool,
}

impl Tiers {
    const BARE: Self = Self {
        least: false,
        blocks: true,
        always: false,
    };
    const PLAIN: Self = Self {
        least: true,
        ..Self::BARE
    };
    const WHOLE: Self = Self {
        always: true,
        ..Self::PLAIN
    };
    const OF_EVENTS: Self = Self {
        blocks: false,
        ..Self::PLAIN
    };
}

/// The keys of tiers.
fn scheme(numbers: &mut Numbers, may: Tiers) -> Vec<String> {
    let mut tiers = Vec::new();
    let mut bound = 0;
    for _ in 0..numbers.below(4) {
        bound += numbers.below(1 << 40) + 1;
        tiers.push(tier(numbers, Some(bound), may));
    }
    tiers.push(tier(numbers, None, may));
    let mut keys = vec![
        format!("tiers = [{}]", tiers.join(", ")),
        format!(
            "bounds = \"{}\"",
            numbers.one_of(&["inclusive", "exclusive"])
        ),
    ];
    if may.blocks {
        let blocks = numbers.one_of(&["exact", "started", "full"]);
        keys.push(format!("blocks = \"{blocks}\""));
        if numbers.one_in(5) {
            let to = numbers.below(90) + 1;
            let mode = numbers.mode();
            keys.push(format!(
                "tier_by = {{ to = \"{to} kB\", round = \"{mode}\" }}"
            ));
        }
    }
    if may.always {
        let due = numbers.one_of(&["usage", "always", "prorated"]);
        keys.push(format!("first_flat = \"{due}\""));
    }
    keys
}

fn tier(numbers: &mut Numbers, to: Option<u64>, may: Tiers) -> String {
    let mut keys: Vec<String> = to.iter().map(|to| format!("to = \"{to}\"")).collect();
    let fee_alone = numbers.one_in(8);
    if !fee_alone {
        keys.push(format!("unit = \"{}\"", numbers.decimal(500)));
    }
    if fee_alone || numbers.one_in(3) {
        keys.push(format!("flat = \"{}\"", numbers.decimal(20)));
    }
    if numbers.one_in(5) {
        keys.push(format!("per = \"{} kB\"", numbers.below(70) + 1));
    }
    if may.least && numbers.one_in(5) {
        keys.push(format!("minimum = \"{}\"", numbers.decimal(30)));
    }
    format!("{{ {} }}", keys.join(", "))
}
