//! The Time tab.

use super::world::time;
use super::*;
use crate::state::{Action, Pane, Scope, Tab, Who};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (160, 50)];

/// A host whose time is told closely, before the Time tab.
fn desk(vms: usize, size: (u16, u16), watched: bool) -> Desk {
    let mut desk = Desk::new(0, 0, size);
    let session = world::session();
    let session = if watched { time::watched(session) } else { session };
    desk.state = State::new(session, Limits::default());
    desk.state.set_outlier_limits(time::limits());
    let mut world = World::new(vms);
    for _ in 0..60 {
        let mut tick = world.tick();
        time::add(&mut tick, watched);
        desk.state.apply(Msg::Tick(Box::new(tick)));
    }
    desk
}

fn shots(name: &str, vms: usize, watched: bool, keys: &str) {
    for size in SIZES {
        let mut desk = desk(vms, size, watched);
        desk.press(keys);
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn host() {
    shots("time_host", 5, true, "6");
}

#[test]
fn host_with_one_vm() {
    shots("time_host_one", 1, true, "6");
}

#[test]
fn host_with_forty_vms() {
    shots("time_host_forty", 40, true, "6 down down");
}

#[test]
fn vm() {
    shots("time_vm", 5, true, "6 down enter down");
}

#[test]
fn vcpu() {
    shots("time_vcpu", 5, true, "6 down enter down down enter");
}

#[test]
fn vcpu_whose_culprits_are_not_watched() {
    shots("time_vcpu_unwatched", 1, false, "6 enter down enter");
}

#[test]
fn all_vcpus_of_a_vm() {
    let mut desk = desk(2, (120, 40), true);
    insta::assert_snapshot!("time_all", desk.press("6 enter enter").shot());
}

#[test]
fn reason() {
    let mut desk = desk(2, (120, 40), true);
    insta::assert_snapshot!("time_reason", desk.press("enter down right enter 6").shot());
}

#[test]
fn findings() {
    shots("time_findings", 5, true, "6 tab down");
}

#[test]
fn outliers() {
    shots("time_outliers", 5, true, "6 tab tab down down");
}

#[test]
fn a_pane_alone() {
    let mut desk = desk(5, (120, 40), true);
    insta::assert_snapshot!("time_outliers_alone", desk.press("6 tab tab z").shot());
}

#[test]
fn ascii_and_no_color() {
    let mut desk = desk(5, (100, 30), true).themed(ThemeName::Mono, true);
    desk.press("6");
    let screen = desk.glyphs();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!("time_ascii", desk.shot());
    for keys in ["enter down enter", "tab", "tab", "?"] {
        let screen = desk.press(keys).glyphs();
        assert!(screen.is_ascii(), "{screen}");
    }
}

#[test]
fn no_theme_fails_to_tell_the_tabs_apart() {
    for (name, theme) in ThemeName::ALL {
        let mut desk = desk(2, (100, 30), true).themed(theme, false);
        let exits = desk.shot();
        let time = desk.press("6").shot();
        assert_ne!(exits, time, "{name}");
        assert!(time.contains("[6 Time]") && exits.contains("[1 Exits]"), "{name}");
    }
}

#[test]
fn a_level_is_found_in_every_tab_as_it_was_left() {
    let mut desk = desk(5, (120, 40), true);
    desk.press("s / n a m e ~ b enter down");
    let left = desk.state.level().clone();
    desk.press("6");
    assert_eq!(desk.state.level().filter, left.filter);
    assert_eq!((desk.state.level().sort, desk.state.selected_row()), (left.sort, left.selected));
    desk.press("tab 1");
    assert_eq!((desk.state.level().pane, desk.state.level().zoomed), (left.pane, left.zoomed));
    desk.press("6");
    assert_eq!(desk.state.level().pane, Pane::Findings, "the pane of the tab, too");
    desk.press("1 enter 6 1 esc");
    assert_eq!(desk.state.level().scope, Scope::Host);
    assert_eq!(desk.state.selected_row(), left.selected);
}

#[test]
fn the_mouse_turns_tabs_and_opens_findings() {
    let mut desk = desk(5, (120, 40), true);
    desk.click("6 Time");
    assert_eq!(desk.state.level().tab, Tab::Time);
    desk.click("of the time for a CPU");
    assert_eq!(desk.state.level().pane, Pane::Findings);
    let found = desk.state.selected_finding().expect("the one clicked");
    assert!(found.text.contains("of the time for a CPU"), "{}", found.text);
    desk.click("of the time for a CPU");
    assert_eq!(desk.state.level().scope.vm(), Some(found.vm));
    desk.click("1 Exits");
    assert_eq!(desk.state.level().tab, Tab::Exits);
}

#[test]
fn a_slow_exit_opens_its_reason() {
    let mut desk = desk(5, (120, 40), true);
    desk.press("6 tab tab down");
    let slow = desk.state.selected_outlier().cloned().expect("a slow exit").outlier;
    desk.press("enter");
    let here = Scope::Reason(Who::Vcpu(slow.key), slow.reason);
    assert_eq!((desk.state.level().scope, desk.state.level().tab), (here, Tab::Exits));
    desk.press("6 tab tab");
    let rows = &desk.state.outliers().rows;
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|r| r.outlier.key == slow.key && r.outlier.reason == slow.reason));
}

#[test]
fn a_threshold_is_typed_like_a_filter() {
    let mut desk = desk(2, (80, 24), true);
    desk.press("6 o");
    desk.state.act(Action::LimitEdit("0ms".to_owned()));
    insta::assert_snapshot!("time_limit_typing", desk.shot());
    desk.press("enter");
    assert_eq!(desk.state.outlier_limits(), &time::limits(), "not taken");
    desk.press("esc");
    assert!(!desk.glyphs().contains("slow from:"));
    desk.press("o");
    desk.state.act(Action::LimitEdit("off".to_owned()));
    desk.press("enter");
    assert_eq!(desk.state.outlier_limits().all_ns, None);
}

#[test]
fn stacked_bars_add_up_on_the_screen() {
    for width in [80, 100, 133, 160] {
        let mut desk = desk(5, (width, 40), true);
        let screen = desk.press("6").glyphs();
        let bars: Vec<usize> = screen
            .lines()
            .filter(|line| line.contains("web-7 ") || line.contains("db-1 "))
            .map(|line| line.chars().filter(|c| "█▓▒░≈·-x?".contains(*c)).count())
            .collect();
        // Hyphens of the names count too, equally many in both.
        assert!(bars.len() >= 2 && bars[0] == bars[1], "{width}: {bars:?}\n{screen}");
    }
}

#[test]
fn numbers_stand_beside_their_picture_where_they_are_asked_for_or_there_is_room() {
    let head = |desk: &mut Desk| desk.glyphs().lines().nth(2).unwrap_or_default().to_owned();
    let mut desk = desk(5, (120, 40), true);
    assert!(!head(&mut desk).contains("poll"));
    desk.state.act(Action::SortBy("poll".to_owned()));
    assert!(head(&mut desk).contains("poll▼"));
    assert!(!head(&mut desk).contains("unacc"));
    desk.size.0 = 250;
    assert!(head(&mut desk).contains("unacc"));
}
