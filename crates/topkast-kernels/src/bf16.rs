//! Products with inputs rounded to bf16, for machines that have the instructions.

#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512Bf16;
use crate::{Csr, Matrix};

#[cfg(target_arch = "x86_64")]
type Proof = Avx512Bf16;
#[cfg(not(target_arch = "x86_64"))]
type Proof = std::convert::Infallible;

/// Proof that the machine multiplies bf16 numbers (AVX512-BF16): comes only from [`Isa::bf16`](crate::Isa::bf16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16(pub(crate) Proof);

/// [`sddmm`](crate::sddmm) with every number of `dy` and `x` rounded to the nearest bf16 (8 bits of significand, ties to even,
/// subnormal numbers to zero) and sums in `f32`, in less time (measured in docs/experiments).
///
/// Panels of positions are added in ascending order, for any number of threads.
///
/// # Panics
/// As [`sddmm`](crate::sddmm).
pub fn sddmm_bf16(bf16: Bf16, csr: &Csr, dy: &Matrix, x: &Matrix, gradient: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    crate::sddmm_bf16::sddmm_bf16(bf16.0, csr, dy, x, gradient);
    #[cfg(not(target_arch = "x86_64"))]
    match (bf16.0, csr, dy, x, gradient) {}
}

/// [`sddmm_bf16`] for two structures, as [`sddmm_pair`](crate::sddmm_pair).
///
/// # Panics
/// As [`sddmm_pair`](crate::sddmm_pair).
pub fn sddmm_bf16_pair(
    bf16: Bf16,
    structures: [&Csr; 2],
    dy: &Matrix,
    x: &Matrix,
    gradients: [&mut [f32]; 2],
) {
    #[cfg(target_arch = "x86_64")]
    crate::sddmm_bf16::sddmm_bf16_pair(bf16.0, structures, dy, x, gradients);
    #[cfg(not(target_arch = "x86_64"))]
    match (bf16.0, structures, dy, x, gradients) {}
}
