//! The screen of a comparison, at both sizes, with styles.

use super::input::press;
use super::overlay;
use super::*;
use crate::config::Config;
use crate::diff::testing::sample_diff;
use crate::diff::{Side, diff};
use crate::model::session::Session;
use crate::model::testing::any_tick;
use crate::model::totals::Totals;
use crate::term::Options;
use crate::ui::tests::shot::{glyphs, shot};
use crate::ui::theme::ThemeName;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 50)];

fn screen(diff: Diff, theme: Option<ThemeName>, ascii: bool) -> Screen {
    let config = Config { ascii: Some(ascii), theme, ..Config::default() };
    Screen::new(diff, Options::new(&config, |_| None).view())
}

fn draw(screen: &mut Screen, size: (u16, u16)) -> Buffer {
    let mut buf = Buffer::empty(Rect::new(0, 0, size.0, size.1));
    screen.draw(&mut buf);
    buf
}

fn snapshots(name: &str, keys: &str) {
    for size in SIZES {
        let mut screen = screen(sample_diff(), None, false);
        draw(&mut screen, size);
        press(&mut screen, keys);
        insta::assert_snapshot!(
            format!("{name}_{}x{}", size.0, size.1),
            shot(&draw(&mut screen, size))
        );
    }
}

#[test]
fn vms() {
    snapshots("vms", "");
}

#[test]
fn a_vm_that_lost_its_cpu() {
    snapshots("stolen", "down");
}

#[test]
fn a_vm_of_one_side() {
    snapshots("gone", "G");
}

#[test]
fn vcpus() {
    snapshots("vcpus", "enter down");
}

#[test]
fn reasons() {
    snapshots("reasons", "enter enter");
}

#[test]
fn reason() {
    snapshots("reason", "enter enter enter");
}

#[test]
fn a_reason_that_is_new() {
    snapshots("new", "enter enter / P R E E M enter enter");
}

#[test]
fn notes() {
    snapshots("notes", "tab");
}

#[test]
fn help() {
    snapshots("help", "?");
}

#[test]
fn a_filter_being_typed() {
    let mut screen = screen(sample_diff(), None, false);
    press(&mut screen, "/ d i r = m o r e");
    insta::assert_snapshot!("typing", shot(&draw(&mut screen, (80, 24))));
    press(&mut screen, "ctrl-u b o g u s > 1 enter");
    insta::assert_snapshot!("typing_wrong", shot(&draw(&mut screen, (80, 24))));
}

#[test]
fn themes() {
    for (name, theme) in ThemeName::ALL {
        let mut screen = screen(sample_diff(), Some(theme), theme == ThemeName::Mono);
        press(&mut screen, "enter enter enter");
        insta::assert_snapshot!(format!("theme_{name}"), shot(&draw(&mut screen, (80, 24))));
    }
}

/// What a theme says in colour, characters say as well.
#[test]
fn everything_can_be_read_without_colour() {
    let mut screen = screen(sample_diff(), Some(ThemeName::Mono), true);
    let text = glyphs(&draw(&mut screen, (160, 50)));
    assert!(text.is_ascii(), "{text}");
    for sign in ["-50ms", "x0.80", "gone", "new", "+37.0"] {
        assert!(text.contains(sign), "{sign}\n{text}");
    }
    press(&mut screen, "enter enter enter");
    let text = glyphs(&draw(&mut screen, (160, 50)));
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("# both  : only before  O only after"), "{text}");
    assert!(text.lines().any(|line| line.contains("#:::")), "{text}");
}

