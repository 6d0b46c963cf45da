//! Tiers that go on over several periods.

use super::*;

/// Of a month that begins on the fourth day: 100 at 0.50, and 1.00 once for what is above them.
pub(super) const TIERS: &str = "[[price]]\nid = \"tiers\"\nmeter = \"requests\"\nmodel = \"graduated\"\n\
    interval = \"P1M\"\ninterval_from = \"1970-01-04\"\nper = \"1 {request}\"\n\
    tiers = [{ to = \"100\", unit = \"0.50\" }, { unit = \"0.10\", flat = \"1.00\" }]\n";

impl World {
    /// What the tiers of each day come to.
    fn tiers(&self) -> Vec<(i64, String)> {
        let amounts = self.amounts().into_iter();
        let of_tiers = amounts.filter(|((_, line, _), _)| line == "tiers");
        of_tiers
            .map(|((day, _, _), amount)| (day, amount.normalize().to_string()))
            .collect()
    }
}

#[test]
fn tiers_of_a_term_go_on_and_late_usage_moves_the_later_days() {
    let mut world = world(TIERS, "");
    world.day(3, 80).begins(4).day(4, 50).begins(5).day(5, 10);
    world.begins(6).close_days(6);
    // 20 at 0.50, 30 at 0.10 and the fee once.
    assert_eq!(world.tiers(), pairs(&[(3, "40"), (4, "14"), (5, "1")]));
    // The tier is full on the first day.
    world.day(3, 40);
    world.close_day(3).expect("late usage");
    assert_eq!(world.tiers(), pairs(&[(3, "53"), (4, "5"), (5, "1")]));
    // What is taken back is not below what there is.
    world.day(3, -200);
    world.close_day(3).expect("late usage");
    assert_eq!(world.tiers(), pairs(&[(4, "25"), (5, "5")]));
    // The next month begins anew, and so did the one before.
    world.day(2, 130).begins(35).day(34, 20).begins(36);
    world.close_days(36);
    let days = [(2, "54"), (4, "25"), (5, "5"), (34, "10")];
    assert_eq!(world.tiers(), pairs(&days));
    assert_eq!(world.fold.oddities(), Oddities::default());
}

/// An open period is not billed before the one that its tiers go on from.
#[test]
fn a_threshold_waits_for_the_tiers_before() {
    let mut world = world(TIERS, "threshold = { amount = \"10.00\" }\n");
    world.day(3, 80).begins(4).day(4, 50);
    assert_eq!(world.fold.poll_thresholds(world.now, None), []);
    world.close_day(3).expect("over");
    assert_eq!(world.fold.poll_thresholds(world.now, None).len(), 1);
}
