//! RigL (Evci et al., *Rigging the Lottery: Making All Tickets Winners*, ICML 2020, <https://arxiv.org/abs/1911.11134>): what
//! grows are the entries with the largest gradients. The dense gradient is computed a few rows at a time, and only the
//! largest of it are kept: memory for some tiles and a few times what grows, never for the dense weight.
//!
//! ```text
//! tile     some rows of it                                                                           GradientTile
//! offered  row by row what lies between the entries of A that stay
//! largest  up to twice as many as wanted; when that is full, half is thrown away and a bound is known   Largest
//! ```

use std::ops::Range;

use super::tiles::{DenseGradient, GradientTile, tiles};
use super::*;
use crate::selection::{Cut, magnitude};

impl SparseWeight {
    /// Drops the `fraction` of A smallest in magnitude, and grows as many: the entries with the largest magnitude of the dense
    /// gradient outside what remains of A, ties by lower flat index. As in the paper (§3 (3)) those just dropped may grow; and
    /// as in its authors' code (`reinit_when_same=False`) these then stay as they were, with value and optimizer state.
    ///
    /// Under another topology the weight is left as it is and returns `None`.
    ///
    /// # Panics
    /// If the gradient is not of the weight's shape.
    pub fn rigl(&mut self, fraction: f64, isa: Isa, gradient: &DenseGradient<'_>) -> Option<&Remap> {
        if self.topology != Topology::Rigl {
            return None;
        }
        let (rows, width) = (self.pattern.rows(), self.pattern.width());
        assert_eq!(gradient.shape(), [rows, width], "the gradient must be the weight's");
        let count = self.share(fraction);
        let kept = self.all_but(count);
        let mut grown = Vec::new();
        if count > 0 {
            let search =
                Search { isa, gradient, pattern: &self.pattern, values: &self.parameter.values, kept };
            let tiles: Vec<Range<usize>> = tiles(rows, width).collect();
            grown = search.largest(&tiles, count, rayon::current_num_threads()).into_indices();
        }
        Some(self.exchange_active(kept, grown))
    }
}

/// RigL where the dense gradient is someone else's.
impl SparseWeight {
    /// The indices of A, ascending, that [`rigl`](Self::rigl) with this fraction would not drop; under another topology `None`.
    pub fn remaining(&mut self, fraction: f64) -> Option<Vec<u64>> {
        if self.topology != Topology::Rigl {
            return None;
        }
        let count = self.share(fraction);
        let kept = self.all_but(count);
        let mut remaining = Vec::with_capacity(self.counts.active - count);
        let values = &self.parameter.values;
        self.pattern.for_each_by_index(|index, entry| {
            if kept.takes(magnitude(values[entry]), || index) {
                remaining.push(index);
            }
        });
        Some(remaining)
    }

    /// Does what [`rigl`](Self::rigl) does, with the indices that are to grow.
    ///
    /// Under another topology the weight is left as it is and returns `None`.
    ///
    /// # Panics
    /// If `grown` does not ascend, is not as many as are dropped, or has an index that is not of this weight or among those that
    /// [remain](Self::remaining).
    pub fn rigl_to(&mut self, fraction: f64, grown: Vec<u64>) -> Option<&Remap> {
        let remaining = self.remaining(fraction)?;
        assert_eq!(grown.len() + remaining.len(), self.counts.active, "as many must grow as are dropped");
        assert!(grown.is_sorted_by(|a, b| a < b), "indices must ascend");
        assert!(
            grown.last().is_none_or(|&last| last < self.pattern.total()),
            "indices must be of the weight"
        );
        assert!(
            grown.iter().all(|index| remaining.binary_search(index).is_err()),
            "what remains cannot grow"
        );
        let kept = self.all_but(grown.len());
        Some(self.exchange_active(kept, grown))
    }
}

/// The dense gradient, and what of A remains.
struct Search<'a> {
    isa: Isa,
    gradient: &'a DenseGradient<'a>,
    pattern: &'a Pattern,
    values: &'a [f32],
    kept: Cut,
}

impl Search<'_> {
    /// The `count` largest within these tiles, with memory for `parts` tiles.
    fn largest(&self, tiles: &[Range<usize>], count: usize, parts: usize) -> Largest {
        let (few, many) = (parts / 2, parts - parts / 2);
        if few > 0 && tiles.len() > 1 {
            let (before, after) = tiles.split_at(tiles.len() / 2);
            let (mut one, other) =
                rayon::join(|| self.largest(before, count, few), || self.largest(after, count, many));
            one.absorb(other);
            return one;
        }
        let (mut largest, mut tile) = (Largest::new(count), GradientTile::default());
        for rows in tiles {
            let gradient = tile.compute(self.isa, self.gradient, rows.clone());
            for (row, gradient) in rows.clone().zip(gradient.chunks_exact(self.pattern.width())) {
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
