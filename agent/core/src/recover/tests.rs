use tollgate_common::{AgentId, Incarnation, WindowWidth};

use super::*;

const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);
const BOOT: [u8; 16] = [1; 16];
const OPENED: Timestamp = Timestamp::from_secs(1_780_000_000);
const NOW: Timestamp = Timestamp::from_secs(1_780_001_000);

fn at(sequence: u64) -> Timestamp {
    OPENED.plus_millis(i64::try_from(sequence).expect("small") * 10_000)
}

fn hash(sequence: u64) -> BatchHash {
    BatchHash::from_bytes([u8::try_from(sequence).expect("small"); 32])
}

fn cut(sequence: u64) -> CutRecord {
    CutRecord {
        sequence,
        hash: hash(sequence),
        cut: at(sequence),
        watermark: at(sequence),
        is_final: false,
    }
}

fn facts(applied: u64) -> Facts {
    Facts {
        identity: Identity {
            agent: AgentId::new("edge-1").expect("valid"),
            incarnation: LIFE,
            boot_id: BOOT,
            opened_at: OPENED,
            window: WindowWidth::from_secs(10).expect("divides 900"),
            parent: Some(Parent {
                incarnation: Incarnation::from_bytes([0; 16]),
                last_sequence: 3,
                last_hash: hash(3),
                end: ParentEnd::Final,
            }),
            inherited: None,
            writers: Vec::new(),
        },
        applied,
        cut: (applied > 0).then(|| cut(applied)),
        next: None,
        released: 0,
    }
}

fn tail(last: u64) -> Option<Tail> {
    (last > 0).then(|| Tail {
        incarnation: LIFE,
        last,
        last_hash: hash(last),
        sealed_until: at(last),
        is_final: false,
    })
}

fn decide(facts: &Facts, tail: Option<Tail>, boot: [u8; 16]) -> Plan {
    plan(Ok(facts), tail, tail, boot, NOW)
}

fn beginning(plan: Plan) -> Beginning {
    match plan {
        Plan::Begin(beginning) => beginning,
        Plan::Finish { .. } => panic!("{plan:?}"),
    }
}

fn unclean(beginning: Beginning) -> (LossReason, Timestamp, Timestamp) {
    match beginning.parent.map(|parent| parent.end) {
        Some(ParentEnd::Unclean { reason, from, to }) => (reason, from, to),
        _ => panic!("{beginning:?}"),
    }
}

const SEAL: Plan = Plan::Finish {
    flip: false,
    missing: None,
};

#[test]
fn under_the_same_boot_cells_are_finished() {
    assert_eq!(decide(&facts(0), None, BOOT), SEAL, "nothing sealed yet");
    assert_eq!(decide(&facts(5), tail(5), BOOT), SEAL);
    let mut given_up = facts(5);
    given_up.next = Some(cut(6));
    assert_eq!(decide(&given_up, tail(5), BOOT), SEAL);
    let flip = Plan::Finish {
        flip: true,
        missing: None,
    };
    assert_eq!(decide(&given_up, tail(6), BOOT), flip);
    let mut first = facts(0);
    first.next = Some(cut(1));
    assert_eq!(decide(&first, tail(1), BOOT), flip);
}

#[test]
fn batches_lost_at_the_end_of_the_spool_get_tombstones() {
    let missing = |first, last| Plan::Finish {
        flip: false,
        missing: Some((first, last)),
    };
    assert_eq!(decide(&facts(5), tail(3), BOOT), missing(4, 5));
    assert_eq!(decide(&facts(5), None, BOOT), missing(1, 5));
    let mut released = facts(5);
    released.released = 4;
    assert_eq!(decide(&released, None, BOOT), missing(5, 5));
    released.released = 500;
    assert_eq!(decide(&released, None, BOOT), SEAL, "nobody needs them");
    let mut many = facts(5);
    many.applied = 100_000;
    assert_eq!(
        decide(&many, tail(7), BOOT),
        missing(100_001 - MISSING_MAX, 100_000)
    );
}

