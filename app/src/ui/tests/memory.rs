//! The tabs Memory, Calls and Probes.

use super::world::memory;
use super::*;
use crate::model::event::{Event as Single, EventKind};
use crate::model::ids::{VcpuKey, VmId};
use crate::model::stack::StackOf;
use crate::source::live::plan::Family;
use crate::state::events::{KEPT, List};
use crate::state::{Action, Effect, Pane, Scope, Tab, Who};

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 50)];
const ALL: [Family; 6] =
    [Family::Mmu, Family::Mmio, Family::Dirty, Family::Roots, Family::Hypercall, Family::Ioctl];

/// A host that was watched with some families on.
fn desk(vms: usize, size: (u16, u16), on: &[Family]) -> Desk {
    let mut desk = Desk::new(0, 0, size);
    desk.state = State::new(memory::with(world::session(), on), Limits::default());
    let mut world = World::new(vms);
    for _ in 0..20 {
        let mut tick = world.tick();
        if !on.is_empty() {
            memory::add(&mut tick);
        }
        desk.state.apply(Msg::Tick(Box::new(tick)));
    }
    desk
}

fn shots(name: &str, vms: usize, on: &[Family], keys: &str) {
    for size in SIZES {
        let mut desk = desk(vms, size, on);
        desk.press(keys);
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), desk.shot());
    }
}

#[test]
fn memory_of_the_host() {
    shots("memory_host", 5, &ALL, "2");
}

#[test]
fn memory_of_a_host_with_one_vm() {
    shots("memory_host_one", 1, &ALL, "2");
}

#[test]
fn memory_of_a_host_with_forty_vms() {
    shots("memory_host_forty", 40, &ALL, "2 down down");
}

#[test]
fn memory_of_a_vm() {
    shots("memory_vm", 5, &ALL, "2 down enter down");
}

#[test]
fn memory_of_a_vcpu() {
    shots("memory_vcpu", 5, &ALL, "2 down enter down down enter");
}

#[test]
fn memory_of_a_reason() {
    shots("memory_reason", 2, &ALL, "enter down right enter 2");
}

#[test]
fn memory_that_is_not_watched() {
    shots("memory_off", 2, &[], "2");
}

#[test]
fn every_pane_of_memory_has_its_turn_on_a_small_screen() {
    let mut desk = desk(5, (80, 24), &ALL);
    desk.press("2");
    for (pane, title) in [
        (Pane::Faults, "page faults by kind"),
        (Pane::Mmio, "MMIO by address"),
        (Pane::Pages, "hottest pages"),
        (Pane::Dirty, "dirty pages"),
        (Pane::Roots, "MMU roots"),
        (Pane::Stacks, "callers of load_mmu_pgd"),
        (Pane::Events, "single events"),
    ] {
        desk.press("tab");
        assert_eq!(desk.state.level().pane, pane);
        assert!(desk.glyphs().contains(title), "{title}");
        insta::assert_snapshot!(format!("memory_{pane:?}_80x24"), desk.shot());
        desk.press("z");
        insta::assert_snapshot!(format!("memory_{pane:?}_alone_80x24"), desk.shot());
        desk.press("z");
    }
}

#[test]
fn calls_of_the_host() {
    shots("calls_host", 5, &ALL, "5");
}

#[test]
fn calls_of_a_host_with_one_vm() {
    shots("calls_host_one", 1, &ALL, "5");
}

#[test]
fn calls_of_a_host_with_forty_vms() {
    shots("calls_host_forty", 40, &ALL, "5 tab down");
}

#[test]
fn calls_of_a_vm() {
    shots("calls_vm", 5, &ALL, "5 down enter");
}

#[test]
fn calls_of_a_vcpu() {
    shots("calls_vcpu", 5, &ALL, "5 enter down enter");
}

#[test]
fn calls_that_are_not_watched() {
    shots("calls_off", 2, &[], "5");
}

