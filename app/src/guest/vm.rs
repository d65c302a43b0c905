//! Creating a VM: its memory, its vCPUs, and the state they start in.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_msi,
    kvm_segment,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::asm::Asm;
use super::chips::{self, Chips, Eventfds};
use super::code::{self, HypercallInsn};
use super::error::{Error, reason};
use super::ioctls::{Command, Ioctls};
use super::irqs;
use super::op::Op;
use super::paging;
use super::program::{Program, program};
use super::space::Space;
use super::sys::{Memory, Slot};
use super::tables;

/// `/dev/kvm`, and what was asked of it.
#[derive(Debug)]
pub struct Machine {
    kvm: Kvm,
    /// Calls on it, and on VMs that were only to try something.
    pub ioctls: Ioctls,
}

impl Machine {
    /// Opens `/dev/kvm`.
    ///
    /// # Errors
    /// [`Error::NotPossible`] when it is not there, not allowed, or of another version.
    pub fn open() -> Result<Self, Error> {
        let kvm = Kvm::new().map_err(|error| Error::open_kvm(error.errno()))?;
        let ioctls = Ioctls::default();
        ioctls.add(Command::GetApiVersion, 1, 0);
        match kvm.get_api_version() {
            12 => Ok(Self { kvm, ioctls }),
            other => Err(Error::NotPossible(format!(
                "this kernel's KVM speaks version {other} of its interface; 12 is needed"
            ))),
        }
    }

    fn has(&self, cap: Cap) -> bool {
        self.ioctls.add(Command::CheckExtension, 1, 0);
        self.kvm.check_extension(cap)
    }

    /// Why a VM cannot have an interrupt controller in this host's kernel, on which its vCPUs halt;
    /// `None` when it can.
    pub fn no_irqchip(&self, split: bool) -> Option<String> {
        if split && !self.has(Cap::SplitIrqchip) {
            return Some(
                "this kernel's KVM cannot leave part of its interrupt controller to the VMM"
                    .to_owned(),
            );
        }
        for (cap, what) in [
            (Cap::Irqchip, "an interrupt controller of its own"),
            (Cap::SignalMsi, "messages to its interrupt controller"),
            (Cap::MpState, "a state of a vCPU that can be set"),
        ] {
            if !self.has(cap) {
                return Some(format!("this kernel's KVM does not have {what}"));
            }
        }
        let made = self.create_vm().map(|vm| {
            let result = vm.create_irq_chip();
            self.ioctls.told(Command::CreateIrqchip, result)
        });
        match made {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!(
                "KVM refused to create its interrupt controller: {}",
                reason(error.errno())
            )),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why a write of any length cannot ring an eventfd in this host's kernel; `None` when it can.
    pub fn no_doorbell(&self) -> Option<String> {
        [Cap::Ioeventfd, Cap::IoeventfdNoLength].into_iter().any(|cap| !self.has(cap)).then(|| {
            "this kernel's KVM does not ring an eventfd at a write of any length".to_owned()
        })
    }

    /// KVM answers EINTR when a signal comes while it creates a VM; it is then asked again.
    fn create_vm(&self) -> Result<VmFd, Error> {
        loop {
            match self.ioctls.told(Command::CreateVm, self.kvm.create_vm()) {
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(Error::create_vm(error.errno())),
                Ok(vm) => {
                    // `Kvm::create_vm` asks for it right after.
                    self.ioctls.add(Command::GetVcpuMmapSize, 1, 0);
                    return Ok(vm);
                }
            }
        }
    }
}

/// One VM. The vCPUs hold it, so that guest memory outlives everyone who may run on it.
#[derive(Debug)]
pub struct GuestVm {
    /// Each vCPU's room in its memory.
    pub space: Space,
    // Before the memory: fields are dropped in this order.
    fd: VmFd,
    /// By vCPU.
    memory: Vec<Memory>,
    /// Held by a vCPU while it takes its own pages, so that the page tables above them are
    /// made by one vCPU at a time.
    pub booting: Mutex<()>,
    /// Held for reading while pages are touched, for writing while they are given back: KVM
    /// takes a fault again when memory of the VM is unmapped meanwhile, an exit too many.
    pub refill: RwLock<()>,
    /// Calls on the VM and its vCPUs.
    pub ioctls: Arc<Ioctls>,
    /// By vCPU, where it is asked for.
    doorbells: Vec<EventFd>,
    eventfds: Eventfds,
    // After `fd`.
    _read_only: Vec<Memory>,
    _dirty: Vec<Memory>,
    _exec: Vec<Memory>,
    /// What is set, moved and deleted.
    spare: Mutex<Option<Memory>>,
}

/// The slot that is set, moved and deleted.
const SPARE_SLOT: u32 = 3 * code::MAX_VCPUS;

impl GuestVm {
    /// The memory of vCPU `id`.
    pub fn memory(&self, id: u32) -> &Memory {
        &self.memory[id as usize]
    }

