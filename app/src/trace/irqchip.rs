//! Interrupts on their way, decoded: messages, redirection entries of an I/O APIC, pins of an 8259, lines,
//! the ICR of a local APIC, and deliveries.
//!
//! Intel SDM vol. 3 chapter 11 (11.6.1 ICR, 11.11 messages), the 82093AA's datasheet (redirection table),
//! and for x2APIC destinations in a message KVM's `x86_msi_msg_get_destid`. Pure: any number decodes to
//! something.

use super::keys;
use crate::model::meters::Chip;
use kvmscope_shared::route;

/// How a local APIC takes an interrupt (bits 10:8 of all these registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// By its vector.
    Fixed,
    /// By its vector, at the processor with the lowest priority.
    Lowest,
    /// System management interrupt.
    Smi,
    /// A reserved number.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up (SIPI); the vector is a page number.
    Startup,
    /// As from an 8259, which tells the vector.
    ExtInt,
}

impl Mode {
    /// From bits 2:0.
    pub fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::Lowest,
            2 => Self::Smi,
            3 => Self::Reserved,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            _ => Self::ExtInt,
        }
    }

    /// Its name, everywhere in the program.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Lowest => "lowest",
            Self::Smi => "SMI",
            Self::Reserved => "reserved",
            Self::Nmi => "NMI",
            Self::Init => "INIT",
            Self::Startup => "startup",
            Self::ExtInt => "ExtINT",
        }
    }

    /// Whether the vector is one of an interrupt.
    pub fn has_vector(self) -> bool {
        matches!(self, Self::Fixed | Self::Lowest)
    }
}

/// Whom an inter-processor interrupt is for, where not for its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shorthand {
    /// For its destination.
    None,
    /// For the sender.
    Itself,
    /// For everyone.
    All,
    /// For everyone but the sender.
    Others,
}

impl Shorthand {
    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Itself => "self",
            Self::All => "all",
            Self::Others => "others",
        }
    }
}

/// A message, or a redirection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// APIC id, or logical destination.
    pub destination: u32,
    /// Vector.
    pub vector: u8,
    /// Delivery mode.
    pub mode: Mode,
    /// Whether the destination is logical.
    pub logical: bool,
    /// Level-triggered.
    pub level: bool,
    /// Masked; a message never is.
    pub masked: bool,
}

/// A message by its address and data.
pub fn msi(address: u64, data: u64) -> Sent {
    Sent {
        // The high bits of an x2APIC's id are in the high half of the address.
        destination: (address >> 12) as u32 & 0xff | (address >> 32) as u32 & 0xffff_ff00,
        vector: data as u8,
        mode: Mode::from_bits(data >> 8),
        logical: address & 1 << 2 != 0,
        level: data & 1 << 15 != 0,
        masked: false,
    }
}

/// A redirection entry of an I/O APIC.
pub fn ioapic(entry: u64) -> Sent {
    Sent {
        destination: (entry >> 56) as u32,
        vector: entry as u8,
        mode: Mode::from_bits(entry >> 8),
        logical: entry & 1 << 11 != 0,
        level: entry & 1 << 15 != 0,
        masked: entry & 1 << 16 != 0,
    }
}

/// An inter-processor interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipi {
    /// Low half of the ICR.
    pub icr: u32,
    /// Destination; meaningless with a shorthand.
    pub destination: u32,
    /// Whom it is for.
    pub shorthand: Shorthand,
    /// Vector; the page of a start-up.
    pub vector: u8,
    /// Delivery mode.
    pub mode: Mode,
    /// Whether the destination is logical.
    pub logical: bool,
    /// Level-triggered.
    pub level: bool,
    /// Asserted; only INIT is ever de-asserted.
    pub assert: bool,
}

/// The key of an inter-processor interrupt: low half of the ICR, destination in the high half.
pub fn ipi(key: u64) -> Ipi {
    let icr = key as u32;
    Ipi {
        icr,
        destination: (key >> 32) as u32,
        shorthand: match icr >> 18 & 3 {
            0 => Shorthand::None,
            1 => Shorthand::Itself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        },
        vector: icr as u8,
        mode: Mode::from_bits(u64::from(icr) >> 8),
        logical: icr & 1 << 11 != 0,
        level: icr & 1 << 15 != 0,
        assert: icr & 1 << 14 != 0,
    }
}

