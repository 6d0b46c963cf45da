//! Shares by another way than the code that makes them, and whatever comes in any order.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::world::{NAMES, World, files, paid};
use crate::ledger::EntryKind;

/// What each of [`NAMES`] has of the requests' line, in cents: by hand, with the largest remainders
/// first, and among equal ones the payer, then by name.
fn parts_by_hand(quantities: [i128; 3]) -> [i128; 3] {
    let sum: i128 = quantities.iter().sum();
    let cents = 10 * sum.min(100) + 5 * (sum - 100).max(0);
    let mut parts = quantities.map(|quantity| cents * quantity / sum);
    let mut order = [0, 2, 1];
    order.sort_by_key(|who| std::cmp::Reverse(cents * quantities[*who] % sum));
    let left = cents - parts.iter().sum::<i128>();
    for (_, who) in (0..left).zip(order) {
        parts[who] += 1;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Verification adds up quantities and computes amounts by the code that made them; this is
    /// another way to the amounts, of what came in time, what came late and what was corrected.
    #[test]
    fn amounts_of_shares_are_those_worked_out_by_hand(
        counts in prop::array::uniform3(1_i128..200),
        late in (0_usize..3, 1_i128..200),
        corrected in (1_usize..3, 1_i128..200),
    ) {
        let mut world = paid();
        let mut quantities = counts;
        world.rows(&[("acme", 10, counts[0]), ("shop", 20, counts[1]), ("depot", 30, counts[2])]);
        world.close(3600);
        for step in 0..3 {
            match step {
                0 => {}
                1 => {
                    world.rows(&[(NAMES[late.0], 40, late.1)]);
                    quantities[late.0] += late.1;
                }
                _ => {
                    let less = corrected.1.min(quantities[corrected.0] - 1);
                    world.correct(NAMES[corrected.0], "t1", 20, -less);
                    quantities[corrected.0] -= less;
                }
            }
            world.close(3601 + step);
            let parts = parts_by_hand(quantities);
            let booked = |tenant: &str, is_share: bool| -> Decimal {
                let postings = world.tables.ledger.iter().map(|entry| &entry.posting);
                postings
                    .filter(|posting| posting.line == "requests")
                    .filter(|posting| posting.tenant.as_ref().is_some_and(|t| t.as_str() == tenant))
                    .filter(|posting| (posting.kind == EntryKind::Share) == is_share)
                    .filter_map(|posting| posting.amount)
                    .sum()
            };
            let cents = |cents: i128| Decimal::from_i128_with_scale(cents, 2);
            prop_assert_eq!(booked("acme", false), cents(parts.iter().sum()));
            prop_assert_eq!(booked("shop", true), cents(parts[1]), "{:?}", quantities);
            prop_assert_eq!(booked("depot", true), cents(parts[2]), "{:?}", quantities);
        }
        world.verify();
    }

    /// Whoever joins, leaves and is late: every unit is somebody's, the quantities of the children's
    /// shares and what is left to the payer sum to its lines, and a replay says the same.
    #[test]
    fn everything_is_billed_once(
        steps in prop::collection::vec((0_u8..6, 0_usize..3, 0_i64..20_000, 1_i128..500), 1..24),
    ) {
        let mut world = World::new(files("", &[("shop", ""), ("depot", "payer = \"acme\"")]));
        for (index, (what, who, at, quantity)) in steps.into_iter().enumerate() {
            let now = world.now.secs() + at / 8;
            world.close(now);
            let past = Ord::max(now - at, 0) / 10 * 10;
            match what {
                0 => world.catalog(files("", &[("shop", "payer = \"acme\""), ("depot", "")])),
                1 => world.catalog(files("late = \"next\"", &[("depot", "payer = \"acme\"")])),
                2 => world.correct(NAMES[who], &index.to_string(), past, -quantity),
                _ => world.rows(&[(NAMES[who], past, quantity), ("shop", now / 10 * 10, 5)]),
            }
        }
        let end = world.now.secs() + 8000;
        world.close(end);
        world.verify();
    }
}

/// A line that came to nothing is not booked; what is late of it stands in the next period, and its
/// shares in their own.
#[test]
fn shares_of_what_is_late_are_parts_of_a_line_of_another_period() {
    let mut world = World::new(files(
        "late = \"next\"",
        &[("shop", ""), ("depot", "payer = \"acme\"")],
    ));
    world.correct("depot", "t1", 0, -220);
    world.rows(&[("acme", 10, 220)]);
    world.close(3600);
    world.rows(&[("depot", 20, 382)]);
    assert_eq!(
        world.close(3601),
        [
            "acme adjustment requests 382 24.10",
            "depot share requests 382 10.22",
        ]
    );
    world.verify();
}
