//! What a Transformer-XL keeps of earlier segments.

use thiserror::Error;
use topkast_kernels::Matrix;

use super::streams::last_columns;
use crate::TransformerXlShape;

/// What earlier segments left: the inputs of every layer at the last positions of each stream (Dai et al. 2019). Attention sees
/// them, and no gradient goes into them.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// `[width × streams · held]` for each layer; none as long as there was no segment.
    layers: Vec<Matrix>,
    streams: usize,
    held: usize,
    length: usize,
    span: usize,
}

/// Why matrices are no memory of a network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MemoryError {
    #[error("memory of {got} layers, but the network has {want}")]
    Layers { got: usize, want: usize },
    #[error("memory of layer {layer} is {got:?}; {want:?} expected")]
    Shape { layer: usize, got: [usize; 2], want: [usize; 2] },
    #[error("memory of {positions} positions is not of {streams} streams with at most {length} each")]
    Positions { positions: usize, streams: usize, length: usize },
}

impl Memory {
    /// The memory before any text: it will keep up to `length` positions of each stream, and attention sees at most the `span` last
    /// ones, the token's own included.
    ///
    /// # Panics
    /// If the span is zero.
    pub fn empty(length: usize, span: usize) -> Self {
        assert!(span > 0, "a token sees at least itself");
        Self { layers: Vec::new(), streams: 0, held: 0, length, span }
    }

    /// The memory that [`layers`](Self::layers) told of, for a network of this shape; `length` and `span` as for
    /// [`empty`](Self::empty).
    ///
    /// # Errors
    /// If the matrices are no such memory.
    ///
    /// # Panics
    /// If the span is zero.
    pub fn from_layers(
        shape: &TransformerXlShape,
        length: usize,
        span: usize,
        streams: usize,
        layers: Vec<Matrix>,
    ) -> Result<Self, MemoryError> {
        let empty = Self::empty(length, span);
        let Some(first) = layers.first() else { return Ok(empty) };
        if layers.len() != shape.layers {
            return Err(MemoryError::Layers { got: layers.len(), want: shape.layers });
        }
        let positions = first.positions();
        let held = positions.checked_div(streams).unwrap_or(0);
        if held > length || held * streams != positions {
            return Err(MemoryError::Positions { positions, streams, length });
        }
        let want = [shape.width, positions];
        for (layer, matrix) in layers.iter().enumerate() {
            let got = [matrix.features(), matrix.positions()];
            if got != want {
                return Err(MemoryError::Shape { layer, got, want });
            }
        }
        Ok(Self { layers, streams, held, ..empty })
    }

    /// The inputs of each layer, `[width × streams · held]`, stream by stream, the oldest first; none before the first segment.
    pub fn layers(&self) -> &[Matrix] {
        &self.layers
    }

    /// Streams of text that run side by side; 0 before the first segment.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Positions of each stream that are kept now.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Positions of each stream that are kept at most.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The last positions that attention sees, the token's own included.
    pub fn span(&self) -> usize {
        self.span
    }

    /// Whether it is one of a network of this many layers and features; one that is still empty is.
    pub(super) fn fits(&self, layers: usize, width: usize) -> bool {
        self.layers.is_empty()
            || self.layers.len() == layers && self.layers.iter().all(|layer| layer.features() == width)
    }

    /// Makes room for the first segment.
    ///
    /// # Panics
    /// If there was one of another number of streams.
    pub(super) fn begin(&mut self, layers: usize, width: usize, streams: usize) {
        assert!(
            self.held == 0 || self.streams == streams,
            "the memory is of {} streams, the tokens of {streams}: begin with an empty one",
            self.streams
        );
        self.streams = streams;
        if self.layers.is_empty() {
            self.layers.resize_with(layers, || Matrix::zeros(width, 0));
        }
    }

    /// Keeps the last positions of what `layer` has seen: the memory, and after it its input.
    pub(super) fn keep(&mut self, layer: usize, seen: &Matrix) {
        let count = self.length.min(seen.positions() / self.streams);
        last_columns(self.streams, seen, count, &mut self.layers[layer]);
    }

    /// Goes on once every layer has kept its positions of a segment with this many.
    pub(super) fn move_on(&mut self, positions: usize) {
        self.held = self.length.min(self.held + positions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    fn restored(streams: usize, sizes: &[[usize; 2]]) -> Result<Memory, MemoryError> {
        let shape = TransformerXlShape {
            vocabulary: 2,
            width: 4,
            layers: 2,
            heads: 2,
            feed_forward: 4,
            memory: 5,
            activation: Activation::Relu,
            dropout: 0.0,
            adaptive: None,
        };
        let layers = sizes.iter().map(|&[features, positions]| Matrix::zeros(features, positions)).collect();
        Memory::from_layers(&shape, 5, 3, streams, layers)
    }

    #[test]
    fn a_memory_is_restored() {
        let memory = restored(3, &[[4, 15]; 2]).unwrap();
        assert_eq!((memory.streams(), memory.held(), memory.length(), memory.span()), (3, 5, 5, 3));
        assert_eq!(restored(9, &[]), Ok(Memory::empty(5, 3)));
        assert_eq!(restored(0, &[[4, 0]; 2]).unwrap().held(), 0);
    }

    #[test]
    fn what_is_no_memory_is_told() {
        for (streams, sizes, want) in [
            (3, &[[4, 15]][..], "memory of 1 layers, but the network has 2"),
            (3, &[[4, 18]; 2], "memory of 18 positions is not of 3 streams with at most 5 each"),
            (3, &[[4, 14]; 2], "memory of 14 positions is not of 3 streams with at most 5 each"),
            (0, &[[4, 3]; 2], "memory of 3 positions is not of 0 streams with at most 5 each"),
            (1, &[[4, 5], [5, 5]], "memory of layer 1 is [5, 5]; [4, 5] expected"),
            (1, &[[4, 5], [4, 4]], "memory of layer 1 is [4, 4]; [4, 5] expected"),
        ] {
            assert_eq!(restored(streams, sizes).unwrap_err().to_string(), want);
        }
    }
}
