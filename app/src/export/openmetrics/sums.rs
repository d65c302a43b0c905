//! What is added up for metrics: plain counts, and histograms of a few buckets by VM.

use crate::model::detail::{KeyClass, VmTick};
use crate::model::ids::{Kind, Reason};
use crate::model::session::ReasonNames;
use crate::model::tick::{CellTick, PhaseTimes, VcpuTick};
use kvmscope_shared::detail::fault;
use kvmscope_shared::hist::bucket_hi;
use std::collections::BTreeMap;

/// Ends of the buckets of histograms, ns: powers of four from 1 µs to 1 s, which are ends of the kernel's buckets
/// too, so that nothing is guessed.
pub const BOUNDS_NS: [u64; 11] = [
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
];

/// Which of them a bucket of the kernel's lies in; their number for what is longer.
fn bound_of(bucket: u8) -> usize {
    let end = bucket_hi(usize::from(bucket));
    BOUNDS_NS.partition_point(|&bound| bound < end)
}

/// A reason's place in [`Reasons`].
pub type Place = u16;

/// What stands for everything that has no place of its own.
pub const OTHER: &str = "other";

/// The names of reasons that were met, in the order in which they were. Names, not codes: two codes of one name
/// are one reason. The first so many have a place of their own for good, the others one together.
#[derive(Clone, Debug)]
pub struct Reasons {
    names: Vec<String>,
    places: BTreeMap<Reason, Place>,
    most: usize,
    /// How many reasons have none.
    pub folded: usize,
}

impl Reasons {
    /// None yet, at most so many; the first place is that of all others.
    pub fn new(most: usize) -> Self {
        let names = vec![OTHER.to_owned()];
        Self { names, places: BTreeMap::new(), most, folded: 0 }
    }

    /// The place of a reason.
    pub fn place(&mut self, reason: Reason, names: &ReasonNames) -> Place {
        if let Some(place) = self.places.get(&reason) {
            return *place;
        }
        let name = super::text::bounded(&names.name(reason));
        let known = self.names.iter().position(|known| *known == name);
        let place = match known {
            Some(place) => place,
            None if self.names.len() <= self.most => {
                self.names.push(name);
                self.names.len() - 1
            }
            None => {
                self.folded += 1;
                0
            }
        };
        let place = Place::try_from(place).unwrap_or(0);
        // There are as many as there are codes, and a hostile kernel's numbers are no reason to grow for ever.
        if self.places.len() < 64 * self.most {
            self.places.insert(reason, place);
        }
        place
    }

    /// What is there.
    pub fn name(&self, place: Place) -> &str {
        self.names.get(usize::from(place)).map_or(OTHER, String::as_str)
    }
}

/// How long exits of one reason took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// By bucket; the last one is what is longer than all bounds.
    pub buckets: [u64; BOUNDS_NS.len() + 1],
    /// Those that ended.
    pub timed: u64,
    /// Their handling time, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
}

impl Times {
    fn add(&mut self, cell: &CellTick) {
        for &(bucket, n) in &cell.hist {
            let n = u64::from(n);
            if let Some(mine) = self.buckets.get_mut(bound_of(bucket)) {
                grow(mine, n);
            }
            grow(&mut self.timed, n);
        }
        grow(&mut self.total_ns, cell.total_ns);
        grow(&mut self.off_ns, cell.off_ns);
        grow(&mut self.vmm_ns, cell.vmm_ns);
    }
}

/// A vCPU, or all that have no series of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuSums {
    /// Kernel exits by reason.
    pub exits: BTreeMap<Place, u64>,
    /// Userspace exits by reason.
    pub userspace: BTreeMap<Place, u64>,
    /// Where time went.
    pub time: PhaseTimes,
    /// Wake-ups while polling, and after sleep.
    pub wakeups: (u64, u64),
    /// Intervals on another CPU than the one before.
    pub migrations: u64,
}

impl VcpuSums {
    /// Adds an interval; of which reason each cell is, is told in the same order.
    fn add(&mut self, tick: &VcpuTick, places: &[Place]) {
        for (cell, &place) in tick.cells.iter().zip(places) {
            let counts = match cell.reason.kind {
                Kind::Exit => &mut self.exits,
                Kind::Userspace => &mut self.userspace,
            };
            grow(counts.entry(place).or_default(), cell.count);
        }
        self.time.add(&tick.time);
        grow(&mut self.wakeups.0, tick.halts.polled);
        grow(&mut self.wakeups.1, tick.halts.waited);
        grow(&mut self.migrations, tick.meters.migrations);
    }
}

/// Kinds of page faults, by number.
pub const FAULTS: [(u64, &str); 7] = [
    (fault::ABSENT, "absent"),
    (fault::WRITE_PROTECTED, "write_protected"),
    (fault::EXEC, "not_executable"),
    (fault::READ, "not_readable"),
    (fault::WALK, "page_tables"),
    (fault::MMIO, "mmio"),
    (fault::OTHER, OTHER),
];

/// A VM, or all that have no series of their own.
#[derive(Clone, Debug, Default)]
pub struct VmSums {
    /// What it is called.
    pub label: String,
    /// Its vCPUs that have series of their own.
    pub vcpus: BTreeMap<u32, VcpuSums>,
    /// Those that have none, together.
    pub rest: Option<Box<VcpuSums>>,
    /// Kernel exits.
    pub exits: BTreeMap<Place, Times>,
    /// Userspace exits.
    pub userspace: BTreeMap<Place, Times>,
    /// Page faults by kind, in the order of [`FAULTS`]; `None` where none were told of.
    pub faults: Option<[u64; FAULTS.len()]>,
    /// Pages that were dirtied; `None` where nothing tells.
    pub dirty: Option<u64>,
    /// CPU time of other threads, ns; `None` where nobody looked.
    pub others_ns: Option<u64>,
    /// Time that a quota stopped it, ns; `None` where there is none.
    pub throttled_ns: Option<u64>,
}

