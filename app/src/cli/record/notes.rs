//! Marks from standard input: a line each.

use crate::cli::Failure;
use crate::record::Mark;
use crate::source::live::host::now_ns;
use std::io::{self, BufRead, Read as _};
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of a line that are kept.
const LINE: u64 = 1_000;
/// Marks that may wait for the next tick; whoever writes more of them waits. A recorder takes as many at once.
const WAITING: usize = 16;

/// Marks that came.
#[derive(Debug, Default)]
pub(super) struct Notes(Option<Receiver<Mark>>);

impl Notes {
    /// Reads standard input from now on. Where numbers are invented, their clock is not the time: the first lines are
    /// read before, and are about the begin.
    pub fn listen(is_live: bool) -> Result<Self, Failure> {
        let (out, marks) = sync_channel(WAITING);
        if !is_live {
            read(io::stdin().lock(), || u64::MAX, |mark| out.try_send(mark).is_ok());
            return Ok(Self(Some(marks)));
        }
        // It may wait for ever in a read; nothing waits for it.
        std::thread::Builder::new()
            .name("kvmscope-marks".to_owned())
            .spawn(move || read(io::stdin().lock(), now_ns, |mark| out.send(mark).is_ok()))
            .map_err(|e| Failure::running(format!("no thread could be started: {e}")))?;
        Ok(Self(Some(marks)))
    }

    /// What has come. A mark is no later than the end of the tick that it is written with.
    pub fn until(&mut self, end_ns: u64) -> impl Iterator<Item = Mark> {
        let marks = self.0.iter().flat_map(Receiver::try_iter).take(WAITING);
        marks.map(move |mark| Mark { at_ns: mark.at_ns.min(end_ns), ..mark })
    }
}

/// Reads lines to the end, or until nobody wants them.
fn read(mut from: impl BufRead, clock: impl Fn() -> u64, mut out: impl FnMut(Mark) -> bool) {
    loop {
        let mut line = Vec::new();
        // What cannot be read has ended.
        let Ok(1..) = from.by_ref().take(LINE).read_until(b'\n', &mut line) else { return };
        let at_ns = clock();
        let cut = line.len() as u64 == LINE && !line.ends_with(b"\n");
        if cut && from.skip_until(b'\n').is_err() {
            return;
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if !out(Mark { at_ns, text }) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn marks(input: &[u8]) -> Vec<(u64, String)> {
        let (out, marks) = sync_channel(WAITING);
        let now = Cell::new(0);
        read(input, || now.replace(now.get() + 10), |mark| out.send(mark).is_ok());
        drop(out);
        let mut notes = Notes(Some(marks));
        notes.until(25).map(|mark| (mark.at_ns, mark.text)).collect()
    }

    #[test]
    fn each_line_is_a_mark_at_its_moment() {
        let expected = [(0, "backup begins"), (10, ""), (20, "b\u{fffd}"), (25, "end")];
        let expected = expected.map(|(at_ns, text)| (at_ns, text.to_owned()));
        assert_eq!(marks(b"backup begins\r\n\nb\xff\nend"), expected);
        assert_eq!(marks(b""), []);
        assert_eq!(Notes::default().until(1).count(), 0);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut input = vec![b'x'; 5_000];
        input.extend_from_slice(b"\nnext\n");
        let marks = marks(&input);
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[0].1, "x".repeat(1_000));
        assert_eq!(marks[1].1, "next");
        // One that is exactly as long has its end still to come.
        let exact = [&[b'x'; 1_000][..], b"\nnext\n"].concat();
        assert_eq!(self::marks(&exact).len(), 2);
    }
}
