//! What tracefs says about the kernel's tracepoints: record layouts and names.

mod builtin;
mod errno;
pub mod events;
pub mod format;
pub mod handlers;
pub mod ioctl;
pub mod irqchip;
pub mod keys;
pub mod names;
pub mod qualification;
mod symbols;

use format::{Format, FormatError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where tracefs may be mounted: its own place, and below debugfs as before Linux 4.1.
pub const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The command that mounts it.
pub const MOUNT: &str = "sudo mount -t tracefs nodev /sys/kernel/tracing";

/// Why a tracepoint cannot be read. Each is a sentence with what to do.
#[derive(Debug, Error)]
pub enum TraceError {
    /// No tracefs at any of [`PLACES`].
    #[error("tracefs is not mounted; mount it: {MOUNT}")]
    NotMounted,
    /// tracefs is there but this process may not look inside.
    #[error(
        "{} may not be read by this user ({error}); run as root, or give the program \
         CAP_DAC_READ_SEARCH", path.display()
    )]
    Unreadable {
        /// What was refused.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The whole group of events is missing: the module that defines it is not loaded.
    #[error(
        "the kernel has no tracepoints of \"{system}\": its module is not loaded, or it was built without them"
    )]
    SystemMissing {
        /// The group ("kvm").
        system: String,
    },
    /// The group is there, this event is not.
    #[error("this kernel has no tracepoint {system}:{event}")]
    Missing {
        /// The group.
        system: String,
        /// The event.
        event: String,
    },
    /// The file is there and could not be read for another reason.
    #[error("{} could not be read: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not a format.
    #[error("{} does not describe a record: {error}", path.display())]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: FormatError,
    },
}

/// The mounted tracefs of this host.
pub fn find() -> Result<PathBuf, TraceError> {
    find_in(&PLACES.map(PathBuf::from))
}

/// The first of `places` that is a readable tracefs, else why none is.
///
/// Only a refusal at the first place, tracefs's own, counts as "unreadable": a refusal below
/// debugfs says only that debugfs is root's, which it always is.
pub fn find_in(places: &[PathBuf]) -> Result<PathBuf, TraceError> {
    let mut refused = None;
    for (nth, place) in places.iter().enumerate() {
        let events = place.join("events");
        match fs::read_dir(&events) {
            Ok(_) => return Ok(place.clone()),
            Err(error) if is_refusal(&error) && nth == 0 => {
                refused = Some(TraceError::Unreadable { path: events, error });
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or(TraceError::NotMounted))
}

/// Reads `events/SYSTEM/EVENT/format` of a mounted tracefs.
pub fn read_format(tracefs: &Path, system: &str, event: &str) -> Result<Format, TraceError> {
    let group = tracefs.join("events").join(system);
    let path = group.join(event).join("format");
    match fs::read(&path) {
        Ok(bytes) => Format::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|error| TraceError::Garbled { path, error }),
        Err(error) if is_refusal(&error) => Err(TraceError::Unreadable { path, error }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(missing(&group, system, event))
        }
        Err(error) => Err(TraceError::Io { path, error }),
    }
}

/// Says which part of the path is missing.
fn missing(group: &Path, system: &str, event: &str) -> TraceError {
    let events = group.parent().unwrap_or(group);
    if group.is_dir() {
        TraceError::Missing { system: system.to_owned(), event: event.to_owned() }
    } else if events.is_dir() {
        TraceError::SystemMissing { system: system.to_owned() }
    } else {
        // It was there when it was found, and has been unmounted since.
        TraceError::NotMounted
    }
}

fn is_refusal(error: &io::Error) -> bool {
    // EACCES by mode bits; EPERM by lockdown or a security module.
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Formats of real kernels, captured from their tracefs.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::Format;
    use std::path::Path;

    /// Debian's kernels of five releases, and one with the paravirtual backend.
    pub const KERNELS: [&str; 6] =
        [LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_6_18, LINUX_7_2, LINUX_PVM];
    /// Debian 11.
    pub const LINUX_5_10: &str = "5.10.0-46-cloud-amd64";
    /// Debian 12.
    pub const LINUX_6_1: &str = "6.1.0-56-cloud-amd64";
    /// Debian 13.
    pub const LINUX_6_12: &str = "6.12.117+deb13-cloud-amd64";
    /// Debian 13, back-ported.
    pub const LINUX_6_18: &str = "6.18.15+deb13-cloud-amd64";
    /// Debian 14.
    pub const LINUX_7_2: &str = "7.2.13+deb14-cloud-amd64";
    /// With `kvm_pvm` built in.
    pub const LINUX_PVM: &str = "6.18.44-pvm";

    /// The text of a kvm event's format file.
    pub fn text(kernel: &str, event: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata/formats")
            .join(kernel)
            .join("kvm")
            .join(event)
            .join("format");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The same, read.
    pub fn format(kernel: &str, event: &str) -> Format {
        Format::parse(&text(kernel, event)).unwrap_or_else(|e| panic!("{kernel} {event}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracefs_with(event: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events/kvm").join(event);
        fs::create_dir_all(&path).expect("created");
        fs::write(path.join("format"), text).expect("written");
        dir
    }

    #[test]
    fn the_second_place_is_taken_when_the_first_is_an_empty_mount_point() {
        let empty = tempfile::tempdir().expect("a directory");
        let mounted = tracefs_with("kvm_exit", "");
        let places = [empty.path().to_owned(), mounted.path().to_owned()];
        assert_eq!(find_in(&places).expect("found"), mounted.path());
    }

    #[test]
    fn an_empty_mount_point_is_not_mounted_and_the_command_is_said() {
        let empty = tempfile::tempdir().expect("a directory");
        let error = find_in(&[empty.path().to_owned()]).expect_err("nothing there");
        assert!(matches!(error, TraceError::NotMounted));
        assert!(error.to_string().contains(MOUNT));
    }

    #[test]
    fn a_format_is_read() {
        let text = fixtures::text(fixtures::LINUX_6_12, "kvm_exit");
        let tracefs = tracefs_with("kvm_exit", &text);
        let format = read_format(tracefs.path(), "kvm", "kvm_exit").expect("read");
        assert_eq!(format, Format::parse(&text).expect("parses"));
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let tracefs = tracefs_with("kvm_exit", "");
        let error =
            |system, event| read_format(tracefs.path(), system, event).expect_err("missing");
        assert!(matches!(error("kvm", "kvm_entry"), TraceError::Missing { .. }));
        assert!(matches!(error("nvme", "nvme_sq"), TraceError::SystemMissing { .. }));
        let gone = read_format(Path::new("/nonexistent"), "kvm", "kvm_exit").expect_err("gone");
        assert!(matches!(gone, TraceError::NotMounted));
    }

    #[test]
    fn a_garbled_format_names_its_file_and_its_fault() {
        let tracefs = tracefs_with("kvm_exit", "name: kvm_exit\n");
        let error =
            read_format(tracefs.path(), "kvm", "kvm_exit").expect_err("garbled").to_string();
        assert!(error.contains("events/kvm/kvm_exit/format"), "{error}");
        assert!(error.contains("no \"ID:\" line"), "{error}");
    }

    #[test]
    fn a_refusal_says_who_may() {
        let error = TraceError::Unreadable {
            path: PathBuf::from("/sys/kernel/tracing/events"),
            error: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        assert!(error.to_string().contains("run as root"), "{error}");
    }
}
