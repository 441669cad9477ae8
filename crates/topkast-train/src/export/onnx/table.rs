//! The table of tokens at both ends of a Transformer-XL, tied or adaptive.

use std::ops::Range;

use topkast_nn::TransformerXlShape;

use super::graph::Attribute::Int;
use super::graph::{Graph, Value};

/// The tokens of each cluster of an adaptive table.
fn clusters(shape: &TransformerXlShape) -> Option<Vec<Range<u32>>> {
    let table = shape.adaptive_table()?.clusters().expect("the network has this table");
    Some(table.into_iter().map(|(tokens, _)| tokens).collect())
}

impl Graph<'_> {
    /// The embeddings of `tokens`, `[tokens × width]`.
    pub(super) fn embedded(&mut self, shape: &TransformerXlShape) -> Value {
        let scale = self.number((shape.width as f32).sqrt());
        let Some(clusters) = clusters(shape) else {
            let rows = self.node("Gather", &["embedding.weight", "tokens"], &[]);
            return self.node("Mul", &[&rows, &scale], &[]);
        };
        let (zero, second) = (self.number(0.0), self.integers(&[1]));
        let mut sum = zero.clone();
        for (number, tokens) in clusters.iter().enumerate() {
            let [first, last] = [tokens.start, tokens.end - 1].map(|token| self.integer(token.into()));
            // Tokens of others are looked up as some token of this one, and then left out.
            let clipped = self.node("Max", &["tokens", &first], &[]);
            let clipped = self.node("Min", &[&clipped, &last], &[]);
            let own = self.node("Equal", &["tokens", &clipped], &[]);
            let own = self.node("Unsqueeze", &[&own, &second], &[]);
            let place = self.node("Sub", &[&clipped, &first], &[]);
            let rows = self.node("Gather", &[&format!("embedding.{number}.weight"), &place], &[]);
            let scaled = self.node("Mul", &[&rows, &scale], &[]);
            let projection = format!("embedding.{number}.projection");
            let wide = self.node("Gemm", &[&scaled, &projection], &[Int("transB", 1)]);
            let kept = self.node("Where", &[&own, &wide, &zero], &[]);
            sum = self.node("Add", &[&sum, &kept], &[]);
        }
        sum
    }

    /// Numbers of all tokens for each row of h, whose softmax is their probabilities: logits, or logarithms of those.
    pub(super) fn predicted(&mut self, shape: &TransformerXlShape, h: &str) -> Value {
        let Some(clusters) = clusters(shape) else {
            return self.node("Gemm", &[h, "embedding.weight", "output.bias"], &[Int("transB", 1)]);
        };
        let columns = |graph: &mut Self, x: &str, range: Range<usize>| {
            let ends = [range.start, range.end].map(|end| graph.integers(&[end as i64]));
            let axis = graph.integers(&[1]);
            graph.node("Slice", &[x, &ends[0], &ends[1], &axis], &[])
        };
        let [first, others @ ..] = &clusters[..] else { unreachable!("there are tokens") };
        let head = self.logarithms(h, 0);
        let mut all = vec![columns(self, &head, 0..first.len())];
        for number in 1..=others.len() {
            // The cluster's own logarithm is what the first has for it.
            let at = first.len() + number - 1;
            let cluster = columns(self, &head, at..at + 1);
            let within = self.logarithms(h, number);
            all.push(self.node("Add", &[&within, &cluster], &[]));
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.node("Concat", &all, &[Int("axis", 1)])
    }

    /// The logarithms of the probabilities of a cluster's rows.
    fn logarithms(&mut self, h: &str, number: usize) -> Value {
        let [weight, bias, projection] =
            ["weight", "bias", "projection"].map(|part| format!("embedding.{number}.{part}"));
        let inner = self.node("MatMul", &[h, &projection], &[]);
        let logits = self.node("Gemm", &[&inner, &weight, &bias], &[Int("transB", 1)]);
        self.node("LogSoftmax", &[&logits], &[Int("axis", -1)])
    }
}
