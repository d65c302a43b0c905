//! Where a recording goes: a file that is ours alone, or standard output.

use super::WriteError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, mode 0600, of the person behind sudo.
    File {
        /// Its name. Further files are called FILE.1, FILE.2 and so on.
        path: PathBuf,
        /// Write over what is there.
        force: bool,
        /// Begin another file before one grows over so many bytes.
        max_size: Option<u64>,
    },
    /// Standard output.
    Stdout,
}

impl Target {
    /// Opens the file of a number.
    pub(super) fn open(&self, number: u32) -> Result<(Output, PathBuf), WriteError> {
        match self {
            Self::Stdout => Ok((Output::Stdout(io::stdout()), PathBuf::new())),
            Self::File { path, force, max_size } => {
                if number == 0 && max_size.is_some() && !force {
                    refuse_later_file(path)?;
                }
                let path = numbered(path, number);
                let file = create(&path, *force)?;
                Ok((Output::File(file), path))
            }
        }
    }
}

/// FILE, FILE.1, FILE.2 and so on.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

/// Hours later is too late to say that the second file is there already.
fn refuse_later_file(path: &Path) -> Result<(), WriteError> {
    let next = numbered(path, 1);
    match next.symlink_metadata() {
        Ok(_) => Err(refused(&next, "it is there already: --force writes over it")),
        Err(_) => Ok(()),
    }
}

/// Makes a file that was not there, that only its owner may read and that nobody else writes. Never follows a
/// link: the program may run as root where others can write.
fn create(path: &Path, force: bool) -> Result<File, WriteError> {
    if force {
        make_room(path)?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            refused(path, "it is there already: --force writes over it")
        }
        io::ErrorKind::NotFound => refused(path, "its folder is not there"),
        _ => refused(path, &error.to_string()),
    })?;
    // So that a reader sees that it is being written, and nobody else does.
    let locked = file.try_lock();
    locked.map_err(|error| refused(path, &format!("it cannot be locked: {error}")))?;
    if let Some((user, group)) = behind_sudo(|name| std::env::var(name).ok())
        && rustix::process::geteuid().is_root()
    {
        let owned = fchown(&file, Some(user), Some(group));
        owned.map_err(|error| {
            refused(path, &format!("it cannot be given to user {user}: {error}"))
        })?;
    }
    Ok(file)
}

/// Removes a file that may be written over. What is no file, or is being written, stays.
fn make_room(path: &Path) -> Result<(), WriteError> {
    let Ok(there) = path.symlink_metadata() else { return Ok(()) };
    if !there.is_file() {
        return Err(refused(path, "something is there that is no file, which stays as it is"));
    }
    if let Ok(file) = File::open(path)
        && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    {
        return Err(refused(path, "another kvmscope is recording into it"));
    }
    std::fs::remove_file(path).map_err(|error| refused(path, &error.to_string()))
}

fn refused(path: &Path, why: &str) -> WriteError {
    WriteError::Create { path: path.display().to_string(), why: why.to_owned() }
}

/// User and group of the person who ran sudo.
fn behind_sudo(get: impl Fn(&str) -> Option<String>) -> Option<(u32, u32)> {
    let number = |name| get(name)?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// An open target.
#[derive(Debug)]
pub enum Output {
    /// A file.
    File(File),
    /// Standard output.
    Stdout(io::Stdout),
}

impl Output {
    /// Makes what was written outlast a crash of the machine. Fails as well when the file is not there any
    /// more: nobody would find what is written on.
    pub fn sync(&self) -> io::Result<()> {
        let Self::File(file) = self else { return Ok(()) };
        if file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        match file.sync_data() {
            // A pipe, or something else that keeps nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Cuts off what a write that failed has left behind a length.
    pub fn cut(&self, length: u64) {
        if let Self::File(file) = self {
            // What stays is a frame that is not whole, which readers leave out.
            let _ = file.set_len(length);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, force: bool) -> Result<Output, String> {
        let target = Target::File { path: path.to_owned(), force, max_size: Some(1 << 20) };
        target.open(0).map(|(output, _)| output).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_private_and_never_written_over_unasked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.kvmscope");
        let first = open(&path, false).expect("made");
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        let why = open(&path, false).expect_err("there already");
        assert!(why.contains("--force"), "{why}");
        let why = open(&path, true).expect_err("being written");
        assert!(why.contains("another kvmscope is recording"), "{why}");
        drop(first);
        open(&path, true).expect("written over");
    }

    #[test]
    fn what_is_no_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (link, aim) = (folder.path().join("link"), folder.path().join("aim"));
        std::fs::write(&aim, "mine").expect("written");
        std::os::unix::fs::symlink(&aim, &link).expect("linked");
        for force in [false, true] {
            assert!(open(&link, force).is_err());
            assert!(open(folder.path(), force).is_err());
        }
        assert_eq!(std::fs::read_to_string(&aim).expect("there"), "mine");
    }

    #[test]
    fn later_files_are_looked_for_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(numbered(&path, 1), "older").expect("written");
        let why = open(&path, false).expect_err("there already");
        assert!(why.contains("a.1"), "{why}");
        open(&path, true).expect("made");
    }

    #[test]
    fn a_folder_that_is_missing_is_said() {
        let why = open(Path::new("/nonexistent/here"), false).expect_err("no folder");
        assert!(why.contains("folder is not there"), "{why}");
    }

    #[test]
    fn a_file_that_was_removed_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let output = open(&path, false).expect("made");
        output.sync().expect("it is there");
        std::fs::remove_file(&path).expect("removed");
        assert!(output.sync().is_err());
    }

    #[test]
    fn the_person_behind_sudo_needs_both_numbers() {
        let all = |name: &str| Some(if name == "SUDO_UID" { "1000" } else { "100" }.to_owned());
        assert_eq!(behind_sudo(all), Some((1000, 100)));
        assert_eq!(behind_sudo(|name| (name == "SUDO_UID").then(|| "1000".into())), None);
        assert_eq!(behind_sudo(|_| Some("root".into())), None);
    }
}
