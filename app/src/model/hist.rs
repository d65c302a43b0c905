//! A latency histogram over the kernel's buckets ([`kvmscope_shared::hist`]), and its quantiles.

use hdrhistogram::Histogram;
use kvmscope_shared::hist::{BUCKETS, bucket_mid};

/// Significant digits of a filled hdrhistogram: 1% on top of a bucket's 11.2%.
const DIGITS: u8 = 2;

/// How many durations fell into each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hist {
    counts: [u64; BUCKETS],
    total: u64,
}

impl Default for Hist {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Hist {
    /// Adds `n` durations to a bucket. A bucket that does not exist counts as the last one.
    pub fn add(&mut self, bucket: usize, n: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(n);
        self.total = self.total.saturating_add(n);
    }

    /// Adds the buckets of a [`crate::model::tick::CellTick`].
    pub fn add_sparse(&mut self, hist: &[(u8, u32)]) {
        for &(bucket, n) in hist {
            self.add(usize::from(bucket), u64::from(n));
        }
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        self.total = self.total.saturating_add(other.total);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Durations in it.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts by bucket.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    /// The same as an hdrhistogram of two significant digits, each bucket by its middle, so that a
    /// quantile of it is within 12.5% of the exact one too. `None` when one cannot be made, which
    /// two digits always can.
    pub fn to_hdr(&self) -> Option<Histogram<u64>> {
        let mut filled = Histogram::new(DIGITS).ok()?;
        for (bucket, &n) in self.counts.iter().enumerate().filter(|&(_, &n)| n > 0) {
            filled.record_n(bucket_mid(bucket), n).ok()?;
        }
        Some(filled)
    }

    /// The duration (ns) below or at which the fraction `q` (0 to 1) of all lie, within 12.5% of
    /// the exact one from 64 ns to 137 s; `None` when it is empty.
    ///
    /// The answer is the middle of the bucket that holds the `ceil(q * total)`-th smallest
    /// duration, held between the smallest and largest seen, `min_ns` and `max_ns`. Walking the
    /// buckets takes 80 ns; filling an hdrhistogram from them ([`Self::to_hdr`]) takes 2.5 µs (`cargo
    /// bench`): right for all the numbers of one reason, too much for a thousand vCPUs each tick.
    pub fn quantile(&self, q: f64, min_ns: u64, max_ns: u64) -> Option<u64> {
        let counts = self.counts.iter().copied().enumerate();
        quantile(counts, self.total, q, min_ns, max_ns)
    }
}

/// As [`Hist::quantile`], of the buckets of a [`crate::model::tick::CellTick`].
pub fn sparse_quantile(hist: &[(u8, u32)], q: f64, min_ns: u64, max_ns: u64) -> Option<u64> {
    let counts = hist.iter().map(|&(bucket, n)| (usize::from(bucket), u64::from(n)));
    let total = counts.clone().map(|(_, n)| n).sum();
    quantile(counts, total, q, min_ns, max_ns)
}

/// Walks ascending (bucket, count) to the bucket that holds the wanted rank.
fn quantile(
    counts: impl Iterator<Item = (usize, u64)>,
    total: u64,
    q: f64,
    min_ns: u64,
    max_ns: u64,
) -> Option<u64> {
    if total == 0 {
        return None;
    }
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut seen = 0u64;
    for (bucket, n) in counts {
        seen = seen.saturating_add(n);
        if seen >= rank {
            return Some(bucket_mid(bucket).max(min_ns).min(max_ns.max(min_ns)));
        }
    }
    Some(max_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvmscope_shared::hist::bucket_of;
    use proptest::prelude::*;

    fn of(times: &[u64]) -> Hist {
        let mut hist = Hist::default();
        times.iter().for_each(|&ns| hist.add(bucket_of(ns), 1));
        hist
    }

    fn exact(sorted: &[u64], q: f64) -> u64 {
        let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    #[test]
    fn empty_has_no_quantile() {
        assert_eq!(Hist::default().quantile(0.5, 0, 0), None);
    }

    #[test]
    fn one_value_is_answered_exactly() {
        for ns in [0, 63, 64, 12_345, 200_000_000_000] {
            assert_eq!(of(&[ns]).quantile(0.99, ns, ns), Some(ns));
        }
    }

    #[test]
    fn a_bucket_that_does_not_exist_is_the_last() {
        let mut hist = Hist::default();
        hist.add(usize::MAX, 1);
        assert_eq!(hist.counts()[BUCKETS - 1], 1);
    }

    /// Durations from 64 ns to a minute, evenly over the powers of two.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let one = (6u32..36, any::<u64>()).prop_map(|(log2, rest)| {
            ((1 << log2) | (rest & ((1 << log2) - 1))).min(60_000_000_000)
        });
        prop::collection::vec(one, 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_an_eighth(mut times in times(), q in 0.0f64..=1.0) {
            times.sort_unstable();
            let (min, max) = (times[0], times[times.len() - 1]);
            let answer = of(&times).quantile(q, min, max).expect("not empty") as f64;
            let exact = exact(&times, q) as f64;
            prop_assert!((answer - exact).abs() <= exact * 0.125, "{answer} for {exact}");
        }

        #[test]
        fn merging_is_adding(a in times(), b in times()) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        /// Walking the buckets answers as hdrhistogram does.
        #[test]
        fn hdrhistogram_agrees(times in times(), q in 0.0f64..=1.0) {
            let ours = of(&times);
            let theirs = ours.to_hdr().expect("two digits");
            let answer = ours.quantile(q, 0, u64::MAX).expect("not empty");
            prop_assert!(theirs.equivalent(answer, theirs.value_at_quantile(q)));
        }
    }
}
