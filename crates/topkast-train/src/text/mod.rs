//! Texts: reading them without trusting them as bytes or as words, serving them in streams, and choosing the next token.
//!
//! As those of [`data`](crate::data), the readers are total: whatever the bytes, they answer with the text or with an
//! error that names the file, what is wrong with it and what to do.
//!
//! # What is measured
//!
//! A network gives each token a probability p, from the tokens before it. With ℓ the mean of −ln p over all tokens of a
//! split but the first ([`EvaluationStreams`]):
//!
//! - *bits per character* (of [`read_bytes`]; strictly, per byte) is ℓ / ln 2;
//! - *word perplexity* (of [`read_words`]) is exp ℓ: the network is as much in doubt as if it chose among that many
//!   words at random. As in the field, every `<eos>` counts as a word, and so does every `<unk>`, which is easier to
//!   guess than the word it stands for: perplexities compare only between equal vocabularies.

mod bytes;
mod error;
mod files;
mod sampling;
mod streams;
mod vocabulary;
mod words;

use std::fmt;
use std::path::Path;

use crate::data::DataError;

pub use bytes::read_bytes;
pub use error::TextError;
pub use sampling::{Sampling, SamplingError, next_token};
pub use streams::{EvaluationStreams, Segment, TrainingStreams};
pub use vocabulary::{EOS, UNK, Vocabulary, Words};
pub use words::read_words;

/// The most bytes that one file may hold, uncompressed: 16 GiB.
pub const TEXT_LIMIT: u64 = 16 << 30;

/// How a text is cut in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every byte is one ([`read_bytes`]).
    Bytes,
    /// Every word is one ([`read_words`]).
    Words,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Bytes, Self::Words];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Words => "words",
        })
    }
}

/// Reads a text.
///
/// # Errors
/// As [`read_bytes`] and [`read_words`].
pub fn read(kind: Kind, path: &Path) -> Result<Text, DataError> {
    match kind {
        Kind::Bytes => read_bytes(path),
        Kind::Words => read_words(path),
    }
}

/// A text in three parts, as numbers below [`Vocabulary::len`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What to learn from.
    pub train: Ids,
    /// What to choose settings by.
    pub validation: Ids,
    /// What to measure on.
    pub test: Ids,
    /// What the numbers mean.
    pub vocabulary: Vocabulary,
}

/// The tokens of a part of a text, one after the other; at least two, so that there is one to predict.
///
/// Bytes stay bytes: a quarter of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ids {
    Bytes(Vec<u8>),
    Words(Vec<u32>),
}

impl Ids {
    /// Number of tokens.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(ids) => ids.len(),
            Self::Words(ids) => ids.len(),
        }
    }

    /// Appends `count` tokens from `start` on to `ids`.
    ///
    /// # Panics
    /// If there are not as many.
    fn append_to(&self, ids: &mut Vec<u32>, start: usize, count: usize) {
        match self {
            Self::Bytes(all) => ids.extend(all[start..][..count].iter().copied().map(u32::from)),
            Self::Words(all) => ids.extend_from_slice(&all[start..][..count]),
        }
    }
}
