//! `top`: the busiest tenants, meters and series of a running agent, in the terminal.

mod draw;
mod page;
mod state;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::ask::connect;
use super::{EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE, TopArgs};
use crate::admin::client::{Client, ClientError};
use crate::admin::watch::{TopOrder, TopQuery};
use crate::output::{complain, json, line};
use state::{Reaction, State};

/// The page that `--once` prints, in cells.
const ONCE_WIDTH: u16 = 120;

pub(super) fn top(args: &TopArgs) -> u8 {
    let client = match connect(&args.config) {
        Ok(client) => client,
        Err(code) => return code,
    };
    let query = TopQuery {
        rows: args.rows.into(),
        order: args.sort.into(),
        tenant: args.tenant.clone(),
        meter: args.meter.clone(),
    };
    let interval = args.interval;
    let result = if args.once || args.json || !io::stdout().is_terminal() {
        once(client, query, interval, args.json)
    } else {
        interactive(client, query, interval)
    };
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => {
            complain(format_args!("Error: {error}"));
            match error {
                ClientError::Io(_) => EXIT_UNAVAILABLE,
                ClientError::Protocol(_) | ClientError::Refused(_) => EXIT_FAILURE,
            }
        }
    }
}

/// Looks twice, and prints what happened in between.
fn once(
    mut client: Client,
    query: TopQuery,
    interval: Duration,
    as_json: bool,
) -> Result<(), ClientError> {
    let first = client.top(&query)?;
    std::thread::sleep(interval);
    let second = client.top(&query)?;
    if as_json {
        json(&second);
        return Ok(());
    }
    let mut state = State::new(query);
    state.take(first);
    state.take(second);
    for text in plain(&state, ONCE_WIDTH) {
        if !line(text) {
            break;
        }
    }
    Ok(())
}

/// The page as lines of text, as high as it needs to be.
fn plain(state: &State, width: u16) -> Vec<String> {
    let height = draw::height(state);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, state));
    lines(terminal.backend().buffer())
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let row = |y| {
        let cells = (0..area.width).filter_map(|x| buffer.cell((x, y)));
        let text: String = cells.map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    let mut lines: Vec<String> = (0..area.height).map(row).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn interactive(mut client: Client, query: TopQuery, interval: Duration) -> Result<(), ClientError> {
    let mut state = State::new(query);
    state.take(client.top(&state.query)?);
    // Restores the terminal also when the program panics.
    let mut terminal = ratatui::try_init()?;
    let result = run(&mut terminal, &mut client, &mut state, interval);
    ratatui::restore();
    result
}

fn run(
    terminal: &mut ratatui::DefaultTerminal,
    client: &mut Client,
    state: &mut State,
    interval: Duration,
) -> Result<(), ClientError> {
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| draw::draw(frame, state))?;
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left)? {
            let read = event::read()?;
            if let Event::Key(key) = read
                && key.kind == KeyEventKind::Press
                && state.handle_key(key) == Reaction::Quit
            {
                return Ok(());
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            if !state.paused {
                state.take(client.top(&state.query)?);
            }
        }
    }
}

impl From<super::SortArg> for TopOrder {
    fn from(sort: super::SortArg) -> Self {
        match sort {
            super::SortArg::Events => Self::Events,
            super::SortArg::Quantity => Self::Quantity,
        }
    }
}

#[cfg(test)]
mod tests;
