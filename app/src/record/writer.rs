//! Writing, one frame after the other.

use super::codec::{
    Index, LostTicks, Place, put_clock, put_index, put_key, put_lost, put_mark, put_meta, put_tick,
    put_trailer,
};
use super::frame::{FRAME, FileHeader, Framer, HEADER, Kind};
use super::{Mark, WriteError};
use crate::model::event::{EventKind, LeftOut};
use crate::model::{session::Session, tick::Tick, totals::Totals};
use std::io::Write;

/// Ticks from one whole state to the next: what is read at most to be anywhere.
pub const KEY_EVERY: u64 = 60;
/// Bytes of the trailer with its frame.
pub const TRAILER: usize = FRAME + 8;

/// How a recording is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is known before the first tick, when it does not begin with its session: who is there. Totals of a
    /// tick with nothing but their [`Life`](crate::model::tick::Life), by [`Totals::who_is_there`].
    pub begin: Totals,
    /// Leave single events out, and count them.
    pub no_events: bool,
    /// The probes' clock and wall time now, both in ns, for anchors; `None` where the ticks are not of now.
    pub clock: Option<fn() -> (u64, u64)>,
    /// What all files of one recording have in common, and no other; `None`: a random one.
    pub id: Option<[u8; 16]>,
    /// Which of its files this is, from 0.
    pub number: u32,
    /// Ticks from one whole state to the next; `None`: [`KEY_EVERY`].
    pub key_every: Option<u64>,
}

