//! How much room each vCPU of a VM has: with many of them, less.

use super::code::{self, MANY_VCPUS, MAX_VCPUS, STRIDE, TOUCH, TOUCH_PAGES};
use super::op::{Counts, Op};

/// The regions of a VM's vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// From one region's beginning to the next.
    pub region: u64,
    /// How much of a region is memory.
    pub memory: u64,
    /// The address of a region that has no memory, in a page table of its own.
    pub mmio: u64,
    /// Pages to touch.
    pub touch_pages: u64,
}

/// Room for everything.
const ROOMY: Space = Space {
    region: code::REGION,
    memory: code::MEMORY,
    mmio: code::MMIO,
    touch_pages: TOUCH_PAGES,
};

/// Room for the program, for a few pages to touch and for an address without memory.
const SMALL: Space =
    Space { region: 8 << 20, memory: TOUCH + 128 * STRIDE, mmio: 6 << 20, touch_pages: 128 };

impl Default for Space {
    fn default() -> Self {
        ROOMY
    }
}

impl Space {
    /// The space of each of so many vCPUs.
    pub fn of(vcpus: u32) -> Self {
        if vcpus > MAX_VCPUS { SMALL } else { ROOMY }
    }

    /// Where the region of vCPU `id` begins.
    pub fn start(&self, id: u32) -> u64 {
        self.region * u64::from(id)
    }
}

/// Why `vcpus` of a VM cannot make these, of touches `pages` at a time; `None` when they can.
pub fn too_many(vcpus: u32, counts: &Counts, pages: u64) -> Option<String> {
    if vcpus <= MAX_VCPUS {
        return None;
    }
    // What needs more memory, or a device of the VM's for each vCPU, or names an APIC that no vCPU has.
    let small = |op: Op| op.is_plain() || op == Op::Pause;
    if let Some(op) = Op::ALL.into_iter().find(|&op| counts.get(op) > 0 && !small(op)) {
        let kind = op.name().replace('_', "-");
        return Some(format!(
            "more than {MAX_VCPUS} vCPUs of a VM have no room for --{kind}; take fewer, or more --vms"
        ));
    }
    let most = Space::of(vcpus).touch_pages;
    (counts.touch > 0 && pages > most).then(|| {
        format!(
            "more than {MAX_VCPUS} vCPUs of a VM have {most} pages each to touch; add --touch-pages {most}"
        )
    })
}

const _: () = assert!(SMALL.region * MANY_VCPUS as u64 <= 3 << 30);
const _: () = assert!(SMALL.memory <= SMALL.mmio && SMALL.mmio + code::PAGE <= SMALL.region);
const _: () = assert!(SMALL.mmio.is_multiple_of(2 << 20));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_vcpus_make_what_there_is_room_for() {
        let counts = Counts::from_fn(|op| u64::from(op.is_plain()));
        assert_eq!(too_many(MANY_VCPUS, &counts, 128), None);
        assert!(too_many(300, &counts, 129).is_some_and(|why| why.contains("--touch-pages 128")));
        assert_eq!(too_many(MAX_VCPUS, &counts, TOUCH_PAGES), None);
        let walk = Counts { walk: 1, ..Counts::default() };
        assert!(too_many(97, &walk, 1).is_some_and(|why| why.contains("--walk;")));
        let read = Counts { mmio_kernel: 1, ..Counts::default() };
        assert!(too_many(97, &read, 1).is_some_and(|why| why.contains("--mmio-kernel;")));
    }

    #[test]
    fn regions_do_not_overlap() {
        let space = Space::of(MANY_VCPUS);
        assert!(space.start(1) >= space.mmio + code::PAGE);
        assert_eq!(Space::of(MAX_VCPUS).start(2), 2 * code::REGION);
    }
}
