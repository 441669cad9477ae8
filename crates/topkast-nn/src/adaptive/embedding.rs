//! Adaptive embeddings as the model's input.

use topkast_kernels::{
    Isa, Matrix, dense_forward, dense_input_gradient, dense_weight_gradient, embed, embed_gradient,
};

use super::AdaptiveTable;

impl AdaptiveTable {
    /// `x[:, p] = √w · Pᵢ·Eᵢ[tokens[p]]`; `x` takes the shape `[width × tokens.len()]` and is overwritten.
    ///
    /// # Panics
    /// If a token is not one of the vocabulary.
    pub fn embed(&mut self, isa: Isa, tokens: &[u32], x: &mut Matrix) {
        self.check(tokens);
        x.ensure(self.width, tokens.len());
        let scale = (self.width as f32).sqrt();
        for cluster in &mut self.clusters {
            if !cluster.choose(tokens) {
                continue;
            }
            let (chosen, narrow) = (&mut cluster.chosen, &mut cluster.narrow);
            embed(isa, &narrow.table.values, narrow.width, &chosen.tokens, scale, &mut narrow.inner);
            dense_forward(isa, self.width, &narrow.projection.values, &narrow.inner, &mut chosen.outer);
            chosen.scatter(x);
        }
    }

    /// Adds the gradients of the tables and projections as [`embed`](Self::embed) used them to what is there, from `dx`, that with
    /// respect to the embedded `tokens`. To be called after [`loss`](Self::loss), which overwrites them.
    ///
    /// # Panics
    /// If a token is not one of the vocabulary, or `dx` is not `[width × tokens.len()]`.
    pub fn embed_gradient(&mut self, isa: Isa, tokens: &[u32], dx: &Matrix) {
        self.check(tokens);
        assert_eq!((dx.features(), dx.positions()), (self.width, tokens.len()), "dx must be width × tokens");
        let scale = (self.width as f32).sqrt();
        for cluster in &mut self.clusters {
            if !cluster.choose(tokens) {
                continue;
            }
            let (chosen, narrow) = (&mut cluster.chosen, &mut cluster.narrow);
            chosen.gather(dx);
            embed(isa, &narrow.table.values, narrow.width, &chosen.tokens, scale, &mut narrow.inner);
            narrow.d_projection.resize(narrow.projection.values.len(), 0.0);
            dense_weight_gradient(isa, &chosen.outer, &narrow.inner, &mut narrow.d_projection);
            let sums = narrow.projection.gradient.iter_mut().zip(&narrow.d_projection);
            sums.for_each(|(sum, more)| *sum += more);
            let (projection, d_inner) = (&narrow.projection.values, &mut narrow.d_inner);
            dense_input_gradient(isa, narrow.width, projection, &chosen.outer, d_inner);
            embed_gradient(isa, narrow.width, &chosen.tokens, scale, d_inner, &mut narrow.table.gradient);
        }
    }
}
