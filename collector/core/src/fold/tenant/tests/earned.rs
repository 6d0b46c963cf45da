//! What is charged before its time is owed until then: fees in advance until their period, commitments
//! until they are used or over.

use super::*;

const DAY: i64 = 86_400;
const METERS: &str =
    "[[meter]]\nname = \"requests\"\nunit = \"{request}\"\nscale = 0\naggregation = \"sum\"\n";
const CARD: &str = "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"1970-01-01\"\norder = \"standard/1\"\n\
    [[price]]\nid = \"req\"\nmeter = \"requests\"\nmodel = \"per_unit\"\nper = \"1 {request}\"\n\
    unit = \"1.00\"\ngl = \"8400\"\n";
const FEE: &str = "[[price]]\nid = \"platform\"\nmodel = \"flat\"\nflat = \"20.00\"\n\
    billed = \"in_advance\"\ngl = \"8500\"\n";

fn files(card: &str, profile: &str) -> BTreeMap<String, String> {
    let profile = format!(
        "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = {{ every = \"P1D\" }}\n{profile}"
    );
    let rate = |date, rate| {
        format!("[[rate]]\nfrom = \"EUR\"\nto = \"USD\"\ndate = \"{date}\"\nrate = \"{rate}\"\n")
    };
    let tax = "[[tax]]\ncode = \"vat\"\njurisdiction = \"X\"\nrates = [{ percent = \"10\" }]\n";
    BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/edge.toml".to_owned(), format!("{CARD}{card}")),
        ("profiles/acme.toml".to_owned(), profile),
        ("tax/x.toml".to_owned(), tax.to_owned()),
        (
            "rates/x.toml".to_owned(),
            rate("1970-01-01", "2") + &rate("1970-01-03", "3"),
        ),
    ])
}

/// Days of a tenant that is known from the first one on.
fn world(card: &str, profile: &str) -> World {
    due::world(files(card, profile), 0)
}

impl World {
    /// A day with so many requests is over and closed.
    fn used(&mut self, day: i64, requests: i128) -> Vec<LedgerEntry> {
        if requests != 0 {
            self.rows("a", vec![row("acme", "requests", day * DAY, requests)]);
        }
        self.watermark("a", (day + 1) * DAY);
        self.now = at((day + 1) * DAY);
        self.apply(&TenantInput::Clock);
        self.close_due()
    }

    /// What stands on each account, credits below zero.
    fn balances(&self) -> Vec<String> {
        let mut sums: BTreeMap<String, Decimal> = BTreeMap::new();
        for entry in ledger(&self.effects) {
            crate::ledger::check_balance(&entry.posting.legs).expect("balanced");
            for leg in entry.posting.legs {
                let account = format!("{} {}", leg.account, leg.currency);
                *sums.entry(account).or_default() += leg.amount;
            }
        }
        sums.retain(|_, sum| !sum.is_zero());
        let sums = sums.into_iter();
        sums.map(|(account, sum)| format!("{account} {}", sum.normalize()))
            .collect()
    }
}

#[test]
fn a_fee_in_advance_is_earned_in_its_period() {
    let mut world = world(FEE, "");
    world.used(0, 0);
    let first = [
        "deferred EUR -20",
        "revenue:8500 EUR -20",
        "unbilled EUR 40",
    ];
    assert_eq!(world.balances(), first);
    // The next day charges the fee of the day after, and earns its own.
    let entries = world.used(1, 5);
    assert_eq!(
        short(&entries),
        [
            "charge platform 0 0.00",
            "charge platform 0 20.00",
            "charge req 5 5.00"
        ]
    );
    let earned = &entries[0].posting;
    assert_eq!((earned.start, earned.legs.len()), (at(DAY), 2));
    let second = [
        "deferred EUR -20",
        "revenue:8400 EUR -5",
        "revenue:8500 EUR -40",
        "unbilled EUR 65",
    ];
    assert_eq!(world.balances(), second);
    // Late usage changes nothing of it.
    world.rows("a", vec![row("acme", "requests", DAY, 1)]);
    let late = short(&world.close_due());
    assert_eq!(late, ["reversal req -5 -5.00", "charge req 6 6.00"]);
    // Agreed no longer, it is given back, and nobody has earned it.
    world.catalog(files("", ""));
    world.used(2, 0);
    let last = [
        "revenue:8400 EUR -6",
        "revenue:8500 EUR -40",
        "unbilled EUR 46",
    ];
    assert_eq!(world.balances(), last);
    let copy = TenantFold::from_bytes(&world.fold.to_bytes()).expect("own bytes");
    assert_eq!(copy.to_bytes(), world.fold.to_bytes());
}

