//! Windows and pauses that a session tells an agent after its welcome.

use super::*;

/// A session in which a newer agent was welcomed.
fn open_to_grants() -> Bench {
    let mut bench = Bench::new();
    bench.session.window = Window::new(3, 1 << 20, NOW);
    bench.session.handle_offer(NOW, offered(1 << 20, 0));
    let mut newer = hello(Vec::new());
    if let Message::Hello(hello) = &mut newer {
        hello.version_max = GRANT_VERSION;
    }
    bench.send(newer).expect("accepted");
    bench.session.poll_query();
    // What is offered before the welcome is told with it.
    bench.session.handle_offer(NOW, offered(1000, 0));
    let mut desk = Desk {
        policy: &bench.policy,
        encoder: &mut bench.encoder,
    };
    bench
        .session
        .handle_progress(NOW, Progress::default(), &mut desk)
        .expect("accepted");
    match bench.session.poll_transmit() {
        Some(Message::Welcome(welcome)) => assert_eq!(welcome.window_bytes, 1000),
        other => panic!("{other:?}"),
    }
    bench
}

fn offered(bytes: u64, pause_millis: u32) -> Offer {
    Offer {
        batches: 3,
        bytes,
        pause_millis,
    }
}

fn granted(bench: &mut Bench) -> Option<(u64, u32)> {
    match bench.session.poll_transmit() {
        Some(Message::Grant(grant)) => Some((grant.window_bytes, grant.pause_millis)),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_is_told_of_windows_that_make_a_difference() {
    let mut bench = open_to_grants();
    for (bytes, told) in [
        (1100, None),
        (1999, None),
        (2000, Some((2000, 0))),
        (1001, None),
        (1000, Some((1000, 0))),
        (u64::MAX, Some((1 << 20, 0))),
        ((1 << 20) - 1, None),
    ] {
        bench.session.handle_offer(NOW, offered(bytes, 0));
        assert_eq!(granted(&mut bench), told, "{bytes}");
    }
}

#[test]
fn a_pause_is_said_once_and_a_later_window_does_not_cut_it_short() {
    let mut bench = open_to_grants();
    let mut offer = |after, bytes| {
        let now = NOW.plus_millis(after);
        bench.session.handle_offer(now, offered(bytes, 300));
        granted(&mut bench)
    };
    assert_eq!(offer(0, 1000), Some((1000, 300)));
    assert_eq!(offer(100, 1000), None);
    assert_eq!(offer(200, 9000), Some((9000, 100)));
    assert_eq!(offer(300, 9000), Some((9000, 300)));
}

#[test]
fn a_pause_is_over_when_the_clock_is_set_back() {
    let mut bench = open_to_grants();
    let mut offer = |now: Timestamp, bytes, pause| {
        bench.session.handle_offer(now, offered(bytes, pause));
        granted(&mut bench)
    };
    assert_eq!(offer(NOW, 1000, 300), Some((1000, 300)));
    // An hour back: nobody waits for that hour.
    let back = NOW.plus_millis(-3_600_000);
    assert_eq!(offer(back, 9000, 0), Some((9000, 0)));
    assert_eq!(offer(back, 9000, 300), Some((9000, 300)));
    // And no pause is longer than the protocol knows.
    let later = NOW.plus_millis(3_600_000);
    assert_eq!(offer(later, 9000, u32::MAX), Some((9000, 60_000)));
}

#[test]
fn an_agent_of_an_older_version_keeps_the_window_of_its_welcome() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    bench.session.handle_offer(NOW, offered(1, 300));
    assert_eq!(granted(&mut bench), None);
}
