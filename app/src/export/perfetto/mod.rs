//! A recording as a trace for ui.perfetto.dev: a track for each vCPU with where its time went, its slow exits and
//! its single events, and counters of exits per second.
//!
//! A tick tells how long a vCPU was in each part of time, not when in the tick. So the parts of a tick are laid one
//! after the other, in one fixed order but for the part that was open: lengths are exact, places are not.

mod phases;
mod proto;
mod tracks;

use super::follow::World;
use super::parts::state_word;
use super::sink::Sink;
use super::sums;
use crate::model::detail::Outlier;
use crate::model::event::Event;
use crate::model::ids::{Kind, Reason, VcpuKey, VmId};
use crate::model::session::Origin;
use crate::model::tick::{Life, Phase, PhaseTimes, Tick};
use crate::model::totals::Totals;
use crate::record::{End, Gap, Mark};
use crate::trace::{events, keys, qualification};
use phases::{Change, Phases};
use proto::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, Note, kind};
use std::collections::BTreeMap;
use std::io::{self, Write};
use tracks::{Track, Tracks};

/// Reasons of a VM that have a counter of their own.
const REASONS: usize = 24;

/// Writes a trace.
pub struct Perfetto<W> {
    out: W,
    tracks: Tracks,
    phases: BTreeMap<VcpuKey, Phases>,
    /// What counters showed last.
    shown: BTreeMap<Track, u64>,
    /// Ends of the last slow exits.
    slow_until: BTreeMap<VcpuKey, u64>,
    reasons: BTreeMap<VmId, Vec<Reason>>,
    has_begun: bool,
}

impl<W: Write> Perfetto<W> {
    /// Into this; many small pieces, so it should be buffered.
    pub fn new(out: W) -> Self {
        Self {
            out,
            tracks: Tracks::default(),
            phases: BTreeMap::new(),
            shown: BTreeMap::new(),
            slow_until: BTreeMap::new(),
            reasons: BTreeMap::new(),
            has_begun: false,
        }
    }

    fn event(&mut self, at_ns: u64, event: &proto::Event) -> io::Result<()> {
        self.out.write_all(&proto::event(at_ns, event))
    }

    /// The number of a track; says what it is when it is new.
    fn track(&mut self, world: &World, track: Track) -> io::Result<u64> {
        let (number, new) = self.tracks.number(track, world);
        for row in new {
            self.out.write_all(&proto::row(&row))?;
        }
        Ok(number)
    }

    fn instant(
        &mut self,
        (world, track): (&World, Track),
        at_ns: u64,
        name: &str,
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let (track, name) = (self.track(world, track)?, Some(name.to_owned()));
        self.event(at_ns, &proto::Event { kind: kind::INSTANT, track, name, notes, value: None })
    }

    fn slice(
        &mut self,
        (world, track): (&World, Track),
        (from_ns, until_ns): (u64, u64),
        name: &str,
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let (track, name) = (self.track(world, track)?, Some(name.to_owned()));
        let begin = proto::Event { kind: kind::BEGIN, track, name, notes, value: None };
        self.event(from_ns, &begin)?;
        let end = proto::Event { kind: kind::END, track, ..proto::Event::default() };
        self.event(until_ns.max(from_ns), &end)
    }

    /// What a vCPU's track of time shows next.
    fn change(&mut self, world: &World, key: VcpuKey, change: Change) -> io::Result<()> {
        let track = self.track(world, Track::Vcpu(key))?;
        let (at_ns, kind, name) = match change {
            Change::Begin(at_ns, phase) => (at_ns, kind::BEGIN, Some(state_word(phase).to_owned())),
            Change::End(at_ns) => (at_ns, kind::END, None),
        };
        self.event(at_ns, &proto::Event { kind, track, name, ..proto::Event::default() })
    }

    fn lay(
        &mut self,
        world: &World,
        key: VcpuKey,
        tick: &Tick,
        time: &PhaseTimes,
    ) -> io::Result<()> {
        let begin_ns = tick.end_ns.saturating_sub(tick.dur_ns);
        let changes = self.phases.entry(key).or_default().lay(begin_ns, tick.end_ns, time);
        changes.into_iter().try_for_each(|change| self.change(world, key, change))
    }

