//! A text in streams side by side, segment after segment.
//!
//! A segment has `streams × length` tokens, those of a stream contiguous: token `stream · length + time`. The target of
//! each is the token after it in the text. A network with memory carries it from a segment to the next, stream by stream,
//! and empties it where a segment [`begins`](Segment::begins).

use super::Ids;
use super::error::TextError;

/// What one forward pass reads and is to predict. Kept from pass to pass, its storage is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// `streams × length` tokens, stream by stream.
    pub inputs: Vec<u32>,
    /// The token after each.
    pub targets: Vec<u32>,
    /// How many streams; not all segments of an evaluation have as many.
    pub streams: usize,
    /// Whether the streams begin here, so that memory is to be emptied first.
    pub begins: bool,
}

/// `streams` contiguous pieces of a text of `length` tokens each, one after the other from `start` on. There is a token
/// after the last.
#[derive(Clone, Copy, Debug)]
struct Pieces {
    start: usize,
    streams: usize,
    length: usize,
}

impl Pieces {
    /// Fills in each stream's next tokens, `at` tokens after its beginning and at most `count`.
    fn fill(&self, ids: &Ids, at: usize, count: usize, segment: &mut Segment) {
        let count = count.min(self.length - at);
        segment.inputs.clear();
        segment.targets.clear();
        for stream in 0..self.streams {
            let start = self.start + stream * self.length + at;
            ids.append_to(&mut segment.inputs, start, count);
            ids.append_to(&mut segment.targets, start + 1, count);
        }
        segment.streams = self.streams;
        segment.begins = at == 0;
    }
}

/// Serves a text for training, pass after pass without end. The text, the two sizes and the step say what comes, so the
/// step is all that has to be kept to go on.
///
/// A text of n tokens is cut in S streams of ⌊(n − 1)/S⌋ tokens, and each stream in segments of T. What does not make
/// another segment, in each stream fewer than T tokens, is left out, and so are the text's last tokens, fewer than S.
#[derive(Clone, Copy, Debug)]
pub struct TrainingStreams {
    pieces: Pieces,
    segment: usize,
}

impl TrainingStreams {
    /// Cuts a text of `tokens` tokens in `streams` streams with segments of `segment` tokens.
    ///
    /// # Errors
    /// If a size is zero or the text is too short for one segment.
    pub fn new(tokens: usize, streams: usize, segment: usize) -> Result<Self, TextError> {
        let length = length(tokens, streams, segment)?;
        if length < segment {
            let needed = streams.saturating_mul(segment).saturating_add(1);
            return Err(TextError::Streams { tokens, streams, segment, needed });
        }
        Ok(Self { pieces: Pieces { start: 0, streams, length }, segment })
    }

    /// How many steps a pass over the text takes, at least 1.
    pub fn segments(&self) -> u64 {
        (self.pieces.length / self.segment) as u64
    }

    /// Makes `segment` that of a step, counted from 0 on and over all passes. Allocates only the first time.
    ///
    /// # Panics
    /// If `ids` are fewer than the tokens this was made for.
    pub fn fill(&self, ids: &Ids, step: u64, segment: &mut Segment) {
        let at = (step % self.segments()) as usize * self.segment;
        self.pieces.fill(ids, at, self.segment, segment);
    }
}

/// Serves a text for evaluation: every token but the first is a target exactly once.
///
/// A text of n tokens is cut in S streams of ⌊(n − 1)/S⌋ tokens, side by side, whose last segment may be shorter than
/// the others; the tokens left at the end, fewer than S, follow in a stream of their own. What a stream begins with is
/// predicted without the text before it, so S > 1 scores a little worse than the network is, and S = 1 exactly.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationStreams {
    side_by_side: Pieces,
    rest: Pieces,
    segment: usize,
}

impl EvaluationStreams {
    /// Cuts a text of `tokens` tokens in `streams` streams with segments of `segment` tokens.
    ///
    /// # Errors
    /// If a size is zero, or the text has fewer than two tokens.
    pub fn new(tokens: usize, streams: usize, segment: usize) -> Result<Self, TextError> {
        let length = length(tokens, streams, segment)?;
        let start = streams * length;
        Ok(Self {
            side_by_side: Pieces { start: 0, streams, length },
            rest: Pieces { start, streams: 1, length: tokens - 1 - start },
            segment,
        })
    }

    /// How many segments there are, at least 1.
    pub fn segments(&self) -> usize {
        self.segments_side_by_side() + self.rest.length.div_ceil(self.segment)
    }

    /// Makes `segment` the one with this number. Its number of targets is its weight in the mean.
    ///
    /// # Panics
    /// If there is no such segment, or `ids` are fewer than the tokens this was made for.
    pub fn fill(&self, ids: &Ids, number: usize, segment: &mut Segment) {
        assert!(number < self.segments(), "no segment {number}");
        let (pieces, number) = match number.checked_sub(self.segments_side_by_side()) {
            Some(number) => (self.rest, number),
            None => (self.side_by_side, number),
        };
        pieces.fill(ids, number * self.segment, self.segment, segment);
    }

    fn segments_side_by_side(&self) -> usize {
        self.side_by_side.length.div_ceil(self.segment)
    }
}

/// How many tokens each stream has.
fn length(tokens: usize, streams: usize, segment: usize) -> Result<usize, TextError> {
    if streams == 0 || segment == 0 {
        return Err(TextError::NoStreams { streams, segment });
    }
    match tokens {
        0 | 1 => Err(TextError::Streams { tokens, streams, segment, needed: 2 }),
        _ => Ok((tokens - 1) / streams),
    }
}

#[cfg(test)]
mod tests;
