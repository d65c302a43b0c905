//! Whether the processor delivers a VM's interrupts (APICv, AVIC), and why not.

use crate::model::ids::VmId;
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::state::{Scope, State};
use std::collections::{BTreeMap, VecDeque};

/// Changes of a VM that are kept; the oldest leave first.
const KEPT: usize = 256;

/// Inhibits by VM, from which tick (by place) on.
#[derive(Debug, Default)]
pub(crate) struct Apicv {
    vms: BTreeMap<VmId, VecDeque<(u64, u64)>>,
}

impl Apicv {
    /// Adds what the latest tick told. Forgets what was before `oldest`, but for the last of it, which holds on.
    pub fn push(&mut self, place: u64, oldest: u64, tick: &Tick) {
        for (vm, bits) in tick.vms.iter().filter_map(|vm| Some((vm.id, vm.apicv_inhibits?))) {
            let changes = self.vms.entry(vm).or_default();
            if changes.back().is_none_or(|&(_, known)| known != bits) {
                changes.push_back((place, bits));
            }
            while changes.len() > KEPT || changes.get(1).is_some_and(|&(at, _)| at <= oldest) {
                changes.pop_front();
            }
        }
    }

    /// Forgets VMs that are not kept.
    pub fn retain(&mut self, keep: impl Fn(VmId) -> bool) {
        self.vms.retain(|&vm, _| keep(vm));
    }

    /// A VM's inhibits at a place.
    fn at(&self, vm: VmId, place: u64) -> Option<u64> {
        let changes = self.vms.get(&vm)?;
        changes.iter().rev().find(|(at, _)| *at <= place).map(|&(_, bits)| bits)
    }
}

/// Inhibits in words: "IRQWIN, ABSENT".
fn reasons(bits: u64, session: &Session) -> String {
    let word = |bit: u32| match session.apicv_reasons.get(&bit) {
        Some(name) => name.clone(),
        None => format!("reason {bit}"),
    };
    let set = (0..u64::BITS).filter(|bit| bits >> bit & 1 != 0);
    set.map(word).collect::<Vec<_>>().join(", ")
}

/// What the vendor calls it.
fn name(session: &Session) -> &'static str {
    if session.host.backend == "svm" { "AVIC" } else { "APICv" }
}

impl State {
    /// The state of a VM in a few words: "on", "inhibited: IRQWIN", "off"; `None` where it is not told.
    pub fn apicv_of(&self, vm: VmId) -> Option<String> {
        let place = self.moments.shown()?.place;
        match (self.session.apicv, self.apicv.at(vm, place)) {
            (Some(false), _) => Some("off".to_owned()),
            (_, Some(0)) => Some("on".to_owned()),
            (_, Some(bits)) => Some(format!("inhibited: {}", reasons(bits, &self.session))),
            (_, None) => None,
        }
    }

    /// The same for this level, with its name; of the host whether it is allowed.
    pub fn apicv(&self) -> Option<String> {
        let name = name(&self.session);
        match self.level().scope {
            Scope::Host => match self.session.apicv? {
                true => Some(format!("{name} allowed")),
                false => Some(format!("{name} off")),
            },
            scope => match self.apicv_of(scope.vm()?) {
                Some(state) => Some(format!("{name} {state}")),
                None => self.session.apicv.map(|_| format!("{name} state not told")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detail::VmTick;

    #[test]
    fn what_was_told_last_holds() {
        let mut apicv = Apicv::default();
        let tick = |apicv_inhibits| Tick {
            vms: vec![VmTick { id: VmId(1), apicv_inhibits, ..VmTick::default() }],
            ..Tick::default()
        };
        apicv.push(2, 0, &tick(Some(4)));
        apicv.push(3, 0, &tick(None));
        apicv.push(5, 0, &tick(Some(0)));
        let at = |place| apicv.at(VmId(1), place);
        assert_eq!([at(1), at(2), at(4), at(5), at(9)], [None, Some(4), Some(4), Some(0), Some(0)]);
        assert_eq!(apicv.at(VmId(2), 5), None);
        apicv.retain(|_| false);
        assert!(apicv.vms.is_empty());
    }

    #[test]
    fn reasons_without_a_name_keep_their_number() {
        let mut session = Session::default();
        session.apicv_reasons.insert(2, "ABSENT".to_owned());
        assert_eq!(reasons(1 << 2 | 1 << 40, &session), "ABSENT, reason 40");
    }
}
