//! Attribution: for which tenant, meter and dimensions a sample counts.
//!
//! The rules of the configuration are tried in order and the first that matches decides. What
//! matches none goes to the reserved tenant `_unattributed`: it is kept, counted and shipped,
//! and somebody can see that a rule is missing.
//!
//! | case | tenant | meter | dimensions |
//! | --- | --- | --- | --- |
//! | a rule matches | the rule's | the rule's, or the metric's name | the rule's |
//! | a rule matches, its tag has no valid tenant name | `_unattributed` | as above | as above |
//! | no rule matches | `_unattributed` | the metric's name | none |
//! | the meter is not declared | `_unattributed` | the metric's name, scale 0, rounded | none |
//! | a dimension's value is not valid | unchanged | unchanged | `overflow=true` |
//!
//! A rule that takes the tenant from a tag matches only samples that have the tag. A metric
//! whose name no meter can have, or whose type contradicts its meter, is refused.

mod cache;
mod glob;
mod load;

pub use cache::{
    CACHE_BYTES_MAX, CACHE_BYTES_MIN, HEADER_BYTES, Hit, LineCache, LineKey, NAME_BYTES_MAX,
    NO_ENTRY, SLACK_BYTES, SUFFIX_BYTES_MAX,
};
pub use glob::Glob;
pub(crate) use load::word;

use std::collections::BTreeMap;

use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId};

use crate::input::{Input, Kind, Listener, Sample};

/// What a meter declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Unit in UCUM style, such as `By`, `s` or `{request}`; for people.
    pub unit: String,
    /// Decimal places of the smallest unit.
    pub scale: Scale,
    /// How values combine.
    pub aggregation: Aggregation,
    /// What happens to values that need more places.
    pub inexact: Inexact,
}

/// Where a rule takes the tenant from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// Always this one.
    Fixed(TenantId),
    /// The value of this tag.
    Tag(String),
}

/// One rule of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only samples of this input; `None` for all.
    pub input: Option<Input>,
    /// Only samples of this listener; `None` for all.
    pub listener: Option<Listener>,
    /// Only metrics that fit; `None` for all.
    pub metric: Option<Glob>,
    /// Tags that must be there with a value that fits.
    pub tags: Vec<(String, Glob)>,
    /// Who pays.
    pub tenant: TenantSource,
    /// The meter; `None` for the one that has the metric's name.
    pub meter: Option<MeterName>,
    /// The tags that become dimensions; one that a sample lacks is left out.
    pub dimensions: Vec<String>,
}

impl Rule {
    /// True if the rule decides about this sample.
    pub fn matches(&self, sample: &Sample<'_>) -> bool {
        self.input
            .is_none_or(|input| input == sample.source.input())
            && self
                .listener
                .is_none_or(|listener| sample.source.listener() == Some(listener))
            && self
                .metric
                .as_ref()
                .is_none_or(|glob| glob.matches(sample.metric))
            && self
                .tags
                .iter()
                .all(|(key, glob)| sample.tag(key).is_some_and(|value| glob.matches(value)))
            && match &self.tenant {
                TenantSource::Fixed(_) => true,
                TenantSource::Tag(key) => sample.tag(key).is_some(),
            }
    }
}

/// For whom and how a sample counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Tenant, meter and dimensions.
    pub series: SeriesKey,
    /// How values combine.
    pub aggregation: Aggregation,
    /// Decimal places of the smallest unit.
    pub scale: Scale,
    /// What happens to values that need more places.
    pub inexact: Inexact,
    /// What a number of milliseconds is divided by to be in the meter's unit; `None` for 1.
    pub millis_divisor: Option<&'static str>,
}

/// What a number of milliseconds is divided by to be in this unit (UCUM); `None` for units
/// that are not of time, whose timers are taken as they are.
pub fn millis_divisor(unit: &str) -> Option<&'static str> {
    match unit {
        "ns" => Some("0.000001"),
        "us" => Some("0.001"),
        "s" => Some("1000"),
        "min" => Some("60000"),
        "h" => Some("3600000"),
        "d" => Some("86400000"),
        _ => None,
    }
}

