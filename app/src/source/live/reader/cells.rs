//! What changed in a cell, exactly, although the probe may be in the middle of writing it.

use crate::model::{ids::Reason, tick::CellTick};
use kvmscope_shared::{
    cell::{Cell, Extremes},
    hist::{BUCKETS, HIST_LEN, bucket_hi, bucket_lo, bucket_of},
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
    /// comes with the next change. `whole` tells that no epoch since then went by unread.
    pub fn advance(&mut self, now: &Cell, epoch: u64, whole: bool) -> Option<CellTick> {
        let told = &self.told;
        let count = now.count.wrapping_sub(told.count);
        let hist = grown(&told.hist, &now.hist);
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
        (change.min_ns, change.max_ns) =
            extremes(&told.extremes, &now.extremes, whole.then_some(epoch), &hist);
        change.total_ns = now.total_ns.wrapping_sub(told.total_ns);
        change.off_ns = now.off_ns.wrapping_sub(told.off_ns);
        change.vmm_ns = now.vmm_ns.wrapping_sub(told.vmm_ns);
        change.hist = hist;
        self.told = *now;
        Some(change)
    }
}

/// What a histogram grew by since `told`: (bucket, how many), ascending, no zeros. Its counters wrap.
pub fn grown(told: &[u32; HIST_LEN], now: &[u32; HIST_LEN]) -> Vec<(u8, u32)> {
    let pairs = (0u8..).zip(told.iter().zip(now)).take(BUCKETS);
    pairs
        .map(|(bucket, (told, now))| (bucket, now.wrapping_sub(*told)))
        .filter(|&(_, n)| n != 0)
        .collect()
}

/// Smallest and largest of what was timed since `told`: exact as long as the banks have them, else the
/// ends of the buckets that they fell into. `epoch` is `None` if the banks of epochs in between may be
/// gone: what the others have is then true, and not the extreme.
pub fn extremes(
    told: &[Extremes; 2],
    now: &[Extremes; 2],
    epoch: Option<u64>,
    hist: &[(u8, u32)],
) -> (u64, u64) {
    let bank = |banks: &[Extremes; 2], epoch: u64| -> Option<Extremes> {
        let bank = banks[(epoch & 1) as usize];
        (epoch > 0 && bank.epoch == epoch).then_some(bank)
    };
    let mut values: Vec<u64> = Vec::with_capacity(4);
    if let Some(epoch) = epoch {
        values.extend(bank(now, epoch).iter().flat_map(|bank| [bank.min_ns, bank.max_ns]));
        // The probe may have asked for the epoch just before it ended and have written just after
        // its bank was read: what moved in it since then is new.
        let before = epoch.saturating_sub(1);
        if let Some(late) = bank(now, before) {
            let known = bank(told, before);
            values.extend(Some(late.min_ns).filter(|&ns| known.is_none_or(|k| ns != k.min_ns)));
            values.extend(Some(late.max_ns).filter(|&ns| known.is_none_or(|k| ns != k.max_ns)));
        }
        // What ended after the epoch did, but before the cell was read, is counted in it, and its extremes are
        // in the bank of the next. So may be those of one that is counted only then: true, if early.
        let next = bank(now, epoch.saturating_add(1));
        values.extend(next.iter().flat_map(|bank| [bank.min_ns, bank.max_ns]));
    }
    let (lowest, highest) = match (hist.first(), hist.last()) {
        (Some(&(lowest, _)), Some(&(highest, _))) => (lowest as usize, highest as usize),
        _ => return (0, 0),
    };
    let of = |bucket| values.iter().copied().filter(move |&ns| bucket_of(ns) == bucket);
    // The last bucket has no upper end.
    let end = if highest == BUCKETS - 1 { bucket_lo(highest) } else { bucket_hi(highest) - 1 };
    let min = of(lowest).min().unwrap_or(bucket_lo(lowest));
    (min.max(1), of(highest).max().unwrap_or(end).max(1))
}
