//! Which checkpoints a run keeps besides the newest: the ones before it, and the best.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::RunDir;
use crate::files;

/// Lets the newest checkpoint, of this step, be found as an older one, too: it is about to be replaced.
pub(super) fn set_aside(dir: &RunDir, step: u64) -> io::Result<()> {
    let path = dir.older_checkpoint(step);
    make_parent(&path)?;
    files::link(&dir.checkpoint(), &path)
}

/// Lets the newest checkpoint be found as the best one, too.
pub(super) fn call_best(dir: &RunDir) -> io::Result<()> {
    let path = dir.best_checkpoint();
    make_parent(&path)?;
    files::link(&dir.checkpoint(), &path)
}

/// Removes the checkpoints before that of `newest` but for the last `count` of them. Those of later steps are left: somebody went back.
pub(super) fn remove_older(dir: &RunDir, newest: u64, count: usize) -> io::Result<()> {
    let mut steps = older(dir)?;
    steps.retain(|&step| step < newest);
    steps.sort_unstable();
    let superfluous = steps.len().saturating_sub(count);
    steps[..superfluous].iter().try_for_each(|&step| fs::remove_file(dir.older_checkpoint(step)))
}

/// The steps of the checkpoints that were set aside.
pub(super) fn older(dir: &RunDir) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir.older_checkpoints()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        steps.extend(name.to_str().and_then(RunDir::step_of_older));
    }
    Ok(steps)
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("a file in a run directory");
    fs::create_dir_all(parent)
}
