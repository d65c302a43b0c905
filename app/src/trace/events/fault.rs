//! Page faults in words.
//!
//! What `kvm_page_fault` records is the exit qualification of an EPT violation on VMX (SDM vol. 3
//! table 27-7), and a page fault's error code everywhere else (`PFERR_*` of
//! arch/x86/include/asm/kvm_host.h): nested page faults of SVM, and page faults of guests without either
//! (shadow paging), which on VMX too are exits for an exception. Kernels before 6.1 record 32 bits, so
//! that SVM's page walks look like other faults there.

use crate::model::detail::KeyClass;
use crate::model::event::Event;
use crate::model::ids::{Isa, Kind, Reason};
use crate::trace::{keys, qualification};
use kvmscope_shared::detail::fault;
use kvmscope_shared::fault as classify;

/// VMX's EPT violation.
const EPT_VIOLATION: u32 = 48;
/// SVM's nested page fault.
const NPF: u32 = 0x400;

/// While the processor walked the guest's page tables: "linear" without "translated" on VMX, and a bit of
/// its own in an error code.
const WALK: [u64; 2] = [1 << 7, 1 << 33];

/// Whether the error is an EPT qualification. `isa` is the host's.
fn is_ept(reason: Option<Reason>, isa: Isa) -> bool {
    match reason.filter(|reason| reason.kind == Kind::Exit && reason.isa != Isa::None) {
        Some(reason) => classify::is_qualification(reason.isa as u32, Some(reason.code)),
        None => classify::is_qualification(isa as u32, None),
    }
}

/// The kind of a fault, a number of [`fault`], from what was recorded: as the probes count it. `reason` is
/// the exit it happened in, `isa` the host's.
pub fn kind(error: u64, reason: Option<Reason>, isa: Isa) -> u64 {
    of(error, is_ept(reason, isa))
}

fn of(error: u64, is_ept: bool) -> u64 {
    if is_ept { classify::of_qualification(error) } else { classify::of_error_code(error) }
}

/// What was tried: bit 1 is a write in both; a fetch is bit 2 of a qualification and bit 4 of an error code.
fn verb(error: u64, is_ept: bool) -> &'static str {
    let fetch = if is_ept { 1 << 2 } else { 1 << 4 };
    match (error & 1 << 1 != 0, error & fetch != 0) {
        (true, _) => "write",
        (_, true) => "fetch",
        _ => "read",
    }
}

/// "write, write-protected"; "read, guest page walk, first touch".
pub(super) fn what(event: &Event, isa: Isa) -> String {
    let error = event.args[1];
    let is_ept = is_ept(event.reason, isa);
    let mut words = vec![verb(error, is_ept).to_owned()];
    let mut kind = of(error, is_ept);
    if kind == fault::WALK {
        words.push(name(kind));
        // And what was wrong with the page that the guest's tables are in.
        let [vmx, other] = WALK;
        kind = of(error & !(if is_ept { vmx } else { other }), is_ept);
    }
    // A qualification tells what the page permits: this was permitted, so somebody was faster.
    let is_spurious = is_ept && kind == fault::OTHER;
    words.push(if is_spurious { "spurious".to_owned() } else { name(kind) });
    words.join(", ")
}

fn name(kind: u64) -> String {
    keys::name(KeyClass::Fault, kind)
        .map_or_else(|| format!("kind {kind}"), |name| name.into_owned())
}

/// All that the error says.
pub(super) fn details(event: &Event, isa: Isa) -> Vec<String> {
    let [address, error, ..] = event.args;
    let reason = match is_ept(event.reason, isa) {
        true => Reason::exit(Isa::Vmx, EPT_VIOLATION),
        false => Reason::exit(Isa::Svm, NPF),
    };
    let mut words = qualification::words(reason, error, address);
    // The address has a place of its own.
    words.retain(|word| !word.starts_with("guest address"));
    words.push(format!("error {error:#x}"));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EventKind;

    fn fault(reason: Reason, error: u64) -> Event {
        let args = [0x1000, error, 0, 0, 0, 0];
        Event { kind: EventKind::Fault, reason: Some(reason), args, ..Event::default() }
    }

    /// Recorded by `kvm_page_fault` of Linux 6.12 on VMX, and by hand from SDM table 27-7.
    #[test]
    fn ept_violations() {
        let ept = |error| what(&fault(Reason::exit(Isa::Vmx, 48), error), Isa::Vmx);
        assert_eq!(ept(0x784), "fetch, first touch");
        assert_eq!(ept(0x781), "read, first touch");
        assert_eq!(ept(0x782), "write, first touch");
        assert_eq!(ept(0x1aa), "write, write-protected");
        assert_eq!(ept(0x19c), "fetch, not executable");
        assert_eq!(ept(0x1a1), "read, not readable");
        assert_eq!(ept(0x081), "read, guest page walk, first touch");
        assert_eq!(ept(0x0aa), "write, guest page walk, write-protected");
        assert_eq!(ept(0x0bb), "write, guest page walk, spurious");
        assert_eq!(ept(0x1bb), "write, spurious");
    }

    /// `PFERR_*`: bits 32 and 33 are the final address and the page walk.
    #[test]
    fn nested_page_faults() {
        let npf = |error| what(&fault(Reason::exit(Isa::Svm, 0x400), error), Isa::Svm);
        assert_eq!(npf(0x1_0000_0004), "read, first touch");
        assert_eq!(npf(0x1_0000_0006), "write, first touch");
        assert_eq!(npf(0x1_0000_0014), "fetch, first touch");
        assert_eq!(npf(0x1_0000_0007), "write, write-protected");
        assert_eq!(npf(0x1_0000_0015), "fetch, not executable");
        assert_eq!(npf(0x1_0000_000d), "read, MMIO");
        assert_eq!(npf(0x2_0000_0006), "write, guest page walk, first touch");
        assert_eq!(npf(0x2_0000_0007), "write, guest page walk, write-protected");
        assert_eq!(npf(0x1_8000_0007), "write, other");
    }

    /// Without EPT a page fault is an exception, and what is recorded its error code.
    #[test]
    fn shadow_paging_on_vmx_has_error_codes() {
        let error = 0x7;
        let exception = Reason::exit(Isa::Vmx, 0);
        assert_eq!(what(&fault(exception, error), Isa::Vmx), "write, write-protected");
        assert_eq!(kind(error, Some(Reason::exit(Isa::Vmx, 48)), Isa::Vmx), fault::ABSENT);
        let unknown = Event { reason: None, ..fault(exception, error) };
        assert_eq!(what(&unknown, Isa::None), "write, write-protected");
        assert_eq!(what(&unknown, Isa::Svm), "write, write-protected");
        assert_eq!(kind(0x182, None, Isa::Vmx), fault::ABSENT);
    }

    #[test]
    fn details_say_all_of_it_but_the_address() {
        assert_eq!(
            details(&fault(Reason::exit(Isa::Vmx, 48), 0x1aa), Isa::Vmx),
            ["write", "page permits read, fetch", "guest's final address", "error 0x1aa"]
        );
        assert_eq!(
            details(&fault(Reason::exit(Isa::Svm, 0x400), 0x1_0000_0006), Isa::Svm),
            [
                "write",
                "page not mapped",
                "user access",
                "guest's final address",
                "error 0x100000006"
            ]
        );
    }
}
