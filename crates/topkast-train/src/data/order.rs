//! The order in which an epoch visits the samples.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keeps this stream of random numbers apart from others drawn from the same seed.
const STREAM: [u8; 16] = *b"order of samples";

/// The order in which an epoch visits the samples: each one once.
///
/// Where an epoch is shuffled, its order follows from the seed and the epoch alone, on any machine, so a resumed run
/// recomputes it instead of storing it.
#[derive(Clone, Debug)]
pub struct Order {
    samples: Vec<u32>,
}

impl Order {
    /// The samples `0..count` as they come, for evaluation; [`shuffle`](Self::shuffle) makes it an epoch's order.
    ///
    /// # Panics
    /// If `count` does not fit in `u32`.
    pub fn in_sequence(count: usize) -> Self {
        Self { samples: (0..u32::try_from(count).expect("too many samples")).collect() }
    }

    /// Becomes the order of an epoch, whatever the order was. Allocates nothing.
    pub fn shuffle(&mut self, seed: u64, epoch: u64) {
        for (sample, index) in self.samples.iter_mut().zip(0..) {
            *sample = index;
        }
        let mut random = generator(seed, epoch);
        for last in (1..self.samples.len()).rev() {
            self.samples.swap(last, random.random_range(0..=last as u32) as usize);
        }
    }

    /// All samples in order.
    pub fn samples(&self) -> &[u32] {
        &self.samples
    }

    /// Number of batches of `size` samples, the last of which may have fewer.
    ///
    /// # Panics
    /// If `size` is zero.
    pub fn batches(&self, size: usize) -> usize {
        self.samples.len().div_ceil(size)
    }

    /// The samples of one batch: `size` of them, or what is left in the last one.
    ///
    /// # Panics
    /// If there is no such batch, that is `batch >= self.batches(size)`.
    pub fn batch(&self, batch: usize, size: usize) -> &[u32] {
        assert!(batch < self.batches(size), "no batch {batch}");
        let rest = &self.samples[batch * size..];
        &rest[..size.min(rest.len())]
    }
}

fn generator(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..].copy_from_slice(&STREAM);
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shuffled(count: usize, seed: u64, epoch: u64) -> Order {
        let mut order = Order::in_sequence(count);
        order.shuffle(seed, epoch);
        order
    }

    /// Fails if another version of a dependency draws other numbers: checkpoints would resume with another order.
    #[test]
    fn the_order_is_the_same_everywhere() {
        assert_eq!(shuffled(10, 1, 0).samples(), [2, 1, 4, 9, 5, 6, 8, 3, 7, 0]);
        assert_eq!(shuffled(10, 1, 1).samples(), [3, 8, 0, 2, 6, 1, 7, 9, 5, 4]);
    }

    #[test]
    fn an_epoch_does_not_depend_on_earlier_ones() {
        let mut order = shuffled(1000, 7, 0);
        order.shuffle(7, 1);
        order.shuffle(7, 2);
        assert_eq!(order.samples(), shuffled(1000, 7, 2).samples());
    }

    #[test]
    fn seeds_and_epochs_give_other_orders() {
        let orders = [(1, 0), (0, 1), (1, 1), (0, 0)].map(|(seed, epoch)| shuffled(1000, seed, epoch));
        for (i, order) in orders.iter().enumerate() {
            assert!(orders[..i].iter().all(|other| other.samples() != order.samples()));
        }
    }

    /// Each of the 24 orders of four samples is as frequent as any other: χ² with 23 degrees of freedom.
    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(shuffled(4, 3, epoch).samples().to_vec()).or_insert(0) += 1;
        }
        let statistic: f64 = counts.values().map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(counts.len() == 24 && statistic < 49.7, "{statistic}");
    }

    #[test]
    fn sizes_beyond_the_samples_make_one_batch() {
        let order = Order::in_sequence(3);
        assert_eq!((order.batches(usize::MAX), order.batch(0, usize::MAX)), (1, &[0, 1, 2][..]));
        assert_eq!(Order::in_sequence(0).batches(4), 0);
    }

    #[test]
    #[should_panic(expected = "no batch 2")]
    fn batches_end() {
        Order::in_sequence(4).batch(2, 2);
    }

    proptest! {
        #[test]
        fn batches_are_every_sample_once(count in 0usize..200, size in 1usize..50, seed: u64, epoch: u64) {
            let order = shuffled(count, seed, epoch);
            let batches: Vec<_> = (0..order.batches(size)).map(|batch| order.batch(batch, size)).collect();
            prop_assert!(batches.iter().rev().skip(1).all(|batch| batch.len() == size));
            let mut samples = batches.concat();
            samples.sort_unstable();
            prop_assert_eq!(samples, (0..count as u32).collect::<Vec<_>>());
        }
    }
}
