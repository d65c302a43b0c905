//! What `/proc` says about one process. Reads, and decides nothing.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest part of a command line that is looked at, bytes. libvirt's are some tens of KiB.
const MAX_CMDLINE: u64 = 256 << 10;
/// Most arguments.
const MAX_ARGUMENTS: usize = 4096;
/// Longest part of a `cgroup` file, bytes.
const MAX_CGROUP: u64 = 16 << 10;

/// A process, as `/proc/PID` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProcFacts {
    /// Thread group.
    pub pid: u32,
    /// Name of its leader, at most 15 bytes.
    pub comm: String,
    /// Its command line, program first. Empty for a zombie or a kernel thread.
    pub cmdline: Vec<String>,
    /// Its program, where this process may know (CAP_SYS_PTRACE, or the same user).
    pub exe: Option<PathBuf>,
    /// The text of its `cgroup` file: one line per hierarchy.
    pub cgroup: String,
    /// Its start, in ticks of 10 ms since boot. See [`super::same_start`].
    pub start_ticks: u64,
}

/// Reads the facts of a process. Errors only when it is gone or `/proc` is not there; what is
/// refused or missing beside that stays empty.
pub fn read_facts(pid: u32) -> io::Result<ProcFacts> {
    read_facts_in(Path::new("/proc"), pid)
}

fn read_facts_in(proc: &Path, pid: u32) -> io::Result<ProcFacts> {
    let dir = proc.join(pid.to_string());
    let stat = fs::read(dir.join("stat"))?;
    let cmdline = head(&dir.join("cmdline"), MAX_CMDLINE).unwrap_or_default();
    let cgroup = head(&dir.join("cgroup"), MAX_CGROUP).unwrap_or_default();
    Ok(ProcFacts {
        pid,
        comm: comm(&stat),
        cmdline: arguments(&cmdline),
        exe: fs::read_link(dir.join("exe")).ok(),
        cgroup: String::from_utf8_lossy(&cgroup).into_owned(),
        start_ticks: start_ticks(&stat)?,
    })
}

/// The text of a thread's `cgroup` file.
pub fn read_cgroup(tid: u32) -> io::Result<String> {
    let text = head(&Path::new("/proc").join(tid.to_string()).join("cgroup"), MAX_CGROUP)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn head(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Arguments end with a NUL each; a process may have overwritten them with anything.
fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if text.is_empty() {
        return Vec::new();
    }
    let parts = text.split(|&b| b == 0).take(MAX_ARGUMENTS);
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The name between the first "(" and the last ")": it may hold both, and spaces.
fn comm(stat: &[u8]) -> String {
    let open = stat.iter().position(|&b| b == b'(').map_or(0, |at| at + 1);
    let close = stat.iter().rposition(|&b| b == b')').unwrap_or(open).max(open);
    String::from_utf8_lossy(&stat[open..close]).into_owned()
}

/// Field 22 of `/proc/PID/stat`.
pub(super) fn start_ticks(stat: &[u8]) -> io::Result<u64> {
    let close = stat.iter().rposition(|&b| b == b')');
    let rest = close.and_then(|at| stat.get(at + 1..)).unwrap_or_default();
    // The name is field 2, so field 22 is the twentieth behind it.
    let field = rest.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).nth(19);
    field.and_then(|field| std::str::from_utf8(field).ok()?.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "its stat file has no start time")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] =
        b"4242 (qemu ) (x) S 1 4242 4242 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 7 0 987654 1 2 3\n";

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        assert_eq!(comm(STAT), "qemu ) (x");
        assert_eq!(start_ticks(STAT).expect("read"), 987_654);
    }

    #[test]
    fn a_garbled_stat_is_an_error_not_a_guess() {
        for stat in [
            &b""[..],
            b"1",
            b"1 (x",
            b")(",
            b"1 (x) S 1 2",
            b"1 (x) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x",
        ] {
            assert!(start_ticks(stat).is_err(), "{stat:?}");
            let _ = comm(stat);
        }
    }

    #[test]
    fn arguments_keep_what_is_in_them() {
        assert_eq!(arguments(b""), Vec::<String>::new());
        assert_eq!(arguments(b"a\0\0c d\0"), ["a", "", "c d"]);
        assert_eq!(arguments(b"rewritten by the process"), ["rewritten by the process"]);
    }

    #[test]
    fn facts_are_read_from_a_directory_like_proc() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("4242");
        fs::create_dir(&pid).expect("created");
        fs::write(pid.join("stat"), STAT).expect("written");
        fs::write(pid.join("cmdline"), b"qemu\0-name\0web\0").expect("written");
        let facts = read_facts_in(dir.path(), 4242).expect("read");
        assert_eq!(facts.cmdline, ["qemu", "-name", "web"]);
        assert_eq!((facts.exe, facts.cgroup.as_str()), (None, ""), "what is not there stays empty");
        assert!(read_facts_in(dir.path(), 1).is_err(), "gone");
    }

    #[test]
    fn this_process_can_be_read() {
        let facts = read_facts(std::process::id()).expect("own facts");
        assert_eq!(facts.pid, std::process::id());
        assert!(!facts.cmdline.is_empty() && facts.exe.is_some() && facts.start_ticks > 0);
    }
}
