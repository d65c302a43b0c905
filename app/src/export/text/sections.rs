//! What a VM did with memory and what it called, in few lines; single events of all VMs.

use super::{indented, line};
use crate::export::sums::{
    self, DIRTY_PAGES, DIRTY_SLOTS, DirtyLog, FAULTS, HYPERCALLS, LOADS, MMIO, PAGES, ROOTS,
    Ranked, ranked,
};
use crate::export::{Content, details::vm_called};
use crate::findings::words;
use crate::model::detail::{IoctlTick, KeyClass};
use crate::model::event::{Event, EventKind};
use crate::model::totals::{KeySum, VcpuTotals, VmTotals, by_time};
use crate::state::save::{clean, table};
use crate::state::value::{Value, count, duration, rate};
use crate::trace::{events, ioctl, keys};
use crate::ui::format::truncate;

/// Pages, addresses, slots, roots that are shown of each; JSON has more.
const SHOWN: usize = 5;
/// Hypercalls, and ioctls, that are shown.
const CALLS: usize = 8;
/// Events that are shown of a kind.
const EVENTS: usize = 5;
/// Columns of what a line is about.
const ABOUT: usize = 40;

const HEADS: [&str; 8] = ["memory", "about", "count", "rate/s", "total", "off-CPU", "VMM", "max"];
const NUMERIC: [bool; 8] = [false, false, true, true, true, true, true, true];

/// Page faults by kind and the hottest pages, MMIO, dirty pages, MMU roots.
pub fn memory(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
    let mut lines = Lines { content, lines: Vec::new() };
    let faults = ranked(&vcpus, FAULTS, usize::MAX);
    lines.ranked("fault", &faults, |class, value, _| {
        keys::name(class, value).map_or_else(|| format!("kind {value}"), |name| name.into_owned())
    });
    lines.ranked("fault at", &ranked(&vcpus, PAGES, SHOWN), |class, value, _| {
        words::short(class, value)
    });
    lines.ranked("MMIO", &ranked(&vcpus, MMIO, SHOWN), |class, value, sum| {
        let by = match sums::to_vmm(class, sum) {
            Some(true) => " (VMM)",
            Some(false) => " (kernel)",
            None => "",
        };
        format!("{}{by}", truncate(&words::short(class, value), ABOUT - by.len(), '…'))
    });
    lines.ranked("dirty", &ranked(&vcpus, DIRTY_SLOTS, SHOWN), |class, value, _| {
        words::short(class, value)
    });
    lines.ranked("dirty", &ranked(&vcpus, DIRTY_PAGES, SHOWN), |_, value, _| {
        format!("page {value:#x}")
    });
    let log = DirtyLog::new(&vcpus);
    lines.dirty_log(&log);
    let roots = ranked(&vcpus, ROOTS, SHOWN);
    lines.ranked("root", &roots, |_, root, _| {
        format!("{:#x} level {}", root & !0xfff, root & 0xfff)
    });
    lines.ranked("vCPU load", &ranked(&vcpus, LOADS, SHOWN), |_, cpu, _| format!("on CPU {cpu}"));
    lines.print(out, &HEADS, &NUMERIC);
    match log.logs() {
        Some(true) => {}
        Some(false) => {
            line!(out, "  Dirty logging is off for all memory in which KVM marked pages.");
        }
        None if sums::is_attached(content.session, sums::MARKS) => {
            line!(out, "  KVM marked no page as dirty: logging is off, or nothing was written.");
        }
        None => {}
    }
    if roots.distinct > SHOWN {
        line!(out, "  {} different MMU roots.", count(roots.distinct as u64));
    }
}

/// Whose hypercalls these are.
fn whose(class: KeyClass) -> &'static str {
    match class {
        KeyClass::HvHypercall => "Hyper-V",
        KeyClass::XenHypercall => "Xen",
        _ => "KVM",
    }
}

const CALL_HEADS: [&str; 8] =
    ["calls", "about", "count", "rate/s", "failed", "total", "mean", "max"];
const CALL_NUMERIC: [bool; 8] = [false, false, true, true, true, true, true, true];

