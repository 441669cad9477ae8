//! What the tests of the kernels share: seeded random operands and one measure of closeness.

use proptest::prelude::*;

use crate::{Csr, Isa, Matrix};

/// A xorshift generator: the same numbers for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Uniform in 0…1.
    pub(crate) fn unit(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// Numbers uniform in −1…1.
    pub(crate) fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| 2.0 * self.unit() - 1.0).collect()
    }

    pub(crate) fn matrix(&mut self, features: usize, positions: usize) -> Matrix {
        Matrix::from_rows(features, positions, &self.values(features * positions))
    }

    /// A structure with each cell present with probability `density`, except that of every seven rows one is empty and
    /// one is full.
    pub(crate) fn csr(&mut self, rows: usize, width: usize, density: f32) -> Csr {
        let mut offsets = vec![0];
        let mut columns = Vec::new();
        for row in 0..rows {
            let density = match row % 7 {
                3 => 0.0,
                5 => 1.0,
                _ => density,
            };
            columns.extend((0..width as u32).filter(|_| self.unit() < density));
            offsets.push(columns.len() as u32);
        }
        Csr::new(width, offsets, columns).unwrap()
    }
}

/// Asserts that `got` is `want` to within what the rounding of a sum of `terms` products explains, where `magnitudes`
/// holds the sum of the products' magnitudes.
pub(crate) fn assert_close(got: &[f32], want: &[f32], magnitudes: &[f32], terms: usize) {
    assert_eq!((got.len(), want.len()), (want.len(), magnitudes.len()));
    for (i, ((got, want), magnitude)) in got.iter().zip(want).zip(magnitudes).enumerate() {
        let tolerance = f32::EPSILON * (terms as f32).sqrt().max(4.0) * magnitude;
        assert!((got - want).abs() <= tolerance, "at {i}: {got} against {want} ± {tolerance}");
    }
}

/// As [`assert_close`], for matrices; and the padding of `got` must be zero.
pub(crate) fn assert_matrix_close(got: &Matrix, want: &Matrix, magnitudes: &Matrix, terms: usize) {
    assert_eq!((got.features(), got.positions()), (want.features(), want.positions()));
    for feature in 0..got.features() {
        assert_close(got.row(feature), want.row(feature), magnitudes.row(feature), terms);
        let padding = &got.padded()[feature * got.stride()..][got.positions()..got.stride()];
        assert!(padding.iter().all(|&x| x == 0.0), "the padding of row {feature} is not zero");
    }
}

/// The numbers' magnitudes.
pub(crate) fn magnitudes(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| x.abs()).collect()
}

/// The elements' magnitudes.
pub(crate) fn matrix_magnitudes(matrix: &Matrix) -> Matrix {
    let mut result = matrix.clone();
    (0..result.features()).for_each(|f| result.row_mut(f).iter_mut().for_each(|x| *x = x.abs()));
    result
}

/// Asserts that `compute` returns the same bits on 1, 2 and 3 threads, for every instruction set.
pub(crate) fn assert_same_on_any_threads(compute: impl Fn(Isa) -> Vec<f32> + Sync) {
    let bits = |threads, isa| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compute(isa)).into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for isa in Isa::available() {
        let one = bits(1, isa);
        for threads in [2, 3] {
            assert!(bits(threads, isa) == one, "{threads} threads differ from one on {isa:?}");
        }
    }
}

/// Asserts that `both` gives for `csr` and another structure of its shape, in either order, the bits that `one` gives for each
/// alone.
pub(crate) fn assert_two_at_once_are_each_alone(
    csr: &Csr,
    random: &mut Random,
    one: impl Fn(&Csr, &mut [f32]),
    both: impl Fn([&Csr; 2], [&mut [f32]; 2]),
) {
    let other = random.csr(csr.rows(), csr.width(), 0.12);
    let (mut gradient, mut others) = (random.values(csr.entries()), random.values(other.entries()));
    one(csr, &mut gradient);
    one(&other, &mut others);
    let (alone, others_alone) = (gradient.clone(), others.clone());
    gradient.fill(f32::NAN);
    both([csr, &other], [&mut gradient, &mut others]);
    assert_eq!((&gradient, &others), (&alone, &others_alone));
    both([&other, csr], [&mut others, &mut gradient]);
    assert_eq!((&gradient, &others), (&alone, &others_alone));
}

/// Structures and numbers of positions that are no multiples of anything, and those at the edge of it.
pub(crate) fn for_odd_shapes(check: impl Fn(&Csr, usize)) {
    for positions in [0, 1, 15, 16, 17, 31, 32, 33, 100, 128, 129, 300] {
        for (rows, width) in [(0, 0), (0, 5), (5, 0), (1, 1), (7, 16), (17, 15), (33, 129), (40, 17)] {
            check(&Random::new(1).csr(rows, width, 0.3), positions);
        }
    }
}

/// Structures that are walked packed in narrow and in wide blocks, in place, and with rows of X that are far apart.
pub(crate) fn for_blocked_shapes(check: impl Fn(&Csr, usize)) {
    for (rows, width, density, positions) in [
        (300, 700, 0.1, 33),
        (300, 1100, 0.04, 20),
        (90, 600, 0.0, 100),
        (1100, 80, 0.2, 17),
        (600, 600, 0.01, 520),
    ] {
        check(&Random::new(3).csr(rows, width, density), positions);
    }
}

/// A structure of any density, a number of positions, and a seed for values.
pub(crate) fn any_structure() -> impl Strategy<Value = (Csr, usize, u64)> {
    (0usize..50, 0usize..330, 0.0f32..1.0, 0usize..140, any::<u64>()).prop_map(
        |(rows, width, density, positions, seed)| {
            (Random::new(seed).csr(rows, width, density * density), positions, seed ^ 1)
        },
    )
}

/// The same, wide enough for one block of columns or several.
pub(crate) fn any_blocked_structure() -> impl Strategy<Value = (Csr, usize, u64)> {
    (0usize..30, 300usize..1700, 0.0f32..0.3, 1usize..70, any::<u64>()).prop_map(
        |(rows, width, density, positions, seed)| {
            (Random::new(seed).csr(rows, width, density), positions, seed ^ 1)
        },
    )
}
