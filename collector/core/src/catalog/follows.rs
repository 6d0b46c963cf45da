//! What a catalog may not change of those that were applied before it, nor break beside those that
//! stay in force for others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;
use tollgate_common::TenantId;

use super::timeline::{Timeline, Version};
use super::{Catalog, Commitment};

impl Catalog {
    /// Checks that cards stay in their currency, pricing units keep their decimal places and
    /// commitments their terms, as a catalog had them that was in force at some time: in one period
    /// both would be one line, whose amounts cannot be added; and of a term what has counted would be
    /// forgotten.
    ///
    /// # Errors
    /// A sentence that says which one changed, and what to do.
    pub fn check_follows(&self, before: &Self) -> Result<(), String> {
        for (id, unit) in &self.pricing_units {
            if let Some(known) = before.pricing_units.get(id)
                && known.exponent() != unit.exponent()
            {
                return Err(format!(
                    "pricing unit `{id}` has {} decimal places, and had {} in catalog {}, which was in \
                     force (expected the same, or another unit)",
                    unit.exponent(),
                    known.exponent(),
                    before.digest()
                ));
            }
        }
        for (id, versions) in &self.cards {
            // All versions of a card of one catalog are in one currency.
            let known = before.cards.get(id).and_then(|known| known.first());
            if let (Some(card), Some(known)) = (versions.first(), known)
                && known.currency.code() != card.currency.code()
            {
                return Err(format!(
                    "card `{id}` is in {}, and was in {} in catalog {}, which was in force (expected the \
                     same, or another card)",
                    card.currency,
                    known.currency,
                    before.digest()
                ));
            }
        }
        let known = before.terms();
        for (commitment, terms) in self.terms() {
            let was = known.get(&commitment);
            if let Some((before, now)) = was.and_then(|was| others(was, &terms)) {
                return Err(format!(
                    "{commitment} has terms of {} from {} on, and had terms of {} from {} on in a catalog that was \
                     in force: what has counted would be forgotten (expected the same `term` and `from`, or another \
                     `id`)",
                    now.0, now.1, before.0, before.1
                ));
            }
        }
        Ok(())
    }

    /// How long the terms of each commitment are, and from which day on they are counted, in every
    /// version.
    fn terms(&self) -> BTreeMap<String, BTreeSet<Terms>> {
        let mut terms: BTreeMap<String, BTreeSet<Terms>> = BTreeMap::new();
        let first = |card: &str| self.cards.get(card)?.first().map(|card| card.from);
        let mut note = |name: String, commitment: &Commitment, card: &str| {
            if let Some(from) = commitment.from.or_else(|| first(card)) {
                let term = (commitment.term.to_string(), from);
                terms.entry(name).or_default().insert(term);
            }
        };
        for card in self.cards.values().flatten() {
            for commitment in &card.around.commitments {
                let name = format!("commitment `{}` of card `{}`", commitment.id, card.id);
                note(name, commitment, &card.id);
            }
        }
        for profile in self.profiles() {
            let whose = profile.tenant.as_ref().map_or_else(
                || "the default profile".to_owned(),
                |tenant| format!("tenant `{tenant}`"),
            );
            for commitment in &profile.agreement.around.commitments {
                let name = format!("commitment `{}` of {whose}", commitment.id);
                note(name, commitment, &profile.card);
            }
        }
        terms
    }
}

/// The length of terms, and the day from which they are counted.
type Terms = (String, NaiveDate);

/// The first two that are not alike, of what was and what is.
fn others<'t>(was: &'t BTreeSet<Terms>, is: &'t BTreeSet<Terms>) -> Option<(&'t Terms, &'t Terms)> {
    let mut pairs = was
        .iter()
        .flat_map(|was| is.iter().map(move |is| (was, is)));
    pairs.find(|(was, is)| was != is)
}

impl Timeline {
    /// Checks that a catalog may be put in force next, for everybody or for some tenants only.
    ///
    /// # Errors
    /// A sentence that says what stands against it, and what to do.
    pub fn check_next(
        &self,
        catalog: &Arc<Catalog>,
        tenants: Option<&BTreeSet<TenantId>>,
    ) -> Result<(), String> {
        for version in self.versions() {
            catalog.check_follows(&version.catalog)?;
        }
        let mut next = self.clone();
        let stamp = self.versions().last().map(|version| version.stamp);
        let stamp = stamp.unwrap_or(tollgate_common::Timestamp::EPOCH);
        next.apply(stamp, Arc::clone(catalog), tenants.cloned());
        next.check_payers()
    }

