//! Which families of probes are attached because someone looks, which a person switched, and what to
//! say where one is off.

use super::State;
use super::action::Effect;
use super::keys::Watch;
use super::nav::Tab;
use crate::model::session::{OFF, Origin, Session};
use crate::source::live::plan::Family;

/// Families that are attached while what they show is looked at.
const FOLLOWING: [Family; 9] = [
    Family::Detail,
    Family::Mmu,
    Family::Mmio,
    Family::Hypercall,
    Family::Irq,
    Family::Irqchip,
    Family::Timer,
    Family::Wakeup,
    Family::VcpuLoad,
];

/// Those of a tab.
fn of_tab(tab: Tab) -> &'static [Family] {
    match tab {
        Tab::Memory => &[Family::Mmu, Family::Mmio],
        Tab::Interrupts => &[Family::Irq, Family::Timer, Family::Irqchip],
        Tab::Scheduling => &[Family::Wakeup, Family::VcpuLoad],
        Tab::Calls => &[Family::Hypercall],
        Tab::Exits | Tab::Time | Tab::Probes => &[],
    }
}

/// What is asked of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    following: [Following; FOLLOWING.len()],
    /// What a person switched; it stays so whatever is looked at.
    by_hand: Vec<(Family, bool)>,
}

/// One that is attached while someone looks.
#[derive(Clone, Copy, Debug, Default)]
struct Following {
    /// Attached without our asking, so never detached by us.
    always: bool,
    /// Whether we ever asked: from then on the session tells what we did.
    ever: bool,
    on: bool,
}

impl Asked {
    pub fn new(session: &Session) -> Self {
        let mut asked = Self::default();
        asked.heard(session);
        asked
    }

    /// Takes in what the source says of its probes.
    pub fn heard(&mut self, session: &Session) {
        for (following, family) in self.following.iter_mut().zip(FOLLOWING) {
            if !following.ever {
                following.always = is_on(session, family);
            }
        }
    }

    /// What is to be asked when some are wanted, and the others not any more.
    pub fn follow(&mut self, wanted: impl Fn(Family) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (following, family) in self.following.iter_mut().zip(FOLLOWING) {
            let wanted = wanted(family);
            let switched = self.by_hand.iter().any(|(other, _)| *other == family);
            if following.always || switched || following.on == wanted {
                continue;
            }
            following.on = wanted;
            following.ever = true;
            effects.push(Effect::Family(family, wanted));
        }
        effects
    }

    /// Switches one by hand.
    pub fn switch(&mut self, family: Family, on: bool) -> Effect {
        self.by_hand.retain(|(other, _)| *other != family);
        self.by_hand.push((family, on));
        for (following, other) in self.following.iter_mut().zip(FOLLOWING) {
            if other == family {
                following.ever = true;
            }
        }
        Effect::Family(family, on)
    }

    /// Whether one was asked for, as far as is known here.
    fn wants(&self, family: Family) -> bool {
        if let Some((_, on)) = self.by_hand.iter().find(|(other, _)| *other == family) {
            return *on;
        }
        let following = self.following.iter().zip(FOLLOWING).find(|(_, other)| *other == family);
        following.is_some_and(|(following, _)| following.always || following.on)
    }
}

/// Whether some probe of a family is attached.
pub(super) fn is_on(session: &Session, family: Family) -> bool {
    session.probes.iter().any(|probe| probe.family == family.name() && probe.attached)
}

/// What a family costs while it is attached, in a sentence.
pub fn price(family: Family) -> &'static str {
    match family {
        Family::Exit => "some 600 instructions for each kernel exit",
        Family::Userspace => "some 900 instructions for each exit to the VMM",
        Family::Sched => "some 145 instructions for each context switch of the host",
        Family::HaltPoll => "a little for each wake-up from a halt",
        Family::Detail => "some 290 instructions for each kernel exit, more for those it names",
        Family::Culprits => "some 190 instructions for each context switch of the host",
        Family::Mmu => "a little for each page fault of a guest",
        Family::Mmio => "a little for each MMIO access that is emulated",
        Family::Dirty => "a little for each page that is logged as dirty",
        Family::Roots => "a little for each MMU root that is loaded",
        Family::Hypercall => "a little for each hypercall",
        Family::Ioctl => "some instructions for each system call of the whole host",
        Family::Irq => "a little for each interrupt that is put into a guest",
        Family::Irqchip => "a little for each interrupt that a device sends",
        Family::Timer => "a little for each timer that a guest sets",
        Family::Wakeup => "a little for each wake-up from a halt",
        Family::VcpuLoad => "a little for each time a vCPU is put on a CPU",
        Family::Base => "nothing that can be measured: a program where threads end",
    }
}

