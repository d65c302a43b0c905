//! Interrupts, timers and scheduling in the report.

use serde::Deserialize;

/// Interrupts of a VM or a vCPU; nothing where the family is off.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Interrupts {
    /// Interrupts that were put in.
    pub injected: Option<Vec<Injected>>,
    /// Others of them.
    pub injected_other: u64,
    /// Exceptions that were put in.
    pub exceptions: Option<Vec<Exception>>,
    /// Others of them.
    pub exceptions_other: u64,
    /// Ends of interrupts.
    pub eois: Option<Vec<Eoi>>,
    /// Others of them.
    pub eois_other: u64,
    /// Inter-processor interrupts that were sent.
    pub ipis: Option<Vec<Ipi>>,
    /// Others of them.
    pub ipis_other: u64,
    /// What vCPUs' own threads delivered.
    pub delivered: Option<Vec<Delivery>>,
    /// Others of them.
    pub delivered_other: u64,
    /// What was delivered to vCPUs.
    pub received: Option<Vec<Delivery>>,
    /// Others of them.
    pub received_other: u64,
    /// Timers.
    pub timers: Option<Timers>,
    /// Of a VM: what others sent, and through which chip.
    pub routes: Option<Vec<Route>>,
    /// Others of them.
    pub routes_other: u64,
    /// Of a VM: whether the processor may deliver by itself.
    #[serde(default)]
    pub apicv: Option<Apicv>,
}

/// Whether the processor may deliver interrupts by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Apicv {
    /// By the module's parameter.
    pub allowed: Option<bool>,
    /// Why it does not; empty where it does.
    pub inhibits: Option<Vec<Inhibit>>,
}

/// Why the processor does not deliver by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Inhibit {
    /// KVM's number.
    pub bit: u32,
    /// KVM's name.
    pub name: Option<String>,
}

/// Interrupts of a vector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Injected {
    /// Which.
    pub vector: u64,
    /// What it is called.
    pub name: Option<String>,
    /// INT n.
    pub soft: bool,
    /// Tried before.
    pub reinjected: bool,
    /// How many.
    pub count: u64,
}

/// Exceptions of a vector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Exception {
    /// Which.
    pub vector: u64,
    /// What it is called.
    pub name: Option<String>,
    /// Whether it has an error code.
    pub error_code: bool,
    /// Tried before.
    pub reinjected: bool,
    /// How many.
    pub count: u64,
}

/// Ends of interrupts of a vector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Eoi {
    /// Which; none where nothing was in service.
    pub vector: Option<u64>,
    /// By a flag in memory.
    pub paravirtual: bool,
    /// How many.
    pub count: u64,
}

/// Inter-processor interrupts of one kind from one vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ipi {
    /// Who sent.
    pub from: u32,
    /// Delivery mode.
    pub mode: String,
    /// Vector.
    pub vector: u64,
    /// Whom for, where not for the destination.
    pub shorthand: String,
    /// Whether the destination is logical.
    pub logical: bool,
    /// For whom.
    pub destination: u32,
    /// Asserted.
    pub assert: bool,
    /// Low half of the ICR.
    pub icr: u32,
    /// How many.
    pub count: u64,
}

/// Deliveries of one kind to a vCPU's local APIC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Delivery {
    /// Whose thread delivered; not told of what was received.
    pub from: Option<u32>,
    /// To whom.
    pub to: u32,
    /// Vector.
    pub vector: u64,
    /// Delivery mode.
    pub mode: String,
    /// Level-triggered.
    pub level: bool,
    /// How many.
    pub count: u64,
    /// Of them, those that the hardware took over.
    pub posted: u64,
}

/// Timers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Timers {
    /// The hardware's took over.
    pub hardware: u64,
    /// The kernel's took over.
    pub software: u64,
    /// Deadlines.
    pub deadlines: u64,
    /// Deadlines of 0.
    pub disarmed: u64,
    /// One-shot counts.
    pub one_shot: u64,
    /// Periodic counts.
    pub periodic: u64,
    /// Interrupts of the timer.
    pub expired: u64,
    /// Which is in use at the end.
    pub hardware_now: Option<bool>,
    /// Those that came late.
    pub late: Late,
}

