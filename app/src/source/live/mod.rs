//! The live source: loads the probes, reads their maps once per tick.
//!
//! [`kernel`] gathers facts, [`plan`] decides (pure), [`loader`] loads and attaches, [`memory`]
//! maps, [`reader`] makes ticks (pure), [`identity`] knows who is who, `attached` has what is loaded, and
//! this file is the loop.

mod attached;
pub mod btf;
pub mod cgroup;
pub mod contexts;
pub mod functions;
pub mod host;
pub mod identity;
pub mod kernel;
pub mod kfunc;
pub mod kvm_handlers;
pub mod loader;
pub mod memory;
pub mod missed;
pub mod names;
pub mod outliers;
pub mod plan;
pub mod reader;
pub mod schedstat;
pub mod threads;
pub mod vms;

use super::{Msg, Request, Source};
use crate::{
    doctor::SilentBackend,
    model::{
        detail::OutlierLimits,
        session::{ProbeStatus, Session},
        stack::StackOf,
        tick::HostTick,
    },
};
use attached::{Probes, WAITING, waiting};
use host::{Module, now_ns};
use loader::LoadError;
use memory::Memory;
use names::ProcNames;
use plan::Family;
use reader::{Counted, Freed, Moment, Reader};
use std::{
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};
use threads::{Beside, ProcTasks};
use tokio::sync::mpsc::Sender;

/// How often new threads are looked for between ticks, so that a short-lived VM gets its name.
const PEEK: Duration = Duration::from_millis(100);
/// How often the probes' run time is sampled: the kernel's statistics tax every program meanwhile.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);
/// What is said when there are more commands and VMs than rows.
const IOCTLS_UNPLACED: &str =
    "Some KVM ioctls were not counted: there is no room for so many commands of so many VMs.";

/// What is said with `--pid` where something was sent that may be another VM's.
const NOBODYS_ROUTES: &str = "With --pid, interrupts that kernel workers (irqfd) and the host's own interrupts send are \
                              left out where KVM does not say into which VM.";

/// What to watch.
#[derive(Clone, Debug)]
pub struct Options {
    /// Families of probes.
    pub families: Vec<Family>,
    /// Thread groups to watch; none is all.
    pub pids: Vec<u32>,
    /// Time between ticks.
    pub interval: Duration,
    /// From which time on an exit is an outlier.
    pub outliers: OutlierLimits,
    /// The function whose callers are counted while the family `roots` is attached.
    pub stacks: StackOf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            families: Family::ASKABLE.to_vec(),
            pids: Vec::new(),
            interval: Duration::from_secs(1),
            outliers: OutlierLimits::default(),
            stacks: StackOf::default(),
        }
    }
}

/// The live source, probes attached.
pub struct Live {
    options: Options,
    probes: Option<Probes>,
    reader: Reader,
    names: ProcNames,
    tasks: ProcTasks,
    beside: Beside,
    functions: functions::Names,
    session: Session,
    /// Generation of each slot at the last look.
    peeked: Vec<u32>,
    claims: u64,
    silent_told: bool,
    last_host: (u64, u64),
    sampling: Option<(OwnedFd, missed::ProgramStats)>,
    sampled: Option<Instant>,
}

impl Live {
    /// Loads and attaches. Fails when nothing can be loaded; a probe that cannot attach is in the
    /// session's list instead, and a kvm module that is not there yet is waited for.
    pub fn open(options: Options) -> Result<Self, LoadError> {
        let module = Module::read();
        let (probes, mut session) = attached::open(&options, module)?;
        let slots = probes.as_ref().map_or(0, |p| p.maps.slots());
        // Where another backend than the two is built in, kvm_entry may never fire.
        let reader = Reader::new(slots, session.started_ns, module.fires_entries());
        let last_host = (host::read_steal_ns(), host::own_cpu_ns());
        if !schedstat::is_kept(schedstat::read(std::process::id())) {
            session.notices.push(schedstat::MISSING.to_owned());
        }
        Ok(Self {
            options,
            probes,
            reader,
            names: ProcNames::default(),
            tasks: ProcTasks::default(),
            beside: Beside::default(),
            functions: functions::Names::default(),
            session,
            peeked: Vec::new(),
            claims: 0,
            silent_told: false,
            last_host,
            sampling: None,
            sampled: None,
        })
    }

