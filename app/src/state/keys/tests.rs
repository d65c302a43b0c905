use super::sums::KEPT;
use super::*;
use crate::model::detail::KeyTick;
use crate::model::ids::{Isa, VmId};
use crate::model::testing::{cell, sample_outlier, vcpu};
use crate::model::tick::{Tick, VcpuTick};
use crate::source::Msg;
use crate::state::{Action, Limits, State};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const WRITE: Reason = Reason::exit(Isa::Vmx, 32);
const PORT: Reason = Reason::exit(Isa::Vmx, 30);
const IO: Reason = Reason::userspace(2);

fn key(reason: Reason, class: KeyClass, value: u64, count: u64) -> KeyTick {
    let id = KeyId { reason: Some(reason), class, value: Some(value) };
    KeyTick {
        id,
        count,
        timed: count,
        total_ns: count * 1_000,
        max_ns: 2_000,
        ..KeyTick::default()
    }
}

fn via_vmm(key: KeyTick) -> KeyTick {
    KeyTick { vmm_ns: key.count * 9_000, ..key }
}

fn other(class: KeyClass, count: u64) -> KeyTick {
    let id = KeyId { reason: None, class, value: None };
    KeyTick { id, count, timed: count, total_ns: count * 5_000, ..KeyTick::default() }
}

/// A vCPU with exits of these reasons and with these keys.
fn with_keys(n: u32, exits: &[(Reason, usize)], keys: &[KeyTick]) -> VcpuTick {
    let mut cells: Vec<_> =
        exits.iter().map(|&(reason, count)| cell(reason, &vec![1_000; count])).collect();
    cells.sort_by_key(|cell| cell.reason);
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| key.id);
    VcpuTick { keys, ..vcpu(1, n, SECOND, cells) }
}

fn tick(seq: u64, vcpus: Vec<VcpuTick>) -> Tick {
    let life = if seq == 1 {
        vec![crate::model::tick::Life::Vm(crate::model::tick::VmInfo {
            id: VmId(1),
            name: "a".to_owned(),
            ..Default::default()
        })]
    } else {
        Vec::new()
    };
    Tick { seq, end_ns: seq * SECOND, dur_ns: SECOND, life, vcpus, ..Tick::default() }
}

fn state(window: usize, ticks: Vec<Tick>) -> State {
    let mut state = State::new(Session::default(), Limits { window, ..Limits::default() });
    for tick in ticks {
        state.apply(Msg::Tick(Box::new(tick)));
    }
    state
}

/// Goes to a reason: of the vCPU in this row of the VM, 0 being all of them.
fn open(state: &mut State, row: usize, reason: Reason) {
    state.act(Action::Open);
    state.act(Action::NextPane);
    state.act(Action::Select(row));
    state.act(Action::Open);
    let at = state.reason_rows().iter().position(|row| row.reason == reason).expect("the reason");
    state.act(Action::Select(at));
    state.act(Action::Open);
}

fn shown(state: &State) -> Vec<(String, f64, Option<f64>)> {
    state.key_rows().iter().map(|row| (row.number.clone(), row.rate, row.share)).collect()
}

#[test]
fn a_reason_has_its_own_keys_and_others_last() {
    let vcpu = with_keys(
        0,
        &[(WRITE, 10), (PORT, 4)],
        &[
            key(WRITE, KeyClass::MsrWrite, 0x830, 2),
            key(WRITE, KeyClass::MsrWrite, 0x6e0, 5),
            other(KeyClass::MsrWrite, 3),
            key(PORT, KeyClass::PortIn, 0x608, 4),
            other(KeyClass::PortIn, 9),
            key(WRITE, KeyClass::Rip, 0xffff_ffff_8100_0000, 9),
            key(WRITE, KeyClass::Rip, 0x40_1000, 1),
            other(KeyClass::Rip, 7),
        ],
    );
    let mut state = state(5, vec![tick(1, vec![vcpu])]);
    open(&mut state, 1, WRITE);
    let text = |s: &str| s.to_owned();
    let expected = [
        (text("0x6e0"), 5.0, Some(0.5)),
        (text("0x830"), 2.0, Some(0.2)),
        (text("other"), 3.0, Some(0.3)),
    ];
    assert_eq!(shown(&state), expected);
    let rips: Vec<_> = state.rip_rows().iter().map(|r| (r.rip, r.half(), r.share)).collect();
    let kernel = (Some(0xffff_ffff_8100_0000), "kernel", Some(0.9));
    assert_eq!(rips, [kernel, (Some(0x40_1000), "user", Some(0.1)), (None, "", None)]);
    state.act(Action::SortReverse);
    let order: Vec<_> = state.key_rows().iter().map(|row| row.number.as_str()).collect();
    assert_eq!(order, ["0x830", "0x6e0", "other"], "other stays last");
    state.act(Action::FilterEdit("name~830".to_owned()));
    assert_eq!((state.row_count(), state.hidden()), (1, 2));
}

