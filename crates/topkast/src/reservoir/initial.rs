//! θ⁰ of a weight that is never written out: any entry of it, by its rank in magnitude or by its flat index.

use rayon::prelude::*;

use crate::init::active_scale;
use crate::permutation::Permutation;
use crate::seed::mix;
use crate::{Distribution, Entry, Init, Scale, Seed, WeightError};

/// Initial weights by rank: the rank-th largest magnitude is the quantile of |distribution| at 1 − (rank + ½)/n, a
/// [`Permutation`] says at which flat index it is, and a hash of the index has its sign.
///
/// So the magnitudes are those that n independent draws would have in the mean, and their places and signs are random.
#[derive(Clone, Debug)]
pub(super) struct Initial {
    places: Permutation,
    distribution: Distribution,
    deviation: f64,
    signs: u64,
}

impl Initial {
    /// θ⁰ of a weight `[rows × width]` of which the `active` largest entries are in A.
    ///
    /// # Errors
    /// If the weight is empty or has more than 2⁴⁸ entries.
    pub(super) fn new(
        rows: usize,
        width: usize,
        init: &Init,
        active: usize,
        seed: Seed,
    ) -> Result<Self, WeightError> {
        let n = rows as u64 * width as u64;
        if !(1..=Permutation::LARGEST).contains(&n) {
            return Err(WeightError::Shape { rows, width });
        }
        let places = Permutation::new(n, seed.named("places"));
        let signs = seed.named("signs").key();
        let unit = Self { places, distribution: init.distribution, deviation: 1.0, signs };
        let deviation = init.deviation(rows, width);
        let scaled = match init.scale {
            Scale::Active if active > 0 => active_scale(unit.squares(active as u64), n, deviation),
            Scale::Active | Scale::Full => deviation,
        };
        Ok(Self { deviation: scaled, ..unit })
    }

    /// For tests with few magnitudes, so that most are tied.
    #[cfg(test)]
    pub(super) fn set_deviation(&mut self, deviation: f64) {
        self.deviation = deviation;
    }

    /// n.
    pub(super) fn n(&self) -> u64 {
        self.places.n()
    }

    /// The entry at a rank; ranks ascend as magnitudes descend.
    pub(super) fn entry(&self, rank: u64) -> Entry {
        let index = self.places.apply(rank);
        Entry { index, value: self.signed(index, self.magnitude(rank)) }
    }

    /// The value of the entry at a flat index.
    pub(super) fn value(&self, index: u64) -> f32 {
        self.signed(index, self.magnitude(self.rank(index)))
    }

    /// The rank of the entry at a flat index.
    pub(super) fn rank(&self, index: u64) -> u64 {
        self.places.invert(index)
    }

    /// The first rank after `rank` whose magnitude is smaller.
    pub(super) fn end_of_ties(&self, rank: u64) -> u64 {
        let magnitude = self.magnitude(rank);
        let (mut tied, mut smaller) = (rank, self.n());
        let mut step = 1;
        // Far fewer are tied than there are ranks: the step doubles until it leads out, then the last one is halved.
        while tied + step < smaller {
            if self.magnitude(tied + step) < magnitude {
                smaller = tied + step;
                break;
            }
            tied += step;
            step *= 2;
        }
        while smaller - tied > 1 {
            let middle = tied + (smaller - tied) / 2;
            if self.magnitude(middle) < magnitude {
                smaller = middle;
            } else {
                tied = middle;
            }
        }
        smaller
    }

    fn magnitude(&self, rank: u64) -> f32 {
        let upper = (rank as f64 + 0.5) / self.n() as f64;
        (self.distribution.magnitude(upper) * self.deviation) as f32
    }

    fn signed(&self, index: u64, magnitude: f32) -> f32 {
        if mix(self.signs ^ index) >> 63 == 1 { -magnitude } else { magnitude }
    }

