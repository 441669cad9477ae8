//! What the PyTorch network computed: see fixtures/transformer_xl.py.

use safetensors::{Dtype, SafeTensors};

/// The tensors of fixtures/transformer_xl.safetensors.
pub(crate) struct Fixture(SafeTensors<'static>);

impl Fixture {
    pub(crate) fn read() -> Self {
        let bytes = include_bytes!("../fixtures/transformer_xl.safetensors");
        Self(SafeTensors::deserialize(bytes).unwrap())
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name, Dtype::F32).map(f32::from_le_bytes).collect()
    }

    /// One row for each stream.
    pub(crate) fn tokens(&self, name: &str) -> Vec<Vec<u32>> {
        let tokens: Vec<u32> = self.numbers(name, Dtype::U32).map(u32::from_le_bytes).collect();
        let [streams, _] = self.0.tensor(name).unwrap().shape().try_into().unwrap();
        tokens.chunks(tokens.len() / streams).map(<[u32]>::to_vec).collect()
    }

    /// 2 on A, 1 on B∖A, 0 on C.
    pub(crate) fn mask(&self, name: &str) -> Vec<u8> {
        let tensor = self.0.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::U8);
        tensor.data().to_vec()
    }

    fn numbers(&self, name: &str, dtype: Dtype) -> impl Iterator<Item = [u8; 4]> {
        let tensor = self.0.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().as_chunks().0.iter().copied()
    }
}