/// Hypercalls, and ioctls of the VMM.
pub fn calls(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
    let hypercalls = ranked(&vcpus, HYPERCALLS, CALLS);
    let mut lines = Lines { content, lines: Vec::new() };
    for (class, number, sum) in &hypercalls.first {
        let unknown = if events::is_unknown(*class, *number) { ", unknown" } else { "" };
        let name = events::hypercall_name(*class, *number);
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        let about = format!("{} {}{name}{unknown}", whose(*class), keys::number(*class, *number));
        let max_ns = (sum.timed > 0).then_some(sum.max_ns);
        let times = [None, Some(sum.wall_ns()), sum.mean_ns(), max_ns];
        lines.call("hypercall", about, sum.count, times);
    }
    if hypercalls.rest.count > 0 {
        let times = [None, Some(hypercalls.rest.total_ns), hypercalls.rest.mean_ns(), None];
        lines.call("hypercall", "others".to_owned(), hypercalls.rest.count, times);
    }
    let mut ioctls: Vec<&IoctlTick> = vm.ioctls.values().collect();
    ioctls.sort_by_key(|ioctl| (std::cmp::Reverse(ioctl.count), ioctl.command));
    for ioctl in ioctls.iter().take(CALLS) {
        lines.ioctl(ioctl::label(ioctl.command).into_owned(), ioctl);
    }
    if let Some(rest) = ioctls.get(CALLS..).filter(|rest| !rest.is_empty()) {
        let mut sum = IoctlTick::default();
        for ioctl in rest {
            sum.count = sum.count.saturating_add(ioctl.count);
            sum.failed = sum.failed.saturating_add(ioctl.failed);
            sum.total_ns = sum.total_ns.saturating_add(ioctl.total_ns);
            sum.max_ns = sum.max_ns.max(ioctl.max_ns);
        }
        lines.ioctl(format!("{} others", rest.len()), &sum);
    }
    lines.print(out, &CALL_HEADS, &CALL_NUMERIC);
}

/// Total, off-CPU, VMM, max; nothing where nothing was timed (pages that were written), and only the VMM's
/// part where the backend makes no kernel exits.
pub fn times(sum: &KeySum) -> [Value; 4] {
    let KeySum { timed, total_ns, off_ns, vmm_ns, max_ns, .. } = *sum;
    let is_handled = timed > 0 && total_ns > 0;
    let handled = |ns| Value::ns(is_handled.then_some(ns));
    let all = |ns| Value::ns((timed > 0).then_some(ns));
    [handled(total_ns), handled(off_ns), all(vmm_ns), all(max_ns)]
}

/// Rows of a table.
struct Lines<'a> {
    content: &'a Content<'a>,
    lines: Vec<Vec<String>>,
}

impl Lines<'_> {
    fn ranked(
        &mut self,
        what: &str,
        ranked: &Ranked,
        about: impl Fn(KeyClass, u64, &KeySum) -> String,
    ) {
        for (class, value, sum) in &ranked.first {
            self.row(what, &about(*class, *value, sum), sum.count, times(sum));
        }
        if ranked.rest.count > 0 {
            let total =
                if ranked.rest.timed > 0 { Value::Ns(ranked.rest.total_ns) } else { Value::None };
            let times = [total, Value::None, Value::None, Value::None];
            self.row(what, "others", ranked.rest.count, times);
        }
    }

    fn dirty_log(&mut self, log: &DirtyLog) {
        for (times, what) in [
            (log.marked, "marks in slots that log"),
            (log.not_logged, "marks in slots that do not log"),
            (log.pml_full, "the processor's log was full (PML)"),
            (log.ring_pushes, "pages put into a dirty ring"),
            (log.ring_full, "exits to the VMM as a ring was full"),
        ] {
            if times > 0 {
                self.row("dirty log", what, times, [const { Value::None }; 4]);
            }
        }
    }

    fn row(&mut self, what: &str, about: &str, times: u64, columns: [Value; 4]) {
        let mut cells =
            vec![what.to_owned(), truncate(about, ABOUT, '…'), count(times), self.rate(times)];
        cells.extend(columns.iter().map(Value::to_string));
        self.lines.push(cells);
    }

    /// `times`: failed (a number), total, mean, max.
    fn call(&mut self, what: &str, about: String, calls: u64, times: [Option<u64>; 4]) {
        let [failed, total, mean, max] = times;
        let mut cells =
            vec![what.to_owned(), truncate(&about, ABOUT, '…'), count(calls), self.rate(calls)];
        cells.push(failed.map_or(Value::None, Value::Count).to_string());
        cells.extend([total, mean, max].map(|ns| Value::ns(ns).to_string()));
        self.lines.push(cells);
    }

    fn ioctl(&mut self, about: String, ioctl: &IoctlTick) {
        let mean = ioctl.total_ns.checked_div(ioctl.count);
        let times = [Some(ioctl.failed), Some(ioctl.total_ns), mean, Some(ioctl.max_ns)];
        self.call("ioctl", about, ioctl.count, times);
    }

    fn rate(&self, times: u64) -> String {
        match self.content.duration_ns {
            0 => "-".to_owned(),
            over_ns => rate(times as f64 * 1e9 / over_ns as f64),
        }
    }

    fn print(self, out: &mut String, heads: &[&str], numeric: &[bool]) {
        if self.lines.is_empty() {
            return;
        }
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        let lines: Vec<_> = std::iter::once(heads).chain(self.lines).collect();
        out.push('\n');
        indented(out, &table(&lines, numeric));
    }
}

