//! The player over a recording in memory, with a clock that is told.

use super::tape::{Begin, Items, Outline, Tape};
use super::{Behind, Control, FileTape, KeptTape, Player, Said, Speed};
use crate::model::session::Session;
use crate::model::testing::{cell, vcpu};
use crate::model::totals::Totals;
use crate::model::{
    ids::{Reason, VmId},
    tick::{Life, Tick, VmInfo},
};
use crate::record::{End, Gap, Item, Mark, Options, Recording, Writer};
use crate::source::Msg;
use crate::source::synth::{Generator, plan::Plan};
use crate::state::{Limits, State};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const WINDOW: usize = 150;
/// Ticks between two places where reading may begin.
const BLOCK: usize = 60;

/// Counts the ticks that are read of a tape.
struct Counting {
    tape: KeptTape,
    read: Arc<AtomicUsize>,
}

impl Tape for Counting {
    fn outline(&self) -> Outline {
        self.tape.outline()
    }

    fn begin(&mut self, at_ns: u64) -> Result<Begin, String> {
        self.tape.begin(at_ns)
    }

    fn items(&mut self, after_ns: u64, brief_until_ns: u64) -> Items<'_> {
        let read = Arc::clone(&self.read);
        Box::new(self.tape.items(after_ns, brief_until_ns).inspect(move |item| {
            if let Ok(Item::Tick(_)) = item {
                read.fetch_add(1, Ordering::Relaxed);
            }
        }))
    }
}

fn tick(seq: u64) -> Tick {
    let vcpus = vec![vcpu(1, 0, SECOND, vec![cell(Reason::userspace(2), &[seq * 10])])];
    let info = VmInfo { id: VmId(1), name: "web-7".to_owned(), ..VmInfo::default() };
    let life = if seq == 1 { vec![Life::Vm(info)] } else { Vec::new() };
    Tick { seq, end_ns: seq * SECOND, dur_ns: SECOND, life, vcpus, ..Tick::default() }
}

/// A recording of these ticks; between ticks that are apart is a gap.
fn tape(seqs: impl IntoIterator<Item = u64>) -> KeptTape {
    let mut tape = KeptTape::new(1 << 30);
    tape.push(Item::Session(Box::default()));
    let mut before = None;
    for seq in seqs {
        if let Some(before) = before.replace(seq).filter(|before| before + 1 < seq) {
            let why = "the disk was too slow".to_owned();
            let (from_ns, until_ns) = (before * SECOND, (seq - 1) * SECOND);
            tape.push(Item::Gap(Gap { from_ns, until_ns, why }));
        }
        tape.push(Item::Tick(Box::new(tick(seq))));
    }
    tape
}

fn ended(mut tape: KeptTape) -> KeptTape {
    tape.push(Item::End(End { clean: true, why: None }));
    tape
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// A player with a screen, and the time.
struct Desk<T> {
    player: Player<T>,
    state: State,
    now: Duration,
}

impl<T: Tape> Desk<T> {
    fn new(tape: T) -> Self {
        let state = State::new(Session::default(), Limits::default());
        let mut desk = Self { player: Player::new(tape, WINDOW), state, now: Duration::ZERO };
        let said = desk.player.open(desk.now);
        desk.take(said);
        desk
    }

    fn take(&mut self, said: Vec<Msg>) {
        said.into_iter().for_each(|msg| self.state.apply(msg));
    }

    fn control(&mut self, control: Control) {
        let said = self.player.control(&control, self.now);
        self.take(said);
    }

    /// Lets so much time pass, as the thread does it.
    fn pass(&mut self, time: f64) {
        let end = self.now + seconds(time);
        for _ in 0..100_000 {
            let said = self.player.advance(self.now);
            self.take(said);
            let Some(wait) = self.player.wait(self.now) else { break };
            if self.now + wait > end {
                break;
            }
            self.now += wait;
        }
        self.now = end;
    }

    /// Number of the tick that is shown.
    fn seq(&self) -> u64 {
        self.state.header().position.seq
    }

    fn deck(&self) -> crate::state::Deck {
        self.state.deck().expect("a recording is played")
    }
}

fn seek_to(desk: &mut Desk<impl Tape>, s: f64) {
    desk.control(Control::Seek((s * SECOND as f64) as u64));
}

#[test]
fn it_plays_in_real_time_from_the_start_to_the_end() {
    let mut desk = Desk::new(ended(tape(1..=5)));
    assert_eq!(desk.seq(), 1);
    desk.pass(0.9);
    assert_eq!(desk.seq(), 1);
    desk.pass(0.2);
    assert_eq!(desk.seq(), 2);
    desk.pass(10.0);
    assert_eq!(desk.seq(), 5);
    assert!(!desk.deck().playing && desk.deck().is_over());
    desk.control(Control::Play { from_ns: 5 * SECOND });
    assert_eq!((desk.seq(), desk.deck().playing), (1, true), "from the start again");
}

#[test]
fn it_begins_again_where_that_is_asked_for_until_it_is_stopped() {
    let mut desk = Desk::new(ended(tape(1..=5)));
    desk.player = desk.player.again();
    let mut seen = Vec::new();
    for _ in 0..12 {
        seen.push(desk.seq());
        desk.pass(1.0);
        assert!(desk.deck().playing);
    }
    // The first tick is there at once, and the last for as long as the others.
    assert_eq!(seen, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]);
    assert_eq!(desk.state.header().lost_ticks, 0);
    desk.control(Control::Pause);
    let seq = desk.seq();
    desk.pass(60.0);
    assert_eq!((desk.seq(), desk.deck().playing), (seq, false));
    desk.control(Control::End);
    desk.pass(60.0);
    assert_eq!((desk.seq(), desk.deck().is_over()), (5, true), "who goes to the end stays there");
}

