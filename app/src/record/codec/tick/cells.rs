//! Cells of a tick, by the range coder: what is expected of each comes from cells of the same reason before it.

use super::coder::{Chance, Coder, Number};
use crate::model::ids::{Isa, Kind, Reason};
use crate::model::tick::CellTick;
use kvmscope_shared::hist::{BUCKETS, bucket_hi, bucket_lo, bucket_mid};

/// Cells of a tick at most, and buckets: what reading one takes is bounded by it, whatever it is made of.
const CELLS_MAX: usize = 1 << 19;
const BUCKETS_MAX: usize = 1 << 22;
/// Reasons that are told apart in a tick; more share what is expected.
const REASONS_MAX: usize = 1024;
/// Sizes (bit lengths) of an expected number of exits.
const SIZES: usize = 24;
/// Octaves of the histogram.
const OCTAVES: usize = BUCKETS / 4 + 1;
/// What a cell's histogram adds up to in [`Expected::share`].
const WHOLE: u64 = 1 << 16;
/// A cell counts for 1/2 to this less than the next one.
const FADES: u32 = 2;

/// What is expected of a reason's next cell.
#[derive(Clone, Debug)]
struct Expected {
    reason: Reason,
    /// Whether a vCPU has it.
    is_there: Chance,
    /// Where exits were, in parts of a whole.
    share: [u64; BUCKETS],
    /// The first bucket, how many exits (bit length), and whether any time was off the CPU, or in the VMM.
    first: u64,
    size: usize,
    off: bool,
    vmm: bool,
}

impl Expected {
    fn new(reason: Reason) -> Self {
        let is_there = Chance::default();
        let (off, vmm) = (false, reason.kind == Kind::Userspace);
        Self { reason, is_there, share: [0; BUCKETS], first: 0, size: 0, off, vmm }
    }
}

/// What is expected of the cells of a tick.
#[derive(Debug)]
pub struct Cells {
    /// By reason.
    expected: Vec<Expected>,
    others: Expected,
    new: Number,
    kind: Number,
    code: Number,
    sum: Vec<Number>,
    first: Number,
    exits: Vec<[Number; 2]>,
    began: Number,
    total: Vec<Number>,
    off: [Number; 2],
    vmm: [Number; 2],
    flags: Number,
    min: Vec<Number>,
    max: Vec<Number>,
    /// How many there were.
    cells: usize,
    buckets: usize,
}

impl Cells {
    /// Of the first cell of a tick.
    pub fn new() -> Self {
        Self {
            expected: Vec::new(),
            others: Expected::new(Reason::default()),
            new: Number::default(),
            kind: Number::default(),
            code: Number::default(),
            sum: vec![Number::default(); 65],
            first: Number::default(),
            exits: vec![<[Number; 2]>::default(); SIZES],
            began: Number::default(),
            total: vec![Number::default(); 17],
            off: <[Number; 2]>::default(),
            vmm: <[Number; 2]>::default(),
            flags: Number::default(),
            min: vec![Number::default(); OCTAVES],
            max: vec![Number::default(); OCTAVES],
            cells: 0,
            buckets: 0,
        }
    }

    /// A vCPU's cells: those that it has, or those that are read into it. `None`: they are no cells, or more than a
    /// tick may have.
    pub fn code<C: Coder>(&mut self, coder: &mut C, cells: &mut Vec<CellTick>) -> Option<()> {
        let mut given = std::mem::take(cells);
        for place in 0..self.expected.len() {
            let expected = self.expected.get_mut(place)?;
            let reason = expected.reason;
            let at = given.iter().position(|cell| cell.reason == reason);
            if coder.bit(&mut expected.is_there, at.is_some()) {
                let cell = at.map(|at| given.swap_remove(at));
                let mut cell = cell.unwrap_or_else(|| CellTick { reason, ..CellTick::default() });
                self.cell(coder, place, &mut cell)?;
                cells.push(cell);
            }
        }
        // Reasons that were not met before.
        given.sort_unstable_by_key(|cell| cell.reason);
        let new = self.new.code(coder, given.len() as u64);
        let mut given = given.into_iter();
        for _ in 0..new {
            let mut cell = given.next().unwrap_or_default();
            cell.reason = self.reason(coder, cell.reason)?;
            let place = self.expected.len();
            if place < REASONS_MAX {
                self.expected.push(Expected::new(cell.reason));
            }
            self.cell(coder, place, &mut cell)?;
            cells.push(cell);
        }
        cells.sort_unstable_by_key(|cell| cell.reason);
        cells.is_sorted_by(|a, b| a.reason < b.reason).then_some(())
    }

