//! Interrupts, timers, halts and CPUs in one boot of each kernel (`tests/rigs/interrupts.sh`): the guest's account
//! is the kernel's, and the report's is the guest's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use kvmscope_tests::check::Problems;
use kvmscope_tests::format::{Guest, GuestVcpu};
use kvmscope_tests::hist::{self, Hist};
use kvmscope_tests::program::{Profile, kvmscope};
use kvmscope_tests::rig::{self, Output, Vendor};

use crate::nothing_is_wrong;

mod reported;

rigs! {
    interrupts_svm_6_1: Svm "6.1" 30;
    interrupts_svm_6_12: Svm "6.12" 30;
    interrupts_svm_newest: Svm "newest" 30;
    interrupts_vmx_6_12: Vmx "6.12" 6;
}

const CASES: [&str; 15] = [
    "one-shot",
    "periodic",
    "deadline",
    "ipi",
    "self-ipi",
    "message",
    "pic",
    "ioapic",
    "exceptions",
    "split",
    "none",
    "moves",
    "together",
    "sleep",
    "poll",
];

/// Of them where the vendor matters; Bochs takes a minute for each.
const OF_VMX: [&str; 6] = ["periodic", "ipi", "ioapic", "split", "together", "sleep"];

/// Vector of the guest's periodic timer.
const PERIODIC: u64 = 0x31;

/// What a case left.
pub(crate) struct Run<'a> {
    output: &'a Output,
    pub(crate) case: &'static str,
    pub(crate) guest: Guest,
}

impl Run<'_> {
    /// A histogram; one of an event that this kernel does not have is empty.
    fn hist(&self, event: &str) -> Result<Hist> {
        match self.output.text(&format!("{}.{event}.hist", self.case)) {
            Ok(text) => hist::parse(&text),
            Err(_) => Ok(Hist::new()),
        }
    }

    pub(crate) fn vcpus(&self) -> impl Iterator<Item = &GuestVcpu> {
        self.guest.vms.iter().flat_map(|vm| &vm.vcpus)
    }

    /// What the guest says of a class of keys, over all vCPUs; `None` where it says nothing.
    fn keys(&self, class: &str) -> BTreeMap<u64, u64> {
        let mut all = BTreeMap::new();
        for key in self.vcpus().flat_map(|vcpu| &vcpu.expect.keys) {
            if key.class == class {
                *all.entry(key.value).or_default() += key.count;
            }
        }
        all
    }

    /// What the kernel put in, by vector; again is not counted.
    fn injected(&self) -> Result<BTreeMap<u64, u64>> {
        let first = |keys: &[i64]| keys.get(1).is_none_or(|&again| again == 0);
        Ok(by(self.hist("kvm_inj_virq")?, &|keys| first(keys).then_some(keys[0] as u64)))
    }

    /// Ends of interrupts by vector as the kernel saw them, and ends of none.
    fn ends(&self) -> Result<(BTreeMap<u64, u64>, u64)> {
        let mut ends = by(self.hist("kvm_eoi")?, &|keys| Some(keys[0] as u64));
        let none = ends.remove(&u64::MAX).unwrap_or(0);
        Ok((ends, none))
    }

    /// What was put into local APICs, by vector; a message that only wakes has vector 0.
    fn delivered(&self) -> Result<BTreeMap<u64, u64>> {
        let vector = |keys: &[i64]| (keys[1] != 0).then_some(keys[1] as u64);
        Ok(by(self.hist("kvm_apic_accept_irq")?, &vector))
    }

    /// How often a periodic timer expired once more while it was being stopped: newer kernels answer that write without
    /// looking at timers, and the guest takes no interrupt after it.
    fn in_vain(&self) -> Result<u64> {
        let expired = self.delivered()?.get(&PERIODIC).copied().unwrap_or(0);
        let taken = self.taken().get(&PERIODIC).copied().unwrap_or(0);
        let stops: u64 = self.vcpus().map(|vcpu| vcpu.expect.timers.periodic).sum();
        Ok(expired.saturating_sub(taken).min(stops))
    }

    /// Interrupts by vector that came through its local APICs.
    fn taken(&self) -> BTreeMap<u64, u64> {
        let mut all = BTreeMap::new();
        for handled in self.vcpus().flat_map(|vcpu| &vcpu.interrupts) {
            if !matches!(handled.kind.as_str(), "gp" | "ud" | "pic_line") {
                *all.entry(u64::from(handled.vector)).or_default() += handled.count;
            }
        }
        all
    }
}

