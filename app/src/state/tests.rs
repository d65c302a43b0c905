//! The state as the screen and the person see it.

use super::fields::Row;
use super::heat::Colour;
use super::*;
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, Lost, OpenExit, Phase, VcpuInfo, VmInfo};
use crate::source::synth::{Generator, names, plan::Plan};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const HLT: Reason = Reason::exit(Isa::Vmx, 12);
const WRITE: Reason = Reason::exit(Isa::Vmx, 32);
const CPUID: Reason = Reason::exit(Isa::Vmx, 10);

fn state() -> State {
    let session = Session { names: names(), ..Session::default() };
    State::new(session, Limits::default())
}

fn apply(state: &mut State, tick: Tick) {
    state.apply(Msg::Tick(Box::new(tick)));
}

/// Tick number `seq`, one second long.
fn tick(seq: u64, life: Vec<Life>, vcpus: Vec<crate::model::tick::VcpuTick>) -> Tick {
    Tick { seq, end_ns: seq * SECOND, dur_ns: SECOND, life, vcpus, ..Tick::default() }
}

fn vm(id: u32, name: &str) -> Life {
    Life::Vm(VmInfo { id: VmId(id), name: name.to_owned(), ..VmInfo::default() })
}

fn key(vm: u32, vcpu: u32) -> VcpuKey {
    VcpuKey { vm: VmId(vm), vcpu }
}

/// Two VMs: `a` with two vCPUs and 5 exits, `b` with one vCPU and 3.
fn two_vms(seq: u64) -> Tick {
    let vcpus = vec![
        vcpu(1, 0, SECOND, vec![cell(CPUID, &[400]), cell(WRITE, &[900, 1_100])]),
        vcpu(1, 1, SECOND, vec![cell(HLT, &[9_000, 9_000])]),
        vcpu(2, 0, SECOND, vec![cell(WRITE, &[2_000, 2_000, 50_000])]),
    ];
    tick(seq, if seq == 1 { vec![vm(1, "a"), vm(2, "b")] } else { Vec::new() }, vcpus)
}

fn names_of(state: &State) -> Vec<&str> {
    state.vm_rows().iter().map(|row| row.name.as_str()).collect()
}

fn act(state: &mut State, actions: impl IntoIterator<Item = Action>) {
    for action in actions {
        state.act(action);
    }
}

#[test]
fn nothing_yet_is_nothing() {
    let mut state = state();
    assert!(state.vm_rows().is_empty());
    assert_eq!((state.cursor(), state.row_count()), (None, 0));
    assert_eq!(state.heatmap().cursor, None);
    assert_eq!(state.header().position.seq, 0);
    act(&mut state, [Action::Open, Action::Down, Action::StepBack(1), Action::Copy]);
    assert_eq!(state.level().scope, Scope::Host);
}

#[test]
fn idle_counts_as_exits_and_not_as_work() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    let row = &state.vm_rows()[0];
    assert_eq!((row.name.as_str(), row.vcpus), ("a", 2));
    assert_eq!(row.load.rate, 5.0);
    assert_eq!(row.load.max_ns, Some(1_100), "not the 9 µs of HLT");
    assert_eq!(row.load.handling, 2_400.0 / (2.0 * SECOND as f64));
    let top = row.load.top.as_ref().expect("something is on top");
    assert_eq!((top.name.as_str(), top.share), ("MSR_WRITE", 2_000.0 / 2_400.0));
    assert_eq!(state.header().rate, 8.0);
    assert_eq!((state.header().vms, state.header().vcpus), (2, 3));
}

