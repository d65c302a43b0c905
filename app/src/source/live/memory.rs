//! The probes' maps as this program sees them: mapped, read without system calls.
//!
//! `unsafe` lives here and nowhere else in the live source, but for one `bpf(2)` call in
//! [`super::missed`]. Invariants: a mapping is as long as its array and lives as long as the
//! value; elements are integers, valid whatever their bits; the kernel writes them meanwhile, so
//! they are read with volatile loads and a reader must expect fields of different moments.
#![allow(unsafe_code)]

pub mod ioctls;
pub mod routes;

use ioctls::IoctlMaps;
use kvmscope_shared::{
    cell::Cell,
    conf::{Control, Limits, MAX_FILTER},
    detail::{Detail, Outlier},
    event::Event,
    ioctl::{Call, Tally},
    route::{Route, RouteTally},
    slot::{Slot, SlotEntry},
    stacks::Stacks,
    waits::Waits,
};
use memmap2::{MmapOptions, MmapRaw};
use routes::RouteMaps;
use std::{io, marker::PhantomData, os::fd::AsFd, os::fd::AsRawFd};

/// What the reader needs of the maps; the tests and benchmarks have one of plain memory.
pub trait Memory {
    /// Slots, slot 0 included.
    fn slots(&self) -> u32;
    /// Cells.
    fn cells(&self) -> u32;
    /// A slot's head, fields possibly of different moments; see [`Slot::events`].
    fn slot(&self, index: u32) -> Slot;
    /// `life` of a slot.
    fn life(&self, index: u32) -> u32;
    /// `events` of a slot.
    fn events(&self, index: u32) -> u64;
    /// A cell.
    fn cell(&self, index: u32) -> Cell;
    /// Which slot and generation a cell belongs to.
    fn cell_owner(&self, index: u32) -> (u32, u32);
    /// The control page.
    fn control(&self) -> Control;
    /// Starts a new epoch.
    fn set_epoch(&mut self, epoch: u64);
    /// Clears a retired slot for reuse; its generation stays.
    fn clear_slot(&mut self, index: u32);
    /// Clears a cell of a retired slot.
    fn clear_cell(&mut self, index: u32);
    /// A slot's details, fields possibly of different moments; all zero where no family that keeps
    /// some was ever attached.
    fn detail(&self, index: u32) -> Detail;
    /// Clears the details of a retired slot.
    fn clear_detail(&mut self, index: u32);
    /// Who a slot's thread waited for (family `culprits`), fields possibly of different moments.
    /// Nobody, unless the memory keeps it.
    fn waits(&self, _index: u32) -> Waits {
        Waits::default()
    }
    /// [`Waits::total_ns`] alone.
    fn waited_ns(&self, index: u32) -> u64 {
        self.waits(index).total_ns
    }
    /// Clears them, of a slot that no thread owns.
    fn clear_waits(&mut self, _index: u32) {}
    /// Rows of KVM ioctls (family `ioctl`), row 0 included; none, unless the memory keeps them.
    fn ioctl_rows(&self) -> u32 {
        0
    }
    /// Whose a row is; thread group 0 where it is nobody's.
    fn ioctl_call(&self, _row: u32) -> Call {
        Call::default()
    }
    /// What a row's calls came to, fields possibly of different moments. Row 0 counts those that found none.
    fn ioctl_tally(&self, _row: u32) -> Tally {
        Tally::default()
    }
    /// Rows of what is sent by whom (families `irq` and `irqchip`), row 0 included; none, unless the memory
    /// keeps them.
    fn route_rows(&self) -> u32 {
        0
    }
    /// What a row is about; chip 0 where it is nobody's.
    fn route(&self, _row: u32) -> Route {
        Route::default()
    }
    /// What a row came to. Row 0 counts what found none.
    fn route_tally(&self, _row: u32) -> RouteTally {
        RouteTally::default()
    }
    /// CPUs that count kernel stacks (family `roots`).
    fn cpus(&self) -> u32 {
        0
    }
    /// The stacks of one, fields possibly of different moments.
    fn stacks(&self, _cpu: u32) -> Box<Stacks> {
        Box::default()
    }
}

/// A record of a ring buffer: any bits are one.
///
/// # Safety
///
/// Only for types of integers without padding.
pub unsafe trait Record: Copy {}
// SAFETY: integers, and the size that is asserted beside it is theirs.
unsafe impl Record for Outlier {}
// SAFETY: as above.
unsafe impl Record for Event {}

