//! What the invented host's vCPUs do beside exits.

use super::{SECOND, START};
use crate::model::{
    detail::{CulpritTick, Halts, KeyClass, KeyId, KeyTick, VmTick},
    event::{Event, EventKind, LeftOut},
    ids::VmId,
    meters::{Chip, MeterKind, MeterTick, RouteTick, Sender, TimerTick, WindowTick},
    session::{ProbeStatus, Session},
    tick::{Phase, Tick, VcpuTick},
};
use crate::source::live::plan::Family;
use kvmscope_shared::{
    detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT},
    hist::{bucket_hi, bucket_lo, bucket_of},
    meters::timer,
    route::accepted,
};

fn key(vcpu: &mut VcpuTick, class: KeyClass, value: Option<u64>, count: u64, each_ns: u64) {
    let id = KeyId { reason: None, class, value };
    let (timed, total_ns) = if each_ns > 0 { (count, count * each_ns) } else { (0, 0) };
    let max_ns = if value.is_some() { each_ns * 5 } else { 0 };
    vcpu.keys.push(KeyTick { id, count, timed, total_ns, off_ns: 0, vmm_ns: 0, max_ns });
}

fn meter(kind: MeterKind, count: u64, ns: u64) -> MeterTick {
    let middle = bucket_of(ns);
    let parts = [(0, count - count / 3 - count / 50), (4, count / 3), (15, count / 50)];
    let hist: Vec<(u8, u32)> = parts
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(up, n)| ((middle + up) as u8, n as u32))
        .collect();
    let last = hist.last().map_or(0, |(bucket, _)| usize::from(*bucket));
    MeterTick {
        kind,
        count,
        total_ns: count * ns,
        min_ns: bucket_lo(middle),
        max_ns: bucket_hi(last) - 1,
        hist,
    }
}

/// Adds it to a tick of the world. The second VM's interrupts are delivered by the hardware; the third has
/// no interrupts at all.
pub fn add(tick: &mut Tick) {
    let (seq, end_ns) = (tick.seq, tick.end_ns);
    let mut events = Vec::new();
    for vcpu in &mut tick.vcpus {
        let kind = (vcpu.key.vm.0 - 1) % 4;
        if kind != 2 {
            interrupts(vcpu, kind == 1);
        }
        scheduling(vcpu, kind, seq);
        vcpu.keys.sort_by_key(|key| key.id);
        if vcpu.key.vcpu < 2 && kind != 2 {
            events.extend(single(vcpu, kind == 1, seq));
        }
    }
    let mut vms: Vec<VmId> = tick.vcpus.iter().map(|vcpu| vcpu.key.vm).collect();
    vms.dedup();
    for vm in vms.into_iter().filter(|vm| (vm.0 - 1) % 4 < 2) {
        routes(vm, tick);
        events.push(Event {
            kind: EventKind::Route,
            vm,
            tid: 4_000,
            args: [Chip::Msi as u64, 0xfee0_1000, 0x41, 0, Sender::Kernel as u64, 0],
            ..Event::default()
        });
    }
    if !tick.vcpus.is_empty() {
        let args = [Chip::Msi as u64, 0xfee0_2000, 0x51, 0, Sender::Interrupt as u64, 0];
        events.push(Event { kind: EventKind::Route, args, ..Event::default() });
        let unknown = (Chip::Msi, None, Sender::Interrupt, 0, "");
        tick.routes.push(route(unknown, (0xfee0_2000, 0x51), 300, 0));
    }
    // The first VM is inhibited from the eighth tick on, the second is not.
    for (vm, bits) in [(VmId(1), if seq < 8 { 0 } else { 1 << 8 }), (VmId(2), 0)] {
        if seq.is_multiple_of(4) && tick.vcpus.iter().any(|vcpu| vcpu.key.vm == vm) {
            let told =
                VmTick { id: vm, over_ns: SECOND, apicv_inhibits: Some(bits), ..VmTick::default() };
            tick.vms.push(told);
        }
    }
    tick.routes.sort();
    for (n, event) in (0..).zip(&mut events) {
        event.at_ns = end_ns - SECOND + 2_000_000 * (n + 1);
    }
    tick.events.extend(events);
    tick.events.sort_by_key(|event| event.at_ns);
    if seq.is_multiple_of(5) {
        tick.events_left_out.extend([
            LeftOut { kind: EventKind::Injection, count: 1_204 },
            LeftOut { kind: EventKind::Wakeup, count: 77 },
        ]);
    }
}

