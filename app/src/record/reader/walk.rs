//! Where is what, by a walk over all headers: for recordings that have no index.

use super::frames::{At, Frames, Payload, Step};
use crate::record::codec::{
    Index, LostTicks, Place, get_clock, get_index, get_lost, get_mark, get_trailer,
};
use crate::record::frame::{FRAME, Head, Kind};
use crate::record::writer::TRAILER;
use std::fs::File;
use std::io::{self, Read as _};

/// Bytes that are read at once: little more than a header, as payloads are passed over.
const AHEAD: usize = 256;

/// What a walk found.
#[derive(Debug)]
pub struct Walked {
    /// As the writer would have written it.
    pub index: Index,
    /// Whether the file ends with a trailer.
    pub finished: bool,
    /// Whether it ends within a frame.
    pub cut: bool,
    /// Where it ended.
    pub end: u64,
}

/// The index that the file itself has; `None` where it has none that is whole.
pub fn read_index(file: &File, id: [u8; 16]) -> io::Result<Option<Index>> {
    let length = file.metadata()?.len();
    let Some(at) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
    let Some((Kind::Trailer, raw)) = read_frame(file, id, at)? else { return Ok(None) };
    let Some(index_at) = get_trailer(&raw).filter(|index_at| *index_at < at) else {
        return Ok(None);
    };
    let Some((Kind::Index, raw)) = read_frame(file, id, index_at)? else { return Ok(None) };
    Ok(get_index(&raw))
}

/// The frame that begins at a place; `None` where there is none that is whole.
pub fn read_frame(file: &File, id: [u8; 16], at: u64) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut from = At::new(file, at);
    from.by_ref().take(FRAME as u64).read_to_end(&mut bytes)?;
    let Some(head) = Head::parse(&bytes, &id) else { return Ok(None) };
    let Some(kind) = head.kind().filter(|kind| kind.version() == head.version) else {
        return Ok(None);
    };
    bytes.clear();
    from.take(u64::from(head.stored)).read_to_end(&mut bytes)?;
    Ok(head.open(&bytes).map(|raw| (kind, raw)))
}

/// Walks from the first frame on. What cannot be read on the way is in [`Index::lost`].
pub fn walk(file: &File, id: [u8; 16], first: u64) -> io::Result<Walked> {
    let mut frames = Frames::of_file(file, id, first, AHEAD);
    let mut walk = Walk::default();
    let (cut, end) = loop {
        let at = frames.at();
        match frames.step()? {
            Step::End(cut) => break (cut, at),
            Step::Damaged(bytes) => walk.damaged(format!("{bytes} bytes at {at} are damaged")),
            Step::Missing(frames) => {
                walk.damaged(format!("{frames} frames before byte {at} are not there"));
            }
            Step::Frame(head) => {
                let kept = match head.kind() {
                    Some(Kind::Clock | Kind::Mark | Kind::Lost) => frames.payload(&head)?,
                    _ if frames.pass(&head)? => Payload::Whole(Vec::new()),
                    _ => Payload::Cut,
                };
                match kept {
                    Payload::Cut => break (true, at),
                    Payload::Damaged => {}
                    Payload::Whole(raw) => walk.frame(&head, at, &raw),
                }
            }
        }
    };
    walk.tell_gap(walk.index.end_ns);
    Ok(Walked { index: walk.index, finished: walk.finished, cut, end })
}

#[derive(Default)]
struct Walk {
    index: Index,
    /// Since when, and why, something is missing.
    gap: Option<(u64, String)>,
    finished: bool,
}

impl Walk {
    fn frame(&mut self, head: &Head, at: u64, raw: &[u8]) {
        let t_ns = head.t_ns;
        let place = Place { t_ns, at };
        let index = &mut self.index;
        match head.kind() {
            Some(Kind::Meta) => index.metas.push(place),
            Some(Kind::Key) => {
                if index.keys.is_empty() {
                    index.start_ns = t_ns;
                }
                index.end_ns = index.end_ns.max(t_ns);
                index.keys.push(place);
                self.tell_gap(t_ns);
            }
            Some(Kind::Tick) => {
                index.ticks += 1;
                index.end_ns = index.end_ns.max(t_ns);
            }
            Some(Kind::Clock) => index.clocks.extend(get_clock(raw)),
            Some(Kind::Mark) => {
                index.marks.extend(get_mark(raw).map(|mark| (mark.at_ns, mark.text)));
            }
            Some(Kind::Lost) => index.lost.extend(get_lost(raw)),
            Some(Kind::Trailer) => self.finished = true,
            Some(Kind::Index) | None => {}
        }
    }

    fn damaged(&mut self, why: String) {
        self.gap.get_or_insert((self.index.end_ns, why));
    }

    fn tell_gap(&mut self, until_ns: u64) {
        if let Some((from_ns, why)) = self.gap.take() {
            let until_ns = until_ns.max(from_ns);
            let from_ns = if from_ns == 0 { until_ns } else { from_ns };
            self.index.lost.push(LostTicks { ticks: 0, from_ns, until_ns, why });
        }
    }
}
