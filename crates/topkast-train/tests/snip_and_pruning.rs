//! SNIP's choice against a dense network in f64, and what pruning leaves in each step of a run.

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Workplace, advance, finish, restored};
use topkast_kernels::Buffer;
use topkast_nn::{Linear, Network, ParameterMut};
use topkast_train::checkpoint::Checkpoint;
use topkast_train::{Config, Event, Outcome, RunDir, Trainer, data, layer_summaries, run};

/// A dense layer of the model: θ⁰ and shape.
struct Dense {
    theta: Vec<f64>,
    rows: usize,
    width: usize,
    sparse: bool,
}

/// Before any A is chosen: θ⁰ of all layers, biases being zero.
fn dense_layers(network: &mut Network) -> Vec<Dense> {
    let mut layers = Vec::new();
    network.visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => {
            let (mut theta, mut tile) = (Vec::new(), Buffer::default());
            for rows in weight.tiles() {
                weight.initial_rows(rows, &mut tile);
                theta.extend(tile.iter().map(|&value| f64::from(value)));
            }
            let (rows, width) = (weight.pattern().rows(), weight.pattern().width());
            layers.push(Dense { theta, rows, width, sparse: true });
        }
        ParameterMut::Weight { parameter, shape: [rows, width] } => {
            let theta = parameter.values.iter().map(|&value| f64::from(value)).collect();
            layers.push(Dense { theta, rows, width, sparse: false });
        }
        ParameterMut::Bias(bias) => assert!(bias.values.iter().all(|&value| value == 0.0)),
        ParameterMut::Statistic(_) => {}
    });
    layers
}

/// Saliencies |g·θ| of every weight of a ReLU network, for the mean cross-entropy of these samples.
fn saliencies(layers: &[Dense], samples: &[(Vec<f64>, usize)]) -> Vec<Vec<f64>> {
    let mut gradients: Vec<Vec<f64>> = layers.iter().map(|layer| vec![0.0; layer.theta.len()]).collect();
    for (x, label) in samples {
        let mut activations = vec![x.clone()];
        for (number, Dense { theta, rows, width, .. }) in layers.iter().enumerate() {
            let x = &activations[number];
            let row =
                |row: usize| (0..*width).map(|column| theta[row * width + column] * x[column]).sum::<f64>();
            let relu = |y: f64| if number + 1 < layers.len() { y.max(0.0) } else { y };
            activations.push((0..*rows).map(|at| relu(row(at))).collect());
        }
        let logits = activations.last().unwrap();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let mut dy: Vec<f64> = logits.iter().map(|logit| logit.exp() / sum).collect();
        dy[*label] -= 1.0;
        for (number, Dense { theta, rows, width, .. }) in layers.iter().enumerate().rev() {
            let x = &activations[number];
            let mut dx = vec![0.0; *width];
            for row in 0..*rows {
                for column in 0..*width {
                    gradients[number][row * width + column] += dy[row] * x[column] / samples.len() as f64;
                    dx[column] += theta[row * width + column] * dy[row];
                }
            }
            dy = dx.iter().zip(x).map(|(dx, x)| if *x > 0.0 { *dx } else { 0.0 }).collect();
        }
    }
    let of_layer = |(layer, gradient): (&Dense, &Vec<f64>)| {
        layer.theta.iter().zip(gradient).map(|(theta, gradient)| (theta * gradient).abs()).collect()
    };
    layers.iter().zip(&gradients).map(of_layer).collect()
}

/// The first batch as the network sees it.
fn first_batch(config: &Config) -> Vec<(Vec<f64>, usize)> {
    let split = data::load(config.data.kind.images().unwrap(), Path::new(&config.data.path)).unwrap();
    let normalizer = data::Normalizer::fit(&split.train);
    let mut order = data::Order::in_sequence(split.train.len());
    order.shuffle(config.seed, 0);
    let (mut x, mut labels) = (topkast_kernels::Matrix::default(), Vec::new());
    let samples = order.batch(0, config.train.batch);
    data::fill_batch(
        &split.train,
        &normalizer,
        data::Layout::Features,
        data::Views::PLAIN,
        samples,
        &mut x,
        &mut labels,
    );
    let sample = |(position, label): (usize, &u32)| {
        let features = (0..x.features()).map(|feature| f64::from(x.get(feature, position)));
        (features.collect(), *label as usize)
    };
    labels.iter().enumerate().map(sample).collect()
}

