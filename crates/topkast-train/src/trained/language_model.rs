//! Trained networks that go on with texts.

use topkast::Seed;
use topkast_kernels::Isa;
use topkast_nn::{Mode, Tokens, TransformerXl};

use crate::TrainError;
use crate::score::Score;
use crate::task::Evaluation;
use crate::text::{Sampling, Text, TextError, Vocabulary, next_token};

/// The most tokens of a prompt that are read at a time.
const READ_AT_A_TIME: usize = 256;

/// A trained network that goes on with texts.
pub struct LanguageModel<'a> {
    pub(super) network: &'a mut TransformerXl,
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) evaluation: Evaluation,
    pub(super) isa: Isa,
}

/// A text in the making, token by token, without end; it ends only if no token has a probability.
pub struct Generation<'a> {
    network: &'a mut TransformerXl,
    isa: Isa,
    sampling: Sampling,
    seed: Seed,
    /// Of what follows the text so far.
    logits: Vec<f32>,
    made: u64,
}

impl<'a> LanguageModel<'a> {
    /// Scores the network, with A only, on the test part of a text.
    ///
    /// # Errors
    /// If the text has another vocabulary.
    pub fn score(&mut self, text: &Text) -> Result<Score, TrainError> {
        if text.vocabulary != *self.vocabulary {
            let problem =
                "of this text is another than that of the text the network was trained on".to_owned();
            return Err(crate::data::DataError::from(TextError::WordList { problem }).into());
        }
        Ok(self.evaluation.score(self.network, self.isa, &text.test))
    }

    /// What the tokens mean.
    pub fn vocabulary(&self) -> &'a Vocabulary {
        self.vocabulary
    }

    /// Goes on after `prompt`, with A only. The same prompt, sampling and seed make the same text.
    ///
    /// # Panics
    /// If the prompt is empty, or a token of it is not in the vocabulary.
    pub fn generate(self, prompt: &[u32], sampling: Sampling, seed: u64) -> Generation<'a> {
        assert!(!prompt.is_empty(), "a text begins with a prompt");
        self.network.replace_memory(self.evaluation.memory());
        let seed = Seed::new(seed).named("generation");
        let mut generation =
            Generation { network: self.network, isa: self.isa, sampling, seed, logits: Vec::new(), made: 0 };
        prompt.chunks(READ_AT_A_TIME).for_each(|tokens| generation.read(tokens));
        generation
    }
}

impl Generation<'_> {
    fn read(&mut self, ids: &[u32]) {
        self.network.forward(self.isa, Tokens { ids, streams: 1 }, Mode::Evaluate);
        self.network.logits_at(self.isa, ids.len() - 1, &mut self.logits);
    }
}

impl Iterator for Generation<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let token = next_token(&self.logits, &self.sampling, self.seed, self.made)?;
        self.made += 1;
        self.read(&[token]);
        Some(token)
    }
}
