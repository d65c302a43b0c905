//! KVM's ioctls: what a command is called, what it is for, and memory slots as they are set.
//!
//! From include/uapi/linux/kvm.h of Linux 5.10 to 7.2, as x86_64 has them. A command is its whole
//! number, direction and size included: some numbers are shared and told apart by these. Commands that
//! only other architectures have are left out.

use super::errno;
use kvmscope_shared::event::ARGS;
use std::borrow::Cow;

/// What kind of file descriptor a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `/dev/kvm`.
    System,
    /// A VM, from KVM_CREATE_VM.
    Vm,
    /// A vCPU, from KVM_CREATE_VCPU.
    Vcpu,
    /// A device, from KVM_CREATE_DEVICE.
    Device,
}

impl Scope {
    /// From the fourth argument of an event ([`kvmscope_shared::event::kind::IOCTL`]); `None` for a number
    /// that is none.
    pub fn from_record(scope: u64) -> Option<Self> {
        [Self::System, Self::Vm, Self::Vcpu, Self::Device].into_iter().find(|s| *s as u64 == scope)
    }

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Vm => "vm",
            Self::Vcpu => "vcpu",
            Self::Device => "device",
        }
    }
}

/// The name of a command, as the kernel's header has it; `None` for one that it has not.
pub fn name(command: u32) -> Option<&'static str> {
    find(command).map(|(_, name)| name)
}

/// What the command is for. Some are for more than one (KVM_CHECK_EXTENSION, KVM_ENABLE_CAP, …): this is
/// the usual one, and an event says which it was.
pub fn scope(command: u32) -> Option<Scope> {
    find(command).map(|(scope, _)| scope)
}

/// Its name, or its number where it has none.
pub fn label(command: u32) -> Cow<'static, str> {
    name(command).map_or_else(|| format!("unknown ioctl {command:#x}").into(), Cow::Borrowed)
}

/// What a call answered: nothing for 0, a number for what it made, an error by name.
pub fn result(result: u64) -> Option<String> {
    match result.cast_signed() {
        0 => None,
        n if n > 0 => Some(n.to_string()),
        n => Some(errno::name(n.unsigned_abs())),
    }
}

fn find(command: u32) -> Option<(Scope, &'static str)> {
    TABLES.iter().find_map(|(scope, table)| {
        let (_, name) = table.iter().find(|(known, _)| *known == command)?;
        Some((*scope, *name))
    })
}

/// A memory slot as it was set (KVM_SET_USER_MEMORY_REGION and its successor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memslot {
    /// Its number.
    pub slot: u32,
    /// Address space: 1 is memory of system management mode.
    pub space: u32,
    /// `KVM_MEM_*`.
    pub flags: u64,
    /// Where the guest sees it.
    pub gpa: u64,
    /// Size in bytes; 0 deletes the slot.
    pub size: u64,
    /// Where the VMM has it.
    pub hva: u64,
    /// What the ioctl answered; sign-extended.
    pub result: u64,
}

impl Memslot {
    /// From an event's arguments ([`kvmscope_shared::event::kind::MEMSLOT`]).
    pub fn from_args(args: &[u64; ARGS]) -> Self {
        let [slot, flags, gpa, size, hva, result] = *args;
        Self { slot: slot as u32, space: (slot >> 32) as u32, flags, gpa, size, hva, result }
    }

    /// Whether the slot is gone after this.
    pub fn is_deleted(&self) -> bool {
        self.size == 0
    }

    /// "slot 3", "slot 3 of space 1".
    pub fn label(&self) -> String {
        match self.space {
            0 => format!("slot {}", self.slot),
            space => format!("slot {} of space {space}", self.slot),
        }
    }

    /// Its flags in words, without the header's prefix; those without a name as one number.
    pub fn flag_words(&self) -> Vec<Cow<'static, str>> {
        let known = FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0);
        let mut words: Vec<Cow<'static, str>> = known.map(|(_, name)| (*name).into()).collect();
        let rest = FLAGS.iter().fold(self.flags, |flags, (bit, _)| flags & !bit);
        if rest != 0 {
            words.push(format!("flags {rest:#x}").into());
        }
        words
    }
}

const FLAGS: &[(u64, &str)] = &[(1, "LOG_DIRTY_PAGES"), (2, "READONLY"), (4, "GUEST_MEMFD")];

type Table = &'static [(u32, &'static str)];

/// vCPU first: most calls are theirs.
const TABLES: [(Scope, Table); 4] =
    [(Scope::Vcpu, VCPU), (Scope::Vm, VM), (Scope::Device, DEVICE), (Scope::System, SYSTEM)];

