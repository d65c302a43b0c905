//! Frames as what they mean, in order, with what is missing said.

use super::file::Recording;
use super::frames::{At, Frames, Payload, Source, Step};
use crate::model::tick::Tick;
use crate::record::codec::get_brief;
use crate::record::codec::{get_index, get_key, get_lost, get_mark, get_meta, get_tick};
use crate::record::frame::{Head, Kind};
use crate::record::{End, Gap, Item, Key, ReadError};
use std::collections::VecDeque;

/// Makes items of frames.
///
/// A tick rests on who came and went in those before, so after one that cannot be read nothing is handed out until
/// the next key.
#[derive(Debug)]
pub struct Decoder<S> {
    frames: Frames<S>,
    /// What was found and not handed out yet.
    ready: VecDeque<Item>,
    /// End of the last tick or key that was handed out, ns of the probes' clock.
    last_ns: u64,
    /// Moment of the last frame of a tick, whether it could be read or not.
    seen_ns: u64,
    /// Ticks that end until then, ns of the probes' clock, are handed out without what is counted.
    pub(super) brief_until_ns: u64,
    /// What a key is waited for, and why.
    waits: Waits,
    has_session: bool,
    /// Why the source ended by itself.
    why: Option<String>,
    end: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
enum Waits {
    /// Nothing: ticks are handed out.
    No,
    /// Nothing was read yet.
    Begin,
    /// Something is missing, for this reason.
    After(String),
    /// Something is missing, and it has been said.
    Told,
}

impl<S: Source> Decoder<S> {
    pub fn new(frames: Frames<S>) -> Self {
        Self {
            frames,
            ready: VecDeque::new(),
            last_ns: 0,
            seen_ns: 0,
            brief_until_ns: 0,
            waits: Waits::Begin,
            has_session: false,
            why: None,
            end: None,
        }
    }

