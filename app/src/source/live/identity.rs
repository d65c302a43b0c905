//! Which VM and vCPU a slot is, and when a VM is gone.
//!
//! A VM is (thread group, its start, which kvm of that process); a vCPU is (VM, `vcpu_id`). Slots
//! are threads: several may be one vCPU over time, and a thread may become another vCPU.

use crate::model::{
    ids::{VcpuKey, VmId},
    tick::{Life, VcpuInfo, VmInfo},
};
use kvmscope_shared::slot::{NO_VCPU_ID, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// What a name is made from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Named {
    /// Name of the VM, or of its process.
    pub name: String,
    /// Kind of VMM.
    pub vmm: String,
    /// Start of the process, ns since the Unix epoch; 0 when unknown.
    pub started_unix_ns: u64,
}

/// Where names come from: `/proc` when live.
pub trait Names {
    /// Names the `nth` VM of a process. `start_ns` is the start that the probes saw (0: not seen):
    /// when `/proc` shows another process under this pid, the name is made of `comm` and pid.
    fn name(&mut self, tgid: u32, start_ns: u64, comm: &str, nth: u32) -> Named;
    /// Whether that very process still lives.
    fn alive(&mut self, tgid: u32, start_ns: u64) -> bool;
    /// The vCPU that a thread's name tells, if it does.
    fn vcpu_of_thread(&self, thread: &str) -> Option<u32>;
    /// How long a thread has waited for a CPU since it began, ns: preempted or just woken up
    /// (`run_delay`). `None` where the kernel does not tell, or the thread ended.
    fn run_delay(&mut self, _tid: u32) -> Option<u64> {
        None
    }

    /// The cgroup of a thread, a path below the mount; empty where it is not known.
    fn cgroup(&mut self, _tid: u32) -> String {
        String::new()
    }
}

/// Whose an ioctl is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// This VM's, or its process's, whose first VM it is.
    Vm {
        /// The VM.
        id: VmId,
        /// Whether it is gone.
        gone: bool,
    },
    /// Of a VM that may still come; if it does not, of the process's first one.
    Perhaps(Option<VmId>),
}

/// (tgid, start, kvm): what makes a VM the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct VmKey {
    tgid: u32,
    start_ns: u64,
    kvm: u64,
}

#[derive(Debug)]
struct Vm {
    key: VmKey,
    info: VmInfo,
    /// Live slots of each vCPU.
    live: BTreeMap<u32, u32>,
    /// vCPUs that ever were.
    vcpus: BTreeMap<u32, VcpuInfo>,
    /// When its last thread ended, while it has none.
    idle_since_ns: Option<u64>,
    gone: bool,
}

/// Everybody seen so far.
#[derive(Debug, Default)]
pub struct Identities {
    vms: BTreeMap<VmId, Vm>,
    by_key: BTreeMap<VmKey, VmId>,
    next: u32,
}

/// How long a VM without threads is given before it is called gone while its process lives: a
/// vCPU that changes threads has none for a moment.
const GRACE_NS: u64 = 1_000_000_000;

