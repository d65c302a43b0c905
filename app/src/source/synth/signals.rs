//! What invented vCPUs do beside exits: interrupts, timers, wake-ups, time on CPUs, halt polling.

use super::details::There;
use super::events::leave_out;
use super::plan::VmPlan;
use super::rng::Rng;
use crate::model::detail::{KeyClass, KeyId, KeyTick};
use crate::model::event::{Event, EventKind};
use crate::model::meters::{Chip, MeterKind, MeterTick, RouteTick, Sender, TimerTick, WindowTick};
use crate::model::tick::{Phase, Tick, VcpuTick};
use kvmscope_shared::detail::{HAS_ERROR, REINJECTED};
use kvmscope_shared::hist::{bucket_hi, bucket_lo, bucket_of};
use kvmscope_shared::meters::timer;
use kvmscope_shared::route::accepted;

/// CPUs of the invented host, and of each of its two nodes.
const CPUS: u64 = 48;
const OF_NODE: u64 = 24;
/// The guest's timer, IPI and device.
const TIMER: u64 = 0xec;
const RESCHEDULE: u64 = 0xfd;
const DEVICE: u64 = 0x31;
/// Events of a kind of one vCPU in a tick; more are left out.
const TOLD: u64 = 4;
/// Windows that halt polling has, ns.
const WINDOWS: [u64; 6] = [0, 10_000, 20_000, 40_000, 80_000, 200_000];

/// Adds it to a vCPU and its tick. A VM that is there for measuring has none.
pub(super) fn add(plan: &VmPlan, vcpu: &mut VcpuTick, rng: &mut Rng, tick: &mut Tick) {
    if plan.polls == 0.0 {
        return;
    }
    interrupts(plan, vcpu, rng, tick);
    vcpu.meters.meters = wakeups(vcpu, rng, tick);
    scheduling(vcpu, rng);
    vcpu.meters.window = Some(window(plan, vcpu, rng, tick));
    vcpu.meters.meters.sort_by_key(|meter| meter.kind);
    vcpu.keys.sort_by_key(|key| key.id);
}

/// How often a key of the exits was met.
fn met(vcpu: &VcpuTick, class: KeyClass, value: Option<u64>) -> u64 {
    let mine = vcpu.keys.iter().filter(|key| key.id.class == class);
    mine.filter(|key| value.is_none() || key.id.value == value).map(|key| key.count).sum()
}

fn key(vcpu: &mut VcpuTick, class: KeyClass, value: u64, count: u64) {
    if count > 0 {
        let id = KeyId { reason: None, class, value: Some(value) };
        vcpu.keys.push(KeyTick { id, count, ..KeyTick::default() });
    }
}

fn event(vcpu: &VcpuTick, kind: EventKind, args: [u64; 6], rng: &mut Rng, tick: &Tick) -> Event {
    Event {
        at_ns: tick.end_ns - rng.between(0, tick.dur_ns),
        kind,
        vm: vcpu.key.vm,
        vcpu: Some(vcpu.key.vcpu),
        tid: 4003 + 20 * vcpu.key.vm.0 + vcpu.key.vcpu,
        cpu: vcpu.cpu,
        args,
        ..Event::default()
    }
}

fn tell(
    vcpu: &VcpuTick,
    (kind, args, count): (EventKind, [u64; 6], u64),
    rng: &mut Rng,
    tick: &mut Tick,
) {
    for _ in 0..count.min(TOLD) {
        let event = event(vcpu, kind, args, rng, tick);
        tick.events.push(event);
    }
    leave_out(tick, kind, count.saturating_sub(TOLD));
}