/// Adds a histogram up by what `of` makes of its keys.
fn by(hist: Hist, of: &dyn Fn(&[i64]) -> Option<u64>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for (keys, count) in hist {
        if let Some(key) = of(&keys) {
            *counts.entry(key).or_default() += count;
        }
    }
    counts
}

/// How many more the guest counted than the kernel; `None` where the kernel has more of something.
fn more(guest: &BTreeMap<u64, u64>, kernel: &BTreeMap<u64, u64>) -> Option<u64> {
    let of = |map: &BTreeMap<u64, u64>, key| map.get(key).copied().unwrap_or(0);
    let all: BTreeSet<&u64> = guest.keys().chain(kernel.keys()).collect();
    all.into_iter().map(|key| of(guest, key).checked_sub(of(kernel, key))).sum()
}

fn all_cases(vendor: Vendor, kernel: &'static str, few: u32) {
    let cases = if vendor == Vendor::Vmx { &OF_VMX[..] } else { &CASES };
    let script = include_str!("../../rigs/interrupts.sh");
    let script = format!("few={few} cases='{}'\n{script}", cases.join(" "));
    let program = kvmscope(Profile::Release).expect("it is built");
    let output = rig::run(vendor, kernel, "interrupts", &program, &script).expect("the rig runs");
    let found = cases.iter().map(|&case| (case, agrees(&output, case)));
    nothing_is_wrong(vendor, kernel, found);
}

fn agrees(output: &Output, case: &'static str) -> Result<Problems> {
    let status = output.text(&format!("{case}.status"))?;
    let log = output.text(&format!("{case}.log"))?;
    ensure!(status.trim() == "0", "status {}: {log}", status.trim());
    let guest: Guest = output.json(&format!("{case}.guest.json"))?;
    let run = Run { output, case, guest };
    let left_out: Vec<&str> = run.guest.skipped.iter().map(|skipped| &*skipped.kind).collect();
    // The VMX rig has one CPU; with a controller in the kernel no HLT comes to the VMM.
    ensure!(left_out.iter().all(|kind| ["move_cpus", "hlt"].contains(kind)), "{left_out:?}");
    let mut problems = kernel_agrees(&run)?;
    let kernel = reported::Kernel {
        injected: run.injected()?,
        ends: run.ends()?.0,
        delivered: run.delivered()?,
        wakeups: run.hist("kvm_vcpu_wakeup")?,
        routes: routes(&run)?,
        twice: *twice(&run)?.end(),
        in_vain: run.in_vain()?,
    };
    problems.extend(reported::agrees(&run, &kernel, &output.json(&format!("{case}.report.json"))?));
    Ok(problems)
}

/// The guest's own account is the kernel's.
fn kernel_agrees(run: &Run) -> Result<Problems> {
    let mut problems = Problems::new();
    let mut same = |what: &str, guest: &BTreeMap<u64, u64>, kernel: BTreeMap<u64, u64>| {
        if *guest != kernel {
            problems.push(format!("{what}: {guest:x?} by the guest, {kernel:x?} by the kernel"));
        }
    };
    let repeated = |keys: &[i64], at: usize| keys.get(at).is_some_and(|&again| again != 0);
    let kernel = by(run.hist("kvm_inj_exception")?, &|keys| {
        (!repeated(keys, 2)).then_some(keys[0] as u64 | u64::from(keys[1] != 0) << 8)
    });
    same("exception", &run.keys("exception"), kernel);
    let kernel =
        by(run.hist("kvm_apic_ipi")?, &|keys| Some((keys[0] as u64) << 32 | keys[1] as u64));
    same("ipi", &run.keys("ipi"), kernel);
    problems.extend(taken(run)?);
    problems.extend(timers(run)?);
    Ok(problems)
}

/// How many interrupts the guest took more often than they were put in. QEMU's SVM sometimes delivers one twice: its
/// second handler ends an interrupt that nobody put in, which the kernel counts as the end of none.
///
/// What the 8259 sends needs no end. There a guest that took one twice is ahead of its VMM, so that of what the VMM
/// was to send some was not sent, some found one like it waiting, and the last may wait still at the end.
fn twice(run: &Run) -> Result<RangeInclusive<u64>> {
    let none = run.ends()?.1;
    if run.case != "pic" {
        return Ok(none..=none);
    }
    let made = run.guest.vms.iter().flat_map(|vm| &vm.routes).filter(|row| row.chip == "pic");
    let made: u64 = made.map(|row| row.count).sum();
    let routes = routes(run)?;
    let pic = || routes.iter().filter(|((chip, ..), _)| chip == "pic").map(|(_, row)| row);
    let sent: u64 = pic().map(|row| row.0).sum();
    let waiting: u64 = pic().map(|row| row.1).sum();
    // Each is raised and lowered.
    let ahead = made.saturating_sub(sent) / 2 + waiting;
    Ok(ahead..=ahead + 1)
}

