//! Top-KAST as the paper states it, on dense weights with masks.

use topkast_train::Config;
use topkast_train::config::{Distribution, ExploreKind, Method};

use crate::layer::Layer;
use crate::pass::{Affine, Gradient, pass};
use crate::rule;
use crate::seen::Seen;

pub(crate) struct Masked {
    pub(crate) layers: Vec<Layer>,
    config: Config,
    /// The first so many layers are sparse, and chosen for together.
    together: Option<usize>,
}

impl Masked {
    /// Starts with the product's θ⁰ and biases, and with sets of its own.
    pub(crate) fn new(config: &Config, seen: &[Seen]) -> Self {
        let dense = if config.sparsity.keep_dense.is_empty() { 0 } else { 1 };
        let sparse = (0..seen.len()).map(|number| number < seen.len() - dense);
        assert!(seen.iter().map(|seen| seen.sparse).eq(sparse), "only the last layer is kept dense");
        let chooses = config.sparsity.method == Method::TopKast;
        let global = config.sparsity.distribution == Distribution::Global;
        let layer = |seen: &Seen| {
            let alone = chooses && !global && seen.sparse;
            Layer::new(seen, alone.then(|| sizes(config, seen.theta.len())))
        };
        let layers = seen.iter().map(layer).collect();
        let together = (chooses && global).then_some(seen.len() - dense);
        let mut network = Self { layers, config: config.clone(), together };
        network.choose(seen);
        network
    }

    /// Chooses A and B in every layer.
    fn choose(&mut self, seen: &[Seen]) {
        // A random B∖A cannot be foretold: it is the product's, and checked.
        let random = matches!(self.config.sparsity.explore, ExploreKind::Random | ExploreKind::Mixed);
        if let Some(count) = self.together {
            return self.choose_together(count, random.then_some(seen));
        }
        for (layer, seen) in self.layers.iter_mut().zip(seen) {
            layer.choose(random.then_some(&seen.explore));
        }
    }

    /// Chooses A, the largest of θ of the first `count` layers, and B∖A: what follows, or what was `drawn`.
    fn choose_together(&mut self, count: usize, drawn: Option<&[Seen]>) {
        let layers = &mut self.layers[..count];
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            order.extend((0..layer.theta.len()).map(|entry| (number, entry)));
        }
        let [active, backward] = sizes(&self.config, order.len());
        let density = active as f64 / order.len() as f64;
        let magnitude = |&(layer, entry): &(usize, usize)| layers[layer].theta[entry].abs();
        order.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(b)));
        let of = |places: &[(usize, usize)], number| -> Vec<usize> {
            places.iter().filter(|place| place.0 == number).map(|place| place.1).collect()
        };
        let mut explored = 0;
        for (number, layer) in layers.iter_mut().enumerate() {
            let explore = match drawn {
                Some(seen) => seen[number].explore.clone(),
                None => of(&order[active..backward], number),
            };
            explored += explore.len();
            layer.together = Some(density);
            layer.take(&of(&order[..active], number), &explore);
        }
        assert_eq!(explored, backward - active, "|B\\A|");
    }

    /// One step; gives the loss before it. `seen` is the product after the same step.
    pub(crate) fn step(&mut self, step: u64, seen: &[Seen], samples: &[Vec<f64>], labels: &[usize]) -> f64 {
        if step > 0 && step.is_multiple_of(self.config.sparsity.refresh_every) {
            self.choose(seen);
        }
        let Self { layers, config, .. } = self;
        let affine = |layer: &Layer| Affine { weight: layer.alpha(), bias: layer.bias.clone() };
        let computes: Vec<Affine> = layers.iter().map(affine).collect();
        let smoothing = config.train.label_smoothing;
        let (loss, mut gradients) = pass(&computes, config.model.activation(), smoothing, samples, labels);
        let explores = (step as f64) < config.sparsity.explore_until * config.train.steps as f64;
        for (layer, gradient) in layers.iter().zip(&mut gradients) {
            let receives = if explores { &layer.backward } else { &layer.active };
            for (slope, &receives) in gradient.weight.iter_mut().zip(receives) {
                *slope = if receives { *slope } else { 0.0 };
            }
        }
        clip(&mut gradients, config.optimizer.clip_norm);
        let lr = rule::rate(&config.optimizer, step, config.train.steps);
        for (layer, gradient) in layers.iter_mut().zip(&gradients) {
            update(config, lr, layer, gradient, explores);
        }
        loss
    }
}

fn update(config: &Config, lr: f64, layer: &mut Layer, gradient: &Gradient, explores: bool) {
    let (optimizer, penalty, density) = (&config.optimizer, config.optimizer.penalty, layer.density());
    for entry in 0..layer.theta.len() {
        let coefficient = match (layer.active[entry], layer.backward[entry]) {
            (true, _) => penalty,
            (false, true) if explores => penalty / density,
            _ => continue,
        };
        let (value, memory) = (&mut layer.theta[entry], &mut layer.memory[entry]);
        rule::update(optimizer, lr, value, gradient.weight[entry], coefficient, memory);
    }
    for (row, bias) in layer.bias.iter_mut().enumerate() {
        rule::update(optimizer, lr, bias, gradient.bias[row], 0.0, &mut layer.bias_memory[row]);
    }
}

/// Scales all gradients by one factor, as PyTorch's `clip_grad_norm_` does.
fn clip(gradients: &mut [Gradient], limit: f64) {
    if limit == 0.0 {
        return;
    }
    let squares = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
    let total: f64 = gradients.iter().map(|g| squares(&g.weight) + squares(&g.bias)).sum();
    let scale = (limit / (total.sqrt() + 1e-6)).min(1.0);
    for Gradient { weight, bias } in gradients {
        weight.iter_mut().chain(bias).for_each(|slope| *slope *= scale);
    }
}

/// |A| = ⌊D·n⌋ and |B| = ⌊(D + M)·n⌋, for sparsities of at most three decimals.
fn sizes(config: &Config, total: usize) -> [usize; 2] {
    let kept = |sparsity: f64| (1000 - (sparsity * 1000.0).round() as usize) * total / 1000;
    let active = kept(config.sparsity.forward);
    match config.sparsity.explore {
        ExploreKind::None => [active, active],
        ExploreKind::Magnitude | ExploreKind::Random | ExploreKind::Mixed => {
            [active, kept(config.sparsity.backward)]
        }
    }
}