#[test]
fn levels_are_found_again_as_they_were_left() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::SortBy("name".into()), Action::SortReverse, Action::Select(0)]);
    assert_eq!(names_of(&state), ["b", "a"]);
    act(&mut state, [Action::Down, Action::Open]);
    assert_eq!(state.level().scope, Scope::Vm(VmId(1)));
    act(&mut state, [Action::FilterEdit("vcpu=1".into()), Action::FilterAccept, Action::Bottom]);
    assert_eq!((state.row_count(), state.hidden()), (2, 1));
    act(&mut state, [Action::NextPane, Action::Open]);
    assert_eq!(state.level().scope, Scope::Reasons(Who::Vcpu(key(1, 1))));
    act(&mut state, [Action::Open]);
    assert_eq!(state.level().scope, Scope::Reason(Who::Vcpu(key(1, 1)), HLT));
    let labels: Vec<_> = state.breadcrumb().into_iter().map(|crumb| crumb.label).collect();
    assert_eq!(labels, ["host", "a", "vCPU 1", "HLT"]);
    act(&mut state, [Action::Back, Action::Back]);
    assert_eq!(state.selected_row(), Some(RowId::Vcpu(key(1, 1))));
    assert_eq!((state.level().filter.text(), state.level().pane), ("vcpu=1", Pane::Table));
    act(&mut state, [Action::Back]);
    assert_eq!(state.selected_row(), Some(RowId::Vm(VmId(1))));
    act(&mut state, [Action::Open]);
    assert_eq!(state.level().filter.text(), "vcpu=1", "down again");
}

#[test]
fn the_cursor_follows_its_row() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::Select(1)]);
    assert_eq!(state.selected_row(), Some(RowId::Vm(VmId(2))));
    let busy = vec![vcpu(2, 0, SECOND, vec![cell(WRITE, &[1_000; 50])])];
    apply(&mut state, tick(2, Vec::new(), busy));
    assert_eq!(names_of(&state), ["b", "a"]);
    assert_eq!(state.cursor(), Some(0));
    act(&mut state, [Action::FilterEdit("a".into())]);
    assert_eq!(state.cursor(), Some(0), "its row is hidden, but there is one");
    act(&mut state, [Action::FilterCancel]);
    assert_eq!(state.selected_row(), Some(RowId::Vm(VmId(2))));
}

#[test]
fn what_is_gone_stays_with_its_last_numbers_until_cleared() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    apply(&mut state, tick(2, vec![Life::VmGone(VmId(1), SECOND + 5)], Vec::new()));
    apply(&mut state, tick(3, Vec::new(), Vec::new()));
    act(&mut state, [Action::SortBy("name".into())]);
    let row = &state.vm_rows()[0];
    assert_eq!((row.ended_unix_ns, row.vcpus, row.load.rate), (Some(SECOND + 5), 2, 5.0));
    assert_eq!(state.header().vms, 1);
    act(&mut state, [Action::Select(0), Action::Open]);
    assert_eq!(state.vcpu_rows().len(), 3);
    assert_eq!(state.vcpu_rows()[1].load.rate, 3.0);
    act(&mut state, [Action::ClearGone]);
    assert_eq!((state.level().scope, names_of(&state)), (Scope::Host, vec!["b"]));
    act(&mut state, [Action::StepBack(2)]);
    assert_eq!(names_of(&state), ["a", "b"], "it was there then");
    assert_eq!(state.vm_rows()[0].ended_unix_ns, None);
}

#[test]
fn who_looks_at_a_vm_that_is_forgotten_is_back_at_the_host() {
    let limits = Limits { history: Duration::from_secs(2), ..Limits::default() };
    let mut state = State::new(Session::default(), limits);
    apply(&mut state, two_vms(1));
    apply(&mut state, tick(2, vec![Life::VmGone(VmId(1), SECOND + 5)], Vec::new()));
    act(&mut state, [Action::ClearGone, Action::StepBack(1), Action::Open, Action::Open]);
    assert_eq!(state.level().scope.vm(), Some(VmId(1)), "one can still look at it");
    for seq in 3..=9 {
        apply(&mut state, tick(seq, Vec::new(), Vec::new()));
    }
    assert_eq!(state.level().scope, Scope::Host);
    assert_eq!(state.entities.vms.len(), 1);
}

#[test]
fn a_vm_of_one_tick_leaves_a_row() {
    let mut state = state();
    let life = vec![vm(7, "short"), Life::VmGone(VmId(7), SECOND / 2)];
    apply(&mut state, tick(1, life, vec![vcpu(7, 0, 1_000, vec![cell(CPUID, &[500])])]));
    let row = &state.vm_rows()[0];
    assert_eq!((row.name.as_str(), row.ended_unix_ns.is_some()), ("short", true));
    assert_eq!(row.load.rate, 1.0);
}

