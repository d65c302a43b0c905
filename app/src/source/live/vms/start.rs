//! When a process started, and whether two of one pid are the same process.

use super::facts::start_ticks;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs;
use std::io;

/// Ticks per second of `/proc/PID/stat` (USER_HZ, 100 on every architecture that KVM runs on).
const USER_HZ: u64 = 100;
const NS: u64 = 1_000_000_000;

/// When a process started, ns since the Unix epoch, to a hundredth of a second.
///
/// Errors: the process is gone, or `/proc` is not mounted.
pub fn read_start_unix_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let ticks = start_ticks(&stat)?;
    let (now, since_boot) = (clock_gettime(ClockId::Realtime), clock_gettime(ClockId::Boottime));
    Ok(start_unix_ns(ticks, ns_of(now), ns_of(since_boot)))
}

/// Wall time of a start, from both clocks at one moment. `btime` of `/proc/stat` is the same
/// difference, but rounded to a second.
fn start_unix_ns(start_ticks: u64, now_unix_ns: u64, now_boot_ns: u64) -> u64 {
    let boot_unix_ns = now_unix_ns.saturating_sub(now_boot_ns);
    boot_unix_ns.saturating_add(start_ticks.saturating_mul(NS / USER_HZ))
}

/// Whether the exact start of a task (ns of CLOCK_BOOTTIME, [`kvmscope_shared::slot::Slot`]'s
/// `start_ns`) and the start in `/proc/PID/stat` (in ticks, rounded down) are the same process's.
/// `None` when the probes could not tell the start (`start_ns` is 0).
///
/// One tick of tolerance costs nothing: a pid is not given away twice within 10 ms. In a time
/// namespace of another boot time `/proc` counts otherwise, and the answer is no.
pub fn same_start(start_ns: u64, start_ticks: u64) -> Option<bool> {
    (start_ns != 0).then(|| (start_ns / (NS / USER_HZ)).abs_diff(start_ticks) <= 1)
}

fn ns_of(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(NS).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_boot_plus_ticks() {
        // Booted at 1000 s, started 2.5 s later.
        assert_eq!(start_unix_ns(250, 1_010 * NS, 10 * NS), 1_002 * NS + NS / 2);
        assert_eq!(start_unix_ns(u64::MAX, u64::MAX, 0), u64::MAX, "saturates");
    }

    #[test]
    fn the_same_process_is_within_a_tick() {
        assert_eq!(same_start(2_509_999_999, 250), Some(true));
        assert_eq!(same_start(2_510_000_000, 250), Some(true), "a tick of tolerance");
        assert_eq!(same_start(2_530_000_000, 250), Some(false));
        assert_eq!(same_start(2_480_000_000, 250), Some(false));
        assert_eq!(same_start(0, 250), None);
    }

    #[test]
    fn this_process_started_before_now() {
        let start = read_start_unix_ns(std::process::id()).expect("own start");
        let now = ns_of(clock_gettime(ClockId::Realtime));
        assert!(start <= now && start > now - 3_600 * NS, "{start} {now}");
    }
}
