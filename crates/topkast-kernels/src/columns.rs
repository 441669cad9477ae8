//! Some columns of a matrix that is stored row by row, to be written by one task while others write theirs.

use std::marker::PhantomData;

use crate::Matrix;
use crate::buffer::LINE;
use crate::chunks::Split;

/// Neighbouring columns of all rows, borrowed exclusively. Parts of one matrix never overlap: they come from
/// [`Split::split_at`] alone, so each may be written without regard to the others.
pub(crate) struct ColumnsMut<'a> {
    /// The first of these columns in the first row.
    data: *mut f32,
    rows: usize,
    /// Distance between the starts of neighbouring rows.
    stride: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: what the columns are of is borrowed exclusively, and no other `ColumnsMut` holds the same ones, so they are like a
// `&mut [f32]`. Gain: columns, which interleave in memory, are worked on in parallel.
unsafe impl Send for ColumnsMut<'_> {}

impl<'a> ColumnsMut<'a> {
    /// All positions of a matrix, and of its padding what makes them a whole number of lines.
    pub(crate) fn of(matrix: &'a mut Matrix) -> Self {
        let (rows, stride, width) = (matrix.features(), matrix.stride(), matrix.positions());
        // Without positions there are rows all the same.
        Self { rows, ..Self::new(matrix.padded_mut(), stride, width.next_multiple_of(LINE)) }
    }

    /// The first `width` columns of rows of `stride` floats each.
    ///
    /// # Panics
    /// If `width` exceeds `stride`.
    pub(crate) fn new(data: &'a mut [f32], stride: usize, width: usize) -> Self {
        assert!(width <= stride, "a row has {stride} columns");
        let rows = data.len().checked_div(stride).unwrap_or(0);
        Self { data: data.as_mut_ptr(), rows, stride, width, borrow: PhantomData }
    }

    /// Number of these columns.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// One row of these columns.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: in bounds, as the row is one of the rows and the columns end before the stride does; unaliased, as `self`
        // is borrowed exclusively and alone has these columns. Gain: see `ColumnsMut`.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.width) }
    }
}

impl Split for ColumnsMut<'_> {
    fn len(&self) -> usize {
        self.width
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        assert!(at <= self.width);
        let rest = self.data.wrapping_add(at);
        (Self { width: at, ..self }, Self { data: rest, width: self.width - at, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::for_each_chunk;

    #[test]
    fn every_number_of_a_matrix_is_in_one_part() {
        for (features, positions) in [(0, 5), (3, 0), (1, 1), (2, 16), (5, 17), (3, 256), (7, 100)] {
            for chunk in [1, 16, 64] {
                let mut matrix = Matrix::zeros(features, positions);
                for_each_chunk(ColumnsMut::of(&mut matrix), chunk, &|start, mut part| {
                    assert!(start % chunk == 0 && part.width() <= chunk);
                    for row in 0..features {
                        let numbers = part.row(row).iter_mut().enumerate();
                        numbers.for_each(|(at, x)| *x += (row * 1000 + start + at) as f32);
                    }
                });
                for feature in 0..features {
                    let want: Vec<f32> = (0..positions).map(|at| (feature * 1000 + at) as f32).collect();
                    assert_eq!(matrix.row(feature), want);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "row < self.rows")]
    fn a_row_beyond_the_last_is_refused() {
        ColumnsMut::new(&mut [0.0; 6], 3, 2).row(2);
    }
}
