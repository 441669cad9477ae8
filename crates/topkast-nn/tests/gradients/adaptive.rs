//! Adaptive embeddings and softmax against the whole distribution written out.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::Seed;
use topkast_kernels::{Isa, Matrix};
use topkast_nn::{AdaptiveShape, AdaptiveTable, ParameterMut};

use crate::numbers::{assert_all_close, assert_close, columns, fill_random, random_matrix, slope, widened};
use crate::twin::gradient_of;

/// A table in f64, and what a batch asks of it.
#[derive(Clone)]
struct Twin {
    width: usize,
    clusters: Vec<(Range<u32>, usize)>,
    /// Of each cluster table, projection, bias.
    parameters: Vec<Vec<f64>>,
    /// The model's outputs, position by position.
    h: Vec<Vec<f64>>,
}

impl Twin {
    fn cluster(&self, token: u32) -> usize {
        self.clusters.iter().position(|(tokens, _)| tokens.contains(&token)).unwrap()
    }

    /// √w·P·E[token].
    fn embed(&self, token: u32) -> Vec<f64> {
        let cluster = self.cluster(token);
        let (tokens, narrow) = &self.clusters[cluster];
        let [table, _, projection] = &self.parameters[3 * cluster..][..3] else { unreachable!() };
        let row = &table[(token - tokens.start) as usize * narrow..][..*narrow];
        let output =
            |p: &[f64]| (self.width as f64).sqrt() * p.iter().zip(row).map(|(p, e)| p * e).sum::<f64>();
        projection.chunks(*narrow).map(output).collect()
    }

    /// log softmax(E·Pᵀh + b), with the rows that stand for clusters.
    fn log_softmax(&self, cluster: usize, h: &[f64]) -> Vec<f64> {
        let narrow = self.clusters[cluster].1;
        let [table, bias, projection] = &self.parameters[3 * cluster..][..3] else { unreachable!() };
        let inner =
            |i: usize| (0..self.width).map(|feature| projection[feature * narrow + i] * h[feature]).sum();
        let inner: Vec<f64> = (0..narrow).map(inner).collect();
        let dot = |row: &[f64]| row.iter().zip(&inner).map(|(e, x)| e * x).sum::<f64>();
        let logits: Vec<f64> = table.chunks(narrow).zip(bias).map(|(row, bias)| dot(row) + bias).collect();
        let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
        logits.into_iter().map(|x| x - total).collect()
    }

    /// The logarithms of the probabilities of all tokens.
    fn distribution(&self, h: &[f64]) -> Vec<f64> {
        let head = self.log_softmax(0, h);
        let first = self.clusters[0].0.len();
        let mut all = head[..first].to_vec();
        for cluster in 1..self.clusters.len() {
            let tail = self.log_softmax(cluster, h);
            assert_eq!(tail.len(), self.clusters[cluster].0.len());
            all.extend(tail.into_iter().map(|x| x + head[first + cluster - 1]));
        }
        all
    }

    /// The mean loss of these outputs.
    fn loss(&self, h: &[Vec<f64>], targets: &[u32]) -> f64 {
        let pairs = h.iter().zip(targets);
        -pairs.map(|(h, &target)| self.distribution(h)[target as usize]).sum::<f64>() / targets.len() as f64
    }
}

fn shape(vocabulary: usize, width: usize, cutoffs: &[usize], div_value: usize) -> AdaptiveShape {
    AdaptiveShape { vocabulary, width, cutoffs: cutoffs.to_vec(), div_value }
}

/// A table with all its values random, and its twin for the outputs `h`.
fn table(shape: &AdaptiveShape, h: &Matrix) -> (AdaptiveTable, Twin) {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut table = AdaptiveTable::new(shape, Seed::new(2)).unwrap();
    let mut parameters = Vec::new();
    table.visit(&mut |_, parameter| match parameter {
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            fill_random(&mut parameter.values, &mut random);
            // Gradients that were there before must not show.
            parameter.gradient.fill(9.0);
            parameters.push(widened(&parameter.values));
        }
        ParameterMut::Sparse(_) | ParameterMut::Statistic(_) => panic!("the table is dense"),
    });
    let clusters = shape.clusters().unwrap();
    assert_eq!(parameters.len(), 3 * clusters.len());
    (table, Twin { width: shape.width, clusters, parameters, h: columns(h) })
}

