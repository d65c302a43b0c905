//! The kernel's own count of an event's fields (a `hist` trigger in tracefs), which knows
//! nothing of kvmscope: what both must agree on.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Hits by the values of the trigger's keys, in the order in which it was given them.
pub type Hist = BTreeMap<Vec<i64>, u64>;

/// Reads the `hist` file of an event: lines `{ KEY: VALUE, KEY: VALUE } hitcount: N`.
///
/// # Errors
/// Where such a line holds something else than numbers.
pub fn parse(text: &str) -> Result<Hist> {
    let mut hist = Hist::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let bad = || format!("not a line of a histogram: {line}");
        let (keys, hits) = line[1..].split_once('}').with_context(bad)?;
        let key = keys
            .split(',')
            .map(|pair| {
                let (_, value) = pair.split_once(':').with_context(bad)?;
                value.trim().parse::<i64>().with_context(bad)
            })
            .collect::<Result<Vec<i64>>>()?;
        let (_, hits) = hits.split_once(':').with_context(bad)?;
        *hist.entry(key).or_default() += hits.trim().parse::<u64>().with_context(bad)?;
    }
    Ok(hist)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# event histogram
#
# trigger info: hist:keys=exit_reason,vcpu_id:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ exit_reason:         96, vcpu_id:          1 } hitcount:          3
{ exit_reason:        123, vcpu_id:          0 } hitcount:       2000

Totals:
    Hits: 2003
    Entries: 2
    Dropped: 0
";

    #[test]
    fn keys_and_hits_are_read() {
        let hist = parse(TEXT).expect("read");
        assert_eq!(hist, Hist::from([(vec![96, 1], 3), (vec![123, 0], 2000)]));
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        assert!(parse("{ exit_reason: [64] npf } hitcount: 3").is_err());
        assert!(parse("{ exit_reason: 64 } hitcount: many").is_err());
    }
}
