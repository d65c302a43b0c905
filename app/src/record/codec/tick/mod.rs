//! A tick: what is mostly numbers by the range coder, which expects what the cells before it had, and the rest as
//! history has it.

mod cells;
mod coder;

use crate::model::codec::{self, Part};
use crate::model::ids::Kind;
use crate::model::tick::{PHASES, Phase, PhaseTimes, Tick, VcpuTick};
use cells::Cells;
use coder::{Coder, Decoder, Encoder, Number};

/// A tick's bytes, in two parts: the first is worth compressing, the second is dense already. `None` for one that is
/// larger than what readers take.
pub fn put_tick(tick: &Tick) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut tick = tick.clone();
    let mut coder = Encoder::new();
    let mut expected = Expected::new();
    for vcpu in &mut tick.vcpus {
        expected.code(&mut coder, tick.dur_ns, vcpu)?;
        vcpu.cells = Vec::new();
        vcpu.time = PhaseTimes::default();
    }
    let mut rest = Vec::new();
    codec::encode(&tick, &mut rest).ok()?;
    let mut first = (rest.len() as u32).to_le_bytes().to_vec();
    first.append(&mut rest);
    Some((first, coder.finish()))
}

/// A tick of both parts, one behind the other; `None` when it is damaged.
pub fn get_tick(bytes: &[u8]) -> Option<Tick> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (rest, cells) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut tick = codec::decode(rest).ok()?;
    let mut coder = Decoder::new(cells);
    let mut expected = Expected::new();
    for vcpu in &mut tick.vcpus {
        // They have been taken out of it.
        if !vcpu.cells.is_empty() {
            return None;
        }
        expected.code(&mut coder, tick.dur_ns, vcpu)?;
    }
    coder.is_done().then_some(tick)
}

/// A tick without what is counted: who came and went, and what vCPUs are doing. Reads a fraction of it.
pub fn get_brief(bytes: &[u8]) -> Option<Tick> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let rest = bytes.get(..u32::from_le_bytes(*length) as usize)?;
    codec::decode_part(rest, Part::ALL.without_hist().without_events()).ok()
}

/// What is expected of the next vCPU.
#[derive(Debug)]
struct Expected {
    cells: Cells,
    time: Vec<Number>,
}

impl Expected {
    fn new() -> Self {
        let time = vec![Number::default(); PHASES];
        Self { cells: Cells::new(), time }
    }

    /// A vCPU's cells and its time by phase: what it has, or what is read into it.
    fn code<C: Coder>(&mut self, coder: &mut C, dur_ns: u64, vcpu: &mut VcpuTick) -> Option<()> {
        self.cells.code(coder, &mut vcpu.cells)?;
        // Exits took most of the time in KVM and in the VMM, and the guest has what nobody else had.
        let (mut kvm_ns, mut vmm_ns) = (0u64, 0u64);
        for cell in vcpu.cells.iter().filter(|cell| cell.reason.kind == Kind::Exit) {
            kvm_ns = kvm_ns.wrapping_add(cell.total_ns).wrapping_sub(cell.off_ns);
            vmm_ns = vmm_ns.wrapping_add(cell.vmm_ns);
        }
        let mut left_ns = dur_ns;
        let others = Phase::ALL.into_iter().filter(|phase| *phase != Phase::Guest);
        for phase in others.chain([Phase::Guest]) {
            let expected_ns = match phase {
                Phase::Kvm => kvm_ns,
                Phase::Vmm => vmm_ns,
                Phase::Guest => left_ns,
                _ => 0,
            };
            let (number, ns) =
                (self.time.get_mut(phase as usize)?, vcpu.time.0.get_mut(phase as usize)?);
            *ns = number.near(coder, expected_ns, *ns);
            left_ns = left_ns.wrapping_sub(*ns);
        }
        coder.is_sound().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{any_tick, sample_tick};
    use crate::source::synth::{Generator, Synth, plan::Plan};
    use proptest::prelude::*;
    use std::time::Duration;

    fn bytes(tick: &Tick) -> Vec<u8> {
        let (first, second) = put_tick(tick).expect("encodes");
        [first, second].concat()
    }

    fn invented(plan: fn() -> Plan, ticks: usize) -> Vec<Tick> {
        let synth = Synth::new(plan(), 1, (1_000_000_000, 1_700_000_000_000_000_000), "w", "c");
        let mut generator = Generator::new(plan(), 1, synth.session());
        (0..ticks).map(|_| generator.tick(Duration::from_secs(1))).collect()
    }

    /// The format is frozen: when this fails, make a new version instead.
    #[test]
    fn the_format_has_not_changed() {
        let hex: String = bytes(&sample_tick()).iter().map(|byte| format!("{byte:02x}")).collect();
        insta::assert_snapshot!(hex);
    }

    #[test]
    fn a_large_tick_is_dense() {
        let ticks = invented(|| Plan::uniform(20, 8, 11, 1), 6);
        let tick = ticks.last().expect("six");
        let (first, second) = put_tick(tick).expect("encodes");
        let first = zstd::bulk::compress(&first, 3).expect("compresses").len();
        // An hour of them is below 100 MB.
        assert!(first + second.len() < 25_500, "{first} and {}", second.len());
        assert_eq!(get_tick(&bytes(tick)).as_ref(), Some(tick));
    }

    #[test]
    fn every_number_of_a_busy_host_is_what_it_was() {
        for tick in invented(Plan::noisy_host, 30) {
            assert_eq!(get_tick(&bytes(&tick)), Some(tick));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(tick in any_tick()) {
            let bytes = bytes(&tick);
            let brief = get_brief(&bytes).expect("read");
            let of = |tick: &Tick| -> Vec<_> {
                tick.vcpus.iter().map(|v| (v.key, v.cpu, v.phase, v.since_ns, v.open)).collect()
            };
            prop_assert_eq!((of(&brief), &brief.life), (of(&tick), &tick.life));
            prop_assert_eq!(get_tick(&bytes), Some(tick));
        }

        #[test]
        fn a_prefix_and_more_bytes_are_none(tick in any_tick(), at in any::<prop::sample::Index>()) {
            let mut encoded = bytes(&tick);
            prop_assert_eq!(get_tick(&encoded[..at.index(encoded.len())]), None);
            encoded.push(0);
            prop_assert_eq!(get_tick(&encoded), None);
        }

        #[test]
        fn a_changed_byte_never_panics(
            tick in any_tick(), at in any::<prop::sample::Index>(), change in 1u8..,
        ) {
            let mut encoded = bytes(&tick);
            let at = at.index(encoded.len());
            encoded[at] ^= change;
            let _ = (get_tick(&encoded), get_brief(&encoded));
        }
    }
}