/// `/dev/kvm`.
const SYSTEM: Table = &[
    (0x0000_ae00, "KVM_GET_API_VERSION"),
    (0x0000_ae01, "KVM_CREATE_VM"),
    (0xc004_ae02, "KVM_GET_MSR_INDEX_LIST"),
    (0x0000_ae03, "KVM_CHECK_EXTENSION"),
    (0x0000_ae04, "KVM_GET_VCPU_MMAP_SIZE"),
    (0xc008_ae05, "KVM_GET_SUPPORTED_CPUID"),
    (0xc008_ae09, "KVM_GET_EMULATED_CPUID"),
    (0xc004_ae0a, "KVM_GET_MSR_FEATURE_INDEX_LIST"),
    (0x8008_ae9d, "KVM_X86_GET_MCE_CAP_SUPPORTED"),
    (0xc008_aec1, "KVM_GET_SUPPORTED_HV_CPUID"),
];

/// VMs; with them what kernels before 4.12 had for assigned devices, which later ones refuse.
const VM: Table = &[
    (0x4018_ae40, "KVM_SET_MEMORY_REGION"),
    (0x0000_ae41, "KVM_CREATE_VCPU"),
    (0x4010_ae42, "KVM_GET_DIRTY_LOG"),
    (0x4020_ae43, "KVM_SET_MEMORY_ALIAS"),
    (0x0000_ae44, "KVM_SET_NR_MMU_PAGES"),
    (0x0000_ae45, "KVM_GET_NR_MMU_PAGES"),
    (0x4020_ae46, "KVM_SET_USER_MEMORY_REGION"),
    (0x0000_ae47, "KVM_SET_TSS_ADDR"),
    (0x4008_ae48, "KVM_SET_IDENTITY_MAP_ADDR"),
    (0x40a0_ae49, "KVM_SET_USER_MEMORY_REGION2"),
    (0x0000_ae60, "KVM_CREATE_IRQCHIP"),
    (0x4008_ae61, "KVM_IRQ_LINE"),
    (0xc208_ae62, "KVM_GET_IRQCHIP"),
    (0x8208_ae63, "KVM_SET_IRQCHIP"),
    (0x0000_ae64, "KVM_CREATE_PIT"),
    (0xc048_ae65, "KVM_GET_PIT"),
    (0x8048_ae66, "KVM_SET_PIT"),
    (0x4010_ae67, "KVM_REGISTER_COALESCED_MMIO"),
    (0xc008_ae67, "KVM_IRQ_LINE_STATUS"),
    (0x4010_ae68, "KVM_UNREGISTER_COALESCED_MMIO"),
    (0x8040_ae69, "KVM_ASSIGN_PCI_DEVICE"),
    (0x4008_ae6a, "KVM_SET_GSI_ROUTING"),
    (0x4040_ae70, "KVM_ASSIGN_DEV_IRQ"),
    (0x0000_ae71, "KVM_REINJECT_CONTROL"),
    (0x4040_ae72, "KVM_DEASSIGN_PCI_DEVICE"),
    (0x4008_ae73, "KVM_ASSIGN_SET_MSIX_NR"),
    (0x4010_ae74, "KVM_ASSIGN_SET_MSIX_ENTRY"),
    (0x4040_ae75, "KVM_DEASSIGN_DEV_IRQ"),
    (0x4020_ae76, "KVM_IRQFD"),
    (0x4040_ae77, "KVM_CREATE_PIT2"),
    (0x0000_ae78, "KVM_SET_BOOT_CPU_ID"),
    (0x4040_ae79, "KVM_IOEVENTFD"),
    (0x4038_ae7a, "KVM_XEN_HVM_CONFIG"),
    (0x4030_ae7b, "KVM_SET_CLOCK"),
    (0x8030_ae7c, "KVM_GET_CLOCK"),
    (0x8070_ae9f, "KVM_GET_PIT2"),
    (0x4070_aea0, "KVM_SET_PIT2"),
    (0x4068_aea3, "KVM_ENABLE_CAP"),
    (0x4040_aea4, "KVM_ASSIGN_SET_INTX_MASK"),
    (0x4020_aea5, "KVM_SIGNAL_MSI"),
    (0x4020_aeb2, "KVM_SET_PMU_EVENT_FILTER"),
    (0xc008_aeba, "KVM_MEMORY_ENCRYPT_OP"),
    (0x8010_aebb, "KVM_MEMORY_ENCRYPT_REG_REGION"),
    (0x8010_aebc, "KVM_MEMORY_ENCRYPT_UNREG_REGION"),
    (0x4018_aebd, "KVM_HYPERV_EVENTFD"),
    (0xc018_aec0, "KVM_CLEAR_DIRTY_LOG"),
    (0x4188_aec6, "KVM_X86_SET_MSR_FILTER"),
    (0x0000_aec7, "KVM_RESET_DIRTY_RINGS"),
    (0xc048_aec8, "KVM_XEN_HVM_GET_ATTR"),
    (0x4048_aec9, "KVM_XEN_HVM_SET_ATTR"),
    (0x0000_aece, "KVM_GET_STATS_FD"),
    (0x400c_aed0, "KVM_XEN_HVM_EVTCHN_SEND"),
    (0x4020_aed2, "KVM_SET_MEMORY_ATTRIBUTES"),
    (0xc040_aed4, "KVM_CREATE_GUEST_MEMFD"),
    (0xc00c_aee0, "KVM_CREATE_DEVICE"),
];

