use proptest::prelude::*;

use super::*;

const INFINITY: f32 = f32::INFINITY;

fn seed() -> Seed {
    Seed::new(7)
}

fn sampling(temperature: f64, top_k: usize, top_p: f64) -> Sampling {
    Sampling::new(temperature, top_k, top_p).unwrap()
}

/// How often each token is chosen.
fn counts(logits: &[f32], sampling: &Sampling, draws: u64) -> Vec<u64> {
    let mut counts = vec![0; logits.len()];
    for counter in 0..draws {
        counts[next_token(logits, sampling, seed(), counter).unwrap() as usize] += 1;
    }
    counts
}

/// χ² of the choices against probabilities; tokens without one must not be chosen.
fn chi_square(logits: &[f32], sampling: &Sampling, probabilities: &[f64]) -> f64 {
    const DRAWS: u64 = 20_000;
    let counts = counts(logits, sampling, DRAWS);
    probabilities
        .iter()
        .zip(counts)
        .map(|(&probability, count)| match probability {
            0.0 => {
                if count == 0 {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            _ => (count as f64 - probability * DRAWS as f64).powi(2) / (probability * DRAWS as f64),
        })
        .sum()
}

/// Logits of these probabilities.
fn logits(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|probability| probability.ln() as f32 + 3.0).collect()
}

const FIVE: [f64; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

/// The 99.9th percentile of χ² with 4 degrees of freedom, more than of fewer.
const CRITICAL: f64 = 18.47;

#[test]
fn choices_are_as_frequent_as_they_are_likely() {
    let statistic = chi_square(&logits(&FIVE), &sampling(1.0, 0, 1.0), &FIVE);
    assert!(statistic < CRITICAL, "{statistic}");
    // And a wrong distribution would be noticed.
    let wrong = [0.12, 0.38, 0.05, 0.25, 0.2];
    assert!(chi_square(&logits(&FIVE), &sampling(1.0, 0, 1.0), &wrong) > CRITICAL);
}

#[test]
fn temperature_is_a_power_of_probabilities() {
    for temperature in [0.5, 2.0] {
        let powers = FIVE.map(|probability| probability.powf(1.0 / temperature));
        let expected = powers.map(|power| power / powers.iter().sum::<f64>());
        let statistic = chi_square(&logits(&FIVE), &sampling(temperature, 0, 1.0), &expected);
        assert!(statistic < CRITICAL, "{temperature}: {statistic}");
    }
}

#[test]
fn top_k_keeps_the_likeliest() {
    for (top_k, kept) in
        [(1, &[1][..]), (2, &[1, 3]), (3, &[1, 3, 4]), (5, &[0, 1, 2, 3, 4]), (9, &[0, 1, 2, 3, 4])]
    {
        let statistic = chi_square(&logits(&FIVE), &sampling(1.0, top_k, 1.0), &among(kept));
        assert!(statistic < CRITICAL, "{top_k}: {statistic}");
    }
}

#[test]
fn top_p_keeps_the_fewest_that_have_it() {
    for (top_p, kept) in [
        (1e-9, &[1][..]),
        (0.39, &[1]),
        (0.41, &[1, 3]),
        (0.64, &[1, 3]),
        (0.66, &[1, 3, 4]),
        (0.94, &[0, 1, 3, 4]),
    ] {
        let statistic = chi_square(&logits(&FIVE), &sampling(1.0, 0, top_p), &among(kept));
        assert!(statistic < CRITICAL, "{top_p}: {statistic}");
    }
    // Of the two that top-k keeps, the first has 0.4 / 0.65 = 0.62.
    assert!(chi_square(&logits(&FIVE), &sampling(1.0, 2, 0.6), &among(&[1])) < CRITICAL);
    assert!(chi_square(&logits(&FIVE), &sampling(1.0, 2, 0.63), &among(&[1, 3])) < CRITICAL);
}

/// Any number, with those that are none, and some that are often equal.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(f32::NAN), Just(INFINITY), Just(-INFINITY), (-3i8..3).prop_map(f32::from)]
}

/// The probabilities where only these tokens may be chosen.
fn among(kept: &[usize]) -> [f64; 5] {
    let total: f64 = kept.iter().map(|&token| FIVE[token]).sum();
    std::array::from_fn(|token| if kept.contains(&token) { FIVE[token] / total } else { 0.0 })
}

#[test]
fn temperature_0_is_greedy_and_ties_go_to_the_lower_token() {
    let greedy = sampling(0.0, 3, 0.5);
    for (logits, expected) in [
        (&[1.0, 3.0, 2.0][..], 1),
        (&[1.0, 3.0, 3.0], 1),
        (&[0.0, -0.0], 0),
        (&[-0.0, 0.0], 0),
        (&[f32::NEG_INFINITY, f32::MIN], 1),
        (&[f32::NAN, f32::MAX, INFINITY, INFINITY], 2),
    ] {
        assert_eq!(next_token(logits, &greedy, seed(), 0), Some(expected), "{logits:?}");
    }
}

#[test]
fn ties_at_the_edge_of_top_k_and_top_p_go_to_the_lower_token() {
    let equal = [1.0, 2.0, -0.0, 2.0, 2.0, 2.0];
    let chosen = |sampling| counts(&equal, &sampling, 200).iter().map(|&count| count > 0).collect::<Vec<_>>();
    let expected = [false, true, false, true, false, false];
    assert_eq!(chosen(sampling(1.0, 2, 1.0)), expected);
    assert_eq!(chosen(sampling(1.0, 4, 0.5)), expected);
    assert_eq!(chosen(sampling(1e-3, 0, 0.5)), expected);
}

#[test]
fn extreme_logits() {
    for (logits, expected) in [
        (&[f32::MAX, f32::MIN, 0.0, f32::MAX][..], [0.5, 0.0, 0.0, 0.5]),
        (&[INFINITY, 5.0, f32::MAX, INFINITY], [0.5, 0.0, 0.0, 0.5]),
        (&[f32::NEG_INFINITY, -1e38, f32::NAN, -1e38], [0.0, 0.5, 0.0, 0.5]),
        (&[f32::MIN; 4], [0.25; 4]),
    ] {
        for temperature in [1e-300, 1.0, 1e30] {
            let statistic = chi_square(logits, &sampling(temperature, 0, 1.0), &expected);
            assert!(statistic < CRITICAL, "{logits:?} at {temperature}: {statistic}");
        }
    }
}

#[test]
fn without_a_possible_token_there_is_no_choice() {
    for logits in [&[][..], &[f32::NEG_INFINITY; 3], &[f32::NAN, f32::NEG_INFINITY]] {
        for temperature in [0.0, 1.0] {
            assert_eq!(next_token(logits, &sampling(temperature, 2, 0.9), seed(), 0), None);
        }
    }
}

/// Fails if another version of a dependency draws other numbers: the same seed would tell another story.
#[test]
fn choices_are_the_same_everywhere() {
    let logits: Vec<f32> = (0..50).map(|token| (token * token % 17) as f32 / 4.0).collect();
    let choose = |seed| -> Vec<u32> {
        (0..10)
            .map(|counter| next_token(&logits, &sampling(1.0, 0, 1.0), Seed::new(seed), counter).unwrap())
            .collect()
    };
    assert_eq!(choose(1), [38, 26, 21, 21, 7, 30, 21, 24, 7, 30]);
    assert_ne!(choose(1), choose(2));
}

#[test]
fn what_is_no_way_to_choose_is_refused() {
    for temperature in [-1.0, -1e-300, f64::NAN, f64::INFINITY] {
        assert!(matches!(Sampling::new(temperature, 0, 1.0), Err(SamplingError::Temperature(_))));
    }
    for top_p in [0.0, -0.5, 1.1, f64::NAN] {
        assert!(matches!(Sampling::new(1.0, 0, top_p), Err(SamplingError::TopP(_))));
    }
}

proptest! {
    /// Whatever the logits are, the choice is one of those that the settings leave, found by sorting everything.
    #[test]
    fn a_choice_is_among_those_left(
        logits in prop::collection::vec(logit(), 0..30),
        temperature in prop_oneof![Just(0.0), 1e-3..1e3],
        top_k in 0usize..10,
        top_p in prop_oneof![Just(1.0), 1e-6..1.0],
        counter: u64,
    ) {
        let choice = next_token(&logits, &sampling(temperature, top_k, top_p), seed(), counter);
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.retain(|&token| logits[token as usize] > f32::NEG_INFINITY);
        order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        prop_assert_eq!(choice.is_some(), !order.is_empty());
        if let Some(choice) = choice {
            let rank = order.iter().position(|&token| token == choice).unwrap();
            prop_assert!(top_k == 0 || rank < top_k);
            prop_assert!(temperature > 0.0 || rank == 0);
            prop_assert_eq!(Some(choice), next_token(&logits, &sampling(temperature, top_k, top_p), seed(), counter));
        }
    }
}