#[test]
fn who_answered_is_told_by_time() {
    let sum = |total_ns, vmm_ns| KeySum { timed: 1, total_ns, vmm_ns, ..KeySum::default() };
    let id = key(PORT, KeyClass::PortIn, 1, 1).id;
    assert_eq!(To::of(&id, &sum(1_000, 0)), Some(To::Kernel));
    assert_eq!(To::of(&id, &sum(1_000, 9_000)), Some(To::Vmm));
    assert_eq!(To::of(&id, &sum(9_000, 1_000)), Some(To::Both));
    assert_eq!(To::of(&id, &KeySum::default()), None, "none ended");
    assert_eq!(To::of(&KeyId { value: None, ..id }, &sum(1, 1)), None, "not told apart");
}

#[test]
fn an_exit_to_the_vmm_has_the_keys_that_went_there() {
    let silent = KeyTick {
        id: KeyId { reason: None, class: KeyClass::PortOut, value: Some(0xe9) },
        count: 6,
        ..KeyTick::default()
    };
    let vcpu = with_keys(
        0,
        &[(PORT, 8), (IO, 10)],
        &[
            via_vmm(key(PORT, KeyClass::PortIn, 0x608, 4)),
            key(PORT, KeyClass::PortIn, 0x40, 4),
            via_vmm(key(WRITE, KeyClass::MsrWrite, 0x10, 2)),
            via_vmm(key(PORT, KeyClass::Rip, 0x1000, 4)),
            key(PORT, KeyClass::Rip, 0x2000, 4),
            via_vmm(key(WRITE, KeyClass::Rip, 0x3000, 2)),
            silent,
        ],
    );
    let mut state = state(5, vec![tick(1, vec![vcpu])]);
    open(&mut state, 1, IO);
    let text = |s: &str| s.to_owned();
    assert_eq!(shown(&state), [(text("0xe9"), 6.0, Some(0.6)), (text("0x608"), 4.0, Some(0.4))]);
    let to: Vec<_> = state.key_rows().iter().map(KeyRow::to).collect();
    assert_eq!(to, [None, Some(To::Vmm)]);
    let rips: Vec<_> = state.rip_rows().iter().map(|row| row.rip).collect();
    assert_eq!(rips, [Some(0x1000)]);
    state.act(Action::Back);
    let row = state.reason_rows().iter().find(|row| row.reason == IO).expect("IO");
    assert_eq!(
        row.what.as_ref().map(TopKey::with_share).as_deref(),
        Some("0xe9 debug console (Bochs) 60%")
    );
}

#[test]
fn a_key_that_sometimes_goes_to_the_vmm_has_no_share_there() {
    let both = KeyTick { vmm_ns: 10, ..key(PORT, KeyClass::PortIn, 0x40, 8) };
    let out = via_vmm(key(PORT, KeyClass::PortIn, 0x608, 2));
    let vcpu = with_keys(0, &[(PORT, 10), (IO, 3)], &[both, out]);
    let mut state = state(5, vec![tick(1, vec![vcpu])]);
    open(&mut state, 1, IO);
    let text = |s: &str| s.to_owned();
    let shares = [(text("0x40"), 8.0, None), (text("0x608"), 2.0, Some(2.0 / 3.0))];
    assert_eq!(shown(&state), shares);
    state.act(Action::Back);
    let row = state.reason_rows().iter().find(|row| row.reason == IO).expect("IO");
    assert_eq!(row.what.as_ref().map(|top| top.number.as_str()), Some("0x608"));
}

