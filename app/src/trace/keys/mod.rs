//! What a key is called: MSRs, ports, addresses, leaves, hypercalls, vectors.
//!
//! Each table says where it is from. A number that no table has keeps its number: a wrong name
//! would be worse than none.

mod address;
mod call;
mod dirty;
mod fault;
mod guest;
mod lapic;
mod msr;
mod port;
mod role;
mod table;
mod vector;

pub use guest::{vector_name, vector_of, vector_text};
pub use role::{Role, role};
pub(super) use vector::exception;

use super::irqchip::{accepted, ipi};
use crate::model::detail::KeyClass;
use kvmscope_shared::detail::REFUSED;
use std::borrow::Cow;

/// The number of a key as people write it ("0x608", "CR3", "0x40000000.1").
pub fn number(class: KeyClass, value: u64) -> String {
    match class {
        KeyClass::Cpuid if value >> 32 != 0 => format!("{:#x}.{}", value as u32, value >> 32),
        KeyClass::CrRead | KeyClass::CrWrite => format!("CR{value}"),
        KeyClass::MsrRead | KeyClass::MsrWrite => format!("{:#x}", value as u32),
        KeyClass::Hypercall | KeyClass::XenHypercall | KeyClass::Fault => value.to_string(),
        // The space beside the slot's number is 1 for memory of system management mode.
        KeyClass::DirtySlot if value >> 16 != 0 => format!("{}.{}", value >> 16, value & 0xffff),
        KeyClass::DirtySlot | KeyClass::VcpuLoad | KeyClass::DirtyLog | KeyClass::OnCpu => {
            value.to_string()
        }
        KeyClass::Root => format!("{:#x}", value & !0xfff),
        KeyClass::Vector => vector::number(value),
        KeyClass::Injected => guest::interrupt_number(value),
        KeyClass::Exception => guest::exception_number(value),
        KeyClass::Eoi => guest::eoi_number(value),
        KeyClass::Ipi => ipi(value).what(),
        KeyClass::Delivered => vector_text(accepted(value).vector),
        _ => format!("{value:#x}"),
    }
}

/// A device of which only its place is known: an address between its registers.
fn device(role: Role) -> Option<Cow<'static, str>> {
    match role {
        Role::IoApic => Some("IOAPIC".into()),
        Role::Hpet => Some("HPET".into()),
        Role::Lapic => Some("LAPIC".into()),
        _ => None,
    }
}

/// What it is ("ACPI PM timer", "TSC_DEADLINE"); `None` for one that no table has. An MSR access
/// that the guest was refused says so, whether the MSR has a name or not.
pub fn name(class: KeyClass, value: u64) -> Option<Cow<'static, str>> {
    match class {
        KeyClass::PortIn | KeyClass::PortOut => port::name(value),
        KeyClass::MmioRead | KeyClass::MmioWrite | KeyClass::MmioFast => {
            address::name(value).or_else(|| device(role(class, value)?))
        }
        KeyClass::MsrRead | KeyClass::MsrWrite => {
            let name = msr::name(value as u32);
            if value & REFUSED == 0 {
                return name;
            }
            Some(name.map_or("refused with #GP".into(), |name| {
                Cow::Owned(format!("{name}, refused with #GP"))
            }))
        }
        KeyClass::Cpuid => call::cpuid(value as u32),
        KeyClass::CrRead | KeyClass::CrWrite => call::control_register(value),
        KeyClass::Hypercall => call::kvm(value),
        KeyClass::HvHypercall => call::hyperv(value),
        KeyClass::Vector => vector::name(value),
        KeyClass::Fault => fault::name(value),
        KeyClass::XenHypercall => call::xen(value),
        KeyClass::DirtyLog => dirty::name(value),
        KeyClass::VcpuLoad => Some(Cow::Owned(format!("CPU {value}"))),
        KeyClass::Page
        | KeyClass::Rip
        | KeyClass::Root
        | KeyClass::DirtySlot
        | KeyClass::DirtyPage => None,
        KeyClass::Injected => guest::interrupt(value),
        KeyClass::Exception => guest::exception_name(value),
        KeyClass::Eoi => guest::eoi(value),
        KeyClass::Ipi => Some(Cow::Owned(format!("to {}", ipi(value).to()))),
        KeyClass::Delivered => {
            let accepted = accepted(value);
            let posted = if accepted.posted { ", by the hardware" } else { "" };
            let mode = accepted.mode.word();
            Some(Cow::Owned(format!("to vCPU {}, {mode}{posted}", accepted.vcpu)))
        }
        KeyClass::OnCpu => Some(Cow::Owned(format!("CPU {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        assert_eq!(number(KeyClass::PortIn, 0x608), "0x608");
        assert_eq!(number(KeyClass::CrWrite, 3), "CR3");
        assert_eq!(number(KeyClass::Cpuid, 0xd), "0xd");
        assert_eq!(number(KeyClass::Cpuid, 1 << 32 | 0xd), "0xd.1");
        assert_eq!(number(KeyClass::Hypercall, 10), "10");
        assert_eq!(number(KeyClass::MsrWrite, 0x6e0 | REFUSED), "0x6e0");
        assert_eq!(number(KeyClass::HvHypercall, 0x5c), "0x5c");
    }

    #[test]
    fn a_refused_access_says_so() {
        assert_eq!(
            name(KeyClass::MsrWrite, 0x48 | REFUSED).as_deref(),
            Some("SPEC_CTRL, refused with #GP")
        );
        assert_eq!(name(KeyClass::MsrRead, 0xdead | REFUSED).as_deref(), Some("refused with #GP"));
        assert_eq!(name(KeyClass::MsrRead, 0xdead), None);
    }

    #[test]
    fn the_same_number_is_another_thing_in_another_class() {
        assert_eq!(name(KeyClass::Cpuid, 1 << 32 | 0x7).as_deref(), Some("features 7"));
        assert_eq!(name(KeyClass::CrRead, 8).as_deref(), Some("task priority"));
        assert_eq!(name(KeyClass::Hypercall, 5).as_deref(), Some("KICK_CPU"));
        assert_eq!(name(KeyClass::Page, 0xfee0_0000), None);
        assert_eq!(name(KeyClass::Rip, 0x20), None);
    }

    #[test]
    fn between_the_registers_of_a_device_is_the_device() {
        assert_eq!(name(KeyClass::MmioRead, 0xfec0_0001).as_deref(), Some("IOAPIC"));
    }

    proptest! {
        #[test]
        fn any_key_has_a_number_and_what_has_a_role_has_a_name(
            class in (0..KeyClass::ALL.len()).prop_map(|at| KeyClass::ALL[at]),
            value in prop_oneof![any::<u64>(), 0..0x1_0000u64, 0xfec0_0000..0xfef0_0000u64],
        ) {
            prop_assert!(!number(class, value).is_empty());
            if role(class, value).is_some() && role(class, value) != Some(Role::Vga) {
                prop_assert!(name(class, value).is_some(), "{class:?} {value:#x}");
            }
        }
    }
}