#[test]
fn every_pane_of_calls_has_its_turn_on_a_small_screen() {
    let mut desk = desk(5, (80, 24), &ALL);
    desk.press("5");
    for pane in [Pane::Hypercalls, Pane::Ioctls, Pane::Slots, Pane::Calls, Pane::Told] {
        desk.press("tab");
        assert_eq!(desk.state.level().pane, pane);
        insta::assert_snapshot!(format!("calls_{pane:?}_80x24"), desk.shot());
    }
}

#[test]
fn probes() {
    shots("probes", 2, &[Family::Mmu, Family::Ioctl], "0 down down down");
}

#[test]
fn probes_that_failed_say_why() {
    let mut desk = desk(2, (80, 24), &[Family::Mmu]);
    let mut session = memory::with(world::session(), &[Family::Mmu]);
    for probe in session.probes.iter_mut().filter(|probe| probe.family == "mmio") {
        let why = "this kernel has no tracepoint kvm:kvm_mmio; MMIO by address is not shown";
        probe.why = (probe.name == "kvm:kvm_mmio").then(|| why.to_owned());
        probe.attached = probe.name != "kvm:kvm_mmio";
    }
    desk.state.apply(Msg::Session(Box::new(session)));
    desk.press("0");
    let at = desk.state.probe_rows().iter().position(|row| row.is_trouble()).expect("one");
    desk.state.act(Action::SelectIn(Pane::Probes, at));
    insta::assert_snapshot!("probes_failed", desk.shot());
}

#[test]
fn probes_without_any_vm() {
    let mut desk = desk(0, (80, 24), &[]);
    assert!(desk.press("0").glyphs().contains("kvm:kvm_page_fault"));
}

#[test]
fn ascii_and_no_color() {
    let mut desk = desk(5, (120, 40), &ALL).themed(ThemeName::Mono, true);
    for keys in ["2", "tab", "tab z", "z 5", "enter down enter", "0", "?"] {
        let screen = desk.press(keys).glyphs();
        assert!(screen.is_ascii(), "{screen}");
    }
}

/// What a key asks of the outside.
fn effects(desk: &mut Desk, key: &str) -> Vec<Effect> {
    desk.draw();
    let key = Key::parse(key).expect(key);
    let event = Event::Key(KeyEvent::new(key.code, key.modifiers));
    let Input::Act(actions) = input(&event, &desk.state, &mut desk.view) else {
        return Vec::new();
    };
    actions.into_iter().flat_map(|a| desk.state.act(a)).collect()
}

/// What the state asks of the source.
fn asked(desk: &mut Desk, key: &str) -> Vec<(Family, bool)> {
    let family = |effect| match effect {
        Effect::Family(family, on) => Some((family, on)),
        _ => None,
    };
    effects(desk, key).into_iter().filter_map(family).collect()
}

#[test]
fn a_tab_attaches_what_it_shows_and_detaches_it_when_it_is_left() {
    let mut desk = desk(2, (120, 40), &[]);
    assert_eq!(asked(&mut desk, "2"), [(Family::Mmu, true), (Family::Mmio, true)]);
    assert_eq!(desk.view.message.as_deref(), Some("this tab attaches mmu and mmio"));
    assert!(desk.glyphs().contains("attaching the probes of mmu"));
    let session = memory::with(world::session(), &[Family::Mmu, Family::Mmio]);
    desk.state.apply(Msg::Session(Box::new(session)));
    assert!(desk.glyphs().contains("no page fault here in the last 10s"));
    let off = [(Family::Mmu, false), (Family::Mmio, false), (Family::Hypercall, true)];
    assert_eq!(asked(&mut desk, "5"), off);
    desk.state.apply(Msg::Session(Box::new(memory::with(world::session(), &[]))));
    assert_eq!(asked(&mut desk, "1"), [(Family::Hypercall, false)]);
}

