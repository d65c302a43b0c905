//! Running one vCPU: rounds of work, and being its VMM.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuExit;
use serde::{Deserialize, Serialize};

use super::asm::Asm;
use super::code::{self, Vars};
use super::error::{Error, reason};
use super::expect::Done;
use super::helper::Helper;
use super::ioctls::{Command, Ioctls};
use super::job::Job;
use super::keys::{Spread, Used};
use super::load::{self, OtherThread};
use super::measure::{GAP, Measured, Watch, ticks};
use super::op::{Counts, Op};
use super::stop::Switch;
use super::sys;
use super::vm::{self, GuestVcpu};
use super::window::Window;

mod rounds;

/// Userspace exits seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// KVM_EXIT_IO.
    pub io: u64,
    /// KVM_EXIT_MMIO.
    pub mmio: u64,
    /// KVM_EXIT_HLT.
    pub hlt: u64,
    /// KVM_RUN calls, also those that a signal ended.
    pub runs: u64,
    /// The part of them that returned an error: a signal came.
    pub refused: u64,
    /// Exits that ended a round.
    pub control: u64,
    /// Pages that KVM's log of dirty pages named, and how often it was read.
    pub dirty_log: DirtyLog,
    /// Rings of the doorbell.
    pub rang: u64,
    /// Changes of the CPU between two rounds.
    pub moves: u64,
}

/// What KVM's log of dirty pages said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyLog {
    /// KVM_GET_DIRTY_LOG calls.
    pub reads: u64,
    /// Pages in all of them.
    pub pages: u64,
}

impl Tally {
    /// Exits to a device.
    fn devices(&self) -> u64 {
        self.io + self.mmio
    }

    /// Userspace exits that the plan asked for.
    fn asked_for(&self) -> u64 {
        self.io + self.mmio + self.hlt - self.control
    }

    /// By the reason's name.
    pub fn by_reason(&self) -> BTreeMap<String, u64> {
        [("IO", self.io), ("MMIO", self.mmio), ("HLT", self.hlt)]
            .map(|(name, count)| (name.to_owned(), count))
            .into()
    }
}

/// How a stretch of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is made.
    Done,
    /// The thread is to end now, in the middle of an exit.
    Died,
    /// Someone said stop.
    Stopped,
}

/// What one KVM_RUN came back with.
enum Seen {
    Io,
    Mmio,
    Hlt,
    Control,
    Interrupted,
    Wrong(String),
}

/// A vCPU at work. It can be handed from one thread to another between two rounds.
#[derive(Debug)]
pub struct Worker {
    vcpu: GuestVcpu,
    job: Job,
    stop: Arc<Switch>,
    tally: Tally,
    next_round: u64,
    began: Instant,
    took: Duration,
    /// Pages to touch, given back now and then.
    touch: Window,
    /// Pages to dirty; it begins again in each round.
    dirty: Window,
    /// Page tables to walk, given back now and then.
    walk: Window,
    spin_ticks: u32,
    /// Rate of the guest's clock, where it is needed.
    khz: u32,
    watch: Watch,
    helper: Option<Helper>,
    spread: Option<Spread>,
    /// OUT by port, where it goes round many.
    ports: BTreeMap<u16, u64>,
    /// When the instruction that it stays on is to end.
    stays_until: Option<Instant>,
    died: bool,
}

impl Worker {
    /// A vCPU that has not run yet.
    ///
    /// # Errors
    /// When the guest's clock is needed and KVM does not say how fast it is.
    pub fn new(vcpu: GuestVcpu, job: Job, stop: Arc<Switch>) -> Result<Self, Error> {
        let khz = if job.spin.is_zero() && job.stay.is_zero() && !job.chips.kernel {
            0
        } else {
            vcpu.told(Command::GetTscKhz, vcpu.fd.get_tsc_khz())
                .map_err(|error| Error::setup("tell the guest's clock rate", error.errno()))?
        };
        let helper = if job.chips.kernel || !job.stay.is_zero() {
            Some(Helper::start(Arc::clone(&vcpu.vm), vcpu.id)?)
        } else {
            None
        };
        let region = vcpu.memory().gpa();
        let worker = Self {
            spin_ticks: ticks(job.spin, khz),
            spread: job.spread.map(Spread::new),
            touch: Window::new(region + code::TOUCH, code::STRIDE, job.pages.touch),
            dirty: Window::new(region + code::DIRTY, code::PAGE, job.pages.dirty),
            walk: Window::new(code::WALK_LINEAR, 4 << 20, job.pages.walk),
            vcpu,
            job,
            stop,
            tally: Tally::default(),
            next_round: 0,
            began: Instant::now(),
            took: Duration::ZERO,
            khz,
            watch: Watch::default(),
            helper,
            ports: BTreeMap::new(),
            stays_until: None,
            died: false,
        };
        let mut vars = worker.vars()?;
        let targets = &worker.job.targets;
        let out_port = worker.spread.map_or(targets.out_port, |spread| spread.port());
        vars.out_port = u32::from(out_port);
        vars.in_port = u32::from(targets.in_port);
        (vars.msr_read, vars.msr_written) = (targets.msr_read, targets.msr_written);
        vars.gap = ticks(GAP, khz);
        let id = worker.vcpu.id;
        vars.timer_ns = u32::try_from(worker.job.timer.as_nanos()).unwrap_or(u32::MAX);
        vars.timer_ticks = ticks(worker.job.timer, khz);
        vars.next_apic = (id + 1) % worker.job.vcpus.max(1);
        vars.sends_first = u32::from(id == 0);
        worker.set_vars(&vars)?;
        Ok(worker)
    }