    /// Sends a message to the interrupt controller in the kernel.
    ///
    /// # Errors
    /// When KVM does not take it, or it reaches no vCPU.
    fn signal(&self, message: kvm_msi) -> io::Result<()> {
        match self.ioctls.told(Command::SignalMsi, self.fd.signal_msi(message)) {
            Ok(1..) => Ok(()),
            Ok(_) => Err(io::Error::other("the message reached no vCPU")),
            Err(error) => Err(io::Error::from_raw_os_error(error.errno())),
        }
    }

    /// Sends vCPU `id` what it waits for in `op`.
    ///
    /// # Errors
    /// When KVM does not take it, or it reaches no vCPU.
    pub fn wake(&self, id: u32, op: Op) -> io::Result<()> {
        let pulse = |gsi| self.line(gsi, true).and_then(|()| self.line(gsi, false));
        match op {
            Op::Irqfd => self.eventfds.send(id),
            Op::IrqfdLine => self.eventfds.pulse(),
            Op::PicLine => pulse(irqs::PIC_PIN),
            Op::IoapicEdge => pulse(irqs::EDGE_PIN),
            Op::IoapicLevel => self.line(irqs::LEVEL_PIN, true),
            _ => {
                let (address_lo, data) = irqs::message(id, op);
                self.signal(kvm_msi { address_lo, data, ..kvm_msi::default() })
            }
        }
    }

    /// The guest has seen the level that it was woken by.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn lower_level(&self) -> io::Result<()> {
        self.line(irqs::LEVEL_PIN, false)
    }

    /// Raises a masked line twice, so that the second time changes nothing, and lowers it.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn pulse_masked(&self) -> io::Result<()> {
        [true, true, false].into_iter().try_for_each(|level| self.line(irqs::MASKED_PIN, level))
    }

    fn line(&self, gsi: u32, level: bool) -> io::Result<()> {
        let told = self.ioctls.told(Command::IrqLine, self.fd.set_irq_line(gsi, level));
        told.map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    /// Sets a memory slot of one page, moves it and deletes it.
    ///
    /// # Errors
    /// When there is no memory for it, or KVM refuses.
    pub fn cycle_slot(&self) -> io::Result<()> {
        let [first, second] = code::SLOT;
        let slot = Slot { number: SPARE_SLOT, gpa: first, len: code::PAGE, flags: 0 };
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match spare.take() {
            Some(memory) => {
                memory.set(&self.fd, &self.ioctls, slot)?;
                memory
            }
            None => Memory::give(&self.fd, &self.ioctls, slot)?,
        };
        let memory = spare.insert(memory);
        memory.set(&self.fd, &self.ioctls, Slot { gpa: second, ..slot })?;
        memory.set(&self.fd, &self.ioctls, Slot { gpa: second, len: 0, ..slot })
    }

    /// Which pages of vCPU `id`'s logged slot were written since the last call: a bit for each.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn dirty_log(&self, id: u32) -> io::Result<Vec<u64>> {
        let len = (code::DIRTY_PAGES * code::PAGE) as usize;
        let result = self.fd.get_dirty_log(dirty_slot(id), len);
        let told = self.ioctls.told(Command::GetDirtyLog, result);
        told.map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    /// How often vCPU `id`'s doorbell rang since the last call.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn rang(&self, id: u32) -> io::Result<u64> {
        let doorbell = self.doorbells.get(id as usize).ok_or(io::ErrorKind::NotFound)?;
        match doorbell.read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }
}

/// The slot of vCPU `id` whose dirty pages KVM logs.
pub fn dirty_slot(id: u32) -> u32 {
    2 * code::MAX_VCPUS + id
}

/// What a VM has beside its memory.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The hypercall instruction.
    pub hypercall: HypercallInsn,
    /// Interrupt controllers in the kernel.
    pub chips: Chips,
    /// The guest has handlers of interrupts and exceptions.
    pub handlers: bool,
    /// A page for each vCPU that the guest may only read.
    pub read_only: bool,
    /// A slot for each vCPU whose dirty pages KVM logs.
    pub dirty: bool,
    /// An address for each vCPU that rings an eventfd.
    pub doorbell: bool,
    /// The guest has page tables of its own.
    pub paging: bool,
    /// Huge pages for each vCPU to execute.
    pub exec: bool,
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

    /// Counts a call on it.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn told<T>(
        &self,
        command: Command,
        result: Result<T, kvm_ioctls::Error>,
    ) -> Result<T, kvm_ioctls::Error> {
        self.vm.ioctls.told(command, result)
    }
}

