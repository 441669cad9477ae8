//! Seeds for the program's independent random streams.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A seed from which named sub-streams are derived, so that what one part draws never shifts what another does, and
/// a resumed run can recompute any stream from numbers it knows (layer, step, epoch) instead of a saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// The root, from the user's number.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x746f_706b_6173_7421))
    }

    /// The sub-stream `name`.
    pub fn named(self, name: &str) -> Self {
        // From the top, where no layer, step or epoch is numbered.
        name.bytes().fold(self, |seed, byte| seed.numbered(u64::MAX - u64::from(byte)))
    }

    /// The sub-stream `number`.
    #[inline]
    pub fn numbered(self, number: u64) -> Self {
        Self(mix(self.0.rotate_left(23) ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// The stream's key as a number, for counter-based generators.
    pub fn key(self) -> u64 {
        self.0
    }

    /// A generator for the stream: the same on every machine.
    pub fn generator(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that avalanches.
#[inline]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_name_and_number() {
        let root = Seed::new(1);
        let mut keys = vec![root.key(), Seed::new(2).key()];
        keys.extend(["a", "b", "ab", "ba"].map(|name| root.named(name).key()));
        keys.extend((0..1000).map(|number| root.named("a").numbered(number).key()));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
