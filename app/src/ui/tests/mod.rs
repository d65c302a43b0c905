//! Snapshots of whole screens, with their styles, and that no size and no key breaks them.

mod baseline;
mod memory;
mod reason;
mod replay;
mod scroll;
pub mod shot;
mod signals;
mod time;
pub mod world;

use super::{
    View, draw,
    input::{Input, input},
    keymap::Key,
};
use crate::{
    config::Config,
    source::Msg,
    state::{Limits, State},
    term::Options,
    ui::theme::ThemeName,
};
use proptest::prelude::*;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{Event, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::Rect,
};
pub use replay::deck;
use shot::{glyphs, shot};
use world::World;

/// A screen with somebody in front of it.
struct Desk {
    state: State,
    view: View,
    size: (u16, u16),
}

impl Desk {
    fn new(vms: usize, ticks: u64, size: (u16, u16)) -> Self {
        let mut state = State::new(world::session(), Limits::default());
        let mut world = World::new(vms);
        for _ in 0..ticks {
            state.apply(Msg::Tick(Box::new(world.tick())));
        }
        let view =
            Options::new(&Config { ascii: Some(false), ..Config::default() }, |_| None).view();
        Self { state, view, size }
    }

    fn themed(mut self, theme: ThemeName, ascii: bool) -> Self {
        let config = Config { ascii: Some(ascii), theme: Some(theme), ..Config::default() };
        self.view = Options::new(&config, |_| None).view();
        self
    }

    fn draw(&mut self) -> Buffer {
        let mut buf = Buffer::empty(Rect::new(0, 0, self.size.0, self.size.1));
        let columns = super::reason_columns(self.size.0, self.size.1, &self.state, &self.view);
        self.state.act(crate::state::Action::Fit(columns));
        draw(&mut buf, &self.state, &mut self.view);
        buf
    }

    fn event(&mut self, event: &Event) {
        if let Input::Act(actions) = input(event, &self.state, &mut self.view) {
            for action in actions {
                self.state.act(action);
            }
        }
    }

    /// Presses keys, drawing between them as the loop does.
    fn press(&mut self, keys: &str) -> &mut Self {
        for text in keys.split(' ') {
            self.draw();
            let key = Key::parse(text).expect(text);
            self.event(&Event::Key(KeyEvent::new(key.code, key.modifiers)));
        }
        self
    }

