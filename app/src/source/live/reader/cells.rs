//! What changed in a cell, exactly, although the probe may be in the middle of writing it.

use crate::model::{ids::Reason, tick::CellTick};
use kvmscope_shared::{
    cell::{Cell, Extremes},
    hist::{BUCKETS, bucket_hi, bucket_lo},
};

/// A cell and what was told of it.
pub struct SeenCell {
    /// Its number.
    pub number: u32,
    /// Its counters as they were told last.
    told: Cell,
}

impl SeenCell {
    /// A cell of which nothing was told yet.
    pub fn new(number: u32) -> Self {
        Self { number, told: Cell::default() }
    }

    /// What changed since it was told last, where `epoch` is the one that just ended; `None` for
    /// nothing. What is held back (a total whose histogram has not followed yet, or an extreme)
    /// comes with the next change.
    pub fn advance(&mut self, now: &Cell, epoch: u64) -> Option<CellTick> {
        let told = &self.told;
        let count = now.count.wrapping_sub(told.count);
        let hist: Vec<(u8, u32)> = (0..BUCKETS)
            .map(|i| (i as u8, now.hist[i].wrapping_sub(told.hist[i])))
            .filter(|&(_, n)| n != 0)
            .collect();
        if count == 0 && hist.is_empty() {
            return None;
        }
        let mut change = CellTick {
            reason: Reason::from_cell(now.kind, now.isa, now.code),
            flags: now.flags,
            count,
            ..CellTick::default()
        };
        if hist.is_empty() {
            self.told.count = now.count;
            return Some(change);
        }
        (change.min_ns, change.max_ns) = extremes(told, now, epoch, &hist);
        change.total_ns = now.total_ns.wrapping_sub(told.total_ns);
        change.off_ns = now.off_ns.wrapping_sub(told.off_ns);
        change.vmm_ns = now.vmm_ns.wrapping_sub(told.vmm_ns);
        change.hist = hist;
        self.told = *now;
        Some(change)
    }
}

/// Smallest and largest of what was timed since `told`: exact as long as the banks have them, and
/// never outside the buckets that they fell into.
fn extremes(told: &Cell, now: &Cell, epoch: u64, hist: &[(u8, u32)]) -> (u64, u64) {
    let bank = |cell: &Cell, epoch: u64| -> Option<Extremes> {
        let bank = cell.extremes[(epoch & 1) as usize];
        (epoch > 0 && bank.epoch == epoch).then_some(bank)
    };
    let mut values: Vec<u64> = Vec::with_capacity(4);
    if let Some(bank) = bank(now, epoch) {
        values.extend([bank.min_ns, bank.max_ns]);
    }
    // The probe may have asked for the epoch just before it ended and have written just after
    // its bank was read: what moved in it since then is new.
    let before = epoch.saturating_sub(1);
    if let Some(late) = bank(now, before) {
        let known = bank(told, before);
        values.extend(Some(late.min_ns).filter(|&ns| known.is_none_or(|k| ns != k.min_ns)));
        values.extend(Some(late.max_ns).filter(|&ns| known.is_none_or(|k| ns != k.max_ns)));
    }
    let within = |ns: u64, bucket: usize| {
        ns.clamp(bucket_lo(bucket).max(1), bucket_hi(bucket).saturating_sub(1).max(1))
    };
    let (lowest, highest) = match (hist.first(), hist.last()) {
        (Some(&(lowest, _)), Some(&(highest, _))) => (lowest as usize, highest as usize),
        _ => return (0, 0),
    };
    // Without a bank the known end of a bucket stands for it; the last has only a lower one.
    let end = if highest == BUCKETS - 1 { 0 } else { u64::MAX };
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(end);
    (within(min, lowest), within(max, highest))
}
