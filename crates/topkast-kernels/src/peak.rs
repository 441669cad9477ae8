//! The most floating-point operations this machine does in a second: what kernels are measured against.

use std::hint::black_box;
use std::time::Instant;

use crate::lanes::write;
use crate::simd::Simd;
use crate::{Isa, Kernel};

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
