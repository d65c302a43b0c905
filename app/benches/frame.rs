//! What a frame costs after a tick, at several sizes, and what a second of the whole screen costs
//! on a large host where little happens. Drawing goes to a buffer; writing it out is the terminal's.
//!
//! `cargo bench -p kvmscope --bench frame`. Budgets: a frame under 4 ms with 1,000 vCPUs; a second
//! with 1,000 idle and 100 busy vCPUs under 10 ms, which is 1% of a core.

use divan::Bencher;
use kvmscope::{
    config::Config,
    model::session::Session,
    source::{
        Msg,
        synth::{Generator, plan::Plan},
    },
    state::{Action, Limits, State},
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
