//! What the last store of a sparse product does besides storing, which saves passes over the matrix.

use crate::Matrix;
use crate::activation::{gelu_slope, gelu_vector};
use crate::piece::Place;
use crate::simd::Simd;

/// What happens to each output of a product `W·x` in the store that completes it.
#[derive(Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// The row's bias is added; one number for each row of the weight.
    Bias(&'a [f32]),
    /// The row's bias is added, then negative sums become zero; NaN stays.
    BiasRelu(&'a [f32]),
    /// The row's bias is added; `pre` takes the sum, and the output is its [`gelu`](crate::gelu).
    BiasGelu {
        /// One number for each row of the weight.
        bias: &'a [f32],
        /// Takes the shape of the output and is overwritten.
        pre: &'a mut Matrix,
    },
    /// For a gradient with respect to the output `y` of a ReLU: makes it the one with respect to its input, as
    /// [`relu_gradient`](crate::relu_gradient) does.
    ReluGradient(&'a Matrix),
    /// For a gradient with respect to a GELU's output: makes it the one with respect to its input `pre`, as
    /// [`gelu_gradient`](crate::gelu_gradient) does.
    GeluGradient(&'a Matrix),
    /// The matrix is added: for gradients of what several layers take as their input.
    Add(&'a Matrix),
}

impl Epilogue<'_> {
    /// Gives a second output its shape, checks those of the inputs, and makes it what threads can share.
    ///
    /// # Panics
    /// If a bias has not one number for each row, or a matrix not the shape `[rows × positions]`.
    pub(crate) fn finish(self, rows: usize, positions: usize) -> Finish {
        let check = |matrix: &Matrix| {
            assert_eq!(
                (matrix.features(), matrix.positions()),
                (rows, positions),
                "the shapes must be the same"
            );
            matrix.padded().as_ptr()
        };
        let with_bias = |bias: &[f32], then| {
            assert_eq!(bias.len(), rows, "there must be one bias for each row of the weight");
            Finish { bias: Some(bias.as_ptr()), then }
        };
        let without = |then| Finish { bias: None, then };
        match self {
            Self::None => without(Then::Store),
            Self::Bias(bias) => with_bias(bias, Then::Store),
            Self::BiasRelu(bias) => with_bias(bias, Then::Relu),
            Self::BiasGelu { bias, pre } => {
                pre.ensure(rows, positions);
                with_bias(bias, Then::Gelu(pre.padded_mut().as_mut_ptr()))
            }
            Self::ReluGradient(y) => without(Then::ReluGradient(check(y))),
            Self::GeluGradient(pre) => without(Then::GeluGradient(check(pre))),
            Self::Add(term) => without(Then::Add(check(term))),
        }
    }
}

/// An [`Epilogue`] whose shapes are checked, by pointers, as the threads of a product write to disjoint parts of `pre`.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    bias: Option<*const f32>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Store,
    Relu,
    Gelu(*mut f32),
    ReluGradient(*const f32),
    GeluGradient(*const f32),
    Add(*const f32),
}

impl Finish {
    /// The outputs for `sums`, the vectors from `offset` in the padded matrix on, in row `row`. Lanes after the first `kept` are
    /// padding and become zero: a bias, or an infinite value, must not get there.
    ///
    /// # Safety
    /// What the epilogue refers to is still borrowed; the row is one of its rows and the vectors within its matrices or,
    /// where [`Place::LINES`], the first `kept` of their floats; no other thread works on the same vectors.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd, P: Place, const N: usize>(
        self,
        simd: S,
        row: usize,
        offset: usize,
        kept: usize,
        mut sums: [S::Vector; N],
    ) -> [S::Vector; N] {
        let zero = simd.splat(0.0);
        // SAFETY: the caller vouches for the row and the vectors. Gain: no bounds are checked for each short run.
        unsafe {
            if let Some(bias) = self.bias {
                let bias = simd.splat(*bias.add(row));
                for sum in &mut sums {
                    *sum = simd.add(*sum, bias);
                }
            }
            if kept < N * S::LANES {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.keep_first(*sum, kept.saturating_sub(j * S::LANES));
                }
            }
            // One choice for all of a row's vectors: one for each takes a tenth of the time of ten entries.
            match self.then {
                Then::Store => {}
                Then::Relu => {
                    for sum in &mut sums {
                        // In this order, for `max` gives its second argument if one is NaN.
                        *sum = simd.max(zero, *sum);
                    }
                }
                Then::Gelu(pre) => {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        store_kept::<S, P>(simd, pre.wrapping_add(offset), j, kept, *sum);
                        *sum = gelu_vector(simd, *sum);
                    }
                }
                Then::ReluGradient(y) => {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let y = load_kept::<S, P>(simd, y.wrapping_add(offset), j, kept);
                        *sum = simd.mul(*sum, simd.select_greater(y, zero, simd.splat(1.0), zero));
                    }
                }
                Then::GeluGradient(pre) => {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let pre = load_kept::<S, P>(simd, pre.wrapping_add(offset), j, kept);
                        *sum = simd.mul(*sum, gelu_slope(simd, pre));
                    }
                }
                Then::Add(term) => {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let term = load_kept::<S, P>(simd, term.wrapping_add(offset), j, kept);
                        *sum = simd.add(*sum, term);
                    }
                }
            }
        }
        sums
    }
}

/// Stores the `j`-th vector of a panel of which `kept` floats are a line's own: those alone where others follow, which are not to be
/// touched.
///
/// # Safety
/// The vector at its place in `panel` is valid for writing, or its floats among the first `kept` where [`Place::LINES`].
#[inline(always)]
pub(crate) unsafe fn store_kept<S: Simd, P: Place>(
    simd: S,
    panel: *mut f32,
    j: usize,
    kept: usize,
    vector: S::Vector,
) {
    let (to, kept) = (panel.wrapping_add(j * S::LANES), kept.saturating_sub(j * S::LANES));
    // SAFETY: as demanded.
    unsafe {
        if P::LINES && kept < S::LANES { simd.store_first(to, vector, kept) } else { simd.store(to, vector) }
    }
}

/// The `j`-th vector of such a panel.
///
/// # Safety
/// As for [`store_kept`], for reading.
#[inline(always)]
pub(crate) unsafe fn load_kept<S: Simd, P: Place>(
    simd: S,
    panel: *const f32,
    j: usize,
    kept: usize,
) -> S::Vector {
    let (from, kept) = (panel.wrapping_add(j * S::LANES), kept.saturating_sub(j * S::LANES));
    // SAFETY: as demanded.
    unsafe { if P::LINES && kept < S::LANES { simd.load_first(from, kept) } else { simd.load(from) } }
}

// SAFETY: the pointers are to borrowed slices and matrices; what is written through `Then::Gelu` is disjoint among threads,
// as `apply` demands. Gain: the panels of one row go to different threads, which no safe split of the matrix allows.
unsafe impl Send for Finish {}
// SAFETY: as above.
unsafe impl Sync for Finish {}
