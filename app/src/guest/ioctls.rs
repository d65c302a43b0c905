//! The ioctls that the VMM makes, counted where it makes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{
    kvm_cpuid2, kvm_dirty_log, kvm_enable_cap, kvm_ioeventfd, kvm_irq_level, kvm_irq_routing,
    kvm_irqchip, kvm_irqfd, kvm_lapic_state, kvm_mp_state, kvm_msi, kvm_regs, kvm_sregs,
    kvm_userspace_memory_region,
};
use serde::{Deserialize, Serialize};

/// How often one command was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoctlCount {
    /// The command, as the system call has it.
    pub command: u32,
    /// Calls.
    pub count: u64,
    /// The part of them that returned an error.
    pub failed: u64,
}

/// By name.
pub type IoctlCounts = BTreeMap<String, IoctlCount>;

/// `_IO(KVMIO, number)` of linux/kvm.h.
const fn io(number: u32) -> u32 {
    0xae << 8 | number
}

/// `_IOW(KVMIO, number, T)`.
const fn iow<T>(number: u32) -> u32 {
    1 << 30 | (size_of::<T>() as u32) << 16 | io(number)
}

/// `_IOR(KVMIO, number, T)`.
const fn ior<T>(number: u32) -> u32 {
    2 << 30 | (size_of::<T>() as u32) << 16 | io(number)
}

macro_rules! commands {
    ($($variant:ident $name:literal $command:expr;)*) => {
        /// A command that the VMM makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Command {
            $(
                #[doc = $name]
                $variant,
            )*
        }

        impl Command {
            /// All of them, in the order of their discriminants.
            const ALL: &[(&'static str, u32)] = &[$(($name, $command)),*];
        }
    };
}

commands! {
    GetApiVersion "KVM_GET_API_VERSION" io(0x00);
    CreateVm "KVM_CREATE_VM" io(0x01);
    CheckExtension "KVM_CHECK_EXTENSION" io(0x03);
    GetVcpuMmapSize "KVM_GET_VCPU_MMAP_SIZE" io(0x04);
    CreateVcpu "KVM_CREATE_VCPU" io(0x41);
    GetDirtyLog "KVM_GET_DIRTY_LOG" iow::<kvm_dirty_log>(0x42);
    SetUserMemoryRegion "KVM_SET_USER_MEMORY_REGION" iow::<kvm_userspace_memory_region>(0x46);
    CreateIrqchip "KVM_CREATE_IRQCHIP" io(0x60);
    IrqLine "KVM_IRQ_LINE" iow::<kvm_irq_level>(0x61);
    SetIrqchip "KVM_SET_IRQCHIP" ior::<kvm_irqchip>(0x63);
    SetGsiRouting "KVM_SET_GSI_ROUTING" iow::<kvm_irq_routing>(0x6a);
    Irqfd "KVM_IRQFD" iow::<kvm_irqfd>(0x76);
    Ioeventfd "KVM_IOEVENTFD" iow::<kvm_ioeventfd>(0x79);
    Run "KVM_RUN" io(0x80);
    GetRegs "KVM_GET_REGS" ior::<kvm_regs>(0x81);
    SetRegs "KVM_SET_REGS" iow::<kvm_regs>(0x82);
    GetSregs "KVM_GET_SREGS" ior::<kvm_sregs>(0x83);
    SetSregs "KVM_SET_SREGS" iow::<kvm_sregs>(0x84);
    GetLapic "KVM_GET_LAPIC" ior::<kvm_lapic_state>(0x8e);
    SetLapic "KVM_SET_LAPIC" iow::<kvm_lapic_state>(0x8f);
    SetCpuid2 "KVM_SET_CPUID2" iow::<kvm_cpuid2>(0x90);
    SetMpState "KVM_SET_MP_STATE" iow::<kvm_mp_state>(0x99);
    EnableCap "KVM_ENABLE_CAP" iow::<kvm_enable_cap>(0xa3);
    GetTscKhz "KVM_GET_TSC_KHZ" io(0xa3);
    SignalMsi "KVM_SIGNAL_MSI" iow::<kvm_msi>(0xa5);
}

const COMMANDS: usize = Command::ALL.len();

/// The counts of one VM, or of what belongs to none. Shared by the threads of the VMM.
#[derive(Debug, Default)]
pub struct Ioctls {
    made: [AtomicU64; COMMANDS],
    failed: [AtomicU64; COMMANDS],
}

impl Ioctls {
    /// Counts a call that came back with `result`, which is handed on.
    pub fn told<T>(
        &self,
        command: Command,
        result: Result<T, kvm_ioctls::Error>,
    ) -> Result<T, kvm_ioctls::Error> {
        self.add(command, 1, u64::from(result.is_err()));
        result
    }

    /// `made` calls, of which `failed` returned an error.
    pub fn add(&self, command: Command, made: u64, failed: u64) {
        self.made[command as usize].fetch_add(made, Ordering::Relaxed);
        self.failed[command as usize].fetch_add(failed, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counts(&self) -> IoctlCounts {
        let mut counts = IoctlCounts::new();
        self.add_to(&mut counts);
        counts
    }

    /// Adds what was counted so far to `counts`.
    pub fn add_to(&self, counts: &mut IoctlCounts) {
        for (index, &(name, command)) in Command::ALL.iter().enumerate() {
            let made = self.made[index].load(Ordering::Relaxed);
            if made > 0 {
                let entry = counts.entry(name.to_owned()).or_default();
                entry.command = command;
                entry.count += made;
                entry.failed += self.failed[index].load(Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_linux_kvm_h() {
        for (name, command) in [
            ("KVM_RUN", 0xae80),
            ("KVM_GET_DIRTY_LOG", 0x4010_ae42),
            ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
            ("KVM_IRQ_LINE", 0x4008_ae61),
            ("KVM_SET_IRQCHIP", 0x8208_ae63),
            ("KVM_SET_GSI_ROUTING", 0x4008_ae6a),
            ("KVM_IRQFD", 0x4020_ae76),
            ("KVM_SET_CPUID2", 0x4008_ae90),
            ("KVM_ENABLE_CAP", 0x4068_aea3),
            ("KVM_IOEVENTFD", 0x4040_ae79),
            ("KVM_GET_REGS", 0x8090_ae81),
            ("KVM_GET_SREGS", 0x8138_ae83),
            ("KVM_SET_LAPIC", 0x4400_ae8f),
            ("KVM_SET_MP_STATE", 0x4004_ae99),
            ("KVM_SIGNAL_MSI", 0x4020_aea5),
        ] {
            assert!(Command::ALL.contains(&(name, command)), "{name}");
        }
        assert_eq!(Command::ALL[Command::SignalMsi as usize].0, "KVM_SIGNAL_MSI");
    }

    #[test]
    fn calls_and_errors_add_up() {
        let ioctls = Ioctls::default();
        let refused = Err::<(), _>(kvm_ioctls::Error::new(libc::EINTR));
        assert!(ioctls.told(Command::CreateVm, refused).is_err());
        assert_eq!(ioctls.told(Command::CreateVm, Ok(5)), Ok(5));
        ioctls.add(Command::Run, 10, 3);
        let mut counts = ioctls.counts();
        assert_eq!(counts.len(), 2);
        assert_eq!(counts["KVM_CREATE_VM"], IoctlCount { command: 0xae01, count: 2, failed: 1 });
        ioctls.add_to(&mut counts);
        assert_eq!(counts["KVM_RUN"], IoctlCount { command: 0xae80, count: 20, failed: 6 });
    }
}
