//! Matrices and scratch to use again: a step takes the same as the step before, and so allocates nothing.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use topkast_kernels::{AttentionScratch, Matrix};

/// What nobody uses now, the longest unused first: at most as many as have been in use at a time.
static SPARE: Mutex<Vec<Matrix>> = Mutex::new(Vec::new());

/// A matrix, if possible one with room for this shape, with whatever numbers.
pub(crate) fn take(features: usize, positions: usize) -> Matrix {
    let needed = features.saturating_mul(positions).saturating_mul(size_of::<f32>());
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let fitting = spare.iter().enumerate().filter(|(_, matrix)| matrix.capacity_bytes() >= needed);
    match fitting.min_by_key(|(_, matrix)| matrix.capacity_bytes()).map(|(at, _)| at) {
        Some(at) => spare.remove(at),
        None if spare.is_empty() => Matrix::default(),
        None => spare.remove(0),
    }
}

/// Hands a matrix back.
pub(crate) fn give(matrix: Matrix) {
    if matrix.capacity_bytes() > 0 {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(matrix);
    }
}

/// What attention works in: as many as have computed it at a time.
static SCRATCH: Mutex<Vec<AttentionScratch>> = Mutex::new(Vec::new());

pub(crate) fn take_scratch() -> AttentionScratch {
    SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
}

pub(crate) fn give_scratch(scratch: AttentionScratch) {
    SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
}

/// Frees the memory that is kept for the next step; returns how many bytes of it were matrices.
#[pyfunction]
pub(crate) fn release_memory() -> usize {
    SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let spare = std::mem::take(&mut *SPARE.lock().unwrap_or_else(PoisonError::into_inner));
    spare.iter().map(Matrix::capacity_bytes).sum()
}
