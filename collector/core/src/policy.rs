//! What agents may report: by name of the agent, tenant and meter.
//!
//! A policy is a list of rules, each a pattern for agents with patterns for tenants and
//! meters. One rule decides for an agent: the one that gives its exact name, otherwise the
//! first whose pattern fits. An agent that no rule names is refused at the door, so that
//! nothing is booked and its spool keeps what it has.
//!
//! A row breaks the policy if its tenant or its meter fits no pattern of the rule. Usage of
//! `_unattributed` is allowed to everybody, because what cannot be attributed must not be
//! dropped as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use tollgate_common::{AgentId, Batch, MeterName, TenantId};

use crate::entry::{Digest, PolicyChange, RefusedReason, Verdicts};

/// Most rules of a policy.
pub const RULES_MAX: usize = 100_000;
/// Most patterns of one list of a rule.
pub const PATTERNS_MAX: usize = 10_000;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A name, or a pattern in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Box<str>);

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern (expected 1 to {PATTERN_BYTES_MAX} ASCII letters, digits and . _ - / : @, with * for any characters)"
)]
pub struct PatternError(String);

impl Pattern {
    /// The pattern `text`.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@*".contains(&b);
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(PatternError(text.chars().take(PATTERN_BYTES_MAX).collect()));
        }
        Ok(Self(text.into()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True without a `*`.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// True if the pattern fits the whole of `name`. Costs at most pattern times name.
    pub fn matches(&self, name: &str) -> bool {
        fits(&self.0, name)
    }
}

/// True if a pattern in which `*` stands for any characters fits the whole of `name`. Costs at
/// most pattern times name.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit: one character further.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

/// What the agents that fit a name may report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name or pattern of agents.
    pub name: Pattern,
    /// Tenants for which they may report.
    pub tenants: Vec<Pattern>,
    /// Meters that they may report.
    pub meters: Vec<Pattern>,
}

/// Why rules or a text are no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// More rules or patterns than allowed.
    #[error("policy has {count} {what}, more than the {max} allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Two rules for the same name.
    #[error("policy has two rules for the agent `{0}`; join them")]
    Twice(Pattern),
    /// The text is not what [`Policy::text`] writes.
    #[error("policy text: {0}")]
    Text(#[from] serde_json::Error),
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Index of the rule for each exact name.
    exact: BTreeMap<Box<str>, usize>,
    /// Indices of the rules with patterns, in the order given.
    patterns: Vec<usize>,
    text: String,
    digest: Digest,
}

