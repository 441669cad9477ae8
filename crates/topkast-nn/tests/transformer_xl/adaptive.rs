//! Networks with an adaptive table.

use std::collections::HashMap;

use topkast_kernels::Isa;
use topkast_nn::{Clusters, Gradients, Memory, Mode, Tokens, TransformerXl, TransformerXlShape};

use crate::networks::{SMALL, adaptive, all, loss, losses, network, text};

const STREAMS: usize = 2;

#[test]
fn the_loss_is_that_of_the_probabilities() {
    let mut network = network(&adaptive(), true);
    let ids = text(SMALL.vocabulary, STREAMS * 20, 1);
    // Of all clusters, and of the last alone.
    for targets in [text(SMALL.vocabulary, ids.len(), 2), vec![12; ids.len()]] {
        for isa in Isa::available() {
            network.replace_memory(Memory::empty(6, 9));
            network.forward(isa, Tokens { ids: &ids, streams: STREAMS }, Mode::Evaluate);
            let got = network.loss(isa, &targets, 0.0, false);
            let mut logarithms = Vec::new();
            let probability = |(position, &target): (usize, &u32)| {
                network.logits_at(isa, position, &mut logarithms);
                let sum: f64 = logarithms.iter().map(|&logarithm| f64::from(logarithm).exp()).sum();
                assert!(logarithms.len() == SMALL.vocabulary && (sum - 1.0).abs() < 1e-5, "{sum}");
                f64::from(logarithms[target as usize])
            };
            let want = -targets.iter().enumerate().map(probability).sum::<f64>();
            assert!((got.sum - want).abs() < 1e-5 * want, "{} against {want}", got.sum);
            assert_eq!(got.correct, None);
            assert!((losses(&mut network, isa, &targets).iter().sum::<f64>() - want).abs() < 1e-4);
        }
    }
}

/// Gives each parameter of `network` the values that it has by name.
fn give(network: &mut TransformerXl, values: &HashMap<String, Vec<f32>>) {
    network.visit(&mut |name, parameter| {
        let parameter = parameter.trained().unwrap();
        parameter.values.copy_from_slice(&values[name]);
    });
}

#[test]
fn one_cluster_and_no_projection_is_the_tied_table() {
    let mut tied = network(&SMALL, true);
    let clusters = Clusters { cutoffs: vec![SMALL.vocabulary], div_value: 4 };
    let mut other = network(&TransformerXlShape { adaptive: Some(clusters), ..SMALL }, true);
    let renamed = |name: String| match &*name {
        "embedding.weight" => "embedding.0.weight".to_owned(),
        "output.bias" => "embedding.0.bias".to_owned(),
        _ => name,
    };
    let mut values: HashMap<_, _> =
        all(&mut tied, false).into_iter().map(|(name, values)| (renamed(name), values)).collect();
    let width = SMALL.width;
    let identity = (0..width * width).map(|at| if at % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
    values.insert("embedding.0.projection".to_owned(), identity);
    give(&mut other, &values);
    let isa = Isa::current().unwrap();
    let [ids, targets] = [3, 4].map(|seed| text(SMALL.vocabulary, STREAMS * 9, seed));
    let tokens = Tokens { ids: &ids, streams: STREAMS };
    let [want, got] = [&mut tied, &mut other].map(|network| {
        let loss = loss(network, isa, tokens, &targets, Mode::Evaluate);
        network.backward(isa, tokens, Gradients::All);
        (loss, all(network, true))
    });
    assert!((got.0 - want.0).abs() < 1e-6, "{} against {}", got.0, want.0);
    let got: HashMap<_, _> = got.1.into_iter().collect();
    for (name, want) in want.1.into_iter().map(|(name, gradient)| (renamed(name), gradient)) {
        for (got, want) in got[&name].iter().zip(want) {
            assert!((got - want).abs() < 1e-5 * (1.0 + want.abs()), "{name}: {got} against {want}");
        }
    }
}

#[test]
#[should_panic(expected = "adaptive softmax knows no label smoothing")]
fn label_smoothing_is_refused() {
    let isa = Isa::current().unwrap();
    let mut network = network(&adaptive(), true);
    network.forward(isa, Tokens { ids: &[1, 2], streams: 1 }, Mode::Evaluate);
    network.loss(isa, &[2, 3], 0.1, true);
}
