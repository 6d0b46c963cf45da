//! Bills in pieces are the bill at once.
