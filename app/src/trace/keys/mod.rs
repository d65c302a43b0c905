//! What a key is called: MSRs, ports, addresses, leaves, hypercalls, vectors.

mod role;

pub use role::{Role, role};

use crate::model::detail::KeyClass;
use std::borrow::Cow;

/// The number of a key as people write it ("0x608", "CR3", "0x40000000.1").
pub fn number(class: KeyClass, value: u64) -> String {
    match class {
        KeyClass::Cpuid if value >> 32 != 0 => format!("{:#x}.{:#x}", value as u32, value >> 32),
        KeyClass::CrRead | KeyClass::CrWrite => format!("CR{value}"),
        KeyClass::MsrRead | KeyClass::MsrWrite => format!("{:#x}", value as u32),
        KeyClass::Hypercall | KeyClass::Vector => value.to_string(),
        _ => format!("{value:#x}"),
    }
}

/// What it is ("ACPI PM timer", "TSC_DEADLINE"); `None` for one that no table has.
pub fn name(_class: KeyClass, _value: u64) -> Option<Cow<'static, str>> {
    None
}
