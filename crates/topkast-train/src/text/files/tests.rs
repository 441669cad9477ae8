use super::*;
use crate::data::unpack_tests::{gzip, xz, zip};

fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn a_file_may_have_as_many_bytes_as_the_limit_and_no_more() {
    let bytes: Vec<u8> = (0..3 * STEP).map(|i| (i / 7) as u8).collect();
    for packed in [bytes.clone(), gzip(&bytes), xz(&bytes), zip(&[&bytes])] {
        let (_folder, path) = write("the-file", &packed);
        let count = bytes.len() as u64;
        for limit in [count, count + 1, u64::MAX] {
            assert_eq!(read_whole(&path, limit).unwrap(), bytes);
        }
        for limit in [0, 1, STEP as u64, count - 1] {
            let error = read_whole(&path, limit).unwrap_err();
            assert!(matches!(error, DataError::Text(TextError::TooLarge { .. })), "{error}");
            assert!(error.to_string().contains("the-file"), "{error}");
        }
    }
}

/// What 16 MiB of zeros come to is refused after the limit, not after 16 MiB.
#[test]
fn a_bomb_is_read_no_further_than_the_limit() {
    let zeros = vec![0; 1 << 24];
    for bomb in [gzip(&zeros), xz(&zeros), zip(&[&zeros])] {
        assert!(bomb.len() < 1 << 17, "{}", bomb.len());
        // Were it read to the end, the damage there would be found.
        let (_folder, path) = write("bomb", &bomb[..bomb.len() - 100]);
        let error = read_whole(&path, 1 << 20).unwrap_err();
        assert!(matches!(error, DataError::Text(TextError::TooLarge { limit: 0x10_0000, .. })), "{error}");
    }
}

#[test]
fn no_bytes_are_bytes() {
    for packed in [vec![], gzip(b""), xz(b""), zip(&[b""])] {
        let (_folder, path) = write("empty", &packed);
        assert_eq!(read_whole(&path, 0).unwrap(), b"");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let error = read_whole(Path::new("no/such-file"), 1).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }) && error.to_string().contains("no/such-file"), "{error}");
}

#[test]
fn storage_grows_by_an_eighth() {
    let mut numbers: Vec<u64> = vec![0; 16 * STEP];
    numbers.shrink_to_fit();
    let capacity = numbers.capacity();
    reserve(&mut numbers, Path::new("")).unwrap();
    assert!((capacity + 2 * STEP..=capacity + 3 * STEP).contains(&numbers.capacity()));
    let before = numbers.capacity();
    reserve(&mut numbers, Path::new("")).unwrap();
    assert_eq!(numbers.capacity(), before);
}
