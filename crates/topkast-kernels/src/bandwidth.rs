//! How fast this machine moves numbers: the other thing, besides the FMA peak, that kernels are measured against.
//!
//! Both measures are STREAM's triad, `a = b + s·c`, and count the twelve bytes an element that the program reads and writes;
//! what the memory system moves besides (reading `a` before it is overwritten) is not counted.

use std::hint::black_box;
use std::time::Instant;

use crate::chunks::{CHUNK, for_each_chunk};
use crate::lanes::{read, write};
use crate::simd::Simd;
use crate::{Buffer, Isa, Kernel};

/// Bytes of each of the three vectors at least and at most, where they shall not fit in any cache.
const FAR: (usize, usize) = (64 << 20, 256 << 20);
/// Bytes of each of the three vectors where they shall be in a core's L2: together more than L1 and less than L2.
const NEAR: usize = 96 << 10;
/// Passes over the near vectors that are timed together.
const NEAR_PASSES: usize = 200;
const BYTES_AN_ELEMENT: usize = 3 * size_of::<f32>();

struct Triad<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
    c: &'a [f32],
}

impl Kernel for Triad<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let scale = simd.splat(black_box(0.5));
        let operands = self.b.chunks_exact(S::LANES).zip(self.c.chunks_exact(S::LANES));
        for (a, (b, c)) in self.a.chunks_exact_mut(S::LANES).zip(operands) {
            write(simd, a, simd.mul_add(scale, read(simd, c), read(simd, b)));
        }
    }
}

fn vectors(bytes: usize) -> [Buffer; 3] {
    std::array::from_fn(|_| {
        let mut vector = Buffer::zeros(bytes / size_of::<f32>());
        // Written to, so that each has memory of its own.
        vector.fill(1.0);
        vector
    })
}

/// What the threads of the current rayon pool together read from and write to memory in a second, measured on the spot, in
/// 10⁹ bytes. Takes some tenths of a second and at most 768 MiB.
pub fn memory_bandwidth_gbs(isa: Isa) -> f64 {
    let bytes = (2 * largest_cache_bytes()).clamp(FAR.0, FAR.1);
    let [mut a, b, c] = vectors(bytes);
    let moved = (a.len() * BYTES_AN_ELEMENT) as f64;
    let pass = |_| {
        let start = Instant::now();
        for_each_chunk((&mut a[..], (&b[..], &c[..])), CHUNK, &|_, (a, (b, c))| isa.run(Triad { a, b, c }));
        moved / start.elapsed().as_secs_f64() * 1e-9
    };
    (0..5).map(pass).fold(0.0, f64::max)
}

/// What the threads of the current rayon pool together read from and write to their L2 caches in a second, measured on the
/// spot, in 10⁹ bytes.
pub fn l2_bandwidth_gbs(isa: Isa) -> f64 {
    let on_every_thread = |_| {
        let rates = rayon::broadcast(|_| {
            let [mut a, b, c] = vectors(NEAR);
            let moved = (NEAR_PASSES * a.len() * BYTES_AN_ELEMENT) as f64;
            let start = Instant::now();
            for _ in 0..NEAR_PASSES {
                isa.run(Triad { a: &mut a, b: &b, c: &c });
                black_box(&mut a);
            }
            moved / start.elapsed().as_secs_f64() * 1e-9
        });
        rates.into_iter().sum::<f64>()
    };
    (0..15).map(on_every_thread).fold(0.0, f64::max)
}

/// Bytes of the first processor's L3 cache; 0 where the system does not tell.
fn largest_cache_bytes() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").unwrap_or_default();
    text.trim().strip_suffix('K').and_then(|kibibytes| kibibytes.parse().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triad_is_computed_on_every_isa() {
        for isa in Isa::available() {
            let [mut a, b, c] = vectors(4 * 48);
            isa.run(Triad { a: &mut a, b: &b, c: &c });
            assert_eq!(&a[..], &[1.5; 48]);
        }
    }
}
