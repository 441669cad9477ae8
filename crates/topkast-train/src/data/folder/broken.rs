//! Images that do not decode: told once, and put up with to a limit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::error::DataError;

/// The broken images found so far, in training and evaluation.
pub(crate) struct Broken {
    limit: usize,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    images: BTreeSet<PathBuf>,
    /// Of each, what is wrong with it, until somebody is told.
    messages: Vec<String>,
}

impl Broken {
    /// None yet; more than `limit` are an error.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, found: Mutex::default() }
    }

    /// Whether it is known to be broken.
    pub(super) fn contains(&self, image: &Path) -> bool {
        self.lock().images.contains(image)
    }

    /// Takes note of an image that was found broken.
    ///
    /// # Errors
    /// If it is one more than is put up with.
    pub(super) fn add(&self, image: PathBuf, problem: DataError) -> Result<(), DataError> {
        let mut found = self.lock();
        if !found.images.insert(image) {
            return Ok(());
        }
        if found.images.len() > self.limit {
            return Err(DataError::TooManyBroken { limit: self.limit, last: Box::new(problem) });
        }
        found.messages.push(problem.to_string());
        Ok(())
    }

    /// What is wrong with those found since this was last asked.
    pub(crate) fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().messages)
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // Nobody panics while holding it.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
