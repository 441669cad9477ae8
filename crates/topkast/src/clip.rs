//! Clipping by the global norm of all gradients.

/// What to multiply every gradient by so that their joint norm is at most `clip_norm`; 1 where it is already, or where
/// `clip_norm` is 0 (off). A norm that is not finite gives a factor that is not 1, so that the loss check sees it.
pub fn clip_scale(sum_of_squares: f64, clip_norm: f32) -> f32 {
    if clip_norm <= 0.0 {
        return 1.0;
    }
    let norm = sum_of_squares.sqrt();
    // The small addend is PyTorch's, so that clipped runs can be compared with it.
    let scale = f64::from(clip_norm) / (norm + 1e-6);
    if scale >= 1.0 { 1.0 } else { scale as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gradients_are_shortened() {
        assert_eq!(clip_scale(100.0, 0.0), 1.0);
        assert_eq!(clip_scale(0.25, 1.0), 1.0);
        assert_eq!(clip_scale(0.0, 1.0), 1.0);
        assert!((clip_scale(100.0, 1.0) - 0.1).abs() < 1e-6);
        assert!(clip_scale(f64::NAN, 1.0).is_nan());
    }
}