impl Ipi {
    /// What is sent: "0xfd Linux: reschedule", "NMI", "INIT", "startup at 0x9a000".
    pub fn what(&self) -> String {
        match self.mode {
            Mode::Fixed | Mode::Lowest => keys::vector_text(self.vector),
            Mode::Startup => format!("startup at {:#x}", u32::from(self.vector) << 12),
            Mode::Init if self.level && !self.assert => "INIT de-assert".to_owned(),
            mode => mode.word().to_owned(),
        }
    }

    /// To whom: "APIC 3", "logical 0x3", "itself", "all", "all others".
    pub fn to(&self) -> String {
        match self.shorthand {
            Shorthand::None => destination(self.destination, self.logical),
            Shorthand::Itself => "itself".to_owned(),
            Shorthand::All => "all".to_owned(),
            Shorthand::Others => "all others".to_owned(),
        }
    }
}

/// "APIC 3", "logical 0x3".
pub fn destination(id: u32, logical: bool) -> String {
    if logical { format!("logical {id:#x}") } else { format!("APIC {id}") }
}

/// A delivery to a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Accepted {
    /// Number of the vCPU.
    pub vcpu: u32,
    /// Vector.
    pub vector: u8,
    /// Delivery mode.
    pub mode: Mode,
    /// Level-triggered.
    pub level: bool,
    /// Delivered by the hardware: a posted interrupt, AVIC.
    pub posted: bool,
}

/// From the number of [`route::accepted`].
pub fn accepted(key: u64) -> Accepted {
    Accepted {
        vcpu: key as u32,
        vector: (key >> 32) as u8,
        mode: Mode::from_bits(key >> 40),
        level: key & 1 << 48 != 0,
        posted: key & 1 << 56 != 0,
    }
}

impl Accepted {
    /// Back to its number.
    pub fn key(&self) -> u64 {
        let mode = Mode::from_bits;
        let bits = (0..8u16).find(|&bits| mode(bits.into()) == self.mode).unwrap_or(0);
        route::accepted(self.vcpu, self.vector, bits, self.level, self.posted)
    }
}

/// What goes through a chip, decoded. What a chip does not have is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Route {
    /// Through what: "pin 4", "GSI 24", "0xfee01004", "vCPU 3".
    pub through: String,
    /// Vector.
    pub vector: Option<u8>,
    /// Delivery mode.
    pub mode: Option<Mode>,
    /// To whom.
    pub to: Option<String>,
    /// Level-triggered.
    pub level: Option<bool>,
    /// Masked at the chip.
    pub masked: bool,
    /// Put by the hardware.
    pub posted: bool,
    /// Raised or lowered: of a line.
    pub raised: Option<bool>,
}

/// The numbers of a route, as they stand with [`route::chip`].
pub fn route(chip: Chip, a: u64, b: u64) -> Route {
    let sent = |sent: Sent| Route {
        vector: Some(sent.vector).filter(|_| sent.mode.has_vector()),
        mode: Some(sent.mode),
        to: Some(destination(sent.destination, sent.logical)),
        level: Some(sent.level),
        masked: sent.masked,
        ..Route::default()
    };
    match chip {
        Chip::Pic => Route {
            through: format!("pin {a}"),
            level: Some(b & 1 != 0),
            masked: b & 2 != 0,
            ..Route::default()
        },
        Chip::Ioapic => Route { through: format!("pin {a}"), ..sent(ioapic(b)) },
        Chip::Msi => Route { through: format!("{a:#x} {b:#x}"), ..sent(msi(a, b)) },
        Chip::Line => {
            Route { through: format!("GSI {a}"), raised: Some(b & 1 != 0), ..Route::default() }
        }
        Chip::Lapic => {
            let accepted = accepted(a);
            Route {
                through: "delivery".to_owned(),
                vector: Some(accepted.vector).filter(|_| accepted.mode.has_vector()),
                mode: Some(accepted.mode),
                to: Some(format!("vCPU {}", accepted.vcpu)),
                level: Some(accepted.level),
                posted: accepted.posted,
                ..Route::default()
            }
        }
    }
}

