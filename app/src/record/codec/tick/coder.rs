//! A range coder with adaptive bits, as LZMA has it: each bit costs what it tells, and what is expected next to
//! nothing.
//!
//! What is coded walks over its numbers once for both directions: a [`Coder`] that writes takes each bit and answers
//! it, one that reads answers the bit that was written there. So the two cannot differ.

/// How likely a bit is 1: in 1/4096, with how often it was seen below that, up to [`SEEN_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Chance(u16);

const CHANCE_BITS: u32 = 12;
const SEEN_BITS: u32 = 4;
/// From then on a chance moves by 1/32 of what is missing.
const SEEN_MAX: u16 = 4;
/// The range is filled up from below when it is smaller.
const SMALL: u32 = 1 << 24;

impl Default for Chance {
    fn default() -> Self {
        Self(1 << (CHANCE_BITS - 1) << SEEN_BITS)
    }
}

impl Chance {
    /// In 1/4096; neither 0 nor all.
    fn of_one(self) -> u32 {
        u32::from(self.0 >> SEEN_BITS)
    }

    /// Learns from a bit, quickly at first.
    fn learn(&mut self, bit: bool) {
        let (chance, seen) = (self.0 >> SEEN_BITS, self.0 & ((1 << SEEN_BITS) - 1));
        let by = seen + 1;
        let chance = match bit {
            true => chance + (((1 << CHANCE_BITS) - chance) >> by),
            false => chance - (chance >> by),
        };
        // One half of one half … never reaches the ends, but one step of 1/2 from 1 would.
        let chance = chance.clamp(1, (1 << CHANCE_BITS) - 1);
        self.0 = chance << SEEN_BITS | (seen + 1).min(SEEN_MAX);
    }
}

/// One that writes, or one that reads.
pub trait Coder {
    /// A bit: writes it and answers it, or answers the one that is read.
    fn bit(&mut self, chance: &mut Chance, bit: bool) -> bool;
    /// So many bits of a number of which nothing is expected, likewise.
    fn plain(&mut self, bits: u32, value: u64) -> u64;
    /// Whether nothing was read that is not there.
    fn is_sound(&self) -> bool;
}

/// Writes.
#[derive(Debug)]
pub struct Encoder {
    low: u64,
    range: u32,
    /// The last byte that is not out yet, as a carry may come …
    held: u8,
    /// … and how many there are with the 0xff behind it.
    pending: u64,
    out: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self { low: 0, range: u32::MAX, held: 0, pending: 1, out: Vec::new() }
    }

    /// What was written.
    pub fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        self.out
    }

    fn shift(&mut self) {
        if self.low < 0xff00_0000 || self.low > u64::from(u32::MAX) {
            let carry = (self.low >> 32) as u8;
            let mut byte = self.held;
            while self.pending > 0 {
                self.out.push(byte.wrapping_add(carry));
                byte = 0xff;
                self.pending -= 1;
            }
            self.held = (self.low >> 24) as u8;
        }
        self.pending += 1;
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    fn fill(&mut self) {
        while self.range < SMALL {
            self.range <<= 8;
            self.shift();
        }
    }
}

impl Coder for Encoder {
    #[inline]
    fn bit(&mut self, chance: &mut Chance, bit: bool) -> bool {
        let bound = (self.range >> CHANCE_BITS) * chance.of_one();
        if bit {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        chance.learn(bit);
        self.fill();
        bit
    }

    fn plain(&mut self, bits: u32, value: u64) -> u64 {
        for at in (0..bits).rev() {
            self.range >>= 1;
            if value >> at & 1 != 0 {
                self.low += u64::from(self.range);
            }
            self.fill();
        }
        value
    }

    fn is_sound(&self) -> bool {
        true
    }
}

/// Reads.
#[derive(Debug)]
pub struct Decoder<'a> {
    range: u32,
    code: u32,
    bytes: &'a [u8],
    sound: bool,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { range: u32::MAX, code: 0, bytes, sound: true };
        for _ in 0..5 {
            decoder.code = decoder.code << 8 | decoder.byte();
        }
        decoder
    }

    /// Whether all was read, and no more.
    pub fn is_done(&self) -> bool {
        self.sound && self.bytes.is_empty()
    }

    fn byte(&mut self) -> u32 {
        match self.bytes.split_first() {
            Some((&byte, rest)) => {
                self.bytes = rest;
                u32::from(byte)
            }
            None => {
                self.sound = false;
                0
            }
        }
    }

    fn fill(&mut self) {
        while self.range < SMALL {
            self.range <<= 8;
            self.code = self.code << 8 | self.byte();
        }
    }
}

