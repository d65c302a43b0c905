//! How many exits of each reason a count of instructions must make. Only what holds for
//! sure is listed; exits that the host causes (interrupts) come on top and are not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backend::{Backend, Host};
use super::faults::Faults;
use super::irqs::{HANDLED, HANDLERS, ends_at_apic, handler, msr};
use super::keys::{KeyCount, Used, keys};
use super::op::{Counts, Op};
use super::program::hypercall_of;
use super::routes::{InterruptCount, Timers};

/// Exits by the running kernel's name of the reason, upper case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Kernel exits (`kvm_exit`). Reasons that are not named are not said to be zero.
    pub exits: BTreeMap<String, u64>,
    /// Userspace exits (`kvm_userspace_exit`).
    pub userspace_exits: BTreeMap<String, u64>,
    /// What they were about, by class and value. Classes that are not named are not said to have
    /// no keys; those that are have all of them here.
    #[serde(default)]
    pub keys: Vec<KeyCount>,
    /// The hypercalls among them with their arguments.
    #[serde(default)]
    pub hypercalls: Vec<HypercallCount>,
    /// Loads of an MMU root: so many at least, one for the vCPU's first entry and one for each time
    /// that its memory slots changed.
    #[serde(default)]
    pub roots_at_least: u64,
    /// Writes to the local APIC's timer, and its expiries.
    #[serde(default)]
    pub timers: Timers,
}

/// How often a hypercall was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HypercallCount {
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub args: [u32; 4],
    /// How often.
    pub count: u64,
}

/// What one vCPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Instructions made.
    pub made: Counts,
    /// Exits that ended a round: HLT, or OUT where HLT stays inside KVM.
    pub control: u64,
    /// There is an interrupt controller in the kernel.
    pub irqchip: bool,
    /// The guest has page tables of its own.
    pub paging: bool,
    /// HLTs in which it waited for an interrupt.
    pub waits: u64,
    /// Starts of the periodic timer.
    pub starts: u64,
    /// What its handlers counted, by [`HANDLED`].
    pub handled: [u64; HANDLERS],
}

impl Done {
    /// What its handlers counted, without those that were never called.
    pub fn interrupts(&self) -> Vec<InterruptCount> {
        let all = HANDLED.into_iter().zip(self.handled).filter(|&(_, count)| count > 0);
        all.map(|((op, vector), count)| InterruptCount {
            vector,
            kind: op.name().to_owned(),
            count,
        })
        .collect()
    }

    /// Ends of interrupts that it told its local APIC of.
    pub fn ends(&self) -> impl Iterator<Item = (u8, u64)> {
        let all = HANDLED.into_iter().zip(self.handled);
        all.filter(|((op, _), _)| ends_at_apic(*op)).map(|((_, vector), count)| (vector, count))
    }

    /// Writes to MSRs of its local APIC and to its deadline, without ends of interrupts.
    pub fn apic_writes(&self) -> [(u32, u64); 4] {
        let made = &self.made;
        let by_deadline = made.timer_deadline + made.timer_disarm;
        [
            (msr::LVTT, made.timer_one_shot + by_deadline + self.starts),
            (msr::TMICT, made.timer_one_shot + 2 * self.starts),
            (msr::DEADLINE, by_deadline + made.timer_disarm),
            (msr::ICR, made.ipi),
        ]
    }

    /// What the handler of `op` counted.
    pub fn count_of(&self, op: Op) -> u64 {
        handler(op).map_or(0, |index| self.handled[index])
    }

    /// Whether it used its local APIC.
    pub fn uses_apic(&self) -> bool {
        self.made.any(Op::needs_apic)
    }

    /// IN and OUT.
    fn io(&self) -> u64 {
        let seen = self.count_of(Op::IoapicLevel);
        self.made.out + self.made.input + seen + if self.irqchip { self.control } else { 0 }
    }

    /// HLT that the VMM sees.
    fn hlt(&self) -> u64 {
        self.made.hlt + if self.irqchip { 0 } else { self.control }
    }
}

/// What `done` must have made on `host`, with what it used.
pub fn expect(host: &Host, done: &Done, used: &Used) -> Expect {
    let faults = Faults::of(host, done, used);
    Expect {
        exits: kernel(host, done, faults.as_ref()),
        userspace_exits: userspace(done),
        keys: keys(host, done, used, faults.as_ref()),
        hypercalls: hypercalls(&done.made),
        roots_at_least: match faults {
            Some(_) => 1 + done.made.slots,
            None => 0,
        },
        timers: Timers::of(done),
    }
}

fn hypercalls(made: &Counts) -> Vec<HypercallCount> {
    let made = Op::ALL.into_iter().filter(|op| op.is_hypercall()).map(|op| (op, made.get(op)));
    made.filter(|&(_, count)| count > 0)
        .map(|(op, count)| {
            let (number, args) = hypercall_of(op);
            HypercallCount { number, args, count }
        })
        .collect()
}

fn userspace(done: &Done) -> BTreeMap<String, u64> {
    let made = &done.made;
    named([
        ("IO", done.io()),
        ("MMIO", made.mmio_read + made.mmio_write + made.same_page),
        ("HLT", done.hlt()),
    ])
}

