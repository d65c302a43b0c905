//! A second thread for a vCPU, of the VMM: it wakes the vCPU from its halts, and makes it leave an
//! instruction that it stays on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::Pid;

use super::code;
use super::error::Error;
use super::load::thread_cpu_ns;
use super::op::{Counts, KINDS, Op};
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
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each helper, and it is copied, not kept"
)]
enum Task {
    /// Wake it from each of `counts`, so long after it came to the halt; it had made `from` before.
    Wake { from: [u32; KINDS], counts: Counts, after: Duration },
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

    /// The vCPU will halt as many times as `counts` says, in the order of its kinds; it has made `from` of
    /// each before.
    pub fn wake(&self, from: [u32; KINDS], counts: Counts, after: Duration) {
        self.shared.set(Some(Task::Wake { from, counts, after }));
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
                Some(Task::Wake { from, counts, after }) => {
                    if let Err(error) = self.wake(vm, id, from, &counts, after) {
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
    ///
    /// A plain halt ends by a message with delivery mode 3 (SDM volume 3, 11.11.2: reserved). KVM takes it, as
    /// it takes KVM_HC_KICK_CPU, for "wake this vCPU" (`__apic_accept_irq`, APIC_DM_REMRD): no interrupt
    /// comes, and it is kept until the vCPU halts.
    fn wake(
        &self,
        vm: &GuestVm,
        id: u32,
        from: [u32; KINDS],
        counts: &Counts,
        after: Duration,
    ) -> io::Result<()> {
        let mine = |task: &Task| matches!(task, Task::Wake { from: other, .. } if *other == from);
        let look = (after / 10).clamp(LOOK.0, LOOK.1);
        for op in Op::ALL.into_iter().filter(|op| op.is_woken()) {
            let made_at = code::DATA + code::made_at(op);
            let before = from[op as usize];
            for number in 1..=counts.get(op) {
                while u64::from(vm.memory(id).read_live(made_at)?.wrapping_sub(before)) < number {
                    if !self.sleep_until(Instant::now() + look, mine) {
                        return Ok(());
                    }
                }
                if !self.sleep_until(Instant::now() + after, mine) {
                    return Ok(());
                }
                vm.wake(id, op)?;
            }
        }
        Ok(())
    }
}
