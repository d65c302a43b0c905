//! Sums over a vCPU's keys and reasons that several rules need.

use super::{Look, per_second};
use crate::findings::VcpuFacts;
use crate::findings::words::thing;
use crate::model::detail::KeyTick;
use crate::model::ids::{Kind, Reason};
use crate::state::value::rate;

/// Keys added up.
#[derive(Default)]
pub struct Keys {
    pub count: u64,
    /// Handling and VMM time, ns.
    pub busy_ns: u64,
    /// The one with the largest count.
    pub most: Option<KeyTick>,
    all: Vec<KeyTick>,
}

impl Keys {
    /// Those of a vCPU that are wanted; "other" is never asked about.
    pub fn of(vcpu: &VcpuFacts, wanted: impl Fn(&KeyTick, u64) -> bool) -> Self {
        let mut sum = Self::default();
        for key in &vcpu.keys {
            if key.id.value.is_some_and(|value| wanted(key, value)) {
                sum.add(*key);
            }
        }
        sum
    }

    pub fn add(&mut self, key: KeyTick) {
        self.count = self.count.saturating_add(key.count);
        self.busy_ns = self.busy_ns.saturating_add(busy_ns(&key));
        if self.most.is_none_or(|most| key.count > most.count) {
            self.most = Some(key);
        }
        self.all.push(key);
    }

    /// The kernel exit that the largest was about.
    pub fn reason(&self) -> Option<Reason> {
        self.most.and_then(|key| key.id.reason)
    }

    /// The three largest, one a sentence, each thing once.
    pub fn evidence(&self, wall_ns: u64) -> Vec<String> {
        let mut by_thing: Vec<KeyTick> = Vec::new();
        for key in &self.all {
            let same = |k: &&mut KeyTick| (k.id.class, k.id.value) == (key.id.class, key.id.value);
            match by_thing.iter_mut().find(same) {
                Some(first) => first.count = first.count.saturating_add(key.count),
                None => by_thing.push(*key),
            }
        }
        by_thing.sort_by_key(|key| std::cmp::Reverse(key.count));
        let named = by_thing.iter().take(3).filter_map(|key| {
            let thing = thing(key.id.class, key.id.value?);
            Some(format!("{thing}: {}/s", rate(per_second(key.count, wall_ns))))
        });
        named.collect()
    }
}

/// A key's handling and VMM time, ns.
pub fn busy_ns(key: &KeyTick) -> u64 {
    key.total_ns.saturating_add(key.vmm_ns)
}

/// Kernel exits of a vCPU that began, whatever for.
pub fn exits(vcpu: &VcpuFacts) -> u64 {
    let exits = vcpu.reasons.iter().filter(|reason| reason.reason.kind == Kind::Exit);
    exits.fold(0, |sum, reason| sum.saturating_add(reason.count))
}

/// How many of a vCPU's exits were for one of these.
pub fn exits_for(vcpu: &VcpuFacts, reasons: &[Reason]) -> u64 {
    let exits = vcpu.reasons.iter().filter(|reason| reasons.contains(&reason.reason));
    exits.fold(0, |sum, reason| sum.saturating_add(reason.count))
}

/// How many exits of the whole VM were for one of these, and which of them most.
pub fn vm_exits_for(look: &Look<'_>, reasons: &[Reason]) -> (u64, Option<Reason>) {
    let all = look.vm.vcpus.iter().flat_map(|vcpu| &vcpu.reasons);
    let all: Vec<_> = all.filter(|reason| reasons.contains(&reason.reason)).collect();
    let count = all.iter().fold(0u64, |sum, reason| sum.saturating_add(reason.count));
    (count, all.into_iter().max_by_key(|reason| reason.count).map(|reason| reason.reason))
}