    /// Checks that whoever pays for somebody, by the versions that are newest for each, is rated by
    /// terms of its own and pays for itself. Within one catalog reading it checks that; versions
    /// that are limited to some tenants stand beside others.
    fn check_payers(&self) -> Result<(), String> {
        let mut live: Vec<&Version> = Vec::new();
        for version in self.versions().iter().rev() {
            live.push(version);
            if version.tenants.is_none() {
                break;
            }
        }
        let named = live.iter().flat_map(|version| version.catalog.profiles());
        let mut tenants: BTreeSet<&TenantId> = named
            .filter_map(|profile| profile.tenant.as_ref())
            .collect();
        tenants.extend(
            live.iter()
                .flat_map(|version| version.tenants.iter().flat_map(|t| &**t)),
        );
        for tenant in tenants {
            let by = self.newest_for(tenant);
            let payer = by.and_then(|version| version.catalog.payer_of(tenant));
            if let Some((payer, _)) = payer {
                self.check_payer(payer, &format!("`{tenant}`"))?;
            }
        }
        // Whoever has no profile is nobody that could be named here.
        let others = self
            .newest()
            .and_then(|version| version.catalog.default_profile.as_ref());
        match others.and_then(|profile| profile.agreement.payer.as_ref()) {
            Some(payer) => self.check_payer(&payer.tenant, "those without a profile"),
            None => Ok(()),
        }
    }

