//! A layer that has not been started computes what it would with all of θ⁰.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use topkast::{Counts, ReservoirKind, Seed, Topology};
use topkast_kernels::{Isa, Matrix};
use topkast_nn::{LayerPlan, Linear, SparseLinear};

use crate::numbers::{assert_close, random_matrix};
use crate::{ACTIVATIONS, INIT};

fn layer([outputs, inputs]: [usize; 2]) -> SparseLinear {
    let counts = Counts { active: 1, backward: 1 };
    let (topology, reservoir) = (Topology::Pruning, ReservoirKind::Implicit);
    let plan = LayerPlan::Sparse { counts, topology, init: INIT, reservoir };
    match Linear::new(outputs, inputs, &plan, Seed::new(7)).unwrap() {
        Linear::Sparse(layer) => layer,
        Linear::Dense(_) => panic!("planned sparse"),
    }
}

#[track_caller]
fn assert_same(got: &Matrix, want: &Matrix, place: &str) {
    assert_eq!((got.features(), got.positions()), (want.features(), want.positions()), "{place}");
    for feature in 0..want.features() {
        for (&got, &want) in got.row(feature).iter().zip(want.row(feature)) {
            assert_close(got, want.into(), place);
        }
    }
}

/// One tile, several with a last one of few rows, and rows of which each is a tile.
#[test]
fn tiles_of_theta_are_the_whole() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for (shape, positions) in
        [([1, 1], 1), ([17, 15], 16), ([140, 1000], 17), ([300, 900], 3), ([3, 140_000], 2)]
    {
        let (x, dy) = (
            random_matrix(shape[1], positions, &mut random),
            random_matrix(shape[0], positions, &mut random),
        );
        let mut full = layer(shape);
        full.weight.start_full();
        let mut layers = [Linear::Sparse(layer(shape)), Linear::Sparse(full)];
        for isa in Isa::available() {
            for activation in ACTIVATIONS {
                let place = format!("{shape:?}, {activation:?}, {isa:?}");
                let outputs = layers.each_mut().map(|layer| {
                    let (mut pre, mut y) = (Matrix::default(), Matrix::default());
                    layer.forward(isa, &x, activation, &mut pre, &mut y);
                    (pre, y)
                });
                assert_same(&outputs[0].0, &outputs[1].0, &format!("{place}: pre"));
                assert_same(&outputs[0].1, &outputs[1].1, &format!("{place}: y"));
            }
            let inputs = layers.each_mut().map(|layer| {
                let mut dx = Matrix::default();
                layer.input_gradient(isa, &dy, None, &mut dx);
                dx
            });
            assert_same(&inputs[0], &inputs[1], &format!("{shape:?}, {isa:?}: dx"));
        }
    }
}
