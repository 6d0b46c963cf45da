//! What usage costs in a world: the catalog's files, and the same as plain figures for whoever
//! works out bills by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::options::Options;
use super::random::Random;
use super::workload::TENANTS;

/// The first days of taxes with their percentages.
pub const TAX_CHANGES_ON: &str = "2026-07-01";
/// The tax in percent before that day, and from then on.
pub const TAX_PERCENT: [i128; 2] = [19, 16];
/// What the partner discount leaves of a line, in thousandths.
pub const LEFT_OF_LINE: i128 = 925;
/// The days of a commitment's term.
pub const TERM_DAYS: i64 = 3;
/// The day on which the card came into force, and with it the first term.
pub const CARD_FROM: &str = "2026-01-01";
/// The zones of the tenants, in their order.
pub const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"];

/// How a commitment is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pay {
    /// What is missing, at the end of the term.
    Usage,
    /// All of it at once.
    Advance,
    /// With every bill the same.
    Parts,
}

/// A commitment on a card.
#[derive(Clone, Copy, Debug)]
pub struct Commitment {
    /// In cents.
    pub cents: i128,
    /// How it is paid.
    pub pay: Pay,
    /// What is above it costs half as much again.
    pub overage: bool,
}

/// What pays for bills.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// In cents.
    pub cents: i128,
    /// It comes again after so many days, and what is left of it expires.
    pub days: Option<i64>,
}

/// What stands around the prices of a world, the same in all versions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// Lines are taxed: each by itself, or all together.
    pub tax_per_line: Option<bool>,
    /// What usage costs at the least, in cents.
    pub minimum: Option<i128>,
    /// What is to be spent in a term.
    pub commitment: Option<Commitment>,
    /// What pays for bills at first.
    pub grant: Option<Grant>,
    /// From how many cents on an open period is billed.
    pub threshold: Option<i128>,
}

impl Around {
    /// Draws what there is.
    pub fn draw(random: &mut Random) -> Self {
        let mut some = |per_mille, most: u64| {
            let cents = 1 + i128::from(random.below(most));
            random.chance(per_mille).then_some(cents)
        };
        let tax = some(600, 2);
        let minimum = some(400, 3000);
        let commitment = some(400, 20_000);
        let grant = some(400, 20_000);
        Self {
            tax_per_line: tax.map(|which| which == 1),
            minimum,
            commitment: commitment.map(|cents| Commitment {
                cents,
                pay: *random.pick(&[Pay::Usage, Pay::Advance, Pay::Parts]),
                overage: random.chance(500),
            }),
            grant: grant.map(|cents| Grant { cents, days: None }),
            threshold: None,
        }
    }

    /// True if it asks for money in periods without usage.
    pub const fn is_due_unused(&self) -> bool {
        self.minimum.is_some() || self.commitment.is_some()
    }
}

/// The prices of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// Cents for each 1000 of the first 20,000 requests.
    pub first_requests: i128,
    /// Cents for each 1000 requests, beside that.
    pub routing: Option<i128>,
    /// Cents of the fee of a period, if there is one.
    pub fee: Option<i128>,
    /// Whether there is a price for transit.
    pub transit: bool,
    /// Cents for a gigabyte of the largest values, and for a core that is had for all of a period.
    pub figures: Option<[i128; 2]>,
    /// The tenant has rates of its own.
    pub is_contracted: bool,
}

impl Tariff {
    /// What a version says for a tenant.
    pub fn of(options: &Options, version: u64, index: u64) -> Self {
        let listed = Self::listed(options, version);
        if !is_contracted(options, version, index) {
            return listed;
        }
        Self {
            first_requests: listed.first_requests - 7,
            routing: listed.routing.map(|cents| cents + 2),
            fee: listed.fee.map(|cents| cents - 300),
            is_contracted: true,
            ..listed
        }
    }

    /// What a version lists for everybody.
    fn listed(options: &Options, version: u64) -> Self {
        let routing = options.lanes && version % 3 != 1;
        Self {
            first_requests: i128::from(40 + version % 50),
            routing: routing.then(|| i128::from(3 + version % 5)),
            fee: options.fee.then(|| 2500 + 100 * i128::from(version % 7)),
            transit: !options.unpriced_meter,
            figures: options.figures.then(|| {
                let step = i128::from(version % 4);
                [11 + step, 1900 - 150 * step]
            }),
            is_contracted: false,
        }
    }