    /// What is known before the first tick.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn tick(&mut self, last: bool) -> crate::model::tick::Tick {
        let host = self.host_tick();
        let missed_runs = self.probes.as_ref().map_or(0, |probes| probes.loaded.missed());
        let is_on = |of: fn(Family) -> bool| {
            self.probes.as_ref().is_some_and(|probes| probes.loaded.on().any(of))
        };
        let (detail, meters) = (is_on(Family::keeps_keys), is_on(Family::keeps_meters));
        let routes = is_on(Family::keeps_routes);
        let ioctls = self.probes.as_ref().is_some_and(|probes| probes.loaded.has(Family::Ioctl));
        let stacks = self.probes.as_ref().and_then(|probes| probes.loaded.stacks());
        let now_ns = now_ns();
        let moment =
            Moment { now_ns, missed_runs, host, last, detail, meters, routes, stacks, ioctls };
        let Some(probes) = &mut self.probes else {
            return self.reader.empty_tick(moment, &mut self.names);
        };
        self.reader.take_outliers(probes.loaded.drain_outliers());
        self.reader.take_events(probes.loaded.drain_events());
        let (mut tick, freed) = self.reader.tick(&mut probes.maps, &mut self.names, moment);
        for freed in freed {
            match freed {
                Freed::Slot(slot) => probes.loaded.free_slot(slot),
                Freed::Chunk(first) => probes.loaded.free_chunk(first),
                Freed::Unknown(key) => probes.loaded.forget_unknown(key),
                Freed::Ioctl(row, call) => {
                    probes.loaded.forget_ioctl(call);
                    probes.maps.ioctls().clear(row);
                    probes.loaded.free_ioctl_row(row);
                }
                Freed::Route(route) => probes.loaded.forget_route(&route),
                Freed::RouteRow(row) => {
                    probes.maps.routes().clear(row);
                    probes.loaded.free_route_row(row);
                }
            }
        }
        let processes = self.reader.processes(&self.session);
        let beside = self.beside.look(&processes, moment.now_ns, &mut self.tasks);
        let ioctls = std::mem::replace(&mut tick.vms, beside);
        reader::ioctls::merge(&mut tick.vms, ioctls);
        self.functions.fill(&mut tick);
        tick
    }

    /// Tells of what came up while looking beside the vCPUs. Whether there is anything new.
    fn notice_beside(&mut self) -> bool {
        let before = self.session.notices.len();
        self.beside.notices().into_iter().for_each(|notice| self.notice(notice));
        if self.reader.ioctls_unplaced() > 0 {
            self.notice(IOCTLS_UNPLACED.to_owned());
        }
        if self.reader.left_routes_out() {
            self.notice(NOBODYS_ROUTES.to_owned());
        }
        if let Some(why) = self.functions.notice() {
            self.notice(why);
        }
        self.session.notices.len() > before
    }

    fn host_tick(&mut self) -> HostTick {
        let (steal, own) = (host::read_steal_ns(), host::own_cpu_ns());
        let (last_steal, last_own) = std::mem::replace(&mut self.last_host, (steal, own));
        HostTick {
            steal_ns: steal.saturating_sub(last_steal),
            own_cpu_ns: own.saturating_sub(last_own),
            probes: self.sample(),
        }
    }

    /// Samples the probes' run time over one tick now and then.
    fn sample(&mut self) -> Option<(u64, u64)> {
        let probes = self.probes.as_ref()?;
        if let Some((_stats_on, before)) = self.sampling.take() {
            let now = probes.loaded.stats();
            return Some((
                now.run_ns.saturating_sub(before.run_ns),
                now.runs.saturating_sub(before.runs),
            ));
        }
        if self.sampled.is_none_or(|at| at.elapsed() >= SAMPLE_EVERY) {
            self.sampled = Some(Instant::now());
            // Needs CAP_SYS_ADMIN; without it the cost stays "not measured".
            let on = aya::sys::enable_stats(aya::sys::Stats::RunTime).ok()?;
            self.sampling = Some((on, probes.loaded.stats()));
        }
        None
    }

    /// Looks at threads that were claimed since the last look, while they still have a `/proc`.
    fn peek(&mut self) {
        let Some(probes) = &self.probes else { return };
        let claims = probes.maps.control().claims;
        if claims == self.claims {
            return;
        }
        self.claims = claims;
        self.peeked.resize(probes.maps.slots() as usize, 0);
        for index in 1..probes.maps.slots() {
            if probes.maps.life(index) == kvmscope_shared::slot::life::FREE {
                continue;
            }
            let slot = probes.maps.slot(index);
            let Some(peeked) = self.peeked.get_mut(index as usize) else { continue };
            if std::mem::replace(peeked, slot.generation) != slot.generation {
                self.names.look(slot.tgid, slot.start_ns);
                if let Some(stat) = schedstat::read(slot.tid) {
                    self.reader.early_delay(index, &slot, stat.run_delay_ns);
                }
            }
        }
    }

    /// Follows the kvm module: probes pin it, so they go when its vendor part has gone and no VM
    /// is left, and come when it comes. Whether anything changed.
    fn follow_module(&mut self) -> bool {
        let module = Module::read();
        if let Some(probes) = &mut self.probes {
            if probes.vendor.is_some() && module.vendor.is_none() && !self.reader.any_live() {
                self.sampling = None;
                self.probes = None;
                self.session.probes = waiting(&self.options);
                self.notice(WAITING.to_owned());
                return true;
            }
            if probes.vendor.is_none() && module.vendor.is_some() {
                // Attached while kvm was there without its vendor part.
                probes.follow_vendor(module.vendor, &self.options.outliers);
                self.session.host.backend = module.backend().to_owned();
                self.session.apicv = host::apicv(module.vendor);
                return true;
            }
            return false;
        }
        if !module.kvm || module.vendor.is_none() {
            return false;
        }
        match attached::open(&self.options, module) {
            Ok((probes, session)) => {
                self.reader.restart(probes.as_ref().map_or(0, |p| p.maps.slots()));
                self.claims = 0;
                self.peeked.clear();
                self.probes = probes;
                self.session.probes = session.probes;
                self.session.names = session.names;
                self.session.host = session.host;
                self.session.apicv = session.apicv;
                self.session.apicv_reasons = session.apicv_reasons;
                session.notices.into_iter().for_each(|notice| self.notice(notice));
                self.session.notices.retain(|notice| notice != WAITING);
            }
            Err(error) => self.notice(error.to_string()),
        }
        true
    }

    /// Attaches or detaches a family; also what is loaded later follows it.
    fn set_family(&mut self, family: Family, on: bool) {
        self.options.families.retain(|asked| *asked != family);
        if on {
            self.options.families.push(family);
        }
        match &mut self.probes {
            Some(probes) => {
                if !on {
                    // No exit is looked at again for what is about to go.
                    probes.maps.set_details(0);
                }
                probes.tell_of(&self.options.families);
                // Statistics are of the programs that were attached at both ends.
                self.sampling = None;
                if on && !probes.loaded.has(Family::Culprits) {
                    probes.maps.begin_waits();
                }
                if on && family.keeps_routes() {
                    probes.begin_routes();
                }
                let mut said = None;
                if on && family == Family::Ioctl && !probes.loaded.has(family) {
                    said = probes.begin_ioctls();
                }
                if on && !probes.loaded.has(family) {
                    probes.begin_meters(family, true);
                }
                probes.loaded.set_family(family, on, true);
                if !on {
                    probes.begin_meters(family, false);
                }
                probes.keep_details();
                if family == Family::Roots {
                    self.functions = functions::Names::default();
                }
                self.session.probes = probes.loaded.statuses();
                if let Some(said) = said {
                    self.notice(said.to_owned());
                }
            }
            None => self.session.probes = waiting(&self.options),
        }
    }

    /// Counts the callers of another function; also what is loaded later does.
    fn set_stacks(&mut self, of: StackOf) {
        self.options.stacks = of;
        self.functions = functions::Names::default();
        if let Some(probes) = &mut self.probes {
            self.sampling = None;
            probes.set_stacks(of);
            self.reader.forget_stacks();
            self.session.probes = probes.loaded.statuses();
        }
    }

    fn set_outliers(&mut self, limits: OutlierLimits) {
        self.options.outliers = limits;
        if let Some(probes) = &mut self.probes {
            probes.maps.set_limits(&outliers::by_column(&self.options.outliers, probes.vendor));
        }
    }

    fn notice(&mut self, text: String) {
        if !self.session.notices.contains(&text) {
            self.session.notices.push(text);
        }
    }

    /// A backend whose `kvm_exit` never fires although vCPUs run, as far as is known now.
    pub fn silent(&self) -> Option<SilentBackend> {
        let attached = self.probes.as_ref().is_some_and(|p| p.loaded.watches("kvm_exit"));
        let Counted { exits, userspace, in_run_ns } = self.reader.counted();
        if !attached {
            return None;
        }
        SilentBackend::detect(&self.session.host.backend, userspace, exits, in_run_ns)
    }

    /// Tells of such a backend, once. Whether it just did.
    fn notice_silence(&mut self) -> bool {
        if self.silent_told {
            return false;
        }
        let Some(silent) = self.silent() else { return false };
        self.silent_told = true;
        self.reader.expect_no_entries();
        self.notice(silent.sentence());
        true
    }
}

