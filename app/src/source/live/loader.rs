//! Loads the object, attaches and detaches programs: with [`program`] the only module that touches aya.

mod program;

use program::{Attached, NO_FUNCTION, answer, chain};

use super::{
    functions, kfunc,
    memory::{Maps, ioctls::IoctlMaps, record, routes::RouteMaps},
    missed::{ProgramStats, program_stats},
    plan::{
        Family, Plan, Probe,
        functions::{STACK, stack},
    },
};
use crate::model::{session::ProbeStatus, stack::StackOf};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, MapData, MapError, Queue, RingBuf},
};
use kvmscope_shared::{
    detail::Outlier,
    event::Event,
    ioctl::{Begun, Call},
    route::Route,
};
use std::io;

/// The built probe object; `probes/build` makes it.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/kvmscope.bpf.o"));

/// Length of a [`Begun`], whose content is not looked at here.
const BEGUN_WORDS: usize = size_of::<Begun>() / size_of::<u64>();
/// Length of a [`Route`].
const ROUTE_WORDS: usize = size_of::<Route>() / size_of::<u64>();

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel does not let this process load programs.
    #[error(
        "no right to load eBPF programs ({0}). Run as root, or give the binary the capabilities \
         that `kvmscope doctor` prints"
    )]
    NotAllowed(String),
    /// The maps could not be made.
    #[error("the probes' maps could not be made: {0}")]
    Maps(String),
}

/// The loaded object. Dropping it detaches everything and frees the maps; nothing is pinned.
pub struct Loaded {
    ebpf: Ebpf,
    probes: Vec<Attached>,
    /// The families that are to be attached.
    families: Vec<Family>,
    free_slots: Queue<MapData, u32>,
    free_chunks: Queue<MapData, u32>,
    unknown: HashMap<MapData, u64, u32>,
    ioctl_rows: HashMap<MapData, [u64; 2], u32>,
    free_ioctl_rows: Queue<MapData, u32>,
    ioctls_begun: HashMap<MapData, u32, [u64; BEGUN_WORDS]>,
    route_rows: HashMap<MapData, [u64; ROUTE_WORDS], u32>,
    free_route_rows: Queue<MapData, u32>,
    outliers: RingBuf<MapData>,
    events: RingBuf<MapData>,
    /// What the kernel had counted as missed for programs that were detached since.
    missed_before: u64,
    /// Why functions cannot be probed at all, if that is known.
    no_kprobes: Option<String>,
}