impl Policy {
    /// A policy of these rules.
    pub fn new(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        let bounded = |what, count, max| {
            if count > max {
                Err(PolicyError::TooMany { what, count, max })
            } else {
                Ok(())
            }
        };
        bounded("rules", rules.len(), RULES_MAX)?;
        let mut seen = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            bounded("tenants in one rule", rule.tenants.len(), PATTERNS_MAX)?;
            bounded("meters in one rule", rule.meters.len(), PATTERNS_MAX)?;
            if seen.insert(rule.name.clone(), index).is_some() {
                return Err(PolicyError::Twice(rule.name.clone()));
            }
        }
        let text = serde_json::to_string(&rules)?;
        let digest = Digest(*blake3::hash(text.as_bytes()).as_bytes());
        let of = |exact| {
            rules
                .iter()
                .enumerate()
                .filter(move |(_, rule)| rule.name.is_exact() == exact)
        };
        let exact = of(true)
            .map(|(index, rule)| (rule.name.as_str().into(), index))
            .collect();
        let patterns = of(false).map(|(index, _)| index).collect();
        Ok(Self {
            rules,
            exact,
            patterns,
            text,
            digest,
        })
    }

    /// A policy that refuses every agent.
    pub fn empty() -> Self {
        Self::new(Vec::new()).expect("no rules break no bound")
    }

    /// The policy that [`Policy::text`] describes.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::new(serde_json::from_str(text)?)
    }

    /// The canonical text: JSON of the rules in their order, which matters for patterns.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// BLAKE3 of the canonical text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The journal entry that puts this policy in force.
    pub fn change(&self) -> PolicyChange {
        PolicyChange {
            digest: self.digest,
            text: self.text.clone(),
        }
    }

    /// The rule that decides for an agent.
    pub fn rule_of(&self, agent: &AgentId) -> Option<&Rule> {
        let exact = self.exact.get(agent.as_str()).copied();
        let index = exact.or_else(|| {
            self.patterns
                .iter()
                .copied()
                .find(|&index| self.rules[index].name.matches(agent.as_str()))
        })?;
        self.rules.get(index)
    }

    /// True if a rule names the agent.
    pub fn knows(&self, agent: &AgentId) -> bool {
        self.rule_of(agent).is_some()
    }

    /// True if the agent may report for the tenant.
    pub fn may_report(&self, agent: &AgentId, tenant: &TenantId) -> bool {
        self.rule_of(agent)
            .is_some_and(|rule| tenant_allowed(rule, tenant))
    }

    /// The verdict on each row of a batch that `agent` has sent.
    ///
    /// `agent` is the name in the certificate, which the batch bears as well.
    pub fn verdicts(&self, agent: &AgentId, batch: &Batch) -> Verdicts {
        let rule = self.rule_of(agent);
        // Rows are sorted by tenant and meter: one decision per run.
        let mut before: Option<(&TenantId, &MeterName, Option<RefusedReason>)> = None;
        let mut verdicts = Vec::new();
        for (index, row) in batch.rows.iter().enumerate() {
            let (tenant, meter) = (row.series.tenant(), row.series.meter());
            let verdict = match before {
                Some((t, m, verdict)) if t == tenant && m == meter => verdict,
                _ => verdict(rule, tenant, meter),
            };
            before = Some((tenant, meter, verdict));
            if verdict.is_some() && verdicts.is_empty() {
                verdicts.resize(index, None);
            }
            if verdict.is_some() || !verdicts.is_empty() {
                verdicts.push(verdict);
            }
        }
        if verdicts.iter().all(Option::is_none) {
            Verdicts::AllAllowed
        } else {
            Verdicts::PerRow(verdicts)
        }
    }

    /// The agents that a tenant's period waits for: those among `known` that may report for
    /// it, and those that a rule gives by name, heard of or not.
    pub fn agents_for<'a>(
        &self,
        tenant: &TenantId,
        known: impl IntoIterator<Item = &'a AgentId>,
    ) -> BTreeSet<AgentId> {
        let named = self
            .rules
            .iter()
            .filter(|rule| rule.name.is_exact() && tenant_allowed(rule, tenant));
        let mut agents: BTreeSet<AgentId> = named
            .filter_map(|rule| AgentId::new(rule.name.as_str()).ok())
            .collect();
        agents.extend(
            known
                .into_iter()
                .filter(|agent| self.may_report(agent, tenant))
                .cloned(),
        );
        agents
    }
}

fn tenant_allowed(rule: &Rule, tenant: &TenantId) -> bool {
    tenant.is_unattributed()
        || rule
            .tenants
            .iter()
            .any(|pattern| pattern.matches(tenant.as_str()))
}