#[test]
fn all_vcpus_are_added_up() {
    let one = |n, count| {
        let keys = [key(WRITE, KeyClass::MsrWrite, 0x6e0, count)];
        with_keys(n, &[(WRITE, 10)], &keys)
    };
    let mut state = state(5, vec![tick(1, vec![one(0, 5), one(1, 10)])]);
    open(&mut state, 0, WRITE);
    assert_eq!(shown(&state), [("0x6e0".to_owned(), 15.0, Some(0.75))]);
    let row = &state.key_rows()[0];
    assert_eq!((row.window.mean_ns(), row.window.max_ns), (Some(1_000), 2_000));
}

#[test]
fn the_window_slides_and_time_goes_back() {
    let one = |seq: u64| {
        let msr = if seq == 1 { 0x10 } else { 0x6e0 };
        let keys = [key(WRITE, KeyClass::MsrWrite, msr, seq)];
        tick(seq, vec![with_keys(0, &[(WRITE, 10)], &keys)])
    };
    let mut state = state(3, (1..=3).map(one).collect());
    open(&mut state, 1, WRITE);
    let counts = |state: &State| -> Vec<(String, u64, u64)> {
        let rows = state.key_rows().iter();
        rows.map(|row| (row.number.clone(), row.now.count, row.window.count)).collect()
    };
    let text = |s: &str| s.to_owned();
    assert_eq!(counts(&state), [(text("0x6e0"), 3, 5), (text("0x10"), 0, 1)]);
    state.apply(Msg::Tick(Box::new(one(4))));
    assert_eq!(counts(&state), [(text("0x6e0"), 4, 9)], "the first tick has left");
    state.act(Action::StepBack(2));
    assert_eq!(counts(&state), [(text("0x6e0"), 2, 2), (text("0x10"), 0, 1)]);
    state.act(Action::GoLive);
    assert_eq!(counts(&state), [(text("0x6e0"), 4, 9)]);
}

#[test]
fn what_is_gone_keeps_its_last_keys() {
    let keys = [key(WRITE, KeyClass::MsrWrite, 0x6e0, 5)];
    let mut ticks = vec![tick(1, vec![with_keys(0, &[(WRITE, 10)], &keys)])];
    ticks.extend((2..=5).map(|seq| tick(seq, Vec::new())));
    ticks[1].life = vec![crate::model::tick::Life::VmGone(VmId(1), SECOND + 1)];
    let mut state = state(2, ticks);
    open(&mut state, 1, WRITE);
    assert_eq!(shown(&state), [("0x6e0".to_owned(), 5.0, Some(0.5))]);
}

#[test]
fn without_detail_there_is_nothing_and_a_word_why() {
    let mut state = state(3, vec![tick(1, vec![with_keys(0, &[(WRITE, 10)], &[])])]);
    open(&mut state, 1, WRITE);
    assert!(state.key_rows().is_empty() && state.rip_rows().is_empty() && state.told().is_empty());
    assert_eq!(state.key_watch(), Watch::Attaching);
    assert_eq!(state.cursor(), None);
    let probe = |name: &str, attached, why: Option<&str>| crate::model::session::ProbeStatus {
        name: name.to_owned(),
        family: "detail".to_owned(),
        attached,
        why: why.map(str::to_owned),
        how: "raw tracepoint".to_owned(),
    };
    let with = |probes| watch(&Session { probes, ..Session::default() }, false);
    let pio = || probe("kvm:kvm_pio", true, None);
    assert_eq!(with(vec![pio()]), Watch::On);
    let msr = probe("kvm:kvm_msr", false, Some("no BTF"));
    let partly = Watch::Partly(vec![("kvm:kvm_msr".to_owned(), "no BTF".to_owned())]);
    assert_eq!(with(vec![pio(), msr.clone()]), partly);
    assert_eq!(with(vec![msr]), Watch::Off("no BTF".to_owned()));
    assert!(matches!(watch(&Session::default(), true), Watch::Off(_)));
}

#[test]
fn the_last_outlier_is_told_in_words() {
    let vcpu = with_keys(0, &[(PORT, 3)], &[key(PORT, KeyClass::PortIn, 0x608, 3)]);
    let who = vcpu.key;
    let slow =
        |ns| crate::model::detail::Outlier { end_ns: ns, info1: 0x608_000b, ..sample_outlier(who) };
    let mut first = tick(1, vec![vcpu]);
    first.outliers = vec![slow(10), slow(20)];
    let mut state = state(3, vec![first]);
    open(&mut state, 1, PORT);
    let [told] = state.told() else { panic!("one: {:?}", state.told()) };
    assert_eq!((told.key, told.vmm_ns, told.wall_ns), (who, 2_000_000, 2_009_000));
    assert_eq!(told.ended_unix_ns, Some(20));
    assert!(told.words.iter().any(|word| word.starts_with("port 0x608")), "{:?}", told.words);
    assert_eq!(told.about, None, "the words say it");
    let quiet = crate::model::detail::Outlier { reason: WRITE, ..sample_outlier(who) };
    let told = Told::outlier(&quiet, &Session::default());
    assert!(told.about.as_deref().is_some_and(|about| about.starts_with("0x608")));
}

