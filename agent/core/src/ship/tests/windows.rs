//! How much is on its way: windows, grants and pauses.

use super::*;

fn grant(window_batches: u32, pause_millis: u32) -> Message {
    Message::Grant(Grant {
        window_batches,
        window_bytes: 1 << 20,
        pause_millis,
    })
}

#[test]
fn a_window_of_few_bytes_still_lets_one_batch_through() {
    let (spool, _) = spool(3);
    let narrow = Welcome {
        window_bytes: 0,
        window_batches: 0,
        ..welcome(0, BatchHash::ZERO)
    };
    let (mut shipper, _) = welcomed(&spool, narrow);
    for number in 1..=3 {
        assert_eq!(sent(&mut shipper, &spool), [number]);
        shipper
            .handle_message(NOW, ack(number), &spool)
            .expect("ok");
    }
}

#[test]
fn the_window_opens_with_what_the_collector_acknowledges() {
    let (spool, _) = spool(60);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    let mut last = 0;
    for expected in [4, 8, 16, 32] {
        let sent = sent(&mut shipper, &spool);
        assert_eq!(sent.len(), expected);
        last = *sent.last().expect("some");
        shipper.handle_message(NOW, ack(last), &spool).expect("ok");
    }
    assert_eq!(last, 60);
    assert!(shipper.status().window_batches <= 256);
}

#[test]
fn a_narrower_window_holds_from_the_next_batch_on() {
    let (spool, _) = spool(20);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    assert_eq!(sent(&mut shipper, &spool).len(), 4);
    shipper
        .handle_message(NOW, grant(2, 0), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(2), &spool).expect("ok");
    assert!(
        sent(&mut shipper, &spool).is_empty(),
        "two are on their way"
    );
    shipper.handle_message(NOW, ack(3), &spool).expect("ok");
    assert_eq!(sent(&mut shipper, &spool), [5]);
    shipper
        .handle_message(NOW, grant(256, 0), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(5), &spool).expect("ok");
    assert_eq!(sent(&mut shipper, &spool), [6, 7, 8, 9], "and opens again");
}

#[test]
fn a_pause_is_kept_ends_by_itself_and_is_no_overdue_answer() {
    let (spool, _) = spool(20);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    shipper
        .handle_message(NOW, grant(256, u32::MAX), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(1), &spool).expect("ok");
    assert!(sent(&mut shipper, &spool).is_empty());
    // No collector can silence an agent for longer than a minute.
    let end = NOW.plus_millis(60_000);
    assert_eq!(shipper.status().paused_until, Some(end));
    shipper.handle_message(NOW, ack(4), &spool).expect("ok");
    assert_eq!(
        shipper.poll_timeout(),
        Some(end),
        "the agent wakes for its end"
    );
    let just_before = shipper.poll_transmit(end.plus_millis(-1), &spool);
    assert_eq!(just_before.expect("reads"), None);
    let message = shipper.poll_transmit(end, &spool).expect("reads");
    assert!(matches!(message, Some(Message::Batch(_))));

    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    shipper
        .handle_message(NOW, grant(256, 50_000), &spool)
        .expect("ok");
    shipper.handle_tick(NOW.plus_millis(79_999));
    assert_eq!(shipper.poll_disconnect(), None);
    shipper.handle_tick(NOW.plus_millis(80_000));
    assert!(shipper.poll_disconnect().is_some());
}