impl Loaded {
    /// Makes the maps, fills the free lists, tells the probes whom to watch. Attaches nothing yet.
    pub fn load(plan: &Plan, pids: &[u32]) -> Result<(Self, Maps), LoadError> {
        raise_memlock();
        let sizes = plan.sizes;
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("SLOTS", sizes.slots)
            .map_max_entries("CELLS", sizes.cells())
            .map_max_entries("DETAILS", sizes.slots)
            .map_max_entries("KNOWN", sizes.known_words)
            .map_max_entries("THREADS", sizes.slots * 2)
            .map_max_entries("WAITS", sizes.slots)
            .map_max_entries("IOCTLS_BEGUN", sizes.slots * 2)
            .map_max_entries("IOCTL_ROWS", sizes.ioctl_rows)
            .map_max_entries("FREE_IOCTL_ROWS", sizes.ioctl_rows)
            .map_max_entries("IOCTL_CALLS", sizes.ioctl_rows)
            .map_max_entries("IOCTL_TALLIES", sizes.ioctl_tallies())
            .map_max_entries("ROUTE_ROWS", sizes.route_rows)
            .map_max_entries("FREE_ROUTE_ROWS", sizes.route_rows)
            .map_max_entries("ROUTES", sizes.route_rows)
            .map_max_entries("ROUTE_TALLIES", sizes.route_rows * sizes.shards)
            .map_max_entries("STACKS", sizes.cpus)
            .map_max_entries("FREE_SLOTS", sizes.slots)
            .map_max_entries("FREE_CHUNKS", sizes.pool_chunks);
        for (name, value) in &plan.globals {
            loader.override_global(name, value, true);
        }
        let mut ebpf = match plan.rdonly_cast {
            Some(function) => loader.load(&kfunc::with_rdonly_cast(OBJECT, function)),
            None => loader.load(OBJECT),
        }
        .map_err(explain_load)?;
        let mut free_slots = Queue::try_from(take(&mut ebpf, "FREE_SLOTS")?).map_err(maps_error)?;
        let mut free_chunks =
            Queue::try_from(take(&mut ebpf, "FREE_CHUNKS")?).map_err(maps_error)?;
        let outliers = RingBuf::try_from(take(&mut ebpf, "OUTLIERS")?).map_err(maps_error)?;
        let events = RingBuf::try_from(take(&mut ebpf, "EVENTS")?).map_err(maps_error)?;
        let unknown = HashMap::try_from(take(&mut ebpf, "UNKNOWN")?).map_err(maps_error)?;
        for slot in 1..sizes.slots {
            free_slots.push(slot, 0).map_err(maps_error)?;
        }
        for chunk in sizes.chunks() {
            free_chunks.push(chunk, 0).map_err(maps_error)?;
        }
        let ioctl_rows = HashMap::try_from(take(&mut ebpf, "IOCTL_ROWS")?).map_err(maps_error)?;
        let ioctls_begun =
            HashMap::try_from(take(&mut ebpf, "IOCTLS_BEGUN")?).map_err(maps_error)?;
        let mut free_ioctl_rows =
            Queue::try_from(take(&mut ebpf, "FREE_IOCTL_ROWS")?).map_err(maps_error)?;
        for row in 1..sizes.ioctl_rows {
            free_ioctl_rows.push(row, 0).map_err(maps_error)?;
        }
        let ioctls = IoctlMaps::new(
            (sizes.ioctl_rows, sizes.shards),
            data(&ebpf, "IOCTL_CALLS")?.fd(),
            data(&ebpf, "IOCTL_TALLIES")?.fd(),
            data(&ebpf, "IOCTL_HANDLERS")?.fd(),
        )
        .map_err(|e| LoadError::Maps(e.to_string()))?;
        let route_rows = HashMap::try_from(take(&mut ebpf, "ROUTE_ROWS")?).map_err(maps_error)?;
        let mut free_route_rows =
            Queue::try_from(take(&mut ebpf, "FREE_ROUTE_ROWS")?).map_err(maps_error)?;
        for row in 1..sizes.route_rows {
            free_route_rows.push(row, 0).map_err(maps_error)?;
        }
        let routes = RouteMaps::new(
            (sizes.route_rows, sizes.shards),
            data(&ebpf, "ROUTES")?.fd(),
            data(&ebpf, "ROUTE_TALLIES")?.fd(),
            data(&ebpf, "CONTEXTS")?.fd(),
        )
        .map_err(|e| LoadError::Maps(e.to_string()))?;
        let mut maps = Maps::new(
            data(&ebpf, "CONTROL")?.fd(),
            (data(&ebpf, "SLOTS")?.fd(), sizes.slots),
            (data(&ebpf, "CELLS")?.fd(), sizes.cells()),
            data(&ebpf, "DETAILS")?.fd(),
            data(&ebpf, "LIMITS")?.fd(),
            data(&ebpf, "WAITS")?.fd(),
            (ioctls, routes),
            (data(&ebpf, "STACKS")?.fd(), sizes.cpus),
        )
        .map_err(|e| LoadError::Maps(e.to_string()))?;
        maps.set_filter(pids);
        let probes = plan
            .probes
            .iter()
            .map(|probe| Attached { probe: probe.clone(), loaded: 0, program: None, why: None })
            .collect();
        let loaded = Self {
            ebpf,
            probes,
            families: plan.families.clone(),
            free_slots,
            free_chunks,
            unknown,
            ioctl_rows,
            free_ioctl_rows,
            ioctls_begun,
            route_rows,
            free_route_rows,
            outliers,
            events,
            missed_before: 0,
            no_kprobes: plan.no_kprobes.clone(),
        };
        Ok((loaded, maps))
    }

    /// Attaches every probe of the families asked for that is not attached; one that cannot is a
    /// reason, not an error. `kvm` is whether the kvm module is there.
    pub fn attach(&mut self, kvm: bool) {
        self.attach_new(kvm, |_| true);
    }