/// Timers that came late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// How late in all, in ticks of the guest's TSC.
    pub total_ticks: u64,
    /// The latest.
    pub max_ticks: u64,
}

/// Interrupts of one kind from one sender.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// `pic`, `ioapic`, `msi`, `line` or `lapic`.
    pub chip: String,
    /// `thread`, `vcpu`, `kernel` or `interrupt`.
    pub sender: String,
    /// Its process.
    pub pid: u32,
    /// Name of its thread.
    pub comm: String,
    /// How many.
    pub count: u64,
    /// Those of them that were merged with one that waited.
    pub coalesced: u64,
    /// Pin of a chip.
    pub pin: Option<u64>,
    /// Line of the VM.
    pub gsi: Option<u64>,
    /// Raised or lowered.
    pub asserted: Option<bool>,
    /// Address of a message.
    pub address: Option<u64>,
    /// Its data.
    pub data: Option<u64>,
    /// Vector.
    pub vector: Option<u64>,
    /// Delivery mode.
    pub mode: Option<String>,
    /// Whether the destination is logical.
    pub logical: Option<bool>,
    /// To which APIC.
    pub destination: Option<u32>,
    /// Level-triggered.
    pub level: Option<bool>,
    /// Masked.
    pub masked: Option<bool>,
    /// To which vCPU.
    pub vcpu: Option<u32>,
    /// Of a local APIC: those that the hardware took over.
    pub posted: Option<u64>,
}

/// Halt polling, wake-ups and time on CPUs of a vCPU; nothing where the family is off.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Scheduling {
    /// Halt polling.
    pub halt_poll: Option<HaltPoll>,
    /// Wake-ups by kind.
    pub wakeups: Option<Vec<Wakeup>>,
    /// Time on CPUs.
    pub load: Option<Load>,
}

/// Halt polling.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HaltPoll {
    /// The window at the end.
    pub window_ns: Option<u64>,
    /// Times it grew.
    pub grew: u64,
    /// Times it shrank.
    pub shrank: u64,
    /// Wake-ups while polling.
    pub polled: u64,
    /// Wake-ups after sleep.
    pub slept: u64,
    /// Time spent polling.
    pub polling_ns: u64,
}

/// Wake-ups of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Wakeup {
    /// `polled`, `polled_idle`, `slept` or `slept_idle`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// How long the vCPU was halted, all together.
    pub total_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99% are at most this.
    pub p99_ns: u64,
}

/// Time on CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Load {
    /// Intervals that ended.
    pub count: u64,
    /// Their time.
    pub total_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How long the open one lasts.
    pub open_ns: u64,
    /// All of it.
    pub loaded_ns: u64,
    /// Moves to another CPU.
    pub migrations: u64,
    /// Moves to another node.
    pub crossings: u64,
    /// By CPU.
    pub cpus: Vec<OnCpu>,
    /// Intervals on others.
    pub cpus_other: u64,
    /// Their time.
    pub cpus_other_ns: u64,
}

/// Time on one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OnCpu {
    /// Which.
    pub cpu: u32,
    /// Intervals that ended.
    pub count: u64,
    /// Their time.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How long the open one lasts.
    pub open_ns: u64,
}

impl Interrupts {
    /// Interrupts of a vector that were put in, software ones and those tried before left out; `None` where
    /// the family is off.
    pub fn injected_of(&self, vector: u64) -> Option<u64> {
        let all = self.injected.as_ref()?.iter();
        let of = all.filter(|irq| irq.vector == vector && !irq.soft && !irq.reinjected);
        Some(of.map(|irq| irq.count).sum())
    }

    /// Ends of interrupts of a vector; `None` where the family is off.
    pub fn eois_of(&self, vector: u64) -> Option<u64> {
        let of = self.eois.as_ref()?.iter().filter(|eoi| eoi.vector == Some(vector));
        Some(of.map(|eoi| eoi.count).sum())
    }