    /// The next thing; the end again after the end.
    pub fn item(&mut self) -> Result<Item, ReadError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if let Some(end) = &self.end {
                return Ok(Item::End(end.clone()));
            }
            let at = self.frames.at();
            match self.frames.step()? {
                Step::Frame(head) => self.frame(&head, at)?,
                Step::Damaged(bytes) => {
                    self.broken(format!("{bytes} bytes at {at} are damaged"));
                }
                Step::Missing(frames) => {
                    self.broken(format!("{frames} frames before byte {at} are not there"));
                }
                Step::End(cut) => self.ended(cut, at)?,
            }
        }
    }

    fn frame(&mut self, head: &Head, at: u64) -> Result<(), ReadError> {
        if head.kind() == Some(Kind::Tick) {
            self.seen_ns = self.seen_ns.max(head.t_ns);
        }
        if !self.wants(head) {
            if !self.frames.pass(head)? {
                self.ended(true, at)?;
            }
            return Ok(());
        }
        let raw = match self.frames.payload(head)? {
            Payload::Cut => return self.ended(true, at),
            Payload::Damaged => None,
            Payload::Whole(raw) => Some(raw),
        };
        let known = head.kind().is_some_and(|kind| kind.version() == head.version);
        let read = raw.filter(|_| known).is_some_and(|raw| self.take(head, &raw));
        if !read {
            let kind = head.kind().map_or("frame", name);
            let why = match known {
                true => format!("a {kind} at byte {at} is damaged"),
                false => format!(
                    "a {kind} at byte {at} has format {}, which this kvmscope does not read",
                    head.version
                ),
            };
            self.missed(head, why);
        }
        Ok(())
    }

    /// Whether a frame is looked into. Keys are for those who wait for one.
    fn wants(&self, head: &Head) -> bool {
        match head.kind() {
            Some(Kind::Key) => self.has_session && self.waits != Waits::No,
            Some(Kind::Tick) => self.waits == Waits::No,
            Some(Kind::Clock) | None => false,
            Some(_) => true,
        }
    }

    /// Takes what a frame has in it; false when it cannot be read.
    fn take(&mut self, head: &Head, raw: &[u8]) -> bool {
        match head.kind() {
            Some(Kind::Meta) => get_meta(raw).map(|session| {
                self.has_session = true;
                self.ready.push_back(Item::Session(Box::new(session)));
            }),
            Some(Kind::Key) => get_key(raw).map(|key| self.key(key)),
            Some(Kind::Tick) => self.tick(head, raw).map(|tick| {
                self.last_ns = tick.end_ns;
                self.ready.push_back(Item::Tick(Box::new(tick)));
            }),
            Some(Kind::Mark) => get_mark(raw).map(|mark| self.ready.push_back(Item::Mark(mark))),
            Some(Kind::Lost) => get_lost(raw).map(|lost| {
                self.tell_gap(lost.from_ns);
                self.last_ns = self.last_ns.max(lost.until_ns);
                self.ready.push_back(Item::Gap(lost.into()));
                self.waits = Waits::Told;
            }),
            Some(Kind::Index) => get_index(raw).map(|index| self.why = index.why),
            Some(Kind::Trailer) => {
                self.tell_gap(self.seen_ns);
                let (clean, why) = (true, self.why.take());
                self.end = Some(End { clean, why });
                Some(())
            }
            Some(Kind::Clock) | None => Some(()),
        }
        .is_some()
    }

    fn tick(&self, head: &Head, raw: &[u8]) -> Option<Tick> {
        if head.t_ns <= self.brief_until_ns { get_brief(raw) } else { get_tick(raw) }
    }

    fn key(&mut self, key: Key) {
        self.tell_gap(key.at_ns);
        self.last_ns = key.at_ns;
        self.waits = Waits::No;
        self.ready.push_back(Item::Key(Box::new(key)));
    }

    /// A frame cannot be read.
    fn missed(&mut self, head: &Head, why: String) {
        match head.kind() {
            Some(Kind::Tick | Kind::Lost) => self.broken(why),
            // Nothing rests on it: what it told is missing, but no time.
            _ if self.waits == Waits::No => {
                let at_ns = self.last_ns;
                self.ready.push_back(Item::Gap(Gap { from_ns: at_ns, until_ns: at_ns, why }));
            }
            _ => self.broken(why),
        }
    }

    fn broken(&mut self, why: String) {
        if matches!(self.waits, Waits::No | Waits::Told | Waits::Begin) {
            self.waits = Waits::After(why);
        }
    }

    /// Says what is missing, if anything is, up to a moment.
    fn tell_gap(&mut self, until_ns: u64) {
        if let Waits::After(why) = std::mem::replace(&mut self.waits, Waits::Told) {
            let until_ns = until_ns.max(self.last_ns);
            // Before anything was read it is not known when it began.
            let from_ns = if self.last_ns == 0 { until_ns } else { self.last_ns };
            self.ready.push_back(Item::Gap(Gap { from_ns, until_ns, why }));
        } else {
            self.waits = Waits::No;
        }
    }

    /// There is nothing more, and no trailer.
    fn ended(&mut self, cut: bool, at: u64) -> Result<(), ReadError> {
        if !self.has_session {
            return Err(ReadError::Empty(match cut {
                true => "it ends before its first frame is whole".to_owned(),
                false => "it has no frame that tells of its session".to_owned(),
            }));
        }
        self.tell_gap(self.seen_ns);
        self.end = Some(End { clean: false, why: Some(unfinished(cut, at)) });
        Ok(())
    }
}

/// Why a recording without a trailer ends where it does.
pub fn unfinished(cut: bool, at: u64) -> String {
    match cut {
        true => format!("it was not finished: it ends within a frame, at byte {at}"),
        false => "it was not finished: it ends without an index".to_owned(),
    }
}

/// What a kind is called in a sentence.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Meta => "description of the session",
        Kind::Key => "key",
        Kind::Tick => "tick",
        Kind::Lost => "list of losses",
        Kind::Clock => "anchor of the clock",
        Kind::Mark => "note",
        Kind::Index => "index",
        Kind::Trailer => "trailer",
    }
}

