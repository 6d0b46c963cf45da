//! Who counts as changed: rating only them gives what rating everybody gives.

use proptest::prelude::*;

use super::due::{with_fee, world};
use super::properties::{Step, step};
use super::*;

/// Accruals that are kept up to date by what changed.
#[derive(Default)]
struct Kept(BTreeMap<TenantId, Vec<Accrual>>);

impl Kept {
    /// Takes at most so many tenants.
    fn take(&mut self, fold: &mut TenantFold, most: usize) {
        for _ in 0..most {
            let Some((_, name)) = fold.first_changed() else {
                return;
            };
            let accruals = fold.take_changed(&name).expect("it has changed");
            self.0.insert(name, accruals);
        }
    }

    fn all(&self) -> Vec<Accrual> {
        self.0.values().flatten().cloned().collect()
    }
}

#[test]
fn nobody_is_kept_while_nobody_watches() {
    let mut world = World::new("PT1M");
    world.rows("a", vec![row("acme", "requests", 0, 1)]);
    assert_eq!(world.fold.changed_count(), 0);
    world.fold.watch_changes(at(5));
    assert_eq!(world.fold.first_changed(), Some((at(5), tenant("acme"))));
}

#[test]
fn who_changed_first_comes_first_and_once() {
    let mut world = World::new("PT1M");
    world.fold.watch_changes(at(0));
    for (now, name) in [(1, "b"), (2, "a"), (3, "b"), (4, "c")] {
        world.now = at(now);
        world.rows("x", vec![row(name, "requests", 0, 1)]);
    }
    assert_eq!(world.fold.changed_count(), 3);
    assert_eq!(world.fold.first_changed(), Some((at(1), tenant("b"))));
    world.fold.defer_changed(&tenant("b"));
    assert_eq!(world.fold.first_changed(), Some((at(2), tenant("a"))));
    // Out of turn, and again later.
    assert_eq!(
        world.fold.take_changed(&tenant("c")).map(|a| a.len()),
        Some(1)
    );
    assert_eq!(world.fold.take_changed(&tenant("c")), None);
    assert!(world.fold.take_changed(&tenant("a")).is_some());
    assert_eq!(world.fold.first_changed(), Some((at(1), tenant("b"))));
    assert!(world.fold.take_changed(&tenant("b")).is_some());
    assert_eq!(
        (world.fold.first_changed(), world.fold.changed_count()),
        (None, 0)
    );
}

#[test]
fn periods_that_open_without_usage_are_a_change() {
    let mut world = world(with_fee("PT1M"), 0);
    world.fold.watch_changes(at(0));
    let mut kept = Kept::default();
    kept.take(&mut world.fold, 10);
    world.now = at(61);
    world.apply(&TenantInput::Clock);
    assert_eq!(world.fold.first_changed(), Some((at(61), tenant("acme"))));
    kept.take(&mut world.fold, 10);
    assert_eq!(kept.all(), world.fold.accruals(None));
    assert_eq!(kept.all().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rating_who_changed_is_rating_everybody(
        steps in proptest::collection::vec((step(), 0usize..3), 0..60),
    ) {
        let mut world = world(with_fee("PT1M"), 0);
        world.fold.watch_changes(world.now);
        let mut kept = Kept::default();
        for (step, most) in &steps {
            let is_restart = matches!(step, Step::Restart);
            world.step(step, is_restart);
            if is_restart {
                kept = Kept::default();
                world.fold.watch_changes(world.now);
            }
            kept.take(&mut world.fold, *most);
        }
        kept.take(&mut world.fold, usize::MAX);
        prop_assert_eq!(kept.all(), world.fold.accruals(None));
        prop_assert_eq!(world.fold.changed_count(), 0);
    }
}
