//! Writing files so that a crash leaves the old or the new one, never half of one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Calls `write` with a temporary path beside `path`, syncs what it wrote, and renames it to `path`.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let written = write(temporary)
        .and_then(|()| File::open(temporary)?.sync_all())
        .and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The first error is the one worth reporting; there may be no file to remove.
        let _ = fs::remove_file(temporary);
        return written;
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Replaces `path` by a file that holds `text`.
pub(crate) fn replace_text(path: &Path, text: &str) -> io::Result<()> {
    replace(path, |temporary| fs::write(temporary, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace_text(&path, "old").unwrap();
        let failed = replace(&path, |temporary| {
            fs::write(temporary, "ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        replace_text(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}
