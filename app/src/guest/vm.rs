//! Creating a VM: its memory, its vCPUs, and the state they start in.

use std::io;
use std::sync::{Arc, Mutex, RwLock};

use kvm_bindings::{KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_msi, kvm_segment};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::code::{self, HypercallInsn};
use super::error::{Error, reason};
use super::sys::Memory;

/// One VM. The vCPUs hold it, so that guest memory outlives everyone who may run on it.
#[derive(Debug)]
pub struct GuestVm {
    // Before `memory`: fields are dropped in this order.
    fd: VmFd,
    /// By vCPU.
    memory: Vec<Memory>,
    /// Held by a vCPU while it takes its own pages, so that the page tables above them are
    /// made by one vCPU at a time.
    pub booting: Mutex<()>,
    /// Held for reading while pages are touched, for writing while they are given back: KVM
    /// takes a fault again when memory of the VM is unmapped meanwhile, an exit too many.
    pub refill: RwLock<()>,
    // After `fd`.
    _read_only: Vec<Memory>,
}

impl GuestVm {
    /// The memory of vCPU `id`.
    pub fn memory(&self, id: u32) -> &Memory {
        &self.memory[id as usize]
    }

    /// Sends a message to the interrupt controller in the kernel.
    ///
    /// # Errors
    /// When KVM does not take it, or it reaches no vCPU.
    pub fn signal(&self, message: kvm_msi) -> io::Result<()> {
        match self.fd.signal_msi(message) {
            Ok(1..) => Ok(()),
            Ok(_) => Err(io::Error::other("the message reached no vCPU")),
            Err(error) => Err(io::Error::from_raw_os_error(error.errno())),
        }
    }
}

/// What a VM has beside its memory.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The hypercall instruction.
    pub hypercall: HypercallInsn,
    /// An interrupt controller in the kernel, so that HLT stays inside KVM.
    pub irqchip: bool,
    /// A page for each vCPU that the guest may only read.
    pub read_only: bool,
}

/// One vCPU, ready to run.
#[derive(Debug)]
pub struct GuestVcpu {
    /// KVM's handle.
    pub fd: VcpuFd,
    /// Which VM of this process.
    pub vm_index: u32,
    /// `vcpu_id`.
    pub id: u32,
    /// Where the program stays on one instruction, a guest physical address.
    pub stays_at: u64,
    /// Its VM.
    pub vm: Arc<GuestVm>,
}

impl GuestVcpu {
    /// The memory of this vCPU.
    pub fn memory(&self) -> &Memory {
        self.vm.memory(self.id)
    }
}

/// Opens `/dev/kvm`.
///
/// # Errors
/// [`Error::NotPossible`] when it is not there, not allowed, or of another version.
pub fn open_kvm() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|error| Error::open_kvm(error.errno()))?;
    match kvm.get_api_version() {
        12 => Ok(kvm),
        other => Err(Error::NotPossible(format!(
            "this kernel's KVM speaks version {other} of its interface; 12 is needed"
        ))),
    }
}

/// Why a vCPU cannot halt inside this host's KVM; `None` when it can.
pub fn cannot_halt(kvm: &Kvm) -> Option<String> {
    for (cap, what) in [
        (Cap::Irqchip, "an interrupt controller of its own"),
        (Cap::SignalMsi, "messages to its interrupt controller"),
        (Cap::MpState, "a state of a vCPU that can be set"),
    ] {
        if !kvm.check_extension(cap) {
            return Some(format!("this kernel's KVM does not have {what}"));
        }
    }
    match create_vm(kvm).map(|vm| vm.create_irq_chip()) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!(
            "KVM refused to create its interrupt controller: {}",
            reason(error.errno())
        )),
        Err(error) => Some(error.to_string()),
    }
}

