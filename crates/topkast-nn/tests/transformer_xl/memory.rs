//! Memory: what is seen does not depend on where segments end.

use topkast::Seed;
use topkast_kernels::Isa;
use topkast_nn::{Gradients, Memory, Mode, Tokens, TransformerXl, TransformerXlShape};

use crate::networks::{SMALL, adaptive, all, loss, losses, network, text};

const SPAN: usize = 12;
const LENGTH: usize = 150;

/// Every token's loss, stream after stream, where the text is read in segments of that many tokens.
fn scores(
    network: &mut TransformerXl,
    isa: Isa,
    streams: &[Vec<u32>],
    segment: usize,
    memory: Memory,
) -> Vec<Vec<f64>> {
    network.replace_memory(memory);
    let mut scores = vec![Vec::new(); streams.len()];
    let mut start = 0;
    while start < LENGTH {
        let count = segment.min(LENGTH - start);
        let cut = |from: usize| streams.iter().flat_map(|text| &text[from..][..count]).copied().collect();
        let (ids, targets): (Vec<u32>, Vec<u32>) = (cut(start), cut(start + 1));
        network.forward(isa, Tokens { ids: &ids, streams: streams.len() }, Mode::Evaluate);
        let losses = losses(network, isa, &targets);
        scores.iter_mut().zip(losses.chunks(count)).for_each(|(scores, losses)| scores.extend(losses));
        start += count;
    }
    scores
}

#[test]
fn segments_of_any_length_give_the_same_losses() {
    let texts = [1, 2].map(|seed| text(SMALL.vocabulary, LENGTH + 1, seed)).to_vec();
    for (shape, sparse) in [(SMALL, false), (SMALL, true), (adaptive(), true)] {
        let mut network = network(&shape, sparse);
        for isa in Isa::available() {
            let whole = scores(&mut network, isa, &texts, LENGTH, Memory::empty(0, SPAN));
            for segment in [1, 3, 7, 64] {
                for length in [SPAN - 1, SPAN + 20] {
                    let memory = Memory::empty(length, SPAN);
                    let got = scores(&mut network, isa, &texts, segment, memory);
                    for (got, want) in got.iter().flatten().zip(whole.iter().flatten()) {
                        assert!((got - want).abs() <= 1e-5 * (1.0 + want), "{segment}: {got} against {want}");
                    }
                }
            }
            // A shorter span is something else.
            let other = scores(&mut network, isa, &texts, LENGTH, Memory::empty(0, SPAN - 1));
            assert!(other.iter().flatten().zip(whole.iter().flatten()).any(|(a, b)| (a - b).abs() > 1e-3));
        }
    }
}

/// One segment's loss and gradients, in training.
fn step(network: &mut TransformerXl, number: u64) -> (u64, Vec<(String, Vec<f32>)>) {
    let ids = text(SMALL.vocabulary, 3 * 5, 10 + number);
    let tokens = Tokens { ids: &ids, streams: 3 };
    let isa = Isa::current().unwrap();
    let loss = loss(network, isa, tokens, &ids, Mode::Train(Seed::new(number)));
    network.backward(isa, tokens, Gradients::All);
    (loss.to_bits(), all(network, true))
}

#[test]
fn scoring_in_between_and_resuming_change_nothing() {
    let shape = TransformerXlShape { dropout: 0.1, ..SMALL };
    let mut network = network(&shape, true);
    step(&mut network, 0);
    let kept = network.memory().clone();
    let want = step(&mut network, 1);

    network.replace_memory(kept.clone());
    let training = network.replace_memory(Memory::empty(4, 3));
    let other = text(SMALL.vocabulary, 22, 1);
    network.forward(Isa::current().unwrap(), Tokens { ids: &other, streams: 2 }, Mode::Evaluate);
    assert_eq!(network.replace_memory(training).held(), 4);
    assert_eq!(step(&mut network, 1), want);

    let layers = kept.layers().to_vec();
    let memory = Memory::from_layers(&shape, shape.memory, kept.span(), kept.streams(), layers).unwrap();
    assert_eq!(memory, kept);
    network.replace_memory(memory);
    assert_eq!(step(&mut network, 1), want);
    // And the memory matters.
    network.replace_memory(Memory::empty(shape.memory, usize::MAX));
    assert_ne!(step(&mut network, 1).0, want.0);
}

#[test]
#[should_panic(expected = "the memory is of 3 streams, the tokens of 2: begin with an empty one")]
fn other_streams_need_another_memory() {
    let mut network = network(&SMALL, true);
    step(&mut network, 0);
    network.forward(Isa::current().unwrap(), Tokens { ids: &[1, 2], streams: 2 }, Mode::Evaluate);
}

#[test]
#[should_panic(expected = "tokens must be below 19")]
fn unknown_tokens_are_refused() {
    network(&SMALL, true).forward(Isa::current().unwrap(), Tokens { ids: &[19], streams: 1 }, Mode::Evaluate);
}
