//! Ticks for tests.

use super::detail::{CulpritTick, Halts, IoctlTick, KeyClass, KeyId, KeyTick, Outlier, VmTick};
use super::event::{Event, EventKind, LeftOut};
use super::ids::{Isa, Kind, Reason, VcpuKey, VmId};
use super::meters::{
    Chip, MeterKind, MeterTick, MetersTick, RouteTick, Sender, TimerTick, WindowTick,
};
use super::stack::{Frame, StackOf, StackTick};
use super::tick::{
    CellTick, HostTick, Life, Lost, OpenExit, PHASES, Phase, PhaseTimes, Tick, VcpuInfo, VcpuTick,
    VmInfo,
};
use kvmscope_shared::hist::{BUCKETS, bucket_of};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A cell in which exits of these handling times ended (and began).
pub fn cell(reason: Reason, times: &[u64]) -> CellTick {
    let mut counts = std::collections::BTreeMap::new();
    for &ns in times {
        *counts.entry(bucket_of(ns) as u8).or_insert(0) += 1;
    }
    CellTick {
        reason,
        count: times.len() as u64,
        total_ns: times.iter().sum(),
        min_ns: times.iter().copied().min().unwrap_or(0),
        max_ns: times.iter().copied().max().unwrap_or(0),
        hist: counts.into_iter().collect(),
        ..CellTick::default()
    }
}

/// A vCPU with these cells that spent `dur_ns` in the guest.
pub fn vcpu(vm: u32, vcpu: u32, dur_ns: u64, cells: Vec<CellTick>) -> VcpuTick {
    let mut time = PhaseTimes::default();
    time.0[Phase::Guest as usize] = dur_ns;
    let key = VcpuKey { vm: VmId(vm), vcpu };
    VcpuTick { key, phase: Phase::Guest, time, cells, ..VcpuTick::default() }
}

/// A small tick with something of everything.
pub fn sample_tick() -> Tick {
    let key = VcpuKey { vm: VmId(1), vcpu: 0 };
    let mut first =
        vcpu(1, 0, 1_000_000_000, vec![cell(Reason::exit(Isa::Vmx, 32), &[900, 1200, 88_000])]);
    first.cells.push(cell(Reason::userspace(2), &[40_000]));
    first.cpu = 3;
    first.since_ns = 9_999_000_000;
    first.open = Some(OpenExit {
        reason: Reason::exit(Isa::Vmx, 12),
        begun_ns: 9_500_000_000,
        rip: 0xffff_ffff_8100_0000,
        info1: 1,
        info2: 0,
    });
    first.halts = Halts { polled: 4, waited: 300 };
    first.keys = vec![
        KeyTick {
            id: KeyId { reason: None, class: KeyClass::Page, value: None },
            count: 9,
            timed: 9,
            total_ns: 70_000,
            ..KeyTick::default()
        },
        KeyTick {
            id: KeyId {
                reason: Some(Reason::exit(Isa::Vmx, 32)),
                class: KeyClass::MsrWrite,
                value: Some(0x6e0),
            },
            count: 3,
            timed: 2,
            total_ns: 2_100,
            off_ns: 5,
            vmm_ns: 6,
            max_ns: 1_200,
        },
    ];
    first.meters = sample_meters();
    first.culprits = vec![CulpritTick {
        pid: 812,
        tid: 813,
        comm: "cc1".into(),
        vm: Some(VmId(2)),
        cgroup: "/build".into(),
        ns: 12_000_000,
        count: 40,
    }];
    Tick {
        seq: 7,
        end_ns: 10_000_000_000,
        dur_ns: 1_000_000_000,
        lost: Lost { missed_runs: 1, ring: 0, pool_full: 2, slots_full: 0 },
        life: vec![
            Life::Vm(VmInfo { id: VmId(1), pid: 4711, name: "web-7".into(), ..VmInfo::default() }),
            Life::Vcpu(VcpuInfo { key, tid: 4712, guessed: false }),
            Life::VmGone(VmId(9), 9_000_000_000),
        ],
        vcpus: vec![first, vcpu(2, 5, 500, vec![cell(Reason::exit(Isa::Svm, 0x400), &[70])])],
        host: HostTick { steal_ns: 5, own_cpu_ns: 600, probes: Some((1000, 12)) },
        vms: vec![VmTick {
            id: VmId(1),
            over_ns: 1_000_000_000,
            others_ns: 40_000,
            threads: vec![(4713, "IO iothread1".into(), 30_000)],
            ioctls: vec![IoctlTick {
                command: 0xae80,
                count: 12,
                failed: 1,
                total_ns: 900_000,
                max_ns: 100_000,
            }],
            apicv_inhibits: Some(0x104),
            throttled_ns: Some(0),
        }],
        outliers: vec![sample_outlier(key)],
        outliers_left_out: 3,
        events: vec![sample_event(key)],
        events_left_out: vec![LeftOut { kind: EventKind::Mmio, count: 7 }],
        stacks: vec![sample_stack()],
        stacks_left_out: 2,
        dirty_elsewhere: 11,
        routes: vec![sample_route()],
        routes_left_out: 1,
    }
}