#[test]
fn what_was_asked_for_at_the_start_stays() {
    let mut desk = desk(2, (120, 40), &[Family::Mmu]);
    assert_eq!(asked(&mut desk, "2"), [(Family::Mmio, true)]);
    assert_eq!(asked(&mut desk, "1"), [(Family::Mmio, false)]);
}

#[test]
fn a_family_is_switched_by_hand_and_stays_so() {
    let mut desk = desk(2, (120, 40), &[]);
    desk.press("0");
    let row = |desk: &Desk, family: Family| {
        let of = |row: &crate::state::probes::ProbeRow| row.known == Some(family);
        desk.state.probe_rows().iter().position(of).expect("its row")
    };
    let at = row(&desk, Family::Mmu);
    desk.state.act(Action::SelectIn(Pane::Probes, at));
    assert_eq!(asked(&mut desk, "space"), [(Family::Mmu, true)]);
    let said = desk.view.message.clone().expect("a message");
    assert_eq!(said, "attaching mmu");
    assert!(desk.glyphs().contains("it costs 670 instructions for each page fault of a guest"));
    desk.state.apply(Msg::Session(Box::new(memory::with(world::session(), &[Family::Mmu]))));
    assert_eq!(asked(&mut desk, "2"), [(Family::Mmio, true)]);
    assert_eq!(asked(&mut desk, "0"), [(Family::Mmio, false)], "mmu was switched by hand");
    assert_eq!(asked(&mut desk, "enter"), [(Family::Mmu, false)]);
    desk.state.apply(Msg::Session(Box::new(memory::with(world::session(), &[]))));
    assert_eq!(asked(&mut desk, "2"), [(Family::Mmio, true)], "off stays off");
    assert!(desk.glyphs().contains("It costs 670 instructions for each"));
    desk.press("0");
    let at = row(&desk, Family::Base);
    desk.state.act(Action::SelectIn(Pane::Probes, at));
    assert_eq!(asked(&mut desk, "enter"), []);
}

/// That logging is off is said where KVM marked pages and no slot logs them, and only there.
#[test]
fn dirty_logging_that_is_off_is_told_from_a_family_that_is() {
    let off = "dirty logging is off";
    let mut desk = desk(1, (160, 50), &ALL);
    assert!(desk.press("2").glyphs().contains(off));
    let mut desk = self::desk(1, (160, 50), &[Family::Mmu]);
    assert!(!desk.press("2").glyphs().contains(off));
    // The fourth VM marks none at all, the second logs.
    let mut desk = self::desk(4, (160, 50), &ALL);
    desk.press("2");
    to_vm(&mut desk, VmId(4));
    desk.state.act(Action::Focus(Pane::Dirty));
    let screen = desk.glyphs();
    assert!(screen.contains("KVM marked no page as dirty") && !screen.contains(off), "{screen}");
    to_vm(&mut desk, VmId(2));
    desk.state.act(Action::Focus(Pane::Dirty));
    let screen = desk.glyphs();
    assert!(screen.contains("PML full") && !screen.contains(off), "{screen}");
}

fn to_vm(desk: &mut Desk, vm: VmId) {
    desk.state.act(Action::Back);
    let at = desk.state.vm_rows().iter().position(|row| row.id == vm).expect("there");
    desk.state.act(Action::SelectIn(Pane::Table, at));
    desk.state.act(Action::Open);
}

/// The functions whose callers the state asks for.
fn functions(desk: &mut Desk, key: &str) -> Vec<StackOf> {
    let of = |effect| match effect {
        Effect::Stacks(of) => Some(of),
        _ => None,
    };
    effects(desk, key).into_iter().filter_map(of).collect()
}