    /// Which VM and vCPU it is.
    pub fn id(&self) -> (u32, u32) {
        (self.vcpu.vm_index, self.vcpu.id)
    }

    /// Userspace exits so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// From [`Worker::begin`] to the end of the work.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// What the guest says it made.
    ///
    /// # Errors
    /// When its memory cannot be read, which is a defect.
    pub fn done(&self) -> Result<Done, Error> {
        let vars = self.vars()?;
        let made = Counts::from_fn(|op| u64::from(vars.made[op as usize]));
        let (irqchip, paging) = (self.job.chips.kernel, self.job.paging);
        let (waits, starts) = (u64::from(vars.waits), u64::from(vars.starts));
        let handled = vars.handled.map(u64::from);
        Ok(Done { made, control: self.tally.control, irqchip, paging, waits, starts, handled })
    }

    /// What it made that with.
    ///
    /// # Errors
    /// As [`Worker::done`].
    pub fn used(&self) -> Result<Used, Error> {
        let vars = self.vars()?;
        Ok(Used {
            region: self.vcpu.memory().gpa(),
            space: self.vcpu.vm.space,
            dirty_slot: vm::dirty_slot(self.vcpu.id),
            targets: self.job.targets,
            ports: self.spread.is_some().then(|| self.ports.clone()),
            touched: self.touch.laps(vars.touch),
            dirtied: self.dirty.laps(vars.dirty),
            walked: self.walk.laps(vars.walk),
            next_apic: vars.next_apic,
            died: self.died,
        })
    }

    /// What was measured meanwhile.
    ///
    /// # Errors
    /// As [`Worker::done`].
    pub fn measured(&self) -> Result<Measured, Error> {
        Ok(self.watch.measured(&self.vars()?, self.khz))
    }

    /// Counts its KVM_RUNs among the VM's ioctls; once, at its end.
    pub fn count_runs(&self) {
        self.vcpu.vm.ioctls.add(Command::Run, self.tally.runs, self.tally.refused);
    }

    /// What the VM's ioctls came to.
    pub fn ioctls(&self) -> Arc<Ioctls> {
        Arc::clone(&self.vcpu.vm.ioctls)
    }

    /// The thread that wakes it, if there is one, and what that used up to its last task.
    pub fn helper(&self) -> Option<OtherThread> {
        let helper = self.helper.as_ref()?;
        Some(OtherThread { comm: format!("waker{}", self.vcpu.id), cpu_ns: helper.cpu_ns() })
    }

    /// Waits until its second thread has ended: the last call of that may come back after the guest is done.
    pub fn end_helper(&mut self) {
        self.helper = None;
    }

    /// This thread, which has just started, is the vCPU's from now on.
    ///
    /// # Errors
    /// When it cannot be kept on the CPU that was asked for.
    pub fn settle(&mut self) -> Result<(), Error> {
        if let Some(cpu) = self.job.pin.or(self.job.moves.0.first().copied()) {
            load::pin(cpu)?;
        }
        self.watch.on_thread();
        Ok(())
    }

    /// An empty round: the guest touches its program and its variables. One vCPU of a VM at
    /// a time does this.
    ///
    /// # Errors
    /// When the guest ends up in a state it should not be in.
    pub fn boot(&mut self) -> Result<Ended, Error> {
        let vm = Arc::clone(&self.vcpu.vm);
        let since = Instant::now();
        let _one_at_a_time = vm.booting.lock().unwrap_or_else(PoisonError::into_inner);
        self.watch.slept(since);
        self.make(&Counts::default(), 0, false)
    }

    /// All have booted; it waited for that since then.
    pub fn waited(&mut self, since: Instant) {
        self.watch.slept(since);
    }

    /// The clock of the plan starts now.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Makes rounds until `until` (or the plan's end) is reached.
    ///
    /// # Errors
    /// When the guest ends up in a state it should not be in.
    pub fn work(&mut self, until: Option<u64>) -> Result<Ended, Error> {
        let result = self.rounds(until);
        self.took = self.began.elapsed();
        self.died = matches!(result, Ok(Ended::Died));
        self.watch.off_thread();
        result
    }

