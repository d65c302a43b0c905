//! From facts to findings. Pure.

mod host;
mod rights;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::silent::SilentBackend;
use crate::model::session::ProbeStatus;
use crate::source::live::plan::Family;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Costs nothing of what is measured without being asked for.
    Note,
    /// Something is not measured or not known.
    Warning,
    /// Nothing can be measured: exit status 3.
    Blocker,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Blocker => "blocker",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a stable word: for scripts. `docs/doctor.md` lists them.
    pub id: String,
    /// How bad.
    pub severity: Severity,
    /// What was found: a sentence.
    pub what: String,
    /// What is missing because of it: a sentence.
    pub costs: Option<String>,
    /// What to do about it: a sentence.
    pub todo: Option<String>,
    /// The command for it, exactly.
    pub command: Option<String>,
}

/// Id of the finding that the module of KVM is not loaded. The only blocker that may go away by
/// itself: whoever can wait may do so.
pub const KVM_MODULE: &str = "kvm-module";

impl Finding {
    pub(super) fn new(id: &str, severity: Severity, what: impl Into<String>) -> Self {
        let (id, what) = (id.to_owned(), what.into());
        Self { id, severity, what, costs: None, todo: None, command: None }
    }

    pub(super) fn costs(self, costs: impl Into<String>) -> Self {
        Self { costs: Some(costs.into()), ..self }
    }

    pub(super) fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    pub(super) fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

/// Everything there is to say about a host.
///
/// `probes` are the live source's real attempts to load and attach; with an empty slice (none was
/// made) what would stop them is a blocker. What stops only some of them is a warning as soon as
/// one is attached. `silent` is [`SilentBackend::detect`]'s answer, where vCPUs were seen to run.
pub fn findings(
    facts: &Facts,
    probes: &[ProbeStatus],
    silent: Option<SilentBackend>,
) -> Vec<Finding> {
    let attached = probes.iter().any(|probe| probe.attached);
    let bad = if attached { Severity::Warning } else { Severity::Blocker };
    let mut found = Vec::new();
    found.extend(host::kernel(facts));
    found.extend(host::kvm(facts, silent.as_ref()));
    // Rights before tracefs: who lacks both is to be told of rights first.
    found.extend(rights::findings(facts, bad, attached));
    found.extend(host::tracefs(facts, bad));
    found.extend(host::btf(facts));
    found.extend(probes.iter().map(probe));
    if !probes.is_empty() && !attached {
        found.push(
            Finding::new("probes", Severity::Blocker, "None of the probes could be attached.")
                .costs("Nothing can be measured.")
                .todo("Each probe above says why."),
        );
    }
    found
}

/// The finding that makes kvmscope end with status 3, if there is one: the first blocker.
pub fn blocker(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| finding.severity == Severity::Blocker)
}

fn probe(probe: &ProbeStatus) -> Finding {
    let ProbeStatus { name, family, attached, why, how } = probe;
    let id = format!("probe:{name}");
    if *attached {
        let how = if how.is_empty() { String::new() } else { format!(" as {how}") };
        return Finding::new(&id, Severity::Ok, format!("Probe {name} ({family}) attaches{how}."));
    }
    // The reason has its costs and remedies in it.
    let why = why.as_deref().unwrap_or("the kernel did not say why");
    let end = if why.ends_with('.') { "" } else { "." };
    let what = format!("Probe {name} ({family}) does not attach: {why}{end}");
    if is_extra(family) {
        return Finding::new(&id, Severity::Note, what)
            .costs(format!("Only --probes {family} would use it."));
    }
    Finding::new(&id, Severity::Warning, what)
}

/// Whether a family is off unless it is asked for: neither the screen nor a report has it by itself.
fn is_extra(family: &str) -> bool {
    let usual = Family::WATCHED.iter().chain(&Family::REPORTED).chain(&[Family::Base]);
    let is_known = Family::ASKABLE.iter().any(|known| known.name() == family);
    is_known && usual.into_iter().all(|usual| usual.name() != family)
}
