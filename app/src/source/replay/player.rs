//! The player: which tick is shown when. It is told the time, and reads only its tape.

mod place;

use self::place::{MOMENT, Place, Reading, missing, note};
use super::tape::{Outline, Tape};
use super::{Control, Progress, Said, Speed};
use crate::model::{session::Session, tick::Life, tick::Tick, totals::Totals};
use crate::record::{Gap, Item};
use crate::source::Msg;
use std::collections::VecDeque;
use std::time::Duration;

/// Ticks that are read ahead at once.
const AHEAD: usize = 32;
/// Ticks that are said in one turn, so that requests are heard between them.
const TURN: usize = 32;
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
            // A gap may have been found.
            self.tell(&mut out);
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
        for item in self.tape.items(after_ns, 0) {
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
