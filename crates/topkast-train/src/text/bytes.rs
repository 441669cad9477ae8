//! Texts as bytes: every byte is a token.

use std::path::Path;

use super::error::TextError;
use super::files::{only_file, read_whole};
use super::vocabulary::Vocabulary;
use super::{Ids, TEXT_LIMIT, Text};
use crate::data::DataError;

/// What the text of a folder with several files is called, where it is known: enwik8 and text8 (the first 10⁸ bytes of
/// an English Wikipedia of 2006, as it is and cleaned), and the Bible in this repository.
const KNOWN: [&str; 3] = ["enwik8", "text8", "kjv.txt"];

/// The fewest bytes of which 5% are two, so that every part has a token to predict.
const FEWEST: usize = 40;

/// Reads any file as bytes, 256 different tokens: 90% to train on, 5% to validate, and the rest to test on (percentages
/// rounded down). For enwik8 and text8 these are the usual 90, 5 and 5 million.
///
/// The file may be plain or compressed with gzip, zip or xz. `path` is the file, or a folder with `enwik8`, `text8` or
/// `kjv.txt` in it (or the same with `.gz`, `.xz` or `.zip`), or a folder with only one file, hidden ones left out.
///
/// # Errors
/// If the file cannot be read, is damaged, has fewer than 40 bytes or more than [`TEXT_LIMIT`], or the folder does not
/// say which file is meant.
pub fn read_bytes(path: &Path) -> Result<Text, DataError> {
    let file = only_file(path, &KNOWN)?;
    let bytes = read_whole(&file, TEXT_LIMIT)?;
    if bytes.len() < FEWEST {
        return Err(TextError::Short { path: file, found: bytes.len(), needed: FEWEST }.into());
    }
    let [train, validation, test] = split(bytes).map(Ids::Bytes);
    Ok(Text { train, validation, test, vocabulary: Vocabulary::Bytes })
}

fn split(mut train: Vec<u8>) -> [Vec<u8>; 3] {
    // In this order, since the product of a length and 90 might overflow.
    let percent = |percents: usize| train.len() / 100 * percents + train.len() % 100 * percents / 100;
    let (first, second) = (percent(90), percent(5));
    let mut validation = train.split_off(first);
    let test = validation.split_off(second);
    train.shrink_to_fit();
    validation.shrink_to_fit();
    [train, validation, test]
}

#[cfg(test)]
mod tests;
