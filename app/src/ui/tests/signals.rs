//! The tabs Interrupts and Scheduling.

use super::world::signals;
use super::*;
use crate::model::event::{Event as Single, EventKind};
use crate::model::ids::{VcpuKey, VmId};
use crate::source::live::plan::Family;
use crate::state::events::{KEPT, List};
use crate::state::{Action, Pane, Scope, Tab, Who};

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 50)];
const ALL: [Family; 7] = [
    Family::Irq,
    Family::Irqchip,
    Family::Timer,
    Family::HaltPoll,
    Family::Wakeup,
    Family::VcpuLoad,
    Family::Culprits,
];

fn desk(vms: usize, size: (u16, u16), on: &[Family]) -> Desk {
    let mut desk = Desk::new(0, 0, size);
    desk.state = State::new(signals::with(world::session(), on), Limits::default());
    let mut world = World::new(vms);
    for _ in 0..20 {
        let mut tick = world.tick();
        if !on.is_empty() {
            signals::add(&mut tick);
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
fn interrupts_of_the_host() {
    shots("interrupts_host", 5, &ALL, "3");
}

#[test]
fn interrupts_of_a_host_with_one_vm() {
    shots("interrupts_host_one", 1, &ALL, "3");
}

#[test]
fn interrupts_of_a_host_with_forty_vms() {
    shots("interrupts_host_forty", 40, &ALL, "3 down down");
}

#[test]
fn interrupts_of_a_vm() {
    shots("interrupts_vm", 5, &ALL, "3 down enter");
}

#[test]
fn interrupts_of_a_vcpu() {
    shots("interrupts_vcpu", 5, &ALL, "3 down enter down down enter");
}

#[test]
fn interrupts_of_a_reason() {
    shots("interrupts_reason", 2, &ALL, "enter down right enter 3");
}

#[test]
fn interrupts_that_are_not_watched() {
    shots("interrupts_off", 2, &[], "3");
}

#[test]
fn scheduling_of_the_host() {
    shots("scheduling_host", 5, &ALL, "4");
}

#[test]
fn scheduling_of_a_host_with_one_vm() {
    shots("scheduling_host_one", 1, &ALL, "4");
}

#[test]
fn scheduling_of_a_host_with_forty_vms() {
    shots("scheduling_host_forty", 40, &ALL, "4 down down");
}

#[test]
fn scheduling_of_a_vm() {
    shots("scheduling_vm", 5, &ALL, "4 down enter");
}

#[test]
fn scheduling_of_a_vcpu() {
    shots("scheduling_vcpu", 5, &ALL, "4 down enter down down enter");
}

#[test]
fn scheduling_of_a_reason() {
    shots("scheduling_reason", 2, &ALL, "enter down right enter 4");
}

#[test]
fn scheduling_that_is_not_watched() {
    shots("scheduling_off", 2, &[], "4");
}

#[test]
fn every_pane_has_its_turn_on_a_small_screen() {
    let mut desk = desk(5, (80, 24), &ALL);
    for (tab, panes) in [
        (
            "3",
            &[
                (Pane::Vectors, "vectors"),
                (Pane::Timers, "timers"),
                (Pane::Chips, "chips, and who sends"),
                (Pane::Ipis, "IPIs, who to whom"),
                (Pane::Injections, "log of interrupts"),
            ][..],
        ),
        (
            "4",
            &[
                (Pane::OnCpus, "time on CPUs"),
                (Pane::Takers, "who ran while"),
                (Pane::Polling, "halt polling"),
                (Pane::Wakeups, "wake-ups from halts"),
                (Pane::Woken, "log of wake-ups"),
            ],
        ),
    ] {
        desk.press(tab);
        for &(pane, title) in panes {
            desk.press("tab");
            assert_eq!(desk.state.level().pane, pane);
            assert!(desk.glyphs().contains(title), "{title}");
            insta::assert_snapshot!(format!("signals_{pane:?}_80x24"), desk.shot());
            desk.press("z");
            insta::assert_snapshot!(format!("signals_{pane:?}_alone_80x24"), desk.shot());
            desk.press("z");
        }
    }
}

#[test]
fn ascii_and_no_color() {
    let mut desk = desk(5, (120, 40), &ALL).themed(ThemeName::Mono, true);
    for keys in ["3", "tab", "tab z", "z 4", "tab", "tab", "tab", "tab", "enter down enter", "?"] {
        let screen = desk.press(keys).glyphs();
        assert!(screen.is_ascii(), "{screen}");
    }
}

#[test]
fn a_tab_attaches_what_it_shows() {
    let mut desk = desk(2, (120, 40), &[]);
    desk.press("3");
    assert_eq!(desk.view.message.as_deref(), Some("this tab attaches irq, timer and irqchip"));
    assert!(desk.glyphs().contains("attaching the probes of irq"));
    desk.press("4");
    assert_eq!(desk.view.message.as_deref(), Some("this tab attaches wakeup and vcpu-load"));
    let session = signals::with(world::session(), &[Family::Wakeup, Family::VcpuLoad]);
    desk.state.apply(Msg::Session(Box::new(session)));
    assert!(desk.glyphs().contains("no vCPU was loaded on a CPU here in the last 10s"));
}

/// What comes to a vCPU is told by the threads of others, and is not what its own thread delivers.
#[test]
fn a_vcpu_shows_what_came_to_it() {
    let mut desk = desk(1, (160, 50), &ALL);
    desk.press("3 enter down enter");
    let key = VcpuKey { vm: VmId(1), vcpu: 0 };
    assert_eq!(desk.state.level().scope, Scope::Reasons(Who::Vcpu(key)));
    let row = |vector: u64| {
        let of =
            |row: &&crate::state::signals::VectorRow| row.vector == Some(vector) && !row.exception;
        desk.state.vectors().rows.iter().find(of).cloned().expect("a row")
    };
    assert_eq!(row(0xec).delivered, 1_000.0);
    // vCPU 1 sends it half as often as vCPU 0 sends its own.
    assert_eq!((row(0xfd).delivered, row(0xfd).injected), (166.0, 333.0));
    assert_eq!(row(0xec).again, 21.0);
    assert_eq!(row(0x1234_5678).what, "0x12345678, no vector");
}

#[test]
fn deliveries_of_the_hardware_are_said_and_counted_once() {
    let mut desk = desk(2, (160, 50), &ALL);
    desk.press("3 down enter");
    assert!(desk.glyphs().contains("by the hardware"));
    let found = desk.state.vectors();
    assert!(found.posted > 0.0 && found.posted <= found.delivered && found.injected < found.posted);
}

#[test]
fn who_delivers_is_told_as_it_was() {
    let mut desk = desk(2, (160, 50), &ALL);
    assert!(desk.press("3").glyphs().contains("inhibited: IRQWIN"));
    assert_eq!(desk.state.apicv_of(VmId(2)).as_deref(), Some("on"));
    desk.press("{ [ [ [");
    assert_eq!(desk.state.apicv_of(VmId(1)).as_deref(), Some("on"), "in the seventh tick");
}

/// A vCPU is on no CPU for longer than there was time, open interval included.
#[test]
fn nobody_is_on_cpus_longer_than_there_was_time() {
    let mut desk = desk(5, (160, 50), &ALL);
    desk.press("4 down enter");
    for row in &desk.state.on_cpus().rows {
        let whole: f64 = row.cpus.iter().map(|(_, share)| share).sum::<f64>() + row.other;
        assert!(whole > 0.0 && whole <= 1.0 + 1e-9, "{row:?}");
    }
    assert!(desk.glyphs().contains("most on"));
}

#[test]
fn an_unknown_vm_is_said_to_be_unknown() {
    let mut desk = desk(2, (160, 50), &ALL);
    let screen = desk.press("3").glyphs();
    assert!(screen.contains("unknown"), "{screen}");
    desk.state.act(Action::Focus(Pane::Chips));
    let at = desk.state.chips().iter().position(|row| row.route.vm.is_none()).expect("one");
    desk.state.act(Action::SelectIn(Pane::Chips, at));
    assert_eq!(desk.state.list_target(Pane::Chips), None);
}

#[test]
fn a_row_opens_whose_it_is() {
    let mut desk = desk(5, (160, 50), &ALL);
    desk.press("4");
    desk.state.act(Action::Focus(Pane::Polling));
    let row = desk.state.polling()[0].row;
    desk.press("enter");
    let crate::state::RowId::Vm(vm) = row else { panic!("{row:?}") };
    assert_eq!(
        (desk.state.level().scope, desk.state.level().tab),
        (Scope::Vm(vm), Tab::Scheduling)
    );
}

/// A tick with so many injections and wake-ups of a vCPU.
fn flood(seq: u64, events: u64) -> crate::model::tick::Tick {
    let mut tick = World::new(2).tick();
    tick.seq = seq;
    tick.end_ns += (seq - 1) * 1_000_000_000;
    let one = |n: u64| Single {
        at_ns: tick.end_ns - events + n,
        kind: if n.is_multiple_of(3) { EventKind::Route } else { EventKind::Injection },
        vm: VmId(1 + (n % 2) as u32),
        vcpu: Some((n % 4) as u32),
        args: [n % 300, 0, n % 2, 0, 0, 0],
        ..Single::default()
    };
    tick.events = (0..events).map(one).collect();
    tick
}

#[test]
fn the_log_is_bounded_and_both_ends_are_reached() {
    let mut desk = desk(0, (80, 24), &ALL);
    desk.state = State::new(signals::with(world::session(), &ALL), Limits::default());
    for seq in 1..=13 {
        desk.state.apply(Msg::Tick(Box::new(flood(seq, 9_000))));
    }
    desk.press("3");
    assert_eq!(desk.state.event_count(List::Interrupts), KEPT);
    desk.state.act(Action::Focus(Pane::Injections));
    desk.press("G");
    assert_eq!(desk.state.cursor_in(Pane::Injections), Some(KEPT - 1));
    desk.press("enter esc g");
    assert_eq!(desk.state.cursor_in(Pane::Injections), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any keys at any size, with ticks that come meanwhile and families that come and go.
    #[test]
    fn no_state_breaks_interrupts_and_scheduling(
        width in 1u16..220,
        height in 1u16..70,
        vms in 0usize..6,
        on in prop::collection::vec(0usize..7, 0..7),
        keys in prop::collection::vec(0usize..30, 1..24),
    ) {
        const KEYS: [&str; 30] = [
            "3", "4", "3", "4", "1", "2", "tab", "tab", "tab", "z", "enter", "enter", "esc", "up",
            "down", "down", "pgdn", "pgup", "G", "g", "space", "[", "]", "end", "y", "w", "?", "x",
            "{", "c",
        ];
        let on: Vec<Family> = on.into_iter().map(|at| ALL[at]).collect();
        let mut desk = desk(vms, (width, height), &on);
        let mut world = World::new(vms);
        for (n, key) in keys.into_iter().enumerate() {
            desk.press(KEYS[key]);
            let mut tick = world.tick();
            signals::add(&mut tick);
            tick.seq += 20;
            tick.end_ns += 20_000_000_000;
            desk.state.apply(Msg::Tick(Box::new(tick)));
            if n % 5 == 4 {
                let session = signals::with(world::session(), if n % 2 == 0 { &[] } else { &ALL });
                desk.state.apply(Msg::Session(Box::new(session)));
            }
        }
        desk.draw();
    }
}
