//! The interrupt controllers of a VM, in the kernel, and how they are set up: the local APICs for x2APIC mode,
//! one line of the 8259, a few of the I/O APIC, eventfds. The VMM does all of it by ioctls before the guest
//! runs, so that the guest's own exits are only those that it is asked for.

use std::io;

use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_cpuid_entry2, kvm_enable_cap,
    kvm_ioapic_state, kvm_ioapic_state__bindgen_ty_1, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_irqchip,
    kvm_irqchip__bindgen_ty_1, kvm_lapic_state, kvm_pic_state,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::error::Error;
use super::ioctls::{Command, Ioctls};
use super::irqs::{IRQFD_PIN, PIC_BASE, PIC_PIN, PINS, message, redirection};
use super::op::Op;

/// Which controllers a VM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chips {
    /// Any in the kernel, so that HLT stays inside KVM.
    pub kernel: bool,
    /// Only the local APICs are in the kernel.
    pub split: bool,
    /// The guest uses its local APIC.
    pub apic: bool,
    /// Lines of the 8259 and the I/O APIC are used.
    pub lines: bool,
    /// An eventfd for each vCPU sends it a message.
    pub irqfd: bool,
    /// An eventfd sets a line of the I/O APIC.
    pub irqfd_line: bool,
}

impl Chips {
    /// Creates them; before the first vCPU.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn create(&self, vm: &VmFd, ioctls: &Ioctls) -> Result<(), Error> {
        if !self.kernel {
            return Ok(());
        }
        let (command, result) = if self.split {
            (Command::EnableCap, vm.enable_cap(&split()))
        } else {
            (Command::CreateIrqchip, vm.create_irq_chip())
        };
        ioctls
            .told(command, result)
            .map_err(|error| Error::setup("create an interrupt controller", error.errno()))?;
        if self.lines {
            for chip in [pic(), ioapic()] {
                ioctls
                    .told(Command::SetIrqchip, vm.set_irqchip(&chip))
                    .map_err(|error| Error::setup("set an interrupt controller", error.errno()))?;
            }
        }
        Ok(())
    }

    /// The eventfds, by vCPU, and the one of a line; the VM's vCPUs are there by then.
    ///
    /// # Errors
    /// When there can be no more, or KVM refuses.
    pub fn eventfds(&self, vm: &VmFd, ioctls: &Ioctls, vcpus: u32) -> Result<Eventfds, Error> {
        let mut fds = Eventfds::default();
        if self.irqfd {
            let entries = routes(vcpus, self.split);
            let routing = KvmIrqRouting::from_entries(&entries)
                .map_err(|error| Error::Failed(format!("too many routes: {error:?}")))?;
            ioctls
                .told(Command::SetGsiRouting, vm.set_gsi_routing(&routing))
                .map_err(|error| Error::setup("set routes of interrupts", error.errno()))?;
            for id in 0..vcpus {
                fds.messages.push(irqfd(vm, ioctls, PINS + id)?);
            }
        }
        if self.irqfd_line {
            fds.line = Some(irqfd(vm, ioctls, IRQFD_PIN)?);
        }
        Ok(fds)
    }
}

/// Eventfds that send interrupts.
#[derive(Debug, Default)]
pub struct Eventfds {
    messages: Vec<EventFd>,
    line: Option<EventFd>,
}

impl Eventfds {
    /// Sends the message of vCPU `id`.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(&self, id: u32) -> io::Result<()> {
        self.messages.get(id as usize).ok_or(io::ErrorKind::NotFound)?.write(1)
    }

    /// Sets the line and takes it back.
    ///
    /// # Errors
    /// When there is none.
    pub fn pulse(&self) -> io::Result<()> {
        self.line.as_ref().ok_or(io::ErrorKind::NotFound)?.write(1)
    }
}

fn irqfd(vm: &VmFd, ioctls: &Ioctls, gsi: u32) -> Result<EventFd, Error> {
    let eventfd = EventFd::new(EFD_NONBLOCK)
        .map_err(|error| Error::Failed(format!("there can be no more eventfds: {error}")))?;
    ioctls
        .told(Command::Irqfd, vm.register_irqfd(&eventfd, gsi))
        .map_err(|error| Error::setup("let an eventfd interrupt the guest", error.errno()))?;
    Ok(eventfd)
}

/// As many GSIs are kept for the VMM's own I/O APIC.
fn split() -> kvm_enable_cap {
    let mut cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..kvm_enable_cap::default() };
    cap.args[0] = u64::from(PINS);
    cap
}