/// A by layer of the sparse ones, numbered over all of them.
fn chosen(trainer: &mut Trainer) -> Vec<usize> {
    let (mut start, mut all) = (0, Vec::new());
    for weight in trainer.network().sparse_weights() {
        weight.pattern().for_each_by_index(|index, _| all.push(start + index as usize));
        start += weight.pattern().total() as usize;
    }
    all
}

/// Rounding may exchange entries whose saliencies are nearly those at the boundary, and nothing else.
#[track_caller]
fn check_largest(chosen: &[usize], saliencies: &[f64], count: usize) {
    assert_eq!(chosen.len(), count);
    let mut order = saliencies.to_vec();
    order.sort_by(|a, b| b.total_cmp(a));
    let (low, high) = (order[count - 1] * (1.0 - 1e-4), order[count - 1] * (1.0 + 1e-4));
    for (index, &saliency) in saliencies.iter().enumerate() {
        let is_chosen = chosen.binary_search(&index).is_ok();
        assert!(is_chosen || saliency <= high, "{index} of {saliency} is missing; the boundary is {low}");
        assert!(!is_chosen || saliency >= low, "{index} of {saliency} is chosen; the boundary is {high}");
    }
}

#[test]
fn snip_chooses_what_a_dense_network_would() {
    let place = Workplace::new();
    for (distribution, extra) in [
        ("uniform", "sparsity.keep_dense=['last']"),
        ("uniform", "sparsity.keep_dense=[]"),
        ("erk", "sparsity.keep_dense=[]"),
        ("global", "sparsity.keep_dense=['last']"),
        ("global", "sparsity.keep_dense=[]"),
    ] {
        let distribution = format!("sparsity.distribution={distribution}");
        let settings =
            ["sparsity.method=snip", "sparsity.forward=0.9", &distribution, extra, "model.dropout=0.3"];
        let config = place.config(&settings);
        let mut trainer = place.trainer(&settings);
        let layers = dense_layers(&mut config.network([64, 1, 1], 4).unwrap());
        let saliencies = saliencies(&layers, &first_batch(&config));
        let sparse = || layers.iter().zip(&saliencies).filter(|(layer, _)| layer.sparse);
        let all = chosen(&mut trainer);
        if distribution.ends_with("global") {
            let together: Vec<f64> = sparse().flat_map(|(_, saliencies)| saliencies).copied().collect();
            check_largest(&all, &together, together.len() / 10);
            continue;
        }
        let mut start = 0;
        let weights: Vec<usize> =
            trainer.network().sparse_weights().iter().map(|weight| weight.counts().active).collect();
        let total: usize = sparse().map(|(_, saliencies)| saliencies.len()).sum();
        let exact =
            if distribution.ends_with("erk") { total / 10 } else { sparse().map(|it| it.1.len() / 10).sum() };
        assert_eq!(weights.iter().sum::<usize>(), exact);
        for ((_, saliencies), count) in sparse().zip(weights) {
            let own = all.iter().filter(|&&number| (start..start + saliencies.len()).contains(&number));
            let own: Vec<usize> = own.map(|number| number - start).collect();
            check_largest(&own, saliencies, count);
            start += saliencies.len();
        }
    }
}

/// It stays what was chosen before the first step, as `init_scale` says the size it had in θ⁰ or more.
#[test]
fn snip_keeps_its_choice_and_values() {
    let place = Workplace::new();
    let values = |trainer: &mut Trainer| -> Vec<f32> {
        trainer
            .network()
            .sparse_weights()
            .iter()
            .flat_map(|weight| weight.parameter().values.to_vec())
            .collect()
    };
    let settings = |scale| ["sparsity.method=snip", "sparsity.distribution=global", scale];
    let mut full = place.trainer(&settings("sparsity.init_scale=full"));
    let mut active = place.trainer(&settings("sparsity.init_scale=active"));
    let first = chosen(&mut full);
    assert_eq!(chosen(&mut active), first);
    let mut network = place.config(&settings("sparsity.init_scale=full")).network([64, 1, 1], 4).unwrap();
    let theta: Vec<f64> =
        dense_layers(&mut network).into_iter().filter(|it| it.sparse).flat_map(|it| it.theta).collect();
    let mut want: Vec<f64> = first.iter().map(|&number| theta[number]).collect();
    let mut got: Vec<f64> = values(&mut full).into_iter().map(f64::from).collect();
    want.sort_by(f64::total_cmp);
    got.sort_by(f64::total_cmp);
    assert_eq!(got, want);
    let squares = |values: Vec<f32>| values.iter().map(|value| value * value).sum::<f32>();
    assert!(squares(values(&mut active)) > 1.5 * squares(values(&mut full)));
    advance(&mut full, 12);
    assert_eq!(chosen(&mut full), first);
}

