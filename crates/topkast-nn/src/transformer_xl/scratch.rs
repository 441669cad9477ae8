//! What layers work with in turn.

use topkast_kernels::Matrix;

/// Matrices that every layer's backward pass uses in turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The gradient with respect to the layer's output; in the end to its input.
    pub(super) flow: Matrix,
    /// The same with respect to a residual sum.
    pub(super) residual: Matrix,
    /// With respect to what attention puts out.
    pub(super) attended: Matrix,
    /// With respect to the keys or values of the segment, without those of the memory.
    pub(super) own: Matrix,
}
