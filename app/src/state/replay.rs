//! A recording on the screen: where one is in it, and what moving in it asks of the player.
//!
//! The kept ticks are a run of the recording that ends with the tick the player said last. Stepping stays
//! among them where it can and asks nobody; everything else the player is asked for.

use super::action::{Action, Effect};
use super::moment::Moments;
use super::signals::{Apicv, Windows};
use super::{Entities, Limits, Log, Mode, Slow, State, seek};
use crate::model::detail::VmTick;
use crate::model::history::Meta;
use crate::model::meters::MetersTick;
use crate::model::tick::{Tick, VcpuTick};
use crate::model::totals::Totals;
use crate::record::{End, Gap, Mark};
use crate::source::replay::{Behind, Control, Moment, Progress, Said, Speed};
use std::mem::swap;
use std::sync::Arc;

/// A recording that is played.
#[derive(Debug, Default)]
pub(super) struct Playing {
    progress: Progress,
    /// More ticks before the displayed one, which are put together.
    behind: Option<Box<Kept>>,
    /// Places before this one are taken: they name a tick once and for all.
    places: u64,
}

/// What is kept of ticks.
#[derive(Debug)]
struct Kept {
    entities: Entities,
    moments: Moments,
    log: Log,
    slow: Slow,
    windows: Windows,
    apicv: Apicv,
}

impl Kept {
    /// Before the first tick, which gets this place.
    fn new(known: &Totals, limits: Limits, first: u64) -> Self {
        let latest = Meta {
            end_ns: known.end_ns,
            lost: known.lost,
            lost_ticks: known.lost_ticks,
            ..Meta::default()
        };
        let max = (limits.history_bytes, limits.history);
        let mut kept = Self {
            entities: Entities::known(known),
            moments: Moments::after(max, latest, first),
            log: Log::default(),
            slow: Slow::default(),
            windows: Windows::default(),
            apicv: Apicv::default(),
        };
        let before = first.saturating_sub(1);
        let tick = what_holds(known);
        kept.windows.add(before, before, &tick);
        kept.apicv.add(before, before, &tick);
        kept
    }
}

/// What was told before and holds on until something else is told.
fn what_holds(known: &Totals) -> Tick {
    let mut tick = Tick::default();
    for (&id, vm) in &known.vms {
        let apicv_inhibits = vm.apicv_inhibits;
        tick.vms.push(VmTick { id, apicv_inhibits, ..VmTick::default() });
        for vcpu in vm.vcpus.values() {
            let meters = MetersTick { window: vcpu.meters.window, ..MetersTick::default() };
            tick.vcpus.push(VcpuTick { key: vcpu.info.key, meters, ..VcpuTick::default() });
        }
    }
    tick
}

/// Where one is in a recording, for the screen. Moments are ns of the recording's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deck {
    /// Begin of the first tick.
    pub start_ns: u64,
    /// End of the last tick.
    pub end_ns: u64,
    /// End of the displayed tick, or where in a gap one is.
    pub at_ns: u64,
    /// The same, ns since the Unix epoch.
    pub at_unix_ns: u64,
    /// Length of the displayed tick, ns.
    pub dur_ns: u64,
    /// Whether time goes on.
    pub playing: bool,
    /// Whether what arrives is shown at once.
    pub following: bool,
    /// How fast.
    pub speed: Speed,
    /// The gap that one is in: nothing is known of this moment.
    pub gap: Option<Gap>,
    /// Notes, by moment.
    pub marks: Arc<[Mark]>,
    /// Of what nothing is known, by moment.
    pub gaps: Arc<[Gap]>,
    /// How it ends; `None` while more arrives.
    pub end: Option<End>,
    /// What could not be read: a sentence.
    pub trouble: Option<String>,
}

impl Deck {
    /// Whether the last tick is shown, and no more will come.
    pub fn is_over(&self) -> bool {
        self.end.is_some() && self.gap.is_none() && self.at_ns >= self.end_ns
    }

    /// Whether the first tick is shown, or nothing yet.
    pub fn is_start(&self) -> bool {
        self.at_ns.saturating_sub(self.dur_ns) <= self.start_ns
    }

    /// The next note after the displayed moment.
    pub fn next_mark(&self) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.at_ns > self.at_ns)
    }

    /// The note before the displayed tick. One in the tick is where one is already.
    pub fn mark_before(&self) -> Option<&Mark> {
        let begin_ns = self.at_ns.saturating_sub(self.dur_ns);
        self.marks.iter().rev().find(|mark| mark.at_ns <= begin_ns)
    }

    /// The note in the displayed tick.
    pub fn mark(&self) -> Option<&Mark> {
        let begin_ns = self.at_ns.saturating_sub(self.dur_ns);
        let here = |mark: &&Mark| mark.at_ns <= self.at_ns && mark.at_ns > begin_ns;
        self.marks.iter().rev().find(here)
    }
}

