//! Interrupts, timers and wake-ups in words.

use crate::model::event::{Event, EventKind};
use crate::model::meters::{Chip, Sender};
use crate::state::value::duration;
use crate::trace::{irqchip, keys};
use kvmscope_shared::meters::timer;

/// "0xec Linux: local timer", "#PF page fault, error code 0x6", "MSI 0x41 to APIC 3, fixed, edge".
pub fn what(event: &Event) -> String {
    let [first, second, third, fourth, ..] = event.args;
    let mut text = match event.kind {
        EventKind::Injection => vector(first),
        EventKind::Exception => {
            let name = u8::try_from(first).ok().and_then(|v| keys::exception(v.into()));
            let name = name.map_or_else(|| format!("exception {first:#x}"), |name| name.into());
            let error =
                if second == 0 { String::new() } else { format!(", error code {third:#x}") };
            format!("{name}{error}")
        }
        EventKind::Route => route(event),
        EventKind::Wakeup => wakeup(second != 0, third != 0, first),
        EventKind::Timer => timer_words(first, second),
        _ => window(first, second),
    };
    let (soft, again) = match event.kind {
        EventKind::Injection => (second != 0, third != 0),
        EventKind::Exception => (false, fourth != 0),
        _ => (false, false),
    };
    if soft {
        text.push_str(", software");
    }
    if again {
        text.push_str(", reinjected");
    }
    text
}

/// What a list has no room for.
pub fn details(event: &Event) -> Vec<String> {
    match event.kind {
        EventKind::Route => vec![format!("{:#x} {:#x}", event.args[1], event.args[2])],
        _ => Vec::new(),
    }
}

/// A vector that KVM was told; more than eight bits are no vector.
fn vector(vector: u64) -> String {
    match u8::try_from(vector) {
        Ok(vector) => keys::vector_text(vector),
        Err(_) => format!("{vector:#x}, no vector"),
    }
}

/// Who sent it: "by a vCPU".
pub fn sender(sender: u64) -> &'static str {
    match sender {
        n if n == Sender::Vcpu as u64 => "a vCPU",
        n if n == Sender::Kernel as u64 => "a kernel thread",
        n if n == Sender::Interrupt as u64 => "an interrupt of the host",
        _ => "a thread",
    }
}

/// "MSI 0x41 to APIC 3, fixed, edge", "line GSI 4 raised", "PIC pin 4, edge, masked".
fn route(event: &Event) -> String {
    let [chip, a, b, coalesced, ..] = event.args;
    let Some(chip) = u32::try_from(chip).ok().and_then(Chip::from_record) else {
        return format!("chip {chip} {a:#x} {b:#x}");
    };
    let route = irqchip::route(chip, a, b);
    let mut text = irqchip::chip(chip).to_owned();
    if !matches!(chip, Chip::Msi | Chip::Lapic) {
        text.push(' ');
        text.push_str(&route.through);
    }
    let mut words: Vec<String> = Vec::new();
    match (route.vector, &route.to) {
        (Some(vector), Some(to)) => words.push(format!(" {vector:#x} to {to}")),
        (None, Some(to)) => words.push(format!(" to {to}")),
        _ => {}
    }
    words.extend(route.raised.map(|up| if up { " raised" } else { " lowered" }.to_owned()));
    words.extend(route.mode.map(|mode| format!(", {}", mode.word())));
    words.extend(route.level.map(|level| if level { ", level" } else { ", edge" }.to_owned()));
    for (is, word) in
        [(route.masked, ", masked"), (route.posted, ", posted"), (coalesced != 0, ", coalesced")]
    {
        if is {
            words.push(word.to_owned());
        }
    }
    words.push(format!(", by {}", sender(event.args[4])));
    text + &words.concat()
}

/// "woke while polling, 12µs", "woke from sleep, nothing to do, 3.1ms".
fn wakeup(slept: bool, valid: bool, ns: u64) -> String {
    let how = if slept { "woke from sleep" } else { "woke while polling" };
    let nothing = if valid { "" } else { ", nothing to do" };
    format!("{how}{nothing}, after {}", duration(ns))
}

