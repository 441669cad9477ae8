//! The vector operations the kernels are written in, and their shells per instruction set.
//!
//! A value of a [`Simd`] type is proof that the machine has the instruction set: [`Avx512`] and [`Avx2`] are made only
//! by their `new`, which asks. So the arithmetic is safe to call, and only loads and stores, which take raw pointers,
//! are not.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512_bf16::Avx512Bf16;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512_bf16::Bf16Kernel;
pub use portable::Portable;

/// How many vectors [`Simd::add_sums`] reduces at once: enough accumulators to hide the latency of a fused multiply-add,
/// few enough to stay in the 16 registers of AVX2.
pub const GROUP: usize = 8;

/// Floats that [`Simd::pick`] picks from: two vectors of the widest.
pub const WINDOW: usize = 32;

/// Vectors of `f32` of one instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`LANES`](Self::LANES) floats.
    type Vector: Copy;
    /// [`WINDOW`] consecutive floats.
    type Window: Copy;
    /// Floats in a vector: divides 16, so that every padded row is a whole number of vectors.
    const LANES: usize;
    /// Vectors of accumulators that stay in registers beside the operands: the widest panel of positions, in vectors,
    /// that a sparse product works on at once.
    const PANEL: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads `LANES` floats.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` floats; no alignment is needed.
    unsafe fn load(self, from: *const f32) -> Self::Vector;
    /// Writes `LANES` floats.
    ///
    /// # Safety
    /// `to` is valid for writing `LANES` floats; no alignment is needed.
    unsafe fn store(self, to: *mut f32, v: Self::Vector);
    /// [`store`](Self::store) past the caches, for what is too large for them: no line is read to be overwritten. What other
    /// threads are to see of it needs [`end_streams`](Self::end_streams) first.
    ///
    /// # Safety
    /// Besides, `to` is aligned to a vector.
    unsafe fn stream(self, to: *mut f32, v: Self::Vector);
    /// Orders what was streamed before what this thread stores from here on.
    fn end_streams(self);
    /// Reads `count` floats, at most `LANES`; the other lanes are zero.
    ///
    /// # Safety
    /// `from` is valid for reading `count` floats.
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Vector;
    /// Writes the first `count` lanes, at most `LANES`.
    ///
    /// # Safety
    /// `to` is valid for writing `count` floats.
    unsafe fn store_first(self, to: *mut f32, v: Self::Vector, count: usize);
    /// The [`WINDOW`] floats at `from`, to be picked from.
    ///
    /// # Safety
    /// They are valid for reading as long as the window is used.
    unsafe fn window(self, from: *const f32) -> Self::Window;
    /// In each lane the float of `window` whose number is the lane's in `picks`.
    ///
    /// # Safety
    /// `picks` is valid for reading `LANES` numbers, all below [`WINDOW`].
    unsafe fn pick(self, window: Self::Window, picks: *const u8) -> Self::Vector;
    /// Fetches the cache line at `from`, if there is one, ahead of its use.
    fn prefetch(self, from: *const f32);
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a − b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a × b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a ÷ b`.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `√v`.
    fn sqrt(self, v: Self::Vector) -> Self::Vector;
    /// `a × b + c`, rounded once where the instruction set fuses it, twice in the portable one.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of `a` and `b`; `b` where either is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller of `a` and `b`; `b` where either is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `yes` where `a > b`, else `no` (also where either is NaN).
    fn select_greater(
        self,
        a: Self::Vector,
        b: Self::Vector,
        yes: Self::Vector,
        no: Self::Vector,
    ) -> Self::Vector;
    /// `v` rounded to the nearest integer, ties to even.
    fn round(self, v: Self::Vector) -> Self::Vector;
    /// `v × 2ⁿ` for integral `n` in −126…127.
    fn scale(self, v: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// The first `count` lanes of `v`, zero in the others.
    fn keep_first(self, v: Self::Vector, count: usize) -> Self::Vector;
    /// Adds the sum of the lanes of each vector to the float of `out` with its number, or, with `overwrite`, puts it there;
    /// vectors for which there is no float are left out. Each sum is formed in the same tree, whatever its place.
    ///
    /// # Panics
    /// If `out` is longer than [`GROUP`].
    fn add_sums(self, vectors: [Self::Vector; GROUP], out: &mut [f32], overwrite: bool);
    /// The columns of a square of which these are the rows.
    fn transpose(self, rows: [[f32; GROUP]; GROUP]) -> [[f32; GROUP]; GROUP];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Kernel};

    struct Check;

    impl Kernel for Check {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let ramp: Vec<f32> = (0..16).map(|i| i as f32 - 4.5).collect();
            let other: Vec<f32> = (0..16).map(|i| (i * 7 % 16) as f32 * 0.3 - 2.0).collect();
            // SAFETY: both hold 16 floats and LANES divides 16.
            let (a, b) = unsafe { (s.load(ramp.as_ptr()), s.load(other.as_ptr())) };
            let read = |v: S::Vector| {
                let mut out = vec![0.0; S::LANES];
                // SAFETY: `out` holds LANES floats.
                unsafe { s.store(out.as_mut_ptr(), v) };
                out
            };
            let lanes = |v: S::Vector, expected: &dyn Fn(f32, f32) -> f32| {
                for (lane, got) in read(v).into_iter().enumerate() {
                    let want = expected(ramp[lane], other[lane]);
                    assert!((got - want).abs() <= 1e-6 * want.abs(), "lane {lane}: {got} against {want}");
                }
            };
            assert_eq!(16 % S::LANES, 0);
            lanes(s.splat(3.5), &|_, _| 3.5);
            lanes(s.add(a, b), &|a, b| a + b);
            lanes(s.sub(a, b), &|a, b| a - b);
            lanes(s.mul(a, b), &|a, b| a * b);
            lanes(s.div(a, b), &|a, b| a / b);
            lanes(s.sqrt(s.mul(a, a)), &|a, _| (a * a).sqrt());
            lanes(s.mul_add(a, b, a), &|a, b| a.mul_add(b, a));
            lanes(s.max(a, b), &f32::max);
            lanes(s.min(a, b), &f32::min);
            lanes(s.select_greater(a, b, a, s.splat(7.0)), &|a, b| if a > b { a } else { 7.0 });
            lanes(s.round(a), &|a, _| a.round_ties_even());
            lanes(s.scale(b, s.round(a)), &|a, b| b * a.round_ties_even().exp2());
            lanes(s.max(s.splat(f32::NAN), a), &|a, _| a);
            lanes(s.min(s.splat(f32::NAN), a), &|a, _| a);
            lanes(s.select_greater(s.splat(f32::NAN), a, a, b), &|_, b| b);
            let floats: [f32; WINDOW] = std::array::from_fn(|i| i as f32 * 0.5 - 3.0);
            let picks: Vec<u8> = (0..S::LANES).map(|lane| (lane * 11 % WINDOW) as u8).collect();
            // SAFETY: there are WINDOW floats, and LANES numbers below that.
            let picked = read(unsafe { s.pick(s.window(floats.as_ptr()), picks.as_ptr()) });
            assert!(picked.iter().zip(&picks).all(|(got, &pick)| *got == floats[usize::from(pick)]));
            for count in 0..=S::LANES {
                let kept = read(s.keep_first(s.splat(f32::NAN), count));
                assert!(kept[..count].iter().all(|x| x.is_nan()));
                assert!(kept[count..].iter().all(|&x| x == 0.0));
                // Slices of their own size, so that a tool which sees reads and writes beyond them can tell.
                let mut part = ramp[..count].to_vec();
                // SAFETY: `part` holds `count` floats.
                let first = read(unsafe { s.load_first(part.as_ptr(), count) });
                assert_eq!(first[..count], ramp[..count]);
                assert!(first[count..].iter().all(|&x| x == 0.0));
                // SAFETY: as above.
                unsafe { s.store_first(part.as_mut_ptr(), b, count) };
                assert_eq!(part, other[..count]);
                let mut whole = ramp.clone();
                // SAFETY: it holds more.
                unsafe { s.store_first(whole.as_mut_ptr(), b, count) };
                assert_eq!((&whole[..count], &whole[count..]), (&other[..count], &ramp[count..]));
            }
            let rows: [[f32; GROUP]; GROUP] =
                std::array::from_fn(|r| std::array::from_fn(|c| (10 * r + c) as f32));
            for (c, column) in s.transpose(rows).into_iter().enumerate() {
                assert_eq!(column, std::array::from_fn(|r| rows[r][c]));
            }
            let group: [S::Vector; GROUP] = std::array::from_fn(|i| s.add(a, s.splat(i as f32)));
            for len in 0..=GROUP {
                let mut out = [100.0; GROUP];
                s.add_sums(group, &mut out[..len], false);
                let mut set = [100.0; GROUP];
                s.add_sums(group, &mut set[..len], true);
                for i in 0..GROUP {
                    let sum = if i < len { read(group[i]).iter().sum::<f32>() } else { 0.0 };
                    assert_eq!(out[i], 100.0 + sum);
                    assert_eq!(set[i], if i < len { sum } else { 100.0 });
                }
            }
        }
    }

    #[test]
    fn every_isa_computes_what_scalars_do() {
        Isa::available().into_iter().for_each(|isa| isa.run(Check));
    }
}
