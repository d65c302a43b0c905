//! One switch that tells every thread of the guest to stop, also while it waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A switch that can be turned once, and waited on.
#[derive(Debug, Default)]
pub struct Switch {
    on: Mutex<bool>,
    changed: Condvar,
}

impl Switch {
    /// Turns it on and wakes everyone who waits.
    pub fn turn_on(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        *self.lock()
    }

    /// Waits until it is on.
    pub fn wait(&self) {
        let mut on = self.lock();
        while !*on {
            on = self.changed.wait(on).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it is on, or until `when`; answers whether it is on.
    pub fn wait_until(&self, when: Instant) -> bool {
        let mut on = self.lock();
        loop {
            let left = when.saturating_duration_since(Instant::now());
            if *on || left == Duration::ZERO {
                return *on;
            }
            let waited = self.changed.wait_timeout(on, left);
            on = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A thread that panicked cannot have left a bool half written.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_turned_on() {
        let switch = Switch::default();
        assert!(!switch.wait_until(Instant::now()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                switch.wait();
                switch.wait_until(Instant::now() + Duration::from_secs(3600))
            });
            switch.turn_on();
            assert!(waiting.join().expect("joined"));
        });
        assert!(switch.is_on());
    }
}
