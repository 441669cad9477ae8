//! Choosing the next token from a network's logits.

use std::cmp::Ordering;

use rand::RngExt;
use thiserror::Error;
use topkast::Seed;

/// How to choose: by the probabilities softmax(logits / temperature) of some tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    temperature: f64,
    top_k: usize,
    top_p: f64,
}

/// A number that is no way to choose.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[allow(missing_docs)]
pub enum SamplingError {
    #[error("the temperature {0} is not one; it must be at least 0 and finite")]
    Temperature(f64),
    #[error("top-p {0} is not a probability; it must be above 0 and at most 1 (1: all tokens)")]
    TopP(f64),
}

impl Sampling {
    /// At `temperature` 0 the likeliest token, always. Above, by probabilities: of the `top_k` likeliest tokens (0: of all),
    /// and of these only the fewest, likeliest first, that together have a probability of `top_p` among them (the nucleus
    /// of Holtzman et al. 2020; 1: all).
    ///
    /// # Errors
    /// If the temperature is negative or not finite, or `top_p` not above 0 and at most 1.
    pub fn new(temperature: f64, top_k: usize, top_p: f64) -> Result<Self, SamplingError> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(SamplingError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingError::TopP(top_p));
        }
        Ok(Self { temperature, top_k, top_p })
    }
}

/// The token that comes next, by its logits, one for each token of the vocabulary. Seed and counter, the number of the
/// token in its text, decide: the same choice again whenever they are the same.
///
/// Of equal logits the lower token counts as the likelier. A token with a logit of −∞, or one that is not a number, is
/// never chosen; those with +∞ leave no others a chance. `None` if there is none to choose.
pub fn next_token(logits: &[f32], sampling: &Sampling, seed: Seed, counter: u64) -> Option<u32> {
    let possible = logits.iter().zip(0..).filter(|(logit, _)| **logit > f32::NEG_INFINITY);
    let mut tokens: Vec<(f32, u32)> = possible.map(|(&logit, token)| (logit, token)).collect();
    let &(largest, likeliest) = tokens.iter().min_by(|a, b| likelier(a, b))?;
    if sampling.temperature == 0.0 {
        return Some(likeliest);
    }
    if sampling.top_k > 0 && sampling.top_k < tokens.len() {
        tokens.select_nth_unstable_by(sampling.top_k, likelier);
        tokens.truncate(sampling.top_k);
    }
    // In f64, where no difference of two f32 overflows; ∞ − ∞ is meant to be 0.
    let weight = |logit: f32| match logit == largest {
        true => 1.0,
        false => libm::exp((f64::from(logit) - f64::from(largest)) / sampling.temperature),
    };
    if sampling.top_p < 1.0 {
        keep_nucleus(&mut tokens, sampling.top_p, weight);
    }
    // In one order, however they came about.
    tokens.sort_unstable_by_key(|&(_, token)| token);
    let total: f64 = tokens.iter().map(|&(logit, _)| weight(logit)).sum();
    let mut left = total * seed.named("next token").numbered(counter).generator().random::<f64>();
    let chosen = tokens.iter().find(|&&(logit, _)| {
        left -= weight(logit);
        left < 0.0
    });
    // Rounding may leave something of the largest draws.
    Some(chosen.map_or(likeliest, |&(_, token)| token))
}

/// Keeps the fewest tokens, likeliest first, that together have `top_p` of the weight.
fn keep_nucleus(tokens: &mut Vec<(f32, u32)>, top_p: f64, weight: impl Fn(f32) -> f64) {
    tokens.sort_unstable_by(likelier);
    let enough = top_p * tokens.iter().map(|&(logit, _)| weight(logit)).sum::<f64>();
    let mut sum = 0.0;
    let outside = tokens.iter().position(|&(logit, _)| {
        let has_enough = sum >= enough;
        sum += weight(logit);
        has_enough
    });
    tokens.truncate(outside.unwrap_or(tokens.len()));
}

/// Orders tokens by falling logit, equal ones by number.
fn likelier((logit, token): &(f32, u32), (other_logit, other): &(f32, u32)) -> Ordering {
    // None is not a number, and 0 and −0 are equal.
    other_logit.partial_cmp(logit).unwrap_or(Ordering::Equal).then(token.cmp(other))
}

#[cfg(test)]
mod tests;
