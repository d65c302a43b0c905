//! What a VM or a vCPU did with memory and what it called, from its keys: for text and JSON alike.

use crate::model::detail::KeyClass;
use crate::model::ids::{Isa, Reason};
use crate::model::session::Session;
use crate::model::totals::{KeySum, VcpuTotals};
use kvmscope_shared::detail::dirty;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Faults, by kind.
pub const FAULTS: &[KeyClass] = &[KeyClass::Fault];
/// Pages that faulted.
pub const PAGES: &[KeyClass] = &[KeyClass::Page];
/// MMIO, by address.
pub const MMIO: &[KeyClass] = &[KeyClass::MmioRead, KeyClass::MmioWrite, KeyClass::MmioFast];
/// Slots that pages were written in while dirty logging was on.
pub const DIRTY_SLOTS: &[KeyClass] = &[KeyClass::DirtySlot];
/// These pages.
pub const DIRTY_PAGES: &[KeyClass] = &[KeyClass::DirtyPage];
/// Counters of marks of dirty pages.
pub const DIRTY_LOG: &[KeyClass] = &[KeyClass::DirtyLog];
/// MMU roots.
pub const ROOTS: &[KeyClass] = &[KeyClass::Root];
/// CPUs that vCPUs were loaded on.
pub const LOADS: &[KeyClass] = &[KeyClass::VcpuLoad];
/// Hypercalls.
pub const HYPERCALLS: &[KeyClass] =
    &[KeyClass::Hypercall, KeyClass::HvHypercall, KeyClass::XenHypercall];

/// Keys of some classes over all reasons, most first.
#[derive(Debug, Default)]
pub struct Ranked {
    /// Class, value, what it did.
    pub first: Vec<(KeyClass, u64, KeySum)>,
    /// What the keys beyond them did, with those that found no place ("other"). Its `total_ns` is all time
    /// together.
    pub rest: KeySum,
    /// Different values in all; those that found no place are not known.
    pub distinct: usize,
}

impl Ranked {
    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.count == 0
    }

    /// How often in all.
    pub fn count(&self) -> u64 {
        self.first.iter().fold(self.rest.count, |n, (_, _, sum)| n.saturating_add(sum.count))
    }
}

/// The `most` keys of these classes that were met most often.
pub fn ranked(vcpus: &[&VcpuTotals], classes: &[KeyClass], most: usize) -> Ranked {
    let mut sums: BTreeMap<(KeyClass, u64), KeySum> = BTreeMap::new();
    let mut ranked = Ranked::default();
    for (id, sum) in vcpus.iter().flat_map(|vcpu| &vcpu.keys) {
        match id.value {
            _ if !classes.contains(&id.class) => {}
            Some(value) => sums.entry((id.class, value)).or_default().merge(sum),
            None => rest(&mut ranked.rest, sum),
        }
    }
    let mut all: Vec<_> =
        sums.into_iter().map(|((class, value), sum)| (class, value, sum)).collect();
    all.sort_by_key(|(class, value, sum)| (Reverse(sum.count), *class, *value));
    ranked.distinct = all.len();
    for (_, _, sum) in all.get(most..).unwrap_or_default() {
        rest(&mut ranked.rest, sum);
    }
    all.truncate(most);
    ranked.first = all;
    ranked
}

fn rest(rest: &mut KeySum, sum: &KeySum) {
    let KeySum { count, timed, .. } = *sum;
    rest.merge(&KeySum { count, timed, total_ns: sum.wall_ns(), ..KeySum::default() });
}

/// Whether accesses to it went to the VMM, at least some; `None` where no exit about it ended, or no times are
/// known. Doorbells never do.
pub fn to_vmm(class: KeyClass, sum: &KeySum) -> Option<bool> {
    match class {
        KeyClass::MmioFast => Some(false),
        _ if sum.vmm_ns > 0 => Some(true),
        _ => (sum.timed > 0).then_some(false),
    }
}

/// What KVM's marks of dirty pages came to (family `dirty`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirtyLog {
    /// Marks of pages in slots that log.
    pub marked: u64,
    /// Marks of pages in slots that do not log.
    pub not_logged: u64,
    /// Times that the processor's log of written pages was full.
    pub pml_full: u64,
    /// Pages that were put into a dirty ring.
    pub ring_pushes: u64,
    /// Times that the VMM had to empty a dirty ring.
    pub ring_full: u64,
}

impl DirtyLog {
    /// Of these vCPUs together. Both kinds of "full" are exits too, which are counted without the family.
    pub fn new(vcpus: &[&VcpuTotals]) -> Self {
        let of = |counter| {
            let keys = vcpus.iter().flat_map(|vcpu| &vcpu.keys);
            let ours =
                keys.filter(|(id, _)| id.class == KeyClass::DirtyLog && id.value == Some(counter));
            ours.fold(0, |sum: u64, (_, key)| sum.saturating_add(key.count))
        };
        let (pml_full, ring_full) = (Reason::exit(Isa::Vmx, 62), Reason::userspace(31));
        Self {
            marked: of(dirty::MARKED),
            not_logged: of(dirty::NOT_LOGGED),
            pml_full: of(dirty::PML_FULL).max(exits(vcpus, pml_full)),
            ring_pushes: of(dirty::RING_PUSH),
            ring_full: of(dirty::RING_FULL).max(exits(vcpus, ring_full)),
        }
    }

