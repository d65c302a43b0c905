//! What the displayed tick is compared with: the minute before it, or a moment that the person took as the
//! baseline.

use super::heat::Colour;
use super::load::per_second;
use super::moment::Moments;
use super::nav::{RowId, Scope, Who};
use crate::model::codec::Part;
use crate::model::ids::{Kind, Reason};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// How far it looks back.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Ticks that a moment is: the displayed one and those before it. One alone would be chance.
const TICKS: usize = 10;

type Counts = HashMap<(RowId, Reason), u64>;

/// Counts of a heat map's cells over some ticks. Kept between frames and slid along with time.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    scope: Option<Scope>,
    first: u64,
    /// By tick: its length (ns) and its counts.
    slices: VecDeque<(u64, Counts)>,
    sum: Counts,
    sum_ns: u64,
}

impl Baseline {
    /// Reads what the places have of a scope, as far as it is not read already.
    pub fn look(&mut self, scope: Scope, places: Range<u64>, moments: &Moments) {
        let end = self.first + self.slices.len() as u64;
        let goes_on = self.scope == Some(scope)
            && (self.first..=end).contains(&places.start)
            && places.end >= end;
        if !goes_on {
            *self = Self { scope: Some(scope), first: places.start, ..Self::default() };
        }
        while self.first < places.start {
            let Some((dur_ns, counts)) = self.slices.pop_front() else { break };
            self.first += 1;
            self.sum_ns = self.sum_ns.saturating_sub(dur_ns);
            for (cell, n) in counts {
                if let Some(sum) = self.sum.get_mut(&cell) {
                    *sum = sum.saturating_sub(n);
                }
            }
        }
        for place in self.first + self.slices.len() as u64..places.end {
            let slice = slice(scope, place, moments);
            self.sum_ns = self.sum_ns.saturating_add(slice.0);
            for (&cell, &n) in &slice.1 {
                let sum = self.sum.entry(cell).or_default();
                *sum = sum.saturating_add(n);
            }
            self.slices.push_back(slice);
        }
    }

    /// Exits per second of a cell; `None` when there is no time before.
    pub fn rate(&self, row: RowId, reason: Reason) -> Option<f64> {
        let n = self.sum.get(&(row, reason)).copied().unwrap_or_default();
        (self.sum_ns > 0).then(|| per_second(n, self.sum_ns))
    }
}

fn slice(scope: Scope, place: u64, moments: &Moments) -> (u64, Counts) {
    let mut counts = Counts::new();
    let part =
        scope.vm().map_or(Part::ALL, |vm| Part::vm(vm, None)).without_hist().without_events();
    let Some(tick) = moments.part(place, part) else { return (0, counts) };
    for of_vm in tick.vcpus.chunk_by(|a, b| a.key.vm == b.key.vm) {
        // First added up by reason, of which there are few, and then hashed.
        let mut sums: BTreeMap<Reason, u64> = BTreeMap::new();
        for (key, cell) in of_vm.iter().flat_map(|vcpu| vcpu.cells.iter().map(|c| (vcpu.key, c))) {
            let sum = sums.entry(cell.reason).or_default();
            *sum = sum.saturating_add(cell.count);
            if scope != Scope::Host {
                counts.insert((RowId::Vcpu(key), cell.reason), cell.count);
            }
        }
        let Some(vm) = of_vm.first().map(|vcpu| vcpu.key.vm) else { continue };
        let row = if scope == Scope::Host { RowId::Vm(vm) } else { RowId::All(vm) };
        counts.extend(sums.into_iter().map(|(reason, n)| ((row, reason), n)));
    }
    (tick.dur_ns, counts)
}

/// What cells of a heat map are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Against<'a> {
    /// The minute before.
    Minute(&'a Baseline),
    /// What the person took.
    Taken(&'a Taken),
}

impl Against<'_> {
    /// Exits per second of a cell then; `None` when nothing is known of then.
    pub fn rate(&self, row: RowId, reason: Reason) -> Option<f64> {
        match self {
            Self::Minute(before) => before.rate(row, reason),
            Self::Taken(taken) => Some(taken.rate(row, reason)),
        }
    }
}

