//! What exits are about: keys noted while one is handled, charged when it ends.
//!
//! Where `kvm_exit` fires, keys and times of an exit meet at `kvm_entry`. Where it never does (a
//! paravirtual backend) there is only the time in the VMM, and which key it belongs to is known late: a
//! write is told of before KVM_RUN ends (`kvm_pio`, `kvm_mmio`, then `kvm_userspace_exit`), a read
//! after it was entered again. So the last time in the VMM waits ([`mark::DWELL`]) for the next event:
//! a read that answers it takes it, and else it is what was written before.

use crate::{element, event, maps::DETAILS, outlier, slots};
use kvmscope_shared::{
    column::{ISA_VMX, VMX_CODE_MASK},
    conf::detail as bits,
    detail::{Detail, KEYS, Key, Other, class},
    keys::{self, Open, Table, Times},
    slot::{SlotEntry, mark},
};

/// `KVM_EXIT_IO` and `KVM_EXIT_MMIO`.
const EXIT_IO: u32 = 2;
const EXIT_MMIO: u32 = 6;

/// A slot's details, each index masked.
struct Masked(&'static mut Detail);

impl Table for Masked {
    #[inline(always)]
    fn key(&mut self, entry: u32) -> &mut Key {
        element(&mut self.0.keys, u64::from(entry))
    }

    #[inline(always)]
    fn other(&mut self, class: u32) -> &mut Other {
        element(&mut self.0.others, u64::from(class))
    }
}

impl Masked {
    /// What an exit was about: class and value; the value is not known where it had no place.
    #[inline(always)]
    fn about(&mut self, open: Open) -> (u32, u64) {
        if open == 0 {
            (class::NONE, 0)
        } else if open > KEYS as u32 {
            (open - KEYS as u32, 0)
        } else {
            let key = self.key(open - 1);
            (key.class, key.value)
        }
    }

    /// Notes and charges at once.
    #[inline(always)]
    fn whole(&mut self, class: u32, cell: u32, value: u64, times: Times) {
        let open = keys::note(self, (class, cell, value), 1, [0, 0]);
        keys::charge(self, open, times);
    }
}

/// A slot's details.
#[inline(always)]
pub fn at(index: u32) -> Option<&'static mut Detail> {
    // SAFETY: array memory lives as long as the program; one writer per slot.
    DETAILS.get_ptr_mut(index).map(|detail| unsafe { &mut *detail })
}

#[inline(always)]
fn table(index: u32) -> Option<Masked> {
    at(index).map(Masked)
}

/// The current thread, if it is a vCPU's, met a key; `times` is 1, or 0 where it will be told again. Answers
/// with the vCPU's slot, or 0.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn note(class: u32, value: u64, times: u32) -> u32 {
    note_here(class, value, u64::from(times & 1)).map_or(0, |met| met.index)
}

/// The current thread, if it is a vCPU's, met a page fault: notes its page and, where that is asked for, its kind.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn note_fault(address: u64, error: u64) -> u32 {
    let Some(met) = note_here(class::PAGE, address & !0xfff, 1) else { return 0 };
    event::page_fault(met.index, met.slot, met.table.0, address, error);
    met.index
}

/// Who met a key.
struct Met {
    index: u32,
    slot: &'static mut SlotEntry,
    table: Masked,
}

#[inline(always)]
fn note_here(class: u32, value: u64, times: u64) -> Option<Met> {
    let (index, slot) = slots::known_current()?;
    let mut table = table(index)?;
    if slot.open_cell == 0 {
        let answers = answers(slot, class);
        if !answers {
            settle_with(index, slot, &mut table);
        }
        let open = keys::note(&mut table, (class, 0, value), times, [0, 0]);
        slot.open_page = 0;
        slot.open_key = open;
        slot.interrupted = mark::KEYS | slot.interrupted & mark::DWELL;
        if answers && times == 1 {
            settle_with(index, slot, &mut table);
        }
        slot.events += 1;
        return Some(Met { index, slot, table });
    }
    if slot.interrupted & mark::KEYS == 0 {
        slot.open_key = 0;
        slot.open_page = 0;
        slot.interrupted |= mark::KEYS;
    }
    let kept = [slot.open_key, slot.open_page];
    let open = keys::note(&mut table, (class, slot.open_cell, value), times, kept);
    if class == class::PAGE {
        if kept[1] == 0 {
            slot.open_page = open;
        }
    } else if kept[0] == 0 {
        slot.open_key = open;
    }
    Some(Met { index, slot, table })
}

/// The vCPU of a slot met a key that belongs to no exit: it has no reason and no times, and what an exit being
/// handled is about keeps its place.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn note_apart(index: u32, class: u32, value: u64) -> u32 {
    u32::from(note_apart_here(index, class, value).is_some())
}

#[inline(always)]
fn note_apart_here(index: u32, class: u32, value: u64) -> Option<()> {
    let kept = kept(slots::slot_at(index)?);
    keys::note(&mut table(index)?, (class, 0, value), 1, kept);
    Some(())
}

/// The same of the current thread's vCPU: answers with its slot, 0 where the thread is none.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn note_mine(class: u32, value: u64) -> u32 {
    let Some((index, slot)) = slots::known_current() else { return 0 };
    slot.events += 1;
    note_apart_here(index, class, value);
    index
}