/// A message that a worker of the kernel sent for an irqfd.
pub fn sample_route() -> RouteTick {
    RouteTick {
        chip: Chip::Msi,
        vm: Some(VmId(1)),
        sender: Sender::Kernel,
        pid: 900,
        comm: "kworker/0:1".into(),
        a: 0xfee0_0000,
        b: 0x4041,
        count: 30,
        coalesced: 2,
    }
}

/// Wake-ups, timers and a window, as a vCPU that halts often has them.
pub fn sample_meters() -> MetersTick {
    MetersTick {
        meters: vec![
            MeterTick {
                kind: MeterKind::Polled,
                count: 3,
                total_ns: 90_000,
                min_ns: 20_000,
                max_ns: 40_000,
                hist: vec![(30, 3)],
            },
            MeterTick { kind: MeterKind::Loaded, count: 1, ..MeterTick::default() },
        ],
        timers: Some(TimerTick { software: 4, deadlines: 9, ..TimerTick::default() }),
        window: Some(WindowTick { now_ns: 10_000, grew: 2, shrank: 1 }),
        migrations: 2,
        crossings: 1,
        loaded_open_ns: 500,
    }
}

/// A root that was loaded because the guest wrote a control register.
pub fn sample_stack() -> StackTick {
    let frame = |address, symbol: &str| Frame { address, symbol: symbol.to_owned() };
    StackTick {
        of: StackOf::LoadMmuPgd,
        vm: Some(VmId(1)),
        pid: 4711,
        count: 12,
        frames: vec![
            frame(0xffff_ffff_c100_2001, "vmx_load_mmu_pgd+0x1 [kvm_intel]"),
            frame(0xffff_ffff_c0f0_105c, ""),
        ],
    }
}

/// An OUT to the PM timer that its VMM took 2 ms for.
pub fn sample_outlier(key: VcpuKey) -> Outlier {
    Outlier {
        key,
        end_ns: 9_600_000_000,
        reason: Reason::exit(Isa::Vmx, 30),
        about: Some((KeyClass::PortIn, 0x608)),
        rip: 0xffff_ffff_8123_4567,
        handling_ns: 9_000,
        vmm_ns: 2_000_000,
        cpu: 1,
        by: Some((4713, "IO iothread1".into())),
        ..Outlier::default()
    }
}

/// A write to a page of dirty-logged memory.
pub fn sample_event(key: VcpuKey) -> Event {
    Event {
        at_ns: 9_700_000_000,
        kind: EventKind::Fault,
        vm: key.vm,
        vcpu: Some(key.vcpu),
        tid: 4712,
        cpu: 1,
        reason: Some(Reason::exit(Isa::Vmx, 48)),
        rip: 0xffff_ffff_8123_4567,
        handling_ns: 4_000,
        args: [0x1234_5000, 0x18a, 0, 0, 0, 0],
        ..Event::default()
    }
}

fn any_reason() -> impl Strategy<Value = Reason> {
    let kind = prop_oneof![Just(Kind::Exit), Just(Kind::Userspace)];
    let isa = prop_oneof![Just(Isa::None), Just(Isa::Vmx), Just(Isa::Svm)];
    (kind, isa, prop_oneof![0u32..100, any::<u32>()]).prop_map(|(kind, isa, code)| Reason {
        kind,
        isa,
        code,
    })
}