/// The name in a fixed field, up to its first zero.
pub fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Identities {
    /// A slot was claimed: which vCPU it is. Tells of VMs and vCPUs that are new or changed.
    pub fn enter(&mut self, slot: &Slot, names: &mut dyn Names, life: &mut Vec<Life>) -> VcpuKey {
        let vm = self.vm_of(slot, names, life);
        let Some(entry) = self.vms.get_mut(&vm) else { return VcpuKey { vm, vcpu: 0 } };
        if entry.gone {
            entry.gone = false;
            life.push(Life::Vm(entry.info.clone()));
        }
        entry.idle_since_ns = None;
        let guessed = slot.vcpu_id == NO_VCPU_ID;
        let vcpu = if guessed { entry.guess(slot, names) } else { slot.vcpu_id };
        let key = VcpuKey { vm, vcpu };
        *entry.live.entry(vcpu).or_default() += 1;
        let info = VcpuInfo { key, tid: slot.tid, guessed };
        if entry.vcpus.insert(vcpu, info) != Some(info) {
            life.push(Life::Vcpu(info));
        }
        key
    }

    /// A slot that was entered without its `vcpu_id` or kvm knows them now.
    pub fn correct(
        &mut self,
        was: VcpuKey,
        slot: &Slot,
        now_ns: u64,
        names: &mut dyn Names,
        life: &mut Vec<Life>,
    ) -> VcpuKey {
        self.leave(was, now_ns, life);
        self.enter(slot, names, life)
    }

    /// Whether a slot that was entered under `key` turned out to be somebody else.
    pub fn is_other(&self, key: VcpuKey, slot: &Slot) -> bool {
        let Some(vm) = self.vms.get(&key.vm) else { return false };
        (slot.vcpu_id != NO_VCPU_ID && slot.vcpu_id != key.vcpu)
            || (slot.kvm != 0 && vm.key.kvm != slot.kvm)
    }

    /// A slot ended.
    pub fn leave(&mut self, key: VcpuKey, at_ns: u64, life: &mut Vec<Life>) {
        let Some(vm) = self.vms.get_mut(&key.vm) else { return };
        if let Some(count) = vm.live.get_mut(&key.vcpu) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                vm.live.remove(&key.vcpu);
                life.push(Life::VcpuGone(key, at_ns));
            }
        }
        if vm.live.is_empty() {
            vm.idle_since_ns = Some(at_ns);
        }
    }

    /// Tells of VMs that are gone: no thread left, and the process dead or a while passed.
    /// `last` is the end of the session, when there is nothing to wait for.
    pub fn sweep(&mut self, now_ns: u64, last: bool, names: &mut dyn Names, life: &mut Vec<Life>) {
        for (id, vm) in self.vms.iter_mut().filter(|(_, vm)| !vm.gone) {
            let Some(since) = vm.idle_since_ns else { continue };
            let waited = now_ns.saturating_sub(since) >= GRACE_NS;
            if last || waited || !names.alive(vm.key.tgid, vm.key.start_ns) {
                vm.gone = true;
                life.push(Life::VmGone(*id, since));
            }
        }
    }

    /// How many living threads are this vCPU: more than one while one that it left goes on.
    pub fn threads_of(&self, key: VcpuKey) -> u32 {
        self.vms.get(&key.vm).and_then(|vm| vm.live.get(&key.vcpu)).copied().unwrap_or(0)
    }

    /// VMs that have a thread; of each process the first of them.
    pub fn live(&self) -> impl Iterator<Item = &VmInfo> {
        let mut processes = BTreeSet::new();
        let live = self.vms.values().filter(|vm| !vm.gone && !vm.live.is_empty());
        live.filter(move |vm| processes.insert((vm.key.tgid, vm.key.start_ns))).map(|vm| &vm.info)
    }

    /// The process of a VM.
    pub fn pid_of(&self, vm: VmId) -> Option<u32> {
        self.vms.get(&vm).map(|vm| vm.info.pid)
    }

    /// The VM of a process that has one; of several, the first that lives.
    pub fn vm_of_process(&self, tgid: u32) -> Option<VmId> {
        let mut vms = self.vms.iter().filter(|(_, vm)| !vm.gone && vm.key.tgid == tgid);
        vms.next().map(|(id, _)| *id)
    }

    /// Whose an ioctl is: of this process, about this `struct kvm` (0: about none, or not known).
    pub fn home(&self, tgid: u32, kvm: u64) -> Home {
        let of_process = || self.vms.iter().filter(|(_, vm)| vm.key.tgid == tgid);
        if kvm != 0
            && let Some((id, vm)) = of_process().rfind(|(_, vm)| vm.key.kvm == kvm)
        {
            return Home::Vm { id: *id, gone: vm.gone };
        }
        // A pid may have been used before: the first VM of the process that began last.
        let latest = of_process().map(|(_, vm)| vm.key.start_ns).max();
        let first = of_process().find(|(_, vm)| Some(vm.key.start_ns) == latest);
        match first {
            // Which of its VMs is which was told; this one has not run yet.
            Some((id, vm)) if kvm != 0 && vm.key.kvm != 0 => Home::Perhaps(Some(*id)),
            Some((id, vm)) => Home::Vm { id: *id, gone: vm.gone },
            None => Home::Perhaps(None),
        }
    }

    /// The VM of a process that has one and no other; where it is gone, that had one.
    pub fn only_vm_of_process(&self, tgid: u32) -> Option<VmId> {
        let ours = || self.vms.iter().filter(|(_, vm)| vm.key.tgid == tgid);
        let lives = ours().any(|(_, vm)| !vm.gone);
        let mut vms = ours().filter(|(_, vm)| !(lives && vm.gone));
        let (only, _) = vms.next()?;
        vms.next().is_none().then_some(*only)
    }

    /// Whether any VM has a thread.
    pub fn any_live(&self) -> bool {
        self.vms.values().any(|vm| !vm.live.is_empty())
    }

    fn vm_of(&mut self, slot: &Slot, names: &mut dyn Names, life: &mut Vec<Life>) -> VmId {
        let key = VmKey { tgid: slot.tgid, start_ns: slot.start_ns, kvm: slot.kvm };
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let same_process =
            |vm: &&mut Vm| vm.key.tgid == key.tgid && vm.key.start_ns == key.start_ns;
        if key.kvm == 0 {
            // Never been in the guest: a vCPU that waits to be started. Its VM is the process's.
            if let Some(vm) = self.vms.values_mut().find(same_process) {
                return vm.info.id;
            }
        } else if let Some(vm) =
            self.vms.values_mut().find(|vm| same_process(vm) && vm.key.kvm == 0)
        {
            // The process was seen before its kvm was known.
            self.by_key.remove(&vm.key);
            vm.key = key;
            self.by_key.insert(key, vm.info.id);
            return vm.info.id;
        }
        let nth = self.vms.values_mut().filter(|vm| same_process(vm)).count() as u32;
        self.next += 1;
        let id = VmId(self.next);
        let named = names.name(slot.tgid, slot.start_ns, &comm(&slot.comm), nth);
        let info = VmInfo {
            id,
            pid: slot.tgid,
            name: named.name,
            vmm: named.vmm,
            started_unix_ns: named.started_unix_ns,
            nth,
        };
        life.push(Life::Vm(info.clone()));
        self.by_key.insert(key, id);
        let vm = Vm {
            key,
            info,
            live: BTreeMap::new(),
            vcpus: BTreeMap::new(),
            idle_since_ns: None,
            gone: false,
        };
        self.vms.insert(id, vm);
        id
    }
}

