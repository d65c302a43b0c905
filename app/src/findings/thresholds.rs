//! From where on something stands out. Every number has its unit in its name.

/// Declares [`Thresholds`], their names in the configuration, their bounds and what they mean in
/// one place.
macro_rules! thresholds {
    ($($(#[doc = $doc:literal])+ $field:ident $key:literal = $default:literal, up to $most:literal;)+) => {
        /// From where on something stands out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Thresholds {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// Every threshold, in the order of the configuration.
        pub const TABLE: &[Threshold] = &[$(Threshold {
            key: $key,
            default: $default,
            most: $most,
            help: concat!($($doc),+),
            of: |thresholds| &mut thresholds.$field,
        },)+];
    };
}

/// One threshold as the configuration knows it.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// Its name in section `[findings]`, unit at the end.
    pub key: &'static str,
    /// Its value where none is configured.
    pub default: u64,
    /// The largest that is accepted; the least is 1, as at 0 everything would stand out.
    pub most: u64,
    /// What it means.
    pub help: &'static str,
    of: fn(&mut Thresholds) -> &mut u64,
}

impl Threshold {
    /// Sets it; `false` where the value is out of bounds.
    pub fn set(&self, thresholds: &mut Thresholds, value: i64) -> bool {
        match u64::try_from(value) {
            Ok(value) if (1..=self.most).contains(&value) => {
                *(self.of)(thresholds) = value;
                true
            }
            _ => false,
        }
    }
}

thresholds! {
    /// A VM counts as idle when its vCPUs are in the guest at most this share of their time.
    idle_guest_percent "idle-guest-percent" = 10, up to 100;
    /// Halt polling and HLT handling of an idle VM, as a share of one CPU.
    idle_polling_cpu_percent "idle-polling-cpu-percent" = 10, up to 100_000;
    /// Accesses of an idle VM to one clock (PM timer, HPET, RTC, PIT).
    clock_accesses_per_second "clock-accesses-per-second" = 500, up to 1_000_000_000;
    /// A vCPU's wait for a CPU, as a share of its time.
    waiting_percent "waiting-percent" = 10, up to 100;
    /// PAUSE exits of a VM.
    pause_exits_per_second "pause-exits-per-second" = 1_000, up to 1_000_000_000;
    /// Mean time in the VMM of an exit about one port or address.
    device_mean_us "device-mean-us" = 1_000, up to 1_000_000_000;
    /// The same exits' time in the VMM, as a share of the vCPU's time.
    device_percent "device-percent" = 5, up to 100;
    /// Writes of one vCPU to TSC_DEADLINE.
    timer_writes_per_second "timer-writes-per-second" = 5_000, up to 1_000_000_000;
    /// Exits of one vCPU for sending interrupts to others (ICR).
    ipi_exits_per_second "ipi-exits-per-second" = 5_000, up to 1_000_000_000;
    /// Exits of one vCPU for ending interrupts (EOI).
    eoi_exits_per_second "eoi-exits-per-second" = 5_000, up to 1_000_000_000;
    /// Faults of one vCPU on one page that has nearly all of its faults.
    page_faults_per_second "page-faults-per-second" = 1_000, up to 1_000_000_000;
    /// Exits of one vCPU at one instruction that has nearly all of its exits.
    same_instruction_exits_per_second "same-instruction-exits-per-second" = 1_000, up to 1_000_000_000;
    /// A vCPU counts as stuck when one thing takes at least so long.
    stuck_seconds "stuck-seconds" = 5, up to 86_400;
    /// Entries of a VM into guests of its own.
    nested_entries_per_second "nested-entries-per-second" = 100, up to 1_000_000_000;
    /// A vCPU's time that no event accounts for, as a share of its time.
    unaccounted_percent "unaccounted-percent" = 1, up to 100;
    /// Moves of one vCPU to a CPU of another NUMA node.
    node_crossings_per_second "node-crossings-per-second" = 10, up to 1_000_000_000;
    /// Moves of one vCPU to another CPU.
    migrations_per_second "migrations-per-second" = 500, up to 1_000_000_000;
    /// Interrupts and exceptions that were put into one vCPU again, as it had left the guest before it took them.
    reinjections_per_second "reinjections-per-second" = 1_000, up to 1_000_000_000;
    /// Mean lateness of one vCPU's late timers, in ticks of the guest's TSC.
    late_timer_ticks "late-timer-ticks" = 1_000_000, up to 1_000_000_000_000;
    /// Late timers of one vCPU that make a mean worth looking at.
    late_timers_per_second "late-timers-per-second" = 10, up to 1_000_000_000;
    /// CPU time of a VMM's other threads, where they use more than the vCPUs, as a share of one CPU.
    other_threads_cpu_percent "other-threads-cpu-percent" = 20, up to 100_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_defaults_are() {
        let mut thresholds = Thresholds::default();
        for threshold in TABLE {
            assert_eq!(*(threshold.of)(&mut thresholds), threshold.default, "{}", threshold.key);
            let unit = ["-percent", "-per-second", "-us", "-seconds", "-ticks"];
            assert!(unit.iter().any(|unit| threshold.key.ends_with(unit)), "{}", threshold.key);
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_and_changes_nothing() {
        for threshold in TABLE {
            let mut thresholds = Thresholds::default();
            let most = i64::try_from(threshold.most).expect("a sane bound");
            for wrong in [-1, 0, most + 1] {
                assert!(!threshold.set(&mut thresholds, wrong), "{} {wrong}", threshold.key);
            }
            assert_eq!(thresholds, Thresholds::default());
            assert!(threshold.set(&mut thresholds, most));
            assert_eq!(*(threshold.of)(&mut thresholds), threshold.most);
        }
    }

    #[test]
    fn every_threshold_is_documented() {
        let text = include_str!("../../../docs/findings.md");
        for threshold in TABLE {
            assert!(text.contains(&format!("`{}`", threshold.key)), "{}", threshold.key);
        }
    }
}
