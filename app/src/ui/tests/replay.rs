//! A recording on the screen: the bar, marks, gaps, ends; and the mark of a recording that is made.

use super::{Desk, Input, input, world};
use crate::model::ids::VmId;
use crate::record::{End, Gap, Mark, Progress as Written};
use crate::source::{
    Msg,
    replay::{Control, Outline, Progress, Said, Speed},
};
use crate::state::{Action, Deck, Effect, Sample, Scope};
use ratatui::crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

/// A moment of the invented world's clock: so many seconds after its start.
fn at(s: u64) -> u64 {
    world::session().started_ns + s * SECOND
}

fn mark(s: u64, text: &str) -> Mark {
    Mark { at_ns: at(s), text: text.to_owned() }
}

fn gap() -> Gap {
    Gap { from_ns: at(700), until_ns: at(760), why: "the disk was too slow".to_owned() }
}

/// Twenty minutes with two marks and a gap.
fn outline() -> Outline {
    Outline {
        tick_ns: SECOND,
        start_ns: at(0),
        end_ns: at(1_200),
        marks: [mark(60, "backup begins"), mark(900, "")].into(),
        gaps: [gap()].into(),
        end: Some(End { clean: true, why: None }),
    }
}

fn progress() -> Progress {
    Progress { outline: outline(), playing: true, ..Progress::default() }
}

/// Where one is in it, for tests of parts.
pub fn deck() -> Deck {
    let outline = outline();
    Deck {
        start_ns: outline.start_ns,
        end_ns: outline.end_ns,
        at_ns: at(60),
        at_unix_ns: world::session().unix_ns(at(60)),
        dur_ns: SECOND,
        playing: false,
        following: false,
        speed: Speed::default(),
        gap: None,
        marks: Arc::clone(&outline.marks),
        gaps: Arc::clone(&outline.gaps),
        end: outline.end,
        trouble: None,
    }
}

/// A screen whose recording is at its sixtieth second.
fn desk(size: (u16, u16), progress: Progress) -> Desk {
    let mut desk = Desk::new(5, 60, size);
    say(&mut desk, progress);
    desk
}

fn say(desk: &mut Desk, progress: Progress) {
    desk.state.apply(Msg::Replay(Box::new(Said::Progress(Box::new(progress)))));
}

#[test]
fn a_message_is_not_written_over() {
    let mut desk = Desk::new(3, 5, (80, 24));
    let said = "recorded 9 ticks, 13 kB, in ./kvmscope-2026-11-22-011825.kvmscope";
    desk.view.message = Some(said.to_owned());
    let buf = desk.draw();
    let last: String = (0..80).map(|x| buf[(x, 23)].symbol().to_owned()).collect();
    let before = last.strip_suffix(&format!("{said} ")).expect("the whole message");
    assert!(before.trim().is_empty() || before.ends_with("  "), "{before:?}");
}