/// Writes a recording to anything.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    framer: Framer,
    session: Session,
    options: Options,
    totals: Totals,
    index: Index,
    /// Bytes written.
    at: u64,
    /// Ticks since the last key.
    since_key: u64,
    /// Length of the last key's and the longest tick's frame.
    last_key: u64,
    longest: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header, the session and a key.
    pub fn new(to: W, session: &Session, mut options: Options) -> Result<Self, WriteError> {
        let id = match options.id {
            Some(id) => id,
            None => random()?,
        };
        options.id = Some(id);
        let totals = std::mem::take(&mut options.begin);
        let start_ns = match totals.ticks {
            0 if totals.end_ns == 0 => session.started_ns,
            _ => totals.end_ns,
        };
        let header = FileHeader { id, number: options.number };
        let mut writer = Self {
            to,
            framer: Framer::new(id)?,
            session: session.clone(),
            options,
            totals,
            index: Index { start_ns, end_ns: start_ns, ..Index::default() },
            at: 0,
            since_key: 0,
            last_key: 0,
            longest: 0,
        };
        writer.write(&header.bytes())?;
        writer.meta()?;
        writer.key()?;
        Ok(writer)
    }

    /// Something in the session changed.
    pub fn session(&mut self, session: &Session) -> Result<(), WriteError> {
        if *session == self.session {
            return Ok(());
        }
        self.session = session.clone();
        self.meta()
    }

    /// An interval; every so many a key follows.
    pub fn tick(&mut self, tick: &Tick) -> Result<(), WriteError> {
        let less;
        let tick = match self.options.no_events && !tick.events.is_empty() {
            true => {
                less = without_events(tick.clone());
                &less
            }
            false => tick,
        };
        let begin = self.at;
        let written = match put_tick(tick) {
            Some((rest, cells)) => self.frame_of(Kind::Tick, tick.end_ns, &rest, &cells)?,
            None => false,
        };
        if !written {
            let why = "a tick was too large to be written".to_owned();
            let from_ns = tick.end_ns.saturating_sub(tick.dur_ns);
            return self.lost(LostTicks { ticks: 1, from_ns, until_ns: tick.end_ns, why });
        }
        self.longest = self.longest.max(self.at - begin);
        self.totals.apply(tick);
        self.index.ticks += 1;
        self.index.end_ns = tick.end_ns;
        self.since_key += 1;
        if self.since_key >= self.key_every() { self.key() } else { Ok(()) }
    }

    /// A note.
    pub fn mark(&mut self, mark: &Mark) -> Result<(), WriteError> {
        if self.frame(Kind::Mark, mark.at_ns, &put_mark(mark))? {
            self.index.marks.push((mark.at_ns, mark.text.clone()));
        }
        Ok(())
    }

    /// Ticks that were never handed to it: how many, and from when to when. A key follows.
    pub fn dropped(&mut self, ticks: u64, from_ns: u64, until_ns: u64) -> Result<(), WriteError> {
        let why = format!(
            "{ticks} {} not written, because writing took too long",
            if ticks == 1 { "tick was" } else { "ticks were" }
        );
        self.lost(LostTicks { ticks, from_ns, until_ns, why })
    }

    /// Single events that somebody left out of ticks, counted in them, because writing took too long.
    pub fn events_dropped(&mut self, events: u64) {
        self.index.events_left_out = self.index.events_left_out.saturating_add(events);
    }

    /// Writes index and trailer; `why` is why the source ended by itself.
    pub fn finish(mut self, why: Option<&str>) -> Result<W, WriteError> {
        self.end(why)?;
        Ok(self.to)
    }

    /// As [`Self::finish`]. Nothing may be written after it.
    pub(super) fn end(&mut self, why: Option<&str>) -> Result<(), WriteError> {
        self.index.why = why.map(str::to_owned);
        let at = self.at;
        let end_ns = self.index.end_ns;
        let index = put_index(&self.index);
        // One that is too large is left out; the reader walks the headers then.
        if self.frame(Kind::Index, end_ns, &index)? {
            self.frame(Kind::Trailer, end_ns, &put_trailer(at))?;
        }
        Ok(())
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Ticks written.
    pub fn ticks(&self) -> u64 {
        self.index.ticks
    }

    /// Whole states written.
    pub fn keys(&self) -> usize {
        self.index.keys.len()
    }

    /// How large the file may be after another tick, finished: an estimate, on the safe side for ticks like those
    /// before.
    pub fn bytes_after_next(&self) -> u64 {
        let key_is_next = self.since_key + 1 >= self.key_every();
        let key = if key_is_next { 2 * self.last_key + 4096 } else { 0 };
        let marks: usize = self.index.marks.iter().map(|(_, text)| text.len() + 10).sum();
        let places =
            20 * (self.index.keys.len() + self.index.clocks.len() + self.index.metas.len());
        let index = places + marks + 256 * self.index.lost.len() + 2 * FRAME + TRAILER + 512;
        self.at + 2 * self.longest + key + index as u64
    }

    /// The output, to be made safe on a disk.
    pub fn output(&mut self) -> &mut W {
        &mut self.to
    }

    /// Options with which the next file goes on where this one ends.
    pub fn next_file(&mut self) -> Options {
        let begin = std::mem::take(&mut self.totals);
        let number = self.options.number.saturating_add(1);
        Options { begin, number, ..self.options.clone() }
    }

    fn key_every(&self) -> u64 {
        self.options.key_every.unwrap_or(KEY_EVERY)
    }

    fn meta(&mut self) -> Result<(), WriteError> {
        let place = Place { t_ns: self.index.end_ns, at: self.at };
        if self.frame(Kind::Meta, place.t_ns, &put_meta(&self.session))? {
            self.index.metas.push(place);
        }
        Ok(())
    }

    /// An anchor and the whole state; without sums where it is too large.
    fn key(&mut self) -> Result<(), WriteError> {
        self.since_key = 0;
        if let Some(now) = self.options.clock {
            let anchor = now();
            self.frame(Kind::Clock, anchor.0, &put_clock(anchor))?;
            self.index.clocks.push(anchor);
        }
        let place = Place { t_ns: self.index.end_ns, at: self.at };
        let bytes = put_key(place.t_ns, &self.totals, true);
        let mut written = self.frame(Kind::Key, place.t_ns, &bytes)?;
        if !written {
            let bytes = put_key(place.t_ns, &self.totals.who_is_there(), false);
            written = self.frame(Kind::Key, place.t_ns, &bytes)?;
        }
        if written {
            self.index.keys.push(place);
            self.last_key = self.at - place.at;
        }
        Ok(())
    }

    fn lost(&mut self, lost: LostTicks) -> Result<(), WriteError> {
        self.index.end_ns = self.index.end_ns.max(lost.until_ns);
        self.frame(Kind::Lost, lost.until_ns, &put_lost(&lost))?;
        self.index.lost.push(lost);
        self.key()
    }

    /// Writes a frame; false when it would be larger than readers take.
    fn frame(&mut self, kind: Kind, t_ns: u64, raw: &[u8]) -> Result<bool, WriteError> {
        self.frame_of(kind, t_ns, raw, &[])
    }

    /// The same with a part that is not worth compressing.
    fn frame_of(
        &mut self,
        kind: Kind,
        t_ns: u64,
        raw: &[u8],
        dense: &[u8],
    ) -> Result<bool, WriteError> {
        let Some(frame) = self.framer.frame_of(kind, t_ns, raw, dense) else { return Ok(false) };
        self.to.write_all(frame)?;
        // Nothing of it stays behind in a buffer of ours when we are killed.
        self.to.flush()?;
        self.at += frame.len() as u64;
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        debug_assert_eq!(bytes.len(), HEADER);
        self.to.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The tick with its events counted instead of listed.
pub fn without_events(mut tick: Tick) -> Tick {
    let mut left: std::collections::BTreeMap<EventKind, u64> =
        tick.events_left_out.iter().map(|left| (left.kind, left.count)).collect();
    for event in tick.events.drain(..) {
        let count = left.entry(event.kind).or_default();
        *count = count.saturating_add(1);
    }
    tick.events_left_out = left.into_iter().map(|(kind, count)| LeftOut { kind, count }).collect();
    tick
}

fn random() -> std::io::Result<[u8; 16]> {
    let mut id = [0; 16];
    let mut from = std::fs::File::open("/dev/urandom")?;
    std::io::Read::read_exact(&mut from, &mut id)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::sample_tick;

    #[test]
    fn events_that_are_left_out_are_counted_by_kind() {
        let tick = sample_tick();
        let kinds: Vec<EventKind> = tick.events.iter().map(|event| event.kind).collect();
        let less = without_events(tick.clone());
        assert!(less.events.is_empty());
        let count = |tick: &Tick, kind| -> u64 {
            tick.events_left_out.iter().filter(|left| left.kind == kind).map(|l| l.count).sum()
        };
        for kind in EventKind::ALL {
            let listed = kinds.iter().filter(|of| **of == kind).count() as u64;
            assert_eq!(count(&less, kind), count(&tick, kind) + listed);
        }
        assert!(less.events_left_out.is_sorted_by(|a, b| a.kind < b.kind));
        assert_eq!(
            Tick {
                events: tick.events.clone(),
                events_left_out: tick.events_left_out.clone(),
                ..less
            },
            tick
        );
    }
}
