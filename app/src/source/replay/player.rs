//! The player: which tick is shown when. It is told the time, and reads only its tape.

use super::tape::{Begin, Outline, Tape, follow};
use super::{Behind, Control, Moment, Progress, Said, Speed};
use crate::model::{session::Session, tick::Life, tick::Tick, totals::Totals};
use crate::record::{Gap, Item};
use crate::source::Msg;
use std::collections::VecDeque;
use std::time::Duration;

/// Ticks that are read ahead at once.
const AHEAD: usize = 32;
/// Ticks that are said in one turn, so that requests are heard between them.
const TURN: usize = 32;
/// Ticks before the displayed one that are said at once.
const BEHIND: usize = 16;
/// How long what is before a moment is not read: the person may be on the way to another one.
const QUIET: Duration = Duration::from_millis(150);
/// Ticks of a moment. Between two keys there are fewer unless keys are damaged.
const MOMENT: usize = 512;
/// Gaps that are remembered beside those that are known from the start.
const MOST_GAPS: usize = 1_000;
/// Longest time that is waited in a gap, whatever the speed: there is nothing to look at.
const GAP: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Player<T> {
    tape: T,
    /// Ticks that the screen looks back.
    window: usize,
    /// The tick that is shown, without its numbers; `None` before the first.
    shown: Option<Shown>,
    /// What was read after it.
    ahead: VecDeque<Item>,
    /// Who is there after a gap, to be told with the next tick.
    life: Vec<Life>,
    session: Option<Session>,
    playing: bool,
    following: bool,
    speed: Speed,
    /// When what moment of the recording was due.
    anchor: (Duration, u64),
    /// The gap that is being passed.
    gap: Option<Passing>,
    behind: Option<Reading>,
    trouble: Option<String>,
    /// Gaps that were only found by reading: not all of a file is looked at when it is opened.
    found: Vec<Gap>,
    /// There is nothing more to read, whatever the outline says.
    dry: bool,
    /// Begins again where it ends.
    again: bool,
    /// What was said last of it.
    progress: Option<Progress>,
}

/// A gap that is being passed.
#[derive(Clone, Debug)]
struct Passing {
    gap: Gap,
    /// Where in it one is.
    at_ns: u64,
    /// When it is over.
    until: Duration,
}

/// The tick that is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    end_ns: u64,
    dur_ns: u64,
}

/// What is before the displayed tick is to be read.
#[derive(Debug)]
struct Reading {
    /// From where on, and when.
    begin: Begin,
    due: Duration,
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
enum Place {
    /// The tick that is under way at a moment.
    At(u64),
    /// So many ticks before the one that ends at a moment.
    Before(u64, usize),
}

impl<T: Tape> Player<T> {
    /// A player for a screen that looks so many ticks back.
    pub fn new(tape: T, window: usize) -> Self {
        Self {
            tape,
            window,
            shown: None,
            ahead: VecDeque::new(),
            life: Vec::new(),
            session: None,
            playing: true,
            following: false,
            speed: Speed::default(),
            anchor: (Duration::ZERO, 0),
            gap: None,
            behind: None,
            trouble: None,
            found: Vec::new(),
            dry: false,
            again: false,
            progress: None,
        }
    }

    /// Begins again whenever it has played to the end, until somebody stops it.
    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// The tape.
    pub fn tape(&self) -> &T {
        &self.tape
    }

    /// The tape, to be added to.
    pub fn tape_mut(&mut self) -> &mut T {
        &mut self.tape
    }

    /// Begins: at the end of what is still being written, else with the first tick.
    pub fn open(&mut self, now: Duration) -> Vec<Msg> {
        self.following = self.tape.outline().end.is_none();
        let mut out = Vec::new();
        if !self.following {
            self.seek(Place::At(self.tape.outline().start_ns), now, &mut out);
        }
        self.tell(&mut out);
        out
    }

    /// Does what is asked for.
    pub fn control(&mut self, control: &Control, now: Duration) -> Vec<Msg> {
        let mut out = Vec::new();
        let outline = self.tape.outline();
        match *control {
            Control::Play { from_ns } => self.play(from_ns, &outline, now, &mut out),
            Control::Pause => (self.playing, self.following) = (false, false),
            Control::Speed(speed) => {
                // What was played at the old speed has been played.
                let at_ns = self.clock(now).min(self.next_end_ns().unwrap_or(u64::MAX));
                self.anchor = (now, at_ns);
                self.speed = speed;
            }
            Control::Step { from_ns, by } => {
                (self.playing, self.following) = (false, false);
                self.step(from_ns, by, now, &mut out);
            }
            Control::Seek(at_ns) => {
                self.following = false;
                self.seek(Place::At(at_ns), now, &mut out);
            }
            Control::Start => {
                self.following = false;
                self.seek(Place::At(outline.start_ns), now, &mut out);
            }
            Control::End => {
                self.following = outline.end.is_none();
                self.playing = self.following;
                self.seek(Place::At(outline.end_ns), now, &mut out);
            }
        }
        self.tell(&mut out);
        out
    }

