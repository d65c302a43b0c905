//! The recording that is shown where no guest can be watched. It is part of the program.

use crate::model::session::Session;
use crate::record::{ReadError, Recording};
use crate::source::replay::Replay;
use crate::state::{Limits, Sample};
use std::fs::File;
use std::io::Write as _;

/// Made by `tests/rigs/sample`.
const BYTES: &[u8] = include_bytes!("../../../../assets/sample.kvmscope");
/// What the rig is: times in it are an emulator's.
const EMULATED: &str = "emulated";

/// Opens it. It goes round: whoever looks at a demo expects it to go on.
pub(super) fn open() -> Result<Replay, ReadError> {
    Ok(Replay::file(recording()?, Limits::default().window).again())
}

/// Recordings are read from files; this one is in memory.
fn recording() -> Result<Recording, ReadError> {
    let fd = rustix::fs::memfd_create("kvmscope-sample", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(fd.map_err(std::io::Error::from)?);
    file.write_all(BYTES)?;
    Recording::of(file)
}

/// What is to be said of it.
pub(super) fn said(session: &Session, why: String, command: String) -> Sample {
    let host = &session.host;
    let version: String =
        host.kernel.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let backend = host.backend.to_uppercase();
    Sample { of: format!("test guests on Linux {version}, {backend}, {EMULATED}"), why, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Item, Stream};

    /// Bytes that every program carries, and every copy of the repository.
    const MOST: usize = 500_000;

    #[test]
    fn it_is_whole_small_and_about_several_vms() {
        let recording = recording().expect("it can be read");
        assert!(BYTES.len() < MOST, "{} bytes", BYTES.len());
        assert!(recording.end().clean && recording.gaps().is_empty());
        let length = (recording.end_ns() - recording.start_ns()) / 1_000_000_000;
        assert!((60..=150).contains(&length), "{length} s");
        assert!(recording.ticks() >= 30, "{} ticks: the machine was too busy", recording.ticks());
        let session = recording.session();
        let attached = |family: &str| session.has(family);
        for family in ["exit", "userspace", "sched", "halt-poll", "detail", "culprits", "mmu"] {
            assert!(attached(family), "{family}");
        }
        for family in ["mmio", "dirty", "roots", "hypercall", "ioctl"] {
            assert!(attached(family), "{family}");
        }
        let marks: Vec<&str> = recording.marks().iter().map(|mark| mark.text.as_str()).collect();
        assert_eq!(marks, ["backup begins", "backup ends"]);
        let sums = recording.sums(0, u64::MAX).expect("it can be read");
        assert_eq!(sums.totals.vms.len(), 5);
        assert_eq!((sums.totals.lost.sum(), sums.totals.lost_ticks), (0, 0));
        assert!(sums.totals.vms.values().any(|vm| vm.ended_ns.is_some()), "a VM comes and goes");
        let said = said(session, String::new(), String::new());
        assert!(said.of.starts_with("test guests on Linux 6.12.") && said.of.contains(", SVM, "));
    }

    #[test]
    fn nothing_in_it_tells_where_it_was_made() {
        let mut stream = Stream::new(BYTES).expect("a recording");
        let mut said = String::new();
        loop {
            let item = stream.next().expect("it can be read");
            said += &format!("{item:?}\n");
            if let Item::Session(session) = &item {
                assert_eq!(session.host.name, "rig");
            }
            if matches!(item, Item::End(_)) {
                break;
            }
        }
        // The rig has a name, an account and programs of its own.
        for folder in ["home", "root", "usr"].map(|folder| format!("/{folder}/")) {
            assert!(!said.contains(&folder), "{folder}");
        }
        for built in ["target/", "kvmscope/"] {
            assert!(!said.contains(built), "{built}");
        }
        // Nor is there any other path than those that every host has.
        let words = said.split(|c: char| c.is_whitespace() || "\"'`=(,".contains(c));
        let paths = words.filter(|word| word.starts_with('/') && word.len() > 1);
        let own: Vec<&str> = paths
            .filter(|path| ["/proc/", "/sys/", "/dev/"].iter().all(|at| !path.starts_with(at)))
            .collect();
        assert_eq!(own, Vec::<&str>::new());
    }
}
