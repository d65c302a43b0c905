//! The three ways to what a `kvm_exit` record tells.
//!
//! A classic tracepoint has the record, but making it costs more than all that is done with it here. A
//! raw one has the vCPU's address; on AMD the record's fields are then in the VMCB, in `struct
//! vcpu_svm` found by BTF, and reading them there is cheaper: by probe reads, or from 6.2 on by plain
//! loads through `bpf_rdonly_cast`.

use crate::facts;
use aya_ebpf::{EbpfContext, helpers::bpf_probe_read_kernel, programs::TracePointContext};
use core::arch::asm;
use kvmscope_shared::{column::ISA_SVM, slot::NO_VCPU_ID};

/// What a `kvm_exit` record tells (arch/x86/kvm/trace.h).
pub struct Exit {
    /// The reason as the hardware gave it.
    pub reason: u32,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Vendor.
    pub isa: u32,
    /// Exit qualification or EXITINFO1.
    pub info1: u64,
    /// IDT-vectoring information or EXITINFO2.
    pub info2: u64,
    /// VMX interruption information; 0 where it is not read.
    pub intr_info: u32,
    /// The vCPU's number; with a raw tracepoint its address tells it apart instead.
    pub vcpu_id: u32,
}

/// The record of a classic tracepoint.
#[inline(always)]
pub fn classic(ctx: &TracePointContext) -> Option<Exit> {
    if facts::exit_usual() == 1 {
        let record = ctx.as_ptr().cast::<u8>();
        // SAFETY: the verifier knows the record's size and refuses the program if this is outside.
        return Some(unsafe {
            Exit {
                reason: *record.add(8).cast(),
                rip: *record.add(16).cast(),
                isa: *record.add(24).cast(),
                info1: *record.add(32).cast(),
                info2: *record.add(40).cast(),
                intr_info: if facts::exit_intr() == 48 { *record.add(48).cast() } else { 0 },
                vcpu_id: *record.add(56).cast(),
            }
        });
    }
    // SAFETY: probe reads, checked by the helper.
    unsafe {
        Some(Exit {
            reason: ctx.read_at(facts::exit_reason() as usize).ok()?,
            rip: ctx.read_at(facts::exit_rip() as usize).ok()?,
            isa: ctx.read_at(facts::exit_isa() as usize).ok()?,
            info1: ctx.read_at(facts::exit_info1() as usize).ok()?,
            info2: ctx.read_at(facts::exit_info2() as usize).ok()?,
            intr_info: match facts::exit_intr() {
                0 => 0,
                at => ctx.read_at(at as usize).unwrap_or(0),
            },
            vcpu_id: ctx.read_at(facts::exit_vcpu_id() as usize).ok()?,
        })
    }
}

/// Offset of EXITCODE in the VMCB; EXITINFO1 and EXITINFO2 follow (APM volume 2, appendix B).
const VMCB_EXIT_CODE: u64 = 0x70;

/// From the VMCB by probe reads.
#[inline(always)]
pub fn svm(vcpu: u64) -> Option<Exit> {
    // SAFETY: probe reads: a wrong address is an error, not a fault.
    let (vmcb, rip) = unsafe {
        (
            bpf_probe_read_kernel((vcpu + u64::from(facts::svm_vmcb())) as *const u64).ok()?,
            bpf_probe_read_kernel((vcpu + u64::from(facts::vcpu_rip())) as *const u64).ok()?,
        )
    };
    // SAFETY: as above.
    let [code, info1, info2] =
        unsafe { bpf_probe_read_kernel((vmcb + VMCB_EXIT_CODE) as *const [u64; 3]).ok()? };
    Some(svm_exit(code, rip, info1, info2))
}

/// From the VMCB by plain loads.
#[inline(always)]
pub fn svm_cast(vcpu: u64) -> Exit {
    let vmcb = load(vcpu + u64::from(facts::svm_vmcb()));
    let rip = load(vcpu + u64::from(facts::vcpu_rip()));
    let control = cast(vmcb + VMCB_EXIT_CODE);
    // SAFETY: within `struct pt_regs`, which the verifier checks; a load that faults gives 0.
    let (code, info1, info2) = unsafe { (*control, *control.add(1), *control.add(2)) };
    svm_exit(code, rip, info1, info2)
}

#[inline(always)]
fn svm_exit(code: u64, rip: u64, info1: u64, info2: u64) -> Exit {
    Exit { reason: code as u32, rip, isa: ISA_SVM, info1, info2, intr_info: 0, vcpu_id: NO_VCPU_ID }
}

/// An integer of the kernel's memory by a plain load; 0 where there is none.
#[inline(always)]
pub fn load(address: u64) -> u64 {
    // SAFETY: as in `svm_cast`.
    unsafe { *cast(address) }
}

/// Makes an address readable as the integers of a `struct pt_regs`.
///
/// The call is written in bytes: a kfunc is called by its number in the running kernel's BTF, which the
/// loader puts in place of the number here (`app/src/source/live/kfunc.rs`).
#[inline(always)]
fn cast(address: u64) -> *const u64 {
    let object;
    // SAFETY: the calling convention: arguments in r1 and r2, the result in r0, r1 to r5 clobbered.
    unsafe {
        asm!(
            ".byte 0x85, 0x20, 0, 0, 0x63, 0x61, 0x73, 0x74",
            inlateout("r1") address => _,
            inlateout("r2") u64::from(facts::type_pt_regs()) => _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
            lateout("r0") object,
            options(nostack),
        );
    }
    object
}
