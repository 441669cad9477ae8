//! A small data set that can be learnt, configs on it, and checkpoints as bytes to compare.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;
use topkast::SparseWeight;
use topkast_nn::ParameterMut;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::{Config, Trainer};

/// Height and width of the images.
pub(crate) const SIDE: usize = 8;

/// A folder with four IDX files (300 images to train on, 60 to test on, 4 classes) and room for runs.
pub(crate) struct Workplace(TempDir);

impl Workplace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (prefix, count) in [("train", 300), ("t10k", 60)] {
            let (images, labels) = idx_files(count);
            fs::write(dir.path().join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
            fs::write(dir.path().join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
        }
        Self(dir)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A run of 12 steps in epochs of 5 batches, the last of them partial, with 3 steps from refresh to refresh.
    pub(crate) fn config(&self, overrides: &[&str]) -> Config {
        let base = [
            "data.kind=idx",
            &format!("data.path={}", self.0.path().display()),
            "model.hidden=[24, 16]",
            "sparsity.forward=0.8",
            "sparsity.backward=0.6",
            "sparsity.refresh_every=3",
            "train.steps=12",
            "train.batch=64",
            "train.log_every=1",
        ];
        let all: Vec<String> = base.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
        Config::load(None, &all).unwrap()
    }

    /// Settings that begin with the file `weights`, made from what a trainer with `overrides` has drawn, biases too.
    pub(crate) fn weights(&self, overrides: &[&str]) -> String {
        let mut tensors = given(&mut self.trainer(overrides));
        for (name, _, values) in &mut tensors {
            if name.ends_with("bias") {
                values
                    .iter_mut()
                    .zip([0.01, -0.02, 0.03].into_iter().cycle())
                    .for_each(|(value, bias)| *value = bias);
            }
        }
        let path = self.join("weights");
        write_weights(&path, &tensors);
        format!("model.weights={}", path.display())
    }

    pub(crate) fn trainer(&self, overrides: &[&str]) -> Trainer {
        Trainer::new(self.config(overrides)).unwrap()
    }
}

/// Images whose bright quadrant is their class, under noise, and their labels.
fn idx_files(count: u32) -> (Vec<u8>, Vec<u8>) {
    let side = SIDE as u32;
    let mut images = vec![0, 0, 8, 3];
    [count, side, side].iter().for_each(|size| images.extend(size.to_be_bytes()));
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    let mut noise = count;
    for sample in 0..count {
        let class = sample % 4;
        labels.push(class as u8);
        for pixel in 0..side * side {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (row, column) = (pixel / side, pixel % side);
            let bright = row / (side / 2) * 2 + column / (side / 2) == class;
            images.push((noise >> 24) as u8 / 2 + if bright { 100 } else { 0 });
        }
    }
    (images, labels)
}

/// Writes a file of weights: tensors of F32 by name.
pub(crate) fn write_weights(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| bytes(values)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), data)| {
        (name, safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// θ of a layer, in B and in C.
pub(crate) fn theta(weight: &SparseWeight) -> Vec<f32> {
    let reservoir = weight.reservoir().unwrap();
    let mut theta: Vec<f32> = (0..weight.pattern().total()).map(|index| reservoir.value(index)).collect();
    let values = &weight.parameter().values;
    weight.pattern().for_each_by_index(|index, entry| theta[index as usize] = values[entry]);
    theta
}

/// θ and biases of all layers, as a file of weights has them.
pub(crate) fn given(trainer: &mut Trainer) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut tensors = Vec::new();
    trainer.network().visit(&mut |name, parameter| {
        let (shape, values) = match parameter {
            ParameterMut::Sparse(weight) => {
                (vec![weight.pattern().rows(), weight.pattern().width()], theta(weight))
            }
            ParameterMut::Weight { parameter, shape } => (shape.to_vec(), parameter.values.to_vec()),
            ParameterMut::Bias(parameter) => (vec![parameter.values.len()], parameter.values.to_vec()),
            ParameterMut::Statistic(values) => (vec![values.len()], values.to_vec()),
        };
        tensors.push((name.to_owned(), shape, values));
    });
    tensors
}

/// A trainer that goes on from the checkpoint at `path`.
pub(crate) fn restored(config: Config, path: &Path) -> Trainer {
    Trainer::resumed(config, &Checkpoint::read(path).unwrap(), path).unwrap()
}

/// Makes some steps.
pub(crate) fn advance(trainer: &mut Trainer, steps: u64) {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
}

/// Makes all steps that are left and returns the bits of their losses.
pub(crate) fn finish(trainer: &mut Trainer) -> Vec<u64> {
    let left = trainer.steps_done()..trainer.total_steps();
    left.map(|_| trainer.step().unwrap().loss.to_bits()).collect()
}

/// What is stored of a network: type, shape and bytes of every tensor. The metadata, which has times, is left out.
pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The tensors of the checkpoint at `path`.
pub(crate) fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let part = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.iter().map(part).collect()
}

/// Fails with the names of the tensors that differ, instead of all their bytes.
#[track_caller]
pub(crate) fn assert_same(got: &Tensors, want: &Tensors, when: &str) {
    assert!(got.keys().eq(want.keys()), "{when}: {:?} against {:?}", got.keys(), want.keys());
    let differ: Vec<_> = want.keys().filter(|name| got[*name] != want[*name]).collect();
    assert!(differ.is_empty(), "{when}: {differ:?} differ");
}
