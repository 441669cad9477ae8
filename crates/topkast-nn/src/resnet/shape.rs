//! The sizes of a residual network, and its layers' names.

use topkast_kernels::{Convolution, Maps, Window};

/// The sizes of a residual network.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNetShape {
    /// Channels of the images.
    pub channels: usize,
    /// Their height and width.
    pub size: [usize; 2],
    /// Number of outputs.
    pub classes: usize,
    /// What comes before the first block.
    pub stem: Stem,
    /// What blocks are made of.
    pub block: BlockKind,
    /// Blocks in each stage; each but the first begins by halving the maps and doubling the channels.
    pub stages: Vec<usize>,
    /// Channels of the stem, and of the first stage.
    pub width: usize,
    /// Times so many are inside blocks: wide networks (Zagoruyko and Komodakis 2016, <https://arxiv.org/abs/1605.07146>).
    pub widen: usize,
    /// Whether the gain of each block's last norm begins at 0, so that blocks begin as their shortcuts (Goyal et al. 2017).
    pub zero_last_norm: bool,
}

/// What comes before the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// A window of 3, as for CIFAR.
    Small,
    /// A window of 7 with stride 2, then the maxima of windows of 3 with stride 2, as for ImageNet.
    Large,
}

/// What blocks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Two windows of 3.
    Basic,
    /// A window of 1, one of 3, which has the stride (v1.5), and one of 1 to four times the channels.
    Bottleneck,
}

/// A convolution with the norm after it, as the layers of a network are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionShape {
    /// As torchvision has it, without `.weight`.
    pub name: String,
    /// Channels: outputs, inputs.
    pub channels: [usize; 2],
    /// What it slides over the maps.
    pub window: Window,
}

impl ConvolutionShape {
    fn new(name: String, channels: [usize; 2], size: usize, stride: usize) -> Self {
        let window = Window { stride: [stride; 2], ..Window::square(size) };
        Self { name, channels, window }
    }

    /// `[outputs, inputs · taps]` of the weight.
    pub fn weight(&self) -> [usize; 2] {
        [self.channels[0], self.channels[1] * self.window.taps()]
    }

    /// The name of the norm after it, as torchvision has it.
    pub fn norm_name(&self) -> String {
        match self.name.strip_suffix("downsample.0") {
            Some(block) => format!("{block}downsample.1"),
            None => self.name.replace("conv", "bn"),
        }
    }

    /// It on such maps.
    ///
    /// # Panics
    /// If the window does not fit them.
    pub(super) fn over(&self, maps: Maps) -> Convolution {
        Convolution::new(self.window, self.channels, maps).expect("the shape fits its maps")
    }

    /// The smallest maps that the window fits.
    pub(super) fn least_maps(&self) -> Maps {
        let [height, width] = self.window.size;
        Maps { height, width, images: 1 }
    }
}

/// A block's convolutions.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockShape {
    /// One after the other.
    pub convolutions: Vec<ConvolutionShape>,
    /// Beside them, where channels or maps change.
    pub shortcut: Option<ConvolutionShape>,
}

