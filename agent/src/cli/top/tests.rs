//! The page against a terminal in memory.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::page::{bytes, short};
use super::state::View;
use super::*;
use crate::admin::watch::{TopGroup, TopPage, TopRates, TopSeries};

fn page(received: u64, millis: u64, events: u64) -> TopPage {
    let group = |name: &str| TopGroup {
        name: name.to_owned(),
        series: 3,
        overflow_series: 1,
        events,
        overflow_events: events / 2,
        amount: "5000000000000".to_owned(),
    };
    TopPage {
        rates: TopRates {
            millis,
            events,
            series: 3,
            by_tenant: vec![group("acme")],
            by_meter: vec![group("http.requests")],
            by_series: vec![TopSeries {
                input: "dogstatsd.udp".to_owned(),
                tenant: "acme".to_owned(),
                meter: "http.requests".to_owned(),
                dimensions: "{region=eu}".to_owned(),
                aggregation: "sum".to_owned(),
                events,
                amount: "5000000000000".to_owned(),
                value: None,
            }],
        },
        status: json!({
            "agent": "edge-1", "version": "1.0.0", "sequence": 7,
            "incarnation": "0123456789abcdef0123456789abcdef",
            "inputs": [{
                "name": "dogstatsd.udp", "series": 3, "series_max": 256, "received": received,
                "accepted": received - 2, "rejected": {"malformed": 2}, "lost": {"kernel_drop": 1},
            }],
            "spool": {"bytes": 2048, "bytes_max": 1 << 30, "batches": 4, "full_since": null},
            "ship": {"connection": "shipping", "clock": {"offset_millis": -3}, "in_flight": 1},
            "link": {"endpoint": "collector:7430", "rtt_micros": 1500},
        }),
    }
}

fn state() -> State {
    let mut state = State::new(TopQuery::default());
    state.take(page(1000, 0, 0));
    state.take(page(3000, 500, 2000));
    state
}

#[test]
fn the_page_shows_rates_and_what_is_wrong() {
    let text = plain(&state(), 120).join("\n");
    for expected in [
        "edge-1 1.0.0  incarnation 01234567  sealed batches 7",
        "shipping  collector:7430  rtt 1.5 ms  clock offset -3 ms  in flight 1",
        "2.0 KiB of 1.0 GiB  waiting batches 4",
        // 2,000 events in half a second.
        "4.0k/s events  3 series",
        "malformed 2",
        "kernel_drop 1",
        "acme/http.requests{region=eu}",
        "1 (2.0k/s)",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let input = text.lines().find(|line| line.starts_with("dogstatsd.udp"));
    assert!(
        input.is_some_and(|line| line.contains("4.0k") && line.contains("3/256")),
        "{text}"
    );
    let tenant = text.lines().find(|line| line.starts_with("acme "));
    assert!(
        tenant.is_some_and(|line| line.contains("10")),
        "5 units in half a second\n{text}"
    );
}

#[test]
fn any_size_of_terminal_will_do() {
    let mut state = state();
    for view in View::ALL {
        state.view = view;
        for (width, height) in [(1, 1), (10, 3), (80, 24), (200, 60)] {
            let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
            let Ok(_) = terminal.draw(|frame| draw::draw(frame, &state));
        }
    }
    assert!(!plain(&State::new(TopQuery::default()), 40).is_empty());
}

#[test]
fn keys_do_what_the_help_says() {
    let mut state = state();
    let press = |state: &mut State, code| state.handle_key(KeyEvent::from(code));
    press(&mut state, KeyCode::Char('p'));
    assert!(state.paused);
    press(&mut state, KeyCode::Char('s'));
    assert_eq!(state.query.order, TopOrder::Quantity);
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.view, View::Tenants);
    press(&mut state, KeyCode::BackTab);
    assert_eq!(state.view, View::All);
    // While a pattern is typed, letters are letters.
    press(&mut state, KeyCode::Char('t'));
    for c in "aq*x".chars() {
        assert_eq!(press(&mut state, KeyCode::Char(c)), Reaction::Stay);
    }
    press(&mut state, KeyCode::Backspace);
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.query.tenant.as_deref(), Some("aq*"));
    press(&mut state, KeyCode::Char('m'));
    press(&mut state, KeyCode::Char('x'));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.query.meter, None, "given up");
    press(&mut state, KeyCode::Char('c'));
    assert_eq!(state.query.tenant, None);
    assert_eq!(press(&mut state, KeyCode::Char('q')), Reaction::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.handle_key(interrupt), Reaction::Quit);
}

#[test]
fn numbers_are_short() {
    let cases = [
        (0.0, "0"),
        (7.0, "7"),
        (7.25, "7.2"),
        (999.0, "999"),
        (12_345.0, "12.3k"),
    ];
    for (number, text) in cases {
        assert_eq!(short(number), text);
    }
    assert_eq!(short(3.2e9), "3.2G");
    assert_eq!(
        [bytes(5), bytes(1536), bytes(3 << 40)],
        ["5 B", "1.5 KiB", "3.0 TiB"]
    );
}
