//! How many exits of each reason a count of instructions must make. Only what holds for
//! sure is listed; exits that the host causes (interrupts) come on top and are not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backend::{Backend, Host};
use super::code::OWN_PAGES;
use super::op::Counts;

/// Exits by the running kernel's name of the reason, upper case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Kernel exits (`kvm_exit`). Reasons that are not named are not said to be zero.
    pub exits: BTreeMap<String, u64>,
    /// Userspace exits (`kvm_userspace_exit`).
    pub userspace_exits: BTreeMap<String, u64>,
}

/// What one vCPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Instructions made.
    pub made: Counts,
    /// HLTs that ended a round.
    pub control: u64,
}

/// What `done` must have made on `host`.
pub fn expect(host: &Host, done: &Done) -> Expect {
    Expect { exits: kernel(host, done), userspace_exits: userspace(done) }
}

fn userspace(done: &Done) -> BTreeMap<String, u64> {
    let made = &done.made;
    named([
        ("IO", made.out + made.input),
        ("MMIO", made.mmio_read + made.mmio_write),
        ("HLT", made.hlt + done.control),
    ])
}

fn kernel(host: &Host, done: &Done) -> BTreeMap<String, u64> {
    // Without unrestricted guest KVM emulates code without paging: no exits to count.
    if !host.unrestricted {
        return BTreeMap::new();
    }
    let made = &done.made;
    let io = made.out + made.input;
    let mmio = made.mmio_read + made.mmio_write;
    let faults = OWN_PAGES + made.touch;
    let mut exits = match host.backend {
        Backend::Vmx => named([
            ("IO_INSTRUCTION", io),
            ("CPUID", made.cpuid),
            ("MSR_READ", made.rdmsr),
            ("MSR_WRITE", made.wrmsr),
            ("VMCALL", made.hypercall),
            ("HLT", made.hlt + done.control),
        ]),
        // SVM has one code for both directions of an MSR access; kvmscope tells them apart.
        Backend::Svm => named([
            ("IO", io),
            ("CPUID", made.cpuid),
            ("MSR_READ", made.rdmsr),
            ("MSR_WRITE", made.wrmsr),
            ("HYPERCALL", made.hypercall),
            ("HLT", made.hlt + done.control),
        ]),
        Backend::Pvm | Backend::Unknown => return BTreeMap::new(),
    };
    if host.idle_hlt {
        // Whether the kernel uses it, and so under which code halts come, is not known.
        exits.remove("HLT");
    }
    if host.nested_paging {
        exits.extend(match host.backend {
            // The first access marks the page in the EPT; later ones are misconfigurations.
            Backend::Vmx if host.mmio_caching => named([
                ("EPT_VIOLATION", faults + mmio.min(1)),
                ("EPT_MISCONFIG", mmio.saturating_sub(1)),
            ]),
            Backend::Vmx => named([("EPT_VIOLATION", faults + mmio), ("EPT_MISCONFIG", 0)]),
            _ => named([("NPF", faults + mmio)]),
        });
    }
    exits
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
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
    };
    const DONE: Done = Done { made: MADE, control: 2 };

    fn host(backend: Backend) -> Host {
        Host {
            backend,
            nested_paging: true,
            unrestricted: true,
            mmio_caching: true,
            idle_hlt: false,
        }
    }

    fn exits(host: &Host) -> Vec<(String, u64)> {
        expect(host, &DONE).exits.into_iter().collect()
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
        let counts = expect(&Host { mmio_caching: false, ..host(Backend::Vmx) }, &DONE).exits;
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
        let counts = expect(&Host { nested_paging: false, ..host(Backend::Svm) }, &DONE).exits;
        assert!(!counts.contains_key("NPF") && counts["CPUID"] == 5);
        let emulated = Host { unrestricted: false, ..host(Backend::Vmx) };
        assert_eq!(expect(&emulated, &DONE).exits.len(), 0);
    }

    #[test]
    fn halts_are_left_out_where_they_may_have_another_code() {
        let expected = expect(&Host { idle_hlt: true, ..host(Backend::Svm) }, &DONE);
        assert!(!expected.exits.contains_key("HLT"));
        assert_eq!(expected.userspace_exits["HLT"], 11);
    }

    #[test]
    fn every_backend_hands_the_same_to_the_vmm() {
        for backend in [Backend::Vmx, Backend::Svm, Backend::Pvm, Backend::Unknown] {
            let counts = expect(&host(backend), &DONE).userspace_exits;
            assert_eq!((counts["IO"], counts["MMIO"], counts["HLT"]), (3, 7, 11));
        }
        assert!(expect(&host(Backend::Pvm), &DONE).exits.is_empty());
    }
}