/// "halt polling grew to 20µs", from 10.
fn window(before: u64, now: u64) -> String {
    let way = match now.cmp(&before) {
        std::cmp::Ordering::Less => "shrank",
        std::cmp::Ordering::Equal => "stayed",
        std::cmp::Ordering::Greater => "grew",
    };
    format!("halt polling {way} from {} to {}", duration(before), duration(now))
}

/// "timer: deadline at TSC 0x1234".
fn timer_words(what: u64, value: u64) -> String {
    let what = usize::try_from(what).unwrap_or(usize::MAX);
    match what {
        timer::HARDWARE => "timer: the hardware's took over".to_owned(),
        timer::SOFTWARE => "timer: the kernel's took over".to_owned(),
        timer::DEADLINE => format!("timer: deadline at TSC {value:#x}"),
        timer::DISARMED => "timer: disarmed".to_owned(),
        timer::ONE_SHOT => format!("timer: one-shot, count {value}"),
        timer::PERIODIC => format!("timer: periodic, count {value}"),
        timer::EXPIRED => "timer: expired".to_owned(),
        _ => format!("timer: {what} {value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(kind: EventKind, args: [u64; 6]) -> String {
        what(&Event { kind, args, ..Event::default() })
    }

    #[test]
    fn injections_and_exceptions() {
        let injection = |args| said(EventKind::Injection, args);
        assert_eq!(injection([0xec, 0, 0, 0, 0, 0]), "0xec Linux: local timer");
        assert_eq!(injection([0x41, 0, 1, 0, 0, 0]), "0x41, reinjected");
        assert_eq!(injection([0x80, 1, 0, 0, 0, 0]), "0x80, software");
        assert_eq!(injection([0x1_0000_0041, 0, 0, 0, 0, 0]), "0x100000041, no vector");
        let exception = |args| said(EventKind::Exception, args);
        assert_eq!(exception([14, 1, 6, 1, 0, 0]), "#PF page fault, error code 0x6, reinjected");
        assert_eq!(exception([6, 0, 0, 0, 0, 0]), "#UD invalid opcode");
        assert_eq!(exception([u64::MAX, 0, 0, 0, 0, 0]), "exception 0xffffffffffffffff");
    }

    #[test]
    fn routes() {
        let route = |args| said(EventKind::Route, args);
        assert_eq!(
            route([2, 0xfee0_3000, 0x41, 0, 2, 0]),
            "MSI 0x41 to APIC 3, fixed, edge, by a kernel thread"
        );
        assert_eq!(
            route([1, 4, 0x1_8031, 1, 0, 0]),
            "IOAPIC pin 4 0x31 to APIC 0, fixed, level, masked, coalesced, by a thread"
        );
        assert_eq!(route([0, 4, 0, 0, 1, 0]), "PIC pin 4, edge, by a vCPU");
        assert_eq!(route([3, 24, 1, 0, 3, 0]), "line GSI 24 raised, by an interrupt of the host");
        assert_eq!(route([99, 1, 2, 0, 0, 0]), "chip 99 0x1 0x2");
    }

    #[test]
    fn wakeups_windows_and_timers() {
        assert_eq!(
            said(EventKind::Wakeup, [12_000, 0, 1, 0, 0, 0]),
            "woke while polling, after 12µs"
        );
        assert_eq!(
            said(EventKind::Wakeup, [3_100_000, 1, 0, 0, 0, 0]),
            "woke from sleep, nothing to do, after 3.1ms"
        );
        assert_eq!(
            said(EventKind::HaltPoll, [10_000, 20_000, 0, 0, 0, 0]),
            "halt polling grew from 10µs to 20µs"
        );
        assert_eq!(
            said(EventKind::Timer, [2, 0x1234, 0, 0, 0, 0]),
            "timer: deadline at TSC 0x1234"
        );
        assert_eq!(said(EventKind::Timer, [5, 1000, 0, 0, 0, 0]), "timer: periodic, count 1000");
    }

    proptest! {
        #[test]
        fn any_arguments_are_said(kind in 8usize..14, args in any::<[u64; 6]>()) {
            prop_assert!(!said(EventKind::ALL[kind], args).is_empty());
        }
    }
}
