//! What the VMM does before and after a round: pages are given back, memory slots are changed, and
//! what the kernel counted is read.

use std::io;
use std::sync::{Arc, PoisonError};

use super::super::code;
use super::super::error::Error;
use super::super::op::{Counts, Op};
use super::super::plan::Round;
use super::super::vm;
use super::{Ended, Worker, memory_failed};

impl Worker {
    pub(super) fn round(&mut self, round: &Round) -> Result<Ended, Error> {
        let stay = self.next_round == 0 && !self.job.stay.is_zero();
        let counts = &round.counts;
        for _ in 0..counts.slots {
            self.vcpu.vm.cycle_slot().map_err(|error| {
                Error::Failed(format!("a memory slot could not be changed: {error}"))
            })?;
        }
        for _ in 0..counts.line_masked {
            self.vcpu
                .vm
                .pulse_masked()
                .map_err(|error| Error::Failed(format!("a line could not be set: {error}")))?;
        }
        let ended = if counts.any(Op::maps_memory) {
            let vm = Arc::clone(&self.vcpu.vm);
            if !(self.touch.has(counts.touch) && self.walk.has(counts.walk)) {
                let _alone = vm.refill.write().unwrap_or_else(PoisonError::into_inner);
                self.give_pages_back(counts).map_err(|error| memory_failed(&error))?;
            }
            let _together = vm.refill.read().unwrap_or_else(PoisonError::into_inner);
            self.touch.take(counts.touch);
            self.walk.take(counts.walk);
            self.make(counts, self.spin_ticks, stay)?
        } else {
            self.make(counts, self.spin_ticks, stay)?
        };
        if ended == Ended::Done {
            self.read_counts(counts)?;
        }
        Ok(ended)
    }

    /// Gives back the pages of which not enough are left.
    fn give_pages_back(&mut self, counts: &Counts) -> io::Result<()> {
        let memory = self.vcpu.vm.memory(self.vcpu.id);
        let mut vars = code::Vars::from_bytes(&memory.read(code::DATA)?);
        if !self.touch.has(counts.touch) {
            memory.discard(code::TOUCH, self.vcpu.vm.space.touch_pages * code::STRIDE)?;
            self.touch.again(vars.touch);
            vars.touch = self.touch.start();
        }
        if !self.walk.has(counts.walk) {
            memory.discard(code::WALK, code::WALK_TABLES * code::STRIDE)?;
            vm::write_tables(memory)?;
            self.walk.again(vars.walk);
            vars.walk = self.walk.start();
        }
        memory.write(code::DATA, &vars.to_bytes())
    }

    /// Reads KVM's log of dirty pages and the doorbell, and compares both with what the guest says
    /// it did.
    fn read_counts(&mut self, counts: &Counts) -> Result<(), Error> {
        let (vm, id) = (Arc::clone(&self.vcpu.vm), self.vcpu.id);
        if counts.dirty > 0 {
            let mut vars = self.vars()?;
            let log = vm.dirty_log(id).map_err(|error| {
                Error::Failed(format!("KVM's log of dirty pages could not be read: {error}"))
            })?;
            let written = self.dirty.used(vars.dirty);
            let named: u64 = log.iter().map(|word| u64::from(word.count_ones())).sum();
            self.tally.dirty_log.reads += 1;
            self.tally.dirty_log.pages += named;
            if named != written || first_clear(&log) != written {
                return Err(self.wrong(&format!(
                    "KVM's log names {named} dirty pages, of which the first {} are in a row, while \
                     the guest wrote the first {written}",
                    first_clear(&log)
                )));
            }
            self.dirty.again(vars.dirty);
            vars.dirty = self.dirty.start();
            self.set_vars(&vars)?;
        }
        if counts.doorbell > 0 {
            self.tally.rang += vm.rang(id).map_err(|error| {
                Error::Failed(format!("the doorbell's eventfd could not be read: {error}"))
            })?;
            let made = u64::from(self.vars()?.made[Op::Doorbell as usize]);
            if self.tally.rang != made {
                let rang = self.tally.rang;
                return Err(
                    self.wrong(&format!("the doorbell rang {rang} times instead of {made}"))
                );
            }
        }
        Ok(())
    }
}

/// How many bits are set before the first that is not.
fn first_clear(words: &[u64]) -> u64 {
    let full = words.iter().take_while(|&&word| word == u64::MAX).count();
    full as u64 * 64 + words.get(full).map_or(0, |word| u64::from(word.trailing_ones()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_in_a_row_are_counted_across_words() {
        assert_eq!(first_clear(&[0]), 0);
        assert_eq!(first_clear(&[0b1011, 0]), 2);
        assert_eq!(first_clear(&[u64::MAX, 0b111]), 67);
        assert_eq!(first_clear(&[u64::MAX]), 64);
    }
}
