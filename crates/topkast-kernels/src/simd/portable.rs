//! Vectors as arrays, for any machine; the compiler maps them to whatever it has.

use super::{GROUP, Simd};

/// The instruction set that every machine has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Portable;

type V = [f32; 8];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Simd for Portable {
    type Vector = V;
    type Window = *const f32;
    const LANES: usize = 8;
    const PANEL: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn window(self, from: *const f32) -> *const f32 {
        from
    }

    #[inline(always)]
    unsafe fn pick(self, window: *const f32, picks: *const u8) -> V {
        // SAFETY: the caller vouches for the numbers and for the floats that they name.
        std::array::from_fn(|lane| unsafe { *window.add(usize::from(*picks.add(lane))) })
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: the caller vouches for `LANES` floats; an array of them needs no more than their alignment.
        unsafe { from.cast::<V>().read() }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: V) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<V>().write(v) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: V) {
        // SAFETY: as in `load`.
        unsafe { self.store(to, v) }
    }

    #[inline(always)]
    fn end_streams(self) {}

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> V {
        // SAFETY: the caller vouches for `count` floats.
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: V, count: usize) {
        for (lane, x) in v.into_iter().enumerate().take(count) {
            // SAFETY: as above.
            unsafe { *to.add(lane) = x };
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self, v: V) -> V {
        v.map(f32::sqrt)
    }

    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Not `f32::mul_add`: without the instruction that is a library call.
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn select_greater(self, a: V, b: V, yes: V, no: V) -> V {
        std::array::from_fn(|lane| if a[lane] > b[lane] { yes[lane] } else { no[lane] })
    }

    #[inline(always)]
    fn round(self, v: V) -> V {
        v.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn scale(self, v: V, n: V) -> V {
        zip(v, n, |v, n| v * f32::from_bits((((n as i32) + 127) as u32) << 23))
    }

    #[inline(always)]
    fn keep_first(self, v: V, count: usize) -> V {
        std::array::from_fn(|lane| if lane < count { v[lane] } else { 0.0 })
    }

    #[inline(always)]
    fn add_sums(self, vectors: [V; GROUP], out: &mut [f32], overwrite: bool) {
        assert!(out.len() <= GROUP);
        for (out, v) in out.iter_mut().zip(vectors) {
            let sum = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
            *out = if overwrite { sum } else { *out + sum };
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [[f32; GROUP]; GROUP]) -> [[f32; GROUP]; GROUP] {
        std::array::from_fn(|c| std::array::from_fn(|r| rows[r][c]))
    }
}
