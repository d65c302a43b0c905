//! Which programs to load on this kernel, how, with what offsets and map sizes. Pure.

mod calls;
mod culprits;
pub mod functions;
mod ioctl;

use super::kernel::{Kernel, Member};
use crate::{
    model::{session::OFF, stack::StackOf},
    trace::format::Format,
};
use kvmscope_shared::{cell::CELLS_PER_CHUNK, column::ISA_SVM, event::kind};

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

/// Families of probes that can be asked for (`--probes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Kernel exits: `kvm_exit`, `kvm_entry`.
    Exit,
    /// Userspace exits and KVM_RUN: `kvm_userspace_exit`, `kvm_fpu`.
    Userspace,
    /// When a vCPU is off the CPU: `sched_switch`.
    Sched,
    /// Halt polling: `kvm_vcpu_wakeup`.
    HaltPoll,
    /// What exits are about: `kvm_pio`, `kvm_mmio`, `kvm_msr`, `kvm_cpuid`, `kvm_page_fault` and
    /// others, and the guest's instruction pointer at every exit.
    Detail,
    /// Who runs while a vCPU waits for its CPU: a second program at `sched_switch`, and `sched_wakeup`.
    Culprits,
    /// Page faults by kind and one by one, and the hottest pages: `kvm_page_fault`.
    Mmu,
    /// MMIO by address and one by one: `kvm_mmio`, `kvm_fast_mmio`.
    Mmio,
    /// Pages that were dirtied.
    Dirty,
    /// Loads of MMU roots.
    Roots,
    /// Hypercalls by number and one by one: `kvm_hypercall`, `kvm_hv_hypercall`, `kvm_xen_hypercall`.
    Hypercall,
    /// KVM's ioctls: `sys_enter`, `sys_exit`, which every system call of the host pays for.
    Ioctl,
    /// What every other family needs: `sched_process_exit`.
    Base,
}

impl Family {
    /// Every family that can be asked for, in order.
    pub const ASKABLE: [Self; 12] = [
        Self::Exit,
        Self::Userspace,
        Self::Sched,
        Self::HaltPoll,
        Self::Detail,
        Self::Culprits,
        Self::Mmu,
        Self::Mmio,
        Self::Dirty,
        Self::Roots,
        Self::Hypercall,
        Self::Ioctl,
    ];

    /// What the screen watches when nothing is asked for. `detail` is attached while someone looks
    /// at what it shows.
    pub const WATCHED: [Self; 4] = [Self::Exit, Self::Userspace, Self::Sched, Self::HaltPoll];

