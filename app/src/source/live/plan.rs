//! Which programs to load on this kernel, how, with what offsets and map sizes. Pure.

mod calls;
mod culprits;
mod family;
pub mod functions;
mod ioctl;
mod irq;

pub use family::Family;

use super::kernel::{Kernel, Member};
use crate::{model::stack::StackOf, trace::format::Format};
use kvmscope_shared::{cell::CELLS_PER_CHUNK, column::ISA_SVM};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A classic tracepoint: the record's fields, through perf.
    Tracepoint,
    /// A raw tracepoint: its arguments.
    Raw,
    /// A BTF-typed raw tracepoint of vmlinux.
    Btf,
    /// At the beginning of a function.
    Kprobe(&'static str),
}

impl How {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Raw => "raw tracepoint",
            Self::Btf => "tp_btf",
            Self::Kprobe(_) => "kprobe",
        }
    }
}

/// One probe: the ways to have it, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Tracepoint group.
    pub system: &'static str,
    /// Tracepoint.
    pub event: &'static str,
    /// Its family; others may want it too, see [`Self::families`].
    pub family: Family,
    /// (program in the object, how), best first; the first that attaches is used.
    pub ways: Vec<(&'static str, How)>,
    /// Why it cannot work, when that is known before trying.
    pub hopeless: Option<String>,
}

impl Probe {
    /// The hook as the kernel names it.
    pub fn hook(&self) -> String {
        format!("{}:{}", self.system, self.event)
    }

    /// The families that it belongs to: it is attached, once, when any of them is.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let also = match self.event {
            "kvm_page_fault" => Some(Family::Mmu),
            "kvm_mmio" | "kvm_fast_mmio" => Some(Family::Mmio),
            "kvm_hypercall" | "kvm_hv_hypercall" => Some(Family::Hypercall),
            _ => None,
        };
        [self.family].into_iter().chain(also)
    }

    /// Whether it is attached when these families are asked for.
    pub fn wanted(&self, asked: &[Family]) -> bool {
        self.families().any(|family| family.wanted(asked))
    }

    /// Whether it belongs to the kvm module and goes with it.
    pub fn is_kvm(&self) -> bool {
        matches!(self.system, "kvm" | functions::KPROBE | functions::STACK)
    }

    /// Group and name of its tracepoint, where it is attached to one.
    pub fn tracepoint(&self) -> (&'static str, &'static str) {
        (if self.system == functions::STACK { "kvm" } else { self.system }, self.event)
    }

    /// The functions that it may be attached to.
    pub fn functions(&self) -> Vec<&'static str> {
        let function = |(_, how): &(_, How)| match how {
            How::Kprobe(function) => Some(*function),
            _ => None,
        };
        self.ways.iter().filter_map(function).collect()
    }
}

/// Most rows of KVM ioctls: with as many tallies each as there can be, 16 MiB.
const MAX_IOCTL_ROWS: u32 = 8192;

/// Most rows of what is sent by whom: with as many tallies each as there can be, 8 MiB.
const MAX_ROUTE_ROWS: u32 = 8192;

/// Map sizes, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Slots, the unused slot 0 included.
    pub slots: u32,
    /// Chunks in the cell pool.
    pub pool_chunks: u32,
    /// Words of the bitmap of known threads.
    pub known_words: u32,
    /// Rows of KVM ioctls, the unused row 0 included: commands of all VMs together.
    pub ioctl_rows: u32,
    /// Rows of what is sent by whom, the unused row 0 included.
    pub route_rows: u32,
    /// Tallies of a row of either, a power of two.
    pub shards: u32,
    /// CPUs.
    pub cpus: u32,
}

impl Sizes {
    /// From how many vCPUs and CPUs there are: room for twice the vCPUs of now, and for a churn of
    /// short-lived threads between two ticks.
    pub fn for_host(cpus: u32, vcpus: u32, pid_max: u32) -> Self {
        let slots =
            vcpus.saturating_mul(2).saturating_add(cpus.saturating_mul(8)).saturating_add(256);
        let slots = slots.clamp(512, 16_384);
        Self {
            slots,
            pool_chunks: slots / 4,
            known_words: pid_max / 64 + 1,
            ioctl_rows: (slots * 2).min(MAX_IOCTL_ROWS),
            route_rows: (slots * 4).min(MAX_ROUTE_ROWS),
            shards: ioctl::shards(cpus),
            cpus,
        }
    }

