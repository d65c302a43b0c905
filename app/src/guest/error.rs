//! Why a guest could not be run, as sentences.

/// Why there is no result. What to answer with (the exit status) depends on which it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other.
    #[error("{0}")]
    Usage(String),
    /// This host, or this user on it, cannot run guests.
    #[error("{0}")]
    NotPossible(String),
    /// It began and went wrong.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The process's exit status: 2 wrong arguments, 3 not possible here, 1 failed.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NotPossible(_) => 3,
            Self::Failed(_) => 1,
        }
    }

    /// `/dev/kvm` could not be opened, with this errno.
    pub(super) fn open_kvm(errno: i32) -> Self {
        Self::NotPossible(match errno {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => {
                "there is no KVM here (/dev/kvm does not exist); load kvm_intel or kvm_amd, and \
                 in a virtual machine turn nested virtualization on"
                    .to_owned()
            }
            libc::EACCES | libc::EPERM => {
                "/dev/kvm may not be opened by this user; become root, or join the device's \
                 group (usually the group kvm)"
                    .to_owned()
            }
            libc::EBUSY => {
                "/dev/kvm is busy: another hypervisor holds the processor's virtualization"
                    .to_owned()
            }
            _ => format!("/dev/kvm could not be opened: {}", reason(errno)),
        })
    }

    /// KVM refused to create the VM.
    pub(super) fn create_vm(errno: i32) -> Self {
        Self::NotPossible(match errno {
            libc::EBUSY => "KVM refused to create a VM: another hypervisor holds the processor's \
                 virtualization; stop it first"
                .to_owned(),
            libc::EPERM | libc::EACCES => "KVM refused to create a VM for this user; look at the \
                 security module's log, or try as root"
                .to_owned(),
            _ => format!("KVM refused to create a VM: {}", reason(errno)),
        })
    }

    /// A step of setting a guest up failed.
    pub(super) fn setup(step: &str, errno: i32) -> Self {
        Self::Failed(format!("KVM refused to {step}: {}", reason(errno)))
    }
}

/// The system's text for an errno.
pub(super) fn reason(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_said() {
        let text = |error: Error| error.to_string();
        assert!(text(Error::open_kvm(libc::ENOENT)).contains("load kvm_intel or kvm_amd"));
        assert!(text(Error::open_kvm(libc::EACCES)).contains("group kvm"));
        assert!(text(Error::create_vm(libc::EBUSY)).contains("another hypervisor"));
        assert!(text(Error::setup("add a vCPU", libc::ENOMEM)).contains("memory"));
    }

    #[test]
    fn exit_statuses_are_those_of_the_program() {
        assert_eq!(Error::Usage(String::new()).exit_status(), 2);
        assert_eq!(Error::open_kvm(libc::ENOENT).exit_status(), 3);
        assert_eq!(Error::setup("add a vCPU", libc::ENOMEM).exit_status(), 1);
    }
}
