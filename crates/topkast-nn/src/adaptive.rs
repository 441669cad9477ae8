//! Adaptive input embeddings (Baevski and Auli 2019) and adaptive softmax (Grave et al. 2017) of one table, as Transformer-XL uses them
//! for vocabularies of a hundred thousand words.
//!
//! Tokens are numbered by frequency, most frequent first, and cut into clusters. Cluster i has the width wᵢ = w / dⁱ, a table Eᵢ of so
//! wide a row for each of its tokens, a bias for each, and a projection Pᵢ `[w × wᵢ]`. For token t of cluster i
//!
//! ```text
//! x = √w · Pᵢ·Eᵢ[t]                                                                 input
//! log p(t) = log softmax(E₀·P₀ᵀh + b₀)[t]                                           output, i = 0
//! log p(t) = log softmax(E₀·P₀ᵀh + b₀)[cluster i] + log softmax(Eᵢ·Pᵢᵀh + bᵢ)[t]    output, i > 0
//! ```
//!
//! so that rare words cost few numbers, and the many of a rare cluster cost time only where a target is one of them. The last rows of
//! E₀ and b₀, after those of its tokens, stand for the other clusters. Tables and projections are the same for input and output. (The
//! paper's code leaves P₀ untied.)

mod cluster;
mod embedding;
mod softmax;

use std::ops::Range;

use thiserror::Error;
use topkast::Seed;

use crate::ParameterMut;
use cluster::Cluster;

/// The sizes of an [`AdaptiveTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptiveShape {
    /// Number of tokens.
    pub vocabulary: usize,
    /// The model's width w.
    pub width: usize,
    /// The first token of each cluster but the first. Those that the vocabulary does not reach are left out.
    pub cutoffs: Vec<usize>,
    /// By what each cluster's embeddings are narrower than those of the one before.
    pub div_value: usize,
}

/// Why there is no [`AdaptiveTable`] of some shape.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdaptiveError {
    /// There must be tokens, and a loss counts no further.
    #[error("a vocabulary of {0} is impossible; it must have 1 to 16777216 tokens")]
    Vocabulary(usize),
    /// There must be features, and their number's square must be a size.
    #[error("a width of {0} is impossible; it must be 1 to 1048576")]
    Width(usize),
    /// A cluster would be empty.
    #[error("cut-off {at} must be above {before}: cut-offs ascend from 1")]
    Cutoff {
        /// The cut-off.
        at: usize,
        /// The one before, or 0.
        before: usize,
    },
    /// The embeddings of a cluster would have no width.
    #[error(
        "cluster {cluster} has no width left: {width} / {div_value}^{cluster} is below 1; lower div_value (at least 1) or have fewer cut-offs"
    )]
    NoWidth {
        /// Its number.
        cluster: usize,
        /// The model's width.
        width: usize,
        /// By what widths are divided.
        div_value: usize,
    },
}

impl AdaptiveShape {
    /// As many tokens as there can be.
    pub const LARGEST_VOCABULARY: usize = 1 << 24;

    /// The clusters: their tokens, and how wide their embeddings are.
    ///
    /// # Errors
    /// If a size is impossible, or a cluster would have no tokens or no width.
    pub fn clusters(&self) -> Result<Vec<(Range<u32>, usize)>, AdaptiveError> {
        let Self { vocabulary, width, ref cutoffs, div_value } = *self;
        if !(1..=Self::LARGEST_VOCABULARY).contains(&vocabulary) {
            return Err(AdaptiveError::Vocabulary(vocabulary));
        }
        if !(1..=1 << 20).contains(&width) {
            return Err(AdaptiveError::Width(width));
        }
        let mut before = 0;
        for &at in cutoffs {
            if at <= before {
                return Err(AdaptiveError::Cutoff { at, before });
            }
            before = at;
        }
        let starts = [0].into_iter().chain(cutoffs.iter().copied()).take_while(|&start| start < vocabulary);
        let ends = cutoffs.iter().copied().chain([vocabulary]).map(|end| end.min(vocabulary));
        let cluster = |(cluster, (start, end)): (usize, (usize, usize))| {
            let divisor = div_value.checked_pow(cluster as u32);
            let narrow = divisor.and_then(|divisor| width.checked_div(divisor)).unwrap_or(0);
            if narrow == 0 {
                return Err(AdaptiveError::NoWidth { cluster, width, div_value });
            }
            Ok((start as u32..end as u32, narrow))
        };
        starts.zip(ends).enumerate().map(cluster).collect()
    }

    /// Numbers of all embeddings, projections and biases, those of the rows that stand for clusters included; at most what a `u64` can hold.
    ///
    /// # Errors
    /// As [`clusters`](Self::clusters).
    pub fn numbers(&self) -> Result<u64, AdaptiveError> {
        let clusters = self.clusters()?;
        let first = clusters.len() as u64 - 1;
        let numbers = |(number, (tokens, width)): (usize, &(Range<u32>, usize))| {
            let rows = tokens.len() as u64 + if number == 0 { first } else { 0 };
            (rows + self.width as u64) * *width as u64 + rows
        };
        Ok(clusters.iter().enumerate().map(numbers).fold(0, u64::saturating_add))
    }
}

