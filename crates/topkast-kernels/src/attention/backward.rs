//! The gradients of one head, by tiles of keys and blocks of queries, with the scores computed anew.

use std::ops::Range;

use super::band::Band;
use super::head::{Head, KEYS, resize};
use super::pack::{Part, add_biases, copy, transpose};
use super::product::{Left, ROWS, Right, Rows, product};
use super::scores::{Grid, MARGIN, scores, stride, whole};
use crate::lanes::{read, write};
use crate::math::exp;
use crate::simd::Simd;
use crate::{Buffer, Isa, Kernel};

/// Queries in a block: few enough for two grids of them to stay in L2, and enough terms for the sums over queries.
const QUERIES: usize = 64;

/// What the backward pass of a head works in.
#[derive(Default, Debug)]
pub(super) struct Backward {
    /// By feature: r from the far end, q with either bias, the output's gradient, k, v.
    position: Buffer,
    content_query: Buffer,
    position_query: Buffer,
    d_output: Buffer,
    key: Buffer,
    value: Buffer,
    /// The same but v by place, query or key.
    position_by_place: Buffer,
    content_by_query: Buffer,
    position_by_query: Buffer,
    d_output_by_query: Buffer,
    key_by_key: Buffer,
    /// Softmax, and the gradient of the scores, for a block of queries and a tile of keys.
    weights: Buffer,
    d_scores: Buffer,
    /// For each query the dot product of output and its gradient.
    mean: Buffer,
    /// Gradients, by query, key or place.
    d_query: Buffer,
    d_key: Buffer,
    d_value: Buffer,
    d_position: Buffer,
    /// Sums of `d_scores` over queries: for each key of the tile, and for each place.
    d_scores_by_key: Buffer,
    d_scores_by_place: Buffer,
    /// Gradients of u and w, in the first of [`ROWS`] rows.
    d_content_bias: Buffer,
    d_position_bias: Buffer,
}

/// What the backward pass reads of a head besides its inputs.
pub(super) struct Outputs<'a> {
    pub(super) output: Part<'a>,
    pub(super) d_output: Part<'a>,
    pub(super) log_sum_exp: &'a [f32],
}

/// Gradients of a head, by feature.
pub(super) struct Gradients<'a> {
    pub(super) query: &'a mut [f32],
    pub(super) key: &'a mut [f32],
    pub(super) value: &'a mut [f32],
    pub(super) position: &'a mut [f32],
    pub(super) content_bias: &'a mut [f32],
    pub(super) position_bias: &'a mut [f32],
}

impl Backward {
    /// The gradients of `head`.
    pub(super) fn run(&mut self, isa: Isa, head: &Head<'_>, outputs: &Outputs<'_>, to: &mut Gradients<'_>) {
        self.resize(head);
        if head.relative.is_some() {
            self.d_position.fill(0.0);
            self.d_scores_by_place.fill(0.0);
            self.d_content_bias.fill(0.0);
            self.pack_position(isa, head);
        }
        for stream in 0..head.shape.streams {
            head.clear_unseen(stream, [&mut *to.key, &mut *to.value]);
            self.pack_queries(isa, head, outputs, stream);
            self.d_query.fill(0.0);
            for keys in head.tiles() {
                self.tile(isa, head, outputs, stream, keys, to);
            }
            self.finish_query(isa, head, stream, to);
        }
        if let Some(relative) = head.relative {
            self.finish(isa, head, relative.position.stride, to);
        }
    }

    fn resize(&mut self, head: &Head<'_>) {
        let (features, wide) = (head.features, head.wide());
        let queries = head.shape.queries.next_multiple_of(ROWS);
        for by_feature in [&mut self.content_query, &mut self.d_output] {
            resize(by_feature, features * head.query_stride());
        }
        for by_query in [&mut self.content_by_query, &mut self.d_output_by_query, &mut self.d_query] {
            resize(by_query, queries * wide);
        }
        resize(&mut self.key, features * head.key_stride());
        resize(&mut self.value, features * head.key_stride());
        for by_key in [&mut self.key_by_key, &mut self.d_key, &mut self.d_value] {
            resize(by_key, KEYS * wide);
        }
        for grid in [&mut self.weights, &mut self.d_scores] {
            resize(grid, QUERIES * stride(KEYS));
        }
        resize(&mut self.mean, head.query_stride());
        if head.relative.is_some() {
            self.resize_distances(head);
        }
    }