    fn attach_new(&mut self, kvm: bool, among: impl Fn(&Probe) -> bool) {
        let Self { ebpf, probes, families, .. } = self;
        let wanted = |entry: &&mut Attached| {
            let probe = &entry.probe;
            entry.program.is_none() && probe.wanted(families) && among(probe)
        };
        for entry in probes.iter_mut().filter(wanted) {
            if entry.probe.is_kvm() && !kvm {
                entry.why = Some(
                    "the kvm module is not loaded; this is attached as soon as it is".to_owned(),
                );
                continue;
            }
            entry.why = entry.probe.hopeless.clone();
            entry.loaded = 0;
            if entry.why.is_none() {
                entry.load(ebpf);
            }
        }
        // Loading takes milliseconds, attaching does not: what belongs together begins together.
        for entry in probes.iter_mut().filter(wanted) {
            entry.attach(ebpf);
            let absent = entry.why.as_ref().is_some_and(|why| why.starts_with(NO_FUNCTION));
            if entry.program.is_none() && absent {
                entry.why = Some(functions::why_absent(&entry.probe.functions()));
            }
        }
    }

    /// Counts the callers of this function from now on, and of no other.
    pub fn set_stacks(&mut self, of: StackOf, kvm: bool) {
        self.take_stacks();
        for entry in self.probes.iter_mut().filter(|entry| entry.probe.system == STACK) {
            entry.probe = stack(of, self.no_kprobes.as_deref());
        }
        self.attach_new(kvm, |probe| probe.family == Family::Roots);
    }

    /// Counts no function's callers any more.
    pub fn take_stacks(&mut self) {
        let Self { ebpf, probes, missed_before, .. } = self;
        for entry in probes.iter_mut().filter(|entry| entry.probe.system == STACK) {
            *missed_before += entry.detach(ebpf);
        }
    }

    /// The function whose callers are counted.
    pub fn stacks(&self) -> Option<StackOf> {
        let ours = |entry: &&Attached| entry.probe.system == STACK && entry.program.is_some();
        self.probes.iter().find(ours).and_then(|entry| StackOf::from_word(entry.probe.event))
    }

    /// Attaches a family, or detaches it; with the families that it brings along. What they counted
    /// stays.
    pub fn set_family(&mut self, family: Family, on: bool, kvm: bool) {
        let before = self.families.clone();
        self.families.retain(|asked| *asked != family);
        if on {
            self.families.push(family);
        }
        let now = self.families.clone();
        self.attach_new(kvm, |probe| !probe.wanted(&before));
        let mut missed = 0;
        let Self { ebpf, probes, .. } = self;
        for entry in probes.iter_mut().filter(|entry| !entry.probe.wanted(&now)) {
            missed += entry.detach(ebpf);
        }
        self.missed_before += missed;
    }

    /// Whether a family is on and has a probe attached.
    pub fn has(&self, family: Family) -> bool {
        let its = |entry: &Attached| entry.probe.families().any(|of| of == family);
        family.wanted(&self.families)
            && self.probes.iter().any(|entry| entry.program.is_some() && its(entry))
    }

    /// The families that are on and have a probe attached.
    pub fn on(&self) -> impl Iterator<Item = Family> {
        Family::ASKABLE.into_iter().filter(|family| self.has(*family))
    }

    /// What became of each probe, once for each of its families.
    pub fn statuses(&self) -> Vec<ProbeStatus> {
        let status = |entry: &Attached, family: Family| {
            let program = entry.program.filter(|_| family.wanted(&self.families));
            ProbeStatus {
                name: entry.probe.hook(),
                family: family.name().to_owned(),
                attached: program.is_some(),
                why: match (&program, &entry.why) {
                    (Some(_), _) => None,
                    _ if !family.wanted(&self.families) => Some(family.off()),
                    (None, why) => Some(format!(
                        "{}; {}",
                        why.as_deref().unwrap_or("not attached"),
                        family.costs()
                    )),
                },
                how: program.map_or("", |(_, how)| how.text()).to_owned(),
            }
        };
        let mut all = Vec::new();
        for entry in &self.probes {
            all.extend(entry.probe.families().map(|family| status(entry, family)));
        }
        all
    }

    /// Whether a tracepoint is being watched.
    pub fn watches(&self, event: &str) -> bool {
        self.probes.iter().any(|entry| entry.probe.event == event && entry.program.is_some())
    }

    /// Runs of our programs that the kernel skipped since the start.
    pub fn missed(&self) -> u64 {
        self.missed_before + self.stats().missed
    }

    /// Statistics of all attached programs together.
    pub fn stats(&self) -> ProgramStats {
        let mut sum = ProgramStats::default();
        for (name, _) in self.probes.iter().filter_map(|entry| entry.program) {
            let fd = self.ebpf.program(name).and_then(|program| program.fd().ok());
            if let Some(stats) = fd.and_then(program_stats) {
                sum.missed += stats.missed;
                sum.run_ns += stats.run_ns;
                sum.runs += stats.runs;
            }
        }
        sum
    }

