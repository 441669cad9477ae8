//! What can be wrong with a text.

use std::path::PathBuf;

use super::TEXT_LIMIT;
use super::vocabulary::WORDS_LIMIT;

/// What is wrong with a text, where, and what to do about it: one line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// More than this program is willing to read.
    #[error("{path} holds more than {limit} bytes (uncompressed; at most {} are read); split it", TEXT_LIMIT)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// The text does not fit in memory.
    #[error("{path} does not fit in memory: there is no room for {bytes} bytes; use a shorter text")]
    Memory {
        /// The file.
        path: PathBuf,
        /// How many bytes there should be room for.
        bytes: usize,
    },
    /// A folder with no file or several where one is expected.
    #[error(
        "{path} is a folder of {found} files, so it does not say which is the text; set data.path to the file"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// How many files it has, hidden ones left out.
        found: usize,
    },
    /// A part of a text in words is missing.
    #[error(
        "there is neither {} nor {} in {folder}, plain or with .gz, .xz or .zip; \
         set data.path to a folder with the three parts of a text in words", names[0], names[1]
    )]
    Part {
        /// The folder.
        folder: PathBuf,
        /// What the file may be called.
        names: [&'static str; 2],
    },
    /// A part with no token that has one before it.
    #[error("{path} has too few tokens, {found}: at least {needed} are needed; use a longer text")]
    Short {
        /// The file.
        path: PathBuf,
        /// How many tokens it has.
        found: usize,
        /// How many it needs.
        needed: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("{path} is not UTF-8 text: see line {line}; convert it to UTF-8, or read it as bytes")]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The first such line, counted from 1.
        line: u64,
    },
    /// More words than anything could learn.
    #[error(
        "{path} has more than {} different words at line {line}; \
         replace rare words by <unk>, or read it as bytes",
        WORDS_LIMIT
    )]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// Where the first word too many is, counted from 1.
        line: u64,
    },
    /// A new word, and nothing to stand for it.
    #[error(
        "{place}: the word {word:?} is not in the training text, nor is <unk>, which could stand for it; \
         replace rare words of the training text by <unk>, or leave this word out"
    )]
    Unknown {
        /// The file and line, or whatever else has the word.
        place: String,
        /// The word, or the first characters of it.
        word: String,
    },
    /// A list of words that is no vocabulary.
    #[error("the list of words {problem}; take it from the run or file it belongs to")]
    WordList {
        /// What is wrong with it.
        problem: String,
    },
    /// A text too short for streams that long.
    #[error(
        "a text of {tokens} tokens is too short for {streams} streams with segments of {segment} tokens, \
         which need {needed}; use fewer streams (train.batch), shorter segments (model.segment) or a longer text"
    )]
    Streams {
        /// How many tokens the text has.
        tokens: usize,
        /// How many streams.
        streams: usize,
        /// How many tokens of each stream make a segment.
        segment: usize,
        /// The fewest tokens that suffice.
        needed: usize,
    },
    /// No streams, or empty segments.
    #[error("{streams} streams with segments of {segment} tokens are no streams; both must be at least 1")]
    NoStreams {
        /// How many streams.
        streams: usize,
        /// How many tokens of each stream make a segment.
        segment: usize,
    },
}