prop_compose! {
    fn any_cell()(
        flags in any::<u32>(),
        count in any::<u64>(),
        times in any::<[u64; 5]>(),
        hist in btree_map(0..BUCKETS as u8, 1u32.., 0..12),
    ) -> CellTick {
        let [total_ns, off_ns, vmm_ns, min_ns, max_ns] = times;
        let hist = hist.into_iter().collect();
        CellTick { reason: Reason::default(), flags, count, total_ns, off_ns, vmm_ns, min_ns, max_ns, hist }
    }
}

fn any_key() -> impl Strategy<Value = KeyTick> {
    let class = prop::sample::select(KeyClass::ALL.as_slice());
    (prop::option::of(any_reason()), class, any::<Option<u64>>(), any::<[u64; 6]>()).prop_map(
        |(reason, class, value, [count, timed, total_ns, off_ns, vmm_ns, max_ns])| KeyTick {
            id: KeyId { reason, class, value },
            count,
            timed,
            total_ns,
            off_ns,
            vmm_ns,
            max_ns,
        },
    )
}

fn any_culprit() -> impl Strategy<Value = CulpritTick> {
    (any::<[u32; 2]>(), "\\PC{0,5}", any::<Option<u32>>(), "\\PC{0,5}", any::<[u64; 2]>()).prop_map(
        |([pid, tid], comm, vm, cgroup, [ns, count])| CulpritTick {
            pid,
            tid,
            comm,
            vm: vm.map(VmId),
            cgroup,
            ns,
            count,
        },
    )
}

fn any_meters() -> impl Strategy<Value = MetersTick> {
    let kind = prop::sample::select(MeterKind::ALL.as_slice());
    let hist = btree_map(0..BUCKETS as u8, 1u32.., 0..6);
    let meters = btree_map(kind, (any::<[u64; 4]>(), hist), 0..4);
    (meters, any::<Option<[u64; 7]>>(), any::<Option<[u64; 3]>>(), any::<[u64; 3]>()).prop_map(
        |(meters, timers, window, [migrations, crossings, loaded_open_ns])| MetersTick {
            meters: meters
                .into_iter()
                .map(|(kind, ([count, total_ns, min_ns, max_ns], hist))| MeterTick {
                    kind,
                    count,
                    total_ns,
                    min_ns,
                    max_ns,
                    hist: hist.into_iter().collect(),
                })
                .collect(),
            timers: timers.map(
                |[hardware, software, deadlines, disarmed, one_shot, periodic, expired]| {
                    TimerTick {
                        hardware,
                        software,
                        deadlines,
                        disarmed,
                        one_shot,
                        periodic,
                        expired,
                        is_hardware: (expired % 3 != 0).then_some(expired % 3 == 1),
                    }
                },
            ),
            window: window.map(|[now_ns, grew, shrank]| WindowTick { now_ns, grew, shrank }),
            migrations,
            crossings,
            loaded_open_ns,
        },
    )
}

prop_compose! {
    fn any_vcpu()(
        cpu in any::<u32>(),
        phase in 0u32..8,
        moments in any::<[u64; 5]>(),
        open in prop::option::of(any_reason()),
        time in any::<[u64; PHASES]>(),
        cells in btree_map(any_reason(), any_cell(), 0..5),
        halts in any::<[u64; 2]>(),
        keys in vec(any_key(), 0..5),
        culprits in vec(any_culprit(), 0..3),
        meters in any_meters(),
    ) -> VcpuTick {
        let [polled, waited] = halts;
        let keys: std::collections::BTreeMap<_, _> = keys.into_iter().map(|k| (k.id, k)).collect();
        let [since_ns, begun_ns, rip, info1, info2] = moments;
        VcpuTick {
            key: VcpuKey::default(),
            cpu,
            phase: Phase::from_slot(phase),
            since_ns,
            open: open.map(|reason| OpenExit { reason, begun_ns, rip, info1, info2 }),
            time: PhaseTimes(time),
            halts: Halts { polled, waited },
            keys: keys.into_values().collect(),
            culprits,
            meters,
            cells: cells.into_iter().map(|(reason, cell)| CellTick { reason, ..cell }).collect(),
        }
    }
}