const EVENT_HEADS: [&str; 8] = ["at", "VM", "vCPU", "event", "what", "address", "took", "CPU"];
const EVENT_NUMERIC: [bool; 8] = [true, false, true, false, false, true, true, true];

/// Of each kind the slowest or the last, and how many more there were.
pub fn happened(out: &mut String, content: &Content<'_>) {
    let all = &content.totals.events;
    let isa = sums::isa(content.session);
    let mut lines = vec![EVENT_HEADS.map(str::to_owned).to_vec()];
    let mut more: Vec<String> = Vec::new();
    for kind in EventKind::ALL {
        let of_kind = all.of(kind);
        lines.extend(of_kind.iter().take(EVENTS).map(|event| row(content, event, isa)));
        let refused = all.left_out().find(|left| left.kind == kind).map_or(0, |left| left.count);
        let left = refused.saturating_add(of_kind.len().saturating_sub(EVENTS) as u64);
        if left > 0 {
            more.push(format!("{} {}", count(left), name(kind, left == 1)));
        }
    }
    if lines.len() == 1 && more.is_empty() {
        return;
    }
    line!(
        out,
        "\nSingle events: the slowest page faults, MMIO accesses and ioctls, the last of others."
    );
    indented(out, &table(&lines, &EVENT_NUMERIC));
    if !more.is_empty() {
        line!(out, "  Not shown here: {}.", more.join(", "));
    }
}

fn row(content: &Content<'_>, event: &Event, isa: crate::model::ids::Isa) -> Vec<String> {
    let at = event.at_ns.saturating_sub(content.session.started_ns);
    // Into which VM an interrupt goes is not always known.
    let vm = match vm_called(content, event.vm) {
        "" => "-".to_owned(),
        name => truncate(&clean(name), 16, '…'),
    };
    let took = (by_time(event.kind) && event.wall_ns() > 0).then(|| event.wall_ns());
    vec![
        format!("{:.3}s", at as f64 / 1e9),
        vm,
        event.vcpu.map_or_else(|| "-".to_owned(), |vcpu| vcpu.to_string()),
        short(event.kind).to_owned(),
        truncate(&events::what(event, isa), 36, '…'),
        events::address(event).map_or_else(|| "-".to_owned(), |address| format!("{address:#x}")),
        took.map_or_else(|| "-".to_owned(), duration),
        event.cpu.to_string(),
    ]
}

fn short(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Fault => "fault",
        EventKind::Mmio => "MMIO",
        EventKind::Hypercall => "hypercall",
        EventKind::HvHypercall => "Hyper-V",
        EventKind::XenHypercall => "Xen",
        EventKind::Root => "root",
        EventKind::Ioctl => "ioctl",
        EventKind::Memslot => "memslot",
        EventKind::Injection => "irq",
        EventKind::Exception => "exception",
        EventKind::Route => "route",
        EventKind::Wakeup => "wake-up",
        EventKind::Timer => "timer",
        EventKind::HaltPoll => "halt poll",
    }
}

fn name(kind: EventKind, is_one: bool) -> &'static str {
    let (one, many) = match kind {
        EventKind::Fault => ("page fault", "page faults"),
        EventKind::Mmio => ("MMIO access", "MMIO accesses"),
        EventKind::Hypercall => ("hypercall", "hypercalls"),
        EventKind::HvHypercall => ("Hyper-V hypercall", "Hyper-V hypercalls"),
        EventKind::XenHypercall => ("Xen hypercall", "Xen hypercalls"),
        EventKind::Root => ("load of a root", "loads of roots"),
        EventKind::Ioctl => ("ioctl", "ioctls"),
        EventKind::Memslot => ("setting of a memory slot", "settings of memory slots"),
        EventKind::Injection => ("interrupt put into the guest", "interrupts put into the guest"),
        EventKind::Exception => ("exception put into the guest", "exceptions put into the guest"),
        EventKind::Route => ("interrupt through a chip", "interrupts through chips"),
        EventKind::Wakeup => ("wake-up", "wake-ups"),
        EventKind::Timer => ("timer event", "timer events"),
        EventKind::HaltPoll => {
            ("change of the halt-polling window", "changes of the halt-polling window")
        }
    };
    if is_one { one } else { many }
}
