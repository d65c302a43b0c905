//! Token buckets: how many records of a kind one CPU may tell of.

/// Tokens that can be saved up, ns: a token is the time in which one comes.
const SAVED_NS: u64 = 1_000_000_000;

/// Takes a token of `per_second` from a bucket of this CPU, if there is one. The bucket holds what is left,
/// in nanoseconds, and when it was looked at last.
#[inline(always)]
pub fn take(bucket: &mut [u64; 2], per_second: u64, now: u64) -> bool {
    let token = SAVED_NS / per_second;
    let [saved, at] = bucket;
    let since = now.wrapping_sub(*at);
    *at = now;
    // Clocks of two CPUs may differ a little; a step back is a huge number here.
    let come = if since.cast_signed() < 0 { 0 } else { since };
    let tokens = if come > SAVED_NS { SAVED_NS } else { *saved + come };
    let tokens = if tokens > SAVED_NS { SAVED_NS } else { tokens };
    let may = tokens >= token;
    *saved = if may { tokens - token } else { tokens };
    may
}
