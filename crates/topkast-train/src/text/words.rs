//! Texts in words, in the format of WikiText.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::iter::once;
use std::path::Path;
use std::sync::Arc;

use super::error::TextError;
use super::files::{find, reserve};
use super::vocabulary::{EOS, Vocabulary, WORDS_LIMIT, Words, split_words};
use super::{Ids, TEXT_LIMIT, Text};
use crate::data::{DataError, Unpacked, open};

/// What the parts are called.
const PARTS: [[&str; 2]; 3] = [
    ["wiki.train.tokens", "train.txt"],
    ["wiki.valid.tokens", "valid.txt"],
    ["wiki.test.tokens", "test.txt"],
];

/// Reads a text in words from a folder with `wiki.train.tokens`, `wiki.valid.tokens` and `wiki.test.tokens`, or
/// `train.txt`, `valid.txt` and `test.txt`, each plain or compressed with gzip, zip or xz.
///
/// Words are what is between white space, with case and punctuation as they are. Every line ends with [`EOS`], empty
/// lines too, and so does the last if nothing ends it: that is how Transformer-XL's authors read WikiText-103 (`encode_file`
/// in their `vocabulary.py`), and perplexities compare only if tokens are counted alike. The vocabulary is that of the
/// training part, [`EOS`] included, most frequent words first, and of equally frequent ones that which comes first in the
/// text. For WikiText-103 it has 267,735 words. A word that the training part lacks becomes [`UNK`](super::UNK).
///
/// # Errors
/// If a part is missing, cannot be read, is damaged, is not UTF-8 (a replacement character would make one word of
/// many, unnoticed), has fewer than two tokens or more than [`TEXT_LIMIT`] bytes; if the training part has more than 2²⁴
/// different words; or if a word is unknown and the training part has no `<unk>`.
pub fn read_words(folder: &Path) -> Result<Text, DataError> {
    let missing = |names| DataError::from(TextError::Part { folder: folder.into(), names });
    let [train, validation, test] = PARTS.map(|names| find(folder, &names).ok_or_else(|| missing(names)));
    let (train, validation, test) = (train?, validation?, test?);
    let (train, words) = read_training(&train)?;
    let read = |path: &Path| {
        read_part(path, |word, line| {
            Ok(words.id_or_unknown(word, || format!("{}: line {line}", path.display()))?)
        })
    };
    let (validation, test) = (read(&validation)?, read(&test)?);
    let [train, validation, test] = [train, validation, test].map(Ids::Words);
    Ok(Text { train, validation, test, vocabulary: Vocabulary::Words(words) })
}

/// The training part and its vocabulary.
fn read_training(path: &Path) -> Result<(Vec<u32>, Words), DataError> {
    let mut counts = Counts::default();
    let mut tokens = read_part(path, |word, line| {
        counts.count(word).ok_or_else(|| TextError::Vocabulary { path: path.into(), line }.into())
    })?;
    let (words, numbers) = counts.by_frequency();
    for token in &mut tokens {
        *token = numbers[*token as usize];
    }
    Ok((tokens, Words::new(words)?))
}

/// Words, numbered by first appearance, and how often they come.
#[derive(Default)]
struct Counts {
    ids: HashMap<Arc<str>, u32>,
    counts: Vec<u64>,
}

impl Counts {
    /// Counts a word and gives its number, unless it is one too many.
    fn count(&mut self, word: &str) -> Option<u32> {
        if let Some(&id) = self.ids.get(word) {
            self.counts[id as usize] += 1;
            return Some(id);
        }
        if self.counts.len() == WORDS_LIMIT {
            return None;
        }
        let id = self.counts.len() as u32;
        self.ids.insert(word.into(), id);
        self.counts.push(1);
        Some(id)
    }

    /// The words by falling frequency, and each one's place among them.
    fn by_frequency(self) -> (Vec<Arc<str>>, Vec<u32>) {
        let mut words: Vec<_> = self.ids.into_iter().collect();
        words.sort_unstable_by_key(|&(_, id)| (Reverse(self.counts[id as usize]), id));
        let mut places = vec![0; words.len()];
        for (&(_, id), place) in words.iter().zip(0..) {
            places[id as usize] = place;
        }
        (words.into_iter().map(|(word, _)| word).collect(), places)
    }
}

/// The tokens of a file, where `number` gives each word's number, knowing the line it is in.
fn read_part(
    path: &Path,
    mut number: impl FnMut(&str, u64) -> Result<u32, DataError>,
) -> Result<Vec<u32>, DataError> {
    let mut reader = BufReader::new(Unpacked::new(open(path)?, path)?.take(TEXT_LIMIT + 1));
    let mut tokens = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if let Err(cause) = reader.read_until(b'\n', &mut bytes) {
            return Err(reader.get_ref().get_ref().error(cause));
        }
        if bytes.is_empty() {
            break;
        }
        let text = str::from_utf8(&bytes).map_err(|_| TextError::Utf8 { path: path.into(), line })?;
        for word in split_words(text).chain(once(EOS)) {
            reserve(&mut tokens, path)?;
            tokens.push(number(word, line)?);
        }
    }
    if reader.get_ref().limit() == 0 {
        return Err(TextError::TooLarge { path: path.into(), limit: TEXT_LIMIT }.into());
    }
    if tokens.len() < 2 {
        return Err(TextError::Short { path: path.into(), found: tokens.len(), needed: 2 }.into());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests;
