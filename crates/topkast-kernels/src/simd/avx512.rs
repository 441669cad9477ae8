//! AVX-512: 16 floats a vector, 32 registers.
//!
//! SAFETY, for every block here: an [`Avx512`] is made only where its features were detected, and that is all the
//! value-to-value intrinsics ask for. Gain: these instructions are the kernels' speed.

use super::{Avx2, GROUP, Simd};
use std::arch::x86_64::*;

/// Proof that the machine has AVX-512 (F, BW, DQ, VL), AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// Asks the machine.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }
}

macro_rules! lanewise {
    ($($name:ident($($argument:ident),+) = $intrinsic:ident;)+) => {$(
        #[inline(always)]
        fn $name(self, $($argument: __m512),+) -> __m512 {
            // SAFETY: see the module.
            unsafe { $intrinsic($($argument),+) }
        }
    )+};
}

impl Simd for Avx512 {
    type Vector = __m512;
    type Window = [__m512; 2];
    const LANES: usize = 16;
    const PANEL: usize = 8;

    lanewise! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        sqrt(v) = _mm512_sqrt_ps;
        mul_add(a, b, c) = _mm512_fmadd_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
        scale(v, n) = _mm512_scalef_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn window(self, from: *const f32) -> [__m512; 2] {
        // SAFETY: the caller vouches for 32 floats.
        unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))] }
    }

    #[inline(always)]
    unsafe fn pick(self, [low, high]: [__m512; 2], picks: *const u8) -> __m512 {
        // SAFETY: see the module; the caller vouches for 16 numbers.
        unsafe {
            let picks = _mm512_cvtepu8_epi32(_mm_loadu_si128(picks.cast()));
            _mm512_permutex2var_ps(low, picks, high)
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: see the module; the caller vouches for the pointer.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: a hint: any address may be given.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: see the module; the caller vouches for the pointer.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m512) {
        // SAFETY: see the module; the caller vouches for the pointer, and calls `end_streams`.
        unsafe { _mm512_stream_ps(to, v) }
    }

    #[inline(always)]
    fn end_streams(self) {
        // SAFETY: every such machine has SSE.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: see the module; the caller vouches for what the mask names.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m512, count: usize) {
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(to, first(count), v) }
    }

    #[inline(always)]
    fn select_greater(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }

    #[inline(always)]
    fn keep_first(self, v: __m512, count: usize) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_maskz_mov_ps(first(count), v) }
    }

    #[inline(always)]
    fn add_sums(self, [a, b, c, d, e, f, g, h]: [__m512; GROUP], out: &mut [f32], overwrite: bool) {
        assert!(out.len() <= GROUP);
        let there = ((1u32 << out.len()) - 1) as __mmask8;
        // SAFETY: see the module; the masked load and store touch only the floats of `out`.
        unsafe {
            // Each 128-bit lane of `low` becomes its share of the sums of a, b, c, d; `high` that of e, f, g, h.
            let pair = |x, y| _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
            let quad = |x, y| _mm512_add_ps(_mm512_shuffle_ps::<0x44>(x, y), _mm512_shuffle_ps::<0xEE>(x, y));
            let low = quad(pair(a, b), pair(c, d));
            let high = quad(pair(e, f), pair(g, h));
            // Then the lanes are added: 0 + 2 and 1 + 3, then these two.
            let halves = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0x44>(low, high),
                _mm512_shuffle_f32x4::<0xEE>(low, high),
            );
            let whole = _mm512_add_ps(halves, _mm512_shuffle_f32x4::<0xB1>(halves, halves));
            let sums = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0x08>(whole, whole));
            let before = if overwrite { 0 } else { there };
            let before = _mm256_maskz_loadu_ps(before, out.as_ptr());
            _mm256_mask_storeu_ps(out.as_mut_ptr(), there, _mm256_add_ps(before, sums));
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [[f32; GROUP]; GROUP]) -> [[f32; GROUP]; GROUP] {
        Avx2::of(self).transpose(rows)
    }
}

/// A mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}