    /// Clicks the first place where this text stands.
    fn click(&mut self, text: &str) -> &mut Self {
        let screen = glyphs(&self.draw());
        let (y, line) = screen
            .lines()
            .enumerate()
            .find(|(_, line)| line.contains(text))
            .unwrap_or_else(|| panic!("{text:?} is not on the screen:\n{screen}"));
        let before = line.split(text).next().unwrap_or_default();
        let mouse = MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column: super::paint::width(before),
            row: y as u16,
            modifiers: KeyModifiers::NONE,
        };
        self.event(&Event::Mouse(mouse));
        self
    }

    fn shot(&mut self) -> String {
        shot(&self.draw())
    }

    fn glyphs(&mut self) -> String {
        glyphs(&self.draw())
    }
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn snapshots(name: &str, vms: usize, keys: &str) {
    for size in SIZES {
        let mut desk = Desk::new(vms, 60, size);
        if !keys.is_empty() {
            desk.press(keys);
        }
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn host() {
    snapshots("host", 5, "");
}

#[test]
fn host_with_one_vm() {
    snapshots("host_one", 1, "");
}

#[test]
fn host_with_forty_vms() {
    snapshots("host_forty", 40, "G");
}

#[test]
fn vm() {
    snapshots("vm", 5, "down enter down right right");
}

#[test]
fn vm_table() {
    snapshots("vm_table", 5, "enter tab");
}

#[test]
fn vcpu() {
    snapshots("vcpu", 5, "down enter tab down enter down");
}

#[test]
fn reason() {
    snapshots("reason", 5, "enter down right enter");
}

#[test]
fn help() {
    snapshots("help", 5, "?");
}

#[test]
fn paused_and_stepped_back() {
    let mut desk = Desk::new(2, 60, (100, 24));
    insta::assert_snapshot!("paused", desk.press("space [ [ {").shot());
}

#[test]
fn typing_a_filter() {
    let mut desk = Desk::new(5, 20, (80, 24));
    desk.press("/ n a m e ~ b");
    insta::assert_snapshot!("filter_typing", desk.shot());
    insta::assert_snapshot!("filter_kept", desk.press("enter").shot());
}

#[test]
fn every_theme_differs() {
    let mut seen: Vec<String> = Vec::new();
    for (name, theme) in ThemeName::ALL {
        let mut desk = Desk::new(5, 60, (100, 30)).themed(theme, false);
        let shot = desk.shot();
        assert!(!seen.contains(&shot), "{name} looks like another theme");
        insta::assert_snapshot!(format!("theme_{name}"), shot);
        seen.push(shot);
    }
}

#[test]
fn ascii_is_ascii() {
    for keys in ["?", "enter right", "enter right enter", "enter tab down enter", "/ x"] {
        let mut desk = Desk::new(5, 60, (120, 40)).themed(ThemeName::Mono, true);
        let screen = desk.press(keys).glyphs();
        assert!(screen.is_ascii(), "{screen}");
    }
    let mut desk = Desk::new(5, 60, (100, 30)).themed(ThemeName::Mono, true);
    insta::assert_snapshot!("ascii", desk.shot());
}

#[test]
fn a_screen_that_is_too_small_says_what_it_needs() {
    let mut desk = Desk::new(5, 3, (20, 5));
    insta::assert_snapshot!("too_small", desk.shot());
}

#[test]
fn what_makes_the_numbers_wrong_is_in_the_header() {
    let mut desk = Desk::new(2, 3, (80, 24));
    let mut session = world::session();
    session.probes[3].attached = false;
    session.probes[3].why = Some("the tracepoint has no field next_pid".to_owned());
    session.notices.push("kvm_exit is silent although vCPUs run".to_owned());
    desk.state.apply(Msg::Session(Box::new(session)));
    let mut tick = World::new(2).tick();
    tick.seq = 4;
    tick.end_ns += 3_000_000_000;
    tick.lost.ring = 12;
    tick.lost.pool_full = 7;
    desk.state.apply(Msg::Tick(Box::new(tick)));
    desk.state.apply(Msg::End(Some("the module kvm_intel was removed".to_owned())));
    insta::assert_snapshot!("wrong", desk.shot());
}

#[test]
fn invented_numbers_are_called_so() {
    let mut desk = Desk::new(2, 3, (80, 24));
    let mut session = world::session();
    session.origin = crate::model::session::Origin::Synthetic {
        why: "there is no /dev/kvm on this host".to_owned(),
        command: "sudo kvmscope demo".to_owned(),
    };
    desk.state.apply(Msg::Session(Box::new(session)));
    insta::assert_snapshot!("synthetic", desk.shot());
    for (width, keys) in [(60, "enter"), (200, "enter enter"), (80, "?")] {
        desk.size.0 = width;
        assert!(desk.press(keys).glyphs().contains("SYNTHETIC"), "{keys}");
    }
}

#[test]
fn losses_are_never_left_out() {
    let mut desk = Desk::new(2, 3, (60, 20));
    let mut tick = World::new(2).tick();
    tick.seq = 4;
    tick.end_ns += 3_000_000_000;
    tick.lost =
        crate::model::tick::Lost { missed_runs: 1_500, ring: 3, pool_full: 7, slots_full: 9 };
    desk.state.apply(Msg::Tick(Box::new(tick)));
    for width in [60, 80, 200] {
        desk.size.0 = width;
        let header = desk.glyphs().lines().next().unwrap_or_default().to_owned();
        assert!(header.contains("LOST 1.5k"), "{header}");
    }
}

#[test]
fn empty_states_help() {
    let mut desk = Desk::new(0, 0, (80, 24));
    assert!(desk.glyphs().contains("Waiting for the first numbers"));
    let mut desk = Desk::new(0, 2, (80, 24));
    assert!(desk.glyphs().contains("kvmscope demo"));
    let mut session = world::session();
    for probe in &mut session.probes {
        probe.attached = false;
        probe.why = Some("loading eBPF needs CAP_BPF; run it as root".to_owned());
    }
    desk.state.apply(Msg::Session(Box::new(session)));
    insta::assert_snapshot!("no_probe", desk.shot());
}

#[test]
fn the_configuration_sorts_and_hides() {
    let config = crate::config::parse("sort = \"-p99\"\nhide-columns = [\"p50\", \"wall-time\"]");
    let options = Options::new(&config.expect("good"), |_| None);
    let mut desk = Desk::new(3, 20, (100, 30));
    desk.view = options.view();
    options.prepare(&mut desk.state);
    let sort = desk.state.level().sort;
    assert_eq!((sort.key, sort.descending), ("p99", false));
    let screen = desk.glyphs();
    assert!(!screen.contains("p50") && !screen.contains("wall time"), "{screen}");
}

#[test]
fn vcpus_are_in_the_order_of_their_numbers() {
    let mut desk = Desk::new(2, 3, (120, 60));
    desk.press("down enter");
    let numbers: Vec<u32> =
        desk.state.vcpu_rows().iter().filter_map(|row| row.key).map(|key| key.vcpu).collect();
    assert_eq!(numbers, (0..16).collect::<Vec<u32>>());
}

#[test]
fn the_mouse_selects_sorts_and_climbs() {
    let mut desk = Desk::new(5, 20, (120, 40));
    desk.click("db-1");
    assert_eq!(desk.state.cursor(), Some(1));
    desk.click("db-1");
    assert_eq!(desk.state.breadcrumb().len(), 2, "a click on what is selected opens it");
    desk.click("host");
    assert_eq!(desk.state.breadcrumb().len(), 1);
    desk.click("p99");
    assert_eq!(desk.state.level().sort.key, "p99");
}

#[test]
fn foreign_names_cannot_speak_to_the_terminal() {
    let mut desk = Desk::new(5, 3, (160, 50));
    let screen = desk.glyphs();
    assert!(screen.contains("b\u{fc}ro"), "{screen}");
    assert!(!screen.contains('\x1b'));
}

#[test]
fn titles_of_columns_are_never_cut() {
    for width in (60..220).step_by(7) {
        let mut desk = Desk::new(5, 20, (width, 40));
        for keys in ["", "enter tab", "enter tab enter"] {
            if !keys.is_empty() {
                desk.press(keys);
            }
            let header = glyphs(&desk.draw()).lines().nth(2).unwrap_or_default().to_owned();
            assert!(!header.contains('…'), "{width}: {header}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_size_and_no_key_breaks_it(
        width in 1u16..260,
        height in 1u16..80,
        vms in 0usize..12,
        keys in prop::collection::vec(0usize..40, 0..14),
    ) {
        const KEYS: [&str; 40] = [
            ":", "r", "R", "m", "+", "-", "n",
            "1", "6", "o", "c", "2", "5", "0",
            "enter", "esc", "up", "down", "left", "right", "pgup", "pgdn", "home", "G", "s",
            "S", "/", "h", "space", "[", "]", "{", "end", "tab", "z", "x", "y", "?", "j", "e",
        ];
        let mut desk = Desk::new(vms, 3, (width, height));
        for key in keys {
            desk.press(KEYS[key]);
        }
        desk.draw();
    }
}
