//! What a catalog may not change of those that were applied before it.

use super::Catalog;

impl Catalog {
    /// Checks that cards stay in their currency and pricing units keep their decimal places, as a
    /// catalog had them that was in force at some time: in one period both would be one line, whose
    /// amounts cannot be added.
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::sound_files;

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
}
