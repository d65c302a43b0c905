//! A recording as lines of JSON: an object for each tick, for each single event, and for what else happens.
//! [`SCHEMA_TEXT`] says what there is; fields are called as in the report (`docs/json.md`).

mod lines;
mod vcpus;

use super::details::SlowExit;
use super::follow::World;
use super::sections::Happened;
use super::sink::{Sink, as_life};
use super::sums;
use crate::model::ids::VcpuKey;
use crate::model::tick::{Life, Phase, Tick};
use crate::model::totals::Totals;
use crate::record::{End, Gap, Mark};
use lines::{
    Ended, Line, Note, Nothing, SessionLine, TickLine, VcpuLine, VcpuWent, VmLine, VmWent,
};
use std::io::{self, Write};

/// Version of the lines; fields may be added under one.
pub const SCHEMA: u32 = 1;

/// The JSON Schema (2020-12) of a line. Written by hand: what is promised does not change because a type does.
pub const SCHEMA_TEXT: &str = include_str!("schema.json");

/// Writes lines.
#[derive(Debug)]
pub struct Jsonl<W> {
    out: W,
}

impl<W: Write> Jsonl<W> {
    /// Into this; many small pieces, so it should be buffered.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    fn life(&mut self, world: &World, at_ns: u64, life: &Life) -> io::Result<()> {
        let session = &world.session;
        let at_unix_ns = session.unix_ns(at_ns);
        self.line(&match life {
            Life::Vm(info) => Line::Vm(VmLine::new(at_unix_ns, info)),
            Life::Vcpu(info) => {
                let name = world.who.name(info.key.vm);
                Line::Vcpu(VcpuLine::new(at_unix_ns, &name, info))
            }
            Life::VcpuGone(key, ns) => Line::VcpuGone(VcpuWent {
                at_unix_ns: session.unix_ns(*ns),
                vm: key.vm.0,
                name: world.who.name(key.vm),
                vcpu: key.vcpu,
            }),
            Life::VmGone(id, ns) => Line::VmGone(VmWent {
                at_unix_ns: session.unix_ns(*ns),
                vm: id.0,
                name: world.who.name(*id),
            }),
        })
    }
}

impl<W: Write> Sink for Jsonl<W> {
    fn session(&mut self, world: &World) -> io::Result<()> {
        self.line(&Line::Session(SessionLine::new(&world.session)))
    }

    fn known(&mut self, world: &World, at_ns: u64, totals: &Totals) -> io::Result<()> {
        as_life(totals).iter().try_for_each(|life| self.life(world, at_ns, life))
    }

    fn tick(&mut self, world: &World, tick: &Tick, silent: &[(VcpuKey, Phase)]) -> io::Result<()> {
        let begin_ns = tick.end_ns.saturating_sub(tick.dur_ns);
        tick.life.iter().try_for_each(|life| self.life(world, begin_ns, life))?;
        self.line(&Line::Tick(Box::new(TickLine::new(world, tick, silent))))?;
        let content = world.content();
        for slow in &tick.outliers {
            self.line(&Line::SlowExit(Box::new(SlowExit::new(&content, slow))))?;
        }
        let isa = sums::isa(&world.session);
        for event in &tick.events {
            self.line(&Line::Event(Box::new(Happened::new(&content, event, isa))))?;
        }
        Ok(())
    }

    fn mark(&mut self, world: &World, mark: &Mark) -> io::Result<()> {
        let at_unix_ns = world.session.unix_ns(mark.at_ns);
        self.line(&Line::Mark(Note { at_unix_ns, text: &mark.text }))
    }

    fn gap(&mut self, world: &World, gap: &Gap) -> io::Result<()> {
        let (from, until) =
            (world.session.unix_ns(gap.from_ns), world.session.unix_ns(gap.until_ns));
        self.line(&Line::Gap(Nothing { from_unix_ns: from, until_unix_ns: until, why: &gap.why }))
    }

    fn end(&mut self, _: &World, end: &End) -> io::Result<()> {
        self.line(&Line::End(Ended { clean: end.clean, why: end.why.as_deref() }))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
