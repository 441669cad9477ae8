//! Residual networks (He et al. 2016, <https://arxiv.org/abs/1512.03385>): for ImageNet with the stride in the 3×3 convolution ("v1.5"), for
//! CIFAR with three stages, and wide ones.
//!
//! An image is `channels` rows of maps; position `(y·width + x)·images + image`. Names are torchvision's.

mod block;
mod norm;
mod shape;
mod unit;

use topkast::{DenseGradient, SparseWeight};
use topkast_kernels::{Isa, Maps, Matrix, Pooling, Window, pool, pool_gradient};

pub use shape::{BlockKind, ConvolutionShape, ResNetShape, Stem};

use crate::loss::softmax_loss;
use crate::named::NamedLinear;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{BackwardTimes, Gradients, Linear, Loss, ParameterMut, PartTimes};
use block::{Block, Scratch};
use unit::Unit;

/// A residual network.
#[derive(Debug)]
pub struct ResNet {
    channels: usize,
    size: [usize; 2],
    stem: Unit,
    /// The window of the maxima after it.
    pool: Option<Window>,
    pooled: Matrix,
    blocks: Vec<Block>,
    output: NamedLinear,
    /// The maps that come out of the stem and of the last block, in the last forward pass.
    maps: [Maps; 2],
    means: Matrix,
    d_means: Matrix,
    logits: Matrix,
    gradient: Matrix,
    scratch: Scratch,
    keeps_gradients: bool,
    parts: PartTimes,
}

impl ResNet {
    /// A network of linear layers that are made already: one for each of [`ResNetShape::layers`].
    ///
    /// # Panics
    /// If the layers are not as many or not of those sizes.
    pub fn from_layers(shape: &ResNetShape, linears: Vec<Linear>) -> Self {
        assert_eq!(shape.layers().len(), linears.len(), "one layer for each of the shape");
        let mut linears = linears.into_iter();
        let mut take = || linears.next().expect("they were counted");
        let last_gain = if shape.zero_last_norm { 0.0 } else { 1.0 };
        let none = Maps { height: 0, width: 0, images: 0 };
        Self {
            channels: shape.channels,
            size: shape.size,
            stem: Unit::new(shape.stem(), take(), 1.0),
            pool: shape.pool(),
            pooled: Matrix::default(),
            blocks: shape.blocks().into_iter().map(|block| Block::new(block, last_gain, &mut take)).collect(),
            output: NamedLinear::new("fc", [shape.classes, shape.features()], take()),
            maps: [none; 2],
            means: Matrix::default(),
            d_means: Matrix::default(),
            logits: Matrix::default(),
            gradient: Matrix::default(),
            scratch: Scratch::default(),
            keeps_gradients: false,
            parts: PartTimes::default(),
        }
    }

    /// The logits `[classes × images]` for images `x`, `[channels × height·width·images]`. In `training`, norms go by the batch's
    /// statistics, which the running ones follow; else by those.
    ///
    /// # Panics
    /// If `x` does not hold images of the network's size.
    pub fn forward(&mut self, isa: Isa, x: &Matrix, training: bool) -> &Matrix {
        let [height, width] = self.size;
        let images = x.positions() / (height * width);
        let maps = Maps { height, width, images };
        assert_eq!(
            (x.features(), x.positions()),
            (self.channels, maps.positions()),
            "images of another size"
        );
        let mut work = Work::new(isa);
        let scratch = &mut self.scratch.convolution;
        let stem = self.stem.forward(&mut work, training, (x, maps), None, true, scratch);
        let mut now = stem;
        if let Some(window) = self.pool {
            pool(isa, Pooling::Max, &self.stem.output, window, stem, &mut self.pooled);
            now = window.output(stem).expect("the shape fits its maps");
        }
        let first = if self.pool.is_some() { &self.pooled } else { &self.stem.output };
        for number in 0..self.blocks.len() {
            let (before, rest) = self.blocks.split_at_mut(number);
            let x = before.last().map_or(first, Block::output);
            now = rest[0].forward(&mut work, training, (x, now), scratch);
        }
        let last = self.blocks.last().map_or(first, Block::output);
        pool(isa, Pooling::Average, last, whole(now), now, &mut self.means);
        let Self { output, means, logits, .. } = self;
        work.linear(|isa| output.affine(isa, means, logits));
        self.maps = [stem, now];
        self.parts = work.parts;
        &self.logits
    }

    /// The first layer whose output in the last forward pass is not finite throughout, by its name.
    pub fn first_not_finite(&self) -> Option<String> {
        let maps = self.stem.not_finite().or_else(|| self.blocks.iter().find_map(Block::not_finite));
        let name = maps.or_else(|| (!self.logits.is_finite()).then(|| self.output.name()))?;
        Some(name.to_owned())
    }

    /// The result of the last [`forward`](Self::forward).
    pub fn logits(&self) -> &Matrix {
        &self.logits
    }

