//! What kind of page fault an error code tells of.
//!
//! `kvm_page_fault` records what the hardware gave: on VMX an EPT violation's exit qualification, on SVM
//! the nested page fault's EXITINFO1, which is laid out as the error code of a #PF. Where memory is
//! shadowed it is that error code itself.

use crate::{
    column::{ISA_VMX, VMX_CODE_MASK},
    detail::fault,
};

/// `EXIT_REASON_EPT_VIOLATION`.
const EPT_VIOLATION: u32 = 48;

/// Bits of an EPT violation's qualification (SDM volume 3, table 28-7).
mod ept {
    pub const WRITE: u64 = 1 << 1;
    pub const FETCH: u64 = 1 << 2;
    pub const READABLE: u64 = 1 << 3;
    pub const WRITABLE: u64 = 1 << 4;
    pub const EXECUTABLE: u64 = 1 << 5;
    pub const LINEAR: u64 = 1 << 7;
    pub const TRANSLATED: u64 = 1 << 8;
}

/// Bits of a page fault's error code (`PFERR_*` in arch/x86/include/asm/kvm_host.h; APM 15.25.6).
mod pferr {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const RESERVED: u64 = 1 << 3;
    pub const FETCH: u64 = 1 << 4;
    pub const SGX: u64 = 1 << 15;
    pub const RMP: u64 = 1 << 31;
    pub const GUEST_PAGE: u64 = 1 << 33;
}

/// Whether the error code of a fault in this exit (isa, raw reason; 0 where no exit is known) is an EPT
/// violation's qualification. A #PF that VMX intercepts is an exception with an error code of its own.
#[inline(always)]
pub fn is_qualification(isa: u32, exit: Option<u32>) -> bool {
    isa == ISA_VMX && exit.is_none_or(|reason| reason & VMX_CODE_MASK == EPT_VIOLATION)
}

/// The kind of an EPT violation, one of [`fault`].
#[inline(always)]
pub fn of_qualification(bits: u64) -> u64 {
    if bits & (ept::LINEAR | ept::TRANSLATED) == ept::LINEAR {
        return fault::WALK;
    }
    if bits & (ept::READABLE | ept::WRITABLE | ept::EXECUTABLE) == 0 {
        return fault::ABSENT;
    }
    // What was tried and is allowed was refused for another reason.
    if bits & ept::FETCH != 0 {
        if bits & ept::EXECUTABLE == 0 { fault::EXEC } else { fault::OTHER }
    } else if bits & ept::WRITE != 0 {
        if bits & ept::WRITABLE == 0 { fault::WRITE_PROTECTED } else { fault::OTHER }
    } else if bits & ept::READABLE == 0 {
        fault::READ
    } else {
        fault::OTHER
    }
}

/// The kind of a fault with the error code of a #PF, one of [`fault`].
#[inline(always)]
pub fn of_error_code(bits: u64) -> u64 {
    if bits & pferr::GUEST_PAGE != 0 {
        fault::WALK
    } else if bits & pferr::RESERVED != 0 {
        fault::MMIO
    } else if bits & (pferr::RMP | pferr::SGX) != 0 {
        fault::OTHER
    } else if bits & pferr::PRESENT == 0 {
        fault::ABSENT
    } else if bits & pferr::FETCH != 0 {
        fault::EXEC
    } else if bits & pferr::WRITE != 0 {
        fault::WRITE_PROTECTED
    } else {
        fault::READ
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::ISA_SVM;

    #[test]
    fn kinds_of_an_ept_violation() {
        for (bits, kind) in [
            // As recorded on 6.1: fetch, read and write of pages that were never touched.
            (0x784, fault::ABSENT),
            (0x781, fault::ABSENT),
            (0x782, fault::ABSENT),
            // The guest's page tables are not mapped yet, or may not get their accessed bits.
            (0x083, fault::WALK),
            (0x0ab, fault::WALK),
            (0x7aa, fault::WRITE_PROTECTED),
            (0x79c, fault::EXEC),
            (0x7a1, fault::READ),
            // Without a guest-linear address: it is not known to be a walk.
            (0x002, fault::ABSENT),
            (0x7ba, fault::OTHER),
            (0x7bc, fault::OTHER),
            (0x7b9, fault::OTHER),
        ] {
            assert_eq!(of_qualification(bits), kind, "{bits:#x}");
        }
    }

    #[test]
    fn kinds_by_an_error_code() {
        const FINAL: u64 = 1 << 32;
        const PAGE: u64 = 1 << 33;
        for (bits, kind) in [
            (FINAL | 0x4, fault::ABSENT),
            (FINAL | 0x6, fault::ABSENT),
            (FINAL | 0x14, fault::ABSENT),
            (FINAL | 0x7, fault::WRITE_PROTECTED),
            (FINAL | 0x15, fault::EXEC),
            (FINAL | 0x5, fault::READ),
            (FINAL | 0xf, fault::MMIO),
            (PAGE | 0x4, fault::WALK),
            (PAGE | 0x7, fault::WALK),
            (PAGE | 0xf, fault::WALK),
            (FINAL | 0x8000_0007, fault::OTHER),
            (0x8007, fault::OTHER),
        ] {
            assert_eq!(of_error_code(bits), kind, "{bits:#x}");
        }
    }

    #[test]
    fn only_an_ept_violation_has_a_qualification() {
        assert!(is_qualification(ISA_VMX, Some(48)));
        assert!(is_qualification(ISA_VMX, Some(0x8000_0030)));
        assert!(is_qualification(ISA_VMX, None));
        assert!(!is_qualification(ISA_VMX, Some(0)), "a #PF of a guest without EPT");
        assert!(!is_qualification(ISA_SVM, Some(48)));
        assert!(!is_qualification(0, None));
    }
}
