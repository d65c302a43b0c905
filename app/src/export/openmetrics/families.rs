//! The metrics: names, units and help. What is printed, `docs/export.md` and the dashboard go by this table.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows; its sample ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long something took, in buckets.
    Histogram,
    /// Always 1; what it says is in its labels. Its sample ends in `_info`.
    Info,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, without what its kind adds.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What one of it means.
    pub help: &'static str,
}

impl Family {
    /// What a sample of it ends with.
    pub const fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    /// Its unit, which a name with one ends with.
    pub fn unit(&self) -> Option<&'static str> {
        self.name.ends_with("_seconds").then_some("seconds")
    }

    /// The names that its samples have.
    pub fn samples(&self) -> Vec<String> {
        match self.kind {
            Kind::Histogram => {
                ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", self.name)).to_vec()
            }
            _ => vec![format!("{}{}", self.name, self.suffix())],
        }
    }
}

macro_rules! families {
    ($($(#[$doc:meta])* $id:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $($(#[$doc])* pub const $id: Family = Family { name: $name, kind: Kind::$kind, help: $help };)*
        /// Every metric, in the order in which they are printed.
        pub const ALL: &[Family] = &[$($id),*];
    };
}

families! {
    /// `version`, `backend`, `kernel`, `host`, `origin`.
    BUILD = Info "kvmscope_build", "Version of kvmscope, and what it measures: KVM's backend, the kernel, the host.";
    /// `probe`, `family`.
    PROBE = Gauge "kvmscope_probe_attached", "Whether a probe that was asked for is attached (1) or not (0).";
    /// `cause`.
    LOST = Counter "kvmscope_lost", "What was not measured, by cause; while nothing is added the counts are complete.";
    /// No labels.
    TICKS = Counter "kvmscope_ticks", "Intervals that were measured.";
    /// No labels.
    MEASURED = Counter "kvmscope_measured_seconds", "Time that was measured.";
    /// No labels.
    LAST = Gauge "kvmscope_last_tick_timestamp_seconds", "End of the last interval, since the Unix epoch.";
    /// No labels.
    OWN_CPU = Counter "kvmscope_own_cpu_seconds", "CPU time of kvmscope itself.";
    /// No labels.
    STEAL = Counter "kvmscope_host_steal_seconds", "Time that this host's own hypervisor took from it, over all CPUs.";
    /// No labels.
    SLOW = Counter "kvmscope_slow_exits", "Exits that lasted longer than the threshold of --outlier.";
    /// `what`.
    FOLDED = Gauge "kvmscope_folded", "What has no series of its own and is counted as other: VMs and vCPUs that live, reasons.";
    /// `vm`, `pid`, `vmm`.
    VM = Info "kvmscope_vm", "A VM: the process of its VMM, and which VMM that is.";
    /// `vm`.
    VCPUS = Gauge "kvmscope_vm_vcpus", "vCPUs that live.";
    /// `vm`, `vcpu`, `reason`.
    EXITS = Counter "kvmscope_exits", "Kernel exits: the processor left the guest.";
    /// `vm`, `vcpu`, `reason`.
    USERSPACE_EXITS = Counter "kvmscope_userspace_exits", "Userspace exits: KVM_RUN returned to the VMM. A kernel exit came before each.";
    /// `vm`, `reason`.
    HANDLING = Histogram "kvmscope_exit_handling_seconds", "How long kernel exits were handled on a CPU in KVM, over all vCPUs of a VM.";
    /// `vm`, `reason`.
    OFF_CPU = Counter "kvmscope_exit_off_cpu_seconds", "Time of kernel exits off the CPU inside KVM_RUN: preempted, asleep.";
    /// `vm`, `reason`.
    IN_VMM = Counter "kvmscope_exit_vmm_seconds", "Time of kernel exits outside KVM_RUN, in the VMM.";
    /// `vm`, `reason`.
    DWELL = Histogram "kvmscope_userspace_exit_seconds", "How long vCPUs were outside KVM_RUN for a userspace exit, asleep or not.";
    /// `vm`, `vcpu`, `state`.
    TIME = Counter "kvmscope_vcpu_time_seconds", "Wall time of a vCPU by what it did; the states add up to all of it.";
    /// `vm`, `vcpu`, `how`.
    WAKEUPS = Counter "kvmscope_vcpu_halt_wakeups", "Wake-ups from a halt: while KVM polled, or after sleep.";
    /// `vm`, `vcpu`.
    MIGRATIONS = Counter "kvmscope_vcpu_migrations", "Intervals on another CPU than the one before (family vcpu-load).";
    /// `vm`, `kind`.
    FAULTS = Counter "kvmscope_page_faults", "Page faults of the guest by kind (family mmu).";
    /// `vm`.
    DIRTY = Counter "kvmscope_dirty_pages", "Pages that were written while dirty logging was on (family dirty).";
    /// `vm`.
    OTHERS = Counter "kvmscope_vm_other_threads_cpu_seconds", "CPU time of the threads of a VMM that are no vCPUs.";
    /// `vm`.
    THROTTLED = Counter "kvmscope_vm_throttled_seconds", "Time that a CPU quota of its cgroups stopped the VM.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_keep_the_conventions() {
        let mut names = BTreeSet::new();
        for family in ALL {
            assert!(family.name.starts_with("kvmscope_"), "{}", family.name);
            let sound = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(family.name.chars().all(sound), "{}", family.name);
            for reserved in ["_total", "_info", "_count", "_sum", "_bucket", "_created"] {
                assert!(!family.name.ends_with(reserved), "{}", family.name);
            }
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\', '"']));
            assert!(family.kind != Kind::Histogram || family.unit() == Some("seconds"));
            for sample in family.samples() {
                assert!(names.insert(sample.clone()), "{sample} twice");
            }
        }
    }

    #[test]
    fn every_metric_is_in_the_documentation() {
        let docs = include_str!("../../../../docs/export.md");
        for family in ALL {
            let name = format!("| `{}{}` |", family.name, family.suffix());
            assert!(docs.contains(&name), "{name} is not in docs/export.md");
        }
    }

    /// Every metric that a text names is one that is exported.
    fn named(text: &str) -> BTreeSet<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_name(c)).filter(|word| word.starts_with("kvmscope_"));
        words.map(str::to_owned).collect()
    }

    #[test]
    fn the_dashboard_asks_for_metrics_that_there_are() {
        let text = include_str!("../../../../assets/grafana.json");
        let dashboard: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let samples: BTreeSet<String> = ALL.iter().flat_map(Family::samples).collect();
        let mut asked = BTreeSet::new();
        let panels = dashboard["panels"].as_array().expect("panels");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty(), "{}", panel["title"]);
            for target in targets {
                let names = named(target["expr"].as_str().expect("a question"));
                assert!(!names.is_empty(), "{target}");
                asked.extend(names);
            }
        }
        for variable in dashboard["templating"]["list"].as_array().expect("variables") {
            asked.extend(named(variable["definition"].as_str().unwrap_or_default()));
        }
        let unknown: Vec<&String> = asked.difference(&samples).collect();
        assert!(unknown.is_empty(), "not exported: {unknown:?}");
        // And it shows nearly all that there is.
        assert!(asked.len() >= 20, "{asked:?}");
        let rest = include_str!("../../../../docs/export.md");
        let in_docs: BTreeSet<String> = named(rest);
        let known =
            |name: &String| samples.contains(name) || ALL.iter().any(|family| family.name == name);
        let unknown: Vec<&String> = in_docs.iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "documented and not exported: {unknown:?}");
    }
}
