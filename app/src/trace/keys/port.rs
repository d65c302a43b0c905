//! I/O ports of a PC and of what QEMU and its like put there.
//!
//! Ports of a PC: Intel's ICH9 and PIIX4 data sheets. QEMU: hw/i386/pc.c, hw/isa/lpc_ich9.c,
//! hw/acpi/{ich9,piix4,pcihp,cpu}.c, include/hw/acpi/pc-hotplug.h, hw/nvram/fw_cfg.c,
//! hw/misc/{pvpanic-isa,debugexit}.c, hw/char/debugcon.c, hw/i386/vmport.c. ACPI's power management
//! is where firmware puts it: 0x600 with SeaBIOS and with OVMF on Q35, 0xb000 with OVMF on i440FX
//! and with Bochs. Cloud Hypervisor has its timer at 0x608 as well.

use super::table::{Run, find, from, run};
use std::borrow::Cow;

/// The name of a port.
pub(super) fn name(port: u64) -> Option<Cow<'static, str>> {
    find(TABLE, port)
}

static TABLE: &[Run] = &[
    run(0x00, 0x0f, &["ISA DMA 1"]),
    from(0x20, &["PIC 1 command", "PIC 1 data"]),
    from(0x22, &["IMCR index", "IMCR data"]),
    from(0x2e, &["Super I/O index", "Super I/O data"]),
    from(0x40, &["PIT channel 0", "PIT channel 1", "PIT channel 2", "PIT command"]),
    from(0x4e, &["Super I/O 2 index", "Super I/O 2 data"]),
    from(0x60, &["keyboard data", "PIT gate and speaker", "ACPI EC data"]),
    from(0x64, &["keyboard status and command"]),
    from(0x66, &["ACPI EC command"]),
    from(0x70, &["RTC index", "RTC data", "RTC index 2", "RTC data 2"]),
    run(0x74, 0x77, &["RTC (mirrored)"]),
    from(0x80, &["POST code"]),
    run(0x81, 0x8f, &["ISA DMA page"]),
    from(0x92, &["A20 and fast reset"]),
    from(0xa0, &["PIC 2 command", "PIC 2 data"]),
    from(0xb2, &["SMI command", "SMI status"]),
    run(0xc0, 0xdf, &["ISA DMA 2"]),
    from(0xe9, &["debug console (Bochs)"]),
    from(0xed, &["I/O delay"]),
    from(0xf0, &["FPU error"]),
    from(0xf4, &["debug exit"]),
    run(0x170, 0x177, &IDE_SECONDARY),
    from(0x1ce, &["Bochs VBE index", "Bochs VBE data", "Bochs VBE data"]),
    run(0x1f0, 0x1f7, &IDE_PRIMARY),
    from(0x201, &["game port"]),
    run(0x278, 0x27f, &["parallel 2"]),
    run(0x2e8, 0x2ef, &COM4),
    run(0x2f8, 0x2ff, &COM2),
    from(0x376, &["IDE secondary control"]),
    run(0x378, 0x37f, &["parallel 1"]),
    run(0x3b0, 0x3bb, &["VGA (monochrome)"]),
    run(0x3c0, 0x3cf, &["VGA"]),
    from(0x3d4, &["VGA CRTC index", "VGA CRTC data"]),
    from(0x3da, &["VGA input status"]),
    run(0x3e8, 0x3ef, &COM3),
    run(0x3f0, 0x3f5, &["floppy"]),
    from(0x3f6, &["IDE primary control", "floppy"]),
    run(0x3f8, 0x3ff, &COM1),
    from(0x402, &["debug console (firmware)"]),
    from(0x4d0, &["PIC 1 edge/level", "PIC 2 edge/level"]),
    from(0x501, &["debug exit"]),
    from(0x505, &["pvpanic"]),
    from(0x510, &["fw_cfg selector", "fw_cfg data"]),
    run(0x514, 0x51b, &["fw_cfg DMA"]),
    run(0x600, 0x601, &["ACPI PM1 status"]),
    run(0x602, 0x603, &["ACPI PM1 enable"]),
    run(0x604, 0x605, &["ACPI PM1 control"]),
    run(0x608, 0x60b, &["ACPI PM timer"]),
    run(0x620, 0x62f, &["ACPI GPE0"]),
    run(0x630, 0x633, &["SMI enable"]),
    run(0x634, 0x637, &["SMI status"]),
    run(0x660, 0x67f, &["TCO watchdog"]),
    run(0x700, 0x73f, &["SMBus"]),
    run(0xa00, 0xa17, &["memory hot plug"]),
    run(0xcc0, 0xcd7, &["PCI hot plug"]),
    run(0xcd8, 0xcf7, &["CPU hot plug"]),
    from(0xcf8, &["PCI config address", "reset control"]),
    run(0xcfa, 0xcfb, &["PCI config address"]),
    run(0xcfc, 0xcff, &["PCI config data"]),
    from(0x5658, &["VMware back door", "VMware back door (bulk)"]),
    run(0xae00, 0xae17, &["PCI hot plug"]),
    run(0xaf00, 0xaf1f, &["CPU hot plug"]),
    run(0xafe0, 0xafe3, &["ACPI GPE0"]),
    run(0xb000, 0xb001, &["ACPI PM1 status"]),
    run(0xb002, 0xb003, &["ACPI PM1 enable"]),
    run(0xb004, 0xb005, &["ACPI PM1 control"]),
    run(0xb008, 0xb00b, &["ACPI PM timer"]),
    run(0xb100, 0xb13f, &["SMBus"]),
];