    /// Whether KVM logs the pages that it marked: at least some of them, or none of them; `None` where it
    /// marked none.
    pub fn logs(&self) -> Option<bool> {
        match self {
            Self { marked: 0, not_logged: 0, .. } => None,
            _ => Some(self.marked > 0),
        }
    }
}

/// Exits of a reason that began.
fn exits(vcpus: &[&VcpuTotals], reason: Reason) -> u64 {
    let cells = vcpus.iter().filter_map(|vcpu| vcpu.cells.get(&reason));
    cells.fold(0, |sum: u64, cell| sum.saturating_add(cell.count))
}

/// The probe of the function that marks pages as dirty.
pub const MARKS: &str = "kprobe:mark_page_dirty_in_slot";
/// The probe of the function that loads MMU roots.
pub const ROOT_LOADS: &str = "kprobe:load_mmu_pgd";
/// The probe of the function that loads a vCPU on a CPU.
pub const VCPU_LOADS: &str = "kprobe:kvm_arch_vcpu_load";

/// Whether this probe is attached. Some families have others that go on without it.
pub fn is_attached(session: &Session, hook: &str) -> bool {
    session.probes.iter().any(|probe| probe.attached && probe.name == hook)
}

/// Whose error codes page faults have, for events that happened in no exit.
pub fn isa(session: &Session) -> Isa {
    match session.host.backend.as_str() {
        "vmx" => Isa::Vmx,
        "svm" => Isa::Svm,
        _ => Isa::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detail::KeyId;
    use crate::model::stats::Sum;

    fn vcpu(keys: &[(u32, KeyClass, Option<u64>, u64)]) -> VcpuTotals {
        let mut vcpu = VcpuTotals::default();
        for &(code, class, value, count) in keys {
            let reason = value.map(|_| Reason::exit(Isa::Vmx, code));
            let sum = KeySum {
                count,
                timed: count,
                total_ns: count,
                off_ns: count,
                vmm_ns: count,
                max_ns: count,
            };
            vcpu.keys.insert(KeyId { reason, class, value }, sum);
        }
        vcpu
    }

    #[test]
    fn keys_of_all_vcpus_and_reasons_are_one_and_none_is_lost() {
        use KeyClass::{Fault, Page};
        let a = vcpu(&[(48, Page, Some(1), 5), (48, Page, Some(2), 9), (48, Fault, Some(0), 40)]);
        let b = vcpu(&[(49, Page, Some(1), 7), (48, Page, Some(3), 1), (0, Page, None, 4)]);
        let ranked = ranked(&[&a, &b], PAGES, 2);
        let first: Vec<_> =
            ranked.first.iter().map(|(_, value, sum)| (*value, sum.count)).collect();
        assert_eq!((first, ranked.distinct), (vec![(1, 12), (2, 9)], 3));
        assert_eq!(ranked.first[0].2.max_ns, 7);
        let KeySum { count, total_ns, off_ns, .. } = ranked.rest;
        assert_eq!((count, total_ns, off_ns), (5, 15, 0));
        assert_eq!(ranked.count(), 26);
        assert!(super::ranked(&[&a, &b], ROOTS, 2).is_empty());
    }

    #[test]
    fn who_answered_is_known_from_times() {
        let sum = |timed, vmm_ns| KeySum { count: 1, timed, vmm_ns, ..KeySum::default() };
        assert_eq!(to_vmm(KeyClass::MmioRead, &sum(1, 0)), Some(false));
        assert_eq!(to_vmm(KeyClass::MmioRead, &sum(1, 5)), Some(true));
        assert_eq!(to_vmm(KeyClass::MmioWrite, &sum(0, 0)), None);
        assert_eq!(to_vmm(KeyClass::MmioFast, &sum(0, 0)), Some(false));
    }

    #[test]
    fn what_marks_came_to_is_known_where_there_were_any() {
        use KeyClass::DirtyLog as Log;
        let keys = [(0, Log, Some(dirty::MARKED), 7), (0, Log, Some(dirty::NOT_LOGGED), 3)];
        let (logs, off) = (vcpu(&keys), vcpu(&keys[1..]));
        let full = vcpu(&[(0, Log, Some(dirty::PML_FULL), 2), (0, Log, Some(dirty::RING_PUSH), 9)]);
        let log = DirtyLog::new(&[&logs, &off, &full]);
        let all = DirtyLog { marked: 7, not_logged: 6, pml_full: 2, ring_pushes: 9, ring_full: 0 };
        assert_eq!((log, log.logs()), (all, Some(true)));
        assert_eq!(DirtyLog::new(&[&off]).logs(), Some(false));
        assert_eq!(DirtyLog::new(&[&full]).logs(), None);
        // Without the family there are the exits.
        let mut exited = VcpuTotals::default();
        let seen = Sum { count: 5, ..Sum::default() };
        exited.cells.insert(Reason::userspace(31), seen.into());
        assert_eq!(DirtyLog::new(&[&exited, &full]).ring_full, 5);
    }

    /// Their names are those of the list of all probes.
    #[test]
    fn probes_that_are_looked_for_exist() {
        let probes = include_str!("../../../docs/probes.md");
        for hook in [MARKS, ROOT_LOADS, VCPU_LOADS] {
            assert!(probes.contains(&format!("`{hook}`")), "{hook}");
        }
    }
}