fn draw(tokens: Range<u32>, positions: usize) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    (0..positions).map(|_| random.random_range(tokens.clone())).collect()
}

fn gradients(table: &mut AdaptiveTable) -> Vec<Vec<f32>> {
    let mut gradients = Vec::new();
    table.visit(&mut |_, parameter| gradients.push(gradient_of(&parameter).to_vec()));
    gradients
}

/// Compares every `step`th number of each parameter's gradient.
fn assert_gradients(
    table: &mut AdaptiveTable,
    twin: &Twin,
    step: usize,
    place: &str,
    objective: impl Fn(&Twin) -> f64,
) {
    for (number, gradient) in gradients(table).into_iter().enumerate() {
        let some = (0..gradient.len()).step_by(step);
        let want = |at| slope(twin, |twin| &mut twin.parameters[number][at], &objective);
        let want: Vec<f64> = some.clone().map(want).collect();
        let got: Vec<f32> = some.map(|at| gradient[at]).collect();
        assert_all_close(&got, &want, &format!("{place}: parameter {number}"));
    }
}

/// For targets among `tokens`: loss and distribution, its gradients, and those of a model that passes its inputs on.
fn check(shape: &AdaptiveShape, tokens: Range<u32>, positions: usize, step: usize) {
    let h = random_matrix(shape.width, positions, &mut ChaCha8Rng::seed_from_u64(4));
    let (mut table, twin) = table(shape, &h);
    let targets = draw(tokens.clone(), positions);
    let inputs: Vec<u32> = targets.iter().rev().copied().collect();
    for isa in Isa::available() {
        let place = format!("{shape:?}, targets {tokens:?}, {isa:?}");
        let mut dh = Matrix::default();
        let before = gradients(&mut table);
        let loss = table.loss(isa, &h, &targets, None);
        assert_close((loss / positions as f64) as f32, twin.loss(&twin.h, &targets), &place);
        assert_eq!(gradients(&mut table), before, "{place}: without dh nothing is overwritten");
        assert_eq!(loss, table.loss(isa, &h, &targets, Some(&mut dh)), "{place}");

        let objective = |twin: &Twin| twin.loss(&twin.h, &targets);
        assert_gradients(&mut table, &twin, step, &place, objective);
        for (position, column) in columns(&dh).into_iter().enumerate() {
            for (feature, got) in column.into_iter().enumerate() {
                let want = slope(&twin, |twin| &mut twin.h[position][feature], objective);
                assert_close(got as f32, want, &format!("{place}: dh of {feature}, {position}"));
            }
        }

        let mut x = Matrix::default();
        table.embed(isa, &inputs, &mut x);
        let embedded: Vec<Vec<f64>> = inputs.iter().map(|&token| twin.embed(token)).collect();
        for (position, want) in embedded.iter().enumerate() {
            let got: Vec<f32> = (0..shape.width).map(|feature| x.get(feature, position)).collect();
            assert_all_close(&got, want, &format!("{place}: position {position}"));
        }
        table.loss(isa, &x, &targets, Some(&mut dh));
        table.embed_gradient(isa, &inputs, &dh);
        assert_gradients(&mut table, &twin, step, &format!("{place}, through the inputs"), |twin| {
            let x: Vec<Vec<f64>> = inputs.iter().map(|&token| twin.embed(token)).collect();
            twin.loss(&x, &targets)
        });
    }
}

#[test]
fn adaptive_tables() {
    check(&shape(11, 8, &[3, 7], 2), 0..11, 9, 1);
    check(&shape(7, 5, &[], 4), 0..7, 3, 1);
    // Clusters of one token, and cut-offs that the vocabulary does not reach.
    check(&shape(12, 9, &[5, 6, 11], 2), 0..12, 17, 1);
    check(&shape(6, 4, &[1, 5, 6, 40], 2), 0..6, 16, 1);
    // Enough rows for the general products.
    check(&shape(300, 40, &[100, 230], 2), 0..300, 20, 97);
}

#[test]
fn adaptive_clusters_without_a_target() {
    check(&shape(11, 8, &[3, 7], 2), 0..3, 5, 1);
    check(&shape(11, 8, &[3, 7], 2), 3..7, 5, 1);
    check(&shape(11, 8, &[3, 7], 2), 7..11, 1, 1);
}

