//! A feature-major matrix of activations, `[features × positions]`.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::{Buffer, LINE};
use crate::chunks::Split;

/// Activations or their gradients, one contiguous row a feature, one column a *position* (sample, token, pixel).
///
/// Rows start on 64-byte boundaries: the distance between them, [`stride`](Self::stride), is `positions` rounded up
/// to a multiple of 16, and 16 more where it would be a multiple of 256, as rows at such distances share a few cache
/// sets and evict one another. **The padding at the end of each row is always zero**; kernels rely on that (a sum over a
/// row may run over its padding) and keep it so, which is why no public method hands it out mutably.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    data: Buffer,
    features: usize,
    positions: usize,
    stride: usize,
}

impl Matrix {
    /// A matrix of zeros.
    ///
    /// # Panics
    /// If `features × positions`, rounded up, overflows `usize`.
    pub fn zeros(features: usize, positions: usize) -> Self {
        let mut matrix = Self::default();
        matrix.reset(features, positions);
        matrix
    }

    /// A matrix from values listed row by row.
    ///
    /// # Panics
    /// If `values.len() != features × positions`.
    pub fn from_rows(features: usize, positions: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), features * positions, "values must fill the matrix");
        let mut matrix = Self::zeros(features, positions);
        for feature in 0..features {
            matrix.row_mut(feature).copy_from_slice(&values[feature * positions..][..positions]);
        }
        matrix
    }

    /// Gives the matrix another shape and sets it to zero, reusing its storage where it suffices.
    ///
    /// # Panics
    /// If `features × positions`, rounded up, overflows `usize`.
    pub fn reset(&mut self, features: usize, positions: usize) {
        let len = self.reshape(features, positions);
        self.data.reset(len);
    }

    /// As [`reset`](Self::reset), but leaves the elements as they are when the shape is the same already, and anything where it is not: for
    /// outputs that a kernel overwrites whole.
    pub fn ensure(&mut self, features: usize, positions: usize) {
        if (self.features, self.positions) != (features, positions) {
            let len = self.reshape(features, positions);
            self.data.resize(len);
            let padded = self.data.chunks_exact_mut(self.stride.max(LINE));
            padded.for_each(|row| row[positions..].fill(0.0));
        }
    }

    /// The distance of rows of so many positions.
    pub(crate) fn stride_of(positions: usize) -> usize {
        let stride = positions.next_multiple_of(LINE);
        if stride > 0 && stride.is_multiple_of(256) { stride + LINE } else { stride }
    }

    /// Takes another shape, and tells how many floats it has.
    fn reshape(&mut self, features: usize, positions: usize) -> usize {
        self.stride = Self::stride_of(positions);
        self.features = features;
        self.positions = positions;
        features.checked_mul(self.stride).expect("matrix size overflows")
    }

    /// Becomes a copy of these rows of `other`.
    ///
    /// # Panics
    /// If `other` has fewer.
    pub fn copy_rows(&mut self, other: &Self, rows: Range<usize>) {
        self.ensure(rows.len(), other.positions);
        self.data.copy_from_slice(&other.data[rows.start * other.stride..rows.end * other.stride]);
    }

    /// Number of rows.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of columns, without padding.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Distance between the starts of neighbouring rows, in floats: a multiple of 16.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The values of one feature, `positions` long.
    pub fn row(&self, feature: usize) -> &[f32] {
        &self.data[feature * self.stride..][..self.positions]
    }

    /// The values of one feature, `positions` long.
    pub fn row_mut(&mut self, feature: usize) -> &mut [f32] {
        &mut self.data[feature * self.stride..][..self.positions]
    }

    /// The rows in blocks of `features` neighbours, the last of which may have fewer, for rayon to share out. A
    /// matrix without positions yields none.
    ///
    /// # Panics
    /// If `features` is zero.
    pub fn par_row_blocks_mut(
        &mut self,
        features: usize,
    ) -> impl IndexedParallelIterator<Item = RowsMut<'_>> {
        // The stride is zero only where there is no data to cut.
        let (positions, stride) = (self.positions, self.stride.max(LINE));
        let rows = move |data| RowsMut::new(data, positions, stride);
        self.data.par_chunks_mut(features.saturating_mul(stride)).map(rows)
    }

    /// All rows, to write.
    pub fn rows_mut(&mut self) -> RowsMut<'_> {
        let Self { features, positions, stride, .. } = *self;
        RowsMut { data: &mut self.data, features, positions, stride }
    }

    /// The rows in `N` equal blocks of neighbours.
    ///
    /// # Panics
    /// If `N` does not divide them.
    pub fn blocks<const N: usize>(&self) -> [Rows<'_>; N] {
        let Self { positions, stride, .. } = *self;
        let features = self.block_of(N);
        std::array::from_fn(|block| {
            let data = &self.data[block * features * stride..][..features * stride];
            Rows { data, features, positions, stride }
        })
    }

    /// The same, to write.
    ///
    /// # Panics
    /// If `N` does not divide them.
    pub fn blocks_mut<const N: usize>(&mut self) -> [RowsMut<'_>; N] {
        let features = self.block_of(N);
        let mut rest = self.rows_mut();
        std::array::from_fn(|_| {
            let (block, others) = std::mem::replace(&mut rest, RowsMut::none()).split_at(features);
            rest = others;
            block
        })
    }

    /// How many rows each of so many blocks has.
    fn block_of(&self, blocks: usize) -> usize {
        assert!(blocks > 0 && self.features.is_multiple_of(blocks), "the rows must make up whole blocks");
        self.features / blocks
    }

    /// One element.
    pub fn get(&self, feature: usize, position: usize) -> f32 {
        self.row(feature)[position]
    }

    /// All rows with their padding, `features × stride` long.
    pub fn padded(&self) -> &[f32] {
        &self.data
    }

    /// Whether no element is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|value| value.is_finite())
    }

    /// All rows with their padding. Writers must leave the padding zero.
    pub(crate) fn padded_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Bytes of storage held.
    pub fn capacity_bytes(&self) -> usize {
        self.data.capacity_bytes()
    }
}

