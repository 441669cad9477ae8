//! The operands of one head, and how they are laid out in scratch.

use std::ops::Range;

use super::AttentionShape;
use super::band::Band;
use super::pack::{Part, copy_biased, copy_reversed};
use super::product::Right;
use super::scores::{Distances, MARGIN, Operands, stride, whole};
use crate::buffer::LINE;
use crate::dropout::{Dropout, Mask};
use crate::{Buffer, Isa};

/// Keys in a tile: a multiple of 32.
pub(super) const KEYS: usize = 128;

/// One head of the inputs.
pub(super) struct Head<'a> {
    pub(super) shape: AttentionShape,
    /// Which head it is.
    pub(super) number: usize,
    pub(super) dropout: Option<Mask>,
    /// d_head.
    pub(super) features: usize,
    pub(super) query: Part<'a>,
    pub(super) key: Part<'a>,
    pub(super) value: Part<'a>,
    pub(super) relative: Option<RelativeHead<'a>>,
}

/// What a head's scores have of distances.
#[derive(Clone, Copy)]
pub(super) struct RelativeHead<'a> {
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

    /// Drops out some of the weights of what a query sees, in whole vectors.
    pub(super) fn drop_out(&self, isa: Isa, band: &Band, query: usize, weights: &mut [f32]) {
        let Some(mask) = self.dropout else { return };
        let [first_query, first_key] = band.first;
        let query_of_all =
            (self.number * self.shape.streams + band.stream) * self.shape.queries + first_query + query;
        let first = [query_of_all, first_key + whole(&band.seen(query)).start];
        isa.run(Dropout { mask, first, stride: weights.len(), rows: weights });
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

    /// r by feature and place, where there is any.
    pub(super) fn pack_position(&self, position: &mut [f32]) {
        if let Some(relative) = self.relative {
            copy_reversed(relative.position, &mut position[MARGIN..], self.position_stride());
        }
    }

    /// (q + u)/√d_head and, where there is any, (q + w)/√d_head by feature.
    pub(super) fn pack_queries(&self, isa: Isa, stream: usize, content: &mut [f32], position: &mut [f32]) {
        let query = self.queries(self.query, stream);
        let pack = |bias, to| copy_biased(isa, query, bias, self.scale(), to, self.query_stride());
        pack(self.relative.map(|relative| relative.content_bias), content);
        if let Some(relative) = self.relative {
            pack(Some(relative.position_bias), position);
        }
    }

    /// What scores are computed from, for queries from `first` on.
    pub(super) fn operands<'b>(
        &self,
        first: usize,
        [content_query, position_query]: [&'b [f32]; 2],
        key: &'b [f32],
        position: &'b [f32],
    ) -> Operands<'b> {
        let relative = || {
            let position = Right { data: position, stride: self.position_stride() };
            Distances { query: &position_query[first..], position }
        };
        Operands {
            content_query: &content_query[first..],
            query_stride: self.query_stride(),
            key: Right { data: key, stride: self.key_stride() },
            distances: self.relative.map(|_| relative()),
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