    /// The loss of the last forward pass against the `targets`, one for each image; with the gradient that [`backward`](Self::backward)
    /// begins with, if that is to follow.
    ///
    /// # Panics
    /// If there is not one target for each image, or one is no class.
    pub fn loss(&mut self, isa: Isa, targets: &[u32], label_smoothing: f32, with_gradient: bool) -> Loss {
        softmax_loss(isa, &self.logits, targets, label_smoothing, with_gradient, &mut self.gradient)
    }

    /// The gradients that are `wanted` of the last [`loss`](Self::loss), for the images `x` of the last forward pass, which must have been one
    /// in training. Without `All` those of entries of B∖A are zero; with `Activations` those of convolutions and the output layer stay what
    /// they were (the norms' come along). Returns how long it took.
    ///
    /// # Panics
    /// If `x` is not of the last forward pass's shape.
    pub fn backward(&mut self, isa: Isa, x: &Matrix, wanted: Gradients) -> BackwardTimes {
        self.keeps_gradients = wanted == Gradients::Activations;
        let mut pass = Pass::new(isa, wanted);
        let Self { output, means, d_means, gradient, scratch, blocks, stem, .. } = self;
        pass.linear(output, means, gradient);
        pass.activations(|work| work.linear(|isa| output.input_gradient(isa, gradient, None, d_means)));
        let first = if self.pool.is_some() { &self.pooled } else { &stem.output };
        let last = blocks.last().map_or(first, Block::output);
        let maps = self.maps[1];
        let flow = &mut scratch.flow;
        pass.activations(|work| {
            pool_gradient(work.isa, Pooling::Average, d_means, last, means, whole(maps), maps, flow);
        });
        for number in (0..blocks.len()).rev() {
            let (before, rest) = blocks.split_at_mut(number);
            rest[0].backward(&mut pass, before.last().map_or(first, Block::output), scratch);
        }
        let Scratch { convolution, flow, inner, sum, .. } = scratch;
        if let Some(window) = self.pool {
            let (y, maps) = (&self.pooled, self.maps[0]);
            pass.activations(|work| {
                pool_gradient(work.isa, Pooling::Max, flow, &stem.output, y, window, maps, inner);
            });
            std::mem::swap(flow, inner);
        }
        // Nobody needs the gradient of the images.
        stem.backward(&mut pass, x, flow, None, (convolution, sum));
        self.parts += pass.work.parts;
        pass.times
    }

    /// What of the last forward pass, and of the backward passes after it, went to convolutions and the output layer.
    pub fn part_times(&self) -> PartTimes {
        self.parts
    }

    /// Calls `visit` with each sparse weight and its dense gradient: that of the last [`backward`](Self::backward) for images `x`, which must
    /// have been one for [`Gradients::Activations`], as otherwise layers share what holds it.
    ///
    /// # Panics
    /// If the last backward pass was another.
    pub fn for_each_gradient(
        &mut self,
        x: &Matrix,
        mut visit: impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        assert!(self.keeps_gradients, "only a backward pass for activations keeps their gradients");
        let Self { stem, blocks, pooled, output, means, gradient, .. } = self;
        let scratch = &mut self.scratch.convolution;
        stem.for_each_gradient(x, scratch, &mut visit);
        let first = if self.pool.is_some() { &*pooled } else { &stem.output };
        for number in 0..blocks.len() {
            let (before, rest) = blocks.split_at_mut(number);
            let x = before.last().map_or(first, Block::output);
            rest[0].for_each_gradient(x, scratch, &mut visit);
        }
        if let Some(weight) = output.sparse_weight() {
            visit(weight, &DenseGradient::of(gradient, means));
        }
    }

    /// Makes what input gradients need, where not yet made, so that it is counted.
    pub fn index_inputs(&mut self) {
        self.blocks.iter_mut().flat_map(Block::units).for_each(Unit::index_inputs);
        if let Linear::Sparse(layer) = &*self.output {
            layer.index_inputs();
        }
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.stem.visit(visit);
        self.blocks.iter_mut().for_each(|block| block.visit(visit));
        self.output.visit(visit);
    }

    /// The layers with their names, as [`ResNetShape::layers`] has them.
    pub fn linears(&mut self) -> impl Iterator<Item = (&str, &mut Linear)> {
        let blocks = self.blocks.iter_mut().flat_map(Block::units).map(Unit::named);
        std::iter::once(self.stem.named()).chain(blocks).chain(std::iter::once(self.output.named()))
    }

    /// The sparse weights, in the order of [`linears`](Self::linears).
    pub fn sparse_weights(&mut self) -> Vec<&mut SparseWeight> {
        self.linears().filter_map(|(_, linear)| linear.sparse_weight()).collect()
    }

    /// Channels, height and width of an image.
    pub fn input(&self) -> [usize; 3] {
        let [height, width] = self.size;
        [self.channels, height, width]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.output.shape()[0]
    }
}

/// The window that sees all of the maps at once.
fn whole(maps: Maps) -> Window {
    Window { size: [maps.height, maps.width], stride: [1; 2], padding: [0; 2], dilation: [1; 2] }
}
