//! Whatever comes in whatever order, periods cost what all of it costs at once.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Around {
    pay: &'static str,
    /// Overage, a grant, a fee in advance, a minimum, a longer commitment, tiers that go on.
    with: [bool; 6],
}

impl Around {
    fn world(&self) -> World {
        let [overage, grant, fee, minimum, longer, tiers] = self.with;
        let mut card = commitment(&format!("pay = \"{}\"", self.pay));
        if overage {
            card.push_str("overage = \"1.5\"\n");
        }
        if longer {
            card.push_str("[[commitment]]\nid = \"longer\"\namount = \"180.00\"\nterm = \"P6D\"\n");
        }
        if minimum {
            card.push_str("[[minimum]]\nid = \"least\"\namount = \"15.00\"\nfees = false\n");
        }
        if tiers {
            card.push_str(super::tiers::TIERS);
        }
        let fee = if fee { FEE } else { "" };
        let grant = if grant { GRANT } else { "" };
        world(&format!("{fee}{card}"), grant)
    }
}

#[derive(Clone, Debug)]
enum Turn {
    /// Of a day, how much.
    Usage(i64, i128),
    Close(i64),
    Snapshot,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => (0..8i64, -10..90i128).prop_map(|(day, quantity)| Turn::Usage(day, quantity)),
        4 => (0..8i64).prop_map(Turn::Close),
        1 => Just(Turn::Snapshot),
    ];
    prop::collection::vec(turn, 1..24)
}

fn arounds() -> impl Strategy<Value = Around> {
    let pay = prop::sample::select(vec!["usage", "advance", "parts"]);
    (pay, any::<[bool; 6]>()).prop_map(|(pay, with)| Around { pay, with })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any order of usage and closings comes to what all of it comes to at once, day by day and
    /// line by line.
    #[test]
    fn any_order_comes_to_the_same(around in arounds(), turns in turns()) {
        let mut pieces = around.world();
        let mut whole = around.world();
        // One that is known from the first day on.
        for world in [&mut pieces, &mut whole] {
            world.day(0, 1).begins(8);
        }
        for turn in turns {
            match turn {
                Turn::Usage(day, quantity) => {
                    pieces.day(day, quantity);
                    whole.day(day, quantity);
                }
                Turn::Close(day) => {
                    pieces.close_day(day);
                }
                Turn::Snapshot => {
                    let bytes = pieces.fold.to_bytes();
                    pieces.fold = TenantFold::from_bytes(&bytes).expect("a snapshot");
                }
            }
        }
        pieces.close_days(8);
        whole.close_days(8);
        prop_assert_eq!(pieces.amounts(), whole.amounts());
        prop_assert_eq!(pieces.fold.oddities(), Oddities::default());
        prop_assert_eq!(
            &*pieces.fold.tenants[&tenant("acme")].carried,
            &*whole.fold.tenants[&tenant("acme")].carried
        );
    }
}