/// The first 8259: one line let through, interrupts end by themselves.
fn pic() -> kvm_irqchip {
    let pic = kvm_pic_state {
        irq_base: PIC_BASE,
        imr: !(1 << PIC_PIN),
        auto_eoi: 1,
        elcr_mask: 0xf8,
        ..kvm_pic_state::default()
    };
    kvm_irqchip {
        chip_id: KVM_IRQCHIP_PIC_MASTER,
        chip: kvm_irqchip__bindgen_ty_1 { pic },
        ..kvm_irqchip::default()
    }
}

/// The I/O APIC with the entries of [`redirection`].
fn ioapic() -> kvm_irqchip {
    let ioapic = kvm_ioapic_state {
        base_address: 0xfec0_0000,
        redirtbl: std::array::from_fn(|pin| kvm_ioapic_state__bindgen_ty_1 {
            bits: redirection(pin as u32),
        }),
        ..kvm_ioapic_state::default()
    };
    kvm_irqchip {
        chip_id: KVM_IRQCHIP_IOAPIC,
        chip: kvm_irqchip__bindgen_ty_1 { ioapic },
        ..kvm_irqchip::default()
    }
}

/// The routes that KVM has by itself (lines below 16 go to both chips), and a message for each vCPU.
fn routes(vcpus: u32, split: bool) -> Vec<kvm_irq_routing_entry> {
    let line = |gsi: u32, irqchip: u32, pin: u32| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..kvm_irq_routing_entry::default()
    };
    let pics = (0..16).map(|gsi| match gsi {
        0..8 => line(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => line(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    let pins = (0..PINS).map(|gsi| line(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let messages = (0..vcpus).map(|id| {
        let (address_lo, data) = message(id, Op::Irqfd);
        let msi = kvm_irq_routing_msi { address_lo, data, ..kvm_irq_routing_msi::default() };
        kvm_irq_routing_entry {
            gsi: PINS + id,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
            ..kvm_irq_routing_entry::default()
        }
    });
    let own = pics.chain(pins).filter(|_| !split);
    own.chain(messages).collect()
}

/// IA32_APIC_BASE, bit 10: x2APIC mode.
pub const X2APIC: u64 = 1 << 10;

/// Tells the vCPU that it has x2APIC mode and deadlines, without which KVM lets it have neither.
///
/// # Errors
/// When KVM refuses.
pub fn set_cpuid(vcpu: &VcpuFd, ioctls: &Ioctls) -> Result<(), Error> {
    const X2APIC: u32 = 1 << 21;
    const DEADLINE: u32 = 1 << 24;
    let entries = [
        kvm_cpuid_entry2 { eax: 1, ..kvm_cpuid_entry2::default() },
        kvm_cpuid_entry2 { function: 1, ecx: X2APIC | DEADLINE, ..kvm_cpuid_entry2::default() },
    ];
    let cpuid = CpuId::from_entries(&entries)
        .map_err(|error| Error::Failed(format!("no CPUID could be made: {error:?}")))?;
    ioctls
        .told(Command::SetCpuid2, vcpu.set_cpuid2(&cpuid))
        .map_err(|error| Error::setup("set what a vCPU's CPUID says", error.errno()))
}

/// Switches a local APIC on, with a timer that counts every tick.
pub fn switch_on(state: &mut kvm_lapic_state) {
    // SDM volume 3, table 11-1: spurious-interrupt vector, divide configuration (by 1).
    const SPIV: (usize, u32) = (0xf0, 0x1ff);
    const DIVIDE: (usize, u32) = (0x3e0, 0xb);
    for (at, value) in [SPIV, DIVIDE] {
        for (place, byte) in state.regs[at..at + 4].iter_mut().zip(value.to_le_bytes()) {
            *place = byte as std::ffi::c_char;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gsi_has_its_route() {
        let gsis = |split| routes(2, split).iter().map(|entry| entry.gsi).collect::<Vec<_>>();
        let whole = gsis(false);
        assert_eq!((whole.len(), whole[16 + 23], whole[16 + 24]), (16 + 24 + 2, 23, 24));
        assert_eq!(gsis(true), [24, 25]);
    }

    #[test]
    fn an_apic_is_switched_on_by_two_registers() {
        let mut state = kvm_lapic_state::default();
        switch_on(&mut state);
        let set: Vec<(usize, u8)> = (0..).zip(state.regs.map(|byte| byte as u8)).collect();
        let set = set.into_iter().filter(|&(_, byte)| byte != 0).collect::<Vec<_>>();
        assert_eq!(set, [(0xf0, 0xff), (0xf1, 1), (0x3e0, 0xb)]);
    }
}