#[test]
fn a_key_counts_the_callers_of_the_next_function() {
    let mut desk = desk(1, (160, 60), &ALL);
    assert_eq!(functions(&mut desk, "f"), [], "in another tab");
    desk.press("2 ?");
    assert!(desk.glyphs().contains("count the callers of the next function"));
    desk.press("?");
    assert!(desk.glyphs().contains("f function"));
    assert_eq!(functions(&mut desk, "f"), [StackOf::MmuLoad]);
    let said = desk.view.message.clone().expect("a message");
    assert_eq!(said, "counting the callers of kvm_mmu_load");
    // What was counted of the other is not shown as its callers.
    let screen = desk.glyphs();
    assert!(screen.contains("callers of kvm_mmu_load ") && !screen.contains("kvm_mmu_new_pgd"));
    assert_eq!(functions(&mut desk, "f"), [StackOf::ResetContext], "before the source answered");
    // Back in time it is what was counted then.
    desk.press("[");
    assert!(desk.glyphs().contains("callers of load_mmu_pgd"));
}

#[test]
fn callers_that_cannot_be_counted_have_a_reason() {
    let mut desk = desk(1, (160, 50), &[]);
    desk.press("2");
    let screen = desk.glyphs();
    assert!(screen.contains("comes with the family roots, which is off"), "{screen}");
    assert!(!screen.contains("f function"));
    assert_eq!(functions(&mut desk, "f"), []);
    let mut session = memory::with(world::session(), &ALL);
    for probe in session.probes.iter_mut().filter(|probe| probe.name.starts_with("stack:")) {
        probe.attached = false;
        probe.why = Some("the kernel lets no function be probed".to_owned());
    }
    desk.state.apply(Msg::Session(Box::new(session)));
    let screen = desk.glyphs();
    assert!(screen.contains("who calls load_mmu_pgd is not shown: the kernel lets"), "{screen}");
    assert!(screen.contains("f looks at kvm_mmu_load"), "{screen}");
    assert_eq!(functions(&mut desk, "f"), [StackOf::MmuLoad]);
}

#[test]
fn an_event_opens_its_reason_and_a_page_its_vm() {
    let mut desk = desk(5, (160, 50), &ALL);
    desk.press("2");
    desk.state.act(Action::Focus(Pane::Events));
    desk.press("down");
    let event = desk.state.selected_event(Pane::Events).expect("an event").event;
    desk.press("enter");
    let key = VcpuKey { vm: event.vm, vcpu: event.vcpu.expect("of a vCPU") };
    let reason = event.reason.expect("in an exit");
    assert_eq!(desk.state.level().scope, Scope::Reason(Who::Vcpu(key), reason));
    assert_eq!(desk.state.level().tab, Tab::Exits);
    desk.press("2 esc esc esc");
    desk.state.act(Action::Focus(Pane::Pages));
    desk.press("enter");
    assert_eq!(
        (desk.state.level().scope, desk.state.level().tab),
        (Scope::Vm(VmId(1)), Tab::Memory)
    );
}

#[test]
fn the_cursor_of_a_list_stays_with_its_event() {
    let mut desk = desk(2, (80, 24), &ALL);
    desk.press("2");
    desk.state.act(Action::Focus(Pane::Events));
    desk.press("down down");
    let before = desk.state.selected_event(Pane::Events).expect("one");
    let mut world = World::new(2);
    (0..20).for_each(|_| {
        world.tick();
    });
    let mut tick = world.tick();
    memory::add(&mut tick);
    let more = tick.events.len();
    desk.state.apply(Msg::Tick(Box::new(tick)));
    let after = desk.state.selected_event(Pane::Events).expect("still there");
    assert_eq!(before, after);
    assert!(desk.state.cursor_in(Pane::Events).expect("a row") > 2 && more > 2);
    // Back in time there is none of what came later.
    desk.press("space [ [");
    let newest = desk.state.event_row(List::Memory, 0).expect("one");
    assert!(newest.unix_ns <= desk.state.header().position.end_unix_ns);
    desk.press("end g");
    assert_eq!(desk.state.cursor_in(Pane::Events), Some(0));
}

