//! Looking for a place in a recording: what it takes to show it, and then what the screen looks back on from it.

use super::{GAP, MOST_GAPS, Passing, Player, Shown, lives, said};
use crate::model::{session::Session, tick::Tick};
use crate::record::{Gap, Item};
use crate::source::Msg;
use crate::source::replay::tape::{Begin, Tape, brief, there};
use crate::source::replay::{Behind, Moment, Said};
use std::collections::VecDeque;
use std::time::Duration;

/// Ticks before the displayed one that are said at once.
const BEHIND: usize = 16;
/// How long what is before a moment is not read: the person may be on the way to another one.
const QUIET: Duration = Duration::from_millis(150);
/// Ticks that are said with a moment, the displayed one among them. Reading one takes longer than anything else in a jump, and
/// the screen gets all that it looks back on a little later anyway.
const FIRST: usize = 5;
/// Most ticks that are read at once.
pub(super) const MOMENT: usize = 512;

/// What is before the displayed tick is to be read.
#[derive(Debug)]
pub(super) struct Reading {
    /// From where on, and when.
    begin: Begin,
    pub(super) due: Duration,
}

/// Where something is that was looked for.
#[derive(Debug, Default)]
struct Found {
    moment: Moment,
    /// Nothing of what is read before it is left out.
    begin_ns: u64,
    /// What is not known there, and where in it the place is.
    gap: Option<(Gap, u64)>,
    session: Option<Session>,
    /// Nothing comes after it.
    last: bool,
}

/// How a place is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The tick that is under way at a moment.
    At(u64),
    /// So many ticks before the one that ends at a moment.
    Before(u64, usize),
}

impl<T: Tape> Player<T> {
    /// Shows another place.
    pub(super) fn seek(&mut self, place: Place, now: Duration, out: &mut Vec<Msg>) {
        match self.find(place) {
            Ok(found) => self.show(found, now, out),
            Err(why) => {
                self.fail(why);
            }
        }
    }

    fn show(&mut self, found: Found, now: Duration, out: &mut Vec<Msg>) {
        let Found { moment, begin_ns, gap, session, last: dry } = found;
        let Some(last) = moment.ticks.last() else { return };
        let shown = Shown { end_ns: last.end_ns, dur_ns: last.dur_ns };
        if let Some(session) = session {
            self.say_session(session, out);
        }
        self.trouble = None;
        self.dry = dry;
        self.ahead.clear();
        self.life.clear();
        self.anchor = (now, shown.end_ns);
        self.gap = gap.map(|(gap, at_ns)| {
            let real = self.speed.real(gap.until_ns.saturating_sub(at_ns));
            Passing { gap, at_ns, until: now + Duration::from_nanos(real).min(GAP) }
        });
        let before = self.before(&moment, begin_ns, shown);
        self.behind = before.map(|begin| Reading { begin, due: now + QUIET });
        self.shown = Some(shown);
        out.push(said(Said::Moment(Box::new(moment))));
    }

    /// What is to be read of the time before a moment.
    fn before(&mut self, moment: &Moment, begin_ns: u64, shown: Shown) -> Option<Begin> {
        let start_ns = self.tape.outline().start_ns;
        if moment.ticks.len() >= self.window || begin_ns <= start_ns {
            return None;
        }
        let back_ns = shown.dur_ns.saturating_mul(self.window as u64);
        let begin = self.tape.begin(shown.end_ns.saturating_sub(back_ns)).ok()?;
        (begin.at_ns < begin_ns).then_some(begin)
    }

    /// Reads what is before the displayed tick, and that tick again. What cannot be read leaves what is shown
    /// as it is, with less behind it.
    pub(super) fn read_behind(&mut self, out: &mut Vec<Msg>) {
        let (Some(Reading { begin, .. }), Some(shown)) = (self.behind.take(), self.shown) else {
            return;
        };
        let at_ns = shown.end_ns;
        let Ok(Found { moment, .. }) = self.read_from(begin, at_ns, false, (MOMENT, 0)) else {
            return;
        };
        if moment.ticks.last().is_none_or(|last| last.end_ns != at_ns) {
            return;
        }
        out.push(said(Said::Behind(Behind::Begin(Box::new(moment.known)))));
        let mut ticks = moment.ticks.into_iter().peekable();
        while ticks.peek().is_some() {
            let some = ticks.by_ref().take(BEHIND).collect();
            out.push(said(Said::Behind(Behind::Ticks(some))));
        }
        out.push(said(Said::Behind(Behind::Done)));
    }

