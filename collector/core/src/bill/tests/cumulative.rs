//! Bills in pieces are the bill at once, and money is conserved: over random cards, profiles and
//! usage.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId};

use super::slow;
use crate::bill::{Bill, Carried, EntryKey, Offline, Stage, Usage, since};
use crate::catalog::Catalog;
use crate::period::Period;
use crate::rate::MeterUsage;

const METERS: &str = "\
[[meter]]\nname = \"a\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n\
[[meter]]\nname = \"b\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n";

const TAXES: &str = "\
[[tax]]\ncode = \"one\"\njurisdiction = \"X\"\nrates = [{ percent = \"19\" }]\n\
[[tax]]\ncode = \"two\"\njurisdiction = \"Y\"\ncompound = true\nrates = [{ percent = \"7.3\" }]\n";

/// What a card and a profile say around two prices and a fee.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Unit prices in tenths of a cent, tiered at 50.
    pub(super) units: [u32; 2],
    pub(super) fee: u32,
    pub(super) joint_percent: Option<u32>,
    pub(super) joint_amount: Option<u32>,
    pub(super) maximum: Option<u32>,
    pub(super) minimum: Option<u32>,
    pub(super) commitment: Option<(u32, &'static str, bool)>,
    pub(super) inclusive: bool,
    pub(super) per_line: bool,
    /// Discounts on several lines come behind commitments.
    pub(super) coupons_last: bool,
    pub(super) grant: Option<u32>,
    pub(super) credit: u32,
}

impl Plan {
    fn files(&self) -> BTreeMap<String, String> {
        use std::fmt::Write as _;
        let cents = |amount: u32| format!("{}.{:02}", amount / 100, amount % 100);
        let mut card = format!(
            "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"{}\"\n\
             tax = {{ behavior = \"{}\", per = \"{}\" }}\n",
            if self.coupons_last {
                "commitments-first/1"
            } else {
                "standard/1"
            },
            if self.inclusive {
                "inclusive"
            } else {
                "exclusive"
            },
            if self.per_line { "line" } else { "invoice" },
        );
        for (meter, unit) in ["a", "b"].iter().zip(self.units) {
            let unit = format!("{}.{:03}", unit / 1000, unit % 1000);
            let _ = write!(
                card,
                "[[price]]\nid = \"{meter}\"\nmeter = \"{meter}\"\nmodel = \"graduated\"\n\
                 per = \"1 1\"\ntiers = [{{ to = \"50\", unit = \"{unit}\" }}, {{ unit = \"0.007\" }}]\n"
            );
        }
        let _ = write!(
            card,
            "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"{}\"\n",
            cents(self.fee)
        );
        if let Some(percent) = self.joint_percent {
            let _ = write!(
                card,
                "[[discount]]\nid = \"p\"\nscope = \"group\"\napplies = [\"a\", \"b\"]\npercent = \"{percent}\"\n"
            );
        }
        if let Some(amount) = self.joint_amount {
            let amount = cents(amount);
            let _ = write!(
                card,
                "[[discount]]\nid = \"m\"\nscope = \"invoice\"\namount = \"{amount}\"\n"
            );
        }
        for (key, amount) in [("maximum", self.maximum), ("minimum", self.minimum)] {
            if let Some(amount) = amount {
                let amount = cents(amount);
                let _ = write!(
                    card,
                    "[[{key}]]\nid = \"{key}\"\nfees = false\namount = \"{amount}\"\n"
                );
            }
        }
        if let Some((amount, pay, overage)) = self.commitment {
            let amount = cents(amount);
            let overage = if overage { "overage = \"1.25\"\n" } else { "" };
            let _ = write!(
                card,
                "[[commitment]]\nid = \"k\"\nfees = false\nterm = \"P1M\"\npay = \"{pay}\"\namount = \"{amount}\"\n{overage}"
            );
        }
        let mut profile =
            "tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\ntax = [\"one\", \"two\"]\n".to_owned();
        if let Some(amount) = self.grant {
            let amount = cents(amount);
            let _ = write!(
                profile,
                "[[grant]]\nid = \"g\"\ncounts = [\"a\", \"fee\"]\namount = \"{amount}\"\n"
            );
        }
        [
            ("meters.toml", METERS.to_owned()),
            ("tax/t.toml", TAXES.to_owned()),
            ("cards/c.toml", card),
            ("profiles/t.toml", profile),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text))
        .collect()
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let some = |most: u32| prop::option::of(1..most);
    let around = (some(99), some(2000), some(3000), some(3000));
    let pays = prop::sample::select(vec!["usage", "advance", "parts"]);
    let commitment = prop::option::of((1u32..4000, pays, any::<bool>()));
    let styles = (any::<bool>(), any::<bool>(), any::<bool>());
    let paid = (some(2000), 0u32..500);
    (
        ([0u32..400, 0u32..400], 0u32..500),
        around,
        commitment,
        styles,
        paid,
    )
        .prop_map(|((units, fee), around, commitment, styles, paid)| Plan {
            units,
            fee,
            joint_percent: around.0,
            joint_amount: around.1,
            maximum: around.2,
            minimum: around.3,
            // What usage draws down would be more than it costs.
            commitment: commitment.map(|(amount, pay, overage)| {
                let pay = if styles.2 { "usage" } else { pay };
                (amount, pay, overage)
            }),
            inclusive: styles.0,
            per_line: styles.1,
            coupons_last: styles.2,
            grant: paid.0,
            credit: paid.1,
        })
}

