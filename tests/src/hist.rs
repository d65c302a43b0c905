//! The kernel's own account of events, which knows nothing of kvmscope: what both must agree
//! on. A count by fields (a `hist` trigger in tracefs), or the trace itself where the kernel
//! is built without such triggers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

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
                // A signed field may be printed as what it is in 64 bits.
                let signed = value.trim().parse::<i64>();
                signed
                    .or_else(|_| value.trim().parse::<u64>().map(u64::cast_signed))
                    .with_context(bad)
            })
            .collect::<Result<Vec<i64>>>()?;
        let (_, hits) = hits.split_once(':').with_context(bad)?;
        *hist.entry(key).or_default() += hits.trim().parse::<u64>().with_context(bad)?;
    }
    Ok(hist)
}

/// Exits in a trace: (upper-case name of the reason, vCPU) to how many.
pub type Traced = BTreeMap<(String, u32), u64>;

/// `KVM_EXIT_INTR`, which the event calls "restart".
const INTR: i64 = 10;

/// Counts `kvm_exit` and `kvm_userspace_exit` in the text of `trace`.
///
/// # Errors
/// Where a line is not understood, or the buffer did not hold every event.
pub fn parse_trace(text: &str) -> Result<(Traced, Hist)> {
    let written = text
        .lines()
        .find_map(|line| line.split_once("entries-in-buffer/entries-written: "))
        .and_then(|(_, counts)| counts.split_whitespace().next()?.split_once('/'))
        .context("not a trace: it does not say how many entries were written")?;
    ensure!(written.0 == written.1, "the trace holds {} of {} entries", written.0, written.1);
    let (mut exits, mut userspace) = (Traced::new(), Hist::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let bad = || format!("not a line of a trace: {line}");
        if let Some((_, event)) = line.split_once(" kvm_exit: vcpu ") {
            let words: Vec<&str> = event.split_whitespace().collect();
            let [vcpu, "reason", reason, ..] = words[..] else { anyhow::bail!(bad()) };
            let vcpu = vcpu.parse::<u32>().with_context(bad)?;
            *exits.entry((reason.to_uppercase(), vcpu)).or_default() += 1;
        } else if let Some((_, event)) = line.split_once(" kvm_userspace_exit: reason ") {
            let code = if event.starts_with("restart") {
                INTR
            } else {
                let (_, code) = event.rsplit_once('(').with_context(bad)?;
                code.trim_end_matches(')').parse::<i64>().with_context(bad)?
            };
            *userspace.entry(vec![code]).or_default() += 1;
        }
    }
    Ok((exits, userspace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_field_may_be_printed_without_its_sign() {
        let hist =
            parse("{ vector: 18446744073709551615 } hitcount:          2\n").expect("is one");
        assert_eq!(hist, Hist::from([(vec![-1], 2)]));
        assert!(parse("{ vector: 18446744073709551616 } hitcount: 2\n").is_err());
    }

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

    const TRACE: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 4/4   #P:2
#
           vcpu0-102     [000] ....     3.377230: kvm_exit: vcpu 0 reason npf rip 0x0 info1 0x4
           vcpu1-103     [000] ....     3.389027: kvm_exit: vcpu 1 reason hlt rip 0x38 info1 0x0
           vcpu1-103     [000] ....     3.389077: kvm_userspace_exit: reason KVM_EXIT_HLT (5)
           vcpu1-103     [000] ....     3.389078: kvm_userspace_exit: reason restart (4)
";

    #[test]
    fn a_trace_is_counted() {
        let (exits, userspace) = parse_trace(TRACE).expect("read");
        assert_eq!(exits, Traced::from([(("HLT".into(), 1), 1), (("NPF".into(), 0), 1)]));
        assert_eq!(userspace, Hist::from([(vec![5], 1), (vec![10], 1)]));
    }

    #[test]
    fn a_trace_that_lost_events_is_an_error() {
        assert!(parse_trace(&TRACE.replace("4/4", "4/5")).is_err());
    }
}
