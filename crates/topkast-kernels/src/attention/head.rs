//! The operands of one head, and how they are laid out in scratch.

use std::ops::Range;

use super::AttentionShape;
use super::pack::{Part, copy_biased, copy_reversed};
use super::product::Right;
use super::scores::{MARGIN, Operands, stride};
use crate::buffer::LINE;
use crate::{Buffer, Isa};

/// Keys in a tile: a multiple of 32.
pub(super) const KEYS: usize = 128;

/// One head of the inputs.
pub(super) struct Head<'a> {
    pub(super) shape: AttentionShape,
    /// d_head.
    pub(super) features: usize,
    pub(super) query: Part<'a>,
    pub(super) key: Part<'a>,
    pub(super) value: Part<'a>,
    pub(super) position: Part<'a>,
    pub(super) content_bias: &'a [f32],
    pub(super) position_bias: &'a [f32],
}

impl<'a> Head<'a> {
    /// 1/√d_head.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.features as f32).sqrt()
    }

    /// Features rounded up to whole vectors.
    pub(super) fn wide(&self) -> usize {
        self.features.next_multiple_of(LINE)
    }

    /// The distance between features of what lies by place.
    pub(super) fn position_stride(&self) -> usize {
        stride(self.shape.context())
    }

    /// The distance between features of queries: an odd number of cache lines.
    pub(super) fn query_stride(&self) -> usize {
        self.shape.queries.next_multiple_of(2 * LINE) + LINE
    }

    /// The distance between features of a tile of keys: an odd number of cache lines.
    pub(super) fn key_stride(&self) -> usize {
        KEYS + LINE
    }

    /// Tiles of all keys that any query sees.
    pub(super) fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let context = self.shape.context();
        (self.unseen()..context).step_by(KEYS).map(move |start| start..context.min(start + KEYS))
    }

    /// The first keys, too far away from the first query.
    pub(super) fn unseen(&self) -> usize {
        (self.shape.memory + 1).saturating_sub(self.shape.span)
    }

    /// Zeros in the gradients of the keys that no query sees.
    pub(super) fn clear_unseen(&self, stream: usize, gradients: [&mut [f32]; 2]) {
        for gradient in gradients {
            for row in gradient.chunks_exact_mut(self.key.stride) {
                row[stream * self.shape.context()..][..self.unseen()].fill(0.0);
            }
        }
    }

    /// The columns of these keys of a stream.
    pub(super) fn keys(&self, of: Part<'a>, stream: usize, keys: &Range<usize>) -> Part<'a> {
        let first = stream * self.shape.context();
        of.columns(first + keys.start..first + keys.end)
    }

    /// The columns of a stream's queries.
    pub(super) fn queries(&self, of: Part<'a>, stream: usize) -> Part<'a> {
        of.columns(stream * self.shape.queries..(stream + 1) * self.shape.queries)
    }

    /// r by feature and place.
    pub(super) fn pack_position(&self, position: &mut [f32]) {
        copy_reversed(self.position, &mut position[MARGIN..], self.position_stride());
    }

    /// (q + u)/√d_head and (q + w)/√d_head by feature.
    pub(super) fn pack_queries(&self, isa: Isa, stream: usize, content: &mut [f32], position: &mut [f32]) {
        let (query, biases) = (self.queries(self.query, stream), [self.content_bias, self.position_bias]);
        copy_biased(isa, query, biases, self.scale(), [content, position], self.query_stride());
    }

    /// What scores are computed from, for queries from where the two slices begin.
    pub(super) fn operands<'b>(
        &self,
        content_query: &'b [f32],
        position_query: &'b [f32],
        key: &'b [f32],
        position: &'b [f32],
    ) -> Operands<'b> {
        Operands {
            content_query,
            position_query,
            query_stride: self.query_stride(),
            key: Right { data: key, stride: self.key_stride() },
            position: Right { data: position, stride: self.position_stride() },
            features: self.features,
        }
    }
}

/// Sets the length; what is in it stays where that is the same already.
pub(super) fn resize(buffer: &mut Buffer, len: usize) {
    if buffer.len() != len {
        buffer.reset(len);
    }
}
