//! The three products of a dense layer, on the `gemm` crate: for the layers that stay dense, and to measure against. Layers
//! with few outputs have kernels of their own (see `narrow`).
//!
//! A product is split into blocks of output rows, each one call on one thread. Where the blocks end does not depend on the
//! number of threads, so neither does any result. `gemm` chooses its own instruction set and, unlike the sparse products,
//! takes its packing buffers from the allocator in every call (tests/allocations.rs bounds them).

use crate::share::join;
use crate::{Isa, Matrix, narrow};

/// Output rows in a block of the products with activations as their result. Each block packs the other operand anew, at
/// under a percent of its work.
const BLOCK: usize = 256;
/// Output rows in a block of the weight gradient, for which `gemm` has to transpose as it packs.
const GRADIENT_BLOCK: usize = 512;

/// Multiply-adds from which on a product is worth two threads: some tenths of a millisecond.
const LARGE: usize = 1 << 25;

/// Output rows in a block of a product of so many: at most `most`, and so few that a large product has two blocks.
fn block(rows: usize, multiply_adds: usize, most: usize) -> usize {
    if multiply_adds < LARGE { most } else { most.min(rows.div_ceil(2).next_multiple_of(16)) }
}

/// `y = W·x`, `[outputs × inputs] · [inputs × positions]`, with `w` row by row; `y` takes the shape
/// `[outputs × positions]` and is overwritten.
///
/// # Panics
/// If `w` has not `outputs × x.features()` numbers.
pub fn dense_forward(isa: Isa, outputs: usize, w: &[f32], x: &Matrix, y: &mut Matrix) {
    assert_eq!(w.len(), outputs * x.features(), "w must be outputs × inputs");
    y.ensure(outputs, x.positions());
    if outputs < narrow::OUTPUTS {
        return narrow::forward(isa, w, x, y);
    }
    let w = Operand { data: w, rows: outputs, columns: x.features(), row: x.features(), column: 1 };
    multiply_positions(w, x, y);
}

/// `dx = Wᵀ·dy`, `[inputs × outputs] · [outputs × positions]`, with `w` (not transposed) row by row; `dx` takes the
/// shape `[inputs × positions]` and is overwritten.
///
/// # Panics
/// If `w` has not `dy.features() × inputs` numbers.
pub fn dense_input_gradient(isa: Isa, inputs: usize, w: &[f32], dy: &Matrix, dx: &mut Matrix) {
    assert_eq!(w.len(), dy.features() * inputs, "w must be outputs × inputs");
    dx.ensure(inputs, dy.positions());
    if dy.features() < narrow::OUTPUTS {
        return narrow::input_gradient(isa, w, dy, dx);
    }
    let w = Operand { data: w, rows: inputs, columns: dy.features(), row: 1, column: inputs };
    multiply_positions(w, dy, dx);
}

/// `dw = dy·xᵀ`, `[outputs × positions] · [positions × inputs]`, row by row, overwriting `dw`.
///
/// # Panics
/// If `dw` has not `dy.features() × x.features()` numbers, or the two differ in positions.
pub fn dense_weight_gradient(isa: Isa, dy: &Matrix, x: &Matrix, dw: &mut [f32]) {
    assert_eq!(dy.positions(), x.positions(), "dy and x must have the same positions");
    let (outputs, inputs, positions) = (dy.features(), x.features(), x.positions());
    assert_eq!(dw.len(), outputs * inputs, "dw must be outputs × inputs");
    if outputs < narrow::OUTPUTS {
        return narrow::weight_gradient(isa, dy, x, dw);
    }
    let left = Operand { data: dy.padded(), rows: outputs, columns: positions, row: dy.stride(), column: 1 };
    let right = Operand { data: x.padded(), rows: positions, columns: inputs, row: 1, column: x.stride() };
    multiply(left, right, dw, inputs, block(outputs, dw.len().saturating_mul(positions), GRADIENT_BLOCK));
}

/// `y = w·x` for matrices that `y` has the right shape for.
fn multiply_positions(w: Operand<'_>, x: &Matrix, y: &mut Matrix) {
    // The padding is computed along, as gemm would otherwise have to copy x for its odd width.
    let right =
        Operand { data: x.padded(), rows: x.features(), columns: x.stride(), row: x.stride(), column: 1 };
    let block = block(w.rows, w.data.len().saturating_mul(x.positions()), BLOCK);
    multiply(w, right, y.padded_mut(), x.positions(), block);
}

/// A matrix within a slice: element `(i, j)` is at `i × row + j × column`.
#[derive(Clone, Copy)]
struct Operand<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Operand<'a> {
    fn split_rows(self, at: usize) -> (Self, Self) {
        let rest = self.data.get(at * self.row..).unwrap_or_default();
        (Self { rows: at, ..self }, Self { data: rest, rows: self.rows - at, ..self })
    }

    fn is_within_its_data(&self) -> bool {
        let empty = self.rows == 0 || self.columns == 0;
        empty || (self.rows - 1) * self.row + (self.columns - 1) * self.column < self.data.len()
    }
}

