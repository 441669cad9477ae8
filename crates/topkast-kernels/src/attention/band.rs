//! Which keys of a tile which queries see, and at what distances.

use std::ops::Range;

use super::AttentionShape;

/// Some neighbouring queries of a stream against some neighbouring keys, both counted from the first of them.
///
/// Distances are counted from the far end: *place* c = memory + queries − 1 − δ, so that with a query c grows as its keys do.
#[derive(Clone, Copy)]
pub(super) struct Band {
    /// The stream, and its first query and key here.
    pub(super) stream: usize,
    pub(super) first: [usize; 2],
    /// Distance of the first query from the first key; negative where the key is later.
    offset: isize,
    span: isize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// The place of the first key for the first query.
    place: usize,
}

impl Band {
    pub(super) fn new(
        shape: AttentionShape,
        stream: usize,
        queries: Range<usize>,
        keys: Range<usize>,
    ) -> Self {
        let context = shape.context();
        // As late as all keys, the first query sees them all.
        let offset = match shape.causal {
            true => (queries.start + shape.memory) as isize - keys.start as isize,
            false => keys.len() as isize,
        };
        let span = if shape.causal { shape.span.min(context) } else { 2 * context + queries.len() };
        Self {
            stream,
            first: [queries.start, keys.start],
            offset,
            span: span as isize,
            queries: queries.len(),
            keys: keys.len(),
            place: shape.queries - 1 - queries.start + keys.start,
        }
    }

    /// The keys that a query sees: none for some, before or after those it would see.
    pub(super) fn seen(&self, query: usize) -> Range<usize> {
        let end = query as isize + self.offset + 1;
        let within = |key: isize| key.clamp(0, self.keys as isize) as usize;
        within(end - self.span)..within(end)
    }

    /// The queries that see any key.
    pub(super) fn seeing(&self) -> Range<usize> {
        self.seeing_some(0..self.keys)
    }

    /// The queries that see any of these keys.
    pub(super) fn seeing_some(&self, keys: Range<usize>) -> Range<usize> {
        let within = |query: isize| query.clamp(0, self.queries as isize) as usize;
        let first = keys.start as isize - self.offset;
        let end = keys.end as isize - 1 - self.offset + self.span;
        let first = within(first);
        first..within(end).max(first)
    }

    /// From the first to the last key that any of these queries sees; one of them must see some.
    pub(super) fn seen_by(&self, queries: Range<usize>) -> Range<usize> {
        let queries = self.seeing_among(queries);
        self.seen(queries.start).start..self.seen(queries.end - 1).end
    }

    /// From the first to the last place at which any of these queries sees a key; one of them must see some.
    pub(super) fn places(&self, queries: Range<usize>) -> Range<usize> {
        let queries = self.seeing_among(queries);
        let first = queries.clone().map(|query| self.place_of(query, self.seen(query).start)).min();
        let end = queries.map(|query| self.place_of(query, self.seen(query).end)).max();
        first.unwrap_or_default()..end.unwrap_or_default()
    }

    fn seeing_among(&self, queries: Range<usize>) -> Range<usize> {
        let seeing = self.seeing();
        queries.start.max(seeing.start)..queries.end.min(seeing.end)
    }

    /// At what place the query sees the key, or would if it were nearer or earlier.
    pub(super) fn place_of(&self, query: usize, key: usize) -> usize {
        self.place + key - query
    }

    /// Queries that see any key, among them all that see one at these places; those of them that do not would if the span, the
    /// tile or time ended at most as many keys later as there are places.
    pub(super) fn seeing_at(&self, places: Range<usize>) -> Range<usize> {
        let seeing = self.seeing();
        let first = (self.place + 1).saturating_sub(places.end).max(seeing.start);
        let end = (self.place + self.keys).saturating_sub(places.start).min(seeing.end);
        first..end.max(first)
    }
}