/// What was put in, delivered and ended: by the guest so many more as it took twice.
fn taken(run: &Run) -> Result<Problems> {
    let (ends, none) = run.ends()?;
    let twice = twice(run)?;
    let mut problems = Problems::new();
    let mut same = |what: &str, guest: &BTreeMap<u64, u64>, kernel, most: RangeInclusive<u64>| {
        if !more(guest, &kernel).is_some_and(|more| most.contains(&more)) {
            problems.push(format!(
                "{what}: {guest:x?} by the guest, {kernel:x?} by the kernel; {none} ends of none"
            ));
        }
    };
    // What the processor delivers by itself is in neither.
    let guest = run.keys("injected");
    if !guest.is_empty() {
        same("injected", &guest, run.injected()?, twice);
        same("eoi", &run.keys("eoi"), ends, none..=none);
    }
    let mut delivered = run.delivered()?;
    if let Some(periodic) = delivered.get_mut(&PERIODIC) {
        *periodic -= run.in_vain()?;
    }
    same("delivered", &run.taken(), delivered, 0..=none);
    Ok(problems)
}

/// Bits of an I/O APIC's entry that change by themselves.
pub(crate) const CHANGING: u64 = 1 << 12 | 1 << 14;

/// What came through the chips, by (pin and entry, or address and data, or GSI and level): how often, and how often
/// of it one like it was waiting.
pub(crate) type Routes = BTreeMap<(String, u64, u64), (u64, u64)>;

fn routes(run: &Run) -> Result<Routes> {
    let mut routes = Routes::new();
    let mut add = |chip: &str, a: i64, b: u64, coalesced: bool, count: u64| {
        let row = routes.entry((chip.to_owned(), a as u64, b)).or_default();
        *row = (row.0 + count, row.1 + if coalesced { count } else { 0 });
    };
    // A histogram has three keys at most; all lines here are by edge, and of the first chip.
    for (keys, count) in run.hist("kvm_pic_set_irq")? {
        let [pin, imr, coalesced] = keys[..] else { continue };
        add("pic", pin, ((imr >> pin & 1) as u64) << 1, coalesced != 0, count);
    }
    for (keys, count) in run.hist("kvm_ioapic_set_irq")? {
        let [pin, entry, coalesced] = keys[..] else { continue };
        add("ioapic", pin, entry as u64 & !CHANGING, coalesced != 0, count);
    }
    for (keys, count) in run.hist("kvm_msi_set_irq")? {
        add("msi", keys[0], keys[1] as u64, false, count);
    }
    for (keys, count) in run.hist("kvm_set_irq")? {
        add("line", keys[0], keys[1] as u64, false, count);
    }
    Ok(routes)
}

/// What was written to timers.
fn timers(run: &Run) -> Result<Problems> {
    let sum = |of: &dyn Fn(&GuestVcpu) -> u64| run.vcpus().map(of).sum::<u64>();
    let apic = run.hist("kvm_apic")?;
    let written = |register: i64| apic.get(&vec![1, register]).copied().unwrap_or(0);
    let msr = run.hist("kvm_msr")?;
    let deadlines = msr.get(&vec![1, 0x6e0, 0]).copied().unwrap_or(0);
    let told = |timers: fn(&GuestVcpu) -> u64| sum(&timers);
    let expected = [
        ("TMICT", told(|vcpu| vcpu.expect.timers.one_shot + 2 * vcpu.expect.timers.periodic)),
        ("deadlines", told(|vcpu| vcpu.expect.timers.deadlines + vcpu.expect.timers.disarmed)),
    ];
    let kernel = [written(0x380), deadlines];
    let pairs = expected.into_iter().zip(kernel);
    Ok(pairs
        .filter(|((_, guest), kernel)| guest != kernel)
        .map(|((what, guest), kernel)| format!("{what}: {guest} by the guest, {kernel}"))
        .collect())
}