/// Works out a bill of June and shows it.
fn with_bill<T>(
    catalog: &Catalog,
    plan: &Plan,
    used: [i128; 2],
    stage: Stage,
    see: impl FnOnce(&Bill<'_>) -> T,
) -> T {
    let tenant = TenantId::new("t").expect("valid");
    let zone = crate::period::Zone::UTC;
    let day = |text: &str| zone.start_of_day(text.parse().expect("a date"));
    let period = Period {
        start: day("2026-06-01"),
        end: day("2026-07-01"),
    };
    let name = |text: &str| MeterName::new(text).expect("valid");
    let usage = Usage {
        meters: ["a", "b"]
            .iter()
            .zip(used)
            .map(|(meter, used)| (name(meter), MeterUsage::whole(Quantity::new(used))))
            .collect(),
        carried: Carried {
            credit: Decimal::new(plan.credit.into(), 2),
            ..Carried::default()
        },
        stage,
        ..Usage::default()
    };
    let offline = Offline::new(catalog, &tenant, period).expect("described");
    let metered = offline.metered(&usage);
    see(&offline.bill(&usage, &metered, &[]).expect("a bill"))
}

/// Money is conserved within a bill.
fn check_sums(bill: &Bill<'_>) {
    let sum = |amounts: &mut dyn Iterator<Item = Decimal>| amounts.sum::<Decimal>();
    assert_eq!(bill.net, sum(&mut bill.lines.iter().map(|line| line.net)));
    assert_eq!(bill.tax, sum(&mut bill.lines.iter().map(|line| line.tax)));
    assert_eq!(bill.tax, sum(&mut bill.taxes.iter().map(|tax| tax.amount)));
    assert_eq!(bill.total, bill.net + bill.tax);
    let granted = sum(&mut bill.grants.iter().map(|grant| grant.paid));
    assert_eq!(bill.due, bill.total - bill.credit - granted);
    let entries = bill.entries();
    assert_eq!(bill.due, sum(&mut entries.iter().map(|entry| entry.amount)));
    for line in &bill.lines {
        let steps = sum(&mut line.steps().iter().map(|step| step.amount));
        assert_eq!(line.amount, line.list + steps, "{line}");
        assert!(line.amount.scale() <= 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever interim bills there are before it, what is posted in the end is the final bill.
    #[test]
    fn interim_bills_and_the_final_one_sum_to_the_bill_at_once(
        plan in plans(),
        pieces in prop::collection::vec([0i128..90, 0i128..90], 1..4),
    ) {
        let catalog = Catalog::parse(&plan.files()).unwrap_or_else(|errors| panic!("{errors}"));
        let mut posted: BTreeMap<EntryKey, Decimal> = BTreeMap::new();
        let mut used = [0, 0];
        let mut post = |bill: &Bill<'_>| {
            for entry in since(bill, &posted).expect("fits") {
                *posted.entry(entry.key).or_default() += entry.amount;
            }
            check_sums(bill);
        };
        for piece in &pieces {
            used = [used[0] + piece[0], used[1] + piece[1]];
            with_bill(&catalog, &plan, used, Stage::Interim, &mut post);
        }
        with_bill(&catalog, &plan, used, Stage::Final, &mut post);
        // And once more: nothing is new.
        with_bill(&catalog, &plan, used, Stage::Final, |bill| {
            prop_assert_eq!(since(bill, &posted).expect("fits"), []);
            let due: Decimal = posted.values().sum();
            prop_assert_eq!(due, bill.due);
            Ok(())
        })?;
    }

    /// More usage never costs less, before tax.
    #[test]
    fn more_usage_costs_no_less(mut plan in plans(), used in [0i128..120, 0i128..120], more in 1i128..60) {
        // The cents of an amount off all lines may move between the fee, which does not count for
        // the others, and usage, which does.
        if plan.maximum.is_some() || plan.minimum.is_some() || plan.commitment.is_some() {
            plan.joint_amount = None;
        }
        let catalog = Catalog::parse(&plan.files()).unwrap_or_else(|errors| panic!("{errors}"));
        let gross = |used| {
            with_bill(&catalog, &plan, used, Stage::Final, |bill| {
                bill.lines.iter().map(|line| line.billed).sum::<Decimal>()
            })
        };
        prop_assert!(gross(used) <= gross([used[0] + more, used[1]]));
        prop_assert!(gross(used) <= gross([used[0], used[1] + more]));
    }

    /// The same bill by another way of computing it.
    #[test]
    fn the_slow_way_agrees(plan in plans(), used in [0i128..200, 0i128..200]) {
        let catalog = Catalog::parse(&plan.files()).unwrap_or_else(|errors| panic!("{errors}"));
        let slow = slow::bill(&plan, used);
        with_bill(&catalog, &plan, used, Stage::Final, |bill| {
            prop_assert_eq!((bill.net, bill.tax), slow);
            Ok(())
        })?;
    }
}