/// Why a sample cannot be counted for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum AttributeError {
    /// No rule names a meter, and no meter can have the metric's name.
    #[error("metric name is not a valid meter name")]
    MeterName,
    /// A type that the meter does not take: see [`Kind::fits`].
    #[error("type of the sample does not fit the aggregation of the meter")]
    Aggregation,
}

/// The rules and meters of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Attributor {
    meters: BTreeMap<MeterName, Meter>,
    rules: Vec<Rule>,
}

impl Attributor {
    /// Attributes by `rules`, first match first.
    pub fn new(meters: BTreeMap<MeterName, Meter>, rules: Vec<Rule>) -> Self {
        Self { meters, rules }
    }

    /// For whom `sample` counts. Slow: callers on a hot path keep the answer in a [`LineCache`].
    pub fn attribute(&self, sample: &Sample<'_>) -> Result<Target, AttributeError> {
        let rule = self.rules.iter().find(|rule| rule.matches(sample));
        let name = match rule.and_then(|rule| rule.meter.clone()) {
            Some(name) => name,
            None => MeterName::new(sample.metric).map_err(|_| AttributeError::MeterName)?,
        };
        let Some(meter) = self.meters.get(&name) else {
            return Ok(undeclared(name, sample));
        };
        if sample.kind.is_some_and(|k| !k.fits(meter.aggregation)) {
            return Err(AttributeError::Aggregation);
        }
        let (tenant, dimensions) = match rule {
            None => (TenantId::unattributed(), Some(Dimensions::none())),
            Some(rule) => (tenant(rule, sample), dimensions(rule, sample)),
        };
        let series = dimensions
            .and_then(|d| SeriesKey::new(tenant.clone(), name.clone(), d).ok())
            .unwrap_or_else(|| without_dimensions(tenant, name).to_overflow());
        Ok(Target {
            series,
            aggregation: meter.aggregation,
            scale: meter.scale,
            inexact: meter.inexact,
            millis_divisor: (sample.kind == Some(Kind::Timer))
                .then(|| millis_divisor(&meter.unit))
                .flatten(),
        })
    }

