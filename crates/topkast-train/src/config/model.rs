//! `[model]`: every kind of network has keys of its own.

use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;
use topkast_nn::{
    Activation, AdaptiveError, AdaptiveShape, Clusters, MlpShape, NetworkShape, TransformerXlShape,
};

use super::sections::{LARGEST, below_one, within};
use super::{ActivationKind, ConfigError, InitKind, ModelKind, ResNetConfig};

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// A multilayer perceptron.
    Mlp(MlpConfig),
    /// A residual network.
    Resnet(ResNetConfig),
    /// A Transformer-XL.
    TransformerXl(TransformerXlConfig),
}

/// `[model]` with `kind = "mlp"`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// After each hidden layer.
    pub activation: ActivationKind,
    /// Dropout rate after each hidden layer.
    pub dropout: f64,
    /// How initial weights are distributed.
    pub init: InitKind,
    /// A safetensors file of the weights to start from, by layer; empty draws them as `init` says.
    pub weights: String,
}

/// `[model]` with `kind = "transformer-xl"`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformerXlConfig {
    /// Number of layers.
    pub layers: usize,
    /// Features of a position between layers (`d_model`).
    pub width: usize,
    /// Attention heads, a divisor of `width`.
    pub heads: usize,
    /// Units inside each feed-forward block (`d_ff`).
    pub feed_forward: usize,
    /// Inside each feed-forward block.
    pub activation: ActivationKind,
    /// Dropout rate of embeddings, of units inside feed-forward blocks, and of what blocks add.
    pub dropout: f64,
    /// How initial weights are distributed.
    pub init: InitKind,
    /// Positions of a stream that are trained on at a time (the papers' window).
    pub segment: usize,
    /// Positions before a segment that its attention sees in training, at most.
    pub memory: usize,
    /// Positions before a token that attention sees in evaluation and generation, at most.
    pub evaluation_memory: usize,
    /// The first token of each cluster but the first of an adaptive embedding and softmax; empty has every token alike. Words are
    /// numbered by frequency, most frequent first.
    pub adaptive_cutoffs: Vec<usize>,
    /// By what the embeddings of each cluster are narrower than those of the one before.
    pub adaptive_div_value: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::default())
    }
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            hidden: vec![1024, 1024],
            activation: ActivationKind::Relu,
            dropout: 0.0,
            init: InitKind::KaimingNormal,
            weights: String::new(),
        }
    }
}

impl Default for TransformerXlConfig {
    fn default() -> Self {
        Self {
            layers: 4,
            width: 256,
            heads: 4,
            feed_forward: 1024,
            activation: ActivationKind::Relu,
            dropout: 0.0,
            init: InitKind::XavierNormal,
            segment: 128,
            memory: 128,
            evaluation_memory: 128,
            adaptive_cutoffs: Vec::new(),
            adaptive_div_value: 4,
        }
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        // Its message alone: whoever reads a whole file adds the line.
        let told = |error: toml::de::Error| D::Error::custom(error.message().trim_end());
        let kind = table.remove("kind").map_or(Ok(ModelKind::Mlp), ModelKind::deserialize);
        let config = match kind.map_err(told)? {
            ModelKind::Mlp => MlpConfig::deserialize(table).map(Self::Mlp),
            ModelKind::Resnet => ResNetConfig::deserialize(table).map(Self::Resnet),
            ModelKind::TransformerXl => TransformerXlConfig::deserialize(table).map(Self::TransformerXl),
        };
        config.map_err(told)
    }
}

