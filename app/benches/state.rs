//! What a tick costs after it is read: applying, encoding, and making the views.
//!
//! `cargo bench -p kvmscope --bench state`. Arguments are (vCPUs, one in this many does something
//! in a tick); each has 12 reasons. Budget: reading and applying a tick of 1,000 vCPUs under
//! 20 ms, encoding it under 2 ms, a frame's views under 4 ms.

use divan::{Bencher, black_box};
use kvmscope::model::codec::{self, Part};
use kvmscope::model::hist::Hist;
use kvmscope::model::history::History;
use kvmscope::model::ids::VmId;
use kvmscope::model::session::Session;
use kvmscope::model::tick::Tick;
use kvmscope::source::Msg;
use kvmscope::source::synth::{Generator, plan::Plan};
use kvmscope::state::{Action, Limits, State};
use std::time::Duration;

fn main() {
    divan::main();
}

type Shape = (u32, u32);

const SHAPES: [Shape; 8] =
    [(1, 1), (1, 10), (100, 1), (100, 10), (1_000, 1), (1_000, 10), (4_000, 1), (4_000, 10)];
const REASONS: u32 = 12;
const SECOND: Duration = Duration::from_secs(1);

/// VMs of up to ten vCPUs.
fn generator((vcpus, one_in): Shape) -> Generator {
    let of_each = vcpus.min(10);
    let plan = Plan::uniform(vcpus / of_each, of_each, REASONS, one_in);
    Generator::new(plan, 1, &Session::default())
}

/// A state that has seen some ticks, and the generator to go on.
fn state(shape: Shape, ticks: u32) -> (State, Generator) {
    let mut generator = generator(shape);
    let mut state = State::new(Session::default(), Limits::default());
    state.act(Action::Fit(12));
    for _ in 0..ticks {
        state.apply(Msg::Tick(Box::new(generator.tick(SECOND))));
    }
    (state, generator)
}

fn one_tick(shape: Shape) -> Tick {
    let mut generator = generator(shape);
    generator.tick(SECOND);
    // The eleventh has as many vCPUs as any, whichever share is active.
    (0..10).map(|_| generator.tick(SECOND)).next_back().unwrap_or_default()
}

#[divan::bench(args = SHAPES, sample_count = 30, sample_size = 1)]
fn apply(bencher: Bencher<'_, '_>, shape: Shape) {
    let (state, generator) = state(shape, 15);
    let shared = std::cell::RefCell::new((state, generator));
    bencher
        .with_inputs(|| Msg::Tick(Box::new(shared.borrow_mut().1.tick(SECOND))))
        .bench_local_values(|msg| shared.borrow_mut().0.apply(msg));
}

#[divan::bench(args = SHAPES, sample_count = 30, sample_size = 1)]
fn encode(bencher: Bencher<'_, '_>, shape: Shape) {
    let tick = one_tick(shape);
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        codec::encode(black_box(&tick), &mut out)
    });
}

#[divan::bench(args = SHAPES, sample_count = 30, sample_size = 1)]
fn decode(bencher: Bencher<'_, '_>, shape: Shape) {
    let mut bytes = Vec::new();
    codec::encode(&one_tick(shape), &mut bytes).unwrap_or_default();
    bencher.bench_local(|| codec::decode(black_box(&bytes)));
}

/// The window of one VM of ten vCPUs out of 1,000, read from 150 encoded ticks.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn read_a_vm_from_150_ticks(bencher: Bencher<'_, '_>) {
    let mut history = History::new(1 << 30, Duration::from_secs(900));
    let mut generator = generator((1_000, 1));
    for _ in 0..150 {
        let _ = history.push(&generator.tick(SECOND));
    }
    let part = Part::vm(VmId(50), None);
    bencher.bench_local(|| {
        history.places().filter_map(|place| history.part(place, part)).flatten().count()
    });
}

/// Everything that a frame at the host's scope reads, after a tick.
#[divan::bench(args = [(100, 1), (1_000, 1), (4_000, 1)], sample_count = 20, sample_size = 1)]
fn host_views(bencher: Bencher<'_, '_>, shape: Shape) {
    views(bencher, shape, &[]);
}

/// The same where colour means p99.
#[divan::bench(args = [(1_000, 1)], sample_count = 20, sample_size = 1)]
fn host_views_p99(bencher: Bencher<'_, '_>, shape: Shape) {
    views(bencher, shape, &[Action::ColourNext, Action::ColourNext]);
}

/// The same where colour means change; the minute before slides along.
#[divan::bench(args = [(1_000, 1)], sample_count = 20, sample_size = 1)]
fn host_views_change(bencher: Bencher<'_, '_>, shape: Shape) {
    let colour = Action::ColourNext;
    views(bencher, shape, &[colour.clone(), colour.clone(), colour]);
}

/// Everything that a frame at a VM's scope reads, after a tick.
#[divan::bench(args = [(1_000, 1)], sample_count = 20, sample_size = 1)]
fn vm_views(bencher: Bencher<'_, '_>, shape: Shape) {
    views(bencher, shape, &[Action::Open, Action::Down]);
}

/// Everything that a frame at a reason's scope reads, after a tick.
#[divan::bench(args = [(1_000, 1)], sample_count = 20, sample_size = 1)]
fn reason_views(bencher: Bencher<'_, '_>, shape: Shape) {
    views(bencher, shape, &[Action::Open, Action::Down, Action::Open]);
}

fn views(bencher: Bencher<'_, '_>, shape: Shape, actions: &[Action]) {
    let (mut state, generator) = state(shape, 70);
    for action in actions {
        state.act(action.clone());
    }
    read(&state);
    let shared = std::cell::RefCell::new((state, generator));
    bencher
        .with_inputs(|| {
            let (state, generator) = &mut *shared.borrow_mut();
            state.apply(Msg::Tick(Box::new(generator.tick(SECOND))));
        })
        .bench_local_values(|()| read(&shared.borrow().0));
}

/// What a frame of 60 lines reads.
fn read(state: &State) -> usize {
    let rows =
        state.vm_rows().iter().take(60).map(|row| state.series(kvmscope::state::RowId::Vm(row.id)));
    let drawn: usize = rows.map(|series| series.rate.len()).sum();
    let points = state.reason_detail().map_or(0, |detail| detail.points.len());
    let map = state.heatmap().rows.len();
    drawn + points + map + state.vcpu_rows().len() + state.reason_rows().len() + state.header().vms
}

/// A quantile of a full histogram: by walking the buckets, and by hdrhistogram with two digits.
#[divan::bench]
fn quantile_by_walking(bencher: Bencher<'_, '_>) {
    let hist = full();
    bencher.bench_local(|| black_box(&hist).quantile(0.99, 0, u64::MAX));
}

#[divan::bench]
fn quantile_by_hdrhistogram(bencher: Bencher<'_, '_>) {
    let hist = full();
    let Ok(mut scratch) = hdrhistogram::Histogram::<u64>::new(2) else { return };
    bencher.bench_local(|| {
        scratch.reset();
        for (bucket, &n) in black_box(&hist).counts().iter().enumerate() {
            let _ = scratch.record_n(kvmscope_shared::hist::bucket_mid(bucket), n);
        }
        scratch.value_at_quantile(0.99)
    });
}

fn full() -> Hist {
    let mut hist = Hist::default();
    (0..kvmscope_shared::hist::BUCKETS).for_each(|bucket| hist.add(bucket, 1 + bucket as u64));
    hist
}