#[test]
fn a_vcpu_of_which_nothing_is_said_goes_on_with_what_it_did() {
    let mut state = state();
    let mut first = two_vms(1);
    first.vcpus[1].phase = Phase::Blocked;
    first.vcpus[1].since_ns = SECOND / 2;
    first.vcpus[1].open =
        Some(OpenExit { reason: HLT, begun_ns: SECOND / 2, ..OpenExit::default() });
    apply(&mut state, first);
    apply(&mut state, tick(2, Vec::new(), Vec::new()));
    act(&mut state, [Action::SortBy("name".into()), Action::Open]);
    let row = &state.vcpu_rows()[2];
    assert_eq!(row.phase, Some((Phase::Blocked, SECOND * 3 / 2)));
    assert_eq!(row.load.split.share(rows::Part::Halted), 1.0);
    assert_eq!(row.open.as_ref().map(|open| open.age_ns), Some(SECOND * 3 / 2));
    assert_eq!(row.load.rate, 0.0);
    for seq in 3..400 {
        apply(&mut state, tick(seq, Vec::new(), Vec::new()));
    }
    act(&mut state, [Action::SelectCell(2, 99), Action::NextPane, Action::Open]);
    let row = &state.reason_rows()[0];
    assert_eq!((row.reason, row.window.count), (HLT, 0));
    assert_eq!(row.open_ns, Some(SECOND * 399 - SECOND / 2), "halted since before the window");
}

#[test]
fn frozen_means_frozen() {
    let mut state = state();
    for seq in 1..=5 {
        apply(&mut state, two_vms(seq));
    }
    act(&mut state, [Action::Pause]);
    let before = state.vm_rows().to_vec();
    apply(&mut state, tick(6, Vec::new(), Vec::new()));
    assert_eq!(state.vm_rows(), before);
    let position = state.header().position;
    assert_eq!((position.live, position.seq, position.ahead), (false, 5, 1));
    act(&mut state, [Action::StepForward(1)]);
    assert_eq!(state.vm_rows()[0].load.rate, 0.0);
    act(&mut state, [Action::StepBack(100)]);
    assert_eq!(state.header().position.seq, 1);
    assert_eq!(state.series(RowId::Vm(VmId(1))).rate, [5.0]);
    act(&mut state, [Action::GoLive]);
    assert_eq!((state.header().position.live, state.header().position.seq), (true, 6));
    act(&mut state, [Action::Pause, Action::Pause]);
    assert!(state.header().position.live);
}

#[test]
fn stepping_back_shows_what_was_shown_then() {
    let session = Session { names: names(), ..Session::default() };
    let mut generator = Generator::new(Plan::noisy_host(), 11, &session);
    let mut state = State::new(session, Limits { window: 20, ..Limits::default() });
    let mut shown = Vec::new();
    for _ in 0..60 {
        apply(&mut state, generator.tick(Duration::from_secs(1)));
        let rows = state.vm_rows().to_vec();
        let series: Vec<_> = rows.iter().map(|row| state.series(row.id())).collect();
        shown.push((rows, series, state.header().lost, state.header().position.window_ns));
    }
    assert_eq!(shown[59].1[0].rate.len(), 20);
    for before in shown.iter().rev().skip(1) {
        act(&mut state, [Action::StepBack(1)]);
        assert_eq!(state.vm_rows(), before.0);
        let series: Vec<_> = before.0.iter().map(|row| state.series(row.id())).collect();
        assert_eq!(series, before.1);
        let header = state.header();
        assert_eq!((header.lost, header.position.window_ns), (before.2, before.3));
    }
}

#[test]
fn a_frozen_tick_that_is_not_kept_any_more_gives_way_to_the_oldest() {
    let limits = Limits { history: Duration::from_secs(5), ..Limits::default() };
    let mut state = State::new(Session::default(), limits);
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::Pause]);
    for seq in 2..=20 {
        apply(&mut state, two_vms(seq));
    }
    let position = state.header().position;
    assert_eq!((position.seq, position.behind, position.ahead), (15, 0, 5));
}