#[test]
fn snip_starts_from_given_weights_as_they_are() {
    let place = Workplace::new();
    let weights = place.weights(&[]);
    for reservoir in ["sparsity.reservoir=dense", "sparsity.reservoir=mmap", "sparsity.reservoir=implicit"] {
        let settings = ["sparsity.method=snip", &weights, reservoir];
        let mut trainer = place.trainer(&settings);
        let given = common::given(&mut place.trainer(&[&weights, "sparsity.reservoir=dense"]));
        trainer.network().visit(&mut |name, parameter| {
            let ParameterMut::Sparse(weight) = parameter else { return };
            let (_, _, theta) = given.iter().find(|(other, ..)| other == name).unwrap();
            weight.pattern().for_each_by_index(|index, entry| {
                assert_eq!(weight.parameter().values[entry], theta[index as usize]);
            });
        });
        advance(&mut trainer, 5);
        trainer.save(&place.join("middle"), 0.0).unwrap();
        let mut resumed = restored(place.config(&settings), &place.join("middle"));
        assert_eq!(finish(&mut resumed), finish(&mut trainer));
    }
}

/// A trainer that goes on is not asked to choose again: its checkpoint decides, whatever the first batch would say now.
#[test]
fn resuming_does_not_choose_again() {
    let place = Workplace::new();
    let settings = ["sparsity.method=snip"];
    let mut trainer = place.trainer(&settings);
    let (path, want) = (place.join("start"), chosen(&mut trainer));
    trainer.save(&path, 0.0).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    let mut resumed = Trainer::resumed(place.config(&settings), &checkpoint, &path).unwrap();
    assert_eq!(chosen(&mut resumed), want);
    assert_eq!(finish(&mut resumed), finish(&mut trainer));
}

fn active(trainer: &mut Trainer) -> Vec<usize> {
    trainer.network().sparse_weights().iter().map(|weight| weight.counts().active).collect()
}

/// T_end is 9 of 12 steps, so A shrinks in the steps 3, 6 and 9: by 1 − (2/3)³ and 1 − (1/3)³ of what is to go, and all of it.
#[test]
fn pruning_follows_the_schedule() {
    let place = Workplace::new();
    for (distribution, last) in [("uniform", [307, 76]), ("erk", [264, 120])] {
        let mut trainer =
            place.trainer(&["sparsity.method=pruning", &format!("sparsity.distribution={distribution}")]);
        assert_eq!(active(&mut trainer), [1536, 384]);
        let kept = |left: f64| -> Vec<usize> {
            let dropped = |(n, last): (usize, usize)| ((n - last) as f64 * (1.0 - left.powi(3))) as usize;
            [1536, 384].into_iter().zip(last).map(|(n, last)| n - dropped((n, last))).collect()
        };
        for step in 0..12 {
            if step <= 9 {
                assert_eq!(trainer.pruning_ahead(), Some((last[0] as u64 + last[1] as u64, 9)));
            }
            let report = trainer.step().unwrap().refresh;
            assert_eq!(report.is_some(), step > 0 && step % 3 == 0 && step <= 9, "step {step}");
            let want = match step {
                0..3 => vec![1536, 384],
                3..6 => kept(2.0 / 3.0),
                6..9 => kept(1.0 / 3.0),
                _ => last.to_vec(),
            };
            assert_eq!(active(&mut trainer), want, "step {step}");
            assert_eq!(
                report.map_or(want.iter().sum::<usize>() as u64, |it| it.active),
                want.iter().sum::<usize>() as u64
            );
        }
        assert_eq!(trainer.pruning_ahead(), None);
    }
}

