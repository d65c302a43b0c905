//! What a vCPU's exits were about, who had its CPU, and what its VM did beside its vCPUs.

use super::sections::times;
use super::{indented, line};
use crate::export::Content;
use crate::findings::words;
use crate::model::detail::{CulpritTick, KeyClass, KeyId};
use crate::model::ids::Reason;
use crate::model::tick::Phase;
use crate::model::totals::{KeySum, VcpuTotals, VmTotals};
use crate::state::save::{clean, table};
use crate::state::value::{Value, count, duration, rate, share};
use crate::ui::format::{reason_short, truncate};
use kvmscope_shared::detail::KEYS;

/// Keys of a reason that are shown: things, and instruction pointers.
const THINGS: usize = 5;
const RIPS: usize = 3;
/// Culprits that are shown.
const CULPRITS: usize = 5;

/// The VMM's other threads, and its quota.
pub fn beside(out: &mut String, vm: &VmTotals) {
    let Some(beside) = &vm.beside else { return };
    let of_cpu = |ns: u64| match beside.over_ns {
        0 => 0.0,
        over_ns => ns as f64 / over_ns as f64,
    };
    let threads: Vec<String> = beside
        .threads
        .iter()
        .take(3)
        .map(|(tid, comm, ns)| format!("{} {tid} {}", clean(comm), share(of_cpu(*ns))))
        .collect();
    let busiest =
        if threads.is_empty() { String::new() } else { format!(": {}", threads.join(", ")) };
    line!(out, "  other threads {} of a CPU{busiest}", share(of_cpu(beside.others_ns)));
    if let Some(ns) = beside.throttled_ns {
        line!(out, "  stopped by its CPU quota for {}", duration(ns));
    }
}

/// How often it woke up.
pub fn halts(out: &mut String, vcpu: &VcpuTotals, over_ns: u64) {
    let halts = vcpu.halts;
    if halts.polled == 0 && halts.waited == 0 {
        return;
    }
    let polling = match over_ns {
        0 => String::new(),
        ns => {
            let each_s = vcpu.time.get(Phase::Polling) as f64 * 1e9 / ns as f64;
            format!("; polling {} each second", duration(each_s as u64))
        }
    };
    line!(
        out,
        "  halts  woken {} times while polling, {} times asleep{polling}",
        count(halts.polled),
        count(halts.waited)
    );
}

const HEADS: [&str; 8] = ["reason", "about", "count", "rate/s", "total", "off-CPU", "VMM", "max"];
const NUMERIC: [bool; 8] = [false, false, true, true, true, true, true, true];

/// Classes that the tables of memory have.
fn is_told_elsewhere(class: KeyClass) -> bool {
    use KeyClass::{DirtyLog, DirtyPage, DirtySlot, Fault, Root, VcpuLoad};
    matches!(class, Fault | Root | VcpuLoad | DirtySlot | DirtyPage | DirtyLog)
        || is_of_interrupts(class)
}

/// Classes that the tables of interrupts and scheduling have.
fn is_of_interrupts(class: KeyClass) -> bool {
    use KeyClass::{Delivered, Eoi, Exception, Injected, Ipi, OnCpu};
    matches!(class, Injected | Exception | Eoi | Ipi | Delivered | OnCpu)
}

/// The top keys of each reason, then "other".
pub fn keys(
    out: &mut String,
    content: &Content<'_>,
    vm: &str,
    vcpu: &VcpuTotals,
    order: &[Reason],
) {
    if vcpu.keys.keys().all(|id| is_told_elsewhere(id.class)) {
        return;
    }
    line!(
        out,
        "\n  What they were about. The kernel keeps {KEYS} keys of a vCPU; \"other\" found no place."
    );
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for reason in order.iter().map(|&reason| Some(reason)).chain([None]) {
        of_reason(&mut lines, content, vm, vcpu, reason);
    }
    let others = vcpu.keys.iter().filter(|(id, _)| id.value.is_none());
    for (id, sum) in others.filter(|(id, _)| !is_told_elsewhere(id.class)) {
        let words = format!("other: {}", id.class.word());
        // Times of "other" are all three together.
        let total = Value::ns((sum.timed > 0).then_some(sum.total_ns));
        let times = [total, Value::None, Value::None, Value::None];
        lines.push(row("", words, sum.count, content.duration_ns, times));
    }
    indented(out, &table(&lines, &NUMERIC));
}

