//! `kvmscope watch`: the screen on this host.

use super::{Common, Failure, Screen};
use crate::{
    config,
    model::{detail::OutlierLimits, session::Session},
    source::{Feed, Source, live::plan::Family},
    state::{Action, Limits, Sample, State},
    symbols::GuestSymbols,
    term,
    ui::glyph,
};
use std::{io::IsTerminal, time::Duration};

/// Options of `watch`.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    screen: Screen,
    /// Print the default configuration and exit
    #[arg(long)]
    print_config: bool,
}

/// Opens the live source and shows it.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.print_config {
        return super::report::print(&config::print_default());
    }
    let screen = prepare(&options.screen, false)?;
    let symbols = options.common.guest_symbols()?;
    let live = crate::source::live::Live::open(options.common.live(&Family::WATCHED)?)?;
    let session = live.session().clone();
    super::report::refuse_nothing_attached(&session)?;
    if options.common.verbose {
        // Before the screen is taken; it is there again after it was given back.
        super::report::tell(&session, true);
    }
    let vm = options.common.vm.as_deref();
    let outliers = options.common.outliers()?;
    let given = Given { vm, symbols, outliers, sample: None };
    show(Box::new(live), session, &screen, options.screen.history, given)
}

/// Reads the configuration and looks for a terminal, before anything is attached.
///
/// `pipe` is that standard input is something to be read, and keys come from the controlling terminal.
pub fn prepare(screen: &Screen, pipe: bool) -> Result<term::Options, Failure> {
    let get = |name: &str| std::env::var(name).ok();
    let config = config::load(screen.config.as_deref(), get)
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let stdin = std::io::stdin().is_terminal();
    if pipe && stdin {
        return Err(Failure::usage(
            "standard input is a terminal: a recording is to come through a pipe, as in \
             `ssh HOST kvmscope record -o - | kvmscope replay -`",
        ));
    }
    let keys = stdin || (pipe && term::has_keys());
    if !std::io::stdout().is_terminal() || !keys {
        return Err(Failure::not_possible(
            "the screen needs a terminal on standard input and output; \
             `kvmscope report` prints without one",
        ));
    }
    let mut options = term::Options::new(&config, get);
    if let Some(theme) = screen.theme {
        options.theme = theme;
    }
    if screen.ascii {
        options.glyphs = glyph::ASCII;
    }
    options.mouse &= !screen.no_mouse;
    options.duration = screen.duration;
    Ok(options)
}

/// What the command line says about what is shown.
pub struct Given<'a> {
    /// The VM to begin with.
    pub vm: Option<&'a str>,
    /// Names of guest code.
    pub symbols: GuestSymbols,
    /// From which time on exits are listed one by one.
    pub outliers: OutlierLimits,
    /// That what is shown stands in for this host.
    pub sample: Option<Sample>,
}

/// Shows a source until the person quits.
pub fn show(
    source: Box<dyn Source>,
    session: Session,
    options: &term::Options,
    history_minutes: u32,
    given: Given<'_>,
) -> Result<(), Failure> {
    let limits = Limits {
        history: Duration::from_secs(60 * u64::from(history_minutes)),
        ..Limits::default()
    };
    let mut state = State::new(session, limits);
    state.set_symbols(given.symbols);
    state.set_outlier_limits(given.outliers);
    state.set_sample(given.sample);
    if let Some(name) = given.vm {
        // Quotes keep signs of the filter's own in a name together; it has no way to quote a quote.
        state.act(Action::FilterEdit(format!("name=\"{name}\"")));
        state.act(Action::FilterAccept);
    }
    let feed = Feed::start(source)
        .map_err(|e| Failure::running(format!("no thread could be started: {e}")))?;
    let outcome = term::run(state, feed, options)?;
    outcome.recorded.iter().for_each(super::say);
    match outcome.source {
        Some(why) => Err(Failure::running(why)),
        None => Ok(()),
    }
}
