//! Single events in words.
//!
//! [`what`] is a few words for a list; [`details`] are the decoded arguments, one by one. Where an event is
//! about a place, that is [`address`] and not in [`what`], because lists have a column for it.

mod fault;
mod hypercall;
mod irq;

pub use fault::kind as fault_kind;
pub use hypercall::{is_unknown, name as hypercall_name};

use super::{ioctl, keys};
use crate::model::detail::KeyClass;
use crate::model::event::{Event, EventKind};
use crate::model::ids::Isa;

/// In a few words: "write, write-protected", "SEND_IPI to 3 vCPUs". One line of at most [`WIDTH`] columns.
/// `isa` is the host's, for events that happened in no exit.
pub fn what(event: &Event, isa: Isa) -> String {
    let text = match event.kind {
        EventKind::Fault => fault::what(event, isa),
        EventKind::Mmio => mmio(event),
        EventKind::Hypercall => hypercall::kvm(&event.args),
        EventKind::HvHypercall => hypercall::hyperv(&event.args),
        EventKind::XenHypercall => hypercall::xen(&event.args),
        EventKind::Root => root(event),
        EventKind::Ioctl => call(event),
        EventKind::Memslot => memslot(event),
        EventKind::Injection
        | EventKind::Exception
        | EventKind::Route
        | EventKind::Wakeup
        | EventKind::Timer
        | EventKind::HaltPoll => irq::what(event),
    };
    // Only numbers that no kernel hands out are that long.
    if text.chars().count() > WIDTH {
        text.chars().take(WIDTH - 1).chain(['…']).collect()
    } else {
        text
    }
}

/// The most columns of [`what`], and of each of [`details`].
pub const WIDTH: usize = 80;

/// What there is to say beyond [`what`]: short phrases, the most telling first. May be empty.
pub fn details(event: &Event, isa: Isa) -> Vec<String> {
    match event.kind {
        EventKind::Fault => fault::details(event, isa),
        EventKind::Mmio => vec![format!("value {:#x}", event.args[3])],
        EventKind::Hypercall => hypercall::kvm_details(&event.args),
        EventKind::HvHypercall => hypercall::hyperv_details(&event.args),
        EventKind::XenHypercall => vec![hypercall::arguments(&event.args[1..])],
        EventKind::Root => Vec::new(),
        EventKind::Ioctl => {
            let [command, _, fd, scope, ..] = event.args;
            let scope = ioctl::Scope::from_record(scope)
                .map(|scope| format!("{} file descriptor {fd}", scope.word()));
            scope.into_iter().chain([format!("command {:#x}", command as u32)]).collect()
        }
        EventKind::Injection
        | EventKind::Exception
        | EventKind::Route
        | EventKind::Wakeup
        | EventKind::Timer
        | EventKind::HaltPoll => irq::details(event),
        EventKind::Memslot => {
            let slot = ioctl::Memslot::from_args(&event.args);
            vec![format!("at {:#x} in the VMM", slot.hva)]
        }
    }
}

/// The guest address that it is about: of a fault, an MMIO access, a memory slot, an MMU root (whose
/// address is the host's). A fault of shadow paging has a linear address.
pub fn address(event: &Event) -> Option<u64> {
    match event.kind {
        EventKind::Fault | EventKind::Mmio | EventKind::Root => Some(event.args[0]),
        EventKind::Memslot => Some(event.args[2]),
        _ => None,
    }
}

/// "write 4 bytes, LAPIC ICR".
fn mmio(event: &Event) -> String {
    let [address, size, is_write, ..] = event.args;
    let (class, verb) = match is_write {
        0 => (KeyClass::MmioRead, "read"),
        _ => (KeyClass::MmioWrite, "write"),
    };
    let name = keys::name(class, address).map(|name| format!(", {name}")).unwrap_or_default();
    format!("{verb} {}{name}", bytes(size))
}

fn bytes(n: u64) -> String {
    if n == 1 { "1 byte".to_owned() } else { format!("{n} bytes") }
}

/// "level 4".
fn root(event: &Event) -> String {
    let [_, level, is_nested, ..] = event.args;
    let nested = if is_nested == 0 { "" } else { ", of a nested guest" };
    format!("level {level}{nested}")
}

/// "KVM_SET_REGS", "KVM_CREATE_VM: 12", "KVM_RUN: EINTR".
fn call(event: &Event) -> String {
    let [command, result, ..] = event.args;
    let name = ioctl::label(command as u32);
    match ioctl::result(result) {
        None => name.into_owned(),
        Some(result) => format!("{name}: {result}"),
    }
}

/// "slot 3: 128 MiB, LOG_DIRTY_PAGES", "slot 3 deleted".
fn memslot(event: &Event) -> String {
    let slot = ioctl::Memslot::from_args(&event.args);
    let mut text = slot.label();
    if slot.is_deleted() {
        text.push_str(" deleted");
    } else {
        text.push_str(": ");
        text.push_str(&memory(slot.size));
    }
    for word in slot.flag_words() {
        text.push_str(", ");
        text.push_str(&word);
    }
    if let Some(error) = ioctl::result(slot.result) {
        text.push_str(": ");
        text.push_str(&error);
    }
    text
}

/// A size in the largest unit that keeps it whole: "128 MiB", "4 KiB", "513 bytes".
pub fn memory(size: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if size != 0 && size.trailing_zeros() >= shift {
            return format!("{} {unit}", size >> shift);
        }
    }
    bytes(size)
}

#[cfg(test)]
mod tests;