#[test]
fn a_heat_map_adds_up() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::SortBy("name".into()), Action::Open, Action::Fit(2)]);
    let map = state.heatmap();
    let titles: Vec<_> = map.columns.iter().map(|column| column.title.as_str()).collect();
    assert_eq!(titles, ["MSR_WRITE", "HLT", "other"]);
    assert!(map.columns[1].idle);
    let rates: Vec<Vec<f64>> =
        map.rows.iter().map(|row| row.cells.iter().map(|cell| cell.rate).collect()).collect();
    assert_eq!(rates, [[2.0, 2.0, 1.0], [2.0, 0.0, 1.0], [0.0, 2.0, 0.0]]);
    assert_eq!(map.rows[1].cells[1].value, None);
    act(&mut state, [Action::ColourNext]);
    let shares: Vec<_> = state.heatmap().rows[0].cells.iter().map(|cell| cell.value).collect();
    let share = |ns: f64| Some(ns / (2.0 * SECOND as f64));
    assert_eq!(shares, [share(2_000.0), share(18_000.0), share(400.0)]);
    act(&mut state, [Action::ColourNext]);
    assert_eq!(state.heatmap().rows[0].cells[2].value, Some(400.0));
}

#[test]
fn change_is_against_the_minute_before() {
    let mut state = state();
    for seq in 1..=70 {
        let n = if seq == 70 { 40 } else { 10 };
        apply(
            &mut state,
            tick(seq, vec![], vec![vcpu(1, 0, SECOND, vec![cell(WRITE, &vec![900; n])])]),
        );
    }
    act(&mut state, [Action::ColourNext, Action::ColourNext, Action::ColourNext]);
    assert_eq!(state.colour(), Colour::Change);
    assert_eq!(state.heatmap().rows[0].cells[0].value, Some(4.0));
    apply(&mut state, tick(71, vec![], vec![vcpu(1, 0, SECOND, vec![cell(CPUID, &[900])])]));
    let map = state.heatmap();
    assert_eq!(map.rows[0].cells[0].value, Some(0.0), "it has stopped");
    assert_eq!(map.rows[0].cells[1].value, Some(f64::INFINITY), "it is new");
    act(&mut state, [Action::StepBack(1)]);
    assert_eq!(state.heatmap().rows[0].cells[0].value, Some(4.0));
    act(&mut state, [Action::Open]);
    let rows = &state.heatmap().rows;
    let of_rows: Vec<_> = rows.iter().map(|row| (row.id, row.cells[0].value)).collect();
    let (all, one) = (RowId::All(VmId(1)), RowId::Vcpu(key(1, 0)));
    assert_eq!(of_rows, [(all, Some(4.0)), (one, Some(4.0))]);
}

#[test]
fn a_cell_opens_its_reason() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::SortBy("name".into()), Action::SelectCell(0, 0)]);
    assert_eq!(state.level().pane, Pane::Heat);
    let column = state.heatmap().columns[0].id;
    let ColumnId::Reason(reason) = column else { panic!("the first is a reason") };
    act(&mut state, [Action::Open]);
    assert_eq!(state.level().scope, Scope::Reason(Who::Vm(VmId(1)), reason));
    act(&mut state, [Action::Back, Action::Fit(1), Action::Right, Action::Right]);
    assert_eq!(state.heatmap().cursor, Some((0, 1)));
    act(&mut state, [Action::Open]);
    assert_eq!(state.level().scope, Scope::Vm(VmId(1)), "other opens the row");
}

#[test]
fn a_detail_is_the_window() {
    let session = Session { names: names(), ..Session::default() };
    let mut state = State::new(session, Limits { window: 4, ..Limits::default() });
    for seq in [1, 2, 3, 5, 6, 7] {
        apply(&mut state, two_vms(seq));
        if seq == 3 {
            act(&mut state, [Action::SortBy("name".into()), Action::Open, Action::NextPane]);
            act(&mut state, [Action::Open, Action::FilterEdit("name=MSR_WRITE".into())]);
            assert_eq!(state.reason_rows().len(), 1, "all vCPUs of a");
        }
    }
    let row = state.reason_rows()[0].clone();
    assert_eq!((row.rate, row.now.count, row.window.count), (2.0, 2, 8));
    assert_eq!(row.of_exits, 0.4);
    let of_row = state.reason_detail().expect("the row's").clone();
    act(&mut state, [Action::Open]);
    let detail = state.reason_detail().expect("a reason");
    assert_eq!(detail, &of_row);
    assert_eq!(detail.label, "all vCPUs of a");
    assert_eq!(detail.hist.iter().sum::<u64>(), 8);
    let missed: Vec<_> = detail.points.iter().map(|point| point.missed).collect();
    assert_eq!(missed, [0, 1, 0, 0]);
    assert!(detail.points.iter().all(|point| point.rate == 2.0 && point.hist.len() == 2));
    assert_eq!(state.series(RowId::Reason(WRITE)).rate, [2.0; 4]);
    act(&mut state, [Action::StepBack(3)]);
    let seqs = state.reason_detail().map(|detail| detail.points.len());
    assert_eq!(seqs, Some(3), "the first three ticks");
}

