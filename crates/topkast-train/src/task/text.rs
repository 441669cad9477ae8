//! A text, of which each token is to be predicted from those before it.

use topkast_kernels::Isa;
use topkast_nn::{Input, Loss, Memory, Mode, Network, Tokens, TransformerXl};

use super::{ClusterShares, DataState};
use crate::TrainError;
use crate::config::{Config, TransformerXlConfig};
use crate::score::{Metric, Score};
use crate::text::{self, EvaluationStreams, Ids, Segment, TrainingStreams, Vocabulary};

/// The most tokens that are scored at a time, where the segments of training are not longer: what they see of the text before does
/// not depend on it.
const SCORED_AT_A_TIME: usize = 1024;

/// A text in training, validation and test parts, with room for a segment.
pub(crate) struct Text {
    text: text::Text,
    streams: TrainingStreams,
    segment: Segment,
    positions: usize,
    memory: usize,
    evaluation: Evaluation,
    clusters: ClusterShares,
    checksum: u32,
}

/// How a text is scored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluation {
    memory: usize,
    segment: usize,
    metric: Metric,
}

impl Text {
    /// # Errors
    /// If the config is not of a network for texts, or the training part too short for a segment of each stream.
    pub(crate) fn new(text: text::Text, config: &Config) -> Result<Self, TrainError> {
        let model = config.model.transformer_xl()?;
        let (batch, segment) = (config.train.batch, model.segment);
        let streams =
            TrainingStreams::new(text.train.len(), batch, segment).map_err(crate::data::DataError::from)?;
        let checksum = checksum(&text);
        let evaluation = Evaluation::new(model, &text.vocabulary);
        let clusters = model.adaptive_clusters(text.vocabulary.len())?;
        let clusters = ClusterShares::of(&clusters, &text.train);
        let (positions, memory) = (batch * segment, model.memory);
        let segment = Segment::default();
        Ok(Self { text, streams, segment, positions, memory, evaluation, clusters, checksum })
    }

    pub(super) fn sizes(&self) -> ([usize; 3], usize) {
        ([1; 3], self.text.vocabulary.len())
    }

    pub(super) fn state(&self) -> DataState {
        DataState::Text {
            vocabulary: self.text.vocabulary.clone(),
            tokens: self.text.train.len(),
            checksum: self.checksum,
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.streams.segments()
    }

    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    pub(super) fn load(&mut self, number: u64, network: &mut Network) {
        self.streams.fill(&self.text.train, number, &mut self.segment);
        if self.segment.begins {
            self.forget(network);
        }
    }

    pub(super) fn forget(&self, network: &mut Network) {
        transformer_xl(network).replace_memory(Memory::empty(self.memory, usize::MAX));
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input::Tokens(tokens(&self.segment))
    }

    pub(super) fn labels(&self) -> &[u32] {
        &self.segment.targets
    }

    pub(super) fn share_of_positions(&self, layer: &str) -> f64 {
        self.clusters.positions(layer)
    }

    pub(super) fn validate(&mut self, network: &mut Network, isa: Isa) -> Score {
        self.evaluation.score(transformer_xl(network), isa, &self.text.validation)
    }

    pub(super) fn test(&mut self, network: &mut Network, isa: Isa) -> Score {
        self.evaluation.score(transformer_xl(network), isa, &self.text.test)
    }
}

impl Evaluation {
    pub(crate) fn new(model: &TransformerXlConfig, vocabulary: &Vocabulary) -> Self {
        let metric = match vocabulary {
            Vocabulary::Bytes => Metric::BitsPerCharacter,
            Vocabulary::Words(_) => Metric::Perplexity,
        };
        let memory = model.evaluation_memory;
        Self { memory, segment: memory.min(SCORED_AT_A_TIME).max(model.segment), metric }
    }

    /// The memory to begin with: attention sees as many tokens before any one, wherever segments end.
    pub(crate) fn memory(&self) -> Memory {
        Memory::empty(self.memory, self.memory + 1)
    }

    /// Scores `network`, with A only and without dropout, on every token of `ids` but the first, in one stream. Its memory is afterwards
    /// what it was before.
    pub(crate) fn score(&self, network: &mut TransformerXl, isa: Isa, ids: &Ids) -> Score {
        let streams =
            EvaluationStreams::new(ids.len(), 1, self.segment).expect("a text has at least two tokens");
        let before = network.replace_memory(self.memory());
        let (mut loss, mut samples) = (Loss::ZERO, 0);
        let mut segment = Segment::default();
        for number in 0..streams.segments() {
            streams.fill(ids, number, &mut segment);
            network.forward(isa, tokens(&segment), Mode::Evaluate);
            loss += network.loss(isa, &segment.targets, 0.0, false);
            samples += segment.targets.len();
        }
        network.replace_memory(before);
        Score::new(loss, samples, self.metric)
    }
}

fn tokens(segment: &Segment) -> Tokens<'_> {
    Tokens { ids: &segment.inputs, streams: segment.streams }
}

/// The network of a config that was checked to be for texts.
fn transformer_xl(network: &mut Network) -> &mut TransformerXl {
    match network {
        Network::TransformerXl(network) => network,
        Network::Mlp(_) | Network::ResNet(_) => {
            unreachable!("a text has a Transformer-XL: Text::new checks the config")
        }
    }
}

/// Tells this text from others.
fn checksum(text: &text::Text) -> u32 {
    [&text.train, &text.validation, &text.test].into_iter().fold(0, |sum, ids| match ids {
        Ids::Bytes(ids) => crc32c::crc32c_append(sum, ids),
        Ids::Words(ids) => crc32c::crc32c_append(sum, bytemuck::cast_slice(ids)),
    })
}
