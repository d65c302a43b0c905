//! The guest's memory and the signals that end a KVM_RUN: all `unsafe` of the guest is here.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use memmap2::{Advice, MmapMut, MmapRaw, UncheckedAdvice};
use rustix::thread::Pid;

use super::code;
use super::ioctls::{Command, Ioctls};

/// A memory slot of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: u32,
    /// Where it begins, a guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// `KVM_MEM_…`.
    pub flags: u32,
}

/// A piece of guest memory: private, zeroed, in small pages, filled by the host on first use.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    /// Where in the mapping it begins, and how long it is.
    start: usize,
    len: usize,
    gpa: u64,
}

impl Memory {
    /// Maps as many bytes as `slot` has and makes that slot of `vm` of them.
    ///
    /// # Errors
    /// When the host has no address space left, or KVM refuses the slot.
    pub fn give(vm: &VmFd, ioctls: &Ioctls, slot: Slot) -> io::Result<Self> {
        let len = usize::try_from(slot.len).map_err(|_| outside())?;
        let map = MmapRaw::from(MmapMut::map_anon(len)?);
        match map.advise(Advice::NoHugePage) {
            // A kernel without transparent huge pages has nothing to be told.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
        let memory = Self { map, start: 0, len, gpa: slot.gpa };
        memory.set(vm, ioctls, slot)?;
        Ok(memory)
    }

    /// The same, in huge pages where the host gives any.
    ///
    /// # Errors
    /// As [`Memory::give`].
    pub fn give_huge(vm: &VmFd, ioctls: &Ioctls, slot: Slot) -> io::Result<Self> {
        let len = usize::try_from(slot.len).map_err(|_| outside())?;
        let huge = usize::try_from(code::HUGE_PAGE).map_err(|_| outside())?;
        let map = MmapRaw::from(MmapMut::map_anon(len + huge)?);
        map.advise(Advice::HugePage)?;
        let start = (map.as_ptr() as usize).next_multiple_of(huge) - map.as_ptr() as usize;
        let memory = Self { map, start, len, gpa: slot.gpa };
        memory.set(vm, ioctls, slot)?;
        Ok(memory)
    }

    /// Whether all of it that the host has filled is in huge pages, and some is.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn is_huge(&self) -> io::Result<bool> {
        let at = self.map.as_ptr() as usize + self.start;
        let smaps = std::fs::read_to_string("/proc/self/smaps")?;
        let (mut inside, mut resident, mut huge) = (false, 0, 0);
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if let Some((from, to)) = first.split_once('-') {
                let address = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                inside = (address(from)..address(to)).contains(&at);
            } else if inside && first == "Rss:" {
                resident = second.parse().unwrap_or(0);
            } else if inside && first == "AnonHugePages:" {
                huge = second.parse().unwrap_or(0);
            }
        }
        Ok(huge > 0 && huge == resident)
    }

    /// Makes it slot `slot` of `vm`, from now on: the slot is moved if it was elsewhere, and deleted
    /// where its length is 0.
    ///
    /// # Errors
    /// When KVM refuses, or the slot is longer than this.
    pub fn set(&self, vm: &VmFd, ioctls: &Ioctls, slot: Slot) -> io::Result<()> {
        if slot.len > self.len as u64 {
            return Err(outside());
        }
        let region = kvm_userspace_memory_region {
            slot: slot.number,
            flags: slot.flags,
            guest_phys_addr: slot.gpa,
            memory_size: slot.len,
            userspace_addr: self.map.as_mut_ptr() as u64 + self.start as u64,
        };
        // SAFETY: the range is mapped (its length was checked), belongs to this value alone, and is
        // only reached through raw pointers; `GuestVm` drops the vCPUs and the VM before it.
        let result = unsafe { vm.set_user_memory_region(region) };
        ioctls
            .told(Command::SetUserMemoryRegion, result)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    /// The guest physical address of the first byte.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = self.checked(offset, bytes.len())?;
        // SAFETY: `checked` made sure that the range lies inside the mapping, which is not
        // seen through a reference anywhere; the vCPU that uses it is not running.
        unsafe {
            let to = self.map.as_mut_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        Ok(())
    }

    /// The number at `offset`, also while the guest changes it.
    ///
    /// # Errors
    /// When it lies outside, or across two words.
    pub fn read_live(&self, offset: u64) -> io::Result<u32> {
        let offset = self.checked(offset, 4)?;
        if offset % 4 != 0 {
            return Err(outside());
        }
        // SAFETY: inside the mapping (`checked`), aligned to four bytes (the mapping begins at a
        // page), and never reached through a reference to anything that is not atomic.
        let word = unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) };
        Ok(u32::from_le(word.load(Ordering::Acquire)))
    }

    /// A copy of `N` bytes at `offset`.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn read<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let offset = self.checked(offset, N)?;
        // SAFETY: inside the mapping (`checked`); every bit pattern is a valid array of
        // bytes; volatile, because the guest wrote there and the compiler cannot know.
        Ok(unsafe { self.map.as_ptr().add(offset).cast::<[u8; N]>().read_volatile() })
    }

    /// Gives the pages of a range back to the host: the guest's next touch is a first one.
    ///
    /// # Errors
    /// When the range is not in the mapping or the host refuses.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| outside())?;
        let offset = self.checked(offset, len)?;
        // SAFETY: the range is inside the mapping and nothing refers to its content.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) }
    }

    fn checked(&self, offset: u64, len: usize) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| outside())?;
        let end = offset.checked_add(len).ok_or_else(outside)?;
        if end <= self.len { Ok(self.start + offset) } else { Err(outside()) }
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the range lies outside the guest's memory")
}

/// The signal that makes a thread leave KVM_RUN.
const KICK: libc::c_int = libc::SIGUSR1;

/// Set by SIGTERM or SIGINT once [`on_termination`] was called.
static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn kicked(_signal: libc::c_int) {}

extern "C" fn terminated(_signal: libc::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// Makes the kick signal harmless for this process, so that it only interrupts.
///
/// # Errors
/// When the kernel refuses the handler.
pub fn prepare_kicks() -> io::Result<()> {
    handle(KICK, kicked)
}

/// From now on SIGTERM and SIGINT only set what [`was_terminated`] reads.
///
/// # Errors
/// When the kernel refuses the handler.
pub fn on_termination() -> io::Result<()> {
    handle(libc::SIGTERM, terminated)?;
    handle(libc::SIGINT, terminated)
}

/// Whether SIGTERM or SIGINT came.
pub fn was_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid value of the C type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // No SA_RESTART: a system call in progress must return EINTR.
    // SAFETY: `action` is complete (empty mask, no flags); the handlers do nothing but store
    // an atomic, which is allowed in a signal handler.
    let result = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Interrupts thread `tid` of this process; one that has ended is left alone.
pub fn kick(tid: Pid) {
    // SAFETY: tgkill takes three integers; a thread that is gone is ESRCH, which is fine.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), tid.as_raw_nonzero().get(), KICK);
    }
}

/// `KVM_EXIT_INTERNAL_ERROR`'s sub-code (KVM_INTERNAL_ERROR_*).
pub fn internal_error(run: &kvm_bindings::kvm_run) -> u32 {
    // SAFETY: every member of the union is plain integers, so any of them may be read; the
    // caller has just seen KVM_EXIT_INTERNAL_ERROR, which says that it is this one.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}
