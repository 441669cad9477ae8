//! From images in memory to the matrix a network reads.

use std::hint::black_box;

use rayon::prelude::*;
use topkast_kernels::Matrix;

use super::augment::{View, Views};
use super::dataset::Dataset;
use super::normalize::Normalizer;
use super::shape::{ImageShape, Layout};

/// Pixels of a tile: a cache line of them.
const PIXELS: usize = 64;

/// Images of a tile: a cache line of `f32`.
const IMAGES: usize = 16;

/// Gathers samples into a batch: `x` becomes what a network reads, as `layout` has it, normalised and as `views` show it,
/// and `labels` their labels.
///
/// Both keep their storage from call to call. The work is split over the current rayon pool; the result does not
/// depend on how.
///
/// # Panics
/// If an index is not that of a sample, or the normaliser has other channels.
pub fn fill_batch(
    dataset: &Dataset,
    normalizer: &Normalizer,
    layout: Layout,
    views: Views,
    samples: &[u32],
    x: &mut Matrix,
    labels: &mut Vec<u32>,
) {
    labels.clear();
    labels.extend(samples.iter().map(|&sample| dataset.labels()[sample as usize]));
    let image = |position: usize| dataset.image(samples[position] as usize);
    let batch = Batch {
        count: samples.len(),
        shape: dataset.shape(),
        normalizer,
        image: &image,
        view: &|position| views.of_sample(samples[position]),
    };
    batch.fill(layout, x);
}

/// Gathers whole images, all of one shape, into `x`, as [`fill_batch`] does.
pub(crate) fn fill_images(
    images: &[impl AsRef<[u8]> + Sync],
    shape: ImageShape,
    normalizer: &Normalizer,
    layout: Layout,
    x: &mut Matrix,
) {
    let image = |position: usize| images[position].as_ref();
    let view = |_| Views::PLAIN.of_sample(0);
    Batch { count: images.len(), shape, normalizer, image: &image, view: &view }.fill(layout, x);
}

/// The images of a batch by position.
struct Batch<'a> {
    count: usize,
    shape: ImageShape,
    normalizer: &'a Normalizer,
    image: &'a (dyn Fn(usize) -> &'a [u8] + Sync),
    view: &'a (dyn Fn(usize) -> View + Sync),
}

impl Batch<'_> {
    fn fill(&self, layout: Layout, x: &mut Matrix) {
        assert_eq!(self.normalizer.channels(), self.shape.channels, "channels to normalise");
        x.ensure(layout.inputs(self.shape), layout.positions(self.shape, self.count));
        match layout {
            Layout::Features => x.par_row_blocks_mut(PIXELS).enumerate().for_each(|(block, mut rows)| {
                let features = block * PIXELS..block * PIXELS + rows.features();
                self.fill_tiles(features.start, features.len(), |feature, first, values| {
                    rows.row_mut(feature)[first..][..values.len()].copy_from_slice(values);
                });
            }),
            Layout::Maps => x.par_row_blocks_mut(1).enumerate().for_each(|(channel, mut rows)| {
                let pieces = rows.row_mut(0).par_chunks_mut(PIXELS * self.count);
                pieces.enumerate().for_each(|(block, piece)| {
                    let first_feature = channel * self.shape.plane() + block * PIXELS;
                    self.fill_tiles(first_feature, piece.len() / self.count, |pixel, first, values| {
                        piece[pixel * self.count + first..][..values.len()].copy_from_slice(values);
                    });
                });
            }),
        }
    }

    /// Hands up to [`PIXELS`] features, `first` and those after it, of all images to `write`, as `(feature, first image, values)`, tile by
    /// tile: pixels of an image are neighbours in memory where the matrix wants those of a feature, and within a tile
    /// both are in the nearest cache.
    fn fill_tiles(&self, first: usize, features: usize, mut write: impl FnMut(usize, usize, &[f32])) {
        let mut tile = [[0.0; PIXELS]; IMAGES];
        self.fetch(first, features);
        for first_image in (0..self.count).step_by(IMAGES) {
            let images = IMAGES.min(self.count - first_image);
            for (number, values) in tile[..images].iter_mut().enumerate() {
                self.fill_image(first_image + number, first, &mut values[..features]);
            }
            for feature in 0..features {
                let values: [f32; IMAGES] = std::array::from_fn(|image| tile[image][feature % PIXELS]);
                write(feature, first_image, &values[..images]);
            }
        }
    }

    /// Reads the two cache lines that these features of each image are in, as plain views have them. Images lie anywhere in memory, and it can
    /// work on many such lines at once, but not while one pixel after the other is converted.
    fn fetch(&self, first: usize, features: usize) {
        let Some(last) = features.checked_sub(1) else { return };
        let ends = [first, first + last];
        let lines = (0..self.count).map(|position| ends.map(|end| (self.image)(position)[end]));
        black_box(lines.fold(0, |all, [a, b]| all ^ a ^ b));
    }

    /// Features of one image, `first` and those after it.
    fn fill_image(&self, position: usize, mut first: usize, mut values: &mut [f32]) {
        let (image, view) = ((self.image)(position), (self.view)(position));
        let (plane, width) = (self.shape.plane(), self.shape.width);
        while !values.is_empty() {
            let (channel, pixel) = (first / plane, first % plane);
            let table = self.normalizer.table(channel);
            let whole = if view == View::PLAIN { plane - pixel } else { width - pixel % width };
            let (piece, rest) = values.split_at_mut(whole.min(values.len()));
            if view == View::PLAIN {
                for (value, &pixel) in piece.iter_mut().zip(&image[first..]) {
                    *value = table[usize::from(pixel)];
                }
            } else {
                let plane = &image[channel * plane..][..plane];
                view.row_piece(plane, self.shape, pixel / width, pixel % width, table, piece);
            }
            first += piece.len();
            values = rest;
        }
    }
}

#[cfg(test)]
mod tests;
