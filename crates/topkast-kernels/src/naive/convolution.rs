//! The twins of [`Convolution`](crate::Convolution)'s passes: pixel by pixel, with the window's coordinates.

use crate::{Csr, Maps, Matrix, Window};

/// `y = W ∗ x`; `None` if the window does not fit the maps.
pub fn convolution(csr: &Csr, values: &[f32], x: &Matrix, window: Window, maps: Maps) -> Option<Matrix> {
    let output = window.output(maps)?;
    let mut sums = vec![0.0; csr.rows() * output.positions()];
    for_each_product(csr, window, maps, output, |entry, [row, to], [channel, from]| {
        let product = f64::from(values[entry]) * f64::from(x.get(channel, from));
        sums[row * output.positions() + to] += product;
    });
    Some(rounded(csr.rows(), output, &sums))
}

/// `dx = Wᵀ ∗ dy`, with `inputs` channels; `None` if the window does not fit the maps.
pub fn convolution_input_gradient(
    csr: &Csr,
    values: &[f32],
    dy: &Matrix,
    inputs: usize,
    window: Window,
    maps: Maps,
) -> Option<Matrix> {
    let output = window.output(maps)?;
    let mut sums = vec![0.0; inputs * maps.positions()];
    for_each_product(csr, window, maps, output, |entry, [row, to], [channel, from]| {
        let product = f64::from(values[entry]) * f64::from(dy.get(row, to));
        sums[channel * maps.positions() + from] += product;
    });
    Some(rounded(inputs, maps, &sums))
}

/// The gradient of each value; `None` if the window does not fit the maps.
pub fn convolution_weight_gradient(
    csr: &Csr,
    dy: &Matrix,
    x: &Matrix,
    window: Window,
    maps: Maps,
) -> Option<Vec<f32>> {
    let output = window.output(maps)?;
    let mut sums = vec![0.0; csr.entries()];
    for_each_product(csr, window, maps, output, |entry, [row, to], [channel, from]| {
        sums[entry] += f64::from(dy.get(row, to)) * f64::from(x.get(channel, from));
    });
    Some(sums.into_iter().map(|sum| sum as f32).collect())
}

/// Calls `visit(entry, [output channel, its position], [input channel, its position])` for every product of a weight and a number that
/// is not padding.
fn for_each_product(
    csr: &Csr,
    window: Window,
    maps: Maps,
    output: Maps,
    mut visit: impl FnMut(usize, [usize; 2], [usize; 2]),
) {
    let inside = |at: usize, tap: usize, axis: usize, size: usize| {
        let seen = at * window.stride[axis] + tap * window.dilation[axis];
        seen.checked_sub(window.padding[axis]).filter(|&seen| seen < size)
    };
    for row in 0..csr.rows() {
        for entry in csr.row_entries(row) {
            let (channel, tap) = (csr.column(entry) / window.taps(), csr.column(entry) % window.taps());
            for y in 0..output.height {
                let Some(from_y) = inside(y, tap / window.size[1], 0, maps.height) else { continue };
                for x in 0..output.width {
                    let Some(from_x) = inside(x, tap % window.size[1], 1, maps.width) else { continue };
                    for image in 0..maps.images {
                        let to = (y * output.width + x) * maps.images + image;
                        let from = (from_y * maps.width + from_x) * maps.images + image;
                        visit(entry, [row, to], [channel, from]);
                    }
                }
            }
        }
    }
}

fn rounded(features: usize, maps: Maps, sums: &[f64]) -> Matrix {
    let rounded: Vec<f32> = sums.iter().map(|&sum| sum as f32).collect();
    Matrix::from_rows(features, maps.positions(), &rounded)
}