/// Loads and attaches every probe once and detaches again: what works here, for `doctor`.
pub fn try_probes() -> Result<Vec<ProbeStatus>, LoadError> {
    let options = Options::default();
    let (_, session) = attached::open(&options, Module::read())?;
    Ok(session.probes)
}

impl Source for Live {
    fn run(mut self: Box<Self>, out: Sender<Msg>, requests: Receiver<Request>) {
        if out.blocking_send(Msg::Session(Box::new(self.session.clone()))).is_err() {
            return;
        }
        let mut due = Instant::now() + self.options.interval;
        loop {
            let wait = due.saturating_duration_since(Instant::now()).min(PEEK);
            match requests.recv_timeout(wait) {
                Ok(Request::Interval(interval)) => {
                    self.options.interval = interval;
                    due = Instant::now() + interval;
                }
                Ok(Request::Family(family, on)) => {
                    self.set_family(family, on);
                    let session = Msg::Session(Box::new(self.session.clone()));
                    if out.blocking_send(session).is_err() {
                        return;
                    }
                }
                Ok(Request::Outliers(limits)) => self.set_outliers(limits),
                Ok(Request::Stacks(of)) => {
                    self.set_stacks(of);
                    let session = Msg::Session(Box::new(self.session.clone()));
                    if out.blocking_send(session).is_err() {
                        return;
                    }
                }
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                // What is measured is not played.
                Ok(Request::Replay(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.peek();
            if Instant::now() < due {
                continue;
            }
            let tick = self.tick(false);
            if out.blocking_send(Msg::Tick(Box::new(tick))).is_err() {
                return;
            }
            if self.follow_module() | self.notice_silence() | self.notice_beside() {
                let session = Msg::Session(Box::new(self.session.clone()));
                if out.blocking_send(session).is_err() {
                    return;
                }
            }
            // A tick that came late does not make the next one early.
            due = (due + self.options.interval).max(Instant::now());
        }
        let tick = self.tick(true);
        let noticed = self.notice_silence() | self.notice_beside();
        // Detached before the end is told: whoever waits for it finds nothing of us left.
        self.sampling = None;
        self.probes = None;
        let _ = out.blocking_send(Msg::Tick(Box::new(tick)));
        if noticed {
            let _ = out.blocking_send(Msg::Session(Box::new(self.session.clone())));
        }
        let _ = out.blocking_send(Msg::End(None));
    }
}