/// When a baseline is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaselineOf {
    /// Its end, ns of the probes' clock.
    pub end_ns: u64,
    /// Its length, ns.
    pub dur_ns: u64,
}

/// A moment that the person took as the baseline: how often everything happened then, on the whole host. It
/// stays when its ticks are not kept any more.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    counts: Counts,
    /// Kernel exits and userspace exits of each row.
    exits: HashMap<RowId, (u64, u64)>,
    /// When it is of.
    pub of: BaselineOf,
    /// What colour meant before, to come back to.
    pub colour: Colour,
}

impl Taken {
    /// The displayed tick and those before it, [`TICKS`] at most; `None` when there is none.
    pub fn take(moments: &Moments, colour: Colour) -> Option<Self> {
        let end_ns = moments.shown()?.tick.end_ns;
        let of = BaselineOf { end_ns, dur_ns: 0 };
        let mut taken = Self { counts: Counts::new(), exits: HashMap::new(), of, colour };
        for place in moments.window(TICKS) {
            let part = Part::ALL.without_hist().without_events();
            let Some(tick) = moments.part(place, part) else { continue };
            taken.of.dur_ns = taken.of.dur_ns.saturating_add(tick.dur_ns);
            for vcpu in &tick.vcpus {
                let vm = vcpu.key.vm;
                for row in [RowId::Vm(vm), RowId::All(vm), RowId::Vcpu(vcpu.key)] {
                    vcpu.cells.iter().for_each(|cell| taken.add(row, cell.reason, cell.count));
                }
            }
        }
        Some(taken)
    }

    fn add(&mut self, row: RowId, reason: Reason, n: u64) {
        let sum = self.counts.entry((row, reason)).or_default();
        *sum = sum.saturating_add(n);
        let (kernel, user) = self.exits.entry(row).or_default();
        let sum = if reason.kind == Kind::Exit { kernel } else { user };
        *sum = sum.saturating_add(n);
    }

    /// Exits per second of a cell then; 0 of what did not happen.
    pub fn rate(&self, row: RowId, reason: Reason) -> f64 {
        let n = self.counts.get(&(row, reason)).copied().unwrap_or_default();
        per_second(n, self.of.dur_ns)
    }

    /// How many times as many exits a row has now; infinite for one that had none.
    pub fn change(&self, row: RowId, rate: f64, user_rate: f64) -> Option<f64> {
        let (kernel, user) = self.exits.get(&row).copied().unwrap_or_default();
        // Where kernel exits cannot be seen, those to the VMM stand in.
        match (kernel, rate > 0.0) {
            (0, false) => factor(user_rate, per_second(user, self.of.dur_ns)),
            _ => factor(rate, per_second(kernel, self.of.dur_ns)),
        }
    }

    /// The same of a reason of someone.
    pub fn reason_change(&self, who: Who, reason: Reason, rate: f64) -> Option<f64> {
        let row = match who {
            Who::Vm(vm) => RowId::Vm(vm),
            Who::Vcpu(key) => RowId::Vcpu(key),
        };
        factor(rate, self.rate(row, reason))
    }
}

