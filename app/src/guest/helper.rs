//! A second thread for a vCPU, of the VMM: it wakes the vCPU from its halts, and makes it leave an
//! instruction that it stays on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_bindings::kvm_msi;
use rustix::thread::Pid;

use super::code;
use super::error::Error;
use super::load::thread_cpu_ns;
use super::op::Op;
use super::sys;
use super::vm::GuestVm;

/// How often it looks whether the vCPU has come to its next halt: least and most, in between a
/// tenth of the halt.
const LOOK: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));
/// How often it interrupts a vCPU that is to move on: a signal that comes just before KVM_RUN
/// only ends that one.
const KICK_EVERY: Duration = Duration::from_millis(5);

/// What it is asked to do.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// Wake it `count` times, each so long after it came to the halt; it had made `from` before.
    Wake { from: u32, count: u64, after: Duration },
    /// Interrupt that thread from then on.
    Kick { tid: Pid, at: Instant },
    /// End.
    Quit,
}

#[derive(Debug, Default)]
struct Shared {
    task: Mutex<Option<Task>>,
    changed: Condvar,
    cpu_ns: AtomicU64,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts it for vCPU `id` of `vm`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(vm: Arc<GuestVm>, id: u32) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("waker{id}"))
            .spawn(move || own.serve(&vm, id))
            .map_err(|error| Error::Failed(format!("no thread could be started: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The vCPU will halt `count` times; it has halted `from` times before.
    pub fn wake(&self, from: u32, count: u64, after: Duration) {
        self.shared.set(Some(Task::Wake { from, count, after }));
    }

    /// The vCPU, run by this thread, is to come out of KVM_RUN at `at`.
    pub fn kick(&self, at: Instant) {
        self.shared.set(Some(Task::Kick { tid: rustix::thread::gettid(), at }));
    }

    /// There is nothing to do any more.
    pub fn rest(&self) {
        self.shared.set(None);
    }

    /// The CPU time of the thread up to the end of its last task.
    pub fn cpu_ns(&self) -> u64 {
        self.shared.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.set(Some(Task::Quit));
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, task: Option<Task>) {
        *self.lock() = task;
        self.changed.notify_all();
    }

    /// Sleeps until `when`; false when something else is to be done meanwhile.
    fn sleep_until(&self, when: Instant, mine: impl Fn(&Task) -> bool) -> bool {
        let mut task = self.lock();
        loop {
            if !task.as_ref().is_some_and(&mine) {
                return false;
            }
            let left = when.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(task, left);
            task = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn serve(&self, vm: &GuestVm, id: u32) {
        loop {
            self.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
            let mut task = self.lock();
            while task.is_none() {
                task = self.changed.wait(task).unwrap_or_else(PoisonError::into_inner);
            }
            let now = *task;
            drop(task);
            match now {
                Some(Task::Quit) => return,
                Some(Task::Kick { tid, at }) => self.kick(tid, at),
                Some(Task::Wake { from, count, after }) => {
                    if let Err(error) = self.wake(vm, id, from, count, after) {
                        // The vCPU stays halted; the deadline ends it and says where.
                        eprintln!("kvmscope: vCPU {id} could not be woken: {error}");
                    }
                    let mut task = self.lock();
                    if matches!(*task, Some(Task::Wake { from: other, .. }) if other == from) {
                        *task = None;
                    }
                }
                None => {}
            }
        }
    }

    fn kick(&self, tid: Pid, at: Instant) {
        let mut next = at;
        while self.sleep_until(next, |task| matches!(task, Task::Kick { .. })) {
            sys::kick(tid);
            next = Instant::now() + KICK_EVERY;
        }
    }

    /// One message for each halt. KVM keeps one that comes before the HLT itself, so no halt is
    /// left without one and none gets two.
    fn wake(
        &self,
        vm: &GuestVm,
        id: u32,
        from: u32,
        count: u64,
        after: Duration,
    ) -> io::Result<()> {
        let mine = |task: &Task| matches!(task, Task::Wake { from: other, .. } if *other == from);
        let look = (after / 10).clamp(LOOK.0, LOOK.1);
        let made_at = code::DATA + code::made_at(Op::Halt);
        for number in 1..=count {
            while u64::from(vm.memory(id).read_live(made_at)?.wrapping_sub(from)) < number {
                if !self.sleep_until(Instant::now() + look, mine) {
                    return Ok(());
                }
            }
            if !self.sleep_until(Instant::now() + after, mine) {
                return Ok(());
            }
            vm.signal(wake_up(id))?;
        }
        Ok(())
    }
}

/// A message with delivery mode 3 (SDM volume 3, 11.11.2: reserved), to the APIC with that id. KVM
/// takes it, as it takes KVM_HC_KICK_CPU, for "wake this vCPU" (`__apic_accept_irq`,
/// APIC_DM_REMRD): no interrupt comes, and it is kept until the vCPU halts.
fn wake_up(apic_id: u32) -> kvm_msi {
    kvm_msi { address_lo: 0xfee0_0000 | apic_id << 12, data: 0x300, ..kvm_msi::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_vcpu() {
        let msi = wake_up(3);
        assert_eq!((msi.address_lo, msi.address_hi, msi.data), (0xfee0_3000, 0, 0x300));
    }
}
