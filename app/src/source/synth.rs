//! A source that invents a busy host: for the screen without KVM, for tests and benchmarks.
//!
//! The same seed and plan make the same ticks, whenever and wherever. Nothing that it says was
//! measured, and its session says so ([`Origin::Synthetic`]).
//!
//! [`Origin::Synthetic`]: crate::model::session::Origin::Synthetic

mod details;
mod events;
mod make;
mod names;
pub mod plan;
mod rng;
mod signals;

pub use make::Generator;
pub use names::names;

use super::{Msg, Request, Source};
use crate::model::session::{Host, Origin, ProbeStatus, Session};
use plan::Plan;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// How ticks follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One per interval of real time, until asked to stop.
    RealTime,
    /// This many, one after the other without waiting.
    AtOnce(u64),
}

/// The synthetic source.
#[derive(Debug)]
pub struct Synth {
    generator: Generator,
    session: Session,
    interval: Duration,
    pace: Pace,
}

impl Synth {
    /// A source of what a plan says, told to begin at a moment: (ns of CLOCK_MONOTONIC, ns since
    /// the Unix epoch). `why` and `command` go to the banner: why invented numbers are shown, and
    /// what would show real ones.
    pub fn new(plan: Plan, seed: u64, begin: (u64, u64), why: &str, command: &str) -> Self {
        let session = session(begin, why, command);
        let generator = Generator::new(plan, seed, &session);
        Self { generator, session, interval: Duration::from_secs(1), pace: Pace::RealTime }
    }

    /// What is known before the first tick.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Another interval than a second.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Another pace than real time.
    pub fn pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Does what is asked; false when that is to stop. What is invented has no probes, and is not played.
    fn answer(&mut self, request: Request) -> bool {
        match request {
            Request::Interval(interval) => self.interval = interval,
            Request::Family(..)
            | Request::Outliers(_)
            | Request::Stacks(_)
            | Request::Replay(_) => {}
            Request::Stop => return false,
        }
        true
    }