/// Dense products as long as half of a layer is active, whoever computes; their memory is counted, and gone afterwards.
#[test]
fn pruning_goes_from_dense_to_sparse_products() {
    let place = Workplace::new();
    let mut trainer = place.trainer(&["sparsity.method=pruning"]);
    let mut bytes = Vec::new();
    for step in 0..12 {
        trainer.step().unwrap();
        let config = trainer.config().clone();
        let summaries = layer_summaries(trainer.network(), &config, &[]);
        for (_, linear) in trainer.network().linears() {
            let Linear::Sparse(layer) = linear else { continue };
            let half = 2 * layer.weight.counts().active as u64 >= layer.weight.pattern().total();
            assert_eq!(layer.dense_bytes() > 0, half, "step {step}");
        }
        bytes.push(summaries.iter().map(|layer| layer.training_bytes).sum::<u64>());
    }
    // Told is what it had at most: more than a dense network.
    assert!(bytes.iter().all(|&of_step| of_step == bytes[0]), "{bytes:?}");
    let config = trainer.config().clone();
    let dense: u64 =
        layer_summaries(trainer.network(), &config, &[]).iter().map(|it| it.dense_training_bytes).sum();
    assert!(bytes[0] > dense);
}

#[test]
fn a_run_too_short_to_prune_is_refused() {
    let place = Workplace::new();
    let message = |settings: &[&str]| {
        let mut all = vec!["sparsity.method=pruning"];
        all.extend(settings);
        Trainer::new(place.config(&all)).map(drop).unwrap_err().to_string()
    };
    for settings in [
        &["sparsity.refresh_every=10"][..],
        &["sparsity.update_until=0"],
        &["train.steps=1", "sparsity.update_until=1"],
    ] {
        let message = message(settings);
        assert!(message.contains("sparsity.refresh_every = ") && message.contains("lower it"), "{message}");
        assert!(!message.contains('\n'));
    }
    // The last step may still be one.
    let mut trainer = place.trainer(&["sparsity.method=pruning", "sparsity.update_until=1"]);
    advance(&mut trainer, 12);
    assert_eq!(active(&mut trainer), [307, 76]);
}

/// What is wrong with a checkpoint of pruning is its size for the step that it tells.
#[test]
fn a_checkpoint_of_other_sizes_is_refused() {
    let place = Workplace::new();
    let settings = ["sparsity.method=pruning"];
    let mut trainer = place.trainer(&settings);
    advance(&mut trainer, 5);
    let path = place.join("state");
    trainer.save(&path, 0.0).unwrap();
    for (step, right) in [(0, false), (3, false), (4, true), (5, true), (6, true), (7, false), (12, false)] {
        let mut checkpoint = Checkpoint::read(&path).unwrap();
        checkpoint.state.step = step;
        let resumed = Trainer::resumed(place.config(&settings), &checkpoint, &path).map(drop);
        assert_eq!(resumed.is_ok(), right, "step {step}");
        if let Err(error) = resumed {
            let text = error.to_string();
            assert!(text.contains("`hidden.0`: 672 active entries, where pruning has"), "{text}");
        }
    }
}

/// A run says that it begins dense, and counts what it computed: layers of 1536 and 384 with means of 717 and 179, the first
/// without an input gradient, and 64 dense weights.
#[test]
fn a_run_that_prunes_tells_what_it_costs() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let mut told = Vec::new();
    let mut watch = |event| {
        if let Event::StartsDense { active, end } = event {
            told.push((active, end));
        }
    };
    let outcome = run(place.config(&["sparsity.method=pruning"]), &dir, &AtomicBool::new(false), &mut watch);
    let Outcome::Finished(summary) = outcome.unwrap() else { panic!("nobody stopped it") };
    assert_eq!(told, [(307 + 76, 9)]);
    assert_eq!((summary.active, summary.backward, summary.parameters), (307 + 76, 307 + 76, 1920));
    let want = (2.0 * 717.0 + 3.0 * 179.0 + 3.0 * 64.0) / (2.0 * 1536.0 + 3.0 * 384.0 + 3.0 * 64.0);
    assert!((summary.train_flops_ratio - want).abs() < 1e-12, "{}", summary.train_flops_ratio);
    // Of SNIP it is one dense step more.
    let dir = RunDir::create(&place.join("snip")).unwrap();
    let outcome = run(place.config(&["sparsity.method=snip"]), &dir, &AtomicBool::new(false), &mut |_| {});
    let Outcome::Finished(summary) = outcome.unwrap() else { panic!("nobody stopped it") };
    let want = (2.0 * 307.0 + 3.0 * 76.0 + 3.0 * 64.0) / 4416.0 + 1.0 / 12.0;
    assert!((summary.train_flops_ratio - want).abs() < 1e-12, "{}", summary.train_flops_ratio);
}
