//! What a frame costs after a tick, at several sizes, and what a second of the whole screen costs
//! on a large host where little happens. Drawing goes to a buffer; writing it out is the terminal's.
//!
//! `cargo bench -p kvmscope --bench frame`. Budgets: a frame under 4 ms with 1,000 vCPUs; under 16 ms with
//! 100,000 kept events; a second
//! with 1,000 idle and 100 busy vCPUs under 10 ms, which is 1% of a core.

use divan::Bencher;
use kvmscope::{
    config::Config,
    model::{
        event::{Event, EventKind},
        ids::{Isa, Reason, VmId},
        session::Session,
    },
    source::{
        Msg,
        synth::{Generator, plan::Plan},
    },
    state::{
        Action, Limits, Pane, State, Tab,
        events::{KEPT, List},
    },
    term,
    ui::{self, View},
};
use ratatui::{buffer::Buffer, layout::Rect};
use std::{cell::RefCell, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const REASONS: u32 = 12;

fn main() {
    divan::main();
}

/// A host that was watched for a while, its screen, and what goes on there.
struct Scene {
    state: State,
    view: View,
    generator: Generator,
    size: Rect,
}

impl Scene {
    fn new(vcpus: u32, one_in: u32, (width, height): (u16, u16), actions: &[Action]) -> Self {
        let of_each = vcpus.min(10);
        let plan = Plan::uniform(vcpus / of_each, of_each, REASONS, one_in);
        let generator = Generator::new(plan, 1, &Session::default());
        let state = State::new(Session::default(), Limits::default());
        let view = term::Options::new(&Config::default(), |_| None).view();
        let mut scene = Self { state, view, generator, size: Rect::new(0, 0, width, height) };
        (0..30).for_each(|_| scene.tick());
        scene.draw();
        for action in actions {
            scene.state.act(action.clone());
            scene.draw();
        }
        scene
    }

    fn tick(&mut self) {
        self.state.apply(Msg::Tick(Box::new(self.generator.tick(SECOND))));
    }

    /// A tick with so many events of two kinds told one by one.
    fn tick_with(&mut self, events: u64, kinds: [EventKind; 2]) {
        let mut tick = self.generator.tick(SECOND);
        let begin_ns = tick.end_ns - tick.dur_ns;
        let event = |n: u64| Event {
            at_ns: begin_ns + n,
            kind: kinds[usize::from(!n.is_multiple_of(4))],
            vm: VmId(1 + (n % 10) as u32),
            vcpu: Some((n % 10) as u32),
            reason: Some(Reason::exit(Isa::Vmx, 48)),
            rip: 0xffff_ffff_8100_0000 + n,
            handling_ns: 1_000 + n,
            args: [n << 12, 0x182, 0, 0, 0, 0],
            ..Event::default()
        };
        tick.events = (0..events).map(event).collect();
        self.state.apply(Msg::Tick(Box::new(tick)));
    }

    fn draw(&mut self) -> Buffer {
        let Rect { width, height, .. } = self.size;
        let columns = ui::reason_columns(width, height, &self.state, &self.view);
        self.state.act(Action::Fit(columns));
        let mut buffer = Buffer::empty(self.size);
        ui::draw(&mut buffer, &self.state, &mut self.view);
        buffer
    }
}

fn frame(bencher: Bencher<'_, '_>, vcpus: u32, size: (u16, u16), actions: &[Action]) {
    let scene = RefCell::new(Scene::new(vcpus, 1, size, actions));
    bencher
        .with_inputs(|| scene.borrow_mut().tick())
        .bench_local_values(|()| scene.borrow_mut().draw());
}

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 60)];

/// Host scope: every VM and its heat map.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn host_1000_vcpus(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    frame(bencher, 1_000, size, &[]);
}

/// Host scope of a small host.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn host_10_vcpus(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    frame(bencher, 10, size, &[]);
}

/// VM scope.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn vm_of_1000_vcpus(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    frame(bencher, 1_000, size, &[Action::Open]);
}

/// A screen with 100,000 kept events, scrolled by a row before each frame: the budget is 16 ms.
#[divan::bench(args = SIZES, sample_count = 50, sample_size = 1)]
fn scroll_100_000_events(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    let scene = RefCell::new(events(size));
    bencher
        .with_inputs(|| {
            scene.borrow_mut().state.act(Action::Down);
        })
        .bench_local_values(|()| scene.borrow_mut().draw());
}

/// The same with a key press that goes to the other end of the list, which is in the frame.
#[divan::bench(args = SIZES, sample_count = 50, sample_size = 1)]
fn jump_in_100_000_events(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    let scene = RefCell::new(events(size));
    let down = std::cell::Cell::new(false);
    bencher.bench_local(|| {
        let mut scene = scene.borrow_mut();
        down.set(!down.get());
        scene.state.act(if down.get() { Action::Bottom } else { Action::Top });
        scene.draw()
    });
}

/// A frame after a tick, with 2,000 more events in it.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn tick_with_100_000_events(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    let scene = RefCell::new(events(size));
    bencher
        .with_inputs(|| scene.borrow_mut().tick_with(2_000, MEMORY))
        .bench_local_values(|()| scene.borrow_mut().draw());
}

/// The same in the Interrupts tab.
#[divan::bench(args = SIZES, sample_count = 50, sample_size = 1)]
fn scroll_100_000_interrupts(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    let kinds = [EventKind::Route, EventKind::Injection];
    let scene = listed(size, kinds, Tab::Interrupts, Pane::Injections);
    assert_eq!(scene.state.event_count(List::Interrupts), KEPT);
    let scene = RefCell::new(scene);
    bencher
        .with_inputs(|| {
            scene.borrow_mut().state.act(Action::Down);
        })
        .bench_local_values(|()| scene.borrow_mut().draw());
}

const MEMORY: [EventKind; 2] = [EventKind::Mmio, EventKind::Fault];

/// The Memory tab with the cursor in the list of as many events as are kept.
fn events(size: (u16, u16)) -> Scene {
    let scene = listed(size, MEMORY, Tab::Memory, Pane::Events);
    assert_eq!(scene.state.event_count(List::Memory), KEPT);
    scene
}

fn listed(size: (u16, u16), kinds: [EventKind; 2], tab: Tab, pane: Pane) -> Scene {
    let mut scene = Scene::new(100, 1, size, &[]);
    (0..60).for_each(|_| scene.tick_with(2_000, kinds));
    scene.state.act(Action::Tab(tab));
    scene.state.act(Action::Focus(pane));
    scene.draw();
    scene
}

/// A second of the screen with 1,100 vCPUs of which 100 do something: one tick, one frame. Making
/// the tick is in it, which a live host does in the kernel.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn second_of_100_busy_in_1100(bencher: Bencher<'_, '_>, size: (u16, u16)) {
    let scene = RefCell::new(Scene::new(1_100, 11, size, &[]));
    bencher.bench_local(|| {
        let mut scene = scene.borrow_mut();
        scene.tick();
        scene.draw()
    });
}