#[test]
fn playing() {
    for size in [(80, 24), (160, 50)] {
        let mut desk = desk(size, progress());
        insta::assert_snapshot!(format!("replay_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn a_recording_in_place_of_this_host_says_so() {
    let sample = Sample {
        of: "test guests on Linux 6.12.117, SVM, emulated".to_owned(),
        why: "there is no /dev/kvm on this host".to_owned(),
        command: "sudo kvmscope demo".to_owned(),
    };
    for size in [(80, 24), (160, 50)] {
        let mut desk = desk(size, progress());
        desk.state.set_sample(Some(sample.clone()));
        insta::assert_snapshot!(format!("replay_sample_{}x{}", size.0, size.1), desk.shot());
        for keys in ["enter", "enter", "6"] {
            let glyphs = desk.press(keys).glyphs();
            assert!(glyphs.contains("SAMPLE, a recording of test guests"), "{keys}: {glyphs}");
            assert!(glyphs.contains("sudo kvmscope demo"), "{keys}: {glyphs}");
        }
    }
}

#[test]
fn paused_at_another_speed_in_a_vm() {
    let speed = Speed::new(0.5).expect("a speed");
    for size in [(80, 24), (160, 50)] {
        let mut desk = desk(size, Progress { playing: false, speed, ..progress() });
        desk.press("enter [ [");
        insta::assert_snapshot!(format!("replay_paused_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn in_a_gap_there_is_no_data_and_no_zero() {
    let in_gap = Progress { gap: Some((gap(), at(730))), playing: false, ..progress() };
    for size in [(80, 24), (160, 50)] {
        let mut desk = desk(size, in_gap.clone());
        insta::assert_snapshot!(format!("replay_gap_{}x{}", size.0, size.1), desk.shot());
    }
    let mut desk = desk((120, 40), in_gap);
    for keys in ["2", "3", "4", "5", "6", "1", "enter", "enter"] {
        let screen = desk.press(keys).glyphs();
        assert!(screen.contains("No data") && screen.contains("NO DATA"), "{keys}: {screen}");
        assert!(!screen.contains("exits/s "), "{keys}: {screen}");
    }
    assert!(!desk.press("0").glyphs().contains("No data"), "what was attached is known");
}

#[test]
fn an_end_that_was_cut_is_called_so() {
    let end = End { clean: false, why: Some("the last 312 bytes are no whole frame".to_owned()) };
    let cut = Outline { end_ns: at(60), end: Some(end), ..outline() };
    let mut cut = desk((80, 24), Progress { outline: cut, playing: false, ..progress() });
    insta::assert_snapshot!("replay_cut", cut.shot());
    let over = Outline { end_ns: at(60), ..outline() };
    let over = Progress { outline: over, playing: false, ..progress() };
    assert!(desk((80, 24), over).glyphs().contains(" END 1x"));
}

#[test]
fn a_pipe_is_live_until_it_ends() {
    let growing = Outline { end_ns: at(60), end: None, ..outline() };
    let growing = Progress { outline: growing, following: true, ..progress() };
    let mut desk = desk((80, 24), growing);
    let screen = desk.glyphs();
    assert!(screen.contains(" LIVE "), "{screen}");
}

#[test]
fn the_place_to_go_to_is_typed() {
    let mut desk = desk((80, 24), progress());
    desk.press(": 1 2 : 3 5");
    insta::assert_snapshot!("replay_seek", desk.shot());
    let screen = desk.press("x").glyphs();
    assert!(screen.contains("expected: 12:41:03"), "{screen}");
    desk.press("backspace : 0 0 enter");
    assert!(!desk.glyphs().contains("go to:"), "taken");
}

#[test]
fn a_click_into_the_bar_goes_there() {
    let mut desk = desk((160, 50), progress());
    let screen = desk.glyphs();
    let mut lines = screen.lines().enumerate();
    let (row, line) = lines.find(|(_, line)| line.contains("PLAY 1x")).expect("the bar");
    let bar = |c: char| c == '━' || c == '█' || c == '─';
    let first = line.chars().position(bar).expect("a bar");
    let column = |c: char| line.chars().position(|other| other == c).expect("it is there");
    let mut click = |column: usize| {
        let mouse = MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column: column as u16,
            row: row as u16,
            modifiers: KeyModifiers::NONE,
        };
        let Input::Act(actions) = input(&Event::Mouse(mouse), &desk.state, &mut desk.view) else {
            panic!("it does something")
        };
        let effects: Vec<Effect> =
            actions.into_iter().flat_map(|action| desk.state.act(action)).collect();
        let [Effect::Replay(Control::Seek(at_ns))] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        (*at_ns - at(0)) / SECOND
    };
    assert_eq!(click(first), 0);
    let gap = click(column('░'));
    assert!((690..=710).contains(&gap), "{gap}");
}

#[test]
fn keys_that_need_the_host_do_not_work_in_a_recording() {
    let mut desk = desk((160, 50), progress());
    for keys in ["r", "R", "m", "0 enter", "6 c", "o", "f"] {
        desk.press(keys);
    }
    assert!(desk.state.recording().is_none());
    assert!(!desk.glyphs().contains("attaching"));
    let help = desk.press("1 ?").glyphs();
    assert!(help.contains("play the recording from here"), "{help}");
    assert!(!help.contains("collection always goes on"), "{help}");
}

#[test]
fn ascii_has_a_bar_too() {
    let mut desk = desk((120, 40), progress()).themed(crate::ui::theme::ThemeName::Mono, true);
    let screen = desk.glyphs();
    assert!(screen.is_ascii(), "{screen}");
    assert!(screen.lines().any(|line| line.contains("PLAY 1x") && line.contains("xx")), "{screen}");
}

#[test]
fn a_recording_that_is_made_is_in_the_header() {
    for size in [(80, 24), (160, 50)] {
        let mut desk = Desk::new(5, 30, size);
        let written = Written { bytes: 9_300_000, ticks: 30, ..Written::default() };
        desk.state.recorded(Some(written.clone()));
        insta::assert_snapshot!(format!("recording_{}x{}", size.0, size.1), desk.shot());
        let lossy = Written { dropped_ticks: 3, dropped_events: 1_200, ..written.clone() };
        desk.state.recorded(Some(lossy));
        let header = desk.glyphs().lines().next().unwrap_or_default().to_owned();
        assert!(header.contains("REC 0:00 9.3 MB without 3 ticks, 1.2k events"), "{header}");
        let full = Some("the disk is full".to_owned());
        desk.state.recorded(Some(Written { stopped: full, ..written }));
        let screen = desk.glyphs();
        assert!(screen.contains("REC STOPPED"), "{screen}");
        assert!(screen.contains("Recording has stopped: the disk is full"), "{screen}");
        desk.state.recorded(None);
        assert!(!desk.glyphs().contains("REC"));
    }
}

#[test]
fn recording_marking_and_keeping_are_asked_of_the_outside() {
    let mut desk = Desk::new(5, 30, (80, 24));
    let effects = desk.state.act(Action::Record);
    let [Effect::Record(begin)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(begin.vms.len(), 5, "who is there");
    assert_eq!(begin.vms[&VmId(1)].vcpus.len(), 8);
    desk.state.recorded(Some(Written::default()));
    desk.press("m");
    assert!(desk.glyphs().contains("mark: "));
    desk.press("b a c k u p");
    let effects = desk.state.act(Action::MarkAccept);
    assert_eq!(effects, [Effect::Mark(mark(30, "backup"))]);
    let effects = desk.state.act(Action::KeepPast);
    let [Effect::Keep(past)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(past.history.len(), 30);
    assert_eq!(past.marks, [mark(30, "backup")]);
    assert!(past.begin.vms.is_empty(), "the first tick tells who came");
    assert_eq!(desk.state.act(Action::Record), [Effect::RecordStop]);
    assert_eq!(desk.state.level().scope, Scope::Host);
}