impl ModelConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Mlp(config) => config.check(),
            Self::Resnet(config) => config.check(),
            Self::TransformerXl(config) => config.check(),
        }
    }

    /// The network's sizes for data whose inputs are `[channels, height, width]` and that have so many classes, or different tokens.
    pub(super) fn shape(&self, input: [usize; 3], classes: usize) -> NetworkShape {
        match self {
            Self::Resnet(config) => NetworkShape::ResNet(config.shape(input, classes)),
            Self::Mlp(config) => NetworkShape::Mlp(MlpShape {
                inputs: input.iter().product(),
                hidden: config.hidden.clone(),
                outputs: classes,
                activation: config.activation.activation(),
                dropout: config.dropout as f32,
            }),
            Self::TransformerXl(config) => NetworkShape::TransformerXl(TransformerXlShape {
                vocabulary: classes,
                width: config.width,
                layers: config.layers,
                heads: config.heads,
                feed_forward: config.feed_forward,
                memory: config.memory,
                activation: config.activation.activation(),
                dropout: config.dropout as f32,
                adaptive: config.clusters(),
            }),
        }
    }

    /// Numbers of the table of tokens, of as many as `classes`.
    ///
    /// # Errors
    /// If there is no such table.
    pub(crate) fn embedding(&self, classes: usize) -> Result<u64, ConfigError> {
        match (self, self.shape([1; 3], classes)) {
            (Self::TransformerXl(config), NetworkShape::TransformerXl(shape)) => {
                shape.embedding().map_err(|problem| config.unfit_table(problem))
            }
            _ => Ok(0),
        }
    }

    /// Whether the probabilities of all tokens are known in training.
    pub(super) fn knows_all_probabilities(&self) -> bool {
        match self {
            Self::Mlp(_) | Self::Resnet(_) => true,
            Self::TransformerXl(config) => config.adaptive_cutoffs.is_empty(),
        }
    }

    /// The keys of a Transformer-XL.
    ///
    /// # Errors
    /// If it is another network.
    pub(crate) fn transformer_xl(&self) -> Result<&TransformerXlConfig, ConfigError> {
        match self {
            Self::TransformerXl(config) => Ok(config),
            Self::Mlp(_) => Err(ConfigError::value("model.kind", "mlp", "a text takes transformer-xl")),
            Self::Resnet(_) => Err(ConfigError::value("model.kind", "resnet", "a text takes transformer-xl")),
        }
    }

    /// The nonlinearity.
    pub fn activation(&self) -> ActivationKind {
        match self {
            Self::Mlp(config) => config.activation,
            Self::Resnet(_) => ActivationKind::Relu,
            Self::TransformerXl(config) => config.activation,
        }
    }

    /// How initial weights are distributed.
    pub fn init(&self) -> InitKind {
        match self {
            Self::Mlp(config) => config.init,
            Self::Resnet(config) => config.init,
            Self::TransformerXl(config) => config.init,
        }
    }

    /// A safetensors file of the weights to start from; empty where they are drawn.
    pub fn weights(&self) -> &str {
        match self {
            Self::Mlp(config) => &config.weights,
            Self::Resnet(_) | Self::TransformerXl(_) => "",
        }
    }

    /// The keys that decide how large the layers are, and their values, for errors.
    pub(super) fn sizes(&self) -> (&'static str, String) {
        match self {
            Self::Mlp(config) => ("model.hidden", format!("{:?}", config.hidden)),
            Self::Resnet(config) => ("model.width", config.width.to_string()),
            Self::TransformerXl(config) => ("model.width", config.width.to_string()),
        }
    }
}

impl MlpConfig {
    fn check(&self) -> Result<(), ConfigError> {
        for &units in &self.hidden {
            within("model.hidden", units, 1, LARGEST)?;
        }
        below_one("model.dropout", self.dropout)
    }
}

impl TransformerXlConfig {
    fn check(&self) -> Result<(), ConfigError> {
        /// Far above any use, low enough that no size overflows.
        const LONGEST: usize = 1 << 20;
        within("model.layers", self.layers, 1, 4096)?;
        within("model.width", self.width, 2, LONGEST)?;
        within("model.feed_forward", self.feed_forward, 1, LARGEST)?;
        within("model.segment", self.segment, 1, LONGEST)?;
        within("model.memory", self.memory, 0, LONGEST)?;
        within("model.evaluation_memory", self.evaluation_memory, 0, LONGEST)?;
        if !self.width.is_multiple_of(2) {
            let allowed = "must be even, as half of its features are sines and half cosines of distances";
            return Err(ConfigError::value("model.width", self.width, allowed));
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            let allowed = format!("must divide model.width, which is {}", self.width);
            return Err(ConfigError::value("model.heads", self.heads, allowed));
        }
        within("model.adaptive_div_value", self.adaptive_div_value, 1, LARGEST)?;
        // Of the largest vocabulary, which has the most clusters.
        self.adaptive_clusters(AdaptiveShape::LARGEST_VOCABULARY)?;
        below_one("model.dropout", self.dropout)
    }

    /// The tokens of each cluster of an adaptive table, and the width of their embeddings; of another table none.
    ///
    /// # Errors
    /// If there is no such table for so many tokens.
    pub(crate) fn adaptive_clusters(
        &self,
        vocabulary: usize,
    ) -> Result<Vec<(Range<u32>, usize)>, ConfigError> {
        let Some(Clusters { cutoffs, div_value }) = self.clusters() else { return Ok(Vec::new()) };
        let shape = AdaptiveShape { vocabulary, width: self.width, cutoffs, div_value };
        shape.clusters().map_err(|problem| self.unfit_table(problem))
    }

    /// What is wrong with the table of tokens.
    fn unfit_table(&self, problem: AdaptiveError) -> ConfigError {
        ConfigError::value("model.adaptive_cutoffs", format!("{:?}", self.adaptive_cutoffs), problem)
    }

    fn clusters(&self) -> Option<Clusters> {
        let (cutoffs, div_value) = (self.adaptive_cutoffs.clone(), self.adaptive_div_value);
        (!cutoffs.is_empty()).then_some(Clusters { cutoffs, div_value })
    }
}

impl ActivationKind {
    fn activation(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::Gelu => Activation::Gelu,
        }
    }
}
