//! Who is there while ticks go by: names of VMs, and what vCPUs do that a tick does not mention.

use super::Content;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::session::Session;
use crate::model::tick::{Life, Phase, Tick, VmInfo};
use crate::model::totals::Totals;
use std::collections::BTreeMap;

/// The VMs and vCPUs of a session up to some tick. Living vCPUs are as in
/// [`crate::model::totals::Totals`]: one that a tick does not mention goes on with what it did.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    vms: BTreeMap<VmId, Known>,
    vcpus: BTreeMap<VcpuKey, Phase>,
}

#[derive(Clone, Debug)]
struct Known {
    info: VmInfo,
    ended_ns: Option<u64>,
}

/// The session and who is there: what everything that is exported needs to know beside a tick.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The host, the names, the probes, the clock.
    pub session: Session,
    /// Who is there.
    pub who: Follow,
    /// Exports go tick by tick, where reports have sums.
    no_sums: Totals,
}

impl World {
    /// Nobody yet.
    pub fn new(session: Session) -> Self {
        Self { session, ..Self::default() }
    }

    /// For what reports print too.
    pub fn content(&self) -> Content<'_> {
        Content::new(&self.session, &self.no_sums, 0)
    }
}

impl Follow {
    /// Takes over who is there at a moment.
    pub fn known(&mut self, totals: &Totals) {
        self.vms = totals
            .vms
            .iter()
            .map(|(&id, vm)| (id, Known { info: vm.info.clone(), ended_ns: vm.ended_ns }))
            .collect();
        let vcpus = totals.vms.values().flat_map(|vm| vm.vcpus.values());
        let living = vcpus.filter(|vcpu| vcpu.ended_ns.is_none());
        self.vcpus = living.map(|vcpu| (vcpu.info.key, vcpu.phase.0)).collect();
    }

    /// A tick begins to be told: who came and went. Answers with the vCPUs that live and are not mentioned,
    /// and what each did all the while, in the order of their keys.
    pub fn begin(&mut self, tick: &Tick) -> Vec<(VcpuKey, Phase)> {
        for life in &tick.life {
            self.live(life);
        }
        let is_silent =
            |key: &VcpuKey| tick.vcpus.binary_search_by_key(key, |vcpu| vcpu.key).is_err();
        let silent = self.vcpus.iter().filter(|(key, _)| is_silent(key));
        silent.map(|(key, phase)| (*key, *phase)).collect()
    }

    /// The tick has been told: what its vCPUs do from now on. One that ended in it does nothing.
    pub fn end(&mut self, tick: &Tick) {
        for vcpu in &tick.vcpus {
            self.vcpus.insert(vcpu.key, vcpu.phase);
        }
        for life in &tick.life {
            if let Life::VcpuGone(..) | Life::VmGone(..) = life {
                self.live(life);
            }
        }
    }

    /// What a tick that is not told of changes: one before the range that is wanted.
    pub fn pass(&mut self, tick: &Tick) {
        self.begin(tick);
        self.end(tick);
    }

    fn live(&mut self, life: &Life) {
        match life {
            Life::Vm(info) => {
                self.vms.insert(info.id, Known { info: info.clone(), ended_ns: None });
            }
            Life::Vcpu(info) => {
                self.vcpus.entry(info.key).or_default();
            }
            Life::VcpuGone(key, _) => {
                self.vcpus.remove(key);
            }
            Life::VmGone(id, at_ns) => {
                self.vcpus.retain(|key, _| key.vm != *id);
                if let Some(known) = self.vms.get_mut(id) {
                    known.ended_ns = Some(*at_ns);
                }
            }
        }
    }

    /// Who a VM is; `None` before it is told.
    pub fn vm(&self, id: VmId) -> Option<&VmInfo> {
        self.vms.get(&id).map(|known| &known.info)
    }

    /// The name of a VM; "VM 3" where none is known.
    pub fn name(&self, id: VmId) -> String {
        self.vm(id).map_or_else(|| format!("VM {}", id.0), |info| info.name.clone())
    }

    /// VMs that live.
    pub fn living(&self) -> impl Iterator<Item = &VmInfo> {
        self.vms.values().filter(|known| known.ended_ns.is_none()).map(|known| &known.info)
    }

    /// vCPUs that live, in the order of their keys.
    pub fn vcpus(&self) -> impl Iterator<Item = VcpuKey> {
        self.vcpus.keys().copied()
    }

    /// How many vCPUs of a VM live.
    pub fn vcpus_of(&self, vm: VmId) -> usize {
        let (first, last) = (VcpuKey { vm, vcpu: 0 }, VcpuKey { vm, vcpu: u32::MAX });
        self.vcpus.range(first..=last).count()
    }

    /// VMs that ended at or before a moment (ns of the probes' clock).
    pub fn gone_by(&self, ns: u64) -> Vec<VmId> {
        let gone = |known: &Known| known.ended_ns.is_some_and(|ended| ended <= ns);
        self.vms.iter().filter(|(_, known)| gone(known)).map(|(id, _)| *id).collect()
    }

    /// Forgets a VM.
    pub fn forget(&mut self, id: VmId) {
        self.vms.remove(&id);
        self.vcpus.retain(|key, _| key.vm != id);
    }