#[test]
fn adaptive_probabilities_sum_to_one() {
    for shape in [
        shape(11, 8, &[3, 7], 2),
        shape(12, 9, &[5, 6, 11], 2),
        shape(7, 5, &[], 4),
        shape(300, 40, &[90], 4),
    ] {
        let h = random_matrix(shape.width, 1, &mut ChaCha8Rng::seed_from_u64(1));
        let (mut table, twin) = table(&shape, &h);
        let want = twin.distribution(&twin.h[0]);
        assert!((want.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        for isa in Isa::available() {
            let mut logarithms = vec![0.0; 3];
            table.log_probabilities(isa, &h, &mut logarithms);
            assert_all_close(&logarithms, &want, &format!("{shape:?}"));
            let sum: f64 = logarithms.iter().map(|&x| f64::from(x).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{shape:?}: {sum}");
            for (target, &logarithm) in logarithms.iter().enumerate() {
                let loss = table.loss(isa, &h, &[target as u32], None);
                assert_close(loss as f32, -f64::from(logarithm), "the loss of a token");
            }
        }
    }
}

#[test]
fn adaptive_tables_on_any_number_of_threads() {
    let shape = shape(900, 70, &[200, 500], 2);
    let h = random_matrix(70, 150, &mut ChaCha8Rng::seed_from_u64(3));
    let targets = draw(0..900, 150);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut table, _) = table(&shape, &h);
            let isa = Isa::available()[0];
            let (mut dh, mut x) = (Matrix::default(), Matrix::default());
            let loss = table.loss(isa, &h, &targets, Some(&mut dh));
            table.embed(isa, &targets, &mut x);
            table.embed_gradient(isa, &targets, &dh);
            (loss, dh, x, gradients(&mut table))
        })
    };
    let one = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn adaptive_tables_without_positions() {
    let shape = shape(11, 8, &[3, 7], 2);
    let (h, mut dh, mut x) = (Matrix::zeros(8, 0), Matrix::default(), Matrix::default());
    let (mut table, _) = table(&shape, &h);
    let isa = Isa::available()[0];
    assert_eq!(table.loss(isa, &h, &[], Some(&mut dh)), 0.0);
    table.embed(isa, &[], &mut x);
    table.embed_gradient(isa, &[], &dh);
    assert_eq!([x.features(), dh.features(), x.positions(), dh.positions()], [8, 8, 0, 0]);
    assert!(gradients(&mut table).concat().iter().all(|&slope| slope == 0.0));
}

#[test]
fn adaptive_names_and_first_values() {
    let mut table = AdaptiveTable::new(&shape(3000, 64, &[500], 4), Seed::new(1)).unwrap();
    let mut seen = Vec::new();
    table.visit(&mut |name, parameter| {
        let (values, shape) = match parameter {
            ParameterMut::Weight { parameter, shape } => (&parameter.values, shape),
            ParameterMut::Bias(parameter) => (&parameter.values, [parameter.values.len(), 1]),
            ParameterMut::Sparse(_) | ParameterMut::Statistic(_) => panic!("the table is dense"),
        };
        assert_eq!(values.len(), shape[0] * shape[1]);
        let variance = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
        seen.push((name.to_owned(), shape, variance));
    });
    let want = [
        ("embedding.0.weight", [501, 64], 1.0 / 64.0),
        ("embedding.0.bias", [501, 1], 0.0),
        ("embedding.0.projection", [64, 64], 1.0 / 64.0),
        ("embedding.1.weight", [2500, 16], 1.0 / 16.0),
        ("embedding.1.bias", [2500, 1], 0.0),
        ("embedding.1.projection", [64, 16], 1.0 / 64.0),
    ];
    for ((name, shape, variance), want) in seen.iter().zip(&want) {
        assert_eq!((name.as_str(), *shape), (want.0, want.1));
        assert!((variance - want.2).abs() <= 0.1 * want.2, "{name}: {variance}");
    }
    assert_eq!(seen.len(), want.len());
}

#[test]
#[should_panic(expected = "tokens must be below 11")]
fn adaptive_targets_are_checked() {
    let (mut table, _) = table(&shape(11, 8, &[3], 2), &Matrix::zeros(8, 1));
    table.loss(Isa::portable(), &Matrix::zeros(8, 1), &[11], None);
}
