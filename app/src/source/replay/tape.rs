//! What a player reads from.

use crate::model::{tick::Tick, tick::VcpuTick, totals::Totals};
use crate::record::{End, Gap, Item, Mark};
use std::sync::Arc;

/// What there is to play. All moments are ns of the recording's clock.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outline {
    /// Begin of the first tick.
    pub start_ns: u64,
    /// End of the last tick.
    pub end_ns: u64,
    /// How long ticks are on average, ns; 0 where that is not known.
    pub tick_ns: u64,
    /// Notes, by moment.
    pub marks: Arc<[Mark]>,
    /// Of what nothing is known, by moment.
    pub gaps: Arc<[Gap]>,
    /// How it ends; `None` while more arrives.
    pub end: Option<End>,
}

/// Where reading may begin.
#[derive(Clone, Debug, Default)]
pub struct Begin {
    /// When. Ticks that end later follow.
    pub at_ns: u64,
    /// Who was there then.
    pub known: Totals,
}

/// Items of a recording, in its order. An error ends them: a sentence.
pub type Items<'a> = Box<dyn Iterator<Item = Result<Item, String>> + 'a>;

/// A recording, as a player sees it.
pub trait Tape {
    /// What there is.
    fn outline(&self) -> Outline;

    /// The last place at or before a moment where reading may begin; the first one where there is none.
    ///
    /// # Errors
    /// A sentence: the file is gone, say.
    fn begin(&mut self, at_ns: u64) -> Result<Begin, String>;

    /// What comes after a moment: ticks by their end. Ends with [`Item::End`] unless more may come. Ticks that end
    /// until `brief_until_ns` need not have what is counted.
    fn items(&mut self, after_ns: u64, brief_until_ns: u64) -> Items<'_>;
}

/// Who is there, and what was lost so far.
pub fn there(totals: &Totals) -> Totals {
    let mut there = totals.who_is_there();
    there.lost = totals.lost;
    there.lost_ticks = totals.lost_ticks;
    there.ticks = totals.ticks;
    there
}

/// What is known of everybody after one more tick, without anything that adds up but losses.
pub fn follow(known: &mut Totals, tick: &Tick) {
    known.apply(&brief(tick));
    *known = there(known);
}

/// A tick with who is there and what they do, and without what is counted.
pub fn brief(tick: &Tick) -> Tick {
    let vcpu = |vcpu: &VcpuTick| VcpuTick {
        key: vcpu.key,
        cpu: vcpu.cpu,
        phase: vcpu.phase,
        since_ns: vcpu.since_ns,
        open: vcpu.open,
        ..VcpuTick::default()
    };
    Tick {
        seq: tick.seq,
        end_ns: tick.end_ns,
        dur_ns: tick.dur_ns,
        lost: tick.lost,
        life: tick.life.clone(),
        vcpus: tick.vcpus.iter().map(vcpu).collect(),
        ..Tick::default()
    }
}
