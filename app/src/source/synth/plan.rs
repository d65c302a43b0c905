//! What is invented: which VMs, with which habits.

use super::details::{Abouts, usual};
use super::events;
use crate::model::ids::{Isa, Reason};

/// A host's VMs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its VMs.
    pub(super) vms: Vec<VmPlan>,
    /// Of the vCPUs, one in this many does something in a tick; 1 is all of them.
    pub(super) one_in: u32,
}

/// A VM.
#[derive(Clone, Debug)]
pub(super) struct VmPlan {
    pub name: String,
    pub vmm: &'static str,
    pub vcpus: u32,
    /// Share of the time without work that is spent halted; the rest is guest code.
    pub idle: f64,
    /// Share of the time that a vCPU waits for a CPU.
    pub wait: f64,
    /// The first vCPU does so many times what the others do.
    pub first: f64,
    /// How much rates swing over time, 0 to 1.
    pub swing: f64,
    pub habits: Vec<Habit>,
    /// Share of the wake-ups from a halt that come while KVM polls.
    pub polls: f64,
    /// Share of the time that a vCPU sleeps in KVM_RUN for a page.
    pub pages: f64,
    /// CPUs that its VMM's other threads keep busy.
    pub beside: f64,
    /// Share of the time that its CPU quota stops it; `None` has no quota.
    pub throttled: Option<f64>,
    /// Pages per second that each vCPU dirties while dirty logging is on; 0 while it is off.
    pub dirty: f64,
    /// Loads of MMU roots per second and vCPU.
    pub roots: f64,
    /// Ticks that it lives and ticks that it is away, over and over; `None` stays.
    pub comes_and_goes: Option<(u64, u64)>,
}

/// One reason of a vCPU.
#[derive(Clone, Debug)]
pub(super) struct Habit {
    pub reason: Reason,
    /// Exits per second of a vCPU.
    pub rate: f64,
    /// Median handling time, ns.
    pub median_ns: u64,
    /// How wide handling times spread: powers of two to either side.
    pub spread: u32,
    /// One in this many takes `slow_ns`; 0 is none.
    pub slow_one_in: u32,
    pub slow_ns: u64,
    /// The exit goes on to the VMM: as which userspace exit, and how long that takes, ns.
    pub vmm: Option<(Reason, u64)>,
    /// What its exits are about: things, pages and instruction pointers.
    pub things: Abouts,
    pub pages: Abouts,
    pub rips: Abouts,
    /// Kinds of page faults.
    pub faults: Abouts,
}

fn habit(code: u32, rate: f64, median_ns: u64, spread: u32) -> Habit {
    let reason = Reason::exit(Isa::Vmx, code);
    Habit {
        reason,
        rate,
        median_ns,
        spread,
        slow_one_in: 0,
        slow_ns: 0,
        vmm: None,
        things: Vec::new(),
        pages: Vec::new(),
        rips: Vec::new(),
        faults: Vec::new(),
    }
}

impl Habit {
    fn slow(self, slow_one_in: u32, slow_ns: u64) -> Self {
        Self { slow_one_in, slow_ns, ..self }
    }

    /// About what such exits are usually about.
    fn usual(self) -> Self {
        let (things, pages, rips) = usual(self.reason);
        let things = if self.things.is_empty() { things } else { self.things };
        Self { things, pages, rips, faults: events::faults(self.reason), ..self }
    }

    fn about(self, things: Abouts) -> Self {
        Self { things, ..self }
    }

    fn via_vmm(self, code: u32, ns: u64) -> Self {
        Self { vmm: Some((Reason::userspace(code), ns)), ..self }
    }
}

