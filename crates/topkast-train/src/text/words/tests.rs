use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::UNK;
use super::*;
use crate::data::unpack_tests::{gzip, xz, zip};

fn folder(parts: [&[u8]; 3]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (names, bytes) in PARTS.iter().zip(parts) {
        fs::write(folder.path().join(names[0]), bytes).unwrap();
    }
    folder
}

fn read(parts: [&str; 3]) -> Result<Text, DataError> {
    read_words(folder(parts.map(str::as_bytes)).path())
}

/// The parts as words again.
fn spelt(text: &Text) -> [Vec<&str>; 3] {
    let Vocabulary::Words(words) = &text.vocabulary else { panic!("bytes") };
    [&text.train, &text.validation, &text.test].map(|part| match part {
        Ids::Words(ids) => ids.iter().map(|&id| words.list()[id as usize].as_ref()).collect(),
        Ids::Bytes(_) => panic!("bytes"),
    })
}

fn list(text: &Text) -> Vec<&str> {
    let Vocabulary::Words(words) = &text.vocabulary else { panic!("bytes") };
    words.list().iter().map(AsRef::as_ref).collect()
}

fn error(parts: [&str; 3]) -> String {
    read(parts).unwrap_err().to_string()
}

#[test]
fn a_small_wikitext() {
    let text =
        read([" \n = A king = \n \n the <unk> king , the king", "the queen\n", "a <unk>\n\n"]).unwrap();
    assert_eq!(
        spelt(&text),
        [
            vec![EOS, "=", "A", "king", "=", EOS, EOS, "the", UNK, "king", ",", "the", "king", EOS],
            vec!["the", UNK, EOS],
            vec![UNK, UNK, EOS, EOS],
        ]
    );
    // 4, 3, then twice in order of appearance, then once.
    assert_eq!(list(&text), [EOS, "king", "=", "the", "A", UNK, ","]);
    assert_eq!(text.vocabulary.len(), 7);
}

#[test]
fn ends_of_lines_may_be_those_of_windows_and_the_last_may_be_missing() {
    let lines = "a b\n\nb a";
    let expected = read([lines, lines, lines]).unwrap();
    for other in ["a b\r\n\r\nb a\r\n", "a b\n\nb a\n"] {
        assert_eq!(read([other; 3]).unwrap(), expected);
    }
}

#[test]
fn parts_may_have_either_name_and_be_compressed() {
    let parts: [&[u8]; 3] = [b"a b\nb", b"a\n", b"b a"];
    let expected = read_words(folder(parts).path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [train, validation, test] = parts;
    for (name, bytes) in [
        ("train.txt.gz", gzip(train)),
        ("wiki.valid.tokens.xz", xz(validation)),
        ("test.txt.zip", zip(&[test])),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    assert_eq!(read_words(folder.path()).unwrap(), expected);
}

#[test]
fn a_missing_part_is_named() {
    let folder = folder([b"a\n", b"a\n", b"a\n"]);
    fs::remove_file(folder.path().join("wiki.valid.tokens")).unwrap();
    for path in [folder.path(), Path::new("no/such/folder"), &folder.path().join("wiki.train.tokens")] {
        let error = read_words(path).unwrap_err();
        let part = matches!(error, DataError::Text(TextError::Part { .. }));
        assert!(part && error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn an_unknown_word_needs_unk() {
    let message = error(["a b\n", "a\nb c d\n", "a\n"]);
    assert!(
        message.contains("wiki.valid.tokens: line 2: the word \"c\" is not in the training text"),
        "{message}"
    );
    assert!(read(["a b\n", "a\nb\n", "a\n"]).is_ok());
}

#[test]
fn each_part_needs_a_token_to_predict() {
    for part in 0..3 {
        for (short, found) in [("", 0), ("\n", 1), (" \t", 1)] {
            let mut parts = ["a\n"; 3];
            parts[part] = short;
            let result = read(parts);
            let expected = matches!(result, Err(DataError::Text(TextError::Short { found: tokens, .. })) if tokens == found);
            assert!(expected, "{result:?}");
        }
    }
}

#[test]
fn what_is_not_utf_8_is_an_error() {
    let good: &[u8] = b"a\n";
    for bad in [&b"a\nb \xff c\n"[..], b"a\n\xe2\x82\n", b"a\n\xed\xa0\x80"] {
        for parts in [[bad, good, good], [good, bad, good]] {
            let error = read_words(folder(parts).path()).unwrap_err();
            assert!(matches!(error, DataError::Text(TextError::Utf8 { line: 2, .. })), "{error}");
        }
    }
}

#[test]
fn nul_is_a_letter_like_others() {
    assert_eq!(spelt(&read(["a\0b \0\n"; 3]).unwrap())[0], ["a\0b", "\0", EOS]);
}

#[test]
fn a_damaged_part_is_named() {
    let whole = gzip("many words and more\n".repeat(100).as_bytes());
    let folder = folder([&whole, b"many\n", b"many\n"]);
    assert!(read_words(folder.path()).is_ok());
    for end in 2..whole.len() {
        fs::write(folder.path().join("wiki.train.tokens"), &whole[..end]).unwrap();
        let error = read_words(folder.path()).unwrap_err();
        let damaged = matches!(error, DataError::Damaged { .. });
        assert!(damaged && error.to_string().contains("wiki.train.tokens"), "{end}: {error}");
    }
}

proptest! {
    /// Against another way to do it: sorting the words that Rust's standard library splits.
    #[test]
    fn it_equals_its_naive_twin(lines in prop::collection::vec("[a-d ]{0,6}", 1..20)) {
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace().chain([EOS])).collect();
        prop_assume!(words.len() > 1);
        let mut vocabulary = Vec::new();
        for word in &words {
            if !vocabulary.contains(word) {
                vocabulary.push(*word);
            }
        }
        let count = |word: &str| words.iter().filter(|other| **other == word).count();
        vocabulary.sort_by_key(|word| Reverse(count(word)));
        let file = lines.join("\n") + "\n";
        let text = read([&file; 3]).unwrap();
        prop_assert_eq!(list(&text), vocabulary);
        prop_assert_eq!(spelt(&text), [words.clone(), words.clone(), words]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(train: Vec<u8>, test: Vec<u8>) {
        let _ = read_words(folder([&train, &test, &test]).path());
    }
}
