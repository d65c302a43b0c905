//! Tabs, findings, slow exits, where the time went, and what is asked of the source for it.

use super::*;
use crate::model::detail::{CulpritTick, Halts, KeyClass, KeyId, KeyTick, Outlier, VmTick};
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::session::ProbeStatus;
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, Phase, PhaseTimes, VcpuInfo, VcpuTick, VmInfo};
use crate::source::live::plan::Family;
use crate::source::synth::{Generator, names, plan::Plan};
use proptest::prelude::*;
use rows::Part;

const SECOND: u64 = 1_000_000_000;
const WRITE: Reason = Reason::exit(Isa::Vmx, 32);
const DETAIL_ON: Effect = Effect::Family(Family::Detail, true);
const DETAIL_OFF: Effect = Effect::Family(Family::Detail, false);

fn key(vm: u32, vcpu: u32) -> VcpuKey {
    VcpuKey { vm: VmId(vm), vcpu }
}

fn session() -> Session {
    Session { names: names(), ..Session::default() }
}

fn state() -> State {
    State::new(session(), Limits::default())
}

/// A session in which a family is attached.
fn with(family: &str) -> Session {
    let probe = ProbeStatus { family: family.to_owned(), attached: true, ..ProbeStatus::default() };
    Session { probes: vec![probe], ..session() }
}

/// A vCPU of VM 1 that waits a quarter of its second.
fn waiting(number: u32) -> VcpuTick {
    let mut tick = vcpu(1, number, SECOND, vec![cell(WRITE, &[900, 1_100])]);
    tick.time = PhaseTimes::default();
    tick.time.0[Phase::Guest as usize] = SECOND * 3 / 4;
    tick.time.0[Phase::Preempted as usize] = SECOND / 4;
    tick.halts = Halts { polled: 3, waited: 1 };
    tick.culprits = vec![
        CulpritTick { pid: 9, comm: "b".into(), ns: 1_000, count: 1, ..CulpritTick::default() },
        CulpritTick {
            pid: 7,
            comm: "a".into(),
            ns: 5_000,
            count: 2,
            vm: Some(VmId(2)),
            ..CulpritTick::default()
        },
        CulpritTick { ns: 10, count: 1, ..CulpritTick::default() },
    ];
    tick.keys = vec![KeyTick {
        id: KeyId { reason: Some(WRITE), class: KeyClass::MsrWrite, value: Some(0x6e0) },
        count: 2,
        max_ns: u64::from(number),
        ..KeyTick::default()
    }];
    tick
}

fn tick(seq: u64, vcpus: Vec<VcpuTick>) -> Tick {
    let vm = |id: u32, name: &str| {
        Life::Vm(VmInfo { id: VmId(id), name: name.to_owned(), ..VmInfo::default() })
    };
    let vcpu = Life::Vcpu(VcpuInfo { key: key(2, 0), tid: 77, guessed: false });
    let life = if seq == 1 { vec![vm(1, "a"), vm(2, "b"), vcpu] } else { Vec::new() };
    let outlier = Outlier {
        key: key(1, (seq % 2) as u32),
        end_ns: seq * SECOND - 5,
        reason: WRITE,
        about: Some((KeyClass::MsrWrite, 0x6e0)),
        handling_ns: seq * 1_000,
        by: Some((77, "CPU 0/KVM".to_owned())),
        ..Outlier::default()
    };
    let beside = VmTick {
        id: VmId(1),
        over_ns: SECOND,
        others_ns: 1_000 * seq,
        threads: vec![(5, "io".into(), 1_000 * seq)],
        throttled_ns: None,
        ..VmTick::default()
    };
    Tick {
        seq,
        end_ns: seq * SECOND,
        dur_ns: SECOND,
        life,
        vcpus,
        vms: if seq.is_multiple_of(2) { vec![beside] } else { Vec::new() },
        outliers: vec![outlier],
        outliers_left_out: 1,
        ..Tick::default()
    }
}

fn apply(state: &mut State, tick: Tick) {
    state.apply(Msg::Tick(Box::new(tick)));
}

/// Twenty seconds.
fn filled() -> State {
    let mut state = state();
    for seq in 1..=20 {
        apply(&mut state, tick(seq, vec![waiting(0), waiting(1)]));
    }
    state
}

fn act(state: &mut State, actions: impl IntoIterator<Item = Action>) -> Vec<Effect> {
    actions.into_iter().flat_map(|action| state.act(action)).collect()
}

