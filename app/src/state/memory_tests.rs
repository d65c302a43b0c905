//! Memory and calls: what is added up, and which events are whose.

use super::activity::{Count, HotRow};
use super::events::List;
use super::nav::{Pane, RowId, Scope, Tab, Who};
use super::{Action, Limits, State};
use crate::model::detail::{KeyClass, KeyId, KeyTick};
use crate::model::event::{Event, EventKind, LeftOut};
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::session::Session;
use crate::model::stack::{Frame, StackOf, StackTick};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, Tick, VcpuInfo, VmInfo};
use crate::source::Msg;
use proptest::prelude::*;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const FAULT: Reason = Reason::exit(Isa::Vmx, 48);

fn key(class: KeyClass, value: Option<u64>, count: u64) -> KeyTick {
    let id = KeyId { reason: value.map(|_| FAULT), class, value };
    KeyTick { id, count, timed: count, total_ns: count * 1_000, ..KeyTick::default() }
}

/// Two VMs of two vCPUs, whose numbers say who they are.
fn tick(seq: u64) -> Tick {
    let mut tick = Tick { seq, end_ns: seq * SECOND, dur_ns: SECOND, ..Tick::default() };
    for vm in 1..=2 {
        for number in 0..2 {
            let key = VcpuKey { vm: VmId(vm), vcpu: number };
            if seq == 1 {
                if number == 0 {
                    let name = format!("vm-{vm}");
                    tick.life.push(Life::Vm(VmInfo { id: VmId(vm), name, ..VmInfo::default() }));
                }
                tick.life.push(Life::Vcpu(VcpuInfo { key, tid: 100 + number, guessed: false }));
            }
            let mut vcpu = vcpu(vm, number, SECOND, vec![cell(FAULT, &[1_000, 2_000])]);
            let n = u64::from(vm * 10 + number);
            vcpu.keys = vec![
                self::key(KeyClass::MmioRead, Some(0xfed0_00f0), n),
                self::key(KeyClass::Page, Some(0x1000 * n), 3),
                self::key(KeyClass::Fault, Some(0), n),
                self::key(KeyClass::Fault, Some(1), 1),
                self::key(KeyClass::Page, None, 2),
                self::key(KeyClass::Hypercall, Some(999), n),
                self::key(KeyClass::Root, Some(0x10_0004), 1),
                self::key(KeyClass::Root, Some(0x20_0004), 3),
            ];
            vcpu.keys.sort_by_key(|key| key.id);
            tick.vcpus.push(vcpu);
        }
    }
    tick
}

fn state(ticks: u64) -> State {
    let mut state = State::new(Session::default(), Limits::default());
    (1..=ticks).for_each(|seq| state.apply(Msg::Tick(Box::new(tick(seq)))));
    state
}

fn row<'a>(state: &'a State, pane: Pane, what: &str) -> &'a HotRow {
    let rows = &state.hot(pane).rows;
    rows.iter().find(|row| row.what.contains(what)).unwrap_or_else(|| panic!("{what}: {rows:?}"))
}

#[test]
fn the_last_seconds_are_added_up_and_no_more() {
    let mut state = state(25);
    state.act(Action::Tab(Tab::Memory));
    assert_eq!(state.activity_over_ns(), 10 * SECOND);
    let touch = row(&state, Pane::Faults, "first touch");
    assert_eq!((touch.sum.count, touch.rate), (10 * (10 + 11 + 20 + 21), 62.0));
    assert_eq!(touch.most, Some(("vm-2".to_owned(), 41.0 / 62.0)));
    assert_eq!(state.hot(Pane::Faults).rate, 66.0);
    // A page is one of a VM; of "other" there is one for each.
    assert_eq!(state.hot(Pane::Pages).rows.len(), 4 + 2);
    assert!(state.hot(Pane::Pages).rows[4..].iter().all(HotRow::is_other));
    let count = |row, count| state.count_per_second(row, count);
    assert_eq!(count(RowId::Vm(VmId(1)), Count::Faults), Some(23.0));
    let second = VcpuKey { vm: VmId(2), vcpu: 1 };
    assert_eq!(count(RowId::Vcpu(second), Count::Mmio), Some(21.0));
    assert_eq!(count(RowId::Vcpu(second), Count::Ioctls), None);
    // Time goes on and is stepped back in: the same seconds either way.
    let before = state.hot(Pane::Faults).clone();
    state.apply(Msg::Tick(Box::new(tick(26))));
    state.act(Action::StepBack(1));
    assert_eq!(state.hot(Pane::Faults), &before);
    state.act(Action::StepBack(100));
    assert_eq!(state.activity_over_ns(), SECOND);
}

