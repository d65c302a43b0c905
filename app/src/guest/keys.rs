//! What the exits were about, by key: the guest knows each port, address, MSR and page that it
//! used and how often. Only what holds for sure is listed, as in [`super::expect`].

use std::collections::BTreeMap;

use kvmscope_shared::detail::{HAS_ERROR, REFUSED};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Host};
use super::code::{self, Targets};
use super::expect::Done;
use super::faults::Faults;
use super::irqs::{msr, vector};
use super::op::Op;
use super::program::hypercall_of;
use super::space::Space;

/// How often one key came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyCount {
    /// What the key is: `port_out`, `port_in`, `mmio_read`, `mmio_write`, `msr_read`, `msr_write`,
    /// `cpuid`, `hypercall`, `page`, `mmio_fast`, `fault`, `dirty_slot`, `dirty_page`, `injected`,
    /// `exception`, `eoi`, `ipi`.
    pub class: String,
    /// The port, guest physical address, MSR, leaf (sub-leaf in the high half), number, page (as
    /// its address), kind of fault (`kvmscope_shared::detail::fault`) or slot.
    pub value: u64,
    /// Instructions that were about it; of a page, its faults.
    pub count: u64,
}

/// What else a vCPU's keys depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Where the vCPU's region begins.
    pub region: u64,
    /// How much room it has.
    pub space: Space,
    /// What it was told to use.
    pub targets: Targets,
    /// OUT by port, as the VMM saw it, where it went round many.
    pub ports: Option<BTreeMap<u16, u64>>,
    /// First writes by page to be touched.
    pub touched: Vec<u64>,
    /// The slot whose dirty pages KVM logs.
    pub dirty_slot: u32,
    /// Writes by page of that slot, at most one between two reads of the log.
    pub dirtied: Vec<u64>,
    /// First walks by page table.
    pub walked: Vec<u64>,
    /// The APIC of the vCPU that its inter-processor interrupts go to.
    pub next_apic: u32,
    /// It ended in the middle of a userspace exit. KVM tells of what was read only when the vCPU
    /// comes back with it, so what a last IN or MMIO read was about is never said.
    pub died: bool,
}

/// The keys of `done` on `host`, by class and value.
pub fn keys(host: &Host, done: &Done, used: &Used, faults: Option<&Faults>) -> Vec<KeyCount> {
    let made = &done.made;
    let targets = &used.targets;
    let mmio = used.region + used.space.mmio;
    let read_only = used.region + code::READ_ONLY;
    let mut all = Tally::default();
    match &used.ports {
        Some(ports) => {
            for (&port, &count) in ports {
                all.add("port_out", u64::from(port), count);
            }
        }
        None => all.add("port_out", u64::from(targets.out_port), made.out),
    }
    if done.irqchip {
        all.add("port_out", u64::from(code::PORT_CONTROL), done.control);
    }
    all.add("port_out", u64::from(code::PORT_SEEN), done.count_of(Op::IoapicLevel));
    if !used.died {
        all.add("port_in", u64::from(targets.in_port), made.input);
        all.add("mmio_read", mmio, made.mmio_read);
    }
    all.add("mmio_read", code::IOAPIC_WINDOW, made.mmio_kernel);
    all.add("mmio_write", mmio, made.mmio_write);
    all.add("mmio_write", read_only, made.same_page);
    match doorbell(host, made.doorbell) {
        Some((fast, emulated)) => {
            all.add("mmio_fast", used.region + code::DOORBELL, fast);
            all.add("mmio_write", used.region + code::DOORBELL, emulated);
        }
        None => all.leave_out("mmio_write"),
    }
    all.add("msr_read", u64::from(targets.msr_read), made.rdmsr);
    all.add("msr_write", u64::from(targets.msr_written), made.wrmsr);
    interrupts(host, done, used, &mut all);
    all.add("cpuid", 0, made.cpuid);
    for op in Op::ALL.into_iter().filter(|op| op.is_hypercall()) {
        all.add("hypercall", u64::from(hypercall_of(op).0), made.get(op));
    }
    if let Some(faults) = faults {
        faults.pages.iter().for_each(|(&page, &count)| all.add("page", page, count));
        faults.kinds.iter().for_each(|(&kind, &count)| all.add("fault", kind, count));
        all.add("dirty_slot", u64::from(used.dirty_slot), made.dirty);
        for (index, &count) in (0..).zip(&used.dirtied) {
            let page = used.region + code::DIRTY + index * code::PAGE;
            all.add("dirty_page", page, count);
        }
    }
    all.0
        .into_iter()
        .map(|((class, value), count)| KeyCount { class: class.to_owned(), value, count })
        .collect()
}