    fn reason<C: Coder>(&mut self, coder: &mut C, reason: Reason) -> Option<Reason> {
        let tag = (reason.kind as u64) << 4 | reason.isa as u64;
        let tag = self.kind.code(coder, tag);
        let code = self.code.code(coder, u64::from(reason.code));
        let kind = match tag >> 4 {
            0 => Kind::Exit,
            1 => Kind::Userspace,
            _ => return None,
        };
        let isa = match tag & 0xf {
            0 => Isa::None,
            1 => Isa::Vmx,
            2 => Isa::Svm,
            _ => return None,
        };
        Some(Reason { kind, isa, code: u32::try_from(code).ok()? })
    }

    fn cell<C: Coder>(&mut self, coder: &mut C, place: usize, cell: &mut CellTick) -> Option<()> {
        let expected = self.expected.get_mut(place).unwrap_or(&mut self.others);
        let timed = self.sum[expected.size].code(coder, cell.timed());
        expected.size = (64 - timed.leading_zeros()) as usize;
        let mut hist = Histogram { first: &mut self.first, exits: &mut self.exits };
        hist.code(coder, expected, timed, &mut cell.hist)?;
        self.cells += 1;
        self.buckets += cell.hist.len();
        if self.cells > CELLS_MAX || self.buckets > BUCKETS_MAX {
            return None;
        }
        cell.count = self.began.near(coder, timed, cell.count);
        let middle =
            |&(bucket, n): &(u8, u32)| bucket_mid(usize::from(bucket)).wrapping_mul(u64::from(n));
        let total = cell.hist.iter().map(middle).fold(0, u64::wrapping_add);
        let size = (64 - total.leading_zeros()) as usize;
        cell.total_ns = self.total[size / 4].near(coder, total, cell.total_ns);
        cell.off_ns = self.off[usize::from(expected.off)].code(coder, cell.off_ns);
        cell.vmm_ns = self.vmm[usize::from(expected.vmm)].code(coder, cell.vmm_ns);
        (expected.off, expected.vmm) = (cell.off_ns != 0, cell.vmm_ns != 0);
        cell.flags = self.flags.code(coder, u64::from(cell.flags)).try_into().ok()?;
        let ends = (cell.hist.first(), cell.hist.last());
        let (least, most) = match ends {
            (Some(&(first, _)), Some(&(last, _))) => (usize::from(first), usize::from(last)),
            _ => (0, 0),
        };
        let min = &mut self.min[least / 4];
        cell.min_ns = min.near(coder, bucket_lo(least), cell.min_ns);
        let max = &mut self.max[most / 4];
        cell.max_ns = max.near(coder, bucket_hi(most), cell.max_ns);
        coder.is_sound().then_some(())
    }
}

/// What is expected of histograms.
struct Histogram<'a> {
    first: &'a mut Number,
    exits: &'a mut [[Number; 2]],
}

impl Histogram<'_> {
    /// One with so many exits in it: from the first bucket on, until none is left. Each bucket is expected to have
    /// its share of what is left.
    fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        expected: &mut Expected,
        timed: u64,
        hist: &mut Vec<(u8, u32)>,
    ) -> Option<()> {
        let given = std::mem::take(hist);
        if timed == 0 {
            return Some(());
        }
        let first = given.first().map_or(0, |&(first, _)| u64::from(first));
        let first = self.first.near(coder, expected.first, first);
        expected.first = first;
        let first = usize::try_from(first).ok().filter(|first| *first < BUCKETS)?;
        let mut given = given.into_iter().peekable();
        let (mut left, mut share_left) = (timed, expected.share[first..].iter().sum::<u64>());
        expected.share.iter_mut().for_each(|share| *share -= (*share).div_ceil(1 << FADES));
        let mut empty = false;
        for bucket in first..BUCKETS {
            // Its share before it faded: what is left was counted with it.
            let was = expected.share[bucket];
            let is = given.next_if(|&(at, _)| usize::from(at) == bucket).map_or(0, |(_, n)| n);
            let share = was.saturating_mul(1 << FADES) / ((1 << FADES) - 1);
            let share = share.min(share_left);
            // In sixteenths, so that less than one is told from none.
            let wanted =
                left.saturating_mul(16).saturating_mul(share).checked_div(share_left).unwrap_or(0);
            share_left -= share;
            let size = (64 - wanted.leading_zeros()) as usize;
            let model = &mut self.exits[size.min(SIZES - 1)][usize::from(empty)];
            let n = model.near(coder, wanted / 16, u64::from(is));
            empty = n == 0;
            left = left.checked_sub(n)?;
            if n > 0 {
                hist.push((bucket as u8, u32::try_from(n).ok()?));
                expected.share[bucket] +=
                    u64::try_from(u128::from(n) * u128::from(WHOLE) / u128::from(timed)).ok()?;
            }
            if left == 0 {
                return Some(());
            }
        }
        // There are more than all buckets have.
        None
    }
}