    fn rounds(&mut self, until: Option<u64>) -> Result<Ended, Error> {
        let mut rest = self.began;
        while until.is_none_or(|until| self.next_round < until) {
            let Some(round) = self.job.plan.round(self.next_round) else { break };
            if self.pause(rest.max(self.began + round.due)) {
                return Ok(Ended::Stopped);
            }
            let start = Instant::now();
            self.change_cpu()?;
            let ended = self.round(&round)?;
            if ended != Ended::Done {
                return Ok(ended);
            }
            self.next_round += 1;
            let end = Instant::now();
            rest = if self.job.at_most_half { end + (end - start) } else { end };
        }
        Ok(Ended::Done)
    }

    /// Goes on to the next CPU, where it is to change after each round.
    fn change_cpu(&mut self) -> Result<(), Error> {
        let (cpus, times) = &self.job.moves;
        if self.next_round == 0 || self.next_round > *times || cpus.len() < 2 {
            return Ok(());
        }
        load::pin(cpus[(self.next_round % cpus.len() as u64) as usize])?;
        self.tally.moves += 1;
        Ok(())
    }

    /// Sleeps until `when`, or until everyone is to stop, which it answers.
    fn pause(&mut self, when: Instant) -> bool {
        let since = Instant::now();
        if when <= since {
            return self.stop.is_on();
        }
        let stops = self.stop.wait_until(when);
        self.watch.slept(since);
        stops
    }

    /// Runs the guest until it has made `counts` and says so.
    fn make(&mut self, counts: &Counts, spin: u32, stay: bool) -> Result<Ended, Error> {
        let mut vars = self.vars()?;
        vars.begin(counts, spin, stay);
        self.set_vars(&vars)?;
        if let (true, Some(helper)) = (counts.any(Op::is_woken), &self.helper) {
            helper.wake(vars.made, *counts, self.job.halt);
        }
        if let (true, Some(helper)) = (stay, &self.helper) {
            let until = Instant::now() + self.job.stay;
            self.stays_until = Some(until);
            helper.kick(until);
        }
        loop {
            if self.stop.is_on() {
                return Ok(Ended::Stopped);
            }
            self.tally.runs += 1;
            self.watch.enters();
            let seen = self.run_once();
            self.watch.left();
            match seen {
                Seen::Io => self.tally.io += 1,
                Seen::Mmio => self.tally.mmio += 1,
                Seen::Control => {
                    (self.tally.io, self.tally.control) =
                        (self.tally.io + 1, self.tally.control + 1);
                    return Ok(Ended::Done);
                }
                Seen::Hlt => {
                    self.tally.hlt += 1;
                    if self.vars()?.done != 0 {
                        self.tally.control += 1;
                        return Ok(Ended::Done);
                    }
                    if self.dies() {
                        return Ok(Ended::Died);
                    }
                    continue;
                }
                Seen::Interrupted => {
                    self.move_on()?;
                    continue;
                }
                Seen::Wrong(what) => return Err(self.wrong(&what)),
            }
            self.handle();
            if self.dies() {
                return Ok(Ended::Died);
            }
        }
    }

    /// What the VMM's device takes for an exit.
    fn handle(&mut self) {
        if self.tally.devices() - self.control_io() == 1 && !self.job.stuck.is_zero() {
            self.pause(Instant::now() + self.job.stuck);
        }
        if !self.job.vmm_spin.is_zero() {
            load::burn(self.job.vmm_spin);
        }
        if !self.job.vmm_sleep.is_zero() {
            self.pause(Instant::now() + self.job.vmm_sleep);
        }
    }

    /// Exits to the device that ends rounds.
    fn control_io(&self) -> u64 {
        if self.job.chips.kernel { self.tally.control } else { 0 }
    }

    fn dies(&self) -> bool {
        self.job.die_after.is_some_and(|after| self.tally.asked_for() >= after)
    }

    /// Where OUT goes next.
    fn out_port(&self) -> u16 {
        self.spread.map_or(self.job.targets.out_port, |spread| spread.port())
    }

    /// Lets the guest go on after the instruction that it stayed on, once it is time and it is
    /// there.
    fn move_on(&mut self) -> Result<(), Error> {
        if self.stays_until.is_none_or(|until| Instant::now() < until) {
            return Ok(());
        }
        let failed = |error: kvm_ioctls::Error| Error::setup("move the guest on", error.errno());
        let mut regs = self.vcpu.told(Command::GetRegs, self.vcpu.fd.get_regs()).map_err(failed)?;
        if regs.rip == self.vcpu.stays_at {
            regs.rip += Asm::FOREVER;
            self.vcpu.told(Command::SetRegs, self.vcpu.fd.set_regs(&regs)).map_err(failed)?;
            self.stays_until = None;
            if let Some(helper) = &self.helper {
                helper.rest();
            }
        }
        Ok(())
    }

