//! What is counted, and what it costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tollgate_common::{AgentId, Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId};

use super::options::Options;
use super::random::Random;

/// Tenants of the simulation. The last has no profile where the options say so.
pub const TENANTS: &[&str] = &["acme", "umbrella", "initech", "globex"];

/// Series of a tenant that have no dimensions.
pub const PLAIN_METERS: usize = 7;
/// The tenant of applications that forge what they count.
pub const FORGER: &str = "forger";

/// One thing that an agent counts.
#[derive(Clone, Debug)]
pub struct Series {
    /// What is counted.
    pub key: SeriesKey,
    /// How its values combine.
    pub aggregation: Aggregation,
    /// Decimal places.
    pub scale: Scale,
}

/// The name of agent number `index`.
pub fn agent_name(index: usize) -> AgentId {
    AgentId::new(&format!("edge-{}", index + 1)).expect("a plain name")
}

/// The tenant with this name.
pub fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a plain name")
}

/// The meter with this name.
pub fn meter(name: &str) -> MeterName {
    MeterName::new(name).expect("a plain name")
}

/// All series that agents may count.
pub fn series(options: &Options) -> Vec<Series> {
    let mut all = Vec::new();
    // Long and random, so that they make records large.
    let mut random = Random::new(options.seed);
    let regions: Vec<_> = (0..options.regions)
        .map(|n| match n {
            0 => "eu".to_owned(),
            _ => format!("{n}-{:016x}{:016x}", random.bits(), random.bits()),
        })
        .collect();
    let mut push = |tenant: TenantId, name: &str, aggregation, scale, region: Option<&str>| {
        let pairs: Vec<_> = region
            .map(|region| ("region", region))
            .into_iter()
            .collect();
        let dimensions = Dimensions::new(pairs).expect("plain dimensions");
        let key = SeriesKey::new(tenant, meter(name), dimensions).expect("short");
        let scale = Scale::new(scale).expect("in range");
        all.push(Series {
            key,
            aggregation,
            scale,
        });
    };
    for name in &TENANTS[..options.tenants] {
        for region in &regions {
            push(
                tenant(name),
                "http.requests",
                Aggregation::Sum,
                0,
                Some(region),
            );
        }
        push(tenant(name), "net.bytes", Aggregation::Sum, 0, None);
        push(tenant(name), "cpu.seconds", Aggregation::Sum, 3, None);
        push(tenant(name), "seats", Aggregation::Last, 0, None);
        push(tenant(name), "net.peak", Aggregation::Max, 0, None);
        push(tenant(name), "http.users", Aggregation::Unique, 0, None);
        push(
            tenant(name),
            "http.size",
            Aggregation::Distribution,
            0,
            None,
        );
        push(
            tenant(name),
            "cpu.cores",
            Aggregation::TimeWeighted,
            0,
            None,
        );
    }
    push(
        TenantId::unattributed(),
        "http.requests",
        Aggregation::Sum,
        0,
        None,
    );
    all
}

/// A quantity to count: mostly small, sometimes large.
pub fn quantity(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => random.between(1, 1 << 40),
        1..=3 => random.between(1, 100_000),
        _ => random.between(1, 20),
    }
}

/// A value for a series that combines its values like this.
pub fn value(aggregation: Aggregation, random: &mut Random) -> u64 {
    match aggregation {
        // Few enough that a period's distinct values are told exactly.
        Aggregation::Unique => random.below(60),
        Aggregation::TimeWeighted => random.below(5),
        _ => quantity(random),
    }
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
    let mut card = format!(
        "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\n\
         [[price]]\nid = \"requests\"\nmeter = \"http.requests\"\nmodel = \"graduated\"\n\
         per = \"1000 {{request}}\"\ntiers = [\n  {{ to = \"20000\", unit = \"0.{}\" }},\n  {{ unit = \"0.25\", flat = \"1\" }},\n]\n\n\
         [[price]]\nid = \"cpu\"\nmeter = \"cpu.seconds\"\nmodel = \"package\"\nper = \"60 s\"\nunit = \"0.07\"\n\
         maximum = \"20\"\n\n[[discount]]\nid = \"partner\"\npercent = \"7.5\"\n",
        40 + version % 50,
    );
    if !options.unpriced_meter {
        card.push_str(
            "\n[[price]]\nid = \"transit\"\nmeter = \"net.bytes\"\nmodel = \"volume\"\nper = \"1 MB\"\nallowance = \"1 kB\"\n\
             tiers = [{ to = \"1 MB\", unit = \"0.0123\" }, { unit = \"0.0091\" }]\n",
        );
    }
    if options.fee {
        card.push_str("\n[[price]]\nid = \"platform\"\nmodel = \"flat\"\nflat = \"25.00\"\n");
    }
    let late = if options.late_next { "next" } else { "correct" };
    let period = if options.anchored {
        let secs = options.period_secs + 35;
        format!("{{ every = \"PT{secs}S\", anchor = \"2026-01-01T00:15\" }}")
    } else {
        format!("{{ every = \"PT{}S\" }}", options.period_secs)
    };
    let mut files = BTreeMap::from([
        ("meters.toml".to_owned(), meters),
        ("cards/edge.toml".to_owned(), card),
    ]);
    let known = options.tenants - usize::from(options.unknown_tenant && options.tenants > 1);
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"];
    for (index, (name, zone)) in (0_u64..).zip(TENANTS[..known].iter().zip(zones)) {
        let mut profile = format!(
            "tenant = \"{name}\"\ncard = \"edge\"\nzone = \"{zone}\"\nperiod = {period}\nlate = \"{late}\"\n"
        );
        // With other versions others join and leave.
        if options.payer && index > 0 && !(2 * version + index).is_multiple_of(3) {
            writeln!(profile, "payer = \"{}\"", TENANTS[0])
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
        for seed in 0..50 {
            let options = Options::from_seed(seed, None);
            let files = catalog(&options, seed);
            let checked = Catalog::parse(&files);
            assert!(checked.is_ok(), "{}", checked.expect_err("not ok"));
        }
    }
}
