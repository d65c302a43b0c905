//! Page tables of the guest, where it has any: 32-bit ones of two levels (Intel SDM volume 3, 4.3),
//! everything at its own address but for the windows that are there to be walked.

use super::code::{DATA, PAGE, STRIDE, WALK, WALK_LINEAR, WALK_TABLES};

/// Present, writable, accessed: the processor has nothing to note there.
const TABLE: u32 = 0x23;
/// The same, and written.
const MAPPED: u32 = 0x63;
/// A page of 4 MiB.
const LARGE: u32 = 1 << 7;
/// Bytes that one entry of the directory is for, as a power of two.
const LARGE_SHIFT: u32 = 22;
/// CR0.PG.
pub const CR0_PAGING: u64 = 1 << 31;
/// CR4.PSE.
pub const CR4_LARGE_PAGES: u64 = 1 << 4;

/// The page directory of the vCPU whose region begins there.
pub fn directory(region: u64) -> Vec<u8> {
    let windows = WALK_LINEAR >> LARGE_SHIFT;
    bytes((0..PAGE / 4).map(|index| match index.checked_sub(windows) {
        Some(table) if table < WALK_TABLES => (region + WALK + table * STRIDE) as u32 | TABLE,
        _ => (index << LARGE_SHIFT) as u32 | MAPPED | LARGE,
    }))
}

/// A page table to be walked: its first page is that of the variables.
pub fn table(region: u64) -> Vec<u8> {
    let first = (region + DATA) as u32 | MAPPED;
    bytes((0..PAGE / 4).map(|index| if index == 0 { first } else { 0 }))
}

fn bytes(entries: impl Iterator<Item = u32>) -> Vec<u8> {
    entries.flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(page: &[u8], index: usize) -> u32 {
        let bytes = [0, 1, 2, 3].map(|byte| page[4 * index + byte]);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn everything_is_at_its_own_address_but_the_windows() {
        let page = directory(0x200_0000);
        assert_eq!(page.len() as u64, PAGE);
        assert_eq!((entry(&page, 0), entry(&page, 8)), (0xe3, 0x200_00e3));
        assert_eq!(entry(&page, 767), 0xbfc0_00e3);
        assert_eq!(entry(&page, 768), (0x200_0000 + WALK) as u32 | 0x23);
        assert_eq!(entry(&page, 769), (0x200_0000 + WALK + STRIDE) as u32 | 0x23);
        assert_eq!(entry(&page, 768 + WALK_TABLES as usize), 0xd000_00e3);
    }

    #[test]
    fn a_window_shows_the_variables() {
        let page = table(0x200_0000);
        assert_eq!((entry(&page, 0), entry(&page, 1)), (0x200_8063, 0));
    }
}
