//! The whole state as bytes.

use super::{get, put};
use crate::model::codec;
use crate::model::detail::{CulpritTick, Halts, IoctlTick, KeyId, Outlier, VmTick};
use crate::model::event::{Event, EventKind};
use crate::model::ids::{Reason, VmId};
use crate::model::meters::{MeterKind, RouteTick, TimerTick, WindowTick};
use crate::model::stack::StackTick;
use crate::model::stats::Sum;
use crate::model::tick::{Lost, OpenExit, Phase, PhaseTimes, VcpuInfo, VmInfo};
use crate::model::totals::{Events, KeySum, Meters, Routes, Totals, VcpuTotals, VmTotals};
use crate::record::Key;
use kvmscope_shared::hist::BUCKETS;
use serde::{Deserialize, Serialize};

/// Sums in a key at most: each takes a kilobyte in memory and a dozen bytes in a file.
const MAX_SUMS: usize = 1 << 18;

/// Version 1. The structs here are frozen (see [the module](super)); those of the model are as format
/// [`codec::VERSION`] of ticks has them.
#[derive(Serialize, Deserialize)]
struct KeyV1 {
    /// The format of ticks.
    leaves: u8,
    at_ns: u64,
    whole: bool,
    ticks: u64,
    lost_ticks: u64,
    measured_ns: u64,
    end_ns: u64,
    last_seq: u64,
    lost: Lost,
    outliers: Vec<Outlier>,
    outliers_left_out: u64,
    events: Vec<(EventKind, Vec<Event>, u64)>,
    stacks: Vec<StackTick>,
    stacks_left_out: u64,
    dirty_elsewhere: u64,
    routes: Vec<(Option<VmId>, Vec<RouteTick>, u64)>,
    routes_left_out: u64,
    vms: Vec<VmV1>,
}

#[derive(Serialize, Deserialize)]
struct VmV1 {
    info: VmInfo,
    ended_ns: Option<u64>,
    beside: Option<VmTick>,
    ioctls: Vec<IoctlTick>,
    apicv_inhibits: Option<u64>,
    vcpus: Vec<VcpuV1>,
}

