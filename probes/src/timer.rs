//! Family `timer`: the timer of a vCPU's local APIC, as the vCPU's own thread sets it and as it expires.
//!
//! Each program is one of its own, also where other families hook the same tracepoint: it counts no key.
//! A write by an x2APIC's MSR is told of by `kvm_apic` as well, which alone is counted.

use crate::{
    element, event, facts,
    hooks::{field, hook},
    meters, slots,
};
use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    event::kind,
    meters::{LVTT_KNOWN, Meters, meter, timer, timer_now},
    slot::{NO_VCPU_ID, Slot},
};

/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6e0;
/// Registers of the local APIC (SDM volume 3, local APIC register address map).
const LVTT: u32 = 0x320;
const INITIAL_COUNT: u32 = 0x380;
/// LVTT: masked.
const MASKED: u64 = 1 << 16;

/// Counts what happened to the current vCPU's timer, and tells of it.
#[inline(never)]
#[unsafe(no_mangle)]
fn timer_does(what: u64, value: u64) -> u32 {
    let Some((index, slot)) = slots::known_current() else { return 0 };
    let Some(meters) = meters::at(index) else { return 0 };
    *element(&mut meters.timers, what) += 1;
    slot.events += 1;
    event::tell_now(index, kind::TIMER, [what, value, 0, 0, 0, 0]);
    1
}

/// The current thread's slot and meters, if it runs this vCPU. An interrupt may come over any thread.
#[inline(always)]
fn own(vcpu_id: u32) -> Option<(u32, &'static mut Slot, &'static mut Meters)> {
    let (index, slot) = slots::known_current()?;
    let same = slot.vcpu_id == vcpu_id || slot.vcpu_id == NO_VCPU_ID;
    if same { Some((index, slot, meters::at(index)?)) } else { None }
}

hook! {
    /// `kvm_hv_timer_state(vcpu_id, hv_timer_in_use)`: a timer was started, the hardware's or the kernel's.
    at "kvm_hv_timer_state": timer_state, timer_state_record => on_state(0 => 8, 1 => 12)
}

#[inline(always)]
fn on_state(vcpu_id: u32, hardware: u32) -> Option<()> {
    let (_, _, meters) = own(vcpu_id)?;
    let hardware = hardware != 0;
    meters.timer_now = if hardware { timer_now::HARDWARE } else { timer_now::SOFTWARE };
    timer_does(if hardware { timer::HARDWARE } else { timer::SOFTWARE } as u64, 0);
    Some(())
}

hook! {
    /// `kvm_msr(write, ecx, data, exception)`.
    at "kvm_msr": timer_msr, timer_msr_record => on_msr(0 => 8, 1 => 12, 2 => 16, 3 => 24)
}

#[inline(always)]
fn on_msr(write: u32, msr: u32, deadline: u64, exception: u8) {
    if write != 0 && msr == TSC_DEADLINE && exception == 0 {
        let what = if deadline == 0 { timer::DISARMED } else { timer::DEADLINE };
        timer_does(what as u64, deadline);
    }
}

hook! {
    /// `kvm_apic(rw, reg, val)`: the guest reads (0) or writes (1) a register of its local APIC.
    at "kvm_apic": timer_apic, timer_apic_record => on_apic(0 => 8, 1 => 12, 2 => 16)
}

#[inline(always)]
fn on_apic(write: u32, register: u32, value: u32) -> Option<()> {
    if write == 0 || register != LVTT && register != INITIAL_COUNT {
        return None;
    }
    let (index, slot) = slots::known_current()?;
    let meters = meters::at(index)?;
    if register == LVTT {
        meters.lvtt = LVTT_KNOWN | u64::from(value);
        return None;
    }
    // Where the mode is not known it is taken to be that of an APIC after its reset.
    let what = match (value, lvtt(slot, meters) >> 17 & 3) {
        // It stops.
        (0, _) => return None,
        (_, 0) => timer::ONE_SHOT,
        (_, 1) => timer::PERIODIC,
        // With deadlines the count has no effect.
        _ => return None,
    };
    timer_does(what as u64, u64::from(value));
    Some(())
}

/// LVTT as it is in the local APIC's page, found by BTF; else as written last, 0 if that was not seen.
#[inline(always)]
fn lvtt(slot: &Slot, meters: &mut Meters) -> u64 {
    if facts::vcpu_apic() != 0
        && slot.vcpu != 0
        && let Some(value) = read_lvtt(slot.vcpu)
    {
        meters.lvtt = LVTT_KNOWN | u64::from(value);
    }
    meters.lvtt
}

#[inline(always)]
fn read_lvtt(vcpu: u64) -> Option<u32> {
    // SAFETY: probe reads: a wrong address is an error, not a fault. The vCPU is the current thread's.
    unsafe {
        let apic = (vcpu + u64::from(facts::vcpu_apic())) as *const u64;
        let regs = bpf_probe_read_kernel(apic).ok()? + u64::from(facts::lapic_regs());
        let page = bpf_probe_read_kernel(regs as *const u64).ok()?;
        bpf_probe_read_kernel((page + u64::from(LVTT)) as *const u32).ok()
    }
}

hook! {
    /// `kvm_apic_accept_irq(apicid, dm, tm, vec)`: an interrupt is put into a local APIC. What a vCPU's own
    /// thread puts there, fixed and with the timer's vector, is the timer's.
    at "kvm_apic_accept_irq": timer_accept, timer_accept_record => on_accept(0 => 8, 1 => 12, 3 => 16)
}

#[inline(always)]
fn on_accept(vcpu_id: u32, mode: u16, vector: u8) -> Option<()> {
    if mode != 0 {
        return None;
    }
    let (_, slot, meters) = own(vcpu_id)?;
    let lvtt = lvtt(slot, meters);
    if lvtt & LVTT_KNOWN != 0 && lvtt & MASKED == 0 && lvtt as u8 == vector {
        timer_does(timer::EXPIRED as u64, u64::from(vector));
    }
    Some(())
}

hook! {
    /// `kvm_wait_lapic_expire(vcpu_id, delta)`: the guest goes on with its timer's interrupt, so many ticks of
    /// its TSC after the deadline; before it where negative, as is meant.
    at "kvm_wait_lapic_expire": timer_late, timer_late_record => on_late(0 => 8, 1 => 16)
}

#[inline(always)]
fn on_late(vcpu_id: u32, delta: u64) -> Option<()> {
    if delta.cast_signed() <= 0 {
        return None;
    }
    let (index, slot, _) = own(vcpu_id)?;
    meters::meter(index, meter::LATE as u32, delta);
    slot.events += 1;
    event::tell_now(index, kind::TIMER, [timer::LATE as u64, delta, 0, 0, 0, 0])
}
