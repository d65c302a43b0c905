//! Lists of as many events as are kept scroll without a slow frame.

use super::world::memory;
use super::*;
use crate::model::event::{Event as Single, EventKind, LeftOut};
use crate::model::ids::{Isa, Reason, VmId};
use crate::model::tick::Tick;
use crate::source::live::plan::Family;
use crate::state::events::{KEPT, List};
use crate::state::{Action, Pane, Tab};
use rustix::time::{ClockId, clock_gettime};

/// What a frame may take, ns of the thread's own time. Without optimisation everything takes ten to twenty
/// times as long.
const BUDGET_NS: i64 = if cfg!(debug_assertions) { 320_000_000 } else { 16_000_000 };
const VMS: u64 = 40;

fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// A tick with so many events of every list, of forty VMs.
fn tick(seq: u64, events: u64) -> Tick {
    const KINDS: [EventKind; 14] = EventKind::ALL;
    let mut tick = World::new(VMS as usize).tick();
    memory::add(&mut tick);
    tick.seq = seq;
    tick.end_ns += (seq - 1) * 1_000_000_000;
    let one = |n: u64| {
        let vcpu = (n / VMS % 2) as u32;
        Single {
            at_ns: tick.end_ns - events + n,
            kind: KINDS[n as usize % KINDS.len()],
            vm: VmId(1 + (n % VMS) as u32),
            vcpu: Some(vcpu),
            reason: n.is_multiple_of(3).then_some(Reason::exit(Isa::Vmx, 48)),
            handling_ns: 900 + n % 512,
            rip: 0xffff_ffff_8100_0000 + n,
            args: [n << 12, 0x182, n << 12, 0x1000, n << 20, 0],
            ..Single::default()
        }
    };
    tick.events = (0..events).map(one).collect();
    tick.events_left_out = vec![LeftOut { kind: EventKind::Fault, count: 1_000_000 }];
    tick
}

/// A desk with so many kept events.
fn desk(events: usize, size: (u16, u16)) -> Desk {
    let mut desk = Desk::new(0, 0, size);
    let on = [Family::Mmu, Family::Mmio, Family::Roots, Family::Hypercall, Family::Ioctl];
    desk.state = State::new(memory::with(world::session(), &on), Limits::default());
    for seq in 1..=20 {
        desk.state.apply(Msg::Tick(Box::new(tick(seq, (events / 20 + 1) as u64))));
    }
    desk
}

/// The longest of the frames after these keys, ns of the thread's own time, the key's own work with it.
fn longest(desk: &mut Desk, keys: &[&str]) -> (i64, String) {
    let mut worst = (0, String::new());
    for key in keys {
        let event = {
            let key = Key::parse(key).expect(key);
            Event::Key(KeyEvent::new(key.code, key.modifiers))
        };
        let begin = now_ns();
        desk.event(&event);
        desk.draw();
        let took = now_ns() - begin;
        if took > worst.0 {
            worst = (took, (*key).to_owned());
        }
    }
    worst
}

const KEYS: [&str; 16] = [
    "down", "down", "pgdn", "pgdn", "G", "up", "pgup", "g", "pgdn", "G", "[", "down", "]", "end",
    "z", "g",
];

#[test]
fn no_frame_is_slow_however_many_events_are_kept() {
    for size in [(80, 24), (160, 50)] {
        let mut desk = desk(KEPT, size);
        for (tab, pane) in [
            (Tab::Memory, Pane::Events),
            (Tab::Calls, Pane::Calls),
            (Tab::Interrupts, Pane::Injections),
            (Tab::Scheduling, Pane::Woken),
            (Tab::Calls, Pane::Slots),
            (Tab::Calls, Pane::Told),
        ] {
            desk.state.act(Action::Tab(tab));
            desk.state.act(Action::Focus(pane));
            desk.draw();
            let (took, key) = longest(&mut desk, &KEYS);
            assert!(took < BUDGET_NS, "{size:?} {pane:?} {key}: {took} ns");
            desk.press("z");
        }
        let kept: usize = [
            List::Memory,
            List::Calls,
            List::Slots,
            List::Ioctls,
            List::Interrupts,
            List::Scheduling,
        ]
        .into_iter()
        .map(|list| desk.state.event_count(list))
        .sum();
        assert_eq!(kept, KEPT, "all of them are in some list");
        // A tick comes while one stands at the end of the list.
        desk.state.act(Action::Focus(Pane::Told));
        desk.press("G");
        let more = Msg::Tick(Box::new(tick(21, 5_000)));
        let begin = now_ns();
        desk.state.apply(more);
        desk.draw();
        let took = now_ns() - begin;
        assert!(took < 2 * BUDGET_NS, "{size:?} after a tick with 5,000 more: {took} ns");
    }
}

/// What a frame takes does not grow with what is kept.
#[test]
fn a_frame_takes_as_long_with_few_events_as_with_many() {
    let of = |events: usize| {
        let mut desk = desk(events, (160, 50));
        desk.state.act(Action::Tab(Tab::Memory));
        desk.state.act(Action::Focus(Pane::Events));
        desk.draw();
        longest(&mut desk, &["down", "pgdn", "down", "pgdn"]);
        // The least of several: the first ones fill caches.
        let each = (0..6).map(|_| longest(&mut desk, &["pgdn", "down"]).0);
        each.min().expect("some")
    };
    let (few, many) = (of(2_000), of(KEPT));
    assert!(many < few * 3, "{few} ns with 2,000, {many} ns with {KEPT}");
}
