//! A while of trying without any guidance: changed copies of the golden file, for so many seconds.

use kvmscope_fuzz::{try_to_read, unpacked};
use std::path::Path;
use std::time::{Duration, Instant};

/// Splitmix: the same seed makes the same changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |text| text.parse());
    let Ok(seconds) = seconds else {
        eprintln!("a number of seconds is expected");
        std::process::exit(2);
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let seed =
        std::fs::read(folder.join("recording-1.0.kvmscope")).expect("the golden file is there");
    let plain = unpacked(&seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tries = 0u64;
    while Instant::now() < until {
        let mut random = Random(tries);
        let seed = if tries % 4 == 0 { &seed } else { &plain };
        let bytes = changed(seed, &mut random);
        // The number of the try is all that is needed to have it again.
        let result = std::panic::catch_unwind(|| try_to_read(&bytes));
        if result.is_err() {
            eprintln!("try {tries} panicked");
            std::process::exit(1);
        }
        tries += 1;
    }
    println!("{tries} tries, no panic");
}

/// A few changes: bytes, stretches that go, come twice or are zeros, and the end.
fn changed(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        let end = (at + random.below(64)).min(bytes.len());
        match random.below(8) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            2 => bytes[at..end].fill([0, 0xff, 0x7f][random.below(3)]),
            3 => bytes.truncate(at.max(64)),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}
