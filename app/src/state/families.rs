//! Which families of probes are attached because someone looks, which a person switched, and what to
//! say where one is off.

use super::State;
use super::action::Effect;
use super::keys::Watch;
use super::nav::{Pane, Tab};
use super::price::price;
use crate::model::session::{OFF, Origin, ProbeStatus, Session};
use crate::model::stack::StackOf;
use crate::source::live::plan::{Family, functions::STACK};

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
    /// The function whose callers were asked for, until the source says so.
    stacks: Option<StackOf>,
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
        if self.stacks == stacks_probe(session).map(|(of, _)| of) {
            self.stacks = None;
        }
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

    /// The function whose callers are taken.
    pub fn stacks_of(&self, session: &Session) -> StackOf {
        self.stacks.or(stacks_probe(session).map(|(of, _)| of)).unwrap_or_default()
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
    session.has(family.name())
}

/// The probe that counts a function's callers.
fn stacks_probe(session: &Session) -> Option<(StackOf, &ProbeStatus)> {
    session.probes.iter().find_map(|probe| {
        let word = probe.name.strip_prefix(STACK)?.strip_prefix(':')?;
        Some((StackOf::from_word(word)?, probe))
    })
}

/// A reason without what it costs, where that is said already.
fn without_costs(why: &str, family: Family) -> &str {
    why.strip_suffix(family.costs()).map_or(why, |why| why.trim_end_matches(['.', ';', ' ']))
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
        // What was not recorded cannot be attached any more.
        if self.replaying() {
            return Vec::new();
        }
        let wanted = FOLLOWING.map(|family| (family, self.wants(family)));
        self.families.follow(|family| wanted.contains(&(family, true)))
    }

    /// The families that opening a tab would attach.
    pub fn would_attach(&self, tab: Tab) -> Vec<Family> {
        if self.replaying() {
            return Vec::new();
        }
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
        if self.replaying() {
            return Watch::Off("it was not attached when this was recorded".to_owned());
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
                None => format!("{}: {}", family.costs(), without_costs(&why, family)),
            }),
        }
    }

    /// Why what one of a family's probes shows is not there, in a sentence; `None` where it is measured.
    /// `hook` is a part of the probe's name.
    pub fn hook_missing(&self, family: Family, hook: &str) -> Option<String> {
        match self.family_watch(family) {
            Watch::On => None,
            Watch::Partly(missing) => missing
                .iter()
                .find(|(name, _)| name.contains(hook))
                .map(|(name, why)| format!("without {name}: {why}")),
            Watch::Attaching | Watch::Off(_) => self.family_missing(family),
        }
    }

    /// Why the callers of the chosen function are not shown, in a sentence; `None` where they are.
    pub fn stacks_missing(&self) -> Option<String> {
        if let Some(asked) = self.families.stacks {
            return Some(format!("attaching the probe at {}", asked.word()));
        }
        match stacks_probe(&self.session) {
            Some((_, probe)) if probe.attached => None,
            Some((of, probe)) if !probe.is_off() && self.session.origin == Origin::Live => {
                let why = probe.why.as_deref().unwrap_or("it is not attached");
                let why = without_costs(why, Family::Roots);
                Some(format!("who calls {} is not shown: {why}", of.word()))
            }
            _ => self.family_needed(Family::Roots),
        }
    }

    /// As [`Self::family_missing`], for what stands beside a pane that says how to get the family.
    pub fn family_needed(&self, family: Family) -> Option<String> {
        match self.family_watch(family) {
            Watch::Off(why) if why.starts_with(OFF) => {
                let name = family.name();
                Some(format!(
                    "comes with the family {name}, which is off (--probes {name}, or tab 0 while running)"
                ))
            }
            _ => self.family_missing(family),
        }
    }

    /// Whether another function's callers can be asked for.
    pub fn can_switch_stacks(&self) -> bool {
        let probe = stacks_probe(&self.session);
        let looked = self.level().panes().contains(&Pane::Stacks);
        let live = self.session.origin == Origin::Live && self.ended.is_none() && !self.replaying();
        looked && live && probe.is_some_and(|(_, probe)| !probe.is_off())
    }

    /// Asks for the callers of the next function.
    pub(super) fn next_stacks(&mut self) -> Option<Effect> {
        self.can_switch_stacks().then(|| {
            let of = self.families.stacks_of(&self.session).next();
            self.families.stacks = Some(of);
            Effect::Stacks(of)
        })
    }

    /// Switches a family on or off, by hand.
    pub(super) fn switch(&mut self, family: Family) -> Option<Effect> {
        (family != Family::Base).then(|| {
            let on = !self.family_on(family);
            self.families.switch(family, on)
        })
    }
}
