//! The sparse format: A's values and gaps, and what is dense anyway.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use super::container::{self, Content, Tensor};
use super::gaps::Gaps;
use super::held::{Held, held};
use super::{About, METADATA_KEY};
use crate::{TrainError, Trained, files};

pub(super) fn write(trained: &mut Trained, path: &Path) -> Result<(), TrainError> {
    let mut about = About::of(trained, "sparse");
    let mut tensors = Vec::new();
    for (name, parameter) in held(&mut trained.network) {
        match parameter {
            Held::Sparse(csr, values) => {
                about.sparse.insert(name.to_owned(), vec![csr.rows(), csr.width()]);
                let by_row: Vec<f32> = csr.entries_by_row().map(|entry| values[entry]).collect();
                tensors.push(Tensor::floats(format!("{name}.values"), vec![by_row.len()], by_row));
                let of_row = |row: usize| {
                    let start = row as u64 * csr.width() as u64;
                    csr.row_columns(row).map(move |column| start + column as u64)
                };
                let Gaps { dtype, bytes } = Gaps::of(|| (0..csr.rows()).flat_map(of_row));
                let (shape, content) =
                    (vec![8 * bytes.len() / dtype.bitsize()], Content::Bytes(Cow::Owned(bytes)));
                tensors.push(Tensor { name: format!("{name}.gaps"), dtype, shape, content });
            }
            Held::Weight(shape, values) => {
                tensors.push(Tensor::floats(name.to_owned(), shape.to_vec(), values));
            }
            Held::Vector(values) => {
                tensors.push(Tensor::floats(name.to_owned(), vec![values.len()], values));
            }
        }
    }
    let json = serde_json::to_string(&about).expect("it is plain data");
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
    files::replace(path, |temporary| container::write(tensors, metadata, temporary))
        .map_err(TrainError::write(path))
}