    fn card(self, around: &Around) -> String {
        let mut card = format!(
            "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"{CARD_FROM}\"\norder = \"standard/1\"\n"
        );
        if around.tax_per_line == Some(true) {
            card.push_str("tax = { per = \"line\" }\n");
        }
        let mut add = |text: std::fmt::Arguments<'_>| {
            card.write_fmt(text)
                .expect("writing to a string does not fail");
        };
        add(format_args!(
            "\n[[price]]\nid = \"requests\"\nmeter = \"http.requests\"\nmodel = \"graduated\"\n\
             per = \"1000 {{request}}\"\ntiers = [\n  {{ to = \"20000\", unit = \"{}\" }},\n  \
             {{ unit = \"0.25\", flat = \"1\" }},\n]\n\n\
             [[price]]\nid = \"cpu\"\nmeter = \"cpu.seconds\"\nmodel = \"package\"\n\
             per = \"60 s\"\nunit = \"0.07\"\nmaximum = \"20\"\n\n\
             [[discount]]\nid = \"partner\"\npercent = \"7.5\"\n",
            money(self.first_requests)
        ));
        if self.transit {
            add(format_args!(
                "\n[[price]]\nid = \"transit\"\nmeter = \"net.bytes\"\nmodel = \"volume\"\n\
                 per = \"1 MB\"\nallowance = \"1 kB\"\n\
                 tiers = [{{ to = \"1 MB\", unit = \"0.0123\" }}, {{ unit = \"0.0091\" }}]\n"
            ));
        }
        if let Some(routing) = self.routing {
            add(format_args!(
                "\n[[price]]\nid = \"routing\"\nmeter = \"http.requests\"\nmodel = \"per_unit\"\n\
                 per = \"1000 {{request}}\"\nunit = \"{}\"\n",
                money(routing)
            ));
        }
        if let Some([peak, core]) = self.figures {
            add(format_args!(
                "\n[[price]]\nid = \"peak\"\nmeter = \"net.peak\"\nmodel = \"per_unit\"\n\
                 per = \"1 GB\"\nunit = \"{}\"\n\n\
                 [[price]]\nid = \"cores\"\nmeter = \"cpu.cores\"\nmodel = \"per_unit\"\n\
                 over = \"period\"\nper = \"1 {{core}}\"\nunit = \"{}\"\n",
                money(peak),
                money(core)
            ));
        }
        if let Some(fee) = self.fee {
            add(format_args!(
                "\n[[price]]\nid = \"platform\"\nmodel = \"flat\"\nflat = \"{}\"\n",
                money(fee)
            ));
        }
        if let Some(minimum) = around.minimum {
            add(format_args!(
                "\n[[minimum]]\nid = \"least\"\nfees = false\namount = \"{}\"\n",
                money(minimum)
            ));
        }
        if let Some(Commitment {
            cents,
            pay,
            overage,
        }) = around.commitment
        {
            let pay = match pay {
                Pay::Usage => "usage",
                Pay::Advance => "advance",
                Pay::Parts => "parts",
            };
            add(format_args!(
                "\n[[commitment]]\nid = \"term\"\namount = \"{}\"\nterm = \"P{TERM_DAYS}D\"\npay = \"{pay}\"\n",
                money(cents)
            ));
            if overage {
                add(format_args!("overage = \"1.5\"\n"));
            }
        }
        card
    }

    /// The tenant's own rates, as its profile has them.
    fn contract(self) -> String {
        let mut rates = format!(
            "\n[[contracted]]\nprice = \"requests\"\ntiers = [\n  \
             {{ to = \"20000\", unit = \"{}\" }},\n  {{ unit = \"0.25\", flat = \"1\" }},\n]\n",
            money(self.first_requests)
        );
        for (price, key, cents) in [
            ("routing", "unit", self.routing),
            ("platform", "flat", self.fee),
        ] {
            let Some(cents) = cents else { continue };
            let amount = money(cents);
            write!(
                rates,
                "\n[[contracted]]\nprice = \"{price}\"\n{key} = \"{amount}\"\n"
            )
            .expect("writing to a string does not fail");
        }
        rates
    }
}

/// True if a tenant has rates of its own by a version.
fn is_contracted(options: &Options, version: u64, index: u64) -> bool {
    options.contracts && index % 2 == 1 && version % 4 != 3
}

