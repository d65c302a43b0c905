//! KVM ioctls (family `ioctl`): how often each was called, and how long it took.
//!
//! A row is one command of one VM. Each row has several tallies, one for each CPU where there are not more
//! CPUs than [`MAX_SHARDS`]: what several threads of a VMM do at once is added up without one waiting for
//! the other, and the longest time has one writer.

use crate::zeroed;

/// The type byte of KVM's commands (`KVMIO`, include/uapi/linux/kvm.h).
pub const KVMIO: u32 = 0xae;
/// KVM_RUN: a vCPU's thread is in it nearly always.
pub const KVM_RUN: u32 = 0xae80;
/// KVM_SET_USER_MEMORY_REGION.
pub const SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;
/// KVM_SET_USER_MEMORY_REGION2, whose argument begins like the other's.
pub const SET_USER_MEMORY_REGION2: u32 = 0x40a0_ae49;
/// Most tallies of a row, a power of two.
pub const MAX_SHARDS: u32 = 64;

/// What a file descriptor is, by the function that serves its ioctls.
pub mod what {
    /// `/dev/kvm` (`kvm_dev_ioctl`).
    pub const SYSTEM: u32 = 0;
    /// A VM (`kvm_vm_ioctl`).
    pub const VM: u32 = 1;
    /// A vCPU (`kvm_vcpu_ioctl`).
    pub const VCPU: u32 = 2;
    /// A device of a VM (`kvm_device_ioctl`).
    pub const DEVICE: u32 = 3;
    /// Not known: these functions, or the way to them, were not found.
    pub const UNKNOWN: u32 = 4;
    /// How many are told apart.
    pub const KNOWN: usize = 4;
}

/// One command of one VM: whom a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Call {
    /// Thread group; 0 in a row that nobody has.
    pub tgid: u32,
    /// The command.
    pub command: u32,
    /// Address of the `struct kvm`; 0 for `/dev/kvm` itself, and where it is not known. An identity, never
    /// followed.
    pub kvm: u64,
}
zeroed!(Call, Self { tgid: 0, command: 0, kvm: 0 });

/// What a row's calls came to on one CPU. Only ever grows while a row has its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tally {
    /// Calls that ended.
    pub count: u64,
    /// Of them, those whose result was negative.
    pub failed: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
}
zeroed!(Tally, Self { count: 0, failed: 0, total_ns: 0, max_ns: 0 });

/// A call of a thread that has not ended yet. That of a vCPU's thread stays for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Begun {
    /// When it began, ns of the probes' clock; 0 once it ended.
    pub start_ns: u64,
    /// See [`Call::kvm`].
    pub kvm: u64,
    /// Its third argument, an address in the VMM or a number.
    pub argument: u64,
    /// The command.
    pub command: u32,
    /// File descriptor.
    pub fd: u32,
    /// See [`what`].
    pub what: u32,
    /// The row of the thread's last call, which may be another's by now; 0 for none.
    pub row: u32,
}
zeroed!(Begun, Self { start_ns: 0, kvm: 0, argument: 0, command: 0, fd: 0, what: 0, row: 0 });

/// Argument of KVM_SET_USER_MEMORY_REGION, and how that of its successor begins (include/uapi/linux/kvm.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// Slot; address space in the high half.
    pub slot: u32,
    /// KVM_MEM_LOG_DIRTY_PAGES and others.
    pub flags: u32,
    /// Guest-physical address.
    pub gpa: u64,
    /// Size in bytes; 0 takes the slot away.
    pub size: u64,
    /// Address in the VMM.
    pub hva: u64,
}
zeroed!(Region, Self { slot: 0, flags: 0, gpa: 0, size: 0, hva: 0 });

/// The functions by which descriptors are told apart, in the order of [`what`]; 0 for one not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Handlers {
    /// Address of each.
    pub at: [u64; what::KNOWN],
}
zeroed!(Handlers, Self { at: [0; what::KNOWN] });

const _: () = assert!(size_of::<Call>() == 16 && size_of::<Tally>() == 32);
const _: () = assert!(size_of::<Begun>() == 40 && size_of::<Region>() == 32);
const _: () = assert!(MAX_SHARDS.is_power_of_two());
