//! What is counted, and what it costs.

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