#[test]
fn speeds_and_pauses() {
    let mut desk = Desk::new(ended(tape(1..=500)));
    desk.control(Control::Speed(Speed::new(100.0).expect("a speed")));
    desk.pass(1.005);
    assert_eq!(desk.seq(), 101);
    desk.control(Control::Pause);
    desk.pass(60.0);
    assert_eq!(desk.seq(), 101);
    desk.control(Control::Speed(Speed::new(0.5).expect("a speed")));
    desk.control(Control::Play { from_ns: 101 * SECOND });
    desk.pass(1.9);
    assert_eq!(desk.seq(), 101);
    desk.pass(0.2);
    assert_eq!(desk.seq(), 102);
    // What was played of a tick at one speed is not played again at another.
    desk.pass(1.4);
    desk.control(Control::Speed(Speed::default()));
    desk.pass(0.3);
    assert_eq!(desk.seq(), 103);
}

#[test]
fn every_moment_is_the_tick_that_is_under_way_then() {
    let mut desk = Desk::new(ended(tape(1..=300)));
    desk.control(Control::Pause);
    let cases = [(0.0, 1), (0.5, 1), (1.0, 1), (1.001, 2), (60.0, 60), (60.5, 61), (61.0, 61)];
    for (at, seq) in cases.into_iter().chain([(299.5, 300), (300.0, 300), (9e9, 300)]) {
        seek_to(&mut desk, at);
        assert_eq!(desk.seq(), seq, "at {at} s");
        assert_eq!(desk.deck().gap, None);
        let names: Vec<_> = desk.state.vm_rows().iter().map(|row| row.name.clone()).collect();
        assert_eq!(names, ["web-7"], "who is there is known at {at} s");
    }
    desk.control(Control::End);
    assert_eq!(desk.seq(), 300);
    desk.control(Control::Start);
    assert_eq!(desk.seq(), 1);
}

#[test]
fn steps_go_beyond_what_the_screen_keeps() {
    let mut desk = Desk::new(ended(tape(1..=300)));
    seek_to(&mut desk, 121.0);
    desk.control(Control::Step { from_ns: 121 * SECOND, by: -1 });
    assert_eq!(desk.seq(), 120);
    desk.control(Control::Step { from_ns: 120 * SECOND, by: -10 });
    assert_eq!(desk.seq(), 110);
    desk.control(Control::Step { from_ns: 110 * SECOND, by: 10 });
    assert_eq!(desk.seq(), 120);
    desk.control(Control::Step { from_ns: 120 * SECOND, by: -900 });
    assert_eq!(desk.seq(), 1);
    desk.control(Control::Step { from_ns: SECOND, by: 3 });
    assert_eq!((desk.seq(), desk.deck().playing), (4, false));
}