    /// What distances need besides.
    fn resize_distances(&mut self, head: &Head<'_>) {
        let (features, wide, context) = (head.features, head.wide(), head.shape.context());
        resize(&mut self.position_query, features * head.query_stride());
        resize(&mut self.position_by_query, head.shape.queries.next_multiple_of(ROWS) * wide);
        resize(&mut self.position, features * head.position_stride());
        for by_place in [&mut self.position_by_place, &mut self.d_position] {
            resize(by_place, (context + 2 * MARGIN) * wide);
        }
        resize(&mut self.d_scores_by_key, stride(KEYS));
        resize(&mut self.d_scores_by_place, context + 2 * MARGIN);
        for bias in [&mut self.d_content_bias, &mut self.d_position_bias] {
            resize(bias, ROWS * wide);
        }
    }

    fn pack_position(&mut self, isa: Isa, head: &Head<'_>) {
        head.pack_position(&mut self.position);
        let by_feature = Part {
            data: &self.position[MARGIN..],
            stride: head.position_stride(),
            rows: head.features,
            columns: head.shape.context(),
        };
        transpose(isa, by_feature, &mut self.position_by_place[MARGIN * head.wide()..], head.wide());
    }

    fn pack_queries(&mut self, isa: Isa, head: &Head<'_>, outputs: &Outputs<'_>, stream: usize) {
        head.pack_queries(isa, stream, &mut self.content_query, &mut self.position_query);
        let d_output = head.queries(outputs.d_output, stream);
        copy(d_output, &mut self.d_output, head.query_stride());
        let copied = Part { data: &self.d_output, stride: head.query_stride(), ..d_output };
        transpose(isa, copied, &mut self.d_output_by_query, head.wide());
        transpose(isa, head.queries(head.query, stream), &mut self.content_by_query, head.wide());
        if let Some(relative) = head.relative {
            let biases = [relative.content_bias, relative.position_bias];
            add_biases(isa, biases, &mut self.content_by_query, &mut self.position_by_query, head.wide());
        }
        isa.run(Dots { a: head.queries(outputs.output, stream), b: d_output, sums: &mut self.mean });
    }

    fn tile(
        &mut self,
        isa: Isa,
        head: &Head<'_>,
        outputs: &Outputs<'_>,
        stream: usize,
        keys: Range<usize>,
        to: &mut Gradients<'_>,
    ) {
        let (key, value) = (head.keys(head.key, stream, &keys), head.keys(head.value, stream, &keys));
        copy(key, &mut self.key, head.key_stride());
        copy(value, &mut self.value, head.key_stride());
        let packed = Part { data: &self.key, stride: head.key_stride(), ..key };
        transpose(isa, packed, &mut self.key_by_key, head.wide());
        self.d_key.fill(0.0);
        self.d_value.fill(0.0);
        self.d_scores_by_key.fill(0.0);
        let queries = head.shape.queries;
        let log_sum_exp = &outputs.log_sum_exp[stream * queries..][..queries];
        for first in (0..queries).step_by(QUERIES) {
            let block = first..queries.min(first + QUERIES);
            self.block(isa, head, &log_sum_exp[block.clone()], stream, block, &keys);
        }
        if head.relative.is_some() {
            let sums = Left { data: &self.d_scores_by_key[MARGIN..], row: 0, term: 1 };
            let right = Right { data: &self.key_by_key, stride: head.wide() };
            let out = Rows { data: &mut self.d_content_bias, stride: head.wide(), columns: head.wide() };
            product(isa, sums, keys.len(), right, out, true);
        }
        let first = stream * head.shape.context() + keys.start;
        for (from, to) in [(&self.d_key, &mut *to.key), (&self.d_value, &mut *to.value)] {
            let by_key = Part { data: from, stride: head.wide(), rows: keys.len(), columns: head.features };
            transpose(isa, by_key, &mut to[first..], head.key.stride);
        }
    }