    /// One KVM_RUN, and what a VMM's devices answer.
    fn run_once(&mut self) -> Seen {
        let region = self.vcpu.memory().gpa();
        let (mmio, read_only) = (region + self.vcpu.vm.space.mmio, region + code::READ_ONLY);
        let (out_port, in_port) = (self.out_port(), self.job.targets.in_port);
        let irqchip = self.job.chips.kernel;
        match self.vcpu.fd.run() {
            Ok(VcpuExit::IoOut(code::PORT_CONTROL, _)) if irqchip => Seen::Control,
            Ok(VcpuExit::IoOut(code::PORT_SEEN, _)) if self.job.chips.lines => {
                match self.vcpu.vm.lower_level() {
                    Ok(()) => Seen::Io,
                    Err(error) => Seen::Wrong(format!("a line could not be lowered: {error}")),
                }
            }
            Ok(VcpuExit::IoOut(port, _)) if port == out_port => match self.spread_on(out_port) {
                Ok(()) => Seen::Io,
                Err(error) => Seen::Wrong(format!("its memory could not be used: {error}")),
            },
            Ok(VcpuExit::IoIn(port, data)) if port == in_port => {
                data.fill(0x60); // a serial port that has nothing to do
                Seen::Io
            }
            Ok(VcpuExit::MmioWrite(gpa, _)) if gpa == mmio || gpa == read_only => Seen::Mmio,
            Ok(VcpuExit::MmioRead(gpa, data)) if gpa == mmio => {
                data.fill(0);
                Seen::Mmio
            }
            Ok(VcpuExit::Hlt) => Seen::Hlt,
            Ok(VcpuExit::Intr) => Seen::Interrupted,
            Ok(VcpuExit::InternalError) => {
                let code = sys::internal_error(self.vcpu.fd.get_kvm_run());
                Seen::Wrong(format!("KVM reported an internal error (sub-code {code})"))
            }
            Ok(VcpuExit::Shutdown) => Seen::Wrong("the guest shut down (triple fault)".to_owned()),
            Ok(VcpuExit::FailEntry(why, cpu)) => Seen::Wrong(format!(
                "the processor refused to enter the guest (reason {why:#x} on CPU {cpu})"
            )),
            Ok(other) => Seen::Wrong(format!("KVM_RUN came back with {other:?}")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.tally.refused += 1;
                Seen::Interrupted
            }
            Err(error) => Seen::Wrong(format!("KVM_RUN failed: {}", reason(error.errno()))),
        }
    }

    /// OUT to `port` was made; where it goes round many, tells the guest the next.
    fn spread_on(&mut self, port: u16) -> io::Result<()> {
        let Some(spread) = &mut self.spread else { return Ok(()) };
        *self.ports.entry(port).or_default() += 1;
        spread.step();
        let next = u32::from(spread.port()).to_le_bytes();
        self.vcpu.memory().write(code::DATA + code::OUT_PORT_AT, &next)
    }

    /// The sentence for a guest that went astray, with where it was.
    fn wrong(&self, what: &str) -> Error {
        let (vm, id) = self.id();
        let place = self.place();
        Error::Failed(format!("vCPU {id} of VM {vm}: {what} {place}"))
    }

    /// Where the guest is: what it was making and its instruction pointer.
    pub fn place(&self) -> String {
        let doing = match self.vars().map(|vars| (vars.current(), vars)) {
            Ok((Some(op), vars)) => {
                let index = op as usize;
                let (made, left) = (vars.made[index], vars.todo[index]);
                format!("while making {} (made {made}, {left} left in this round", op.name())
            }
            _ => "between two kinds of work (".to_owned(),
        };
        let rip = match self.vcpu.fd.get_regs() {
            Ok(regs) => format!(", RIP {:#x})", regs.rip),
            Err(_) => ", RIP not known)".to_owned(),
        };
        format!("{doing}{rip}").replace("(, ", "(")
    }

    fn vars(&self) -> Result<Vars, Error> {
        let bytes = self.vcpu.memory().read(code::DATA).map_err(|error| memory_failed(&error))?;
        Ok(Vars::from_bytes(&bytes))
    }

    fn set_vars(&self, vars: &Vars) -> Result<(), Error> {
        let memory = self.vcpu.memory();
        memory.write(code::DATA, &vars.to_bytes()).map_err(|error| memory_failed(&error))
    }
}

fn memory_failed(error: &io::Error) -> Error {
    Error::Failed(format!("the guest's memory could not be used: {error}"))
}
