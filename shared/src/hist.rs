//! The latency histogram: log-linear, four sub-buckets per power of two, 64 ns to 137 s.
//!
//! Bucket 0 holds everything below [`FIRST_NS`]; the last one everything from 2^37 ns on. In
//! between a bucket is a quarter of its power of two wide, so answering with the harmonic middle
//! of a bucket is at most 11.2% away from any value in it, whatever the quantile.

/// Number of buckets of one histogram: underflow, 31 octaves of four, overflow.
pub const BUCKETS: usize = 1 + OCTAVES * SUB + 1;
/// Length of a histogram in memory: the next power of two, so that a masked index is in bounds
/// for the verifier.
pub const HIST_LEN: usize = 128;
/// Values below this many nanoseconds share bucket 0.
pub const FIRST_NS: u64 = 1 << FIRST_LOG2;
/// Values from this many nanoseconds on share the last bucket (137 s).
pub const LAST_NS: u64 = 1 << (FIRST_LOG2 + OCTAVES as u32);

const _: () = assert!(BUCKETS <= HIST_LEN);

const FIRST_LOG2: u32 = 6;
const OCTAVES: usize = 31;
const SUB: usize = 4;

/// The bucket of a duration in nanoseconds, always below [`BUCKETS`].
///
/// Written without `leading_zeros`, which BPF has no instruction for: the compiler's expansion of
/// it costs more than this search, whose first steps match what exits really take.
#[inline(always)]
pub fn bucket_of(ns: u64) -> usize {
    if ns < FIRST_NS {
        return 0;
    }
    if ns >= LAST_NS {
        return BUCKETS - 1;
    }
    // ns >> 4 keeps the leading bit and two bits below it for the smallest value, 64.
    let mut v = ns >> 4;
    let mut octave = 0usize;
    if v >= 1 << 18 {
        v >>= 16;
        octave += 16;
    }
    if v >= 1 << 10 {
        v >>= 8;
        octave += 8;
    }
    if v >= 1 << 6 {
        v >>= 4;
        octave += 4;
    }
    if v >= 1 << 4 {
        v >>= 2;
        octave += 2;
    }
    if v >= 1 << 3 {
        v >>= 1;
        octave += 1;
    }
    // Now 4 <= v < 8: its low two bits are the sub-bucket.
    1 + octave * SUB + (v as usize & (SUB - 1))
}

/// Length of [`quick_table`].
pub const QUICK: usize = 256;
/// Where the quick table's answers are exact: below, 64 ns are more than one bucket wide.
const QUICK_FROM: u64 = 256;
const QUICK_LOG2: u32 = 14;
/// 2^6 times longer is as many buckets on.
const QUICK_SHIFT: u32 = 6;
const QUICK_BUCKETS: usize = QUICK_SHIFT as usize * SUB;

/// The bucket of each multiple of 64 ns below 2^14 ns.
pub const fn quick_table() -> [u8; QUICK] {
    let mut table = [0; QUICK];
    let mut i = 1;
    while i < QUICK {
        let octave = i.ilog2();
        // The two bits below the leading one; below four there are fewer, and nobody asks.
        let sub = if octave >= 2 { (i >> (octave - 2)) & (SUB - 1) } else { 0 };
        table[i] = (1 + octave as usize * SUB + sub) as u8;
        i += 1;
    }
    table
}

/// [`bucket_of`] by a table, for 256 ns to 1 ms in a third of its instructions: what exits take.
/// `table` answers with an element of [`quick_table`].
#[inline(always)]
pub fn quick_bucket_of(ns: u64, table: impl Fn(u64) -> u8) -> usize {
    if ns < QUICK_FROM {
        bucket_of(ns)
    } else if ns < 1 << QUICK_LOG2 {
        table(ns >> QUICK_SHIFT) as usize
    } else if ns < 1 << (QUICK_LOG2 + QUICK_SHIFT) {
        table(ns >> (2 * QUICK_SHIFT)) as usize + QUICK_BUCKETS
    } else {
        bucket_of(ns)
    }
}

/// The smallest duration (ns) that falls into bucket `i`; 0 for the first.
pub fn bucket_lo(i: usize) -> u64 {
    match i {
        0 => 0,
        _ if i >= BUCKETS - 1 => LAST_NS,
        _ => {
            let (octave, sub) = ((i - 1) / SUB, ((i - 1) % SUB) as u64);
            (FIRST_NS << octave) + sub * ((FIRST_NS / SUB as u64) << octave)
        }
    }
}

/// One past the largest duration (ns) of bucket `i`; the overflow bucket has no end but `u64::MAX`.
pub fn bucket_hi(i: usize) -> u64 {
    if i >= BUCKETS - 1 { u64::MAX } else { bucket_lo(i + 1) }
}

/// The value (ns) that stands for bucket `i`: the harmonic middle, whose largest relative error is
/// the same at both ends of the bucket. The open buckets answer with their known end.
pub fn bucket_mid(i: usize) -> u64 {
    if i == 0 {
        return FIRST_NS / 2;
    }
    if i >= BUCKETS - 1 {
        return LAST_NS;
    }
    let (lo, hi) = (u128::from(bucket_lo(i)), u128::from(bucket_hi(i)));
    (2 * lo * hi / (lo + hi)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_where_the_text_says() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(63), 0);
        assert_eq!(bucket_of(64), 1);
        assert_eq!(bucket_of(79), 1);
        assert_eq!(bucket_of(80), 2);
        assert_eq!(bucket_of(128), 5);
        assert_eq!(bucket_of(LAST_NS - 1), BUCKETS - 2);
        assert_eq!(bucket_of(LAST_NS), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        const { assert!(LAST_NS > 60_000_000_000, "over a minute") };
    }

    #[test]
    fn the_table_is_right_at_every_edge() {
        let table = quick_table();
        for i in 1..BUCKETS {
            for ns in [bucket_lo(i) - 1, bucket_lo(i)] {
                assert_eq!(quick_bucket_of(ns, |at| table[at as usize]), bucket_of(ns), "{ns}");
            }
        }
    }

    #[test]
    fn buckets_are_contiguous() {
        for i in 0..BUCKETS - 1 {
            assert_eq!(bucket_hi(i), bucket_lo(i + 1));
            assert_eq!(bucket_of(bucket_lo(i)), i);
            assert_eq!(bucket_of(bucket_hi(i) - 1), i);
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(ns in any::<u64>(), shift in 0u32..64) {
            let ns = ns >> shift;
            let i = bucket_of(ns);
            prop_assert!(i < BUCKETS);
            prop_assert!(bucket_lo(i) <= ns && (ns < bucket_hi(i) || i == BUCKETS - 1));
        }

        #[test]
        fn the_table_answers_as_the_search_does(ns in any::<u64>(), shift in 0u32..64) {
            let ns = ns >> shift;
            let table = quick_table();
            prop_assert_eq!(quick_bucket_of(ns, |at| table[at as usize]), bucket_of(ns));
        }

        #[test]
        fn the_middle_is_within_an_eighth(ns in FIRST_NS..LAST_NS, shift in 0u32..31) {
            let ns = (ns >> shift).max(FIRST_NS);
            let mid = bucket_mid(bucket_of(ns)) as f64;
            prop_assert!((mid - ns as f64).abs() / ns as f64 <= 0.1125);
        }
    }
}
