//! The page on a grid of cells.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::page::{InputRow, Page, amount, amount_per_second, per_second, short, short_signed};
use super::state::{State, Typing, View};
use crate::admin::watch::{TopGroup, TopOrder, TopSeries};

const HEAD_LINES: u16 = 5;
const KEYS: &str = "q quit  p pause  s sort  Tab view  t tenant  m meter  c clear";

/// Lines that the page needs to show everything.
pub(super) fn height(state: &State) -> u16 {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2);
    let lists = state.page.as_ref().map_or(0, |page| {
        let rates = &page.rates;
        let lists = [
            rates.by_tenant.len(),
            rates.by_meter.len(),
            rates.by_series.len(),
        ];
        let lists = lists.into_iter().map(rows).fold(0, u16::saturating_add);
        lists.saturating_add(rows(page.inputs.len()))
    });
    HEAD_LINES.saturating_add(lists).saturating_add(1)
}

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let Some(page) = &state.page else {
        frame.render_widget(Paragraph::new("waiting for the agent"), frame.area());
        return;
    };
    let inputs = u16::try_from(page.inputs.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let [head, input_area, lists, foot] = Layout::vertical([
        Constraint::Length(HEAD_LINES),
        Constraint::Length(inputs),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, state, page);
    draw_inputs(frame, input_area, &page.inputs);
    draw_lists(frame, lists, state, page);
    frame.render_widget(foot_line(state), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State, page: &Page) {
    let rates = &page.rates;
    let connection = Span::raw(page.connection_line());
    let connection = if page.is_connected() {
        connection.green()
    } else {
        connection.yellow()
    };
    let mut totals = format!(
        "{}/s events  {} series",
        short(per_second(rates.events, rates.millis)),
        rates.series
    );
    for (name, pattern) in [
        ("tenant", &state.query.tenant),
        ("meter", &state.query.meter),
    ] {
        if let Some(pattern) = pattern {
            totals.push_str(&format!("  {name} = {pattern}"));
        }
    }
    let lines = vec![
        Line::from(vec!["agent      ".bold(), Span::raw(page.agent_line())]),
        Line::from(vec!["collector  ".bold(), connection]),
        Line::from(vec!["spool      ".bold(), Span::raw(page.spool_line())]),
        Line::from(vec!["processes  ".bold(), Span::raw(page.pages_line())]),
        Line::from(vec!["shown      ".bold(), Span::raw(totals)]),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn header<const N: usize>(
    names: [&'static str; N],
    numbers: std::ops::Range<usize>,
) -> Row<'static> {
    let cells = names.into_iter().enumerate().map(|(at, name)| {
        let alignment = if numbers.contains(&at) {
            Alignment::Right
        } else {
            Alignment::Left
        };
        Cell::from(Line::from(name).alignment(alignment))
    });
    Row::new(cells).style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED))
}

fn number(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

/// What should not be is seen.
fn alarming(rate: f64) -> Cell<'static> {
    let cell = number(short(rate));
    if rate > 0.0 {
        cell.style(Style::new().fg(Color::Red))
    } else {
        cell
    }
}

fn draw_inputs(frame: &mut Frame<'_>, area: Rect, inputs: &[InputRow]) {
    let rows = inputs.iter().map(|input| {
        let reasons: Vec<_> = input
            .reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        Row::new([
            Cell::from(input.name.clone()),
            number(short(input.received)),
            number(short(input.accepted)),
            alarming(input.rejected),
            alarming(input.lost),
            number(format!("{}/{}", input.series, input.series_max)),
            Cell::from(reasons.join("  ")),
        ])
    });
    let widths = [
        Constraint::Length(18),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(17),
        Constraint::Min(10),
    ];
    let names = [
        "INPUT",
        "RECEIVED/S",
        "ACCEPTED/S",
        "REJECTED/S",
        "LOST/S",
        "SERIES",
        "REASONS (TOTAL)",
    ];
    frame.render_widget(Table::new(rows, widths).header(header(names, 1..6)), area);
}

fn draw_lists(frame: &mut Frame<'_>, area: Rect, state: &State, page: &Page) {
    let rates = &page.rates;
    let millis = rates.millis;
    match state.view {
        View::Tenants => draw_groups(frame, area, "TENANT", &rates.by_tenant, millis),
        View::Meters => draw_groups(frame, area, "METER", &rates.by_meter, millis),
        View::Series => draw_series(frame, area, &rates.by_series, millis),
        View::All => {
            let rows = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).saturating_add(2);
            // Tenants and meters leave at least a third each to what follows.
            let third = (area.height / 3).max(3);
            let (tenants, meters) = (rows(rates.by_tenant.len()), rows(rates.by_meter.len()));
            let whole = tenants
                .saturating_add(meters)
                .saturating_add(rows(rates.by_series.len()));
            let limit = if whole <= area.height {
                u16::MAX
            } else {
                third
            };
            let [tenant_area, meter_area, series_area] = Layout::vertical([
                Constraint::Length(tenants.min(limit)),
                Constraint::Length(meters.min(limit)),
                Constraint::Min(0),
            ])
            .areas(area);
            draw_groups(frame, tenant_area, "TENANT", &rates.by_tenant, millis);
            draw_groups(frame, meter_area, "METER", &rates.by_meter, millis);
            draw_series(frame, series_area, &rates.by_series, millis);
        }
    }
}

fn draw_groups(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &'static str,
    groups: &[TopGroup],
    millis: u64,
) {
    let rows = groups.iter().map(|group| {
        let overflow = number(format!(
            "{} ({}/s)",
            group.overflow_series,
            short(per_second(group.overflow_events, millis))
        ));
        let overflow = if group.overflow_series > 0 {
            overflow.style(Style::new().fg(Color::Yellow))
        } else {
            overflow
        };
        Row::new([
            Cell::from(group.name.clone()),
            number(short(per_second(group.events, millis))),
            number(short(amount_per_second(&group.amount, millis))),
            number(group.series.to_string()),
            overflow,
        ])
    });
    let widths = [
        Constraint::Min(20),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(10),
        Constraint::Length(16),
    ];
    let header = header([name, "EVENTS/S", "QUANTITY/S", "SERIES", "OVERFLOW"], 1..5);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn draw_series(frame: &mut Frame<'_>, area: Rect, series: &[TopSeries], millis: u64) {
    let rows = series.iter().map(|series| {
        let name = format!("{}/{}{}", series.tenant, series.meter, series.dimensions);
        Row::new([
            Cell::from(name),
            number(short(per_second(series.events, millis))),
            number(match &series.value {
                Some(value) => format!("= {}", short_signed(amount(value))),
                None => short(amount_per_second(&series.amount, millis)),
            }),
            Cell::from(series.aggregation.clone()),
            Cell::from(series.input.clone()),
        ])
    });
    let widths = [
        Constraint::Min(30),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(13),
        Constraint::Length(18),
    ];
    let names = ["SERIES", "EVENTS/S", "QUANTITY/S", "KIND", "INPUT"];
    let header = header(names, 1..3);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn foot_line(state: &State) -> Line<'static> {
    match &state.typing {
        Some(Typing::Tenant(text)) => return Line::from(format!("tenant pattern: {text}_")),
        Some(Typing::Meter(text)) => return Line::from(format!("meter pattern: {text}_")),
        None => {}
    }
    let order = match state.query.order {
        TopOrder::Events => "events",
        TopOrder::Quantity => "quantity",
    };
    let paused = if state.paused { "  PAUSED" } else { "" };
    let text = format!("{}  by {order}{paused}  {KEYS}", state.view.title());
    Line::from(text).style(Style::new().add_modifier(Modifier::REVERSED))
}
