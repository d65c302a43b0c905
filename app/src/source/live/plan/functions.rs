//! Probes of functions, for the families `dirty` and `roots`. Pure.
//!
//! No function is a stable hook: each may be gone, renamed or have other arguments. So each probe is there or
//! has a reason; where BTF knows the function, its arguments are compared before it is probed.

use super::{super::kernel::Kernel, Family, How, Probe, unpreempted};
use crate::model::stack::StackOf;
use std::collections::BTreeSet;

/// `system` of a probe that counts a function's callers.
pub const STACK: &str = "stack";
/// `system` of any other probe of a function.
pub const KPROBE: &str = "kprobe";

/// `load_mmu_pgd` of each vendor's part.
const LOAD_MMU_PGD: [&str; 3] = ["vmx_load_mmu_pgd", "svm_load_mmu_pgd", "pvm_load_mmu_pgd"];
/// `vcpu_run` of each vendor's part.
const VCPU_RUN: [&str; 3] = ["vmx_vcpu_run", "svm_vcpu_run", "pvm_vcpu_run"];
/// The function that marks a page as dirty.
const MARK_DIRTY: &str = "mark_page_dirty_in_slot";
/// The function that loads a vCPU on a physical CPU.
const VCPU_LOAD: &str = "kvm_arch_vcpu_load";