/// Registers of a 16550, of an ATA channel.
macro_rules! registers {
    (serial $name:literal) => {
        [
            concat!($name, " data"),
            concat!($name, " interrupt enable"),
            concat!($name, " interrupt id, FIFO"),
            concat!($name, " line control"),
            concat!($name, " modem control"),
            concat!($name, " line status"),
            concat!($name, " modem status"),
            concat!($name, " scratch"),
        ]
    };
    (disk $name:literal) => {
        [
            concat!($name, " data"),
            concat!($name, " error, features"),
            concat!($name, " sector count"),
            concat!($name, " LBA low"),
            concat!($name, " LBA mid"),
            concat!($name, " LBA high"),
            concat!($name, " device"),
            concat!($name, " status, command"),
        ]
    };
}

static COM1: [&str; 8] = registers!(serial "COM1");
static COM2: [&str; 8] = registers!(serial "COM2");
static COM3: [&str; 8] = registers!(serial "COM3");
static COM4: [&str; 8] = registers!(serial "COM4");
static IDE_PRIMARY: [&str; 8] = registers!(disk "IDE primary");
static IDE_SECONDARY: [&str; 8] = registers!(disk "IDE secondary");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_table_is_sorted() {
        assert_sound(TABLE);
    }

    #[test]
    fn they_are_what_a_pc_has_there() {
        for (port, expected) in [
            (0x20, "PIC 1 command"),
            (0x43, "PIT command"),
            (0x61, "PIT gate and speaker"),
            (0x64, "keyboard status and command"),
            (0x71, "RTC data"),
            (0x80, "POST code"),
            (0xe9, "debug console (Bochs)"),
            (0x1f7, "IDE primary status, command"),
            (0x2f8, "COM2 data"),
            (0x3f6, "IDE primary control"),
            (0x3f7, "floppy"),
            (0x3fd, "COM1 line status"),
            (0x402, "debug console (firmware)"),
            (0x505, "pvpanic"),
            (0x511, "fw_cfg data"),
            (0x518, "fw_cfg DMA"),
            (0x604, "ACPI PM1 control"),
            (0x608, "ACPI PM timer"),
            (0xcd8, "CPU hot plug"),
            (0xcf9, "reset control"),
            (0xcfc, "PCI config data"),
            (0x5658, "VMware back door"),
            (0xae10, "PCI hot plug"),
            (0xb008, "ACPI PM timer"),
        ] {
            assert_eq!(name(port).as_deref(), Some(expected), "{port:#x}");
        }
        assert_eq!(name(0xc050), None);
        assert_eq!(name(u64::MAX), None);
    }
}
