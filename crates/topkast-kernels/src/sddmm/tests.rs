//! Tests of the weight gradient.

use super::*;
use crate::testing::*;
use crate::{Columns, naive};
use proptest::prelude::*;

fn check(csr: &Csr, positions: usize, seed: u64) {
    let mut random = Random::new(seed);
    let (dy, x) = (random.matrix(csr.rows(), positions), random.matrix(csr.width(), positions));
    let want = naive::sddmm(csr, &dy, &x);
    let sizes = naive::sddmm(csr, &matrix_magnitudes(&dy), &matrix_magnitudes(&x));
    let mut gradient = random.values(csr.entries());
    for isa in Isa::available() {
        sddmm(isa, csr, &dy, &x, &mut gradient);
        assert_close(&gradient, &want, &sizes, positions);
        let one = |csr: &Csr, gradient: &mut [f32]| sddmm(isa, csr, &dy, &x, gradient);
        let both = |structures: [&Csr; 2], gradients: [&mut [f32]; 2]| {
            sddmm_pair(isa, structures, &dy, &x, gradients);
        };
        assert_two_at_once_are_each_alone(csr, &mut random, one, both);
        let onto = [random.values(csr.entries()), random.values(csr.entries())];
        let [mut a, mut b] = onto.clone();
        sddmm_pair_add(isa, [csr, csr], &dy, &x, [&mut a, &mut b]);
        for (got, onto) in [a, b].into_iter().zip(onto) {
            let plus = |numbers: &[f32], onto: &[f32]| -> Vec<f32> {
                numbers.iter().zip(onto).map(|(a, b)| a + b).collect()
            };
            assert_close(&got, &plus(&want, &onto), &plus(&sizes, &magnitudes(&onto)), positions + 1);
        }
    }
}

#[test]
fn odd_shapes() {
    for_odd_shapes(|csr, positions| check(csr, positions, 2));
}

#[test]
fn blocks_of_columns_and_chunks_of_rows() {
    for_blocked_shapes(|csr, positions| check(csr, positions, 4));
}

#[test]
fn portions_of_positions() {
    for (rows, width, positions) in
        [(64, 17, 8192), (1, 1, 8193), (15, 300, 9001), (0, 5, 8192), (5, 0, 10_000)]
    {
        for density in [0.0, 0.1, 1.0] {
            check(&Random::new(11).csr(rows, width, density), positions, 12);
        }
    }
}

#[test]
fn wide_columns() {
    let csr = Random::new(5).csr(7, 70_000, 0.001);
    assert!(matches!(csr.columns(), Columns::U32(_)));
    check(&csr, 17, 6);
}

#[test]
fn threads_do_not_show() {
    let mut random = Random::new(8);
    for (rows, width, positions) in [(2, 300, 100), (700, 600, 100), (31, 70, 9000)] {
        let csr = random.csr(rows, width, 0.05);
        let (dy, x) = (random.matrix(rows, positions), random.matrix(width, positions));
        let other = random.csr(rows, width, 0.06);
        assert_same_on_any_threads(|isa| {
            let mut gradient = vec![0.0; csr.entries()];
            sddmm(isa, &csr, &dy, &x, &mut gradient);
            let mut others = vec![0.0; other.entries()];
            sddmm_pair(isa, [&csr, &other], &dy, &x, [&mut gradient, &mut others]);
            [gradient, others].concat()
        });
    }
}

#[test]
fn a_gradient_does_not_depend_on_its_neighbours() {
    let mut random = Random::new(9);
    let (dy, x) = (random.matrix(1, 200), random.matrix(40, 200));
    for isa in Isa::available() {
        let mut all = [0.0; 40];
        sddmm(isa, &Csr::new(40, vec![0, 40], (0..40).collect()).unwrap(), &dy, &x, &mut all);
        for (column, all) in all.into_iter().enumerate() {
            let mut alone = [0.0];
            let csr = Csr::new(40, vec![0, 1], vec![column as u32]).unwrap();
            sddmm(isa, &csr, &dy, &x, &mut alone);
            assert_eq!(alone[0].to_bits(), all.to_bits());
        }
    }
}

proptest! {
    #[test]
    fn any_shape((csr, positions, seed) in any_structure()) {
        check(&csr, positions, seed);
    }

    #[test]
    fn any_number_of_blocks((csr, positions, seed) in any_blocked_structure(), threads in 1usize..4) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&csr, positions, seed));
    }
}
