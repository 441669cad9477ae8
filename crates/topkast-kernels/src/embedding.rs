//! Rows of a table by number, put side by side as positions, and the gradient of the table.
//!
//! A table has its rows in one piece and a [`Matrix`] its positions across all rows, so both ways go through tiles of 16 × 16 numbers:
//! 16 positions of 16 features are a cache line each on either side. The gradient is cut by features, so that a task meets all
//! positions, in their order, and no two tasks add to the same number.

use crate::buffer::LINE;
use crate::chunks::for_each_chunk;
use crate::columns::ColumnsMut;
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// Positions, forward, or features, backward, that one task takes.
const STRIP: usize = 64;

/// `x[:, p] = scale · table[tokens[p], :]`, with `table` `[vocabulary × width]` row by row; `x` takes the shape
/// `[width × tokens.len()]` and is overwritten.
///
/// # Panics
/// If `table` is not whole rows, or a token is not the number of one.
pub fn embed(isa: Isa, table: &[f32], width: usize, tokens: &[u32], scale: f32, x: &mut Matrix) {
    check(table.len(), width, tokens);
    x.ensure(width, tokens.len());
    for_each_chunk((tokens, ColumnsMut::of(x)), STRIP, &|_, (tokens, x)| {
        isa.run(Embed { table, width, tokens, scale, x });
    });
}

/// `gradient[tokens[p], :] += scale · dx[:, p]` for every position, in their order: the gradient of [`embed`]'s table, added to what is
/// there.
///
/// # Panics
/// If `dx` is not `[width × tokens.len()]`, `gradient` is not whole rows, or a token is not the number of one.
pub fn embed_gradient(isa: Isa, width: usize, tokens: &[u32], scale: f32, dx: &Matrix, gradient: &mut [f32]) {
    check(gradient.len(), width, tokens);
    assert_eq!((dx.features(), dx.positions()), (width, tokens.len()), "dx must be width × tokens");
    for_each_chunk(ColumnsMut::new(gradient, width, width), STRIP, &|first, gradient| {
        isa.run(EmbedGradient { tokens, scale, dx, first, gradient });
    });
}

fn check(len: usize, width: usize, tokens: &[u32]) {
    let rows = len.checked_div(width).unwrap_or(0);
    assert_eq!(len, rows * width, "the table must be whole rows");
    assert!(width == 0 || tokens.iter().all(|&token| (token as usize) < rows), "tokens must be below {rows}");
}

type Tile = [[f32; LINE]; LINE];

#[inline(always)]
fn transposed(tile: &Tile) -> Tile {
    std::array::from_fn(|row| std::array::from_fn(|column| tile[column][row]))
}

struct Embed<'a> {
    table: &'a [f32],
    width: usize,
    tokens: &'a [u32],
    scale: f32,
    x: ColumnsMut<'a>,
}

impl Kernel for Embed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        for (group, tokens) in self.tokens.chunks(LINE).enumerate() {
            for feature in (0..self.width).step_by(LINE) {
                let features = LINE.min(self.width - feature);
                let mut tile = [[0.0; LINE]; LINE];
                for (tile, &token) in tile.iter_mut().zip(tokens) {
                    let row = &self.table[token as usize * self.width + feature..][..features];
                    tile.iter_mut().zip(row).for_each(|(x, value)| *x = self.scale * value);
                }
                for (offset, tile) in transposed(&tile)[..features].iter().enumerate() {
                    // Also the padding, with zeros.
                    self.x.row(feature + offset)[group * LINE..][..LINE].copy_from_slice(tile);
                }
            }
        }
    }
}

struct EmbedGradient<'a> {
    tokens: &'a [u32],
    scale: f32,
    dx: &'a Matrix,
    first: usize,
    gradient: ColumnsMut<'a>,
}

impl Kernel for EmbedGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let (width, stride) = (self.gradient.width(), self.dx.stride());
        for (group, tokens) in self.tokens.chunks(LINE).enumerate() {
            for feature in (0..width).step_by(LINE) {
                let features = LINE.min(width - feature);
                let mut tile = [[0.0; LINE]; LINE];
                for (offset, tile) in tile[..features].iter_mut().enumerate() {
                    let row = (self.first + feature + offset) * stride;
                    tile.copy_from_slice(&self.dx.padded()[row + group * LINE..][..LINE]);
                }
                for (tile, &token) in transposed(&tile).iter().zip(tokens) {
                    let row = &mut self.gradient.row(token as usize)[feature..][..features];
                    row.iter_mut().zip(tile).for_each(|(sum, dx)| *sum += self.scale * dx);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn tokens(vocabulary: usize, positions: usize, random: &mut Random) -> Vec<u32> {
        // Squared, so that some come often.
        (0..positions).map(|_| (random.unit().powi(2) * vocabulary as f32) as u32).collect()
    }

    #[test]
    fn both_ways_are_their_twins() {
        for (vocabulary, width) in [(1, 1), (3, 15), (7, 16), (40, 17), (300, 33), (11, 130)] {
            for positions in [0, 1, 15, 16, 17, 33, 64, 100, 256] {
                let mut random = Random::new(5);
                let table = random.values(vocabulary * width);
                let tokens = tokens(vocabulary, positions, &mut random);
                let dx = random.matrix(width, positions);
                let before = random.values(vocabulary * width);
                let (mut want, mut sizes) = (before.clone(), magnitudes(&before));
                for feature in 0..width {
                    for (p, &token) in tokens.iter().enumerate() {
                        let at = token as usize * width + feature;
                        want[at] += 1.5 * dx.get(feature, p);
                        sizes[at] += 1.5 * dx.get(feature, p).abs();
                    }
                }
                for isa in Isa::available() {
                    let mut x = random.matrix(width, positions);
                    embed(isa, &table, width, &tokens, 0.7, &mut x);
                    let mut twin = Matrix::zeros(width, positions);
                    for feature in 0..width {
                        let value = |&token: &u32| 0.7 * table[token as usize * width + feature];
                        twin.row_mut(feature).copy_from_slice(&tokens.iter().map(value).collect::<Vec<_>>());
                    }
                    assert_eq!(x, twin);

                    let mut gradient = before.clone();
                    embed_gradient(isa, width, &tokens, 1.5, &dx, &mut gradient);
                    assert_close(&gradient, &want, &sizes, 1);
                }
            }
        }
    }

    #[test]
    fn threads_do_not_show() {
        let mut random = Random::new(6);
        let (vocabulary, width, positions) = (50, 200, 300);
        let table = random.values(vocabulary * width);
        let tokens = tokens(vocabulary, positions, &mut random);
        assert_same_on_any_threads(|isa| {
            let (mut x, mut gradient) = (Matrix::default(), table.clone());
            embed(isa, &table, width, &tokens, 0.7, &mut x);
            embed_gradient(isa, width, &tokens, 0.3, &x, &mut gradient);
            [x.padded(), &gradient].concat()
        });
    }

    #[test]
    #[should_panic(expected = "tokens must be below 2")]
    fn tokens_are_checked() {
        embed(Isa::portable(), &[0.0; 6], 3, &[0, 2], 1.0, &mut Matrix::default());
    }

    #[test]
    #[should_panic(expected = "whole rows")]
    fn half_a_row_is_refused() {
        embed(Isa::portable(), &[0.0; 7], 3, &[0], 1.0, &mut Matrix::default());
    }
}