#[test]
fn a_gap_is_no_data_and_is_passed() {
    let mut desk = Desk::new(ended(tape((1..=70).chain(101..=110))));
    seek_to(&mut desk, 85.0);
    let deck = desk.deck();
    let gap = deck.gap.expect("nothing is known");
    assert_eq!((gap.from_ns, gap.until_ns), (70 * SECOND, 100 * SECOND));
    assert_eq!(gap.why, "the disk was too slow");
    assert_eq!(deck.at_ns, 85 * SECOND);
    desk.control(Control::Step { from_ns: 70 * SECOND, by: 0 });
    assert_eq!((desk.seq(), desk.deck().gap), (70, None), "the tick before it");
    seek_to(&mut desk, 85.0);
    desk.control(Control::Step { from_ns: 70 * SECOND, by: 1 });
    assert_eq!((desk.seq(), desk.deck().gap), (101, None), "the tick after it");
    assert_eq!(desk.state.header().lost_ticks, 30);
    // Played, it takes two seconds whatever its length.
    seek_to(&mut desk, 69.0);
    desk.control(Control::Play { from_ns: 69 * SECOND });
    desk.pass(1.5);
    assert_eq!(desk.seq(), 70);
    assert!(desk.deck().gap.is_some() && desk.deck().playing);
    desk.pass(2.0);
    assert_eq!((desk.seq(), desk.deck().gap), (101, None));
}

#[test]
fn a_gap_over_a_begin_is_found_from_before_it() {
    // Reading may begin after tick 60, and the next tick is 100.
    let mut desk = Desk::new(ended(tape((1..=60).chain(100..=110))));
    seek_to(&mut desk, 80.0);
    assert_eq!(desk.seq(), 60);
    assert_eq!(desk.deck().gap.map(|gap| gap.from_ns), Some(60 * SECOND));
}

#[test]
fn what_is_behind_a_moment_is_filled_in() {
    let mut desk = Desk::new(ended(tape(1..=600)));
    desk.control(Control::Pause);
    seek_to(&mut desk, 421.0);
    let position = |desk: &Desk<KeptTape>| {
        let position = desk.state.header().position;
        (position.seq, position.behind, position.live)
    };
    assert_eq!(position(&desk), (421, 0, true), "only since the last begin");
    desk.pass(0.1);
    assert_eq!(position(&desk).1, 0, "the person may be on the way");
    desk.pass(1.0);
    let (seq, behind, live) = position(&desk);
    assert_eq!((seq, live), (421, true));
    assert!((WINDOW - 1..WINDOW + BLOCK).contains(&behind), "{behind}");
    assert_eq!(desk.state.header().lost_ticks, 0);
    // The same as after playing up to it.
    let row = desk.state.vm_rows()[0].id;
    let series = desk.state.series(crate::state::RowId::Vm(row));
    assert_eq!(series.p99.len(), WINDOW);
    assert!(series.rate.iter().all(|&rate| rate == 1.0), "{:?}", series.rate);
    assert!(series.p99.iter().all(|&p99| p99 > 0.0), "{:?}", series.p99);
}

#[test]
fn a_gap_that_is_only_found_by_reading_is_shown_from_then_on() {
    /// A file whose index knows of no gap.
    struct Unknowing(KeptTape);
    impl Tape for Unknowing {
        fn outline(&self) -> Outline {
            Outline { gaps: Arc::default(), ..self.0.outline() }
        }
        fn begin(&mut self, at_ns: u64) -> Result<Begin, String> {
            self.0.begin(at_ns)
        }
        fn items(&mut self, after_ns: u64, brief_until_ns: u64) -> Items<'_> {
            self.0.items(after_ns, brief_until_ns)
        }
    }
    let mut desk = Desk::new(Unknowing(ended(tape((1..=70).chain(101..=300)))));
    desk.control(Control::Pause);
    assert!(desk.deck().gaps.is_empty());
    // At 200 it is only met while what is behind is read.
    for at in [200.0, 110.0, 80.0, 105.0] {
        seek_to(&mut desk, at);
        desk.pass(1.0);
        let gaps: Vec<_> = desk.deck().gaps.iter().map(|gap| (gap.from_ns, gap.until_ns)).collect();
        assert_eq!(gaps, [(70 * SECOND, 100 * SECOND)], "once");
    }
}

#[test]
fn the_last_tick_that_can_be_read_is_the_end() {
    /// A file whose last ticks are damaged: only their times are known.
    struct Damaged(KeptTape);
    impl Tape for Damaged {
        fn outline(&self) -> Outline {
            Outline { end_ns: 90 * SECOND, ..self.0.outline() }
        }
        fn begin(&mut self, at_ns: u64) -> Result<Begin, String> {
            self.0.begin(at_ns)
        }
        fn items(&mut self, after_ns: u64, brief_until_ns: u64) -> Items<'_> {
            self.0.items(after_ns, brief_until_ns)
        }
    }
    let mut desk = Desk::new(Damaged(ended(tape(1..=80))));
    for control in [Control::End, Control::Seek(85 * SECOND), Control::Seek(79 * SECOND)] {
        desk.control(control);
        desk.control(Control::Play { from_ns: desk.deck().at_ns.min(79 * SECOND) });
        desk.pass(30.0);
        assert_eq!((desk.seq(), desk.deck().playing), (80, false));
        assert!(desk.deck().is_over());
    }
    desk.control(Control::Play { from_ns: 80 * SECOND });
    assert_eq!((desk.seq(), desk.deck().playing), (1, true), "from the start again");
}