#[derive(Debug)]
struct Table;

impl Symbols for Table {
    fn describe(&self, vm_name: &str, rip: u64) -> Option<String> {
        (vm_name == "a" && rip == 0x1000).then(|| "spin+0x4".to_owned())
    }
}

#[test]
fn guest_code_has_its_symbol() {
    let rips = [key(PORT, KeyClass::Rip, 0x1000, 2), key(PORT, KeyClass::Rip, 0x2000, 1)];
    let mut state = state(3, vec![tick(1, vec![with_keys(0, &[(PORT, 3)], &rips)])]);
    state.set_symbols(Table);
    open(&mut state, 1, PORT);
    let symbols: Vec<_> = state.rip_rows().iter().map(|row| row.symbol.as_deref()).collect();
    assert_eq!(symbols, [Some("spin+0x4"), None]);
}

#[test]
fn keys_are_copied_and_saved() {
    let keys = [
        key(PORT, KeyClass::PortIn, 0x608, 3),
        key(PORT, KeyClass::PortOut, 0x80, 1),
        key(PORT, KeyClass::Rip, 0x1000, 3),
    ];
    let mut state = state(3, vec![tick(1, vec![with_keys(0, &[(PORT, 4)], &keys)])]);
    open(&mut state, 1, PORT);
    state.act(Action::Down);
    let copied = state.act(Action::Copy);
    let [crate::state::Effect::Copy(text)] = copied.as_slice() else { panic!("{copied:?}") };
    assert!(text.starts_with("vCPU 0 of a  ") && text.contains("what 0x80"), "{text}");
    let saved = state.act(Action::SaveView);
    let [crate::state::Effect::SaveView(view)] = saved.as_slice() else { panic!("{saved:?}") };
    assert!(view.text.contains("0x608") && view.text.contains("guest RIP"), "{}", view.text);
    let tables: Vec<&str> = view.csv.split("\n\n").collect();
    assert_eq!(tables.len(), 3, "{}", view.csv);
    assert!(tables[1].starts_with("name,way,exits,") && tables[1].contains("port_out"));
}

#[test]
fn what_is_too_much_becomes_other() {
    let keys: Vec<_> =
        (0..KEPT as u64 + 10).map(|n| key(WRITE, KeyClass::MsrWrite, n, n + 1)).collect();
    let mut sums = KeySums::default();
    sums.add(&keys);
    let sums = sums.bounded();
    assert_eq!(sums.0.len(), KEPT + 1);
    let rest = sums.get(&KeyId { reason: None, class: KeyClass::MsrWrite, value: None });
    assert_eq!((rest.count, rest.total_ns), (55, 55_000), "1 to 10");
}

proptest! {
    /// The running sum over a window is what adding its ticks up would be.
    #[test]
    fn a_window_is_the_sum_of_its_ticks(
        counts in prop::collection::vec(prop::collection::vec((0u64..6, 1u64..100), 0..5), 1..12),
        window in 1usize..5,
    ) {
        let ticks: Vec<Vec<KeyTick>> = counts
            .iter()
            .map(|tick| {
                tick.iter().map(|&(msr, n)| key(WRITE, KeyClass::MsrWrite, msr, n)).collect()
            })
            .collect();
        let slices: Vec<KeySums> = ticks
            .iter()
            .map(|keys| {
                let mut sums = KeySums::default();
                sums.add(keys);
                sums
            })
            .collect();
        let mut running = KeySums::default();
        for (at, slice) in slices.iter().enumerate() {
            running.merge(slice);
            if let Some(gone) = at.checked_sub(window) {
                running.subtract(&slices[gone]);
            }
            let mut fresh = KeySums::default();
            slices[(at + 1).saturating_sub(window)..=at].iter().for_each(|s| fresh.merge(s));
            prop_assert_eq!(&running, &fresh);
        }
    }
}
