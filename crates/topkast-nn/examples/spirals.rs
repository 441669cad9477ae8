//! Always-sparse training from the pieces, without the `topkast` binary: two spirals, told apart by a network whose
//! hidden weights are 90% zeros from the first step to the last.
//!
//! ```sh
//! cargo run --release -p topkast-nn --example spirals
//! ```

#![allow(clippy::print_stdout)]

use topkast::{Explore, Hyper, Init, Optimizer, PenaltyKind, ReservoirKind, Scale, Seed, Sparsity, Topology};
use topkast_kernels::{Isa, Matrix, softmax_cross_entropy};
use topkast_nn::{Activation, Gradients, LayerPlan, Mlp, MlpShape, Mode, ParameterMut};

const SAMPLES: usize = 400;
const STEPS: u64 = 1500;
const REFRESH_EVERY: u64 = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = Isa::current()?;
    let (x, labels) = spirals();

    // 2 → 256 → 256 → 2; the weight between the hidden layers is sparse, the small ones at the ends are dense.
    let shape = MlpShape {
        inputs: 2,
        hidden: vec![256, 256],
        outputs: 2,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    let counts = Sparsity::new(0.9, 0.8)?.counts(256 * 256)?;
    let topology = Topology::TopKast(Explore::Magnitude);
    let init = Init::kaiming_normal(Scale::Active);
    let dense = LayerPlan::Dense { init };
    let sparse = LayerPlan::Sparse { counts, topology, init, reservoir: ReservoirKind::Implicit };
    let mut network = Mlp::new(&shape, &[dense, sparse, dense], Seed::new(1))?;

    let hyper = Hyper::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let optimizer = Optimizer::new(hyper, PenaltyKind::L2, 1e-2);
    network.visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => optimizer.prepare(weight.parameter_mut()),
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            optimizer.prepare(parameter)
        }
        ParameterMut::Statistic(_) => {}
    });

    for step in 0..STEPS {
        if step > 0 && step % REFRESH_EVERY == 0 {
            network.visit(&mut |_, parameter| {
                if let ParameterMut::Sparse(weight) = parameter {
                    weight.refresh(step);
                }
            });
        }
        network.forward(isa, &x, Mode::Train(Seed::new(step)));
        let (logits, gradient) = network.logits_and_gradient();
        let sums = softmax_cross_entropy(isa, logits, &labels, 0.0, Some(gradient));
        network.backward(isa, &x, Gradients::All);
        update(&mut network, &optimizer, isa, 3e-3);
        if step % 250 == 0 || step + 1 == STEPS {
            let (loss, right) = (sums.loss / SAMPLES as f64, 100 * sums.correct / SAMPLES);
            println!("step {step:4}: loss {loss:.4}, {right}% right");
        }
    }
    println!("computed with {} of {} hidden weights", counts.active, 256 * 256);
    Ok(())
}

fn update(network: &mut Mlp, optimizer: &Optimizer, isa: Isa, lr: f32) {
    network.visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => {
            weight.update(optimizer, isa, lr, 1.0, true);
        }
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            let all = 0..parameter.values.len();
            optimizer.update(isa, lr, 1.0, parameter, all, 0.0);
        }
        ParameterMut::Statistic(_) => {}
    });
}

/// Points on two spirals, `[2 × SAMPLES]`, and which of the two each is on.
fn spirals() -> (Matrix, Vec<u32>) {
    let labels: Vec<u32> = (0..SAMPLES as u32).map(|sample| sample % 2).collect();
    let point = |sample: usize| {
        let along = sample as f32 / SAMPLES as f32;
        let angle = 9.0 * along + std::f32::consts::PI * labels[sample] as f32;
        (2.0 * along * angle.cos(), 2.0 * along * angle.sin())
    };
    let mut values: Vec<f32> = (0..SAMPLES).map(|sample| point(sample).0).collect();
    values.extend((0..SAMPLES).map(|sample| point(sample).1));
    (Matrix::from_rows(2, SAMPLES, &values), labels)
}