impl State {
    /// Whether what exits are about is looked at: in the Time tab, and wherever a reason is.
    pub fn wants_detail(&self) -> bool {
        let level = self.level();
        level.tab == Tab::Time || matches!(level.scope, super::Scope::Reason(..))
    }

    /// Whether what a family shows is looked at.
    pub(super) fn wants(&self, family: Family) -> bool {
        match family {
            Family::Detail => self.wants_detail(),
            family => of_tab(self.level().tab).contains(&family),
        }
    }

    /// Asks for what is looked at, and for nothing else.
    pub(super) fn follow(&mut self) -> Vec<Effect> {
        let wanted = FOLLOWING.map(|family| (family, self.wants(family)));
        self.families.follow(|family| wanted.contains(&(family, true)))
    }

    /// The families that opening a tab would attach.
    pub fn would_attach(&self, tab: Tab) -> Vec<Family> {
        let has = |family: Family| self.session.probes.iter().any(|p| p.family == family.name());
        let by_hand = |family| self.families.by_hand.iter().any(|(other, _)| *other == family);
        let off =
            |family: &&Family| has(**family) && !self.family_on(**family) && !by_hand(**family);
        of_tab(tab).iter().filter(off).copied().collect()
    }

    /// Whether some probe of a family is attached.
    pub fn family_on(&self, family: Family) -> bool {
        is_on(&self.session, family)
    }

    /// Why a family that was asked for is not attached, as the source says it.
    pub fn family_trouble(&self, family: Family) -> Option<&str> {
        let probes = self.session.probes.iter().filter(|probe| probe.family == family.name());
        probes.filter(|probe| !probe.attached).find_map(|probe| probe.why.as_deref())
    }

    /// Whether a family's probes are attached, and why not.
    pub fn family_watch(&self, family: Family) -> Watch {
        let mine = || self.session.probes.iter().filter(|probe| probe.family == family.name());
        let failed: Vec<(String, String)> = mine()
            .filter(|probe| !probe.attached && !probe.is_off())
            .filter_map(|probe| Some((probe.name.clone(), probe.why.clone()?)))
            .collect();
        if mine().any(|probe| probe.attached) {
            return if failed.is_empty() { Watch::On } else { Watch::Partly(failed) };
        }
        if let Origin::Synthetic { .. } = self.session.origin {
            return Watch::Off("the numbers are invented".to_owned());
        }
        if let Some((_, why)) = failed.into_iter().next() {
            return Watch::Off(why);
        }
        if self.families.wants(family) && self.ended.is_none() && mine().next().is_some() {
            return Watch::Attaching;
        }
        if mine().next().is_none() {
            return Watch::Off("there are no probes for it here".to_owned());
        }
        Watch::Off(family.off())
    }

    /// Why what a family shows is not there, and how to get it, in a sentence; `None` where it is
    /// measured.
    pub fn family_missing(&self, family: Family) -> Option<String> {
        match self.family_watch(family) {
            Watch::On => None,
            Watch::Partly(missing) => {
                let lacks: Vec<String> =
                    missing.iter().map(|(hook, why)| format!("{hook}: {why}")).collect();
                Some(format!("without {}", lacks.join("; ")))
            }
            Watch::Attaching => Some(format!("attaching the probes of {}", family.name())),
            Watch::Off(why) => Some(match why.strip_prefix(OFF) {
                Some(how) => format!(
                    "{}: off; {how}, or in tab 0 while running. It costs {}.",
                    family.costs(),
                    price(family)
                ),
                None => format!("{}: {why}", family.costs()),
            }),
        }
    }

    /// Switches a family on or off, by hand.
    pub(super) fn switch(&mut self, family: Family) -> Option<Effect> {
        (family != Family::Base).then(|| {
            let on = !self.family_on(family);
            self.families.switch(family, on)
        })
    }
}