impl ResNetShape {
    /// The first convolution.
    pub fn stem(&self) -> ConvolutionShape {
        let (size, stride) = match self.stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 2),
        };
        ConvolutionShape::new("conv1".to_owned(), [self.width, self.channels], size, stride)
    }

    /// All convolutions, in the order of [`layers`](Self::layers).
    pub fn convolutions(&self) -> Vec<ConvolutionShape> {
        let of_blocks =
            self.blocks().into_iter().flat_map(|block| block.convolutions.into_iter().chain(block.shortcut));
        std::iter::once(self.stem()).chain(of_blocks).collect()
    }

    /// The window of the maxima after it, if there are any.
    pub fn pool(&self) -> Option<Window> {
        (self.stem == Stem::Large).then(|| Window { stride: [2; 2], ..Window::square(3) })
    }

    /// All blocks, input first.
    pub fn blocks(&self) -> Vec<BlockShape> {
        let mut inputs = self.width;
        let mut blocks = Vec::new();
        for (stage, &count) in self.stages.iter().enumerate() {
            let inside = (self.width * self.widen) << stage;
            for number in 0..count {
                let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                let channels = [self.outputs(stage), inside, inputs];
                blocks.push(self.one_block(&format!("layer{}.{number}", stage + 1), channels, stride));
                inputs = channels[0];
            }
        }
        blocks
    }

    fn one_block(&self, name: &str, [outputs, inside, inputs]: [usize; 3], stride: usize) -> BlockShape {
        let convolution = |number: usize, channels, size, stride| {
            ConvolutionShape::new(format!("{name}.conv{number}"), channels, size, stride)
        };
        let convolutions = match self.block {
            BlockKind::Basic => {
                vec![convolution(1, [inside, inputs], 3, stride), convolution(2, [outputs, inside], 3, 1)]
            }
            BlockKind::Bottleneck => vec![
                convolution(1, [inside, inputs], 1, 1),
                convolution(2, [inside, inside], 3, stride),
                convolution(3, [outputs, inside], 1, 1),
            ],
        };
        let changes = stride > 1 || inputs != outputs;
        let shortcut = changes
            .then(|| ConvolutionShape::new(format!("{name}.downsample.0"), [outputs, inputs], 1, stride));
        BlockShape { convolutions, shortcut }
    }

    /// Channels that the blocks of a stage put out.
    fn outputs(&self, stage: usize) -> usize {
        match self.block {
            BlockKind::Basic => (self.width * self.widen) << stage,
            BlockKind::Bottleneck => (4 * self.width) << stage,
        }
    }

    /// Features that the output layer takes: the channels of the last block.
    pub fn features(&self) -> usize {
        self.stages.len().checked_sub(1).map_or(self.width, |last| self.outputs(last))
    }

    /// `[outputs, inputs]` of each layer that may be sparse with its name, as torchvision has it, in the order of its parameters: the
    /// window's taps count as inputs.
    pub fn layers(&self) -> Vec<(String, [usize; 2])> {
        let named = self
            .convolutions()
            .into_iter()
            .map(|convolution| (convolution.name.clone(), convolution.weight()));
        named.chain([("fc".to_owned(), [self.classes, self.features()])]).collect()
    }

    /// Output pixels of each of [`layers`](Self::layers).
    pub fn pixels(&self) -> Vec<usize> {
        let mut pixels = Vec::new();
        self.over_maps(1, |_, output| pixels.push(output.positions()));
        pixels.push(1);
        pixels
    }

    /// Whether the maps of so many images can be laid out for every convolution: these are fewer than 2³² numbers.
    pub fn fits(&self, images: usize) -> bool {
        let mut fits = true;
        self.over_maps(1, |layer, output| {
            // As wide as the input with zeros around it, or more.
            let [high, wide] = [output.height, output.width].map(|side| 2 * side as u128 + 8);
            let channels = layer.channels[0].max(layer.channels[1]) as u128;
            fits &= channels * high * wide * images as u128 <= u128::from(u32::MAX);
        });
        fits
    }

    /// Calls `visit` with each convolution and the maps that it makes of so many images.
    fn over_maps(&self, images: usize, mut visit: impl FnMut(&ConvolutionShape, Maps)) {
        let through =
            |window: Window, maps| window.output(maps).expect("padding as wide as the window needs");
        let [height, width] = self.size;
        let stem = self.stem();
        let mut maps = through(stem.window, Maps { height, width, images });
        visit(&stem, maps);
        maps = self.pool().map_or(maps, |window| through(window, maps));
        for block in self.blocks() {
            let input = maps;
            for layer in &block.convolutions {
                maps = through(layer.window, maps);
                visit(layer, maps);
            }
            if let Some(shortcut) = &block.shortcut {
                visit(shortcut, through(shortcut.window, input));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &ResNetShape) -> usize {
        let weights: usize = shape.layers().iter().map(|(_, [outputs, inputs])| outputs * inputs).sum();
        // Gain and bias of each norm, and the bias of the output layer.
        let norms = shape.layers().iter().map(|(_, [outputs, _])| 2 * outputs).sum::<usize>();
        weights + norms - shape.classes
    }

    /// `sum(p.numel() for p in torchvision.models.resnetN().parameters())`, and He et al. 2016 for CIFAR (0.27 million).
    #[test]
    fn parameters_are_as_many_as_torchvisions() {
        let of = |stem, block, stages: &[usize], width, size, classes| ResNetShape {
            channels: 3,
            size: [size; 2],
            classes,
            stem,
            block,
            stages: stages.to_vec(),
            width,
            widen: 1,
            zero_last_norm: false,
        };
        let resnet18 = of(Stem::Large, BlockKind::Basic, &[2, 2, 2, 2], 64, 224, 1000);
        let resnet50 = of(Stem::Large, BlockKind::Bottleneck, &[3, 4, 6, 3], 64, 224, 1000);
        assert_eq!([numbers(&resnet18), numbers(&resnet50)], [11_689_512, 25_557_032]);
        assert_eq!(numbers(&ResNetShape { widen: 2, ..resnet50.clone() }), 68_883_240);
        let resnet20 = of(Stem::Small, BlockKind::Basic, &[3, 3, 3], 16, 32, 10);
        assert_eq!(numbers(&resnet20), 272_474);
        assert!(resnet50.fits(256) && !resnet50.fits(1 << 16));
        let multiply_adds = |shape: &ResNetShape| -> usize {
            let layers = shape.layers().into_iter().zip(shape.pixels());
            layers.map(|((_, [outputs, inputs]), pixels)| outputs * inputs * pixels).sum()
        };
        // 1.8 and 4.1 billion (torchvision's table of models).
        assert_eq!([&resnet18, &resnet50].map(|shape| multiply_adds(shape) / 1_000_000), [1814, 4089]);
    }

    #[test]
    fn names_are_torchvisions() {
        let shape = ResNetShape {
            channels: 3,
            size: [64; 2],
            classes: 10,
            stem: Stem::Large,
            block: BlockKind::Bottleneck,
            stages: vec![1, 1],
            width: 8,
            widen: 1,
            zero_last_norm: true,
        };
        let names: Vec<String> = shape.layers().into_iter().map(|(name, _)| name).collect();
        let want = "conv1 layer1.0.conv1 layer1.0.conv2 layer1.0.conv3 layer1.0.downsample.0 layer2.0.conv1 layer2.0.conv2 \
                    layer2.0.conv3 layer2.0.downsample.0 fc";
        assert_eq!(names, want.split_whitespace().collect::<Vec<_>>());
        assert_eq!(shape.features(), 64);
    }
}
