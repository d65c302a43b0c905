//! Where the wall time of one vCPU or VM went, tick by tick over the window. Kept between frames
//! and slid along with time.

use super::moment::Moments;
use super::nav::Who;
use crate::model::codec::Part;
use crate::model::tick::{PhaseTimes, VcpuTick};
use std::collections::VecDeque;
use std::ops::Range;

/// The parts of a window.
#[derive(Debug, Default)]
pub(super) struct Parts {
    who: Option<Who>,
    first: u64,
    slices: VecDeque<Option<PhaseTimes>>,
}

impl Parts {
    /// Reads what the places have of someone, as far as it is not read already.
    pub fn look(&mut self, who: Who, places: Range<u64>, moments: &Moments) {
        let end = self.first + self.slices.len() as u64;
        let goes_on = self.who == Some(who)
            && (self.first..=end).contains(&places.start)
            && places.end >= end;
        if !goes_on {
            *self = Self { who: Some(who), first: places.start, slices: VecDeque::new() };
        }
        while self.first < places.start && self.slices.pop_front().is_some() {
            self.first += 1;
        }
        for place in self.first + self.slices.len() as u64..places.end {
            self.slices.push_back(slice(who, place, moments));
        }
    }

    /// Times tick by tick, oldest first; `None` where the tick says nothing of it.
    pub fn times(&self) -> Vec<Option<PhaseTimes>> {
        self.slices.iter().copied().collect()
    }
}

fn slice(who: Who, place: u64, moments: &Moments) -> Option<PhaseTimes> {
    let part = match who {
        Who::Vm(vm) => Part::vm(vm, None),
        Who::Vcpu(key) => Part::vcpu(key, None),
    };
    let vcpus = moments.part(place, part.without_hist())?.vcpus;
    let add = |mut sum: PhaseTimes, vcpu: &VcpuTick| {
        sum.add(&vcpu.time);
        sum
    };
    (!vcpus.is_empty()).then(|| vcpus.iter().fold(PhaseTimes::default(), add))
}