    /// The sum of the squares of the first `count` values: of fixed parts, so that it does not depend on threads.
    fn squares(&self, count: u64) -> f64 {
        const PART: u64 = 1 << 14;
        let square = |rank: u64| self.distribution.magnitude((rank as f64 + 0.5) / self.n() as f64).powi(2);
        let part = |part: u64| (part * PART..count.min((part + 1) * PART)).map(square).sum::<f64>();
        let parts: Vec<f64> = (0..count.div_ceil(PART)).into_par_iter().map(part).collect();
        parts.into_iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variance;

    fn initial(rows: usize, width: usize, init: Init, active: usize, seed: u64) -> Initial {
        Initial::new(rows, width, &init, active, Seed::new(seed)).unwrap()
    }

    fn written_out(initial: &Initial) -> Vec<f64> {
        (0..initial.n()).map(|index| f64::from(initial.value(index))).collect()
    }

    const FULL: Init =
        Init { distribution: Distribution::Normal, variance: Variance::Kaiming, scale: Scale::Full };

    #[test]
    fn ranks_descend_and_lead_to_the_same_values_as_indices() {
        for distribution in [Distribution::Normal, Distribution::TruncatedNormal, Distribution::Uniform] {
            let initial = initial(37, 91, Init { distribution, ..FULL }, 0, 1);
            let entries: Vec<Entry> = (0..initial.n()).map(|rank| initial.entry(rank)).collect();
            assert!(entries.windows(2).all(|pair| pair[0].value.abs() >= pair[1].value.abs()));
            for (entry, rank) in entries.into_iter().zip(0..) {
                assert_eq!(initial.value(entry.index).to_bits(), entry.value.to_bits());
                assert_eq!(initial.rank(entry.index), rank);
            }
        }
    }

    #[test]
    fn weights_of_no_entries_or_too_many_are_refused() {
        let made = |rows, width| Initial::new(rows, width, &FULL, 0, Seed::new(1)).is_ok();
        assert!(!made(0, 5) && made(1, 1) && made(1 << 24, 1 << 24) && !made(1 << 25, 1 << 24));
    }

    #[test]
    fn the_active_part_has_the_variance_of_the_whole() {
        let init = Init { scale: Scale::Active, ..FULL };
        let (rows, active) = (40, 400);
        let initial = initial(rows, 500, init, active, 3);
        let squares: f64 = (0..active as u64).map(|rank| f64::from(initial.entry(rank).value).powi(2)).sum();
        assert!((squares - 2.0 * rows as f64).abs() < 1e-4, "{squares}");
    }

    #[test]
    fn ties_end_where_the_magnitude_falls() {
        // 10¹² uniform values: tens of thousands have the same magnitude in f32.
        let init = Init { distribution: Distribution::Uniform, ..FULL };
        let initial = initial(1_000_000, 1_000_000, init, 0, 1);
        let mut rank = 0;
        for _ in 0..50 {
            let end = initial.end_of_ties(rank);
            assert!(end > rank + 10_000);
            let [before, last, after] = [rank, end - 1, end].map(|rank| initial.magnitude(rank));
            assert!(before == last && last > after);
            rank = end;
        }
        let small = self::initial(3, 5, FULL, 0, 1);
        assert_eq!([0, 7, 14].map(|rank| small.end_of_ties(rank)), [1, 8, 15]);
    }

    /// How far the sum of `numbers`, each of mean 0 and this variance, is from 0 in standard deviations.
    fn deviations(numbers: impl Iterator<Item = f64>, variance: f64) -> f64 {
        let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
        sum / (variance * count).sqrt()
    }

    /// Sums of rows and of columns vary as those of independent draws do.
    #[test]
    fn rows_and_columns_sum_as_independent_draws_would() {
        for (rows, width, seed) in [(64, 64, 1), (64, 64, 2), (100, 1000, 3), (1000, 100, 4), (10, 784, 5)] {
            let theta = written_out(&initial(rows, width, FULL, 0, seed));
            let unit = (width as f64 / 2.0).sqrt();
            let row =
                |row: usize| deviations((0..width).map(|column| theta[row * width + column] * unit), 1.0);
            let column =
                |column: usize| deviations((0..rows).map(|row| theta[row * width + column] * unit), 1.0);
            let sums: [Vec<f64>; 2] = [(0..rows).map(row).collect(), (0..width).map(column).collect()];
            for sums in sums {
                // A χ² of as many degrees of freedom.
                let (chi, free) = (sums.iter().map(|sum| sum * sum).sum::<f64>(), sums.len() as f64);
                let off = (chi - free) / (2.0 * free).sqrt();
                assert!(off.abs() < 4.0, "{rows}x{width}: {off} deviations");
                assert!(sums.iter().all(|sum| sum.abs() < 5.0));
            }
            // Of n values, each once: their moments are closer than draws would come.
            let mean =
                |power: i32| theta.iter().map(|x| (x * unit).powi(power)).sum::<f64>() / theta.len() as f64;
            assert!(mean(1).abs() < 4.0 / (theta.len() as f64).sqrt());
            assert!((mean(2) - 1.0).abs() < 0.01 && (mean(4) - 3.0).abs() < 0.15);
        }
    }

    /// Which positions come first shows no structure: rows and columns of the largest tenth and hundredth are hit evenly, and
    /// neighbours in rank are no neighbours in place.
    #[test]
    fn the_first_ranks_lie_at_random() {
        for (rows, width, seed) in [(100, 784, 1), (1024, 1024, 2), (3000, 50, 3)] {
            let initial = initial(rows, width, FULL, 0, seed);
            let n = initial.n();
            for share in [10, 100] {
                let count = n / share;
                let [mut by_row, mut by_column] = [vec![0.0; rows], vec![0.0; width]];
                for rank in 0..count {
                    let index = initial.entry(rank).index as usize;
                    by_row[index / width] += 1.0;
                    by_column[index % width] += 1.0;
                }
                for hits in [by_row, by_column] {
                    let expected = count as f64 / hits.len() as f64;
                    let free = hits.len() as f64 - 1.0;
                    let chi: f64 = hits.iter().map(|hits| (hits - expected).powi(2) / expected).sum();
                    // Drawn without putting back, the variance is smaller by this.
                    let off = (chi / (1.0 - 1.0 / share as f64) - free) / (2.0 * free).sqrt();
                    assert!(off.abs() < 4.5, "{rows}x{width} 1/{share}: {off} deviations");
                }
            }
            for lag in [1, 2, width as u64, n.isqrt()] {
                let place = |rank: u64| initial.entry(rank).index as f64 / n as f64 - 0.5;
                let products = (0..n - lag).map(|rank| place(rank) * place(rank + lag));
                let off = deviations(products, 1.0 / 144.0);
                assert!(off.abs() < 4.5, "{rows}x{width}, lag {lag}: {off} deviations");
            }
        }
    }

    /// Neither values nor signs of neighbours in place, nor of layers of different seeds, go together.
    #[test]
    fn neighbours_and_layers_are_independent() {
        let theta = |seed| written_out(&initial(256, 256, FULL, 0, seed));
        let (first, unit) = (theta(1), 128.0);
        for lag in [1, 2, 255, 256, 257] {
            let off = deviations(first.iter().zip(&first[lag..]).map(|(x, y)| x * y * unit), 1.0);
            let squares =
                first.iter().zip(&first[lag..]).map(|(x, y)| (x * x * unit - 1.0) * (y * y * unit - 1.0));
            let magnitudes = deviations(squares, 4.0);
            assert!(off.abs() < 4.0 && magnitudes.abs() < 4.5, "lag {lag}: {off} {magnitudes}");
        }
        for seed in 2..12 {
            let other = theta(seed);
            let off = deviations(first.iter().zip(&other).map(|(x, y)| x * y * unit), 1.0);
            let squares = first.iter().zip(&other).map(|(x, y)| (x * x * unit - 1.0) * (y * y * unit - 1.0));
            let magnitudes = deviations(squares, 4.0);
            assert!(off.abs() < 4.0 && magnitudes.abs() < 4.5, "seed {seed}: {off} {magnitudes}");
        }
        let signs = deviations(first.iter().map(|x| x.signum()), 1.0);
        let large = initial(256, 256, FULL, 0, 1);
        let of_large = deviations((0..6554).map(|rank| f64::from(large.entry(rank).value.signum())), 1.0);
        assert!(signs.abs() < 4.0 && of_large.abs() < 4.0, "{signs} {of_large}");
    }
}
