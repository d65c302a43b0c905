//! The screen on invented numbers.
use kvmscope::{
    config::Config,
    source::{Feed, Msg, Request, Source},
    state::{Limits, State},
    term,
};
use std::time::Duration;

use kvmscope::model;
#[path = "../src/ui/tests/world.rs"]
mod world;

struct Synth(usize);
impl Source for Synth {
    fn run(
        self: Box<Self>,
        out: tokio::sync::mpsc::Sender<Msg>,
        requests: std::sync::mpsc::Receiver<Request>,
    ) {
        let mut world = world::World::new(self.0);
        let _ = out.blocking_send(Msg::Session(Box::new(world::session())));
        for _ in 0..95 {
            let _ = out.blocking_send(Msg::Tick(Box::new(world.tick())));
        }
        loop {
            match requests.recv_timeout(Duration::from_secs(1)) {
                Ok(Request::Stop) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                _ => {}
            }
            if out.blocking_send(Msg::Tick(Box::new(world.tick()))).is_err() {
                break;
            }
        }
        let _ = out.blocking_send(Msg::End(None));
    }
}

fn main() -> anyhow::Result<()> {
    let n: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let get = |n: &str| std::env::var(n).ok();
    let config = kvmscope::config::load(None, get)?;
    let options = term::Options::new(&config, get);
    let feed = Feed::start(Box::new(Synth(n)))?;
    let state = State::new(Default::default(), Limits::default());
    let _ = Config::default();
    let outcome = term::run(state, feed, &options)?;
    println!("{outcome:?}");
    Ok(())
}
