//! Interrupts and timers of a VM in few lines, and interrupts of which the VM is not known.

use super::{indented, line};
use crate::export::Content;
use crate::export::irqs::{self, Counted, Deliveries, Delivery};
use crate::model::detail::KeyClass;
use crate::model::meters::{MeterKind, RouteTick, Sender};
use crate::model::stats::Sum;
use crate::model::totals::{VcpuTotals, VmTotals};
use crate::state::save::{clean, table};
use crate::state::value::{Value, count, rate};
use crate::trace::irqchip;
use crate::trace::keys::{self, vector_text};
use crate::ui::format::truncate;
use std::collections::BTreeSet;

/// Different ones that are shown of each; JSON has more.
const SHOWN: usize = 8;
/// Rows of routes that are shown.
const ROUTES: usize = 12;
/// Columns of what a line is about.
const ABOUT: usize = 34;

const HEADS: [&str; 6] = ["interrupts", "about", "from", "to", "count", "rate/s"];
const NUMERIC: [bool; 6] = [false, false, false, false, true, true];

/// Interrupts of a VM: put in, sent, delivered, ended; then those through chips, then timers.
pub fn interrupts(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
    let rows = content.totals.routes.of(Some(vm.info.id));
    let mut lines = Lines { content, lines: Vec::new() };
    let injected = irqs::injected(&vcpus, SHOWN);
    lines.counted("injected", &injected, |what| {
        let vector = match u8::try_from(what.vector) {
            Ok(vector) if !what.soft => vector_text(vector),
            _ => format!("{:#x}", what.vector),
        };
        flags(vector, &[(what.soft, "software"), (what.reinjected, "reinjected")])
    });
    lines.counted("exception", &irqs::exceptions(&vcpus, SHOWN), |what| {
        let name = keys::name(KeyClass::Exception, what.vector);
        let name = name.map_or_else(|| what.vector.to_string(), |name| name.into_owned());
        flags(name, &[(what.reinjected, "reinjected")])
    });
    lines.ipis(&vcpus);
    lines.deliveries(&vcpus, &rows);
    lines.eois(&vcpus);
    let is_silent = injected.is_empty() && !lines.lines.is_empty();
    let is_empty = lines.lines.is_empty();
    lines.print(out, &HEADS, &NUMERIC);
    if content.session.has("irq") {
        if is_silent {
            line!(
                out,
                "  KVM put no interrupt in itself: with APICv or AVIC the processor takes what is delivered."
            );
        } else if is_empty && !vm.vcpus.is_empty() {
            line!(out, "  No interrupt was seen.");
        }
    }
    apicv(out, content, vm);
    routes(out, content, &rows, content.totals.routes.other(Some(vm.info.id)));
    timers(out, &vcpus);
}

/// Whether the processor may deliver by itself, and why it does not.
fn apicv(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let session = content.session;
    let name = match session.host.backend.as_str() {
        "vmx" => "APICv",
        "svm" => "AVIC",
        _ => "APIC virtualization",
    };
    match (session.apicv, vm.apicv_inhibits) {
        (Some(false), _) => line!(out, "  {name} is off on this host."),
        (Some(true), Some(0)) => line!(out, "  {name} is active."),
        (None, Some(0)) => line!(out, "  Nothing inhibits {name}."),
        (_, Some(bits)) => {
            let named = session.inhibits(bits).map(|(bit, name)| match name {
                Some(reason) => clean(reason),
                None => format!("bit {bit}"),
            });
            line!(out, "  {name} is inhibited: {}.", named.collect::<Vec<_>>().join(", "));
        }
        (Some(true) | None, None) => {}
    }
}

/// `reinjected` and the like behind what it is about.
fn flags(mut about: String, flags: &[(bool, &str)]) -> String {
    for (_, word) in flags.iter().filter(|(is, _)| *is) {
        about.push_str(", ");
        about.push_str(word);
    }
    about
}

/// Rows of a table.
struct Lines<'a> {
    content: &'a Content<'a>,
    lines: Vec<Vec<String>>,
}

