//! A small image data set that can be learnt, and the batches that training draws from it.

use std::fs;
use std::path::Path;

use topkast_kernels::Matrix;
use topkast_train::Config;
use topkast_train::data::{self, Dataset, Layout, Normalizer, Order, Views, fill_batch};

const SIDE: u32 = 6;
const CLASSES: u32 = 4;

/// Writes 200 training and 20 test images of 6×6 into `folder`: each class brightens one quarter of noise.
pub(crate) fn write(folder: &Path) {
    let mut noise = 1;
    write_part(folder, "train", 200, &mut noise);
    write_part(folder, "t10k", 20, &mut noise);
}

fn write_part(folder: &Path, prefix: &str, count: u32, noise: &mut u32) {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for sample in 0..count {
        let label = sample % CLASSES;
        labels.push(label as u8);
        for pixel in 0..SIDE * SIDE {
            let quarter = 2 * (pixel / SIDE / 3) + pixel % SIDE / 3;
            let bright = if quarter == label { 50 } else { 0 };
            *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            pixels.push((bright + (*noise >> 24) * 4 / 5) as u8);
        }
    }
    let write = |name: &str, bytes| fs::write(folder.join(format!("{prefix}-{name}")), bytes).unwrap();
    write("images-idx3-ubyte", idx(&[count, SIDE, SIDE], &pixels));
    write("labels-idx1-ubyte", idx(&[count], &labels));
}

fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

/// The batches of a run.
pub(crate) struct Batches {
    train: Dataset,
    normalizer: Normalizer,
    seed: u64,
    size: usize,
}

impl Batches {
    pub(crate) fn of(config: &Config) -> Self {
        let train =
            data::load(config.data.kind.images().unwrap(), Path::new(&config.data.path)).unwrap().train;
        Self { normalizer: Normalizer::fit(&train), train, seed: config.seed, size: config.train.batch }
    }

    /// The samples of a step, each with its features, and their labels.
    pub(crate) fn at(&self, step: u64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let mut order = Order::in_sequence(self.train.len());
        let batches = order.batches(self.size) as u64;
        order.shuffle(self.seed, step / batches);
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        let samples = order.batch((step % batches) as usize, self.size);
        fill_batch(
            &self.train,
            &self.normalizer,
            Layout::Features,
            Views::PLAIN,
            samples,
            &mut x,
            &mut labels,
        );
        let sample = |position| (0..x.features()).map(|f| f64::from(x.get(f, position))).collect();
        let samples = (0..x.positions()).map(sample).collect();
        (samples, labels.into_iter().map(|label| label as usize).collect())
    }
}
