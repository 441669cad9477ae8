//! Sinusoids that stand for distances (Vaswani et al. 2017, as Dai et al. 2019 use them).

use topkast_kernels::Matrix;

/// `r` becomes `[sin(δ·ω₀), …, sin(δ·ω_{w/2−1}), cos(δ·ω₀), …]` in column δ of `count`, with ωᵢ = 10000^(−2i/width); nothing is done if it
/// has that shape already.
pub(super) fn sinusoids(width: usize, count: usize, r: &mut Matrix) {
    if (r.features(), r.positions()) == (width, count) {
        return;
    }
    r.reset(width, count);
    for pair in 0..width / 2 {
        let frequency = 10000f64.powf(-2.0 * pair as f64 / width as f64);
        for (row, wave) in [(pair, f64::sin as fn(f64) -> f64), (pair + width / 2, f64::cos)] {
            let numbered = r.row_mut(row).iter_mut().enumerate();
            numbered.for_each(|(distance, slot)| *slot = wave(distance as f64 * frequency) as f32);
        }
    }
}
