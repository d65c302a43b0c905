//! A guest that runs guests of its own.

use super::sums::vm_exits_for;
use super::{Found, Look, over, per_second};
use crate::findings::{Finding, Weight};
use crate::model::ids::{Isa, Reason};
use crate::state::value::rate;

/// VMLAUNCH, VMRESUME; VMRUN.
const ENTRIES: [Reason; 3] =
    [Reason::exit(Isa::Vmx, 20), Reason::exit(Isa::Vmx, 24), Reason::exit(Isa::Svm, 0x80)];

/// What a hypervisor in the guest does around them: VMCLEAR, VMPTRLD, VMPTRST, VMREAD, VMWRITE,
/// INVEPT, INVVPID; VMLOAD, VMSAVE, STGI, CLGI.
const AROUND: [Reason; 11] = [
    Reason::exit(Isa::Vmx, 19),
    Reason::exit(Isa::Vmx, 21),
    Reason::exit(Isa::Vmx, 22),
    Reason::exit(Isa::Vmx, 23),
    Reason::exit(Isa::Vmx, 25),
    Reason::exit(Isa::Vmx, 50),
    Reason::exit(Isa::Vmx, 53),
    Reason::exit(Isa::Svm, 0x82),
    Reason::exit(Isa::Svm, 0x83),
    Reason::exit(Isa::Svm, 0x84),
    Reason::exit(Isa::Svm, 0x85),
];

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    found(look).into_iter().collect()
}

fn found(look: &Look<'_>) -> Option<Found> {
    let wall_ns = look.vm_wall_ns();
    let (count, reason) = vm_exits_for(look, &ENTRIES);
    let per_s = per_second(count, wall_ns);
    let size = over(per_s, look.limits.nested_entries_per_second)?;
    let (around, _) = vm_exits_for(look, &AROUND);
    let text =
        format!("its guest runs guests of its own and enters them {} times a second", rate(per_s));
    let evidence = vec![format!(
        "{} more exits/s for what its hypervisor does around that (VMCS or VMCB)",
        rate(per_second(around, wall_ns))
    )];
    let next =
        "Exits of the inner guests are among the others here. Where there are many more for \
                the VMCS, see that shadow VMCS is on (kvm_intel enable_shadow_vmcs, kvm_amd vls)."
            .to_owned();
    let finding = look.about_vm("nested", Weight::Low, text);
    Some(Found { size, finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{Vm, rules, texts, vmx};
    use crate::model::ids::{Isa, Reason};

    #[test]
    fn entries_into_inner_guests_are_found() {
        for entry in [vmx(20), vmx(24), Reason::exit(Isa::Svm, 0x80)] {
            let vm = |count| Vm::new("ci").busy().reason(entry, "VMRUN", count, 0);
            let facts = vm(100).reason(vmx(23), "VMREAD", 800, 0).facts();
            assert_eq!(
                texts(&facts, "nested"),
                ["ci: its guest runs guests of its own and enters them 100 times a second"]
            );
            let finding = &rules(&facts, "nested")[0];
            assert_eq!(finding.reason, Some(entry));
            assert!(finding.evidence[0].starts_with("800 more"));
            assert!(texts(&vm(99).facts(), "nested").is_empty());
        }
    }

    #[test]
    fn what_is_only_around_it_is_not() {
        let facts = Vm::new("ci").busy().reason(vmx(23), "VMREAD", 90_000, 0).facts();
        assert!(texts(&facts, "nested").is_empty());
    }
}
