//! Which columns each table has.

use super::rows::What;
use crate::state::activity::Count;
use crate::state::signals::Gauge;

/// What a column shows, its importance (0 most), and the width it can use at most.
pub type Spec = (What, u8, u16);

/// Columns of this importance or less say in numbers what a picture shows too: they are there when
/// rows are ordered by them, and where the screen is [`WIDE`].
pub const OPTIONAL: u8 = 20;
/// From this width on there is room for numbers beside their pictures.
pub const WIDE: u16 = 230;

/// Columns of the VM table.
pub const VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vmm"), 11, 12),
    (What::Field("pid"), 14, 7),
    (What::Field("vcpus"), 7, 4),
    (What::Field("exits"), 1, 8),
    (What::Field("change"), 2, 6),
    (What::Rate, 8, 32),
    (What::Field("user"), 12, 7),
    (What::Field("p50"), 5, 5),
    (What::Field("p99"), 2, 5),
    (What::Field("max"), 6, 5),
    (What::P99, 9, 32),
    (What::Field("share"), 13, 5),
    (What::Split, 4, 40),
    (What::Share("guest"), 20, 5),
    (What::Share("kvm"), 21, 5),
    (What::Share("invmm"), 22, 5),
    (What::Share("poll"), 23, 5),
    (What::Share("halted"), 24, 5),
    (What::Share("wait"), 20, 5),
    (What::Share("other"), 25, 5),
    (What::Share("unacc"), 25, 5),
    (What::Top, 3, 28),
];

/// Columns of the vCPU table.
pub const VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("tid"), 15, 7),
    (What::Field("cpu"), 7, 4),
    (What::Field("state"), 4, 10),
    (What::Field("since"), 12, 5),
    (What::Field("exits"), 1, 8),
    (What::Field("change"), 2, 6),
    (What::Rate, 9, 32),
    (What::Field("user"), 13, 7),
    (What::Field("p50"), 6, 5),
    (What::Field("p99"), 2, 5),
    (What::Field("max"), 8, 5),
    (What::P99, 10, 32),
    (What::Field("share"), 14, 5),
    (What::Split, 5, 40),
    (What::Share("guest"), 20, 5),
    (What::Share("kvm"), 21, 5),
    (What::Share("invmm"), 22, 5),
    (What::Share("poll"), 23, 5),
    (What::Share("halted"), 24, 5),
    (What::Share("wait"), 20, 5),
    (What::Share("other"), 25, 5),
    (What::Share("unacc"), 25, 5),
    (What::Top, 3, 28),
    (What::Field("open"), 11, 5),
];

/// Columns of the VM table in the Time tab.
pub const TIME_VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vcpus"), 9, 4),
    (What::Bar, 1, 120),
    (What::Share("guest"), 3, 5),
    (What::Share("kvm"), 4, 5),
    (What::Share("invmm"), 5, 5),
    (What::Share("poll"), 6, 5),
    (What::Share("halted"), 7, 5),
    (What::Share("wait"), 2, 5),
    (What::Share("other"), 11, 5),
    (What::Share("unacc"), 12, 5),
    (What::Threads, 8, 7),
    (What::Quota, 10, 5),
];

/// Columns of the vCPU table in the Time tab.
pub const TIME_VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("cpu"), 9, 4),
    (What::Field("state"), 8, 10),
    (What::Field("since"), 10, 5),
    (What::Bar, 1, 120),
    (What::Share("guest"), 3, 5),
    (What::Share("kvm"), 4, 5),
    (What::Share("invmm"), 5, 5),
    (What::Share("poll"), 6, 5),
    (What::Share("halted"), 7, 5),
    (What::Share("wait"), 2, 5),
    (What::Share("other"), 11, 5),
    (What::Share("unacc"), 12, 5),
];

/// Columns of the VM table in the Memory tab.
pub const MEMORY_VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vcpus"), 9, 4),
    (What::Field("exits"), 8, 8),
    (What::PerSecond(Count::Faults), 2, 8),
    (What::PerSecond(Count::Mmio), 3, 7),
    (What::PerSecond(Count::MmioVmm), 4, 11),
    (What::PerSecond(Count::Dirty), 5, 7),
    (What::PerSecond(Count::Roots), 6, 7),
    (What::PerSecond(Count::Loads), 7, 7),
    (What::Split, 10, 60),
];

/// Columns of the vCPU table in the Memory tab.
pub const MEMORY_VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("cpu"), 9, 4),
    (What::Field("exits"), 8, 8),
    (What::PerSecond(Count::Faults), 2, 8),
    (What::PerSecond(Count::Mmio), 3, 7),
    (What::PerSecond(Count::MmioVmm), 4, 11),
    (What::PerSecond(Count::Dirty), 5, 7),
    (What::PerSecond(Count::Roots), 6, 7),
    (What::PerSecond(Count::Loads), 7, 7),
    (What::Split, 10, 60),
];

