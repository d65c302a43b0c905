//! What is shown against the moment that the person took as the baseline.

use super::{Desk, ThemeName, World};
use crate::source::Msg;

/// Twenty ticks, the baseline, forty more.
fn desk(size: (u16, u16)) -> Desk {
    let mut desk = Desk::new(5, 0, size);
    let mut world = World::new(5);
    for tick in 0..60 {
        if tick == 20 {
            desk.press("b");
        }
        desk.state.apply(Msg::Tick(Box::new(world.tick())));
    }
    desk
}

#[test]
fn the_heat_map_is_coloured_by_the_change() {
    for size in [(80, 24), (160, 50)] {
        let name = |of: &str| format!("{of}_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name("baseline_host"), desk(size).shot());
        let mut desk = desk(size);
        insta::assert_snapshot!(name("baseline_vm"), desk.press("enter").shot());
        insta::assert_snapshot!(name("baseline_vcpu"), desk.press("tab down enter").shot());
    }
}

#[test]
fn it_reads_without_colour() {
    let mut desk = desk((160, 50)).themed(ThemeName::Mono, true);
    let text = desk.glyphs();
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("against "), "{text}");
    assert!(text.contains("--/4  - /2  ..same  + x2  ++x4  ##x8"), "{text}");
}

#[test]
fn the_same_key_forgets_it() {
    let mut desk = desk((160, 50));
    assert!(desk.glyphs().contains("change"));
    let text = desk.press("b").glyphs();
    assert!(text.contains("the baseline is forgotten"), "{text}");
    assert!(!text.contains("against ") && !text.contains("change"), "{text}");
    assert!(desk.press("b").glyphs().contains("compared with the last ten ticks"));
}