fn interrupts(vcpu: &mut VcpuTick, posted: bool) {
    let (me, apic) = (vcpu.key.vcpu, u64::from(vcpu.key.vcpu ^ 1));
    let n = 1_000 / (u64::from(me) + 1);
    for (vector, to, count) in [(0xec, me, n), (0xfd, me ^ 1, n / 3), (0x41, me, n / 7)] {
        key(vcpu, KeyClass::Delivered, Some(accepted(to, vector, 0, false, false)), count, 0);
        let injected = if posted { count / 300 } else { count };
        if posted {
            key(vcpu, KeyClass::Delivered, Some(accepted(to, vector, 0, false, true)), count, 0);
        }
        if injected > 0 {
            key(vcpu, KeyClass::Injected, Some(vector.into()), injected, 0);
        }
    }
    if me == 0 {
        key(vcpu, KeyClass::Injected, Some(0xec | REINJECTED), 21, 0);
        key(vcpu, KeyClass::Injected, Some(0x80 | SOFT), 4, 0);
        key(vcpu, KeyClass::Injected, None, 9, 0);
        key(vcpu, KeyClass::Exception, Some(14 | HAS_ERROR), 17, 0);
        key(vcpu, KeyClass::Exception, Some(6), 2, 0);
        key(vcpu, KeyClass::Eoi, Some(u64::MAX), 1, 0);
        key(vcpu, KeyClass::Ipi, Some(0xc_4400), 1, 0);
        // Of a hostile or broken kernel.
        key(vcpu, KeyClass::Injected, Some(0x12_3456 << 32 | 0x78), 1, 0);
    }
    key(vcpu, KeyClass::Eoi, Some(0xec), n / 2, 0);
    key(vcpu, KeyClass::Eoi, Some(0x41 | PARAVIRTUAL), n / 8, 0);
    key(vcpu, KeyClass::Ipi, Some(apic << 32 | 0x40fd), n / 3, 0);
    vcpu.meters.timers = Some(TimerTick {
        hardware: 1,
        software: u64::from(me == 3),
        deadlines: n,
        disarmed: n / 20,
        one_shot: u64::from(me == 2) * 40,
        periodic: u64::from(me == 1),
        expired: n - n / 20,
        is_hardware: Some(me != 3),
    });
    vcpu.meters.meters.push(meter(MeterKind::Late, n / 50 + 1, 2_400));
}

fn scheduling(vcpu: &mut VcpuTick, kind: u32, seq: u64) {
    let n = 100 + 37 * u64::from(vcpu.key.vcpu % 5);
    vcpu.halts = Halts { polled: n / 2, waited: n - n / 2 };
    vcpu.time.shift(Phase::Kvm, Phase::Polling, n * 9_000);
    let idle = n / 20;
    vcpu.meters.meters.extend([
        meter(MeterKind::Polled, n / 2 - idle, 14_000),
        meter(MeterKind::PolledIdle, idle, 45_000),
        meter(MeterKind::Slept, n - n / 2, 800_000),
        meter(MeterKind::Loaded, n, 3_000_000),
    ]);
    vcpu.meters.meters.sort_by_key(|meter| meter.kind);
    let home = u64::from(vcpu.cpu);
    key(vcpu, KeyClass::OnCpu, Some(home), n - n / 4, 3_000_000);
    key(vcpu, KeyClass::OnCpu, Some((home + 5) % 64), n / 4, 1_200_000);
    if kind == 1 {
        key(vcpu, KeyClass::OnCpu, Some((home + 32) % 64), 3, 800_000);
        key(vcpu, KeyClass::OnCpu, None, 2, 300_000);
        vcpu.meters.crossings = 6;
    }
    vcpu.meters.migrations = n / 5;
    vcpu.meters.loaded_open_ns = if vcpu.phase == Phase::Guest { 1_700_000 } else { 0 };
    let step = (seq / 3 + u64::from(vcpu.key.vcpu)) % 5;
    vcpu.meters.window = Some(WindowTick { now_ns: 10_000 << step, grew: step, shrank: 1 });
    let wait = vcpu.time.get(Phase::Preempted);
    let one = |pid, comm: &str, vm, ns| CulpritTick {
        pid,
        tid: pid,
        comm: comm.to_owned(),
        vm,
        cgroup: if vm.is_some() { "/machine.slice/vm.scope" } else { "" }.to_owned(),
        ns,
        count: ns / 300_000 + 1,
    };
    vcpu.culprits =
        vec![one(2_117, "cc1", None, wait / 2), one(4_017, "CPU 1/KVM", Some(VmId(2)), wait / 3)];
}