#[test]
fn a_fee_in_advance_is_earned_without_its_tax_as_it_was_converted() {
    let inclusive = "[tax]\nbehavior = \"inclusive\"\n";
    let mut world = world(
        &(inclusive.to_owned() + FEE),
        "tax = \"vat\"\ncurrency = \"USD\"\n",
    );
    world.used(0, 0);
    // 40.00 USD each, of which 3.64 are tax.
    let first = [
        "deferred USD -36.37",
        "revenue:8500 USD -36.36",
        "tax:vat USD -7.27",
        "unbilled USD 80",
    ];
    assert_eq!(world.balances(), first);
    world.used(1, 0);
    world.used(2, 0);
    // What is in advance for the day after has the rate of 3 by then.
    let balances = world.balances();
    assert_eq!(balances[1], "revenue:8500 USD -109.09");
}

/// 100.00 in three days.
fn commitment(more: &str) -> String {
    format!(
        "[[commitment]]\nid = \"term\"\namount = \"100.00\"\nterm = \"P3D\"\ncounts = [\"req\"]\n{more}\n"
    )
}

#[test]
fn what_is_left_of_a_commitment_is_earned_at_its_end() {
    for pay in ["advance", "parts"] {
        let mut world = world(&commitment(&format!("pay = \"{pay}\"")), "");
        world.used(0, 40);
        world.used(1, 0);
        assert!(
            !world
                .balances()
                .iter()
                .any(|line| line.starts_with("revenue:revenue"))
        );
        let last = world.used(2, 1);
        let ended = last.iter().map(|entry| &entry.posting);
        let broken = ended.filter(|posting| posting.role == Some(crate::ledger::Role::Breakage));
        let broken: Vec<_> = broken.collect();
        assert_eq!(broken.len(), 1, "{pay}");
        assert_eq!(broken[0].amount, Some(Decimal::new(0, 2)));
        let all = [
            "revenue:8400 EUR -41",
            "revenue:revenue EUR -59",
            "unbilled EUR 100",
        ];
        assert_eq!(world.balances(), all, "{pay}");
        // What comes late was paid for, so that less is left.
        world.rows("a", vec![row("acme", "requests", 0, 20)]);
        world.close_due();
        let all = [
            "revenue:8400 EUR -61",
            "revenue:revenue EUR -39",
            "unbilled EUR 100",
        ];
        assert_eq!(world.balances(), all, "{pay}");
    }
}

#[test]
fn what_exchange_rates_leave_of_a_commitment_has_its_own_account() {
    let mut world = world(&commitment("pay = \"advance\""), "currency = \"USD\"\n");
    // 100.00 EUR at 2; 40.00 of them at 2, and 10.00 at 3.
    world.used(0, 40);
    world.used(1, 0);
    world.used(2, 10);
    let all = [
        "exchange USD 10",
        "revenue:8400 USD -110",
        "revenue:revenue USD -100",
        "unbilled USD 200",
    ];
    assert_eq!(world.balances(), all);
}

#[test]
fn what_is_left_of_a_commitment_in_two_currencies_is_booked_in_both() {
    let term = commitment("pay = \"advance\"");
    let mut world = world(&term, "");
    // 100.00 EUR, 40.00 of them; then the same agreement is billed in USD, and 10.00 EUR at 2.
    world.used(0, 40);
    world.catalog(files(&term, "currency = \"USD\"\n"));
    world.used(1, 10);
    let last = world.used(2, 0);
    assert_eq!(short(&last), ["charge term 0 0.00"]);
    // Earned is what was paid, and nothing is left of the commitment in either.
    let all = [
        "revenue:8400 EUR -40",
        "revenue:8400 USD -20",
        "revenue:revenue EUR -60",
        "revenue:revenue USD 20",
        "unbilled EUR 100",
    ];
    assert_eq!(world.balances(), all);
}
