//! What vCPUs do beside exits: wake-ups, time on CPUs, timers, halt polling; and how interrupts come to them.
//! Parts of a [`super::tick::Tick`].

use super::ids::VmId;
use kvmscope_shared::{meters, route};
use serde::{Deserialize, Serialize};

/// What is metered. The numbers are those of [`kvmscope_shared::meters::meter`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum MeterKind {
    /// Wake-ups while polling, with something to do; time halted.
    #[default]
    Polled = meters::meter::POLLED as u8,
    /// Wake-ups while polling, without.
    PolledIdle = meters::meter::POLLED_IDLE as u8,
    /// Wake-ups after sleep, with something to do.
    Slept = meters::meter::SLEPT as u8,
    /// Wake-ups after sleep, without.
    SleptIdle = meters::meter::SLEPT_IDLE as u8,
    /// Intervals loaded on one CPU.
    Loaded = meters::meter::LOADED as u8,
    /// Timers that came late, in ticks of the guest's TSC.
    Late = meters::meter::LATE as u8,
}

impl MeterKind {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Polled, Self::PolledIdle, Self::Slept, Self::SleptIdle, Self::Loaded, Self::Late];

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Polled => "polled",
            Self::PolledIdle => "polled_idle",
            Self::Slept => "slept",
            Self::SleptIdle => "slept_idle",
            Self::Loaded => "loaded",
            Self::Late => "late",
        }
    }
}

/// One meter's changes, as of [`super::tick::CellTick`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct MeterTick {
    /// Which.
    pub kind: MeterKind,
    /// How many ended in the interval.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The shortest, ns.
    pub min_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
    /// (bucket of [`kvmscope_shared::hist`], how many), ascending, no zeros.
    pub hist: Vec<(u8, u32)>,
}

/// What happened to a vCPU's timers in an interval. The fields are those of
/// [`kvmscope_shared::meters::timer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TimerTick {
    /// The hardware's timer took over.
    pub hardware: u64,
    /// The kernel's timer took over.
    pub software: u64,
    /// Deadlines written.
    pub deadlines: u64,
    /// Deadlines taken back (0 written).
    pub disarmed: u64,
    /// One-shot counters started.
    pub one_shot: u64,
    /// Periodic counters started.
    pub periodic: u64,
    /// Its interrupt was delivered.
    pub expired: u64,
    /// At the end: whether the hardware's timer is in use; `None` where not known.
    pub is_hardware: Option<bool>,
}

/// Halt polling's window in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct WindowTick {
    /// At the end, ns.
    pub now_ns: u64,
    /// Times it grew.
    pub grew: u64,
    /// Times it shrank.
    pub shrank: u64,
}

/// A vCPU's changes beside its exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct MetersTick {
    /// Meters with a change, sorted by kind.
    pub meters: Vec<MeterTick>,
    /// Timers (family `timer`); `None` where nothing happened.
    pub timers: Option<TimerTick>,
    /// Halt polling's window (family `halt-poll`); `None` where it is not known.
    pub window: Option<WindowTick>,
    /// Intervals on another CPU than the one before (family `vcpu-load`).
    pub migrations: u64,
    /// Of them, on another NUMA node.
    pub crossings: u64,
    /// At the end: how long the interval on a CPU lasts already, ns; 0 where none is open. It is not in
    /// the meter yet.
    pub loaded_open_ns: u64,
}

/// What an interrupt went through. The numbers are those of [`kvmscope_shared::route::chip`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum Chip {
    /// 8259.
    #[default]
    Pic = route::chip::PIC as u8,
    /// I/O APIC.
    Ioapic = route::chip::IOAPIC as u8,
    /// Message.
    Msi = route::chip::MSI as u8,
    /// Line of the VM (GSI).
    Line = route::chip::LINE as u8,
    /// Local APIC.
    Lapic = route::chip::LAPIC as u8,
}

impl Chip {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 5] = [Self::Pic, Self::Ioapic, Self::Msi, Self::Line, Self::Lapic];

    /// From [`kvmscope_shared::route::chip`].
    pub fn from_record(chip: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u32 == chip)
    }

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pic => "pic",
            Self::Ioapic => "ioapic",
            Self::Msi => "msi",
            Self::Line => "line",
            Self::Lapic => "lapic",
        }
    }
}

/// Who set it. The numbers are those of [`kvmscope_shared::route::sender`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum Sender {
    /// A thread of the VMM, or another of which nothing more is known.
    #[default]
    Thread = route::sender::THREAD as u8,
    /// A vCPU's thread.
    Vcpu = route::sender::VCPU as u8,
    /// A kernel thread: vhost, a worker (irqfd), the emulated timer.
    Kernel = route::sender::KERNEL as u8,
    /// An interrupt of the host, whatever thread it came over.
    Interrupt = route::sender::INTERRUPT as u8,
}

impl Sender {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Thread, Self::Vcpu, Self::Kernel, Self::Interrupt];

    /// From [`kvmscope_shared::route::sender`].
    pub fn from_record(sender: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u32 == sender)
    }

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Vcpu => "vcpu",
            Self::Kernel => "kernel",
            Self::Interrupt => "interrupt",
        }
    }
}

/// Interrupts of one kind from one sender in an interval (families `irqchip`, and `irq` for local APICs).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct RouteTick {
    /// What they went through.
    pub chip: Chip,
    /// Into which VM; `None` where that is not known.
    pub vm: Option<VmId>,
    /// Who sent them.
    pub sender: Sender,
    /// Its process; 0 where it does not matter (an interrupt of the host).
    pub pid: u32,
    /// Name of the thread.
    pub comm: String,
    /// What is meant stands with [`kvmscope_shared::route::chip`].
    pub a: u64,
    /// As `a`.
    pub b: u64,
    /// How many.
    pub count: u64,
    /// Of them: not delivered, as one like it was still waiting.
    pub coalesced: u64,
}
