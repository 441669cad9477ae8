//! What fuzz targets share.

use std::fs;
use std::path::{Path, PathBuf};

/// Writes `bytes` to a file of this process in the temporary folder, the same one every time.
pub fn file_of(bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("topkast-fuzz-{}", std::process::id()));
    put(&path, bytes);
    path
}

/// An empty folder of this process in the temporary folder, the same one every time.
pub fn empty_folder() -> PathBuf {
    let path = std::env::temp_dir().join(format!("topkast-fuzz-{}.d", std::process::id()));
    // It is not there the first time.
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a temporary folder can be made");
    path
}

/// Writes a file.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a temporary file can be written");
}

/// Every error is one line that says something.
pub fn check_message(error: &dyn std::error::Error) {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
}
