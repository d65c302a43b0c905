//! What the screen remembers from one drawing to the next: how far panes are scrolled, and where
//! things are, for the mouse.

use super::{keymap::Keymap, paint::Look};
use crate::state::{Pane, Scope, Tab};
use ratatui::layout::{Position, Rect};
use std::collections::HashMap;

/// Something on the screen that the mouse can be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// A row of the level, by index.
    Row(usize),
    /// A cell of the heat map, by row and column.
    Cell(usize, usize),
    /// The header of the field with this key.
    Header(&'static str),
    /// A step of the breadcrumb: this many levels up.
    Up(usize),
    /// A tab.
    Tab(Tab),
    /// An entry of a list, by index.
    Entry(Pane, usize),
    /// A pane.
    Pane(Pane),
    /// A recording from its begin to its end, and where that is.
    Timeline(Rect),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct View {
    /// Styles and characters.
    pub look: Look,
    /// Keys.
    pub keymap: Keymap,
    /// Names of columns to leave out.
    pub hide: Vec<String>,
    /// Rows that the focused pane shows; a page.
    pub page: usize,
    /// First line of the help.
    pub help_from: usize,
    /// Something to tell in the footer until the next key.
    pub message: Option<String>,
    scroll: HashMap<(Scope, Pane), usize>,
    hits: Vec<(Rect, Hit)>,
}

impl View {
    /// A fresh one.
    pub fn new(look: Look, keymap: Keymap) -> Self {
        Self {
            look,
            keymap,
            hide: Vec::new(),
            page: 1,
            help_from: 0,
            message: None,
            scroll: HashMap::new(),
            hits: Vec::new(),
        }
    }

    /// Forgets where things were.
    pub(crate) fn begin(&mut self) {
        self.hits.clear();
    }

    /// Remembers where something is. What is said later lies above.
    pub(crate) fn hit(&mut self, area: Rect, hit: Hit) {
        self.hits.push((area, hit));
    }

    /// What is at a place.
    pub fn at(&self, x: u16, y: u16) -> Option<&Hit> {
        let here = Position::new(x, y);
        self.hits.iter().rev().find(|(area, _)| area.contains(here)).map(|(_, hit)| hit)
    }

    /// First row of a pane, so that the cursor is visible.
    pub(super) fn scroll(
        &mut self,
        pane: (Scope, Pane),
        cursor: Option<usize>,
        rows: usize,
        height: u16,
    ) -> usize {
        let from = self.scroll.entry(pane).or_default();
        *from = super::widgets::table::scroll(*from, cursor, rows, height);
        *from
    }
}
