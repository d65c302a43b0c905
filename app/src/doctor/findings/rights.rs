//! Findings about what this process may do.

use super::{Finding, Severity};
use crate::doctor::facts::{Capability, Facts, Lockdown};

/// Locked memory that the maps of a middling host take, bytes.
const ENOUGH_MEMLOCK: u64 = 256 << 20;

pub fn findings(facts: &Facts, bad: Severity, attached: bool) -> Vec<Finding> {
    let mut found = vec![load(facts, bad)];
    found.extend(ptrace(facts));
    found.extend(paranoid(facts, attached));
    found.extend(unprivileged(facts));
    found.extend(lockdown(facts, bad));
    found.extend(memlock(facts, bad));
    found.extend(namespace(facts));
    found
}

/// Whether BPF maps count against the limit of locked memory (until 5.11 they did).
fn counts_memlock(facts: &Facts) -> bool {
    facts.version() < (5, 11)
}

/// The command that gives the program what it needs, once and for all.
fn setcap(facts: &Facts) -> String {
    let old = if counts_memlock(facts) { ",cap_sys_resource" } else { "" };
    format!(
        "sudo setcap cap_bpf,cap_perfmon,cap_dac_read_search,cap_sys_ptrace{old}+ep {}",
        quoted(&facts.program)
    )
}

/// A path as a shell takes it.
pub fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

fn load(facts: &Facts, bad: Severity) -> Finding {
    if facts.may_load() {
        return Finding::new("rights", Severity::Ok, "This process may load and attach probes.");
    }
    let costs = "No probe can be attached.";
    if !facts.initial_userns {
        return Finding::new(
            "rights",
            bad,
            "This process is in a user namespace (a rootless container): root there has no right to probe the host's kernel.",
        )
        .costs(costs)
        .todo("Run it on the host itself.");
    }
    let lacks = [(Capability::Bpf, "CAP_BPF"), (Capability::Perfmon, "CAP_PERFMON")];
    let names: Vec<&str> =
        lacks.iter().filter(|(cap, _)| !facts.has(*cap)).map(|&(_, name)| name).collect();
    Finding::new("rights", bad, format!("This process lacks {}.", names.join(" and ")))
        .costs(costs)
        .todo("Run it as root (sudo), or give the program the capabilities once:")
        .command(setcap(facts))
}

fn ptrace(facts: &Facts) -> Option<Finding> {
    if facts.has(Capability::SysPtrace) && facts.initial_userns {
        return None;
    }
    let finding = Finding::new("rights-proc", Severity::Note, "This process lacks CAP_SYS_PTRACE.")
        .costs("Files of other users' processes cannot be seen: `--pid` cannot tell beforehand whether a process holds a VM, and a VM's program may not be known.");
    // Where loading is refused too, the remedy for that gives this right as well.
    Some(if facts.may_load() {
        finding.todo("Run it as root, or give the program the capability:").command(setcap(facts))
    } else {
        finding
    })
}

fn paranoid(facts: &Facts, attached: bool) -> Option<Finding> {
    let level = facts.perf_event_paranoid?;
    let what = format!("kernel.perf_event_paranoid is {level}");
    let fine = if level <= 2 {
        Some("which lets CAP_PERFMON through")
    } else if facts.has(Capability::SysAdmin) || attached {
        Some("which does not keep this process out")
    } else {
        None
    };
    if let Some(fine) = fine {
        let what = format!("{what}, {fine}.");
        return Some(Finding::new("perf-event-paranoid", Severity::Ok, what));
    }
    Some(
        Finding::new(
            "perf-event-paranoid",
            Severity::Warning,
            format!("{what}: above 2, kernels of some distributions let only CAP_SYS_ADMIN open perf events."),
        )
        .costs("kvm_exit may be refused in spite of CAP_PERFMON.")
        .todo("Run it as root, or lower the setting.")
        .command("sudo sysctl kernel.perf_event_paranoid=2"),
    )
}

fn unprivileged(facts: &Facts) -> Option<Finding> {
    let value = facts.unprivileged_bpf_disabled?;
    let what = format!(
        "kernel.unprivileged_bpf_disabled is {value}, which does not matter: kvmscope needs CAP_BPF anyway."
    );
    Some(Finding::new("unprivileged-bpf", Severity::Ok, what))
}

fn lockdown(facts: &Facts, bad: Severity) -> Option<Finding> {
    match facts.lockdown {
        Lockdown::Unknown => None,
        Lockdown::None => Some(Finding::new("lockdown", Severity::Ok, "Lockdown is off.")),
        Lockdown::Integrity => Some(Finding::new(
            "lockdown",
            Severity::Ok,
            "Lockdown is \"integrity\", which lets these probes through.",
        )),
        Lockdown::Confidentiality => Some(
            Finding::new("lockdown", bad, "Lockdown is \"confidentiality\": BPF may not read the kernel's memory, and tracefs is closed.")
                .costs("kvm_exit cannot be read.")
                .todo("Boot with lockdown=integrity, if your rules allow it."),
        ),
    }
}

fn memlock(facts: &Facts, bad: Severity) -> Option<Finding> {
    let limit = facts.memlock.filter(|_| counts_memlock(facts))?;
    if limit >= ENOUGH_MEMLOCK || facts.has(Capability::SysResource) {
        return None;
    }
    Some(
        Finding::new(
            "memlock",
            bad,
            format!(
                "Only {} KiB may be locked, and before Linux 5.11 BPF maps count as locked memory.",
                limit / 1024
            ),
        )
        .costs("The probes' maps do not fit.")
        .todo("Raise the limit before starting kvmscope, as root:")
        .command("ulimit -l unlimited"),
    )
}

fn namespace(facts: &Facts) -> Option<Finding> {
    if facts.initial_pidns {
        return None;
    }
    Some(
        Finding::new(
            "pid-namespace",
            Severity::Warning,
            "This process is in a pid namespace of its own (a container).",
        )
        .costs("Probes see the host's pids, /proc shows others: VMs are named by pid alone, or wrongly, and `--pid` takes the host's.")
        .todo("Run it on the host, or in a container with the host's pid namespace (--pid=host)."),
    )
}
