//! Tests of attention and its gradient against the twin, and of the twin against differences.

use super::*;

use crate::naive::{self, AttentionOperands};
use crate::testing::*;
use proptest::prelude::*;

/// Operands of attention, and a gradient of its output.
struct Case {
    shape: AttentionShape,
    matrices: [Matrix; 4],
    biases: [Vec<f32>; 2],
    d_output: Matrix,
    relative: bool,
}

/// The output, and the gradients of q, k, v, r, u and w.
type Results = (Matrix, [Matrix; 4], [Vec<f32>; 2]);

impl Case {
    fn new(shape: AttentionShape, head: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (width, context) = (shape.heads * head, shape.context());
        let queries = shape.streams * shape.queries;
        let keys = shape.streams * context;
        Self {
            shape,
            matrices: [queries, keys, keys, context].map(|columns| random.matrix(width, columns)),
            biases: [random.values(width), random.values(width)],
            d_output: random.matrix(width, queries),
            relative: true,
        }
    }

    /// Without distances, and with all keys if it is not to be `causal`.
    fn plain(mut self, causal: bool) -> Self {
        self.relative = false;
        self.shape.causal = causal;
        self
    }

    /// With weights that drop out.
    fn dropping(mut self, rate: f32) -> Self {
        self.shape.dropout = Some((17, rate));
        self
    }

    fn inputs(&self) -> AttentionInputs<'_> {
        let [query, key, value, position] = &self.matrices;
        let [content_bias, position_bias] = &self.biases;
        let relative = Relative { position, content_bias, position_bias };
        AttentionInputs {
            query: query.into(),
            key: key.into(),
            value: value.into(),
            relative: self.relative.then_some(relative),
        }
    }

    /// Both ways, with outputs that hold other numbers before; without distances these have no gradients, which are zero then.
    fn run(&self, isa: Isa, scratch: &mut AttentionScratch) -> Results {
        let mut random = Random::new(99);
        let mut state = AttentionState::default();
        let mut output = random.matrix(self.d_output.features(), self.d_output.positions());
        attention(isa, self.shape, self.inputs(), &mut state, scratch, &mut output);
        let mut matrices =
            self.matrices.each_ref().map(|like| random.matrix(like.features(), like.positions()));
        let mut biases = self.biases.each_ref().map(|like| random.values(like.len()));
        let [query, key, value, position] = &mut matrices;
        let [content_bias, position_bias] = &mut biases;
        if !self.relative {
            position.reset(position.features(), position.positions());
            [&mut *content_bias, position_bias].into_iter().for_each(|bias| bias.fill(0.0));
        }
        let relative = RelativeGradients { position: position.rows_mut(), content_bias, position_bias };
        let gradients = AttentionGradients {
            query: query.rows_mut(),
            key: key.rows_mut(),
            value: value.rows_mut(),
            relative: self.relative.then_some(relative),
        };
        attention_gradient(
            isa,
            self.shape,
            self.inputs(),
            &state,
            scratch,
            &output,
            &self.d_output,
            gradients,
        );
        (output, matrices, biases)
    }

    fn twin(&self) -> (Vec<f64>, AttentionOperands) {
        let inputs = self.inputs().into();
        let output = naive::attention(self.shape, &inputs);
        let mut gradient = naive::attention_gradient(self.shape, &inputs, &naive::numbers(&self.d_output));
        if !self.relative {
            gradient.position = vec![0.0; self.matrices[3].features() * self.matrices[3].positions()];
            [&mut gradient.content_bias, &mut gradient.position_bias]
                .into_iter()
                .for_each(|bias| bias.fill(0.0));
        }
        (output, gradient)
    }

    /// Checks output and gradients against the twin on every instruction set, with one scratch for all.
    fn check(&self) {
        let (want, gradient) = self.twin();
        let mut scratch = AttentionScratch::default();
        for isa in Isa::available() {
            let (output, matrices, biases) = self.run(isa, &mut scratch);
            let what = format!("{isa:?}, {:?}, width {}", self.shape, output.features());
            near(&naive::numbers(&output), &want, &what);
            let [query, key, value, position] = matrices.each_ref().map(naive::numbers);
            for (name, got, want) in [
                ("query", query, &gradient.query),
                ("key", key, &gradient.key),
                ("value", value, &gradient.value),
                ("position", position, &gradient.position),
            ] {
                near(&got, want, &format!("gradient of {name}, {what}"));
            }
            for (name, got, want) in [
                ("content bias", &biases[0], &gradient.content_bias),
                ("position bias", &biases[1], &gradient.position_bias),
            ] {
                let got: Vec<f64> = got.iter().map(|&x| x.into()).collect();
                near(&got, want, &format!("gradient of {name}, {what}"));
            }
            matrices.iter().chain([&output]).for_each(padding_is_zero);
        }
    }
}

/// Within some roundings of the largest number.
fn near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1.0, |largest: f64, x| largest.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-5 * largest, "{what}: at {i}, {got} against {want}");
    }
}