    fn block(
        &mut self,
        isa: Isa,
        head: &Head<'_>,
        log_sum_exp: &[f32],
        stream: usize,
        queries: Range<usize>,
        keys: &Range<usize>,
    ) {
        let start = queries.start;
        let band = Band::new(head.shape, stream, queries, keys.clone());
        let seeing = band.seeing();
        if seeing.is_empty() {
            return;
        }
        for first in (seeing.start / ROWS * ROWS..seeing.end).step_by(ROWS) {
            self.rows(isa, head, log_sum_exp, &band, start, first);
        }
        self.columns(isa, head, &band, start);
    }

    /// Softmax, the scores' gradient and what it adds to the queries' gradient, for [`ROWS`] queries from `first` on of a
    /// block that begins at query `start`.
    fn rows(
        &mut self,
        isa: Isa,
        head: &Head<'_>,
        log_sum_exp: &[f32],
        band: &Band,
        start: usize,
        first: usize,
    ) {
        let (wide, stride) = (head.wide(), stride(KEYS));
        let mut weights = Grid { data: &mut self.weights, stride };
        let mut d_scores = Grid { data: &mut self.d_scores, stride };
        let queries = [&self.content_query[..], &self.position_query];
        let operands = head.operands(start, queries, &self.key, &self.position);
        scores(isa, operands, band, first, &mut weights, first);
        let queries = first..(first + ROWS).min(band.queries);
        let seen = band.seen_by(queries.clone());
        let vectors = whole(&seen);
        let left = Left { data: &self.d_output[start + first..], row: 1, term: head.query_stride() };
        let value = Right { data: &self.value[vectors.start..], stride: head.key_stride() };
        let at = d_scores.at(first, vectors.start);
        let out = Rows { data: &mut d_scores.data[at..], stride, columns: vectors.len() };
        product(isa, left, head.features, value, out, false);
        for query in queries.clone() {
            let seen = band.seen(query);
            weights.clear_beside(query, &seen);
            d_scores.clear_beside(query, &seen);
            if seen.is_empty() {
                continue;
            }
            let key = whole(&seen).start;
            let weights = weights.row(query, &seen);
            let d_scores = d_scores.row(query, &seen);
            head.drop_out(isa, band, query, d_scores);
            let (log_sum_exp, mean) = (log_sum_exp[query], self.mean[start + query]);
            isa.run(RowGradient { log_sum_exp, scale: head.scale(), mean, d_scores, weights });
            head.drop_out(isa, band, query, weights);
            if head.relative.is_some() {
                let place = MARGIN + band.place_of(0, key) - query;
                let by_key = &mut self.d_scores_by_key[MARGIN + key..][..d_scores.len()];
                let by_place = &mut self.d_scores_by_place[place..][..d_scores.len()];
                isa.run(AddToBoth { d_scores, sums: [by_key, by_place] });
            }
        }
        let mut add = |from: usize, row, terms, right: &[f32], right_first: usize| {
            let left = Left { data: &d_scores.data[from..], row, term: 1 };
            let right = Right { data: &right[right_first * wide..], stride: wide };
            let out = Rows { data: &mut self.d_query[(start + first) * wide..], stride: wide, columns: wide };
            product(isa, left, terms, right, out, true);
        };
        let from = first * stride + MARGIN;
        add(from + seen.start, stride, seen.len(), &self.key_by_key[..], seen.start);
        if head.relative.is_some() {
            let places = band.places(queries);
            let from = from + places.start + first - band.place_of(0, 0);
            add(from, stride + 1, places.len(), &self.position_by_place[..], MARGIN + places.start);
        }
    }