fn any_life() -> impl Strategy<Value = Life> {
    let key = |(vm, vcpu)| VcpuKey { vm: VmId(vm), vcpu };
    prop_oneof![
        (any::<[u32; 3]>(), "\\PC{0,9}", "\\PC{0,5}", any::<u64>()).prop_map(
            |([id, pid, nth], name, vmm, started_unix_ns)| {
                Life::Vm(VmInfo { id: VmId(id), pid, name, vmm, started_unix_ns, nth })
            }
        ),
        (any::<(u32, u32)>(), any::<u32>(), any::<bool>()).prop_map(move |(k, tid, guessed)| {
            Life::Vcpu(VcpuInfo { key: key(k), tid, guessed })
        }),
        (any::<(u32, u32)>(), any::<u64>()).prop_map(move |(k, at)| Life::VcpuGone(key(k), at)),
        (any::<u32>(), any::<u64>()).prop_map(|(vm, at)| Life::VmGone(VmId(vm), at)),
    ]
}

fn any_stack() -> impl Strategy<Value = StackTick> {
    let of = prop::sample::select(StackOf::ALL.as_slice());
    let frames = vec((any::<u64>(), "\\PC{0,9}"), 0..4);
    (of, any::<Option<u32>>(), any::<(u32, u64)>(), frames).prop_map(
        |(of, vm, (pid, count), frames)| StackTick {
            of,
            vm: vm.map(VmId),
            pid,
            count,
            frames: frames.into_iter().map(|(address, symbol)| Frame { address, symbol }).collect(),
        },
    )
}

prop_compose! {
    /// Any tick that keeps the rules of its type (keys ascend, no zeros).
    pub fn any_tick()(
        head in any::<[u64; 3]>(),
        lost in any::<[u64; 4]>(),
        host in any::<(u64, u64, Option<(u64, u64)>)>(),
        life in vec(any_life(), 0..4),
        vcpus in btree_map((0u32..4, any::<u32>()), any_vcpu(), 0..5),
        vms in vec(any::<([u64; 2], Vec<(u32, String, u64)>, Option<u64>)>(), 0..3),
        outliers in vec(any::<(u32, u64)>(), 0..3),
        events in vec(any::<(u32, u64)>(), 0..3),
        stacks in vec(any_stack(), 0..3),
        left_out in any::<[u64; 2]>(),
        routes in vec(any::<(u32, [u64; 3])>(), 0..3),
    ) -> Tick {
        let [seq, end_ns, dur_ns] = head;
        let [missed_runs, ring, pool_full, slots_full] = lost;
        let (steal_ns, own_cpu_ns, probes) = host;
        Tick {
            seq, end_ns, dur_ns, life,
            lost: Lost { missed_runs, ring, pool_full, slots_full },
            vcpus: vcpus
                .into_iter()
                .map(|((vm, vcpu), tick)| VcpuTick { key: VcpuKey { vm: VmId(vm), vcpu }, ..tick })
                .collect(),
            host: HostTick { steal_ns, own_cpu_ns, probes },
            vms: vms
                .into_iter()
                .map(|([over_ns, others_ns], threads, throttled_ns)| VmTick {
                    id: VmId(3),
                    over_ns,
                    others_ns,
                    threads,
                    ioctls: Vec::new(),
                    apicv_inhibits: throttled_ns,
                    throttled_ns,
                })
                .collect(),
            outliers: outliers
                .into_iter()
                .map(|(vcpu, end_ns)| Outlier {
                    end_ns,
                    ..sample_outlier(VcpuKey { vm: VmId(1), vcpu })
                })
                .collect(),
            routes: routes
                .into_iter()
                .map(|(pid, [a, b, count])| RouteTick { pid, a, b, count, ..sample_route() })
                .collect(),
            routes_left_out: 4,
            outliers_left_out: 5,
            events: events
                .into_iter()
                .map(|(vcpu, at_ns)| Event {
                    at_ns,
                    ..sample_event(VcpuKey { vm: VmId(1), vcpu })
                })
                .collect(),
            events_left_out: Vec::new(),
            stacks,
            stacks_left_out: left_out[0],
            dirty_elsewhere: left_out[1],
        }
    }
}
