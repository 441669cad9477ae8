use std::fs;

use proptest::prelude::*;

use super::*;
use crate::data::unpack_tests::{gzip, xz, zip};

fn parts(text: &Text) -> [&[u8]; 3] {
    [&text.train, &text.validation, &text.test].map(|part| match part {
        Ids::Bytes(bytes) => &bytes[..],
        Ids::Words(_) => panic!("words"),
    })
}

fn lengths(count: usize) -> [usize; 3] {
    split(vec![1; count]).map(|part| part.len())
}

#[test]
fn parts_are_90_5_and_5_percent() {
    assert_eq!(lengths(100_000_000), [90_000_000, 5_000_000, 5_000_000]);
    assert_eq!(lengths(100), [90, 5, 5]);
    assert_eq!(lengths(119), [107, 5, 7]);
    assert_eq!(lengths(FEWEST), [36, 2, 2]);
    assert!(lengths(FEWEST - 1).contains(&1));
}

/// The Bible in the repository, as its README describes it.
#[test]
fn the_repositorys_bible() {
    let text = read_bytes(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/bible"))).unwrap();
    let [train, validation, test] = parts(&text);
    assert_eq!([train.len(), validation.len(), test.len()], [3_812_292, 211_794, 211_795]);
    assert!(
        train.starts_with(b"Genesis 1\n\n1 In the beginning God created the heaven and the earth.\n2 And")
    );
    assert!(test.ends_with(b"\n21 The grace of our Lord Jesus Christ be with you all. Amen.\n"));
    assert!([train, validation, test].concat().is_ascii());
    assert_eq!(text.vocabulary.len(), 256);
}

#[test]
fn plain_and_compressed_files_read_alike_whatever_their_names() {
    let bytes: Vec<u8> = (0..=255).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.bin");
    for packed in [bytes.clone(), gzip(&bytes), xz(&bytes), zip(&[&bytes])] {
        fs::write(&path, packed).unwrap();
        for place in [&path, folder.path()] {
            assert_eq!(parts(&read_bytes(place).unwrap()).concat(), bytes);
        }
    }
}

#[test]
fn a_folder_must_say_which_file_it_means() {
    let folder = tempfile::tempdir().unwrap();
    let message = || read_bytes(folder.path()).unwrap_err().to_string();
    assert!(message().contains("a folder of 0 files"), "{}", message());
    for name in [".hidden", "one", "two"] {
        fs::write(folder.path().join(name), [b'x'; 50]).unwrap();
    }
    fs::create_dir(folder.path().join("folder")).unwrap();
    assert!(message().contains("a folder of 2 files"), "{}", message());
    for (name, letter, content) in
        [("enwik8.zip", b'z', zip(&[&[b'z'; 50]])), ("enwik8", b'e', vec![b'e'; 50])]
    {
        fs::write(folder.path().join(name), content).unwrap();
        assert_eq!(parts(&read_bytes(folder.path()).unwrap())[1], [letter; 2]);
    }
}

#[test]
fn a_short_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [&b""[..], b"x", &[0; FEWEST - 1]] {
        fs::write(folder.path().join("short"), bytes).unwrap();
        let error = read_bytes(folder.path()).unwrap_err();
        let expected =
            matches!(&error, DataError::Text(TextError::Short { found, .. }) if *found == bytes.len());
        assert!(expected && error.to_string().contains("short has too few tokens"), "{error}");
    }
}

proptest! {
    #[test]
    fn parts_make_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        prop_assert_eq!(split(bytes.clone()).concat(), bytes);
    }
}