/// Creates VM number `vm_index` with `vcpus` vCPUs, none of which has run.
///
/// # Errors
/// When KVM refuses the VM ([`Error::NotPossible`]) or a part of it.
pub fn create(kvm: &Kvm, vm_index: u32, vcpus: u32, kind: Kind) -> Result<Vec<GuestVcpu>, Error> {
    let fd = create_vm(kvm)?;
    if kind.irqchip {
        fd.create_irq_chip()
            .map_err(|error| Error::setup("create an interrupt controller", error.errno()))?;
    }
    let program = code::program(kind.hypercall, kind.irqchip)
        .map_err(|error| Error::Failed(error.to_string()))?;
    let failed = |error: io::Error| {
        Error::Failed(format!("the guest's memory could not be set up: {error}"))
    };
    let memory = (0..vcpus)
        .map(|id| give_memory(&fd, id, &program.code))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let read_only = (0..if kind.read_only { vcpus } else { 0 })
        .map(|id| {
            let gpa = code::REGION * u64::from(id) + code::READ_ONLY;
            Memory::give(&fd, code::MAX_VCPUS + id, gpa, code::PAGE as usize, true)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let vcpus = (0..vcpus)
        .map(|id| {
            let vcpu = fd
                .create_vcpu(u64::from(id))
                .map_err(|error| Error::setup(&format!("add vCPU {id}"), error.errno()))?;
            if kind.irqchip {
                // All but the first would wait for a message to start.
                let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
                vcpu.set_mp_state(runnable)
                    .map_err(|error| Error::setup("make a vCPU runnable", error.errno()))?;
                // KVM takes a vCPU into its map of destinations when its controller changes, not
                // when it is created.
                vcpu.get_lapic().and_then(|state| vcpu.set_lapic(&state)).map_err(|error| {
                    Error::setup("reach an interrupt controller", error.errno())
                })?;
            }
            set_start(&vcpu, memory[id as usize].gpa())?;
            Ok(vcpu)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let vm = Arc::new(GuestVm {
        fd,
        memory,
        booting: Mutex::default(),
        refill: RwLock::default(),
        _read_only: read_only,
    });
    let numbered = (0..).zip(vcpus);
    Ok(numbered
        .map(|(id, fd)| {
            let stays_at = code::REGION * u64::from(id) + code::CODE + program.stays_at;
            GuestVcpu { fd, vm_index, id, stays_at, vm: Arc::clone(&vm) }
        })
        .collect())
}

/// KVM answers EINTR when a signal comes while it creates a VM; it is then asked again.
fn create_vm(kvm: &Kvm) -> Result<VmFd, Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(Error::create_vm(error.errno())),
            Ok(vm) => return Ok(vm),
        }
    }
}

/// A vCPU's region with the program in it. The two pages it needs for itself are thereby in
/// the host's memory, so that the guest's first use maps them writable at once.
fn give_memory(vm: &VmFd, id: u32, program: &[u8]) -> io::Result<Memory> {
    let gpa = code::REGION * u64::from(id);
    let len = usize::try_from(code::MEMORY)
        .map_err(|_| io::Error::other("the host's addresses are too small"))?;
    let memory = Memory::give(vm, id, gpa, len, false)?;
    memory.write(code::CODE, program)?;
    let vars = code::Vars {
        touch: (gpa + code::TOUCH) as u32,
        read_only: (gpa + code::READ_ONLY) as u32,
        ..code::Vars::default()
    };
    memory.write(code::DATA, &vars.to_bytes())?;
    Ok(memory)
}

/// Flat 32-bit protected mode without paging or interrupts, at the program's start.
fn set_start(vcpu: &VcpuFd, region: u64) -> Result<(), Error> {
    let refused = |error: kvm_ioctls::Error| {
        Error::setup("set the registers a vCPU starts with", error.errno())
    };
    let mut sregs = vcpu.get_sregs().map_err(refused)?;
    sregs.cs = flat_segment(8, 0xb); // code, readable, accessed
    let data = flat_segment(16, 0x3); // data, writable, accessed
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr0 |= 1; // PE
    vcpu.set_sregs(&sregs).map_err(refused)?;
    let mut regs = vcpu.get_regs().map_err(refused)?;
    regs.rip = region + code::CODE;
    regs.rbp = region + code::DATA + code::BASE;
    regs.rsi = region + code::MMIO;
    regs.rflags = 0x2; // no interrupts; the bit that is always set
    vcpu.set_regs(&regs).map_err(refused)
}

/// 4 GiB from address 0, 32-bit, for ring 0.
fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..kvm_segment::default()
    }
}
