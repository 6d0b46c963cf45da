//! What the page shows and what keys do to it; no terminal here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::page::Page;
use crate::admin::watch::{TopOrder, TopPage, TopQuery};

/// Longest pattern that can be typed.
const PATTERN_CHARS_MAX: usize = 64;

/// Which list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All three, as far as there is room.
    All,
    Tenants,
    Meters,
    Series,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::All, Self::Tenants, Self::Meters, Self::Series];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::All => "overview",
            Self::Tenants => "tenants",
            Self::Meters => "meters",
            Self::Series => "series",
        }
    }
}

/// What is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typing {
    Tenant(String),
    Meter(String),
}

/// What a key means for the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Stay,
    Quit,
}

/// The page and how it is looked at.
#[derive(Debug)]
pub(super) struct State {
    pub(super) query: TopQuery,
    pub(super) view: View,
    pub(super) paused: bool,
    pub(super) typing: Option<Typing>,
    pub(super) page: Option<Page>,
}

impl State {
    pub(super) fn new(query: TopQuery) -> Self {
        Self {
            query,
            view: View::All,
            paused: false,
            typing: None,
            page: None,
        }
    }

    /// Shows a new page.
    pub(super) fn take(&mut self, new: TopPage) {
        let before = self.page.take();
        self.page = Some(Page::new(new, before.as_ref()));
    }

    pub(super) fn handle_key(&mut self, key: KeyEvent) -> Reaction {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Reaction::Quit;
        }
        if let Some(typing) = self.typing.take() {
            self.handle_typing(typing, key.code);
            return Reaction::Stay;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => {
                self.query.order = match self.query.order {
                    TopOrder::Events => TopOrder::Quantity,
                    TopOrder::Quantity => TopOrder::Events,
                };
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(View::ALL.len() - 1),
            KeyCode::Char('t') => {
                self.typing = Some(Typing::Tenant(
                    self.query.tenant.clone().unwrap_or_default(),
                ));
            }
            KeyCode::Char('m') => {
                self.typing = Some(Typing::Meter(self.query.meter.clone().unwrap_or_default()));
            }
            KeyCode::Char('c') => {
                self.query.tenant = None;
                self.query.meter = None;
            }
            _ => {}
        }
        Reaction::Stay
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view);
        self.view = View::ALL[(at.unwrap_or(0) + by) % View::ALL.len()];
    }

    fn handle_typing(&mut self, mut typing: Typing, code: KeyCode) {
        let (Typing::Tenant(text) | Typing::Meter(text)) = &mut typing;
        match code {
            KeyCode::Esc => return,
            KeyCode::Enter => {
                let pattern = (!text.is_empty()).then(|| text.clone());
                match typing {
                    Typing::Tenant(_) => self.query.tenant = pattern,
                    Typing::Meter(_) => self.query.meter = pattern,
                }
                return;
            }
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(c) if text.chars().count() < PATTERN_CHARS_MAX => text.push(c),
            _ => {}
        }
        self.typing = Some(typing);
    }
}