    /// Cells: a chunk for each slot, then the pool.
    pub fn cells(&self) -> u32 {
        (self.slots + self.pool_chunks) * CELLS_PER_CHUNK
    }

    /// Tallies of KVM ioctls, of all rows.
    pub fn ioctl_tallies(&self) -> u32 {
        self.ioctl_rows * self.shards
    }

    /// First cells of the pool's chunks.
    pub fn chunks(&self) -> impl Iterator<Item = u32> + use<> {
        let (first, count) = (self.slots, self.pool_chunks);
        (first..first + count).map(|chunk| chunk * CELLS_PER_CHUNK)
    }
}

/// What to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The probes of all families, in the order in which they are attached: what opens a measurement
    /// after what closes it, so that nothing is measured by half at the start.
    pub probes: Vec<Probe>,
    /// The families asked for: see [`Family::wanted`].
    pub families: Vec<Family>,
    /// Values of the object's globals (`probes/src/facts.rs`).
    pub globals: Vec<(&'static str, u32)>,
    /// Map sizes.
    pub sizes: Sizes,
    /// Number of the function `bpf_rdonly_cast`, for the programs that call it.
    pub rdonly_cast: Option<u32>,
    /// Why functions cannot be probed at all, if that is known.
    pub no_kprobes: Option<String>,
}

/// The usual offsets of the `kvm_exit` record since 5.10 (`probes/src/exit.rs` reads these directly).
const EXIT_FIELDS: [(&str, &str, u32); 6] = [
    ("exit_reason", "EXIT_REASON", 8),
    ("guest_rip", "EXIT_RIP", 16),
    ("isa", "EXIT_ISA", 24),
    ("info1", "EXIT_INFO1", 32),
    ("info2", "EXIT_INFO2", 40),
    ("vcpu_id", "EXIT_VCPU_ID", 56),
];

/// The same of `sched_switch`.
const SWITCH_FIELDS: [(&str, &str, u32); 3] = [
    ("prev_state", "SWITCH_PREV_STATE", 32),
    ("next_comm", "SWITCH_NEXT_COMM", 40),
    ("next_pid", "SWITCH_NEXT_PID", 56),
];

/// Tracepoints of one function each way, and where its record has what the program reads
/// (`probes/src/hooks.rs`): from its arguments, from its record.
type Hook = (&'static str, &'static str, Family, &'static [(&'static str, u32)]);
const HOOKS: [Hook; 7] = [
    ("kvm_pio", "kvm_pio_record", Family::Detail, &[("rw", 8), ("port", 12)]),
    (
        "kvm_mmio",
        "kvm_mmio_record",
        Family::Detail,
        &[("type", 8), ("len", 12), ("gpa", 16), ("val", 24)],
    ),
    ("kvm_fast_mmio", "kvm_fast_mmio_record", Family::Detail, &[("gpa", 8)]),
    ("kvm_msr", "kvm_msr_record", Family::Detail, &[("write", 8), ("ecx", 12), ("exception", 24)]),
    ("kvm_cpuid", "kvm_cpuid_record", Family::Detail, &[("function", 8), ("index", 12)]),
    ("kvm_cr", "kvm_cr_record", Family::Detail, &[("rw", 8), ("cr", 12)]),
    ("kvm_vcpu_wakeup", "kvm_vcpu_wakeup_record", Family::HaltPoll, &[("ns", 8), ("waited", 16)]),
];