/// A recording that is shown because this host cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sample {
    /// What was recorded, and on what.
    pub of: String,
    /// Why this host is not shown.
    pub why: String,
    /// What to run to see it.
    pub command: String,
}

impl State {
    /// Says that the recording stands in for this host.
    pub fn set_sample(&mut self, sample: Option<Sample>) {
        self.sample = sample;
    }

    /// Why a recording stands in for this host, if one does.
    pub fn sample(&self) -> Option<&Sample> {
        self.sample.as_ref()
    }

    /// Whether a recording is shown.
    pub fn replaying(&self) -> bool {
        self.playing.is_some()
    }

    /// Where one is in the recording; `None` where none is played.
    pub fn deck(&self) -> Option<Deck> {
        let Playing { progress, .. } = self.playing.as_deref()?;
        let gap = progress.gap.as_ref().filter(|_| self.moments.live());
        let shown = self.moments.shown().map(|shown| &shown.tick);
        let at_ns = gap.map(|(_, at_ns)| *at_ns).or(shown.map(|tick| tick.end_ns));
        let at_ns = at_ns.unwrap_or(progress.outline.start_ns);
        Some(Deck {
            start_ns: progress.outline.start_ns,
            end_ns: progress.outline.end_ns,
            at_ns,
            at_unix_ns: self.session.unix_ns(at_ns),
            dur_ns: shown.filter(|_| gap.is_none()).map_or(0, |tick| tick.dur_ns),
            playing: progress.playing,
            following: progress.following,
            speed: progress.speed,
            gap: gap.map(|(gap, _)| gap.clone()),
            marks: Arc::clone(&progress.outline.marks),
            gaps: Arc::clone(&progress.outline.gaps),
            end: progress.outline.end.clone(),
            trouble: progress.trouble.clone(),
        })
    }

    /// Takes what a player says.
    pub(super) fn replay(&mut self, said: Said) {
        let mut playing = self.playing.take().unwrap_or_default();
        playing.places = playing.places.max(self.moments.next_place());
        let limits = self.limits;
        let anew = |known: &Totals, places: &mut u64| {
            // A place is left out between two runs: they are not neighbours.
            *places += 1;
            Box::new(Kept::new(known, limits, *places))
        };
        match said {
            Said::Progress(progress) => playing.progress = *progress,
            Said::Moment(moment) => {
                let Moment { known, ticks } = *moment;
                playing.behind = None;
                self.exchange(&mut anew(&known, &mut playing.places));
                ticks.into_iter().for_each(|tick| self.tick(tick));
            }
            Said::Behind(Behind::Begin(known)) => {
                playing.behind = Some(anew(&known, &mut playing.places));
            }
            Said::Behind(Behind::Ticks(ticks)) => {
                if let Some(behind) = playing.behind.as_deref_mut() {
                    self.exchange(behind);
                    ticks.into_iter().for_each(|tick| self.tick(tick));
                    self.exchange(behind);
                    playing.places = playing.places.max(behind.moments.next_place());
                }
            }
            Said::Behind(Behind::Done) => {
                if let Some(mut behind) = playing.behind.take() {
                    self.take_over(&mut behind);
                }
            }
        }
        self.playing = Some(playing);
    }

    /// Shows the same tick with more behind it.
    fn take_over(&mut self, behind: &mut Kept) {
        // Something else may be shown by now.
        if behind.moments.latest_ns() != self.moments.latest_ns() {
            return;
        }
        let shown = self.moments.shown().map(|shown| shown.tick.end_ns);
        let live = self.moments.live();
        self.exchange(behind);
        if let (false, Some(end_ns)) = (live, shown) {
            self.moments.show_end(end_ns);
        }
    }

    fn exchange(&mut self, kept: &mut Kept) {
        swap(&mut self.entities, &mut kept.entities);
        swap(&mut self.moments, &mut kept.moments);
        swap(&mut self.log, &mut kept.log);
        swap(&mut self.slow, &mut kept.slow);
        swap(&mut self.windows, &mut kept.windows);
        swap(&mut self.apicv, &mut kept.apicv);
    }

