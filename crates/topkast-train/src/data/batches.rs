//! From samples in memory to the matrix a network reads.

use rayon::prelude::*;
use topkast_kernels::{Matrix, RowsMut};

use super::dataset::Dataset;
use super::normalize::Normalizer;

/// Features of a tile: a cache line of pixels.
const FEATURES: usize = 64;

/// Samples of a tile: a cache line of `f32`.
const SAMPLES: usize = 16;

/// Gathers samples into a batch: `x` becomes `[features × batch]`, normalised, and `labels` their labels.
///
/// Both keep their storage from call to call. The work is split over the current rayon pool; the result does not
/// depend on how.
///
/// # Panics
/// If an index is not that of a sample.
pub fn fill_batch(
    dataset: &Dataset,
    normalizer: &Normalizer,
    indices: &[u32],
    x: &mut Matrix,
    labels: &mut Vec<u32>,
) {
    labels.clear();
    labels.extend(indices.iter().map(|&sample| u32::from(dataset.labels()[sample as usize])));
    x.ensure(dataset.features(), indices.len());
    x.par_row_blocks_mut(FEATURES).enumerate().for_each(|(block, mut rows)| {
        fill_rows(dataset, normalizer.table(), indices, block * FEATURES, &mut rows);
    });
}

/// Fills up to [`FEATURES`] rows, `first` and those after it, tile by tile: pixels of a sample are neighbours in
/// memory where the matrix wants those of a feature, and within a tile both are in the nearest cache.
fn fill_rows(dataset: &Dataset, table: &[f32; 256], indices: &[u32], first: usize, rows: &mut RowsMut) {
    let features = rows.features();
    let mut tile = [[0; FEATURES]; SAMPLES];
    for (group, samples) in indices.chunks(SAMPLES).enumerate() {
        for (pixels, &sample) in tile.iter_mut().zip(samples) {
            pixels[..features].copy_from_slice(&dataset.image(sample as usize)[first..][..features]);
        }
        for feature in 0..features {
            let values = &mut rows.row_mut(feature)[group * SAMPLES..][..samples.len()];
            for (value, pixels) in values.iter_mut().zip(&tile) {
                *value = table[usize::from(pixels[feature % FEATURES])];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::idx::Images;
    use super::super::order::Order;
    use super::*;

    fn dataset(count: usize, height: usize, width: usize) -> Dataset {
        let pixels = (0..count * height * width).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 7) as u8).collect();
        let labels = (0..count).map(|sample| (sample % 7) as u8).collect();
        Dataset::new(Images { count, height, width, pixels }, labels, 7).unwrap()
    }

    fn naive(dataset: &Dataset, normalizer: &Normalizer, indices: &[u32]) -> (Matrix, Vec<u32>) {
        let mut x = Matrix::zeros(dataset.features(), indices.len());
        for (position, &sample) in indices.iter().enumerate() {
            for (feature, &pixel) in dataset.image(sample as usize).iter().enumerate() {
                x.row_mut(feature)[position] = normalizer.table()[usize::from(pixel)];
            }
        }
        (x, indices.iter().map(|&sample| dataset.labels()[sample as usize].into()).collect())
    }

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let dataset = dataset(300, 23, 29);
        let normalizer = Normalizer::fit(&dataset);
        let mut order = Order::in_sequence(300);
        order.shuffle(1, 2);
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (mut x, mut labels) = (Matrix::default(), Vec::new());
            pool.install(|| fill_batch(&dataset, &normalizer, order.batch(1, 130), &mut x, &mut labels));
            assert_eq!((x, labels), naive(&dataset, &normalizer, order.batch(1, 130)));
        }
    }

    #[test]
    fn storage_is_reused() {
        let dataset = dataset(100, 9, 9);
        let normalizer = Normalizer::fit(&dataset);
        let order = Order::in_sequence(100);
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        fill_batch(&dataset, &normalizer, order.batch(0, 40), &mut x, &mut labels);
        let storage = |x: &Matrix, labels: &Vec<u32>| {
            (x.capacity_bytes(), x.padded().as_ptr(), labels.capacity(), labels.as_ptr())
        };
        let before = storage(&x, &labels);
        for batch in [1, 2, 0] {
            fill_batch(&dataset, &normalizer, order.batch(batch, 40), &mut x, &mut labels);
            assert_eq!(storage(&x, &labels), before);
        }
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn samples_must_exist() {
        let dataset = dataset(3, 2, 2);
        fill_batch(&dataset, &Normalizer::fit(&dataset), &[3], &mut Matrix::default(), &mut Vec::new());
    }

    proptest! {
        #[test]
        fn it_equals_its_naive_twin(
            height in 1usize..20,
            width in 1usize..20,
            batches in prop::collection::vec(prop::collection::vec(0u32..50, 0..70), 1..4),
        ) {
            let dataset = dataset(50, height, width);
            let normalizer = Normalizer::fit(&dataset);
            let (mut x, mut labels) = (Matrix::default(), Vec::new());
            for indices in batches {
                fill_batch(&dataset, &normalizer, &indices, &mut x, &mut labels);
                prop_assert_eq!((x.clone(), labels.clone()), naive(&dataset, &normalizer, &indices));
            }
        }
    }
}
