//! Usage of a time that is far from having come: refused where it is received.

use super::*;

const DAY: i64 = 86_400;

impl World {
    /// Rows that the intake refuses for this reason.
    fn refused(&mut self, row: Row) {
        let reason = Some(RefusedReason::FromTheFuture);
        self.apply(&TenantInput::Rows(Rows {
            agent: agent("a"),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: BatchSeq::FIRST,
            rows: RowSet::new([(row.rollup(), reason)]),
        }));
    }
}

/// A clock that is years ahead opens no period in years to come, and what it counted is seen in the
/// period in which it came, where it can be released.
#[test]
fn usage_from_the_future_is_seen_when_it_came() {
    let mut world = World::new("P1D");
    world.now = at(DAY + 60);
    world.refused(row("acme", "requests", 1000 * DAY, 30));
    let standings: Vec<_> = world.fold.standings(world.now, None).collect();
    assert_eq!(standings.len(), 1, "{standings:?}");
    world.rows("a", vec![row("acme", "requests", DAY + 10, 10)]);
    world.now = at(3 * DAY);
    world.watermark("a", 3 * DAY);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 10 1.00", "refused from_the_future 30 -"]
    );
}

#[test]
fn rows_are_refused_one_by_one() {
    let rows = |starts: &[i64]| {
        let rows: Vec<_> = starts
            .iter()
            .map(|start| row("acme", "requests", *start, 1).rollup())
            .collect();
        RowSet::new(rows.into_iter().map(|row| (row, None)))
    };
    let shown = |set: RowSet| -> Vec<bool> {
        let refused = set.refused_after(at(100));
        refused
            .iter()
            .map(|(_, refused)| refused.is_some())
            .collect()
    };
    assert_eq!(shown(rows(&[80, 90, 100])), [false; 3]);
    assert_eq!(
        shown(rows(&[80, 110, 120, 100, 130])),
        [false, true, true, false, true]
    );
    // What the policy refuses stays refused for its own reason.
    let reason = RefusedReason::MeterNotAllowed;
    let set = RowSet::new([(row("acme", "requests", 200, 1).rollup(), Some(reason))]);
    let set = set.refused_after(at(100));
    assert_eq!(
        set.iter().next().and_then(|(_, refused)| refused),
        Some(reason)
    );
}