impl Vm {
    /// A `vcpu_id` for a thread that has not told: from its name, else the lowest that is free.
    fn guess(&self, slot: &Slot, names: &dyn Names) -> u32 {
        let taken: BTreeSet<u32> = self.live.keys().copied().collect();
        names
            .vcpu_of_thread(&comm(&slot.thread_comm))
            .filter(|id| !taken.contains(id))
            .or_else(|| (0..).find(|id| !taken.contains(id)))
            .unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Names that need no `/proc`; processes in `dead` are not alive.
    #[derive(Default)]
    pub(crate) struct TestNames {
        pub(crate) dead: BTreeSet<u32>,
        /// By thread.
        pub(crate) delays: BTreeMap<u32, u64>,
    }

    impl Names for TestNames {
        fn name(&mut self, tgid: u32, _: u64, comm: &str, nth: u32) -> Named {
            Named { name: format!("{comm}[{tgid}]#{nth}"), ..Named::default() }
        }

        fn alive(&mut self, tgid: u32, _: u64) -> bool {
            !self.dead.contains(&tgid)
        }

        fn vcpu_of_thread(&self, thread: &str) -> Option<u32> {
            thread.strip_prefix("vcpu")?.parse().ok()
        }

        fn run_delay(&mut self, tid: u32) -> Option<u64> {
            self.delays.get(&tid).copied()
        }
    }

    fn slot(tgid: u32, start_ns: u64, kvm: u64, vcpu_id: u32) -> Slot {
        Slot { tgid, tid: tgid + 1, start_ns, kvm, vcpu_id, ..Slot::default() }
    }

    fn enter(who: &mut Identities, slot: &Slot) -> (VcpuKey, Vec<Life>) {
        let mut life = Vec::new();
        let key = who.enter(slot, &mut TestNames::default(), &mut life);
        (key, life)
    }

    #[test]
    fn a_reused_pid_is_another_vm() {
        let mut who = Identities::default();
        let (first, _) = enter(&mut who, &slot(7, 100, 1, 0));
        let (second, life) = enter(&mut who, &slot(7, 200, 1, 0));
        assert_ne!(first.vm, second.vm);
        assert!(matches!(&life[..], [Life::Vm(_), Life::Vcpu(_)]));
    }

    #[test]
    fn two_kvms_of_a_process_are_two_vms() {
        let mut who = Identities::default();
        let (a, _) = enter(&mut who, &slot(7, 100, 0xa, 0));
        let (b, life) = enter(&mut who, &slot(7, 100, 0xb, 0));
        assert_ne!(a.vm, b.vm);
        let Life::Vm(info) = &life[0] else { panic!("a VM comes first") };
        assert_eq!(info.nth, 1);
    }

    #[test]
    fn an_ioctl_belongs_to_its_vm_or_to_the_first_of_its_process() {
        let mut who = Identities::default();
        assert_eq!(who.home(7, 0), Home::Perhaps(None));
        let (a, _) = enter(&mut who, &slot(7, 100, 0xa, 0));
        let (b, _) = enter(&mut who, &slot(7, 100, 0xb, 0));
        let of = |key: VcpuKey| Home::Vm { id: key.vm, gone: false };
        assert_eq!(who.home(7, 0xb), of(b));
        assert_eq!(who.home(7, 0), of(a));
        assert_eq!(who.home(7, 0xc), Home::Perhaps(Some(a.vm)), "it may still run");
        assert_eq!(who.home(8, 0xa), Home::Perhaps(None));
        // Another process with that pid; and one whose VMs do not tell who they are.
        let (later, _) = enter(&mut who, &slot(7, 200, 0, NO_VCPU_ID));
        assert_eq!(who.home(7, 0), of(later));
        assert_eq!(who.home(7, 0xc), of(later));
        who.leave(later, 5, &mut Vec::new());
        who.sweep(5, true, &mut TestNames::default(), &mut Vec::new());
        assert_eq!(who.home(7, 0xc), Home::Vm { id: later.vm, gone: true });
    }

    #[test]
    fn of_a_processs_vms_the_first_that_lives_stands_for_it() {
        let mut who = Identities::default();
        let (a, _) = enter(&mut who, &slot(7, 100, 0xa, 0));
        let (b, _) = enter(&mut who, &slot(7, 100, 0xb, 0));
        let (c, _) = enter(&mut who, &slot(8, 100, 0xc, 0));
        let live = |who: &Identities| who.live().map(|vm| vm.id).collect::<Vec<_>>();
        assert_eq!(live(&who), [a.vm, c.vm]);
        who.leave(a, 5, &mut Vec::new());
        assert_eq!(live(&who), [b.vm, c.vm]);
    }

    #[test]
    fn only_a_process_with_one_vm_tells_which() {
        let mut who = Identities::default();
        let (a, _) = enter(&mut who, &slot(7, 100, 0xa, 0));
        assert_eq!((who.only_vm_of_process(7), who.only_vm_of_process(8)), (Some(a.vm), None));
        who.leave(a, 5, &mut Vec::new());
        who.sweep(6, true, &mut TestNames::default(), &mut Vec::new());
        assert_eq!(who.only_vm_of_process(7), Some(a.vm), "of one that is gone");
        let (b, _) = enter(&mut who, &slot(7, 200, 0xb, 0));
        assert_eq!(who.only_vm_of_process(7), Some(b.vm), "the one that lives");
        enter(&mut who, &slot(7, 200, 0xc, 0));
        assert_eq!(who.only_vm_of_process(7), None);
    }

    #[test]
    fn a_vcpu_that_was_never_in_the_guest_belongs_to_its_process() {
        let mut who = Identities::default();
        let (running, _) = enter(&mut who, &slot(7, 100, 0xa, 0));
        let (waiting, life) = enter(&mut who, &slot(7, 100, 0, NO_VCPU_ID));
        assert_eq!((waiting.vm, waiting.vcpu), (running.vm, 1));
        assert!(matches!(&life[..], [Life::Vcpu(info)] if info.guessed));
    }

    #[test]
    fn a_kvm_that_becomes_known_keeps_its_vm() {
        let mut who = Identities::default();
        let (before, _) = enter(&mut who, &slot(7, 100, 0, NO_VCPU_ID));
        let known = slot(7, 100, 0xa, 3);
        assert!(who.is_other(before, &known));
        let mut life = Vec::new();
        let after = who.correct(before, &known, 5, &mut TestNames::default(), &mut life);
        assert_eq!((after.vm, after.vcpu), (before.vm, 3));
        assert!(!who.is_other(after, &known));
    }

    #[test]
    fn a_thread_name_tells_the_vcpu() {
        let mut who = Identities::default();
        let mut named = slot(7, 100, 0, NO_VCPU_ID);
        named.thread_comm[..5].copy_from_slice(b"vcpu3");
        assert_eq!(enter(&mut who, &named).0.vcpu, 3);
        assert_eq!(enter(&mut who, &named).0.vcpu, 0, "taken: the lowest free one");
    }

    #[test]
    fn a_vcpu_that_changes_threads_keeps_its_vm() {
        let mut who = Identities::default();
        let (key, _) = enter(&mut who, &slot(7, 100, 1, 0));
        let mut life = Vec::new();
        who.leave(key, 10, &mut life);
        who.sweep(20, false, &mut TestNames::default(), &mut life);
        assert_eq!(life, [Life::VcpuGone(key, 10)], "its process lives and it may come back");
        let mut moved = slot(7, 100, 1, 0);
        moved.tid = 99;
        let (again, life) = enter(&mut who, &moved);
        assert_eq!(again, key);
        assert_eq!(life, [Life::Vcpu(VcpuInfo { key, tid: 99, guessed: false })]);
    }

    #[test]
    fn a_vm_is_gone_with_its_process_or_after_a_while() {
        let mut life = Vec::new();
        let mut who = Identities::default();
        let (key, _) = enter(&mut who, &slot(7, 100, 1, 0));
        who.leave(key, 10, &mut life);
        let mut names = TestNames { dead: [7].into(), ..TestNames::default() };
        who.sweep(11, false, &mut names, &mut life);
        assert_eq!(life.last(), Some(&Life::VmGone(key.vm, 10)));

        let (key, _) = enter(&mut who, &slot(8, 100, 1, 0));
        who.leave(key, 10, &mut life);
        who.sweep(10 + GRACE_NS, false, &mut names, &mut life);
        assert_eq!(life.last(), Some(&Life::VmGone(key.vm, 10)));
        let told = life.len();
        who.sweep(10 + 9 * GRACE_NS, false, &mut names, &mut life);
        assert_eq!(life.len(), told, "told once");
    }
}
