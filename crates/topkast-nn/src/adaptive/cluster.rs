//! One cluster of an adaptive table: its parameters, and the positions of a batch that are its own.

use std::ops::Range;

use topkast::{Init, Parameter, Scale, Seed};
use topkast_kernels::{Buffer, Matrix};

use crate::ParameterMut;

/// Tokens of like frequency.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) tokens: Range<u32>,
    /// Of table, bias and projection.
    names: [String; 3],
    pub(super) narrow: Narrow,
    pub(super) chosen: Chosen,
}

/// The parameters, and what is computed at the cluster's own width.
#[derive(Debug)]
pub(super) struct Narrow {
    /// E, one row a token, then one for each other cluster.
    pub(super) table: Parameter,
    /// P, `[model's width × width]`.
    pub(super) projection: Parameter,
    /// b, one for each row of E.
    pub(super) bias: Parameter,
    pub(super) width: usize,
    /// √w·E[t], or Pᵀh.
    pub(super) inner: Matrix,
    pub(super) d_inner: Matrix,
    pub(super) logits: Matrix,
    pub(super) d_logits: Matrix,
    /// What one of P's two uses adds to its gradient.
    pub(super) d_projection: Vec<f32>,
}

/// The positions of a batch whose tokens are the cluster's, side by side.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Where they are.
    pub(super) positions: Vec<usize>,
    /// Their tokens, counted from the cluster's first.
    pub(super) tokens: Vec<u32>,
    /// Their columns, `[model's width × positions]`.
    pub(super) outer: Matrix,
    pub(super) d_outer: Matrix,
}

impl Cluster {
    /// With rows for `others` clusters besides.
    pub(super) fn new(
        number: usize,
        tokens: Range<u32>,
        others: usize,
        [outer, width]: [usize; 2],
        seed: Seed,
    ) -> Self {
        let rows = tokens.len() + others;
        let normal = |name, count, variance: f64| {
            let mut values = Buffer::zeros(count);
            let draws = Init::kaiming_normal(Scale::Full).draws(seed.named(name), count, variance.sqrt());
            values.iter_mut().zip(draws).for_each(|(slot, draw)| *slot = draw);
            Parameter::new(values)
        };
        let narrow = Narrow {
            table: normal("table", rows * width, 1.0 / width as f64),
            projection: normal("projection", outer * width, 1.0 / outer as f64),
            bias: Parameter::new(Buffer::zeros(rows)),
            width,
            inner: Matrix::default(),
            d_inner: Matrix::default(),
            logits: Matrix::default(),
            d_logits: Matrix::default(),
            d_projection: Vec::new(),
        };
        let names = ["weight", "bias", "projection"].map(|name| format!("embedding.{number}.{name}"));
        Self { tokens, names, narrow, chosen: Chosen::default() }
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        let [weight, bias, projection] = &self.names;
        let narrow = &mut self.narrow;
        let (rows, width) = (narrow.bias.values.len(), narrow.width);
        let outer = narrow.projection.values.len() / width;
        visit(weight, ParameterMut::Weight { parameter: &mut narrow.table, shape: [rows, width] });
        visit(bias, ParameterMut::Bias(&mut narrow.bias));
        visit(projection, ParameterMut::Weight { parameter: &mut narrow.projection, shape: [outer, width] });
    }

    /// Finds the positions of the cluster's tokens; returns whether there are any.
    pub(super) fn choose(&mut self, tokens: &[u32]) -> bool {
        let own = tokens.iter().enumerate().filter(|(_, token)| self.tokens.contains(token));
        self.chosen.positions.clear();
        self.chosen.tokens.clear();
        for (position, token) in own {
            self.chosen.positions.push(position);
            self.chosen.tokens.push(token - self.tokens.start);
        }
        !self.chosen.positions.is_empty()
    }
}

impl Chosen {
    /// Takes their columns from `all`.
    pub(super) fn gather(&mut self, all: &Matrix) {
        self.outer.ensure(all.features(), self.positions.len());
        for feature in 0..all.features() {
            let all = all.row(feature);
            let columns = self.outer.row_mut(feature).iter_mut().zip(&self.positions);
            columns.for_each(|(column, &position)| *column = all[position]);
        }
    }

    /// Puts their columns into `all`.
    pub(super) fn scatter(&self, all: &mut Matrix) {
        for feature in 0..all.features() {
            let all = all.row_mut(feature);
            let columns = self.outer.row(feature).iter().zip(&self.positions);
            columns.for_each(|(column, &position)| all[position] = *column);
        }
    }

    /// Adds the columns of their gradient to those of `all`.
    pub(super) fn add_gradient(&self, all: &mut Matrix) {
        for feature in 0..all.features() {
            let all = all.row_mut(feature);
            let columns = self.d_outer.row(feature).iter().zip(&self.positions);
            columns.for_each(|(column, &position)| all[position] += *column);
        }
    }
}

impl Narrow {
    /// For a batch of which no position is the cluster's.
    pub(super) fn clear_gradients(&mut self) {
        for parameter in [&mut self.table, &mut self.projection, &mut self.bias] {
            parameter.gradient.fill(0.0);
        }
    }
}
