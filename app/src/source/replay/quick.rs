//! A large recording is sought in without anybody waiting.

use super::{Control, FileTape, Player, Said};
use crate::config::Config;
use crate::record::{self, Recording, Writer};
use crate::source::Msg;
use crate::source::synth::{Generator, Synth, plan::Plan};
use crate::state::{Limits, State};
use crate::term::Options;
use ratatui::{buffer::Buffer, layout::Rect};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// What a jump may take, ns of the thread's own time, the frame with it. Without optimisation everything takes ten to
/// twenty times as long.
const BUDGET_NS: i64 = if cfg!(debug_assertions) { 2_000_000_000 } else { 100_000_000 };
/// Ticks between two keys, and the first of the next.
const TICKS: u64 = 61;

fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// A minute of 160 vCPUs with 11 reasons each, with all details.
fn made(path: &Path) {
    let plan = Plan::uniform(20, 8, 11, 1);
    let synth =
        Synth::new(plan.clone(), 1, (1_000_000_000, 1_700_000_000_000_000_000), "test", "none");
    let session = synth.session().clone();
    let mut generator = Generator::new(plan, 1, &session);
    let file = File::create(path).expect("a file");
    let mut writer = Writer::new(file, &session, record::Options::default()).expect("written");
    for _ in 0..TICKS {
        writer.tick(&generator.tick(Duration::from_secs(1))).expect("written");
    }
    writer.finish(None).expect("written");
}

/// The worst place is right before a key: everything since the one before has to be read. What the recording has
/// elsewhere makes no difference, as the place of a key is looked up. `KVMSCOPE_SEEK_IN` measures another recording.
#[test]
fn a_moment_is_shown_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let given = std::env::var_os("KVMSCOPE_SEEK_IN").map(std::path::PathBuf::from);
    let path = given.unwrap_or_else(|| {
        let path = dir.path().join("made");
        made(&path);
        path
    });
    let begin = now_ns();
    let recording = Recording::open(&path).expect("a recording");
    let opened = now_ns() - begin;
    let (start_ns, end_ns) = (recording.start_ns(), recording.end_ns());
    let minutes = (end_ns - start_ns) / 60_000_000_000;
    let mut state = State::new(recording.session().clone(), Limits::default());
    let mut view = Options::new(&Config::default(), |_| None).view();
    let mut player = Player::new(FileTape::new(recording), 150);
    let mut buf = Buffer::empty(Rect::new(0, 0, 160, 50));
    let mut worst = (0, [0; 3]);
    for n in 1..=minutes {
        let at_ns =
            start_ns + (n * 7).checked_rem(minutes).map_or(minutes, |n| n.max(1)) * 60_000_000_000;
        let begin = now_ns();
        let said = player.control(&Control::Seek(at_ns), Duration::ZERO);
        let read = now_ns();
        let is_moment =
            |msg: &Msg| matches!(msg, Msg::Replay(said) if matches!(**said, Said::Moment(_)));
        assert!(said.iter().any(is_moment), "it is sought");
        said.into_iter().for_each(|msg| state.apply(msg));
        let taken = now_ns();
        crate::ui::draw(&mut buf, &state, &mut view);
        let drawn = now_ns();
        assert_eq!(state.deck().expect("a recording").at_ns, at_ns);
        worst = worst.max((drawn - begin, [read - begin, taken - read, drawn - taken]));
    }
    let ms = |ns: i64| ns as f64 / 1e6;
    let [read, taken, drawn] = worst.1.map(ms);
    println!(
        "opened in {:.1} ms; a jump takes {:.1} ms at most: {read:.1} to read, {taken:.1} to take, {drawn:.1} to draw",
        ms(opened),
        ms(worst.0)
    );
    assert!(worst.0 < BUDGET_NS, "{:.1} ms", ms(worst.0));
}