/// Columns of the VM table in the Calls tab.
pub const CALLS_VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vmm"), 10, 12),
    (What::Field("vcpus"), 9, 4),
    (What::Field("exits"), 8, 8),
    (What::PerSecond(Count::Hypercalls), 2, 12),
    (What::PerSecond(Count::Unknown), 4, 9),
    (What::PerSecond(Count::Ioctls), 3, 8),
    (What::PerSecond(Count::Failed), 5, 8),
    (What::Split, 11, 60),
];

/// Columns of the vCPU table in the Calls tab.
pub const CALLS_VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("cpu"), 9, 4),
    (What::Field("exits"), 8, 8),
    (What::PerSecond(Count::Hypercalls), 2, 12),
    (What::PerSecond(Count::Unknown), 4, 9),
    (What::Split, 10, 60),
];

/// Columns of the VM table in the Interrupts tab.
pub const INTERRUPTS_VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vcpus"), 9, 4),
    (What::Field("exits"), 10, 8),
    (What::PerSecond(Count::Injected), 2, 10),
    (What::Signal(Gauge::Arrived), 3, 11),
    (What::PerSecond(Count::Eois), 6, 7),
    (What::PerSecond(Count::Ipis), 4, 7),
    (What::Signal(Gauge::Expired), 5, 7),
    (What::Signal(Gauge::Sent), 7, 7),
    (What::PerSecond(Count::Exceptions), 9, 12),
    (What::Signal(Gauge::Apicv), 8, 24),
    (What::Split, 11, 60),
];

/// Columns of the vCPU table in the Interrupts tab.
pub const INTERRUPTS_VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("cpu"), 10, 4),
    (What::Field("exits"), 9, 8),
    (What::PerSecond(Count::Injected), 2, 10),
    (What::Signal(Gauge::Arrived), 3, 11),
    (What::PerSecond(Count::Eois), 6, 7),
    (What::PerSecond(Count::Ipis), 4, 7),
    (What::Signal(Gauge::Expired), 5, 7),
    (What::PerSecond(Count::Exceptions), 8, 12),
    (What::Split, 11, 60),
];

/// Columns of the VM table in the Scheduling tab.
pub const SCHEDULING_VMS: &[Spec] = &[
    (What::Field("name"), 0, 28),
    (What::Field("vcpus"), 12, 4),
    (What::Signal(Gauge::Loaded), 1, 6),
    (What::Share("wait"), 2, 5),
    (What::Share("poll"), 6, 5),
    (What::Share("halted"), 7, 5),
    (What::Signal(Gauge::Intervals), 4, 8),
    (What::Signal(Gauge::MeanInterval), 8, 9),
    (What::Signal(Gauge::LeastInterval), 11, 8),
    (What::Signal(Gauge::MostInterval), 9, 8),
    (What::Signal(Gauge::Open), 10, 9),
    (What::Signal(Gauge::Migrations), 3, 7),
    (What::Signal(Gauge::Crossings), 3, 7),
    (What::Signal(Gauge::Wakeups), 5, 10),
    (What::Split, 13, 60),
];

/// Columns of the vCPU table in the Scheduling tab.
pub const SCHEDULING_VCPUS: &[Spec] = &[
    (What::Field("name"), 0, 10),
    (What::Field("cpu"), 1, 4),
    (What::Field("state"), 6, 10),
    (What::Signal(Gauge::Loaded), 1, 6),
    (What::Share("wait"), 2, 5),
    (What::Share("poll"), 6, 5),
    (What::Share("halted"), 7, 5),
    (What::Signal(Gauge::Intervals), 4, 8),
    (What::Signal(Gauge::MeanInterval), 8, 9),
    (What::Signal(Gauge::LeastInterval), 11, 8),
    (What::Signal(Gauge::MostInterval), 9, 8),
    (What::Signal(Gauge::Open), 10, 9),
    (What::Signal(Gauge::Migrations), 3, 7),
    (What::Signal(Gauge::Crossings), 3, 7),
    (What::Signal(Gauge::Wakeups), 5, 10),
    (What::Split, 13, 60),
];

/// Columns of the reason table.
pub const REASONS: &[Spec] = &[
    (What::Field("name"), 0, 30),
    (What::Field("kind"), 2, 6),
    (What::Field("exits"), 1, 8),
    (What::Field("change"), 2, 6),
    (What::Rate, 12, 40),
    (What::Field("of_exits"), 8, 5),
    (What::Field("share"), 3, 5),
    (What::Field("count"), 13, 7),
    (What::Field("total"), 9, 6),
    (What::Field("mean"), 14, 5),
    (What::Field("min"), 15, 5),
    (What::Field("p50"), 5, 5),
    (What::Field("p90"), 10, 5),
    (What::Field("p99"), 4, 5),
    (What::Field("p999"), 11, 5),
    (What::Field("max"), 6, 5),
    (What::P99, 17, 40),
    (What::Field("off"), 7, 6),
    (What::Field("invmm"), 7, 6),
    (What::Field("open"), 16, 5),
    (What::Field("code"), 18, 6),
    (What::Key, 4, 40),
];
