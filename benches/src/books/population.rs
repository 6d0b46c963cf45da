//! Who reports what, in the benches of the books: agents with series of their own, all of which
//! count in every window.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::entry::{
    CatalogChange, Digest, Entry, Opened, ReceivedBatch, Stamped, Verdicts,
};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, Dimensions, Incarnation, Lineage, MeterName,
    Opening, Quantity, Rollup, Scale, SeriesKey, Span, TenantId, Timestamp, Total, Window,
    WindowWidth,
};

/// First instant of the month in which everything is counted: 2026-06-01.
pub(crate) const MONTH: i64 = 1_780_272_000;
const WINDOW_SECS: u32 = 10;

/// What a population looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) agents: usize,
    pub(crate) tenants: usize,
    pub(crate) meters: usize,
    /// Series of every agent; each is of one agent alone.
    pub(crate) series: usize,
    /// Series differ in dimensions, and not only in tenant and meter.
    pub(crate) dimensions: bool,
    pub(crate) aggregation: Aggregation,
}

impl Shape {
    /// A million series of agents that seal ten thousand each: few tenants, whose series differ in
    /// dimensions.
    pub(crate) const LARGE: Self = Self {
        agents: 100,
        tenants: 50,
        meters: 4,
        series: 10_000,
        dimensions: true,
        aggregation: Aggregation::Sum,
    };

    /// Series of all agents.
    pub(crate) fn all_series(&self) -> usize {
        self.agents * self.series
    }

    fn key(&self, index: usize) -> Result<SeriesKey> {
        const REGIONS: [&str; 4] = ["eu-central-1", "eu-west-3", "us-east-2", "ap-south-1"];
        let dimensions = if self.dimensions {
            Dimensions::new([
                (
                    "direction",
                    (if index.is_multiple_of(2) { "in" } else { "out" }).to_owned(),
                ),
                ("pop", format!("pop-{index:08}")),
                ("region", REGIONS[index % 4].to_owned()),
            ])?
        } else {
            Dimensions::none()
        };
        let meter = index % self.meters;
        let tenant = index / self.meters % self.tenants;
        Ok(SeriesKey::new(
            TenantId::new(&format!("customer-{tenant:06}"))?,
            MeterName::new(&format!("edge.meter-{meter}"))?,
            dimensions,
        )?)
    }

    /// A catalog with a graduated price for every meter.
    pub(crate) fn catalog(&self) -> BTreeMap<String, String> {
        let mut meters = String::new();
        let mut card =
            "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2020-01-01\"\norder = \"standard/1\"\n"
                .to_owned();
        for meter in 0..self.meters {
            meters.push_str(&format!(
                "[[meter]]\nname = \"edge.meter-{meter}\"\nunit = \"{{request}}\"\nscale = 0\naggregation = \"{}\"\n",
                self.aggregation
            ));
            card.push_str(&format!(
                "[[price]]\nid = \"price-{meter}\"\nmeter = \"edge.meter-{meter}\"\nmodel = \"graduated\"\n\
                 per = \"1000 {{request}}\"\ntiers = [\n{{ to = \"100000\", unit = \"0.40\" }},\n\
                 {{ to = \"1000000\", unit = \"0.30\" }},\n{{ to = \"10000000\", unit = \"0.25\" }},\n{{ unit = \"0.20\" }},\n]\n"
            ));
        }
        let profile =
            "tenant = \"*\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"P1M\" }\n";
        BTreeMap::from([
            ("meters.toml".to_owned(), meters),
            ("cards/edge.toml".to_owned(), card),
            ("profiles/default.toml".to_owned(), profile.to_owned()),
        ])
    }
}

/// One agent and what it has sealed.
struct Agent {
    name: AgentId,
    incarnation: Incarnation,
    series: Vec<Arc<SeriesKey>>,
    totals: BTreeMap<(TenantId, MeterName), i128>,
    next: u64,
    parent: BatchHash,
}

