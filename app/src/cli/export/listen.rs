//! Measures and serves metrics, until a signal ends it.

use crate::cli::collect::{Until, collect};
use crate::cli::{Common, Failure, invented, report, say};
use crate::export::openmetrics::{
    Limits, Metrics,
    http::{self, Page},
};
use crate::model::session::Session;
use crate::source::{Msg, Source, live::plan::Family, synth::Pace};
use std::net::SocketAddr;

/// Serves. The port is opened first: nothing is attached where it is busy.
pub fn run(
    address: SocketAddr,
    common: &Common,
    invented: &invented::Options,
) -> Result<(), Failure> {
    let listener = http::Listener::open(address).map_err(Failure::running)?;
    let (source, session): (Box<dyn Source>, Session) = match invented.source() {
        Some(synth) => {
            // How many were asked for does not matter: it goes on until it is interrupted.
            let synth = synth.interval(common.interval).pace(Pace::RealTime);
            let session = synth.session().clone();
            (Box::new(synth), session)
        }
        None => {
            // What costs least: the defaults of the screen, without what only details are made of.
            let live = report::open(common, &Family::WATCHED)?;
            let session = live.session().clone();
            report::refuse_nothing_attached(&session)?;
            (Box::new(live), session)
        }
    };
    let page = Page::new(Metrics::new(session, Limits::LIVE));
    let address = listener.address();
    listener.serve(page.clone()).map_err(Failure::running)?;
    say(format_args!("metrics are at http://{address}{}", http::PATH));
    if http::is_open(address) {
        say("whoever reaches this address can read them: there is no password and no encryption");
    }
    let only = common.vm.as_deref();
    let ended = collect(source, Until { duration: None, command: &[] }, |message| {
        match message {
            Msg::Session(session) => page.session(*session),
            Msg::Tick(tick) => page.tick(*tick, only),
            // Nothing is replayed here.
            Msg::Replay(_) | Msg::End(_) => {}
        }
        true
    })?;
    match ended.why {
        // It has been said; whoever supervises the service sees that it failed.
        Some(_) => Err(Failure::running("")),
        None => Ok(()),
    }
}