/// A record, from its bytes; `None` for another length.
pub fn record<T: Record>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as long as the structure, whose fields are integers; not read by alignment.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// A mapped BPF array.
struct Mapped<T> {
    map: MmapRaw,
    len: u32,
    of: PhantomData<T>,
}

impl<T: Copy> Mapped<T> {
    fn new(fd: impl AsFd, len: u32) -> io::Result<Self> {
        let bytes = size_of::<T>() * len as usize;
        let map = MmapOptions::new().len(bytes).map_raw(fd.as_fd().as_raw_fd())?;
        Ok(Self { map, len, of: PhantomData })
    }

    fn at(&self, index: u32) -> *mut T {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: inside the mapping, by the assertion; BPF arrays are contiguous, and elements of
        // a size that eight divides have no padding between them.
        unsafe { self.map.as_mut_ptr().cast::<T>().add(index as usize) }
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: `at` is in bounds and aligned; any bits are a value of these types.
        unsafe { self.at(index).read_volatile() }
    }
}

/// The maps of the loaded object.
pub struct Maps {
    control: Mapped<Control>,
    slots: Mapped<SlotEntry>,
    cells: Mapped<Cell>,
    details: Mapped<Detail>,
    limits: Mapped<Limits>,
    waits: Mapped<Waits>,
    ioctls: IoctlMaps,
    routes: RouteMaps,
    stacks: Mapped<Stacks>,
}

impl Maps {
    /// Maps the arrays; there are as many details and waits as slots. Fails with the kernel's error.
    #[expect(clippy::too_many_arguments, reason = "one for each map, not a concept")]
    pub fn new(
        control: impl AsFd,
        (slots, slot_count): (impl AsFd, u32),
        (cells, cell_count): (impl AsFd, u32),
        details: impl AsFd,
        limits: impl AsFd,
        waits: impl AsFd,
        (ioctls, routes): (IoctlMaps, RouteMaps),
        (stacks, cpus): (impl AsFd, u32),
    ) -> io::Result<Self> {
        let mut maps = Self {
            control: Mapped::new(control, 1)?,
            slots: Mapped::new(slots, slot_count)?,
            cells: Mapped::new(cells, cell_count)?,
            details: Mapped::new(details, slot_count)?,
            limits: Mapped::new(limits, 1)?,
            waits: Mapped::new(waits, slot_count)?,
            ioctls,
            routes,
            stacks: Mapped::new(stacks, cpus)?,
        };
        // Fresh maps are all zero, and a limit of 0 would make an outlier of every exit.
        maps.set_limits(&Limits::default());
        Ok(maps)
    }

    /// The maps of family `ioctl`.
    pub fn ioctls(&mut self) -> &mut IoctlMaps {
        &mut self.ioctls
    }

    /// The maps of families `irq` and `irqchip`.
    pub fn routes(&mut self) -> &mut RouteMaps {
        &mut self.routes
    }

    /// Before the family `culprits` is attached again: what threads waited in between is not told,
    /// as who ran then is not known.
    pub fn begin_waits(&mut self) {
        for index in 0..self.waits.len {
            // SAFETY: in bounds; its only writer is not attached.
            unsafe { (&raw mut (*self.waits.at(index)).mark_ns).write_volatile(0) }
        }
    }

    /// Forgets all stacks. While no probe counts them.
    pub fn clear_stacks(&mut self) {
        for cpu in 0..self.stacks.len {
            // SAFETY: in bounds; its only writer is not attached.
            unsafe { self.stacks.at(cpu).write_volatile(Stacks::default()) }
        }
    }

    /// Tells the probes which thread groups to watch; none is all. Before they are attached.
    /// More than [`MAX_FILTER`] are cut off.
    pub fn set_filter(&mut self, pids: &[u32]) {
        let control = self.control.at(0);
        let count = pids.len().min(MAX_FILTER);
        // SAFETY: in bounds; user space alone writes these fields.
        unsafe {
            for (i, pid) in pids.iter().take(count).enumerate() {
                (&raw mut (*control).filter[i]).write_volatile(*pid);
            }
            (&raw mut (*control).filters).write_volatile(count as u32);
        }
    }

    /// Tells the probes which details to keep at the end of an exit
    /// ([`kvmscope_shared::conf::detail`]).
    pub fn set_details(&mut self, bits: u32) {
        // SAFETY: in bounds; user space alone writes this field.
        unsafe { (&raw mut (*self.control.at(0)).details).write_volatile(bits) }
        self.set_least();
    }

    /// Tells the probes which kinds of single events to tell of
    /// ([`kvmscope_shared::conf::Control::events`]).
    pub fn set_events(&mut self, bits: u64) {
        // SAFETY: in bounds; user space alone writes this field.
        unsafe { (&raw mut (*self.control.at(0)).events).write_volatile(bits) }
    }