#[test]
fn a_root_is_a_vcpus() {
    let mut state = state(10);
    state.act(Action::Tab(Tab::Memory));
    let rows = &state.hot(Pane::Roots).rows;
    assert_eq!(rows.len(), 8);
    assert_eq!((rows[0].share, rows[0].roots, rows[0].sum.count), (0.75, Some(2), 30));
}

#[test]
fn loads_on_cpus_stand_below_the_roots_and_count_for_themselves() {
    let mut state = State::new(Session::default(), Limits::default());
    for seq in 1..=4 {
        let mut tick = tick(seq);
        for vcpu in &mut tick.vcpus {
            vcpu.keys.push(key(KeyClass::VcpuLoad, Some(5), 6));
            vcpu.keys.push(key(KeyClass::VcpuLoad, Some(7), 2));
            vcpu.keys.sort_by_key(|key| key.id);
        }
        state.apply(Msg::Tick(Box::new(tick)));
    }
    state.act(Action::Tab(Tab::Memory));
    let hot = state.hot(Pane::Roots);
    assert_eq!((hot.rows.len(), hot.rate), (16, 16.0), "roots alone make the rate");
    assert!(hot.rows[..8].iter().all(|row| row.id.class == KeyClass::Root));
    let load = &hot.rows[8];
    assert_eq!((load.what.as_ref(), load.share, load.roots), ("on CPU 5", 0.75, Some(2)));
    let vcpu = RowId::Vcpu(VcpuKey { vm: VmId(1), vcpu: 0 });
    assert_eq!(state.count_per_second(vcpu, Count::Loads), Some(8.0));
    assert_eq!(state.count_per_second(vcpu, Count::Roots), Some(4.0));
}

/// A stack of a VM's.
fn stack(of: StackOf, vm: Option<u32>, count: u64, caller: u64) -> StackTick {
    let frame = |address: u64| Frame { address, symbol: format!("f{address}+0x1 [kvm]") };
    let frames = vec![frame(1), frame(caller)];
    StackTick { of, vm: vm.map(VmId), pid: 77, count, frames }
}

#[test]
fn stacks_add_up_by_vm_and_way() {
    let mut state = State::new(Session::default(), Limits::default());
    for seq in 1..=3 {
        let load = StackOf::LoadMmuPgd;
        let mut tick = tick(seq);
        tick.stacks = vec![
            stack(load, Some(1), 4, 10),
            stack(load, Some(1), 2, 11),
            stack(load, Some(2), 3, 10),
            stack(load, None, 1, 12),
            stack(StackOf::MmuLoad, Some(1), 50, 10),
        ];
        tick.stacks_left_out = 5;
        state.apply(Msg::Tick(Box::new(tick)));
    }
    state.act(Action::Tab(Tab::Memory));
    let told = |state: &State| -> Vec<(String, u64, String)> {
        let rows = state.stacks().rows.iter();
        rows.map(|row| (row.vm.clone(), row.count, row.callers())).collect()
    };
    let row = |vm: &str, count, callers: &str| (vm.to_owned(), count, callers.to_owned());
    let all = [
        row("vm-1", 12, "f10"),
        row("vm-2", 9, "f10"),
        row("vm-1", 6, "f11"),
        row("process 77", 3, "f12"),
    ];
    assert_eq!(told(&state), all);
    assert_eq!((state.stacks().rate, state.stacks().left_out), (10.0, 15));
    let who = Who::Vcpu(VcpuKey { vm: VmId(1), vcpu: 1 });
    for scope in [Scope::Vm(VmId(1)), Scope::Reasons(who)] {
        state.nav.go(scope);
        state.changed();
        assert_eq!(told(&state), [all[0].clone(), all[2].clone()], "{scope:?}");
        assert_eq!(state.stacks().rows[0].share, 12.0 / 18.0);
    }
}

#[test]
fn unknown_hypercalls_are_flagged() {
    let mut state = state(10);
    state.act(Action::Tab(Tab::Calls));
    assert!(row(&state, Pane::Hypercalls, "999").is_unknown());
    assert_eq!(state.count_per_second(RowId::Vm(VmId(2)), Count::Unknown), Some(41.0));
}

