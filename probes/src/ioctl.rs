//! Family `ioctl`: KVM's ioctls, at the beginning and the end of every system call of the host. So what
//! counts is how soon a call that is not meant is left: one comparison for most, two for other ioctls.
//!
//! Whether a descriptor is KVM's is told by the function that serves its ioctls, and its VM by what the
//! open file is about; both at each KVM ioctl, by plain loads from 6.2 on (see `record`), before by probe
//! reads. A vCPU's thread keeps its entry from call to call, as KVM_RUN comes again and again.
//!
//! x86-64: numbers and registers are those of 64-bit system calls.

use crate::{clock, event, facts, maps::*, record, slots};
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id,
        bpf_probe_read_kernel, bpf_probe_read_user,
    },
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    event::{ARGS, Event, kind},
    ioctl::{
        Begun, Call, Handlers, KVM_RUN, KVMIO, Region, SET_USER_MEMORY_REGION,
        SET_USER_MEMORY_REGION2, Tally, what,
    },
};

/// `__NR_ioctl`.
const IOCTL: u64 = 16;
/// EINTR and EAGAIN: how KVM_RUN ends when a signal comes, and when a vCPU is not started yet.
const ORDINARY: [i64; 2] = [-4, -11];
/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// Members of `struct pt_regs` (arch/x86/include/asm/ptrace.h), as integers from its beginning. They are
/// the same at a system call's end.
mod regs {
    /// The third argument.
    pub const DX: usize = 12;
    /// The second.
    pub const SI: usize = 13;
    /// The first.
    pub const DI: usize = 14;
    /// The system call's number.
    pub const ORIG_AX: usize = 15;
}

#[inline(always)]
fn is_kvms(command: u64) -> bool {
    command >> 8 & 0xff == u64::from(KVMIO)
}

/// Descriptor, command and argument of `sys_enter(regs, id)`, if it is an ioctl with KVM's type byte.
#[inline(always)]
fn kvms(ctx: &BtfTracePointContext) -> Option<(u32, u32, u64)> {
    let id: u64 = ctx.arg(1);
    if id != IOCTL {
        return None;
    }
    let regs: *const u64 = ctx.arg(0);
    // SAFETY: the verifier knows the type and checks the offset.
    let (fd, command, argument) =
        unsafe { (*regs.add(regs::DI), *regs.add(regs::SI), *regs.add(regs::DX)) };
    is_kvms(command).then_some((fd as u32, command as u32, argument))
}

/// `sys_enter` where the kernel has BTF: registers are read directly.
#[btf_tracepoint(function = "sys_enter")]
pub fn ioctl_enter_btf(ctx: BtfTracePointContext) -> i32 {
    if let Some((fd, command, argument)) = kvms(&ctx) {
        ioctl_begins(fd, command, argument);
    }
    0
}

/// The same where whatever there is can be read so.
#[btf_tracepoint(function = "sys_enter")]
pub fn ioctl_enter_cast(ctx: BtfTracePointContext) -> i32 {
    if let Some((fd, command, argument)) = kvms(&ctx) {
        ioctl_begins_cast(fd, command, argument);
    }
    0
}

/// `sys_exit(regs, result)`, as above.
#[btf_tracepoint(function = "sys_exit")]
pub fn ioctl_exit_btf(ctx: BtfTracePointContext) -> i32 {
    let regs: *const u64 = ctx.arg(0);
    // SAFETY: as above.
    let (id, command) = unsafe { (*regs.add(regs::ORIG_AX), *regs.add(regs::SI)) };
    if id == IOCTL && is_kvms(command) {
        ioctl_ends(ctx.arg(1));
    }
    0
}

/// `sys_enter` without BTF: registers are read by probe reads.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn ioctl_enter(ctx: RawTracePointContext) -> i32 {
    let id: u64 = ctx.arg(1);
    if id == IOCTL {
        let regs: *const u64 = ctx.arg(0);
        // SAFETY: a probe read: a wrong address is an error, not a fault.
        if let Ok([argument, command, fd]) =
            unsafe { bpf_probe_read_kernel(regs.wrapping_add(regs::DX).cast::<[u64; 3]>()) }
            && is_kvms(command)
        {
            ioctl_begins(fd as u32, command as u32, argument);
        }
    }
    0
}

/// `sys_exit` without BTF.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn ioctl_exit(ctx: RawTracePointContext) -> i32 {
    let regs: *const u64 = ctx.arg(0);
    // SAFETY: as above.
    if let Ok([command, _, id]) =
        unsafe { bpf_probe_read_kernel(regs.wrapping_add(regs::SI).cast::<[u64; 3]>()) }
        && id == IOCTL
        && is_kvms(command)
    {
        ioctl_ends(ctx.arg(1));
    }
    0
}

