//! What is known of a file's bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::{Digest, Md5};

/// A checksum, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Finds out what went wrong on the way, not what somebody forged.
    Md5(&'static str),
    /// None is known: the size alone has to do, and what the format itself checks.
    None,
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5(sum) => write!(f, "MD5 {sum}"),
            Self::None => f.write_str("size only"),
        }
    }
}

impl Checksum {
    /// What the file's checksum is instead, if it is not this one.
    pub(super) fn mismatch(self, path: &Path) -> io::Result<Option<String>> {
        let Self::Md5(want) = self else { return Ok(None) };
        let (mut file, mut sum) = (File::open(path)?, Md5::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => sum.update(&buffer[..count]),
            }
        }
        let found: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((found != want).then(|| format!("MD5 {found}")))
    }
}
