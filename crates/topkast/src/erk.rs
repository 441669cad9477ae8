//! Erdős–Rényi-Kernel densities: layers with few inputs and outputs are the denser ones.
//!
//! Evci et al., *Rigging the Lottery* (ICML 2020, <https://arxiv.org/abs/1911.11134>), §3 (1), after Mocanu et al. 2018: the density of
//! a layer is proportional to `(rows + width) / (rows · width)`, so it gets entries in proportion to `rows + width`, and at
//! most all it has.
//!
//! ```text
//! entries come one by one: the j-th of a layer when a common s reaches j / (rows + width); ties go to the earlier layer
//! the first k of them are A, or B: in total exactly k, and B has at least as many of each layer as A, as it has more of
//! the same sequence
//! ```

use crate::density::floor_of_share;
use crate::{Counts, DensityError, Sparsity};

/// |A| and |B| of layers of these shapes, which together have the `sparsity`, exactly.
///
/// Each is an error of its own where a layer gets no entries, or more than a pattern can index.
///
/// # Panics
/// If the layers have 2⁶⁴ entries or more together.
pub fn erk_counts(sparsity: Sparsity, shapes: &[[usize; 2]]) -> Vec<Result<Counts, DensityError>> {
    let layers: Vec<Layer> = shapes.iter().map(|&shape| Layer::new(shape)).collect();
    let total = layers.iter().try_fold(0u64, |sum, layer| sum.checked_add(layer.entries));
    let total = total.expect("the entries of all layers can be counted");
    let [active, backward] = [sparsity.forward, sparsity.backward]
        .map(|sparsity| shares(&layers, floor_of_share(sparsity, total)));
    let counts = layers.iter().zip(active.into_iter().zip(backward));
    counts.map(|(layer, (active, backward))| sparsity.checked(active, backward, layer.entries)).collect()
}

struct Layer {
    entries: u64,
    /// What its share is proportional to.
    weight: u64,
}

impl Layer {
    fn new([rows, width]: [usize; 2]) -> Self {
        let (rows, width) = (rows as u64, width as u64);
        Self {
            entries: rows.checked_mul(width).expect("a layer's entries can be counted"),
            weight: rows + width,
        }
    }

    /// Whether the next entry after `count` comes earlier than `other`'s next.
    fn is_before(&self, count: u64, other: &Self, others: u64) -> bool {
        // (count + 1) / weight < (others + 1) / other.weight
        u128::from(count + 1) * u128::from(other.weight) < u128::from(others + 1) * u128::from(self.weight)
    }
}

/// How many of the first `k` entries belong to each layer. There are at least `k`.
fn shares(layers: &[Layer], k: u64) -> Vec<u64> {
    let (free, weights) = uncapped(layers, k);
    // All that come up to s = free / weights; whoever has all its entries by then is capped.
    let by_then = |layer: &Layer| match weights {
        0 => layer.entries,
        _ => (u128::from(free) * u128::from(layer.weight) / weights).min(u128::from(layer.entries)) as u64,
    };
    let mut shares: Vec<u64> = layers.iter().map(by_then).collect();
    // Fewer than there are layers, for each that is not capped lacks less than one.
    for _ in shares.iter().sum::<u64>()..k {
        let open = (0..layers.len()).filter(|&number| shares[number] < layers[number].entries);
        let next = open.reduce(|best, number| {
            let sooner = layers[number].is_before(shares[number], &layers[best], shares[best]);
            if sooner { number } else { best }
        });
        shares[next.expect("there are at least k entries")] += 1;
    }
    shares
}