#[derive(Serialize, Deserialize)]
struct VcpuV1 {
    info: VcpuInfo,
    ended_ns: Option<u64>,
    cpu: u32,
    phase: (Phase, u64),
    open: Option<OpenExit>,
    time: PhaseTimes,
    cells: Vec<(Reason, SumV1)>,
    keys: Vec<(KeyId, KeySumV1)>,
    halts: Halts,
    culprits: Vec<CulpritTick>,
    meters: Vec<(MeterKind, SumV1)>,
    timers: Option<TimerTick>,
    window: Option<WindowTick>,
    migrations: u64,
    crossings: u64,
    loaded_open_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct KeySumV1 {
    count: u64,
    timed: u64,
    total_ns: u64,
    off_ns: u64,
    vmm_ns: u64,
    max_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct SumV1 {
    flags: u32,
    count: u64,
    total_ns: u64,
    off_ns: u64,
    vmm_ns: u64,
    min_ns: u64,
    max_ns: u64,
    hist: Vec<(u8, u64)>,
}

/// A key's bytes.
pub fn put_key(at_ns: u64, totals: &Totals, whole: bool) -> Vec<u8> {
    put(&KeyV1::new(at_ns, totals, whole))
}

/// A key; `None` when it is damaged, or what occurs in ticks has another format in it.
pub fn get_key(bytes: &[u8]) -> Option<Key> {
    // Looked at first: with another format the rest reads as something else.
    if bytes.first() != Some(&codec::VERSION) {
        return None;
    }
    let key: KeyV1 = get(bytes)?;
    let vcpus = key.vms.iter().flat_map(|vm| &vm.vcpus);
    let sums: usize = vcpus.clone().map(|vcpu| vcpu.cells.len() + vcpu.meters.len()).sum();
    let sound = |sum: &SumV1| sum.hist.iter().all(|&(bucket, _)| usize::from(bucket) < BUCKETS);
    let mut all = vcpus.flat_map(|vcpu| {
        vcpu.cells.iter().map(|(_, sum)| sum).chain(vcpu.meters.iter().map(|(_, sum)| sum))
    });
    (sums <= MAX_SUMS && all.all(sound)).then(|| key.into())
}

// Both ways name every field, so that a new one is seen here.

impl KeyV1 {
    fn new(at_ns: u64, totals: &Totals, whole: bool) -> Self {
        let last_seq = totals.last_seq();
        let Totals {
            vms,
            lost,
            lost_ticks,
            ticks,
            measured_ns,
            end_ns,
            outliers,
            outliers_left_out,
            events,
            stacks,
            stacks_left_out,
            dirty_elsewhere,
            routes,
            ..
        } = totals;
        let kept = events.kept().map(|(kind, events, left)| (kind, events.to_vec(), left));
        Self {
            leaves: codec::VERSION,
            at_ns,
            whole,
            ticks: *ticks,
            lost_ticks: *lost_ticks,
            measured_ns: *measured_ns,
            end_ns: *end_ns,
            last_seq,
            lost: *lost,
            outliers: outliers.clone(),
            outliers_left_out: *outliers_left_out,
            events: kept.collect(),
            stacks: stacks.clone(),
            stacks_left_out: *stacks_left_out,
            dirty_elsewhere: *dirty_elsewhere,
            routes: routes.kept().collect(),
            routes_left_out: routes.left_out,
            vms: vms.values().map(VmV1::from).collect(),
        }
    }
}

impl From<KeyV1> for Key {
    fn from(key: KeyV1) -> Self {
        let KeyV1 { at_ns, whole, ticks, lost_ticks, measured_ns, end_ns, last_seq, lost, .. } =
            key;
        let vms = key.vms.into_iter().map(|vm| (vm.info.id, VmTotals::from(vm))).collect();
        let mut totals = Totals::default().after(last_seq);
        totals.vms = vms;
        totals.lost = lost;
        totals.lost_ticks = lost_ticks;
        totals.ticks = ticks;
        totals.measured_ns = measured_ns;
        totals.end_ns = end_ns;
        totals.outliers = key.outliers;
        totals.outliers_left_out = key.outliers_left_out;
        totals.events = Events::of_kept(key.events);
        totals.stacks = key.stacks;
        totals.stacks_left_out = key.stacks_left_out;
        totals.dirty_elsewhere = key.dirty_elsewhere;
        totals.routes = Routes::of_kept(key.routes, key.routes_left_out);
        Self { at_ns, totals, whole }
    }
}

impl From<&VmTotals> for VmV1 {
    fn from(vm: &VmTotals) -> Self {
        let VmTotals { info, ended_ns, vcpus, beside, ioctls, apicv_inhibits } = vm;
        Self {
            info: info.clone(),
            ended_ns: *ended_ns,
            beside: beside.clone(),
            ioctls: ioctls.values().copied().collect(),
            apicv_inhibits: *apicv_inhibits,
            vcpus: vcpus.values().map(VcpuV1::from).collect(),
        }
    }
}

impl From<VmV1> for VmTotals {
    fn from(vm: VmV1) -> Self {
        let VmV1 { info, ended_ns, beside, ioctls, apicv_inhibits, vcpus } = vm;
        let vcpus = vcpus.into_iter().map(|vcpu| (vcpu.info.key.vcpu, VcpuTotals::from(vcpu)));
        let ioctls = ioctls.into_iter().map(|ioctl| (ioctl.command, ioctl)).collect();
        Self { info, ended_ns, vcpus: vcpus.collect(), beside, ioctls, apicv_inhibits }
    }
}

impl From<&VcpuTotals> for VcpuV1 {
    fn from(vcpu: &VcpuTotals) -> Self {
        let VcpuTotals {
            info,
            ended_ns,
            cpu,
            phase,
            open,
            time,
            cells,
            keys,
            halts,
            culprits,
            meters,
        } = vcpu;
        let Meters { kinds, timers, window, migrations, crossings, loaded_open_ns } = meters;
        let key = |(id, sum): (&KeyId, &KeySum)| {
            let KeySum { count, timed, total_ns, off_ns, vmm_ns, max_ns } = *sum;
            (*id, KeySumV1 { count, timed, total_ns, off_ns, vmm_ns, max_ns })
        };
        Self {
            info: *info,
            ended_ns: *ended_ns,
            cpu: *cpu,
            phase: *phase,
            open: *open,
            time: *time,
            cells: cells.iter().map(|(reason, sum)| (*reason, SumV1::from(&**sum))).collect(),
            keys: keys.iter().map(key).collect(),
            halts: *halts,
            culprits: culprits.clone(),
            meters: kinds.iter().map(|(kind, sum)| (*kind, SumV1::from(&**sum))).collect(),
            timers: *timers,
            window: *window,
            migrations: *migrations,
            crossings: *crossings,
            loaded_open_ns: *loaded_open_ns,
        }
    }
}

impl From<VcpuV1> for VcpuTotals {
    fn from(vcpu: VcpuV1) -> Self {
        let VcpuV1 { timers, window, migrations, crossings, loaded_open_ns, .. } = vcpu;
        let boxed = |sum: SumV1| Box::new(Sum::from(sum));
        let kinds = vcpu.meters.into_iter().map(|(kind, sum)| (kind, boxed(sum))).collect();
        let key = |(id, sum)| {
            let KeySumV1 { count, timed, total_ns, off_ns, vmm_ns, max_ns } = sum;
            (id, KeySum { count, timed, total_ns, off_ns, vmm_ns, max_ns })
        };
        Self {
            info: vcpu.info,
            ended_ns: vcpu.ended_ns,
            cpu: vcpu.cpu,
            phase: vcpu.phase,
            open: vcpu.open,
            time: vcpu.time,
            cells: vcpu.cells.into_iter().map(|(reason, sum)| (reason, boxed(sum))).collect(),
            keys: vcpu.keys.into_iter().map(key).collect(),
            halts: vcpu.halts,
            culprits: vcpu.culprits,
            meters: Meters { kinds, timers, window, migrations, crossings, loaded_open_ns },
        }
    }
}

impl From<&Sum> for SumV1 {
    fn from(sum: &Sum) -> Self {
        let Sum { count, total_ns, off_ns, vmm_ns, min_ns, max_ns, flags, ref hist } = *sum;
        let hist = hist.counts().iter().enumerate().filter(|&(_, &n)| n > 0);
        // There are fewer buckets than 256.
        let hist = hist.map(|(bucket, &n)| (bucket as u8, n)).collect();
        Self { flags, count, total_ns, off_ns, vmm_ns, min_ns, max_ns, hist }
    }
}

impl From<SumV1> for Sum {
    fn from(sum: SumV1) -> Self {
        let SumV1 { flags, count, total_ns, off_ns, vmm_ns, min_ns, max_ns, hist: sparse } = sum;
        let mut hist = crate::model::hist::Hist::default();
        sparse.into_iter().for_each(|(bucket, n)| hist.add(usize::from(bucket), n));
        Self { count, total_ns, off_ns, vmm_ns, min_ns, max_ns, flags, hist }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{any_tick, sample_tick};
    use proptest::prelude::*;

    fn same(totals: Totals) {
        let at_ns = totals.end_ns;
        let read = get_key(&put_key(at_ns, &totals, true));
        assert_eq!(read, Some(Key { at_ns, totals, whole: true }));
    }

    #[test]
    fn a_state_is_what_it_was() {
        same(Totals::default());
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        same(totals.who_is_there());
        same(totals);
    }

    #[test]
    fn a_state_goes_on_as_it_would_have() {
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        let mut read = get_key(&put_key(0, &totals, true)).expect("whole").totals;
        let next = crate::model::tick::Tick { seq: 12, ..sample_tick() };
        totals.apply(&next);
        read.apply(&next);
        assert_eq!(read, totals);
        assert_eq!(read.lost_ticks, 4);
    }

    #[test]
    fn another_format_of_ticks_is_not_read() {
        let mut bytes = put_key(0, &Totals::default(), true);
        bytes[0] += 1;
        assert_eq!(get_key(&bytes), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_state_is_what_it_was(ticks in proptest::collection::vec(any_tick(), 0..4)) {
            let mut totals = Totals::default();
            ticks.iter().for_each(|tick| totals.apply(tick));
            same(totals);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            bytes.insert(0, codec::VERSION);
            let _ = get_key(&bytes);
        }
    }
}