    /// What was delivered to a vCPU with a vector; `None` where the family is off.
    pub fn received_of(&self, to: u32, vector: u64) -> Option<u64> {
        let all = self.received.as_ref()?.iter();
        let of = all.filter(|irq| irq.to == to && irq.vector == vector);
        Some(of.map(|irq| irq.count).sum())
    }

    /// Inter-processor interrupts that a vCPU sent with a vector; `None` where the family is off.
    pub fn ipis_of(&self, from: u32, vector: u64) -> Option<u64> {
        let all = self.ipis.as_ref()?.iter();
        let of = all.filter(|ipi| ipi.from == from && ipi.vector == vector);
        Some(of.map(|ipi| ipi.count).sum())
    }

    /// Interrupts through a chip, of whatever kind; `None` where the family is off.
    pub fn through(&self, chip: &str) -> Option<Vec<&Route>> {
        Some(self.routes.as_ref()?.iter().filter(|route| route.chip == chip).collect())
    }
}

impl Scheduling {
    /// Wake-ups of a kind (0 where there were none); `None` where the family is off.
    pub fn wakeups_of(&self, kind: &str) -> Option<u64> {
        let of = self.wakeups.as_ref()?.iter().filter(|wakeup| wakeup.kind == kind);
        Some(of.map(|wakeup| wakeup.count).sum())
    }
}

impl Load {
    /// Time on CPUs, one by one and those without a place.
    pub fn by_cpu_ns(&self) -> u64 {
        let on = |cpu: &OnCpu| cpu.total_ns + cpu.open_ns;
        self.cpus.iter().map(on).sum::<u64>() + self.cpus_other_ns
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Report, Vcpu};

    /// The example of the documentation, as it stands there.
    fn example() -> Report {
        let text = include_str!("../../../docs/json.md");
        let json = text.split("```json").nth(1).and_then(|rest| rest.split("```").next());
        serde_json::from_str(json.expect("an example")).expect("is a report")
    }

    fn first(report: &Report) -> &Vcpu {
        &report.vms[0].vcpus[0]
    }

    #[test]
    fn interrupts_of_the_documentation_s_example_are_read() {
        let report = example();
        let vcpu = &first(&report).interrupts;
        assert_eq!((vcpu.injected_of(236), vcpu.injected_of(1)), (Some(4100), Some(0)));
        assert_eq!((vcpu.eois_of(236), vcpu.received_of(0, 236)), (Some(3900), Some(4100)));
        assert_eq!((vcpu.ipis_of(0, 253), vcpu.ipis_of(1, 253)), (Some(500), Some(0)));
        assert_eq!(vcpu.delivered.as_ref().map(|all| all[0].from), Some(Some(0)));
        let timers = vcpu.timers.as_ref().expect("is on");
        assert_eq!((timers.deadlines, timers.late.max_ticks), (4200, 44_000));
        assert!(vcpu.through("msi").is_none());
        let unknown: Vec<_> =
            report.routes_unknown.iter().map(|row| (&*row.chip, row.count)).collect();
        assert_eq!(unknown, [("lapic", 5)]);
        let routes = report.vms[0].interrupts.through("msi").expect("is on");
        assert_eq!((routes[0].vector, routes[0].count, routes[0].coalesced), (Some(0x41), 30, 2));
        let apicv = report.vms[0].interrupts.apicv.as_ref().expect("is told");
        let inhibits = apicv.inhibits.as_ref().expect("was read");
        assert_eq!((apicv.allowed, inhibits[0].name.as_deref()), (Some(true), Some("ABSENT")));
    }

    #[test]
    fn scheduling_of_the_documentation_s_example_is_read() {
        let report = example();
        let vcpu = &first(&report).scheduling;
        assert_eq!((vcpu.wakeups_of("polled"), vcpu.wakeups_of("slept")), (Some(3), Some(0)));
        assert_eq!(vcpu.halt_poll.as_ref().and_then(|poll| poll.window_ns), Some(80_000));
        let load = vcpu.load.as_ref().expect("is on");
        assert_eq!((load.by_cpu_ns(), load.migrations), (load.loaded_ns, 11));
    }
}
