//! The guest's descriptor tables, where it has handlers: beside the variables, so that no other page is
//! touched.

use super::code::{DATA, PAGE};

/// Where the segments are, from the region's start.
pub const GDT: u64 = DATA + 0x780;
/// Bytes of them, less one.
pub const GDT_LIMIT: u16 = 3 * 8 - 1;
/// Where the gates are.
pub const IDT: u64 = DATA + 0x800;
/// Gates, one for each vector below.
pub const GATES: u8 = 64;
/// Bytes of them, less one.
pub const IDT_LIMIT: u16 = GATES as u16 * 8 - 1;
/// Where the stack begins, which grows down.
pub const STACK: u64 = DATA + PAGE;

/// Flat code and data, accessed already, so that the processor has nothing to note (SDM volume 3, 3.4.5).
pub const SEGMENTS: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
/// Selector of the code.
const CODE_SELECTOR: u64 = 8;

/// The segments as bytes.
pub fn segments() -> Vec<u8> {
    SEGMENTS.iter().flat_map(|segment| segment.to_le_bytes()).collect()
}

/// Interrupt gates to handlers, by vector and address (SDM volume 3, 6.11). The rest is not present.
pub fn gates(handlers: impl IntoIterator<Item = (u8, u64)>) -> Vec<u8> {
    const PRESENT_INTERRUPT_32: u64 = 0x8e;
    let mut gates = [0u64; GATES as usize];
    for (vector, at) in handlers {
        if let Some(gate) = gates.get_mut(usize::from(vector)) {
            *gate = at & 0xffff
                | CODE_SELECTOR << 16
                | PRESENT_INTERRUPT_32 << 40
                | (at >> 16 & 0xffff) << 48;
        }
    }
    gates.iter().flat_map(|gate| gate.to_le_bytes()).collect()
}

const _: () = assert!(super::code::VARS as u64 <= GDT - DATA && GDT + 24 <= IDT);
const _: () = assert!(IDT + IDT_LIMIT as u64 + 1 + 256 <= STACK);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_leads_to_its_handler() {
        let bytes = gates([(0x30, 0x0200_1234), (0xff, 1)]);
        assert_eq!(bytes.len(), usize::from(IDT_LIMIT) + 1);
        assert_eq!(bytes[0x180..0x188], [0x34, 0x12, 8, 0, 0, 0x8e, 0, 2]);
        assert!(bytes[..0x180].iter().all(|&byte| byte == 0));
    }
}
