//! Periods that are billed before they end: by a threshold, by hand, in any number of pieces.

use proptest::prelude::*;

use super::split::wish;
use super::*;
use crate::closer::Closer;
use crate::entry::{Entry, Interim, Issue, Issued};
use crate::ledger::Note;

/// A fee, a commitment that is paid in advance, a minimum, tax per invoice, and a grant.
const AROUND: &str = r#"
[[price]]
id = "platform"
model = "flat"
flat = "3.00"

[[minimum]]
id = "least"
amount = "40.00"

[[commitment]]
id = "hour"
counts = ["req"]
amount = "5.00"
term = "P1D"
pay = "advance"
"#;

const TAX: &str = "[[tax]]\ncode = \"vat\"\njurisdiction = \"X\"\nrates = [{ percent = \"19\" }]\n";

fn files_with(profile: &str) -> BTreeMap<String, String> {
    let mut files = files("P1D");
    files.insert("cards/edge.toml".to_owned(), format!("{CARD}{AROUND}"));
    files.insert("tax/x.toml".to_owned(), TAX.to_owned());
    let own = files.get_mut("profiles/acme.toml").expect("there");
    own.push_str(&format!("\ntax = \"vat\"\n{profile}"));
    files
}

const THRESHOLD: &str = "threshold = { amount = \"20.00\", counts = [\"req\"] }\n";
const GRANT: &str = "[[grant]]\nid = \"gift\"\namount = \"6.00\"\n";
const DAY: i64 = 86_400;

fn world(profile: &str) -> World {
    let mut world = World::new("P1D");
    world.fold = TenantFold::new(2);
    world.catalog(files_with(profile));
    world.now = at(10);
    world
}

fn note() -> Note {
    Note {
        author: "kim".to_owned(),
        approved_by: None,
        reason: "half".to_owned(),
    }
}

impl World {
    fn interim(&mut self, interim: Interim) -> Vec<LedgerEntry> {
        ledger(&self.apply(&TenantInput::Interim(Box::new(interim))))
    }

    fn by_hand(&mut self) -> Option<Interim> {
        let interim = self.fold.interim_by_hand(self.now, &tenant("acme"), note());
        interim.expect("nothing earlier waits")
    }

    /// An invoice over all that waits; what it comes to.
    fn invoice(&mut self) -> Decimal {
        let dues = self.fold.dues(&tenant("acme")).expect("known");
        let issue = Issue {
            tenant: tenant("acme"),
            serial: u32::try_from(dues.documents().len()).expect("few"),
            issuer: "main".to_owned(),
            prefix: String::new(),
            digits: 1,
            first: 1,
            what: Issued::Invoice {
                currency: "EUR".to_owned(),
                lines: dues.open().keys().copied().collect(),
                due: None,
                split: None,
            },
            seller: None,
            buyer: None,
            note: note(),
        };
        let effects = self.apply(&TenantInput::Issue(Box::new(issue), 1));
        ledger(&effects)[0].posting.amount.expect("a total")
    }

    /// The day is over and closed.
    fn day_closed(&mut self) -> Vec<LedgerEntry> {
        self.now = at(DAY);
        self.watermark("a", DAY);
        self.close_due()
    }
}

/// What the entries of a tenant sum to, line by line.
fn sums(world: &World) -> BTreeMap<(String, Option<crate::ledger::Role>), (i128, Decimal)> {
    let mut sums = BTreeMap::new();
    for entry in ledger(&world.effects) {
        let posting = entry.posting;
        if !posting.kind.is_line() {
            continue;
        }
        let sum: &mut (i128, Decimal) = sums.entry((posting.line, posting.role)).or_default();
        sum.0 += posting.quantity.units();
        sum.1 += posting.amount.unwrap_or_default();
    }
    sums.retain(|_, (quantity, amount)| *quantity != 0 || !amount.is_zero());
    sums
}