    fn play(&mut self, from_ns: u64, outline: &Outline, now: Duration, out: &mut Vec<Msg>) {
        self.playing = true;
        // The last ticks of a damaged recording may be none that can be read.
        let end_ns = self.shown.filter(|_| self.dry).map_or(outline.end_ns, |shown| shown.end_ns);
        let over = outline.end.is_some() && from_ns >= end_ns && self.gap.is_none();
        if over {
            self.seek(Place::At(outline.start_ns), now, out);
        } else if self.shown.is_some_and(|shown| shown.end_ns != from_ns) {
            self.seek(Place::At(from_ns), now, out);
        }
        self.anchor = (now, self.shown.map_or(outline.start_ns, |shown| shown.end_ns));
    }

    fn step(&mut self, from_ns: u64, by: i64, now: Duration, out: &mut Vec<Msg>) {
        let ticks = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
        if by < 0 {
            return self.seek(Place::Before(from_ns, ticks), now, out);
        }
        if self.shown.is_some_and(|shown| shown.end_ns != from_ns) {
            self.seek(Place::At(from_ns), now, out);
        }
        self.read_behind(out);
        self.gap = None;
        let mut left = ticks.min(MOMENT);
        while left > 0 && self.refill() {
            left -= usize::from(self.say_next(out));
        }
    }

    /// What is due now, of the ticks and of what is behind the displayed one.
    pub fn advance(&mut self, now: Duration) -> Vec<Msg> {
        let mut out = Vec::new();
        if let Some(reading) = &self.behind {
            if reading.due <= now {
                self.read_behind(&mut out);
            }
            // Time stands still meanwhile.
            self.anchor = (now, self.shown.map_or(0, |shown| shown.end_ns));
            return out;
        }
        let mut said = 0;
        while self.playing && said < TURN && self.refill() && self.is_due(now) {
            let passed = self.gap.take().is_some();
            // What comes before a tick is due with it.
            let mut is_tick = self.say_next(&mut out);
            while !is_tick && self.refill() {
                is_tick = self.say_next(&mut out);
            }
            if !is_tick {
                break;
            }
            said += 1;
            let end_ns = self.shown.map_or(0, |shown| shown.end_ns);
            let late = self.clock(now).saturating_sub(end_ns) > self.speed.recorded(1_000_000_000);
            if passed || self.following || late {
                self.anchor = (now, end_ns);
            }
        }
        let over = self.playing && !self.refill();
        // Where that has failed, it has stopped.
        if over && self.playing {
            let Outline { start_ns, end, .. } = self.tape.outline();
            match (end, self.left_of_last(now)) {
                (None, _) => self.following = true,
                (Some(_), None) => (self.playing, self.following) = (false, false),
                (Some(_), Some(0)) => self.seek(Place::At(start_ns), now, &mut out),
                (Some(_), Some(_)) => {}
            }
        }
        self.tell(&mut out);
        out
    }

    /// How long the last tick is still to be seen before it begins again; `None` where it does not.
    fn left_of_last(&self, now: Duration) -> Option<u64> {
        let shown = self.shown.filter(|_| self.again)?;
        Some(shown.end_ns.saturating_add(shown.dur_ns.max(1)).saturating_sub(self.clock(now)))
    }

    /// How long there is nothing to do; `None` until something is asked for or arrives.
    pub fn wait(&mut self, now: Duration) -> Option<Duration> {
        if let Some(reading) = &self.behind {
            return Some(reading.due.saturating_sub(now));
        }
        if !self.playing {
            return None;
        }
        if !self.refill() {
            // Unless that has failed, which stops it.
            let left_ns = self.left_of_last(now).filter(|_| self.playing)?;
            return Some(Duration::from_nanos(self.speed.real(left_ns)));
        }
        if self.is_due(now) {
            return Some(Duration::ZERO);
        }
        if let Some(passing) = &self.gap {
            return Some(passing.until.saturating_sub(now));
        }
        let left_ns = self.next_end_ns()?.saturating_sub(self.clock(now));
        Some(Duration::from_nanos(self.speed.real(left_ns)).max(Duration::from_millis(1)))
    }

    /// The moment of the recording that it is now.
    fn clock(&self, now: Duration) -> u64 {
        let (since, at_ns) = self.anchor;
        let real_ns = u64::try_from(now.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX);
        at_ns.saturating_add(self.speed.recorded(real_ns))
    }