/// The agents, and the journal entries that they make.
pub(crate) struct Population {
    shape: Shape,
    agents: Vec<Agent>,
    random: u64,
}

impl Population {
    pub(crate) fn new(shape: Shape) -> Result<Self> {
        let agent = |number: usize| -> Result<Agent> {
            let keys = (0..shape.series).map(|index| shape.key(number * shape.series + index));
            let mut series = keys
                .map(|key| key.map(Arc::new))
                .collect::<Result<Vec<_>>>()?;
            series.sort_unstable();
            Ok(Agent {
                name: AgentId::new(&format!("edge-{number}"))?,
                incarnation: Incarnation::from_bytes((number as u128 + 1).to_le_bytes()),
                series,
                totals: BTreeMap::new(),
                next: 1,
                parent: BatchHash::ZERO,
            })
        };
        Ok(Self {
            shape,
            agents: (0..shape.agents).map(agent).collect::<Result<_>>()?,
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// The entries before all usage: the figures and the catalog.
    pub(crate) fn beginning(&self, partitions: u16) -> Result<[Stamped; 2]> {
        let stamp = Timestamp::from_secs(MONTH);
        let opened = Opened {
            lineage: Lineage::from_bytes([7; 16]),
            partitions,
            usage_window_secs: 60,
            settlement_millis: 86_400_000,
            future_tolerance_millis: 5000,
        };
        let catalog = CatalogChange::of(&Catalog::parse(&self.shape.catalog())?);
        Ok([Entry::Opened(opened), Entry::Catalog(catalog)].map(|entry| Stamped { stamp, entry }))
    }

    /// What all agents seal for a window, agent by agent.
    pub(crate) fn window(&mut self, number: u32) -> impl Iterator<Item = Stamped> + '_ {
        let random = &mut self.random;
        let shape = self.shape;
        self.agents
            .iter_mut()
            .map(move |agent| agent.seal(&shape, number, random))
    }
}

impl Agent {
    fn seal(&mut self, shape: &Shape, number: u32, random: &mut u64) -> Stamped {
        let width = WindowWidth::from_secs(WINDOW_SECS).expect("10 divides 900");
        let at = Timestamp::from_secs(MONTH + i64::from(number * WINDOW_SECS));
        let window = Window::containing(at, width);
        let row = |series: &Arc<SeriesKey>| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let events = 1 + *random % 5000;
            Rollup::new(
                Arc::clone(series),
                shape.aggregation,
                Scale::ZERO,
                window,
                Quantity::from(events),
                events,
            )
        };
        let rows: Vec<Rollup> = self.series.iter().map(row).collect();
        if shape.aggregation == Aggregation::Sum {
            for row in &rows {
                let pair = (row.series.tenant().clone(), row.series.meter().clone());
                *self.totals.entry(pair).or_default() += row.value.units();
            }
        }
        let total = |((tenant, meter), units): (&(TenantId, MeterName), &i128)| Total {
            tenant: tenant.clone(),
            meter: meter.clone(),
            scale: Scale::ZERO,
            quantity: Quantity::new(*units),
        };
        let sequence = BatchSeq::new(self.next).expect("starts at one");
        let batch = Batch {
            agent: self.name.clone(),
            incarnation: self.incarnation,
            sequence,
            parent_hash: self.parent,
            span: Span {
                from: window.start(),
                to: window.end(),
            },
            watermark: window.end(),
            opening: (sequence == BatchSeq::FIRST).then_some(Opening { parent: None }),
            is_final: false,
            rows,
            totals: self.totals.iter().map(total).collect(),
            losses: Vec::new(),
            steps: Vec::new(),
        };
        self.next += 1;
        self.parent = batch.hash();
        Stamped {
            stamp: window.end().plus_millis(20),
            entry: Entry::Batch(Arc::new(ReceivedBatch {
                batch,
                policy: Digest([0; 32]),
                verdicts: Verdicts::AllAllowed,
            })),
        }
    }
}
