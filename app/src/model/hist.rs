//! A latency histogram over the kernel's buckets ([`kvmscope_shared::hist`]), and its quantiles.

use kvmscope_shared::hist::{BUCKETS, bucket_mid};

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

    /// The duration (ns) below or at which the fraction `q` (0 to 1) of all lie, within 12.5% of
    /// the exact one from 64 ns to 137 s; `None` when it is empty.
    ///
    /// The answer is the middle of the bucket that holds the `ceil(q * total)`-th smallest
    /// duration, held between the smallest and largest seen, `min_ns` and `max_ns`.
    pub fn quantile(&self, q: f64, min_ns: u64, max_ns: u64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((q * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0u64;
        for (bucket, &n) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(n);
            if seen >= rank {
                return Some(bucket_mid(bucket).max(min_ns).min(max_ns.max(min_ns)));
            }
        }
        Some(max_ns)
    }
}
