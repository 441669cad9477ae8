//! The number of threads does not change a single bit.

use topkast::{Hyper, Optimizer, PenaltyKind, Seed};
use topkast_kernels::Isa;
use topkast_nn::{Activation, Clusters, Gradients, Mode, ParameterMut, Tokens, TransformerXlShape};

use crate::networks::{SMALL, all, loss, network, text};

/// Large enough that every kernel cuts its work into pieces.
const SHAPE: TransformerXlShape = TransformerXlShape {
    vocabulary: 150,
    width: 96,
    heads: 4,
    feed_forward: 400,
    memory: 60,
    dropout: 0.1,
    ..SMALL
};
const STREAMS: usize = 3;

/// Losses and values of a short training.
fn trained(threads: usize, shape: &TransformerXlShape, sparse: bool) -> (Vec<u64>, Vec<(String, Vec<f32>)>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let isa = Isa::current().unwrap();
        let mut network = network(shape, sparse);
        let optimizer = Optimizer::new(Hyper::Sgd { momentum: 0.0, nesterov: false }, PenaltyKind::L2, 1e-3);
        let step = |step: u64| {
            let ids = text(shape.vocabulary, STREAMS * 70, step);
            let tokens = Tokens { ids: &ids, streams: STREAMS };
            let loss = loss(&mut network, isa, tokens, &ids, Mode::Train(Seed::new(step)));
            network.backward(isa, tokens, Gradients::All);
            network.visit(&mut |_, parameter| match parameter {
                ParameterMut::Sparse(weight) => {
                    weight.update(&optimizer, isa, 0.1, 1.0, true);
                }
                ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                    optimizer.update(isa, 0.1, 1.0, parameter, 0..parameter.values.len(), 0.0);
                }
                ParameterMut::Statistic(_) => {}
            });
            loss.to_bits()
        };
        let losses = (0..3).map(step).collect();
        (losses, all(&mut network, false))
    })
}

#[test]
fn threads_do_not_show() {
    let clusters = Clusters { cutoffs: vec![70, 80], div_value: 3 };
    for (sparse, activation, adaptive) in [
        (true, Activation::Gelu, None),
        (false, Activation::Relu, None),
        (true, Activation::Relu, Some(clusters)),
    ] {
        let shape = TransformerXlShape { activation, adaptive, ..SHAPE };
        let want = trained(1, &shape, sparse);
        for threads in [2, 3] {
            assert!(trained(threads, &shape, sparse) == want, "{threads} threads differ from one");
        }
    }
}
