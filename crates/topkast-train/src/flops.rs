//! What training costs in multiply-adds, as the paper counts them (§3, figure 2).

use serde::{Deserialize, Serialize};

use crate::products::Products;
use crate::summary::LayerSummary;

/// Floating-point operations of training by what they are for, each as a fraction of all those of the dense network: for that one
/// they add up to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Flops {
    /// The forward passes: D of a layer's entries.
    pub forward: f64,
    /// The gradients with respect to activations: D, and none in the first layer, unless that is an embedding, the output layer's weight.
    pub input_gradient: f64,
    /// The gradients of weights: D + M, and D once B∖A gets no more updates.
    pub weight_gradient: f64,
    /// Dense gradients, from which RigL grows entries, and SNIP's pass before the first step. Choosing the largest takes no
    /// multiply-adds.
    pub refresh: f64,
}

/// Shares of the steps of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// In which B∖A gets gradients.
    pub(crate) explore: f64,
    /// In which sparse layers compute dense gradients, in place of all gradients of weights.
    pub(crate) dense_gradients: f64,
    /// As which all passes of the dense network before the first step count.
    pub(crate) dense_passes: f64,
}

impl Flops {
    /// Of `layers`, the first one first. Dense products compute all of a layer's entries, and layers that are `pruned` the mean over the
    /// run. Layers compute for so many `positions`, given their number.
    pub(crate) fn of(
        layers: &[LayerSummary],
        shares: &Shares,
        pruned: impl Fn(&LayerSummary) -> Option<f64>,
        positions: impl Fn(usize, &LayerSummary) -> f64,
    ) -> Self {
        let (mut flops, mut dense) = (Self::default(), 0.0);
        for (number, layer) in layers.iter().enumerate() {
            let input_gradients = if number == 0 && !layer.name.starts_with("embedding") { 0.0 } else { 1.0 };
            let computed = |entries: u64| entries as f64 * positions(number, layer);
            let n = computed(layer.n);
            let (active, backward) = match layer.products {
                Products::Sparse => (computed(layer.active), computed(layer.backward)),
                Products::Dense => (n, n),
            };
            let mean = if layer.sparse { pruned(layer) } else { None };
            let (active, backward) = mean.map_or((active, backward), |mean| (mean, mean));
            let gradients = active + (backward - active) * shares.explore;
            flops.forward += active;
            flops.input_gradient += input_gradients * active;
            flops.weight_gradient += gradients * (1.0 - shares.dense_gradients);
            flops.refresh += (2.0 + input_gradients) * n * shares.dense_passes;
            if layer.sparse {
                flops.refresh += shares.dense_gradients * n;
            }
            dense += (2.0 + input_gradients) * n;
        }
        let of_dense = |operations: f64| operations / dense;
        Self {
            forward: of_dense(flops.forward),
            input_gradient: of_dense(flops.input_gradient),
            weight_gradient: of_dense(flops.weight_gradient),
            refresh: of_dense(flops.refresh),
        }
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.forward + self.input_gradient + self.weight_gradient + self.refresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(sparse: bool, n: u64, active: u64, backward: u64, products: Products) -> LayerSummary {
        LayerSummary {
            name: String::new(),
            shape: [0, 0],
            sparse,
            sparse_ms: None,
            dense_ms: None,
            products,
            n,
            active,
            backward,
            touched: 0,
            dormant: 0,
            frontier: None,
            training_bytes: 0,
            dense_training_bytes: 0,
            reservoir_bytes: 0,
        }
    }

    #[track_caller]
    fn check(layers: &[LayerSummary], shares: [f64; 3], of: f64, want: [f64; 4]) {
        let [explore, dense_gradients, dense_passes] = shares;
        let flops =
            Flops::of(layers, &Shares { explore, dense_gradients, dense_passes }, |_| None, |_, _| 1.0);
        let got = [flops.forward, flops.input_gradient, flops.weight_gradient, flops.refresh];
        for (got, want) in got.into_iter().zip(want) {
            assert!((got - want / of).abs() < 1e-12, "{flops:?}, {want} of {of} expected");
        }
    }

    #[test]
    fn what_is_computed_is_counted() {
        let layers = [
            layer(true, 100, 10, 20, Products::Sparse),
            layer(true, 200, 10, 30, Products::Sparse),
            layer(true, 50, 5, 5, Products::Dense),
        ];
        // Dense: 2 · 100 + 3 · 200 + 3 · 50.
        check(&layers, [1.0, 0.0, 0.0], 950.0, [70.0, 60.0, 100.0, 0.0]);
        check(&layers, [0.5, 0.0, 0.0], 950.0, [70.0, 60.0, 85.0, 0.0]);
        // In a quarter of the steps the dense gradient in place of all others.
        check(&layers, [0.0, 0.25, 0.0], 950.0, [70.0, 60.0, 52.5, 87.5]);
        check(&layers, [0.0, 0.0, 0.5], 950.0, [70.0, 60.0, 70.0, 475.0]);
    }

    #[test]
    fn pruned_layers_cost_their_mean() {
        let layers = [layer(true, 100, 10, 20, Products::Sparse)];
        let shares = Shares { explore: 1.0, ..Shares::default() };
        let flops = Flops::of(&layers, &shares, |layer| Some(layer.n as f64 / 2.0), |_, _| 1.0);
        assert_eq!(flops.total(), (50.0 + 50.0) / 200.0);
    }

    #[test]
    fn layers_of_few_positions_cost_little() {
        let layer = |n| layer(false, n, n, n, Products::Dense);
        let layers = [layer(100), layer(40), layer(60)];
        let flops = Flops::of(
            &layers,
            &Shares::default(),
            |_| None,
            |_, layer| if layer.n == 40 { 0.25 } else { 1.0 },
        );
        // 2 · 100 + 3 · 10 + 3 · 60.
        assert!((flops.forward - 170.0 / 410.0).abs() < 1e-12, "{flops:?}");
        assert!((flops.total() - 1.0).abs() < 1e-12, "{flops:?}");
    }

    #[test]
    fn an_embedding_computes_as_the_output_layer() {
        let embedding =
            LayerSummary { name: "embedding".to_owned(), ..layer(false, 40, 40, 40, Products::Dense) };
        let layers = [embedding, layer(true, 100, 10, 20, Products::Sparse)];
        // Dense: 3 · 40 + 3 · 100.
        check(&layers, [1.0, 0.0, 0.0], 420.0, [50.0, 50.0, 60.0, 0.0]);
    }

    #[test]
    fn the_dense_network_costs_one() {
        let layers =
            [layer(false, 100, 100, 100, Products::Dense), layer(false, 100, 100, 100, Products::Dense)];
        check(&layers, [1.0, 0.0, 0.0], 5.0, [2.0, 1.0, 2.0, 0.0]);
        assert_eq!(Flops::of(&layers, &Shares::default(), |_| None, |_, _| 1.0).total(), 1.0);
    }

    /// Paper, figure 2: D forward, D back to the inputs, D + M for the weights, over 3, but for the first layer's inputs.
    #[test]
    fn deep_networks_approach_the_papers_number() {
        let layers = vec![layer(true, 1000, 100, 200, Products::Sparse); 1000];
        let shares = Shares { explore: 1.0, ..Shares::default() };
        assert!(
            (Flops::of(&layers, &shares, |_| None, |_, _| 1.0).total() - (0.1 + 0.1 + 0.2) / 3.0).abs()
                < 1e-3
        );
    }
}
