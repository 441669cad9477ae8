//! AVX2 with FMA: 8 floats a vector, 16 registers.
//!
//! SAFETY, for every block here: an [`Avx2`] is made only where its features were detected, and that is all the
//! value-to-value intrinsics ask for. Gain: these instructions are the kernels' speed.

use super::{Avx512, GROUP, Simd};
use std::arch::x86_64::*;

/// Proof that the machine has AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// Asks the machine.
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// [`Avx512`] has asked for the same features, too.
    #[inline(always)]
    pub(super) fn of(_: Avx512) -> Self {
        Self(())
    }
}

macro_rules! lanewise {
    ($($name:ident($($argument:ident),+) = $intrinsic:ident;)+) => {$(
        #[inline(always)]
        fn $name(self, $($argument: __m256),+) -> __m256 {
            // SAFETY: see the module.
            unsafe { $intrinsic($($argument),+) }
        }
    )+};
}

impl Simd for Avx2 {
    type Vector = __m256;
    type Window = *const f32;
    const LANES: usize = 8;
    const PANEL: usize = 8;

    lanewise! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        sqrt(v) = _mm256_sqrt_ps;
        mul_add(a, b, c) = _mm256_fmadd_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: see the module.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn window(self, from: *const f32) -> *const f32 {
        from
    }

    #[inline(always)]
    unsafe fn pick(self, window: *const f32, picks: *const u8) -> __m256 {
        // SAFETY: see the module; the caller vouches for 8 numbers and for the floats that they name.
        unsafe { _mm256_i32gather_ps::<4>(window, _mm256_cvtepu8_epi32(_mm_loadl_epi64(picks.cast()))) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: see the module; the caller vouches for the pointer.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a hint: any address may be given.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        // SAFETY: see the module; the caller vouches for the pointer.
        unsafe { _mm256_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m256) {
        // SAFETY: see the module; the caller vouches for the pointer, and calls `end_streams`.
        unsafe { _mm256_stream_ps(to, v) }
    }

    #[inline(always)]
    fn end_streams(self) {
        // SAFETY: every such machine has SSE.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m256 {
        // SAFETY: see the module; the caller vouches for what the mask names.
        unsafe { _mm256_maskload_ps(from, first(self, count)) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m256, count: usize) {
        // SAFETY: as above.
        unsafe { _mm256_maskstore_ps(to, first(self, count), v) }
    }

    #[inline(always)]
    fn select_greater(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: see the module.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        // SAFETY: see the module.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }

    #[inline(always)]
    fn scale(self, v: __m256, n: __m256) -> __m256 {
        // SAFETY: see the module.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    fn keep_first(self, v: __m256, count: usize) -> __m256 {
        // SAFETY: see the module.
        unsafe { _mm256_and_ps(v, _mm256_castsi256_ps(first(self, count))) }
    }

    #[inline(always)]
    fn add_sums(self, [a, b, c, d, e, f, g, h]: [__m256; GROUP], out: &mut [f32], overwrite: bool) {
        assert!(out.len() <= GROUP);
        // SAFETY: see the module; the store fills `all`.
        unsafe {
            // Each 128-bit lane of `low` becomes its share of the sums of a, b, c, d; `high` that of e, f, g, h.
            let pair = |x, y| _mm256_add_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
            let quad = |x, y| _mm256_add_ps(_mm256_shuffle_ps::<0x44>(x, y), _mm256_shuffle_ps::<0xEE>(x, y));
            let low = quad(pair(a, b), pair(c, d));
            let high = quad(pair(e, f), pair(g, h));
            let sums = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(low, high),
                _mm256_permute2f128_ps::<0x31>(low, high),
            );
            let mut all = [0.0; GROUP];
            _mm256_storeu_ps(all.as_mut_ptr(), sums);
            // Not a masked load and store: a masked store takes 20 cycles on some machines.
            for (out, sum) in out.iter_mut().zip(all) {
                *out = if overwrite { sum } else { *out + sum };
            }
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [[f32; GROUP]; GROUP]) -> [[f32; GROUP]; GROUP] {
        let mut columns = [[0.0; GROUP]; GROUP];
        // SAFETY: see the module; every load and store is of a whole array of eight.
        unsafe {
            // In loops, as closures that are handed on would be compiled without the instructions.
            let mut v = [_mm256_setzero_ps(); GROUP];
            for (v, row) in v.iter_mut().zip(&rows) {
                *v = _mm256_loadu_ps(row.as_ptr());
            }
            // Of rows 0 to 3 and of rows 4 to 7: in the halves of a vector columns c and c + 4.
            let mut quads = [[_mm256_setzero_ps(); 4]; 2];
            for (quads, v) in quads.iter_mut().zip(v.as_chunks::<4>().0) {
                let (a, b) = (_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
                let (c, d) = (_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
                *quads = [
                    _mm256_shuffle_ps::<0x44>(a, c),
                    _mm256_shuffle_ps::<0xEE>(a, c),
                    _mm256_shuffle_ps::<0x44>(b, d),
                    _mm256_shuffle_ps::<0xEE>(b, d),
                ];
            }
            for c in 0..4 {
                let (upper, lower) = (quads[0][c], quads[1][c]);
                _mm256_storeu_ps(columns[c].as_mut_ptr(), _mm256_permute2f128_ps::<0x20>(upper, lower));
                _mm256_storeu_ps(columns[c + 4].as_mut_ptr(), _mm256_permute2f128_ps::<0x31>(upper, lower));
            }
        }
        columns
    }
}

/// A mask of the first `count` lanes.
#[inline(always)]
fn first(_: Avx2, count: usize) -> __m256i {
    // SAFETY: see the module.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), lanes)
    }
}
