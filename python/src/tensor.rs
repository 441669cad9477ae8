//! Tensors in someone else's memory, by DLPack: the pointer comes in a capsule with type, shape and layout, never as a number.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};

use crate::wrong;

/// DLPack's structures, version 0.x, as far as they are read here (<https://dmlc.github.io/dlpack/latest/c_api.html>).
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

const CPU: i32 = 1;

/// What a tensor may consist of.
pub(crate) trait Element: Copy + Send + Sync {
    /// DLPack's code and number of bits.
    const KIND: (u8, u8);
    const NAME: &'static str;
}

impl Element for f32 {
    const KIND: (u8, u8) = (2, 32);
    const NAME: &'static str = "float32";
}

impl Element for i64 {
    const KIND: (u8, u8) = (0, 64);
    const NAME: &'static str = "int64";
}

/// A contiguous tensor on the CPU that lives as long as its capsule.
pub(crate) struct Tensor<'a, T> {
    data: *mut T,
    shape: Vec<usize>,
    len: usize,
    capsule: PhantomData<&'a T>,
}

impl<'a, T: Element> Tensor<'a, T> {
    /// The tensor in a capsule that nobody has consumed; `name` is what errors call it.
    pub(crate) fn of(capsule: &'a Bound<'_, PyCapsule>, name: &str) -> PyResult<Self> {
        let pointer = capsule
            .pointer_checked(Some(c"dltensor"))
            .map_err(|_| wrong(format!("{name} must be an unused DLPack capsule")))?;
        // SAFETY: a capsule of this name holds a `DLManagedTensor`, whose first member this is, until it is consumed, which renames
        // it. Gain: tensors are read and written where they are.
        let tensor = unsafe { pointer.cast::<DlTensor>().as_ref() };
        if tensor.device_type != CPU {
            return Err(wrong(format!("{name} must be on the CPU")));
        }
        if (tensor.code, tensor.bits, tensor.lanes) != (T::KIND.0, T::KIND.1, 1) {
            return Err(wrong(format!("{name} must be of type {}", T::NAME)));
        }
        let dimensions = usize::try_from(tensor.ndim).unwrap_or(0);
        let list = |pointer: *const i64| {
            (0..dimensions).map(move |at| {
                // SAFETY: shape and, where there are any, strides have as many numbers as there are dimensions. Gain: as above.
                unsafe { *pointer.add(at) }
            })
        };
        let shape: Option<Vec<usize>> = list(tensor.shape).map(|size| usize::try_from(size).ok()).collect();
        let len = |shape: &Vec<usize>| {
            let len = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
            len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize).map(|_| len)
        };
        let Some((len, shape)) = shape.and_then(|shape| Some((len(&shape)?, shape))) else {
            return Err(wrong(format!("{name} has an impossible shape")));
        };
        if len > 0 && !tensor.strides.is_null() {
            let mut expected = 1;
            let strides: Vec<i64> = list(tensor.strides).collect();
            for (&size, stride) in shape.iter().zip(strides).rev() {
                if size != 1 && stride != expected {
                    return Err(wrong(format!("{name} must be contiguous")));
                }
                expected *= size as i64;
            }
        }
        let data = tensor.data.wrapping_byte_add(tensor.byte_offset as usize).cast::<T>();
        if len > 0 && (data.is_null() || !data.is_aligned()) {
            return Err(wrong(format!("{name} has no memory, or is not aligned")));
        }
        Ok(Self { data, shape, len, capsule: PhantomData })
    }

    /// The same, where its shape must be this.
    pub(crate) fn shaped(capsule: &'a Bound<'_, PyCapsule>, shape: &[usize], name: &str) -> PyResult<Self> {
        let tensor = Self::of(capsule, name)?;
        if tensor.shape != shape {
            let got = &tensor.shape;
            return Err(wrong(format!("{name} must be of shape {shape:?}, not {got:?}")));
        }
        Ok(tensor)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// To read. That nobody writes meanwhile is for the caller of the extension to see to, as with all of PyTorch's operators.
    pub(crate) fn numbers(&self) -> &'a [T] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `of` has checked type, length and alignment, and the capsule keeps the memory. Gain: no copy.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// To write.
    ///
    /// # Errors
    /// If it shares memory with anything claimed before.
    pub(crate) fn numbers_mut(self, claims: &mut Claims) -> PyResult<&'a mut [T]> {
        if self.len == 0 {
            return Ok(&mut []);
        }
        let own = self.data as usize..self.data.wrapping_add(self.len) as usize;
        if claims.0.iter().any(|other| own.start < other.end && other.start < own.end) {
            return Err(wrong("an output must not share memory with another tensor"));
        }
        claims.0.push(own);
        // SAFETY: as in `numbers`, and no other slice of this call overlaps. Gain: no copy.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data, self.len) })
    }
}

/// The memory that a call reads and writes: what it writes must be nothing else.
pub(crate) struct Claims(Vec<Range<usize>>);

impl Claims {
    /// With what is read.
    pub(crate) fn reading<T>(inputs: &[&[T]]) -> Self {
        let range = |input: &&[T]| {
            let Range { start, end } = input.as_ptr_range();
            start as usize..end as usize
        };
        Self(inputs.iter().map(range).collect())
    }
}

/// What may be left out.
pub(crate) fn output<'a, T: Element>(
    capsule: Option<&'a Bound<'_, PyCapsule>>,
    shape: &[usize],
    name: &str,
    claims: &mut Claims,
) -> PyResult<Option<&'a mut [T]>> {
    let tensor = capsule.map(|capsule| Tensor::shaped(capsule, shape, name)).transpose()?;
    tensor.map(|tensor| tensor.numbers_mut(claims)).transpose()
}
