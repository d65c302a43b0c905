//! The maps. Their sizes are set by the loader from the host's; the numbers here are the least.
//!
//! Slots, cells and the control page are mapped by the program and read without system calls:
//! reading a map by `bpf(2)` makes the kernel skip classic tracepoint programs on that CPU
//! meanwhile, which loses events without a trace.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue, RingBuf},
};
use kvmscope_shared::{
    cell::Cell,
    conf::{Control, Limits},
    detail::{Detail, RING_BYTES},
    event::{self, EVENT_RING_BYTES},
    ioctl::{Begun, Call, Handlers, Tally},
    route::{Contexts, Route, RouteTally},
    slot::SlotEntry,
    stacks::Stacks,
    waits::{History, Waits},
};

/// The control page.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One vCPU thread each. Slot 0 is never handed out: 0 means "none".
#[map]
pub static SLOTS: Array<SlotEntry> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// `CELLS_PER_CHUNK` for each slot, then the pool.
#[map]
pub static CELLS: Array<Cell> = Array::with_max_entries(32, BPF_F_MMAPABLE);

/// One bit for each thread id of the host that has an entry in `THREADS`: what a context switch
/// of any other thread costs is two bit tests.
#[map]
pub static KNOWN: Array<u64> = Array::with_max_entries(1, 0);

/// The slot of the thread that was last seen on this CPU; verified by the slot's owner.
#[map]
pub static CACHE: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Thread id to slot, or to `IGNORED`.
#[map]
pub static THREADS: HashMap<u32, u32> = HashMap::with_max_entries(2, 0);

/// Slots that nobody uses. Filled by the loader and whenever it has read a retired slot.
#[map]
pub static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(2, 0);

/// First cells of pool chunks that nobody uses.
#[map]
pub static FREE_CHUNKS: Queue<u32> = Queue::with_max_entries(2, 0);

/// (slot, kind, code) to cell, for codes without a column.
#[map]
pub static UNKNOWN: HashMap<u64, u32> = HashMap::with_max_entries(256, 0);

/// The details of each slot.
#[map]
pub static DETAILS: Array<Detail> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// From which time on an exit is an outlier.
#[map]
pub static LIMITS: Array<Limits> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How many outliers this CPU may still tell of, in nanoseconds: a token is the time in which one
/// comes. The first is what is left, the second when it was looked at last.
#[map]
pub static TOKENS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Outliers. Nobody is woken for them: they are read with each tick.
#[map]
pub static OUTLIERS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// The same as `TOKENS`, of each kind of events.
#[map]
pub static EVENT_TOKENS: PerCpuArray<[u64; 2]> =
    PerCpuArray::with_max_entries(event::kind::COUNT as u32, 0);

/// Single events, as `OUTLIERS`.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);

/// Whom each slot's thread waited for (family `culprits`).
#[map]
pub static WAITS: Array<Waits> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// What ran on this CPU lately (family `culprits`).
#[map]
pub static HISTORY: PerCpuArray<History> = PerCpuArray::with_max_entries(1, 0);

/// Thread id to its KVM ioctl that has not ended yet (family `ioctl`, as all below).
#[map]
pub static IOCTLS_BEGUN: HashMap<u32, Begun> = HashMap::with_max_entries(2, 0);

/// Whom to row.
#[map]
pub static IOCTL_ROWS: HashMap<Call, u32> = HashMap::with_max_entries(2, 0);

/// Rows that nobody has. Row 0 is never handed out: it has the calls that found no row.
#[map]
pub static FREE_IOCTL_ROWS: Queue<u32> = Queue::with_max_entries(2, 0);

/// Whose each row is.
#[map]
pub static IOCTL_CALLS: Array<Call> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// The tallies of each row, one after the other.
#[map]
pub static IOCTL_TALLIES: Array<Tally> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// The functions by which KVM's file descriptors are known.
#[map]
pub static IOCTL_HANDLERS: Array<Handlers> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What is sent by whom to row (families `irq` and `irqchip`, as the next four).
#[map]
pub static ROUTE_ROWS: HashMap<Route, u32> = HashMap::with_max_entries(2, 0);

/// Rows that nobody has. Row 0 is never handed out: it has what found no row.
#[map]
pub static FREE_ROUTE_ROWS: Queue<u32> = Queue::with_max_entries(2, 0);

/// What each row is about.
#[map]
pub static ROUTES: Array<Route> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// The tallies of each row, one after the other.
#[map]
pub static ROUTE_TALLIES: Array<RouteTally> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// How interrupts are told from threads.
#[map]
pub static CONTEXTS: Array<Contexts> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Kernel stacks at a function, by CPU (family `roots`).
#[map]
pub static STACKS: Array<Stacks> = Array::with_max_entries(1, BPF_F_MMAPABLE);
