//! Weights whose first A follows neither from θ⁰'s magnitudes nor from the seed alone: they are made without entries, θ⁰ being
//! known by index, and start when it is known what A is.

use std::ops::Range;

use rayon::prelude::*;
use topkast_kernels::Buffer;

use super::choice::Choice;
use super::tiles::tiles;
use super::*;
use crate::init::active_scale;

impl SparseWeight {
    /// Whether A has been chosen; of most topologies it is from the beginning.
    pub fn is_started(&self) -> bool {
        self.initial.is_none()
    }

    /// The rows of each tile in which θ⁰ goes by: 512 KiB of it, unless a row has more. It follows from the width alone.
    pub fn tiles(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone + use<> {
        tiles(self.pattern.rows(), self.pattern.width())
    }

    /// Writes θ⁰ of these rows of a weight that has not been started to `out`, row by row.
    ///
    /// # Panics
    /// If it has been started, or has fewer rows.
    pub fn initial_rows(&self, rows: Range<usize>, out: &mut Buffer) {
        const PART: usize = 1 << 10;
        assert!(rows.end <= self.pattern.rows(), "the weight has no row {}", rows.end);
        let initial = self.initial.as_deref().expect("θ⁰ is known until A is chosen");
        let width = self.pattern.width();
        if out.len() != rows.len() * width {
            out.reset(rows.len() * width);
        }
        out.par_chunks_mut(PART).enumerate().for_each(|(part, values)| {
            let first = (rows.start * width + part * PART) as u64;
            values.iter_mut().zip(first..).for_each(|(value, index)| *value = initial.value(index));
        });
    }

    /// Starts with A = B = `active`, flat indices that ascend, each with its value in θ⁰, which is then forgotten. Where a
    /// `deviation` is given, values are scaled so that their squares sum to what those of a whole weight with this standard
    /// deviation do.
    ///
    /// # Panics
    /// If it has been started, or the indices do not ascend or are not of this weight.
    pub fn start(&mut self, active: &[u64], deviation: Option<f64>) {
        self.start_with(active.par_iter().copied());
        let Some(deviation) = deviation else { return };
        let values = &mut self.parameter.values;
        let squares = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        let scale = active_scale(squares, self.pattern.total(), deviation) as f32;
        values.iter_mut().for_each(|value| *value *= scale);
    }

    /// Starts with A = B = everything.
    ///
    /// # Panics
    /// If it has been started.
    pub fn start_full(&mut self) {
        // A weight that starts so has few enough entries for 32 bits.
        let total = self.pattern.total() as usize;
        self.start_with((0..total).into_par_iter().map(|index| index as u64));
    }

    fn start_with(&mut self, active: impl ParallelIterator<Item = u64>) {
        let initial = self.initial.take().expect("a weight starts once");
        let entry = |index| Entry { index, value: initial.value(index) };
        let choice = Choice::of(active.map(entry).collect());
        let (rows, width) = (self.pattern.rows(), self.pattern.width());
        let pattern = choice.pattern(rows, width).expect("indices ascend, and are of this weight");
        self.parameter = Parameter::new(choice.values(&pattern));
        self.counts = counts_of(&pattern);
        self.pattern = Arc::new(pattern);
    }
}