/// What interrupts and exceptions were about. Where the processor delivers interrupts itself (APICv, AVIC) it
/// says nothing about what is put into the guest and its ends.
fn interrupts(host: &Host, done: &Done, used: &Used, all: &mut Tally) {
    let made = &done.made;
    all.add("msr_read", u64::from(msr::NONE) | REFUSED, made.gp);
    for (register, count) in done.apic_writes() {
        all.add("msr_write", u64::from(register), count);
    }
    let ipi = u64::from(vector(Op::Ipi)) | u64::from(used.next_apic) << 32;
    all.add("ipi", ipi, made.ipi);
    all.add("exception", u64::from(vector(Op::Gp)) | HAS_ERROR, made.gp);
    all.add("exception", u64::from(vector(Op::Ud)), made.ud);
    if host.avic() && done.uses_apic() {
        all.leave_out("msr_write");
        all.leave_out("ipi");
    }
    if host.apicv {
        return;
    }
    let ends = done.ends().map(|(_, count)| count).sum();
    all.add("msr_write", u64::from(msr::EOI), ends);
    if !matches!(host.backend, Backend::Vmx | Backend::Svm) {
        // The paravirtual backend puts interrupts into the guest without a word, and ends each once more.
        return;
    }
    for (vector, count) in done.ends() {
        all.add("eoi", u64::from(vector), count);
        all.add("injected", u64::from(vector), count);
    }
    all.add("injected", u64::from(vector(Op::PicLine)), done.count_of(Op::PicLine));
}

/// Of `rings` of a doorbell those that KVM answers fast, and those that it emulates; `None` where that
/// is not known.
fn doorbell(host: &Host, rings: u64) -> Option<(u64, u64)> {
    match host.backend {
        // Fast ones come by EPT misconfigurations, and the first access is none yet.
        Backend::Vmx if host.mmio_caching && host.nested_paging => {
            Some((rings.saturating_sub(1), rings.min(1)))
        }
        // Newer kernels know fast ones on SVM, where the processor says where the next instruction is.
        Backend::Svm if host.next_rip && rings > 0 => None,
        _ => Some((0, rings)),
    }
}