/// The probes of both families; adds what their programs need to know. `stacks` is the function whose
/// callers are counted.
pub fn probes(
    kernel: &Kernel,
    stacks: StackOf,
    globals: &mut Vec<(&'static str, u32)>,
) -> Vec<Probe> {
    let (dirty, no_dirty) = match dirty_globals(kernel, globals) {
        Ok(program) => (vec![(program, How::Kprobe(MARK_DIRTY))], None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let member = |member| kernel.offsets.get(&member).copied();
    if let (Some(stat), Some(mode)) =
        (member(("kvm_vcpu", "stat")), member(("kvm_vcpu_stat", "guest_mode")))
    {
        globals.push(("VCPU_GUEST_MODE", stat + mode));
    }
    let refused = || kernel.no_kprobes.clone();
    let mut all = vec![Probe {
        system: KPROBE,
        event: MARK_DIRTY,
        family: Family::Dirty,
        ways: dirty,
        hopeless: refused().or(no_dirty),
    }];
    for (event, record) in [
        ("kvm_pml_full", "kvm_pml_full_record"),
        ("kvm_dirty_ring_push", "kvm_dirty_ring_push_record"),
        ("kvm_dirty_ring_exit", "kvm_dirty_ring_exit_record"),
    ] {
        // Nothing is read of the record.
        let ways = unpreempted(kernel, event, record, true);
        all.push(Probe { system: "kvm", event, family: Family::Dirty, ways, hopeless: None });
    }
    let changed = |functions: &[&'static str], count| {
        functions.iter().find_map(|function| other_arguments(kernel, function, count))
    };
    all.push(Probe {
        system: KPROBE,
        event: "load_mmu_pgd",
        family: Family::Roots,
        ways: LOAD_MMU_PGD.map(|function| ("root_load", How::Kprobe(function))).into(),
        hopeless: refused().or_else(|| changed(&LOAD_MMU_PGD, 3)),
    });
    all.push(Probe {
        system: KPROBE,
        event: VCPU_LOAD,
        family: Family::Roots,
        ways: vec![("vcpu_load", How::Kprobe(VCPU_LOAD))],
        hopeless: refused().or_else(|| changed(&[VCPU_LOAD], 2)),
    });
    all.push(stack(stacks, kernel.no_kprobes.as_deref()));
    all
}

/// The probe that counts the callers of a function. `refused` is why functions cannot be probed at all.
pub fn stack(of: StackOf, refused: Option<&str>) -> Probe {
    let at = |function| ("stack_here", How::Kprobe(function));
    let ways = match of {
        StackOf::LoadMmuPgd => LOAD_MMU_PGD.map(at).into(),
        StackOf::VcpuRun => VCPU_RUN.map(at).into(),
        StackOf::CrAccess => vec![("stack_here_record", How::Tracepoint)],
        StackOf::MmuLoad | StackOf::ResetContext | StackOf::MmuCreate | StackOf::SetCr3 => {
            vec![at(of.word())]
        }
    };
    let hopeless = refused.filter(|_| of != StackOf::CrAccess).map(str::to_owned);
    Probe { system: STACK, event: of.word(), family: Family::Roots, ways, hopeless }
}

/// Why a function is not what its program takes it for, where BTF knows it.
fn other_arguments(kernel: &Kernel, function: &str, count: usize) -> Option<String> {
    let found = kernel.parameters.get(function)?;
    (found.len() != count).then(|| other(function, found))
}

fn other(function: &str, found: &[String]) -> String {
    let found = found.join(", ");
    format!("{function} has other arguments on this kernel ({found}) than the program reads")
}

/// Adds where the members of a slot are; answers with the program for the function's arguments, or why there
/// is none.
fn dirty_globals(
    kernel: &Kernel,
    globals: &mut Vec<(&'static str, u32)>,
) -> Result<&'static str, String> {
    if kernel.version < (5, 11) && !kernel.parameters.contains_key(MARK_DIRTY) {
        return Err(
            "this kernel has no BTF for the kvm module (that came with 5.11), by which the members of a \
             memory slot are found"
                .to_owned(),
        );
    }
    let Some(parameters) = kernel.parameters.get(MARK_DIRTY) else {
        return Err(format!(
            "the BTF of the kvm module (/sys/kernel/btf/kvm) has no function {MARK_DIRTY}: it cannot be \
             read, or the function is gone"
        ));
    };
    let names: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let program = match names[..] {
        // Up to 5.10; later.
        [_, "gfn"] => "dirty_page_early",
        [_, _, "gfn"] => "dirty_page",
        _ => return Err(other(MARK_DIRTY, parameters)),
    };
    for (member, global) in [
        ("flags", "MEMSLOT_FLAGS"),
        ("id", "MEMSLOT_ID"),
        ("as_id", "MEMSLOT_AS_ID"),
        ("base_gfn", "MEMSLOT_BASE"),
        ("dirty_bitmap", "MEMSLOT_BITMAP"),
    ] {
        let Some(offset) = kernel.offsets.get(&("kvm_memory_slot", member)) else {
            return Err(format!("the kvm module's BTF has no kvm_memory_slot.{member}"));
        };
        globals.push((global, *offset));
    }
    Ok(program)
}

/// Why none of these functions can be probed, which the kernel says it does not have. `similar` are functions
/// of the kernel of the same name, with what the compiler put behind it, if any.
pub fn absent(functions: &[&str], similar: &BTreeSet<String>) -> String {
    let names = match functions {
        [.., last] if functions.len() > 1 => {
            format!("{} or {last}", functions[..functions.len() - 1].join(", "))
        }
        _ => functions.concat(),
    };
    let exact = similar.iter().find(|symbol| {
        functions.iter().any(|function| symbol.split(' ').next() == Some(*function))
    });
    if let Some(exact) = exact {
        return format!("the kernel has {exact} but does not let it be probed");
    }
    if similar.is_empty() {
        return format!(
            "this kernel has no function {names} (/proc/kallsyms): another name, or built into its callers"
        );
    }
    let all: Vec<&str> = similar.iter().map(String::as_str).collect();
    format!(
        "this kernel has no function {names} as such: the compiler made {} of it",
        all.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::{plan, tests::kernel};
    use crate::trace::fixtures::{LINUX_5_10, LINUX_6_12, LINUX_7_2};

    const LATE: [&str; 3] = ["kvm", "memslot", "gfn"];

    fn with_btf(release: &str, version: (u32, u32), parameters: &[&str]) -> Kernel {
        let mut kernel = kernel(release, version);
        let owned = parameters.iter().map(|name| (*name).to_owned()).collect();
        kernel.parameters.insert(MARK_DIRTY, owned);
        kernel
    }

    fn planned(kernel: &Kernel) -> (Vec<Probe>, Vec<(&'static str, u32)>) {
        let mut globals = Vec::new();
        (probes(kernel, StackOf::LoadMmuPgd, &mut globals), globals)
    }

    fn why(kernel: &Kernel, event: &str) -> Option<String> {
        let found = planned(kernel).0.into_iter().find(|probe| probe.event == event);
        found.expect("planned").hopeless
    }

    #[test]
    fn where_the_slot_is_its_prototype_tells() {
        let (probes, globals) = planned(&with_btf(LINUX_6_12, (6, 12), &LATE));
        for global in [("MEMSLOT_FLAGS", 112), ("MEMSLOT_BITMAP", 40)] {
            assert!(globals.contains(&global), "{global:?} in {globals:?}");
        }
        assert_eq!(probes[0].ways, [("dirty_page", How::Kprobe(MARK_DIRTY))]);
        let (probes, _) = planned(&with_btf(LINUX_5_10, (5, 10), &["memslot", "gfn"]));
        assert_eq!(probes[0].ways, [("dirty_page_early", How::Kprobe(MARK_DIRTY))]);
        let said = why(&with_btf(LINUX_7_2, (9, 0), &["kvm", "range"]), MARK_DIRTY);
        assert!(said.is_some_and(|why| why.contains("(kvm, range)")));
    }

    #[test]
    fn what_is_not_known_is_a_reason() {
        let of = |kernel: &Kernel| why(kernel, MARK_DIRTY).expect("a reason");
        let without = |release, version| {
            let mut kernel = kernel(release, version);
            kernel.parameters.clear();
            kernel
        };
        let early = of(&without(LINUX_5_10, (5, 10)));
        assert!(early.contains("5.11"), "{early}");
        let unread = of(&without(LINUX_6_12, (6, 12)));
        assert!(unread.contains("/sys/kernel/btf/kvm"), "{unread}");
        let mut other = with_btf(LINUX_6_12, (6, 12), &LATE);
        other.offsets.remove(&("kvm_memory_slot", "as_id"));
        assert!(of(&other).contains("kvm_memory_slot.as_id"));
        assert_eq!(why(&other, "load_mmu_pgd"), None, "that needs no BTF");
        other.parameters.insert("svm_load_mmu_pgd", vec!["root".to_owned()]);
        assert!(why(&other, "load_mmu_pgd").is_some_and(|why| why.contains("(root)")));
    }

    #[test]
    fn without_function_probes_tracepoints_are_left() {
        let mut kernel = with_btf(LINUX_6_12, (6, 12), &LATE);
        kernel.no_kprobes = Some("no function probes here".to_owned());
        let (probes, _) = planned(&kernel);
        for probe in &probes {
            assert_eq!(probe.hopeless.is_some(), probe.system != "kvm", "{}", probe.hook());
        }
        assert_eq!(stack(StackOf::CrAccess, kernel.no_kprobes.as_deref()).hopeless, None);
    }

    #[test]
    fn every_function_whose_callers_can_be_counted_has_a_way() {
        for of in StackOf::ALL {
            let probe = stack(of, None);
            assert!(!probe.ways.is_empty() && probe.hook() == format!("stack:{}", of.word()));
            assert_eq!(probe.functions().is_empty(), of == StackOf::CrAccess);
            assert_eq!(probe.tracepoint(), ("kvm", of.word()));
        }
    }

    #[test]
    fn they_are_attached_only_when_they_are_asked_for() {
        let kernel = with_btf(LINUX_6_12, (6, 12), &LATE);
        let events = |families: &[Family]| -> Vec<&str> {
            let probes = plan(&kernel, families).probes;
            let ours = probes.iter().filter(|p| p.family.wanted(families) && p.is_kvm());
            ours.map(|p| p.event).collect()
        };
        assert!(events(&[Family::Dirty]).contains(&MARK_DIRTY));
        assert!(!events(&[Family::Dirty]).contains(&"load_mmu_pgd"));
        assert!(events(&[Family::Roots]).contains(&VCPU_LOAD));
        for families in [&Family::WATCHED[..], &Family::REPORTED] {
            assert!(!events(families).contains(&MARK_DIRTY));
        }
    }

    #[test]
    fn an_absent_function_is_told_from_a_renamed_one() {
        let none = absent(&["a", "b", "c"], &BTreeSet::new());
        assert!(none.contains("no function a, b or c ("), "{none}");
        let renamed = absent(&["a"], &BTreeSet::from(["a.isra.0 [kvm]".to_owned()]));
        assert!(renamed.contains("made a.isra.0 [kvm] of it"), "{renamed}");
        let refused = absent(&["a", "b"], &BTreeSet::from(["b [kvm]".to_owned()]));
        assert!(refused.contains("has b [kvm] but"), "{refused}");
    }
}