impl Lines<'_> {
    fn row(&mut self, what: &str, about: &str, from: &str, to: &str, times: u64) {
        self.lines.push(vec![
            what.to_owned(),
            truncate(about, ABOUT, '…'),
            truncate(from, 14, '…'),
            truncate(to, 18, '…'),
            count(times),
            per_second(self.content, times),
        ]);
    }

    fn rest(&mut self, what: &str, times: u64) {
        if times > 0 {
            self.row(what, "others", "", "", times);
        }
    }

    /// What happened to vCPUs.
    fn counted<T>(&mut self, what: &str, counted: &Counted<T>, about: impl Fn(&T) -> String) {
        for (thing, times, vcpus) in &counted.first {
            self.row(what, &about(thing), "", &of_vcpus(vcpus), *times);
        }
        self.rest(what, counted.rest);
    }

    fn ipis(&mut self, vcpus: &[&VcpuTotals]) {
        let ipis = irqs::ipis(vcpus, SHOWN);
        for ((from, ipi), times, _) in &ipis.first {
            self.row("IPI", &ipi.what(), &format!("vCPU {from}"), &ipi.to(), *times);
        }
        self.rest("IPI", ipis.rest);
    }

    fn deliveries(&mut self, vcpus: &[&VcpuTotals], rows: &[RouteTick]) {
        let received = Deliveries::received(vcpus, rows).to(None, SHOWN);
        for one in &received.first {
            let to = format!("vCPU {}", one.what.vcpu);
            self.row("delivered", &delivery(one), "", &to, one.count);
        }
        self.rest("delivered", received.rest.saturating_add(Deliveries::by(vcpus).rest));
    }

    fn eois(&mut self, vcpus: &[&VcpuTotals]) {
        let eois = irqs::eois(vcpus, SHOWN);
        for (eoi, times, by) in &eois.first {
            let vector = match eoi.vector {
                None => "none was in service".to_owned(),
                Some(vector) => {
                    u8::try_from(vector).map_or_else(|_| format!("{vector:#x}"), vector_text)
                }
            };
            let about = flags(vector, &[(eoi.paravirtual, "paravirtual")]);
            self.row("EOI", &about, &of_vcpus(by), "", *times);
        }
        self.rest("EOI", eois.rest);
    }

    fn print(self, out: &mut String, heads: &[&str], numeric: &[bool]) {
        print(out, self.lines, heads, numeric);
    }
}

fn print(out: &mut String, lines: Vec<Vec<String>>, heads: &[&str], numeric: &[bool]) {
    if lines.is_empty() {
        return;
    }
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<_> = std::iter::once(heads).chain(lines).collect();
    out.push('\n');
    indented(out, &table(&lines, numeric));
}

fn per_second(content: &Content<'_>, times: u64) -> String {
    match content.duration_ns {
        0 => "-".to_owned(),
        over_ns => rate(times as f64 * 1e9 / over_ns as f64),
    }
}

/// "vCPU 3", or how many.
fn of_vcpus(vcpus: &BTreeSet<u32>) -> String {
    match vcpus.first() {
        Some(only) if vcpus.len() == 1 => format!("vCPU {only}"),
        _ => format!("{} vCPUs", vcpus.len()),
    }
}

/// "0xec Linux: local timer, posted", "INIT", "0x41, 300 posted".
fn delivery(one: &Delivery) -> String {
    let what = one.what;
    let about = match what.mode.has_vector() {
        true => vector_text(what.vector),
        false => what.mode.word().to_owned(),
    };
    posted(flags(about, &[(what.level, "level")]), one.count, one.posted)
}

/// Says how many of them the hardware took over.
fn posted(about: String, of: u64, posted: u64) -> String {
    match posted {
        0 => about,
        all if all == of => format!("{about}, posted"),
        some => format!("{about}, {} posted", count(some)),
    }
}

const ROUTE_HEADS: [&str; 6] = ["through", "what", "by", "count", "rate/s", "merged"];
const ROUTE_NUMERIC: [bool; 6] = [false, false, false, true, true, true];

/// What was sent by others than vCPUs, or through a chip.
fn routes(out: &mut String, content: &Content<'_>, rows: &[RouteTick], other: u64) {
    let rows = irqs::with_posted(rows);
    let mut lines = Vec::new();
    for (row, of_them) in rows.iter().take(ROUTES) {
        let about = posted(route(row), row.count, of_them.unwrap_or(0));
        lines.push(vec![
            irqchip::chip(row.chip).to_owned(),
            truncate(&about, 44, '…'),
            truncate(&sender(row), 20, '…'),
            count(row.count),
            per_second(content, row.count),
            count(row.coalesced),
        ]);
    }
    let rest = rows.get(ROUTES..).unwrap_or_default();
    let times = rest.iter().fold(other, |sum, (row, _)| sum.saturating_add(row.count));
    if times > 0 {
        let coalesced = rest.iter().fold(0u64, |sum, (row, _)| sum.saturating_add(row.coalesced));
        lines.push(vec![
            "others".to_owned(),
            String::new(),
            String::new(),
            count(times),
            per_second(content, times),
            count(coalesced),
        ]);
    }
    print(out, lines, &ROUTE_HEADS, &ROUTE_NUMERIC);
}