/// Makes the plan for the families asked for.
pub fn plan(kernel: &Kernel, families: &[Family]) -> Plan {
    let mut globals = Vec::new();
    let exit = fields(&kernel.kvm_exit, "kvm:kvm_exit", &EXIT_FIELDS, "EXIT_USUAL", &mut globals);
    let switch = fields(
        &kernel.sched_switch,
        "sched:sched_switch",
        &SWITCH_FIELDS,
        "SWITCH_USUAL",
        &mut globals,
    );
    let intr = kernel.kvm_exit.as_ref().ok().and_then(|format| format.field("intr_info"));
    globals.push(("EXIT_INTR", intr.map_or(0, |field| field.offset)));
    let task_btf = task_globals(kernel, &mut globals);
    let at = |member: Member| kernel.offsets.get(&member).copied().unwrap_or(0);
    globals.push(("VCPU_KVM", at(("kvm_vcpu", "kvm"))));
    globals.push(("VCPU_ID", at(("kvm_vcpu", "vcpu_id"))));
    let sizes = Sizes::for_host(kernel.cpus, kernel.vcpus, kernel.pid_max);
    ioctl::globals(kernel, &sizes, &mut globals);
    irq::globals(kernel, &sizes, &mut globals);

    let probe =
        |system, event, family, ways, hopeless| Probe { system, event, family, ways, hopeless };
    let raw = |event| vec![(event, How::Raw)];
    let either = |event, record, usual| unpreempted(kernel, event, record, usual);
    let mut switch_ways = Vec::new();
    if kernel.btf && task_btf {
        switch_ways.push(("sched_switch_btf", How::Btf));
    }
    if switch.is_none() {
        switch_ways.push(("sched_switch", How::Tracepoint));
    }
    let switch = if switch_ways.is_empty() { switch } else { None };
    let culprits = culprits::globals(kernel, &mut globals);
    let mut exit_ways = svm_ways(kernel, &mut globals);
    if exit.is_none() {
        exit_ways.push(("kvm_exit", How::Tracepoint));
    }
    let exit = if exit_ways.is_empty() { exit } else { None };
    let mut all = vec![
        probe(
            "sched",
            "sched_process_exit",
            Family::Base,
            either("sched_process_exit", "sched_process_exit_record", true),
            None,
        ),
        probe("sched", "sched_switch", Family::Sched, switch_ways, switch),
        probe(
            "sched",
            "sched_switch",
            Family::Culprits,
            vec![("culprits_switch", How::Btf)],
            culprits,
        ),
        probe(
            "kvm",
            "kvm_userspace_exit",
            Family::Userspace,
            either(
                "kvm_userspace_exit",
                "kvm_userspace_exit_record",
                kernel
                    .kvm_userspace_exit
                    .as_ref()
                    .is_ok_and(|format| has(format, &[("reason", 8), ("errno", 12)])),
            ),
            None,
        ),
        probe(
            "kvm",
            "kvm_fpu",
            Family::Userspace,
            either(
                "kvm_fpu",
                "kvm_fpu_record",
                kernel.kvm_fpu.as_ref().is_ok_and(|format| has(format, &[("load", 8)])),
            ),
            None,
        ),
        probe("kvm", "kvm_entry", Family::Exit, raw("kvm_entry"), None),
        probe("kvm", "kvm_exit", Family::Exit, exit_ways, exit),
    ];
    // After kvm_exit: what is met before the first exit has no exit to belong to.
    for (event, record, family, fields) in HOOKS {
        let usual = kernel.details.get(event).is_some_and(|format| has(format, fields));
        all.push(probe("kvm", event, family, either(event, record, usual), None));
    }
    all.extend(calls::probes(kernel));
    all.extend(irq::probes(kernel));
    let ways = page_fault_ways(kernel);
    all.push(probe("kvm", "kvm_page_fault", Family::Detail, ways, None));
    let (exit, enter, why) = ioctl::ways(kernel);
    all.push(probe("raw_syscalls", "sys_exit", Family::Ioctl, exit, why.clone()));
    all.push(probe("raw_syscalls", "sys_enter", Family::Ioctl, enter, why));
    all.extend(functions::probes(kernel, StackOf::default(), &mut globals));
    Plan {
        probes: all,
        families: families.to_vec(),
        globals,
        rdonly_cast: kernel.rdonly_cast.map(|cast| cast.function),
        sizes,
        no_kprobes: kernel.no_kprobes.clone(),
    }
}

/// The ways to `kvm_page_fault`, which has the vCPU before the address in newer kernels: its record tells,
/// or the version (6.1 is the first with it of those that were read).
fn page_fault_ways(kernel: &Kernel) -> Vec<(&'static str, How)> {
    let format = kernel.details.get("kvm_page_fault");
    let late = format.map_or(kernel.version >= (6, 1), |format| format.field("vcpu_id").is_some());
    if !late {
        return vec![("kvm_page_fault_early", How::Raw)];
    }
    let usual =
        format.is_some_and(|format| has(format, &[("fault_address", 24), ("error_code", 32)]));
    unpreempted(kernel, "kvm_page_fault", "kvm_page_fault_record", usual)
}

