//! The registers of a local APIC, which are reached as memory or as MSRs.
//!
//! Intel SDM vol. 3 chapter 11 (tables of the local APIC's registers, x2APIC's included).

use super::table::{Run, find, from, run};
use std::borrow::Cow;

/// The MSR of register 0 in x2APIC mode.
pub(super) const X2APIC: u32 = 0x800;

/// By number: the offset in the page in 16 bytes, or what is added to [`X2APIC`].
pub(super) fn register(number: u64) -> Option<Cow<'static, str>> {
    find(TABLE, number)
}

static TABLE: &[Run] = &[
    from(0x02, &["ID", "version"]),
    from(0x08, &["TPR", "APR", "PPR", "EOI", "RRD", "LDR", "DFR", "SVR"]),
    run(0x10, 0x17, &["ISR@"]),
    run(0x18, 0x1f, &["TMR@"]),
    run(0x20, 0x27, &["IRR@"]),
    from(0x28, &["ESR"]),
    from(0x2f, &["LVT CMCI"]),
    from(0x30, &["ICR", "ICR high"]),
    from(0x32, &["LVT timer", "LVT thermal", "LVT performance", "LVT LINT0", "LVT LINT1"]),
    from(0x37, &["LVT error"]),
    from(0x38, &["timer initial count", "timer current count"]),
    from(0x3e, &["timer divide", "SELF_IPI"]),
    // AMD's extended registers, APM vol. 2 16.3.
    from(0x40, &["extended feature", "extended control", "specific EOI"]),
    run(0x48, 0x4f, &["IER@"]),
    run(0x50, 0x53, &["extended LVT @"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_table_is_sorted() {
        assert_sound(TABLE);
        assert_eq!(register(0x0b).as_deref(), Some("EOI"));
        assert_eq!(register(0x25).as_deref(), Some("IRR5"));
        assert_eq!(register(0x00), None);
    }
}
