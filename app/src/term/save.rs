//! A view as a file.

use crate::state::SavedView;
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Writes a view as text into a directory, under a name that nothing has yet. Returns the path.
/// Never writes over a file and never follows a link, because the program may run as root in a
/// directory where others can write.
pub fn save(view: &SavedView, directory: &Path) -> io::Result<PathBuf> {
    for n in 1..1000 {
        let path = directory.join(format!("kvmscope-{}-{n}.txt", view.name));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(view.text.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand views are there already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let view =
            |text: &str| SavedView { name: "host".into(), text: text.into(), csv: String::new() };
        let first = save(&view("one"), dir.path()).expect("saved");
        let second = save(&view("two"), dir.path()).expect("saved");
        assert_ne!(first, second);
        assert_eq!(std::fs::read_to_string(first).expect("read"), "one");
        assert_eq!(std::fs::read_to_string(second).expect("read"), "two");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(save(&SavedView::default(), Path::new("/nonexistent/here")).is_err());
    }
}