    /// Leaves in a tick what is about the VMs of a name; what the host did stays.
    pub fn only(&self, name: &str, tick: &mut Tick) {
        let told = |id: VmId| {
            tick.life.iter().rev().find_map(|life| match life {
                Life::Vm(info) if info.id == id => Some(info.name.as_str()),
                _ => None,
            })
        };
        let is_it =
            |id: VmId| told(id).or_else(|| self.vm(id).map(|vm| vm.name.as_str())) == Some(name);
        let ids = tick.vcpus.iter().map(|vcpu| vcpu.key.vm);
        let ids = ids.chain(tick.vms.iter().map(|vm| vm.id)).chain(tick.life.iter().map(whose));
        let ids = ids.chain(tick.outliers.iter().map(|outlier| outlier.key.vm));
        let ids = ids.chain(tick.events.iter().map(|event| event.vm));
        let wanted: std::collections::BTreeSet<VmId> = ids.filter(|id| is_it(*id)).collect();
        tick.life.retain(|life| wanted.contains(&whose(life)));
        tick.vcpus.retain(|vcpu| wanted.contains(&vcpu.key.vm));
        tick.vms.retain(|vm| wanted.contains(&vm.id));
        tick.outliers.retain(|outlier| wanted.contains(&outlier.key.vm));
        tick.events.retain(|event| wanted.contains(&event.vm));
        tick.stacks.retain(|stack| stack.vm.is_some_and(is_wanted(&wanted)));
        tick.routes.retain(|route| route.vm.is_some_and(is_wanted(&wanted)));
    }
}

fn is_wanted(wanted: &std::collections::BTreeSet<VmId>) -> impl Fn(VmId) -> bool + '_ {
    |id| wanted.contains(&id)
}

/// Which VM a change of life is about.
fn whose(life: &Life) -> VmId {
    match life {
        Life::Vm(info) => info.id,
        Life::Vcpu(info) => info.key.vm,
        Life::VcpuGone(key, _) => key.vm,
        Life::VmGone(id, _) => *id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tick::PhaseTimes;
    use crate::source::synth::{Generator, plan::Plan};
    use std::time::Duration;

    /// Time by phase, as it is added up from what ticks tell and what silent vCPUs do, is that of the report.
    #[test]
    fn silent_vcpus_do_what_totals_say() {
        let session = Session::default();
        let mut generator = Generator::new(Plan::noisy_host(), 5, &session);
        let mut totals = Totals::default();
        let mut follow = Follow::default();
        let mut times: BTreeMap<VcpuKey, PhaseTimes> = BTreeMap::new();
        for n in 0..120u64 {
            let mut tick = generator.tick(Duration::from_secs(1));
            // Some say nothing now and then.
            let mut at = n;
            tick.vcpus.retain(|_| {
                at += 1;
                !at.is_multiple_of(3)
            });
            totals.apply(&tick);
            for (key, phase) in follow.begin(&tick) {
                let mut time = PhaseTimes::default();
                time.0[phase as usize] = tick.dur_ns;
                times.entry(key).or_default().add(&time);
            }
            tick.vcpus.iter().for_each(|vcpu| times.entry(vcpu.key).or_default().add(&vcpu.time));
            follow.end(&tick);
        }
        let vcpus = totals.vms.values().flat_map(|vm| vm.vcpus.values());
        let expected: BTreeMap<VcpuKey, PhaseTimes> =
            vcpus.map(|vcpu| (vcpu.info.key, vcpu.time)).collect();
        times.retain(|_, time| time.sum() > 0);
        let expected: BTreeMap<_, _> =
            expected.into_iter().filter(|(_, time)| time.sum() > 0).collect();
        assert!(times.len() > 30);
        assert_eq!(times, expected);
        let mut taken_over = Follow::default();
        taken_over.known(&totals);
        assert_eq!(taken_over.vcpus, follow.vcpus);
        assert_eq!(taken_over.name(VmId(1)), follow.name(VmId(1)));
    }

    #[test]
    fn one_vm_can_be_picked_out_by_a_name_that_is_told_later() {
        let mut tick = crate::model::testing::sample_tick();
        let follow = Follow::default();
        follow.only("web-7", &mut tick);
        assert_eq!(tick.vcpus.iter().map(|vcpu| vcpu.key.vm).collect::<Vec<_>>(), [VmId(1)]);
        assert!(tick.life.iter().all(|life| whose(life) == VmId(1)) && !tick.life.is_empty());
        assert_eq!((tick.outliers.len(), tick.vms.len(), tick.routes.len()), (1, 1, 1));
        follow.only("nobody", &mut tick);
        assert!(tick.vcpus.is_empty() && tick.outliers.is_empty() && tick.routes.is_empty());
    }

    #[test]
    fn who_is_gone_is_forgotten_when_asked() {
        let mut follow = Follow::default();
        let info = VmInfo { id: VmId(4), name: "a".to_owned(), ..VmInfo::default() };
        follow.live(&Life::Vm(info));
        follow.live(&Life::VmGone(VmId(4), 70));
        assert_eq!((follow.gone_by(69), follow.gone_by(70)), (vec![], vec![VmId(4)]));
        assert_eq!((follow.living().count(), follow.name(VmId(4))), (0, "a".to_owned()));
        follow.forget(VmId(4));
        assert_eq!(follow.name(VmId(4)), "VM 4");
    }
}