    /// The declared meters.
    pub fn meters(&self) -> &BTreeMap<MeterName, Meter> {
        &self.meters
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Nobody can be billed for a meter that nobody declared, but the count is kept.
fn undeclared(name: MeterName, sample: &Sample<'_>) -> Target {
    Target {
        series: without_dimensions(TenantId::unattributed(), name),
        aggregation: sample.kind.map_or(Aggregation::Sum, Kind::usual),
        scale: Scale::ZERO,
        inexact: Inexact::Round,
        millis_divisor: None,
    }
}

fn without_dimensions(tenant: TenantId, meter: MeterName) -> SeriesKey {
    SeriesKey::new(tenant, meter, Dimensions::none())
        .expect("limits.rs asserts that tenant and meter alone fit a series key")
}

fn tenant(rule: &Rule, sample: &Sample<'_>) -> TenantId {
    match &rule.tenant {
        TenantSource::Fixed(tenant) => tenant.clone(),
        TenantSource::Tag(key) => sample
            .tag(key)
            .and_then(|value| TenantId::new(value).ok())
            .unwrap_or_else(TenantId::unattributed),
    }
}

/// `None` if a value cannot be a dimension.
fn dimensions(rule: &Rule, sample: &Sample<'_>) -> Option<Dimensions> {
    let pairs = rule
        .dimensions
        .iter()
        .filter_map(|key| sample.tag(key).map(|value| (key.as_str(), value)));
    Dimensions::new(pairs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Source;

    fn meter(aggregation: Aggregation) -> Meter {
        Meter {
            unit: "1".to_owned(),
            scale: Scale::new(2).expect("in range"),
            aggregation,
            inexact: Inexact::Reject,
        }
    }

    fn name(name: &str) -> MeterName {
        MeterName::new(name).expect("valid")
    }

    fn rule(metric: &str) -> Rule {
        Rule {
            input: Some(Input::Dogstatsd),
            listener: None,
            metric: Some(Glob::new(metric)),
            tags: vec![("customer".to_owned(), Glob::new("*"))],
            tenant: TenantSource::Tag("customer".to_owned()),
            meter: Some(name("requests")),
            dimensions: vec!["region".to_owned(), "method".to_owned()],
        }
    }

    fn attributor() -> Attributor {
        let internal = Rule {
            tags: vec![("customer".to_owned(), Glob::new("internal-*"))],
            tenant: TenantSource::Fixed(TenantId::new("ourselves").expect("valid")),
            dimensions: vec![],
            ..rule("http.*")
        };
        let over_unix = Rule {
            listener: Some(Listener::Unix),
            metric: None,
            meter: None,
            tags: vec![],
            ..rule("")
        };
        Attributor::new(
            BTreeMap::from([
                (name("requests"), meter(Aggregation::Sum)),
                (name("level"), meter(Aggregation::Last)),
            ]),
            vec![internal, rule("http.*"), over_unix],
        )
    }

    fn attribute(metric: &str, tags: &[(&str, &str)]) -> Result<Target, AttributeError> {
        from(Listener::Udp, metric, Kind::Count, tags)
    }

    fn from(
        listener: Listener,
        metric: &str,
        kind: Kind,
        tags: &[(&str, &str)],
    ) -> Result<Target, AttributeError> {
        attributor().attribute(&Sample {
            source: Source::Dogstatsd(listener),
            metric,
            kind: Some(kind),
            tags,
        })
    }

    fn series(target: Result<Target, AttributeError>) -> String {
        target.expect("attributed").series.to_string()
    }

    #[test]
    fn the_first_match_wins() {
        let tags = [("region", "eu"), ("customer", "acme"), ("pod", "x")];
        assert_eq!(
            series(attribute("http.get", &tags)),
            "acme/requests{region=eu}"
        );
        assert_eq!(
            series(attribute("http.get", &[("customer", "internal-ci")])),
            "ourselves/requests{}"
        );
    }

    #[test]
    fn what_matches_nothing_is_kept() {
        assert_eq!(
            series(attribute("requests", &[("region", "eu")])),
            "_unattributed/requests{}"
        );
        let unknown = attribute("other", &[("customer", "acme")]).expect("kept");
        assert_eq!(unknown.series.to_string(), "_unattributed/other{}");
        assert_eq!(
            (unknown.scale, unknown.inexact),
            (Scale::ZERO, Inexact::Round)
        );
        // A rule matches but names no declared meter.
        let undeclared = from(
            Listener::Unix,
            "other",
            Kind::Count,
            &[("customer", "acme")],
        );
        assert_eq!(series(undeclared), "_unattributed/other{}");
    }

    #[test]
    fn invalid_values_keep_the_count() {
        assert_eq!(
            series(attribute(
                "http.get",
                &[("customer", "a b"), ("region", "eu")]
            )),
            "_unattributed/requests{region=eu}"
        );
        assert_eq!(
            series(attribute("http.get", &[("customer", "_mine")])),
            "_unattributed/requests{}"
        );
        let long = "x".repeat(300);
        assert_eq!(
            series(attribute(
                "http.get",
                &[("customer", "acme"), ("region", &long)]
            )),
            "acme/requests{overflow=true}"
        );
    }

    #[test]
    fn types_must_fit_their_meter() {
        let tags = [("customer", "acme")];
        assert_eq!(
            from(Listener::Udp, "http.x", Kind::Gauge, &tags),
            Err(AttributeError::Aggregation)
        );
        assert_eq!(attribute("level", &[]), Err(AttributeError::Aggregation));
        assert_eq!(
            attribute("no such name", &[]),
            Err(AttributeError::MeterName)
        );
    }
}
