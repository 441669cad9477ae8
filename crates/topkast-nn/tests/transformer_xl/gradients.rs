//! Which gradients a backward pass leaves.

use topkast::{GradientTile, Seed};
use topkast_kernels::Isa;
use topkast_nn::{Gradients, Mode, Tokens, TransformerXl, TransformerXlShape};

use crate::networks::{SMALL, adaptive, all, loss, network, text};

const STREAMS: usize = 2;

/// A sparse network with dropout after the loss of a forward pass that saw memory, and that pass's tokens.
fn after_two_segments(isa: Isa, shape: TransformerXlShape) -> (TransformerXl, Vec<u32>) {
    let mut network = network(&TransformerXlShape { dropout: 0.2, ..shape }, true);
    let segments = [1, 2].map(|seed| text(SMALL.vocabulary, STREAMS * 5, seed));
    for (number, ids) in segments.iter().enumerate() {
        let mode = Mode::Train(Seed::new(number as u64));
        loss(&mut network, isa, Tokens { ids, streams: STREAMS }, ids, mode);
    }
    let [_, last] = segments;
    (network, last)
}

#[test]
fn only_what_is_wanted() {
    for (isa, shape) in Isa::available().into_iter().flat_map(|isa| [(isa, SMALL), (isa, adaptive())]) {
        let is_adaptive = shape.adaptive.is_some();
        let (mut network, ids) = after_two_segments(isa, shape);
        let tokens = Tokens { ids: &ids, streams: STREAMS };
        let gradients = [Gradients::All, Gradients::Active, Gradients::Activations].map(|wanted| {
            network.loss(isa, &ids, 0.0, true);
            network.backward(isa, tokens, wanted);
            all(&mut network, true)
        });
        for (active, activations) in gradients[1].iter().zip(&gradients[2]) {
            // An adaptive table is left with what the loss has made.
            let of_table = is_adaptive && active.0.starts_with("embedding.");
            assert!(
                of_table || active == activations,
                "{}: linear layers' stay, the others are the same",
                active.0
            );
        }
        assert_eq!(gradients[1] == gradients[2], !is_adaptive);
        let active: Vec<usize> =
            network.sparse_weights().iter().map(|weight| weight.counts().active).collect();
        let mut active = active.iter();
        for ((name, full), (_, active_only)) in gradients[0].iter().zip(&gradients[1]) {
            let sparse = name.ends_with(".weight") && !name.starts_with("embedding.");
            let kept = if sparse { *active.next().unwrap() } else { full.len() };
            assert_eq!(full[..kept], active_only[..kept], "{name}");
            assert!(active_only[kept..].iter().all(|&slope| slope == 0.0), "{name}");
            assert!(full[kept..].iter().any(|&slope| slope != 0.0) || !sparse, "{name}");
        }
    }
}

#[test]
fn dense_gradients_are_products_of_what_is_visited() {
    let isa = Isa::current().unwrap();
    let (mut network, ids) = after_two_segments(isa, SMALL);
    let tokens = Tokens { ids: &ids, streams: STREAMS };
    network.backward(isa, tokens, Gradients::All);
    network.loss(isa, &ids, 0.0, true);
    network.backward(isa, tokens, Gradients::Activations);
    let mut visited = 0;
    network.for_each_gradient(|weight, gradient| {
        let mut tile = GradientTile::default();
        let dense = tile.compute(isa, gradient, 0..weight.pattern().rows());
        let (pattern, gradient) = (weight.pattern(), &weight.parameter().gradient);
        let entries = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
        for (&got, index) in gradient.iter().zip(entries) {
            let want = dense[index as usize];
            assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{got} against {want}");
        }
        assert!(gradient.iter().any(|&slope| slope.abs() > 1e-3));
        visited += 1;
    });
    assert_eq!(visited, SMALL.layers().len());
}

#[test]
#[should_panic(expected = "only a backward pass for activations keeps their gradients")]
fn shared_gradients_are_not_visited() {
    let isa = Isa::current().unwrap();
    let (mut network, ids) = after_two_segments(isa, SMALL);
    network.backward(isa, Tokens { ids: &ids, streams: STREAMS }, Gradients::All);
    network.for_each_gradient(|_, _| {});
}

#[test]
fn names_are_those_of_the_shape() {
    let mut network = network(&SMALL, true);
    let linears: Vec<String> = network.linears().map(|(name, _)| name.to_owned()).collect();
    let wanted: Vec<String> = SMALL.layers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(linears, wanted);
    let names: Vec<String> = all(&mut network, false).into_iter().map(|(name, _)| name).collect();
    for name in ["embedding.weight", "layers.1.attention.u", "layers.0.feed_forward.norm.gain", "output.bias"]
    {
        assert!(names.iter().any(|other| other == name), "{name}");
    }
    // Weight and bias of each linear layer; u, w and two norms' gain and bias of each layer; embedding and the logits' bias.
    assert_eq!(names.len(), 2 * wanted.len() + 6 * SMALL.layers + 2);
}
