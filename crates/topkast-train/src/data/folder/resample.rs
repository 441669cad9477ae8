//! Scaling a part of an image to the size that a network takes.

use std::ops::Range;

use super::Window;

/// Scales parts of images to `size × size` pixels, red, green and blue planes. Scaling is linear, over as many pixels as fall
/// together where the image shrinks (a triangular filter, as image libraries name "bilinear" with antialiasing). Scratch
/// is kept from image to image.
pub(crate) struct Resampler {
    size: usize,
    across: Taps,
    down: Taps,
    row: Vec<f32>,
}

/// Which numbers of a line add up to each number of the scaled line, and with which weights.
#[derive(Default)]
struct Taps {
    /// First number, and how many.
    spans: Vec<(usize, usize)>,
    /// Those of all spans in turn.
    weights: Vec<f32>,
}

impl Resampler {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, across: Taps::default(), down: Taps::default(), row: Vec::new() }
    }

    /// Scales what `window` shows of an image of this width, whose `pixels` have red, green and blue side by side, into `planes`.
    ///
    /// # Panics
    /// If the pixels do not fill rows.
    pub(crate) fn scale(&mut self, pixels: &[u8], width: usize, window: Window, planes: &mut Vec<u8>) {
        let stride = 3 * width;
        assert!(width > 0 && pixels.len().is_multiple_of(stride), "pixels fill rows");
        let Self { size, across, down, row } = self;
        across.compute(window.left, window.width, width, *size);
        down.compute(window.top, window.height, pixels.len() / stride, *size);
        let columns = across.reach();
        planes.resize(3 * *size * *size, 0);
        row.resize(3 * columns.len(), 0.0);
        for (y, (first, weights)) in down.each().enumerate() {
            row.fill(0.0);
            for (line, &weight) in pixels.chunks_exact(stride).skip(first).zip(weights) {
                let line = &line[3 * columns.start..3 * columns.end];
                row.iter_mut().zip(line).for_each(|(sum, &pixel)| *sum += weight * f32::from(pixel));
            }
            for (x, (first, weights)) in across.each().enumerate() {
                let mut sums = [0.5; 3];
                for (pixel, &weight) in row[3 * (first - columns.start)..].chunks_exact(3).zip(weights) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * value);
                }
                let x = if window.mirrored { *size - 1 - x } else { x };
                for (channel, sum) in sums.into_iter().enumerate() {
                    // Rounds to the nearest, 0.5 being in it already, and saturates.
                    planes[(channel * *size + y) * *size + x] = sum as u8;
                }
            }
        }
    }
}

impl Taps {
    /// Those of `count` numbers that are evenly spread over `length` from `start` on, of a line of `all`. There is a pixel within half a
    /// pixel of each centre, so no span is empty and no sum of weights zero.
    fn compute(&mut self, start: f64, length: f64, all: usize, count: usize) {
        let scale = length / count as f64;
        let reach = scale.max(1.0);
        self.spans.clear();
        self.weights.clear();
        for number in 0..count {
            let centre = start + (number as f64 + 0.5) * scale;
            let first = (centre - reach).floor().max(0.0) as usize;
            let end = ((centre + reach).ceil() as usize).min(all);
            let weight = |at: usize| (1.0 - (at as f64 + 0.5 - centre).abs() / reach).max(0.0);
            let sum: f64 = (first..end).map(weight).sum();
            self.weights.extend((first..end).map(|at| (weight(at) / sum) as f32));
            self.spans.push((first, end - first));
        }
    }

    /// First number and weights of each span.
    fn each(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let mut rest = &self.weights[..];
        self.spans.iter().map(move |&(first, count)| {
            let (weights, after) = rest.split_at(count);
            rest = after;
            (first, weights)
        })
    }

    /// From the first number that counts to the last.
    fn reach(&self) -> Range<usize> {
        let first = self.spans.first().map_or(0, |&(first, _)| first);
        first..self.spans.last().map_or(0, |&(first, count)| first + count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(width: usize, height: usize) -> Window {
        Window { left: 0.0, top: 0.0, width: width as f64, height: height as f64, mirrored: false }
    }

    fn scaled(pixels: &[u8], width: usize, window: Window, size: usize) -> Vec<u8> {
        let mut planes = Vec::new();
        Resampler::new(size).scale(pixels, width, window, &mut planes);
        planes
    }

    fn noise(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 9) as u8).collect()
    }

    #[test]
    fn the_same_size_is_exact() {
        let pixels = noise(3 * 5 * 5);
        let want: Vec<u8> =
            (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect();
        assert_eq!(scaled(&pixels, 5, whole(5, 5), 5), want);
    }

    #[test]
    fn a_mirror_turns_rows() {
        let pixels = noise(3 * 7 * 5);
        let (plain, mirrored) = (
            scaled(&pixels, 7, whole(7, 5), 4),
            scaled(&pixels, 7, Window { mirrored: true, ..whole(7, 5) }, 4),
        );
        let turned: Vec<u8> = plain.chunks_exact(4).flat_map(|row| row.iter().rev().copied()).collect();
        assert_eq!(mirrored, turned);
    }

    #[test]
    fn halving_averages_with_triangular_weights() {
        // One row of grey, to one column: every pixel counts, those in the middle more, and alike on both sides.
        let pixels: Vec<u8> = [0, 0, 200, 200].iter().flat_map(|&grey| [grey; 3]).collect();
        assert_eq!(scaled(&pixels, 4, whole(4, 1), 1), [100; 3]);
        // To two columns, each from two pixels to both sides of its centre: weights 0.75, 0.75, 0.25 of 1.75, mirrored for the second.
        assert_eq!(scaled(&pixels, 4, whole(4, 1), 2), [[29, 171, 29, 171]; 3].concat());
    }

    proptest! {
        #[test]
        fn it_equals_a_naive_sum(
            width in 1usize..40, height in 1usize..40, size in 1usize..30,
            left in 0.0..0.5, top in 0.0..0.5, share in 0.05..0.5f64,
        ) {
            let pixels = noise(3 * width * height);
            let window = Window {
                left: left * width as f64, top: top * height as f64,
                width: share * width as f64, height: share * height as f64, mirrored: false,
            };
            let got = scaled(&pixels, width, window, size);
            let weights = |start: f64, length: f64, all: usize, number: usize| {
                let scale = length / size as f64;
                let centre = start + (number as f64 + 0.5) * scale;
                let weight = |at: usize| (1.0 - (at as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0);
                let sum: f64 = (0..all).map(weight).sum();
                (0..all).map(|at| weight(at) / sum).collect::<Vec<_>>()
            };
            for (y, x) in (0..size).flat_map(|y| (0..size).map(move |x| (y, x))) {
                let (across, down) = (weights(window.left, window.width, width, x), weights(window.top, window.height, height, y));
                for channel in 0..3 {
                    let mut sum = 0.0;
                    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
                        sum += down[row] * across[column] * f64::from(pixels[3 * (row * width + column) + channel]);
                    }
                    let found = f64::from(got[(channel * size + y) * size + x]);
                    prop_assert!((found - sum).abs() <= 0.501, "{found} for {sum} at {y}, {x}");
                }
            }
        }
    }
}