    /// What a report measures when nothing is asked for.
    pub const REPORTED: [Self; 8] = [
        Self::Exit,
        Self::Userspace,
        Self::Sched,
        Self::HaltPoll,
        Self::Detail,
        Self::Mmu,
        Self::Mmio,
        Self::Hypercall,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Userspace => "userspace",
            Self::Sched => "sched",
            Self::HaltPoll => "halt-poll",
            Self::Detail => "detail",
            Self::Culprits => "culprits",
            Self::Mmu => "mmu",
            Self::Mmio => "mmio",
            Self::Dirty => "dirty",
            Self::Roots => "roots",
            Self::Hypercall => "hypercall",
            Self::Ioctl => "ioctl",
            Self::Base => "base",
        }
    }

    /// Whether it is attached when these are asked for. Which threads are vCPUs, and an exit's VMM time,
    /// come from the userspace family.
    pub fn wanted(self, asked: &[Self]) -> bool {
        match self {
            Self::Base => true,
            Self::Userspace => !asked.is_empty(),
            family => asked.contains(&family),
        }
    }

    /// Whether what it counts is in the tables of keys, which are read only then.
    pub fn keeps_keys(self) -> bool {
        use Family::{Detail, Dirty, Hypercall, Mmio, Mmu, Roots};
        matches!(self, Detail | Mmu | Mmio | Hypercall | Dirty | Roots)
    }

    /// The kinds of single events that are told of with it, by bit ([`kind`]).
    pub fn events(self) -> u64 {
        let kinds: &[u32] = match self {
            Self::Mmu => &[kind::FAULT],
            Self::Mmio => &[kind::MMIO],
            Self::Roots => &[kind::ROOT],
            Self::Hypercall => &[kind::HYPERCALL, kind::HV_HYPERCALL, kind::XEN_HYPERCALL],
            Self::Ioctl => &[kind::IOCTL, kind::MEMSLOT],
            _ => &[],
        };
        kinds.iter().fold(0, |bits, kind| bits | 1 << kind)
    }

    /// Why it is not attached when nobody asked for it.
    pub fn off(self) -> String {
        let when = match self {
            Self::Detail | Self::Mmu | Self::Mmio | Self::Hypercall => {
                "attached while what it shows is looked at, or"
            }
            _ => "attached",
        };
        let price = match self {
            Self::Ioctl => ", for which every system call of the host pays (docs/cost.md)",
            _ => "",
        };
        format!("{OFF}{when} with --probes {}{price}", self.name())
    }

    /// What cannot be shown without it.
    pub fn costs(self) -> &'static str {
        match self {
            Self::Exit => "kernel exits are not shown",
            Self::Userspace => {
                "userspace exits are not shown, and VMM time counts as handling time"
            }
            Self::Sched => "time off the CPU is counted as handling time",
            Self::HaltPoll => "halt polling counts as handling time",
            Self::Detail => "what exits are about (MSR, port, address, RIP) is not shown",
            Self::Culprits => "who takes a vCPU's CPU is not shown",
            Self::Mmu => "page faults are not shown",
            Self::Mmio => "MMIO by address is not shown",
            Self::Dirty => "dirty pages are not shown",
            Self::Roots => "loads of MMU roots are not shown",
            Self::Hypercall => "hypercalls are not shown",
            Self::Ioctl => "KVM ioctls and memory slots are not shown",
            Self::Base => "ended threads are noticed late",
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
    /// Tallies of a row, a power of two.
    pub ioctl_shards: u32,
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
            ioctl_shards: ioctl::shards(cpus),
            cpus,
        }
    }

    /// Cells: a chunk for each slot, then the pool.
    pub fn cells(&self) -> u32 {
        (self.slots + self.pool_chunks) * CELLS_PER_CHUNK
    }

    /// Tallies of KVM ioctls, of all rows.
    pub fn ioctl_tallies(&self) -> u32 {
        self.ioctl_rows * self.ioctl_shards
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
mod tests {
    use super::super::kernel::{DETAILS, RdonlyCast};
    use super::*;
    use crate::trace::fixtures as testdata;
    use std::collections::BTreeMap;

    pub fn kernel(release: &str, version: (u32, u32)) -> Kernel {
        Kernel {
            version,
            kvm_exit: Ok(testdata::format(release, "kvm_exit")),
            kvm_userspace_exit: Ok(testdata::format(release, "kvm_userspace_exit")),
            kvm_fpu: Ok(testdata::format(release, "kvm_fpu")),
            details: DETAILS
                .into_iter()
                .filter(|event| release != testdata::LINUX_5_10 || *event != "kvm_xen_hypercall")
                .map(|event| (event, testdata::format(release, event)))
                .collect(),
            syscalls: BTreeMap::new(),
            sched_switch: Err("tracefs is not mounted".to_owned()),
            offsets: BTreeMap::from([
                (("task_struct", "pid"), 1),
                (("task_struct", "state"), 2),
                (("task_struct", "tgid"), 3),
                (("task_struct", "comm"), 4),
                (("task_struct", "se"), 100),
                (("task_struct", "sched_info"), 200),
                (("sched_entity", "cfs_rq"), 10),
                (("sched_info", "run_delay"), 20),
                (("sched_info", "last_queued"), 30),
                (("cfs_rq", "rq"), 40),
                (("rq", "clock"), 50),
                (("kvm_memory_slot", "base_gfn"), 24),
                (("kvm_memory_slot", "dirty_bitmap"), 40),
                (("kvm_memory_slot", "flags"), 112),
                (("kvm_memory_slot", "id"), 116),
                (("kvm_memory_slot", "as_id"), 118),
            ]),
            parameters: [("mark_page_dirty_in_slot", vec!["kvm", "memslot", "gfn"])]
                .map(|(function, names)| (function, names.into_iter().map(str::to_owned).collect()))
                .into(),
            no_kprobes: None,
            rdonly_cast: None,
            btf: true,
            pid_max: 32_768,
            cpus: 4,
            vcpus: 8,
        }
    }

    fn global(plan: &Plan, name: &str) -> Option<u32> {
        plan.globals.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    #[test]
    fn records_since_5_10_are_read_directly() {
        for release in testdata::KERNELS {
            let plan = plan(&kernel(release, (6, 1)), &Family::ASKABLE);
            assert_eq!(global(&plan, "EXIT_USUAL"), Some(1), "{release}");
            assert!(plan.probes.iter().all(|p| p.hopeless.is_none()), "{release}");
        }
    }

    #[test]
    fn a_moved_field_is_read_where_it_is() {
        let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
        let format = kernel.kvm_exit.as_mut().expect("a format");
        format.fields.iter_mut().find(|f| f.name == "vcpu_id").expect("a field").offset = 48;
        let plan = plan(&kernel, &Family::ASKABLE);
        assert_eq!(global(&plan, "EXIT_USUAL"), Some(0));
        assert_eq!(global(&plan, "EXIT_VCPU_ID"), Some(48));
    }

    #[test]
    fn a_missing_field_is_a_reason_not_a_failure() {
        let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
        kernel.kvm_exit.as_mut().expect("a format").fields.retain(|f| f.name != "isa");
        let plan = plan(&kernel, &Family::ASKABLE);
        let exit = plan.probes.iter().find(|p| p.event == "kvm_exit").expect("planned");
        let why = exit.hopeless.as_deref().expect("a reason");
        assert!(why.contains("isa"), "{why}");
        assert!(plan.probes.iter().filter(|p| p.event != "kvm_exit").all(|p| p.hopeless.is_none()));
    }

    #[test]
    fn sched_switch_falls_back_to_the_record() {
        let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
        let ways = |kernel: &Kernel| {
            let plan = plan(kernel, &Family::ASKABLE);
            plan.probes.into_iter().find(|p| p.event == "sched_switch").expect("planned")
        };
        assert_eq!(ways(&kernel).ways, [("sched_switch_btf", How::Btf)]);
        kernel.btf = false;
        let hopeless = ways(&kernel);
        assert!(hopeless.ways.is_empty() && hopeless.hopeless.is_some());
    }

    #[test]
    fn on_amd_the_record_is_not_needed() {
        let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
        let ways = |kernel: &Kernel| {
            let plan = plan(kernel, &Family::ASKABLE);
            let exit =
                plan.probes.iter().find(|p| p.event == "kvm_exit").cloned().expect("planned");
            exit.ways.iter().map(|way| way.0).collect::<Vec<_>>()
        };
        assert_eq!(ways(&kernel), ["kvm_exit"]);
        kernel.offsets.extend([
            (("vcpu_svm", "vcpu"), 0),
            (("vcpu_svm", "vmcb"), 6_000),
            (("kvm_vcpu", "arch"), 300),
            (("kvm_vcpu_arch", "regs"), 8),
        ]);
        assert_eq!(ways(&kernel), ["kvm_exit_svm", "kvm_exit"]);
        assert_eq!(global(&plan(&kernel, &Family::ASKABLE), "VCPU_RIP"), Some(436));
        kernel.rdonly_cast = Some(RdonlyCast { function: 5, pt_regs: 6 });
        assert_eq!(ways(&kernel), ["kvm_exit_svm_cast", "kvm_exit_svm", "kvm_exit"]);
        kernel.version = (5, 15);
        assert_eq!(ways(&kernel), ["kvm_exit"]);
    }

    #[test]
    fn the_state_comes_with_the_event_from_5_18_on() {
        let arg = |version| {
            global(
                &plan(&kernel(testdata::LINUX_6_1, version), &Family::ASKABLE),
                "SWITCH_STATE_ARG",
            )
        };
        assert_eq!(arg((5, 17)), Some(0));
        assert_eq!(arg((5, 18)), Some(1));
        assert_eq!(arg((6, 1)), Some(1));
    }

    #[test]
    fn what_could_be_preempted_comes_from_the_record() {
        let how = |version| {
            let plan = plan(&kernel(testdata::LINUX_7_2, version), &Family::ASKABLE);
            let of = |event| {
                let probe = plan.probes.iter().find(|p| p.event == event).expect("planned");
                probe.ways.iter().map(|(_, how)| *how).collect::<Vec<_>>()
            };
            ["kvm_fpu", "kvm_userspace_exit", "sched_process_exit", "kvm_entry"].map(of)
        };
        let (raw, record) = (How::Raw, How::Tracepoint);
        let cheap = vec![raw, record];
        let exact = vec![record, raw];
        assert_eq!(how((6, 18)), [cheap.clone(), cheap.clone(), cheap, vec![raw]]);
        assert_eq!(how((7, 2)), [exact.clone(), exact.clone(), exact, vec![raw]]);
    }

    #[test]
    fn a_record_of_another_layout_is_not_read() {
        let mut kernel = kernel(testdata::LINUX_7_2, (7, 2));
        kernel.kvm_fpu = Err("tracefs is not mounted".to_owned());
        let plan = plan(&kernel, &Family::ASKABLE);
        let fpu = plan.probes.iter().find(|p| p.event == "kvm_fpu").expect("planned");
        assert_eq!(fpu.ways, [("kvm_fpu", How::Raw)]);
    }

    #[test]
    fn only_what_is_asked_for_and_what_it_needs() {
        let kernel = kernel(testdata::LINUX_6_12, (6, 12));
        let events = |families: &[Family]| -> Vec<&str> {
            let plan = plan(&kernel, families);
            let wanted = plan.probes.iter().filter(|p| p.wanted(families));
            wanted.map(|p| p.event).collect()
        };
        assert_eq!(
            events(&[Family::Userspace]),
            ["sched_process_exit", "kvm_userspace_exit", "kvm_fpu"]
        );
        assert!(events(&[Family::Exit]).contains(&"kvm_fpu"));
        assert!(events(&[Family::Sched]).contains(&"kvm_fpu"), "it tells which threads are vCPUs");
        assert!(!events(&[Family::Exit]).contains(&"sched_switch"));
    }

    /// The ways to an event of a family that is off.
    fn ways(kernel: &Kernel, event: &str) -> Vec<(&'static str, How)> {
        let plan = plan(kernel, &[]);
        plan.probes.into_iter().find(|p| p.event == event).expect("planned").ways
    }

    #[test]
    fn details_come_by_arguments_or_by_the_record() {
        let how = |release, version| {
            let kernel = kernel(release, version);
            let how = |event| ways(&kernel, event).iter().map(|way| way.1).collect::<Vec<_>>();
            HOOKS.map(|hook| how(hook.0))
        };
        let (raw, record) = (How::Raw, How::Tracepoint);
        let all = |ways: [How; 2]| HOOKS.map(|_| ways.to_vec());
        assert_eq!(how(testdata::LINUX_5_10, (5, 10)), all([raw, record]));
        assert_eq!(how(testdata::LINUX_6_1, (6, 1)), all([raw, record]));
        assert_eq!(how(testdata::LINUX_7_2, (7, 2)), all([record, raw]));
    }

    #[test]
    fn where_a_page_faults_address_is_its_record_tells() {
        let fault = |release, version| ways(&kernel(release, version), "kvm_page_fault");
        let early = [("kvm_page_fault_early", How::Raw)];
        let late = [("kvm_page_fault", How::Raw), ("kvm_page_fault_record", How::Tracepoint)];
        assert_eq!(fault(testdata::LINUX_5_10, (5, 10)), early);
        assert_eq!(fault(testdata::LINUX_6_1, (6, 1)), late);
        let unread = |version| {
            let mut kernel = kernel(testdata::LINUX_6_1, version);
            kernel.details.clear();
            ways(&kernel, "kvm_page_fault")
        };
        assert_eq!((unread((5, 10)), unread((6, 1))), (early.to_vec(), late[..1].to_vec()));
    }

    #[test]
    fn a_probe_of_two_families_is_attached_when_either_is_asked_for() {
        let kernel = kernel(testdata::LINUX_6_12, (6, 12));
        let wanted = |families: &[Family]| -> Vec<&str> {
            let plan = plan(&kernel, families);
            let ours = plan.probes.iter().filter(|p| p.is_kvm() && p.family.keeps_keys());
            ours.filter(|p| p.wanted(families)).map(|p| p.event).collect()
        };
        assert_eq!(wanted(&[Family::Mmu]), ["kvm_page_fault"]);
        assert_eq!(wanted(&[Family::Mmio]), ["kvm_mmio", "kvm_fast_mmio"]);
        let calls = ["kvm_hypercall", "kvm_hv_hypercall", "kvm_xen_hypercall"];
        assert_eq!(wanted(&[Family::Hypercall]), calls);
        let all = wanted(&[Family::Detail]);
        assert!(all.contains(&"kvm_page_fault") && all.contains(&"kvm_mmio"));
        assert!(!all.contains(&"kvm_xen_hypercall"), "of one family alone");
        assert!(wanted(&Family::WATCHED).is_empty());
    }

    #[test]
    fn events_are_told_of_by_the_family_that_is_on() {
        assert_eq!(Family::Mmu.events(), 1 << kind::FAULT);
        assert_eq!(Family::Detail.events(), 0, "what exits are about is no list");
        let all = Family::ASKABLE.iter().fold(0, |bits, family| {
            assert_eq!(bits & family.events(), 0, "each kind is of one family");
            bits | family.events()
        });
        assert_ne!(all & 1 << kind::XEN_HYPERCALL, 0);
    }

    #[test]
    fn what_is_off_says_how_to_have_it() {
        assert!(Family::Detail.off().contains("--probes detail"));
        assert!(Family::WATCHED.iter().all(|family| family.wanted(&Family::WATCHED)));
        assert!(!Family::Detail.wanted(&Family::WATCHED));
        assert!(Family::Base.wanted(&[]) && Family::Userspace.wanted(&[Family::Detail]));
    }

    #[test]
    fn maps_follow_the_host() {
        let small = Sizes::for_host(2, 0, 32_768);
        let large = Sizes::for_host(256, 4_000, 4_194_304);
        assert_eq!(small.slots, 512);
        assert!(large.slots >= 8_000 && large.slots <= 16_384);
        assert_eq!(large.known_words, 65_537);
        assert_eq!(small.chunks().count() as u32, small.pool_chunks);
        assert_eq!(small.chunks().last().map(|c| c + CELLS_PER_CHUNK), Some(small.cells()));
    }
}