    fn next_tick(&self) -> Option<&Tick> {
        self.ahead.iter().find_map(|item| match item {
            Item::Tick(tick) => Some(tick.as_ref()),
            _ => None,
        })
    }

    fn next_end_ns(&self) -> Option<u64> {
        self.next_tick().map(|tick| tick.end_ns)
    }

    /// Whether what is next is to be said now. Enters the gap before it, if there is one.
    fn is_due(&mut self, now: Duration) -> bool {
        let Some(next) = self.next_tick() else { return true };
        if let Some(passing) = &self.gap {
            return passing.until <= now;
        }
        if self.following {
            return true;
        }
        let (end_ns, begin_ns) = (next.end_ns, next.end_ns.saturating_sub(next.dur_ns));
        if let Some(gap) = self.gap_until(begin_ns, next.dur_ns) {
            let real = Duration::from_nanos(self.speed.real(end_ns - gap.from_ns.min(end_ns)));
            let at_ns = gap.from_ns;
            self.gap = Some(Passing { gap, at_ns, until: now + real.min(GAP) });
            return false;
        }
        end_ns <= self.clock(now)
    }

    /// The gap between the displayed tick and one that begins then.
    fn gap_until(&self, begin_ns: u64, dur_ns: u64) -> Option<Gap> {
        let from_ns = self.shown?.end_ns;
        let missing_ns = begin_ns.saturating_sub(from_ns);
        (missing_ns > dur_ns.min(self.shown?.dur_ns) / 2).then(|| {
            let said = self.ahead.iter().find_map(|item| match item {
                Item::Gap(gap) => Some(gap.why.clone()),
                _ => None,
            });
            Gap { from_ns, until_ns: begin_ns, why: said.unwrap_or_else(missing) }
        })
    }

    /// Says what is next: true when it was a tick.
    fn say_next(&mut self, out: &mut Vec<Msg>) -> bool {
        match self.ahead.pop_front() {
            Some(Item::Tick(mut tick)) => {
                drop(tick.life.splice(0..0, self.life.drain(..)));
                self.shown = Some(Shown { end_ns: tick.end_ns, dur_ns: tick.dur_ns });
                out.push(Msg::Tick(tick));
                true
            }
            Some(Item::Session(session)) => {
                self.say_session(*session, out);
                false
            }
            Some(Item::Key(key)) => {
                self.life = lives(&key.totals);
                false
            }
            // Marks and gaps are in the outline.
            Some(Item::Mark(_) | Item::Gap(_) | Item::End(_)) | None => false,
        }
    }

    fn say_session(&mut self, session: Session, out: &mut Vec<Msg>) {
        if self.session.as_ref() != Some(&session) {
            out.push(Msg::Session(Box::new(session.clone())));
            self.session = Some(session);
        }
    }

    /// Reads on where everything was said. False when there is nothing (yet).
    fn refill(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        let outline = self.tape.outline();
        let after_ns = match self.shown {
            _ if self.dry || outline.end_ns <= outline.start_ns => return false,
            Some(shown) if shown.end_ns >= outline.end_ns => return false,
            Some(shown) => shown.end_ns,
            None => match self.tape.begin(outline.start_ns) {
                Ok(begin) => {
                    self.life = lives(&begin.known);
                    begin.at_ns
                }
                Err(why) => return self.fail(why),
            },
        };
        let mut ticks = 0;
        let mut since_gap = self.shown.is_none();
        let mut failed = None;
        for item in self.tape.items(after_ns) {
            match item {
                Ok(Item::Session(session)) if self.session.as_ref() == Some(session.as_ref()) => {}
                // The one at the begin says what is known already.
                Ok(Item::Key(_)) if !since_gap => {}
                Ok(item) => {
                    if let Item::Gap(gap) = &item {
                        since_gap = true;
                        note(&mut self.found, &outline.gaps, gap);
                    }
                    ticks += usize::from(matches!(item, Item::Tick(_)));
                    self.ahead.push_back(item);
                }
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            }
            // What comes after the last tick is read with the next one.
            if ticks == AHEAD {
                break;
            }
        }
        self.dry = ticks == 0 && outline.end.is_some();
        match failed {
            Some(why) if self.ahead.is_empty() => self.fail(why),
            _ => !self.ahead.is_empty(),
        }
    }

    /// Stops, because the tape cannot be read.
    fn fail(&mut self, why: String) -> bool {
        (self.playing, self.following) = (false, false);
        self.trouble = Some(why);
        false
    }

