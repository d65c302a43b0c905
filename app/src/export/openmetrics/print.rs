//! What is printed of [`Metrics`], metric by metric. Pure.

use super::families::{self, Family};
use super::sums::{BOUNDS_NS, FAULTS, Place, Reasons, Times, VcpuSums, VmSums};
use super::text::{Dialect, Labels, Text, seconds};
use super::{Metrics, OTHER};
use crate::export::parts::state_word;
use crate::model::session::Origin;
use crate::model::tick::Phase;
use std::collections::BTreeMap;

/// All of it.
pub fn print(metrics: &Metrics, dialect: Dialect) -> String {
    let vms: Vec<Vm<'_>> = metrics
        .vms
        .values()
        .chain(metrics.rest.as_deref())
        .map(|sums| Vm::new(sums, metrics))
        .collect();
    // A hundred bytes for each of some thirty lines of a vCPU.
    let mut text = Text::new(dialect, 4096 * (1 + metrics.vcpus));
    session(metrics, &mut text);
    info(metrics, &mut text);
    counts(metrics, &vms, &mut text);
    times(metrics, &vms, &mut text);
    vcpus(&vms, &mut text);
    memory(&vms, &mut text);
    text.finish()
}

/// A VM that is printed, with labels that are made once.
struct Vm<'a> {
    sums: &'a VmSums,
    labels: Labels,
    vcpus: Vec<(Labels, &'a VcpuSums)>,
    living: Option<usize>,
}

impl<'a> Vm<'a> {
    fn new(sums: &'a VmSums, metrics: &Metrics) -> Self {
        let labels = Labels::none().with("vm", &sums.label);
        let numbered = sums.vcpus.iter().map(|(number, vcpu)| (number.to_string(), vcpu));
        let rest = sums.rest.as_deref().map(|rest| (OTHER.to_owned(), rest));
        let vcpus = numbered
            .chain(rest)
            .map(|(number, vcpu)| (labels.with("vcpu", &number), vcpu))
            .collect();
        let id = metrics.labels.get(&sums.label);
        let living = id.map(|id| metrics.world.who.vcpus_of(*id));
        Self { sums, labels, vcpus, living }
    }
}

fn session(metrics: &Metrics, text: &mut Text) {
    let session = &metrics.world.session;
    let none = Labels::none();
    text.family(&families::BUILD);
    let labels = none
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("backend", &session.host.backend)
        .with("kernel", &session.host.kernel)
        .with("host", &session.host.name)
        .with(
            "origin",
            match session.origin {
                Origin::Live => "live",
                Origin::Synthetic { .. } => "synthetic",
            },
        );
    text.sample(&families::BUILD, &labels, "1");
    text.family(&families::PROBE);
    // A probe of several families is in the list once for each.
    for probe in session.probes.iter().filter(|probe| !probe.is_off()) {
        let labels = none.with("probe", &probe.name).with("family", &probe.family);
        text.sample(&families::PROBE, &labels, if probe.attached { "1" } else { "0" });
    }
    text.family(&families::LOST);
    let lost = &metrics.lost;
    for (cause, n) in [
        ("missed_runs", lost.missed_runs),
        ("ring", lost.ring),
        ("pool_full", lost.pool_full),
        ("slots_full", lost.slots_full),
        ("ticks", metrics.lost_ticks),
    ] {
        text.sample(&families::LOST, &none.with("cause", cause), &n.to_string());
    }
    let mut one = |family: &Family, value: &str| {
        text.family(family);
        text.sample(family, &none, value);
    };
    one(&families::TICKS, &metrics.ticks.to_string());
    one(&families::MEASURED, &seconds(metrics.measured_ns));
    if metrics.ticks > 0 {
        one(&families::LAST, &seconds(session.unix_ns(metrics.end_ns)));
    }
    one(&families::OWN_CPU, &seconds(metrics.own_cpu_ns));
    one(&families::STEAL, &seconds(metrics.steal_ns));
    one(&families::SLOW, &metrics.slow.to_string());
    text.family(&families::FOLDED);
    let (vms, vcpus) = metrics.folded();
    let reasons = metrics.exits.folded + metrics.userspace.folded;
    for (what, n) in [("vms", vms), ("vcpus", vcpus), ("reasons", reasons)] {
        text.sample(&families::FOLDED, &none.with("what", what), &n.to_string());
    }
}

