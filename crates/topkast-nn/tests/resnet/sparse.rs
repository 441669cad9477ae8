//! Sparse networks against dense ones of the same α, what is visited for RigL and SNIP, threads, and evaluation.

use std::collections::BTreeMap;

use topkast::{GradientTile, Topology};
use topkast_kernels::{Buffer, Isa, Matrix};
use topkast_nn::{Gradients, Linear, ParameterMut, ResNet, ResNetShape};

use crate::made::*;

const NEAR: f64 = 2e-5;

/// Gives a dense network the values of another by name, weights written out by `written`.
fn dense_like(
    shape: &ResNetShape,
    other: &mut ResNet,
    written: impl Fn(&topkast::SparseWeight) -> Vec<f32>,
) -> ResNet {
    let mut all = BTreeMap::new();
    other.visit(&mut |name, parameter| {
        let values = match parameter {
            ParameterMut::Sparse(weight) => written(weight),
            other => other.values().to_vec(),
        };
        all.insert(name.to_owned(), values);
    });
    let mut dense = network(shape, |_, _| DENSE);
    dense.visit(&mut |name, parameter| match parameter {
        ParameterMut::Statistic(values) => values.copy_from_slice(&all[name]),
        other => other.trained().unwrap().values.copy_from_slice(&all[name]),
    });
    dense
}

fn alpha(weight: &topkast::SparseWeight) -> Vec<f32> {
    let mut alpha = vec![0.0; weight.pattern().total() as usize];
    let entries = weight.pattern().active().flat_indices().zip(weight.active_values());
    entries.for_each(|(index, &value)| alpha[index as usize] = value);
    alpha
}

/// That gradients of `network` are those of `dense`, of a sparse weight on B.
fn check_gradients(network: &mut ResNet, dense: &BTreeMap<String, Vec<f32>>, place: &str) {
    network.visit(&mut |name, parameter| {
        let want = match &parameter {
            ParameterMut::Sparse(weight) => {
                let pattern = weight.pattern();
                let entries = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
                entries.map(|index| dense[name][index as usize]).collect()
            }
            ParameterMut::Statistic(_) => return,
            _ => dense[name].clone(),
        };
        assert_near(&parameter.trained().unwrap().gradient, &want, NEAR, &format!("{place}, {name}"));
    });
}

#[test]
fn sparse_passes_are_dense_ones_with_zeros() {
    for shape in shapes() {
        // Batches of odd sizes, larger and smaller than before.
        for (images_now, isa) in [3, 17, 1, 16].into_iter().zip(Isa::available().into_iter().cycle()) {
            let (x, targets) = (images(&shape, images_now, 2), targets(&shape, images_now));
            let mut sparse = network(&shape, top_kast);
            let mut dense = dense_like(&shape, &mut sparse, alpha);
            let place = format!("{isa:?}, {images_now} images");
            let [one, other] =
                [&mut sparse, &mut dense].map(|network| pass(network, isa, &x, &targets, Gradients::All));
            assert!((one - other).abs() < 1e-5 * other, "{place}: a loss of {one} against {other}");
            check_gradients(&mut sparse, &gradients(&mut dense), &place);
            // Layers that compute with zeros, too.
            for (_, linear) in sparse.linears() {
                let Linear::Sparse(layer) = linear else { panic!("all layers are sparse") };
                assert!(layer.use_dense_products());
            }
            pass(&mut sparse, isa, &x, &targets, Gradients::All);
            check_gradients(&mut sparse, &gradients(&mut dense), &format!("{place}, dense products"));
        }
    }
}

#[test]
fn without_exploration_only_a_gets_gradients() {
    let shape = &shapes()[0];
    let isa = Isa::current().unwrap();
    let (x, targets) = (images(shape, 4, 3), targets(shape, 4));
    let mut network = network(shape, top_kast);
    pass(&mut network, isa, &x, &targets, Gradients::All);
    let all = gradients(&mut network);
    pass(&mut network, isa, &x, &targets, Gradients::Active);
    network.visit(&mut |name, parameter| {
        let ParameterMut::Sparse(weight) = parameter else { return };
        let (active, rest) = weight.parameter().gradient.split_at(weight.counts().active);
        assert_near(active, &all[name][..active.len()], NEAR, name);
        assert!(!rest.is_empty() && rest.iter().all(|&slope| slope == 0.0), "{name}");
    });
}