/// `sys_enter` by its record, whose program is not preempted: see `exit::kvm_fpu_record`.
#[tracepoint]
pub fn ioctl_enter_record(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr().cast::<u64>();
    // SAFETY: the verifier knows the record's size; the loader has compared the offsets.
    unsafe {
        if *record.add(1) == IOCTL && is_kvms(*record.add(3)) {
            ioctl_begins(*record.add(2) as u32, *record.add(3) as u32, *record.add(4));
        }
    }
    0
}

/// `sys_exit` by its record, which does not tell the command.
#[tracepoint]
pub fn ioctl_exit_record(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr().cast::<u64>();
    // SAFETY: as above.
    unsafe {
        if *record.add(1) == IOCTL {
            ioctl_ends(*record.add(2));
        }
    }
    0
}

/// Notes that the current thread calls an ioctl with KVM's type byte, if its descriptor is KVM's.
#[inline(never)]
#[unsafe(no_mangle)]
fn ioctl_begins(fd: u32, command: u32, argument: u64) -> u32 {
    u32::from(begins(fd, command, argument, probe).is_some())
}

/// The same by plain loads.
#[inline(never)]
#[unsafe(no_mangle)]
fn ioctl_begins_cast(fd: u32, command: u32, argument: u64) -> u32 {
    u32::from(begins(fd, command, argument, plain).is_some())
}

#[inline(always)]
fn begins(fd: u32, command: u32, argument: u64, load: Load) -> Option<()> {
    let both = bpf_get_current_pid_tgid();
    if slots::filtered_out(slots::control()?, (both >> 32) as u32) {
        return None;
    }
    let (what, kvm) = descriptor(fd, load)?;
    let tid = both as u32;
    if let Some(begun) = IOCTLS_BEGUN.get_ptr_mut(tid) {
        // SAFETY: this thread's entry, which nobody else writes. Its row stays.
        let begun = unsafe { &mut *begun };
        (begun.kvm, begun.argument, begun.command) = (kvm, argument, command);
        (begun.fd, begun.what) = (fd, what);
        begun.start_ns = clock();
        return Some(());
    }
    let begun = Begun { start_ns: clock(), kvm, argument, command, fd, what, row: 0 };
    if IOCTLS_BEGUN.insert(tid, &begun, 0).is_err() {
        slots::add(&mut tally(0)?.count, 1);
    }
    Some(())
}

/// Reads an integer of the kernel's memory.
type Load = fn(address: u64) -> Option<u64>;

#[inline(always)]
fn probe(address: u64) -> Option<u64> {
    // SAFETY: a probe read: a wrong address is an error, not a fault.
    unsafe { bpf_probe_read_kernel(address as *const u64).ok() }
}

/// What cannot be read is 0.
#[inline(always)]
fn plain(address: u64) -> Option<u64> {
    Some(record::load(address))
}

/// What a descriptor of the current thread is, and the address of its `struct kvm`; `None` when it is not
/// KVM's.
#[inline(always)]
fn descriptor(fd: u32, load: Load) -> Option<(u32, u64)> {
    // SAFETY: array memory; user space wrote it before this was attached.
    let handlers: &Handlers = unsafe { &*IOCTL_HANDLERS.get_ptr(0)? };
    if facts::files_known() == 0 || handlers.at[what::VCPU as usize] == 0 {
        return Some((what::UNKNOWN, 0));
    }
    let member = |address: u64, offset: u32| load(address + u64::from(offset));
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let table = member(member(task, facts::task_files())?, facts::files_fdt())?;
    if fd >= member(table, facts::fdt_max())? as u32 {
        return None;
    }
    let file = load(member(table, facts::fdt_fd())? + u64::from(fd) * 8)?;
    let handler = member(member(file, facts::file_op())?, facts::op_ioctl())?;
    let is = |what: u32| handler != 0 && handlers.at[what as usize] == handler;
    // A vCPU first: KVM_RUN is what comes most.
    if is(what::VCPU) {
        return Some((what::VCPU, member(member(file, facts::file_private())?, facts::vcpu_kvm())?));
    }
    if is(what::VM) {
        return Some((what::VM, member(file, facts::file_private())?));
    }
    if is(what::SYSTEM) {
        return Some((what::SYSTEM, 0));
    }
    if !is(what::DEVICE) {
        return None;
    }
    let kvm = match facts::device_kvm() {
        0 => 0,
        at => member(member(file, facts::file_private())?, at)?,
    };
    Some((what::DEVICE, kvm))
}

/// Counts the ioctl of the current thread that ends, if its beginning was seen.
#[inline(never)]
#[unsafe(no_mangle)]
fn ioctl_ends(result: u64) -> u32 {
    u32::from(ends(result.cast_signed()).is_some())
}

