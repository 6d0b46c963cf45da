//! Checks of the attribution rules.

use std::collections::BTreeSet;
use std::ops::Range;

use tollgate_common::limits::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX};
use tollgate_common::{Dimensions, MeterName, TenantId};
use toml::Spanned;

use super::{Checker, NAME_FORM, RULES_MAX};
use crate::attribute::{Glob, Rule, TenantSource};
use crate::config::raw::{self, Text};
use crate::input::interfaces::Traffic;
use crate::input::{Input, TAGS_MAX};

/// The tags that the interface input gives its samples.
const INTERFACE_TAGS: [&str; 2] = ["interface", "direction"];

impl Checker<'_> {
    pub(super) fn rules(&mut self, raw: Vec<Spanned<raw::Rule>>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for rule in raw {
            if rules.len() == RULES_MAX {
                self.report(rule.span(), format!("more than {RULES_MAX} rules"), "");
                break;
            }
            let span = rule.span();
            rules.extend(self.rule(span, rule.into_inner()));
        }
        rules
    }

    fn rule(&mut self, span: Range<usize>, raw: raw::Rule) -> Option<Rule> {
        let input = raw.input.as_ref().map(|input| *input.get_ref());
        if input == Some(Input::Interfaces) {
            self.interface_rule(span, &raw);
        } else {
            self.metric_rule(input, &raw);
        }
        let tenant = self.tenant(&raw.tenant);
        let meter = match &raw.meter {
            Some(meter) => Some(self.declared(meter)?),
            None => None,
        };
        let dimensions = self.dimensions(input, &raw.dimensions);
        if raw.tags.len() > TAGS_MAX {
            let span = raw.tags.values().next().map(Spanned::span);
            let message = format!("more than {TAGS_MAX} tags");
            self.report(span.unwrap_or_default(), message, "");
        }
        let mut tags: Vec<_> = raw
            .tags
            .into_iter()
            .map(|(key, pattern)| (key, Glob::new(pattern.get_ref())))
            .collect();
        let mut metric = raw.metric.map(|pattern| Glob::new(pattern.get_ref()));
        // An interface's name, direction and quantity are tags and the metric of its samples.
        if let Some(pattern) = raw.interface {
            tags.push(("interface".to_owned(), Glob::new(pattern.get_ref())));
        }
        if let Some(direction) = raw.direction {
            let direction = match direction.get_ref() {
                raw::Direction::In => "in",
                raw::Direction::Out => "out",
            };
            tags.push(("direction".to_owned(), Glob::new(direction)));
        }
        if let Some(quantity) = raw.quantity {
            let traffic = match quantity.get_ref() {
                raw::Quantity::Bytes => Traffic::Bytes,
                raw::Quantity::Packets => Traffic::Packets,
            };
            metric = Some(Glob::new(traffic.metric()));
        }
        Some(Rule {
            input,
            listener: raw.listener.map(Spanned::into_inner),
            metric,
            tags,
            tenant: tenant?,
            meter,
            dimensions,
        })
    }

    /// A rule for the interface input: no metric, listener or tags; and a meter must not add
    /// up bytes and packets.
    fn interface_rule(&mut self, span: Range<usize>, raw: &raw::Rule) {
        let expected = "`interface`, `quantity` and `direction` in a rule for interfaces";
        if let Some(metric) = &raw.metric {
            self.report(metric.span(), "interfaces have no `metric`", expected);
        }
        if let Some(listener) = &raw.listener {
            self.report(listener.span(), "interfaces have no `listener`", expected);
        }
        if let Some(tag) = raw.tags.values().next() {
            self.report(tag.span(), "interfaces have no `tags`", expected);
        }
        if raw.quantity.is_none() {
            self.report(
                raw.meter.as_ref().map_or(span, Spanned::span),
                "rule would add bytes and packets to one meter",
                "quantity = \"bytes\" or quantity = \"packets\"",
            );
        }
        if let raw::Tenant::Tag(tag) = raw.tenant.get_ref()
            && !INTERFACE_TAGS.contains(&tag.as_str())
        {
            self.report(
                raw.tenant.span(),
                format!("interfaces have no tag `{tag}`"),
                "the name of a tenant, or { tag = \"interface\" }",
            );
        }
    }

    fn metric_rule(&mut self, input: Option<Input>, raw: &raw::Rule) {
        let expected = "input = \"interfaces\" in a rule about interfaces";
        let spans = [
            raw.interface.as_ref().map(Spanned::span),
            raw.quantity.as_ref().map(Spanned::span),
            raw.direction.as_ref().map(Spanned::span),
        ];
        if let Some(span) = spans.into_iter().flatten().next() {
            self.report(span, "only interfaces have this key", expected);
        }
        if let Some(listener) = &raw.listener
            && input != Some(Input::Dogstatsd)
        {
            self.report(
                listener.span(),
                "only DogStatsD has listeners",
                "input = \"dogstatsd\" in a rule with `listener`",
            );
        }
        if let Some(metric) = &raw.metric
            && metric.get_ref().is_empty()
        {
            self.report(metric.span(), "metric is empty", "a name or pattern with *");
        }
    }

    fn tenant(&mut self, raw: &Spanned<raw::Tenant>) -> Option<TenantSource> {
        match raw.get_ref() {
            raw::Tenant::Fixed(name) => self
                .ok(raw.span(), TenantId::new(name), NAME_FORM)
                .map(TenantSource::Fixed),
            raw::Tenant::Tag(tag) if tag.is_empty() => {
                self.report(raw.span(), "tag is empty", "the key of a tag");
                None
            }
            raw::Tenant::Tag(tag) => Some(TenantSource::Tag(tag.clone())),
        }
    }

    fn declared(&mut self, text: &Text) -> Option<MeterName> {
        let name: MeterName = self.parsed(text, NAME_FORM)?;
        if self.named.contains(&name) {
            return Some(name);
        }
        let names: Vec<_> = self
            .named
            .iter()
            .take(8)
            .map(|n| format!("`{n}`"))
            .collect();
        let expected = if names.is_empty() {
            "a [[meter]] with this name".to_owned()
        } else {
            let more = if self.named.len() > 8 { ", …" } else { "" };
            format!("a declared meter: {}{more}", names.join(", "))
        };
        self.report(
            text.span(),
            format!("meter `{name}` is not declared"),
            &expected,
        );
        None
    }

    fn dimensions(&mut self, input: Option<Input>, raw: &[Text]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        for key in raw {
            let name = key.get_ref();
            if Dimensions::new([(name, "")]).is_err() {
                self.report(
                    key.span(),
                    format!("dimension key {name:?} is invalid"),
                    &format!("1 to {DIMENSION_KEY_BYTES_MAX} {NAME_FORM}"),
                );
            } else if !seen.insert(name) {
                self.report(key.span(), format!("dimension `{name}` is given twice"), "");
            } else if input == Some(Input::Interfaces) && !INTERFACE_TAGS.contains(&name.as_str()) {
                self.report(
                    key.span(),
                    format!("interfaces have no dimension `{name}`"),
                    "`interface` or `direction`",
                );
            }
        }
        if let Some(key) = raw.get(DIMENSIONS_MAX) {
            let message = format!("more than {DIMENSIONS_MAX} dimensions");
            self.report(key.span(), message, "");
        }
        raw.iter().map(|key| key.get_ref().clone()).collect()
    }
}