/// Of `k`, what is left for the layers that are not capped, and what their weights sum to.
fn uncapped(layers: &[Layer], k: u64) -> (u64, u128) {
    let mut open: Vec<&Layer> = layers.iter().collect();
    let mut free = k;
    loop {
        let weights: u128 = open.iter().map(|layer| u128::from(layer.weight)).sum();
        let asked = u128::from(free);
        let capped = |layer: &&Layer| asked * u128::from(layer.weight) > u128::from(layer.entries) * weights;
        let full: u64 = open.iter().filter(|layer| capped(layer)).map(|layer| layer.entries).sum();
        if full == 0 {
            return (free, weights);
        }
        // More is then left for each of the others, which may cap some of them.
        free -= full;
        open.retain(|layer| !capped(layer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Entry after entry.
    fn one_by_one(shapes: &[[usize; 2]], k: u64) -> Vec<u64> {
        let layers: Vec<Layer> = shapes.iter().map(|&shape| Layer::new(shape)).collect();
        let mut order: Vec<(f64, usize)> = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            order.extend((1..=layer.entries).map(|entry| (entry as f64 / layer.weight as f64, number)));
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut counts = vec![0; shapes.len()];
        order[..k as usize].iter().for_each(|&(_, number)| counts[number] += 1);
        counts
    }

    fn counts(forward: f64, backward: f64, shapes: &[[usize; 2]]) -> Vec<(usize, usize)> {
        let counts = erk_counts(Sparsity::new(forward, backward).unwrap(), shapes);
        counts.into_iter().map(|counts| counts.map(|it| (it.active, it.backward)).unwrap()).collect()
    }

    #[test]
    fn entries_are_in_proportion_to_rows_and_columns() {
        // 1200 and 2400 of 12,000, by 200 to 110 to 70.
        let shapes = [[100, 100], [10, 100], [50, 20]];
        assert_eq!(counts(0.9, 0.8, &shapes), [(632, 1263), (347, 695), (221, 442)]);
    }

    #[test]
    fn a_layer_that_would_be_more_than_dense_is_dense_and_the_rest_rescaled() {
        // 784 × 300, 300 × 100, 100 × 10 at 80%: the last would be at 150%.
        let shapes = [[300, 784], [100, 300], [10, 100]];
        let counts = counts(0.8, 0.8, &shapes);
        assert_eq!(counts[2], (1000, 1000));
        assert_eq!(counts.iter().map(|&(active, _)| active).sum::<usize>(), 53_240);
    }

    #[test]
    fn a_layer_without_entries_says_so() {
        let counts = erk_counts(Sparsity::new(0.999, 0.9).unwrap(), &[[1000, 10], [1, 1]]);
        assert_eq!(counts[0], Ok(Counts { active: 10, backward: 999 }));
        assert!(matches!(counts[1], Err(DensityError::NoActive { total: 1, .. })));
        assert_eq!(erk_counts(Sparsity::new(0.5, 0.5).unwrap(), &[]), []);
    }

    #[test]
    fn huge_layers_do_not_overflow() {
        let wide = [1 << 30, 1 << 30];
        let sparsity = Sparsity::new(0.999_999_999_999, 0.999_999_999_999).unwrap();
        let counts = erk_counts(sparsity, &[wide, wide, wide]);
        let active: usize = counts.into_iter().map(|counts| counts.unwrap().active).sum();
        assert_eq!(active as u64, floor_of_share(sparsity.forward, 3 << 60));
    }

    proptest! {
        #[test]
        fn totals_are_exact_and_b_contains_a(
            shapes in prop::collection::vec([1usize..40, 1usize..40], 1..7),
            shares in [0.0f64..=1.0, 0.0f64..=1.0],
        ) {
            let layers: Vec<Layer> = shapes.iter().map(|&shape| Layer::new(shape)).collect();
            let total: u64 = layers.iter().map(|layer| layer.entries).sum();
            let mut wanted = shares.map(|share| (share * total as f64) as u64);
            wanted.sort();
            let [active, backward] = wanted.map(|k| super::shares(&layers, k));
            prop_assert_eq!(&active, &one_by_one(&shapes, wanted[0]));
            prop_assert_eq!(&backward, &one_by_one(&shapes, wanted[1]));
            prop_assert_eq!(backward.iter().sum::<u64>(), wanted[1]);
            prop_assert!(active.iter().zip(&backward).all(|(active, backward)| active <= backward));
        }

        #[test]
        fn densities_are_in_proportion_within_rounding(
            shapes in prop::collection::vec([1usize..200, 1usize..200], 1..6),
            sparsity in 0.3f64..0.99,
        ) {
            let layers: Vec<Layer> = shapes.iter().map(|&shape| Layer::new(shape)).collect();
            let total: u64 = layers.iter().map(|layer| layer.entries).sum();
            let shares = super::shares(&layers, floor_of_share(sparsity, total));
            let open = || layers.iter().zip(&shares).filter(|(layer, share)| **share < layer.entries);
            let scale = |(layer, &share): (&Layer, &u64)| [share, share + 1].map(|it| it as f64 / layer.weight as f64);
            // One s for all that are not capped, which those that are reach.
            let lowest = open().map(|it| scale(it)[1]).fold(f64::INFINITY, f64::min);
            for (layer, &share) in layers.iter().zip(&shares) {
                prop_assert!(scale((layer, &share))[0] <= lowest + 1e-12);
            }
        }
    }
}
