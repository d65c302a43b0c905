//! From an exit reason to a column of a slot's table.
//!
//! The table is indexed, not searched: an exit finds its cell with one load. Codes that no
//! hardware had when this was written go through a small hash in the kernel instead
//! ([`column_of`] answers `None`), so that they are counted under their own number too.

use crate::slot::{KIND_EXIT, KIND_USERSPACE};

/// `isa` of a `kvm_exit` record on Intel (`KVM_ISA_VMX`, arch/x86/include/uapi/asm/kvm.h).
pub const ISA_VMX: u32 = 1;
/// `isa` of a `kvm_exit` record on AMD (`KVM_ISA_SVM`).
pub const ISA_SVM: u32 = 2;
/// The bits of a VMX exit reason that are the reason; the rest are flags (SDM 24.9.1).
pub const VMX_CODE_MASK: u32 = 0xffff;
/// `SVM_EXIT_ERR`: the processor refused the VMCB.
pub const SVM_EXIT_ERR: u32 = u32::MAX;

/// `SVM_EXIT_MSR`: which of the two it was is bit 0 of EXITINFO1 (APM 15.11).
pub const SVM_EXIT_MSR: u32 = 0x7c;
/// Our own code for an [`SVM_EXIT_MSR`] that was a write; one that was a read keeps the code.
pub const SVM_MSR_WRITE: u32 = 0x1_0000 | SVM_EXIT_MSR;

/// Columns of one slot: kernel exits first, then userspace exits.
pub const COLUMNS: usize = 256;
/// Kernel exit codes 0 to 0xaf are their own column (VMX up to 85, SVM up to 0xa6 in 7.3).
const LOW_CODES: u32 = 176;
/// SVM's software codes, NPF and after: 0x400 to 0x40d.
const SVM_HIGH: u32 = 0x400;
const SVM_HIGH_COUNT: u32 = 14;
/// The column of [`SVM_EXIT_ERR`].
const ERR_COLUMN: u32 = LOW_CODES + SVM_HIGH_COUNT;
/// The column of [`SVM_MSR_WRITE`].
const MSR_WRITE_COLUMN: u32 = ERR_COLUMN + 1;
/// Userspace reasons (KVM_EXIT_*, include/uapi/linux/kvm.h) 0 to 63 start here.
const USERSPACE_BASE: u32 = 192;
const USERSPACE_CODES: u32 = 64;

/// Splits the record's `exit_reason` into (code, flag bits). Only VMX has flag bits; SVM's MSR
/// exit becomes two codes, by `info1`.
#[inline(always)]
pub fn split_reason(isa: u32, raw: u32, info1: u64) -> (u32, u32) {
    if isa == ISA_VMX {
        (raw & VMX_CODE_MASK, raw & !VMX_CODE_MASK)
    } else if raw == SVM_EXIT_MSR && info1 & 1 != 0 {
        (SVM_MSR_WRITE, 0)
    } else {
        (raw, 0)
    }
}

/// The hardware's own number of a code.
pub fn hardware_code(code: u32) -> u32 {
    if code == SVM_MSR_WRITE { SVM_EXIT_MSR } else { code }
}

/// The column of a code, below [`COLUMNS`], or `None` for a code without one.
#[inline(always)]
pub fn column_of(kind: u32, code: u32) -> Option<u32> {
    if kind == KIND_EXIT {
        if code < LOW_CODES {
            return Some(code);
        }
        let high = code.wrapping_sub(SVM_HIGH);
        if high < SVM_HIGH_COUNT {
            return Some(LOW_CODES + high);
        }
        return match code {
            SVM_EXIT_ERR => Some(ERR_COLUMN),
            SVM_MSR_WRITE => Some(MSR_WRITE_COLUMN),
            _ => None,
        };
    }
    if kind == KIND_USERSPACE && code < USERSPACE_CODES {
        return Some(USERSPACE_BASE + code);
    }
    None
}

const _: () = assert!(MSR_WRITE_COLUMN < USERSPACE_BASE);
const _: () = assert!((USERSPACE_BASE + USERSPACE_CODES) as usize == COLUMNS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_code_has_a_column_of_its_own() {
        let mut seen = [false; COLUMNS];
        let exits = (0..LOW_CODES).chain(0x400..0x40e).chain([SVM_EXIT_ERR, SVM_MSR_WRITE]);
        let columns = exits
            .map(|code| column_of(KIND_EXIT, code))
            .chain((0..64).map(|code| column_of(KIND_USERSPACE, code)));
        for column in columns {
            let column = column.expect("a known code has a column") as usize;
            assert!(!seen[column], "column {column} is taken twice");
            seen[column] = true;
        }
    }

    #[test]
    fn unknown_codes_have_none() {
        for code in [LOW_CODES, 0x3ff, 0x40e, 0x2_0000, u32::MAX - 1] {
            assert_eq!(column_of(KIND_EXIT, code), None, "{code:#x}");
        }
        assert_eq!(column_of(KIND_USERSPACE, 64), None);
    }

    #[test]
    fn only_vmx_has_flag_bits() {
        assert_eq!(split_reason(ISA_VMX, 0x8000_0021, 0), (0x21, 0x8000_0000));
        assert_eq!(split_reason(ISA_SVM, SVM_EXIT_ERR, 1), (SVM_EXIT_ERR, 0));
    }

    #[test]
    fn svms_msr_exit_is_a_read_or_a_write() {
        assert_eq!(split_reason(ISA_SVM, SVM_EXIT_MSR, 0), (SVM_EXIT_MSR, 0));
        assert_eq!(split_reason(ISA_SVM, SVM_EXIT_MSR, 1), (SVM_MSR_WRITE, 0));
        assert_eq!(split_reason(ISA_VMX, SVM_EXIT_MSR, 1), (SVM_EXIT_MSR, 0));
        assert_eq!(hardware_code(SVM_MSR_WRITE), SVM_EXIT_MSR);
    }
}