#[test]
fn scopes_have_their_own_events() {
    let mut desk = desk(5, (160, 50), &ALL);
    let of_host = desk.press("2").state.event_count(List::Memory);
    let mut sum = 0;
    for vm in 1..=5 {
        to_vm(&mut desk, VmId(vm));
        assert_eq!(desk.state.level().scope, Scope::Vm(VmId(vm)));
        let here = desk.state.event_count(List::Memory);
        for row in 0..here {
            let row = desk.state.event_row(List::Memory, row).expect("a row");
            assert_eq!(row.event.vm, VmId(vm));
        }
        sum += here;
    }
    assert_eq!(sum, of_host);
}

/// A tick with so many page faults of a vCPU.
fn flood(seq: u64, events: u64) -> crate::model::tick::Tick {
    let mut tick = World::new(2).tick();
    tick.seq = seq;
    tick.end_ns += (seq - 1) * 1_000_000_000;
    let one = |n: u64| Single {
        at_ns: tick.end_ns - events + n,
        kind: if n.is_multiple_of(3) { EventKind::Mmio } else { EventKind::Fault },
        vm: VmId(1 + (n % 2) as u32),
        vcpu: Some((n % 4) as u32),
        handling_ns: 900 + n % 512,
        rip: 0xffff_ffff_8100_0000 + n,
        args: [n << 12, 0x182, 0, 0, 0, 0],
        ..Single::default()
    };
    tick.events = (0..events).map(one).collect();
    tick
}

#[test]
fn the_log_is_bounded_and_the_oldest_leave_first() {
    let mut desk = desk(0, (80, 24), &ALL);
    desk.state = State::new(memory::with(world::session(), &ALL), Limits::default());
    for seq in 1..=13 {
        desk.state.apply(Msg::Tick(Box::new(flood(seq, 9_000))));
    }
    desk.press("2");
    assert_eq!(desk.state.event_count(List::Memory), KEPT);
    let oldest = desk.state.event_row(List::Memory, KEPT - 1).expect("the oldest");
    assert_eq!(oldest.number, 13 * 9_000 - KEPT as u64);
    desk.state.act(Action::Focus(Pane::Events));
    desk.press("G");
    assert_eq!(desk.state.cursor_in(Pane::Events), Some(KEPT - 1));
    // It leaves; the cursor goes to what is the oldest then.
    desk.state.apply(Msg::Tick(Box::new(flood(14, 9_000))));
    assert_eq!(desk.state.cursor_in(Pane::Events), Some(KEPT - 1));
    desk.press("enter esc");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any keys at any size, with ticks that come meanwhile and families that come and go.
    #[test]
    fn no_state_breaks_memory_calls_and_probes(
        width in 1u16..220,
        height in 1u16..70,
        vms in 0usize..6,
        on in prop::collection::vec(0usize..6, 0..6),
        keys in prop::collection::vec(0usize..33, 1..24),
    ) {
        const KEYS: [&str; 33] = [
            "2", "5", "0", "2", "5", "0", "1", "6", "tab", "tab", "tab", "z", "enter", "enter",
            "esc", "up", "down", "down", "pgdn", "pgup", "G", "g", "space", "[", "]", "end", "y",
            "w", "?", "x", "{", "c", "f",
        ];
        let on: Vec<Family> = on.into_iter().map(|at| ALL[at]).collect();
        let mut desk = desk(vms, (width, height), &on);
        let mut world = World::new(vms);
        for (n, key) in keys.into_iter().enumerate() {
            desk.press(KEYS[key]);
            let mut tick = world.tick();
            memory::add(&mut tick);
            tick.seq += 20;
            tick.end_ns += 20_000_000_000;
            desk.state.apply(Msg::Tick(Box::new(tick)));
            if n % 5 == 4 {
                let session = memory::with(world::session(), if n % 2 == 0 { &[] } else { &ALL });
                desk.state.apply(Msg::Session(Box::new(session)));
            }
        }
        desk.draw();
    }
}