    /// What a block of queries adds to the gradients of keys, values and positions.
    fn columns(&mut self, isa: Isa, head: &Head<'_>, band: &Band, start: usize) {
        let (wide, stride) = (head.wide(), stride(KEYS));
        let add = |grid: &[f32], from: usize, term, queries: Range<usize>, right: &[f32], out: &mut [f32]| {
            let left = Left { data: &grid[from..], row: 1, term };
            let right = Right { data: &right[(start + queries.start) * wide..], stride: wide };
            let out = Rows { data: out, stride: wide, columns: wide };
            product(isa, left, queries.len(), right, out, true);
        };
        let seeing = band.seeing();
        let seen = band.seen_by(seeing.clone());
        for key in (seen.start / ROWS * ROWS..seen.end).step_by(ROWS) {
            let queries = band.seeing_some(key..key + ROWS);
            let from = queries.start * stride + MARGIN + key;
            for (grid, right, out) in [
                (&self.weights, &self.d_output_by_query, &mut self.d_value),
                (&self.d_scores, &self.content_by_query, &mut self.d_key),
            ] {
                add(grid, from, stride, queries.clone(), right, &mut out[key * wide..]);
            }
        }
        if head.relative.is_none() {
            return;
        }
        for place in band.places(seeing).step_by(ROWS) {
            let queries = band.seeing_at(place..place + ROWS);
            let from = queries.start * (stride + 1) + MARGIN + place - band.place_of(0, 0);
            let out = &mut self.d_position[(MARGIN + place) * wide..];
            add(&self.d_scores, from, stride + 1, queries, &self.position_by_query, out);
        }
    }

    fn finish_query(&mut self, isa: Isa, head: &Head<'_>, stream: usize, to: &mut Gradients<'_>) {
        let (queries, wide) = (head.shape.queries, head.wide());
        let by_query = Part { data: &self.d_query, stride: wide, rows: queries, columns: head.features };
        transpose(isa, by_query, &mut to.query[stream * queries..], head.query.stride);
    }

    /// The gradients that are sums over streams.
    fn finish(&mut self, isa: Isa, head: &Head<'_>, stride: usize, to: &mut Gradients<'_>) {
        let (wide, context) = (head.wide(), head.shape.context());
        let sums = Left { data: &self.d_scores_by_place[MARGIN..], row: 0, term: 1 };
        let right = Right { data: &self.position_by_place[MARGIN * wide..], stride: wide };
        let out = Rows { data: &mut self.d_position_bias, stride: wide, columns: wide };
        product(isa, sums, context, right, out, false);
        for (bias, from) in
            [(&mut *to.content_bias, &self.d_content_bias), (&mut *to.position_bias, &self.d_position_bias)]
        {
            bias.copy_from_slice(&from[..head.features]);
        }
        for feature in 0..head.features {
            let row = &mut to.position[feature * stride..][..context];
            for (distance, d_position) in row.iter_mut().enumerate() {
                *d_position = self.d_position[(MARGIN + context - 1 - distance) * wide + feature];
            }
        }
    }
}

/// `sums[c] = Σ_r a[r, c] × b[r, c]`.
struct Dots<'a> {
    a: Part<'a>,
    b: Part<'a>,
    sums: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.sums.fill(0.0);
        for row in 0..self.a.rows {
            let products = self.a.row(row).iter().zip(self.b.row(row)).map(|(a, b)| a * b);
            self.sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
    }
}

/// For one query `weights = exp(weights − log_sum_exp)`, which are scores before, and
/// `d_scores = weights × (d_scores − mean) × scale`, which are gradients of weights before.
struct RowGradient<'a> {
    log_sum_exp: f32,
    scale: f32,
    mean: f32,
    weights: &'a mut [f32],
    d_scores: &'a mut [f32],
}

impl Kernel for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (log_sum_exp, mean, scale) = (s.splat(self.log_sum_exp), s.splat(self.mean), s.splat(self.scale));
        let rows = self.weights.chunks_exact_mut(S::LANES).zip(self.d_scores.chunks_exact_mut(S::LANES));
        for (weights, d_scores) in rows {
            let weight = exp(s, s.sub(read(s, weights), log_sum_exp));
            let d_score = s.mul(s.mul(weight, scale), s.sub(read(s, d_scores), mean));
            write(s, weights, weight);
            write(s, d_scores, d_score);
        }
    }
}

/// Adds one query's `d_scores` to the sums by key and those by place.
struct AddToBoth<'a> {
    d_scores: &'a [f32],
    sums: [&'a mut [f32]; 2],
}

impl Kernel for AddToBoth<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for sums in self.sums {
            sums.iter_mut().zip(self.d_scores).for_each(|(sum, d_score)| *sum += d_score);
        }
    }
}
