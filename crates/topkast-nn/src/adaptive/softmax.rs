//! Adaptive softmax on the model's output.

use topkast_kernels::{
    Isa, Matrix, add_bias, dense_forward, dense_input_gradient, dense_weight_gradient, row_sums,
    softmax_cross_entropy_among,
};

use super::AdaptiveTable;
use super::cluster::Narrow;

impl AdaptiveTable {
    /// The sum of the positions' losses −log p(target), in nats, for the model's output `h` `[width × positions]`.
    ///
    /// With `dh`, that takes the shape of `h` and is overwritten with the gradient of the **mean** loss over positions, and so are the
    /// gradients of all parameters. All logits of the first cluster are computed for all positions, those of any other only for the
    /// positions whose target is in it, which is what they take memory for, too; which token is likeliest is therefore not known.
    ///
    /// # Panics
    /// If `h` has not the model's width, there is not one target for each position, or one is not of the vocabulary.
    pub fn loss(&mut self, isa: Isa, h: &Matrix, targets: &[u32], mut dh: Option<&mut Matrix>) -> f64 {
        self.check(targets);
        assert_eq!((h.features(), h.positions()), (self.width, targets.len()), "h must be width × targets");
        let [first, others @ ..] = &mut self.clusters[..] else { unreachable!("there are tokens") };
        self.head.clear();
        let row = |&target: &u32| {
            let other = others.iter().take_while(|other| target >= other.tokens.start).count();
            if other == 0 { target } else { first.tokens.end - 1 + other as u32 }
        };
        self.head.extend(targets.iter().map(row));
        let total = targets.len();
        let mut loss = first.narrow.cross_entropy(isa, total, h, &self.head, dh.as_deref_mut());
        for cluster in others {
            if cluster.choose(targets) {
                let chosen = &mut cluster.chosen;
                chosen.gather(h);
                let d_outer = dh.is_some().then_some(&mut chosen.d_outer);
                loss += cluster.narrow.cross_entropy(isa, total, &chosen.outer, &chosen.tokens, d_outer);
                dh.iter_mut().for_each(|dh| chosen.add_gradient(dh));
            } else if dh.is_some() {
                cluster.narrow.clear_gradients();
            }
        }
        loss
    }

    /// The natural logarithms of the probabilities of all tokens, in their order, for one position's output `h` `[width × 1]`.
    ///
    /// # Panics
    /// If `h` has another shape.
    pub fn log_probabilities(&mut self, isa: Isa, h: &Matrix, logarithms: &mut Vec<f32>) {
        assert_eq!((h.features(), h.positions()), (self.width, 1), "h must be width × 1");
        logarithms.clear();
        for number in 0..self.clusters.len() {
            let (before, rest) = self.clusters.split_at_mut(number);
            rest[0].narrow.logits(isa, h);
            let tokens = rest[0].tokens.len();
            let logits = (0..tokens).map(|token| rest[0].narrow.logits.get(token, 0));
            // The cluster's own logarithm is what the first has for it.
            let cluster = before.first().map_or(0.0, |first| {
                let row = first.tokens.len() + number - 1;
                f64::from(first.narrow.logits.get(row, 0)) - log_total(&first.narrow.logits)
            });
            let shift = cluster - log_total(&rest[0].narrow.logits);
            logarithms.extend(logits.map(|logit| (f64::from(logit) + shift) as f32));
        }
    }
}

/// log Σ exp over the rows of a single position.
fn log_total(logits: &Matrix) -> f64 {
    let logits = || (0..logits.features()).map(|row| f64::from(logits.get(row, 0)));
    let largest = logits().fold(f64::NEG_INFINITY, f64::max);
    largest + logits().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

impl Narrow {
    /// `logits = E·Pᵀh + b`.
    fn logits(&mut self, isa: Isa, h: &Matrix) {
        let bias = &self.bias.values;
        dense_input_gradient(isa, self.width, &self.projection.values, h, &mut self.inner);
        dense_forward(isa, bias.len(), &self.table.values, &self.inner, &mut self.logits);
        add_bias(isa, bias, &mut self.logits);
    }

    /// The sum of the losses of the positions of `h`, `total` being those of the batch. With `dh` that and the parameters'
    /// gradients are overwritten with those of the batch's mean loss.
    fn cross_entropy(
        &mut self,
        isa: Isa,
        total: usize,
        h: &Matrix,
        labels: &[u32],
        dh: Option<&mut Matrix>,
    ) -> f64 {
        self.logits(isa, h);
        let Some(dh) = dh else {
            return softmax_cross_entropy_among(isa, total, &self.logits, labels, 0.0, None).loss;
        };
        let Self { table, projection, bias, width, inner, d_inner, logits, d_logits, .. } = self;
        d_logits.ensure(logits.features(), logits.positions());
        let sums = softmax_cross_entropy_among(isa, total, logits, labels, 0.0, Some(&mut *d_logits));
        row_sums(isa, d_logits, &mut bias.gradient);
        dense_weight_gradient(isa, d_logits, inner, &mut table.gradient);
        dense_input_gradient(isa, *width, &table.values, d_logits, d_inner);
        dense_weight_gradient(isa, h, d_inner, &mut projection.gradient);
        dense_forward(isa, h.features(), &projection.values, d_inner, dh);
        sums.loss
    }
}
