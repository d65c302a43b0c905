//! Finding out that a backend does not fire `kvm_exit`.

use serde::Serialize;

/// Userspace exits that no `kvm_exit` came before, until the backend is called silent.
const ENOUGH_EXITS: u64 = 8;
/// Time on a CPU inside KVM_RUN that has to go with them, ns: less may be KVM_RUN refusing.
const SOME_RUN_NS: u64 = 1_000_000;
/// Time on a CPU inside KVM_RUN that is enough by itself, ns. A host's timer tick alone makes an
/// exit every few milliseconds while a guest runs.
const ENOUGH_RUN_NS: u64 = 1_000_000_000;

/// A backend whose vCPUs run without a single `kvm_exit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SilentBackend {
    /// The backend, as [`super::Backend::word`] says it.
    pub backend: String,
    /// Userspace exits seen, without INTR.
    pub userspace_exits: u64,
    /// Time that vCPUs were on a CPU inside KVM_RUN meanwhile, ns.
    pub in_run_ns: u64,
}

impl SilentBackend {
    /// From what was counted over all vCPUs since the start; see [`silent_backend`].
    pub fn detect(
        backend: &str,
        userspace_exits: u64,
        kvm_exits: u64,
        in_run_ns: u64,
    ) -> Option<Self> {
        silent_backend(userspace_exits, kvm_exits, in_run_ns).then(|| Self {
            backend: backend.to_owned(),
            userspace_exits,
            in_run_ns,
        })
    }

    /// The sentence for a banner: what, what it costs, and what is shown instead.
    pub fn sentence(&self) -> String {
        format!(
            "kvm_exit stays silent on this host's KVM backend ({}): {} userspace exits in {} ms \
             of KVM_RUN, and no kernel exit. Only userspace exits are shown, and time in the \
             guest cannot be told from time in KVM.",
            self.backend,
            self.userspace_exits,
            self.in_run_ns / 1_000_000,
        )
    }
}

/// Whether the counts of all vCPUs since the start say that `kvm_exit` does not fire here, though
/// its probe is attached.
///
/// `userspace_exits_seen` is without INTR (a signal makes that one before the guest was entered);
/// `vcpu_in_run_ns` is time on a CPU inside KVM_RUN, not time asleep in it. One `kvm_exit` is
/// enough to say no, so a later call may take an earlier answer back: a processor without
/// unrestricted guest mode has its first real-mode code emulated, without an exit.
pub fn silent_backend(userspace_exits_seen: u64, kvm_exits_seen: u64, vcpu_in_run_ns: u64) -> bool {
    let many = userspace_exits_seen >= ENOUGH_EXITS && vcpu_in_run_ns >= SOME_RUN_NS;
    kvm_exits_seen == 0 && (many || vcpu_in_run_ns >= ENOUGH_RUN_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn running_without_exits_is_silent() {
        assert!(silent_backend(15_000, 0, 600 * MS), "a guest that talks to its VMM");
        assert!(silent_backend(8, 0, MS), "as soon as it can be known");
        assert!(silent_backend(0, 0, 1_000 * MS), "a guest that computes");
    }

    #[test]
    fn one_exit_is_enough_to_speak() {
        assert!(!silent_backend(15_000, 1, 600 * MS));
        assert!(!silent_backend(0, 1, 100_000 * MS));
    }

    #[test]
    fn little_is_not_enough_to_say() {
        assert!(!silent_backend(0, 0, 0), "no VM");
        assert!(!silent_backend(7, 0, 900 * MS));
        assert!(!silent_backend(500, 0, MS / 2), "KVM_RUN that refuses at once");
    }

    #[test]
    fn the_sentence_has_the_numbers() {
        let silent = SilentBackend::detect("pvm", 15_000, 0, 600 * MS).expect("silent");
        let sentence = silent.sentence();
        assert!(sentence.contains("(pvm): 15000 userspace exits in 600 ms"), "{sentence}");
        assert_eq!(SilentBackend::detect("vmx", 15_000, 1, 600 * MS), None);
    }
}
