//! The files in a tar archive, read from front to back.
//!
//! Of the format only what archives of data sets use: ordinary files, whose names fit into their headers. Whatever else
//! there is (folders, links, extended headers) is skipped.

use std::io::{self, ErrorKind, Read, Take};

const BLOCK: usize = 512;

/// An archive, of which the file asked for last can be read.
pub(super) struct Archive<R> {
    reader: R,
    /// What is left of the current entry, padding included.
    left: u64,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, left: 0 }
    }

    /// The next ordinary file, its name and its bytes; none at the end. Bytes of the one before need not have been read.
    pub(super) fn next_file(&mut self) -> io::Result<Option<(String, Content<'_, R>)>> {
        loop {
            let skipped = io::copy(&mut self.reader.by_ref().take(self.left), &mut io::sink())?;
            if skipped < self.left {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.left = 0;
            let mut header = [0; BLOCK];
            self.reader.read_exact(&mut header)?;
            if header.iter().all(|&byte| byte == 0) {
                return Ok(None);
            }
            let size = size_of_entry(&header)?;
            self.left = size.next_multiple_of(BLOCK as u64);
            if matches!(header[156], b'0' | 0) {
                return Ok(Some((
                    name(&header),
                    Content { left: &mut self.left, bytes: self.reader.by_ref().take(size) },
                )));
            }
        }
    }

    /// Reads to the end of what the archive is packed in, which is where its checksum is.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(|_| ())
    }
}

/// The bytes of one file.
pub(super) struct Content<'a, R> {
    left: &'a mut u64,
    bytes: Take<&'a mut R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        *self.left -= read as u64;
        // An archive that ends within a file is cut off, however willing the file's reader is to take less.
        if read == 0 && !buffer.is_empty() && self.bytes.limit() > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

/// Checks a header and tells the size of its entry.
fn size_of_entry(header: &[u8; BLOCK]) -> io::Result<u64> {
    let stated = octal(&header[148..156]).ok_or_else(|| invalid("it is no tar archive"))?;
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    // The sum is of the header with blanks in place of the sum.
    let own: u64 = header[148..156].iter().map(|&byte| u64::from(byte)).sum();
    if stated != sum - own + 8 * u64::from(b' ') {
        return Err(invalid("it is no tar archive, or a checksum is wrong"));
    }
    octal(&header[124..136]).ok_or_else(|| invalid("the size of a file is no number"))
}

/// A number in octal digits, blanks or zeros around it: at most 12 digits, so it is far below 2⁶³.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    u64::from_str_radix(text, 8).ok()
}

fn name(header: &[u8; BLOCK]) -> String {
    let text = |field: &[u8]| {
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    text(&header[..100])
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(super) mod tests;