/// A chip as people call it.
pub fn chip(chip: Chip) -> &'static str {
    match chip {
        Chip::Pic => "PIC",
        Chip::Ioapic => "IOAPIC",
        Chip::Msi => "MSI",
        Chip::Line => "line",
        Chip::Lapic => "LAPIC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_decoded() {
        let sent = msi(0xfee0_300c, 0x8141);
        assert_eq!((sent.destination, sent.vector, sent.mode), (3, 0x41, Mode::Lowest));
        assert!(sent.logical && sent.level && !sent.masked);
        let edge = msi(0xfee0_1000, 0x31);
        assert_eq!((edge.destination, edge.vector, edge.mode), (1, 0x31, Mode::Fixed));
        assert!(!edge.logical && !edge.level);
        // The 24 high bits of an x2APIC's id.
        assert_eq!(msi(0x0000_0100_fee0_2000, 0x31).destination, 0x102);
    }

    #[test]
    fn a_redirection_entry_is_decoded() {
        let entry = ioapic(0x0300_0000_0001_8931);
        assert_eq!((entry.destination, entry.vector, entry.mode), (3, 0x31, Mode::Lowest));
        assert!(entry.logical && entry.level && entry.masked);
        assert_eq!(ioapic(0x0000_0000_0000_0700).mode, Mode::ExtInt);
    }

    #[test]
    fn ipis_say_what_and_to_whom() {
        let text = |key| (ipi(key).what(), ipi(key).to());
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(text(3 << 32 | 0x40fd), owned("0xfd Linux: reschedule", "APIC 3"));
        assert_eq!(text(3 << 32 | 0x48_41), owned("0x41", "logical 0x3"));
        assert_eq!(text(0xc_4400), owned("NMI", "all others"));
        assert_eq!(text(1 << 32 | 0xc500), owned("INIT", "APIC 1"));
        assert_eq!(text(1 << 32 | 0x8500), owned("INIT de-assert", "APIC 1"));
        assert_eq!(text(1 << 32 | 0x469a), owned("startup at 0x9a000", "APIC 1"));
        assert_eq!(ipi(0x4_40f6).shorthand, Shorthand::Itself);
        assert_eq!(ipi(0x8_40f6).to(), "all");
    }

    #[test]
    fn pins_and_lines_are_decoded() {
        let pic = route(Chip::Pic, 12, 3);
        assert_eq!((pic.through.as_str(), pic.level, pic.masked), ("pin 12", Some(true), true));
        assert_eq!((pic.vector, pic.to), (None, None));
        let line = route(Chip::Line, 24, 1);
        assert_eq!((line.through.as_str(), line.raised), ("GSI 24", Some(true)));
        let nmi = route(Chip::Msi, 0xfee0_1000, 0x400);
        assert_eq!((nmi.vector, nmi.mode), (None, Some(Mode::Nmi)));
    }

    proptest! {
        /// Hostile numbers are something, too.
        #[test]
        fn any_number_decodes(at in 0..Chip::ALL.len(), a in any::<u64>(), b in any::<u64>()) {
            let route = route(Chip::ALL[at], a, b);
            prop_assert!(!route.through.is_empty());
            prop_assert!(!ipi(a).what().is_empty() && !ipi(a).to().is_empty());
        }

        #[test]
        fn a_delivery_comes_back(
            vcpu in any::<u32>(), vector in any::<u8>(), mode in 0u16..8, level in any::<bool>(),
            posted in any::<bool>(),
        ) {
            let key = route::accepted(vcpu, vector, mode, level, posted);
            let accepted = accepted(key);
            prop_assert_eq!((accepted.vcpu, accepted.vector), (vcpu, vector));
            prop_assert_eq!((accepted.level, accepted.posted), (level, posted));
            prop_assert_eq!(accepted.key(), key);
        }
    }
}