#[test]
fn a_scope_has_its_own_part() {
    let mut state = state(10);
    state.act(Action::Tab(Tab::Memory));
    let who = Who::Vcpu(VcpuKey { vm: VmId(2), vcpu: 1 });
    for (scope, faults) in [
        (Scope::Vm(VmId(1)), 23.0),
        (Scope::Reasons(who), 22.0),
        (Scope::Reason(who, FAULT), 22.0),
        (Scope::Reason(who, Reason::exit(Isa::Vmx, 12)), 0.0),
        (Scope::Reasons(Who::Vm(VmId(2))), 43.0),
    ] {
        state.nav.go(scope);
        state.changed();
        assert_eq!(state.hot(Pane::Faults).rate, faults, "{scope:?}");
        let any = state.hot(Pane::Pages).rows.iter().any(HotRow::is_other);
        assert_eq!(any, faults > 0.0, "{scope:?}");
    }
}

/// More pages than are kept apart still add up.
#[test]
fn what_is_not_kept_apart_is_other() {
    let mut state = State::new(Session::default(), Limits::default());
    for seq in 1..=3 {
        let mut tick = tick(seq);
        for vcpu in &mut tick.vcpus {
            vcpu.keys.retain(|key| key.id.class != KeyClass::Page);
            vcpu.keys.extend((1..=900).map(|n| key(KeyClass::Page, Some(n << 12), n)));
            vcpu.keys.sort_by_key(|key| key.id);
        }
        state.apply(Msg::Tick(Box::new(tick)));
    }
    state.act(Action::Tab(Tab::Memory));
    let hot = state.hot(Pane::Pages);
    assert_eq!(hot.rate, f64::from(4 * 900 * 901 / 2));
    assert!(hot.rows.len() <= 200 && hot.all > hot.rows.len());
}

fn any_event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(EventKind::ALL.as_slice());
    (kind, 1u32..3, prop::option::of(0u32..2), any::<bool>(), 0u64..5).prop_map(
        |(kind, vm, vcpu, reason, n)| Event {
            kind,
            vm: VmId(vm),
            vcpu,
            reason: reason.then_some(FAULT),
            rip: n,
            args: [n, 1, n << 12, n << 12, 0x7f00_0000_0000, 0],
            ..Event::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The log says of each scope, at each moment that is kept, what looking at all would say.
    #[test]
    fn the_log_has_what_looking_at_all_would_find(
        ticks in prop::collection::vec(prop::collection::vec(any_event(), 0..6), 1..14),
        kept in 2u64..8,
        back in 0usize..10,
    ) {
        let limits = Limits { history: Duration::from_secs(kept), ..Limits::default() };
        let mut state = State::new(Session::default(), limits);
        let mut all: Vec<Event> = Vec::new();
        let last = ticks.len() as u64;
        for (seq, events) in (1..).zip(ticks) {
            let mut tick = tick(seq);
            tick.events = events;
            for event in &mut tick.events {
                event.at_ns = tick.end_ns;
            }
            all.extend(&tick.events);
            tick.events_left_out = vec![LeftOut { kind: EventKind::Mmio, count: seq }];
            state.apply(Msg::Tick(Box::new(tick)));
        }
        state.act(Action::Tab(Tab::Memory));
        state.act(Action::StepBack(back));
        let now = state.header().position.seq;
        let first = last.saturating_sub(kept).max(1);
        prop_assert_eq!(state.events_left_out(List::Memory), (first..=now).sum::<u64>());
        let who = Who::Vcpu(VcpuKey { vm: VmId(2), vcpu: 1 });
        for scope in [
            Scope::Host,
            Scope::Vm(VmId(1)),
            Scope::Reasons(who),
            Scope::Reason(who, FAULT),
            Scope::Reason(Who::Vm(VmId(1)), FAULT),
        ] {
            state.nav.go(scope);
            state.changed();
            let inside = |event: &&Event| {
                let of = |who: Who| match (who, event.vcpu) {
                    (Who::Vm(vm), _) => event.vm == vm,
                    (who, Some(vcpu)) => who.contains(VcpuKey { vm: event.vm, vcpu }),
                    (_, None) => false,
                };
                let kind = [EventKind::Fault, EventKind::Mmio, EventKind::Root].contains(&event.kind);
                kind && (first * SECOND..=now * SECOND).contains(&event.at_ns) && match scope {
                    Scope::Host => true,
                    Scope::Vm(vm) => of(Who::Vm(vm)),
                    Scope::Reasons(who) => of(who),
                    Scope::Reason(who, reason) => of(who) && event.reason == Some(reason),
                }
            };
            let expected: Vec<&Event> = all.iter().rev().filter(inside).collect();
            let count = state.event_count(List::Memory);
            let found: Vec<Event> =
                (0..count).filter_map(|at| state.event_row(List::Memory, at)).map(|r| r.event).collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{:?}", scope);
            prop_assert_eq!(state.event_row(List::Memory, count), None);
        }
    }
}
