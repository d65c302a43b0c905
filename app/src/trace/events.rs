//! Single events in a few words.

use super::keys;
use crate::model::detail::KeyClass;
use crate::model::event::{Event, EventKind};
use crate::model::ids::Isa;

/// What an event was: "write, write-protected", "SEND_IPI to 3 vCPUs". `isa` says how a fault's error code
/// is to be read.
pub fn what(event: &Event, isa: Isa) -> String {
    let [a, b, c, d, ..] = event.args;
    match event.kind {
        EventKind::Fault => fault(b, isa),
        EventKind::Mmio => {
            let way = if c == 1 { "write" } else { "read" };
            format!("MMIO {way}, {b} {}, {d:#x}", if b == 1 { "byte" } else { "bytes" })
        }
        EventKind::Hypercall => match (keys::name(KeyClass::Hypercall, a), a) {
            (Some(name), 10) => {
                let vcpus = u64::from(b.count_ones() + c.count_ones());
                format!("{name} to {vcpus} {}", if vcpus == 1 { "vCPU" } else { "vCPUs" })
            }
            (Some(name), 5) => format!("{name} APIC id {c}"),
            (Some(name), 11) => format!("{name} to APIC id {b}"),
            (Some(name), 12) => format!("{name} {b:#x}, {c} pages"),
            (Some(name), _) => format!("{name}({b:#x}, {c:#x}, {d:#x})"),
            (None, _) => format!("unknown {a:#x}({b:#x}, {c:#x}, {d:#x})"),
        },
        EventKind::HvHypercall => {
            let name = keys::name(KeyClass::HvHypercall, a);
            let name = name.map_or_else(|| format!("unknown {a:#x}"), |name| name.into_owned());
            let fast = if b == 1 { ", fast" } else { "" };
            match c & 0xffff_ffff {
                0 => format!("{name}{fast}, input {:#x}", event.args[4]),
                n => format!("{name}{fast}, {n} repeats, input {:#x}", event.args[4]),
            }
        }
        EventKind::XenHypercall => {
            let name = keys::name(KeyClass::XenHypercall, a);
            let name = name.map_or_else(|| format!("unknown {a}"), |name| name.into_owned());
            format!("{name}({b:#x}, {c:#x}, {d:#x})")
        }
        EventKind::Root => {
            let nested = if c == 1 { ", of a nested guest" } else { "" };
            format!("MMU root, level {b}{nested}")
        }
        EventKind::Ioctl => {
            let name = super::ioctl::name(a as u32);
            let name = name.map_or_else(|| format!("{:#x}", a as u32), str::to_owned);
            let on = match d {
                0 => "/dev/kvm",
                1 => "the VM",
                2 => "a vCPU",
                _ => "a device",
            };
            format!("{name} on {on}: {}", result(b))
        }
        EventKind::Memslot => {
            let (slot, space) = (a & 0xffff_ffff, a >> 32);
            let space = if space > 0 { format!(" of space {space}") } else { String::new() };
            let failed = match event.args[5] as i64 {
                0 => String::new(),
                _ => format!(": {}", result(event.args[5])),
            };
            match d {
                0 => format!("slot {slot}{space} removed{failed}"),
                _ => format!("slot {slot}{space} set{failed}"),
            }
        }
    }
}

fn result(value: u64) -> String {
    match value as i64 {
        error if error < 0 => format!("failed, errno {}", error.unsigned_abs()),
        value => value.to_string(),
    }
}

/// From the EPT violation's qualification (SDM vol. 3, table 27-7) or PFERR bits.
fn fault(code: u64, isa: Isa) -> String {
    let (access, kind) = match isa {
        Isa::Svm => {
            let access = match code {
                _ if code & 1 << 4 != 0 => "fetch",
                _ if code & 1 << 1 != 0 => "write",
                _ => "read",
            };
            let kind = match code {
                _ if code & 1 << 3 != 0 => "MMIO",
                _ if code & 1 << 33 != 0 => "guest page walk",
                _ if code & 1 == 0 => "first touch",
                _ if access == "write" => "write-protected",
                _ if access == "fetch" => "not executable",
                _ => "not readable",
            };
            (access, kind)
        }
        Isa::Vmx | Isa::None => {
            let access = match code {
                _ if code & 4 != 0 => "fetch",
                _ if code & 2 != 0 => "write",
                _ => "read",
            };
            let kind = match code {
                _ if code & 1 << 7 != 0 && code & 1 << 8 == 0 => "guest page walk",
                _ if code & 0x38 == 0 => "first touch",
                _ if access == "write" => "write-protected",
                _ if access == "fetch" => "not executable",
                _ => "not readable",
            };
            (access, kind)
        }
    };
    format!("{access}, {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, args: [u64; 6]) -> Event {
        Event { kind, args, ..Event::default() }
    }

    #[test]
    fn events_read_well() {
        for (event, words) in [
            (event(EventKind::Fault, [0x1000, 0x182, 0, 0, 0, 0]), "write, first touch"),
            (event(EventKind::Fault, [0x1000, 0x18a, 0, 0, 0, 0]), "write, write-protected"),
            (event(EventKind::Mmio, [0xfed0_00f0, 4, 0, 7, 0, 0]), "MMIO read, 4 bytes, 0x7"),
            (event(EventKind::Hypercall, [10, 7, 0, 0, 0xfb, 0]), "SEND_IPI to 3 vCPUs"),
            (event(EventKind::Hypercall, [999, 1, 2, 3, 4, 0]), "unknown 0x3e7(0x1, 0x2, 0x3)"),
            (event(EventKind::Root, [0x1000, 4, 0, 0, 0, 0]), "MMU root, level 4"),
            (event(EventKind::Memslot, [3, 0, 0, 0, 0, 0]), "slot 3 removed"),
        ] {
            assert_eq!(what(&event, Isa::Vmx), words);
        }
        let write = event(EventKind::Fault, [0, 0x1_0000_0007, 0, 0, 0, 0]);
        assert_eq!(what(&write, Isa::Svm), "write, write-protected");
    }
}