    /// Shows another place.
    fn seek(&mut self, place: Place, now: Duration, out: &mut Vec<Msg>) {
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
    fn read_behind(&mut self, out: &mut Vec<Msg>) {
        let (Some(Reading { begin, .. }), Some(shown)) = (self.behind.take(), self.shown) else {
            return;
        };
        let at_ns = shown.end_ns;
        let Ok(Found { moment, .. }) = self.read_from(begin, at_ns, false) else { return };
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
        // The tick that ends at a key is before it.
        let mut from_ns = at_ns.saturating_sub(1);
        loop {
            let begin = self.tape.begin(from_ns)?;
            let first = begin.at_ns <= outline.start_ns || begin.at_ns > from_ns;
            let earlier_ns = begin.at_ns.saturating_sub(1);
            let mut found = self.read_from(begin, at_ns, first)?;
            let ticks = &mut found.moment.ticks;
            if ticks.len() < wanted && !first {
                from_ns = earlier_ns;
                continue;
            }
            if let Place::Before(..) = place {
                found.gap = None;
                found.last = false;
                // The first tick is as far back as one can go.
                let kept = ticks.len().saturating_sub(wanted - 1).max(1);
                ticks.truncate(kept);
            }
            return Ok(found);
        }
    }

    /// The ticks from a begin to a moment: the last is under way then, or ended before it and nothing is known
    /// of the moment. `beyond` takes the first tick after the moment where there is none before.
    fn read_from(&mut self, begin: Begin, at_ns: u64, beyond: bool) -> Result<Found, String> {
        let known_gaps = self.tape.outline().gaps;
        let mut known = begin.known;
        let mut found = Found { begin_ns: begin.at_ns, ..Found::default() };
        let mut ticks: VecDeque<Tick> = VecDeque::new();
        let (mut why, mut life) = (None, Vec::new());
        for item in self.tape.items(begin.at_ns) {
            match item? {
                Item::Tick(tick) => {
                    let mut tick = *tick;
                    let (begin_ns, end_ns) = (tick.end_ns.saturating_sub(tick.dur_ns), tick.end_ns);
                    let last_ns = ticks.back().map(|tick| tick.end_ns);
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
                    ticks.push_back(tick);
                    why = None;
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
            if ticks.len() > MOMENT
                && let Some(oldest) = ticks.pop_front()
            {
                follow(&mut known, &oldest);
                found.begin_ns = oldest.end_ns;
            }
        }
        found.moment = Moment { known, ticks: ticks.into() };
        Ok(found)
    }

    /// Says how the playing is going, if that has changed.
    fn tell(&mut self, out: &mut Vec<Msg>) {
        let mut outline = self.tape.outline();
        if let Some(shown) = self.shown.filter(|_| self.dry && self.ahead.is_empty()) {
            outline.end_ns = shown.end_ns;
        }
        if !self.found.is_empty() {
            let mut gaps: Vec<Gap> = outline.gaps.iter().chain(&self.found).cloned().collect();
            gaps.sort_by_key(|gap| gap.from_ns);
            outline.gaps = gaps.into();
        }
        let progress = Progress {
            outline,
            playing: self.playing,
            following: self.following,
            speed: self.speed,
            gap: self.gap.as_ref().map(|passing| (passing.gap.clone(), passing.at_ns)),
            trouble: self.trouble.clone(),
        };
        if self.progress.as_ref() != Some(&progress) {
            self.progress = Some(progress.clone());
            out.push(said(Said::Progress(Box::new(progress))));
        }
    }
}

fn said(said: Said) -> Msg {
    Msg::Replay(Box::new(said))
}

/// Remembers a gap that nobody knew of. Where reading began within it, it is said from there on.
fn note(found: &mut Vec<Gap>, known: &[Gap], gap: &Gap) {
    if known.iter().any(|other| other.until_ns == gap.until_ns) {
        return;
    }
    if let Some(other) = found.iter_mut().find(|other| other.until_ns == gap.until_ns) {
        other.from_ns = other.from_ns.min(gap.from_ns);
    } else if found.len() < MOST_GAPS {
        found.push(gap.clone());
    }
}

fn missing() -> String {
    "ticks are missing in the recording".to_owned()
}

/// Everybody who is there, as a tick tells it.
fn lives(known: &Totals) -> Vec<Life> {
    let mut out = Vec::new();
    for vm in known.vms.values() {
        out.push(Life::Vm(vm.info.clone()));
        for vcpu in vm.vcpus.values() {
            out.push(Life::Vcpu(vcpu.info));
            out.extend(vcpu.ended_ns.map(|at| Life::VcpuGone(vcpu.info.key, at)));
        }
        out.extend(vm.ended_ns.map(|at| Life::VmGone(vm.info.id, at)));
    }
    out
}