#[inline(always)]
fn ends(result: i64) -> Option<()> {
    let both = bpf_get_current_pid_tgid();
    let tid = both as u32;
    // SAFETY: this thread's entry, which nobody else writes.
    let entry = unsafe { &mut *IOCTLS_BEGUN.get_ptr_mut(tid)? };
    if entry.start_ns == 0 {
        return None;
    }
    let now = clock();
    // Clocks of two CPUs may differ a little.
    let took = now.wrapping_sub(entry.start_ns);
    let took = if took.cast_signed() < 0 { 0 } else { took };
    let call = Call { tgid: (both >> 32) as u32, command: entry.command, kvm: entry.kvm };
    if !has_row(&call, entry.row) {
        entry.row = row(&call);
    }
    let tally = tally(entry.row)?;
    if took > tally.max_ns {
        tally.max_ns = took;
    }
    slots::add(&mut tally.total_ns, took);
    if result < 0 {
        slots::add(&mut tally.failed, 1);
    }
    slots::add(&mut tally.count, 1);
    if entry.command != KVM_RUN || (result < 0 && !ORDINARY.contains(&result)) {
        tell(entry, both, (now, took), result);
    }
    entry.start_ns = 0;
    if !slots::known(tid) {
        // A vCPU's is removed when its thread ends.
        let _ = IOCTLS_BEGUN.remove(tid);
    }
    Some(())
}

/// Forgets a vCPU's thread that ends.
#[inline(always)]
pub fn forget(tid: u32) {
    let _ = IOCTLS_BEGUN.remove(tid);
}

/// Whether a row, as a thread remembers it, is still this call's.
#[inline(always)]
fn has_row(call: &Call, row: u32) -> bool {
    // SAFETY: array memory; row 0 is nobody's.
    IOCTL_CALLS.get_ptr(row).is_some_and(|owner| unsafe { *owner == *call })
}

/// Tells of an ioctl, and of a memory slot that it set.
#[inline(always)]
fn tell(begun: &Begun, both: u64, (now, took): (u64, u64), result: i64) -> Option<()> {
    let answer = result.cast_unsigned();
    if event::wanted(kind::IOCTL) {
        let (command, fd) = (u64::from(begun.command), u64::from(begun.fd));
        let args = [command, answer, fd, u64::from(begun.what), begun.kvm, 0];
        event::tell(of(kind::IOCTL, both, (now, took), args));
    }
    if matches!(begun.command, SET_USER_MEMORY_REGION | SET_USER_MEMORY_REGION2)
        && event::wanted(kind::MEMSLOT)
    {
        // KVM has just read it: the page is there.
        // SAFETY: a probe read: a wrong address is an error, not a fault.
        let region = unsafe { bpf_probe_read_user(begun.argument as *const Region).ok()? };
        let slot = u64::from(region.slot & 0xffff) | u64::from(region.slot >> 16) << 32;
        let flags = u64::from(region.flags);
        let args = [slot, flags, region.gpa, region.size, region.hva, answer];
        event::tell(of(kind::MEMSLOT, both, (now, took), args));
    }
    Some(())
}

/// An event of the current thread, which need not be a vCPU's.
#[inline(always)]
fn of(kind: u32, both: u64, (now, took): (u64, u64), args: [u64; ARGS]) -> Event {
    let (slot, generation) = match slots::known_current() {
        Some((index, slot)) => (index, slot.generation),
        None => (0, 0),
    };
    Event {
        at_ns: now,
        kind,
        slot,
        generation,
        tgid: (both >> 32) as u32,
        tid: both as u32,
        handling_ns: took,
        args,
        ..Event::default()
    }
}

/// This CPU's tally of a row.
#[inline(always)]
fn tally(row: u32) -> Option<&'static mut Tally> {
    let mask = facts::ioctl_shard_mask();
    // SAFETY: a helper without arguments.
    let shard = unsafe { bpf_get_smp_processor_id() } & mask;
    // SAFETY: array memory lives as long as the program; sums in it are added to atomically.
    unsafe { IOCTL_TALLIES.get_ptr_mut(row * (mask + 1) + shard).map(|tally| &mut *tally) }
}

/// The row of a command of a VM, taken if it has none yet; 0 when there is none left.
#[inline(always)]
fn row(call: &Call) -> u32 {
    // SAFETY: the value is copied at once.
    if let Some(row) = unsafe { IOCTL_ROWS.get(call) } {
        return *row;
    }
    let Ok(Some(row)) = FREE_IOCTL_ROWS.pop() else { return 0 };
    if IOCTL_ROWS.insert(call, row, NO_EXIST).is_ok()
        && let Some(owner) = IOCTL_CALLS.get_ptr_mut(row)
    {
        // SAFETY: array memory; the row is this call's alone.
        unsafe { *owner = *call };
        return row;
    }
    let _ = FREE_IOCTL_ROWS.push(row, 0);
    // Another thread of the VMM was quicker.
    // SAFETY: as above.
    unsafe { IOCTL_ROWS.get(call) }.map_or(0, |row| *row)
}