    fn close(&mut self, world: &World, key: VcpuKey) -> io::Result<()> {
        match self.phases.remove(&key).and_then(|mut phases| phases.close()) {
            Some(change) => self.change(world, key, change),
            None => Ok(()),
        }
    }

    fn close_all(&mut self, world: &World) -> io::Result<()> {
        let keys: Vec<VcpuKey> = self.phases.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.close(world, key))
    }

    /// Shows a rate from the beginning of an interval on; where it is as before there is nothing to say.
    fn count(&mut self, world: &World, track: Track, count: u64, tick: &Tick) -> io::Result<()> {
        let is_known = self.shown.contains_key(&track);
        let before = self.shown.insert(track, rate_bits(count, tick.dur_ns));
        let now = rate_bits(count, tick.dur_ns);
        if before == Some(now) || (!is_known && count == 0) {
            return Ok(());
        }
        let track = self.track(world, track)?;
        let value = Some(f64::from_bits(now));
        let event = proto::Event { kind: kind::COUNTER, track, value, ..proto::Event::default() };
        self.event(tick.end_ns.saturating_sub(tick.dur_ns), &event)
    }

    fn rates(&mut self, world: &World, tick: &Tick, silent: &[(VcpuKey, Phase)]) -> io::Result<()> {
        let mut vms: BTreeMap<VmId, u64> = world.who.living().map(|vm| (vm.id, 0)).collect();
        let mut reasons: BTreeMap<(VmId, Reason), u64> = BTreeMap::new();
        for (vm, known) in &self.reasons {
            reasons.extend(known.iter().map(|reason| ((*vm, *reason), 0)));
        }
        for vcpu in &tick.vcpus {
            let cells = || vcpu.cells.iter().filter(|cell| cell.reason.kind == Kind::Exit);
            let all = cells().fold(0u64, |sum, cell| sum.saturating_add(cell.count));
            self.count(world, Track::Rate(vcpu.key), all, tick)?;
            let vm = vms.entry(vcpu.key.vm).or_default();
            *vm = vm.saturating_add(all);
            for cell in cells() {
                let known = self.reasons.entry(vcpu.key.vm).or_default();
                if !known.contains(&cell.reason) {
                    if known.len() >= REASONS {
                        continue;
                    }
                    known.push(cell.reason);
                }
                let sum = reasons.entry((vcpu.key.vm, cell.reason)).or_default();
                *sum = sum.saturating_add(cell.count);
            }
        }
        for (key, _) in silent {
            self.count(world, Track::Rate(*key), 0, tick)?;
        }
        for (vm, count) in vms {
            self.count(world, Track::VmRate(vm), count, tick)?;
        }
        for ((vm, reason), count) in reasons {
            self.count(world, Track::ReasonRate(vm, reason), count, tick)?;
        }
        Ok(())
    }

    fn slow(&mut self, world: &World, slow: &Outlier) -> io::Result<()> {
        // Exits of a vCPU do not overlap; clocks that were read at two places may.
        let last = self.slow_until.insert(slow.key, slow.end_ns).unwrap_or(0);
        let from_ns = slow.end_ns.saturating_sub(slow.wall_ns()).max(last.min(slow.end_ns));
        let mut more = vec![
            Note::number("handling_ns", slow.handling_ns),
            Note::number("kvm_asleep_ns", slow.asleep_ns),
            Note::number("waiting_ns", slow.wait_ns),
            Note::number("vmm_ns", slow.vmm_ns),
            Note::number("cpu", u64::from(slow.cpu)),
            Note::text("rip", format!("{:#x}", slow.rip)),
        ];
        if let Some((class, value)) = slow.about {
            let name = keys::name(class, value).unwrap_or_default();
            let key = keys::number(class, value);
            more.push(Note::text(class.word(), format!("{key} {name}").trim_end()));
        }
        let words = qualification::words(slow.reason, slow.info1, slow.info2);
        if !words.is_empty() {
            more.push(Note::text("qualification", words.join(", ")));
        }
        if let Some((tid, comm)) = &slow.by {
            more.push(Note::text("cpu_taken_by", format!("{comm} ({tid})")));
        }
        let name = world.session.names.name(slow.reason);
        self.slice((world, Track::Slow(slow.key)), (from_ns, slow.end_ns), &name, more)
    }

    fn single(&mut self, world: &World, event: &Event) -> io::Result<()> {
        let track = match event.vcpu {
            Some(vcpu) => Track::Events(VcpuKey { vm: event.vm, vcpu }),
            None if event.vm == VmId(0) => Track::Host,
            None => Track::VmEvents(event.vm),
        };
        let mut more = vec![Note::text("what", events::what(event, sums::isa(&world.session)))];
        if let Some(address) = events::address(event) {
            more.push(Note::text("address", format!("{address:#x}")));
        }
        if let Some(reason) = event.reason {
            more.push(Note::text("reason", world.session.names.name(reason)));
        }
        if event.rip != 0 {
            more.push(Note::text("rip", format!("{:#x}", event.rip)));
        }
        if event.wall_ns() > 0 {
            more.push(Note::number("wall_ns", event.wall_ns()));
        }
        self.instant((world, track), event.at_ns, event.kind.word(), more)
    }
}