    /// Waits for the end of an interval that began at `begin`; false when asked to stop.
    fn wait(&mut self, begin: Instant, requests: &Receiver<Request>) -> bool {
        loop {
            let left = self.interval.saturating_sub(begin.elapsed());
            match requests.recv_timeout(left) {
                Ok(request) => {
                    if !self.answer(request) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    fn real_time(&mut self, out: &Sender<Msg>, requests: &Receiver<Request>) {
        loop {
            let begin = Instant::now();
            let go_on = self.wait(begin, requests);
            let tick = self.generator.tick(begin.elapsed());
            if out.blocking_send(Msg::Tick(Box::new(tick))).is_err() || !go_on {
                return;
            }
        }
    }

    fn at_once(&mut self, ticks: u64, out: &Sender<Msg>, requests: &Receiver<Request>) {
        for _ in 0..ticks {
            if requests.try_recv().is_ok_and(|request| !self.answer(request)) {
                return;
            }
            let tick = self.generator.tick(self.interval);
            if out.blocking_send(Msg::Tick(Box::new(tick))).is_err() {
                return;
            }
        }
    }
}

impl Source for Synth {
    fn run(mut self: Box<Self>, out: Sender<Msg>, requests: Receiver<Request>) {
        if out.blocking_send(Msg::Session(Box::new(self.session.clone()))).is_err() {
            return;
        }
        match self.pace {
            Pace::RealTime => self.real_time(&out, &requests),
            Pace::AtOnce(ticks) => self.at_once(ticks, &out, &requests),
        }
        // Nobody may be listening any more, which is as good an end as any.
        let _ = out.blocking_send(Msg::End(None));
    }
}

/// The session of an invented host.
fn session((started_ns, started_unix_ns): (u64, u64), why: &str, command: &str) -> Session {
    let probe = |name: &str, family: &str| ProbeStatus {
        name: name.to_owned(),
        family: family.to_owned(),
        attached: false,
        why: Some("The numbers are invented, so no probe is needed.".to_owned()),
        how: "none".to_owned(),
    };
    Session {
        origin: Origin::Synthetic { why: why.to_owned(), command: command.to_owned() },
        host: Host {
            name: "invented".to_owned(),
            kernel: "none".to_owned(),
            backend: "vmx".to_owned(),
            cpus: 48,
        },
        names: names(),
        apicv: Some(true),
        apicv_reasons: std::collections::BTreeMap::new(),
        probes: vec![
            probe("kvm:kvm_exit", "exit"),
            probe("kvm:kvm_entry", "exit"),
            probe("kvm:kvm_userspace_exit", "userspace"),
            probe("sched:sched_switch", "sched"),
            probe("kvm:kvm_vcpu_wakeup", "halt-poll"),
            probe("kvm:kvm_pio", "detail"),
            probe("kvm:kvm_msr", "detail"),
            probe("kvm:kvm_page_fault", "detail"),
            probe("kvm:kvm_page_fault", "mmu"),
            probe("kvm:kvm_mmio", "mmio"),
            probe("kvm:kvm_fast_mmio", "mmio"),
            probe("kvm:kvm_hypercall", "hypercall"),
            probe("kvm:kvm_hv_hypercall", "hypercall"),
            probe("kvm:kvm_inj_virq", "irq"),
            probe("kvm:kvm_apic_accept_irq", "irq"),
            probe("kvm:kvm_msi_set_irq", "irqchip"),
            probe("kvm:kvm_hv_timer_state", "timer"),
            probe("kvm:kvm_vcpu_wakeup", "wakeup"),
            probe("sched:sched_switch", "vcpu-load"),
        ],
        notices: Vec::new(),
        started_ns,
        started_unix_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::codec;
    use crate::model::detail::KeyClass;
    use crate::model::event::EventKind;
    use crate::model::ids::{Isa, Reason, VcpuKey};
    use crate::model::tick::{Phase, Tick};
    use crate::model::totals::Totals;
    use crate::source::Feed;

    fn synth(seed: u64) -> Synth {
        Synth::new(Plan::noisy_host(), seed, (1_000_000_000, 1_700_000_000_000_000_000), "w", "c")
    }

    fn ticks(seed: u64, n: u64) -> Vec<Tick> {
        let mut generator = synth(seed).generator;
        (0..n).map(|_| generator.tick(Duration::from_secs(1))).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_ticks() {
        assert_eq!(ticks(7, 20), ticks(7, 20));
        assert_ne!(ticks(7, 20), ticks(8, 20));
    }

    #[test]
    fn ticks_keep_the_rules_of_their_type() {
        for (n, tick) in ticks(1, 120).iter().enumerate() {
            assert_eq!(tick.seq, n as u64 + 1);
            assert!(tick.vcpus.is_sorted_by(|a, b| a.key < b.key));
            let mut bytes = Vec::new();
            codec::encode(tick, &mut bytes).expect("encodes");
            assert_eq!(codec::decode(&bytes).as_ref(), Ok(tick));
            for vcpu in &tick.vcpus {
                assert_eq!(vcpu.time.sum(), tick.dur_ns, "{:?}", vcpu.key);
                let ran: u64 = vcpu.culprits.iter().map(|culprit| culprit.ns).sum();
                assert!(ran <= vcpu.time.get(Phase::Preempted), "{:?}", vcpu.culprits);
                for cell in &vcpu.cells {
                    let timed = cell.timed();
                    let what = format!("{:?} {cell:?}", vcpu.key);
                    assert!(cell.total_ns >= timed * cell.min_ns, "{what}");
                    assert!(cell.total_ns <= timed * cell.max_ns, "{what}");
                    assert!(cell.min_ns <= cell.max_ns, "{what}");
                }
            }
        }
    }

    /// What exits of a reason were about comes to as many exits as there were, class by class.
    #[test]
    fn keys_and_others_add_up_to_the_exits() {
        let mut met = std::collections::BTreeSet::new();
        for vcpu in ticks(1, 30).iter().flat_map(|tick| &tick.vcpus) {
            assert!(vcpu.keys.is_sorted_by(|a, b| a.id < b.id));
            let mut left: std::collections::BTreeMap<KeyClass, u64> = Default::default();
            for key in &vcpu.keys {
                met.insert((key.id.class, key.id.value.is_none()));
                let wall_ns = key.total_ns + key.off_ns + key.vmm_ns;
                assert!(key.id.value.is_none() || wall_ns <= key.max_ns * key.timed, "{key:?}");
                *left.entry(key.id.class).or_default() += key.count;
            }
            let exits = |code: u32| {
                let cells =
                    vcpu.cells.iter().filter(|cell| cell.reason == Reason::exit(Isa::Vmx, code));
                cells.map(|cell| cell.count).sum::<u64>()
            };
            let of = |class| left.get(&class).copied().unwrap_or(0);
            assert_eq!(of(KeyClass::MsrWrite), exits(32));
            assert_eq!(of(KeyClass::PortIn), exits(30));
            assert_eq!(of(KeyClass::Page), exits(48));
            assert_eq!(of(KeyClass::Fault), exits(48));
            assert_eq!(of(KeyClass::Hypercall) + of(KeyClass::HvHypercall), exits(18));
            assert_eq!(of(KeyClass::Vector), exits(1));
        }
        assert!(met.contains(&(KeyClass::Page, true)) && met.contains(&(KeyClass::Rip, false)));
        for class in [
            KeyClass::MmioRead,
            KeyClass::MmioFast,
            KeyClass::Hypercall,
            KeyClass::HvHypercall,
            KeyClass::Root,
            KeyClass::DirtySlot,
            KeyClass::DirtyPage,
        ] {
            assert!(met.contains(&(class, false)), "{class:?}");
        }
    }

    #[test]
    fn every_part_of_time_and_every_detail_occurs() {
        let mut totals = Totals::default();
        ticks(1, 60).iter().for_each(|tick| totals.apply(tick));
        let vcpus: Vec<_> = totals.vms.values().flat_map(|vm| vm.vcpus.values()).collect();
        for phase in Phase::ALL {
            let rare = matches!(phase, Phase::Unknown | Phase::VmmBlocked);
            assert!(rare || vcpus.iter().any(|vcpu| vcpu.time.get(phase) > 0), "{phase:?}");
        }
        assert!(vcpus.iter().any(|vcpu| vcpu.halts.polled > 0 && vcpu.halts.waited > 0));
        assert!(vcpus.iter().any(|vcpu| vcpu.culprits.iter().any(|culprit| culprit.vm.is_some())));
        assert!(!totals.outliers.is_empty());
        assert!(totals.outliers.iter().any(|slow| slow.by.is_some() && slow.wait_ns > 0));
        let beside: Vec<_> = totals.vms.values().filter_map(|vm| vm.beside.as_ref()).collect();
        assert_eq!(beside.len(), totals.vms.len());
        assert!(beside.iter().any(|vm| vm.throttled_ns.is_some_and(|ns| ns > 0)));
        assert!(beside.iter().any(|vm| vm.throttled_ns.is_none()));
    }

    #[test]
    fn single_events_are_bounded_and_the_rest_is_counted() {
        let mut met = std::collections::BTreeSet::new();
        let mut left_out = false;
        for tick in ticks(1, 60) {
            assert!(tick.events.is_sorted_by_key(|event| event.at_ns));
            assert!(tick.events_left_out.is_sorted_by(|a, b| a.kind < b.kind));
            for kind in EventKind::ALL {
                let told = tick.events.iter().filter(|event| event.kind == kind).count();
                assert!(told <= 64, "{kind:?}: {told}");
                met.extend((told > 0).then_some(kind));
            }
            for event in &tick.events {
                assert!(event.at_ns <= tick.end_ns && event.at_ns >= tick.end_ns - tick.dur_ns);
                let known = event.vcpu.is_none_or(|vcpu| {
                    tick.vcpus.iter().any(|v| v.key == VcpuKey { vm: event.vm, vcpu })
                });
                assert!(known, "{event:?}");
            }
            // Told and left out come to as many page faults as there were.
            let left = tick.events_left_out.iter().find(|left| left.kind == EventKind::Fault);
            left_out |= left.is_some();
            let told = tick.events.iter().filter(|event| event.kind == EventKind::Fault).count();
            let faults = tick.vcpus.iter().flat_map(|vcpu| &vcpu.keys);
            let faults = faults.filter(|key| key.id.class == KeyClass::Fault).map(|key| key.count);
            assert_eq!(told as u64 + left.map_or(0, |left| left.count), faults.sum::<u64>());
        }
        assert!(left_out);
        assert!(
            EventKind::ALL
                .iter()
                .all(|kind| met.contains(kind) != (*kind == EventKind::XenHypercall)),
            "{met:?}"
        );
        let ioctls: Vec<_> = ticks(1, 3).into_iter().flat_map(|tick| tick.vms).collect();
        assert!(ioctls.iter().any(|vm| vm.ioctls.iter().any(|ioctl| ioctl.failed > 0)));
        assert!(ioctls.iter().all(|vm| vm.ioctls.is_sorted_by(|a, b| a.command < b.command)));
    }

    #[test]
    fn one_vm_comes_and_goes() {
        use crate::model::tick::Life;
        let life: Vec<_> = ticks(1, 150).into_iter().flat_map(|tick| tick.life).collect();
        let came = life.iter().filter(|life| matches!(life, Life::Vm(_))).count();
        let gone = life.iter().filter(|life| matches!(life, Life::VmGone(..))).count();
        assert!(came > 5 && gone > 0, "{came} came, {gone} went");
    }

    #[test]
    fn the_source_says_session_ticks_end() {
        let source = synth(3).pace(Pace::AtOnce(4));
        let mut feed = Feed::start(Box::new(source)).expect("a thread");
        let mut said = Vec::new();
        while let Some(msg) = feed.messages.blocking_recv() {
            said.push(match msg {
                Msg::Session(session) => {
                    assert!(matches!(session.origin, Origin::Synthetic { .. }));
                    "session"
                }
                Msg::Tick(_) => "tick",
                Msg::Replay(_) => "replay",
                Msg::End(None) => "end",
                Msg::End(Some(_)) => "end with a reason",
            });
        }
        assert_eq!(said, ["session", "tick", "tick", "tick", "tick", "end"]);
        feed.finish();
    }

    #[test]
    fn stopping_makes_a_last_tick() {
        let source = synth(3).interval(Duration::from_secs(3600));
        let mut feed = Feed::start(Box::new(source)).expect("a thread");
        assert!(matches!(feed.messages.blocking_recv(), Some(Msg::Session(_))));
        feed.requests.send(Request::Stop).expect("it runs");
        assert!(matches!(feed.messages.blocking_recv(), Some(Msg::Tick(_))));
        assert!(matches!(feed.messages.blocking_recv(), Some(Msg::End(None))));
        feed.finish();
    }
}