impl Plan {
    /// Five VMs of different kinds: one noisy, one with slow disks, one that computes, one idle,
    /// one that comes and goes.
    pub fn noisy_host() -> Self {
        let vm = |name: &str, vmm, vcpus, idle, habits: Vec<Habit>| VmPlan {
            name: name.to_owned(),
            vmm,
            vcpus,
            idle,
            wait: 0.01,
            first: 1.0,
            swing: 0.4,
            habits: habits.into_iter().map(Habit::usual).collect(),
            polls: 0.2,
            pages: 0.0,
            beside: 0.02,
            throttled: None,
            dirty: 0.0,
            roots: 0.0,
            comes_and_goes: None,
        };
        let web = vec![
            habit(32, 9_000.0, 1_100, 1).slow(2_000, 40_000),
            habit(49, 40.0, 2_400, 1).slow(200, 90_000),
            habit(1, 1_000.0, 1_500, 1),
            habit(12, 1_200.0, 38_000, 2),
            habit(30, 5.0, 1_900, 1).via_vmm(2, 14_000),
            habit(48, 80.0, 4_800, 2),
            habit(10, 2.0, 900, 1),
            habit(52, 150.0, 800, 1),
            habit(18, 220.0, 1_300, 1).about(events::kvm_calls()),
        ];
        let db = vec![
            habit(49, 1_300.0, 2_000, 2).slow(60, 2_300_000),
            habit(30, 550.0, 2_200, 1).via_vmm(2, 26_000),
            habit(32, 390.0, 1_200, 1),
            habit(1, 250.0, 1_600, 1),
            habit(12, 140.0, 3_000, 2),
            habit(48, 8.0, 9_000, 2).slow(40, 700_000),
            habit(40, 15.0, 700, 1),
        ];
        let build = vec![
            habit(1, 2_200.0, 1_100, 1),
            habit(48, 1_300.0, 3_900, 2).slow(3_000, 240_000),
            habit(52, 600.0, 700, 1),
            habit(32, 120.0, 1_000, 1),
            habit(0, 3.0, 1_300, 1),
        ];
        let idle = vec![
            habit(12, 900.0, 150_000, 2),
            habit(30, 12.0, 2_100, 1).via_vmm(2, 21_000),
            habit(31, 2.0, 1_000, 1),
            habit(1, 3.0, 1_700, 1),
            habit(18, 60.0, 1_900, 1).about(events::hyperv_calls()),
            habit(49, 25.0, 2_600, 1).via_vmm(6, 31_000).about(events::vmm_devices()),
        ];
        let ci = vec![
            habit(48, 2_900.0, 3_600, 2),
            habit(10, 60.0, 950, 1),
            habit(30, 220.0, 2_000, 1).via_vmm(2, 17_000),
            habit(28, 90.0, 1_000, 1),
            habit(12, 70.0, 2_700, 2),
        ];
        Self {
            vms: vec![
                VmPlan {
                    first: 3.0,
                    wait: 0.03,
                    polls: 0.6,
                    roots: 2.0,
                    ..vm("web-7", "qemu", 8, 0.3, web)
                },
                VmPlan { swing: 0.15, wait: 0.05, beside: 0.4, ..vm("db-1", "qemu", 16, 0.45, db) },
                VmPlan {
                    swing: 0.8,
                    pages: 0.01,
                    dirty: 400.0,
                    throttled: Some(0.08),
                    ..vm("build-3", "firecracker", 4, 0.05, build)
                },
                VmPlan {
                    swing: 0.1,
                    polls: 0.9,
                    roots: 40.0,
                    ..vm("idle-win", "qemu", 4, 0.98, idle)
                },
                VmPlan {
                    comes_and_goes: Some((35, 20)),
                    ..vm("ci-9", "cloud-hypervisor", 2, 0.2, ci)
                },
            ],
            one_in: 1,
        }
    }

    /// The same where the one that comes and goes does so every few ticks: much happens within a short test.
    #[cfg(test)]
    pub fn restless(mut self) -> Self {
        for vm in &mut self.vms {
            vm.comes_and_goes = vm.comes_and_goes.map(|_| (4, 2));
        }
        self
    }

    /// As many VMs of these kinds, in turn.
    pub fn noisy_hosts(vms: usize) -> Self {
        let few = Self::noisy_host();
        let again = few.vms.iter().cycle().take(vms).enumerate();
        let vm = |(n, vm): (usize, &VmPlan)| match n / few.vms.len() {
            0 => vm.clone(),
            turn => VmPlan { name: format!("{}-{turn}", vm.name), ..vm.clone() },
        };
        Self { vms: again.map(vm).collect(), one_in: few.one_in }
    }

    /// Equal VMs for measuring: each vCPU has `reasons` reasons, and one vCPU in `one_in` does
    /// something in a tick.
    pub fn uniform(vms: u32, vcpus: u32, reasons: u32, one_in: u32) -> Self {
        // Exit codes 0 to 11 and 13 on: HLT is not work and would make the reasons unequal.
        let codes = (0u32..).filter(|&code| code != 12).take(reasons as usize);
        let habits: Vec<Habit> = codes
            .map(|code| habit(code, 500.0, 800 + 150 * u64::from(code), 2).slow(200, 100_000))
            .collect();
        let vm = |n| VmPlan {
            name: format!("vm-{n}"),
            vmm: "qemu",
            vcpus,
            idle: 0.2,
            wait: 0.01,
            first: 1.0,
            swing: 0.3,
            habits: habits.clone(),
            polls: 0.0,
            pages: 0.0,
            beside: 0.0,
            throttled: None,
            dirty: 0.0,
            roots: 0.0,
            comes_and_goes: None,
        };
        Self { vms: (1..=vms).map(vm).collect(), one_in: one_in.max(1) }
    }
}