/// Events per second, as bits, which can be compared.
fn rate_bits(count: u64, dur_ns: u64) -> u64 {
    let seconds = dur_ns.max(1) as f64 / 1e9;
    (count as f64 / seconds).to_bits()
}

impl<W: Write> Sink for Perfetto<W> {
    fn session(&mut self, world: &World) -> io::Result<()> {
        let session = &world.session;
        if !self.has_begun {
            self.has_begun = true;
            let (ns, unix_ns) = (session.started_ns, session.started_unix_ns);
            // What was slept through before is not known; nothing in the trace goes by that clock.
            let clocks = [(CLOCK_BOOTTIME, ns), (CLOCK_MONOTONIC, ns), (CLOCK_REALTIME, unix_ns)];
            self.out.write_all(&proto::begin(ns, &clocks))?;
        }
        let mut more = vec![
            Note::text("kvmscope", env!("CARGO_PKG_VERSION")),
            Note::text("host", session.host.name.as_str()),
            Note::text("kernel", session.host.kernel.as_str()),
            Note::text("backend", session.host.backend.as_str()),
        ];
        if let Origin::Synthetic { why, .. } = &session.origin {
            more.push(Note::text("invented", why.as_str()));
        }
        self.instant((world, Track::Host), session.started_ns, "session", more)
    }

    fn known(&mut self, _: &World, _: u64, _: &Totals) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, world: &World, tick: &Tick, silent: &[(VcpuKey, Phase)]) -> io::Result<()> {
        for vcpu in &tick.vcpus {
            self.lay(world, vcpu.key, tick, &vcpu.time)?;
        }
        for &(key, phase) in silent {
            let mut time = PhaseTimes::default();
            if let Some(part) = time.0.get_mut(phase as usize) {
                *part = tick.dur_ns;
            }
            self.lay(world, key, tick, &time)?;
        }
        self.rates(world, tick, silent)?;
        tick.outliers.iter().try_for_each(|slow| self.slow(world, slow))?;
        tick.events.iter().try_for_each(|event| self.single(world, event))?;
        if tick.lost.sum() > 0 {
            let more = vec![Note::number("count", tick.lost.sum())];
            self.instant((world, Track::Host), tick.end_ns, "lost", more)?;
        }
        for life in &tick.life {
            match life {
                Life::VcpuGone(key, _) => self.close(world, *key)?,
                Life::VmGone(id, ns) => {
                    let keys: Vec<VcpuKey> =
                        self.phases.keys().copied().filter(|key| key.vm == *id).collect();
                    keys.into_iter().try_for_each(|key| self.close(world, key))?;
                    self.instant((world, Track::VmEvents(*id)), *ns, "VM gone", Vec::new())?;
                    self.reasons.remove(id);
                }
                Life::Vm(_) | Life::Vcpu(_) => {}
            }
        }
        Ok(())
    }

    fn mark(&mut self, world: &World, mark: &Mark) -> io::Result<()> {
        let name = if mark.text.is_empty() { "mark" } else { &mark.text };
        self.instant((world, Track::Host), mark.at_ns, name, Vec::new())
    }

    fn gap(&mut self, world: &World, gap: &Gap) -> io::Result<()> {
        self.close_all(world)?;
        // Every counter says its value anew afterwards.
        self.shown.clear();
        let why = vec![Note::text("why", gap.why.as_str())];
        self.slice((world, Track::Gaps), (gap.from_ns, gap.until_ns), "no data", why)
    }

    fn end(&mut self, world: &World, _: &End) -> io::Result<()> {
        self.close_all(world)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
