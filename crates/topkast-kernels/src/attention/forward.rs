//! The output of one head, by tiles of keys.

use std::ops::Range;

use super::band::Band;
use super::head::{Head, KEYS, resize};
use super::pack::{Part, copy, transpose};
use super::product::{Left, ROWS, Right, Rows, product};
use super::scores::{Grid, scores, stride};
use crate::lanes::{read, write};
use crate::math::exp;
use crate::simd::Simd;
use crate::{Buffer, Isa, Kernel};

/// What the forward pass of a head works in.
#[derive(Default, Debug)]
pub(super) struct Forward {
    /// By feature: r from the far end, q with either bias, k.
    position: Buffer,
    content_query: Buffer,
    position_query: Buffer,
    key: Buffer,
    /// By key: v.
    value: Buffer,
    grid: Buffer,
    /// By query: the weighted sum of values so far, the largest score, and the sum of exponentials relative to it.
    output: Buffer,
    largest: Vec<f32>,
    total: Vec<f32>,
}

impl Forward {
    /// The output of `head`, `output_stride` between its rows, and the logarithms of its sums of exponentials.
    pub(super) fn run(
        &mut self,
        isa: Isa,
        head: &Head<'_>,
        output: &mut [f32],
        output_stride: usize,
        log_sum_exp: &mut [f32],
    ) {
        let queries = head.shape.queries;
        self.resize(head);
        head.pack_position(&mut self.position);
        for stream in 0..head.shape.streams {
            head.pack_queries(isa, stream, &mut self.content_query, &mut self.position_query);
            self.output.fill(0.0);
            self.largest.fill(f32::NEG_INFINITY);
            self.total.fill(0.0);
            for keys in head.tiles() {
                self.tile(isa, head, stream, keys);
            }
            let columns = stream * queries..(stream + 1) * queries;
            self.finish(isa, head, &mut output[columns.start..], output_stride, &mut log_sum_exp[columns]);
        }
    }

    fn resize(&mut self, head: &Head<'_>) {
        let (features, wide, queries) = (head.features, head.wide(), head.shape.queries);
        resize(&mut self.content_query, features * head.query_stride());
        if head.relative.is_some() {
            resize(&mut self.position, features * head.position_stride());
            resize(&mut self.position_query, features * head.query_stride());
        }
        resize(&mut self.key, features * head.key_stride());
        resize(&mut self.value, KEYS * wide);
        resize(&mut self.grid, ROWS * stride(KEYS));
        resize(&mut self.output, queries.next_multiple_of(ROWS) * wide);
        self.largest.resize(queries, 0.0);
        self.total.resize(queries, 0.0);
    }

    fn tile(&mut self, isa: Isa, head: &Head<'_>, stream: usize, keys: Range<usize>) {
        copy(head.keys(head.key, stream, &keys), &mut self.key, head.key_stride());
        transpose(isa, head.keys(head.value, stream, &keys), &mut self.value, head.wide());
        let band = Band::new(head.shape, stream, 0..head.shape.queries, keys);
        let seeing = band.seeing();
        for first in (seeing.start / ROWS * ROWS..seeing.end).step_by(ROWS) {
            self.rows(isa, head, &band, first);
        }
    }

    fn rows(&mut self, isa: Isa, head: &Head<'_>, band: &Band, first: usize) {
        let mut grid = Grid { data: &mut self.grid, stride: stride(KEYS) };
        let operands =
            head.operands(0, [&self.content_query, &self.position_query], &self.key, &self.position);
        scores(isa, operands, band, first, &mut grid, 0);
        let wide = head.wide();
        let queries = first..(first + ROWS).min(band.queries);
        for query in queries.clone() {
            let seen = band.seen(query);
            grid.clear_beside(query - first, &seen);
            if seen.is_empty() {
                continue;
            }
            let (largest, total) = (&mut self.largest[query], &mut self.total[query]);
            let (now, sum) = isa.run(Exponentials { row: grid.row(query - first, &seen), largest: *largest });
            head.drop_out(isa, band, query, grid.row(query - first, &seen));
            let before = (*largest - now).exp();
            *total = *total * before + sum;
            *largest = now;
            if before < 1.0 {
                self.output[query * wide..][..wide].iter_mut().for_each(|x| *x *= before);
            }
        }
        let seen = band.seen_by(queries);
        let left = Left { data: &grid.data[grid.at(0, seen.start)..], row: grid.stride, term: 1 };
        let value = Right { data: &self.value[seen.start * wide..], stride: wide };
        let out = Rows { data: &mut self.output[first * wide..], stride: wide, columns: wide };
        product(isa, left, seen.len(), value, out, true);
    }

    fn finish(
        &mut self,
        isa: Isa,
        head: &Head<'_>,
        output: &mut [f32],
        output_stride: usize,
        log_sum_exp: &mut [f32],
    ) {
        let (queries, wide) = (head.shape.queries, head.wide());
        for (query, log_sum_exp) in log_sum_exp.iter_mut().enumerate() {
            let total = self.total[query];
            *log_sum_exp = self.largest[query] + total.ln();
            let scale = 1.0 / total;
            self.output[query * wide..][..wide].iter_mut().for_each(|x| *x *= scale);
        }
        let by_query = Part { data: &self.output, stride: wide, rows: queries, columns: head.features };
        transpose(isa, by_query, output, output_stride);
    }
}

/// `row = exp(row − largest)`, with the largest of the row and what is given; returns that and the sum.
struct Exponentials<'a> {
    row: &'a mut [f32],
    largest: f32,
}

impl Kernel for Exponentials<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let mut largest = s.splat(self.largest);
        for scores in self.row.chunks_exact(S::LANES) {
            largest = s.max(read(s, scores), largest);
        }
        let largest = fold(s, largest, self.largest, |a, b| if a > b { a } else { b });
        let mut sum = s.splat(0.0);
        for scores in self.row.chunks_exact_mut(S::LANES) {
            let weights = exp(s, s.sub(read(s, scores), s.splat(largest)));
            sum = s.add(sum, weights);
            write(s, scores, weights);
        }
        (largest, fold(s, sum, 0.0, |a, b| a + b))
    }
}

/// All lanes in one, by halves; `neutral` in place of lanes there are not.
#[inline(always)]
fn fold<S: Simd>(s: S, v: S::Vector, neutral: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [neutral; 16];
    write(s, &mut lanes, v);
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}
