//! The page faults that KVM must take for what a vCPU did: which page, how often, of which kind.
//! Known only where the processor walks page tables of KVM's (EPT, NPT).

use std::collections::BTreeMap;

use kvmscope_shared::detail::fault;

use super::backend::{Backend, Host};
use super::code;
use super::expect::Done;
use super::keys::Used;

/// Faults, which are exits of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// By page (its address).
    pub pages: BTreeMap<u64, u64>,
    /// By kind ([`fault`]).
    pub kinds: BTreeMap<u64, u64>,
    /// EPT misconfigurations, with which VMX tells that a page is known to have no memory; they are no
    /// page faults.
    pub misconfigurations: u64,
}

impl Faults {
    /// Those of `done`; `None` where nothing can be said.
    pub fn of(host: &Host, done: &Done, used: &Used) -> Option<Self> {
        let hardware = matches!(host.backend, Backend::Vmx | Backend::Svm);
        if !(hardware && host.unrestricted && host.nested_paging) {
            return None;
        }
        let (made, region) = (&done.made, used.region);
        let mut faults = Self::default();
        // When a slot is moved or deleted KVM forgets every page.
        let times = 1 + made.slots;
        faults.add(region + code::CODE, fault::ABSENT, times);
        faults.add(region + code::DATA, fault::ABSENT, times);
        if done.paging {
            faults.add(region + code::DIRECTORY, fault::WALK, times);
        }
        for (index, &count) in (0..).zip(&used.touched) {
            faults.add(region + code::TOUCH + index * code::STRIDE, fault::ABSENT, count);
        }
        for (index, &count) in (0..).zip(&used.walked) {
            faults.add(region + code::WALK + index * code::STRIDE, fault::WALK, count);
        }
        for (index, &count) in (0..).zip(&used.dirtied) {
            let page = region + code::DIRTY + index * code::PAGE;
            faults.add(page, fault::ABSENT, count.min(1));
            // Where the processor keeps a log, nothing is protected from writing for its sake.
            let protected = if host.page_log { 0 } else { count.saturating_sub(1) };
            faults.add(page, fault::WRITE_PROTECTED, protected);
        }
        for index in 0..made.exec {
            let page = region + code::EXEC + index * code::HUGE_PAGE;
            faults.add(page, fault::ABSENT, 1);
            faults.add(page, fault::EXEC, 1);
        }
        // What may only be read is never mapped for a write.
        faults.add(region + code::READ_ONLY, fault::ABSENT, made.same_page);
        faults.device(host, region + used.space.mmio, made.mmio_read + made.mmio_write);
        faults.device(host, region + code::DOORBELL, made.doorbell);
        faults.device(host, code::IOAPIC_WINDOW & !(code::PAGE - 1), made.mmio_kernel);
        Some(faults)
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.pages.values().sum()
    }

    /// `accesses` to a page without memory. KVM marks it at the first one.
    fn device(&mut self, host: &Host, page: u64, accesses: u64) {
        let (first, later) = (accesses.min(1), accesses.saturating_sub(1));
        self.add(page, fault::ABSENT, first);
        match host.backend {
            _ if !host.mmio_caching => self.add(page, fault::ABSENT, later),
            Backend::Vmx => self.misconfigurations += later,
            _ => self.add(page, fault::MMIO, later),
        }
    }

    fn add(&mut self, page: u64, kind: u64, count: u64) {
        if count > 0 {
            *self.pages.entry(page).or_default() += count;
            *self.kinds.entry(kind).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::demo::NOTHING;
    use super::super::op::Counts;
    use super::*;

    fn host(backend: Backend) -> Host {
        Host {
            backend,
            nested_paging: true,
            unrestricted: true,
            mmio_caching: true,
            page_log: backend == Backend::Vmx,
            next_rip: false,
            nx_huge_pages: true,
            idle_hlt: false,
            apicv: false,
        }
    }

    fn done(made: Counts) -> Done {
        Done { made, control: 2, paging: made.walk > 0, ..Done::default() }
    }

    fn kinds(host: &Host, made: Counts, used: &Used) -> Vec<(u64, u64)> {
        let faults = Faults::of(host, &done(made), used).expect("known");
        assert_eq!(faults.all(), faults.kinds.values().sum::<u64>());
        faults.kinds.into_iter().collect()
    }

    #[test]
    fn pages_are_protected_again_only_where_the_processor_keeps_no_log() {
        let made = Counts { dirty: 7, ..NOTHING };
        let used = Used { dirtied: vec![3, 3, 1], ..Used::default() };
        let protected = [(fault::ABSENT, 2 + 3), (fault::WRITE_PROTECTED, 4)];
        assert_eq!(kinds(&host(Backend::Svm), made, &used), protected);
        assert_eq!(kinds(&host(Backend::Vmx), made, &used), [(fault::ABSENT, 2 + 3)]);
    }

    #[test]
    fn a_page_without_memory_is_marked_at_the_first_access() {
        let made = Counts { mmio_read: 3, mmio_write: 2, doorbell: 4, mmio_kernel: 1, ..NOTHING };
        let used = Used::default();
        let marked = [(fault::ABSENT, 2 + 3), (fault::MMIO, 7)];
        assert_eq!(kinds(&host(Backend::Svm), made, &used), marked);
        assert_eq!(kinds(&host(Backend::Vmx), made, &used), [(fault::ABSENT, 2 + 3)]);
        let vmx = Faults::of(&host(Backend::Vmx), &done(made), &used).expect("known");
        assert_eq!(vmx.misconfigurations, 7);
        let forgetful = Host { mmio_caching: false, ..host(Backend::Vmx) };
        assert_eq!(kinds(&forgetful, made, &used), [(fault::ABSENT, 2 + 10)]);
    }

    #[test]
    fn a_huge_page_faults_for_the_read_and_for_the_execution() {
        let made = Counts { exec: 2, ..NOTHING };
        let expected = [(fault::ABSENT, 2 + 2), (fault::EXEC, 2)];
        assert_eq!(kinds(&host(Backend::Vmx), made, &Used::default()), expected);
    }

    #[test]
    fn walked_tables_fault_with_the_directory_above_them() {
        let made = Counts { walk: 5, slots: 1, ..NOTHING };
        let used = Used { walked: vec![3, 2], ..Used::default() };
        let walked = [(fault::ABSENT, 2 * 2), (fault::WALK, 2 + 5)];
        assert_eq!(kinds(&host(Backend::Svm), made, &used), walked);
    }

    #[test]
    fn nothing_is_said_where_kvm_emulates_or_keeps_shadows() {
        let none = |host: &Host| Faults::of(host, &done(NOTHING), &Used::default()).is_none();
        assert!(none(&host(Backend::Pvm)));
        assert!(none(&Host { nested_paging: false, ..host(Backend::Svm) }));
        assert!(none(&Host { unrestricted: false, ..host(Backend::Vmx) }));
    }
}
