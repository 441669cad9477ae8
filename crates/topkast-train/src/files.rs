//! Writing files so that a crash leaves the old or the new one, never half of one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Calls `write` with a temporary path beside `path`, syncs what it wrote, and renames it to `path`.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_of(path);
    let written = write(&temporary)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one worth reporting; there may be no file to remove.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    temporary.into()
}

/// Lets the file at `from` be found at `path`, too, in place of what is there: no second copy where the file system has links.
pub(crate) fn link(from: &Path, path: &Path) -> io::Result<()> {
    replace(path, |temporary| {
        // One that a crash left; there rarely is.
        let _ = fs::remove_file(temporary);
        fs::hard_link(from, temporary).or_else(|_| fs::copy(from, temporary).map(drop))
    })?;
    // Renaming a link over another one to the same file does nothing, by the standard.
    let _ = fs::remove_file(temporary_of(path));
    Ok(())
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

    #[test]
    fn a_link_stays_what_it_was_and_can_be_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        replace_text(&path, "old").unwrap();
        link(&path, &other).unwrap();
        // Once more: the same file already.
        link(&path, &other).unwrap();
        replace_text(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "old");
        link(&path, &other).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(link(&dir.path().join("none"), &other).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "new");
    }
}
