//! What it costs to read the probes' memory into a tick and apply it: 12 reasons a vCPU.
//!
//! `cargo bench -p kvmscope --bench reader`

use divan::{Bencher, black_box};
use kvmscope::{
    model::session::Session,
    source::{
        Msg,
        live::{
            identity::{Named, Names},
            memory::Memory,
            reader::{Moment, Reader},
        },
    },
    state::{Limits, State},
};
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell},
    column::ISA_VMX,
    conf::Control,
    detail::Detail,
    hist::bucket_of,
    slot::{KIND_EXIT, Slot, life, phase},
};

const SECOND: u64 = 1_000_000_000;
const REASONS: u32 = 12;
/// vCPUs, and one in how many has changed.
const HOSTS: [(u32, u32); 6] = [(1, 1), (100, 1), (1_000, 1), (1_000, 10), (4_000, 1), (4_000, 10)];

fn main() {
    divan::main();
}

/// The maps as plain memory, as long as they are for that host.
struct Plain {
    control: Control,
    slots: Vec<Slot>,
    cells: Vec<Cell>,
    details: Vec<Detail>,
    /// Where the next round's numbers come from.
    round: u64,
}

impl Plain {
    fn new(vcpus: u32) -> Self {
        let slots = vcpus + 1;
        let mut plain = Self {
            control: Control { epoch: 1, ..Control::default() },
            slots: vec![Slot::default(); slots as usize],
            cells: vec![Cell::default(); (slots * CELLS_PER_CHUNK) as usize],
            details: vec![Detail::default(); slots as usize],
            round: 0,
        };
        for index in 1..slots {
            plain.slots[index as usize] = Slot {
                owner: 1000 + index,
                life: life::LIVE,
                generation: 1,
                tgid: 100 + index / 8,
                tid: 1000 + index,
                vcpu_id: index % 8,
                start_ns: 1,
                kvm: 0xa000,
                vcpu: 0xb000,
                phase: phase::GUEST,
                cells_used: REASONS,
                ..Slot::default()
            };
            for code in 0..REASONS {
                let number = (index * CELLS_PER_CHUNK + code) as usize;
                plain.cells[number] = Cell {
                    slot: index,
                    generation: 1,
                    kind: KIND_EXIT,
                    code,
                    isa: ISA_VMX,
                    ..Cell::default()
                };
            }
        }
        plain
    }

    /// One vCPU in `one_in` makes exits of every reason, of six lengths each.
    fn work(&mut self, one_in: u32) {
        self.round += 1;
        let now = self.round * SECOND;
        for index in (1..self.slots.len()).step_by(one_in as usize) {
            let slot = &mut self.slots[index];
            slot.events += 1;
            slot.phase_ns[phase::GUEST as usize] += now - slot.since_ns;
            slot.since_ns = now;
            for code in 0..REASONS as usize {
                let cell = &mut self.cells[index * CELLS_PER_CHUNK as usize + code];
                for step in 0..6 {
                    let ns = 900 << step;
                    cell.count += 1;
                    cell.total_ns += ns;
                    cell.hist[bucket_of(ns)] += 1;
                }
                let bank = &mut cell.extremes[(self.control.epoch & 1) as usize];
                (bank.epoch, bank.min_ns, bank.max_ns) = (self.control.epoch, 900, 900 << 5);
            }
        }
    }
}

impl Memory for Plain {
    fn slots(&self) -> u32 {
        self.slots.len() as u32
    }
    fn cells(&self) -> u32 {
        self.cells.len() as u32
    }
    fn slot(&self, index: u32) -> Slot {
        self.slots[index as usize]
    }
    fn life(&self, index: u32) -> u32 {
        self.slots[index as usize].life
    }
    fn events(&self, index: u32) -> u64 {
        self.slots[index as usize].events
    }
    fn cell(&self, index: u32) -> Cell {
        self.cells[index as usize]
    }
    fn cell_owner(&self, index: u32) -> (u32, u32) {
        let cell = &self.cells[index as usize];
        (cell.slot, cell.generation)
    }
    fn control(&self) -> Control {
        self.control
    }
    fn set_epoch(&mut self, epoch: u64) {
        self.control.epoch = epoch;
    }
    fn clear_slot(&mut self, index: u32) {
        self.slots[index as usize] = Slot::default();
    }
    fn clear_cell(&mut self, index: u32) {
        self.cells[index as usize] = Cell::default();
    }
    fn detail(&self, index: u32) -> Detail {
        self.details[index as usize]
    }
    fn clear_detail(&mut self, index: u32) {
        self.details[index as usize] = Detail::default();
    }
}

/// Names without `/proc`.
struct Plainly;

impl Names for Plainly {
    fn name(&mut self, tgid: u32, _: u64, _: &str, _: u32) -> Named {
        Named { name: format!("vm-{tgid}"), ..Named::default() }
    }
    fn alive(&mut self, _: u32, _: u64) -> bool {
        true
    }
    fn vcpu_of_thread(&self, _: &str) -> Option<u32> {
        None
    }
}

/// A host that has been read twice, so that everybody is known.
fn settled(vcpus: u32, one_in: u32) -> (Plain, Reader) {
    let mut plain = Plain::new(vcpus);
    let mut reader = Reader::new(plain.slots(), 0, true);
    for round in 1..=2 {
        plain.work(one_in);
        let moment = Moment { now_ns: round * SECOND, ..Moment::default() };
        black_box(reader.tick(&mut plain, &mut Plainly, moment));
    }
    (plain, reader)
}

/// Reading alone.
#[divan::bench(args = HOSTS, sample_count = 20)]
fn read(bencher: Bencher<'_, '_>, (vcpus, one_in): (u32, u32)) {
    let (mut plain, mut reader) = settled(vcpus, one_in);
    bencher.bench_local(|| {
        // Making the numbers is a small part of what is timed.
        plain.work(one_in);
        let moment = Moment { now_ns: plain.round * SECOND, ..Moment::default() };
        reader.tick(&mut plain, &mut Plainly, moment)
    });
}

/// Reading and applying.
#[divan::bench(args = HOSTS, sample_count = 20)]
fn read_and_apply(bencher: Bencher<'_, '_>, (vcpus, one_in): (u32, u32)) {
    let (mut plain, mut reader) = settled(vcpus, one_in);
    let mut state = State::new(Session::default(), Limits::default());
    bencher.bench_local(|| {
        plain.work(one_in);
        let moment = Moment { now_ns: plain.round * SECOND, ..Moment::default() };
        let (tick, _) = reader.tick(&mut plain, &mut Plainly, moment);
        state.apply(Msg::Tick(Box::new(tick)));
    });
}
