//! `/proc/TID/schedstat`: how long a thread ran and how long it waited for a CPU.
//!
//! `proc_pid_schedstat`, fs/proc/base.c: time on a CPU (ns), `run_delay` (ns), number of timeslices.
//! All zero where the kernel keeps none (`sched_info_on`: neither CONFIG_SCHEDSTATS nor delay
//! accounting); missing without CONFIG_SCHED_INFO.

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Schedstat {
    /// Time on a CPU, ns.
    pub cpu_ns: u64,
    /// Time spent runnable on a run queue, preempted or just woken up, ns. A wait that goes on is
    /// not in it yet.
    pub run_delay_ns: u64,
}

/// Said where the kernel keeps none.
pub const MISSING: &str = "This kernel does not tell how long a thread waits for a CPU after it was woken up \
     (no /proc/PID/schedstat, or only zeros in it: CONFIG_SCHEDSTATS is off). That wait counts as \
     halted; waiting after a preemption is still told apart.";

/// Parses the file; `None` when it is not one.
pub fn parse(text: &str) -> Option<Schedstat> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(cpu_ns)), Some(Ok(run_delay_ns)), Some(Ok(_))) => {
            Some(Schedstat { cpu_ns, run_delay_ns })
        }
        _ => None,
    }
}

/// Reads that of a thread; `None` when it ended or the kernel has none.
pub fn read(tid: u32) -> Option<Schedstat> {
    parse(&std::fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?)
}

/// Whether the kernel keeps it, by the file of a thread that has run.
pub fn is_kept(of_this_process: Option<Schedstat>) -> bool {
    of_this_process.is_some_and(|stat| stat.cpu_ns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_three_numbers() {
        let stat = Schedstat { cpu_ns: 168_724, run_delay_ns: 5_855_945 };
        assert_eq!(parse("168724 5855945 2\n"), Some(stat));
        for text in ["", "1 2", "a 2 3", "1 b 3", "-1 2 3", "1 2 x"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_kernel_without_it_is_known_by_its_zeros() {
        assert!(is_kept(parse("168724 0 2")));
        assert!(!is_kept(parse("0 0 0")));
        assert!(!is_kept(None));
    }
}
