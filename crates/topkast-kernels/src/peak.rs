//! The most floating-point operations this machine does in a second: what kernels are measured against.

use std::hint::black_box;
use std::time::Instant;

use crate::lanes::write;
use crate::simd::Simd;
use crate::{Buffer, Isa, Kernel};

/// Independent chains of multiply-adds, enough to hide the latency of each on two units.
const CHAINS: usize = 12;
const ROUNDS: usize = 1 << 16;

struct Chains;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let factor = simd.splat(black_box(0.999));
        let term = simd.splat(black_box(1e-3));
        let mut chains: [S::Vector; CHAINS] = std::array::from_fn(|chain| simd.splat(chain as f32));
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = simd.mul_add(*chain, factor, term);
            }
        }
        let mut lanes = [0.0; 16];
        let total = chains.into_iter().fold(simd.splat(0.0), |sum, chain| simd.add(sum, chain));
        write(simd, &mut lanes, total);
        lanes.iter().sum()
    }
}

/// Sums side by side, and the entries that are summed.
const SUMS: usize = 8;
const ENTRIES: usize = 1 << 12;

/// A sparse product without ends: its entries, each with a value of its own and a row of `x` at random, all go to the same sums.
struct LoadEach<'a> {
    x: &'a [f32],
    values: &'a [f32],
    rows: &'a [u16],
}

impl Kernel for LoadEach<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.splat(0.0); SUMS];
        for (&value, &row) in self.values.iter().zip(self.rows) {
            let value = simd.splat(value);
            let x = &self.x[usize::from(row) * SUMS * S::LANES..][..SUMS * S::LANES];
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the slice has SUMS vectors. Gain: one load a multiply-add is all that is measured.
                *sum = simd.mul_add(value, unsafe { simd.load(x.as_ptr().add(j * S::LANES)) }, *sum);
            }
        }
        let mut lanes = [0.0; 16];
        write(simd, &mut lanes, sums.into_iter().fold(simd.splat(0.0), |total, sum| simd.add(total, sum)));
        lanes.iter().sum()
    }
}

/// What the current thread does in a second, in 10⁹ operations, when each multiply-add loads its own vector from rows at random in so many
/// bytes of X, eight vectors at a time: the most that a sparse product with panels as wide could reach. Takes some hundredths of a second.
///
/// # Panics
/// If there is not room for a row, or for more than 65,536 of them.
pub fn sparse_peak_gflops(isa: Isa, bytes: usize) -> f64 {
    let row = SUMS * isa.lanes();
    let rows = bytes / (size_of::<f32>() * row);
    assert!((1..=1 << 16).contains(&rows), "{bytes} bytes are {rows} rows");
    let x = Buffer::from(&vec![0.5; rows * row][..]);
    let values = vec![1e-3; ENTRIES];
    let mut random = 1u32;
    let mut row_at_random = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(random) * rows as u64) >> 32) as u16
    };
    let rows: Vec<u16> = (0..ENTRIES).map(|_| row_at_random()).collect();
    let seconds = (0..201).map(|_| {
        let start = Instant::now();
        black_box(isa.run(LoadEach { x: &x, values: &values, rows: &rows }));
        start.elapsed().as_secs_f64()
    });
    2e-9 * (ENTRIES * row) as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// The most multiply-adds the threads of the current rayon pool do in a second, measured on the spot, in 10⁹ operations;
/// a multiply-add counts as two. Takes some hundredths of a second.
pub fn fma_peak_gflops(isa: Isa) -> f64 {
    let flops = (2 * CHAINS * ROUNDS * isa.lanes()) as f64;
    let on_every_thread = || {
        let seconds = rayon::broadcast(|_| {
            let start = Instant::now();
            black_box(isa.run(Chains));
            start.elapsed().as_secs_f64()
        });
        seconds.into_iter().map(|seconds| flops / seconds * 1e-9).sum::<f64>()
    };
    (0..15).map(|_| on_every_thread()).fold(0.0, f64::max)
}