/// Some neighbouring rows of a [`Matrix`], or all, to read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    features: usize,
    positions: usize,
    stride: usize,
}

impl<'a> From<&'a Matrix> for Rows<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        let &Matrix { features, positions, stride, .. } = matrix;
        Self { data: matrix.padded(), features, positions, stride }
    }
}

impl<'a> Rows<'a> {
    /// Number of rows.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of columns, without padding.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The values of one feature, counted from the first of these rows, `positions` long.
    pub fn row(&self, feature: usize) -> &'a [f32] {
        &self.data[feature * self.stride..][..self.positions]
    }

    /// Distance between the starts of neighbouring rows.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The rows with their padding.
    pub(crate) fn padded(&self) -> &'a [f32] {
        self.data
    }
}

/// Some neighbouring rows of a [`Matrix`], without their padding.
#[derive(Debug)]
pub struct RowsMut<'a> {
    data: &'a mut [f32],
    features: usize,
    positions: usize,
    stride: usize,
}

impl Split for RowsMut<'_> {
    fn len(&self) -> usize {
        self.features
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Self { data, features, positions, stride } = self;
        let (head, tail) = data.split_at_mut(at * stride);
        let rows = |data, features| Self { data, features, positions, stride };
        (rows(head, at), rows(tail, features - at))
    }
}

impl<'a> RowsMut<'a> {
    fn new(data: &'a mut [f32], positions: usize, stride: usize) -> Self {
        Self { features: data.len() / stride, data, positions, stride }
    }

    pub(crate) fn none() -> Self {
        Self { data: &mut [], features: 0, positions: 0, stride: 0 }
    }