/// The factor from `base` to `rate`; infinite for what is new; `None` when there is neither.
pub(super) fn factor(rate: f64, base: f64) -> Option<f64> {
    if base > 0.0 {
        Some(rate / base)
    } else if rate > 0.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;
    use crate::model::session::Session;
    use crate::model::testing::{cell, vcpu};
    use crate::model::tick::Tick;
    use crate::source::Msg;
    use crate::state::{Action, Limits, State};

    fn state_of(ticks: &[(u64, usize)]) -> State {
        let mut state = State::new(Session::default(), Limits::default());
        apply(&mut state, ticks);
        state
    }

    /// Seconds with so many exits of vCPU 0 of VM 1, and one of vCPU 1.
    fn apply(state: &mut State, ticks: &[(u64, usize)]) {
        for &(seq, exits) in ticks {
            let reason = Reason::exit(Isa::Vmx, 30);
            let cells = vec![cell(reason, &vec![1_000; exits])];
            let vcpus =
                vec![vcpu(1, 0, SECOND, cells), vcpu(1, 1, SECOND, vec![cell(reason, &[1_000])])];
            let (end_ns, dur_ns) = (seq * SECOND, SECOND);
            let tick = Tick { seq, end_ns, dur_ns, vcpus, ..Tick::default() };
            state.apply(Msg::Tick(Box::new(tick)));
        }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_present_is_taken_as_the_baseline_and_forgotten_again() {
        // Twelve seconds, of which the last ten are the present: 100 a second.
        let ticks: Vec<_> = (1..=12).map(|seq| (seq, if seq < 3 { 5_000 } else { 100 })).collect();
        let mut state = state_of(&ticks);
        assert_eq!((state.baseline(), state.vm_rows()[0].load.change), (None, None));
        state.act(Action::Baseline);
        let of = BaselineOf { end_ns: 12 * SECOND, dur_ns: 10 * SECOND };
        assert_eq!((state.baseline(), state.colour()), (Some(of), Colour::Change));
        apply(&mut state, &[(13, 302)]);
        let close = |change: Option<f64>, to: f64| change.is_some_and(|c| (c - to).abs() < 1e-9);
        assert!(close(state.vm_rows()[0].load.change, 303.0 / 101.0));
        assert_eq!(state.heatmap().rows[0].cells[0].value, Some(3.0));
        state.act(Action::Open);
        let changes: Vec<_> = state.vcpu_rows().iter().map(|row| row.load.change).collect();
        assert!(close(changes[0], 3.0) && close(changes[1], 3.02) && close(changes[2], 1.0));
        state.act(Action::Focus(crate::state::Pane::Table));
        state.act(Action::Select(1));
        state.act(Action::Open);
        assert!(close(state.reason_rows()[0].change, 3.02));
        state.act(Action::Baseline);
        assert_eq!((state.baseline(), state.colour()), (None, Colour::Rate));
        assert_eq!(state.reason_rows()[0].change, None);
    }

    /// It is of a moment that may not be kept any more, and of everybody, wherever one stands.
    #[test]
    fn the_baseline_outlives_its_ticks() {
        let mut state = State::new(
            Session::default(),
            Limits { history: Duration::from_secs(5), ..Limits::default() },
        );
        apply(&mut state, &(1..=5).map(|seq| (seq, 100)).collect::<Vec<_>>());
        state.act(Action::Baseline);
        apply(&mut state, &(6..=40).map(|seq| (seq, 50)).collect::<Vec<_>>());
        assert_eq!(state.baseline().map(|of| of.dur_ns), Some(5 * SECOND));
        state.act(Action::Open);
        assert_eq!(state.vcpu_rows()[1].load.change, Some(0.5));
    }

    #[test]
    fn what_had_nothing_is_new_and_what_has_nothing_is_gone() {
        let mut state = state_of(&[(1, 0), (2, 0)]);
        state.act(Action::Baseline);
        apply(&mut state, &[(3, 7)]);
        state.act(Action::Open);
        assert_eq!(state.vcpu_rows()[1].load.change, Some(f64::INFINITY));
        let mut state = state_of(&[(1, 7), (2, 7)]);
        state.act(Action::Baseline);
        apply(&mut state, &[(3, 0)]);
        state.act(Action::Open);
        assert_eq!(state.vcpu_rows()[1].load.change, Some(0.0));
    }

    #[test]
    fn before_the_first_tick_there_is_no_present() {
        let mut state = state_of(&[]);
        state.act(Action::Baseline);
        assert_eq!((state.baseline(), state.colour()), (None, Colour::Rate));
    }

    #[test]
    fn change_is_a_factor() {
        assert_eq!(factor(30.0, 10.0), Some(3.0));
        assert_eq!(factor(0.0, 10.0), Some(0.0));
        assert_eq!(factor(5.0, 0.0), Some(f64::INFINITY));
        assert_eq!(factor(0.0, 0.0), None);
        assert_eq!(Colour::Change.level(f64::INFINITY), 1.0);
        assert_eq!(Colour::Change.level(0.0), -1.0);
        assert_eq!(Colour::Change.level(1.0), 0.0);
    }
}
