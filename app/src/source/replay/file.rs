//! A recording in a file.

use super::tape::{Begin, Items, Outline, Tape, there};
use crate::record::Recording;

/// A file, as a player sees it.
#[derive(Debug)]
pub struct FileTape {
    recording: Recording,
    outline: Outline,
}

impl FileTape {
    /// Of a recording that was opened.
    pub fn new(recording: Recording) -> Self {
        let mut marks = recording.marks().to_vec();
        // They are in the order in which they were made, and one may be made in the past.
        marks.sort_by_key(|mark| mark.at_ns);
        let (start_ns, end_ns) = (recording.start_ns(), recording.end_ns());
        let outline = Outline {
            start_ns,
            end_ns,
            tick_ns: end_ns.saturating_sub(start_ns).checked_div(recording.ticks()).unwrap_or(0),
            marks: marks.into(),
            gaps: recording.gaps().into(),
            end: Some(recording.end()),
        };
        Self { recording, outline }
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}

impl Tape for FileTape {
    fn outline(&self) -> Outline {
        self.outline.clone()
    }

    fn begin(&mut self, at_ns: u64) -> Result<Begin, String> {
        // One that was begun on the screen tells in its first key who was there: nobody else does.
        let at_ns = at_ns.max(self.outline.start_ns);
        match self.recording.key_before(at_ns).map_err(|error| error.to_string())? {
            Some(key) => Ok(Begin { at_ns: key.at_ns, known: there(&key.totals) }),
            None => Ok(Begin { at_ns: self.outline.start_ns, ..Begin::default() }),
        }
    }

    fn items(&mut self, after_ns: u64, brief_until_ns: u64) -> Items<'_> {
        let items = self.recording.items(after_ns, u64::MAX).brief_until(brief_until_ns);
        Box::new(items.map(|item| item.map_err(|error| error.to_string())))
    }
}