fn padding_is_zero(matrix: &Matrix) {
    for row in matrix.padded().chunks(matrix.stride().max(1)) {
        assert!(row[matrix.positions()..].iter().all(|&x| x == 0.0));
    }
}

fn shape(heads: usize, streams: usize, queries: usize, memory: usize, span: usize) -> AttentionShape {
    AttentionShape { heads, streams, queries, memory, span, causal: true, dropout: None }
}

#[test]
fn odd_shapes() {
    for queries in [0, 1, 15, 16, 17, 33] {
        for (heads, head, streams, memory, span) in [
            (1, 1, 1, 0, usize::MAX),
            (2, 3, 2, 1, usize::MAX),
            (3, 16, 1, 17, 9),
            (1, 17, 3, 5, 1),
            (2, 8, 0, 3, 4),
            (1, 0, 1, 2, 2),
            (1, 65, 1, 300, 200),
        ] {
            Case::new(shape(heads, streams, queries, memory, span), head, 1).check();
            Case::new(shape(heads, streams, queries, memory, span), head, 1).plain(true).check();
            Case::new(shape(heads, streams, queries, memory, usize::MAX), head, 1).plain(false).check();
        }
    }
}

#[test]
fn many_tiles() {
    Case::new(shape(2, 2, 150, 70, usize::MAX), 64, 2).check();
    Case::new(shape(2, 2, 150, 70, usize::MAX), 64, 2).plain(false).check();
    Case::new(shape(2, 1, 300, 0, usize::MAX), 20, 2).plain(false).check();
    Case::new(shape(2, 1, 300, 0, 170), 20, 2).plain(true).check();
    Case::new(shape(2, 2, 150, 70, usize::MAX), 64, 2).dropping(0.4).check();
    Case::new(shape(2, 2, 300, 0, usize::MAX), 20, 2).plain(false).dropping(0.1).check();
    Case::new(shape(1, 1, 300, 500, 130), 33, 3).check();
    Case::new(shape(1, 1, 20, 1000, 600), 128, 4).check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(
        heads in 1usize..4,
        head in 1usize..130,
        streams in 1usize..4,
        queries in 0usize..40,
        memory in 0usize..40,
        span in prop_oneof![1usize..100, Just(usize::MAX)],
        seed: u64,
    ) {
        Case::new(shape(heads, streams, queries, memory, span), head, seed).check();
        Case::new(shape(heads, streams, queries, memory, span), head, seed).plain(true).check();
        Case::new(shape(heads, streams, queries, memory, usize::MAX), head, seed).plain(false).check();
        Case::new(shape(heads, streams, queries, memory, span), head, seed).dropping(0.3).check();
        Case::new(shape(heads, streams, queries, memory, usize::MAX), head, seed).plain(false).dropping(0.5).check();
    }
}

#[test]
fn the_gradient_of_the_twin_is_what_differences_say() {
    differences(&Case::new(shape(2, 2, 5, 3, 6), 3, 5));
    differences(&Case::new(shape(2, 2, 5, 3, 6), 3, 5).dropping(0.4));
}

