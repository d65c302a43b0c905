//! What is fixed for a session: the host, the names, the probes.

use super::ids::{Isa, Kind, Reason};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where the numbers come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Origin {
    /// This host, now.
    #[default]
    Live,
    /// Invented, and why the real thing is not shown: sentences for a banner, and the command
    /// that would show it.
    Synthetic {
        /// Why.
        why: String,
        /// What to run instead.
        command: String,
    },
}

/// Everything that a screen or a report needs to know before the first tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Session {
    /// Where the numbers come from.
    pub origin: Origin,
    /// The host.
    pub host: Host,
    /// Names of exit reasons as this kernel prints them.
    pub names: ReasonNames,
    /// The probes and whether they are attached.
    pub probes: Vec<ProbeStatus>,
    /// Whether KVM may let the processor deliver interrupts (APICv, AVIC: the vendor module's parameter);
    /// `None` where that is not told.
    pub apicv: Option<bool>,
    /// Names of the bits of [`super::detail::VmTick::apicv_inhibits`], of those that the kernel tells.
    pub apicv_reasons: BTreeMap<u32, String>,
    /// Things the person should know (a backend whose `kvm_exit` is silent, say): sentences.
    pub notices: Vec<String>,
    /// Start of the session, ns of the probes' clock (CLOCK_MONOTONIC).
    pub started_ns: u64,
    /// The same moment, ns since the Unix epoch.
    pub started_unix_ns: u64,
}

impl Session {
    /// Wall time (ns since the Unix epoch) of a moment of the probes' clock.
    pub fn unix_ns(&self, mono_ns: u64) -> u64 {
        self.started_unix_ns.saturating_add(mono_ns).saturating_sub(self.started_ns)
    }

    /// What inhibits APIC virtualization, from [`super::detail::VmTick::apicv_inhibits`]: each bit that is set,
    /// with its name where that is known.
    pub fn inhibits(&self, bits: u64) -> impl Iterator<Item = (u32, Option<&str>)> {
        let set = (0..u64::BITS).filter(move |bit| bits >> bit & 1 != 0);
        set.map(|bit| (bit, self.apicv_reasons.get(&bit).map(String::as_str)))
    }

    /// Whether some probe of a family is attached. A probe of several families is in the list once for each.
    pub fn has(&self, family: &str) -> bool {
        self.probes.iter().any(|probe| probe.attached && probe.family == family)
    }
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// KVM's backend: "vmx", "svm", "pvm", or "none".
    pub backend: String,
    /// CPUs online.
    pub cpus: u32,
}

/// One probe: an eBPF program and its hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ProbeStatus {
    /// Its hook, as the kernel names it ("kvm:kvm_exit").
    pub name: String,
    /// The family it belongs to ("exit", "userspace", "sched").
    pub family: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Why not, in a sentence, with what it costs and what to do.
    pub why: Option<String>,
    /// How it is attached ("tracepoint", "raw tracepoint", "tp_btf").
    pub how: String,
}

/// How the reason of a probe begins that is not attached because nobody asked for it.
pub const OFF: &str = "off; ";

impl ProbeStatus {
    /// Whether it is not attached because nobody asked for it, which is nothing to warn of.
    pub fn is_off(&self) -> bool {
        !self.attached && self.why.as_ref().is_some_and(|why| why.starts_with(OFF))
    }
}

/// Names of exit reasons: the running kernel's own (from the tracepoint's `print fmt`) over a
/// built-in table. In upper case, without the kernel's prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReasonNames {
    /// Intel VMX.
    pub vmx: BTreeMap<u32, String>,
    /// AMD SVM.
    pub svm: BTreeMap<u32, String>,
    /// `KVM_EXIT_*`.
    pub userspace: BTreeMap<u32, String>,
}

impl ReasonNames {
    /// The name of a reason; an unknown code is its number ("0x20000"; userspace codes decimal).
    pub fn name(&self, reason: Reason) -> Cow<'_, str> {
        let table = match (reason.kind, reason.isa) {
            (Kind::Userspace, _) => &self.userspace,
            (Kind::Exit, Isa::Svm) => &self.svm,
            (Kind::Exit, _) => &self.vmx,
        };
        match table.get(&reason.code) {
            Some(name) => Cow::Borrowed(name),
            None if reason.kind == Kind::Userspace => Cow::Owned(reason.code.to_string()),
            None => Cow::Owned(format!("{:#x}", reason.code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_on_where_one_of_its_probes_is_attached() {
        let probe = |family: &str, attached| ProbeStatus {
            family: family.to_owned(),
            attached,
            ..ProbeStatus::default()
        };
        let probes = vec![
            probe("exit", true),
            probe("detail", true),
            probe("mmu", true),
            probe("roots", false),
        ];
        let session = Session { probes, ..Session::default() };
        assert!(session.has("mmu") && session.has("detail"));
        assert!(!session.has("roots") && !session.has("dirty"));
    }
}
