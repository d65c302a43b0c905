use super::*;
use crate::model::ids::Reason;
use proptest::prelude::*;

fn event(kind: EventKind, args: [u64; 6]) -> Event {
    Event { kind, args, ..Event::default() }
}

fn words(kind: EventKind, args: [u64; 6]) -> String {
    what(&event(kind, args), Isa::Vmx)
}

const fn failed(errno: i64) -> u64 {
    (-errno).cast_unsigned()
}

#[test]
fn mmio_says_the_device() {
    let write = [0xfee0_0300, 4, 1, 0x4041, 0, 0];
    assert_eq!(words(EventKind::Mmio, write), "write 4 bytes, LAPIC ICR");
    assert_eq!(details(&event(EventKind::Mmio, write), Isa::Vmx), ["value 0x4041"]);
    assert_eq!(words(EventKind::Mmio, [0xd000_0000, 1, 0, 0, 0, 0]), "read 1 byte");
    assert_eq!(address(&event(EventKind::Mmio, write)), Some(0xfee0_0300));
}

#[test]
fn ioctls_say_their_result() {
    assert_eq!(words(EventKind::Ioctl, [0x4090_ae82, 0, 9, 2, 0, 0]), "KVM_SET_REGS");
    assert_eq!(words(EventKind::Ioctl, [0xae01, 12, 3, 0, 0, 0]), "KVM_CREATE_VM: 12");
    let run = [0xae80, failed(4), 9, 2, 0, 0];
    assert_eq!(words(EventKind::Ioctl, run), "KVM_RUN: EINTR");
    assert_eq!(
        details(&event(EventKind::Ioctl, run), Isa::Vmx),
        ["vcpu file descriptor 9", "command 0xae80"]
    );
    assert_eq!(
        words(EventKind::Ioctl, [0xaeff, failed(25), 9, 7, 0, 0]),
        "unknown ioctl 0xaeff: ENOTTY"
    );
}

#[test]
fn memory_slots_say_what_they_became() {
    let set = [1, 1, 0x10_0000, 128 << 20, 0x7f00_0000_0000, 0];
    assert_eq!(words(EventKind::Memslot, set), "slot 1: 128 MiB, LOG_DIRTY_PAGES");
    assert_eq!(
        details(&event(EventKind::Memslot, set), Isa::Svm),
        ["at 0x7f0000000000 in the VMM"]
    );
    assert_eq!(address(&event(EventKind::Memslot, set)), Some(0x10_0000));
    assert_eq!(words(EventKind::Memslot, [1, 0, 0, 0, 0, 0]), "slot 1 deleted");
    assert_eq!(
        words(EventKind::Memslot, [1 << 32 | 2, 6, 0, 4096, 0, failed(22)]),
        "slot 2 of space 1: 4 KiB, READONLY, GUEST_MEMFD: EINVAL"
    );
}

#[test]
fn roots_say_their_level() {
    assert_eq!(words(EventKind::Root, [0x1234_5000, 4, 0, 0, 0, 0]), "level 4");
    assert_eq!(words(EventKind::Root, [0x1234_5000, 5, 1, 0, 0, 0]), "level 5, of a nested guest");
}

#[test]
fn the_same_number_of_another_kind_is_another_hypercall() {
    let args = [10, 7, 0, 0, 0xfd, 0];
    assert_eq!(words(EventKind::Hypercall, args), "SEND_IPI to 3 vCPUs, vector 0xfd");
    assert_eq!(words(EventKind::XenHypercall, args), "update_descriptor");
    assert!(words(EventKind::HvHypercall, args).starts_with("unknown number 0xa, fast"));
}

#[test]
fn sizes_are_whole() {
    for (size, expected) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (513, "513 bytes"),
        (4096, "4 KiB"),
        (3 << 30, "3 GiB"),
        ((3 << 30) + 4096, "3145732 KiB"),
        (1 << 63, "8388608 TiB"),
    ] {
        assert_eq!(memory(size), expected);
    }
}

fn any_isa() -> impl Strategy<Value = Isa> {
    prop::sample::select(&[Isa::None, Isa::Vmx, Isa::Svm][..])
}

fn any_argument() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..300u64, 0xae00..0xaeffu64, Just(u64::MAX)]
}

proptest! {
    /// Whatever the kernel or a guest makes up: one short line, nothing that a terminal takes as a command.
    #[test]
    fn any_event_is_one_short_line(
        kind in prop::sample::select(EventKind::ALL.as_slice()),
        args in prop::array::uniform6(any_argument()),
        isa in any_isa(),
        reason in prop::option::of((any_isa(), any::<u32>())),
    ) {
        let reason = reason.map(|(isa, code)| Reason::exit(isa, code));
        let event = Event { kind, args, reason, ..Event::default() };
        let what = what(&event, isa);
        prop_assert!(!what.is_empty());
        for text in details(&event, isa).into_iter().chain([what]) {
            prop_assert!(text.chars().count() <= WIDTH, "{} {text:?}", text.chars().count());
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            prop_assert!(!text.ends_with(' ') && !text.ends_with(','), "{text:?}");
        }
    }
}