fn info(metrics: &Metrics, text: &mut Text) {
    text.family(&families::VM);
    for (id, vm) in &metrics.vms {
        let Some(info) = metrics.world.who.vm(*id) else { continue };
        let labels = Labels::none()
            .with("vm", &vm.label)
            .with("pid", &info.pid.to_string())
            .with("vmm", &super::text::bounded(&info.vmm));
        text.sample(&families::VM, &labels, "1");
    }
}

fn counts(metrics: &Metrics, vms: &[Vm<'_>], text: &mut Text) {
    text.family(&families::VCPUS);
    for vm in vms {
        if let Some(living) = vm.living {
            text.sample(&families::VCPUS, &vm.labels, &living.to_string());
        }
    }
    type Of = for<'a> fn(&'a VcpuSums) -> &'a BTreeMap<Place, u64>;
    let kinds: [(&Family, &Reasons, Of); 2] = [
        (&families::EXITS, &metrics.exits, |vcpu| &vcpu.exits),
        (&families::USERSPACE_EXITS, &metrics.userspace, |vcpu| &vcpu.userspace),
    ];
    for (family, reasons, of) in kinds {
        text.family(family);
        for (labels, vcpu) in vms.iter().flat_map(|vm| &vm.vcpus) {
            for (&place, n) in of(vcpu) {
                text.with(family, labels, ("reason", reasons.name(place)), &n.to_string());
            }
        }
    }
}

fn times(metrics: &Metrics, vms: &[Vm<'_>], text: &mut Text) {
    let bounds = BOUNDS_NS.map(seconds);
    let histogram = |text: &mut Text, family: &Family, labels: &Labels, times: &Times| {
        let buckets = bounds.iter().map(String::as_str).zip(times.buckets);
        let buckets: Vec<(&str, u64)> = buckets.collect();
        text.histogram(family, labels, &buckets, (times.timed, &seconds(times.total_ns)));
    };
    let exits = || {
        vms.iter().flat_map(|vm| {
            let of = |(place, times): (&Place, _)| (&vm.labels, metrics.exits.name(*place), times);
            vm.sums.exits.iter().map(of)
        })
    };
    text.family(&families::HANDLING);
    for (labels, reason, times) in exits() {
        histogram(text, &families::HANDLING, &labels.with("reason", reason), times);
    }
    for (family, of) in [
        (&families::OFF_CPU, (|times| times.off_ns) as fn(&Times) -> u64),
        (&families::IN_VMM, |times| times.vmm_ns),
    ] {
        text.family(family);
        for (labels, reason, times) in exits() {
            text.with(family, labels, ("reason", reason), &seconds(of(times)));
        }
    }
    text.family(&families::DWELL);
    for vm in vms {
        for (&place, times) in &vm.sums.userspace {
            let labels = vm.labels.with("reason", metrics.userspace.name(place));
            histogram(text, &families::DWELL, &labels, times);
        }
    }
}

fn vcpus(vms: &[Vm<'_>], text: &mut Text) {
    let all = || vms.iter().flat_map(|vm| &vm.vcpus);
    text.family(&families::TIME);
    for (labels, vcpu) in all() {
        for phase in Phase::ALL {
            let ns = vcpu.time.get(phase);
            text.with(&families::TIME, labels, ("state", state_word(phase)), &seconds(ns));
        }
    }
    text.family(&families::WAKEUPS);
    for (labels, vcpu) in all() {
        for (how, n) in [("polled", vcpu.wakeups.0), ("slept", vcpu.wakeups.1)] {
            text.with(&families::WAKEUPS, labels, ("how", how), &n.to_string());
        }
    }
    text.family(&families::MIGRATIONS);
    for (labels, vcpu) in all().filter(|(_, vcpu)| vcpu.migrations > 0) {
        text.sample(&families::MIGRATIONS, labels, &vcpu.migrations.to_string());
    }
}

fn memory(vms: &[Vm<'_>], text: &mut Text) {
    text.family(&families::FAULTS);
    for vm in vms {
        for ((_, kind), n) in FAULTS.iter().zip(vm.sums.faults.iter().flatten()) {
            text.with(&families::FAULTS, &vm.labels, ("kind", kind), &n.to_string());
        }
    }
    type Of = fn(&VmSums) -> Option<String>;
    let known: [(&Family, Of); 3] = [
        (&families::DIRTY, |vm| vm.dirty.map(|n| n.to_string())),
        (&families::OTHERS, |vm| vm.others_ns.map(seconds)),
        (&families::THROTTLED, |vm| vm.throttled_ns.map(seconds)),
    ];
    for (family, of) in known {
        text.family(family);
        for vm in vms {
            if let Some(value) = of(vm.sums) {
                text.sample(family, &vm.labels, &value);
            }
        }
    }
}
