//! What the kernel keeps about a loaded program that aya 0.14 does not hand out: runs it skipped.
#![allow(unsafe_code)]

use aya_obj::generated::bpf_prog_info;
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
};

/// `BPF_OBJ_GET_INFO_BY_FD` (include/uapi/linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The part of `union bpf_attr` that the command takes.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// A program's statistics since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// Runs that the kernel skipped because another program ran on that CPU. 0 before 5.12, and
    /// for classic tracepoints before 6.7, whose kernels do not say.
    pub missed: u64,
    /// Run time in ns while statistics were on.
    pub run_ns: u64,
    /// Runs while statistics were on.
    pub runs: u64,
}

/// Reads them; `None` when the kernel refuses.
pub fn program_stats(program: impl AsFd) -> Option<ProgramStats> {
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut info: bpf_prog_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut attr = InfoAttr {
        fd: program.as_fd().as_raw_fd().cast_unsigned(),
        len: size_of::<bpf_prog_info>() as u32,
        info: (&raw mut info).addr() as u64,
    };
    // SAFETY: the kernel writes at most `len` bytes to `info` and reads `attr`; both live here.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw mut attr, size_of::<InfoAttr>())
    };
    (result == 0).then_some(ProgramStats {
        missed: info.recursion_misses,
        run_ns: info.run_time_ns,
        runs: info.run_cnt,
    })
}