fn interrupts(plan: &VmPlan, vcpu: &mut VcpuTick, rng: &mut Rng, tick: &mut Tick) {
    let deadlines = met(vcpu, KeyClass::MsrWrite, Some(0x6e0));
    let sent = met(vcpu, KeyClass::MsrWrite, Some(0x830));
    let devices = met(vcpu, KeyClass::MmioFast, None) / 4;
    let eois = met(vcpu, KeyClass::MsrWrite, Some(0x80b));
    let expired = deadlines * 9 / 10;
    // With APICv the hardware delivers, and KVM puts next to nothing into the guest.
    let apicv = plan.beside > 0.1;
    let me = vcpu.key.vcpu;
    let other = (me + 1) % plan.vcpus.max(1);
    for (vector, to, count) in
        [(TIMER, me, expired), (RESCHEDULE, other, sent), (DEVICE, me, devices)]
    {
        let told = |posted| accepted(to, vector as u8, 0, false, posted);
        key(vcpu, KeyClass::Delivered, told(false), count);
        let injected = if apicv { count / 500 } else { count };
        if apicv {
            key(vcpu, KeyClass::Delivered, told(true), count - count / 500);
        }
        let again = injected / 40;
        key(vcpu, KeyClass::Injected, vector, injected - again);
        key(vcpu, KeyClass::Injected, vector | REINJECTED, again);
        let event = if apicv {
            (
                EventKind::Route,
                [Chip::Lapic as u64, told(true), 0, 0, Sender::Vcpu as u64, 0],
                count,
            )
        } else {
            (
                EventKind::Injection,
                [vector, 0, u64::from(again > 0 && rng.unit() < 0.1), 0, 0, 0],
                injected,
            )
        };
        tell(vcpu, event, rng, tick);
    }
    key(vcpu, KeyClass::Eoi, TIMER, eois * 3 / 4);
    key(vcpu, KeyClass::Eoi, DEVICE, eois - eois * 3 / 4);
    key(vcpu, KeyClass::Ipi, u64::from(other) << 32 | 0x4000 | RESCHEDULE, sent);
    let faults = met(vcpu, KeyClass::Page, None) / 100;
    key(vcpu, KeyClass::Exception, 14 | HAS_ERROR, faults);
    tell(vcpu, (EventKind::Exception, [14, 1, 6, 0, 0, 0], faults), rng, tick);
    if deadlines > 0 {
        let software = rng.round(0.05);
        let late = expired / 50;
        vcpu.meters.timers = Some(TimerTick {
            hardware: rng.round(0.1),
            software,
            deadlines,
            disarmed: deadlines / 30,
            one_shot: 0,
            periodic: 0,
            expired,
            is_hardware: Some(!apicv),
        });
        let args = [timer::DEADLINE as u64, tick.end_ns * 3, 0, 0, 0, 0];
        tell(vcpu, (EventKind::Timer, args, deadlines), rng, tick);
        vcpu.meters.meters.extend(meter(MeterKind::Late, late, 2_600));
    } else if plan.idle > 0.9 {
        let periodic = rng.round(0.02);
        let expired = 64 * tick.dur_ns / 1_000_000_000;
        let timers =
            TimerTick { periodic, expired, is_hardware: Some(false), ..TimerTick::default() };
        vcpu.meters.timers = Some(timers);
        key(vcpu, KeyClass::Injected, 0xd1, expired);
        key(vcpu, KeyClass::Delivered, accepted(me, 0xd1, 0, false, false), expired);
        tell(vcpu, (EventKind::Injection, [0xd1, 0, 0, 0, 0, 0], expired), rng, tick);
    }
}

/// A meter of so many around a median.
fn meter(kind: MeterKind, count: u64, median_ns: u64) -> Option<MeterTick> {
    let middle = bucket_of(median_ns) as u64;
    let mut left = count;
    let mut hist: Vec<(u8, u32)> = Vec::new();
    let mut total_ns = 0;
    for (step, share) in [(0, 2), (3, 6), (5, 3), (6, 2), (7, 3), (9, 8), (14, 50)] {
        let n = if step == 14 { left } else { (count / share).min(left) };
        let bucket = (middle + step).saturating_sub(6);
        left -= n;
        if n > 0 {
            hist.push((bucket as u8, n as u32));
            total_ns += n * bucket_lo(bucket as usize);
        }
    }
    let (first, last) = (hist.first()?.0, hist.last()?.0);
    let (min_ns, max_ns) = (bucket_lo(first.into()), bucket_hi(last.into()) - 1);
    Some(MeterTick { kind, count, total_ns, min_ns, max_ns, hist })
}

fn wakeups(vcpu: &VcpuTick, rng: &mut Rng, tick: &mut Tick) -> Vec<MeterTick> {
    let halts = vcpu.halts;
    let (polled_idle, slept_idle) = (halts.polled / 30, halts.waited / 12);
    let mut meters = vcpu.meters.meters.clone();
    for (kind, count, ns) in [
        (MeterKind::Polled, halts.polled - polled_idle, 18_000),
        (MeterKind::PolledIdle, polled_idle, 60_000),
        (MeterKind::Slept, halts.waited - slept_idle, 650_000),
        (MeterKind::SleptIdle, slept_idle, 240_000),
    ] {
        meters.extend(meter(kind, count, ns));
        let slept = u64::from(matches!(kind, MeterKind::Slept | MeterKind::SleptIdle));
        let valid = u64::from(matches!(kind, MeterKind::Polled | MeterKind::Slept));
        let args = [rng.between(ns / 2, ns * 2), slept, valid, 0, 0, 0];
        tell(vcpu, (EventKind::Wakeup, args, count), rng, tick);
    }
    meters
}

