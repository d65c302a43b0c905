//! Sessions, ticks and whole recordings for tests.

use super::{Mark, Options, Writer};
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::source::synth::plan::Plan;
use crate::source::synth::{Generator, Synth};
use std::sync::OnceLock;
use std::time::Duration;

/// Ticks from key to key in recordings of tests: what happens between keys happens in few ticks.
pub const EVERY: u64 = 6;

/// When invented sessions begin: the probes' clock and wall time, ns.
const BEGIN: (u64, u64) = (1_000_000_000, 1_700_000_000_000_000_000);

/// What an invented host tells of itself.
pub fn session() -> Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    SESSION.get_or_init(told).clone()
}

fn told() -> Session {
    let synth = Synth::new(Plan::noisy_host(), 1, BEGIN, "a test", "kvmscope demo");
    let mut session = synth.session().clone();
    session.apicv_reasons = [(2, "hyperv".to_owned()), (8, "nested".to_owned())].into();
    session.notices = vec!["This is a test.".to_owned()];
    session
}

/// Ticks of an invented host without end, a second each; somebody comes or goes every few of them.
pub fn endless() -> impl Iterator<Item = Tick> {
    let mut generator = Generator::new(Plan::noisy_host().restless(), 1, &session());
    std::iter::repeat_with(move || generator.tick(Duration::from_secs(1)))
}

/// The first of them.
pub fn synthetic(ticks: usize) -> Vec<Tick> {
    endless().take(ticks).collect()
}

/// Ticks of a small host: few bytes, so that each of them can be changed in turn.
pub fn small(ticks: u64) -> Vec<Tick> {
    let mut generator = Generator::new(Plan::uniform(1, 2, 2, 1), 1, &session());
    (0..ticks).map(|_| generator.tick(Duration::from_secs(1))).collect()
}

/// Options that make the same bytes again.
pub fn options() -> Options {
    Options { id: Some(*b"a test recording"), key_every: Some(EVERY), ..Options::default() }
}

/// A finished recording of ticks, with a mark after the second, and where the anchors would be.
pub fn recorded(ticks: &[Tick]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &session(), options()).expect("made");
    for (number, tick) in ticks.iter().enumerate() {
        writer.tick(tick).expect("written");
        if number == 1 {
            writer.mark(&Mark { at_ns: tick.end_ns + 1, text: "here".into() }).expect("written");
        }
    }
    writer.finish(None).expect("finished")
}
