//! A growable vector of `f32` whose storage starts on a 64-byte boundary.

use std::ops::{Deref, DerefMut};

/// Floats in one 64-byte cache line, which is also the widest vector register.
pub(crate) const LINE: usize = 16;

/// One cache line. `Vec<Line>` gives the alignment without any allocation code of our own.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const ZERO: Line = Line([0.0; LINE]);

/// `len` floats, 64-byte aligned; alignment alone is worth 1.6× in the sparse products (docs/benchmarks).
///
/// Dereferences to `[f32]`. Shrinking keeps the storage, so a buffer that is reused step after step stops
/// allocating once it has seen its largest size.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![ZERO; len.div_ceil(LINE)], len }
    }

    /// Sets the length to `len` and every element to zero, reusing the storage where it suffices.
    pub fn reset(&mut self, len: usize) {
        self.lines.clear();
        self.lines.resize(len.div_ceil(LINE), ZERO);
        self.len = len;
    }

    /// Sets the length to `len`, reusing the storage where it suffices. What is in it is anything: zeros, or what was there before.
    pub fn resize(&mut self, len: usize) {
        self.lines.resize(len.div_ceil(LINE), ZERO);
        self.len = len;
    }

    /// Bytes of storage held, including unused capacity.
    pub fn capacity_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_aligned_and_zero_at_every_length() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let buffer = Buffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(64), 0);
            assert!(buffer.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn reset_zeroes_and_keeps_storage() {
        let mut buffer = Buffer::from(&[1.0; 40][..]);
        let storage = buffer.capacity_bytes();
        buffer.reset(3);
        assert_eq!(&buffer[..], &[0.0; 3]);
        buffer.reset(40);
        assert_eq!(&buffer[..], &[0.0; 40]);
        assert_eq!(buffer.capacity_bytes(), storage);
    }
}