    /// Number of rows.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of columns.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Distance between the starts of neighbouring rows.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The rows with their padding, which must stay zero.
    pub(crate) fn into_padded(self) -> &'a mut [f32] {
        self.data
    }

    /// The values of one feature, counted from the first of these rows, `positions` long.
    pub fn row_mut(&mut self, feature: usize) -> &mut [f32] {
        &mut self.data[feature * self.stride..][..self.positions]
    }

    /// Where these `count` values of each feature begin: several rows at a time, which slices could not be.
    ///
    /// # Panics
    /// If a row has not so many.
    pub(crate) fn places<const N: usize>(&mut self, at: [(usize, usize); N], count: usize) -> [*mut f32; N] {
        let start = self.data.as_mut_ptr();
        at.map(|(feature, position)| {
            assert!(feature < self.features && position + count <= self.positions, "a row has not so many");
            start.wrapping_add(feature * self.stride + position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_padding_is_zero() {
        for positions in [0, 1, 15, 16, 17, 33, 256, 1024] {
            let mut matrix = Matrix::zeros(3, positions);
            for feature in 0..3 {
                matrix.row_mut(feature).fill(1.0);
                assert_eq!(matrix.row(feature).as_ptr().align_offset(64), 0);
            }
            assert_eq!(matrix.padded().iter().sum::<f32>(), 3.0 * positions as f32);
        }
    }

    #[test]
    fn blocks_are_the_rows_in_turn() {
        for positions in [0, 1, 17, 256] {
            let mut matrix = Matrix::zeros(6, positions);
            for (block, mut rows) in matrix.blocks_mut::<3>().into_iter().enumerate() {
                assert_eq!((rows.features(), rows.positions()), (2, positions));
                (0..2).for_each(|row| rows.row_mut(row).fill((2 * block + row) as f32));
            }
            for (block, rows) in matrix.blocks::<3>().into_iter().enumerate() {
                assert_eq!((rows.features(), rows.positions()), (2, positions));
                (0..2).for_each(|row| assert_eq!(rows.row(row), matrix.row(2 * block + row)));
                (0..2).for_each(|row| assert!(rows.row(row).iter().all(|&x| x == (2 * block + row) as f32)));
            }
        }
        assert_eq!(Matrix::default().blocks::<3>().map(|rows| rows.features()), [0; 3]);
    }

    #[test]
    fn row_blocks_are_the_rows_without_padding() {
        for (features, positions, block) in
            [(0, 0, 1), (0, 5, 1), (5, 0, 2), (1, 1, 4), (5, 16, 1), (7, 33, 3)]
        {
            let mut matrix = Matrix::zeros(features, positions);
            matrix.par_row_blocks_mut(block).enumerate().for_each(|(index, mut rows)| {
                assert_eq!(rows.features(), block.min(features - index * block));
                for feature in 0..rows.features() {
                    rows.row_mut(feature).fill((index * block + feature) as f32);
                }
            });
            for feature in 0..features {
                assert_eq!(matrix.row(feature), vec![feature as f32; positions]);
            }
            let sum = (0..features).map(|feature| feature * positions).sum::<usize>();
            assert_eq!(matrix.padded().iter().sum::<f32>(), sum as f32);
        }
    }

    #[test]
    fn padding_is_zero_in_any_shape() {
        let mut matrix = Matrix::from_rows(1, 20, &[1.0; 20]);
        for (features, positions) in [(2, 3), (3, 40), (1, 17), (0, 5), (5, 0), (2, 16), (1, 240), (7, 33)] {
            matrix.ensure(features, positions);
            (0..features).for_each(|feature| matrix.row_mut(feature).fill(1.0));
            assert_eq!(matrix, Matrix::from_rows(features, positions, &vec![1.0; features * positions]));
        }
        matrix.reset(2, 3);
        assert_eq!(matrix, Matrix::zeros(2, 3));
    }
}
