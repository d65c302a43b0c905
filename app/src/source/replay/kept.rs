//! What is kept of a recording that comes through a pipe, bounded in bytes.

use super::tape::{Begin, Items, Outline, Tape, follow, there};
use crate::model::{codec, session::Session, tick::Tick, totals::Totals};
use crate::record::{Gap, Item, Key, Mark};
use std::collections::VecDeque;

/// Ticks between two places where reading may begin.
const BLOCK: usize = 60;
/// Marks and gaps that are remembered, of each the latest.
const NOTES: usize = 10_000;

/// Something that was said, after the tick that ended at its moment (a tick: the one that ended then).
#[derive(Debug)]
enum Entry {
    Tick(Box<[u8]>),
    Item(Item),
}

/// What is kept of a pipe.
#[derive(Debug, Default)]
pub struct KeptTape {
    entries: VecDeque<(u64, Entry)>,
    bytes: usize,
    max_bytes: usize,
    begins: VecDeque<Begin>,
    /// Ticks since the last of them.
    since: usize,
    /// Who is there at the end.
    now: Totals,
    sessions: VecDeque<(u64, Session)>,
    marks: VecDeque<Mark>,
    gaps: VecDeque<Gap>,
    outline: Outline,
    /// Kept before the first tick came.
    begun: bool,
}

impl KeptTape {
    /// Keeps at most about so many bytes of encoded ticks: the oldest leave in blocks.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// The session that was said last.
    pub fn session(&self) -> Option<&Session> {
        self.sessions.back().map(|(_, session)| session)
    }

    /// Takes what comes next.
    pub fn push(&mut self, item: Item) {
        let at_ns = self.outline.end_ns;
        match item {
            Item::Session(session) => {
                self.sessions.push_back((at_ns, *session.clone()));
                self.entries.push_back((at_ns, Entry::Item(Item::Session(session))));
            }
            Item::Key(key) => {
                self.now = there(&key.totals);
                if self.begun {
                    let key = Key { totals: self.now.clone(), ..*key };
                    self.entries.push_back((at_ns, Entry::Item(Item::Key(Box::new(key)))));
                }
            }
            Item::Tick(tick) => self.tick(&tick),
            Item::Mark(mark) => {
                let at = self.marks.partition_point(|other| other.at_ns <= mark.at_ns);
                self.marks.insert(at, mark);
                if self.marks.len() > NOTES {
                    self.marks.pop_front();
                }
                self.outline.marks = self.marks.iter().cloned().collect();
            }
            Item::Gap(gap) => {
                self.gaps.push_back(gap.clone());
                if self.gaps.len() > NOTES {
                    self.gaps.pop_front();
                }
                self.outline.gaps = self.gaps.iter().cloned().collect();
                self.entries.push_back((at_ns, Entry::Item(Item::Gap(gap))));
            }
            Item::End(end) => {
                self.entries.push_back((at_ns, Entry::Item(Item::End(end.clone()))));
                self.outline.end = Some(end);
            }
        }
    }

    fn tick(&mut self, tick: &Tick) {
        let begin_ns = tick.end_ns.saturating_sub(tick.dur_ns);
        if !self.begun {
            self.begun = true;
            self.outline.start_ns = begin_ns;
            self.since = BLOCK;
        }
        if self.since >= BLOCK {
            let at_ns = if self.begins.is_empty() { begin_ns } else { self.outline.end_ns };
            self.begins.push_back(Begin { at_ns, known: self.now.clone() });
            self.since = 0;
        }
        self.since += 1;
        follow(&mut self.now, tick);
        self.outline.end_ns = tick.end_ns;
        let mut bytes = Vec::new();
        // Encoding fails for no tick that there can be; one that it did fail for would be a gap.
        if codec::encode(tick, &mut bytes).is_err() {
            return;
        }
        self.bytes += bytes.len();
        self.entries.push_back((tick.end_ns, Entry::Tick(bytes.into())));
        self.evict();
    }

    /// The oldest block leaves, and what was noted in it.
    fn evict(&mut self) {
        while self.bytes > self.max_bytes
            && let Some(start_ns) = self.begins.get(1).map(|begin| begin.at_ns)
        {
            self.begins.pop_front();
            while let Some((at_ns, entry)) = self.entries.front()
                && *at_ns <= start_ns
                // What was said after the block's last tick belongs to the next one.
                && (*at_ns < start_ns || matches!(entry, Entry::Tick(_)))
            {
                if let Some((_, Entry::Tick(bytes))) = self.entries.pop_front() {
                    self.bytes -= bytes.len();
                }
            }
            while self.sessions.get(1).is_some_and(|(at_ns, _)| *at_ns <= start_ns) {
                self.sessions.pop_front();
            }
            self.outline.start_ns = start_ns;
            self.marks.retain(|mark| mark.at_ns >= start_ns);
            self.gaps.retain(|gap| gap.until_ns >= start_ns);
            self.outline.marks = self.marks.iter().cloned().collect();
            self.outline.gaps = self.gaps.iter().cloned().collect();
        }
    }
}

fn item(entry: &Entry) -> Result<Item, String> {
    match entry {
        Entry::Item(item) => Ok(item.clone()),
        Entry::Tick(bytes) => match codec::decode(bytes) {
            Ok(tick) => Ok(Item::Tick(Box::new(tick))),
            Err(error) => Err(format!("a kept tick cannot be read: {error}")),
        },
    }
}

impl Tape for KeptTape {
    fn outline(&self) -> Outline {
        self.outline.clone()
    }

    fn begin(&mut self, at_ns: u64) -> Result<Begin, String> {
        let after = self.begins.partition_point(|begin| begin.at_ns <= at_ns);
        Ok(self.begins.get(after.saturating_sub(1)).cloned().unwrap_or_default())
    }

    fn items(&mut self, after_ns: u64, _: u64) -> Items<'_> {
        let session = self.sessions.iter().rev().find(|(at_ns, _)| *at_ns <= after_ns);
        let session = session.or(self.sessions.front());
        let session = session.map(|(_, session)| Ok(Item::Session(Box::new(session.clone()))));
        let from = self.entries.partition_point(|(at_ns, _)| *at_ns < after_ns);
        let rest = self.entries.range(from..);
        let later = move |(at_ns, entry): &&(u64, Entry)| {
            *at_ns > after_ns || matches!(entry, Entry::Item(_))
        };
        Box::new(session.into_iter().chain(rest.filter(later).map(|(_, entry)| item(entry))))
    }
}
