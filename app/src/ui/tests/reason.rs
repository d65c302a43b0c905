//! What exits were about, on the screen.

use super::world::keys;
use super::*;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (160, 50)];

/// A host whose exits are told closely.
fn desk(size: (u16, u16)) -> Desk {
    let mut desk = Desk::new(0, 0, size);
    desk.state = State::new(keys::attached(world::session()), Limits::default());
    let mut world = World::new(5);
    for _ in 0..60 {
        let mut tick = world.tick();
        keys::add(&mut tick);
        desk.state.apply(Msg::Tick(Box::new(tick)));
    }
    desk
}

/// Presses keys, then goes to the reason of this name.
fn open(desk: &mut Desk, keys: &str, reason: &str) {
    desk.press(keys);
    let rows = desk.state.reason_rows();
    let at = rows.iter().position(|row| row.name == reason).expect("the reason");
    desk.state.act(crate::state::Action::Select(at));
    desk.press("enter");
}

const VCPU: &str = "enter tab down enter";
const DB_VCPU: &str = "down enter tab down enter";
const DB_ALL: &str = "down enter tab enter";

#[test]
fn keys_of_a_reason() {
    for size in SIZES {
        let mut desk = desk(size);
        open(&mut desk, DB_VCPU, "IO_INSTRUCTION");
        insta::assert_snapshot!(format!("keys_{}x{}", size.0, size.1), desk.press("down").shot());
    }
}

#[test]
fn keys_of_all_vcpus() {
    for size in SIZES {
        let mut desk = desk(size);
        open(&mut desk, DB_ALL, "EPT_MISCONFIG");
        insta::assert_snapshot!(format!("keys_all_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn guest_code_where_nothing_else_is_known() {
    let mut desk = desk((120, 40));
    open(&mut desk, VCPU, "HLT");
    insta::assert_snapshot!("keys_none_120x40", desk.shot());
}

#[test]
fn reasons_say_what_they_are_about() {
    for size in SIZES {
        let mut desk = desk(size);
        desk.press(DB_VCPU);
        insta::assert_snapshot!(format!("keys_vcpu_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn a_cell_says_what_it_is_about() {
    for size in SIZES {
        let mut desk = desk(size);
        desk.press("down enter");
        insta::assert_snapshot!(format!("keys_cell_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn without_colour_and_in_ascii() {
    let mut desk = desk((80, 24)).themed(ThemeName::Mono, true);
    open(&mut desk, VCPU, "MSR_WRITE");
    let screen = desk.glyphs();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!("keys_ascii_80x24", desk.shot());
}

#[test]
fn why_there_are_no_keys() {
    let mut desk = Desk::new(2, 30, (80, 24));
    open(&mut desk, VCPU, "MSR_WRITE");
    assert!(desk.glyphs().contains("attaching the probes that tell"), "{}", desk.glyphs());
    let mut session = keys::attached(world::session());
    for probe in session.probes.iter_mut().filter(|probe| probe.family == "detail") {
        probe.attached = false;
        probe.why = Some("this kernel has no BTF".to_owned());
    }
    desk.state.apply(Msg::Session(Box::new(session)));
    insta::assert_snapshot!("keys_off_80x24", desk.shot());
    desk.size = (120, 40);
    assert!(desk.glyphs().contains("is not measured: this kernel has no BTF"), "{}", desk.glyphs());
}

#[test]
fn a_filter_that_hides_every_key_says_so() {
    let mut desk = desk((100, 30));
    open(&mut desk, VCPU, "MSR_WRITE");
    desk.press("/ n o n e enter");
    let screen = desk.glyphs();
    assert!(screen.contains("no key matches the filter") && screen.contains("5 hidden by none"));
}

#[test]
fn large_counts_do_not_touch_what_is_beside_them() {
    let mut desk = Desk::new(0, 0, (120, 40));
    let mut world = World::new(1);
    for _ in 0..3 {
        let mut tick = world.tick();
        for cell in tick.vcpus.iter_mut().flat_map(|vcpu| &mut vcpu.cells) {
            cell.count = 1_204_331_000;
        }
        desk.state.apply(Msg::Tick(Box::new(tick)));
    }
    open(&mut desk, VCPU, "MSR_WRITE");
    let screen = desk.glyphs();
    assert!(screen.contains("count          1.2G        3.6G"), "{screen}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_size_breaks_it(width in 1u16..260, height in 1u16..80, down in 0usize..9) {
        let mut desk = Desk::new(0, 0, (200, 60));
        desk.state = State::new(keys::attached(world::session()), Limits::default());
        let mut world = World::new(2);
        for _ in 0..3 {
            let mut tick = world.tick();
            keys::add(&mut tick);
            desk.state.apply(Msg::Tick(Box::new(tick)));
        }
        desk.press(DB_VCPU);
        for _ in 0..down {
            desk.press("down");
        }
        desk.size = (width, height);
        desk.press("enter down down s");
    }
}