#[test]
fn a_threshold_is_billed_and_credited_on_the_periods_invoice() {
    let mut world = world(THRESHOLD);
    let mut closer = Closer::new();
    let mut proposed = |world: &World| closer.poll(world.now, [&world.fold]);
    world.rows("a", vec![row("acme", "requests", 0, 150)]);
    // 100 at 1.00 for ten, 50 at half of it: 12.50; the fee does not count.
    assert_eq!(proposed(&world), []);
    world.rows("a", vec![row("acme", "requests", 0, 150)]);
    let [Entry::Interim(first)] = &proposed(&world)[..] else {
        panic!("20.00 are reached");
    };
    assert_eq!(proposed(&world), [], "it is proposed once");
    let first = (**first).clone();
    assert_eq!(
        short(&world.interim(first.clone())),
        [
            "charge hour 0 5.00",
            "charge hour 0 -5.00",
            "charge platform 0 3.00",
            "charge req 300 20.00",
            "charge vat 0 4.37",
        ]
    );
    let waits: Vec<&TenantId> = world.fold.tenants_to_bill().collect();
    assert_eq!(waits, [&tenant("acme")]);
    assert_eq!(world.invoice(), "27.37".parse().expect("a decimal"));
    assert_eq!(world.fold.tenants_to_bill().count(), 0);
    // Decided twice, it has no effect.
    assert_eq!(world.interim(first), []);
    assert_eq!(world.fold.oddities().interims_ignored, 1);
    // The next 20.00 are reached at 700 requests.
    world.rows("a", vec![row("acme", "requests", 0, 399)]);
    assert_eq!(proposed(&world), []);
    world.rows("a", vec![row("acme", "requests", 0, 1)]);
    let [Entry::Interim(second)] = &proposed(&world)[..] else {
        panic!("40.00 are reached");
    };
    assert_eq!(second.part, 1);
    let second = (**second).clone();
    assert_eq!(
        short(&world.interim(second)),
        [
            "reversal req -300 -20.00",
            "charge req 700 40.00",
            "reversal vat 0 -4.37",
            "charge vat 0 8.17",
        ]
    );
    assert_eq!(world.invoice(), "23.80".parse().expect("a decimal"));
    let open = world.fold.accruals(None);
    assert!(open[0].lines.iter().all(|line| line.amount == line.booked));
    // Nothing but the rest is billed in the end.
    world.rows("a", vec![row("acme", "requests", 20, 20)]);
    assert_eq!(
        short(&world.day_closed()),
        [
            "reversal req -700 -40.00",
            "charge req 720 41.00",
            "reversal vat 0 -8.17",
            "charge vat 0 8.36",
        ]
    );
    assert_eq!(world.invoice(), "1.19".parse().expect("a decimal"));
    // Late usage takes back what stands.
    world.rows("a", vec![row("acme", "requests", 20, 20)]);
    assert_eq!(
        short(&world.close_due()),
        [
            "reversal req -720 -41.00",
            "charge req 740 42.00",
            "reversal vat 0 -8.36",
            "charge vat 0 8.55",
        ]
    );
}

#[test]
fn a_minimum_waits_for_the_end_and_an_open_period_for_its_beginning() {
    let mut world = world(GRANT);
    assert_eq!(world.by_hand(), None, "nothing is open");
    world.rows("a", vec![row("acme", "requests", 0, 100)]);
    let interim = world.by_hand().expect("open");
    assert_eq!(
        short(&world.interim(interim.clone())),
        [
            "charge gift 0 -6.00",
            "charge hour 0 5.00",
            "charge hour 0 -5.00",
            "charge platform 0 3.00",
            "charge req 100 10.00",
            "charge vat 0 2.47",
        ]
    );
    assert_eq!(
        world.fold.tenants_to_bill().count(),
        0,
        "nobody waits for it"
    );
    // A snapshot goes on.
    world.fold = TenantFold::from_bytes(&world.fold.to_bytes()).expect("a snapshot");
    assert_eq!(
        short(&world.day_closed()),
        [
            "charge least 0 27.00",
            "reversal vat 0 -2.47",
            "charge vat 0 7.60"
        ]
    );
    world.now = at(DAY + 10);
    let mut late = interim;
    late.part = 1;
    assert_eq!(world.interim(late), [], "the period is closed");
}