fn kernel(host: &Host, done: &Done, faults: Option<&Faults>) -> BTreeMap<String, u64> {
    // Without unrestricted guest KVM emulates code without paging: no exits to count.
    if !host.unrestricted {
        return BTreeMap::new();
    }
    let made = &done.made;
    let (io, hlt) = (done.io(), done.hlt() + made.halt + done.waits);
    let (msr_reads, apic_writes) = (made.rdmsr + made.gp, done.apic_writes());
    let ends: u64 = done.ends().map(|(_, count)| count).sum();
    let msr_writes = made.wrmsr
        + apic_writes.into_iter().map(|(_, count)| count).sum::<u64>()
        + if host.apicv { 0 } else { ends };
    let hypercalls = hypercalls(made).iter().map(|call| call.count).sum();
    let mut exits = match host.backend {
        Backend::Vmx => named([
            ("IO_INSTRUCTION", io),
            ("CPUID", made.cpuid),
            ("MSR_READ", msr_reads),
            ("MSR_WRITE", msr_writes),
            ("VMCALL", hypercalls),
            ("HLT", hlt),
        ]),
        // SVM has one code for both directions of an MSR access; kvmscope tells them apart.
        Backend::Svm => named([
            ("IO", io),
            ("CPUID", made.cpuid),
            ("MSR_READ", msr_reads),
            ("MSR_WRITE", msr_writes),
            ("HYPERCALL", hypercalls),
            ("HLT", hlt),
        ]),
        Backend::Pvm | Backend::Unknown => return BTreeMap::new(),
    };
    if host.idle_hlt {
        // Whether the kernel uses it, and so under which code halts come, is not known.
        exits.remove("HLT");
    }
    if done.uses_apic() && host.avic() {
        // Which of its registers the hardware writes depends on the kernel and the processor.
        exits.remove("MSR_WRITE");
    }
    if let Some(faults) = faults {
        exits.extend(match host.backend {
            Backend::Vmx => named([
                ("EPT_VIOLATION", faults.all()),
                ("EPT_MISCONFIG", faults.misconfigurations),
            ]),
            _ => named([("NPF", faults.all())]),
        });
    }
    exits
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::*;

    const MADE: Counts = Counts {
        out: 1,
        input: 2,
        mmio_read: 3,
        mmio_write: 4,
        cpuid: 5,
        rdmsr: 6,
        wrmsr: 7,
        hypercall: 8,
        hlt: 9,
        touch: 10,
        same_page: 0,
        halt: 0,
        pause: 11,
        ..NONE
    };
    const NONE: Counts = demo::NOTHING;
    const DONE: Done = Done { made: MADE, control: 2, ..NOT_DONE };
    const NOT_DONE: Done = Done {
        made: NONE,
        control: 0,
        irqchip: false,
        paging: false,
        waits: 0,
        starts: 0,
        handled: [0; HANDLERS],
    };

    fn host(backend: Backend) -> Host {
        Host {
            backend,
            nested_paging: true,
            unrestricted: true,
            mmio_caching: true,
            page_log: false,
            next_rip: false,
            nx_huge_pages: true,
            idle_hlt: false,
            apicv: false,
        }
    }

    /// What goes with `MADE`.
    fn used() -> Used {
        Used { touched: vec![1; 10], ..Used::default() }
    }

    fn expect_of(host: &Host, done: &Done) -> Expect {
        expect(host, done, &used())
    }

    fn exits(host: &Host) -> Vec<(String, u64)> {
        expect_of(host, &DONE).exits.into_iter().collect()
    }

    fn pairs(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn vmx_tells_the_first_mmio_access_from_later_ones() {
        let expected = pairs(&[
            ("CPUID", 5),
            ("EPT_MISCONFIG", 6),
            ("EPT_VIOLATION", 13),
            ("HLT", 11),
            ("IO_INSTRUCTION", 3),
            ("MSR_READ", 6),
            ("MSR_WRITE", 7),
            ("VMCALL", 8),
        ]);
        assert_eq!(exits(&host(Backend::Vmx)), expected);
    }

    #[test]
    fn vmx_without_mmio_caching_has_violations_only() {
        let counts = expect_of(&Host { mmio_caching: false, ..host(Backend::Vmx) }, &DONE).exits;
        assert_eq!((counts["EPT_VIOLATION"], counts["EPT_MISCONFIG"]), (19, 0));
    }

    #[test]
    fn svm_faults_at_every_mmio_access() {
        let expected = pairs(&[
            ("CPUID", 5),
            ("HLT", 11),
            ("HYPERCALL", 8),
            ("IO", 3),
            ("MSR_READ", 6),
            ("MSR_WRITE", 7),
            ("NPF", 19),
        ]);
        assert_eq!(exits(&host(Backend::Svm)), expected);
    }

    #[test]
    fn page_faults_are_left_out_where_they_cannot_be_known() {
        let counts = expect_of(&Host { nested_paging: false, ..host(Backend::Svm) }, &DONE).exits;
        assert!(!counts.contains_key("NPF") && counts["CPUID"] == 5);
        let emulated = Host { unrestricted: false, ..host(Backend::Vmx) };
        assert_eq!(expect_of(&emulated, &DONE).exits.len(), 0);
    }

    #[test]
    fn halts_are_left_out_where_they_may_have_another_code() {
        let expected = expect_of(&Host { idle_hlt: true, ..host(Backend::Svm) }, &DONE);
        assert!(!expected.exits.contains_key("HLT"));
        assert_eq!(expected.userspace_exits["HLT"], 11);
    }

    #[test]
    fn every_backend_hands_the_same_to_the_vmm() {
        for backend in [Backend::Vmx, Backend::Svm, Backend::Pvm, Backend::Unknown] {
            let counts = expect_of(&host(backend), &DONE).userspace_exits;
            assert_eq!((counts["IO"], counts["MMIO"], counts["HLT"]), (3, 7, 11));
        }
        assert!(expect_of(&host(Backend::Pvm), &DONE).exits.is_empty());
    }

    #[test]
    fn with_an_interrupt_controller_rounds_end_by_out_and_halts_stay_in_kvm() {
        let made = Counts { hlt: 0, halt: 7, ..MADE };
        let expected = expect_of(&host(Backend::Vmx), &Done { made, irqchip: true, ..DONE });
        assert_eq!((expected.exits["HLT"], expected.exits["IO_INSTRUCTION"]), (7, 5));
        let userspace = expected.userspace_exits;
        assert_eq!((userspace["HLT"], userspace["IO"]), (0, 5));
    }

    #[test]
    fn a_write_to_the_read_only_page_is_a_violation_and_goes_to_the_vmm() {
        let made = Counts { same_page: 100, ..MADE };
        let done = Done { made, ..DONE };
        let vmx = expect_of(&host(Backend::Vmx), &done);
        assert_eq!((vmx.exits["EPT_VIOLATION"], vmx.exits["EPT_MISCONFIG"]), (113, 6));
        assert_eq!(vmx.userspace_exits["MMIO"], 107);
        assert_eq!(expect_of(&host(Backend::Svm), &done).exits["NPF"], 119);
    }

    #[test]
    fn hypercalls_add_up_and_are_told_with_their_arguments() {
        let made = Counts { kick_cpu: 3, send_ipi: 4, ..MADE };
        let expected = expect_of(&host(Backend::Vmx), &Done { made, ..DONE });
        assert_eq!(expected.exits["VMCALL"], 15);
        let told = expected.hypercalls.iter().map(|call| (call.number, call.args, call.count));
        let [unknown, kick, ipi] = [
            (0x7fff_ff00, [0x11, 0x22, 0x33, 0x44], 8),
            (5, [0, 200, 0, 0], 3),
            (10, [0b111, 0, 200, 0xf0], 4),
        ];
        assert_eq!(told.collect::<Vec<_>>(), [unknown, kick, ipi]);
    }

    #[test]
    fn interrupts_are_exits_of_the_local_apic_and_of_halts() {
        let made = Counts { timer_one_shot: 4, timer_disarm: 2, ipi: 3, gp: 5, ..NONE };
        let mut handled = [0; HANDLERS];
        (handled[0], handled[3], handled[10]) = (4, 3, 5);
        let done = Done { made, irqchip: true, waits: 6, handled, ..NOT_DONE };
        let at = |host: &Host| expect(host, &done, &Used::default());
        let svm = at(&host(Backend::Svm));
        // LVTT 4 + 2, TMICT 4, deadlines 2 × 2, ICR 3; EOI 4 + 3.
        assert_eq!((svm.exits["MSR_WRITE"], svm.exits["MSR_READ"]), (17 + 7, 5));
        assert_eq!(svm.exits["HLT"], 6);
        let timers =
            Timers { deadlines: 2, disarmed: 2, one_shot: 4, expired: 4, ..Timers::default() };
        assert_eq!(svm.timers, timers);
        let vmx = at(&Host { apicv: true, ..host(Backend::Vmx) });
        assert_eq!(vmx.exits["MSR_WRITE"], 17, "the processor ends interrupts by itself");
        let avic = at(&Host { apicv: true, ..host(Backend::Svm) });
        assert!(!avic.exits.contains_key("MSR_WRITE"));
        let kinds = done.interrupts().into_iter().map(|handled| (handled.vector, handled.count));
        assert_eq!(kinds.collect::<Vec<_>>(), [(0x30, 4), (0x33, 3), (13, 5)]);
    }

    #[test]
    fn changing_the_slots_makes_the_guest_begin_with_a_new_root() {
        let made = Counts { slots: 5, cpuid: 1, ..NONE };
        let expected = expect(&host(Backend::Svm), &Done { made, ..DONE }, &Used::default());
        assert_eq!((expected.exits["NPF"], expected.roots_at_least), (2 * 6, 6));
        let nothing = expect(&host(Backend::Pvm), &Done { made, ..DONE }, &Used::default());
        assert_eq!(nothing.roots_at_least, 0);
    }
}