fn of_reason(
    lines: &mut Vec<Vec<String>>,
    content: &Content<'_>,
    vm: &str,
    vcpu: &VcpuTotals,
    reason: Option<Reason>,
) {
    let name = reason.map_or_else(|| "-".into(), |reason| content.session.names.name(reason));
    let name = reason_short(&clean(&name), 16, '…');
    for (is_rip, most) in [(false, THINGS), (true, RIPS)] {
        let mut keys: Vec<(&KeyId, u64, &KeySum)> = vcpu
            .keys
            .iter()
            .filter(|(id, _)| id.reason == reason && (id.class == KeyClass::Rip) == is_rip)
            .filter(|(id, _)| !is_told_elsewhere(id.class))
            .filter_map(|(id, sum)| Some((id, id.value?, sum)))
            .collect();
        keys.sort_by_key(|(id, _, sum)| (std::cmp::Reverse(sum.count), **id));
        // A line for one more can as well be that one's.
        let most = if keys.len() == most + 1 { keys.len() } else { most };
        for &(id, value, sum) in keys.iter().take(most) {
            let about = truncate(&about(content, vm, id.class, value), 34, '…');
            lines.push(row(&name, about, sum.count, content.duration_ns, times(sum)));
        }
        if let Some(rest) = keys.get(most..).filter(|rest| !rest.is_empty()) {
            let mut sum = KeySum::default();
            for (_, _, key) in rest {
                sum.merge(key);
            }
            let what = if is_rip { "instructions" } else { "keys" };
            let words = format!("{} more {what}", rest.len());
            lines.push(row(&name, words, sum.count, content.duration_ns, times(&sum)));
        }
    }
}

fn row(name: &str, about: String, n: u64, over_ns: u64, times: [Value; 4]) -> Vec<String> {
    let per_s = if over_ns == 0 { 0.0 } else { n as f64 * 1e9 / over_ns as f64 };
    let mut cells = vec![name.to_owned(), about, count(n), rate(per_s)];
    cells.extend(times.iter().map(Value::to_string));
    cells
}

/// A key in few words; an instruction pointer with its symbol, where one is known.
fn about(content: &Content<'_>, vm: &str, class: KeyClass, value: u64) -> String {
    match class {
        KeyClass::Rip => rip(content, vm, value),
        _ => words::short(class, value),
    }
}

/// `RIP read_hpet+0x9 (0xffffffff81001234)`, or with the half of the address space it is in.
pub fn rip(content: &Content<'_>, vm: &str, value: u64) -> String {
    match (content.code)(vm, value) {
        // Whoever made the symbols file chose the name.
        Some(symbol) => format!("RIP {} ({value:#x})", clean(&symbol)),
        None => words::rip(value),
    }
}

const CULPRIT_HEADS: [&str; 7] = ["who", "pid", "tid", "VM", "time", "of the wait", "times"];
const CULPRIT_NUMERIC: [bool; 7] = [false, true, true, false, true, true, true];

/// Who ran while it waited.
pub fn culprits(out: &mut String, content: &Content<'_>, vcpu: &VcpuTotals) {
    if vcpu.culprits.is_empty() {
        return;
    }
    let waited_ns = vcpu.time.get(Phase::Preempted);
    // Each is measured by probes of its own: there may be someone without a time.
    let waited = if waited_ns == 0 { String::new() } else { format!(" {}", duration(waited_ns)) };
    line!(out, "\n  Who ran while it waited{waited} for a CPU:");
    let mut lines = vec![CULPRIT_HEADS.map(str::to_owned).to_vec()];
    for culprit in vcpu.culprits.iter().take(CULPRITS) {
        let is_other = culprit.pid == 0 && culprit.comm.is_empty();
        let number = |n: u32| if is_other { "-".to_owned() } else { n.to_string() };
        let vm = culprit.vm.and_then(|vm| content.totals.vms.get(&vm));
        let vm = vm.map_or_else(|| "-".to_owned(), |vm| clean(&vm.info.name));
        let of_wait = if waited_ns == 0 {
            Value::None
        } else {
            Value::Share(culprit.ns as f64 / waited_ns as f64)
        };
        lines.push(vec![
            if is_other { "other".to_owned() } else { who(culprit) },
            number(culprit.pid),
            number(culprit.tid),
            truncate(&vm, 20, '…'),
            duration(culprit.ns),
            of_wait.to_string(),
            count(culprit.count),
        ]);
    }
    indented(out, &table(&lines, &CULPRIT_NUMERIC));
    let rest = vcpu.culprits.len().saturating_sub(CULPRITS);
    if rest > 0 {
        line!(out, "  and {rest} more.");
    }
}

fn who(culprit: &CulpritTick) -> String {
    let cgroup = match culprit.cgroup.as_str() {
        "" => String::new(),
        cgroup => format!(" ({})", truncate(&clean(cgroup), 24, '…')),
    };
    format!("{}{cgroup}", clean(&culprit.comm))
}