impl VmSums {
    /// The sums of a vCPU: its own, where it has or may have some.
    pub fn vcpu(&mut self, vcpu: u32, has_room: bool) -> &mut VcpuSums {
        if has_room || self.vcpus.contains_key(&vcpu) {
            return self.vcpus.entry(vcpu).or_default();
        }
        self.rest.get_or_insert_default()
    }

    /// Adds an interval of a vCPU.
    pub fn add(&mut self, tick: &VcpuTick, places: &[Place], has_room: bool) {
        for (cell, &place) in tick.cells.iter().zip(places) {
            let times = match cell.reason.kind {
                Kind::Exit => &mut self.exits,
                Kind::Userspace => &mut self.userspace,
            };
            times.entry(place).or_default().add(cell);
        }
        self.keys(tick);
        self.vcpu(tick.key.vcpu, has_room).add(tick, places);
    }

    fn keys(&mut self, tick: &VcpuTick) {
        for key in &tick.keys {
            match key.id.class {
                KeyClass::Fault => {
                    let kind = key.id.value.unwrap_or(fault::OTHER);
                    let at = FAULTS.iter().position(|(number, _)| *number == kind);
                    let faults = self.faults.get_or_insert_default();
                    if let Some(n) = faults.get_mut(at.unwrap_or(FAULTS.len() - 1)) {
                        grow(n, key.count);
                    }
                }
                KeyClass::DirtySlot => grow(self.dirty.get_or_insert_default(), key.count),
                _ => {}
            }
        }
    }

    /// Adds what it did beside running its vCPUs.
    pub fn beside(&mut self, tick: &VmTick) {
        if tick.over_ns > 0 {
            grow(self.others_ns.get_or_insert_default(), tick.others_ns);
        }
        if let Some(ns) = tick.throttled_ns {
            grow(self.throttled_ns.get_or_insert_default(), ns);
        }
    }
}

/// Adds without wrapping.
pub fn grow(sum: &mut u64, n: u64) {
    *sum = sum.saturating_add(n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;
    use crate::model::testing::{cell, vcpu};
    use kvmscope_shared::hist::{BUCKETS, bucket_lo, bucket_of};

    /// No bucket of the kernel's lies on both sides of a bound.
    #[test]
    fn bounds_are_ends_of_the_kernels_buckets() {
        for bound in BOUNDS_NS {
            assert_eq!(bucket_lo(bucket_of(bound)), bound);
        }
        for bucket in 0..BUCKETS {
            let at = bound_of(bucket as u8);
            assert!(at == 0 || bucket_lo(bucket) >= BOUNDS_NS[at - 1], "{bucket}");
            assert!(at == BOUNDS_NS.len() || bucket_hi(bucket) <= BOUNDS_NS[at], "{bucket}");
        }
    }

    #[test]
    fn durations_are_in_their_buckets() {
        let mut times = Times::default();
        times.add(&cell(Reason::exit(Isa::Vmx, 1), &[100, 1023, 1024, 5_000, 2_000_000_000]));
        let mut expected = [0; BOUNDS_NS.len() + 1];
        (expected[0], expected[1], expected[2], expected[BOUNDS_NS.len()]) = (2, 1, 1, 1);
        assert_eq!((times.buckets, times.timed), (expected, 5));
        assert_eq!(times.total_ns, 100 + 1023 + 1024 + 5_000 + 2_000_000_000);
    }

    #[test]
    fn reasons_beyond_the_bound_are_one_and_stay_so() {
        let names = ReasonNames::default();
        let mut reasons = Reasons::new(2);
        let mut place = |code| reasons.place(Reason::exit(Isa::Vmx, code), &names);
        assert_eq!(
            [place(7), place(9), place(11), place(13), place(9), place(11)],
            [1, 2, 0, 0, 2, 0]
        );
        assert_eq!(
            [0, 1, 2, 77].map(|place| reasons.name(place)),
            ["other", "0x7", "0x9", "other"]
        );
        assert_eq!(reasons.folded, 2);
    }

    #[test]
    fn codes_of_one_name_are_one_reason() {
        let mut names = ReasonNames::default();
        names.vmx.insert(1, "SAME".to_owned());
        names.vmx.insert(2, "SAME".to_owned());
        let mut reasons = Reasons::new(5);
        let places = [1, 2].map(|code| reasons.place(Reason::exit(Isa::Vmx, code), &names));
        assert_eq!(places, [1, 1]);
    }

    #[test]
    fn vcpus_without_a_place_are_added_up() {
        let mut vm = VmSums::default();
        let reason = Reason::exit(Isa::Vmx, 12);
        for (number, has_room) in [(0, true), (1, false), (2, false), (0, false)] {
            vm.add(&vcpu(1, number, 10, vec![cell(reason, &[500])]), &[1], has_room);
        }
        assert_eq!(vm.vcpus[&0].exits[&1], 2);
        let rest = vm.rest.expect("two have none");
        assert_eq!((rest.exits[&1], rest.time.sum()), (2, 20));
        assert_eq!(vm.exits[&1].timed, 4);
    }
}