/// True if the first tenant pays for another one by a version: with other versions others join and
/// leave.
pub fn is_paid(options: &Options, version: u64, index: u64) -> bool {
    options.payer && index > 0 && !(2 * version + index).is_multiple_of(3)
}

/// Cents as a decimal.
fn money(cents: i128) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Tenants with a profile.
pub fn known_tenants(options: &Options) -> &'static [&'static str] {
    let unknown = options.unknown_tenant && options.tenants > 1;
    &TENANTS[..options.tenants - usize::from(unknown)]
}

/// The catalog's files; `version` changes the prices.
pub fn catalog(options: &Options, version: u64) -> BTreeMap<String, String> {
    let mut meters = String::new();
    let declared = [
        ("http.requests", "{request}", 0, "sum"),
        ("net.bytes", "By", 0, "sum"),
        ("cpu.seconds", "s", 3, "sum"),
        ("seats", "{seat}", 0, "last"),
        ("net.peak", "By", 0, "max"),
        ("http.users", "{user}", 0, "unique"),
        ("http.size", "By", 0, "distribution"),
        ("cpu.cores", "{core}", 0, "time_weighted"),
    ];
    for (name, unit, scale, aggregation) in declared {
        write!(
            meters,
            "[[meter]]\nname = \"{name}\"\nunit = \"{unit}\"\nscale = {scale}\naggregation = \"{aggregation}\"\n\n"
        )
        .expect("writing to a string does not fail");
    }
    let around = &options.around;
    let mut files = BTreeMap::from([
        ("meters.toml".to_owned(), meters),
        (
            "cards/edge.toml".to_owned(),
            Tariff::listed(options, version).card(around),
        ),
    ]);
    if around.tax_per_line.is_some() {
        let [before, after] = TAX_PERCENT;
        let tax = format!(
            "[[tax]]\ncode = \"vat\"\njurisdiction = \"DE\"\nrates = [\n  \
             {{ percent = \"{before}\", until = \"{TAX_CHANGES_ON}\" }},\n  \
             {{ percent = \"{after}\", from = \"{TAX_CHANGES_ON}\" }},\n]\n"
        );
        files.insert("tax/vat.toml".to_owned(), tax);
    }
    let late = if options.late_next { "next" } else { "correct" };
    let period = if options.daily {
        "{ every = \"P1D\" }".to_owned()
    } else if options.anchored {
        let secs = options.period_secs + 35;
        format!("{{ every = \"PT{secs}S\", anchor = \"2026-01-01T00:15\" }}")
    } else {
        format!("{{ every = \"PT{}S\" }}", options.period_secs)
    };
    for (index, (name, zone)) in (0_u64..).zip(known_tenants(options).iter().zip(ZONES)) {
        let mut profile = format!(
            "tenant = \"{name}\"\ncard = \"edge\"\nzone = \"{zone}\"\nperiod = {period}\nlate = \"{late}\"\n"
        );
        if is_paid(options, version, index) {
            writeln!(profile, "payer = \"{}\"", TENANTS[0])
                .expect("writing to a string does not fail");
        }
        if around.tax_per_line.is_some() {
            profile.push_str("tax = \"vat\"\n");
        }
        if let Some(threshold) = around.threshold {
            let amount = money(threshold);
            writeln!(profile, "threshold = {{ amount = \"{amount}\" }}")
                .expect("writing to a string does not fail");
        }
        if is_contracted(options, version, index) {
            profile.push_str(&Tariff::of(options, version, index).contract());
        }
        if let Some(Grant { cents, days }) = around.grant {
            let amount = money(cents);
            let every = days.map(|days| format!("every = \"P{days}D\"\nfrom = \"{CARD_FROM}\"\n"));
            let every = every.unwrap_or_default();
            write!(
                profile,
                "\n[[grant]]\nid = \"welcome\"\namount = \"{amount}\"\n{every}"
            )
            .expect("writing to a string does not fail");
        }
        files.insert(format!("profiles/{name}.toml"), profile);
    }
    files
}

#[cfg(test)]
mod tests {
    use tollgate_collector_core::catalog::Catalog;

    use super::*;

    #[test]
    fn every_catalog_is_accepted() {
        for seed in 0..100 {
            let options = Options::from_seed(seed, None);
            let files = catalog(&options, seed);
            let checked = Catalog::parse(&files);
            assert!(checked.is_ok(), "{}", checked.expect_err("not ok"));
        }
    }
}