    /// Gives a slot back, after it was read and cleared.
    pub fn free_slot(&mut self, slot: u32) {
        // Fails only when the queue is full, which it cannot be: a slot is in it once.
        let _ = self.free_slots.push(slot, 0);
    }

    /// Gives a pool chunk back.
    pub fn free_chunk(&mut self, first_cell: u32) {
        let _ = self.free_chunks.push(first_cell, 0);
    }

    /// Forgets whose a row of KVM ioctls was, so that no program finds it any more.
    pub fn forget_ioctl(&mut self, call: Call) {
        let first = u64::from(call.command) << 32 | u64::from(call.tgid);
        let _ = self.ioctl_rows.remove(&[first, call.kvm]);
    }

    /// Gives a row of KVM ioctls back, after it was forgotten and cleared.
    pub fn free_ioctl_row(&mut self, row: u32) {
        let _ = self.free_ioctl_rows.push(row, 0);
    }

    /// Forgets what a row of routes is about, so that no program finds it any more.
    pub fn forget_route(&mut self, route: &Route) {
        let _ = self.route_rows.remove(&words(route));
    }

    /// Gives a row of routes back, after it was forgotten, read once more and cleared.
    pub fn free_route_row(&mut self, row: u32) {
        let _ = self.free_route_rows.push(row, 0);
    }

    /// Before the family `ioctl` is attached again: ioctls whose end was not seen are nobody's.
    pub fn forget_begun_ioctls(&mut self) {
        let threads: Vec<u32> = self.ioctls_begun.keys().filter_map(Result::ok).collect();
        for tid in threads {
            let _ = self.ioctls_begun.remove(&tid);
        }
    }

    /// Outliers that the probes told of since the last call, in no order. A record that is not one
    /// (another version's object) is dropped.
    pub fn drain_outliers(&mut self) -> Vec<Outlier> {
        let mut found = Vec::new();
        while let Some(bytes) = self.outliers.next() {
            found.extend(record::<Outlier>(&bytes));
        }
        found
    }

    /// The same of single events.
    pub fn drain_events(&mut self) -> Vec<Event> {
        let mut found = Vec::new();
        while let Some(bytes) = self.events.next() {
            found.extend(record::<Event>(&bytes));
        }
        found
    }

    /// Forgets the cell of a code without a column.
    pub fn forget_unknown(&mut self, key: u64) {
        let _ = self.unknown.remove(&key);
    }
}

/// A route as the kernel's map compares it: its bytes.
fn words(route: &Route) -> [u64; ROUTE_WORDS] {
    let comm = u128::from_le_bytes(route.comm);
    let who = u64::from(route.tgid) | u64::from(route.chip) << 32 | u64::from(route.sender) << 48;
    [route.kvm, route.a, route.b, who, comm as u64, (comm >> 64) as u64]
}

/// Before 5.11 maps are charged to RLIMIT_MEMLOCK. Where this is refused (no CAP_SYS_RESOURCE) the
/// kernel is new enough, or making the maps will say so.
fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Maps(format!("{name} is not in the object")))
}

fn data<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, LoadError> {
    match ebpf.map(name) {
        Some(aya::maps::Map::Array(data)) => Ok(data),
        _ => Err(LoadError::Maps(format!("{name} is not in the object"))),
    }
}

fn maps_error(error: MapError) -> LoadError {
    LoadError::Maps(chain(&error))
}

fn explain_load(error: EbpfError) -> LoadError {
    match answer(&error) {
        // Which map came first does not matter: none may be made.
        Some(io) if io.kind() == io::ErrorKind::PermissionDenied => {
            LoadError::NotAllowed(io.to_string())
        }
        _ => LoadError::Maps(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_make_maps_is_told_from_the_room_for_them() {
        let load = |kind: io::ErrorKind| {
            explain_load(EbpfError::FileError { path: "/sys/fs/bpf".into(), error: kind.into() })
        };
        let no_right = load(io::ErrorKind::PermissionDenied);
        assert!(matches!(no_right, LoadError::NotAllowed(_)), "{no_right:?}");
        assert!(no_right.to_string().contains("(permission denied). Run as root"), "{no_right}");
        let no_room = load(io::ErrorKind::OutOfMemory);
        assert!(matches!(no_room, LoadError::Maps(_)), "{no_room:?}");
        assert!(no_room.to_string().contains("out of memory"), "{no_room}");
    }
}
