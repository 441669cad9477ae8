//! Safetensors files, written from front to back: what a sparse weight is when written out never exists as a whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use topkast_kernels::Csr;

/// Numbers that are written out at a time.
const TILE: u64 = 1 << 16;

/// A tensor on its way out.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) content: Content<'a>,
}

/// What a tensor holds.
pub(super) enum Content<'a> {
    /// Little-endian numbers.
    Bytes(Cow<'a, [u8]>),
    /// The values of a structure's entries, in their order, as f32; zeros elsewhere.
    Scattered(&'a Csr, &'a [f32]),
}

impl<'a> Tensor<'a> {
    /// Of these numbers.
    pub(super) fn floats(name: String, shape: Vec<usize>, numbers: impl Into<Cow<'a, [f32]>>) -> Self {
        let bytes = match numbers.into() {
            Cow::Borrowed(numbers) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            Cow::Owned(numbers) => Cow::Owned(bytemuck::cast_slice(&numbers).to_vec()),
        };
        Self { name, dtype: Dtype::F32, shape, content: Content::Bytes(bytes) }
    }

    /// Bytes of its content.
    pub(super) fn bytes(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Scattered(csr, _) => (csr.rows() as u64 * csr.width() as u64).saturating_mul(4),
        }
    }

    /// Writes its content.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.content {
            Content::Bytes(bytes) => out.write_all(bytes),
            Content::Scattered(csr, values) => scatter(csr, values, out),
        }
    }
}

/// Writes a weight tile after tile.
fn scatter(csr: &Csr, values: &[f32], out: &mut impl Write) -> io::Result<()> {
    let (width, total) = (csr.width() as u64, csr.rows() as u64 * csr.width() as u64);
    let mut tile = vec![0.0_f32; TILE.min(total) as usize];
    let mut start = 0;
    let mut flush = |start: &mut u64, tile: &mut [f32]| {
        let count = TILE.min(total - *start);
        out.write_all(bytemuck::cast_slice(&tile[..count as usize]))?;
        tile.fill(0.0);
        *start += count;
        io::Result::Ok(())
    };
    for row in 0..csr.rows() {
        for entry in csr.row_entries(row) {
            let index = row as u64 * width + csr.column(entry) as u64;
            while index >= start + TILE {
                flush(&mut start, &mut tile)?;
            }
            tile[(index - start) as usize] = values[entry];
        }
    }
    while start < total {
        flush(&mut start, &mut tile)?;
    }
    Ok(())
}

/// Writes a safetensors file of the tensors to `path`.
pub(super) fn write(
    mut tensors: Vec<Tensor<'_>>,
    metadata: HashMap<String, String>,
    path: &Path,
) -> io::Result<()> {
    // Widest elements first keeps every tensor aligned.
    tensors.sort_by(|left, right| right.dtype.cmp(&left.dtype).then(left.name.cmp(&right.name)));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes() as usize;
        let info =
            TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let header = Metadata::new(Some(metadata), infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_string(&header)?;
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors.iter().try_for_each(|tensor| tensor.write(&mut file))?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_values_are_zeros_but_for_them() {
        // Across tiles, with some that hold nothing, and blocks of columns, where entries are not in row-major order.
        for (rows, width, every) in
            [(1, 1, 1), (3, 5, 4), (2, 2000, 3), (3, 100_000, 70_001), (3, 90_000, 269_999)]
        {
            let indices: Vec<usize> = (0..rows * width).step_by(every).collect();
            let offset = |row| indices.partition_point(|&index| index < row * width) as u32;
            let columns = indices.iter().map(|index| (index % width) as u32).collect();
            let csr = Csr::new(width, (0..=rows).map(offset).collect(), columns).unwrap();
            let values: Vec<f32> = csr.flat_indices().map(|index| index as f32 + 1.0).collect();
            let mut bytes = Vec::new();
            scatter(&csr, &values, &mut bytes).unwrap();
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let want = |index: usize| if index.is_multiple_of(every) { index as f32 + 1.0 } else { 0.0 };
            assert!(got.iter().enumerate().all(|(index, &value)| value == want(index)));
            assert_eq!(got.len(), rows * width);
        }
    }
}