fn verdict(rule: Option<&Rule>, tenant: &TenantId, meter: &MeterName) -> Option<RefusedReason> {
    let Some(rule) = rule else {
        return Some(RefusedReason::TenantNotAllowed);
    };
    if !tenant_allowed(rule, tenant) {
        return Some(RefusedReason::TenantNotAllowed);
    }
    let meter_allowed = tenant.is_unattributed()
        || rule
            .meters
            .iter()
            .any(|pattern| pattern.matches(meter.as_str()));
    (!meter_allowed).then_some(RefusedReason::MeterNotAllowed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tollgate_common::{
        Aggregation, BatchHash, BatchSeq, Dimensions, Incarnation, Opening, Quantity, Rollup,
        Scale, SeriesKey, Span, Timestamp, Window, WindowWidth,
    };

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("valid")
    }

    fn rule(name: &str, tenants: &[&str], meters: &[&str]) -> Rule {
        let patterns = |list: &[&str]| list.iter().map(|text| pattern(text)).collect();
        Rule {
            name: pattern(name),
            tenants: patterns(tenants),
            meters: patterns(meters),
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).expect("valid")
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid")
    }

    fn batch(rows: &[(&str, &str)]) -> Batch {
        let window = Window::containing(
            Timestamp::EPOCH,
            WindowWidth::from_secs(10).expect("divides"),
        );
        let row = |&(t, meter): &(&str, &str)| Rollup {
            series: Arc::new(
                SeriesKey::new(
                    tenant(t),
                    MeterName::new(meter).expect("valid"),
                    Dimensions::none(),
                )
                .expect("short"),
            ),
            aggregation: Aggregation::Sum,
            scale: Scale::ZERO,
            window,
            value: Quantity::new(1),
            events: 1,
            detail: tollgate_common::Detail::None,
        };
        Batch {
            agent: agent("edge-1"),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: BatchSeq::FIRST,
            parent_hash: BatchHash::ZERO,
            span: Span {
                from: Timestamp::EPOCH,
                to: Timestamp::EPOCH,
            },
            watermark: Timestamp::EPOCH,
            opening: Some(Opening { parent: None }),
            is_final: false,
            rows: rows.iter().map(row).collect(),
            totals: Vec::new(),
            losses: Vec::new(),
            steps: Vec::new(),
        }
    }

    #[test]
    fn the_exact_name_decides_before_patterns() {
        let policy = Policy::new(vec![
            rule("edge-*", &["*"], &["*"]),
            rule("*", &["nobody"], &[]),
            rule("edge-1", &["acme"], &["*"]),
        ])
        .expect("valid");
        assert!(!policy.may_report(&agent("edge-1"), &tenant("other")));
        assert!(policy.may_report(&agent("edge-2"), &tenant("other")));
        assert!(policy.may_report(&agent("far"), &tenant("nobody")));
        assert!(!policy.may_report(&agent("far"), &tenant("acme")));
        assert!(policy.may_report(&agent("far"), &TenantId::unattributed()));
        assert!(!Policy::empty().may_report(&agent("far"), &TenantId::unattributed()));
        let known = [agent("edge-2"), agent("far")];
        let agents = policy.agents_for(&tenant("acme"), &known);
        assert_eq!(agents, BTreeSet::from([agent("edge-1"), agent("edge-2")]));
    }

    #[test]
    fn rows_are_judged_one_by_one() {
        let policy =
            Policy::new(vec![rule("edge-1", &["acme", "umb*"], &["http.*"])]).expect("valid");
        let mixed = batch(&[
            ("_unattributed", "anything"),
            ("acme", "http.requests"),
            ("acme", "net.bytes"),
            ("other", "http.requests"),
            ("umbrella", "http.requests"),
        ]);
        let expected = vec![
            None,
            None,
            Some(RefusedReason::MeterNotAllowed),
            Some(RefusedReason::TenantNotAllowed),
            None,
        ];
        assert_eq!(
            policy.verdicts(&agent("edge-1"), &mixed),
            Verdicts::PerRow(expected)
        );
        let fine = batch(&[("acme", "http.requests")]);
        assert_eq!(
            policy.verdicts(&agent("edge-1"), &fine),
            Verdicts::AllAllowed
        );
        let stranger = policy.verdicts(&agent("edge-2"), &fine);
        assert_eq!(
            stranger,
            Verdicts::PerRow(vec![Some(RefusedReason::TenantNotAllowed)])
        );
    }

    #[test]
    fn the_text_says_it_all() {
        let policy = Policy::new(vec![rule("edge-*", &["a", "b-*"], &["*"])]).expect("valid");
        let same = Policy::parse(policy.text()).expect("own text");
        assert_eq!(same, policy);
        assert_ne!(same.digest(), Policy::empty().digest());
        assert!(matches!(
            Policy::new(vec![rule("a", &[], &[]), rule("a", &[], &[])]),
            Err(PolicyError::Twice(_))
        ));
        assert!(Policy::parse(r#"[{"name":"a","tenants":[],"meters":[],"more":1}]"#).is_err());
        assert!(Policy::parse(r#"[{"name":"","tenants":[],"meters":[]}]"#).is_err());
    }

    /// The obvious, exponential definition.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|n| matches_slowly(rest, &name[n..])),
            Some((byte, rest)) => name
                .split_first()
                .is_some_and(|(b, name)| b == byte && matches_slowly(rest, name)),
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_defined(text in "[ab*]{1,8}", name in "[ab]{0,10}") {
            let fits = pattern(&text).matches(&name);
            prop_assert_eq!(fits, matches_slowly(text.as_bytes(), name.as_bytes()));
        }
    }
}
