//! The meters of a slot: wake-ups, and what is common to all of them.

use crate::{element, event, facts, maps::METERS, slots};
use kvmscope_shared::{
    cell::Extremes,
    event::kind,
    hist::quick_bucket_of,
    meters::{Meters, meter},
};

/// A slot's meters.
#[inline(always)]
pub fn at(index: u32) -> Option<&'static mut Meters> {
    // SAFETY: array memory lives as long as the program; one writer per slot.
    METERS.get_ptr_mut(index).map(|meters| unsafe { &mut *meters })
}

/// One more of a slot's meter ([`kvmscope_shared::meters::meter`]).
#[inline(never)]
#[unsafe(no_mangle)]
pub fn meter(index: u32, which: u32, amount: u64) -> u32 {
    let Some(meters) = at(index) else { return 0 };
    let meter = element(&mut meters.meters, u64::from(which));
    meter.count += 1;
    meter.total_ns += amount;
    let bucket = quick_bucket_of(amount, facts::quick_bucket);
    *element(&mut meter.hist, bucket as u64) += 1;
    // As `state::time`, which every exit pays for and which is not the same code for that.
    let epoch = slots::epoch();
    let bank = element(&mut meter.extremes, epoch);
    if bank.epoch != epoch {
        *bank = Extremes { epoch, min_ns: amount, max_ns: amount };
    } else {
        bank.max_ns = bank.max_ns.max(amount);
        bank.min_ns = bank.min_ns.min(amount);
    }
    1
}

/// A slot's halted vCPU, of the current thread, went on after so long, ns (family `wakeup`).
#[inline(never)]
#[unsafe(no_mangle)]
pub fn woke(index: u32, ns: u64, slept: u32, valid: u32) -> u32 {
    let which = if slept == 0 { meter::POLLED } else { meter::SLEPT };
    const { assert!(meter::POLLED_IDLE == meter::POLLED + 1 && meter::SLEPT_IDLE == meter::SLEPT + 1) };
    meter(index, which as u32 + u32::from(valid == 0), ns);
    event::tell_now(index, kind::WAKEUP, [ns, u64::from(slept), u64::from(valid), 0, 0, 0]);
    1
}

/// A thread that was one slot's is another's now: KVM_RUN began for the vCPU of the latter.
#[inline(always)]
pub fn hand_over(from: u32, to: u32) {
    let Some(from) = at(from) else { return };
    let (ns, cpu, node) = (from.loaded_ns, from.loaded_cpu, from.loaded_node);
    from.loaded_ns = 0;
    if let Some(to) = at(to) {
        (to.loaded_ns, to.loaded_cpu, to.loaded_node) = (ns, cpu, node);
    }
}
