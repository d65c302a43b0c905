//! Kernel stacks at a chosen function: who calls it. Parts of a [`super::tick::Tick`].

use super::ids::VmId;
use serde::{Deserialize, Serialize};

/// Most stacks of a tick.
pub const MAX_STACKS: usize = 32;

/// A function whose callers can be looked at.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum StackOf {
    /// `load_mmu_pgd` of the vendor's part: another MMU root goes to the processor.
    #[default]
    LoadMmuPgd = 0,
    /// `kvm_mmu_load`: an MMU root is made, as there is none that is valid.
    MmuLoad = 1,
    /// `kvm_mmu_reset_context`: all of a vCPU's MMU is set up anew.
    ResetContext = 2,
    /// `kvm_mmu_create`: a vCPU is made.
    MmuCreate = 3,
    /// `kvm_set_cr3`: a write of the guest to CR3 that KVM carries out.
    SetCr3 = 4,
    /// Tracepoint `kvm_cr`: an access of the guest to a control register that exits.
    CrAccess = 5,
    /// `vcpu_run` of the vendor's part: the guest is entered.
    VcpuRun = 6,
}

impl StackOf {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::LoadMmuPgd,
        Self::MmuLoad,
        Self::ResetContext,
        Self::MmuCreate,
        Self::SetCr3,
        Self::CrAccess,
        Self::VcpuRun,
    ];

    /// Its name, in options, reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::LoadMmuPgd => "load_mmu_pgd",
            Self::MmuLoad => "kvm_mmu_load",
            Self::ResetContext => "kvm_mmu_reset_context",
            Self::MmuCreate => "kvm_mmu_create",
            Self::SetCr3 => "kvm_set_cr3",
            Self::CrAccess => "kvm_cr",
            Self::VcpuRun => "vcpu_run",
        }
    }

    /// From its name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.word() == word)
    }

    /// The one after it, and after the last the first.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|of| *of == self).map_or(0, |at| at + 1);
        Self::ALL.get(at).copied().unwrap_or_default()
    }
}

/// A place in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Frame {
    /// Its address; of a caller that to which the call returns.
    pub address: u64,
    /// The function with the offset in it ("kvm_mmu_load+0x5c \[kvm\]"); empty where it is not known.
    pub symbol: String,
}

/// Calls with one stack in an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct StackTick {
    /// What was called.
    pub of: StackOf,
    /// By whose vCPU's thread; `None` where the process has no VM that is known, or the thread is no vCPU's
    /// and the process has several.
    pub vm: Option<VmId>,
    /// Thread group.
    pub pid: u32,
    /// Calls.
    pub count: u64,
    /// The stack, what was called first; outer frames beyond
    /// [`FRAMES`](kvmscope_shared::stacks::FRAMES) are cut off.
    pub frames: Vec<Frame>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_a_next() {
        let mut of = StackOf::default();
        for (number, known) in StackOf::ALL.into_iter().enumerate() {
            assert_eq!((of, known as usize), (known, number));
            assert_eq!(StackOf::from_word(of.word()), Some(of));
            of = of.next();
        }
        assert_eq!(of, StackOf::default());
        assert_eq!(StackOf::from_word("schedule"), None);
    }
}