/// A tied adaptive table: a layer that turns tokens into the model's inputs, and its outputs into probabilities of tokens.
#[derive(Debug)]
pub struct AdaptiveTable {
    vocabulary: usize,
    width: usize,
    clusters: Vec<Cluster>,
    /// For each position its target or, where that is in another cluster than the first, the row that stands for that cluster.
    head: Vec<u32>,
}

impl AdaptiveTable {
    /// A fresh table: inputs, and logits for outputs of variance 1, have variance 1. Biases start at zero.
    ///
    /// # Errors
    /// If the shape is impossible.
    pub fn new(shape: &AdaptiveShape, seed: Seed) -> Result<Self, AdaptiveError> {
        let clusters = shape.clusters()?;
        let others = clusters.len() - 1;
        let cluster = |(number, (tokens, narrow))| {
            let others = if number == 0 { others } else { 0 };
            Cluster::new(number, tokens, others, [shape.width, narrow], seed.numbered(number as u64))
        };
        let clusters = clusters.into_iter().enumerate().map(cluster).collect();
        Ok(Self { vocabulary: shape.vocabulary, width: shape.width, clusters, head: Vec::new() })
    }

    /// How many different tokens it knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order: of cluster i
    /// `embedding.i.weight`, `embedding.i.bias` and `embedding.i.projection`.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.clusters.iter_mut().for_each(|cluster| cluster.visit(visit));
    }

    /// # Panics
    /// If a token is not one of the vocabulary.
    fn check(&self, tokens: &[u32]) {
        let known = |&token: &u32| (token as usize) < self.vocabulary;
        assert!(tokens.iter().all(known), "tokens must be below {}", self.vocabulary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(vocabulary: usize, width: usize, cutoffs: &[usize], div_value: usize) -> AdaptiveShape {
        AdaptiveShape { vocabulary, width, cutoffs: cutoffs.to_vec(), div_value }
    }

    #[test]
    fn clusters_follow_from_the_cutoffs() {
        let clusters = |vocabulary, cutoffs| shape(vocabulary, 64, cutoffs, 4).clusters().unwrap();
        assert_eq!(clusters(9, &[]), [(0..9, 64)]);
        assert_eq!(clusters(9, &[2, 5]), [(0..2, 64), (2..5, 16), (5..9, 4)]);
        assert_eq!(clusters(6, &[2, 5]), [(0..2, 64), (2..5, 16), (5..6, 4)]);
        assert_eq!(clusters(5, &[2, 5]), [(0..2, 64), (2..5, 16)]);
        assert_eq!(clusters(4, &[2, 5, 7, 9, 11]), [(0..2, 64), (2..4, 16)]);
        assert_eq!(shape(9, 63, &[2], 4).clusters().unwrap(), [(0..2, 63), (2..9, 15)]);
        assert_eq!(shape(9, 3, &[2, 3], 1).clusters().unwrap(), [(0..2, 3), (2..3, 3), (3..9, 3)]);
    }

    #[test]
    fn numbers_are_those_of_all_parameters() {
        for shape in [shape(9, 64, &[2, 5], 4), shape(7, 5, &[], 4), shape(12, 9, &[5, 6, 11, 40], 2)] {
            let (mut table, mut numbers) = (AdaptiveTable::new(&shape, Seed::new(1)).unwrap(), 0);
            table.visit(&mut |_, parameter| match parameter {
                ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                    numbers += parameter.values.len() as u64;
                }
                ParameterMut::Sparse(_) | ParameterMut::Statistic(_) => panic!("the table is dense"),
            });
            assert_eq!(shape.numbers(), Ok(numbers), "{shape:?}");
        }
        // Transformer-XL's for WikiText-103.
        let wikitext = shape(267_735, 1024, &[20_000, 40_000, 200_000], 4);
        assert_eq!(wikitext.numbers().unwrap(), 38_587_210);
    }

    #[test]
    fn impossible_shapes_are_errors_that_say_why() {
        let huge = usize::MAX;
        for (shape, wanted) in [
            (shape(0, 4, &[], 4), "vocabulary of 0"),
            (shape(huge, 4, &[], 4), "1 to 16777216"),
            (shape(4, 0, &[], 4), "width of 0"),
            (shape(4, huge, &[], 4), "1 to 1048576"),
            (shape(4, 4, &[0], 4), "cut-off 0 must be above 0"),
            (shape(9, 4, &[3, 3], 1), "cut-off 3 must be above 3"),
            (shape(9, 4, &[20, 3], 1), "cut-off 3 must be above 20"),
            (shape(9, 4, &[3, 5], 4), "cluster 2 has no width left: 4 / 4^2"),
            (shape(9, 4, &[3], 0), "cluster 1 has no width left: 4 / 0^1"),
            (shape(9, 4, &[3, 5], huge), "cluster 1 has no width left"),
        ] {
            let message = AdaptiveTable::new(&shape, Seed::new(1)).unwrap_err().to_string();
            assert!(message.contains(wanted) && !message.contains('\n'), "{message}");
        }
    }
}