/// A range of a recording: begins with the session and the key at its begin, and ends with [`Item::End`].
#[derive(Debug)]
pub struct Items<'a> {
    decoder: Decoder<At<'a>>,
    ready: VecDeque<Result<Item, ReadError>>,
    from_ns: u64,
    until_ns: u64,
    /// The state before the first tick of the range, while it is not reached.
    begin: Option<Box<Key>>,
    /// How the recording ended when it was opened.
    end: End,
    over: bool,
}

impl<'a> Items<'a> {
    pub(super) fn new(of: &'a Recording, from_ns: u64, until_ns: u64) -> Self {
        let place = of.place_before(from_ns);
        let mut ready = VecDeque::new();
        let mut decoder = Decoder::new(of.frames(place.at, super::AHEAD));
        decoder.last_ns = place.t_ns;
        match of.session_at(place.at) {
            Ok(Some(session)) => {
                decoder.has_session = true;
                ready.push_back(Ok(Item::Session(Box::new(session))));
            }
            Ok(None) => {}
            Err(error) => ready.push_back(Err(error)),
        }
        Self { decoder, ready, from_ns, until_ns, begin: None, end: of.end(), over: false }
    }

    /// Ticks that end until this moment are handed out without what is counted, which is much quicker.
    pub fn brief_until(mut self, brief_until_ns: u64) -> Self {
        self.decoder.brief_until_ns = brief_until_ns;
        self
    }

    /// Takes the next thing in; false when the range is over.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Key(key) if key.at_ns <= self.from_ns => self.begin = Some(key),
            Item::Tick(tick) if tick.end_ns <= self.from_ns => {
                if let Some(begin) = &mut self.begin {
                    before(begin, &tick);
                }
            }
            Item::Mark(mark) if mark.at_ns <= self.from_ns || mark.at_ns > self.until_ns => {}
            Item::Gap(gap) if gap.until_ns <= self.from_ns || gap.from_ns > self.until_ns => {}
            Item::Tick(tick) if tick.end_ns > self.until_ns => return self.cut(),
            Item::Key(key) if key.at_ns > self.until_ns => return self.cut(),
            Item::End(end) => {
                self.begun();
                // That it is being written is only seen when it is opened.
                let end = if end.clean || self.end.clean { end } else { self.end.clone() };
                self.ready.push_back(Ok(Item::End(end)));
                return false;
            }
            Item::Gap(Gap { from_ns, until_ns, why }) => {
                self.begun();
                let (from_ns, until_ns) = (from_ns.max(self.from_ns), until_ns.min(self.until_ns));
                self.ready.push_back(Ok(Item::Gap(Gap { from_ns, until_ns, why })));
            }
            item @ (Item::Tick(_) | Item::Mark(_) | Item::Key(_)) => {
                self.begun();
                self.ready.push_back(Ok(item));
            }
            item @ Item::Session(_) => self.ready.push_back(Ok(item)),
        }
        true
    }

    /// The begin of the range is reached: the state at it comes before anything else.
    fn begun(&mut self) {
        if let Some(key) = self.begin.take() {
            self.ready.push_back(Ok(Item::Key(key)));
        }
    }

    /// The range is over before the recording.
    fn cut(&mut self) -> bool {
        self.begun();
        self.ready.push_back(Ok(Item::End(End { clean: true, why: None })));
        false
    }
}

/// A tick before the range makes the state at its begin.
fn before(key: &mut Key, tick: &Tick) {
    key.totals.apply(tick);
    key.at_ns = tick.end_ns;
}

impl Iterator for Items<'_> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.over {
                return None;
            }
            match self.decoder.item() {
                Ok(item) => self.over = !self.take(item),
                Err(error) => {
                    self.over = true;
                    self.ready.push_back(Err(error));
                }
            }
        }
    }
}
