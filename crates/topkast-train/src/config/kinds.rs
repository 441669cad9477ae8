//! The configuration's choices by name.

use serde::{Deserialize, Serialize};
use topkast::{Distribution as Shape, Explore, Init, Scale, Variance};

/// A network's kind.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Multilayer perceptron.
    Mlp,
    /// Residual network (He et al. 2016).
    Resnet,
    /// Transformer-XL (Dai et al. 2019).
    TransformerXl,
}

/// What a residual network has before its first block.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// Small for images below 64 pixels, else large.
    Auto,
    /// A convolution of 3x3.
    Small,
    /// A convolution of 7x7 with stride 2, then the maxima of 3x3 with stride 2.
    Large,
}

/// A hidden layer's nonlinearity.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ActivationKind {
    Relu,
    Gelu,
}

/// How initial weights are distributed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum InitKind {
    KaimingNormal,
    KaimingTruncatedNormal,
    KaimingUniform,
    XavierNormal,
    XavierTruncatedNormal,
    XavierUniform,
}

/// How A and B are decided.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every layer dense.
    Dense,
    /// A random mask that never changes.
    Static,
    /// Sparse evolutionary training (Mocanu et al. 2018): the smallest of A are dropped, as many grow at random.
    Set,
    /// Rigging the lottery (Evci et al. 2020): the smallest of A are dropped, those of the largest gradients grow.
    Rigl,
    /// Single-shot pruning (Lee et al. 2019): A is the weights of largest saliency on one batch before training, and stays.
    Snip,
    /// Gradual magnitude pruning (Zhu and Gupta 2017): A is everything at first; its smallest are dropped bit by bit.
    Pruning,
    /// Top-KAST.
    TopKast,
}

/// How sparsity is spread over layers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// The same in every layer, as in the paper.
    Uniform,
    /// Erdős–Rényi-Kernel (Evci et al. 2020): in proportion to (rows + columns) / (rows · columns), exact in total.
    Erk,
    /// As one selection over all sparse layers gives it (the paper's footnote 1): a layer may have few entries, or none.
    Global,
}

/// How B∖A is chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ExploreKind {
    Magnitude,
    Random,
    /// Half by magnitude, half at random.
    Mixed,
    None,
}

/// Where C is kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReservoirKind {
    /// Initial values follow from their rank and are not stored, only those that training has changed.
    Implicit,
    /// θ written out in memory.
    Dense,
    /// Initial values are looked up in the file of `model.weights`; only those that training has changed are stored.
    Mmap,
}

/// How sparse layers compute.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductsKind {
    /// With their non-zeros; those that are pruned with all entries, zeros too, until half of them are gone.
    Sparse,
    /// Each as was measured faster when training started.
    Auto,
}

/// What the weight gradient of sparse layers is computed from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightGradientKind {
    /// Activations and gradients as they are.
    F32,
    /// Both rounded to bf16; sums are f32. Needs AVX512-BF16.
    Bf16,
}

/// What the initial variance of sparse layers is fitted to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleKind {
    /// What was measured best: the dense matrix for top-kast and snip, the active part for static (docs/experiments), and so for the
    /// other methods that draw A at random.
    Auto,
    /// The active part.
    Active,
    /// The dense matrix.
    Full,
}

/// An update rule.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum OptimizerKind {
    Sgd,
    Adam,
    #[serde(rename = "adamw")]
    AdamW,
}

/// The exploration penalty's form.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum PenaltyName {
    L2,
    L1,
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ScheduleKind {
    Constant,
    Step,
    Cosine,
}

impl InitKind {
    pub(super) fn init(self, scale: Scale) -> Init {
        let (variance, distribution) = match self {
            Self::KaimingNormal => (Variance::Kaiming, Shape::Normal),
            Self::KaimingTruncatedNormal => (Variance::Kaiming, Shape::TruncatedNormal),
            Self::KaimingUniform => (Variance::Kaiming, Shape::Uniform),
            Self::XavierNormal => (Variance::Xavier, Shape::Normal),
            Self::XavierTruncatedNormal => (Variance::Xavier, Shape::TruncatedNormal),
            Self::XavierUniform => (Variance::Xavier, Shape::Uniform),
        };
        Init { distribution, variance, scale }
    }
}

impl ExploreKind {
    pub(super) fn explore(self) -> Explore {
        match self {
            Self::Magnitude => Explore::Magnitude,
            Self::Random => Explore::Random,
            Self::Mixed => Explore::Mixed,
            Self::None => Explore::None,
        }
    }
}