fn single(vcpu: &VcpuTick, posted: bool, seq: u64) -> Vec<Event> {
    let event = |kind, args| Event {
        at_ns: START,
        kind,
        vm: vcpu.key.vm,
        vcpu: Some(vcpu.key.vcpu),
        tid: 4_010 + vcpu.key.vcpu,
        cpu: vcpu.cpu,
        args,
        ..Event::default()
    };
    let to = accepted(vcpu.key.vcpu, 0xec, 0, false, true);
    let put = if posted {
        event(EventKind::Route, [Chip::Lapic as u64, to, 0, 0, Sender::Vcpu as u64, 0])
    } else {
        event(EventKind::Injection, [0xec, 0, u64::from(seq.is_multiple_of(4)), 0, 0, 0])
    };
    vec![
        event(EventKind::Timer, [timer::DEADLINE as u64, seq * 3_000_000_000, 0, 0, 0, 0]),
        put,
        event(EventKind::Exception, [14, 1, 6, 0, 0, 0]),
        event(EventKind::Wakeup, [9_000 * seq, 1, u64::from(!seq.is_multiple_of(3)), 0, 0, 0]),
        event(EventKind::HaltPoll, [10_000, 20_000, 0, 0, 0, 0]),
    ]
}

type Sent<'a> = (Chip, Option<VmId>, Sender, u32, &'a str);

fn route(
    (chip, vm, sender, pid, comm): Sent<'_>,
    (a, b): (u64, u64),
    count: u64,
    coalesced: u64,
) -> RouteTick {
    RouteTick { chip, vm, sender, pid, comm: comm.to_owned(), a, b, count, coalesced }
}

fn routes(vm: VmId, tick: &mut Tick) {
    let pid = 4_000 + (vm.0 - 1) * 17;
    let vhost = format!("vhost-{pid}");
    let vmm = (Some(vm), Sender::Thread, pid, "qemu");
    let of = |chip| (chip, vmm.0, vmm.1, vmm.2, vmm.3);
    let kernel = |chip| (chip, Some(vm), Sender::Kernel, pid + 6, vhost.as_str());
    tick.routes.extend([
        route(kernel(Chip::Msi), (0xfee0_1000, 0x41), 2_200, 0),
        route(kernel(Chip::Lapic), (accepted(1, 0x41, 0, false, false), 0), 2_200, 0),
        route(of(Chip::Msi), (0xfee0_300c, 0x8143), 12, 3),
        route(of(Chip::Line), (4, 1), 6, 0),
        route(of(Chip::Line), (4, 0), 6, 0),
        route(of(Chip::Pic), (4, 2), 12, 0),
        route(of(Chip::Ioapic), (4, 0x0300_0000_0001_8831), 6, 1),
    ]);
}

/// A session with these families' probes, attached or off.
pub fn with(mut session: Session, on: &[Family]) -> Session {
    let hooks = [
        ("kvm:kvm_inj_virq", Family::Irq),
        ("kvm:kvm_inj_exception", Family::Irq),
        ("kvm:kvm_apic_accept_irq", Family::Irq),
        ("kvm:kvm_msi_set_irq", Family::Irqchip),
        ("kvm:kvm_ioapic_set_irq", Family::Irqchip),
        ("kvm:kvm_hv_timer_state", Family::Timer),
        ("kvm:kvm_halt_poll_ns", Family::HaltPoll),
        ("kvm:kvm_vcpu_wakeup", Family::Wakeup),
        ("sched:sched_switch", Family::VcpuLoad),
        ("sched:sched_switch", Family::Culprits),
    ];
    for (hook, family) in hooks {
        let attached = on.contains(&family);
        session.probes.push(ProbeStatus {
            name: hook.to_owned(),
            family: family.name().to_owned(),
            attached,
            why: (!attached).then(|| family.off()),
            how: if attached { "raw tracepoint".to_owned() } else { String::new() },
        });
    }
    session
}
