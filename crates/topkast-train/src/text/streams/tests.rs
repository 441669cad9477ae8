use proptest::prelude::*;

use super::*;

/// A text whose tokens are their places.
fn places(count: usize) -> Ids {
    Ids::Words((0..count as u32).collect())
}

fn training(streams: &TrainingStreams, ids: &Ids, step: u64) -> Segment {
    let mut segment = Segment::default();
    streams.fill(ids, step, &mut segment);
    segment
}

#[test]
fn streams_lie_side_by_side() {
    let (ids, streams) = (places(24), TrainingStreams::new(24, 2, 4).unwrap());
    // 11 tokens a stream: two segments, three tokens left out.
    assert_eq!(streams.segments(), 2);
    let expected = Segment {
        inputs: vec![0, 1, 2, 3, 11, 12, 13, 14],
        targets: vec![1, 2, 3, 4, 12, 13, 14, 15],
        streams: 2,
        begins: true,
    };
    assert_eq!(training(&streams, &ids, 0), expected);
    let expected = Segment {
        inputs: vec![4, 5, 6, 7, 15, 16, 17, 18],
        targets: vec![5, 6, 7, 8, 16, 17, 18, 19],
        streams: 2,
        begins: false,
    };
    assert_eq!(training(&streams, &ids, 1), expected);
    for step in [0, 1, 7, u64::MAX] {
        assert_eq!(training(&streams, &ids, step), training(&streams, &ids, step % 2));
    }
}

#[test]
fn bytes_and_words_are_served_alike() {
    let bytes = Ids::Bytes((0..100).collect());
    let streams = TrainingStreams::new(100, 3, 5).unwrap();
    for step in 0..10 {
        assert_eq!(training(&streams, &bytes, step), training(&streams, &places(100), step));
    }
}

#[test]
fn a_text_may_be_too_short() {
    assert!(TrainingStreams::new(9, 2, 4).is_ok());
    let error = TrainingStreams::new(8, 2, 4).unwrap_err();
    assert!(matches!(error, TextError::Streams { tokens: 8, needed: 9, .. }), "{error}");
    for (streams, segment) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
        assert!(matches!(TrainingStreams::new(100, streams, segment), Err(TextError::Streams { .. })));
        let streams = EvaluationStreams::new(100, streams, segment).unwrap();
        assert!((1..=99).contains(&streams.segments()));
    }
    for tokens in [0, 1] {
        assert!(matches!(TrainingStreams::new(tokens, 1, 1), Err(TextError::Streams { .. })));
        assert!(matches!(EvaluationStreams::new(tokens, 1, 1), Err(TextError::Streams { .. })));
    }
    for (streams, segment) in [(0, 1), (1, 0)] {
        assert!(matches!(TrainingStreams::new(9, streams, segment), Err(TextError::NoStreams { .. })));
        assert!(matches!(EvaluationStreams::new(9, streams, segment), Err(TextError::NoStreams { .. })));
    }
}

#[test]
fn storage_is_reused() {
    let ids = places(1000);
    let (train, evaluate) =
        (TrainingStreams::new(1000, 3, 16).unwrap(), EvaluationStreams::new(1000, 7, 16).unwrap());
    let mut segment = Segment::default();
    let storage = |segment: &Segment| (segment.inputs.as_ptr(), segment.targets.as_ptr());
    train.fill(&ids, 0, &mut segment);
    let before = storage(&segment);
    (1..100).for_each(|step| train.fill(&ids, step, &mut segment));
    assert_eq!(storage(&segment), before);
    evaluate.fill(&ids, 0, &mut segment);
    let before = storage(&segment);
    (1..evaluate.segments()).for_each(|number| evaluate.fill(&ids, number, &mut segment));
    assert_eq!(storage(&segment), before);
}

#[test]
#[should_panic(expected = "no segment 3")]
fn an_evaluation_ends() {
    EvaluationStreams::new(9, 2, 2).unwrap().fill(&places(9), 3, &mut Segment::default());
}

proptest! {
    /// Each stream's segments, one after the other, are a contiguous piece of the text; the streams are equally long.
    #[test]
    fn training_reads_each_stream_in_order(count in 2usize..400, streams in 1usize..9, length in 1usize..12) {
        let Ok(cut) = TrainingStreams::new(count, streams, length) else {
            prop_assert!(count < streams * length + 1);
            return Ok(());
        };
        let ids = places(count);
        let mut read = vec![Vec::new(); streams];
        for step in 0..cut.segments() {
            let segment = training(&cut, &ids, step);
            prop_assert_eq!((segment.begins, segment.streams), (step == 0, streams));
            prop_assert_eq!(segment.inputs.len(), streams * length);
            prop_assert!(segment.inputs.iter().zip(&segment.targets).all(|(input, target)| input + 1 == *target));
            for (stream, inputs) in read.iter_mut().zip(segment.inputs.chunks(length)) {
                stream.extend_from_slice(inputs);
            }
        }
        let per_stream = ((count - 1) / streams) as u32;
        for (stream, number) in read.iter().zip(0..) {
            let start = number * per_stream;
            prop_assert_eq!(stream, &(start..start + stream.len() as u32).collect::<Vec<_>>());
            prop_assert!(stream.len() as u32 <= per_stream && per_stream < (stream.len() + length) as u32);
        }
    }

    #[test]
    fn evaluation_scores_every_token_but_the_first_once(
        count in 2usize..400, streams in 1usize..30, length in 1usize..12,
    ) {
        let (ids, cut) = (places(count), EvaluationStreams::new(count, streams, length).unwrap());
        let mut targets = Vec::new();
        let mut segment = Segment::default();
        // What each stream has read last.
        let mut last: Vec<u32> = Vec::new();
        for number in 0..cut.segments() {
            cut.fill(&ids, number, &mut segment);
            prop_assert!(segment.inputs.iter().zip(&segment.targets).all(|(input, target)| input + 1 == *target));
            let time = segment.inputs.len() / segment.streams;
            prop_assert!(time <= length && time * segment.streams == segment.inputs.len() && time > 0);
            for (stream, inputs) in segment.inputs.chunks(time).enumerate() {
                prop_assert!(segment.begins || inputs[0] == last[stream] + 1);
            }
            last = segment.inputs.chunks(time).map(|inputs| inputs[time - 1]).collect();
            targets.extend_from_slice(&segment.targets);
        }
        targets.sort_unstable();
        prop_assert_eq!(targets, (1..count as u32).collect::<Vec<_>>());
    }

    /// With one stream the whole text is one context.
    #[test]
    fn one_stream_begins_once(count in 2usize..400, length in 1usize..12) {
        let (ids, cut) = (places(count), EvaluationStreams::new(count, 1, length).unwrap());
        let mut segment = Segment::default();
        for number in 0..cut.segments() {
            cut.fill(&ids, number, &mut segment);
            prop_assert_eq!((segment.begins, segment.inputs[0] as usize), (number == 0, number * length));
        }
    }
}
