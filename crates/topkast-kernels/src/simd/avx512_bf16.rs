//! AVX512-BF16: dot products of numbers with 8 bits of significand, added up in `f32`.
//!
//! SAFETY, for every block here: an [`Avx512Bf16`] is made only where its features were detected, and that is all the
//! value-to-value intrinsics ask for. Gain: an instruction takes twice as many products as one of `f32`, on half the bytes.

use super::Avx512;
use std::arch::x86_64::*;

/// Proof that the machine has AVX512-BF16 besides what [`Avx512`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Bf16(Avx512);

/// A computation that [`Avx512Bf16::run`] compiles for the instruction set; as with [`Kernel`](crate::Kernel), all of it must
/// be `#[inline(always)]`.
pub(crate) trait Bf16Kernel {
    fn run(self, simd: Avx512Bf16);
}

impl Avx512Bf16 {
    /// bf16 numbers in a vector.
    pub(crate) const LANES: usize = 32;

    /// Asks the machine.
    pub fn new() -> Option<Self> {
        Avx512::new().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
    }

    /// Operations on vectors of `f32`.
    #[inline(always)]
    pub(crate) fn f32s(self) -> Avx512 {
        self.0
    }

    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub(crate) fn run(self, kernel: impl Bf16Kernel) {
        // SAFETY: see the module. Gain: the kernel's operations are single instructions, not calls.
        unsafe { run_avx512_bf16(self, kernel) }
    }

    /// Reads 32 floats and rounds them to the nearest bf16, ties to even; the second 16 only if `both`, otherwise they are
    /// zero. Whatever order they come in, it is always the same. Subnormal numbers become zero.
    ///
    /// # Safety
    /// `from` is valid for reading 32 floats if `both`, otherwise 16.
    #[inline(always)]
    pub(crate) unsafe fn load_rounded(self, from: *const f32, both: bool) -> __m512bh {
        let mask = if both { __mmask16::MAX } else { 0 };
        // SAFETY: see the module; the caller vouches for the pointer, and what is masked is not read.
        unsafe {
            let second = _mm512_maskz_loadu_ps(mask, from.wrapping_add(16));
            _mm512_cvtne2ps_pbh(second, _mm512_loadu_ps(from))
        }
    }

    /// `sums + a × b`, where each of 16 sums takes two products; subnormal numbers count as zero.
    #[inline(always)]
    pub(crate) fn add_products(self, sums: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_dpbf16_ps(sums, a, b) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn run_avx512_bf16(simd: Avx512Bf16, kernel: impl Bf16Kernel) {
    kernel.run(simd);
}