    /// Tells the probes whose error codes page faults have
    /// ([`kvmscope_shared::conf::Control::isa`]).
    pub fn set_isa(&mut self, isa: u32) {
        // SAFETY: in bounds; user space alone writes this field.
        unsafe { (&raw mut (*self.control.at(0)).isa).write_volatile(isa) }
    }

    /// Tells the probes which exits are outliers.
    pub fn set_limits(&mut self, limits: &Limits) {
        // SAFETY: in bounds; user space alone writes it.
        unsafe { self.limits.at(0).write_volatile(*limits) }
        self.set_least();
    }

    /// Which exits are looked at when they end: with details all of them, and else those that may be
    /// outliers. One comparison for both is what every exit pays.
    fn set_least(&mut self) {
        let details = self.control.read(0).details;
        let least = self.limits.read(0).ns.into_iter().min().unwrap_or(u64::MAX);
        let least = if details == 0 { least } else { 0 };
        // SAFETY: in bounds; user space alone writes this field.
        unsafe { (&raw mut (*self.control.at(0)).outlier_ns).write_volatile(least) }
    }
}

macro_rules! field {
    ($array:expr, $index:expr, $($field:tt)+) => {
        // SAFETY: `at` is in bounds; one aligned integer of the element.
        unsafe { (&raw const (*$array.at($index)).$($field)+).read_volatile() }
    };
}

impl Memory for Maps {
    fn slots(&self) -> u32 {
        self.slots.len
    }

    fn cells(&self) -> u32 {
        self.cells.len
    }

    fn slot(&self, index: u32) -> Slot {
        field!(self.slots, index, head)
    }

    fn life(&self, index: u32) -> u32 {
        field!(self.slots, index, head.life)
    }

    fn events(&self, index: u32) -> u64 {
        field!(self.slots, index, head.events)
    }

    fn cell(&self, index: u32) -> Cell {
        self.cells.read(index)
    }

    fn cell_owner(&self, index: u32) -> (u32, u32) {
        (field!(self.cells, index, slot), field!(self.cells, index, generation))
    }

    fn control(&self) -> Control {
        self.control.read(0)
    }

    fn set_epoch(&mut self, epoch: u64) {
        // SAFETY: in bounds; user space alone writes this field.
        unsafe { (&raw mut (*self.control.at(0)).epoch).write_volatile(epoch) }
    }

    fn clear_slot(&mut self, index: u32) {
        let cleared = SlotEntry {
            head: Slot { generation: self.slot(index).generation, ..Slot::default() },
            columns: [0; kvmscope_shared::column::COLUMNS],
        };
        // SAFETY: in bounds; no probe writes a slot that no thread owns.
        unsafe { self.slots.at(index).write_volatile(cleared) }
    }

    fn clear_cell(&mut self, index: u32) {
        // SAFETY: in bounds; no probe writes a cell of such a slot.
        unsafe { self.cells.at(index).write_volatile(Cell::default()) }
    }

    fn detail(&self, index: u32) -> Detail {
        self.details.read(index)
    }

    fn clear_detail(&mut self, index: u32) {
        // SAFETY: in bounds; no probe writes the details of a slot that no thread owns.
        unsafe { self.details.at(index).write_volatile(Detail::default()) }
    }

    fn waits(&self, index: u32) -> Waits {
        self.waits.read(index)
    }

    fn waited_ns(&self, index: u32) -> u64 {
        field!(self.waits, index, total_ns)
    }

    fn clear_waits(&mut self, index: u32) {
        // SAFETY: in bounds; no probe writes the waits of such a slot.
        unsafe { self.waits.at(index).write_volatile(Waits::default()) }
    }
    fn ioctl_rows(&self) -> u32 {
        self.ioctls.rows()
    }

    fn ioctl_call(&self, row: u32) -> Call {
        self.ioctls.call(row)
    }

    fn ioctl_tally(&self, row: u32) -> Tally {
        self.ioctls.tally(row)
    }

    fn route_rows(&self) -> u32 {
        self.routes.rows()
    }

    fn route(&self, row: u32) -> Route {
        self.routes.route(row)
    }

    fn route_tally(&self, row: u32) -> RouteTally {
        self.routes.tally(row)
    }

    fn cpus(&self) -> u32 {
        self.stacks.len
    }

    fn stacks(&self, cpu: u32) -> Box<Stacks> {
        Box::new(self.stacks.read(cpu))
    }
}