#[test]
fn a_filter_works_while_it_is_typed() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    act(&mut state, [Action::FilterEdit("exits>4".into())]);
    assert_eq!(names_of(&state), ["a"]);
    act(&mut state, [Action::FilterEdit("exits>4 &".into()), Action::FilterAccept]);
    assert!(matches!(state.mode(), Mode::Filter { error: Some(_), .. }), "cannot be kept");
    assert_eq!(names_of(&state), ["a"], "the last one that could be read");
    act(&mut state, [Action::FilterCancel]);
    assert_eq!((names_of(&state).len(), state.mode()), (2, &Mode::Normal));
    act(&mut state, [Action::FilterEdit("b".into()), Action::FilterAccept]);
    assert_eq!(names_of(&state), ["b"]);
    act(&mut state, [Action::Back]);
    assert_eq!(names_of(&state).len(), 2, "back at the host is out of its filter");
}

#[test]
fn what_leaves_the_state_are_effects() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    assert_eq!(state.act(Action::Quit), [Effect::Quit]);
    let interval = Duration::from_millis(200);
    assert_eq!(state.act(Action::Interval(interval)), [Effect::SetInterval(interval)]);
    let copied = state.act(Action::Copy);
    let [Effect::Copy(text)] = copied.as_slice() else { panic!("{copied:?}") };
    assert!(text.starts_with("VM a  PID 0  vCPU 2  exits/s 5.0  "), "{text}");
    let saved = state.act(Action::SaveView);
    let [Effect::SaveView(view)] = saved.as_slice() else { panic!("{saved:?}") };
    assert_eq!(view.name, "host");
    assert!(view.csv.starts_with("name,vmm,pid,vcpus,exits,"));
    assert_eq!(view.csv.lines().count(), 3);
}

#[test]
fn losses_are_counted_up_to_the_displayed_tick() {
    let mut state = state();
    for seq in 1..=3 {
        let lost = Lost { ring: 2, ..Lost::default() };
        apply(&mut state, Tick { lost, ..two_vms(seq) });
    }
    assert_eq!(state.header().lost.ring, 6);
    act(&mut state, [Action::StepBack(2)]);
    assert_eq!(state.header().lost.ring, 2);
}

#[test]
fn a_vcpu_that_moves_to_another_thread_lives_on() {
    let mut state = state();
    apply(&mut state, two_vms(1));
    let moved = vec![
        Life::VcpuGone(key(2, 0), SECOND + 1),
        Life::Vcpu(VcpuInfo { key: key(2, 0), tid: 99, guessed: false }),
    ];
    apply(&mut state, tick(2, moved, Vec::new()));
    act(&mut state, [Action::FilterEdit("b".into()), Action::Open]);
    let row = &state.vcpu_rows()[1];
    assert_eq!((row.tid, row.ended_unix_ns), (99, None));
}