#[test]
fn contradictions_are_not_billed() {
    // The spool is ahead, has another batch of that number, or the record of the cut is gone.
    let mut other = facts(5);
    other.next = Some(CutRecord {
        hash: hash(99),
        ..cut(6)
    });
    let mut wrong_hash = facts(5);
    wrong_hash.cut = Some(CutRecord {
        hash: hash(99),
        ..cut(5)
    });
    let mut no_cut = facts(5);
    no_cut.cut = None;
    for (facts, last) in [
        (facts(5), 7),
        (facts(5), 6),
        (other, 6),
        (wrong_hash, 5),
        (no_cut, 5),
    ] {
        let begin = beginning(decide(&facts, tail(last), BOOT));
        assert_eq!(unclean(begin), (LossReason::CellsDamaged, at(last), NOW));
        assert_eq!(begin.parent.map(|parent| parent.last_sequence), Some(last));
    }
}

#[test]
fn after_another_boot_cells_are_not_read() {
    let begin = beginning(decide(&facts(5), tail(5), [2; 16]));
    assert_eq!(unclean(begin), (LossReason::UncleanBoot, at(5), NOW));
    // The applied number on disk may be old; the spool knows better.
    let begin = beginning(decide(&facts(2), tail(5), [2; 16]));
    assert_eq!(begin.parent.map(|p| p.last_hash), Some(hash(5)));
    // The spool may have lost its end.
    let begin = beginning(decide(&facts(5), tail(3), [2; 16]));
    assert_eq!(begin.parent.map(|p| p.last_sequence), Some(5));
    assert_eq!(unclean(begin).1, at(3));
    let begin = beginning(decide(&facts(5), None, [2; 16]));
    assert_eq!(unclean(begin).1, OPENED);
    // A clean stop lost nothing.
    let ended = tail(5).map(|tail| Tail {
        is_final: true,
        ..tail
    });
    let begin = beginning(decide(&facts(5), ended, [2; 16]));
    assert_eq!(begin.parent.map(|p| p.end), Some(ParentEnd::Final));
    assert_eq!(begin.inherited, None);
}

#[test]
fn a_life_without_batches_is_passed_over() {
    let mut facts = facts(0);
    let begin = beginning(decide(&facts, None, [2; 16]));
    assert_eq!(begin.parent, facts.identity.parent);
    let loss = begin.inherited.expect("declared");
    assert_eq!(
        (loss.reason, loss.from, loss.to),
        (LossReason::UncleanBoot, OPENED, NOW)
    );
    // And again, the loss growing.
    facts.identity.inherited = Some(InheritedLoss {
        from: Timestamp::from_secs(5),
        ..loss
    });
    let loss = beginning(decide(&facts, None, [2; 16])).inherited;
    assert_eq!(loss.map(|loss| loss.from), Some(Timestamp::from_secs(5)));
}

#[test]
fn without_cells_the_spool_is_all_there_is() {
    let no_cells =
        |no_facts: &NoFacts, newest| beginning(plan(Err(no_facts), None, newest, BOOT, NOW));
    let damaged = NoFacts::Damaged(CellsError::Checksum);
    assert_eq!(no_cells(&NoFacts::Absent, None), Beginning::FIRST);
    assert!(no_cells(&damaged, None).inherited.is_some());
    for no_facts in [&NoFacts::Absent, &damaged] {
        let begin = no_cells(no_facts, tail(4));
        assert_eq!(unclean(begin), (LossReason::CellsDamaged, at(4), NOW));
    }
    let ended = tail(4).map(|tail| Tail {
        is_final: true,
        ..tail
    });
    assert_eq!(no_cells(&NoFacts::Absent, ended).inherited, None);
    assert!(no_cells(&damaged, ended).inherited.is_some());
}

#[test]
fn a_fresh_life_opens_after_the_old_one_unless_that_was_in_the_future() {
    assert_eq!(opening_time(NOW, OPENED), NOW);
    let soon = NOW.plus_millis(500);
    assert_eq!(opening_time(NOW, soon), soon);
    let wrong = NOW.plus_millis(CLOCK_STEP_MAX_MILLIS + 1);
    assert_eq!(opening_time(NOW, wrong), NOW);
}
