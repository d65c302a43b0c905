//! Notes, losses, anchors, the index and where it is, as bytes.

use super::{get, put};
use crate::record::{Gap, Mark};
use serde::{Deserialize, Serialize};

/// Where a frame is, and which moment it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Place {
    /// The moment, ns of the probes' clock.
    pub t_ns: u64,
    /// Where in the file it begins.
    pub at: u64,
}

/// Ticks that were not written. Version 1, frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LostTicks {
    /// How many; 0 where that is not known.
    pub ticks: u64,
    /// After which moment, ns of the probes' clock.
    pub from_ns: u64,
    /// Until which.
    pub until_ns: u64,
    /// Why, in a sentence.
    pub why: String,
}

impl From<LostTicks> for Gap {
    fn from(lost: LostTicks) -> Self {
        let LostTicks { ticks: _, from_ns, until_ns, why } = lost;
        Self { from_ns, until_ns, why }
    }
}

/// Where is what. Version 1, frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Index {
    /// Begin of the first tick, ns of the probes' clock.
    pub start_ns: u64,
    /// End of the last.
    pub end_ns: u64,
    /// How many there are.
    pub ticks: u64,
    /// Single events that the writer left out because the disk was too slow.
    pub events_left_out: u64,
    /// Sessions.
    pub metas: Vec<Place>,
    /// Whole states.
    pub keys: Vec<Place>,
    /// Anchors: the same moment by the probes' clock and since the Unix epoch, ns.
    pub clocks: Vec<(u64, u64)>,
    /// Notes.
    pub marks: Vec<(u64, String)>,
    /// Ticks that were not written.
    pub lost: Vec<LostTicks>,
    /// Why the source ended by itself.
    pub why: Option<String>,
}

/// A note's bytes.
pub fn put_mark(mark: &Mark) -> Vec<u8> {
    put(&(mark.at_ns, &mark.text))
}

/// A note.
pub fn get_mark(bytes: &[u8]) -> Option<Mark> {
    let (at_ns, text) = get(bytes)?;
    Some(Mark { at_ns, text })
}

/// Bytes of what was lost.
pub fn put_lost(lost: &LostTicks) -> Vec<u8> {
    put(lost)
}

/// What was lost.
pub fn get_lost(bytes: &[u8]) -> Option<LostTicks> {
    get(bytes)
}

/// Bytes of an anchor: the same moment by the probes' clock and since the Unix epoch, ns.
pub fn put_clock(anchor: (u64, u64)) -> Vec<u8> {
    put(&anchor)
}

/// An anchor.
pub fn get_clock(bytes: &[u8]) -> Option<(u64, u64)> {
    get(bytes)
}

/// An index's bytes.
pub fn put_index(index: &Index) -> Vec<u8> {
    put(index)
}

/// An index.
pub fn get_index(bytes: &[u8]) -> Option<Index> {
    get(bytes)
}

/// Where the index is. Of fixed length, so that it is found from the end.
pub fn put_trailer(index_at: u64) -> Vec<u8> {
    index_at.to_le_bytes().to_vec()
}

/// Where the index is.
pub fn get_trailer(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_it_was() {
        let mark = Mark { at_ns: 5, text: "what was that?".into() };
        assert_eq!(get_mark(&put_mark(&mark)), Some(mark.clone()));
        let lost = LostTicks { ticks: 3, from_ns: 5, until_ns: 8, why: "slow".into() };
        assert_eq!(get_lost(&put_lost(&lost)), Some(lost.clone()));
        assert_eq!(get_clock(&put_clock((7, 8))), Some((7, 8)));
        assert_eq!(get_trailer(&put_trailer(1 << 40)), Some(1 << 40));
        assert_eq!(get_trailer(&[0; 9]), None);
        let place = Place { t_ns: 1, at: 64 };
        let index = Index {
            start_ns: 1,
            end_ns: 9,
            ticks: 4,
            events_left_out: 2,
            metas: vec![place],
            keys: vec![place, Place { t_ns: 2, at: 900 }],
            clocks: vec![(1, 1 << 60)],
            marks: vec![(mark.at_ns, mark.text)],
            lost: vec![lost],
            why: Some("the host went to sleep".into()),
        };
        let bytes = put_index(&index);
        assert_eq!(get_index(&bytes), Some(index));
        assert!((0..bytes.len()).all(|length| get_index(&bytes[..length]).is_none()));
    }
}
