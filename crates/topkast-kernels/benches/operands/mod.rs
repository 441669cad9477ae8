//! Made-up operands: the same in every run.

use topkast_kernels::Csr;

/// A xorshift generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// Uniform in 0…1.
    pub(crate) fn unit(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// Uniform in −½…½.
    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit() - 0.5).collect()
    }

    /// A, B∖A and B of a weight, with these parts of its entries in A and in B.
    pub(crate) fn structures(&mut self, [rows, width]: [usize; 2], forward: f32, backward: f32) -> [Csr; 3] {
        let (mut offsets, mut columns) = ([vec![0], vec![0], vec![0]], [const { Vec::new() }; 3]);
        for _ in 0..rows {
            for column in 0..width as u32 {
                let draw = self.unit();
                if draw < backward {
                    columns[usize::from(draw >= forward)].push(column);
                    columns[2].push(column);
                }
            }
            offsets
                .iter_mut()
                .zip(&columns)
                .for_each(|(offsets, columns)| offsets.push(columns.len() as u32));
        }
        let mut parts = offsets.into_iter().zip(columns);
        std::array::from_fn(|_| {
            let (offsets, columns) = parts.next().expect("three");
            Csr::new(width, offsets, columns).expect("ascending columns")
        })
    }
}
