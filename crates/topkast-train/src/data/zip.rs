//! The only file in a zip archive.
//!
//! Read from front to back, as the other formats are: the file's header, its content, then the archive's directory,
//! which has the checksum. An archive of several files is refused, since there is no telling which is meant.

use std::io::{self, BufRead, ErrorKind, Read, Take};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

const FILE: &[u8] = b"PK\x03\x04";
const DIRECTORY: &[u8] = b"PK\x01\x02";
const END_64: &[u8] = b"PK\x06\x06";
const END: &[u8] = b"PK\x05\x06";

/// Stands for a size that is elsewhere.
const ELSEWHERE: u32 = u32::MAX;

/// More than the directory of one file can take: its name and comments have at most 64 KiB each.
const DIRECTORY_LIMIT: u64 = 1 << 19;

/// The content of an archive's only file, to the end of which reading checks that it is whole and the only one.
pub(super) struct Member<R: BufRead> {
    content: Content<R>,
    /// Where the directory may begin after the content: a descriptor of one of these sizes comes first.
    descriptors: &'static [usize],
    crc: Crc,
    read: u64,
    checked: bool,
}

enum Content<R: BufRead> {
    Stored(Take<R>),
    Deflated(DeflateDecoder<R>),
}

impl<R: BufRead> Member<R> {
    /// Reads the header; `archive` is at its first byte.
    pub(super) fn new(mut archive: R) -> io::Result<Self> {
        let mut header = [0; 30];
        archive.read_exact(&mut header[..4])?;
        if header.starts_with(END) {
            return Err(unsupported("it holds no file"));
        }
        archive.read_exact(&mut header[4..])?;
        let (flags, method, size) = (u16_at(&header, 6), u16_at(&header, 8), u32_at(&header, 18));
        let has_descriptor = flags & 8 != 0;
        if flags & 1 != 0 {
            return Err(unsupported("it is encrypted"));
        }
        // Name and extra fields.
        skip(&mut archive, u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28)))?;
        let content = match method {
            0 if has_descriptor || size == ELSEWHERE => {
                return Err(unsupported("its file is stored without a size"));
            }
            0 => Content::Stored(archive.take(u64::from(size))),
            8 => Content::Deflated(DeflateDecoder::new(archive)),
            _ => return Err(unsupported(format!("it is compressed by method {method}, not by deflate (8)"))),
        };
        let descriptors: &[usize] = if has_descriptor { &[16, 12, 24, 20] } else { &[0] };
        Ok(Self { content, descriptors, crc: Crc::new(), read: 0, checked: false })
    }

    /// Checks what comes after the content.
    fn check(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        match &mut self.content {
            Content::Stored(content) => content.get_mut().take(DIRECTORY_LIMIT).read_to_end(&mut bytes)?,
            Content::Deflated(content) => content.get_mut().take(DIRECTORY_LIMIT).read_to_end(&mut bytes)?,
        };
        let begins = |rest: &[u8]| rest.starts_with(DIRECTORY) || rest.starts_with(FILE);
        let rest = self.descriptors.iter().filter_map(|&size| bytes.get(size..)).find(|rest| begins(rest));
        let mut rest = rest.ok_or_else(|| match bytes.len() {
            0..50 => io::Error::from(ErrorKind::UnexpectedEof),
            _ => invalid("its directory does not follow its file"),
        })?;
        if rest.starts_with(FILE) {
            return Err(several());
        }
        let entry = split(&mut rest, 46)?;
        let size = u32_at(entry, 24);
        // Sizes are modulo 2³² as far as they are of use here: the checksum has seen everything.
        if u32_at(entry, 16) != self.crc.sum() || ![ELSEWHERE, self.read as u32].contains(&size) {
            return Err(invalid("the checksum is wrong"));
        }
        split(&mut rest, [28, 30, 32].iter().map(|&at| usize::from(u16_at(entry, at))).sum())?;
        if rest.starts_with(DIRECTORY) {
            return Err(several());
        }
        if rest.starts_with(END_64) {
            // An end of its own with a size, and where that is: 20 bytes.
            let size = u32_at(split(&mut rest, 12)?, 4);
            split(&mut rest, (size as usize).saturating_add(20))?;
        }
        let end = split(&mut rest, 22)?;
        split(&mut rest, usize::from(u16_at(end, 20)))?;
        if end.starts_with(END) && rest.is_empty() { Ok(()) } else { Err(invalid("its end is wrong")) }
    }
}

impl<R: BufRead> Read for Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.content {
            Content::Stored(content) => content.read(buffer)?,
            Content::Deflated(content) => content.read(buffer)?,
        };
        self.crc.update(&buffer[..read]);
        self.read += read as u64;
        if read == 0 && !buffer.is_empty() && !self.checked {
            self.checked = true;
            self.check()?;
        }
        Ok(read)
    }
}

/// The first `count` bytes of `rest`, which then begins after them.
fn split<'a>(rest: &mut &'a [u8], count: usize) -> io::Result<&'a [u8]> {
    let (first, after) = rest.split_at_checked(count).ok_or(ErrorKind::UnexpectedEof)?;
    *rest = after;
    Ok(first)
}

fn skip(reader: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.by_ref().take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn several() -> io::Error {
    unsupported("it holds more than one file")
}

fn unsupported(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what.into())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