#[test]
fn dense_gradients_are_what_is_visited() {
    let isa = Isa::current().unwrap();
    for shape in shapes() {
        let (x, targets) = (images(&shape, 5, 3), targets(&shape, 5));
        let mut network = network(&shape, top_kast);
        pass(&mut network, isa, &x, &targets, Gradients::All);
        pass(&mut network, isa, &x, &targets, Gradients::Activations);
        let mut visited = 0;
        network.for_each_gradient(&x, |weight, gradient| {
            let mut tile = GradientTile::default();
            let rows = weight.pattern().rows();
            let halves = [0..rows / 2, rows / 2..rows];
            let dense: Vec<f32> =
                halves.into_iter().flat_map(|rows| tile.compute(isa, gradient, rows).to_vec()).collect();
            let pattern = weight.pattern();
            let entries = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
            let want: Vec<f32> = entries.map(|index| dense[index as usize]).collect();
            assert_near(&weight.parameter().gradient, &want, NEAR, &format!("weight {visited}"));
            visited += 1;
        });
        assert_eq!(visited, shape.layers().len());
    }
}

/// θ⁰ in tiles, as SNIP needs it, of one row each.
#[test]
fn a_weight_that_has_not_been_started_computes_densely() {
    let isa = Isa::current().unwrap();
    // A row of 2000 · 9 numbers: seven rows a tile.
    let wide = ResNetShape { width: 2000, stages: vec![1], size: [3, 4], widen: 1, ..shapes()[0].clone() };
    let last = wide.layers().len() - 1;
    for (shape, all) in shapes().into_iter().map(|shape| (shape, true)).chain([(wide, false)]) {
        // Of the wide one a single layer, for time's sake.
        let plan = |number, size| match all || number == last - 1 {
            true => sparse_plan(Topology::Snip, size),
            false => DENSE,
        };
        let (x, targets) = (images(&shape, 2, 3), targets(&shape, 2));
        let mut network = network(&shape, plan);
        let mut dense = dense_like(&shape, &mut network, |weight| {
            let mut theta = Buffer::default();
            weight.initial_rows(0..weight.pattern().rows(), &mut theta);
            theta.to_vec()
        });
        let [one, other] = [&mut network, &mut dense]
            .map(|network| pass(network, isa, &x, &targets, Gradients::Activations));
        assert!((one - other).abs() < 1e-4 * other, "a loss of {one} against {other}");
        let want = gradients(&mut dense);
        for (name, got) in gradients(&mut network) {
            if name.contains("bn") {
                assert_near(&got, &want[&name], 1e-3, &name);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let isa = Isa::current().unwrap();
    for shape in shapes() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut network =
                    network(
                        &shape,
                        |number, size| if number % 3 == 0 { DENSE } else { top_kast(number, size) },
                    );
                let (x, targets) = (images(&shape, 33, 3), targets(&shape, 33));
                let loss = pass(&mut network, isa, &x, &targets, Gradients::All);
                (loss.to_bits(), gradients(&mut network), values(&mut network))
            })
        };
        let one = on(1);
        assert!(on(2) == one && on(3) == one);
    }
}

/// Scores come from running statistics: an image's do not depend on those beside it, and scoring changes nothing.
#[test]
fn evaluation_goes_by_running_statistics() {
    let isa = Isa::current().unwrap();
    for shape in shapes() {
        let mut network = network(&shape, top_kast);
        let (x, targets) = (images(&shape, 9, 3), targets(&shape, 9));
        for _ in 0..3 {
            pass(&mut network, isa, &x, &targets, Gradients::All);
        }
        let before = values(&mut network);
        let all = network.forward(isa, &x, false).clone();
        let pixels = x.positions() / 9;
        for image in 0..9 {
            let mut alone = Matrix::zeros(x.features(), pixels);
            for channel in 0..x.features() {
                let from = x.row(channel)[image..].iter().step_by(9);
                alone.row_mut(channel).iter_mut().zip(from).for_each(|(slot, &pixel)| *slot = pixel);
            }
            let logits = network.forward(isa, &alone, false);
            let got: Vec<f32> = (0..shape.classes).map(|class| logits.get(class, 0)).collect();
            let want: Vec<f32> = (0..shape.classes).map(|class| all.get(class, image)).collect();
            assert_near(&got, &want, NEAR, &format!("image {image}"));
        }
        assert_eq!(values(&mut network), before);
    }
}

#[test]
fn names_are_those_of_the_shape() {
    for shape in shapes() {
        let mut network = network(&shape, top_kast);
        let linears: Vec<String> = network.linears().map(|(name, _)| name.to_owned()).collect();
        let wanted: Vec<String> = shape.layers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(linears, wanted);
    }
}