impl Coder for Decoder<'_> {
    #[inline]
    fn bit(&mut self, chance: &mut Chance, _: bool) -> bool {
        let bound = (self.range >> CHANCE_BITS) * chance.of_one();
        let bit = self.code < bound;
        if bit {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        chance.learn(bit);
        self.fill();
        bit
    }

    fn plain(&mut self, bits: u32, _: u64) -> u64 {
        let mut value = 0;
        for _ in 0..bits {
            self.range >>= 1;
            let bit = self.code >= self.range;
            if bit {
                self.code -= self.range;
            }
            value = value << 1 | u64::from(bit);
            self.fill();
        }
        value
    }

    fn is_sound(&self) -> bool {
        self.sound
    }
}

/// The tops of how many bits of a number are learned, below its leading one.
const LEARNED: u32 = 3;

/// What is expected of a number: how long it is, and its leading bits.
#[derive(Clone, Debug)]
pub struct Number {
    some: Chance,
    lengths: [Chance; 64],
    tops: [[Chance; 1 << LEARNED]; 64],
}

impl Default for Number {
    fn default() -> Self {
        let chance = Chance::default();
        Self { some: chance, lengths: [chance; 64], tops: [[chance; 1 << LEARNED]; 64] }
    }
}

impl Number {
    /// A number from 0 on.
    pub fn code<C: Coder>(&mut self, coder: &mut C, value: u64) -> u64 {
        if !coder.bit(&mut self.some, value != 0) {
            return 0;
        }
        // Bits below the leading one, as a tree of six bits.
        let below = 63 - (value | 1).leading_zeros();
        let mut node = 1;
        for at in (0..6).rev() {
            node =
                node << 1 | usize::from(coder.bit(&mut self.lengths[node], below >> at & 1 != 0));
        }
        let length = node - 64;
        let below = length as u32;
        let mut read = 1;
        let mut node = 1;
        let learned = below.min(LEARNED);
        for at in 0..learned {
            let bit = value >> (below - 1 - at) & 1 != 0;
            let bit = coder.bit(&mut self.tops[length][node], bit);
            node = node << 1 | usize::from(bit);
            read = read << 1 | u64::from(bit);
        }
        let rest = below - learned;
        read << rest | coder.plain(rest, value & ((1 << rest) - 1))
    }

    /// A number that is near another one.
    pub fn near<C: Coder>(&mut self, coder: &mut C, expected: u64, value: u64) -> u64 {
        let off = value.wrapping_sub(expected) as i64;
        let folded = self.code(coder, (off << 1 ^ off >> 63) as u64);
        expected.wrapping_add((folded >> 1) ^ (folded & 1).wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(n, shift)| n >> shift)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::collection::vec((any_number(), any_number(), any::<bool>()), 0..300),
        ) {
            let walk = |coder: &mut dyn FnMut(&mut Number, u64, u64) -> u64| {
                let mut model = [Number::default(), Number::default()];
                let code = |&(near, value, which): &(u64, u64, bool)| {
                    coder(&mut model[usize::from(which)], near, value)
                };
                numbers.iter().map(code).collect::<Vec<u64>>()
            };
            let mut encoder = Encoder::new();
            let values: Vec<u64> = numbers.iter().map(|&(_, value, _)| value).collect();
            prop_assert_eq!(&walk(&mut |n, near, value| n.near(&mut encoder, near, value)), &values);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(&walk(&mut |n, near, _| n.near(&mut decoder, near, 0)), &values);
            prop_assert!(decoder.is_done());
            let mut cut = Decoder::new(&bytes[..bytes.len() - 1]);
            walk(&mut |n, near, _| n.near(&mut cut, near, 0));
            prop_assert!(!cut.is_done());
        }
    }

    #[test]
    fn what_is_expected_costs_next_to_nothing() {
        let (mut encoder, mut model) = (Encoder::new(), Number::default());
        (0..8_000).for_each(|_| assert_eq!(model.code(&mut encoder, 0), 0));
        let bytes = encoder.finish();
        assert!(bytes.len() < 30, "{}", bytes.len());
        let (mut decoder, mut model) = (Decoder::new(&bytes), Number::default());
        assert!((0..8_000).all(|_| model.code(&mut decoder, 7) == 0));
        assert!(decoder.is_done());
    }
}