/// The same of a page that was dirtied: its memory slot, and itself.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn note_dirty(index: u32, memslot: u64, page: u64) -> u32 {
    u32::from(note_dirty_here(index, memslot, page).is_some())
}

#[inline(always)]
fn note_dirty_here(index: u32, memslot: u64, page: u64) -> Option<()> {
    let kept = kept(slots::slot_at(index)?);
    let mut table = table(index)?;
    keys::note(&mut table, (class::DIRTY_SLOT, 0, memslot), 1, kept);
    keys::note(&mut table, (class::DIRTY_PAGE, 0, page), 1, kept);
    Some(())
}

/// A slot's vCPU was loaded on a CPU for so long, ns: noted and charged apart from any exit, as by
/// [`note_apart`].
#[inline(never)]
#[unsafe(no_mangle)]
pub fn loaded(index: u32, cpu: u32, ns: u64) -> u32 {
    u32::from(loaded_here(index, cpu, ns).is_some())
}

#[inline(always)]
fn loaded_here(index: u32, cpu: u32, ns: u64) -> Option<()> {
    let mut table = table(index)?;
    let kept = kept(slots::slot_at(index)?);
    let open = keys::note(&mut table, (class::ON_CPU, 0, u64::from(cpu)), 1, kept);
    keys::charge(&mut table, open, Times { handling: ns, off: 0, vmm: 0 });
    Some(())
}

/// What an exit being handled is about.
#[inline(always)]
fn kept(slot: &SlotEntry) -> [Open; 2] {
    if slot.interrupted & mark::KEYS == 0 { [0, 0] } else { [slot.open_key, slot.open_page] }
}

/// Whether this read is what the VMM was asked for in the time that waits.
#[inline(always)]
fn answers(slot: &SlotEntry, class: u32) -> bool {
    slot.interrupted & mark::DWELL != 0
        && (class == class::PORT_IN && slot.user_reason == EXIT_IO
            || class == class::MMIO_READ && slot.user_reason == EXIT_MMIO)
}

/// Charges the time in the VMM that waits to what was met last, if the VMM was asked for such a thing,
/// and tells of it when it is an outlier.
#[inline(always)]
fn settle_with(index: u32, slot: &mut SlotEntry, table: &mut Masked) {
    let marks = slot.interrupted;
    slot.interrupted = 0;
    if marks & mark::DWELL == 0 {
        return;
    }
    let mut about = (class::NONE, 0);
    if marks & mark::KEYS != 0 {
        let met = table.about(slot.open_key);
        let asked = match met.0 {
            class::PORT_IN | class::PORT_OUT => EXIT_IO,
            class::MMIO_READ | class::MMIO_WRITE => EXIT_MMIO,
            _ => 0,
        };
        if asked != 0 && slot.user_reason == asked {
            let times = Times { handling: 0, off: 0, vmm: slot.exit_vmm_ns };
            keys::charge(table, slot.open_key, times);
            about = met;
        }
    }
    outlier::tell_dwell(index, about.0, about.1);
}

/// The same for the current thread, whose next exit to user space begins.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn settle() -> u32 {
    let Some((index, slot)) = slots::known_current() else { return 0 };
    settle_slot(index, slot);
    0
}

/// The same for a slot.
#[inline(always)]
pub fn settle_slot(index: u32, slot: &mut SlotEntry) {
    if slot.open_cell == 0
        && slot.interrupted & mark::DWELL != 0
        && let Some(mut table) = table(index)
    {
        // What was met last stays: it may be what is asked for now.
        let keys = slot.interrupted & mark::KEYS;
        settle_with(index, slot, &mut table);
        slot.interrupted = keys;
    }
}

/// The exit of cell `number`, of the current thread, ended after these times: charges what it was
/// about, and tells of it when it is an outlier.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn finish(number: u32, handling: u64, off: u64, vmm: u64) -> u32 {
    u32::from(finish_here(number, Times { handling, off, vmm }).is_some())
}

#[inline(always)]
fn finish_here(number: u32, times: Times) -> Option<()> {
    let index = slots::remembered();
    let slot = slots::slot_at(index)?;
    let mut table = table(index)?;
    let control = slots::control()?;
    let mut open = 0;
    if slot.interrupted & mark::KEYS != 0 {
        let (thing, page) = (slot.open_key, slot.open_page);
        open = if thing == 0 { page } else { thing };
        keys::charge(&mut table, thing, times);
        keys::charge(&mut table, page, times);
        event::ended(control, (index, slot), table.0, number, times);
    }
    if times.wall() >= control.outlier_ns {
        outlier::tell(index, slot, number, times, table.about(open));
    }
    let details = control.details;
    if details & bits::RIP != 0 {
        table.whole(class::RIP, number, slot.rip, times);
    }
    if details & bits::VECTOR != 0
        && let Some(vector) = vector(slot)
    {
        table.whole(class::VECTOR, number, vector, times);
    }
    Some(())
}

/// Vector and type of what made a VMX exit for an exception, NMI or interrupt (reasons 0 and 1).
#[inline(always)]
fn vector(slot: &SlotEntry) -> Option<u64> {
    const VALID: u32 = 1 << 31;
    let made =
        slot.isa == ISA_VMX && slot.exit_reason & VMX_CODE_MASK <= 1 && slot.intr_info & VALID != 0;
    made.then_some(u64::from(slot.intr_info & 0x7ff))
}
