//! The rows of the screen, and their numbers.

use super::proto::Row;
use crate::export::follow::World;
use crate::model::ids::{Reason, VcpuKey, VmId};
use std::collections::BTreeMap;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Track {
    /// The host: sessions, notes, losses, and events of nobody.
    Host,
    /// Where nothing is known.
    Gaps,
    /// A VM.
    Vm(VmId),
    /// Its exits per second.
    VmRate(VmId),
    /// Its exits of one reason per second.
    ReasonRate(VmId, Reason),
    /// Its threads' single events.
    VmEvents(VmId),
    /// A vCPU: where its time went.
    Vcpu(VcpuKey),
    /// Its exits per second.
    Rate(VcpuKey),
    /// Its slow exits.
    Slow(VcpuKey),
    /// Its single events.
    Events(VcpuKey),
}

impl Track {
    /// Below which it is.
    fn parent(self) -> Option<Self> {
        match self {
            Self::Host | Self::Vm(_) => None,
            Self::Gaps => Some(Self::Host),
            Self::VmRate(vm) | Self::VmEvents(vm) | Self::ReasonRate(vm, _) => Some(Self::Vm(vm)),
            Self::Vcpu(key) => Some(Self::Vm(key.vm)),
            Self::Rate(key) | Self::Slow(key) | Self::Events(key) => Some(Self::Vcpu(key)),
        }
    }

    fn name(self, world: &World) -> String {
        match self {
            Self::Host => format!("KVM on {}", world.session.host.name),
            Self::Gaps => "no data".to_owned(),
            Self::Vm(id) => format!("{} (VM {})", world.who.name(id), id.0),
            Self::VmRate(_) | Self::Rate(_) => "exits/s".to_owned(),
            Self::ReasonRate(_, reason) => format!("{}/s", world.session.names.name(reason)),
            Self::VmEvents(_) | Self::Events(_) => "events".to_owned(),
            Self::Vcpu(key) => format!("vCPU {}", key.vcpu),
            Self::Slow(_) => "slow exits".to_owned(),
        }
    }

    fn is_counter(self) -> bool {
        matches!(self, Self::VmRate(_) | Self::ReasonRate(..) | Self::Rate(_))
    }

    /// Its place among its siblings: rates, vCPUs by number, reasons.
    fn rank(self) -> Option<i32> {
        Some(match self {
            Self::Host => -1,
            Self::VmRate(_) => -2,
            Self::VmEvents(_) => -1,
            Self::Vcpu(key) => i32::try_from(key.vcpu).unwrap_or(i32::MAX - 1).min(i32::MAX - 1),
            Self::ReasonRate(..) => i32::MAX,
            _ => return None,
        })
    }
}

/// What numbers tracks have.
#[derive(Debug, Default)]
pub struct Tracks(BTreeMap<Track, u64>);

impl Tracks {
    /// The number of a track, and what is to be told before it is used.
    pub fn number(&mut self, track: Track, world: &World) -> (u64, Vec<Row>) {
        if let Some(number) = self.0.get(&track) {
            return (*number, Vec::new());
        }
        let (parent, mut new) = match track.parent() {
            Some(parent) => {
                let (number, new) = self.number(parent, world);
                (Some(number), new)
            }
            None => (None, Vec::new()),
        };
        let number = self.0.len() as u64 + 1;
        self.0.insert(track, number);
        new.push(Row {
            track: number,
            parent,
            name: track.name(world),
            unit: track.is_counter().then_some("exits/s"),
            is_ranked: matches!(track, Track::Vm(_)),
            rank: track.rank(),
        });
        (number, new)
    }
}
