//! What is always on the screen: what would make the numbers wrong, and where one is.

use super::load::{per_second, ratio};
use super::moment::Moments;
use super::nav::Scope;
use super::now::Now;
use crate::model::ids::Kind;
use crate::model::session::{Origin, Session};
use crate::model::tick::Lost;

/// The header's facts.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Header {
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// KVM's backend: "vmx", "svm", "pvm", "none".
    pub backend: String,
    /// CPUs online.
    pub cpus: u32,
    /// Whether the numbers are of this host, or invented and why.
    pub origin: Origin,
    /// VMs there are at the displayed tick.
    pub vms: usize,
    /// Their vCPUs.
    pub vcpus: usize,
    /// Kernel exits per second.
    pub rate: f64,
    /// Userspace exits per second.
    pub user_rate: f64,
    /// Steal time of the host as a share (0 to 1) of its CPUs.
    pub steal: f64,
    /// Missed from the start to the displayed tick.
    pub lost: Lost,
    /// Ticks missed from the start to the displayed tick.
    pub lost_ticks: u64,
    /// Probes attached, and how many there are.
    pub probes: (usize, usize),
    /// Why those that are not attached are not: name and sentence.
    pub not_attached: Vec<(String, String)>,
    /// CPU time of this program as a share of one CPU.
    pub own_cpu: f64,
    /// Probes' run time: ns per run and share of one CPU, as last sampled up to the displayed tick.
    pub probe_cost: Option<(f64, f64)>,
    /// Sentences that the person should read.
    pub notices: Vec<String>,
    /// Which moment is shown.
    pub position: Position,
    /// Whether the source has ended, and its words about it if it was not asked to.
    pub ended: Option<Option<String>>,
}

/// Which moment is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// Follows the latest tick.
    pub live: bool,
    /// Number of the displayed tick, 0 before the first.
    pub seq: u64,
    /// Its end, ns since the Unix epoch.
    pub end_unix_ns: u64,
    /// Its length, ns.
    pub dur_ns: u64,
    /// Ticks kept after it.
    pub ahead: usize,
    /// Ticks kept before it.
    pub behind: usize,
    /// From its end to the end of the latest tick, ns.
    pub age_ns: u64,
    /// From the begin of the window (sparklines, latency heat map, window totals) to its end, ns.
    pub window_ns: u64,
    /// From the begin of the oldest kept tick to the end of the latest, ns.
    pub kept_ns: u64,
}

/// A step of the breadcrumb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crumb {
    /// Where it leads.
    pub scope: Scope,
    /// What it says.
    pub label: String,
}

/// What a header is made of.
pub(super) struct Facts<'a> {
    pub session: &'a Session,
    pub moments: &'a Moments,
    pub now: Option<Now<'a>>,
    pub window: usize,
}

impl Facts<'_> {
    /// The header, except for whether the source has ended.
    pub fn header(&self) -> Header {
        let session = self.session;
        let missing = session.probes.iter().filter(|probe| !probe.attached && !probe.is_off());
        let mut header = Header {
            host: session.host.name.clone(),
            kernel: session.host.kernel.clone(),
            backend: session.host.backend.clone(),
            cpus: session.host.cpus,
            origin: session.origin.clone(),
            probes: (
                session.probes.iter().filter(|probe| probe.attached).count(),
                session.probes.iter().filter(|probe| !probe.is_off()).count(),
            ),
            not_attached: missing
                .map(|probe| (probe.name.clone(), probe.why.clone().unwrap_or_default()))
                .collect(),
            notices: session.notices.clone(),
            position: self.moments.position(session, self.window),
            ..Header::default()
        };
        if let Some(now) = self.now {
            self.measured(&mut header, now);
        }
        header
    }

    fn measured(&self, header: &mut Header, now: Now<'_>) {
        let tick = now.tick();
        for vm in now.vms().filter(|vm| vm.span.ended_at(now.end_ns()).is_none()) {
            header.vms += 1;
            header.vcpus += now.vcpus(vm).filter(|seen| seen.ended_ns.is_none()).count();
        }
        let rate = |kind| {
            let cells = tick.vcpus.iter().flat_map(|vcpu| &vcpu.cells);
            let exits = cells.filter(|cell| cell.reason.kind == kind).map(|cell| cell.count);
            per_second(exits.fold(0, u64::saturating_add), tick.dur_ns)
        };
        header.rate = rate(Kind::Exit);
        header.user_rate = rate(Kind::Userspace);
        let cpu_ns = tick.dur_ns.saturating_mul(u64::from(header.cpus));
        header.steal = ratio(tick.host.steal_ns, cpu_ns);
        header.own_cpu = ratio(tick.host.own_cpu_ns, tick.dur_ns);
        if let Some(meta) = self.moments.shown_meta() {
            header.lost = meta.lost;
            header.lost_ticks = meta.lost_ticks;
            header.probe_cost = meta
                .probes
                .map(|(run_ns, runs, dur_ns)| (ratio(run_ns, runs), ratio(run_ns, dur_ns)));
        }
    }
}
