//! Whether the processor delivers a VM's interrupts (APICv, AVIC), and why not.

use super::Changes;
use crate::model::ids::VmId;
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::state::{Scope, State};

/// Inhibits by VM.
pub(crate) type Apicv = Changes<VmId, 256>;

impl Apicv {
    /// Adds the latest tick's, at a place; the oldest tick that is kept is at `oldest`.
    pub fn add(&mut self, place: u64, oldest: u64, tick: &Tick) {
        for (vm, bits) in tick.vms.iter().filter_map(|vm| Some((vm.id, vm.apicv_inhibits?))) {
            self.push(vm, (place, oldest), bits);
        }
    }
}

/// Inhibits in words: "IRQWIN, ABSENT".
fn reasons(bits: u64, session: &Session) -> String {
    let word = |(bit, name): (u32, Option<&str>)| {
        name.map_or_else(|| format!("reason {bit}"), str::to_owned)
    };
    session.inhibits(bits).map(word).collect::<Vec<_>>().join(", ")
}

/// What the vendor calls it.
fn name(session: &Session) -> &'static str {
    if session.host.backend == "svm" { "AVIC" } else { "APICv" }
}

impl State {
    /// The state of a VM in a few words: "on", "inhibited: IRQWIN", "off"; `None` where it is not told.
    pub fn apicv_of(&self, vm: VmId) -> Option<String> {
        let place = self.moments.shown()?.place;
        match (self.session.apicv, self.apicv.at(&vm, place)) {
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

    #[test]
    fn reasons_without_a_name_keep_their_number() {
        let mut session = Session::default();
        session.apicv_reasons.insert(2, "ABSENT".to_owned());
        assert_eq!(reasons(1 << 2 | 1 << 40, &session), "ABSENT, reason 40");
    }
}
