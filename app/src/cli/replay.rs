//! `kvmscope replay`: the screen on a recording.

use super::{Failure, Screen, symbols_of, watch};
use crate::{
    model::detail::OutlierLimits, record::Recording, source::replay::Replay, state::Limits, symbols,
};
use std::path::PathBuf;

/// Options of `replay`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Keys: space plays and stops, + and - change the speed (0.1x to 100x), [ and ] step, n and N go from mark to \
                  mark. With : one goes to a time of day (12:41:03, UTC), on or back from what is shown (+30s, -5m), or to a \
                  share (50%); the +30s of --range elsewhere counts from the begin. ? lists all keys."
)]
pub struct Options {
    /// The recording; - reads one from standard input, while it is being made too
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only the VM of this name
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    /// Symbols of a VM's kernel, as for `watch`; repeatable
    #[arg(long, value_name = "VM=FILE[@OFFSET]", value_parser = symbols::parse_option)]
    guest_symbols: Vec<symbols::Asked>,
    #[command(flatten)]
    screen: Screen,
}

/// Opens the recording and shows it.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pipe = options.file.as_os_str() == "-";
    let screen = watch::prepare(&options.screen, pipe)?;
    let symbols = symbols_of(&options.guest_symbols)?;
    let window = Limits::default().window;
    let name = options.file.display();
    let replay = if pipe {
        Replay::pipe(std::io::stdin(), window)
            .map_err(|why| Failure::usage(format!("standard input: {why}")))?
    } else {
        let recording = Recording::open(&options.file)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        Replay::file(recording, window)
    };
    let session = replay.session().clone();
    let given = watch::Given {
        vm: options.vm.as_deref(),
        symbols,
        outliers: OutlierLimits::default(),
        sample: None,
    };
    watch::show(Box::new(replay), session, &screen, options.screen.history, given)
}