/// vCPUs.
const VCPU: Table = &[
    (0x0000_ae80, "KVM_RUN"),
    (0x8090_ae81, "KVM_GET_REGS"),
    (0x4090_ae82, "KVM_SET_REGS"),
    (0x8138_ae83, "KVM_GET_SREGS"),
    (0x4138_ae84, "KVM_SET_SREGS"),
    (0xc018_ae85, "KVM_TRANSLATE"),
    (0x4004_ae86, "KVM_INTERRUPT"),
    (0xc008_ae88, "KVM_GET_MSRS"),
    (0x4008_ae89, "KVM_SET_MSRS"),
    (0x4008_ae8a, "KVM_SET_CPUID"),
    (0x4004_ae8b, "KVM_SET_SIGNAL_MASK"),
    (0x81a0_ae8c, "KVM_GET_FPU"),
    (0x41a0_ae8d, "KVM_SET_FPU"),
    (0x8400_ae8e, "KVM_GET_LAPIC"),
    (0x4400_ae8f, "KVM_SET_LAPIC"),
    (0x4008_ae90, "KVM_SET_CPUID2"),
    (0xc008_ae91, "KVM_GET_CPUID2"),
    (0xc028_ae92, "KVM_TPR_ACCESS_REPORTING"),
    (0x4008_ae93, "KVM_SET_VAPIC_ADDR"),
    (0x8004_ae98, "KVM_GET_MP_STATE"),
    (0x4004_ae99, "KVM_SET_MP_STATE"),
    (0x0000_ae9a, "KVM_NMI"),
    (0x4048_ae9b, "KVM_SET_GUEST_DEBUG"),
    (0x4008_ae9c, "KVM_X86_SETUP_MCE"),
    (0x4040_ae9e, "KVM_X86_SET_MCE"),
    (0x8040_ae9f, "KVM_GET_VCPU_EVENTS"),
    (0x4040_aea0, "KVM_SET_VCPU_EVENTS"),
    (0x8080_aea1, "KVM_GET_DEBUGREGS"),
    (0x0000_aea2, "KVM_SET_TSC_KHZ"),
    (0x4080_aea2, "KVM_SET_DEBUGREGS"),
    (0x0000_aea3, "KVM_GET_TSC_KHZ"),
    (0x9000_aea4, "KVM_GET_XSAVE"),
    (0x5000_aea5, "KVM_SET_XSAVE"),
    (0x8188_aea6, "KVM_GET_XCRS"),
    (0x4188_aea7, "KVM_SET_XCRS"),
    (0x4010_aeab, "KVM_GET_ONE_REG"),
    (0x4010_aeac, "KVM_SET_ONE_REG"),
    (0x0000_aead, "KVM_KVMCLOCK_CTRL"),
    (0xc008_aeb0, "KVM_GET_REG_LIST"),
    (0x0000_aeb7, "KVM_SMI"),
    (0xc080_aebe, "KVM_GET_NESTED_STATE"),
    (0x4080_aebf, "KVM_SET_NESTED_STATE"),
    (0xc048_aeca, "KVM_XEN_VCPU_GET_ATTR"),
    (0x4048_aecb, "KVM_XEN_VCPU_SET_ATTR"),
    (0x8140_aecc, "KVM_GET_SREGS2"),
    (0x4140_aecd, "KVM_SET_SREGS2"),
    (0x9000_aecf, "KVM_GET_XSAVE2"),
    (0xc040_aed5, "KVM_PRE_FAULT_MEMORY"),
];

