use proptest::prelude::*;

use super::*;

/// An archive of ordinary files, but `kind` of entry for those whose name ends in `/`.
pub(in super::super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = if name.ends_with('/') { b'5' } else { b'0' };
        header[257..262].copy_from_slice(b"ustar");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn files(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut archive = Archive::new(archive);
    let mut files = Vec::new();
    while let Some((name, mut content)) = archive.next_file()? {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        files.push((name, bytes));
    }
    archive.finish()?;
    Ok(files)
}

fn example() -> Vec<u8> {
    tar(&[("set/", b""), ("set/a.bin", &[7; 513]), ("set/empty", b""), ("b", b"text")])
}

#[test]
fn files_come_in_order_and_folders_are_skipped() {
    let found = files(&example()).unwrap();
    let want = [("set/a.bin", vec![7; 513]), ("set/empty", vec![]), ("b", b"text".to_vec())];
    assert_eq!(found, want.map(|(name, bytes)| (name.to_owned(), bytes)));
}

#[test]
fn content_may_be_left_unread_in_part() {
    let bytes = example();
    let mut archive = Archive::new(&bytes[..]);
    let (name, mut content) = archive.next_file().unwrap().unwrap();
    content.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(name, "set/a.bin");
    assert_eq!(archive.next_file().unwrap().unwrap().0, "set/empty");
    assert_eq!(archive.next_file().unwrap().unwrap().0, "b");
    assert!(archive.next_file().unwrap().is_none());
}

#[test]
fn an_archive_cut_off_anywhere_before_its_end_is_an_error() {
    let bytes = example();
    for end in 0..bytes.len() - 2 * BLOCK {
        assert!(files(&bytes[..end]).is_err(), "after {end} bytes");
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let mut bytes = example();
    bytes[BLOCK + 3] ^= 1;
    assert!(files(&bytes).unwrap_err().to_string().contains("checksum"));
    assert!(files(&[b'x'; 2 * BLOCK]).unwrap_err().to_string().contains("no tar archive"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = files(&bytes);
    }

    #[test]
    fn flipped_bits_never_panic(at: prop::sample::Index, bit in 0u32..8) {
        let mut bytes = example();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = files(&bytes);
    }
}