/// Counts by class and value.
#[derive(Default)]
struct Tally(BTreeMap<(&'static str, u64), u64>);

impl Tally {
    fn add(&mut self, class: &'static str, value: u64, count: u64) {
        if count > 0 {
            *self.0.entry((class, value)).or_default() += count;
        }
    }

    /// Nothing is said about this class.
    fn leave_out(&mut self, class: &'static str) {
        self.0.retain(|key, _| key.0 != class);
    }
}

/// Goes round ports so that some come more often than others: it begins at port 0, then at 1 and
/// so on, each time up to the last, so the last comes as many times as there are ports while
/// the first comes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    ports: u16,
    from: u16,
    at: u16,
}

impl Spread {
    /// Over `ports` ports from [`code::PORT_SPREAD`].
    pub fn new(ports: u16) -> Self {
        Self { ports, from: 0, at: 0 }
    }

    /// The port of the next OUT.
    pub fn port(&self) -> u16 {
        code::PORT_SPREAD + self.at
    }

    /// That OUT was made.
    pub fn step(&mut self) {
        self.at += 1;
        if self.at >= self.ports {
            self.from = (self.from + 1) % self.ports.max(1);
            self.at = self.from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::demo::NOTHING;
    use super::super::op::Counts;
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
        touch: 3,
        same_page: 11,
        halt: 12,
        pause: 13,
        ..NOTHING
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

    fn counts(backend: Backend, irqchip: bool, used: &Used) -> Vec<(String, u64, u64)> {
        keys_of(&host(backend), MADE, irqchip, used)
    }

    fn keys_of(host: &Host, made: Counts, irqchip: bool, used: &Used) -> Vec<(String, u64, u64)> {
        let done = Done { made, control: 2, irqchip, ..Done::default() };
        let faults = Faults::of(host, &done, used);
        let keys = keys(host, &done, used, faults.as_ref());
        keys.into_iter().map(|key| (key.class, key.value, key.count)).collect()
    }

    fn of(class: &str, all: &[(String, u64, u64)]) -> Vec<(u64, u64)> {
        let own = all.iter().filter(|key| key.0 == class);
        own.map(|&(_, value, count)| (value, count)).collect()
    }

    #[test]
    fn each_instruction_is_about_its_key() {
        let used = Used { region: code::REGION, touched: vec![2, 1], ..Used::default() };
        let all = counts(Backend::Svm, false, &used);
        assert_eq!(of("port_out", &all), [(0x3f8, 1)]);
        assert_eq!(of("port_in", &all), [(0x3fd, 2)]);
        assert_eq!(of("mmio_read", &all), [(0x380_0000, 3)]);
        assert_eq!(of("mmio_write", &all), [(0x380_0000, 4), (0x3a0_0000, 11)]);
        assert_eq!(of("msr_read", &all), [(0x1b, 6)]);
        assert_eq!(of("msr_write", &all), [(0x79, 7)]);
        assert_eq!(of("cpuid", &all), [(0, 5)]);
        assert_eq!(of("hypercall", &all), [(0x7fff_ff00, 8)]);
        let pages = [
            (0x200_0000, 1),
            (0x200_8000, 1),
            (0x220_0000, 2),
            (0x220_8000, 1),
            (0x380_0000, 7),
            (0x3a0_0000, 11),
        ];
        assert_eq!(of("page", &all), pages);
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(all, sorted);
    }

    #[test]
    fn pages_depend_on_the_hardware() {
        let used = Used::default();
        let vmx = counts(Backend::Vmx, false, &used);
        assert_eq!(of("page", &vmx)[2], (0x180_0000, 1), "later ones are misconfigurations");
        assert!(of("page", &counts(Backend::Pvm, false, &used)).is_empty());
        let none = Host { nested_paging: false, ..host(Backend::Vmx) };
        let keys = keys_of(&none, MADE, false, &used);
        assert!(keys.iter().all(|key| key.0 != "page" && key.0 != "fault"));
    }

    #[test]
    fn what_was_read_last_is_not_known_of_a_vcpu_that_died() {
        let all = counts(Backend::Vmx, false, &Used { died: true, ..Used::default() });
        assert!(of("port_in", &all).is_empty() && of("mmio_read", &all).is_empty());
        assert_eq!(of("port_out", &all), [(0x3f8, 1)]);
    }

    #[test]
    fn ends_of_rounds_have_a_port_where_halts_stay_in_kvm() {
        let all = counts(Backend::Vmx, true, &Used::default());
        assert_eq!(of("port_out", &all), [(0x3f8, 1), (0x510, 2)]);
    }

    #[test]
    fn spread_ports_come_the_more_often_the_higher_they_are() {
        let mut spread = Spread::new(3);
        let mut ports = BTreeMap::new();
        for _ in 0..6 {
            *ports.entry(spread.port()).or_insert(0) += 1;
            spread.step();
        }
        assert_eq!(ports, BTreeMap::from([(0x1000, 1), (0x1001, 2), (0x1002, 3)]));
        assert_eq!(spread, Spread::new(3), "and again");
        let all = counts(
            Backend::Svm,
            false,
            &Used { ports: Some(BTreeMap::from([(0x1000, 1), (0x1002, 3)])), ..Used::default() },
        );
        assert_eq!(of("port_out", &all), [(0x1000, 1), (0x1002, 3)]);
    }

    #[test]
    fn a_doorbell_is_fast_where_that_is_known() {
        let made = Counts { doorbell: 5, mmio_write: 2, ..NOTHING };
        let at = |host: &Host| keys_of(host, made, false, &Used::default());
        let vmx = at(&host(Backend::Vmx));
        assert_eq!(of("mmio_fast", &vmx), [(0x180_8000, 4)]);
        assert_eq!(of("mmio_write", &vmx), [(0x180_0000, 2), (0x180_8000, 1)]);
        let svm = at(&host(Backend::Svm));
        assert!(of("mmio_fast", &svm).is_empty());
        assert_eq!(of("mmio_write", &svm), [(0x180_0000, 2), (0x180_8000, 5)]);
        let unknown = at(&Host { next_rip: true, ..host(Backend::Svm) });
        assert!(of("mmio_write", &unknown).is_empty() && of("mmio_fast", &unknown).is_empty());
    }

    #[test]
    fn what_is_dirtied_is_told_by_slot_and_page() {
        let made = Counts { dirty: 5, ..NOTHING };
        let used = Used { dirty_slot: 192, dirtied: vec![3, 2], ..Used::default() };
        let all = keys_of(&host(Backend::Vmx), made, false, &used);
        assert_eq!(of("dirty_slot", &all), [(192, 5)]);
        assert_eq!(of("dirty_page", &all), [(0x1c0_0000, 3), (0x1c0_1000, 2)]);
    }
}