/// Creates VM number `vm_index` with `vcpus` vCPUs, none of which has run.
///
/// # Errors
/// When KVM refuses the VM ([`Error::NotPossible`]) or a part of it.
pub fn create(
    machine: &Machine,
    vm_index: u32,
    vcpus: u32,
    kind: Kind,
) -> Result<Vec<GuestVcpu>, Error> {
    let fd = machine.create_vm()?;
    let ioctls = Arc::new(Ioctls::default());
    kind.chips.create(&fd, &ioctls)?;
    let program = program(kind.hypercall, kind.chips.kernel)
        .map_err(|error| Error::Failed(error.to_string()))?;
    let failed = |error: io::Error| {
        Error::Failed(format!("the guest's memory could not be set up: {error}"))
    };
    let space = Space::of(vcpus);
    let memory = (0..vcpus)
        .map(|id| give_memory(&fd, &ioctls, (id, space), &program, kind))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let more = |wanted: bool, slot: &dyn Fn(u32) -> Slot| {
        (0..if wanted { vcpus } else { 0 })
            .map(|id| Memory::give(&fd, &ioctls, slot(id)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)
    };
    let region = |id| space.start(id);
    let read_only = more(kind.read_only, &|id| Slot {
        number: code::MAX_VCPUS + id,
        gpa: region(id) + code::READ_ONLY,
        len: code::PAGE,
        flags: KVM_MEM_READONLY,
    })?;
    let dirty = more(kind.dirty, &|id| Slot {
        number: dirty_slot(id),
        gpa: region(id) + code::DIRTY,
        len: code::DIRTY_PAGES * code::PAGE,
        flags: KVM_MEM_LOG_DIRTY_PAGES,
    })?;
    let exec = (0..if kind.exec { vcpus } else { 0 })
        .map(|id| give_huge(&fd, &ioctls, id, region(id) + code::EXEC))
        .collect::<Result<Vec<_>, _>>()?;
    let doorbells = (0..if kind.doorbell { vcpus } else { 0 })
        .map(|id| doorbell(&fd, &ioctls, region(id) + code::DOORBELL))
        .collect::<Result<Vec<_>, _>>()?;
    let vcpu_count = vcpus;
    let vcpus = (0..vcpus)
        .map(|id| {
            let vcpu = ioctls
                .told(Command::CreateVcpu, fd.create_vcpu(u64::from(id)))
                .map_err(|error| Error::setup(&format!("add vCPU {id}"), error.errno()))?;
            if kind.chips.apic {
                chips::set_cpuid(&vcpu, &ioctls)?;
            }
            set_start(&vcpu, &ioctls, (region(id), space), kind)?;
            if kind.chips.kernel {
                start_apic(&vcpu, &ioctls, kind.chips.apic)?;
            }
            Ok(vcpu)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let eventfds = kind.chips.eventfds(&fd, &ioctls, vcpu_count)?;
    let vm = Arc::new(GuestVm {
        space,
        fd,
        eventfds,
        memory,
        booting: Mutex::default(),
        refill: RwLock::default(),
        ioctls,
        doorbells,
        _read_only: read_only,
        _dirty: dirty,
        _exec: exec,
        spare: Mutex::default(),
    });
    let numbered = (0..).zip(vcpus);
    Ok(numbered
        .map(|(id, fd)| {
            let stays_at = region(id) + code::CODE + program.stays_at;
            GuestVcpu { fd, vm_index, id, stays_at, vm: Arc::clone(&vm) }
        })
        .collect())
}

/// Huge pages whose first instruction goes back to where the guest came from.
fn give_huge(fd: &VmFd, ioctls: &Ioctls, id: u32, gpa: u64) -> Result<Memory, Error> {
    let len = code::EXEC_PAGES * code::HUGE_PAGE;
    let slot = Slot { number: SPARE_SLOT + 1 + id, gpa, len, flags: 0 };
    let memory = Memory::give_huge(fd, ioctls, slot).and_then(|memory| {
        let mut pages = (0..code::EXEC_PAGES).map(|index| index * code::HUGE_PAGE);
        pages.try_for_each(|page| memory.write(page, &Asm::JMP_EBX))?;
        Ok((memory.is_huge()?, memory))
    });
    match memory {
        Ok((true, memory)) => Ok(memory),
        Ok((false, _)) => Err(Error::NotPossible(
            "the host gave no huge pages; look at /sys/kernel/mm/transparent_hugepage/enabled, or \
             leave --exec out"
                .to_owned(),
        )),
        Err(error) => Err(Error::Failed(format!("huge pages could not be set up: {error}"))),
    }
}

/// An eventfd that every write to `gpa` rings.
fn doorbell(fd: &VmFd, ioctls: &Ioctls, gpa: u64) -> Result<EventFd, Error> {
    let eventfd = EventFd::new(EFD_NONBLOCK)
        .map_err(|error| Error::Failed(format!("there can be no more eventfds: {error}")))?;
    let result = fd.register_ioevent(&eventfd, &IoEventAddress::Mmio(gpa), NoDatamatch);
    ioctls
        .told(Command::Ioeventfd, result)
        .map_err(|error| Error::setup("ring an eventfd at an address", error.errno()))?;
    Ok(eventfd)
}

/// Makes a vCPU with an interrupt controller in the kernel run, and known to the others.
fn start_apic(vcpu: &VcpuFd, ioctls: &Ioctls, on: bool) -> Result<(), Error> {
    // All but the first would wait for a message to start.
    let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
    ioctls
        .told(Command::SetMpState, vcpu.set_mp_state(runnable))
        .map_err(|error| Error::setup("make a vCPU runnable", error.errno()))?;
    // KVM takes a vCPU into its map of destinations when its controller changes, not when it is
    // created.
    ioctls
        .told(Command::GetLapic, vcpu.get_lapic())
        .and_then(|mut state| {
            if on {
                chips::switch_on(&mut state);
            }
            ioctls.told(Command::SetLapic, vcpu.set_lapic(&state))
        })
        .map_err(|error| Error::setup("reach an interrupt controller", error.errno()))
}

/// A vCPU's region with the program in it. The pages it needs for itself are thereby in
/// the host's memory, so that the guest's first use maps them writable at once.
fn give_memory(
    vm: &VmFd,
    ioctls: &Ioctls,
    (id, space): (u32, Space),
    program: &Program,
    kind: Kind,
) -> io::Result<Memory> {
    let gpa = space.start(id);
    let memory = Memory::give(vm, ioctls, Slot { number: id, gpa, len: space.memory, flags: 0 })?;
    memory.write(code::CODE, &program.code)?;
    if kind.handlers {
        let at = |&(vector, offset)| (vector, gpa + code::CODE + offset);
        memory.write(tables::GDT, &tables::segments())?;
        memory.write(tables::IDT, &tables::gates(program.handlers.iter().map(at)))?;
    }
    let vars = code::Vars {
        touch: (gpa + code::TOUCH) as u32,
        read_only: (gpa + code::READ_ONLY) as u32,
        dirty: (gpa + code::DIRTY) as u32,
        doorbell: (gpa + code::DOORBELL) as u32,
        walk: code::WALK_LINEAR as u32,
        mmio: (gpa + space.mmio) as u32,
        exec: (gpa + code::EXEC) as u32,
        ..code::Vars::default()
    };
    memory.write(code::DATA, &vars.to_bytes())?;
    if kind.paging {
        memory.write(code::DIRECTORY, &paging::directory(gpa))?;
        write_tables(&memory)?;
    }
    Ok(memory)
}

/// Writes the page tables that the guest is to walk for the first time.
///
/// # Errors
/// When there is no room for them, which is a defect.
pub fn write_tables(memory: &Memory) -> io::Result<()> {
    let table = paging::table(memory.gpa());
    (0..code::WALK_TABLES)
        .try_for_each(|index| memory.write(code::WALK + index * code::STRIDE, &table))
}

/// Flat 32-bit protected mode with interrupts off, at the program's start.
fn set_start(
    vcpu: &VcpuFd,
    ioctls: &Ioctls,
    (region, space): (u64, Space),
    kind: Kind,
) -> Result<(), Error> {
    let refused = |error: kvm_ioctls::Error| {
        Error::setup("set the registers a vCPU starts with", error.errno())
    };
    let mut sregs = ioctls.told(Command::GetSregs, vcpu.get_sregs()).map_err(refused)?;
    sregs.cs = flat_segment(8, 0xb); // code, readable, accessed
    let data = flat_segment(16, 0x3); // data, writable, accessed
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr0 |= 1; // PE
    if kind.chips.apic {
        sregs.apic_base |= chips::X2APIC;
    }
    if kind.handlers {
        (sregs.gdt.base, sregs.gdt.limit) = (region + tables::GDT, tables::GDT_LIMIT);
        (sregs.idt.base, sregs.idt.limit) = (region + tables::IDT, tables::IDT_LIMIT);
    }
    if kind.paging {
        sregs.cr3 = region + code::DIRECTORY;
        sregs.cr4 |= paging::CR4_LARGE_PAGES;
        sregs.cr0 |= paging::CR0_PAGING;
    }
    ioctls.told(Command::SetSregs, vcpu.set_sregs(&sregs)).map_err(refused)?;
    let mut regs = ioctls.told(Command::GetRegs, vcpu.get_regs()).map_err(refused)?;
    regs.rip = region + code::CODE;
    regs.rbp = region + code::DATA + code::BASE;
    regs.rsi = region + space.mmio;
    regs.rsp = region + tables::STACK;
    regs.rflags = 0x2; // no interrupts; the bit that is always set
    ioctls.told(Command::SetRegs, vcpu.set_regs(&regs)).map_err(refused)
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