fn differences(case: &Case) {
    let (inputs, d_output) = (AttentionOperands::from(case.inputs()), naive::numbers(&case.d_output));
    let (_, gradient) = case.twin();
    let loss = |inputs: &AttentionOperands| -> f64 {
        naive::attention(case.shape, inputs).iter().zip(&d_output).map(|(o, d)| o * d).sum()
    };
    type Part = fn(&mut AttentionOperands) -> &mut Vec<f64>;
    let parts: [Part; 6] = [
        |o| &mut o.query,
        |o| &mut o.key,
        |o| &mut o.value,
        |o| &mut o.position,
        |o| &mut o.content_bias,
        |o| &mut o.position_bias,
    ];
    for (number, part) in parts.into_iter().enumerate() {
        let mut gradient = gradient.clone();
        for (i, want) in part(&mut gradient).iter().enumerate() {
            let at = |step: f64| {
                let mut moved = inputs.clone();
                part(&mut moved)[i] += step;
                loss(&moved)
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((difference - want).abs() < 1e-8, "operand {number}, {i}: {difference} against {want}");
        }
    }
}

#[test]
fn threads_do_not_show() {
    for (heads, streams, queries, memory) in [(5, 3, 40, 9), (2, 1, 130, 140)] {
        let case = Case::new(shape(heads, streams, queries, memory, 150), 20, 6);
        assert_same_on_any_threads(|isa| {
            let (output, matrices, biases) = case.run(isa, &mut AttentionScratch::default());
            let matrices = matrices.iter().flat_map(|matrix| matrix.padded());
            output.padded().iter().chain(matrices).chain(biases.iter().flatten()).copied().collect()
        });
    }
}

/// The last `queries` of the case's queries, with `memory` keys before them.
fn last(case: &Case, queries: usize, memory: usize) -> Case {
    let keys = memory + queries;
    let end = |matrix: &Matrix, columns: usize| {
        let from = matrix.positions() - columns;
        let rows = (0..matrix.features()).flat_map(|f| &matrix.row(f)[from..]).copied();
        Matrix::from_rows(matrix.features(), columns, &rows.collect::<Vec<_>>())
    };
    let [query, key, value, position] = &case.matrices;
    let near = (0..position.features()).flat_map(|f| &position.row(f)[..keys]).copied();
    Case {
        shape: AttentionShape { queries, memory, ..case.shape },
        matrices: [
            end(query, queries),
            end(key, keys),
            end(value, keys),
            Matrix::from_rows(position.features(), keys, &near.collect::<Vec<_>>()),
        ],
        biases: case.biases.clone(),
        d_output: end(&case.d_output, queries),
        relative: case.relative,
    }
}

#[test]
fn segments_of_any_length_give_the_same_outputs() {
    let whole = Case::new(shape(2, 1, 300, 0, 40), 20, 7);
    for isa in Isa::available() {
        let scratch = &mut AttentionScratch::default();
        let (output, ..) = whole.run(isa, scratch);
        for (queries, memory) in [(1, 39), (7, 60), (100, 39), (150, 150)] {
            let (part, ..) = last(&whole, queries, memory).run(isa, scratch);
            for feature in 0..part.features() {
                for (a, b) in part.row(feature).iter().zip(&output.row(feature)[300 - queries..]) {
                    assert!((a - b).abs() < 1e-5, "{isa:?}, {queries} after {memory}: {a} against {b}");
                }
            }
        }
    }
}

#[test]
fn extreme_scores_are_no_trouble() {
    let mut case = Case::new(shape(2, 2, 40, 150, 170), 9, 8);
    let query = &mut case.matrices[0];
    (0..query.features()).for_each(|f| query.row_mut(f).iter_mut().for_each(|x| *x *= 1e4));
    let (want, _) = case.twin();
    for isa in Isa::available() {
        let (output, matrices, biases) = case.run(isa, &mut AttentionScratch::default());
        // Of scores as large rounding alone moves the softmax by percents.
        let near = naive::numbers(&output).iter().zip(&want).all(|(got, want)| (got - want).abs() < 0.1);
        assert!(near, "{isa:?}");
        let numbers = matrices.iter().flat_map(|matrix| matrix.padded()).chain(biases.iter().flatten());
        assert!(numbers.into_iter().all(|x| x.is_finite()), "{isa:?}");
    }
}

#[test]
fn what_was_computed_before_does_not_show() {
    for isa in Isa::available() {
        let scratch = &mut AttentionScratch::default();
        for (queries, memory, span) in [(33, 200, 50), (130, 7, usize::MAX), (9, 300, 290)] {
            let case = Case::new(shape(2, 2, queries, memory, span), 19, 9);
            let mut nan = Case::new(case.shape, 19, 9);
            for matrix in &mut nan.matrices {
                (0..matrix.features()).for_each(|f| matrix.row_mut(f).fill(f32::NAN));
            }
            let (output, ..) = nan.run(isa, scratch);
            assert!(output.row(0).iter().all(|x| x.is_nan()));
            assert!(case.run(isa, scratch) == case.run(isa, &mut AttentionScratch::default()), "{isa:?}");
        }
    }
}

#[test]
fn operands_and_gradients_may_be_blocks_of_one_matrix() {
    let case = Case::new(shape(2, 3, 17, 0, usize::MAX), 9, 11).plain(false);
    let mut joined = Matrix::zeros(3 * 18, 3 * 17);
    for (mut block, matrix) in joined.blocks_mut::<3>().into_iter().zip(&case.matrices) {
        (0..18).for_each(|row| block.row_mut(row).copy_from_slice(matrix.row(row)));
    }
    for isa in Isa::available() {
        let [query, key, value] = joined.blocks();
        let inputs = AttentionInputs { query, key, value, relative: None };
        let (mut state, mut scratch, mut output) = Default::default();
        attention(isa, case.shape, inputs, &mut state, &mut scratch, &mut output);
        let mut gradient = Matrix::zeros(3 * 18, 3 * 17);
        let [query, key, value] = gradient.blocks_mut();
        let gradients = AttentionGradients { query, key, value, relative: None };
        attention_gradient(isa, case.shape, inputs, &state, &mut scratch, &output, &case.d_output, gradients);
        let (want, gradients, _) = case.run(isa, &mut scratch);
        assert_eq!(output, want);
        for (block, want) in gradient.blocks::<3>().into_iter().zip(&gradients) {
            (0..18).for_each(|row| assert_eq!(block.row(row), want.row(row)));
        }
    }
}

#[test]
#[should_panic(expected = "only causal attention knows distances")]
fn distances_are_for_causal_attention() {
    let mut case = Case::new(shape(1, 1, 4, 0, usize::MAX), 3, 10);
    case.shape.causal = false;
    case.run(Isa::portable(), &mut AttentionScratch::default());
}

#[test]
#[should_panic(expected = "key must be width × streams·(memory + queries)")]
fn shapes_must_agree() {
    let mut case = Case::new(shape(1, 1, 4, 2, 9), 3, 10);
    case.matrices[1] = Matrix::zeros(3, 5);
    case.run(Isa::portable(), &mut AttentionScratch::default());
}