    fn check_payer(&self, payer: &TenantId, whom: &str) -> Result<(), String> {
        let theirs = self.newest_for(payer);
        let profile = theirs.and_then(|version| version.catalog.profile(payer));
        let own = profile.filter(|profile| profile.tenant.as_ref() == Some(payer));
        let why = match own.map(|profile| profile.agreement.payer.as_ref()) {
            Some(None) => return Ok(()),
            Some(Some(other)) => format!("is paid for itself, by `{}`,", other.tenant),
            None => "has no profile of its own".to_owned(),
        };
        Err(format!(
            "`{payer}` would pay for {whom}, but {why} in the version that is in force for it \
             (expected one version for both: name both as tenants, or apply it to everybody)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_common::Timestamp;

    use super::*;
    use crate::catalog::tests::{sound_files, tenant};

    fn with(currency: &str, places: u32) -> Catalog {
        let mut files = sound_files();
        let card = files.get_mut("cards/edge.toml").expect("a card");
        *card = card.replace("\"EUR\"", &format!("\"{currency}\""));
        let units = format!("[[unit]]\nid = \"tokens\"\nplaces = {places}\n");
        files.insert("units/u.toml".to_owned(), units);
        Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn a_card_stays_in_its_currency_and_a_unit_keeps_its_places() {
        let before = with("EUR", 0);
        assert_eq!(with("EUR", 0).check_follows(&before), Ok(()));
        let error = with("USD", 0).check_follows(&before).expect_err("another");
        assert!(
            error.contains("card `edge` is in USD, and was in EUR"),
            "{error}"
        );
        let error = with("EUR", 2).check_follows(&before).expect_err("others");
        assert!(
            error.contains("`tokens` has 2 decimal places, and had 0"),
            "{error}"
        );
    }

    /// A catalog with these payers; a profile for whoever is named.
    fn family(payers: &[(&str, &str)]) -> Arc<Catalog> {
        let mut files = sound_files();
        for (name, payer) in payers {
            let mut profile = format!("tenant = \"{name}\"\ncard = \"edge\"\nzone = \"UTC\"\n");
            if !payer.is_empty() {
                profile.push_str(&format!("payer = \"{payer}\"\n"));
            }
            let name = name.replace('*', "others");
            files.insert(format!("profiles/{name}.toml"), profile);
        }
        Arc::new(Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}")))
    }

    fn names(names: &[&str]) -> BTreeSet<TenantId> {
        names.iter().map(|name| tenant(name)).collect()
    }

    #[test]
    fn a_version_for_some_makes_no_payer_that_is_paid_for() {
        let mut timeline = Timeline::new();
        let first = family(&[("shop", "acme")]);
        assert_eq!(timeline.check_next(&first, None), Ok(()));
        timeline.apply(Timestamp::EPOCH, first, None);
        // `acme` is paid for by `zeta`, and `shop` by nobody: for all of them that is sound.
        let next = family(&[("zeta", ""), ("acme", "zeta"), ("shop", "")]);
        assert_eq!(timeline.check_next(&next, None), Ok(()));
        let all = names(&["acme", "shop", "zeta"]);
        assert_eq!(timeline.check_next(&next, Some(&all)), Ok(()));
        let error = timeline.check_next(&next, Some(&names(&["acme", "zeta"])));
        let error = error.expect_err("`shop` still has `acme`");
        assert!(error.contains("`acme` would pay for `shop`"), "{error}");
        // A payer that only the limited version knows has no terms of its own.
        let next = family(&[("zeta", ""), ("shop", "zeta")]);
        let error = timeline.check_next(&next, Some(&names(&["shop"])));
        let error = error.expect_err("nobody knows `zeta`");
        assert!(
            error.contains("`zeta` would pay for `shop`, but has no profile"),
            "{error}"
        );
        // Somebody who is nobody yet is paid for by who pays for all others.
        let next = family(&[("*", "acme"), ("zeta", "")]);
        timeline.apply(Timestamp::EPOCH, next, None);
        let next = family(&[("zeta", ""), ("acme", "zeta")]);
        let error = timeline.check_next(&next, Some(&names(&["acme", "shop"])));
        let error = error.expect_err("others are paid for by `acme`");
        assert!(error.contains("those without a profile"), "{error}");
    }

    #[test]
    fn a_version_follows_all_that_were_applied() {
        let mut timeline = Timeline::new();
        timeline.apply(Timestamp::EPOCH, Arc::new(with("EUR", 0)), None);
        timeline.apply(Timestamp::EPOCH, family(&[]), Some(names(&["acme"])));
        let error = timeline.check_next(&Arc::new(with("EUR", 2)), None);
        assert!(error.expect_err("others").contains("`tokens`"));
    }

    fn committed(card: &str, profile: &str) -> Catalog {
        let mut files = sound_files();
        let add = |text: &mut String, more: &str| {
            if !more.is_empty() {
                text.push_str(&format!(
                    "\n[[commitment]]\nid = \"year\"\namount = \"10.00\"\n{more}\n"
                ));
            }
        };
        add(files.get_mut("cards/edge.toml").expect("a card"), card);
        let mut profiles = files.iter_mut();
        let (_, of_profile) = profiles
            .find(|(path, _)| path.starts_with("profiles/"))
            .expect("a profile");
        add(of_profile, profile);
        Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn a_commitment_keeps_its_terms() {
        let year = "term = \"P1Y\"";
        let from = "term = \"P1Y\"\nfrom = \"2026-02-01\"";
        let half = "term = \"P6M\"";
        for (before, after, expected) in [
            ((year, ""), (year, ""), true),
            ((year, ""), ("", ""), true),
            (("", ""), (half, ""), true),
            ((year, ""), (half, ""), false),
            ((year, ""), (from, ""), false),
            (("", year), ("", year), true),
            (("", year), ("", half), false),
            // Those of a card and of a profile are two.
            ((year, ""), ("", half), true),
        ] {
            let catalog = |(card, profile)| committed(card, profile);
            let checked = catalog(after).check_follows(&catalog(before));
            assert_eq!(
                checked.is_ok(),
                expected,
                "{before:?} {after:?} {checked:?}"
            );
        }
        let error = committed(half, "").check_follows(&committed(year, ""));
        let error = error.expect_err("another term");
        assert!(
            error.starts_with("commitment `year` of card `edge` has terms of P6M from "),
            "{error}"
        );
    }

    #[test]
    fn versions_of_a_card_keep_the_terms_of_a_commitment() {
        for (term, is_sound) in [("P1Y", true), ("P6M", false)] {
            let mut files = sound_files();
            let of = |term| {
                format!("\n[[commitment]]\nid = \"year\"\namount = \"10.00\"\nterm = \"{term}\"\n")
            };
            let card = files.get_mut("cards/edge.toml").expect("a card");
            let later = card.replace("from = \"2026", "from = \"2027") + &of(term);
            *card += &of("P1Y");
            assert!(later.contains("2027"), "{later}");
            files.insert("cards/edge-2.toml".to_owned(), later);
            let read = Catalog::parse(&files);
            assert_eq!(read.is_ok(), is_sound, "{read:?}");
            if let Err(errors) = read {
                let said = errors.to_string();
                assert!(
                    said.contains("commitment `year` has other terms than"),
                    "{said}"
                );
            }
        }
    }
}