/// `VCPU_REGS_RIP`, the index of RIP among `kvm_vcpu_arch.regs` (x86-64).
const REGS_RIP: u32 = 16;

/// The ways to `kvm_exit` as a raw tracepoint on AMD, where its fields are found in the VMCB: cheaper
/// than having the record made. Adds the offsets.
fn svm_ways(kernel: &Kernel, globals: &mut Vec<(&'static str, u32)>) -> Vec<(&'static str, How)> {
    let at = |member: Member| kernel.offsets.get(&member).copied();
    // Before 5.16 the raw arguments were others; 6.1 is the first since then that is tested.
    let (Some(vmcb), Some(arch), Some(regs), Some(0), true) = (
        at(("vcpu_svm", "vmcb")),
        at(("kvm_vcpu", "arch")),
        at(("kvm_vcpu_arch", "regs")),
        at(("vcpu_svm", "vcpu")),
        kernel.version >= (6, 1),
    ) else {
        return Vec::new();
    };
    globals.push(("ISA", ISA_SVM));
    globals.push(("SVM_VMCB", vmcb));
    globals.push(("VCPU_RIP", arch + regs + 8 * REGS_RIP));
    let mut ways = vec![("kvm_exit_svm", How::Raw)];
    if let Some(cast) = kernel.rdonly_cast {
        globals.push(("TYPE_PT_REGS", cast.pt_regs));
        ways.insert(0, ("kvm_exit_svm_cast", How::Raw));
    }
    ways
}

/// From this version on a raw tracepoint's program can be preempted, and runs of other threads on
/// that CPU are skipped meanwhile (seen on 7.2: one in a hundred; none on 6.18).
const PREEMPTIBLE: (u32, u32) = (6, 19);

/// The ways to have a tracepoint that fires with preemption on: raw is the cheaper one, the record
/// (whose program is never preempted) the exact one where it matters. `usual` is whether the record
/// is laid out as the program reads it.
fn unpreempted(
    kernel: &Kernel,
    event: &'static str,
    record: &'static str,
    usual: bool,
) -> Vec<(&'static str, How)> {
    let mut ways = vec![(event, How::Raw)];
    if usual {
        let first = if unpreempted_first(kernel) { 0 } else { 1 };
        ways.insert(first, (record, How::Tracepoint));
    }
    ways
}

/// Whether the record comes first.
fn unpreempted_first(kernel: &Kernel) -> bool {
    kernel.version >= PREEMPTIBLE
}

/// Whether a record has these fields at these offsets.
fn has(format: &Format, fields: &[(&str, u32)]) -> bool {
    fields.iter().all(|(name, at)| format.field(name).is_some_and(|field| field.offset == *at))
}

/// Adds the offsets of a record's fields; answers with why it cannot be read, if so.
fn fields(
    format: &Result<Format, String>,
    hook: &str,
    wanted: &[(&str, &'static str, u32)],
    usual_name: &'static str,
    globals: &mut Vec<(&'static str, u32)>,
) -> Option<String> {
    let format = match format {
        Ok(format) => format,
        Err(why) => return Some(why.clone()),
    };
    let mut usual = true;
    for &(field, global, at) in wanted {
        let Some(found) = format.field(field) else {
            return Some(format!("the record of {hook} has no field {field} on this kernel"));
        };
        usual &= found.offset == at;
        globals.push((global, found.offset));
    }
    globals.push((usual_name, u32::from(usual)));
    None
}

/// Adds the offsets into `task_struct`; whether all that `tp_btf` needs are known.
fn task_globals(kernel: &Kernel, globals: &mut Vec<(&'static str, u32)>) -> bool {
    let at = |member| kernel.offsets.get(&("task_struct", member)).copied();
    let state = at("__state").or(at("state"));
    if let (Some(leader), Some(start), Some(comm)) =
        (at("group_leader"), at("start_boottime"), at("comm"))
    {
        globals.extend([
            ("TASK_LEADER", leader),
            ("TASK_START", start),
            ("TASK_COMM", comm),
            ("TASK_KNOWN", 1),
        ]);
    }
    // The fourth argument came in 5.18; before, the state is read from the task.
    globals.push(("SWITCH_STATE_ARG", u32::from(kernel.version >= (5, 18))));
    match (at("pid"), state) {
        (Some(pid), Some(state)) => {
            globals.extend([("TASK_PID", pid), ("TASK_STATE", state)]);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