/// The bound behind "within 100 ms": a seek reads no more ticks than there are between two keys before the
/// frame can be drawn, wherever it goes.
#[test]
fn a_seek_reads_no_more_than_from_one_key_to_the_next() {
    let read = Arc::new(AtomicUsize::new(0));
    let tape = Counting { tape: ended(tape(1..=3_600)), read: Arc::clone(&read) };
    let mut desk = Desk::new(tape);
    desk.control(Control::Pause);
    for at in [0.0, 59.9, 60.0, 60.1, 119.0, 1_799.5, 1_800.0, 3_599.0, 3_600.0, 1.0, 1_860.0] {
        read.store(0, Ordering::Relaxed);
        seek_to(&mut desk, at);
        assert!(desk.seq().abs_diff(at.ceil() as u64) <= 1, "at {at} s");
        let n = read.load(Ordering::Relaxed);
        assert!((1..=BLOCK + 1).contains(&n), "{n} ticks for {at} s");
        // What is behind takes no more than the window and what is before it until the key.
        read.store(0, Ordering::Relaxed);
        desk.pass(1.0);
        let n = read.load(Ordering::Relaxed);
        assert!(n <= WINDOW + BLOCK + 1, "{n} ticks behind {at} s");
    }
}

#[test]
fn a_pipe_is_followed_stopped_and_caught_up_with() {
    let mut desk = Desk::new(tape(1..=3));
    desk.pass(0.1);
    assert_eq!((desk.seq(), desk.deck().following), (3, true));
    desk.control(Control::Pause);
    for seq in 4..=10 {
        desk.player.tape_mut().push(Item::Tick(Box::new(tick(seq))));
    }
    desk.pass(5.0);
    assert_eq!(desk.seq(), 3);
    assert_eq!(desk.deck().end_ns, 10 * SECOND, "it goes on arriving");
    seek_to(&mut desk, 2.0);
    assert_eq!(desk.seq(), 2);
    desk.control(Control::Play { from_ns: 2 * SECOND });
    desk.pass(2.1);
    assert_eq!((desk.seq(), desk.deck().following), (4, false), "at its own pace");
    desk.control(Control::End);
    assert_eq!((desk.seq(), desk.deck().following), (10, true));
    desk.player.tape_mut().push(Item::Tick(Box::new(tick(11))));
    // After a jump what is behind it comes first.
    desk.pass(0.2);
    assert_eq!(desk.seq(), 11);
    let why = Some("the connection broke".to_owned());
    desk.player.tape_mut().push(Item::End(End { clean: false, why: why.clone() }));
    desk.pass(0.1);
    assert_eq!(desk.deck().end, Some(End { clean: false, why }));
    assert!(desk.deck().is_over() && !desk.deck().playing);
}

/// More than is read ahead, or said in one turn.
#[test]
fn a_pipe_that_has_ended_is_followed_to_its_last_tick() {
    for ticks in [31, 32, 33, 64, 100] {
        let mut desk = Desk::new(tape(1..=3));
        desk.pass(0.1);
        for seq in 4..=3 + ticks {
            desk.player.tape_mut().push(Item::Tick(Box::new(tick(seq))));
        }
        desk.player.tape_mut().push(Item::End(End { clean: true, why: None }));
        desk.pass(0.1);
        assert_eq!(desk.seq(), 3 + ticks);
        assert!(desk.deck().is_over() && !desk.deck().playing);
    }
}

#[test]
fn who_was_there_before_a_file_began_has_a_name_in_it() {
    let mut begin = Totals::default();
    begin.apply(&tick(1));
    let options = Options { begin: begin.who_is_there(), ..Options::default() };
    let mut writer = Writer::new(Vec::new(), &Session::default(), options).expect("made");
    (2..=5).for_each(|seq| writer.tick(&tick(seq)).expect("written"));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&writer.finish(None).expect("finished")).expect("written");
    let mut desk = Desk::new(FileTape::new(Recording::open(file.path()).expect("opened")));
    let name = |desk: &Desk<FileTape>| desk.state.vm_rows()[0].name.clone();
    assert_eq!((desk.seq(), name(&desk)), (2, "web-7".to_owned()));
    for control in [Control::End, Control::Start, Control::Seek(3 * SECOND)] {
        desk.control(control);
        desk.pass(0.5);
        assert_eq!(name(&desk), "web-7");
    }
}