#[test]
fn lines_on_no_invoice_yet_are_held_and_billed_with_what_takes_their_place() {
    let mut world = world("");
    world.rows("a", vec![row("acme", "requests", 0, 100)]);
    let interim = world.by_hand().expect("open");
    world.interim(interim);
    world.rows("a", vec![row("acme", "requests", 0, 100)]);
    world.day_closed();
    // 15.00 + 3.00 + 22.00 with tax, whichever entries they stand in.
    assert_eq!(world.invoice(), "47.60".parse().expect("a decimal"));
}

#[derive(Clone, Debug)]
enum Turn {
    Usage(i128),
    Bill,
    Issue,
    Snapshot,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => (-40..200i128).prop_map(Turn::Usage),
        2 => Just(Turn::Bill),
        1 => Just(Turn::Issue),
        1 => Just(Turn::Snapshot),
    ];
    prop::collection::vec(turn, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However often a period is billed before its end, it comes to what it comes to at once.
    #[test]
    fn pieces_are_the_whole(turns in turns(), grant in any::<bool>(), late in any::<bool>()) {
        let profile = if late { "late = \"next\"\n" } else { "" };
        let profile = format!("{profile}{}", if grant { GRANT } else { "" });
        let mut pieces = world(&profile);
        let mut whole = world(&profile);
        let mut invoiced = Decimal::ZERO;
        for turn in turns {
            match turn {
                Turn::Usage(quantity) => {
                    for world in [&mut pieces, &mut whole] {
                        world.rows("a", vec![row("acme", "requests", 0, quantity)]);
                    }
                }
                Turn::Bill => {
                    if let Some(interim) = pieces.by_hand() {
                        pieces.interim(interim);
                    }
                }
                Turn::Issue => {
                    if pieces.fold.dues(&tenant("acme")).is_some() {
                        invoiced += pieces.invoice();
                    }
                }
                Turn::Snapshot => {
                    let bytes = pieces.fold.to_bytes();
                    pieces.fold = TenantFold::from_bytes(&bytes).expect("a snapshot");
                }
            }
        }
        for world in [&mut pieces, &mut whole] {
            world.day_closed();
            world.rows("a", vec![row("acme", "requests", 30, 70)]);
            world.close_due();
        }
        prop_assert_eq!(sums(&pieces), sums(&whole));
        if whole.fold.dues(&tenant("acme")).is_some() {
            invoiced += pieces.invoice();
            prop_assert_eq!(invoiced, whole.invoice());
        }
        prop_assert_eq!(pieces.fold.oddities(), Oddities::default());
    }
}

/// What waits of other times and currencies neither takes the invoice's place nor keeps it back.
#[test]
fn a_threshold_invoice_is_neither_lost_nor_stuck() {
    let mut world = world(THRESHOLD);
    world.rows("a", vec![row("acme", "requests", 0, 300)]);
    let due = world.fold.poll_thresholds(world.now, None).remove(0);
    world.interim(due);
    // A line of another time, and one of another currency that ends with the day.
    world.line(1, 1000, 0);
    world.line_of(2, 1000, "USD", DAY);
    let until = Some(at(60));
    let other = WishedDocument::Invoice {
        currency: Some("EUR".to_owned()),
        until,
    };
    assert_eq!(world.issue(&wish(other))[0].posting.amount, Some(10.into()));
    let waits = |world: &World| world.fold.tenants_to_bill().count();
    assert_eq!(waits(&world), 1, "nothing of the day was billed");
    let copy = TenantFold::from_bytes(&world.fold.to_bytes()).expect("own bytes");
    assert_eq!(copy.tenants_to_bill().count(), 1);
    let issued = world.issue(&wish(WishedDocument::Threshold));
    let posting = &issued[0].posting;
    assert_eq!(posting.amount, Some("27.37".parse().expect("a decimal")));
    assert_eq!(posting.currency.as_deref(), Some("EUR"));
    assert_eq!(waits(&world), 0);
}
