//! What tokens' numbers mean.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::TextError;

/// The word at the end of every line.
pub const EOS: &str = "<eos>";

/// The word that stands for those not in the vocabulary.
pub const UNK: &str = "<unk>";

/// The most different words: 2²⁴.
pub(super) const WORDS_LIMIT: usize = 1 << 24;

/// What tokens' numbers mean, from 0 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vocabulary {
    /// A number is a byte.
    Bytes,
    /// A number is a word's place in a list.
    Words(Words),
}

/// A list of different words, where each is found by its number and by itself. Cloning shares it.
///
/// It serialises as the list, and is checked when it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Words {
    words: Arc<[Arc<str>]>,
    ids: Arc<HashMap<Arc<str>, u32>>,
}

impl Words {
    /// The words, numbered as they come.
    ///
    /// # Errors
    /// If a word comes twice, or there are more than 2²⁴.
    pub fn new<W: Into<Arc<str>>>(words: impl IntoIterator<Item = W>) -> Result<Self, TextError> {
        let words: Arc<[Arc<str>]> = words.into_iter().take(WORDS_LIMIT + 1).map(Into::into).collect();
        if words.len() > WORDS_LIMIT {
            return Err(TextError::WordList { problem: format!("has more than {WORDS_LIMIT} words") });
        }
        let mut ids = HashMap::with_capacity(words.len());
        for (word, id) in words.iter().zip(0..) {
            if ids.insert(word.clone(), id).is_some() {
                return Err(TextError::WordList { problem: format!("has {:?} twice", start_of(word)) });
            }
        }
        Ok(Self { words, ids: Arc::new(ids) })
    }

    /// The words by number.
    pub fn list(&self) -> &[Arc<str>] {
        &self.words
    }

    /// A word's number.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

    /// A word's number, or that of `<unk>`.
    ///
    /// # Errors
    /// If there is neither; `place` says where the word is.
    pub(super) fn id_or_unknown(&self, word: &str, place: impl FnOnce() -> String) -> Result<u32, TextError> {
        self.id(word)
            .or_else(|| self.id(UNK))
            .ok_or_else(|| TextError::Unknown { place: place(), word: start_of(word) })
    }
}

impl TryFrom<Vec<String>> for Words {
    type Error = TextError;

    fn try_from(words: Vec<String>) -> Result<Self, TextError> {
        Self::new(words)
    }
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        words.list().iter().map(|word| word.to_string()).collect()
    }
}

impl Vocabulary {
    /// How many different tokens there are.
    #[expect(clippy::len_without_is_empty, reason = "what makes a text has at least one")]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::Words(words) => words.list().len(),
        }
    }

    /// The tokens of a prompt. In words, an end of line becomes `<eos>`, but the prompt's own end does not, so that it can
    /// be continued.
    ///
    /// # Errors
    /// If a word is not in the vocabulary, nor `<unk>`.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>, TextError> {
        match self {
            Self::Bytes => Ok(prompt.bytes().map(u32::from).collect()),
            Self::Words(words) => prompt
                .split('\n')
                .enumerate()
                .flat_map(|(line, text)| (line > 0).then_some(EOS).into_iter().chain(split_words(text)))
                .map(|word| words.id_or_unknown(word, || "the prompt".to_owned()))
                .collect(),
        }
    }

    /// Appends what a token stands for to a text that tokens made: a byte, or a word after a space where one is
    /// needed, or a new line for `<eos>`. Bytes need not be UTF-8.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn append_to(&self, text: &mut Vec<u8>, token: u32) {
        match self {
            Self::Bytes => text.push(u8::try_from(token).expect("a byte")),
            Self::Words(words) => match &*words.words[token as usize] {
                EOS => text.push(b'\n'),
                word => {
                    if text.last().is_some_and(|&last| last != b'\n') {
                        text.push(b' ');
                    }
                    text.extend_from_slice(word.as_bytes());
                }
            },
        }
    }
}

/// The words of a line: what is between white space.
///
/// White space is what it is to Python's `str.split`, with which the field cuts its texts: Unicode's and the four
/// separators from U+001C on.
pub(super) fn split_words(line: &str) -> impl Iterator<Item = &str> {
    let is_space = |c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}');
    line.split(is_space).filter(|word| !word.is_empty())
}

/// As much of a word as a message can hold.
fn start_of(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