/// Most on one CPU, now and then on another, seldom on the other node.
fn scheduling(vcpu: &mut VcpuTick, rng: &mut Rng) {
    let on = [Phase::Guest, Phase::Kvm, Phase::Polling].map(|phase| vcpu.time.get(phase));
    let whole: u64 = on.iter().sum();
    let count = vcpu.halts.waited + vcpu.time.get(Phase::Preempted) / 2_000_000;
    if count == 0 {
        vcpu.meters.loaded_open_ns = whole;
        return;
    }
    let all = count;
    let home = u64::from(vcpu.cpu);
    let near = home / OF_NODE * OF_NODE + (home + 3) % OF_NODE;
    let far = (home + OF_NODE) % CPUS;
    let away = rng.round(count as f64 * 0.1).min(count);
    let crossed = rng.round(away as f64 * 0.05).min(away);
    for (cpu, count) in [(home, count - away), (near, away - crossed), (far, crossed)] {
        if count == 0 {
            continue;
        }
        let total_ns = (whole as f64 * count as f64 / all as f64) as u64;
        let id = KeyId { reason: None, class: KeyClass::OnCpu, value: Some(cpu) };
        let mean = total_ns / count + 1;
        vcpu.keys.push(KeyTick {
            id,
            count,
            timed: count,
            total_ns,
            max_ns: mean * 6,
            ..KeyTick::default()
        });
    }
    vcpu.meters.meters.extend(meter(MeterKind::Loaded, count, whole / count + 1));
    vcpu.meters.migrations = 2 * away;
    vcpu.meters.crossings = 2 * crossed;
    if vcpu.phase == Phase::Guest {
        vcpu.meters.loaded_open_ns = rng.between(1_000, whole / count + 2_000);
    }
}

/// It grows while polls succeed, and shrinks else.
fn window(plan: &VmPlan, vcpu: &VcpuTick, rng: &mut Rng, tick: &mut Tick) -> WindowTick {
    let level = (plan.polls * 5.0 + 1.4 * rng.unit()) as usize;
    let now_ns = WINDOWS[level.min(WINDOWS.len() - 1)];
    let before = WINDOWS[level.saturating_sub(1)];
    let changes = rng.round(2.0);
    tell(vcpu, (EventKind::HaltPoll, [before, now_ns, 0, 0, 0, 0], changes.min(1)), rng, tick);
    WindowTick { now_ns, grew: changes, shrank: changes / 2 }
}

/// What threads that are no vCPUs send into a VM, and an interrupt of the host of which it is not known into
/// which.
pub(super) fn routes(plan: &VmPlan, (id, pid, _): There, rng: &mut Rng, tick: &mut Tick) {
    if plan.polls == 0.0 {
        return;
    }
    let seconds = tick.dur_ns as f64 / 1e9;
    let vhost = format!("vhost-{pid}");
    let apic = u64::from(id.0 % plan.vcpus.max(1));
    let message = 0xfee0_0000 | apic << 12;
    let entry = |vector: u64, level: u64| vector | level << 15 | apic << 56;
    let known = |chip, sender, pid, comm: &str, (a, b), count, coalesced| RouteTick {
        chip,
        vm: Some(id),
        sender,
        pid,
        comm: comm.to_owned(),
        a,
        b,
        count,
        coalesced,
    };
    let level = (0.5 + rng.unit()) * (0.1 + plan.beside * 4.0);
    let busy = rng.round(900.0 * seconds * level);
    let serial = rng.round(6.0 * seconds);
    let delivered = accepted(apic as u32, DEVICE as u8, 0, false, false);
    let mut found = vec![
        known(Chip::Msi, Sender::Kernel, pid + 5, &vhost, (message, DEVICE), busy, 0),
        known(Chip::Lapic, Sender::Kernel, pid + 5, &vhost, (delivered, 0), busy, 0),
    ];
    if plan.vmm == "qemu" {
        let (line, pin) = ((4, 1), (4, entry(0x24, 0)));
        found.extend([
            known(Chip::Line, Sender::Thread, pid, plan.vmm, line, serial, 0),
            known(Chip::Pic, Sender::Thread, pid, plan.vmm, (4, 2), serial, 0),
            known(Chip::Ioapic, Sender::Thread, pid, plan.vmm, pin, serial, serial / 8),
        ]);
    }
    if id.0.is_multiple_of(3) {
        let passed = known(Chip::Msi, Sender::Interrupt, 0, "", (message, 0x41), busy / 9, 0);
        found.push(RouteTick { vm: None, ..passed });
    }
    for route in found.into_iter().filter(|route| route.count > 0) {
        let told = if route.chip == Chip::Lapic { 0 } else { route.count.min(2) };
        for _ in 0..told {
            tick.events.push(Event {
                at_ns: tick.end_ns - rng.between(0, tick.dur_ns),
                kind: EventKind::Route,
                vm: route.vm.unwrap_or_default(),
                tid: route.pid,
                cpu: id.0 % CPUS as u32,
                args: [route.chip as u64, route.a, route.b, 0, route.sender as u64, 0],
                ..Event::default()
            });
        }
        leave_out(tick, EventKind::Route, route.count.saturating_sub(told));
        tick.routes.push(route);
    }
}

/// In order, as a source has them.
pub(super) fn bound(tick: &mut Tick) {
    tick.routes.sort();
}
