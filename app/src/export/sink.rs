//! From a recording, thing by thing, to something that writes another format.

use super::follow::World;
use crate::model::session::Session;
use crate::model::tick::{Phase, Tick};
use crate::model::totals::Totals;
use crate::model::{ids::VcpuKey, tick::Life};
use crate::record::{End, Gap, Item, Mark};
use std::io;

/// Something that writes what a recording has in it, in another format.
pub trait Sink {
    /// First, and again when something in it changed.
    fn session(&mut self, world: &World) -> io::Result<()>;
    /// Who is there where it begins, and after a gap. The sums are not told of.
    fn known(&mut self, world: &World, at_ns: u64, totals: &Totals) -> io::Result<()>;
    /// An interval; with it the living vCPUs that it does not mention, and what each did all the while.
    fn tick(&mut self, world: &World, tick: &Tick, silent: &[(VcpuKey, Phase)]) -> io::Result<()>;
    /// A note; a format of numbers alone leaves it out.
    fn mark(&mut self, _: &World, _: &Mark) -> io::Result<()> {
        Ok(())
    }
    /// Nothing is known of a while; a format of rows and sums has neither of it.
    fn gap(&mut self, _: &World, _: &Gap) -> io::Result<()> {
        Ok(())
    }
    /// Last.
    fn end(&mut self, world: &World, end: &End) -> io::Result<()>;
}

/// Goes through a recording and hands each thing to a sink.
pub struct Through<'a> {
    sink: &'a mut dyn Sink,
    world: World,
    only: Option<String>,
}

impl<'a> Through<'a> {
    /// Nothing yet; of the VMs of one name alone, where one is given.
    pub fn new(sink: &'a mut dyn Sink, only: Option<String>) -> Self {
        Self { sink, world: World::new(Session::default()), only }
    }

    /// One thing, in the order of the recording.
    pub fn item(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Session(session) => {
                self.world.session = *session;
                self.sink.session(&self.world)
            }
            Item::Key(key) => {
                let mut totals = key.totals;
                if let Some(name) = &self.only {
                    totals.vms.retain(|_, vm| vm.info.name == *name);
                }
                self.world.who.known(&totals);
                self.sink.known(&self.world, key.at_ns, &totals)
            }
            Item::Tick(mut tick) => {
                if let Some(name) = &self.only {
                    self.world.who.only(name, &mut tick);
                }
                let silent = self.world.who.begin(&tick);
                self.sink.tick(&self.world, &tick, &silent)?;
                self.world.who.end(&tick);
                Ok(())
            }
            Item::Mark(mark) => self.sink.mark(&self.world, &mark),
            Item::Gap(gap) => self.sink.gap(&self.world, &gap),
            Item::End(end) => self.sink.end(&self.world, &end),
        }
    }
}

/// Who is there, told as if they had just come.
pub fn as_life(totals: &Totals) -> Vec<Life> {
    let mut life = Vec::new();
    for vm in totals.vms.values().filter(|vm| vm.ended_ns.is_none()) {
        life.push(Life::Vm(vm.info.clone()));
        let living = vm.vcpus.values().filter(|vcpu| vcpu.ended_ns.is_none());
        life.extend(living.map(|vcpu| Life::Vcpu(vcpu.info)));
    }
    life
}