    /// Does what is different with a recording; `None` where it is the same as ever.
    pub(super) fn perform_replay(&mut self, action: &Action) -> Option<Vec<Effect>> {
        let deck = self.deck()?;
        let controls = match action {
            Action::Pause if deck.playing => vec![self.control(Control::Pause)],
            Action::Pause => {
                let from_ns = self.shown_ns();
                vec![self.control(Control::Play { from_ns })]
            }
            Action::GoLive => vec![self.control(Control::End)],
            Action::GoStart => vec![self.control(Control::Start)],
            Action::StepBack(ticks) => self.step_back(&deck, *ticks),
            Action::StepForward(ticks) => self.step_forward(&deck, *ticks),
            Action::Faster => vec![self.control(Control::Speed(deck.speed.faster()))],
            Action::Slower => vec![self.control(Control::Speed(deck.speed.slower()))],
            Action::NextMark => {
                let mark = deck.next_mark().map(|mark| mark.at_ns);
                mark.map(|at_ns| self.control(Control::Seek(at_ns))).into_iter().collect()
            }
            Action::PreviousMark => {
                let mark = deck.mark_before().map(|mark| mark.at_ns);
                mark.map(|at_ns| self.control(Control::Seek(at_ns))).into_iter().collect()
            }
            Action::SeekEdit(text) => {
                self.leave_prompt();
                // Nothing typed yet is nothing wrong.
                let error = (!text.is_empty()).then(|| self.sought(&deck, text).err()).flatten();
                self.mode = Mode::Seek { text: text.clone(), error };
                Vec::new()
            }
            Action::SeekAccept => self.seek_accept(&deck),
            // There are no probes to be asked, and the interval is what it was.
            Action::Culprits
            | Action::SwitchFamily
            | Action::NextStacks
            | Action::Interval(_)
            | Action::LimitEdit(_) => Vec::new(),
            _ => return None,
        };
        Some(controls.into_iter().map(Effect::Replay).collect())
    }

    fn shown_ns(&self) -> u64 {
        self.moments.shown().map_or(0, |shown| shown.tick.end_ns)
    }

    /// Asks the player, and shows at once what is known to come of it. What the player says next is shown.
    fn control(&mut self, control: Control) -> Control {
        let latest = self.shown_ns() == self.moments.latest_ns();
        if let Some(playing) = self.playing.as_deref_mut() {
            match control {
                Control::Pause => playing.progress.playing = false,
                Control::Speed(speed) => playing.progress.speed = speed,
                Control::Play { .. } => playing.progress.playing = true,
                Control::Step { .. } | Control::Seek(_) | Control::Start | Control::End => {}
            }
        }
        if matches!(control, Control::Play { .. } | Control::Step { .. }) && latest {
            self.moments.go_live();
        }
        control
    }

    fn step_back(&mut self, deck: &Deck, ticks: usize) -> Vec<Control> {
        let mut out = Vec::new();
        if deck.playing {
            out.push(self.control(Control::Pause));
        }
        let from_ns = self.shown_ns();
        if deck.gap.is_some() {
            // What is before the gap is the tick that was shown last.
            let by = -i64::try_from(ticks).unwrap_or(i64::MAX).saturating_sub(1);
            out.push(self.control(Control::Step { from_ns, by }));
            return out;
        }
        let behind = self.header().position.behind;
        if ticks <= behind {
            self.moments.step(-i64::try_from(ticks).unwrap_or(i64::MAX));
        } else if self.moments.oldest_begin_ns() <= deck.start_ns {
            self.moments.step(i64::MIN);
        } else {
            let by = -i64::try_from(ticks).unwrap_or(i64::MAX);
            out.push(self.control(Control::Step { from_ns, by }));
        }
        out
    }

    fn step_forward(&mut self, deck: &Deck, ticks: usize) -> Vec<Control> {
        let mut out = Vec::new();
        if deck.playing {
            out.push(self.control(Control::Pause));
        }
        let ahead = self.header().position.ahead;
        self.moments.step(i64::try_from(ticks.min(ahead)).unwrap_or(i64::MAX));
        if self.shown_ns() == self.moments.latest_ns() {
            self.moments.go_live();
        }
        if ticks > ahead {
            let by = i64::try_from(ticks - ahead).unwrap_or(i64::MAX);
            out.push(self.control(Control::Step { from_ns: self.shown_ns(), by }));
        }
        out
    }

    fn sought(&self, deck: &Deck, text: &str) -> Result<u64, String> {
        let outline = &self.playing.as_deref().ok_or_else(String::new)?.progress.outline;
        seek::parse(text, deck.at_ns, outline, &self.session)
    }

    fn seek_accept(&mut self, deck: &Deck) -> Vec<Control> {
        let Mode::Seek { text, .. } = &self.mode else { return Vec::new() };
        if text.trim().is_empty() {
            self.mode = Mode::Normal;
            return Vec::new();
        }
        match self.sought(deck, text) {
            Ok(at_ns) => {
                self.mode = Mode::Normal;
                vec![self.control(Control::Seek(at_ns))]
            }
            Err(why) => {
                let text = text.clone();
                self.mode = Mode::Seek { text, error: Some(why) };
                Vec::new()
            }
        }
    }
}