/// Devices; also of the system, of VMs and of vCPUs.
const DEVICE: Table = &[
    (0x4018_aee1, "KVM_SET_DEVICE_ATTR"),
    (0x4018_aee2, "KVM_GET_DEVICE_ATTR"),
    (0x4018_aee3, "KVM_HAS_DEVICE_ATTR"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// `_IOC` of include/uapi/asm-generic/ioctl.h, for KVM's type.
    const fn command(direction: u32, number: u32, size: u32) -> u32 {
        direction << 30 | size << 16 | 0xae << 8 | number
    }
    const NONE: u32 = 0;
    const WRITE: u32 = 1;
    const READ: u32 = 2;

    #[test]
    fn every_command_and_every_name_is_there_once_and_is_kvm_s() {
        let all: Vec<_> = TABLES.iter().flat_map(|(_, table)| table.iter()).collect();
        let commands: BTreeSet<_> = all.iter().map(|(command, _)| command).collect();
        let names: BTreeSet<_> = all.iter().map(|(_, name)| name).collect();
        assert_eq!((commands.len(), names.len()), (all.len(), all.len()));
        assert!(all.iter().all(|(command, _)| command >> 8 & 0xff == 0xae));
        assert!(all.iter().all(|(_, name)| name.starts_with("KVM_")));
    }

    /// Structures of the header, counted by hand.
    #[test]
    fn commands_are_those_of_the_header() {
        for (number, expected, scope_of) in [
            (command(NONE, 0x01, 0), "KVM_CREATE_VM", Scope::System),
            (command(NONE, 0x41, 0), "KVM_CREATE_VCPU", Scope::Vm),
            (command(WRITE, 0x46, 32), "KVM_SET_USER_MEMORY_REGION", Scope::Vm),
            (command(WRITE, 0x49, 160), "KVM_SET_USER_MEMORY_REGION2", Scope::Vm),
            (command(WRITE, 0x76, 32), "KVM_IRQFD", Scope::Vm),
            (command(WRITE, 0x79, 64), "KVM_IOEVENTFD", Scope::Vm),
            (command(NONE, 0x80, 0), "KVM_RUN", Scope::Vcpu),
            (command(READ, 0x81, 18 * 8), "KVM_GET_REGS", Scope::Vcpu),
            (command(WRITE, 0xd2, 32), "KVM_SET_MEMORY_ATTRIBUTES", Scope::Vm),
            (command(READ | WRITE, 0xd4, 64), "KVM_CREATE_GUEST_MEMFD", Scope::Vm),
            (command(READ | WRITE, 0xd5, 64), "KVM_PRE_FAULT_MEMORY", Scope::Vcpu),
            (command(READ | WRITE, 0xe0, 12), "KVM_CREATE_DEVICE", Scope::Vm),
            (command(WRITE, 0xe1, 24), "KVM_SET_DEVICE_ATTR", Scope::Device),
        ] {
            assert_eq!((name(number), scope(number)), (Some(expected), Some(scope_of)));
        }
    }

    #[test]
    fn shared_numbers_are_told_apart_by_size_and_direction() {
        assert_eq!(name(command(READ, 0x9f, 64)), Some("KVM_GET_VCPU_EVENTS"));
        assert_eq!(name(command(READ, 0x9f, 112)), Some("KVM_GET_PIT2"));
        assert_eq!(name(command(NONE, 0xa3, 0)), Some("KVM_GET_TSC_KHZ"));
        assert_eq!(name(command(WRITE, 0xa3, 104)), Some("KVM_ENABLE_CAP"));
        assert_eq!(name(command(WRITE, 0x67, 16)), Some("KVM_REGISTER_COALESCED_MMIO"));
        assert_eq!(name(command(READ | WRITE, 0x67, 8)), Some("KVM_IRQ_LINE_STATUS"));
        for unknown in [0, command(WRITE, 0x80, 0), command(NONE, 0xff, 0), 0x5401, u32::MAX] {
            assert_eq!((name(unknown), scope(unknown)), (None, None), "{unknown:#x}");
        }
        assert_eq!(label(0x4008_aed9), "unknown ioctl 0x4008aed9");
    }

    #[test]
    fn results_are_numbers_or_errors() {
        assert_eq!(result(0), None);
        assert_eq!(result(12).as_deref(), Some("12"));
        assert_eq!(result((-4i64).cast_unsigned()).as_deref(), Some("EINTR"));
        assert_eq!(result(i64::MIN.cast_unsigned()).as_deref(), Some("error 9223372036854775808"));
    }

    #[test]
    fn a_slot_has_its_flags_in_words() {
        let slot = Memslot::from_args(&[1 << 32 | 3, 0x15, 0x1000, 0x2000, 0x7f00, 0]);
        assert_eq!((slot.slot, slot.space, slot.is_deleted()), (3, 1, false));
        assert_eq!(slot.label(), "slot 3 of space 1");
        assert_eq!(slot.flag_words(), ["LOG_DIRTY_PAGES", "GUEST_MEMFD", "flags 0x10"]);
        let gone = Memslot::from_args(&[3, 0, 0x1000, 0, 0, 0]);
        assert!(gone.is_deleted() && gone.flag_words().is_empty());
    }

    #[test]
    fn scopes_are_those_of_events() {
        for (nth, word) in ["system", "vm", "vcpu", "device"].into_iter().enumerate() {
            assert_eq!(Scope::from_record(nth as u64).map(Scope::word), Some(word));
        }
        assert_eq!(Scope::from_record(4), None);
    }
}