/// Lines of the list: the rows' names.
fn names(screen: &Screen) -> Vec<&str> {
    screen.rows.iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn levels_are_found_again_as_they_were_left() {
    let mut screen = screen(sample_diff(), None, false);
    press(&mut screen, "down enter");
    assert_eq!(screen.breadcrumb(), ["all VMs", "db-1"]);
    assert_eq!(names(&screen), ["all vCPUs", "vCPU 0"]);
    press(&mut screen, "down enter / E P T enter");
    assert_eq!(names(&screen), ["EPT_VIOLATION"]);
    press(&mut screen, "enter");
    assert_eq!(screen.breadcrumb(), ["all VMs", "db-1", "vCPU 0", "EPT_VIOLATION"]);
    press(&mut screen, "esc esc");
    assert_eq!(screen.breadcrumb().len(), 3, "the filter goes first");
    press(&mut screen, "esc");
    assert_eq!(screen.cursor(), Some(1), "the cursor is where it was");
    press(&mut screen, "esc esc esc");
    assert_eq!((screen.breadcrumb().len(), screen.cursor()), (1, Some(1)));
}

#[test]
fn rows_are_sorted_and_filtered() {
    let mut screen = screen(sample_diff(), None, false);
    let by_change = ["web-7", "db-1", "idle-win", "ci-10", "ci-9"];
    assert_eq!(names(&screen), by_change);
    press(&mut screen, "/ n a m e ~ c i enter");
    assert_eq!((names(&screen), screen.hidden), (vec!["ci-10", "ci-9"], 3));
    press(&mut screen, "esc");
    // By the change turned around, then by the first field again: the name.
    press(&mut screen, "S");
    assert_eq!(names(&screen)[4], "web-7");
    while screen.level().sort.key != "name" {
        press(&mut screen, "s");
    }
    assert_eq!(names(&screen), ["ci-10", "ci-9", "db-1", "idle-win", "web-7"]);
    press(&mut screen, "enter S");
    assert_eq!(names(&screen), by_change_of_vcpus(), "another level has its own order");
}

fn by_change_of_vcpus() -> [&'static str; 2] {
    ["all vCPUs", "vCPU 0"]
}

#[test]
fn what_does_not_move_has_no_keys_for_moving_it() {
    let mut screen = screen(sample_diff(), None, false);
    for key in ["space", "left", "1", "6", "h", "b", "end", "x"] {
        assert_eq!(press(&mut screen, key), Then::Ignore, "{key}");
    }
    assert_eq!(press(&mut screen, "q"), Then::Quit);
    assert_eq!(press(&mut screen, "/ ctrl-c"), Then::Quit);
}

#[test]
fn rows_are_copied_and_saved() {
    let mut screen = screen(sample_diff(), None, false);
    let Then::Copy(text) = press(&mut screen, "y") else { panic!("copies") };
    assert!(text.starts_with("web-7  exits/s 1.8k -> "), "{text}");
    assert!(text.contains("time/s 57ms -> "), "{text}");
    let Then::Save(view) = press(&mut screen, "enter w") else { panic!("saves") };
    assert_eq!(view.name, "diff-all-VMs-web-7");
    assert!(
        view.text.starts_with("all VMs > web-7: before before.kvmscope, after after.kvmscope\n")
    );
    assert!(view.text.contains("vCPU 1"), "{}", view.text);
    let Then::Save(view) = press(&mut screen, "enter enter w") else { panic!("saves") };
    assert!(view.text.contains("What changed most"), "of one reason everything is saved");
}

fn click(screen: &mut Screen, text: &str, size: (u16, u16)) -> Then {
    let shown = glyphs(&draw(screen, size));
    let (y, line) = shown.lines().enumerate().find(|(_, line)| line.contains(text)).expect(text);
    let before = line.split(text).next().unwrap_or_default();
    screen.event(&Event::Mouse(MouseEvent {
        kind: MouseEventKind::Down(MouseButton::Left),
        column: crate::ui::paint::width(before),
        row: y as u16,
        modifiers: KeyModifiers::NONE,
    }))
}

#[test]
fn the_mouse_selects_opens_sorts_and_goes_up() {
    let mut screen = screen(sample_diff(), None, false);
    let size = (80, 24);
    click(&mut screen, "db-1", size);
    assert_eq!(screen.cursor(), Some(1));
    click(&mut screen, "db-1", size);
    assert_eq!(screen.breadcrumb(), ["all VMs", "db-1"]);
    click(&mut screen, "all VMs", size);
    assert_eq!(screen.breadcrumb(), ["all VMs"]);
    click(&mut screen, "ratio", size);
    assert_eq!(screen.level().sort.key, "ratio");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let mut screen = screen(sample_diff(), None, false);
    let text = glyphs(&draw(&mut screen, (59, 10)));
    assert!(text.contains("needs 60 columns"), "{text}");
}

/// Every exit is in a band, on its side.
#[test]
fn histograms_are_of_each_side_per_second() {
    let diff = sample_diff();
    let vm = &diff.vms[0].all;
    for reason in &vm.reasons {
        let rows = overlay::rows(reason, &vm.present_ns, 12);
        assert!(rows.len() <= 12);
        let sum = |of: fn(&overlay::Row) -> f64| rows.iter().map(of).sum::<f64>();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(sum(|row| row.rates.before), reason.numbers.before.rate), "{}", reason.name);
        assert!(close(sum(|row| row.rates.after), reason.numbers.after.rate), "{}", reason.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// No size, no key and no measurement breaks it.
    #[test]
    fn nothing_breaks_it(
        ticks in prop::collection::vec(any_tick(), 0..3),
        size in (1u16..220, 1u16..70),
        keys in prop::collection::vec(
            prop::sample::select(vec![
                "enter", "esc", "down", "up", "G", "g", "s", "S", "tab", "?", "/", "n", ">", "1", "pgdn", "pgup", "y",
                "w", "backspace",
            ]),
            0..30,
        ),
    ) {
        let (session, mut totals) = (Session::default(), Totals::default());
        ticks.iter().for_each(|tick| totals.apply(tick));
        let ((other, before), _) = crate::diff::testing::sample();
        let sides = (Side::new("a", &other, &before), Side::new("b", &session, &totals));
        let mut screen = screen(diff(&sides.0, &sides.1, &[]).expect("no wishes"), None, false);
        for key in keys {
            press(&mut screen, key);
            draw(&mut screen, size);
        }
    }
}
