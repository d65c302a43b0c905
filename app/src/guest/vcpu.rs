//! Running one vCPU: rounds of work, and being its VMM.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuExit;

use super::code::{self, Vars};
use super::error::{Error, reason};
use super::expect::Done;
use super::op::Counts;
use super::plan::{Plan, Round};
use super::stop::Switch;
use super::sys;
use super::vm::GuestVcpu;

/// What a vCPU has to do, and how its VMM behaves.
#[derive(Clone, Debug)]
pub struct Job {
    /// The work.
    pub plan: Plan,
    /// How long the guest computes in each round.
    pub spin: Duration,
    /// How long the VMM sleeps in each IO and MMIO exit.
    pub vmm_sleep: Duration,
    /// Stop after so many userspace exits (those that end a round not counted), without
    /// going back into KVM_RUN.
    pub die_after: Option<u64>,
    /// Rest after each round at least as long as the round took.
    pub at_most_half: bool,
}

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
    /// HLTs that ended a round.
    pub control: u64,
}

impl Tally {
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
    /// Pages of the touch window that the guest has used.
    touched: u64,
    spin_ticks: u32,
}

impl Worker {
    /// A vCPU that has not run yet.
    ///
    /// # Errors
    /// When it is to compute and KVM does not say how fast its time stamp counter is.
    pub fn new(vcpu: GuestVcpu, job: Job, stop: Arc<Switch>) -> Result<Self, Error> {
        let spin_ticks = if job.spin.is_zero() {
            0
        } else {
            let khz = vcpu
                .fd
                .get_tsc_khz()
                .map_err(|error| Error::setup("tell the guest's clock rate", error.errno()))?;
            ticks(job.spin, khz)
        };
        let (tally, began) = (Tally::default(), Instant::now());
        let took = Duration::ZERO;
        Ok(Self { vcpu, job, stop, tally, next_round: 0, began, took, touched: 0, spin_ticks })
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
        Ok(Done { made, control: self.tally.control })
    }

    /// An empty round: the guest touches its program and its variables. One vCPU of a VM at
    /// a time does this.
    ///
    /// # Errors
    /// When the guest ends up in a state it should not be in.
    pub fn boot(&mut self) -> Result<Ended, Error> {
        let vm = Arc::clone(&self.vcpu.vm);
        let _one_at_a_time = vm.booting.lock().unwrap_or_else(PoisonError::into_inner);
        self.make(&Counts::default(), 0)
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
        result
    }

    fn rounds(&mut self, until: Option<u64>) -> Result<Ended, Error> {
        let mut rest = self.began;
        while until.is_none_or(|until| self.next_round < until) {
            let Some(round) = self.job.plan.round(self.next_round) else { break };
            if self.stop.wait_until(rest.max(self.began + round.due)) {
                return Ok(Ended::Stopped);
            }
            let start = Instant::now();
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

    fn round(&mut self, round: &Round) -> Result<Ended, Error> {
        let touch = round.counts.touch;
        if touch == 0 {
            return self.make(&round.counts, self.spin_ticks);
        }
        let vm = Arc::clone(&self.vcpu.vm);
        if self.touched + touch > code::TOUCH_PAGES {
            let _alone = vm.refill.write().unwrap_or_else(PoisonError::into_inner);
            self.give_pages_back().map_err(|error| memory_failed(&error))?;
        }
        let _together = vm.refill.read().unwrap_or_else(PoisonError::into_inner);
        self.touched += touch;
        self.make(&round.counts, self.spin_ticks)
    }

    /// Runs the guest until it has made `counts` and says so.
    fn make(&mut self, counts: &Counts, spin: u32) -> Result<Ended, Error> {
        let mut vars = self.vars()?;
        vars.begin(counts, spin);
        self.set_vars(&vars)?;
        loop {
            if self.stop.is_on() {
                return Ok(Ended::Stopped);
            }
            self.tally.runs += 1;
            match self.run_once() {
                Seen::Io => self.tally.io += 1,
                Seen::Mmio => self.tally.mmio += 1,
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
                Seen::Interrupted => continue,
                Seen::Wrong(what) => return Err(self.wrong(&what)),
            }
            if !self.job.vmm_sleep.is_zero() {
                self.stop.wait_until(Instant::now() + self.job.vmm_sleep);
            }
            if self.dies() {
                return Ok(Ended::Died);
            }
        }
    }

    fn dies(&self) -> bool {
        self.job.die_after.is_some_and(|after| self.tally.asked_for() >= after)
    }

    /// One KVM_RUN, and what a VMM's devices answer.
    fn run_once(&mut self) -> Seen {
        let mmio = self.vcpu.memory().gpa() + code::MMIO;
        match self.vcpu.fd.run() {
            Ok(VcpuExit::IoOut(code::PORT_OUT, _)) => Seen::Io,
            Ok(VcpuExit::IoIn(code::PORT_IN, data)) => {
                data.fill(0x60); // a serial port that has nothing to do
                Seen::Io
            }
            Ok(VcpuExit::MmioWrite(gpa, _)) if gpa == mmio => Seen::Mmio,
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
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Seen::Interrupted,
            Err(error) => Seen::Wrong(format!("KVM_RUN failed: {}", reason(error.errno()))),
        }
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

    fn give_pages_back(&mut self) -> io::Result<()> {
        let memory = self.vcpu.memory();
        memory.discard(code::TOUCH, code::TOUCH_PAGES * code::STRIDE)?;
        let mut vars = Vars::from_bytes(&memory.read(code::DATA)?);
        vars.touch = (memory.gpa() + code::TOUCH) as u32;
        memory.write(code::DATA, &vars.to_bytes())?;
        self.touched = 0;
        Ok(())
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

/// How many ticks of a clock of `khz` a time lasts, at most what the guest can count.
fn ticks(time: Duration, khz: u32) -> u32 {
    let ticks = time.as_micros() * u128::from(khz) / 1000;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_time_times_rate() {
        assert_eq!(ticks(Duration::from_micros(250), 2_000_000), 500_000);
        assert_eq!(ticks(Duration::ZERO, 2_000_000), 0);
        assert_eq!(ticks(Duration::from_secs(3600), 4_000_000), u32::MAX);
    }
}
