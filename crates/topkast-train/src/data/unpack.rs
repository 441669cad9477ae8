//! The plain bytes of a file that may be compressed.
//!
//! How it is compressed shows in its first bytes, not in its name.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::error::DataError;
use super::zip;

/// What decompressing xz may take, in KiB: 1 GiB, where `xz -9` asks for 64 MiB.
const XZ_MEMORY_KIB: u32 = 1 << 20;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// With gzip, in one or more members.
    Gzip,
    /// As the only file in a zip archive.
    Zip,
    /// With xz, in one or more streams.
    Xz,
}

impl Packing {
    /// How many bytes tell.
    const MAGIC: u64 = 6;

    /// Judges by the first [`MAGIC`](Self::MAGIC) bytes, or all if there are fewer.
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zip => "zip",
            Self::Xz => "xz",
        })
    }
}

/// Opens a file; a folder opens as well, but cannot be read.
pub(crate) fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|cause| DataError::Io { path: path.into(), cause })
}

/// Reads the plain bytes of a file, to the end of which reading checks that it is whole. There is no bound on how
/// many bytes there are: whoever reads them needs one.
pub(crate) struct Unpacked<'a> {
    reader: Box<dyn Read + 'a>,
    about: About<'a>,
}

/// What it takes to say what an error of reading means.
struct About<'a> {
    packing: Packing,
    path: &'a Path,
    /// Whether reading the file itself failed, rather than decompressing what was read.
    failed: Rc<Cell<bool>>,
}

impl<'a> Unpacked<'a> {
    /// The plain bytes of what `reader` reads; `path` is what errors call it.
    pub(crate) fn new(mut reader: impl Read + 'a, path: &'a Path) -> Result<Self, DataError> {
        let mut start = Vec::new();
        reader
            .by_ref()
            .take(Packing::MAGIC)
            .read_to_end(&mut start)
            .map_err(|cause| DataError::Io { path: path.into(), cause })?;
        let about = About { packing: Packing::of(&start), path, failed: Rc::default() };
        let rest = Watched { reader, failed: about.failed.clone() };
        let whole = BufReader::new(Cursor::new(start).chain(rest));
        let reader: Box<dyn Read + 'a> = match about.packing {
            Packing::Plain => Box::new(whole),
            Packing::Gzip => Box::new(MultiGzDecoder::new(whole)),
            Packing::Zip => Box::new(zip::Member::new(whole).map_err(|cause| about.error(cause))?),
            Packing::Xz => Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB)),
        };
        Ok(Self { reader, about })
    }

    /// Says what an error of reading means, and in which file. After an error there is no use in reading on.
    pub(crate) fn error(&self, cause: io::Error) -> DataError {
        self.about.error(cause)
    }
}

impl About<'_> {
    fn error(&self, cause: io::Error) -> DataError {
        let (path, packing) = (self.path.into(), self.packing);
        match cause.kind() {
            _ if self.failed.get() => DataError::Io { path, cause },
            ErrorKind::Unsupported | ErrorKind::OutOfMemory => DataError::Packing { path, packing, cause },
            _ => DataError::Damaged { path, packing, cause },
        }
    }
}

/// A reader that remembers whether it failed: decompressors pass its errors on among their own.
struct Watched<R> {
    reader: R,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).inspect_err(|error| {
            if error.kind() != ErrorKind::Interrupted {
                self.failed.set(true);
            }
        })
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

#[cfg(test)]
pub(crate) mod tests;
