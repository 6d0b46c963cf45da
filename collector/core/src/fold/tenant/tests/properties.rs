//! What holds for a tenant fold whatever happens to it.

use proptest::prelude::*;

use super::*;

/// What happens to a fold, for the properties.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Row {
        agent: u8,
        tenant: u8,
        meter: u8,
        start: u8,
        value: u32,
        refused: bool,
    },
    Accepted,
    Watermark {
        agent: u8,
        to: u8,
    },
    Pass(u8),
    Close,
    Catalog(bool),
    Restart,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let row = (
        0u8..2,
        0u8..3,
        0u8..4,
        0u8..20,
        0u32..100_000,
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(agent, tenant, meter, start, value, refused)| Step::Row {
            agent,
            tenant,
            meter,
            start,
            value,
            refused,
        });
    prop_oneof![
        8 => row,
        1 => Just(Step::Accepted),
        2 => (0u8..2, 0u8..30).prop_map(|(agent, to)| Step::Watermark { agent, to }),
        2 => (1u8..60).prop_map(Step::Pass),
        2 => Just(Step::Close),
        1 => any::<bool>().prop_map(Step::Catalog),
        1 => Just(Step::Restart),
    ]
}

impl World {
    pub(super) fn step(&mut self, step: &Step, restarts: bool) {
        match *step {
            Step::Row {
                agent,
                tenant,
                meter,
                start,
                value,
                refused,
            } => {
                let tenant = ["acme", "nobody", "_unattributed"][usize::from(tenant)];
                let meter = ["requests", "free", "unheard", "seats"][usize::from(meter)];
                let rows = vec![row(tenant, meter, i64::from(start) * 10, i128::from(value))];
                let (allowed, refused) = if refused {
                    (vec![], rows)
                } else {
                    (rows, vec![])
                };
                self.mixed_rows(["a", "b"][usize::from(agent)], allowed, refused);
            }
            Step::Accepted => {
                self.apply(&TenantInput::Accepted(vec![Accepted {
                    tenant: tenant("acme"),
                    meter: MeterName::new("requests").expect("valid"),
                    scale: Scale::ZERO,
                    quantity: Quantity::new(1),
                }]));
            }
            Step::Watermark { agent, to } => {
                self.watermark(["a", "b"][usize::from(agent)], i64::from(to) * 10);
            }
            Step::Pass(secs) => self.now = self.now.plus_millis(i64::from(secs) * 1000),
            Step::Close => {
                self.close_due();
            }
            Step::Catalog(short) => self.catalog(files(if short { "PT15S" } else { "PT1M" })),
            Step::Restart if restarts => {
                let bytes = self.fold.to_bytes();
                let back = TenantFold::from_bytes(&bytes).expect("own snapshot");
                assert!(back.to_bytes() == bytes, "a snapshot reads back as it was");
                self.fold = back;
            }
            Step::Restart => {}
        }
    }

    fn run(steps: &[Step], restarts: bool) -> Self {
        let mut world = Self::new("PT1M");
        for step in steps {
            world.step(step, restarts);
        }
        // In the end everything is reported and settled.
        world.watermark("a", 100 * 86_400);
        world.watermark("b", 100 * 86_400);
        world.now = at(100 * 86_400);
        world.close_due();
        world
    }

    /// Sums of the ledger by tenant, meter and kind of account: quantity and amount.
    fn sums(&self) -> BTreeMap<(String, String, bool), (i128, Decimal)> {
        let mut sums = BTreeMap::new();
        for entry in ledger(&self.effects) {
            let posting = entry.posting;
            let key = (
                posting.tenant.map(|t| t.to_string()).unwrap_or_default(),
                posting.meter.map(|m| m.to_string()).unwrap_or_default(),
                posting.kind == EntryKind::Refused,
            );
            let sum: &mut (i128, Decimal) = sums.entry(key).or_default();
            sum.0 += posting.quantity.units();
            sum.1 += posting.amount.unwrap_or_default();
        }
        sums
    }
}

proptest! {
    /// What was counted is in the ledger exactly once, whatever happened in between.
    #[test]
    fn every_unit_is_booked_once(steps in proptest::collection::vec(step(), 0..60)) {
        let world = World::run(&steps, true);
        let mut expected: BTreeMap<(String, String, bool), i128> = BTreeMap::new();
        for step in &steps {
            if let Step::Row { tenant, meter: meter @ 0..3, value, refused, .. } = step {
                let tenant = ["acme", "nobody", "_unattributed"][usize::from(*tenant)];
                let meter = ["requests", "free", "unheard"][usize::from(*meter)];
                let key = (tenant.to_owned(), meter.to_owned(), *refused);
                *expected.entry(key).or_default() += i128::from(*value);
            }
        }
        expected.retain(|_, quantity| *quantity != 0);
        let mut found: BTreeMap<_, _> = world.sums().into_iter().map(|(key, (quantity, _))| (key, quantity)).collect();
        found.retain(|(_, meter, _), quantity| meter != "seats" && *quantity != 0);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(world.fold.oddities(), Oddities::default());
    }

    /// The chain verifies, and a snapshot in the middle changes no byte of what follows.
    #[test]
    fn replay_gives_the_same_bytes(steps in proptest::collection::vec(step(), 0..60)) {
        let straight = World::run(&steps, false);
        let restarted = World::run(&steps, true);
        prop_assert!(straight.effects == restarted.effects);
        prop_assert!(straight.fold.to_bytes() == restarted.fold.to_bytes());
        let mut chain = Chain::new(2);
        for entry in ledger(&straight.effects) {
            prop_assert_eq!(chain.verify_next(&entry), Ok(()));
        }
        prop_assert_eq!(chain, straight.fold.chain());
    }

    /// The sum of all entries of a line does not depend on the order of arrival, nor on how
    /// often the period was closed in between.
    #[test]
    fn order_and_closings_do_not_change_the_sum(rows in proptest::collection::vec((0u8..2, 0u8..4, 0u8..18, 0u32..100_000), 1..30), closings: Vec<bool>, turn in 0usize..30) {
        let total = |rows: &[(u8, u8, u8, u32)], closings: &[bool]| {
            let mut world = World::new("PT1M");
            world.now = at(200);
            world.watermark("a", 200);
            world.watermark("b", 200);
            for (index, (agent, meter, start, value)) in rows.iter().enumerate() {
                world.step(&Step::Row { agent: *agent, tenant: 0, meter: *meter, start: *start, value: *value, refused: false }, false);
                if closings.get(index).copied().unwrap_or_default() {
                    world.close_due();
                }
            }
            world.close_due();
            world.sums()
        };
        // Levels of the same agent and window are ordered by arrival; one for each here.
        let mut unique = std::collections::BTreeSet::new();
        let rows: Vec<_> = rows.into_iter().filter(|(a, m, s, _)| unique.insert((*a, *m, *s))).collect();
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        prop_assert_eq!(total(&rows, &closings), total(&turned, &[]));
    }

    #[test]
    fn arbitrary_snapshots_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = TenantFold::from_bytes(&bytes);
    }
}
