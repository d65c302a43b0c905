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
//! * What is gone shows the numbers of the last tick that has some of it.

pub mod action;
pub mod activity;
mod baseline;
mod columns;
pub mod detail;
mod entities;
pub mod events;
mod facts;
pub mod families;
pub mod fields;
pub mod filter;
mod focus;
pub mod header;
pub mod heat;
mod heatmap;
mod input;
pub mod keys;
mod lists;
mod load;
#[cfg(test)]
mod memory_tests;
mod moment;
pub mod nav;
mod now;
pub mod outliers;
mod parts;
pub mod price;
pub mod probes;
mod read;
mod recording;
mod replay;
pub mod rows;
pub(crate) mod save;
pub mod seek;
pub mod signals;
mod slid;
#[cfg(test)]
mod tests;
pub mod time;
#[cfg(test)]
mod time_tests;
pub mod value;
mod views;

pub use action::{Action, Effect, SavedView};
pub use baseline::BaselineOf;
pub use header::{Crumb, Header, Position};
pub use nav::{ColumnId, Level, Pane, RowId, Scope, Sort, Tab, Who};
pub use recording::{Past, Recorded};
pub use replay::{Deck, Sample};

use crate::findings::Thresholds;
use crate::model::detail::OutlierLimits;
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::source::Msg;
use crate::symbols::GuestSymbols;
use activity::Activity;
use baseline::{Baseline, Taken};
use columns::Columns;
use entities::Entities;
use events::Log;
use facts::Recent;
use families::Asked;
use filter::Filter;
use focus::Focus;
use heat::Colour;
use moment::Moments;
use nav::Nav;
use now::Now;
use outliers::Slow;
use parts::Parts;
use recording::Recordings;
use replay::Playing;
use signals::{Apicv, Signals, Windows};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use views::Views;

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
        Self { history_bytes: 64 << 20, history: Duration::from_secs(15 * 60), window: 150 }
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
    /// Typing a threshold of slow exits: the text so far, and what is wrong with it.
    Limit {
        /// The text so far.
        text: String,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// Typing where to go in a recording: the text so far, and what is wrong with it.
    Seek {
        /// The text so far.
        text: String,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// Typing the words of a mark.
    Mark {
        /// The text so far.
        text: String,
        /// Where the mark is, ns of the probes' clock.
        at_ns: u64,
    },
    /// Reading the help.
    Help,
}

/// The application's state.
#[derive(Debug)]
pub struct State {
    session: Session,
    limits: Limits,
    entities: Entities,
    moments: Moments,
    nav: Nav,
    mode: Mode,
    /// The filter to come back to when typing is cancelled.
    filter_before: Filter,
    colour: Colour,
    /// Reason columns that the heat map has room for.
    fit: usize,
    /// Columns of the heat maps that were looked at.
    columns: HashMap<Scope, Columns>,
    ended: Option<Option<String>>,
    views: Views,
    /// What was read from the kept ticks for the views; slides along with time.
    focus: RefCell<Focus>,
    baseline: RefCell<Baseline>,
    /// The baseline that the person took.
    taken: Option<Box<Taken>>,
    /// Names of guest code.
    symbols: GuestSymbols,
    /// The last seconds of everyone, for findings.
    recent: RefCell<Recent>,
    /// Where the time of someone went, tick by tick.
    parts: RefCell<Parts>,
    /// The last seconds by what was noted.
    activity: RefCell<Activity>,
    /// The last seconds of interrupts and of time on CPUs.
    signals: RefCell<Signals>,
    /// Windows of halt polling.
    windows: Windows,
    /// Who delivers VMs' interrupts.
    apicv: Apicv,
    /// Single events of the kept ticks.
    log: Log,
    /// Slow exits of the kept ticks.
    slow: Slow,
    outlier_limits: OutlierLimits,
    thresholds: Thresholds,
    families: Asked,
    /// The recording that is played, if one is.
    playing: Option<Box<Playing>>,
    /// That it stands in for this host.
    sample: Option<Sample>,
    /// What is recorded.
    recordings: Recordings,
}

/// Reason columns before the screen says how many it has room for.
const DEFAULT_FIT: usize = 8;

impl State {
    /// A state before the first tick. The session may come later, with [`Msg::Session`].
    pub fn new(session: Session, limits: Limits) -> Self {
        Self {
            families: Asked::new(&session),
            session,
            limits,
            entities: Entities::default(),
            moments: Moments::new(limits.history_bytes, limits.history),
            nav: Nav::default(),
            mode: Mode::default(),
            filter_before: Filter::default(),
            colour: Colour::default(),
            fit: DEFAULT_FIT,
            columns: HashMap::new(),
            ended: None,
            views: Views::default(),
            focus: RefCell::default(),
            baseline: RefCell::default(),
            taken: None,
            symbols: GuestSymbols::default(),
            recent: RefCell::default(),
            parts: RefCell::default(),
            activity: RefCell::default(),
            signals: RefCell::default(),
            windows: Windows::default(),
            apicv: Apicv::default(),
            log: Log::default(),
            slow: Slow::default(),
            outlier_limits: OutlierLimits::default(),
            thresholds: Thresholds::default(),
            playing: None,
            sample: None,
            recordings: Recordings::default(),
        }
    }

    /// Names guest code from now on.
    pub fn set_symbols(&mut self, symbols: GuestSymbols) {
        self.symbols = symbols;
        self.changed();
    }

    /// Takes what a source says.
    pub fn apply(&mut self, msg: Msg) {
        match msg {
            Msg::Session(session) => {
                self.session = *session;
                self.families.heard(&self.session);
            }
            Msg::Tick(tick) => self.tick(*tick),
            Msg::Replay(said) => self.replay(*said),
            Msg::End(why) => self.ended = Some(why),
        }
        self.changed();
    }

    /// Takes what the person wants.
    pub fn act(&mut self, action: Action) -> Vec<Effect> {
        if action == Action::Fit(self.fit) {
            return Vec::new();
        }
        let mut effects = self.perform(action);
        effects.extend(self.follow());
        self.changed();
        effects
    }

    fn tick(&mut self, mut tick: Tick) {
        // A source keeps the order of keys; should one not, looking up by key would miss some.
        if !tick.vcpus.is_sorted_by_key(|vcpu| vcpu.key) {
            tick.vcpus.sort_by_key(|vcpu| vcpu.key);
        }
        let (place, oldest) = (self.moments.next_place(), self.moments.oldest());
        let moments = &self.moments;
        self.entities.apply(&tick, place, oldest, |place, key| {
            let part = moments.part(place, crate::model::codec::Part::vcpu(key, None))?;
            let dur_ns = part.dur_ns;
            Some((part.vcpus.into_iter().next()?, dur_ns))
        });
        self.learn(&tick);
        self.slow.push(place, &tick);
        self.log.push(place, &tick);
        self.windows.add(place, oldest, &tick);
        self.apicv.add(place, oldest, &tick);
        self.moments.push(tick);
        self.slow.forget(self.moments.oldest());
        self.log.forget(self.moments.oldest());
        if self.entities.forget(self.moments.oldest_ns()) {
            let vms = &self.entities.vms;
            self.nav.retain(|vm| vms.contains_key(&vm));
            self.log.retain(|vm| vms.contains_key(&vm));
            self.windows.retain(|key| vms.contains_key(&key.vm));
            self.apicv.retain(|vm| vms.contains_key(vm));
            self.columns.retain(|scope, _| scope.vm().is_none_or(|vm| vms.contains_key(&vm)));
        }
    }

    /// Where a guest exits tells where its kernel is.
    fn learn(&mut self, tick: &Tick) {
        if self.symbols.is_empty() {
            return;
        }
        for vm in self.entities.vms.values() {
            let mine = tick.vcpus.iter().filter(|vcpu| vcpu.key.vm == vm.info.id);
            let exits: Vec<_> = mine.flat_map(|vcpu| keys::code(&vcpu.keys)).collect();
            if !exits.is_empty() {
                self.symbols.learn(&vm.info.name, &exits);
            }
        }
    }

    /// Follows up on a change: cached views are void, columns follow the displayed tick.
    fn changed(&mut self) {
        self.views = Views::default();
        let scope = self.level().scope;
        let Some(shown) = self.moments.shown() else { return };
        if self.level().panes().contains(&Pane::Heat) {
            let vcpus = shown.tick.vcpus.iter();
            let inside = vcpus.filter(|vcpu| scope.vm().is_none_or(|vm| vcpu.key.vm == vm));
            self.columns.entry(scope).or_default().update(shown.place, self.fit, inside);
        }
    }

    fn now(&self) -> Option<Now<'_>> {
        Some(Now {
            session: &self.session,
            entities: &self.entities,
            moments: &self.moments,
            shown: self.moments.shown()?,
            taken: self.taken.as_deref(),
        })
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
        let scope = self.level().scope;
        let mut crumbs = vec![Crumb { scope: Scope::Host, label: "host".to_owned() }];
        if let Some(vm) = scope.vm() {
            let info = self.entities.vms.get(&vm).map(|vm| vm.info.name.clone());
            let label = info.unwrap_or_else(|| format!("VM {}", vm.0));
            crumbs.push(Crumb { scope: Scope::Vm(vm), label });
        }
        if let Scope::Reasons(who) | Scope::Reason(who, _) = scope {
            let label = match who {
                Who::Vm(_) => "all vCPUs".to_owned(),
                Who::Vcpu(key) => format!("vCPU {}", key.vcpu),
            };
            crumbs.push(Crumb { scope: Scope::Reasons(who), label });
        }
        if let Scope::Reason(_, reason) = scope {
            crumbs.push(Crumb { scope, label: self.session.names.name(reason).into_owned() });
        }
        crumbs
    }

    /// What the person is doing apart from looking.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What a heat map's colour means.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// The baseline that the displayed tick is compared with, where the person took one.
    pub fn baseline(&self) -> Option<BaselineOf> {
        self.taken.as_ref().map(|taken| taken.of)
    }

    /// The header's facts.
    pub fn header(&self) -> &Header {
        self.views.header.get_or_init(|| {
            let facts = header::Facts {
                session: &self.session,
                moments: &self.moments,
                now: self.now(),
                window: self.limits.window,
            };
            Header { ended: self.ended.clone(), ..facts.header() }
        })
    }
}