fn any_action() -> impl Strategy<Value = Action> {
    let small = 0usize..12;
    let texts = prop_oneof![Just("a"), Just("exits>3"), Just("exits>"), Just(""), Just("vcpu=1|x")];
    let keys = prop_oneof![Just("name"), Just("exits"), Just("p99"), Just("nonsense")];
    prop_oneof![
        4 => Just(Action::Open),
        2 => Just(Action::Back),
        2 => prop_oneof![Just(Action::Up), Just(Action::Down), Just(Action::Left), Just(Action::Right)],
        1 => prop_oneof![Just(Action::Top), Just(Action::Bottom), Just(Action::PageDown(usize::MAX))],
        1 => small.clone().prop_map(Action::PageUp),
        1 => small.clone().prop_map(Action::Select),
        1 => (small.clone(), small.clone()).prop_map(|(row, column)| Action::SelectCell(row, column)),
        1 => prop_oneof![Just(Action::SortNext), Just(Action::SortReverse)],
        1 => keys.prop_map(|key| Action::SortBy(key.to_owned())),
        1 => texts.prop_map(|text| Action::FilterEdit(text.to_owned())),
        1 => prop_oneof![Just(Action::FilterAccept), Just(Action::FilterCancel)],
        2 => prop_oneof![Just(Action::ColourNext), Just(Action::NextPane), Just(Action::ZoomPane)],
        1 => prop_oneof![Just(Action::Pause), Just(Action::GoLive), Just(Action::ClearGone)],
        1 => prop_oneof![Just(Action::Help), Just(Action::Copy), Just(Action::SaveView)],
        1 => small.clone().prop_map(Action::StepBack),
        1 => small.clone().prop_map(Action::StepForward),
        1 => small.prop_map(Action::Fit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Ticks may come from a damaged file: any that can be decoded can be shown and reported.
    #[test]
    fn any_ticks_can_be_shown(
        ticks in prop::collection::vec(crate::model::testing::any_tick(), 1..6),
        actions in prop::collection::vec(any_action(), 0..20),
    ) {
        let mut state = State::new(Session { names: names(), ..Session::default() }, Limits::default());
        let mut totals = crate::model::totals::Totals::default();
        for tick in ticks {
            totals.apply(&tick);
            apply(&mut state, tick);
        }
        for action in actions {
            state.act(action);
            state.header();
            state.vm_rows();
            state.vcpu_rows();
            state.reason_rows();
            state.heatmap();
            state.reason_detail();
            state.selected_row().map(|id| state.series(id));
        }
        let facts = crate::findings::facts_of(&totals, &state.session().names);
        let found = crate::findings::findings(&facts, &Default::default());
        let content = crate::export::Content::new(state.session(), &totals, 1);
        let content = crate::export::Content { findings: &found, ..content };
        crate::export::text::report(&content);
        prop_assert!(crate::export::json::report(&content).is_ok());
    }

    /// Whatever is done while ticks come and ticks leave, what is shown holds together.
    #[test]
    fn whatever_is_done_the_views_hold_together(
        steps in prop::collection::vec((any_action(), any::<bool>()), 1..80), seed in any::<u64>(),
    ) {
        let session = Session { names: names(), ..Session::default() };
        let mut generator = Generator::new(Plan::noisy_host(), seed, &session);
        let limits = Limits { history: Duration::from_secs(40), window: 8, ..Limits::default() };
        let mut state = State::new(session, limits);
        for (action, also_tick) in steps {
            if also_tick {
                // Long ticks let VMs come and go within few of them.
                apply(&mut state, generator.tick(Duration::from_secs(3)));
            }
            state.act(action);
            let rows = state.row_count();
            prop_assert!(state.cursor().is_none_or(|at| at < rows));
            prop_assert_eq!(state.cursor().is_none(), rows == 0);
            let map = state.heatmap();
            if state.level().scope.panes().contains(&Pane::Heat) {
                prop_assert!(map.rows.is_empty() || map.rows.len() == rows);
            }
            for row in &map.rows {
                prop_assert_eq!(row.cells.len(), map.columns.len());
                prop_assert!(row.cells.iter().all(|cell| (-1.0..=1.0).contains(&cell.level)));
            }
            if let Some((row, column)) = map.cursor {
                prop_assert!(row < map.rows.len() && column < map.columns.len());
            }
            if let Some(detail) = state.reason_detail() {
                prop_assert!(detail.points.len() <= 8);
                prop_assert_eq!(detail.hist.iter().sum::<u64>(), detail.row.window.timed);
            }
            if let Some(id) = state.selected_row() {
                prop_assert!(state.series(id).rate.len() <= 8);
            }
            prop_assert!(!state.breadcrumb().is_empty());
            prop_assert!(state.header().position.live || state.header().position.seq > 0
                || state.vm_rows().is_empty());
        }
    }
}