#[test]
fn what_is_kept_of_a_pipe_is_bounded_and_says_where_it_begins() {
    let mut one = Vec::new();
    crate::model::codec::encode(&tick(1_000), &mut one).expect("encodes");
    let mut tape = KeptTape::new(one.len() * 200);
    tape.push(Item::Session(Box::default()));
    for seq in 1..=1_000 {
        tape.push(Item::Tick(Box::new(tick(seq))));
        if seq == 5 || seq == 995 {
            tape.push(Item::Mark(Mark { at_ns: seq * SECOND, text: String::new() }));
        }
    }
    let outline = tape.outline();
    let kept = (outline.end_ns - outline.start_ns) / SECOND;
    assert!((140..=200).contains(&kept), "{kept}");
    assert_eq!(outline.marks.len(), 1, "the other one is before what is kept");
    let mut desk = Desk::new(tape);
    desk.control(Control::Start);
    assert_eq!(desk.seq(), outline.start_ns / SECOND + 1);
    assert_eq!(desk.state.vm_rows()[0].name, "web-7", "who is there is known nevertheless");
}

#[test]
fn nothing_recorded_is_nothing_to_play() {
    let mut desk = Desk::new(ended(tape([])));
    desk.pass(5.0);
    desk.control(Control::Play { from_ns: 0 });
    desk.pass(5.0);
    for control in [Control::End, Control::Start, Control::Step { from_ns: 0, by: -1 }] {
        desk.control(control);
    }
    assert_eq!(desk.seq(), 0);
}

#[test]
fn what_cannot_be_read_is_said() {
    struct Gone;
    impl Tape for Gone {
        fn outline(&self) -> Outline {
            let end = Some(End { clean: true, why: None });
            Outline { end_ns: 9, end, ..Outline::default() }
        }
        fn begin(&mut self, _: u64) -> Result<Begin, String> {
            Err("the file is gone".to_owned())
        }
        fn items(&mut self, _: u64, _: u64) -> Items<'_> {
            Box::new(std::iter::empty())
        }
    }
    let mut desk = Desk::new(Gone);
    desk.pass(1.0);
    assert_eq!(desk.deck().trouble.as_deref(), Some("the file is gone"));
    assert!(!desk.deck().playing);
}

/// The frame after a seek is the frame after playing up to it, on every tab.
#[test]
fn a_moment_that_was_sought_looks_like_one_that_was_played() {
    let mut generator = Generator::new(Plan::noisy_host(), 3, &Session::default());
    let mut tape = KeptTape::new(1 << 30);
    tape.push(Item::Session(Box::default()));
    let mut played = State::new(Session::default(), Limits::default());
    for _ in 0..100 {
        let tick = Box::new(generator.tick(Duration::from_secs(1)));
        tape.push(Item::Tick(tick.clone()));
        played.apply(Msg::Tick(tick));
    }
    let mut desk = Desk::new(ended(tape));
    desk.control(Control::End);
    let alive = |state: &State| -> Vec<_> {
        state.vm_rows().iter().filter(|row| row.ended_unix_ns.is_none()).cloned().collect()
    };
    assert!(!alive(&played).is_empty());
    assert_eq!(alive(&desk.state), alive(&played), "at once");
    desk.pass(1.0);
    assert_eq!(alive(&desk.state), alive(&played), "and with everything behind it");
    for row in alive(&played) {
        let id = crate::state::RowId::Vm(row.id);
        assert_eq!(desk.state.series(id), played.series(id));
    }
}

#[test]
fn the_behind_of_another_moment_is_not_taken() {
    let mut desk = Desk::new(ended(tape(1..=600)));
    desk.control(Control::Pause);
    seek_to(&mut desk, 421.0);
    let late = desk.player.advance(seconds(9.0));
    assert!(late.iter().any(|msg| {
        matches!(msg, Msg::Replay(said) if matches!(**said, Said::Behind(Behind::Done)))
    }));
    seek_to(&mut desk, 301.0);
    desk.take(late);
    assert_eq!(desk.seq(), 301);
}