#[test]
fn facts_are_the_last_ten_ticks() {
    let state = filled();
    let facts = state.facts();
    assert_eq!(facts.over_ns, 10 * SECOND);
    let names: Vec<_> = facts.vms.iter().map(|vm| vm.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let vm = &facts.vms[0];
    let one = &vm.vcpus[1];
    assert_eq!(one.time.get(Phase::Preempted), 10 * SECOND / 4);
    assert_eq!(one.time.sum(), facts.over_ns);
    assert_eq!(one.halts, Halts { polled: 30, waited: 10 });
    assert_eq!((one.reasons[0].name.as_str(), one.reasons[0].count), ("MSR_WRITE", 20));
    assert_eq!((one.reasons[0].timed, one.reasons[0].max_ns), (20, 1_100));
    assert_eq!((one.keys[0].count, one.keys[0].max_ns), (20, 1));
    let took: Vec<_> = one.culprits.iter().map(|c| (c.comm.as_str(), c.ns, c.count)).collect();
    assert_eq!(took, [("a", 50_000, 20), ("b", 10_000, 10), ("", 100, 10)]);
    // Ticks 12, 14, 16, 18 and 20 looked at it.
    let beside = vm.beside.as_ref().expect("looked at");
    assert_eq!((beside.over_ns, beside.others_ns), (5 * SECOND, 80_000));
    assert_eq!(beside.threads, [(5, "io".to_owned(), 80_000)]);
}

#[test]
fn facts_look_back_over_short_ticks_and_not_far_over_long_ones() {
    let over = |dur_ns: u64| {
        let mut state = state();
        for seq in 1..=60 {
            let one = tick(seq, vec![waiting(0)]);
            apply(&mut state, Tick { dur_ns, end_ns: seq * dur_ns, ..one });
        }
        state.facts().over_ns
    };
    assert_eq!(over(SECOND / 5), 5 * SECOND, "twenty-five ticks");
    assert_eq!(over(4 * SECOND), 8 * SECOND, "two");
    assert_eq!(over(30 * SECOND), 30 * SECOND, "one at least");
}

#[test]
fn a_vcpu_without_an_event_still_adds_up() {
    let mut state = state();
    let mut halted = waiting(0);
    halted.phase = Phase::Blocked;
    halted.since_ns = SECOND / 2;
    apply(&mut state, tick(1, vec![halted]));
    for seq in 2..=5 {
        apply(&mut state, tick(seq, Vec::new()));
    }
    let facts = state.facts();
    let time = facts.vms[0].vcpus[0].time;
    assert_eq!((time.sum(), time.get(Phase::Blocked)), (5 * SECOND, 4 * SECOND));
}

#[test]
fn stepping_back_shows_the_facts_of_then() {
    let mut state = state();
    let mut then = Vec::new();
    for seq in 1..=30 {
        apply(&mut state, tick(seq, vec![waiting((seq % 3) as u32)]));
        then.push((state.facts(), state.finding_count(), state.outliers().clone()));
    }
    for before in then.iter().rev().skip(1) {
        act(&mut state, [Action::StepBack(1)]);
        assert_eq!(
            &state.facts().vms[0].vcpus,
            &before.0.vms[0].vcpus[..state.facts().vms[0].vcpus.len()]
        );
        assert_eq!(state.finding_count(), before.1);
        assert_eq!(state.outliers(), &before.2);
    }
}

#[test]
fn findings_are_of_the_scope_and_lead_there() {
    let mut state = filled();
    assert!(state.finding_count().is_some_and(|n| n > 0));
    act(&mut state, [Action::Tab(Tab::Time), Action::NextPane]);
    assert_eq!(state.level().pane, Pane::Findings);
    let found = state.scope_findings().to_vec();
    assert!(found.iter().all(|f| f.vm == VmId(1)), "VM b does nothing");
    let steal = found.iter().position(|f| f.vcpu.is_some()).expect("one of a vCPU");
    act(&mut state, [Action::SelectIn(Pane::Findings, steal), Action::Open]);
    let vcpu = found[steal].vcpu.expect("one of a vCPU");
    let who = Who::Vcpu(key(1, vcpu));
    assert_eq!(state.breadcrumb().len(), 3 + usize::from(found[steal].reason.is_some()));
    assert!(matches!(state.level().scope, Scope::Reasons(w) | Scope::Reason(w, _) if w == who));
    let up = state.breadcrumb().len() - 1;
    act(&mut state, vec![Action::Back; up]);
    assert_eq!(state.level().scope, Scope::Host, "by every level");
    act(&mut state, [Action::Tab(Tab::Time), Action::Back]);
    apply(&mut state, tick(21, vec![waiting(0), waiting(1)]));
    assert_eq!(state.cursor_in(Pane::Findings), Some(steal), "it is the same one a tick later");
}

#[test]
fn slow_exits_are_newest_first_and_bounded() {
    let mut state = filled();
    let list = state.outliers();
    assert_eq!((list.rows.len(), list.all, list.left_out), (20, 20, 20));
    assert_eq!(list.rows[0].outlier.end_ns, 20 * SECOND - 5);
    let by = list.rows[0].by();
    assert_eq!(by.as_deref(), Some("CPU 0/KVM 77 (b)"), "whose thread it is");
    act(&mut state, [Action::StepBack(5)]);
    assert_eq!(state.outliers().all, 15, "those up to the displayed tick");
    let mut many = tick(21, Vec::new());
    many.outliers = vec![many.outliers[0].clone(); 500];
    apply(&mut state, many);
    act(&mut state, [Action::GoLive]);
    let list = state.outliers();
    assert_eq!((list.rows.len(), list.all), (outliers::SHOWN, 520));
}

#[test]
fn slow_exits_leave_with_their_ticks() {
    let limits = Limits { history: Duration::from_secs(5), ..Limits::default() };
    let mut state = State::new(session(), limits);
    for seq in 1..=20 {
        apply(&mut state, tick(seq, vec![waiting(0)]));
    }
    let (all, kept) = (state.outliers().all, state.header().position.behind + 1);
    assert_eq!(all, kept);
    act(&mut state, [Action::StepBack(100)]);
    assert_eq!(state.outliers().all, 1);
}

#[test]
fn a_vcpu_is_told_closely() {
    let mut state = filled();
    act(&mut state, [Action::Open, Action::NextPane, Action::Select(1), Action::Open]);
    assert_eq!(state.level().scope, Scope::Reasons(Who::Vcpu(key(1, 0))));
    let detail = state.time_detail().expect("a vCPU");
    assert_eq!(detail.per_second(Part::Waiting), SECOND / 4);
    assert_eq!((detail.trend.len(), detail.over_ns), (20, 10 * SECOND));
    assert_eq!(detail.mean(Part::Waiting, 10), Some(SECOND / 4));
    assert_eq!(detail.mean(Part::Waiting, 0), None);
    assert_eq!(detail.culprits[0].vm.as_deref(), Some("b"));
    assert_eq!(detail.reason, None);
    act(&mut state, [Action::Open]);
    let detail = state.time_detail().expect("a reason");
    assert_eq!(detail.reason.as_ref().map(|reason| reason.count), Some(20));
    act(&mut state, [Action::Back, Action::Back, Action::Select(0), Action::Open]);
    let detail = state.time_detail().expect("all of them");
    assert_eq!(detail.per_second(Part::Waiting), SECOND / 2, "of both");
    assert_eq!(detail.halts, Halts { polled: 60, waited: 20 });
}

#[test]
fn details_are_attached_while_someone_looks() {
    let mut state = filled();
    assert_eq!(act(&mut state, [Action::Open, Action::Back]), []);
    assert_eq!(act(&mut state, [Action::Tab(Tab::Time)]), std::slice::from_ref(&DETAIL_ON));
    assert_eq!(act(&mut state, [Action::Open, Action::Back, Action::NextPane]), []);
    state.apply(Msg::Session(Box::new(with("detail"))));
    assert_eq!(act(&mut state, [Action::Tab(Tab::Exits)]), std::slice::from_ref(&DETAIL_OFF));
    // The source has not answered yet.
    assert_eq!(act(&mut state, [Action::Tab(Tab::Time)]), std::slice::from_ref(&DETAIL_ON));
    act(&mut state, [Action::Tab(Tab::Exits)]);
    let down = [Action::SelectCell(0, 0), Action::Open];
    assert_eq!(act(&mut state, down), std::slice::from_ref(&DETAIL_ON));
    assert!(matches!(state.level().scope, Scope::Reason(..)));
    assert_eq!(act(&mut state, [Action::Tab(Tab::Time)]), [], "looked at either way");
    assert_eq!(act(&mut state, [Action::Tab(Tab::Exits), Action::Back]), [DETAIL_OFF]);
}

#[test]
fn details_that_were_asked_for_at_the_start_stay() {
    let mut state = State::new(with("detail"), Limits::default());
    apply(&mut state, tick(1, vec![waiting(0)]));
    assert_eq!(act(&mut state, [Action::Tab(Tab::Time), Action::Tab(Tab::Exits)]), []);
}

#[test]
fn who_takes_cpus_is_asked_for_by_key() {
    let mut state = filled();
    act(&mut state, [Action::Tab(Tab::Time)]);
    let on = Effect::Family(Family::Culprits, true);
    assert_eq!(act(&mut state, [Action::Culprits]), [on]);
    state.apply(Msg::Session(Box::new(with("culprits"))));
    let off = Effect::Family(Family::Culprits, false);
    assert_eq!(act(&mut state, [Action::Culprits]), [off]);
}

#[test]
fn thresholds_of_slow_exits_are_typed() {
    let mut state = filled();
    let typed = |state: &mut State, text: &str| {
        act(state, [Action::LimitEdit(text.to_owned()), Action::LimitAccept])
    };
    let effects = typed(&mut state, "1ms MSR_WRITE=off");
    let [Effect::Outliers(limits)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(limits.all_ns, Some(1_000_000));
    assert!(limits.reasons.contains(&(WRITE, None)));
    assert_eq!(state.outlier_limits(), limits);
    for wrong in ["0", "fast", "NOTHING=1ms"] {
        assert_eq!(typed(&mut state, wrong), [], "{wrong}");
        assert!(matches!(state.mode(), Mode::Limit { error: Some(_), .. }), "{wrong}");
    }
    act(&mut state, [Action::LimitCancel]);
    assert_eq!((state.mode(), state.outlier_limits().all_ns), (&Mode::Normal, Some(1_000_000)));
}

#[test]
fn rows_of_wall_time_add_up() {
    use fields::Row;
    let mut state = state();
    let mut one = waiting(0);
    one.time = PhaseTimes([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    apply(&mut state, tick(1, vec![one]));
    let sum = |row: &rows::VmRow| -> f64 {
        let keys = ["guest", "kvm", "invmm", "poll", "halted", "wait", "other", "unacc"];
        keys.iter().filter_map(|key| row.value(key)?.number()).sum()
    };
    assert!((sum(&state.vm_rows()[0]) - 1.0).abs() < 1e-12);
    act(&mut state, [Action::SortBy("poll".into())]);
    assert_eq!(state.level().sort.key, "poll");
    act(&mut state, [Action::FilterEdit("poll>15% & unacc<3%".into())]);
    assert_eq!(state.vm_rows().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is done in the Time tab while ticks come, what is shown holds together.
    #[test]
    fn whatever_is_done_the_tab_holds_together(
        steps in prop::collection::vec((0usize..16, any::<bool>()), 1..60), seed in any::<u64>(),
    ) {
        let actions = [
            Action::Tab(Tab::Time), Action::Tab(Tab::Exits), Action::Open, Action::Back, Action::Up,
            Action::Down, Action::Bottom, Action::NextPane, Action::ZoomPane, Action::StepBack(3),
            Action::GoLive, Action::Copy, Action::SaveView, Action::PageDown(3),
            Action::SelectIn(Pane::Outliers, 4), Action::SelectIn(Pane::Findings, 1),
        ];
        let mut generator = Generator::new(Plan::noisy_host(), seed, &session());
        let limits = Limits { history: Duration::from_secs(40), window: 8, ..Limits::default() };
        let mut state = State::new(session(), limits);
        for (action, also_tick) in steps {
            if also_tick {
                let mut tick = generator.tick(Duration::from_secs(3));
                let slow = |v: &VcpuTick| Outlier { key: v.key, end_ns: tick.end_ns, ..Outlier::default() };
                tick.outliers = tick.vcpus.iter().take(3).map(slow).collect();
                apply(&mut state, tick);
            }
            state.act(actions[action].clone());
            let level = state.level();
            prop_assert!(level.panes().contains(&level.pane));
            let found = state.scope_findings().len();
            prop_assert_eq!(state.cursor_in(Pane::Findings).is_some(), found > 0);
            let rows = state.outliers().rows.len();
            prop_assert!(state.cursor_in(Pane::Outliers).is_none_or(|at| at < rows));
            for vcpu in state.facts().vms.iter().flat_map(|vm| &vm.vcpus) {
                prop_assert!(vcpu.time.sum() <= state.facts().over_ns);
            }
            if let Some(detail) = state.time_detail() {
                prop_assert!(detail.trend.len() <= 8);
            }
        }
    }
}
