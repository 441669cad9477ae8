//! RigL (Evci et al., *Rigging the Lottery: Making All Tickets Winners*, ICML 2020, <https://arxiv.org/abs/1911.11134>): what
//! grows are the entries with the largest gradients. The dense gradient is computed a few rows at a time, and only the
//! largest of it are kept: memory for some tiles and a few times what grows, never for the dense weight.
//!
//! ```text
//! tile     some rows of dy·xᵀ; where tiles end follows from the width alone, so that rounding does not depend on threads
//! offered  row by row what lies between the entries of A that stay
//! largest  up to twice as many as wanted; when that is full, half is thrown away and a bound is known
//! ```

use std::ops::Range;

use topkast_kernels::{Buffer, Matrix, dense_weight_gradient};

use super::*;
use crate::selection::{Cut, magnitude};

/// Numbers in a tile at most, unless a row has more: 512 KiB.
const TILE: usize = 1 << 17;

impl SparseWeight {
    /// Drops the `fraction` of A smallest in magnitude, and grows as many: the entries with the largest magnitude of the gradient
    /// `dy·xᵀ` outside what remains of A, ties by lower flat index. As in the paper (§3 (3)) those just dropped may grow; and
    /// as in its authors' code (`reinit_when_same=False`) these then stay as they were, with value and optimizer state.
    ///
    /// Under another topology the weight is left as it is and returns `None`.
    ///
    /// # Panics
    /// If `dy` does not have a feature for each row, or `x` for each column, or they differ in positions.
    pub fn rigl(&mut self, fraction: f64, isa: Isa, dy: &Matrix, x: &Matrix) -> Option<&Remap> {
        if self.topology != Topology::Rigl {
            return None;
        }
        let (rows, width) = (self.pattern.rows(), self.pattern.width());
        assert_eq!((dy.features(), x.features()), (rows, width), "dy and x must fit the weight");
        let count = self.share(fraction);
        let kept = self.all_but(count);
        let mut grown = Vec::new();
        if count > 0 {
            let gradient =
                Gradient { isa, dy, x, pattern: &self.pattern, values: &self.parameter.values, kept };
            let mut largest =
                gradient.largest(0..rows.div_ceil(gradient.rows()), count, rayon::current_num_threads());
            largest.cut();
            grown.extend(largest.entries.iter().map(|entry| entry.index));
            grown.sort_unstable();
        }
        Some(self.exchange_active(kept, grown))
    }
}

/// The dense gradient, and what of A remains.
struct Gradient<'a> {
    isa: Isa,
    dy: &'a Matrix,
    x: &'a Matrix,
    pattern: &'a Pattern,
    values: &'a [f32],
    kept: Cut,
}

impl Gradient<'_> {
    /// Rows in a tile.
    fn rows(&self) -> usize {
        (TILE / self.pattern.width()).max(1)
    }

    /// The `count` largest within these tiles, and maybe some more, with memory for `parts` tiles.
    fn largest(&self, tiles: Range<usize>, count: usize, parts: usize) -> Largest {
        let (few, many) = (parts / 2, parts - parts / 2);
        if few > 0 && tiles.len() > 1 {
            let middle = tiles.start + tiles.len() / 2;
            let (mut one, other) = rayon::join(
                || self.largest(tiles.start..middle, count, few),
                || self.largest(middle..tiles.end, count, many),
            );
            one.entries.extend(other.entries);
            return one;
        }
        let mut largest = Largest::new(count);
        let (mut dy, mut tile) = (Matrix::default(), Buffer::default());
        for number in tiles {
            let rows = number * self.rows()..self.pattern.rows().min((number + 1) * self.rows());
            dy.ensure(rows.len(), self.dy.positions());
            rows.clone().enumerate().for_each(|(to, from)| dy.row_mut(to).copy_from_slice(self.dy.row(from)));
            if tile.len() != rows.len() * self.pattern.width() {
                tile.reset(rows.len() * self.pattern.width());
            }
            dense_weight_gradient(self.isa, &dy, self.x, &mut tile);
            for (row, gradient) in rows.zip(tile.chunks_exact(self.pattern.width())) {
                self.offer_row(row, gradient, &mut largest);
            }
        }
        largest
    }

    /// Offers what lies between the entries of A that stay.
    fn offer_row(&self, row: usize, gradient: &[f32], largest: &mut Largest) {
        let (active, first) = (self.pattern.active(), row as u64 * gradient.len() as u64);
        let mut from = 0;
        for entry in active.row_entries(row) {
            let column = active.column(entry);
            if self.kept.takes(magnitude(self.values[entry]), || first + column as u64) {
                largest.offer(first + from as u64, &gradient[from..column]);
                from = column + 1;
            }
        }
        largest.offer(first + from as u64, &gradient[from..]);
    }
}

/// The largest of what has been offered, and some more.
struct Largest {
    count: usize,
    /// No smaller magnitude is among the largest any more.
    bound: u32,
    entries: Vec<Entry>,
}

impl Largest {
    fn new(count: usize) -> Self {
        Self { count, bound: 0, entries: Vec::with_capacity(2 * count) }
    }

    /// Takes in the neighbours from `first` on, which is above all that were offered before.
    fn offer(&mut self, first: u64, values: &[f32]) {
        for (index, &value) in (first..).zip(values) {
            if magnitude(value) >= self.bound {
                self.entries.push(Entry { index, value });
                if self.entries.len() == 2 * self.count {
                    let last = self.cut();
                    // Whatever follows at that magnitude has a higher index.
                    self.bound = last + 1;
                }
            }
        }
    }

    /// Keeps the largest, and returns the magnitude of the last of them; there are at least as many as wanted.
    fn cut(&mut self) -> u32 {
        let (_, last, _) = self.entries.select_nth_unstable_by_key(self.count - 1, Entry::rank);
        let last = magnitude(last.value);
        self.entries.truncate(self.count);
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Many are equal or next to each other, and they come in pieces.
        #[test]
        fn the_largest_are_those_of_sorting(
            values in prop::collection::vec((0u32..6).prop_map(|low| f32::from_bits(0xbf80_0000 + low)), 1..60),
            count in 1usize..12,
            piece in 1usize..9,
        ) {
            let count = count.min(values.len());
            let mut largest = Largest::new(count);
            for (number, values) in values.chunks(piece).enumerate() {
                largest.offer((number * piece) as u64, values);
            }
            largest.cut();
            let mut want: Vec<Entry> = (0..).zip(&values).map(|(index, &value)| Entry { index, value }).collect();
            want.sort_by_key(Entry::rank);
            want.truncate(count);
            largest.entries.sort_by_key(Entry::rank);
            prop_assert_eq!(largest.entries, want);
        }
    }
}
