//! Where a text's files are, and reading them whole.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::TextError;
use crate::data::{DataError, Unpacked, open};

/// What may follow a file's name. What the file is shows in its bytes; the plain one comes first, as it reads faster.
const SUFFIXES: [&str; 4] = ["", ".gz", ".xz", ".zip"];

/// Storage grows by this many elements at least, and by an eighth of what there is.
const STEP: usize = 1 << 18;

/// The first of `names` that is in the folder, plain or compressed.
pub(super) fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names
        .iter()
        .flat_map(|name| SUFFIXES.map(|suffix| folder.join(format!("{name}{suffix}"))))
        // Where it cannot be known whether a file is there, reading it says why.
        .find(|path| path.try_exists().unwrap_or(folder.is_dir()))
}

/// `path` if it is no folder; else the first of `known` in it, or its only file.
pub(super) fn only_file(path: &Path, known: &[&str]) -> Result<PathBuf, DataError> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    if let Some(file) = find(path, known) {
        return Ok(file);
    }
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut files = entries.map_err(|cause| DataError::Io { path: path.into(), cause })?;
    files.retain(|file| !file.file_name().as_encoded_bytes().starts_with(b".") && file.path().is_file());
    match &files[..] {
        [file] => Ok(file.path()),
        _ => Err(TextError::Folder { path: path.into(), found: files.len() }.into()),
    }
}

/// The plain bytes of a file, of which there may be at most `limit`.
pub(super) fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let mut source = Unpacked::new(open(path)?, path)?;
    let mut bytes = Vec::new();
    loop {
        reserve(&mut bytes, path)?;
        // One more than there may be tells whether there is more.
        let room = (bytes.capacity() - bytes.len()) as u64;
        let most = (limit - bytes.len() as u64).saturating_add(1).min(room);
        let read = source.by_ref().take(most).read_to_end(&mut bytes).map_err(|cause| source.error(cause))?;
        if bytes.len() as u64 > limit {
            return Err(TextError::TooLarge { path: path.into(), limit }.into());
        }
        if read == 0 {
            return Ok(bytes);
        }
    }
}

/// Makes room for an element at least.
///
/// # Errors
/// If there is no memory left.
pub(super) fn reserve<T>(elements: &mut Vec<T>, path: &Path) -> Result<(), TextError> {
    if elements.len() < elements.capacity() {
        return Ok(());
    }
    let room = STEP.max(elements.len() / 8);
    elements.try_reserve_exact(room).map_err(|_| TextError::Memory {
        path: path.into(),
        bytes: (elements.len() + room).saturating_mul(size_of::<T>()),
    })
}

#[cfg(test)]
mod tests;
