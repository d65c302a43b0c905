//! Identities. Pids, thread ids and kernel addresses are reused; these are not.

use kvmscope_shared::{column, slot};
use serde::{Deserialize, Serialize};

/// A VM of this session. Counts from 1 in the order of appearance and is never reused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct VmId(pub u32);

/// A vCPU: its VM and KVM's own `vcpu_id` (the APIC id on x86, not the number of the thread).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct VcpuKey {
    /// The VM.
    pub vm: VmId,
    /// `kvm_vcpu.vcpu_id`.
    pub vcpu: u32,
}

/// Which of the two ways out of the guest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum Kind {
    /// The hardware left guest mode (`kvm_exit`); handled by KVM, and by the VMM when it must.
    #[default]
    Exit = 0,
    /// KVM_RUN returned to the VMM (`kvm_userspace_exit`).
    Userspace = 1,
}

/// Whose exit codes these are.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum Isa {
    /// No `kvm_exit` seen, or a userspace exit, whose codes are the same everywhere.
    #[default]
    None = 0,
    /// Intel VMX.
    Vmx = 1,
    /// AMD SVM.
    Svm = 2,
}

impl Isa {
    /// From the `isa` field of a `kvm_exit` record.
    pub fn from_record(isa: u32) -> Self {
        match isa {
            column::ISA_VMX => Self::Vmx,
            column::ISA_SVM => Self::Svm,
            _ => Self::None,
        }
    }
}

/// An exit reason: what a cell is about. The code carries no flag bits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Reason {
    /// Kernel exit or userspace exit.
    pub kind: Kind,
    /// Whose numbering `code` is; `None` for userspace exits.
    pub isa: Isa,
    /// The number: `EXIT_REASON_*` (VMX), `SVM_EXIT_*`, or `KVM_EXIT_*`.
    pub code: u32,
}

impl Reason {
    /// A kernel exit.
    pub const fn exit(isa: Isa, code: u32) -> Self {
        Self { kind: Kind::Exit, isa, code }
    }

    /// A userspace exit (`KVM_EXIT_*`, include/uapi/linux/kvm.h).
    pub const fn userspace(code: u32) -> Self {
        Self { kind: Kind::Userspace, isa: Isa::None, code }
    }

    /// From a cell's fields ([`kvmscope_shared::cell::Cell`]).
    pub fn from_cell(kind: u32, isa: u32, code: u32) -> Self {
        if kind == slot::KIND_USERSPACE {
            Self::userspace(code)
        } else {
            Self::exit(Isa::from_record(isa), code)
        }
    }

    /// Whether the guest was idle rather than asking for work: HLT (VMX 12, SVM 0x78 and
    /// IDLE_HLT 0xa6, `KVM_EXIT_HLT` 5). Such time is shown, and marked.
    pub fn is_idle(self) -> bool {
        matches!(
            (self.kind, self.isa, self.code),
            (Kind::Exit, Isa::Vmx, 12)
                | (Kind::Exit, Isa::Svm, 0x78 | 0xa6)
                | (Kind::Userspace, _, 5)
        )
    }
}
