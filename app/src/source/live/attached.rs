//! The probes as they are loaded, with their memory: how families begin, and what goes with what is attached.

use super::host::{self, Module, now_ns, unix_ns};
use super::loader::{LoadError, Loaded};
use super::memory::{Maps, Memory};
use super::plan::{self, Family};
use super::{Options, contexts, kernel, kvm_handlers, outliers, vms};
use crate::model::detail::OutlierLimits;
use crate::model::session::{Host, Origin, ProbeStatus, Session};
use crate::model::stack::StackOf;
use crate::trace;
use kvmscope_shared::conf::detail;

/// What is said while there is no KVM.
pub const WAITING: &str =
    "The kvm module is not loaded. Waiting for it: `modprobe kvm_intel` or `modprobe kvm_amd`.";

/// The loaded probes and their memory.
pub struct Probes {
    pub loaded: Loaded,
    pub maps: Maps,
    /// Whether the way to a process's files is known.
    files_known: bool,
    /// Vendor module at that time; when it goes, the probes must go with it.
    pub vendor: Option<&'static str>,
}

impl Probes {
    /// Before the family `ioctl` is attached: how KVM's descriptors are known. A sentence where they cannot
    /// be.
    pub fn begin_ioctls(&mut self) -> Option<&'static str> {
        let handlers = kvm_handlers::read();
        let known = kvm_handlers::are_known(&handlers) && self.files_known;
        self.maps.ioctls().set_handlers(handlers);
        self.loaded.forget_begun_ioctls();
        (!known).then_some(kvm_handlers::UNKNOWN)
    }

    /// Before a family is attached that counts what is sent by whom: how interrupts are told from threads.
    pub fn begin_routes(&mut self) {
        self.maps.routes().set_contexts(contexts::read());
    }

    /// What is known of now, of a family that is not attached: nothing. Before it is attached (`on`) and
    /// after it was detached.
    pub fn begin_meters(&mut self, family: Family, on: bool) {
        match family {
            Family::HaltPoll => self.maps.forget_windows(),
            Family::Timer => self.maps.forget_timers(),
            Family::VcpuLoad if on => self.maps.begin_loads(now_ns()),
            Family::VcpuLoad => self.maps.end_loads(),
            _ => {}
        }
    }

    /// Counts the callers of another function, from none on.
    pub fn set_stacks(&mut self, of: StackOf) {
        self.loaded.take_stacks();
        self.maps.clear_stacks();
        self.loaded.set_stacks(of, true);
    }

    /// What is kept at the end of an exit for the families that are on.
    pub fn keep_details(&mut self) {
        let mut bits = 0;
        if self.loaded.has(Family::Detail) {
            bits |= detail::RIP | detail::VECTOR;
        }
        // Where exits are seen an access has the times of its exit.
        let exits = self.loaded.has(Family::Exit) && host::isa(self.vendor) != 0;
        if self.loaded.has(Family::Mmio) && !exits {
            bits |= detail::DWELL;
        }
        self.maps.set_details(bits);
    }

    /// Tells the probes which events these families are about. Before they are attached, and before
    /// they are detached: what is counted where it is told of is counted from the first on.
    pub fn tell_of(&mut self, families: &[Family]) {
        self.maps.set_events(families.iter().fold(0, |bits, family| bits | family.events()));
    }

    /// Takes in which vendor module is there.
    pub fn follow_vendor(&mut self, vendor: Option<&'static str>, outliers: &OutlierLimits) {
        self.vendor = vendor;
        self.keep_details();
        self.maps.set_isa(host::isa(vendor));
        self.maps.set_limits(&outliers::by_column(outliers, vendor));
    }
}

/// Loads and attaches for the module as it is; no probes when there is no kvm.
pub fn open(options: &Options, module: Module) -> Result<(Option<Probes>, Session), LoadError> {
    let scan = vms::kvm_vm_pids().map(|scan| scan.vcpus()).unwrap_or(0);
    let kernel = kernel::gather(scan);
    let plan = plan::plan(&kernel, &options.families);
    let mut session = Session {
        origin: Origin::Live,
        host: Host {
            name: host::host_name(),
            kernel: kernel::read_line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            backend: module.backend().to_owned(),
            cpus: kernel.cpus,
        },
        names: trace::names::from_print_fmt(
            kernel.kvm_exit.as_ref().ok(),
            kernel.kvm_userspace_exit.as_ref().ok(),
        ),
        apicv: host::apicv(module.vendor),
        apicv_reasons: kernel.inhibits.clone(),
        ..Session::default()
    };
    let probes = if module.kvm {
        let (loaded, mut maps) = Loaded::load(&plan, &options.pids)?;
        // Epoch 0 is "never" in a fresh cell.
        maps.set_epoch(1);
        // Before the first probe: what it counts while the others are attached is of this session.
        (session.started_ns, session.started_unix_ns) = (now_ns(), unix_ns());
        let files_known = plan.globals.contains(&("FILES_KNOWN", 1));
        let mut probes = Probes { loaded, maps, files_known, vendor: None };
        probes.follow_vendor(module.vendor, &options.outliers);
        probes.tell_of(&options.families);
        if Family::Ioctl.wanted(&options.families) {
            session.notices.extend(probes.begin_ioctls().map(str::to_owned));
        }
        if options.families.iter().any(|family| family.keeps_routes()) {
            probes.begin_routes();
        }
        probes.loaded.attach(true);
        if options.stacks != StackOf::default() {
            probes.set_stacks(options.stacks);
        }
        session.probes = probes.loaded.statuses();
        probes.keep_details();
        Some(probes)
    } else {
        (session.started_ns, session.started_unix_ns) = (now_ns(), unix_ns());
        session.probes = waiting(options);
        session.notices.push(WAITING.to_owned());
        None
    };
    Ok((probes, session))
}

/// The probes as they are listed while kvm is not loaded.
pub fn waiting(options: &Options) -> Vec<ProbeStatus> {
    let kernel = kernel::gather(0);
    let plan = plan::plan(&kernel, &options.families);
    let status = |probe: &plan::Probe, family: Family| ProbeStatus {
        name: probe.hook(),
        family: family.name().to_owned(),
        attached: false,
        why: Some(if family.wanted(&options.families) {
            "the kvm module is not loaded; attached as soon as it is".to_owned()
        } else {
            family.off()
        }),
        how: String::new(),
    };
    let mut all = Vec::new();
    for probe in &plan.probes {
        all.extend(probe.families().map(|family| status(probe, family)));
    }
    all
}