/// "pin 4: 0x31 to APIC 0, edge", "GSI 24 raised".
fn route(row: &RouteTick) -> String {
    let route = irqchip::route(row.chip, row.a, row.b);
    let mut about = route.through;
    let what = match (route.vector, route.mode) {
        (Some(vector), _) => Some(vector_text(vector)),
        (None, mode) => mode.map(|mode| mode.word().to_owned()),
    };
    if let Some(what) = what {
        about = format!("{about}: {what}");
    }
    if let Some(to) = route.to {
        about = format!("{about} to {to}");
    }
    match route.raised {
        Some(true) => about.push_str(" raised"),
        Some(false) => about.push_str(" lowered"),
        None => {}
    }
    let edge = route.level.map(|level| if level { "level" } else { "edge" });
    if let Some(edge) = edge {
        about = format!("{about}, {edge}");
    }
    flags(about, &[(route.masked, "masked")])
}

/// "qemu-system-x86 4711", "vhost-4711 (kernel)", "an interrupt of the host".
fn sender(row: &RouteTick) -> String {
    let comm = clean(&row.comm);
    match row.sender {
        Sender::Interrupt => "host interrupt".to_owned(),
        Sender::Kernel => format!("{} (kernel)", truncate(&comm, 11, '…')),
        Sender::Vcpu | Sender::Thread => format!("{} {}", truncate(&comm, 11, '…'), row.pid),
    }
}

/// Interrupts of which the VM is not known, and those that found no row.
pub fn unknown(out: &mut String, content: &Content<'_>) {
    let all = &content.totals.routes;
    let (rows, other) = (all.of(None), all.other(None));
    if !rows.is_empty() || other > 0 {
        line!(out, "\nInterrupts into a VM that is not known from who sent them:");
        routes(out, content, &rows, other);
    }
    if all.left_out > 0 {
        line!(
            out,
            "\n{} interrupts found no row, and are in none of these tables.",
            count(all.left_out)
        );
    }
}

const TIMER_HEADS: [&str; 12] = [
    "timer", "now", "deadline", "disarm", "1-shot", "period", "expired", "to hw", "to sw", "late",
    "p99", "max",
];
const TIMER_NUMERIC: [bool; 12] =
    [false, false, true, true, true, true, true, true, true, true, true, true];

/// Timers of each vCPU. How late is in ticks of the guest's TSC.
fn timers(out: &mut String, vcpus: &[&VcpuTotals]) {
    let mut lines = Vec::new();
    let mut is_late = false;
    for vcpu in vcpus {
        let late = vcpu.meters.of(MeterKind::Late).map(Sum::stats);
        if vcpu.meters.timers.is_none() && late.is_none() {
            continue;
        }
        let timers = vcpu.meters.timers.unwrap_or_default();
        let now = match timers.is_hardware {
            Some(true) => "hardware",
            Some(false) => "software",
            None => "-",
        };
        let mut cells = vec![format!("vCPU {}", vcpu.info.key.vcpu), now.to_owned()];
        cells.extend(
            [
                timers.deadlines,
                timers.disarmed,
                timers.one_shot,
                timers.periodic,
                timers.expired,
                timers.hardware,
                timers.software,
                late.as_ref().map_or(0, |late| late.count),
            ]
            .map(count),
        );
        let latency = late.and_then(|late| late.latency);
        is_late |= latency.is_some();
        cells.extend(
            [latency.map(|late| late.p99_ns), latency.map(|late| late.max_ns)]
                .map(|ticks| ticks.map_or(Value::None, Value::Count).to_string()),
        );
        lines.push(cells);
    }
    print(out, lines, &TIMER_HEADS, &TIMER_NUMERIC);
    if is_late {
        line!(out, "  p99 and max are how late, in ticks of the guest's TSC.");
    }
}