/// `out = left·right`, row by row, of which the first `kept` columns stay and the others, padding, become zero.
fn multiply(left: Operand<'_>, right: Operand<'_>, out: &mut [f32], kept: usize, block: usize) {
    assert_eq!(out.len(), left.rows * right.columns, "the output must be rows × columns");
    if left.rows > block {
        let middle = left.rows.div_ceil(block) / 2 * block;
        let (top, bottom) = left.split_rows(middle);
        let (out_top, out_bottom) = out.split_at_mut(middle * right.columns);
        join(
            || multiply(top, right, out_top, kept, block),
            || multiply(bottom, right, out_bottom, kept, block),
        );
        return;
    }
    assert_eq!(left.columns, right.rows);
    assert!(left.is_within_its_data() && right.is_within_its_data());
    // SAFETY: every element of the three matrices is within its slice, as just asserted, and `out`, which may hold any
    // floats, is borrowed for this call alone. Gain: gemm has no other interface.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            right.columns as isize,
            false,
            left.data.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.data.as_ptr(),
            right.column as isize,
            right.row as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    if kept < right.columns {
        // Not zero already where a weight is infinite.
        out.chunks_exact_mut(right.columns).for_each(|row| row[kept..].fill(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Csr, Transposed, naive};
    use proptest::prelude::*;

    fn full(rows: usize, width: usize) -> Csr {
        let offsets = (0..=rows).map(|row| (row * width) as u32).collect();
        Csr::new(width, offsets, (0..rows).flat_map(|_| 0..width as u32).collect()).unwrap()
    }

    /// Checks the three products against the sparse twins with every entry present.
    fn check(outputs: usize, inputs: usize, positions: usize, seed: u64) {
        let mut random = Random::new(seed);
        let csr = full(outputs, inputs);
        let w = random.values(outputs * inputs);
        let by_entry: Vec<f32> = csr.flat_indices().map(|index| w[index as usize]).collect();
        let (x, dy) = (random.matrix(inputs, positions), random.matrix(outputs, positions));

        for isa in Isa::available() {
            let mut y = random.matrix(outputs, positions);
            dense_forward(isa, outputs, &w, &x, &mut y);
            let sizes = naive::spmm(&csr, &magnitudes(&by_entry), &matrix_magnitudes(&x));
            assert_matrix_close(&y, &naive::spmm(&csr, &by_entry, &x), &sizes, inputs);

            let mut dx = random.matrix(inputs, positions);
            dense_input_gradient(isa, inputs, &w, &dy, &mut dx);
            let Transposed { csr: transposed, order } = csr.transposed();
            let by_column: Vec<f32> = order.iter().map(|&entry| by_entry[entry as usize]).collect();
            let sizes = naive::spmm(&transposed, &magnitudes(&by_column), &matrix_magnitudes(&dy));
            assert_matrix_close(&dx, &naive::spmm(&transposed, &by_column, &dy), &sizes, outputs);

            let mut dw = random.values(outputs * inputs);
            dense_weight_gradient(isa, &dy, &x, &mut dw);
            let sizes = naive::sddmm(&csr, &matrix_magnitudes(&dy), &matrix_magnitudes(&x));
            let dw: Vec<f32> = csr.flat_indices().map(|index| dw[index as usize]).collect();
            assert_close(&dw, &naive::sddmm(&csr, &dy, &x), &sizes, positions);
        }
    }

    #[test]
    fn odd_shapes() {
        for positions in [0, 1, 15, 16, 17, 33, 100, 128, 129, 300] {
            for (outputs, inputs) in [(0, 0), (0, 5), (5, 0), (1, 1), (7, 16), (17, 15), (33, 129), (600, 17)]
            {
                check(outputs, inputs, positions, 1);
            }
        }
    }

    /// Two blocks, though they have fewer rows than a block may.
    #[test]
    fn large_products_of_few_rows() {
        check(201, 600, 300, 4);
    }

    #[test]
    fn threads_do_not_show() {
        let mut random = Random::new(2);
        for (outputs, inputs, positions) in
            [(10, 1000, 128), (400, 300, 100), (201, 600, 300), (1200, 130, 300)]
        {
            let w = random.values(outputs * inputs);
            let (x, dy) = (random.matrix(inputs, positions), random.matrix(outputs, positions));
            assert_same_on_any_threads(|isa| {
                let (mut y, mut dx, mut dw) = (Matrix::default(), Matrix::default(), vec![0.0; w.len()]);
                dense_forward(isa, outputs, &w, &x, &mut y);
                dense_input_gradient(isa, inputs, &w, &dy, &mut dx);
                dense_weight_gradient(isa, &dy, &x, &mut dw);
                [y.padded(), dx.padded(), &dw].concat()
            });
        }
    }

    #[test]
    fn infinities_stay_out_of_the_padding() {
        let (x, mut y) = (Matrix::from_rows(1, 3, &[1.0; 3]), Matrix::default());
        for outputs in [2, narrow::OUTPUTS] {
            let mut w = vec![1.0; outputs];
            w[0] = f32::INFINITY;
            dense_forward(Isa::portable(), outputs, &w, &x, &mut y);
            let want: Vec<f32> = w.iter().flat_map(|&w| [w; 3]).collect();
            assert_eq!(y, Matrix::from_rows(outputs, 3, &want));
        }
    }

    proptest! {
        #[test]
        fn any_shape(outputs in 0usize..150, inputs in 0usize..150, positions in 0usize..140, seed: u64) {
            check(outputs, inputs, positions, seed);
        }
    }
}
