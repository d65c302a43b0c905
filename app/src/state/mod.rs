//! The application's state: pure, no I/O, no clock.
//!
//! [`State::apply`] takes what a source says, [`State::act`] what the person wants; everything
//! else only reads. Which moment a number belongs to:
//!
//! * Rates, quantiles and shares belong to the *displayed tick*: the latest, or the one where the
//!   person has stopped.
//! * Sparklines, latency heat maps, histograms and what is called "window" belong to the *window*:
//!   the displayed tick and those before it, [`Limits::window`] ticks at most. The header says how
//!   long that is ([`header::Position::window_ns`]).
//! * Losses are counted from the start to the displayed tick.

pub mod action;
pub mod detail;
mod entities;
pub mod fields;
pub mod filter;
pub mod header;
pub mod heat;
pub mod nav;
pub mod rows;
pub mod value;

pub use action::{Action, Effect, SavedView};
pub use header::{Crumb, Header, Position};
pub use nav::{ColumnId, Level, Pane, RowId, Scope, Sort, Who};

use crate::model::session::Session;
use crate::source::Msg;
use detail::{Detail, Series};
use fields::FieldInfo;
use heat::{Colour, HeatMap};
use nav::Nav;
use rows::{ReasonRow, VcpuRow, VmRow};
use std::time::Duration;

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of encoded ticks.
    pub history_bytes: usize,
    /// Age of the oldest kept tick.
    pub history: Duration,
    /// Ticks that sparklines, latency heat maps and window totals look back.
    pub window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_bytes: 32 << 20, history: Duration::from_secs(15 * 60), window: 150 }
    }
}

/// What the person is doing apart from looking.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Mode {
    /// Looking.
    #[default]
    Normal,
    /// Typing a filter: the text so far, and what is wrong with it, in a sentence. As long as
    /// nothing is wrong, the rows are already filtered by it.
    Filter {
        /// The text so far.
        text: String,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// Reading the help.
    Help,
}

/// The application's state.
#[derive(Debug)]
pub struct State {
    session: Session,
    limits: Limits,
    nav: Nav,
    mode: Mode,
    colour: Colour,
    ended: Option<Option<String>>,
}

impl State {
    /// A state before the first tick. The session may come later, with [`Msg::Session`].
    pub fn new(session: Session, limits: Limits) -> Self {
        Self {
            session,
            limits,
            nav: Nav::default(),
            mode: Mode::default(),
            colour: Colour::default(),
            ended: None,
        }
    }

    /// Takes what a source says.
    pub fn apply(&mut self, msg: Msg) {
        match msg {
            Msg::Session(session) => self.session = *session,
            Msg::Tick(_tick) => {}
            Msg::End(why) => self.ended = Some(why),
        }
    }

    /// Takes what the person wants.
    pub fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Quit => vec![Effect::Quit],
            Action::Interval(interval) => vec![Effect::SetInterval(interval)],
            Action::ColourNext => {
                self.colour = self.colour.next();
                Vec::new()
            }
            Action::Back => {
                self.nav.back();
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The session: host, names, probes.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The level the person is in: scope, sort, filter, pane.
    pub fn level(&self) -> &Level {
        self.nav.level()
    }

    /// Where one is, from the host down.
    pub fn breadcrumb(&self) -> Vec<Crumb> {
        self.nav
            .path()
            .map(|level| Crumb { scope: level.scope, label: "host".to_owned() })
            .collect()
    }

    /// What the person is doing apart from looking.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What a heat map's colour means.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// The header's facts.
    pub fn header(&self) -> &Header {
        static EMPTY: std::sync::OnceLock<Header> = std::sync::OnceLock::new();
        EMPTY.get_or_init(Header::default)
    }

    /// The fields of this level's rows.
    pub fn fields(&self) -> Vec<FieldInfo> {
        fields::of(self.level().scope)
    }

    /// The VMs, filtered and sorted as the host level says.
    pub fn vm_rows(&self) -> &[VmRow] {
        &[]
    }

    /// The vCPUs of this level's VM, filtered and sorted; first the row for all of them. Empty
    /// where the level is no VM.
    pub fn vcpu_rows(&self) -> &[VcpuRow] {
        &[]
    }

    /// The reasons of this level's vCPU (or VM), filtered and sorted. Empty where the level is
    /// about no reasons.
    pub fn reason_rows(&self) -> &[ReasonRow] {
        &[]
    }

    /// Rows of this level as shown.
    pub fn row_count(&self) -> usize {
        0
    }

    /// Rows of this level that the filter hides.
    pub fn hidden(&self) -> usize {
        0
    }

    /// Index of the row the cursor is on, in the rows as shown; `None` when there are none.
    pub fn cursor(&self) -> Option<usize> {
        None
    }

    /// This level's heat map (host: VM × reason; VM: vCPU × reason), else an empty one.
    pub fn heatmap(&self) -> &HeatMap {
        static EMPTY: std::sync::OnceLock<HeatMap> = std::sync::OnceLock::new();
        EMPTY.get_or_init(HeatMap::default)
    }

    /// Sparklines of a row. Empty for a row that is not known.
    pub fn series(&self, _row: RowId) -> Series {
        Series::default()
    }

    /// The reason scope's reason, or the one under the cursor (of a heat map, of the reason
    /// table); `None` where there is none ("other", an empty table, the host's VM table).
    pub fn reason_detail(&self) -> Option<&Detail> {
        None
    }
}