    /// Looks for a place, from the last key before it on, or from an earlier one where that is not enough.
    fn find(&mut self, place: Place) -> Result<Found, String> {
        let outline = self.tape.outline();
        let (at_ns, wanted) = match place {
            Place::At(at_ns) => (at_ns.clamp(outline.start_ns, outline.end_ns), 1),
            Place::Before(at_ns, ticks) => (at_ns, ticks.saturating_add(1)),
        };
        let kept = wanted.saturating_add(FIRST - 1).min(MOMENT);
        // Of what is too long ago to be shown it is enough to know who was there.
        let shown_ns = outline.tick_ns.saturating_mul(kept as u64);
        let mut brief_until_ns = if shown_ns == 0 { 0 } else { at_ns.saturating_sub(shown_ns) };
        // The tick that ends at a key is before it.
        let mut from_ns = at_ns.saturating_sub(1);
        loop {
            let begin = self.tape.begin(from_ns)?;
            let first = begin.at_ns <= outline.start_ns || begin.at_ns > from_ns;
            let earlier_ns = begin.at_ns.saturating_sub(1);
            let mut found = self.read_from(begin, at_ns, first, (kept, brief_until_ns))?;
            let ticks = &mut found.moment.ticks;
            if ticks.len() < wanted && brief_until_ns > 0 {
                // Ticks were longer there, or a gap is: the one before it is shown.
                brief_until_ns = 0;
                continue;
            }
            if ticks.len() < wanted && !first {
                from_ns = earlier_ns;
                continue;
            }
            if let Place::Before(..) = place {
                found.gap = None;
                found.last = false;
                // The first tick is as far back as one can go.
                let left = ticks.len().saturating_sub(wanted - 1).max(1);
                ticks.truncate(left);
            }
            return Ok(found);
        }
    }

    /// The ticks from a begin to a moment: the last is under way then, or ended before it and nothing is known
    /// of the moment. `beyond` takes the first tick after the moment where there is none before. Of more ticks than
    /// `most` only the last are kept, and none that ends until `brief_until_ns`.
    fn read_from(
        &mut self,
        begin: Begin,
        at_ns: u64,
        beyond: bool,
        (most, brief_until_ns): (usize, u64),
    ) -> Result<Found, String> {
        let known_gaps = self.tape.outline().gaps;
        let mut known = begin.known;
        let mut found = Found { begin_ns: begin.at_ns, ..Found::default() };
        let mut ticks: VecDeque<Tick> = VecDeque::new();
        let (mut why, mut life, mut last_ns) = (None, Vec::new(), None);
        for item in self.tape.items(begin.at_ns, brief_until_ns) {
            match item? {
                Item::Tick(tick) => {
                    let mut tick = *tick;
                    let (begin_ns, end_ns) = (tick.end_ns.saturating_sub(tick.dur_ns), tick.end_ns);
                    if end_ns > at_ns && begin_ns >= at_ns && (last_ns.is_some() || !beyond) {
                        // Between two ticks is nothing, unless they are far apart.
                        let from_ns = last_ns.unwrap_or(at_ns);
                        let apart = begin_ns.saturating_sub(from_ns) > tick.dur_ns / 2;
                        found.gap = (apart && from_ns < at_ns).then(|| {
                            let why = why.unwrap_or_else(missing);
                            (Gap { from_ns, until_ns: begin_ns, why }, at_ns)
                        });
                        break;
                    }
                    drop(tick.life.splice(0..0, std::mem::take(&mut life)));
                    (why, last_ns) = (None, Some(end_ns));
                    if end_ns <= brief_until_ns {
                        known.apply(&brief(&tick));
                        found.begin_ns = end_ns;
                        continue;
                    }
                    ticks.push_back(tick);
                    if end_ns >= at_ns {
                        break;
                    }
                }
                Item::Gap(gap) => {
                    note(&mut self.found, &known_gaps, &gap);
                    why = Some(gap.why);
                }
                Item::Key(key) if why.is_some() => life = lives(&key.totals),
                Item::Session(session) => found.session = Some(*session),
                Item::Key(_) | Item::Mark(_) => {}
                Item::End(_) => {
                    found.last = true;
                    break;
                }
            }
            if ticks.len() > most
                && let Some(oldest) = ticks.pop_front()
            {
                known.apply(&brief(&oldest));
                found.begin_ns = oldest.end_ns;
            }
        }
        found.moment = Moment { known: there(&known), ticks: ticks.into() };
        Ok(found)
    }
}

/// Remembers a gap that nobody knew of. Where reading began within it, it is said from there on.
pub(super) fn note(found: &mut Vec<Gap>, known: &[Gap], gap: &Gap) {
    if known.iter().any(|other| other.until_ns == gap.until_ns) {
        return;
    }
    if let Some(other) = found.iter_mut().find(|other| other.until_ns == gap.until_ns) {
        other.from_ns = other.from_ns.min(gap.from_ns);
    } else if found.len() < MOST_GAPS {
        found.push(gap.clone());
    }
}

pub(super) fn missing() -> String {
    "ticks are missing in the recording".to_owned()
}
